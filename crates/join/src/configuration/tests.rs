use super::*;

const V1BETA3: &str = r#"
apiVersion: kubeadm.k8s.io/v1beta3
kind: JoinConfiguration
caCertPath: /etc/kubernetes/pki/ca.crt
controlPlane: null
discovery:
  bootstrapToken:
    apiServerEndpoint: 172.20.0.10:6443
    token: abcdef.0123456789abcdef
    caCertHashes: ["sha256:00"]
    unsafeSkipCAVerification: false
  tlsBootstrapToken: fedcba.0123456789abcdef
  timeout: 1m30s
nodeRegistration:
  name: w1
  criSocket: unix:///run/containerd/containerd.sock
  imagePullPolicy: IfNotPresent
  taints:
  - {key: dedicated, value: gpu, effect: NoSchedule}
  - {key: lone, effect: NoExecute}
  kubeletExtraArgs: {v: "4", node-labels: a=b}
  ignorePreflightErrors: [Swap]
skipPhases: [preflight]
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
"#;

#[test]
fn reads_the_map_form() {
    let Parsed {
        configuration,
        warnings,
    } = parse(V1BETA3).expect("valid");
    let token = configuration.by_token.expect("by token");
    assert_eq!(token.endpoint, "172.20.0.10:6443");
    assert_eq!(token.ca_cert_hashes, ["sha256:00"]);
    assert_eq!(
        configuration.tls_bootstrap_token.as_deref(),
        Some("fedcba.0123456789abcdef")
    );
    assert_eq!(
        configuration.discovery_timeout,
        Some(Duration::from_secs(90))
    );
    assert_eq!(
        configuration.taints,
        ["dedicated=gpu:NoSchedule", "lone:NoExecute"]
    );
    let flags = merged(
        vec![("v".into(), "2".into()), ("a".into(), "b".into())],
        &configuration.kubelet_extra_args,
    );
    assert_eq!(flags, ["--a=b", "--node-labels=a=b", "--v=4"]);
    assert_eq!(configuration.skip_phases, ["preflight"]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("KubeProxyConfiguration"),
        "{warnings:?}"
    );
}

#[test]
fn reads_the_list_form() {
    let text = "\
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
dryRun: true
discovery:
  file: {kubeConfigPath: /tmp/discovery.conf}
nodeRegistration:
  imagePullSerial: true
  kubeletExtraArgs:
  - {name: node-labels, value: a=b}
  - {name: node-labels, value: c=d}
timeouts: {discovery: 5m0s, tlsBootstrap: 20s, kubeletHealthCheck: 4m0s, etcdAPICall: 2m0s}
";
    let found = parse(text).expect("valid").configuration;
    assert_eq!(
        merged(Vec::new(), &found.kubelet_extra_args),
        ["--node-labels=a=b", "--node-labels=c=d"]
    );
    assert_eq!(found.discovery_file.as_deref(), Some("/tmp/discovery.conf"));
    assert_eq!(found.certificate_timeout, Some(Duration::from_secs(20)));
    assert_eq!(found.kubelet_timeout, Some(Duration::from_secs(240)));
    assert!(found.dry_run && found.by_token.is_none());
}

#[test]
fn unknown_fields_are_told_and_have_no_effect() {
    let text = V1BETA3
        .replace("timeout:", "timeuot:")
        .replace("name: w1", "naem: w1");
    let warnings = parse(&text).expect("valid").warnings.join("\n");
    for part in ["nodeRegistration.naem", "discovery.timeuot"] {
        assert!(warnings.contains(part), "{warnings}");
    }
}

#[test]
fn complaints_name_the_field_and_never_a_value() {
    let table = [
        (
            "v1beta3",
            "v1beta1",
            "\"kubeadm.k8s.io/v1beta1\" is not supported",
        ),
        (
            "kind: JoinConfiguration",
            "kind: InitConfiguration",
            "no document of kind JoinConfiguration",
        ),
        (
            "abcdef.0123456789abcdef",
            "111111.0123456789123456",
            "discovery.bootstrapToken.token has to be a text",
        ),
        ("controlPlane: null", "controlPlane: {}", "workers only"),
        (
            "skipPhases: [preflight]",
            "patches: {directory: /p}",
            "does not patch",
        ),
        (
            "v: \"4\"",
            "v: 4",
            "nodeRegistration.kubeletExtraArgs.v has to be a text",
        ),
        ("name: w1", "name: w1\n name: w1", "not YAML"),
        ("timeout: 1m30s", "timeout: soon", "discovery.timeout"),
        ("[Swap]", "Swap", "has to be a list"),
        (
            "apiServerEndpoint: 172.20.0.10:6443",
            "apiServerEndpoint: \"\"",
            "apiServerEndpoint is missing",
        ),
    ];
    for (from, to, wanted) in table {
        let Err(error) = parse(&V1BETA3.replacen(from, to, 1)) else {
            panic!("{to} was accepted");
        };
        let text = format!("{error:#}");
        assert!(text.contains(wanted), "{to}: {text}");
        assert!(!text.contains("0123456789"), "{text}");
    }
}
