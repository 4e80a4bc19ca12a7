//! What the two kinds with `protocols` have in common.
use super::{Invalid, PortMatch, Problems};
use crate::{
    api::{Port, Protocol, ProtocolMatch},
    model::Transport,
};

/// `protocols` of a rule; absent: whatever protocol.
pub fn protocols(
    list: Option<&Vec<ProtocolMatch>>,
    field: &str,
    problems: &mut Problems,
) -> Result<Option<Vec<PortMatch>>, Invalid> {
    let Some(list) = list else {
        return Ok(None);
    };
    if list.is_empty() {
        return Err(problems.note(field, "is empty; leave it out to match every protocol"));
    }
    let each = list.iter().enumerate();
    let all: Result<_, _> = each
        .map(|(i, item)| protocol(item, &format!("{field}[{i}]"), problems))
        .collect();
    all.map(Some)
}

fn protocol(
    item: &ProtocolMatch,
    field: &str,
    problems: &mut Problems,
) -> Result<PortMatch, Invalid> {
    let numbered = [
        (Transport::Tcp, &item.tcp),
        (Transport::Udp, &item.udp),
        (Transport::Sctp, &item.sctp),
    ];
    let mut set = numbered
        .into_iter()
        .filter_map(|(t, p)| p.as_ref().map(|p| (t, p)));
    match (set.next(), set.next(), &item.destination_named_port) {
        (Some((transport, protocol)), None, None) => ports(transport, protocol, field, problems),
        (None, None, Some(name)) if !name.is_empty() => Ok(PortMatch::Named {
            name: name.clone(),
            protocol: None,
        }),
        _ => Err(problems.note(
            field,
            "exactly one of tcp, udp, sctp and destinationNamedPort must be set",
        )),
    }
}

fn ports(
    transport: Transport,
    protocol: &Protocol,
    field: &str,
    problems: &mut Problems,
) -> Result<PortMatch, Invalid> {
    let field = format!(
        "{field}.{}.destinationPort",
        transport.name().to_lowercase()
    );
    match &protocol.destination_port {
        None => Ok(every_port(transport)),
        Some(Port {
            number: Some(number),
            range: None,
        }) => range(transport, (*number, *number), &field, problems),
        Some(Port {
            number: None,
            range: Some(r),
        }) => range(transport, (r.start, r.end), &field, problems),
        Some(_) => Err(problems.note(&field, "exactly one of number and range must be set")),
    }
}

/// All of a protocol.
pub fn every_port(protocol: Transport) -> PortMatch {
    PortMatch::Range {
        protocol,
        first: 0,
        last: u16::MAX,
    }
}

/// From the first to the last, both at least 1.
pub fn range(
    protocol: Transport,
    (first, last): (i32, i32),
    field: &str,
    problems: &mut Problems,
) -> Result<PortMatch, Invalid> {
    let port = |number: i32| u16::try_from(number).ok().filter(|port| *port > 0);
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(PortMatch::Range {
            protocol,
            first,
            last,
        }),
        (Some(_), Some(_)) => Err(problems.note(field, format!("{last} is below {first}"))),
        (None, _) => Err(problems.note(
            field,
            format!("{first} is no port: they go from 1 to 65535"),
        )),
        _ => Err(problems.note(field, format!("{last} is no port: they go from 1 to 65535"))),
    }
}
