//! How fast ADD and DEL are, beside a bare netlink loop that makes the same links, addresses and routes and nothing else.
//! Needs root; leaves nothing.
//!
//! `cargo run --release -p malha-endpoint --example pace [PODS] [THREADS]`
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use malha_datapath::Datapath;
use malha_endpoint::{AddRequest, Config, GATEWAY_V4, GATEWAY_V6, Key, Manager};
use malha_kernel::{Batch, Handle, Neighbour, NetNs, Route, Veth};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let pods = arguments.next().unwrap_or(Ok(200))?;
    let threads = arguments.next().unwrap_or(Ok(1))?;
    let node = NetNs::create()?;
    println!("{pods} pods, {threads} at a time; medians and 99th percentiles in µs");
    node.run(|| -> Result<(), Failure> {
        bare(pods, threads)?;
        managed(pods, threads)
    })??;
    Ok(())
}

fn bare(pods: usize, threads: usize) -> Result<(), Failure> {
    let node = Handle::new()?;
    let namespaces = namespaces(pods)?;
    let add = |number: usize| -> Result<(), Failure> {
        let handle = Handle::new()?;
        let name = format!("bare{number}");
        let pod = &namespaces[number];
        let mac = [2, 0, 0, 0, (number >> 8) as u8, number as u8];
        let link = handle.add_veth(&Veth {
            name: &name,
            mac,
            peer_netns: pod,
            peer_name: "eth0",
            peer_mac: mac,
            mtu: 1430,
        })?;
        let addresses: [IpAddr; 2] = [
            IpAddr::from([10, 9, (number >> 8) as u8, number as u8]),
            IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 9, number as u16]),
        ];
        let gateways: [IpAddr; 2] = [GATEWAY_V4.into(), GATEWAY_V6.into()];
        let host = addresses
            .iter()
            .fold(Batch::new().set_up(link.index), |batch, address| {
                batch
                    .replace_route(&Route::through((*address).into(), link.index))
                    .replace_neighbour(&Neighbour {
                        device: link.index,
                        address: *address,
                        mac,
                    })
            });
        handle.commit(host)?;
        let index = link.peer.unwrap_or(2);
        let inside = addresses.iter().zip(gateways).fold(
            Batch::new().set_up(index),
            |batch, (address, gateway)| {
                let everything = if address.is_ipv4() {
                    "0.0.0.0/0"
                } else {
                    "::/0"
                };
                let prefix = everything.parse().unwrap_or_else(|_| (*address).into());
                batch
                    .add_address(index, (*address).into())
                    .replace_neighbour(&Neighbour {
                        device: index,
                        address: gateway,
                        mac,
                    })
                    .replace_route(&Route {
                        gateway: Some(gateway),
                        onlink: true,
                        ..Route::through(prefix, index)
                    })
            },
        );
        pod.run(|| Handle::new()?.commit(inside))??;
        Ok(())
    };
    report("bare loop", time(pods, threads, &add)?);
    let indexes: Vec<u32> = node
        .links()?
        .iter()
        .filter(|link| link.name.starts_with("bare"))
        .map(|link| link.index)
        .collect();
    node.delete_links(&indexes)?;
    Ok(())
}

fn managed(pods: usize, threads: usize) -> Result<(), Failure> {
    let context = fsopen(c"bpf", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let mount = fsmount(
        &context,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )?;
    let pins = PathBuf::from(format!("/proc/self/fd/{}/malha", mount.as_raw_fd()));
    let datapath = Datapath::open(&malha_datapath::Config {
        pins,
        ..malha_datapath::Config::default()
    })?;
    let directory = tempfile::Builder::new().tempdir_in("/run")?;
    let config = Config {
        prefixes: vec!["10.244.0.0/20".parse()?, "fd00:244::/64".parse()?],
        mtu: 1430,
        ..Config::new(directory.path(), "this")
    };
    let manager = Manager::open(config, Arc::new(datapath))?;
    let namespaces = namespaces(pods)?;
    let key = |number: usize| Key::new(format!("container-{number}"), "eth0");
    let add = |number: usize| -> Result<(), Failure> {
        let request = AddRequest {
            key: key(number),
            netns: &namespaces[number],
            sandbox: String::new(),
            pod: None,
            ports: Vec::new(),
        };
        manager.add(&request)?;
        Ok(())
    };
    report("ADD", time(pods, threads, &add)?);
    report(
        "DEL",
        time(pods, threads, &|number| Ok(manager.del(&key(number))?))?,
    );
    let start = Instant::now();
    manager.flush()?;
    println!(
        "{:10} {:>8} µs for all",
        "reaped",
        start.elapsed().as_micros()
    );
    Ok(())
}

fn namespaces(count: usize) -> Result<Vec<NetNs>, Failure> {
    Ok((0..count)
        .map(|_| NetNs::create())
        .collect::<Result<_, _>>()?)
}

/// What each call took, sorted.
fn time(
    count: usize,
    threads: usize,
    act: &(dyn Fn(usize) -> Result<(), Failure> + Sync),
) -> Result<Vec<Duration>, Failure> {
    let parts: Vec<Result<Vec<Duration>, Failure>> = std::thread::scope(|scope| {
        let spawn = |thread| {
            scope.spawn(move || {
                let timed = |number| {
                    let start = Instant::now();
                    act(number).map(|()| start.elapsed())
                };
                (thread..count).step_by(threads).map(timed).collect()
            })
        };
        let all: Vec<_> = (0..threads).map(spawn).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err("panicked".into()))
        };
        all.into_iter().map(join).collect()
    });
    let mut times: Vec<Duration> = parts.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    times.sort();
    Ok(times)
}

fn report(name: &str, times: Vec<Duration>) {
    let at = |per_mille: usize| {
        times
            .get(times.len() * per_mille / 1000)
            .map_or(0, |time| time.as_micros())
    };
    println!("{name:10} {:>8} {:>8}", at(500), at(990));
}
