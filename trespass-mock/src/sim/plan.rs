//! What goes wrong in a simulation, as plain data.

use std::ops::Range;
use std::time::Duration;

use super::dice::Dice;

/// What goes wrong in a [`MockSim`](crate::MockSim): plain data, written by hand or made of a seed, and printed when a run
/// fails.
///
/// Faults keep to what the delivery promises. A reliable track may be slow, stall, break or lose its peer; whatever the plan
/// says it drops nothing, and nothing overtakes. Fabrics are named by the order in which they were made, from zero.
///
/// The default plan is a perfect network.
///
/// ```
/// use std::time::Duration;
/// use trespass_mock::{MockFault, MockPlan, MockWhen};
///
/// let ms = Duration::from_millis;
/// let plan = MockPlan::default()
///     .with_delay(ms(1)..ms(5))
///     .with_completions(16, ms(2))
///     .with_event(MockWhen::At(ms(100)), MockFault::Stall { fabric: 1, lasting: ms(50) })
///     .with_event(MockWhen::Operation { fabric: 0, number: 7 }, MockFault::QueuePairError { fabric: 0 });
/// assert_eq!(plan, plan.clone());
/// assert_eq!(MockPlan::seeded(42, 2), MockPlan::seeded(42, 2));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MockPlan {
    /// How long a message or operation is under way, each for itself; none overtakes another. Default zero.
    pub delay: Range<Duration>,
    /// Completions, of sends and of receives, show when there are so many of them. Default 1. Operations complete at once.
    pub batch: usize,
    /// Or when the first of them is so old. Default zero.
    pub period: Duration,
    /// How much later than its peer an end learns that it is connected: at random the one that connects or the one that
    /// accepts. What the other end sends by then waits for it. Default zero.
    pub established_late: Range<Duration>,
    /// How long a device tries again where nothing comes through; past it the track fails at both ends, with kind
    /// `Disconnected`. A receiver that is not ready is waited for without end. Default 4 s.
    pub retry: Duration,
    /// What happens once.
    pub events: Vec<MockEvent>,
}

/// Something that happens once.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MockEvent {
    /// When it does.
    pub when: MockWhen,
    /// What does.
    pub fault: MockFault,
}

/// When something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MockWhen {
    /// At this time.
    At(Duration),
    /// When the device of a fabric is given its so many-th message or operation of a reliable track, from one.
    Operation {
        /// Whose device.
        fabric: usize,
        /// Which.
        number: u64,
    },
    /// When the so many-th request for a reliable track is accepted, from one. With faults that last: from then on.
    Handshake(u64),
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MockFault {
    /// The device of a fabric neither sends nor receives for a while.
    Stall {
        /// Whose.
        fabric: usize,
        /// How long.
        lasting: Duration,
    },
    /// The receives of a fabric are not ready for a while: its peers wait, without end.
    NotReady {
        /// Whose.
        fabric: usize,
        /// How long.
        lasting: Duration,
    },
    /// Nothing gets from one fabric to another for a while; the other way it does. Datagrams are lost.
    Partition {
        /// Where it comes from.
        from: usize,
        /// Where it does not arrive.
        to: usize,
        /// How long, until it heals.
        lasting: Duration,
    },
    /// The queue pair that is given the operation fails, or at a time all of a fabric: kind `Device` there, `Closed` at the
    /// peer. What had not arrived is lost.
    QueuePairError {
        /// Whose.
        fabric: usize,
    },
    /// The link of all reliable tracks of a fabric breaks: kind `Disconnected` at both ends.
    BreakLink {
        /// Whose.
        fabric: usize,
    },
    /// A fabric dies, as by [`MockFabric::kill`](crate::MockFabric::kill).
    Kill {
        /// Which.
        fabric: usize,
    },
    /// At a handshake: the answer does not arrive. The end that connects runs into its deadline; the other has a track that
    /// ends then.
    LoseAnswer,
    /// At a handshake: the connection breaks as it is made, so that both ends have a track that has failed.
    BreakHandshake,
}

impl MockFault {
    /// Whether it slows down, for a while.
    pub(crate) fn lasts(self) -> bool {
        matches!(self, Self::Stall { .. } | Self::NotReady { .. } | Self::Partition { .. })
    }
}

