//! The server as a `tower::Service`, for clients in the same process.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use tower::Service;

use super::{
    Body, Inner,
    handle::{Caller, handle},
};
use crate::{attributes::UserInfo, proxy::BoxError};

/// Sends requests straight to the server's routing, as one user.
#[derive(Clone)]
pub struct ClientService {
    inner: Arc<Inner>,
    user: UserInfo,
}

impl ClientService {
    pub(super) fn new(inner: Arc<Inner>, user: UserInfo) -> Self {
        Self { inner, user }
    }
}

impl<B> Service<Request<B>> for ClientService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let caller = Caller::InProcess(self.user.clone());
        let answer = handle(self.inner.clone(), caller, request);
        Box::pin(async { Ok(answer.await) })
    }
}
