//! A plan at work: what it does to whom, and what is written down of a run.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};
use std::time::Duration;

use trespass_core::Timer;

use super::dice::{Dice, mixed};
use super::plan::{MockEvent, MockFault, MockPlan, MockWhen};
use crate::clock::MockTimer;
use crate::fabric::FabricShared;
use crate::sync::{Mutex, MutexGuard, lock};

/// What a simulated net has, and no other.
#[derive(Debug)]
pub(crate) struct Trouble {
    seed: u64,
    timer: MockTimer,
    plan: MockPlan,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    /// All that happened, in one number.
    trace: u64,
    /// By number.
    fabrics: Vec<Weak<FabricShared>>,
    /// What each was given to send so far.
    operations: Vec<u64>,
    handshakes: u64,
    /// Where nothing goes.
    blocks: Vec<Block>,
    /// What waits for its time, the last first.
    timed: Vec<(Duration, MockFault)>,
    /// What is to be done by whoever runs the simulation, who holds no lock.
    due: Vec<MockFault>,
}

#[derive(Debug, Clone, Copy)]
struct Block {
    fault: MockFault,
    from: Duration,
    until: Duration,
}

/// Whether something may go from one fabric to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Not before this; the device tries again and again until then.
    Shut(Duration),
    /// Not before this; the device waits for it.
    NotReady(Duration),
}

/// What becomes of an answer that a connector is given.
#[derive(Debug, Default)]
pub(crate) struct Answered {
    pub(crate) lost: bool,
    pub(crate) broken: bool,
    pub(crate) connector_late: Duration,
    pub(crate) acceptor_late: Duration,
}

/// What is written down of a run: something that happened.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Note {
    Polled(usize),
    Sent { from: usize, len: usize },
    Arrived { to: usize, len: usize },
    Happened(u64),
}

impl Trouble {
    pub(crate) fn new(seed: u64, plan: MockPlan, timer: MockTimer) -> Arc<Self> {
        let mut state = State {
            dice: Dice::new(seed),
            trace: 0,
            fabrics: Vec::new(),
            operations: Vec::new(),
            handshakes: 0,
            blocks: Vec::new(),
            timed: Vec::new(),
            due: Vec::new(),
        };
        for MockEvent { when, fault } in &plan.events {
            if let MockWhen::At(at) = when {
                state.timed.push((*at, *fault));
            }
        }
        state.timed.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        Arc::new(Self { seed, timer, plan, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// What the keys of its memory are made of.
    pub(crate) fn secret(&self) -> u64 {
        mixed(self.seed)
    }

    pub(crate) fn plan(&self) -> &MockPlan {
        &self.plan
    }

    pub(crate) fn timer(&self) -> &MockTimer {
        &self.timer
    }

    /// Takes note of a new fabric, and numbers it.
    pub(crate) fn adopt(&self, fabric: &Weak<FabricShared>) -> usize {
        let mut state = self.state();
        state.fabrics.push(Weak::clone(fabric));
        state.operations.push(0);
        state.fabrics.len() - 1
    }

    pub(crate) fn fabric(&self, number: usize) -> Option<Arc<FabricShared>> {
        self.state().fabrics.get(number).and_then(Weak::upgrade)
    }

    pub(crate) fn note(&self, note: Note) {
        let now = self.timer.now();
        self.state().note(note, now);
    }

    pub(crate) fn trace(&self) -> u64 {
        self.state().trace
    }

    /// A device is given a message of `len` bytes, or an operation. How long it will be under way; `None` where it breaks its
    /// queue pair.
    pub(crate) fn operation(&self, from: usize, len: usize) -> Option<Duration> {
        let now = self.timer.now();
        let mut state = self.state();
        state.note(Note::Sent { from, len }, now);
        let number = match state.operations.get_mut(from) {
            Some(count) => {
                *count += 1;
                *count
            }
            None => 0,
        };
        let mut breaks = false;
        for event in &self.plan.events {
            if event.when == (MockWhen::Operation { fabric: from, number }) {
                match event.fault {
                    MockFault::QueuePairError { fabric } if fabric == from => breaks = true,
                    fault => state.happen(fault, now),
                }
            }
        }
        if breaks { None } else { Some(state.dice.time(&self.plan.delay)) }
    }

    /// A request was accepted.
    pub(crate) fn handshake(&self) -> Answered {
        let now = self.timer.now();
        let mut state = self.state();
        state.handshakes += 1;
        let when = MockWhen::Handshake(state.handshakes);
        let mut answered = Answered::default();
        for event in &self.plan.events {
            if event.when == when {
                match event.fault {
                    MockFault::LoseAnswer => answered.lost = true,
                    MockFault::BreakHandshake => answered.broken = true,
                    fault => state.happen(fault, now),
                }
            }
        }
        let late = state.dice.time(&self.plan.established_late);
        match state.dice.one_in(2) {
            true => answered.connector_late = late,
            false => answered.acceptor_late = late,
        }
        answered
    }

    /// Whether something may go from one fabric to another at `now`.
    pub(crate) fn way(&self, from: usize, to: usize, now: Duration) -> Way {
        let mut state = self.state();
        state.pass(now);
        state.blocks.retain(|block| block.until > now);
        let mut way = Way::Open;
        for Block { fault, from: since, until } in &state.blocks {
            let until = *until;
            let (here, shut) = match *fault {
                MockFault::Stall { fabric, .. } => (fabric == from || fabric == to, true),
                MockFault::Partition { from: a, to: b, .. } => (a == from && b == to, true),
                MockFault::NotReady { fabric, .. } => (fabric == to, false),
                _ => (false, false),
            };
            if !here || *since > now {
                continue;
            }
            way = match way {
                Way::Shut(other) => Way::Shut(other.max(until)),
                Way::NotReady(other) if !shut => Way::NotReady(other.max(until)),
                _ if shut => Way::Shut(until),
                _ => Way::NotReady(until),
            };
        }
        way
    }

    /// When something happens next by the clock.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.state().timed.last().map(|(at, _)| *at)
    }

    /// What has happened by now, and is to be done without a lock.
    pub(crate) fn take_due(&self) -> Vec<MockFault> {
        let now = self.timer.now();
        let mut state = self.state();
        state.pass(now);
        std::mem::take(&mut state.due)
    }
}

impl State {
    #[allow(clippy::cast_possible_truncation, reason = "a digest")]
    fn note(&mut self, note: Note, now: Duration) {
        let (kind, one, other) = match note {
            Note::Polled(task) => (1, task as u64, 0),
            Note::Sent { from, len } => (2, from as u64, len as u64),
            Note::Arrived { to, len } => (3, to as u64, len as u64),
            Note::Happened(what) => (4, what, 0),
        };
        for word in [kind, one, other, now.as_nanos() as u64] {
            self.trace = mixed(self.trace ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
    }

    /// What is to happen by `now` happens.
    fn pass(&mut self, now: Duration) {
        while let Some((at, fault)) = self.timed.pop_if(|(at, _)| *at <= now) {
            self.happen(fault, at);
        }
    }

    fn happen(&mut self, fault: MockFault, now: Duration) {
        let mut hasher = DefaultHasher::new();
        fault.hash(&mut hasher);
        self.note(Note::Happened(hasher.finish()), now);
        let lasting = match fault {
            MockFault::Stall { lasting, .. }
            | MockFault::NotReady { lasting, .. }
            | MockFault::Partition { lasting, .. } => lasting,
            other => return self.due.push(other),
        };
        self.blocks.push(Block { fault, from: now, until: now.saturating_add(lasting) });
    }
}
