//! A connection: two lanes and one end to it all.

use std::sync::{Arc, OnceLock};

use trespass_core::Limits;

use crate::addr::MockAddr;
use crate::counters::{LaneCounts, MockCounters};
use crate::error::MockError;
use crate::fabric::FabricShared;
use crate::lane::{Failed, Lane, Overrun, Progress, Refusal};

/// What two ends share. End `i` sends on lane `i` and receives on the other.
#[derive(Debug)]
pub(crate) struct Conn {
    lanes: [Arc<Lane>; 2],
    /// Why it ended. Set once: the first cause is what both ends are told for ever.
    ending: OnceLock<Ending>,
}

/// Why a connection ended. Ends are named by their index.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    /// An end was closed or dropped.
    Closed { by: usize },
    /// An end died with its fabric.
    Killed { whose: usize },
    /// The link broke.
    LinkDown,
    /// A message did not fit.
    Overrun(Overrun),
    /// The peer of the requester refused it access to its memory.
    Refused(Refusal),
    /// The queue pair of an end failed.
    QueuePair { whose: usize },
}

impl Ending {
    /// What end `index` is told. A peer that died looks like one that closed.
    fn told(self, index: usize) -> MockError {
        match self {
            Self::Closed { by } if by == index => MockError::Closed,
            Self::Killed { whose } if whose == index => MockError::Killed,
            Self::Refused(refusal) if refusal.requester == index => refusal.why.into(),
            Self::QueuePair { whose } if whose == index => MockError::QueuePairFailed,
            Self::Closed { .. } | Self::Killed { .. } | Self::Refused(_) | Self::QueuePair { .. } => {
                MockError::PeerEnded
            }
            Self::LinkDown => MockError::LinkDown,
            Self::Overrun(Overrun { len, room }) => MockError::ReceiveTooShort { len, room },
        }
    }
}

impl Conn {
    /// Ends it, unless it has ended. No lock may be held.
    fn end(&self, ending: Ending) {
        // The cause comes first, so that whoever finds a lane dead finds the cause too.
        if self.ending.set(ending).is_ok() {
            for lane in &self.lanes {
                lane.end().fire();
            }
        }
    }

    /// The device of end `sender` takes no more.
    #[cold]
    fn fail(&self, sender: usize, failed: Failed) {
        self.end(match failed {
            Failed::Overrun(overrun) => Ending::Overrun(overrun),
            Failed::Refused(refusal) => Ending::Refused(refusal),
            Failed::QueuePair => Ending::QueuePair { whose: sender },
            Failed::Unreachable => Ending::LinkDown,
        });
    }

    /// Does what is left to do after work was given to the device of the end that sends on `lane`. No lock may be held.
    #[inline]
    pub(crate) fn settle(&self, sender: usize, progress: Progress) {
        if let Some(failed) = progress.failed {
            // Before anybody is woken, who might take what is over for done.
            self.fail(sender, failed);
        }
        progress.wakes.fire();
    }
}

/// One end of a connection, shared by its two halves.
#[derive(Debug)]
pub(crate) struct End {
    conn: Arc<Conn>,
    index: usize,
    local: MockAddr,
    peer: MockAddr,
    fabric: Arc<FabricShared>,
}

impl End {
    /// The two ends of a new connection: that of the connector, and that of the acceptor.
    pub(crate) fn pair(
        connector: (&Arc<FabricShared>, &MockAddr),
        acceptor: (&Arc<FabricShared>, &MockAddr),
    ) -> [Arc<Self>; 2] {
        let fabrics = [connector.0, acceptor.0];
        let lane = |from: usize| Arc::new(Lane::new(from, fabrics[from], fabrics[1 - from]));
        let lanes = [lane(0), lane(1)];
        let conn = Arc::new(Conn { lanes, ending: OnceLock::new() });
        if let Some(trouble) = connector.0.trouble() {
            let [one, other] = fabrics.map(|fabric| fabric.number());
            conn.lanes[0].lay_wire(&conn, trouble, [one, other]);
            conn.lanes[1].lay_wire(&conn, trouble, [other, one]);
        }
        let end = |index, (fabric, local): (&Arc<FabricShared>, &MockAddr), peer: &MockAddr| {
            let end = Arc::new(Self {
                conn: Arc::clone(&conn),
                index,
                local: local.clone(),
                peer: peer.clone(),
                fabric: Arc::clone(fabric),
            });
            fabric.adopt(&end);
            end
        };
        [end(0, connector, acceptor.1), end(1, acceptor, connector.1)]
    }

    pub(crate) fn limits(&self) -> Limits {
        self.fabric.limits()
    }

    pub(crate) fn local(&self) -> &MockAddr {
        &self.local
    }

    pub(crate) fn peer(&self) -> &MockAddr {
        &self.peer
    }

    pub(crate) fn fabric(&self) -> &FabricShared {
        &self.fabric
    }

    /// What it sends on.
    pub(crate) fn outward(&self) -> &Arc<Lane> {
        &self.conn.lanes[self.index]
    }

    /// What it receives on.
    pub(crate) fn inward(&self) -> &Arc<Lane> {
        &self.conn.lanes[1 - self.index]
    }

    /// Whether the connection has ended: one atomic load.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.conn.ending.get().is_some()
    }

    /// What this end is told about why nothing goes any more: why the connection ended, or that this end is about to.
    pub(crate) fn cause(&self) -> MockError {
        self.conn.ending.get().map_or(MockError::Closed, |ending| ending.told(self.index))
    }

    /// This end closes or is dropped. No lock may be held.
    pub(crate) fn close(&self) {
        self.conn.end(Ending::Closed { by: self.index });
    }

    /// This end dies with its fabric. No lock may be held.
    pub(crate) fn kill(&self) {
        self.conn.end(Ending::Killed { whose: self.index });
    }

    /// The link breaks. No lock may be held.
    pub(crate) fn break_link(&self) {
        self.conn.end(Ending::LinkDown);
    }

    /// Its queue pair fails. No lock may be held.
    pub(crate) fn fail_queue_pair(&self) {
        self.conn.end(Ending::QueuePair { whose: self.index });
    }

    /// Does what is left to do after work was given to the device of the end that sends on `lane`. No lock may be held.
    #[inline]
    pub(crate) fn settle(&self, lane: &Lane, progress: Progress) {
        self.conn.settle(lane.sender(), progress);
    }

    pub(crate) fn counters(&self) -> MockCounters {
        LaneCounts::of_end(&self.outward().counts, &self.inward().counts)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.fabric.retire(self.counters());
    }
}
