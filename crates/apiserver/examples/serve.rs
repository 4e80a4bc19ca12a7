//! A server to try kubectl on: `cargo run -p malha-apiserver --example serve -- DIRECTORY`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::PathBuf;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("name a directory")?);
    let pki = common::pki();
    let server = common::start(&pki, &dir.join("data")).await?;
    let conf = dir.join("admin.conf");
    std::fs::write(&conf, common::admin_conf(&pki, &server))?;
    println!("export KUBECONFIG={}", conf.display());
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}
