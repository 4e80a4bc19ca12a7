//! The token cleaner: a token that has ended is deleted.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use malha_bootstrap::token::Expiry;

use crate::{
    frame::{Controller, Input, Plan, Precondition, Store, Target, Write},
    world::World,
};

pub(crate) struct TokenCleaner {
    tokens: Store<Secret>,
}

impl TokenCleaner {
    pub fn new(world: &World) -> Self {
        Self {
            tokens: world.tokens.clone(),
        }
    }
}

impl Controller for TokenCleaner {
    type Action = Write;
    const NAME: &'static str = "token-cleaner";

    fn inputs(&self) -> Vec<Input> {
        vec![self.tokens.input()]
    }

    fn decide(&mut self, now: Timestamp) -> Plan<Write> {
        clean(&self.tokens.list(), now)
    }
}

/// Deletes what has ended. The precondition saves a token whose end is put off at the last moment.
fn clean(tokens: &[Arc<Secret>], now: Timestamp) -> Plan<Write> {
    let mut plan = Plan::new();
    for secret in tokens
        .iter()
        .filter(|s| s.metadata.deletion_timestamp.is_none())
    {
        let expiry = super::expiry(secret);
        if expiry.is_expired(now) {
            let unchanged = Precondition::unchanged(&**secret);
            plan.push(Write::delete(Target::of(&**secret), &unchanged));
        } else if let Expiry::At(end) = expiry {
            plan.wake(end);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::{super::testing::token, *};
    use crate::testing::{at, texts};

    #[test]
    fn ended_tokens_go_and_the_next_end_is_awaited() {
        let tokens = [
            token("aaaaaa", "2026-11-25T11:59:59Z", &[]),
            token("bbbbbb", "2026-11-25T14:00:00Z", &[]),
            token("cccccc", "2026-11-25T13:00:00Z", &[]),
            token("dddddd", "whenever", &[]),
            token("eeeeee", "", &[]),
        ];
        let plan = clean(&tokens, at("2026-11-25T12:00:00Z"));
        let delete = |id: &str| {
            format!(
                "DELETE /api/v1/namespaces/kube-system/secrets/bootstrap-token-{id} \
                 {{\"apiVersion\":\"v1\",\"kind\":\"DeleteOptions\",\
                 \"preconditions\":{{\"resourceVersion\":\"5\",\"uid\":\"uid-{id}\"}}}}"
            )
        };
        assert_eq!(texts(&plan.actions), [delete("aaaaaa"), delete("dddddd")]);
        assert_eq!(plan.again, Some(at("2026-11-25T13:00:00Z")));
    }
}
