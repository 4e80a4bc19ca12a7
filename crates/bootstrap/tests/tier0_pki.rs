//! Certificates and pins, checked against OpenSSL.

use std::{net::IpAddr, path::Path, process::Command, time::Duration};

use jiff::Timestamp;
use malha_bootstrap::{
    csr,
    names::Subject,
    pin::{CaPin, PinError},
    pki::{CertificateAuthority, ClusterPki, PkiError, ServingNames, sign_csr},
};
use proptest::prelude::*;

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn now() -> Timestamp {
    Timestamp::now()
}

fn usages() -> Vec<String> {
    ["digital signature", "key encipherment", "client auth"]
        .map(str::to_owned)
        .into()
}

/// Runs openssl in `dir` and gives its standard output.
fn openssl(dir: &Path, arguments: &str) -> String {
    let mut command = Command::new("openssl");
    let output = command.args(arguments.split(' ')).current_dir(dir).output();
    let output = output.expect("openssl must be installed for this test");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "openssl {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn openssl_ca(dir: &Path, key: &str) -> CertificateAuthority {
    openssl(
        dir,
        &format!("req -x509 {key} -nodes -keyout ca.key -out ca.crt -subj /CN=kubernetes -days 30"),
    );
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    CertificateAuthority::from_pem(&read("ca.crt"), &read("ca.key")).unwrap()
}

/// The pin as kubeadm's documentation computes it.
fn openssl_pin(dir: &Path) -> String {
    std::fs::write(
        dir.join("pub.pem"),
        openssl(dir, "x509 -pubkey -noout -in ca.crt"),
    )
    .unwrap();
    openssl(dir, "pkey -pubin -in pub.pem -outform der -out pub.der");
    let digest = openssl(dir, "dgst -sha256 -hex pub.der");
    format!("sha256:{}", digest.trim().rsplit(' ').next().unwrap())
}

#[test]
fn pins_of_rsa_and_ec_cas_equal_openssls() {
    for key in [
        "-newkey rsa:2048",
        "-newkey ec -pkeyopt ec_paramgen_curve:P-256",
    ] {
        let dir = tempfile::tempdir().unwrap();
        openssl_ca(dir.path(), key);
        let pem = std::fs::read_to_string(dir.path().join("ca.crt")).unwrap();
        let pins = CaPin::of_certificates(&pem).unwrap();
        assert_eq!(
            pins.iter().map(CaPin::to_string).collect::<Vec<_>>(),
            [openssl_pin(dir.path())]
        );
        let wrong: CaPin = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        assert!(!CaPin::any_matches(&[wrong], &pem).unwrap());
        assert!(
            CaPin::any_matches(&[wrong, pins[0]], &pem).unwrap(),
            "the second pin counts as much as the first"
        );
    }
}

#[test]
fn pin_errors_are_kubeadms() {
    let error = |text: &str| text.parse::<CaPin>().unwrap_err().to_string();
    assert_eq!(
        error("abcd"),
        "invalid public key hash, expected \"format:value\""
    );
    assert_eq!(
        error("md5:abcd"),
        "unknown hash format \"md5\". Known format(s) are: sha256"
    );
    assert_eq!(
        error("sha256:abcd"),
        "expected a 32 byte SHA-256 hash, found 2 bytes"
    );
    assert_eq!("sha256:xyz".parse::<CaPin>().unwrap_err(), PinError::NotHex);
    assert!(CaPin::of_certificates("no certificate here").is_err());
}

