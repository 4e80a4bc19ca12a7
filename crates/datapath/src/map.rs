//! Maps with types: keys and values are the structures of `malha_abi`, bytes for the kernel.
use std::collections::BTreeMap;
use std::io;
use std::marker::PhantomData;
use std::path::Path;

use malha_abi::{
    Address, ConfigValue, ConnectionValue, Counter, DropEvent, EndpointValue, FlowKey, FlowValue,
    IdentityKey, IdentityValue, PeerKey, PolicyValue, PortKey, PrefixKey, RouteValue, VerdictValue,
};

use crate::error::{Error, Result};
use crate::sys::{self, RawMap};

/// A type that is its bytes.
///
/// # Safety
/// No padding, no pointers, and every pattern of bytes is a value.
pub unsafe trait Plain: Copy + Default {}

macro_rules! plain {
    ($($type:ty),+) => { $(
        // SAFETY: integers and arrays of integers in repr(C); that there is no padding is tested in malha-abi.
        unsafe impl Plain for $type {}
    )+ };
}
plain!(
    u32,
    Address,
    ConfigValue,
    ConnectionValue,
    Counter,
    DropEvent,
    EndpointValue,
    FlowKey,
    FlowValue,
    IdentityKey,
    IdentityValue,
    PeerKey,
    PolicyValue,
    PortKey,
    PrefixKey,
    RouteValue,
    VerdictValue
);

/// The bytes of a value.
pub fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: T is Plain: all its bytes are initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

/// The value that these bytes are; None if there are too few.
pub fn value_of<T: Plain>(bytes: &[u8]) -> Option<T> {
    let bytes = bytes.get(..size_of::<T>())?;
    // SAFETY: there are enough bytes, any of them make a T, and the read does not need alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// A pinned map.
#[derive(Debug)]
pub struct Map<K, V> {
    name: &'static str,
    raw: RawMap,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// Open the map `name` in `directory`; `cpus` is the number of possible CPUs for a per-CPU map, else 1.
    pub fn open(directory: &Path, name: &'static str, cpus: usize) -> Result<Self> {
        let failed = |source| Error::Map {
            what: "open",
            map: name,
            source,
        };
        let raw = sys::get(&directory.join(name))
            .and_then(|fd| RawMap::new(fd, cpus))
            .map_err(failed)?;
        let (key, value) = (raw.info.key_size as usize, raw.info.value_size as usize);
        if (key, value) != (size_of::<K>(), size_of::<V>()) {
            return Err(Error::Layout {
                path: directory.to_owned(),
                found: 0,
                wanted: malha_abi::ABI_VERSION,
            });
        }
        Ok(Self {
            name,
            raw,
            types: PhantomData,
        })
    }

    /// Capacity.
    pub fn max_entries(&self) -> u32 {
        self.raw.info.max_entries
    }

    /// The first value of an entry.
    pub fn get(&self, key: &K) -> Result<Option<V>> {
        Ok(self
            .get_all(key)?
            .and_then(|values| values.into_iter().next()))
    }

    /// All values of an entry, one for each CPU.
    pub fn get_all(&self, key: &K) -> Result<Option<Vec<V>>> {
        let mut bytes = vec![0; self.raw.value_bytes()];
        let found = self
            .raw
            .lookup(bytes_of(key), &mut bytes)
            .map_err(|error| self.failed("read", error))?;
        let stride = if bytes.len() == size_of::<V>() {
            size_of::<V>()
        } else {
            size_of::<V>().next_multiple_of(8)
        };
        Ok(found.then(|| bytes.chunks(stride).filter_map(value_of).collect()))
    }

    /// Write an entry.
    pub fn set(&self, key: &K, value: &V) -> Result<()> {
        self.raw
            .update(bytes_of(key), bytes_of(value))
            .map_err(|error| match error.raw_os_error() {
                Some(libc::E2BIG | libc::ENOSPC) => Error::Full {
                    map: self.name,
                    max: self.max_entries(),
                },
                _ => self.failed("write", error),
            })
    }

    /// Remove an entry; whether there was one.
    pub fn remove(&self, key: &K) -> Result<bool> {
        self.raw
            .delete(bytes_of(key))
            .map_err(|error| self.failed("delete from", error))
    }

    /// Everything in the map. What changes meanwhile may or may not be seen.
    pub fn entries(&self) -> Result<Vec<(K, V)>> {
        let mut entries = BTreeMap::new();
        let mut previous: Option<Vec<u8>> = None;
        let mut next = vec![0; size_of::<K>()];
        // When the previous key is deleted under us, the kernel starts again from the first: stop at a bound.
        for _ in 0..=2 * self.max_entries() {
            let more = self
                .raw
                .next_key(previous.as_deref(), &mut next)
                .map_err(|error| self.failed("list", error))?;
            if !more {
                break;
            }
            if let Some(key) = value_of::<K>(&next)
                && let Some(value) = self.get(&key)?
            {
                entries.insert(next.clone(), (key, value));
            }
            previous = Some(next.clone());
        }
        Ok(entries.into_values().collect())
    }

    fn failed(&self, what: &'static str, source: io::Error) -> Error {
        Error::Map {
            what,
            map: self.name,
            source,
        }
    }
}
