//! One user of a port.

use std::sync::{Arc, OnceLock};

use trespass_core::{Limits, Timer};

use super::config::MockDatagramConfig;
use super::port::{Place, Port, Seat};
use crate::addr::MockAddr;
use crate::counters::{LaneCounts, MockCounters};
use crate::error::MockError;
use crate::fabric::{FabricShared, Mortal};
use crate::lane::Lane;
use crate::sim::Way;

/// One user of a port: a track, or the one whose port it is alone.
#[derive(Debug)]
pub(crate) struct Member {
    fabric: Arc<FabricShared>,
    port: Arc<Port>,
    seat: Seat,
    /// An address that it has, until its end.
    place: Option<MockAddr>,
    lane: Arc<Lane>,
    limits: Limits,
    /// Why it ended. Set once.
    ending: OnceLock<MockError>,
}

impl Member {
    /// A member of `port`; `None` where that has `most` already, or is somebody's alone. `mtu` is for its sends.
    pub(super) fn new(
        fabric: &Arc<FabricShared>,
        config: &MockDatagramConfig,
        (port, seat, most): (&Arc<Port>, Seat, usize),
        place: Option<MockAddr>,
        mtu: usize,
    ) -> Option<Arc<Self>> {
        let lane = Lane::for_datagrams(config.send_slots, config.recv_slots, config.mtu, fabric.domain());
        let lane = Arc::new(lane);
        if !port.seat(seat, &lane, most) {
            return None;
        }
        let inline = fabric.config().inline.min(mtu);
        let member = Arc::new(Self {
            fabric: Arc::clone(fabric),
            port: Arc::clone(port),
            seat,
            place,
            lane,
            limits: Limits::new(mtu, config.send_slots, config.recv_slots).with_inline(inline),
            ending: OnceLock::new(),
        });
        fabric.adopt_member(&member);
        Some(member)
    }

    pub(super) fn fabric(&self) -> &Arc<FabricShared> {
        &self.fabric
    }

    pub(super) fn port(&self) -> &Arc<Port> {
        &self.port
    }

    pub(super) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    /// Whether anything gets to `port` now: always, but in a simulation.
    #[inline]
    pub(super) fn reaches(&self, port: &Port) -> bool {
        match self.fabric.trouble() {
            None => true,
            Some(trouble) => {
                let (from, to) = (self.fabric.number(), port.fabric().number());
                !matches!(trouble.way(from, to, trouble.timer().now()), Way::Shut(_))
            }
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// One atomic load.
    #[inline]
    pub(super) fn has_ended(&self) -> bool {
        self.ending.get().is_some()
    }

    /// Why nothing goes any more.
    #[cold]
    pub(super) fn cause(&self) -> MockError {
        self.ending.get().cloned().unwrap_or(MockError::Closed)
    }

    /// It is closed or dropped. No lock may be held.
    pub(super) fn close(&self) {
        self.end(MockError::Closed);
    }

    fn end(&self, why: MockError) {
        // The cause comes first, so that whoever finds the lane dead finds the cause too.
        if self.ending.set(why).is_err() {
            return;
        }
        self.port.leave(self.seat);
        if let Some(addr) = &self.place {
            let number = self.port.number();
            self.fabric.directory().vacate(addr, |place| matches!(place, Place::Port(at) if *at == number));
        }
        self.lane.end().fire();
    }

    /// Datagrams that met no receive of its own.
    pub(super) fn dropped(&self) -> u64 {
        self.lane.counts.dropped.read()
    }

    pub(crate) fn counters(&self) -> MockCounters {
        LaneCounts::of_end(&self.lane.counts, &self.lane.counts)
    }
}

impl Mortal for Member {
    fn kill(&self, _: &Arc<FabricShared>) {
        self.end(MockError::Killed);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.end(MockError::Closed);
        self.fabric.retire(self.counters());
    }
}
