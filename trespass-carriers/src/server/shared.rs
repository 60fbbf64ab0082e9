//! What a server, its handles and its peers share: who is there, and whether it drains.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trespass_core::{ErrorKind, WakerSlot};

use super::config::ServerConfig;
use super::stats::ServerStats;

/// Who a peer is, in errors and reports.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity<A> {
    /// Which one of all whose handshakes this server has begun.
    pub id: u64,
    /// Where it is.
    pub addr: A,
    /// Which process it is, once it is open, where its carrier tells: see
    /// [`Carrier::incarnation`](trespass_core::Carrier::incarnation).
    pub incarnation: Option<u64>,
}

impl<A: fmt::Display> fmt::Display for Identity<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {} at {}", self.id, self.addr)?;
        match self.incarnation {
            Some(incarnation) => write!(f, " (process {incarnation:016x})"),
            None => Ok(()),
        }
    }
}

/// How far the end of a server has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    /// Nobody comes in any more, and whoever is there is asked to go.
    Draining,
    /// Whoever is still there is given up.
    CutOff,
}

/// Whom to wake of one peer.
#[derive(Debug, Default)]
pub(super) struct Signals {
    pub(super) draining: WakerSlot,
    pub(super) cut_off: WakerSlot,
}

/// Whether there is room for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Free,
    /// There are as many handshakes as may be: soon.
    Soon,
    /// There are as many peers as may be, or there is no memory for one more.
    Full,
}

#[derive(Debug)]
pub(super) struct Shared<A> {
    state: Mutex<State<A>>,
    /// Changed under the lock; looked at without.
    phase: AtomicU8,
    /// The server's task: a peer has left, or a drain has begun.
    pub(super) changed: WakerSlot,
}

#[derive(Debug)]
struct State<A> {
    entries: BTreeMap<u64, Entry<A>>,
    /// What all of them may take, in bytes.
    memory: usize,
    /// What a track has taken at most so far: all of one fabric are alike, mostly.
    track: usize,
    next_id: u64,
    /// For how long a drain may go on.
    limit: Option<Duration>,
    cut_off: Vec<Identity<A>>,
    /// There is no server any more: nobody makes a deadline good.
    is_orphaned: bool,
    counts: ServerStats,
}

#[derive(Debug)]
struct Entry<A> {
    identity: Identity<A>,
    bytes: usize,
    is_open: bool,
    signals: Arc<Signals>,
}

