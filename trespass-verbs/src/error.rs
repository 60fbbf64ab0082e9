//! What can go wrong on verbs, and what to do about it.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use sideway::ibverbs::{completion, device, device_context, memory_region};
use thiserror::Error;
use trespass_core::{ErrorKind, TransportError};

/// An error of the verbs fabric. [`kind`](TransportError::kind) is the portable part.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum VerbsError {
    /// There is no RDMA here.
    #[error("RDMA is not available here: {why}")]
    Unavailable {
        /// What is missing, and what mends it.
        why: String,
    },
    /// A setting cannot be.
    #[error("bad configuration: {setting} {why}")]
    Config {
        /// Which setting.
        setting: &'static str,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// The peer refused, or nobody listens there.
    #[error("{peer} refused the connection: nobody listens there, or the listener said no")]
    Refused {
        /// Who.
        peer: SocketAddr,
    },
    /// The listener has too much to do.
    #[error(
        "{peer} had too many connection requests waiting, until no time was left to try again (raise backlog there, or handshake_timeout here)"
    )]
    Busy {
        /// Who.
        peer: SocketAddr,
    },
    /// The address to listen at is taken.
    #[error("somebody listens at {addr} already")]
    AddrInUse {
        /// Where.
        addr: SocketAddr,
    },
    /// No way to that address from this fabric's device.
    #[error("{peer} cannot be reached: {why}")]
    Unreachable {
        /// Who.
        peer: SocketAddr,
        /// Why not.
        why: String,
    },
    /// A deadline passed.
    #[error("{what} took longer than {limit:?}")]
    TimedOut {
        /// What did not end in time.
        what: &'static str,
        /// The deadline, from the configuration.
        limit: Duration,
    },
    /// The peer, or the way to it, is gone.
    #[error("the peer is gone: {status} (status {code}, vendor error {vendor:#x}): {hint}")]
    Disconnected {
        /// The status of the first completion that failed.
        status: &'static str,
        /// The same as a number (`enum ibv_wc_status`).
        code: u32,
        /// The vendor's own code for it.
        vendor: u32,
        /// What usually causes it.
        hint: &'static str,
    },
    /// The link of the track was down when it failed, or had been shortly before.
    #[error("port {port} of {device} went down at {}, {before:.1?} before this: {cause}", utc(*at))]
    LinkDown {
        /// The device.
        device: String,
        /// Its port.
        port: u8,
        /// When the port went down, by the clock of the system.
        at: SystemTime,
        /// How long before the failure that was.
        before: Duration,
        /// How the track failed.
        cause: Box<VerbsError>,
    },
    /// The peer could not take a message.
    #[error("the peer broke the connection: {status} (status {code}, vendor error {vendor:#x}): {hint}")]
    PeerFailed {
        /// The status of the first completion that failed.
        status: &'static str,
        /// The same as a number (`enum ibv_wc_status`).
        code: u32,
        /// The vendor's own code for it.
        vendor: u32,
        /// What usually causes it.
        hint: &'static str,
    },
    /// A work request failed here.
    #[error("a work request failed: {status} (status {code}, vendor error {vendor:#x}): {hint}")]
    WorkRequest {
        /// The status of the first completion that failed.
        status: &'static str,
        /// The same as a number (`enum ibv_wc_status`).
        code: u32,
        /// The vendor's own code for it.
        vendor: u32,
        /// What usually causes it.
        hint: &'static str,
    },
    /// The peer's device refused an access to its memory.
    #[error("the peer refused access to its memory: {status} (status {code}, vendor error {vendor:#x}): {hint}")]
    RemoteAccess {
        /// The status of the first completion that failed.
        status: &'static str,
        /// The same as a number (`enum ibv_wc_status`).
        code: u32,
        /// The vendor's own code for it.
        vendor: u32,
        /// What usually causes it.
        hint: &'static str,
    },
    /// A write, or an atomic operation, in a window that allows none.
    #[error("the peer's window is read-only; ask it for one that can be written (`Access::ReadWrite`)")]
    ReadOnly,
    /// A part of registered memory that does not lie inside it.
    #[error("{len} bytes from {offset} do not fit into {size}")]
    OutOfRange {
        /// Where it would begin.
        offset: usize,
        /// How long it would be.
        len: usize,
        /// How much there is, or what an operation can move at most.
        size: usize,
    },
    /// A message longer than the track takes.
    #[error("a message of {len} bytes, and the track takes {max} (raise max_message)")]
    Oversize {
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// A buffer that another track gave out.
    #[error("the buffer belongs to another track; reserve it from the track that sends it")]
    ForeignBuffer,
    /// The peer answered, and not as a program of this library and version does.
    #[error("{peer} does not speak as expected: {why}")]
    Protocol {
        /// Who.
        peer: SocketAddr,
        /// What it said.
        why: &'static str,
    },
    /// Something finite has run out.
    #[error("cannot {action}: {why}")]
    ResourceLimit {
        /// What was to be done.
        action: &'static str,
        /// What ran out, and how to get more.
        why: String,
    },
    /// A call to the device or its driver failed.
    #[error("cannot {action}: {why}")]
    Device {
        /// What was to be done.
        action: &'static str,
        /// What the system said.
        why: String,
    },
    /// This end is closed, or the track has ended.
    #[error("closed")]
    Closed,
}

