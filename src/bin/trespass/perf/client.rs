//! The end that asks.

use std::time::Duration;

use trespass_core::{Fabric, Role, wait};

use super::backend::Backend;
use super::error::PerfError;
use super::pace::Gauge;
use super::plan::Plan;
use super::said::{Control, Counts};
use super::server::TALK;
use super::session::{self, Leader};
use super::stop::unless_stopped;
use super::talk::Tally;

pub(crate) struct Client<B: Backend> {
    backend: B,
    control: Control<<B::Fabric as Fabric>::Track>,
    device: Option<String>,
    clock: <B::Fabric as Fabric>::Timer,
}

impl<B: Backend> Client<B> {
    pub(crate) fn connect(backend: B, addr: &B::Addr, patience: Duration) -> Result<Self, PerfError> {
        let fabric = backend.control(TALK, None)?;
        let control = wait(unless_stopped(&fabric.timer(), Some(patience), async {
            // Who is not there yet is not gone.
            let track = fabric.connect(addr).await.map_err(|error| PerfError::Transport {
                action: "connecting",
                kind: trespass_core::TransportError::kind(&error),
                why: error.to_string(),
            })?;
            Control::open(track, Role::Connector, patience).await
        }))??;
        let device = backend.device(&fabric);
        Ok(Self { backend, control, device, clock: fabric.timer() })
    }

    /// Which device it measures on.
    pub(crate) fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// The clock of the fabric, which nobody has to drive.
    pub(crate) fn clock(&self) -> <B::Fabric as Fabric>::Timer {
        self.clock.clone()
    }

    /// One test, or whatever else `leader` has to say: what this end measured, and what the server counted.
    pub(crate) fn test<A: Leader>(
        &mut self,
        plan: &Plan,
        gauge: &Gauge,
        leader: &mut A,
    ) -> Result<(Tally, Counts), PerfError> {
        session::lead(&self.backend, &mut self.control, plan, gauge, leader)
    }

    pub(crate) fn close(mut self) {
        wait(self.control.close());
    }
}
