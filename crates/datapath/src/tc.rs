//! Classifier filters by rtnetlink, three requests in one message: the qdisc, the ingress filter, the egress filter.
//!
//! Why pods' links have filters although the kernel has tcx: attaching a tcx link waits for an RCU grace period while
//! it holds the lock of all links (8 to 16 ms each on Linux 6.18), a filter takes 0.05 ms. A filter also outlives the
//! agent without a pin, goes away with its link, and is replaced in place just as atomically.
//!
//! Each hook has its own handle, so that ours are told from anyone else's without a record of what was attached.
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::hooks::{Direction, Hook};

const PRIORITY: u32 = 0x4d41;
const HANDLE: u32 = 0x6d6c_0000;
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;

const NEW_QDISC: u16 = 36;
const DELETE_QDISC: u16 = 37;
const NEW_FILTER: u16 = 44;
const DELETE_FILTER: u16 = 45;
const GET_FILTER: u16 = 46;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const DUMP: u16 = 0x300;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const DIRECT_ACTION: u32 = 1;

const QDISC_SEQUENCE: u32 = 1;

/// Whose filters there are at a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Ours.
    pub ours: bool,
    /// Anyone else's.
    pub others: bool,
}

/// What to do at one hook of one link.
#[derive(Clone, Copy)]
pub enum Change<'a> {
    /// Attach or replace.
    Set(BorrowedFd<'a>),
    /// Replace if attached.
    Replace(BorrowedFd<'a>),
    /// Detach.
    Remove,
}

/// Apply the changes to link `ifindex` of the current network namespace. Where there is nothing to replace or to
/// remove, that is no error.
pub fn apply(ifindex: u32, changes: &[(Hook, Change<'_>)]) -> io::Result<()> {
    let sets = changes
        .iter()
        .any(|(_, change)| matches!(change, Change::Set(_)));
    let mut message = Vec::with_capacity(512);
    let mut requests = 0;
    if sets {
        requests += 1;
        qdisc(&mut message, ifindex);
    }
    for (hook, change) in changes {
        requests += 1;
        filter(&mut message, ifindex, (*hook, *change), requests + 1);
    }
    let socket = socket()?;
    send(&socket, &message)?;
    // Without a qdisc the kernel says EINVAL, with one but no filter ENOENT.
    let absent: &[i32] = if sets {
        &[]
    } else {
        &[libc::ENOENT, libc::EINVAL, libc::ENODEV]
    };
    acknowledge(&socket, requests, absent)
}

/// Whose filters there are at link `ifindex` of the current network namespace.
pub fn look(ifindex: u32) -> io::Result<Found> {
    let mut found = Found::default();
    for parent in [INGRESS, EGRESS] {
        let mut message = Vec::with_capacity(64);
        request(&mut message, (GET_FILTER, DUMP, 0), |out| {
            traffic_header(out, ifindex, 0, [parent, 0]);
        });
        let socket = socket()?;
        send(&socket, &message)?;
        read_filters(&socket, &mut found)?;
    }
    Ok(found)
}

/// Remove the qdisc that filters hang at, and with it any that there are.
pub fn remove_qdisc(ifindex: u32) -> io::Result<()> {
    let mut message = Vec::with_capacity(64);
    request(&mut message, (DELETE_QDISC, 0, 0), |out| {
        traffic_header(out, ifindex, CLSACT_HANDLE, [CLSACT, 0]);
    });
    let socket = socket()?;
    send(&socket, &message)?;
    acknowledge(&socket, 1, &[libc::ENOENT, libc::EINVAL, libc::ENODEV])
}

fn qdisc(out: &mut Vec<u8>, ifindex: u32) {
    // With EXCL an existing one is EEXIST, which counts as done; without, it would be an attempt to change it.
    request(
        out,
        (NEW_QDISC, CREATE | EXCLUSIVE, QDISC_SEQUENCE),
        |out| {
            traffic_header(out, ifindex, CLSACT_HANDLE, [CLSACT, 0]);
            attribute(out, TCA_KIND, b"clsact\0");
        },
    );
}

fn filter(out: &mut Vec<u8>, ifindex: u32, (hook, change): (Hook, Change<'_>), sequence: u32) {
    let parent = match hook.direction() {
        Direction::Ingress => INGRESS,
        Direction::Egress => EGRESS,
    };
    let info = PRIORITY << 16 | u32::from((libc::ETH_P_ALL as u16).to_be());
    let (kind, flags, program) = match change {
        Change::Set(program) => (NEW_FILTER, CREATE, Some(program)),
        Change::Replace(program) => (NEW_FILTER, 0, Some(program)),
        Change::Remove => (DELETE_FILTER, 0, None),
    };
    request(out, (kind, flags, sequence), |out| {
        traffic_header(out, ifindex, HANDLE + hook.number(), [parent, info]);
        attribute(out, TCA_KIND, b"bpf\0");
        if let Some(program) = program {
            let mut options = Vec::with_capacity(64);
            attribute(&mut options, TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
            attribute(
                &mut options,
                TCA_BPF_NAME,
                format!("malha/{}\0", hook.name()).as_bytes(),
            );
            attribute(&mut options, TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
            attribute(out, TCA_OPTIONS, &options);
        }
    });
}

/// `struct nlmsghdr`, then what `body` writes.
fn request(
    out: &mut Vec<u8>,
    (kind, flags, sequence): (u16, u16, u32),
    body: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend(0u32.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend((REQUEST | ACK | flags).to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend(0u32.to_ne_bytes());
    body(out);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_ne_bytes());
}

/// `struct tcmsg`.
fn traffic_header(out: &mut Vec<u8>, ifindex: u32, handle: u32, [parent, info]: [u32; 2]) {
    for word in [0, ifindex, handle, parent, info] {
        out.extend(word.to_ne_bytes());
    }
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend((value.len() as u16 + 4).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn socket() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed; a non-negative result is a descriptor that only we own.
    unsafe {
        let fd = libc::socket(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_ROUTE,
        );
        if fd < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(fd))
        }
    }
}

fn send(socket: &OwnedFd, message: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and length are those of a live slice.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            message.as_ptr().cast(),
            message.len(),
            0,
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Read the answers. The kernel works a message off before send() returns, so they are all there.
fn acknowledge(socket: &OwnedFd, requests: u32, absent: &[i32]) -> io::Result<()> {
    let mut buffer = [0u8; 8192];
    let mut answered = 0;
    while answered < requests {
        let length = receive(socket, &mut buffer)?;
        let mut rest = &buffer[..length];
        while let Some((sequence, code, next)) = answer(rest) {
            rest = next;
            answered += 1;
            let there_already = code == libc::EEXIST && sequence == QDISC_SEQUENCE;
            if code != 0 && !there_already && !absent.contains(&code) {
                return Err(io::Error::from_raw_os_error(code));
            }
        }
    }
    Ok(())
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of a live buffer.
    let length = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
        )
    };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

/// Read the answers to a dump to their end.
fn read_filters(socket: &OwnedFd, found: &mut Found) -> io::Result<()> {
    // The kernel never makes a larger message than this for a dump.
    let mut buffer = [0u8; 32768];
    loop {
        let length = receive(socket, &mut buffer)?;
        let mut rest = &buffer[..length];
        while let (Some(length), Some(kind)) = (word(rest, 0), rest.get(4..6)) {
            match u16::from_ne_bytes([kind[0], kind[1]]) {
                DONE => return Ok(()),
                ERROR => {
                    let code = -word(rest, 16).unwrap_or_default().cast_signed();
                    let gone = code == libc::ENODEV;
                    return if gone {
                        Ok(())
                    } else {
                        Err(io::Error::from_raw_os_error(code))
                    };
                }
                NEW_FILTER => note(rest, found),
                _ => {}
            }
            let next = (length as usize).max(16).next_multiple_of(4);
            rest = rest.get(next..).unwrap_or(&[]);
        }
    }
}

/// Each priority is told of once without a handle, and then with each filter's.
fn note(message: &[u8], found: &mut Found) {
    let (Some(handle), Some(info)) = (word(message, 24), word(message, 32)) else {
        return;
    };
    if info >> 16 != PRIORITY {
        found.others = true;
    } else if handle & 0xffff_0000 == HANDLE {
        found.ours = true;
    } else if handle != 0 {
        found.others = true;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(word))
}

/// Sequence number and error (0: none) of the first NLMSG_ERROR, and what follows it.
fn answer(bytes: &[u8]) -> Option<(u32, i32, &[u8])> {
    let length = word(bytes, 0)? as usize;
    let code = word(bytes, 16)?.cast_signed();
    Some((
        word(bytes, 8)?,
        -code,
        bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]),
    ))
}
