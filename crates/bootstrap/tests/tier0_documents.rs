//! Golden texts of kubeconfigs and kubeadm's documents.

use malha_bootstrap::{
    kubeadm::{
        ClusterConfiguration, KubeletConfiguration, Networking, versioned_kubelet_config_map,
    },
    kubeconfig::{Kubeconfig, KubeconfigError},
    token::Token,
};

const SERVER: &str = "https://172.20.0.10:6443";
const CA: &str = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n";
const CA_DATA: &str =
    "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tClFVSkQKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";

#[test]
fn cluster_info_has_the_bytes_that_clientcmd_writes() {
    let text = Kubeconfig::cluster_info(SERVER, CA).to_yaml().unwrap();
    let expected = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {CA_DATA}\n    server: {SERVER}\n  name: \"\"\n\
         contexts: null\ncurrent-context: \"\"\nkind: Config\npreferences: {{}}\nusers: null\n"
    );
    assert_eq!(text, expected);
    let read = Kubeconfig::parse(&text).unwrap();
    let cluster = read.single_cluster().unwrap();
    assert_eq!(
        (cluster.server.as_str(), cluster.ca_pem().unwrap().as_str()),
        (SERVER, CA)
    );
    assert_eq!(read.to_yaml().unwrap(), text);
}

#[test]
fn admin_conf_is_kubeadms() {
    let text = Kubeconfig::with_client_cert("kubernetes-admin", SERVER, CA, "cert", "key")
        .to_yaml()
        .unwrap();
    let expected = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {CA_DATA}\n    server: {SERVER}\n  name: kubernetes\n\
         contexts:\n- context:\n    cluster: kubernetes\n    user: kubernetes-admin\n  name: kubernetes-admin@kubernetes\n\
         current-context: kubernetes-admin@kubernetes\nkind: Config\npreferences: {{}}\nusers:\n- name: kubernetes-admin\n  user:\n    \
         client-certificate-data: Y2VydA==\n    client-key-data: a2V5\n"
    );
    assert_eq!(text, expected);
}

#[test]
fn kubelet_conf_points_at_the_rotated_file() {
    let path = "/var/lib/kubelet/pki/kubelet-client-current.pem";
    let config = Kubeconfig::kubelet(SERVER, CA, path);
    let expected = format!(
        "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {CA_DATA}\n    server: {SERVER}\n  name: default-cluster\n\
         contexts:\n- context:\n    cluster: default-cluster\n    namespace: default\n    user: default-auth\n  name: default-context\n\
         current-context: default-context\nkind: Config\npreferences: {{}}\nusers:\n- name: default-auth\n  user:\n    \
         client-certificate: {path}\n    client-key: {path}\n"
    );
    assert_eq!(config.to_yaml().unwrap(), expected);
    let (cluster, user) = config.current().unwrap();
    assert_eq!(cluster.server, SERVER);
    assert_eq!(user.client_key.as_deref(), Some(path));
}

#[test]
fn bootstrap_conf_carries_the_token_and_debug_hides_it() {
    let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
    let config = Kubeconfig::bootstrap_kubelet(SERVER, CA, &token);
    let text = config.to_yaml().unwrap();
    assert!(
        text.contains("  name: tls-bootstrap-token-user@kubernetes\n"),
        "{text}"
    );
    assert!(
        text.ends_with(
            "- name: tls-bootstrap-token-user\n  user:\n    token: abcdef.0123456789abcdef\n"
        ),
        "{text}"
    );
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
}

#[test]
fn a_token_of_digits_survives_the_file() {
    let token: Token = "123456.0123456789012345".parse().unwrap();
    let text = Kubeconfig::bootstrap_kubelet(SERVER, CA, &token)
        .to_yaml()
        .unwrap();
    assert_eq!(Kubeconfig::parse(&text).unwrap().to_yaml().unwrap(), text);
    assert!(text.contains("123456.0123456789012345"), "{text}");
    let quoted = text.lines().last().unwrap();
    assert!(
        quoted.ends_with(['"', '\'']),
        "a number in YAML 1.1 must be quoted: {quoted}"
    );
}

