//! Through what a track that shares its queues sends: its own queue pair, and everybody's completion queue.

use std::sync::Arc;

use super::queue::SharedQueue;
use crate::error::VerbsError;
use crate::hub::{Gate, Lane, Member};
use crate::raw::qp::Qp;
use crate::track::conn::Conn;

pub(crate) struct SharedGate {
    pub(crate) conn: Arc<Conn>,
    pub(crate) queue: Arc<SharedQueue>,
}

impl Gate for SharedGate {
    #[inline]
    fn qp(&self) -> &Qp {
        &self.conn.qp
    }

    #[inline]
    fn sends(&self) -> &Lane {
        &self.queue.sends
    }

    fn shape(&self) -> (usize, usize) {
        (self.queue.send_slots, self.queue.device.depths.inline as usize)
    }

    #[inline]
    fn look_at_sends(&self) {
        self.queue.look_at_sends();
    }

    fn look_at_sends_surely(&self) {
        self.queue.look_at_sends_surely();
    }

    /// A shared receive queue flushes nothing when a queue pair fails: a receiver that sleeps learns of it by the sends.
    #[inline]
    fn minds_failures(&self) -> bool {
        true
    }

    fn fail(&self, failure: VerbsError) {
        self.conn.end(Some(failure));
    }

    fn leave(&self, _: &Arc<Member>, _: u64) {
        self.conn.end(None);
    }
}