impl TransportError for VerbsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Config { .. } => ErrorKind::Config,
            Self::Refused { .. } => ErrorKind::Refused,
            Self::Busy { .. } | Self::AddrInUse { .. } => ErrorKind::Busy,
            Self::Unreachable { .. } => ErrorKind::Unreachable,
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::Disconnected { .. } => ErrorKind::Disconnected,
            Self::LinkDown { cause, .. } => cause.kind(),
            Self::PeerFailed { .. } | Self::WorkRequest { .. } | Self::Device { .. } => ErrorKind::Device,
            Self::RemoteAccess { .. } | Self::ReadOnly => ErrorKind::RemoteAccess,
            Self::Oversize { .. } | Self::OutOfRange { .. } => ErrorKind::Oversize,
            Self::ForeignBuffer => ErrorKind::ForeignBuffer,
            Self::Protocol { .. } => ErrorKind::Protocol,
            Self::ResourceLimit { .. } => ErrorKind::ResourceLimit,
            Self::Closed => ErrorKind::Closed,
        }
    }
}

impl VerbsError {
    /// Whether the peer's device said so: then there is a way to it.
    pub(crate) fn is_an_answer(&self) -> bool {
        matches!(self, Self::RemoteAccess { .. } | Self::PeerFailed { .. })
    }

    /// Whether a link that is down may be the cause.
    pub(crate) fn may_be_the_link(&self) -> bool {
        matches!(self, Self::Disconnected { .. } | Self::WorkRequest { .. } | Self::Device { .. })
    }

    /// A failed call, by its errno.
    pub(crate) fn os(action: &'static str, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOMEM | libc::EAGAIN) => Self::ResourceLimit {
                action,
                why: format!("{error}: too little memory may be locked (raise it with `ulimit -l unlimited` or LimitMEMLOCK=), or the device has no more of it"),
            },
            Some(libc::EMFILE | libc::ENFILE) => {
                Self::ResourceLimit { action, why: format!("{error}: raise it with `ulimit -n`") }
            }
            Some(libc::ENOSPC | libc::EDQUOT) => Self::ResourceLimit { action, why: error.to_string() },
            Some(libc::ENOSYS) => Self::Unavailable {
                why: "the kernel modules are missing: `modprobe -a ib_uverbs rdma_ucm`, and that of the device".into(),
            },
            Some(libc::EOPNOTSUPP) => Self::Unavailable {
                why: "libibverbs or librdmacm is missing, or the provider of the device: install libibverbs1, librdmacm1 and ibverbs-providers".into(),
            },
            Some(libc::ENODEV) => Self::Unavailable {
                why: "there is no RDMA device, or no connection manager: `modprobe rdma_ucm`, and see `rdma link`".into(),
            },
            Some(libc::EACCES | libc::EPERM) => Self::Unavailable {
                why: format!("{error}: no access to /dev/infiniband; add the user to its group, or set the mode to 0666"),
            },
            _ => Self::Device { action, why: error.to_string() },
        }
    }

    /// A failure of sideway, by the errno inside.
    pub(crate) fn sideway(action: &'static str, error: impl OsCause) -> Self {
        match error.os_cause() {
            Ok(os) => Self::os(action, &os),
            Err(why) => Self::Device { action, why },
        }
    }
}

/// The time of day.
fn utc(at: SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() % 86_400;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{:03} UTC", since.subsec_millis())
}

/// sideway's errors forward to the system's error inside without naming it as their source, so each is opened by type.
pub(crate) trait OsCause {
    /// The system's error inside, or what else it is.
    fn os_cause(self) -> Result<io::Error, String>;
}

macro_rules! os_cause {
    ($($error:path: $kind:path),* $(,)?) => {$(
        impl OsCause for $error {
            fn os_cause(self) -> Result<io::Error, String> {
                use $kind as Kind;
                match self.0 {
                    Kind::Ibverbs(os) => Ok(os),
                    #[allow(unreachable_patterns)]
                    other => Err(other.to_string()),
                }
            }
        }
    )*};
}

os_cause! {
    completion::CreateCompletionChannelError: completion::CreateCompletionChannelErrorKind,
    completion::CreateCompletionQueueError: completion::CreateCompletionQueueErrorKind,
    device::GetDeviceListError: device::GetDeviceListErrorKind,
    device::OpenDeviceError: device::OpenDeviceErrorKind,
    device_context::AllocateProtectionDomainError: device_context::AllocateProtectionDomainErrorKind,
    device_context::QueryDeviceError: device_context::QueryDeviceErrorKind,
    memory_region::RegisterMemoryRegionError: memory_region::RegisterMemoryRegionErrorKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_went_down_is_told_before_what_came_of_it() {
        let cause =
            VerbsError::Disconnected { status: "transport retries exceeded", code: 12, vendor: 0, hint: "look there" };
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(86_400_000 * 3 + 3_723_004);
        let (device, before) = ("rxe0".to_owned(), Duration::from_millis(1900));
        let error = VerbsError::LinkDown { device, port: 1, at, before, cause: Box::new(cause) };
        assert_eq!(error.kind(), ErrorKind::Disconnected);
        assert_eq!(
            error.to_string(),
            "port 1 of rxe0 went down at 01:02:03.004 UTC, 1.9s before this: the peer is gone: transport retries exceeded \
             (status 12, vendor error 0x0): look there"
        );
        assert!(!VerbsError::Closed.may_be_the_link());
    }
}
