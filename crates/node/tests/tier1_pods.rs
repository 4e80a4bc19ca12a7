//! What pods are promised: order, restarts, probes, volumes, environment, and an agent that may die.

mod cluster;

use std::fs;

use cluster::{Cluster, condition, in_own_network};
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, Pod, Secret};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};

fn status(pod: &Pod) -> ContainerStatus {
    let all = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.clone())
        .unwrap_or_default();
    all.into_iter().next().unwrap_or_default()
}

fn waits(pod: &Pod, reason: &str) -> bool {
    let waiting = status(pod)
        .state
        .and_then(|s| s.waiting)
        .and_then(|w| w.reason);
    waiting.as_deref() == Some(reason)
}

fn sh(script: &str) -> Value {
    json!({"command": ["/bin/sh", "-c", script]})
}

#[test]
fn init_containers_run_first_and_share_volumes() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        cluster.install_network();
        let mount = json!([{"name": "v", "mountPath": "/v"}]);
        let init = |name: &str, script: &str| json!({"name": name, "image": "host", "command": ["/bin/sh", "-c", script], "volumeMounts": mount});
        let spec = json!({
            "restartPolicy": "Never",
            "volumes": [{"name": "v", "emptyDir": {}}],
            "initContainers": [init("one", "echo 1 > /v/x"), init("two", "echo 2 >> /v/x")],
        });
        let mut container = sh("cat /v/x; echo last words > /dev/termination-log; exit 4");
        container["volumeMounts"] = mount.clone();
        cluster.create("p", spec, container).await;
        let pod = cluster.until_phase("p", "Failed").await;
        assert_eq!(cluster.log("p").await, "1\n2\n");
        let ended = status(&pod).state.unwrap().terminated.unwrap();
        assert_eq!(
            (ended.exit_code, ended.reason.as_deref()),
            (4, Some("Error"))
        );
        assert_eq!(ended.message.as_deref(), Some("last words\n"));
        assert_eq!(condition(&pod, "Initialized"), "True");
        cluster
            .until("the network to be given back", async || {
                fs::read_dir(&cluster.config.netns_dir).unwrap().count() == 0
            })
            .await;
        cluster.stop().await;
    });
}

#[test]
fn a_container_that_ends_is_started_again_and_then_waits() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        cluster
            .create("p", json!({"hostNetwork": true}), sh("echo run; exit 1"))
            .await;
        let pod = cluster
            .until_pod("p", "in back-off", |pod| waits(pod, "CrashLoopBackOff"))
            .await;
        let status = status(&pod);
        assert_eq!(status.restart_count, 1);
        assert_eq!(status.last_state.unwrap().terminated.unwrap().exit_code, 1);
        let previous = kube::api::LogParams {
            previous: true,
            ..Default::default()
        };
        assert_eq!(cluster.pods().logs("p", &previous).await.unwrap(), "run\n");
        cluster
            .until("the event", async || {
                cluster
                    .events("p")
                    .await
                    .iter()
                    .any(|e| e.starts_with("BackOff"))
            })
            .await;
        cluster.stop().await;
    });
}

#[test]
fn what_cannot_run_says_why() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        cluster
            .create(
                "a",
                json!({"hostNetwork": true}),
                json!({"command": ["nosuch"]}),
            )
            .await;
        let pod = cluster
            .until_pod("a", "refused", |pod| waits(pod, "RunContainerError"))
            .await;
        let message = status(&pod)
            .state
            .unwrap()
            .waiting
            .unwrap()
            .message
            .unwrap();
        assert_eq!(
            message,
            "exec: \"nosuch\": executable file not found in $PATH"
        );
        let env = json!({"command": ["true"], "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}]});
        cluster.create("b", json!({"hostNetwork": true}), env).await;
        let pod = cluster
            .until_pod("b", "refused", |pod| {
                waits(pod, "CreateContainerConfigError")
            })
            .await;
        assert_eq!(
            status(&pod)
                .state
                .unwrap()
                .waiting
                .unwrap()
                .message
                .unwrap(),
            "secret \"x\" not found"
        );
        let volumes = json!({"hostNetwork": true, "volumes": [{"name": "v", "hostPath": {"path": "/no/such", "type": "Directory"}}]});
        cluster
            .create("c", volumes, json!({"command": ["true"]}))
            .await;
        cluster
            .until("the event", async || {
                cluster
                    .events("c")
                    .await
                    .iter()
                    .any(|e| e.contains("hostPath type check failed: /no/such is not a directory"))
            })
            .await;
        cluster.stop().await;
    });
}

