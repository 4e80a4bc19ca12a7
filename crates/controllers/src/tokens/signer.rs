//! The bootstrap signer: cluster-info carries one signature per token that may sign.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use malha_bootstrap::{
    jws,
    token::{Expiry, Usage},
};
use serde_json::{Value, json};

use crate::{
    frame::{Controller, Input, Plan, Store, Target, Write, versioned},
    world::{CLUSTER_INFO, World},
};

/// The key that is signed.
const KUBECONFIG: &str = "kubeconfig";

pub(crate) struct BootstrapSigner {
    tokens: Store<Secret>,
    cluster_info: Store<ConfigMap>,
}

impl BootstrapSigner {
    pub fn new(world: &World) -> Self {
        Self {
            tokens: world.tokens.clone(),
            cluster_info: world.cluster_info.clone(),
        }
    }
}

impl Controller for BootstrapSigner {
    type Action = Write;
    const NAME: &'static str = "bootstrap-signer";

    fn inputs(&self) -> Vec<Input> {
        vec![self.tokens.input(), self.cluster_info.input()]
    }

    fn decide(&mut self, now: Timestamp) -> Plan<Write> {
        match self.cluster_info.get(CLUSTER_INFO.0, CLUSTER_INFO.1) {
            Some(info) => sign(&info, &self.tokens.list(), now),
            None => Plan::new(),
        }
    }
}

/// Brings the signatures of cluster-info in line with the tokens.
fn sign(info: &ConfigMap, tokens: &[Arc<Secret>], now: Timestamp) -> Plan<Write> {
    let mut plan = Plan::new();
    let Some(kubeconfig) = info.data.as_ref().and_then(|data| data.get(KUBECONFIG)) else {
        return plan;
    };
    let mut wanted = BTreeMap::new();
    let living = tokens
        .iter()
        .filter(|s| s.metadata.deletion_timestamp.is_none());
    for token in living.filter_map(|secret| super::read(secret)) {
        if !token.allows(Usage::Signing, now) {
            continue;
        }
        if let Expiry::At(end) = token.expiry {
            plan.wake(end);
        }
        let signature = jws::sign_detached(kubeconfig.as_bytes(), &token.token);
        wanted.insert(jws::config_map_key(&token.token.id), signature);
    }
    let changes = changes(info, &wanted);
    if !changes.is_empty() {
        let patch = versioned(info, json!({ "data": changes }));
        plan.push(Write::patch(Target::of(info), patch));
    }
    plan
}

/// Signatures to set, and null for those to take away.
fn changes(info: &ConfigMap, wanted: &BTreeMap<String, String>) -> BTreeMap<String, Value> {
    let data = info.data.clone().unwrap_or_default();
    let stale = data
        .keys()
        .filter(|key| key.starts_with(jws::KEY_PREFIX) && !wanted.contains_key(*key))
        .map(|key| (key.clone(), Value::Null));
    let fresh = wanted
        .iter()
        .filter(|(key, signature)| data.get(*key) != Some(signature))
        .map(|(key, signature)| (key.clone(), Value::from(signature.as_str())));
    stale.chain(fresh).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::testing::token, *};
    use crate::testing::{at, object, texts};

    const HEADER: &str = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFhYWFhYSJ9..";

    fn info(signatures: &[(&str, &str)]) -> Arc<ConfigMap> {
        let mut data = json!({"kubeconfig": "content"});
        for (id, signature) in signatures {
            data[format!("jws-kubeconfig-{id}")] = (*signature).into();
        }
        object(json!({
            "metadata": {"name": "cluster-info", "namespace": "kube-public", "resourceVersion": "9"}, "data": data,
        }))
    }

    /// The ids that the patch signs for (+) and takes away (-).
    fn outcome(info: &ConfigMap, tokens: &[Arc<Secret>], now: &str) -> String {
        let plan = sign(info, tokens, at(now));
        let text = texts(&plan.actions).join("\n");
        let Some((_, body)) = text.split_once(" {") else {
            return text;
        };
        let body: Value = serde_json::from_str(&format!("{{{body}")).unwrap();
        let data = body["data"].as_object().unwrap();
        let entries = data.iter().map(|(key, value)| {
            let sign = if value.is_null() { "-" } else { "+" };
            format!("{sign}{}", key.trim_start_matches(jws::KEY_PREFIX))
        });
        entries.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn tokens_that_may_sign_do() {
        let now = "2026-11-25T12:00:00Z";
        let later = "2026-11-25T13:00:00Z";
        let earlier = "2026-11-25T11:00:00Z";
        let cases = [
            (
                "a token signs",
                info(&[]),
                vec![token("aaaaaa", later, &[])],
                "+aaaaaa",
            ),
            (
                "for ever",
                info(&[]),
                vec![token("aaaaaa", "", &[])],
                "+aaaaaa",
            ),
            (
                "not when it has ended",
                info(&[]),
                vec![token("aaaaaa", earlier, &[])],
                "",
            ),
            (
                "nor when its end is unreadable",
                info(&[]),
                vec![token("aaaaaa", "soon", &[])],
                "",
            ),
            (
                "nor without the usage",
                info(&[]),
                vec![token(
                    "aaaaaa",
                    later,
                    &[("usage-bootstrap-signing", "yes")],
                )],
                "",
            ),
            (
                "nor under a wrong name",
                info(&[]),
                vec![token("aaaaaa", later, &[("token-id", "bbbbbb")])],
                "",
            ),
            (
                "a signature without a token goes",
                info(&[("cccccc", "x")]),
                vec![],
                "-cccccc",
            ),
            (
                "a wrong signature is replaced",
                info(&[("aaaaaa", "x")]),
                vec![token("aaaaaa", later, &[])],
                "+aaaaaa",
            ),
        ];
        for (name, info, tokens, expected) in cases {
            assert_eq!(outcome(&info, &tokens, now), expected, "{name}");
        }
    }

    #[test]
    fn a_right_signature_stays_and_the_end_is_awaited() {
        let token = token("aaaaaa", "2026-11-25T13:00:00Z", &[]);
        let read = super::super::read(&token).unwrap();
        let right = jws::sign_detached(b"content", &read.token);
        assert!(right.starts_with(HEADER));
        let plan = sign(
            &info(&[("aaaaaa", &right)]),
            &[token],
            at("2026-11-25T12:00:00Z"),
        );
        assert_eq!(plan.actions, []);
        assert_eq!(plan.again, Some(at("2026-11-25T13:00:00Z")));
    }
}
