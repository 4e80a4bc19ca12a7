//! A server on a loopback port with certificates of its own.

#![allow(dead_code)]

use std::{net::IpAddr, path::Path};

use jiff::Timestamp;
use malha_apiserver::server::{Config, Server, StartError};
use malha_bootstrap::{
    kubeconfig::Kubeconfig,
    pki::{ClusterPki, ServingNames},
};

pub const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// A cluster's certificates.
pub fn pki() -> ClusterPki {
    let names = ServingNames {
        dns_domain: "cluster.local".to_owned(),
        ..ServingNames::default()
    };
    ClusterPki::generate(&names, Timestamp::now()).unwrap()
}

/// A configuration that works; the system chooses the port.
pub fn config(pki: &ClusterPki, data_dir: &Path) -> Config {
    Config {
        listen: (LOOPBACK, 0).into(),
        data_dir: data_dir.to_owned(),
        serving_cert: pki.apiserver.cert_pem.clone(),
        serving_key: pki.apiserver.key_pem.clone().into(),
        client_ca: pki.ca.cert_pem(),
        service_account_key: pki.service_accounts.private_pem.clone().into(),
        service_account_public_keys: vec![pki.service_accounts.public_pem.clone()],
        kubelet_client_cert: pki.kubelet_client.cert_pem.clone(),
        kubelet_client_key: pki.kubelet_client.key_pem.clone().into(),
        service_ranges: vec![
            "10.96.0.0/16".parse().unwrap(),
            "fd00:96::/112".parse().unwrap(),
        ],
        advertise: LOOPBACK,
    }
}

/// Starts a server.
pub async fn start(pki: &ClusterPki, data_dir: &Path) -> Result<Server, StartError> {
    Server::start(config(pki, data_dir)).await
}

/// The administrator's kubeconfig for a server.
pub fn admin_conf(pki: &ClusterPki, server: &Server) -> String {
    Kubeconfig::with_client_cert(
        "kubernetes-admin",
        &format!("https://{}", server.local_addr()),
        &pki.ca.cert_pem(),
        &pki.admin.cert_pem,
        &pki.admin.key_pem,
    )
    .to_yaml()
    .unwrap()
}