#[test]
fn probes_decide() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        cluster.install_network();
        let mut container = sh("touch /tmp/alive; sleep 1000");
        container["readinessProbe"] =
            json!({"exec": {"command": ["test", "-e", "/tmp/ready"]}, "periodSeconds": 1});
        container["livenessProbe"] = json!({"exec": {"command": ["test", "-e", "/tmp/alive"]}, "periodSeconds": 1, "failureThreshold": 1,
            "terminationGracePeriodSeconds": 1});
        container["startupProbe"] =
            json!({"exec": {"command": ["test", "-e", "/tmp/alive"]}, "periodSeconds": 1});
        cluster.create("p", json!({}), container).await;
        let pod = cluster
            .until_pod("p", "started", |pod| status(pod).started == Some(true))
            .await;
        assert_eq!(condition(&pod, "Ready"), "False");
        let kubectl = cluster::kubectl::kubectls().remove(0);
        let said = cluster
            .say(&kubectl, &["exec", "p", "--", "touch", "/tmp/ready"], "")
            .await;
        assert_eq!(said.code, Some(0), "{said:?}");
        cluster.until_ready("p").await;
        cluster
            .say(&kubectl, &["exec", "p", "--", "rm", "/tmp/alive"], "")
            .await;
        cluster
            .until_pod("p", "started again", |pod| status(pod).restart_count == 1)
            .await;
        assert!(
            cluster
                .events("p")
                .await
                .iter()
                .any(|e| e.starts_with("Unhealthy Liveness probe failed"))
        );
        cluster.stop().await;
    });
}

#[test]
fn volumes_hold_what_they_should() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        let object = json!({"metadata": {"name": "o"}, "data": {"key": "text"}});
        let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
        maps.create(
            &PostParams::default(),
            &serde_json::from_value(object).unwrap(),
        )
        .await
        .unwrap();
        let object = json!({"metadata": {"name": "o"}, "stringData": {"key": "hidden"}});
        let secrets: Api<Secret> = Api::default_namespaced(cluster.client.clone());
        secrets
            .create(
                &PostParams::default(),
                &serde_json::from_value(object).unwrap(),
            )
            .await
            .unwrap();
        let spec = json!({
            "hostNetwork": true, "restartPolicy": "Never",
            "securityContext": {"runAsUser": 1000, "fsGroup": 2000},
            "volumes": [
                {"name": "map", "configMap": {"name": "o"}},
                {"name": "secret", "secret": {"secretName": "o", "defaultMode": 288}},
                {"name": "downward", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
                {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                {"name": "host", "hostPath": {"path": cluster.path("made"), "type": "DirectoryOrCreate"}},
            ],
        });
        let script = "cat /map/key /secret/key /downward/labels; echo; id -u; id -G; stat -c %a:%g -L /secret/key; \
                      stat -f -c %T /memory; echo x > /memory/x && stat -c %g /memory/x; \
                      cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo; \
                      test -s /var/run/secrets/kubernetes.io/serviceaccount/token && echo token; \
                      ls /host/sub; echo $FROM_key $(K)";
        let mut container = sh(script);
        container["volumeMounts"] = json!([
            {"name": "map", "mountPath": "/map"},
            {"name": "secret", "mountPath": "/secret"},
            {"name": "downward", "mountPath": "/downward"},
            {"name": "memory", "mountPath": "/memory"},
            {"name": "host", "mountPath": "/host/sub", "subPath": "a/b"},
        ]);
        container["envFrom"] = json!([{"prefix": "FROM_", "secretRef": {"name": "o"}}]);
        container["env"] =
            json!([{"name": "K", "valueFrom": {"configMapKeyRef": {"name": "o", "key": "key"}}}]);
        cluster.create("p", spec, container).await;
        cluster.until_phase("p", "Succeeded").await;
        let log = cluster.log("p").await;
        let lines: Vec<&str> = log.lines().collect();
        let expected = [
            "texthiddenapp=\"p\"",
            "1000",
            "0 2000",
            "440:2000",
            "tmpfs",
            "2000",
            "default",
            "token",
            "hidden text",
        ];
        assert_eq!(lines, expected, "{log}");
        assert!(cluster.path("made").join("a/b").is_dir());
        cluster.stop().await;
    });
}

