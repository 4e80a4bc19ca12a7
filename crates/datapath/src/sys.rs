//! The bpf(2) system call, as far as pins, map entries and tcx links need it. Loading is aya's.
//!
//! Each command takes a prefix of the kernel's `union bpf_attr`; the structures below are those prefixes. The kernel
//! takes any length and treats the rest as zero.
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const MAP_LOOKUP: u32 = 1;
const MAP_UPDATE: u32 = 2;
const MAP_DELETE: u32 = 3;
const MAP_NEXT_KEY: u32 = 4;
const OBJECT_PIN: u32 = 6;
const OBJECT_GET: u32 = 7;
const OBJECT_INFO: u32 = 15;
const LINK_CREATE: u32 = 28;
const LINK_UPDATE: u32 = 29;
const LINK_DETACH: u32 = 34;

/// Attach types of tcx.
pub const TCX_INGRESS: u32 = 46;
/// See [`TCX_INGRESS`].
pub const TCX_EGRESS: u32 = 47;

#[repr(C)]
#[derive(Default)]
struct Object {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    revision: u64,
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old: u32,
}

#[repr(C)]
#[derive(Default)]
struct Info {
    fd: u32,
    length: u32,
    info: u64,
}

/// The head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MapInfo {
    /// BPF_MAP_TYPE_*.
    pub map_type: u32,
    /// The kernel's number for the map.
    pub id: u32,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
}

fn call<T>(command: u32, attribute: &mut T) -> io::Result<i64> {
    // SAFETY: `attribute` is one of the structures above, valid for reads and writes of its size; the addresses in it
    // were made from references that live until this returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attribute),
            size_of::<T>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn owned(fd: i64) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(fd).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Give an object a name in a BPF filesystem, which keeps it alive.
pub fn pin(fd: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attribute = Object {
        path: path.as_ptr() as u64,
        fd: number(fd),
        flags: 0,
    };
    call(OBJECT_PIN, &mut attribute).map(drop)
}

/// Open a pinned object.
pub fn get(path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let mut attribute = Object {
        path: path.as_ptr() as u64,
        ..Object::default()
    };
    call(OBJECT_GET, &mut attribute).and_then(owned)
}

/// Attach a program to an interface; the attachment lives as long as the descriptor or its pin.
pub fn link_create(program: BorrowedFd<'_>, ifindex: u32, attach_type: u32) -> io::Result<OwnedFd> {
    let mut attribute = LinkCreate {
        program: number(program),
        ifindex,
        attach_type,
        ..LinkCreate::default()
    };
    call(LINK_CREATE, &mut attribute).and_then(owned)
}

/// Replace a link's program; every packet is seen by one of the two. ENOLINK: the interface is gone.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attribute = LinkUpdate {
        link: number(link),
        program: number(program),
        ..LinkUpdate::default()
    };
    call(LINK_UPDATE, &mut attribute).map(drop)
}

/// Detach a link now: it would be done some time after its last descriptor and pin are gone, and until then the same
/// program cannot be attached again.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    call(LINK_DETACH, &mut number(link)).map(drop)
}

/// What the kernel knows of a map.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    let length = u32::try_from(size_of::<MapInfo>()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut attribute = Info {
        fd: number(map),
        length,
        info: std::ptr::from_mut(&mut info) as u64,
    };
    call(OBJECT_INFO, &mut attribute)?;
    Ok(info)
}

/// A map, and the sizes that the kernel will read and write: every access is checked against them.
#[derive(Debug)]
pub struct RawMap {
    fd: OwnedFd,
    /// What the kernel said when it was opened.
    pub info: MapInfo,
    value_bytes: usize,
}

impl RawMap {
    /// Take a map. `values` is the number of values in an entry: CPUs for per-CPU maps, else 1.
    pub fn new(fd: OwnedFd, values: usize) -> io::Result<Self> {
        let info = map_info(fd.as_fd())?;
        let size = info.value_size as usize;
        let value_bytes = if values == 1 {
            size
        } else {
            size.next_multiple_of(8) * values
        };
        Ok(Self {
            fd,
            info,
            value_bytes,
        })
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Bytes of an entry's value, all CPUs included.
    pub fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    fn check(&self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        let fits = key.len() == self.info.key_size as usize
            && value.is_none_or(|v| v.len() == self.value_bytes);
        if fits {
            Ok(())
        } else {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    fn element(&self, key: &[u8]) -> Element {
        Element {
            map: number(self.fd()),
            key: key.as_ptr() as u64,
            ..Element::default()
        }
    }

    /// Read an entry into `value`; false: there is none.
    pub fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        self.check(key, Some(value))?;
        let mut attribute = Element {
            value: value.as_mut_ptr() as u64,
            ..self.element(key)
        };
        found(call(MAP_LOOKUP, &mut attribute))
    }

    /// Write an entry: a reader sees the old value or the new one.
    pub fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.check(key, Some(value))?;
        let mut attribute = Element {
            value: value.as_ptr() as u64,
            ..self.element(key)
        };
        call(MAP_UPDATE, &mut attribute).map(drop)
    }

    /// Remove an entry; false: there was none.
    pub fn delete(&self, key: &[u8]) -> io::Result<bool> {
        self.check(key, None)?;
        found(call(MAP_DELETE, &mut self.element(key)))
    }

    /// The key after `key` (or the first) into `next`; false: no more.
    pub fn next_key(&self, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
        self.check(next, None)?;
        key.map_or(Ok(()), |key| self.check(key, None))?;
        let key = key.map_or(0, |key| key.as_ptr() as u64);
        let mut attribute = Element {
            map: number(self.fd()),
            key,
            value: next.as_mut_ptr() as u64,
            ..Element::default()
        };
        found(call(MAP_NEXT_KEY, &mut attribute))
    }
}

fn found(result: io::Result<i64>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