#[test]
fn cluster_info_needs_exactly_one_complete_cluster() {
    let none = Kubeconfig::parse("apiVersion: v1\nkind: Config\nclusters: null\n").unwrap();
    assert_eq!(
        none.single_cluster().unwrap_err(),
        KubeconfigError::Clusters(0)
    );
    let bare =
        Kubeconfig::parse("clusters:\n- cluster: {server: \"https://h:1\"}\n  name: x\n").unwrap();
    assert_eq!(
        bare.single_cluster().unwrap().ca_pem().unwrap_err(),
        KubeconfigError::Missing("certificate-authority-data")
    );
    let no_server = Kubeconfig::parse("clusters:\n- cluster: {}\n  name: x\n").unwrap();
    assert_eq!(
        no_server.single_cluster().unwrap_err(),
        KubeconfigError::Missing("server")
    );
    let error = Kubeconfig::parse("clusters: [secret-text")
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("not a kubeconfig: ") && !error.contains("secret-text"),
        "{error}"
    );
}

#[test]
fn cluster_configuration_is_v1beta4_and_older_ones_are_read() {
    let networking = Networking {
        dns_domain: "cluster.local".into(),
        pod_subnet: "10.244.0.0/16,fd00:10:244::/56".into(),
        service_subnet: "10.96.0.0/16".into(),
    };
    let config = ClusterConfiguration::new("v1.31.0+malha", "172.20.0.10:6443", networking);
    let text = config.to_yaml().unwrap();
    let expected = "apiVersion: kubeadm.k8s.io/v1beta4\ncertificatesDir: /etc/kubernetes/pki\nclusterName: kubernetes\n\
                    controlPlaneEndpoint: 172.20.0.10:6443\nencryptionAlgorithm: ECDSA-P256\nkind: ClusterConfiguration\n\
                    kubernetesVersion: v1.31.0+malha\nnetworking:\n  dnsDomain: cluster.local\n  \
                    podSubnet: 10.244.0.0/16,fd00:10:244::/56\n  serviceSubnet: 10.96.0.0/16\n";
    assert_eq!(text, expected);
    assert_eq!(ClusterConfiguration::parse(&text).unwrap(), config);
    let old = "apiServer:\n  extraArgs:\n    authorization-mode: Node,RBAC\napiVersion: kubeadm.k8s.io/v1beta2\n\
               kind: ClusterConfiguration\nkubernetesVersion: v1.20.2\nnetworking:\n  dnsDomain: cluster.local\n";
    assert_eq!(
        ClusterConfiguration::parse(old).unwrap().kubernetes_version,
        "v1.20.2"
    );
    let wrong = ClusterConfiguration::parse(
        "apiVersion: kubeadm.k8s.io/v1beta1\nkind: ClusterConfiguration\n",
    );
    assert!(
        wrong
            .unwrap_err()
            .to_string()
            .contains("found \"ClusterConfiguration\" of \"kubeadm.k8s.io/v1beta1\"")
    );
}

#[test]
fn kubelets_are_asked_for_json() {
    let text = KubeletConfiguration::new(vec!["10.96.0.10".into()], "cluster.local")
        .to_yaml()
        .unwrap();
    assert!(text.contains("\ncontentType: application/json\n"), "{text}");
    assert!(text.contains("\nclusterDNS:\n- \"10.96.0.10\"\n"), "{text}");
    assert!(
        text.contains("    clientCAFile: /etc/kubernetes/pki/ca.crt\n"),
        "{text}"
    );
    KubeletConfiguration::check(&text).unwrap();
    assert!(KubeletConfiguration::check("kind: Pod\n").is_err());
    assert_eq!(
        versioned_kubelet_config_map("v1.31.0+malha"),
        "kubelet-config-1.31"
    );
}
