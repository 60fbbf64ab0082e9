//! The handlers of a connection's calls: a place for each index, which keeps its memory from call to call.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::router::sealed::{Finished, Running};
use crate::hub::Hub;

/// Up to one handler for each index. Each is polled only when it was woken itself.
///
/// A place's memory is allocated when its index is first used, and its waker too: a call allocates nothing.
pub(super) struct Tasks<R> {
    places: Vec<Option<Place<R>>>,
    woken: Arc<Woken>,
}

struct Place<R> {
    running: Pin<Box<Option<R>>>,
    waker: Waker,
}

/// Who was woken, and whom to tell.
struct Woken {
    bits: Box<[AtomicU64]>,
    hub: Arc<Hub>,
}

/// Wakes the handler of one index.
struct Signal {
    index: u16,
    woken: Arc<Woken>,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(bits) = self.woken.bits.get(usize::from(self.index / 64)) {
            bits.fetch_or(1 << (self.index % 64), Ordering::AcqRel);
        }
        self.woken.hub.task.wake();
    }
}

impl<R: Running> Tasks<R> {
    pub(super) fn new(most: u16, hub: Arc<Hub>) -> Self {
        let bits = (0..most.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Self { places: Vec::new(), woken: Arc::new(Woken { bits, hub }) }
    }

    /// Takes a handler in and polls it.
    pub(super) fn start(&mut self, index: u16, running: R, reply: &mut Vec<u8>) -> Poll<Finished> {
        let at = usize::from(index);
        if self.places.len() <= at {
            self.places.resize_with(at + 1, || None);
        }
        let Some(place) = self.places.get_mut(at) else { return Poll::Pending };
        let place = place.get_or_insert_with(|| Place {
            running: Box::pin(None),
            waker: Waker::from(Arc::new(Signal { index, woken: Arc::clone(&self.woken) })),
        });
        place.running.set(Some(running));
        self.poll(index, reply)
    }

    /// Polls the handler at `index`, if there is one. One that has ended is gone.
    pub(super) fn poll(&mut self, index: u16, reply: &mut Vec<u8>) -> Poll<Finished> {
        let Some(Some(place)) = self.places.get_mut(usize::from(index)) else { return Poll::Pending };
        let Some(running) = place.running.as_mut().as_pin_mut() else { return Poll::Pending };
        let polled = running.poll(&mut Context::from_waker(&place.waker), reply);
        if polled.is_ready() {
            place.running.set(None);
        }
        polled
    }

    /// Drops the handler at `index`.
    pub(super) fn stop(&mut self, index: u16) {
        if let Some(Some(place)) = self.places.get_mut(usize::from(index)) {
            place.running.set(None);
        }
    }

    /// Takes those that were woken among 64 of them, as bits.
    pub(super) fn take_woken(&self, word: usize) -> Option<u64> {
        self.woken.bits.get(word).map(|bits| match bits.load(Ordering::Acquire) {
            0 => 0,
            _ => bits.swap(0, Ordering::AcqRel),
        })
    }
}
