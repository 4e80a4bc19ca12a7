//! A kubelet's word on whether it is well.

use std::{net::IpAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(1);

/// Asks `/healthz`; the error says what came instead of `200`.
pub(super) async fn look(at: (IpAddr, u16)) -> Result<(), String> {
    let asked = timeout(LIMIT, ask(at)).await;
    let answer = asked
        .map_err(|_| "its health check is silent".to_owned())?
        .map_err(|e| format!("its health check does not answer ({e})"))?;
    let status = answer.split_whitespace().nth(1).unwrap_or("nothing");
    match status {
        "200" => Ok(()),
        other => Err(format!("its health check says {other}")),
    }
}

async fn ask(at: (IpAddr, u16)) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(at).await?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
    let mut head = [0; 64];
    let length = stream.read(&mut head).await?;
    Ok(String::from_utf8_lossy(&head[..length]).into_owned())
}
