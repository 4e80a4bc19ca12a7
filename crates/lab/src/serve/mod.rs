//! `malha lab serve`: the test server that lab pods run.
//!
//! | where | what |
//! | --- | --- |
//! | HTTP `/healthz`, `/hostname`, `/clientip`, `/echo?msg=TEXT` | says so |
//! | HTTP `/dial?protocol=tcp\|udp\|icmp&host=ADDRESS&port=N&count=N&timeout_ms=N` | knocks at another server and tells how that went |
//! | TCP echo, UDP echo | sends back what it gets |

mod dial;
mod http;

use std::net::{Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};
use tokio::{
    io::{copy, split},
    net::{TcpListener, UdpSocket},
};

pub(crate) use dial::Outcome;

/// At which ports to serve, on every address.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// The HTTP server.
    pub http: u16,
    /// The TCP echo server.
    pub tcp: u16,
    /// The UDP echo server.
    pub udp: u16,
}

/// Serves until the process is ended.
///
/// # Errors
/// When a port cannot be used.
pub async fn run(ports: Ports) -> Result<()> {
    let http = listen(ports.http).await?;
    let tcp = listen(ports.tcp).await?;
    let udp = UdpSocket::bind(everywhere(ports.udp))
        .await
        .with_context(|| format!("cannot use UDP port {}", ports.udp))?;
    println!(
        "serving http {}, tcp {}, udp {}",
        ports.http, ports.tcp, ports.udp
    );
    tokio::select! {
        result = http::serve(http) => result,
        result = echo_streams(tcp) => result,
        result = echo_datagrams(udp) => result,
    }
}

/// An IPv6 socket takes IPv4 as well.
fn everywhere(port: u16) -> SocketAddr {
    (Ipv6Addr::UNSPECIFIED, port).into()
}

async fn listen(port: u16) -> Result<TcpListener> {
    TcpListener::bind(everywhere(port))
        .await
        .with_context(|| format!("cannot listen on TCP port {port}"))
}

async fn echo_streams(listener: TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept")?;
        tokio::spawn(async move {
            let (mut read, mut write) = split(stream);
            // The client's side decides when it ends.
            let _ = copy(&mut read, &mut write).await;
        });
    }
}

async fn echo_datagrams(socket: UdpSocket) -> Result<()> {
    let mut buffer = vec![0; 65536];
    loop {
        // Errors are a client's "port unreachable": not the server's business.
        if let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..length], from).await;
        }
    }
}
