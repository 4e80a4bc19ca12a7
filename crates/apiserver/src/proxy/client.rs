//! The connection to a node: TLS with the API server's client certificate, HTTP/1.1 so that it can be upgraded.
//!
//! A kubelet signs its own serving certificate unless told otherwise, so, like an API server without
//! `--kubelet-certificate-authority`, this client accepts a certificate it cannot trace. One that says the cluster CA
//! issued it must be right in every way: signature, validity, and the address in its names. The client's own certificate
//! goes only to the address the node object gives; TLS never shows its key.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Body;

/// A node that does not answer in this time is not reachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to nodes as the API server.
#[derive(Clone)]
pub struct NodeClient {
    tls: TlsConnector,
}

/// Why the client cannot be made from its configuration.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the client for nodes: {0}")]
pub struct ClientError(String);

/// Why a node could not be asked, in the words a Go program would use.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("dial tcp {0}: {1}")]
    Connect(SocketAddr, String),
    #[error("tls: {0}")]
    Tls(String),
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

impl NodeClient {
    /// A client that shows `cert_pem` (with the key `key_pem`) and knows the cluster CA `ca_pem`.
    ///
    /// # Errors
    /// When a PEM text cannot be read, or certificate and key do not belong together.
    pub fn new(cert_pem: &str, key_pem: &str, ca_pem: &str) -> Result<Self, ClientError> {
        let bad = |e: &dyn std::fmt::Display| ClientError(e.to_string());
        let read = |pem: &str| -> Result<Vec<CertificateDer<'static>>, ClientError> {
            CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|e| bad(&e))
        };
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| bad(&e))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        let ca = read(ca_pem)?;
        for root in &ca {
            roots.add(root.clone()).map_err(|e| bad(&e))?;
        }
        let strict = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .map_err(|e| bad(&e))?;
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| bad(&e))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NodeVerifier { strict, ca }))
            .with_client_auth_cert(read(cert_pem)?, key)
            .map_err(|e| bad(&e))?;
        Ok(Self {
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Sends one request over a connection of its own; upgrades work on the response.
    pub(super) async fn send(
        &self,
        to: SocketAddr,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, DialError> {
        let connect = async {
            let tcp = TcpStream::connect(to)
                .await
                .map_err(|e| connect_error(to, &e))?;
            let _ = tcp.set_nodelay(true);
            let name = ServerName::IpAddress(to.ip().into());
            self.tls
                .connect(name, tcp)
                .await
                .map_err(|e| DialError::Tls(e.to_string()))
        };
        let stream = timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_| DialError::Connect(to, "i/o timeout".to_owned()))??;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%to, %error, "connection to node ended");
            }
        });
        Ok(sender.send_request(request).await?)
    }
}

fn connect_error(to: SocketAddr, error: &io::Error) -> DialError {
    let text = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "connect: connection timed out".to_owned(),
        _ => format!("connect: {error}"),
    };
    DialError::Connect(to, text)
}

/// Strict with certificates of the cluster CA, content with any other.
#[derive(Debug)]
struct NodeVerifier {
    strict: Arc<WebPkiServerVerifier>,
    ca: Vec<CertificateDer<'static>>,
}

impl NodeVerifier {
    /// Whether the certificate names the cluster CA as its issuer.
    fn claims_cluster_ca(&self, cert: &CertificateDer<'_>) -> bool {
        let Ok((_, cert)) = X509Certificate::from_der(cert) else {
            return true;
        };
        self.ca.iter().any(|ca| {
            X509Certificate::from_der(ca)
                .is_ok_and(|(_, ca)| ca.subject().as_raw() == cert.issuer().as_raw())
        })
    }
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.claims_cluster_ca(cert) {
            return self
                .strict
                .verify_server_cert(cert, intermediates, name, ocsp, now);
        }
        tracing::debug!(node = ?name, "node's serving certificate is not of the cluster CA, accepted unverified");
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.strict.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.strict.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}