impl Default for MockPlan {
    fn default() -> Self {
        let none = Duration::ZERO..Duration::ZERO;
        Self {
            delay: none.clone(),
            batch: 1,
            period: Duration::ZERO,
            established_late: none,
            retry: Duration::from_secs(4),
            events: Vec::new(),
        }
    }
}

impl MockPlan {
    /// A plan made of `seed`, for `fabrics` fabrics, that slows down and breaks nothing: delays, late completions, late
    /// handshakes, devices that stall, receivers that are not ready, partitions that heal in time. The same seed makes the same plan.
    pub fn seeded(seed: u64, fabrics: usize) -> Self {
        let mut dice = Dice::new(seed);
        let mut plan = Self::default();
        if dice.one_in(2) {
            plan = plan.with_delay(Duration::ZERO..micros(dice.below(50) + 1));
        }
        if dice.one_in(2) {
            plan = plan.with_completions(dice.index(8) + 1, micros(dice.below(100) + 1));
        }
        if dice.one_in(3) {
            plan = plan.with_established_late(Duration::ZERO..micros(dice.below(200) + 1));
        }
        for _ in 0..dice.below(3) {
            let (fabric, lasting) = (dice.index(fabrics), micros(dice.below(500)));
            let fault = match dice.below(3) {
                0 => MockFault::Stall { fabric, lasting },
                1 => MockFault::NotReady { fabric, lasting },
                _ => MockFault::Partition { from: fabric, to: dice.index(fabrics), lasting },
            };
            let when = dice.when(fabrics);
            plan = plan.with_event(when, fault);
        }
        plan
    }

    /// The same with something that breaks a track, or ends a fabric, at some time.
    #[must_use]
    pub fn with_an_end(self, seed: u64, fabrics: usize) -> Self {
        let mut dice = Dice::new(!seed);
        let fabric = dice.index(fabrics);
        let (when, fault) = match dice.below(7) {
            0 | 1 => (dice.when(fabrics), MockFault::QueuePairError { fabric }),
            2 => (dice.when(fabrics), MockFault::BreakLink { fabric }),
            3 => (dice.when(fabrics), MockFault::Kill { fabric }),
            4 => {
                let lasting = self.retry.saturating_mul(4);
                (dice.when(fabrics), MockFault::Partition { from: fabric, to: dice.index(fabrics), lasting })
            }
            5 => (MockWhen::Handshake(1), MockFault::LoseAnswer),
            _ => (MockWhen::Handshake(1), MockFault::BreakHandshake),
        };
        self.with_event(when, fault)
    }

    /// The same, with another [`delay`](Self::delay).
    #[must_use]
    pub fn with_delay(self, delay: Range<Duration>) -> Self {
        Self { delay, ..self }
    }

    /// The same, with completions that show `batch` at a time, or when the first is as old as `period`: see
    /// [`batch`](Self::batch). A batch of 0 is one of 1.
    #[must_use]
    pub fn with_completions(self, batch: usize, period: Duration) -> Self {
        Self { batch, period, ..self }
    }

    /// The same, with another [`established_late`](Self::established_late).
    #[must_use]
    pub fn with_established_late(self, late: Range<Duration>) -> Self {
        Self { established_late: late, ..self }
    }

    /// The same, with another [`retry`](Self::retry).
    #[must_use]
    pub fn with_retry(self, retry: Duration) -> Self {
        Self { retry, ..self }
    }

    /// The same, with one more event.
    #[must_use]
    pub fn with_event(mut self, when: MockWhen, fault: MockFault) -> Self {
        self.events.push(MockEvent { when, fault });
        self
    }

    /// The same, with nothing between two fabrics, either way, from a time on until it heals.
    #[must_use]
    pub fn with_partition(self, one: usize, other: usize, at: Duration, lasting: Duration) -> Self {
        let way = |from, to| MockFault::Partition { from, to, lasting };
        self.with_event(MockWhen::At(at), way(one, other)).with_event(MockWhen::At(at), way(other, one))
    }
}

fn micros(n: u64) -> Duration {
    Duration::from_micros(n)
}

impl Dice {
    /// Some time early in a run.
    fn when(&mut self, fabrics: usize) -> MockWhen {
        match self.one_in(2) {
            true => MockWhen::At(micros(self.below(1000))),
            false => MockWhen::Operation { fabric: self.index(fabrics), number: self.below(60) + 1 },
        }
    }
}
