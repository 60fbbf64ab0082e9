//! Builds with `debug_assertions`: what is known of the sides of a track, and what follows from it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::Poll;

use trespass_core::{ErrorKind, Limits, TransportError, TryError};

use crate::sync::{AtomicUsize, Ordering};

/// The contract is broken. Not where the thread panics already: that would end the process and hide the reason.
#[cold]
#[track_caller]
fn violated(clause: &str, what: fmt::Arguments<'_>) {
    if !std::thread::panicking() {
        panic!("the contract is broken, clause {clause}: {what}");
    }
}

macro_rules! owed {
    ($condition:expr, $clause:literal, $($what:tt)+) => {
        if !$condition {
            violated($clause, format_args!($($what)+));
        }
    };
}

pub(super) fn joined<A: Eq + fmt::Display>(asked: &A, peer: &A) {
    owed!(asked == peer, "C5", "a handshake with {asked} gave a track to {peer}");
}

pub(super) fn split(whole: Limits, sender: Limits, receiver: Limits) {
    owed!(sender == whole && receiver == whole, "W6", "the halves of a track have other limits than the track");
}

pub(super) fn truncated(before: usize, to: usize, after: usize) {
    owed!(after == before.min(to), "B4", "truncate({to}) of {before} bytes left {after}");
}

/// How many buffers of a track are reserved, from two points of view.
#[derive(Debug, Default)]
struct Slots {
    /// Never too many: each goes down before its slot comes back.
    claimed: AtomicUsize,
    /// Never too few: each goes down after its slot has come back.
    kept: AtomicUsize,
}

