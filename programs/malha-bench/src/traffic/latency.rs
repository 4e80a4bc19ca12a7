//! Request and response: one byte there, one byte back, on one connection and on a new one each time.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Instant,
};

use anyhow::{Context, Result};

use super::path::Path;
use crate::stats::Series;

/// Times in microseconds.
pub struct Latency {
    /// On one connection.
    pub exchange: Series,
    /// With a connection made for each.
    pub connect: Series,
}

/// Exchanges so many bytes each way.
pub fn run(path: &Path, exchanges: usize) -> Result<Latency> {
    let any = if path.address.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let listener = path
        .server
        .run(|| TcpListener::bind(any))?
        .context("cannot listen")?;
    let to = SocketAddr::new(path.address, listener.local_addr()?.port());
    let connections = exchanges / 10;
    std::thread::scope(|scope| {
        let server = scope.spawn(|| serve(&listener, 1 + connections));
        let client = path.client.run(|| measure(to, exchanges, connections))?;
        server
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        client
    })
}

/// Serves one connection after the other: there is one client.
fn serve(listener: &TcpListener, connections: usize) -> Result<()> {
    for _ in 0..connections {
        let (mut stream, _) = listener.accept().context("cannot accept")?;
        stream.set_nodelay(true)?;
        let mut byte = [0];
        while stream.read(&mut byte)? == 1 {
            stream.write_all(&byte)?;
        }
    }
    Ok(())
}

fn measure(to: SocketAddr, exchanges: usize, connections: usize) -> Result<Latency> {
    let mut latency = Latency {
        exchange: Series::default(),
        connect: Series::default(),
    };
    let mut stream = connect(to)?;
    for _ in 0..exchanges {
        let begun = Instant::now();
        exchange(&mut stream)?;
        latency.exchange.push_time(begun.elapsed());
    }
    drop(stream);
    for _ in 0..connections {
        let begun = Instant::now();
        exchange(&mut connect(to)?)?;
        latency.connect.push_time(begun.elapsed());
    }
    Ok(latency)
}

fn connect(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    let mut byte = [42];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)?;
    Ok(())
}
