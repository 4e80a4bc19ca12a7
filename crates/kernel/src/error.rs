//! What can go wrong, said so that the reader knows what to do.
use std::io;
use std::path::PathBuf;

/// An error at the kernel's edge.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a request.
    #[error("cannot {what}: {source}{}", .detail.as_deref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Netlink {
        /// What was attempted.
        what: String,
        /// The kernel's answer.
        source: io::Error,
        /// The kernel's own words, where it has any.
        detail: Option<String>,
    },
    /// The process lacks the privilege.
    #[error("cannot {what}: not permitted; this needs root, or CAP_NET_ADMIN and CAP_SYS_ADMIN")]
    Privilege {
        /// What was attempted.
        what: String,
    },
    /// A file of the kernel could not be read or written.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// What was attempted.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A path does not name a network namespace.
    #[error(
        "{path} is not a network namespace: give a path such as /run/netns/NAME or /proc/PID/ns/net"
    )]
    NotANetNs {
        /// What was given.
        path: PathBuf,
    },
    /// There is no such link.
    #[error("there is no link {name} in this network namespace")]
    NoLink {
        /// Name or index.
        name: String,
    },
    /// nftables refused.
    #[error(
        "cannot {what} with nftables: {source}; the kernel needs CONFIG_NF_TABLES, NFT_NAT and NFT_MASQ"
    )]
    Nftables {
        /// What was attempted.
        what: &'static str,
        /// Its answer.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Result at the kernel's edge.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The error number behind it, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Netlink { source, .. } | Self::File { source, .. } => source.raw_os_error(),
            Self::Privilege { .. } => Some(libc::EPERM),
            Self::NoLink { .. } => Some(libc::ENODEV),
            Self::NotANetNs { .. } | Self::Nftables { .. } => None,
        }
    }

    pub(crate) fn netlink(
        what: impl Into<String>,
        source: io::Error,
        detail: Option<String>,
    ) -> Self {
        let what = what.into();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Privilege { what },
            _ => Self::Netlink {
                what,
                source,
                detail,
            },
        }
    }

    pub(crate) fn file(what: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::Privilege {
                what: format!("{what} {}", path.display()),
            },
            _ => Self::File { what, path, source },
        }
    }
}