/// A reserved slot, until just before it is free.
#[derive(Debug)]
pub(super) struct Claim(Arc<Slots>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.claimed.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A reserved slot, until just after it is free.
#[derive(Debug)]
pub(super) struct Kept(Arc<Slots>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.kept.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What is known of a send side.
#[derive(Debug)]
pub struct SendCheck {
    limits: Limits,
    slots: Arc<Slots>,
    /// Whether a slot may be under way.
    sent: bool,
    /// Whether it said that it is ready, and was not asked since.
    ready: bool,
    /// What it ended with, as far as that was said.
    ended: Option<ErrorKind>,
    /// What a close gave.
    closed: Option<Result<(), ErrorKind>>,
}

impl SendCheck {
    pub(super) fn new(limits: Limits) -> Self {
        owed!(limits.send_slots > 0 && limits.recv_slots > 0, "B2", "a track without slots: {limits:?}");
        Self { limits, slots: Arc::default(), sent: false, ready: false, ended: None, closed: None }
    }

    /// How many buffers are out at most, while the side below is asked for one more.
    pub(super) fn before_reserve(&self) -> usize {
        self.slots.kept.load(Ordering::SeqCst)
    }

    pub(super) fn reserved(&mut self, len: usize, got: usize) -> (Claim, Kept) {
        let Limits { max_message, send_slots, .. } = self.limits;
        owed!(len <= max_message, "B2", "a reserve of {len} bytes succeeded, and {max_message} is the maximum");
        owed!(got == len, "B2", "a reserve of {len} bytes gave {got}");
        self.still_open("a reserve succeeded");
        self.ready = false;
        self.slots.kept.fetch_add(1, Ordering::SeqCst);
        let out = self.slots.claimed.fetch_add(1, Ordering::SeqCst) + 1;
        let buf = (Claim(Arc::clone(&self.slots)), Kept(Arc::clone(&self.slots)));
        owed!(out <= send_slots, "F4", "{out} buffers are reserved at once, of {send_slots} slots");
        buf
    }

    pub(super) fn not_reserved<E: TransportError>(&mut self, before: usize, len: usize, error: &TryError<E>) {
        let Limits { max_message, send_slots, .. } = self.limits;
        match error {
            TryError::WouldBlock => {
                self.still_open("a reserve would block");
                owed!(!self.ready, "W1", "poll_send_ready said ready, and the reserve after it would block");
                owed!(
                    self.sent || before >= send_slots,
                    "B5",
                    "a reserve would block: {before} of {send_slots} slots are kept, and nothing was ever sent"
                );
            }
            TryError::Failed(error) if error.kind() == ErrorKind::Oversize => {
                owed!(len > max_message, "B2", "{len} bytes are refused as too many, and {max_message} is the maximum");
            }
            TryError::Failed(error) => {
                self.fails("a reserve", error);
                self.ready = false;
            }
        }
    }

    pub(super) fn sent(&mut self, claim: &Claim) {
        owed!(self.owns(claim), "B8", "a buffer of another track was sent");
        self.still_open("a send succeeded");
        self.sent = true;
    }

    pub(super) fn unsent<E: TransportError>(&mut self, claim: &Claim, len: usize, left: usize, error: &E) {
        owed!(left == len, "B8", "a buffer of {len} bytes came back with {left}");
        match (error.kind(), self.owns(claim)) {
            (ErrorKind::ForeignBuffer, own) => owed!(!own, "B8", "a buffer of its own is called foreign"),
            (ErrorKind::ResourceLimit | ErrorKind::Busy, true) => {
                violated("B3", format_args!("a reserved buffer has no room: {error}"));
            }
            (_, true) => self.fails("a send", error),
            // A track that has ended may say either.
            (_, false) => {
                owed!(!self.is_open(), "B8", "a foreign buffer is refused, but not as one: {error}");
            }
        }
    }

    /// A word was not sent, for want of immediate data.
    pub(super) fn not_carried(&mut self, claim: &Claim, carries: bool) {
        owed!(!carries && self.owns(claim), "B11", "immediate data is carried, and was not");
    }

    pub(super) fn flushed<E: TransportError>(&mut self, result: &Result<(), E>) {
        if let Err(error) = result {
            self.fails("a flush", error);
        }
    }

    pub(super) fn polled_ready(&mut self, polled: Poll<()>) {
        owed!(polled.is_ready() || self.is_open(), "E5", "a send side that has ended is not ready to say so");
        self.ready = polled.is_ready();
    }

    pub(super) fn polled_close<E: TransportError>(&mut self, polled: &Poll<Result<(), E>>) {
        let Poll::Ready(result) = polled else {
            owed!(self.closed.is_none(), "E3", "a close that was over is not any more");
            return;
        };
        let result = result.as_ref().copied().map_err(TransportError::kind);
        let first = *self.closed.get_or_insert(result);
        owed!(result == first, "E3", "a close gave {first:?}, and now gives {result:?}");
        self.ready = false;
    }

    fn owns(&self, claim: &Claim) -> bool {
        Arc::ptr_eq(&self.slots, &claim.0)
    }

    fn is_open(&self) -> bool {
        self.ended.is_none() && self.closed.is_none()
    }

    /// Something happened that happens only on a side that has not ended.
    fn still_open(&self, what: &str) {
        if let Some(kind) = self.ended {
            violated("E6", format_args!("{what} after an end of kind {kind:?}"));
        }
        owed!(self.closed.is_none(), "E3", "{what} after a close");
    }

    fn fails<E: TransportError>(&mut self, what: &str, error: &E) {
        let kind = error.kind();
        if self.ended.is_none() && self.closed == Some(Ok(())) {
            owed!(kind == ErrorKind::Closed, "E3", "{what} after a clean close is of kind {kind:?}: {error}");
        }
        let first = *self.ended.get_or_insert(kind);
        owed!(kind == first, "E6", "{what} is of kind {kind:?} ({error}), and the first error was {first:?}");
    }
}

/// What is known of a receive side.
#[derive(Debug)]
pub struct RecvCheck {
    limits: Limits,
    /// Whether all that uses a receive up is handed out: a datagram may be thrown away.
    lossless: bool,
    received: u64,
    posted: AtomicU64,
    ready: bool,
    ended: Option<ErrorKind>,
}

impl RecvCheck {
    pub(super) fn new(limits: Limits, lossless: bool, posted: u64) -> Self {
        let slots = limits.recv_slots as u64;
        owed!(posted == slots, "F6", "a new track has posted {posted}, of {slots} slots");
        Self { limits, lossless, received: 0, posted: AtomicU64::new(posted), ready: false, ended: None }
    }

    pub(super) fn posted(&self, posted: u64) {
        let before = self.posted.swap(posted, Ordering::Relaxed);
        owed!(posted >= before, "F6", "posted fell from {before} to {posted}");
        let received = self.received;
        owed!(posted >= received, "F6", "{received} were received, and {posted} posted");
        let most = self.limits.recv_slots as u64 + received;
        owed!(
            !self.lossless || posted <= most,
            "F6",
            "posted is {posted}, more than {} slots and {received} that were used",
            self.limits.recv_slots
        );
    }

    pub(super) fn received(&mut self, bytes: &[u8]) -> Held {
        let max = self.limits.max_message;
        owed!(bytes.len() <= max, "B1", "a message of {} bytes, and {max} is the maximum", bytes.len());
        if let Some(kind) = self.ended {
            violated("E1", format_args!("a message after an end of kind {kind:?}"));
        }
        self.received += 1;
        self.ready = false;
        Held { sum: checksum(bytes) }
    }

    pub(super) fn not_received<E: TransportError>(&mut self, error: &TryError<E>) {
        match error {
            TryError::WouldBlock => {
                if let Some(kind) = self.ended {
                    violated("E1", format_args!("a receive would block after an end of kind {kind:?}"));
                }
                owed!(!self.ready, "W1", "poll_recv_ready said ready, and the receive after it would block");
            }
            TryError::Failed(error) => {
                let kind = error.kind();
                let first = *self.ended.get_or_insert(kind);
                owed!(
                    kind == first,
                    "E6",
                    "a receive fails with {kind:?} ({error}), and the first error was {first:?}"
                );
                self.ready = false;
            }
        }
    }

    pub(super) fn polled_ready(&mut self, polled: Poll<()>) {
        owed!(polled.is_ready() || self.ended.is_none(), "E5", "a receive side that has ended is not ready to say so");
        self.ready = polled.is_ready();
    }
}

/// What a received message was.
#[derive(Debug)]
pub(super) struct Held {
    sum: u64,
}

impl Held {
    pub(super) fn unchanged(&self, bytes: &[u8]) {
        owed!(
            checksum(bytes) == self.sum,
            "B9",
            "a received message of {} bytes was written to while held",
            bytes.len()
        );
    }
}

/// Moves with every byte, and with the length.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    let mut words = bytes.chunks_exact(8);
    let mut sum = step(0, bytes.len() as u64);
    for word in &mut words {
        let mut eight = [0; 8];
        eight.copy_from_slice(word);
        sum = step(sum, u64::from_le_bytes(eight));
    }
    words.remainder().iter().fold(sum, |sum, byte| step(sum, u64::from(*byte)))
}

/// What is known of a listener.
#[derive(Debug, Default)]
pub(super) struct ListenCheck {
    closed: bool,
    ended: Option<ErrorKind>,
}

impl ListenCheck {
    pub(super) fn polled<E: TransportError>(&mut self, polled: Poll<Result<(), &E>>) {
        match polled {
            Poll::Ready(Err(error)) => {
                let kind = error.kind();
                if self.closed && self.ended.is_none() {
                    owed!(kind == ErrorKind::Closed, "C6", "a closed listener says {kind:?}: {error}");
                }
                let first = *self.ended.get_or_insert(kind);
                owed!(kind == first, "E6", "a listener fails with {kind:?} ({error}), and the first was {first:?}");
            }
            Poll::Ready(Ok(())) => {
                owed!(!self.closed && self.ended.is_none(), "C6", "a listener that has ended gave a request");
            }
            Poll::Pending => {
                owed!(!self.closed && self.ended.is_none(), "C6", "a listener that has ended waits");
            }
        }
    }

    pub(super) fn closing(&mut self) {
        self.closed = true;
    }
}
