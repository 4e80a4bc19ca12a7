//! `protocols` of the kinds that are not Kubernetes' own.
use super::Question;
use crate::{
    api::{Protocol, ProtocolMatch},
    model::Transport,
};

/// Whether the flow is of one of the protocols; `Err` when any of them is not valid.
pub fn matches(
    question: &Question<'_>,
    protocols: Option<&Vec<ProtocolMatch>>,
) -> Result<bool, ()> {
    let Some(protocols) = protocols else {
        return Ok(true);
    };
    if protocols.is_empty() {
        return Err(());
    }
    let mut any = false;
    for protocol in protocols {
        any |= one(question, protocol)?;
    }
    Ok(any)
}

/// "Exactly one field must be set."
fn one(question: &Question<'_>, protocol: &ProtocolMatch) -> Result<bool, ()> {
    match protocol {
        ProtocolMatch {
            tcp: Some(p),
            udp: None,
            sctp: None,
            destination_named_port: None,
        } => numbered(question, Transport::Tcp, p),
        ProtocolMatch {
            tcp: None,
            udp: Some(p),
            sctp: None,
            destination_named_port: None,
        } => numbered(question, Transport::Udp, p),
        ProtocolMatch {
            tcp: None,
            udp: None,
            sctp: Some(p),
            destination_named_port: None,
        } => numbered(question, Transport::Sctp, p),
        ProtocolMatch {
            tcp: None,
            udp: None,
            sctp: None,
            destination_named_port: Some(name),
        } if !name.is_empty() => Ok(question.is_named_port(name, None)),
        _ => Err(()),
    }
}

fn numbered(
    question: &Question<'_>,
    transport: Transport,
    protocol: &Protocol,
) -> Result<bool, ()> {
    let is_protocol = question.protocol == transport.number();
    let Some(port) = &protocol.destination_port else {
        return Ok(is_protocol);
    };
    let (first, last) = match (port.number, &port.range) {
        (Some(number), None) => (number, number),
        (None, Some(range)) => (range.start, range.end),
        _ => return Err(()),
    };
    if first < 1 || last > 65535 || first > last {
        return Err(());
    }
    Ok(is_protocol && (first..=last).contains(&i32::from(question.port)))
}
