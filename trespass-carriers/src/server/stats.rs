//! What a server has done so far.

use trespass_core::ErrorKind;

/// Counts of a [`Server`](crate::Server), at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Peers that are there.
    pub peers: usize,
    /// Handshakes under way.
    pub handshakes: usize,
    /// How many bytes both together may take.
    pub memory: usize,
    /// Peers that were let in and handed out, since the start.
    pub accepted: u64,
    /// Handshakes that failed.
    pub failed: u64,
    /// Requests that were turned away, since there was no room.
    pub turned_away: u64,
    pub(super) by_kind: [u64; ErrorKind::ALL.len()],
}

impl ServerStats {
    /// How many handshakes failed with this kind.
    pub fn failed_with(&self, kind: ErrorKind) -> u64 {
        self.by_kind.get(kind as usize).copied().unwrap_or(0)
    }

    pub(super) fn count_failure(&mut self, kind: ErrorKind) {
        self.failed += 1;
        if let Some(count) = self.by_kind.get_mut(kind as usize) {
            *count += 1;
        }
    }
}
