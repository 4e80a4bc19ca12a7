//! The host's way to the API server: connections to a loopback port of the host go on from inside the fabric.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    time::Duration,
};

use anyhow::{Context, Result};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

/// Serves until the process is ended.
///
/// # Errors
/// When the listener cannot be used.
pub fn run(listener: StdListener, target: SocketAddr) -> Result<()> {
    listener
        .set_nonblocking(true)
        .context("cannot use the listener")?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the forwarder")?
        .block_on(serve(listener, target))
}

async fn serve(listener: StdListener, target: SocketAddr) -> Result<()> {
    let listener = TcpListener::from_std(listener).context("cannot use the listener")?;
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of descriptors: some will be closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        tokio::spawn(async move {
            if let Err(error) = forward(client, target).await {
                tracing::debug!(%error, "a forwarded connection ended");
            }
        });
    }
}

async fn forward(mut client: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
