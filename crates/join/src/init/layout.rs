//! The files of a control plane, where kubeadm has them and with its modes.

use anyhow::{Context, Result};
use malha_bootstrap::{
    kubeconfig::Kubeconfig,
    pki::{CertificateAuthority, ClusterPki, KeyedCertificate},
};

use super::Plan;
use crate::{
    files::{self, PUBLIC, SECRET, Written},
    machine::Machine,
};

/// What later steps need of what was written.
pub(super) struct Made {
    pub(super) ca_pem: String,
    pub(super) admin_conf: String,
}

/// Makes and writes everything; the configuration last, for it says that this machine is a control plane.
pub(super) fn write(plan: &Plan, machine: &Machine, written: &mut Written) -> Result<Made> {
    let paths = &machine.paths;
    let pki = generate(plan, machine)?;
    let certificates = &plan.config.certificates;
    let ca_pem = pki.ca.cert_pem();
    if !certificates.ca.exists() {
        written.file(&certificates.ca, PUBLIC, &ca_pem)?;
        written.file(&certificates.ca_key, SECRET, pki.ca.key_pem())?;
    }
    let pairs: [(&KeyedCertificate, _, _); 2] = [
        (
            &pki.apiserver,
            &certificates.apiserver,
            &certificates.apiserver_key,
        ),
        (
            &pki.kubelet_client,
            &certificates.kubelet_client,
            &certificates.kubelet_client_key,
        ),
    ];
    for (pair, certificate, key) in pairs {
        written.file(certificate, PUBLIC, &pair.cert_pem)?;
        written.file(key, SECRET, &pair.key_pem)?;
    }
    written.file(
        &certificates.service_account_key,
        SECRET,
        &pki.service_accounts.private_pem,
    )?;
    written.file(
        &certificates.service_account_public_key,
        SECRET,
        &pki.service_accounts.public_pem,
    )?;

    let server = plan.config.endpoint().url();
    let admin_conf = admin_conf(&pki, &server, &ca_pem)?;
    machine.progress.step(
        "kubeconfig",
        format!("Writing \"admin.conf\" kubeconfig file for {server}"),
    );
    written.file(&paths.admin_conf(), SECRET, &admin_conf)?;

    written.directory(&paths.control_plane(), 0o700)?;
    // The control plane fills it.
    written.tree(plan.config.data_dir.clone());
    written.file(
        &paths.control_plane_config(),
        SECRET,
        plan.config.to_json()?,
    )?;
    Ok(Made { ca_pem, admin_conf })
}

fn admin_conf(pki: &ClusterPki, server: &str, ca_pem: &str) -> Result<String> {
    let (user, admin) = ("kubernetes-admin", &pki.admin);
    Kubeconfig::with_client_cert(user, server, ca_pem, &admin.cert_pem, &admin.key_pem)
        .to_yaml()
        .context("cannot write admin.conf")
}

fn generate(plan: &Plan, machine: &Machine) -> Result<ClusterPki> {
    let progress = machine.progress;
    let folder = machine.paths.pki("");
    progress.step(
        "certs",
        format!(
            "Using certificateDir folder {:?}",
            folder.display().to_string()
        ),
    );
    let certificates = &plan.config.certificates;
    let now = machine.clock.now();
    let ca = if certificates.ca.exists() {
        progress.step("certs", "Using existing ca certificate authority");
        let (cert, key) = (
            files::read(&certificates.ca)?,
            files::read(&certificates.ca_key)?,
        );
        CertificateAuthority::from_pem(&cert, &key)
            .with_context(|| format!("cannot use the CA in {}", folder.display()))?
    } else {
        progress.step("certs", "Generating \"ca\" certificate and key");
        CertificateAuthority::generate("kubernetes", now).context("cannot make a CA")?
    };
    for name in ["apiserver", "apiserver-kubelet-client", "sa"] {
        progress.step("certs", format!("Generating {name:?} certificate and key"));
    }
    let names: Vec<String> = plan
        .names
        .dns_names
        .iter()
        .cloned()
        .chain(plan.names.ip_addresses.iter().map(ToString::to_string))
        .collect();
    progress.step(
        "certs",
        format!("apiserver serving cert is signed for [{}]", names.join(" ")),
    );
    ClusterPki::generate_under(ca, &plan.names, now)
        .context("cannot make the cluster's certificates")
}
