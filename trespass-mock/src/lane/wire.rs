//! One direction of a track in a simulation: what is under way, and what is over and does not show yet.
//!
//! Where there is a wire every message takes the long way, through the queue of what is posted; so tracks that have none pay
//! nothing for it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use trespass_core::Timer;

use super::{Failed, Lane, Message, Progress, State};
use crate::clock::MockSleep;
use crate::conn::Conn;
use crate::sim::{Note, Trouble, Way};

/// What a simulation adds to a lane.
#[derive(Debug)]
pub(super) struct Wire {
    trouble: Arc<Trouble>,
    /// The fabrics at its ends, by number.
    ends: [usize; 2],
    /// The time, as far as one look at the lane is concerned: what is not due yet is what the alarm is set for.
    now: Duration,
    /// When each of what is posted arrives.
    due: VecDeque<Duration>,
    /// Since when nothing has come through.
    shut_since: Option<Duration>,
    /// Memory of messages that have arrived, of which the sender does not know.
    placed: Late<Box<[u8]>>,
    /// Messages that have arrived, of which the receiver does not know.
    arriving: Late<Message>,
    /// Wakes the lane; and for when that is.
    alarm: Option<(Duration, MockSleep)>,
    waker: Waker,
}

/// Completions that do not show yet.
#[derive(Debug)]
struct Late<T> {
    items: VecDeque<T>,
    since: Duration,
}

impl<T> Late<T> {
    fn new() -> Self {
        Self { items: VecDeque::new(), since: Duration::ZERO }
    }

    fn push(&mut self, item: T, now: Duration) {
        if self.items.is_empty() {
            self.since = now;
        }
        self.items.push_back(item);
    }

    /// When they show, if there are any.
    fn shows(&self, (batch, period): (usize, Duration), now: Duration) -> Option<Duration> {
        match self.items.len() {
            0 => None,
            len if len >= batch => Some(now),
            _ => Some(self.since.saturating_add(period)),
        }
    }
}

/// What the first of what is posted comes to.
enum Gate {
    Open,
    Shut,
    Failed(Failed),
}

/// Turns a lane when its alarm goes off.
struct Turn {
    lane: Weak<Lane>,
    conn: Weak<Conn>,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        let Some(lane) = self.lane.upgrade() else { return };
        let progress = lane.turn();
        match self.conn.upgrade() {
            Some(conn) => conn.settle(lane.sender(), progress),
            None => progress.wakes.fire(),
        }
    }
}

impl Lane {
    /// Has the lane of `conn` go by the plan of a simulation, between two fabrics by their numbers.
    pub(crate) fn lay_wire(self: &Arc<Self>, conn: &Arc<Conn>, trouble: &Arc<Trouble>, ends: [usize; 2]) {
        let waker = Waker::from(Arc::new(Turn { lane: Arc::downgrade(self), conn: Arc::downgrade(conn) }));
        let wire = Wire {
            trouble: Arc::clone(trouble),
            ends,
            now: Duration::ZERO,
            due: VecDeque::new(),
            shut_since: None,
            placed: Late::new(),
            arriving: Late::new(),
            alarm: None,
            waker,
        };
        let mut state = self.state();
        state.long_way = true;
        state.wire = Some(Box::new(wire));
    }

    /// Does what it is time for.
    fn turn(&self) -> Progress {
        let mut progress = Progress::default();
        let mut state = self.state();
        if state.pump(self, &mut progress) {
            progress.wakes = state.wakes();
        }
        self.hints.update(&state);
        drop(state);
        self.wake_completer();
        progress
    }
}

impl State {
    /// The device is given what is posted last.
    pub(super) fn depart(&mut self, progress: &mut Progress) {
        let (Some(wire), Some(message)) = (&mut self.wire, self.posted.back()) else { return };
        let now = wire.trouble.timer().now();
        let [from, _] = wire.ends;
        match wire.trouble.operation(from, message.bytes().len()) {
            Some(delay) => {
                let before = wire.due.back().copied().unwrap_or_default();
                wire.due.push_back(now.saturating_add(delay).max(before));
            }
            None => {
                wire.due.push_back(Duration::MAX);
                self.halted = true;
                progress.failed = Some(Failed::QueuePair);
            }
        }
    }

    /// Looks at the clock.
    pub(super) fn tick(&mut self) {
        if let Some(wire) = &mut self.wire {
            wire.now = wire.trouble.timer().now();
        }
    }

    /// Whether the first of what is posted arrives now.
    pub(super) fn arrives(&mut self, progress: &mut Progress) -> bool {
        let Some(wire) = &mut self.wire else { return true };
        match wire.gate() {
            Gate::Open => true,
            Gate::Shut => false,
            Gate::Failed(failed) => {
                self.halted = true;
                progress.failed = Some(failed);
                false
            }
        }
    }

