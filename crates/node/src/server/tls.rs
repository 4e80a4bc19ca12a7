//! The server's certificate, and whose certificates it takes.

use std::{
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, Result, bail};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use crate::Config;

/// TLS for this node. Clients may show a certificate of the cluster's CA.
///
/// # Errors
/// When there is no CA, or the certificate cannot be read or made.
pub fn server_config(config: &Config) -> Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let shown = config.client_ca.display();
    let text = fs::read(&config.client_ca).with_context(|| {
        format!("cannot read the cluster's CA {shown}: has this machine joined a cluster?")
    })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        roots.add(certificate.with_context(|| format!("{shown} is not a certificate in PEM"))?)?;
    }
    if roots.is_empty() {
        bail!("{shown} holds no certificate");
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let (chain, key) = certificate(config)?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .context("the node's serving certificate cannot be used")?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(server)
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The one that is there, or a new one, signed by itself as a kubelet's.
fn certificate(config: &Config) -> Result<Pair> {
    let (cert, key) = (
        config.pki_dir.join("kubelet.crt"),
        config.pki_dir.join("kubelet.key"),
    );
    if !(cert.exists() && key.exists()) {
        make(config, &cert, &key).with_context(|| {
            format!(
                "cannot make a serving certificate in {}",
                config.pki_dir.display()
            )
        })?;
    }
    let chain = CertificateDer::pem_file_iter(&cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| {
            format!(
                "cannot read {}: remove it and its key to have new ones made",
                cert.display()
            )
        })?;
    let key = PrivateKeyDer::from_pem_file(&key).with_context(|| {
        format!(
            "cannot read {}: remove it and its certificate",
            key.display()
        )
    })?;
    Ok((chain, key))
}

fn make(config: &Config, cert: &Path, key: &Path) -> Result<()> {
    let mut parameters = CertificateParams::new(vec![config.node_name.clone()])?;
    let addresses = config.node_ips.iter().map(|ip| SanType::IpAddress(*ip));
    parameters.subject_alt_names.extend(addresses);
    let own = format!(
        "{}@{}",
        config.node_name,
        jiff::Timestamp::now().as_second()
    );
    parameters.distinguished_name.push(DnType::CommonName, own);
    let pair = KeyPair::generate()?;
    let made = parameters.self_signed(&pair)?;
    fs::create_dir_all(&config.pki_dir)?;
    write(key, &pair.serialize_pem(), 0o600)?;
    write(cert, &made.pem(), 0o644)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(file.write_all(text.as_bytes())?)
}