#[test]
fn every_certificate_of_a_cluster_verifies() {
    let addresses: Vec<IpAddr> = ["10.96.0.1", "fd00:10:96::1", "172.20.0.10"]
        .map(|a| a.parse().unwrap())
        .into();
    let names = ServingNames {
        dns_names: vec!["cp-1".into()],
        ip_addresses: addresses,
        dns_domain: "cluster.local".into(),
    };
    let pki = ClusterPki::generate(&names, now()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
    write("ca.crt", &pki.ca.cert_pem());
    for (name, cert, purpose) in [
        ("apiserver.crt", &pki.apiserver, "sslserver"),
        ("client.crt", &pki.kubelet_client, "sslclient"),
        ("admin.crt", &pki.admin, "sslclient"),
    ] {
        write(name, &cert.cert_pem);
        openssl(
            dir.path(),
            &format!("verify -x509_strict -purpose {purpose} -CAfile ca.crt {name}"),
        );
        write("key", &cert.key_pem);
        assert_eq!(
            openssl(dir.path(), "pkey -in key -pubout"),
            openssl(dir.path(), &format!("x509 -in {name} -pubkey -noout"))
        );
    }
    let text = openssl(dir.path(), "x509 -in apiserver.crt -noout -text");
    for name in [
        "DNS:kubernetes,",
        "DNS:kubernetes.default.svc.cluster.local",
        "DNS:cp-1",
        "DNS:localhost",
        "IP Address:10.96.0.1",
        "IP Address:FD00:10:96:0:0:0:0:1",
        "IP Address:172.20.0.10",
        "IP Address:127.0.0.1",
    ] {
        assert!(text.contains(name), "{name} missing in {text}");
    }
    let subject = openssl(dir.path(), "x509 -in admin.crt -noout -subject");
    assert_eq!(
        subject.trim(),
        "subject=O = kubeadm:cluster-admins, CN = kubernetes-admin"
    );
    let ca = openssl(dir.path(), "x509 -in ca.crt -noout -text");
    assert!(
        ca.contains("CA:TRUE")
            && ca.contains("Digital Signature, Key Encipherment, Certificate Sign"),
        "{ca}"
    );
    write("sa.key", &pki.service_accounts.private_pem);
    assert_eq!(
        openssl(dir.path(), "pkey -in sa.key -pubout"),
        pki.service_accounts.public_pem.replace("\r\n", "\n")
    );
}

#[test]
fn a_node_request_becomes_a_client_certificate() {
    let at = now();
    let ca = CertificateAuthority::generate("kubernetes", at).unwrap();
    let made = csr::node_csr("node-1").unwrap();
    let info = csr::inspect(&made.csr_pem).unwrap();
    assert_eq!(
        info.subject,
        Subject::member("system:node:node-1", &["system:nodes"])
    );
    assert!(!info.has_alternative_names());
    let again = csr::node_csr_with_key("node-1", &made.key_pem).unwrap();
    assert_eq!(csr::inspect(&again).unwrap(), info);

    let cert = sign_csr(&ca, &made.csr_pem, at, YEAR, &usages()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ca.crt"), ca.cert_pem()).unwrap();
    std::fs::write(dir.path().join("node.crt"), &cert).unwrap();
    openssl(
        dir.path(),
        "verify -x509_strict -purpose sslclient -CAfile ca.crt node.crt",
    );
    let text = openssl(dir.path(), "x509 -in node.crt -noout -text");
    assert!(
        text.contains("Subject: O = system:nodes, CN = system:node:node-1"),
        "{text}"
    );
    assert!(
        text.contains("Key Usage: critical\n                Digital Signature, Key Encipherment"),
        "{text}"
    );
    assert!(
        text.contains("TLS Web Client Authentication") && !text.contains("Server Authentication"),
        "{text}"
    );
    let (_, pem) = x509_parser::pem::parse_x509_pem(cert.as_bytes()).unwrap();
    let validity = pem.parse_x509().unwrap().validity().clone();
    assert_eq!(validity.not_before.timestamp(), at.as_second() - 300);
    assert_eq!(
        validity.not_after.timestamp(),
        at.as_second() + YEAR.as_secs() as i64
    );
}

#[test]
fn foreign_requests_keep_every_organization_and_their_names() {
    let dir = tempfile::tempdir().unwrap();
    let ca = openssl_ca(dir.path(), "-newkey rsa:2048");
    let subject = "/O=group-a/O=group-b/O=group-c/CN=somebody";
    openssl(
        dir.path(),
        &format!(
            "req -newkey rsa:2048 -nodes -keyout k -out r.csr -subj {subject} -addext subjectAltName=DNS:n1,IP:10.0.0.7,IP:fd00::7"
        ),
    );
    let request = std::fs::read_to_string(dir.path().join("r.csr")).unwrap();
    let info = csr::inspect(&request).unwrap();
    assert_eq!(
        info.subject,
        Subject::member("somebody", &["group-a", "group-b", "group-c"])
    );
    assert_eq!(info.dns_names, ["n1"]);
    assert_eq!(
        info.ip_addresses,
        [
            "10.0.0.7".parse::<IpAddr>().unwrap(),
            "fd00::7".parse().unwrap()
        ]
    );
    let serving = ["digital signature", "key encipherment", "server auth"].map(str::to_owned);
    let cert = sign_csr(&ca, &request, now(), YEAR, &serving).unwrap();
    std::fs::write(dir.path().join("n.crt"), &cert).unwrap();
    openssl(dir.path(), "verify -purpose sslserver -CAfile ca.crt n.crt");
    let text = openssl(dir.path(), "x509 -in n.crt -noout -text");
    assert!(
        text.contains("Subject: O = group-a, O = group-b, O = group-c, CN = somebody"),
        "{text}"
    );
    assert!(
        text.contains("DNS:n1, IP Address:10.0.0.7, IP Address:FD00:0:0:0:0:0:0:7"),
        "{text}"
    );
    assert!(text.contains("sha256WithRSAEncryption"), "{text}");
    let (_, pem) = x509_parser::pem::parse_x509_pem(cert.as_bytes()).unwrap();
    let days =
        (pem.parse_x509().unwrap().validity().not_after.timestamp() - now().as_second()) / 86400;
    assert!(days <= 30, "outlives the CA by {} days", days - 30);
}

#[test]
fn forged_and_broken_requests_are_refused() {
    let ca = CertificateAuthority::generate("kubernetes", now()).unwrap();
    let made = csr::node_csr("node-1").unwrap();
    let forged = flip_subject(&made.csr_pem);
    assert!(matches!(
        sign_csr(&ca, &forged, now(), YEAR, &usages()),
        Err(PkiError::BadSelfSignature)
    ));
    let unknown = ["flying".to_owned()];
    assert!(matches!(
        sign_csr(&ca, &made.csr_pem, now(), YEAR, &unknown),
        Err(PkiError::UnknownUsage(_))
    ));
    let late = now() + jiff::SignedDuration::from_hours(24 * 3651);
    assert!(matches!(
        sign_csr(&ca, &made.csr_pem, late, YEAR, &usages()),
        Err(PkiError::CaExpired(_))
    ));
    let other = CertificateAuthority::generate("kubernetes", now()).unwrap();
    let mixed = CertificateAuthority::from_pem(&ca.cert_pem(), &other.key_pem());
    assert!(matches!(mixed, Err(PkiError::KeyMismatch)));
    assert!(CertificateAuthority::from_pem(&ca.cert_pem(), &ca.key_pem()).is_ok());
}

/// The same request for node-2, still with node-1's signature.
fn flip_subject(csr_pem: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let body: String = csr_pem.lines().filter(|l| !l.starts_with('-')).collect();
    let mut der = STANDARD.decode(body).unwrap();
    let at = der.windows(6).position(|w| w == b"node-1").unwrap();
    der[at + 5] = b'2';
    format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        STANDARD.encode(der)
    )
}

proptest! {
    #[test]
    fn requests_never_panic(text in ".{0,200}", cut in 0usize..400, byte in any::<u8>()) {
        let _ = csr::inspect(&text);
        let _ = CaPin::of_certificates(&text);
        let mut made = KNOWN_REQUEST.as_bytes().to_vec();
        let at = cut % made.len();
        made[at] = byte;
        let _ = csr::inspect(&String::from_utf8_lossy(&made));
        let _ = csr::inspect(&String::from_utf8_lossy(&KNOWN_REQUEST.as_bytes()[..at]));
    }
}

const KNOWN_REQUEST: &str = include_str!("fixtures/node.csr");