    /// The first of what was posted has arrived, and what it added to `arrived` and `free`, which were so long before, is not
    /// to show yet. Whether there is anything to see of it.
    pub(super) fn hide(&mut self, (arrived, free): (usize, usize), is_operation: bool) -> bool {
        let Some(wire) = &mut self.wire else { return true };
        wire.due.pop_front();
        wire.shut_since = None;
        let (now, [_, to]) = (wire.now, wire.ends);
        for message in self.arrived.drain(arrived..) {
            wire.trouble.note(Note::Arrived { to, len: message.bytes().len() });
            wire.arriving.push(message, now);
        }
        for mem in self.free.drain(free..) {
            wire.placed.push(mem, now);
        }
        is_operation
    }

    /// Shows what is to show by now, and sets the alarm for what comes next. Whether there is anything new to see, and whether
    /// what comes next is due already, and another look is.
    pub(super) fn show(&mut self) -> (bool, bool) {
        let Some(wire) = &mut self.wire else { return (false, false) };
        let (now, moderation) = (wire.now, wire.moderation());
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        let mut shown = false;
        if due(wire.placed.shows(moderation, now)) {
            self.free.extend(wire.placed.items.drain(..));
            shown = true;
        }
        if due(wire.arriving.shows(moderation, now)) {
            self.arrived.append(&mut wire.arriving.items);
            shown = true;
        }
        (shown, wire.set_alarm(self.halted))
    }

    /// Messages that have arrived, and whose sender does not know.
    #[inline]
    pub(super) fn unconfirmed(&self) -> usize {
        self.wire.as_ref().map_or(0, |wire| wire.placed.items.len())
    }

    /// Whether nothing will arrive any more that has not shown.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        self.dead && self.wire.as_ref().is_none_or(|wire| wire.arriving.items.is_empty())
    }

    /// Nothing is under way any more. What has arrived will show in its time.
    pub(super) fn cut_wire(&mut self) -> VecDeque<Box<[u8]>> {
        let Some(wire) = &mut self.wire else { return VecDeque::new() };
        wire.due.clear();
        std::mem::take(&mut wire.placed.items)
    }

    /// Nobody will look at what arrives.
    pub(super) fn forget_arriving(&mut self) -> VecDeque<Message> {
        self.wire.as_mut().map_or_else(VecDeque::new, |wire| std::mem::take(&mut wire.arriving.items))
    }
}

impl Wire {
    fn moderation(&self) -> (usize, Duration) {
        let plan = self.trouble.plan();
        (plan.batch, plan.period)
    }

    fn gate(&mut self) -> Gate {
        let Some(due) = self.due.front() else { return Gate::Open };
        let now = self.now;
        if *due > now {
            return Gate::Shut;
        }
        let [from, to] = self.ends;
        match self.trouble.way(from, to, now) {
            Way::Open => Gate::Open,
            Way::NotReady(_) => Gate::Shut,
            Way::Shut(_) => {
                let since = *self.shut_since.get_or_insert(now);
                match now >= since.saturating_add(self.trouble.plan().retry) {
                    true => Gate::Failed(Failed::Unreachable),
                    false => Gate::Shut,
                }
            }
        }
    }

    /// When there is something to do next, as far as the clock says; where it is `halted` nothing arrives.
    fn next(&self, halted: bool) -> Option<Duration> {
        let (now, moderation, [from, to]) = (self.now, self.moderation(), self.ends);
        let arrival = self.due.front().filter(|_| !halted).and_then(|due| {
            let way = self.trouble.way(from, to, now);
            match way {
                _ if *due > now => Some(*due),
                // It waits for a receive: whoever posts one moves things on.
                Way::Open => None,
                Way::NotReady(until) => Some(until),
                Way::Shut(until) => {
                    let retried = self.shut_since.map(|since| since.saturating_add(self.trouble.plan().retry));
                    Some(retried.map_or(until, |limit| limit.min(until)))
                }
            }
        });
        let shows = [self.placed.shows(moderation, now), self.arriving.shows(moderation, now)];
        shows.into_iter().flatten().chain(arrival).min()
    }

    /// Sets the alarm for what comes next. Whether that is due already.
    fn set_alarm(&mut self, halted: bool) -> bool {
        let now = self.now;
        let Some(at) = self.next(halted).filter(|at| *at < Duration::MAX) else {
            self.alarm = None;
            return false;
        };
        if self.alarm.as_ref().is_some_and(|(set, _)| *set == at && at > now) {
            return false;
        }
        let mut sleep = self.trouble.timer().sleep(at.saturating_sub(now));
        // Real time does not wait.
        let due = Pin::new(&mut sleep).poll(&mut Context::from_waker(&self.waker)).is_ready();
        self.alarm = (!due).then_some((at, sleep));
        due
    }
}
