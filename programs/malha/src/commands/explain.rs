//! `malha explain`: whether one may talk to another, and which rule says so.

use std::{net::IpAddr, process::ExitCode, str::FromStr};

use anyhow::{Context, Result, bail};
use malha_policy::{
    explain::{Explanation, explain},
    model::{Cluster, Flow, Transport},
};

use super::{block_on, cluster::Source};

/// The exit code when a flow is denied.
const DENIED: u8 = 3;

/// Exits with 0 if it is allowed, and with 3 if it is denied. Answers from the objects in the API (or in files), not from
/// what a node's kernel holds.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    source: Source,
    /// Who: NAMESPACE/POD or an address.
    #[arg(long, value_name = "WHO")]
    from: Who,
    /// Whom, and where: NAMESPACE/POD:PORT, ADDRESS:PORT, or [ADDRESS]:PORT; with /UDP or /SCTP behind it if not TCP.
    #[arg(long, value_name = "WHOM")]
    to: Whom,
    /// Print JSON.
    #[arg(short = 'o', long = "output", value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Who {
    Pod(String, String),
    Address(IpAddr),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Whom {
    who: Who,
    port: u16,
    transport: Transport,
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(text).parse() {
            return Ok(Self::Address(address));
        }
        match text.split_once('/') {
            Some((namespace, pod)) if !namespace.is_empty() && !pod.is_empty() => {
                Ok(Self::Pod(namespace.to_owned(), pod.to_owned()))
            }
            _ => Err(format!("{text:?} is neither NAMESPACE/POD nor an address")),
        }
    }
}

impl FromStr for Whom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (who, port) = text
            .rsplit_once(':')
            .ok_or_else(|| format!("{text:?} has no port; write for example shop/cart-0:8080"))?;
        let (port, transport) = match port.split_once('/') {
            None => (port, Transport::Tcp),
            Some((port, name)) => {
                let transport = Transport::from_name(&name.to_ascii_uppercase());
                (
                    port,
                    transport.ok_or_else(|| format!("{name:?} is neither TCP nor UDP nor SCTP"))?,
                )
            }
        };
        let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
        Ok(Self {
            who: who.parse()?,
            port,
            transport,
        })
    }
}

pub fn run(args: Args) -> Result<ExitCode> {
    block_on(async move {
        let cluster = args.source.read().await?;
        let answers = flows(&cluster, &args.from, &args.to)?;
        let answers: Vec<Explanation> =
            answers.iter().map(|flow| explain(&cluster, flow)).collect();
        for answer in &answers {
            match args.output.as_str() {
                "json" => println!(
                    "{}",
                    serde_json::json!({ "allowed": answer.allowed, "lines": answer.lines })
                ),
                _ => print!("{answer}"),
            }
        }
        let allowed = answers.iter().all(|answer| answer.allowed);
        Ok(if allowed {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(DENIED)
        })
    })
}

/// One for each family that both have.
fn flows(cluster: &Cluster, from: &Who, to: &Whom) -> Result<Vec<Flow>> {
    let (sources, destinations) = (addresses(cluster, from)?, addresses(cluster, &to.who)?);
    let pairs = sources.iter().flat_map(|source| {
        let same = destinations
            .iter()
            .filter(|other| other.is_ipv4() == source.is_ipv4());
        same.map(|destination| (*source, *destination))
    });
    let flows: Vec<Flow> = pairs
        .map(|(source, destination)| Flow {
            source,
            destination,
            protocol: to.transport.number(),
            port: to.port,
        })
        .collect();
    if flows.is_empty() {
        bail!("the two have no address family in common");
    }
    Ok(flows)
}

fn addresses(cluster: &Cluster, who: &Who) -> Result<Vec<IpAddr>> {
    match who {
        Who::Address(address) => Ok(vec![*address]),
        Who::Pod(namespace, name) => {
            let pod = cluster.pods.get(&(namespace.clone(), name.clone()));
            let pod = pod
                .with_context(|| format!("there is no pod {namespace}/{name}, or it has ended"))?;
            if pod.addresses.is_empty() {
                bail!("pod {namespace}/{name} has no address yet");
            }
            Ok(pod.addresses.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read() {
        let pod = || Who::Pod("shop".to_owned(), "cart-0".to_owned());
        let whom = |text: &str| text.parse::<Whom>();
        assert_eq!(
            whom("shop/cart-0:80"),
            Ok(Whom {
                who: pod(),
                port: 80,
                transport: Transport::Tcp
            })
        );
        assert_eq!(
            whom("[fd00::2]:53/udp").map(|whom| whom.transport),
            Ok(Transport::Udp)
        );
        assert_eq!(
            "10.0.0.1".parse::<Who>(),
            Ok(Who::Address([10, 0, 0, 1].into()))
        );
        for wrong in [
            "shop/cart-0",
            "shop:80",
            "shop/cart-0:http",
            "shop/cart-0:80/icmp",
            "",
        ] {
            whom(wrong).expect_err(wrong);
        }
    }
}
