//! What is counted: everything that costs on a device.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a track, or all tracks of a fabric together, have done so far.
///
/// Numbers from another thread may be a little behind; each is exact once that thread's work happened before.
///
/// ```
/// use trespass_mock::MockFabric;
///
/// let before = MockFabric::new().counters();
/// assert_eq!(before.doorbells, 0);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MockCounters {
    /// Lists of work requests given to the device: one for each flush that had something to send.
    pub doorbells: u64,
    /// Requests to be notified: one for each `poll_send_ready`, `poll_recv_ready` or `poll_close` of a track that was
    /// about to wait. `try_` calls make none.
    pub arms: u64,
    /// Messages given to the device, gathered ones not among them.
    pub sends: u64,
    /// Messages taken by the receiver.
    pub receives: u64,
    /// Batches of receives posted again; how many receives that were, `posted` of the track says.
    pub reposts: u64,
    /// Copies by the "device", from the memory of one end to that of the other: one for each message, gathered or not, read
    /// and write. Counted where it was queued.
    pub dma_copies: u64,
    /// Bytes in those copies.
    pub dma_bytes: u64,
    /// Copies by the CPU between a user's buffer and the device: none, on a track of this fabric.
    pub cpu_copies: u64,
    /// One-sided operations given to the device.
    pub operations: u64,
    /// Accesses of the peer that this end's memory refused: at most one for a track, which ends with it.
    pub refusals: u64,
    /// Messages that met a receiver that was not ready: each one once, however long it waited. Counted where it was sent.
    pub rnr_stalls: u64,
    /// Datagrams that arrived here and met no receive. Reliable tracks drop nothing.
    pub dropped: u64,
}

impl MockCounters {
    /// What was counted since `earlier`.
    pub fn since(self, earlier: MockCounters) -> MockCounters {
        MockCounters {
            doorbells: self.doorbells.saturating_sub(earlier.doorbells),
            arms: self.arms.saturating_sub(earlier.arms),
            sends: self.sends.saturating_sub(earlier.sends),
            receives: self.receives.saturating_sub(earlier.receives),
            reposts: self.reposts.saturating_sub(earlier.reposts),
            dma_copies: self.dma_copies.saturating_sub(earlier.dma_copies),
            dma_bytes: self.dma_bytes.saturating_sub(earlier.dma_bytes),
            cpu_copies: self.cpu_copies.saturating_sub(earlier.cpu_copies),
            operations: self.operations.saturating_sub(earlier.operations),
            refusals: self.refusals.saturating_sub(earlier.refusals),
            rnr_stalls: self.rnr_stalls.saturating_sub(earlier.rnr_stalls),
            dropped: self.dropped.saturating_sub(earlier.dropped),
        }
    }
}

impl AddAssign for MockCounters {
    fn add_assign(&mut self, other: MockCounters) {
        self.doorbells += other.doorbells;
        self.arms += other.arms;
        self.sends += other.sends;
        self.receives += other.receives;
        self.reposts += other.reposts;
        self.dma_copies += other.dma_copies;
        self.dma_bytes += other.dma_bytes;
        self.cpu_copies += other.cpu_copies;
        self.operations += other.operations;
        self.refusals += other.refusals;
        self.rnr_stalls += other.rnr_stalls;
        self.dropped += other.dropped;
    }
}

/// One number with one writer at a time: its owner, or whoever holds the lane's lock. So a load and a store will do, at a
/// fraction of the cost of an atomic addition.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted on one direction of a track, where it is sent and where it is received.
#[derive(Debug, Default)]
pub(crate) struct LaneCounts {
    pub(crate) doorbells: Count,
    pub(crate) send_arms: Count,
    pub(crate) sends: Count,
    pub(crate) dma_copies: Count,
    pub(crate) dma_bytes: Count,
    pub(crate) operations: Count,
    pub(crate) refusals: Count,
    pub(crate) rnr_stalls: Count,
    pub(crate) recv_arms: Count,
    pub(crate) receives: Count,
    pub(crate) reposts: Count,
    /// Datagrams that met no receive.
    pub(crate) dropped: Count,
}

impl LaneCounts {
    /// What belongs to the end that sends on `out` and receives on `inward`.
    pub(crate) fn of_end(out: &LaneCounts, inward: &LaneCounts) -> MockCounters {
        MockCounters {
            doorbells: out.doorbells.read(),
            arms: out.send_arms.read() + inward.recv_arms.read(),
            sends: out.sends.read(),
            receives: inward.receives.read(),
            reposts: inward.reposts.read(),
            dma_copies: out.dma_copies.read(),
            dma_bytes: out.dma_bytes.read(),
            cpu_copies: 0,
            operations: out.operations.read(),
            refusals: inward.refusals.read(),
            rnr_stalls: out.rnr_stalls.read(),
            dropped: inward.dropped.read(),
        }
    }
}