#[test]
fn mounts_reach_the_host_where_they_may() {
    in_own_network(|| async {
        use nix::mount::{MsFlags, mount, umount};
        let cluster = Cluster::start().await;
        let shared = cluster.path("shared");
        fs::create_dir(&shared).unwrap();
        mount(
            Some("test"),
            &shared,
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        mount(
            None::<&str>,
            &shared,
            None::<&str>,
            MsFlags::MS_SHARED,
            None::<&str>,
        )
        .unwrap();
        let spec =
            json!({"hostNetwork": true, "volumes": [{"name": "v", "hostPath": {"path": shared}}]});
        let mut container = sh(
            "mkdir /v/in && mount -t tmpfs x /v/in && touch /v/in/file && echo done; sleep 1000",
        );
        container["securityContext"] = json!({"privileged": true});
        container["volumeMounts"] =
            json!([{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]);
        cluster.create("p", spec, container).await;
        cluster.until_ready("p").await;
        cluster
            .until("the mount", async || shared.join("in/file").exists())
            .await;
        cluster
            .pods()
            .delete("p", &DeleteParams::default())
            .await
            .unwrap();
        cluster.until_gone("p").await;
        umount(&shared.join("in")).unwrap();
        umount(&shared).unwrap();
        cluster.stop().await;
    });
}

#[test]
fn pods_outlive_their_agent() {
    in_own_network(|| async {
        let mut cluster = Cluster::start().await;
        cluster.install_network();
        let script = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done";
        let mut serves = sh(script);
        serves["readinessProbe"] = json!({"exec": {"command": ["true"]}, "periodSeconds": 3600});
        cluster.create("stays", json!({}), serves).await;
        cluster.create("goes", json!({}), sh(script)).await;
        let before = cluster.until_ready("stays").await;
        cluster.until_ready("goes").await;
        cluster.stop_agent().await;
        let now = DeleteParams::default().grace_period(0);
        cluster.pods().delete("goes", &now).await.unwrap();
        cluster.start_agent();
        let kubectl = cluster::kubectl::kubectls().remove(0);
        cluster
            .until("exec", async || {
                cluster
                    .say(&kubectl, &["exec", "stays", "--", "true"], "")
                    .await
                    .code
                    == Some(0)
            })
            .await;
        let after = cluster.until_ready("stays").await;
        assert_eq!(status(&before).container_id, status(&after).container_id);
        assert_eq!(status(&after).restart_count, 0);
        let since = |pod: &Pod| {
            let all = pod.status.clone().unwrap().conditions.unwrap();
            all.into_iter()
                .find(|c| c.type_ == "Ready")
                .unwrap()
                .last_transition_time
        };
        assert_eq!(
            since(&before),
            since(&after),
            "it was not ready for a while"
        );
        cluster
            .until("what is left of the deleted pod to go", async || {
                fs::read_dir(&cluster.config.netns_dir).unwrap().count() == 1
            })
            .await;
        cluster
            .pods()
            .delete("stays", &DeleteParams::default().grace_period(1))
            .await
            .unwrap();
        cluster.until_gone("stays").await;
        cluster.stop().await;
    });
}

#[test]
fn an_image_called_malha_is_this_program() {
    in_own_network(|| async {
        let cluster = Cluster::start().await;
        let container =
            json!({"image": "example.org/malha:v1", "command": ["malha-node-launcher"]});
        cluster
            .create(
                "p",
                json!({"hostNetwork": true, "restartPolicy": "Never"}),
                container,
            )
            .await;
        let pod = cluster.until_phase("p", "Failed").await;
        assert!(
            cluster
                .log("p")
                .await
                .starts_with("usage: malha-node-launcher")
        );
        assert_eq!(
            status(&pod).image_id,
            concat!("malha://programs@", env!("CARGO_PKG_VERSION"))
        );
        cluster.stop().await;
    });
}