impl<A: Clone> Shared<A> {
    pub(super) fn new() -> Arc<Self> {
        let state = State {
            entries: BTreeMap::new(),
            memory: 0,
            track: 0,
            next_id: 0,
            limit: None,
            cut_off: Vec::new(),
            is_orphaned: false,
            counts: ServerStats::default(),
        };
        let (phase, changed) = (AtomicU8::new(Phase::Serving as u8), WakerSlot::new());
        Arc::new(Self { state: Mutex::new(state), phase, changed })
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::CutOff,
        }
    }

    pub(super) fn stats(&self) -> ServerStats {
        let state = self.lock();
        let peers = state.entries.values().filter(|entry| entry.is_open).count();
        let handshakes = state.entries.len() - peers;
        ServerStats { peers, handshakes, memory: state.memory, ..state.counts }
    }

    pub(super) fn count_failure(&self, kind: ErrorKind) {
        self.lock().counts.count_failure(kind);
    }

    pub(super) fn count_turned_away(&self) {
        self.lock().counts.turned_away += 1;
    }

    /// Whether nobody is there, and no handshake is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().entries.is_empty()
    }

    /// Whether one more may come in, whose carrier takes up to `carrier` bytes, beside so many handshakes, and handlers in place. A
    /// handler may be at work for longer than its peer is there.
    pub(super) fn room(&self, config: &ServerConfig, carrier: usize, handshakes: usize, handlers: usize) -> Room {
        let state = self.lock();
        let memory = state.memory.saturating_add(state.track).saturating_add(carrier);
        let taken = state.entries.len().max(handlers + handshakes);
        if taken >= config.max_peers || memory > config.max_memory {
            Room::Full
        } else if handshakes >= config.max_handshakes {
            Room::Soon
        } else {
            Room::Free
        }
    }

    /// A place for whoever is at `addr`, whose carrier takes up to `carrier` bytes.
    pub(super) fn admit(self: &Arc<Self>, addr: A, carrier: usize) -> Place<A> {
        let mut state = self.lock();
        let id = state.next_id;
        state.next_id += 1;
        let identity = Identity { id, addr, incarnation: None };
        let signals = Arc::new(Signals::default());
        let bytes = state.track.saturating_add(carrier);
        state.memory = state.memory.saturating_add(bytes);
        let entry = Entry { identity: identity.clone(), bytes, is_open: false, signals: Arc::clone(&signals) };
        state.entries.insert(id, entry);
        drop(state);
        Place { identity, signals, shared: Arc::clone(self) }
    }

    /// Asks all to go, and gives those up who have not after `limit`; the shortest that was asked for counts.
    pub(super) fn drain(&self, limit: Duration) {
        let mut state = self.lock();
        state.limit = Some(state.limit.map_or(limit, |before| before.min(limit)));
        let at_once = limit.is_zero() || state.is_orphaned;
        drop(state);
        self.advance(if at_once { Phase::CutOff } else { Phase::Draining });
    }

    /// The server goes. Peers live on, but for those that were asked to go: they are given up.
    pub(super) fn orphan(&self) {
        self.lock().is_orphaned = true;
        if self.phase() == Phase::Draining {
            self.advance(Phase::CutOff);
        }
    }

    pub(super) fn limit(&self) -> Duration {
        self.lock().limit.unwrap_or(Duration::MAX)
    }

    /// Goes on to `phase`, if that is further on, and tells everybody.
    pub(super) fn advance(&self, phase: Phase) {
        let mut state = self.lock();
        let mut told: Vec<Arc<Signals>> = Vec::new();
        if self.phase() < phase {
            self.phase.store(phase as u8, Ordering::Release);
            told.extend(state.entries.values().map(|entry| Arc::clone(&entry.signals)));
            if phase == Phase::CutOff {
                state.cut_off = state.entries.values().map(|entry| entry.identity.clone()).collect();
            }
        }
        drop(state);
        // Under no lock: wakers are others' code.
        for signals in told {
            signals.draining.wake();
            signals.cut_off.wake();
        }
        self.changed.wake();
    }

    /// Who was given up.
    pub(super) fn cut_off(&self) -> Vec<Identity<A>> {
        self.lock().cut_off.clone()
    }
}

impl<A> Shared<A> {
    fn lock(&self) -> MutexGuard<'_, State<A>> {
        // Valid at every step, so a panic elsewhere harms nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who are there, from a handshake's beginning to a peer's end. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place<A> {
    pub(super) identity: Identity<A>,
    pub(super) signals: Arc<Signals>,
    pub(super) shared: Arc<Shared<A>>,
}

impl<A: Clone> Place<A> {
    /// Its track is known, and takes up to `track` bytes beside the `carrier`'s. What is needed and what is left, where that is
    /// too little.
    pub(super) fn resize(&self, track: usize, carrier: usize, max_memory: usize) -> Result<(), (usize, usize)> {
        let mut state = self.shared.lock();
        let need = track.saturating_add(carrier);
        let State { entries, memory, track: largest, .. } = &mut *state;
        *largest = track.max(*largest);
        let Some(entry) = entries.get_mut(&self.identity.id) else { return Ok(()) };
        let others = memory.saturating_sub(entry.bytes);
        let left = max_memory.saturating_sub(others);
        if need > left {
            return Err((need, left));
        }
        entry.bytes = need;
        *memory = others.saturating_add(need);
        Ok(())
    }

    /// Its handshake is done.
    pub(super) fn open(&mut self, incarnation: Option<u64>) {
        self.identity.incarnation = incarnation;
        let mut state = self.shared.lock();
        state.counts.accepted += 1;
        if let Some(entry) = state.entries.get_mut(&self.identity.id) {
            entry.identity.incarnation = incarnation;
            entry.is_open = true;
        }
    }
}

impl<A> Drop for Place<A> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let entry = state.entries.remove(&self.identity.id);
        state.memory = state.memory.saturating_sub(entry.as_ref().map_or(0, |entry| entry.bytes));
        drop(state);
        drop(entry);
        self.shared.changed.wake();
    }
}
