//! From decisions to the rows of a port class.
use std::collections::BTreeMap;

use super::{
    chain::{Chain, Decision, Peer, Which},
    spans::{FULL, Span},
};
use crate::{
    maps::{PortPrefix, StagedVerdict, Verdict, port_mask},
    model::Transport,
    mutant::mutant,
};

/// The rows of a class, the one for whatever protocol first.
pub type Rows = Vec<(PortPrefix, Verdict)>;

/// What a chain says of a peer, as rows.
pub fn rows(chain: &Chain, peer: &Peer<'_>) -> Rows {
    let other = lane(chain, peer, None);
    let any = other.first().map_or(DENY, |(_, verdict)| *verdict);
    let mut rows = vec![(PortPrefix::ANY, any)];
    for transport in Transport::ALL {
        let spans = lane(chain, peer, Some(transport));
        if spans == [(FULL, any)] {
            continue;
        }
        let usual = most_common(&spans);
        let protocol = transport.number();
        rows.push((
            PortPrefix {
                protocol,
                port: 0,
                length: 8,
            },
            usual,
        ));
        for (span, verdict) in spans.into_iter().filter(|(_, v)| *v != usual) {
            let mut blocks = blocks(span);
            if mutant!(PortBlockLost) && blocks.len() > 1 {
                blocks.pop();
            }
            let row = |(port, bits)| {
                (
                    PortPrefix {
                        protocol,
                        port,
                        length: 8 + bits,
                    },
                    verdict,
                )
            };
            rows.extend(blocks.into_iter().map(row));
        }
    }
    rows
}

const DENY: Verdict = Verdict {
    allow: false,
    log: false,
    rule: 0,
    staged: None,
};

/// The verdicts of a protocol's ports, in order and with neighbours that are equal joined.
fn lane(chain: &Chain, peer: &Peer<'_>, transport: Option<Transport>) -> Vec<(Span, Verdict)> {
    let enforced = chain.decide(peer, transport, Which::Enforced);
    let staged = match chain.has_staged() {
        true => chain.decide(peer, transport, Which::All),
        false => Vec::new(),
    };
    let mut joined: Vec<(Span, Verdict)> = Vec::new();
    let mut staged = staged.into_iter().peekable();
    for ((mut first, last), now) in enforced {
        loop {
            let (until, then) = match staged.peek() {
                Some(((_, end), then)) => (last.min(*end), Some(*then)),
                None => (last, None),
            };
            push(&mut joined, ((first, until), verdict(now, then)));
            if staged.peek().is_some_and(|((_, end), _)| *end == until) {
                staged.next();
            }
            if until == last {
                break;
            }
            first = until + 1;
        }
    }
    joined
}

fn verdict(now: Decision, then: Option<Decision>) -> Verdict {
    let then = then.filter(|then| (then.allow, then.rule) != (now.allow, now.rule));
    Verdict {
        allow: now.allow,
        log: now.log,
        rule: now.rule,
        staged: then.map(|then| StagedVerdict {
            allow: then.allow,
            rule: then.rule,
        }),
    }
}

fn push(joined: &mut Vec<(Span, Verdict)>, (span, verdict): (Span, Verdict)) {
    match joined.last_mut() {
        Some((last, same)) if *same == verdict => last.1 = span.1,
        _ => joined.push((span, verdict)),
    }
}

/// The verdict that the most ports have: the rows are those of the others.
fn most_common(spans: &[(Span, Verdict)]) -> Verdict {
    let mut count: BTreeMap<Verdict, u32> = BTreeMap::new();
    for ((first, last), verdict) in spans {
        *count.entry(*verdict).or_default() += u32::from(last - first) + 1;
    }
    let most = count.into_iter().max_by_key(|(_, ports)| *ports);
    most.map_or(DENY, |(verdict, _)| verdict)
}

/// The fewest aligned blocks that make up the span: (port, bits that matter).
fn blocks((first, last): Span) -> Vec<(u16, u8)> {
    let (mut at, end) = (u32::from(first), u32::from(last) + 1);
    let mut blocks = Vec::new();
    while at < end {
        let aligned = if at == 0 {
            16
        } else {
            at.trailing_zeros().min(16)
        };
        let fits = (end - at).ilog2();
        let size = aligned.min(fits);
        let bits = 16 - size as u8;
        blocks.push((at as u16 & port_mask(bits), bits));
        at += 1 << size;
    }
    blocks
}
