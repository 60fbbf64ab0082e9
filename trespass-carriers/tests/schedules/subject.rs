//! What a carrier has to show to be asked the properties: one end of it, as tests see it.

use std::fmt::Debug;
use std::future::Future;

use trespass_core::{ErrorKind, Fabric, Role, TransportError};
use trespass_mock::{MockAddr, MockFabric, MockNet, MockSpawner, MockTimer};

use crate::dice::Dice;
use crate::end::{self, Actor, Known};
use crate::polls::polls;

/// What arrives, of what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Each message, whole, once, in order.
    Messages,
    /// Each byte, in order; where one send ends and the next begins is not to be seen.
    Bytes,
    /// Messages, whole, at most once, in any order.
    Some,
}

/// What sends.
pub(crate) trait Sends {
    /// How long what is sent may be.
    fn longest(&self) -> usize;
    /// Sends, and says how much of `data` it did: all, for a carrier of messages, or nothing. `None` where it was given up
    /// ([`Sending::wait`]), and then nothing of it arrives.
    fn send(
        &mut self,
        data: &[u8],
        sending: Sending<'_>,
        dice: &mut Dice,
    ) -> impl Future<Output = Result<Option<usize>, ErrorKind>>;
    /// Anything else that this carrier can do without waiting, and that sends `data`, or some of it, or does not.
    fn other(&mut self, data: &[u8], dice: &mut Dice) -> Result<Option<usize>, ErrorKind>;
    /// Says that no more comes, where that can be said.
    fn finish(&mut self) -> impl Future<Output = Result<(), ErrorKind>>;
}

/// What receives.
pub(crate) trait Receives {
    /// What comes next. Keeps it, if that is asked for, and then gives a copy.
    fn recv(&mut self, keep: bool, dice: &mut Dice) -> impl Future<Output = Result<Heard, ErrorKind>>;
    /// Lets go of all that is kept.
    fn let_go(&mut self);
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Heard {
    Data(Vec<u8>),
    /// The clean end.
    Goodbye,
    /// Nothing came for so long that nothing will: only where a goodbye may be lost.
    Silence,
}

/// A carrier that the properties are asked of: one end of it.
pub(crate) trait Subject: Sends + Receives + Sized + 'static {
    /// What it runs over: the mock's fabric, or its datagrams.
    type Fabric: Fabric<Addr = MockAddr, Timer = MockTimer> + Clone + 'static;
    /// How all ends are set up.
    type Setup: Clone + Debug + 'static;
    const PROMISE: Promise;
    /// Whether one that has finished and has heard the goodbye may be dropped, and takes nothing from its peer.
    const MAY_PART: bool = false;
    /// What [`seen`](Self::seen) counts: each has to be seen in a thousand schedules, or they would show less than they seem to.
    const SEEN: [&'static str; 4];

    fn setup(dice: &mut Dice) -> Self::Setup;
    fn fabric(net: &MockNet, setup: &Self::Setup) -> (Self::Fabric, MockFabric);
    fn open(
        track: <Self::Fabric as Fabric>::Track,
        role: Role,
        fabric: Self::Fabric,
        setup: Self::Setup,
    ) -> impl Future<Output = Result<Self, ErrorKind>> + 'static;
    fn close(&mut self) -> impl Future<Output = Result<(), ErrorKind>>;

    /// How many connect to the same listener at once.
    fn pairs(_: &Self::Setup) -> usize {
        1
    }

    /// How many datagrams of this fabric arrived with something wrong in them.
    fn corrupted(_: &Self::Fabric) -> u64 {
        0
    }

    /// Whether nothing gets lost, though it may: no faults were asked for.
    fn is_perfect(_: &Self::Setup) -> bool {
        false
    }

    fn seen(&self) -> [u64; 4];

    /// What is wrong with it, if anything is, once it has closed.
    fn wrong(&mut self) -> Option<String> {
        None
    }

    /// What it does: all in one task, or, where it can be split, in two.
    fn act(self, actor: Actor, operations: u64, _: MockSpawner) -> impl Future<Output = Known> {
        end::whole(self, actor, operations)
    }
}

/// How long a send is waited for.
pub(crate) struct Sending<'a> {
    pub(crate) patience: Option<usize>,
    pub(crate) timer: &'a MockTimer,
}

impl Sending<'_> {
    /// Waits for `future`; for so many polls only, where patience is bounded. `None` when that is over.
    pub(crate) async fn wait<F: Future>(&self, future: F) -> Option<F::Output> {
        polls(future, self.patience, self.timer).await
    }
}

pub(crate) fn kind<E: TransportError>(error: E) -> ErrorKind {
    error.kind()
}
