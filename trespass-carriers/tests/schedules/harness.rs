//! Random operations, under random plans, in seeded schedules: for any carrier that is plugged in by [`Subject`].
//!
//! Two ends, each a task of a simulation, do what their dice say; then both wind up. What each knows at the end must fit
//! what the other knows.

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use allocation_counter::measure;
use trespass_core::{ErrorKind, Fabric, Incoming, ListenerExt, Role, Timer};
use trespass_mock::{MockAddr, MockFabric, MockNet, MockPlan, MockSim, MockTimer};

use crate::dice::Dice;
use crate::polls::polls;

/// What arrives, of what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "no carrier here makes the last one yet")]
pub(crate) enum Promise {
    /// Each message, whole, once, in order.
    Messages,
    /// Each byte, in order; where one send ends and the next begins is not to be seen.
    Bytes,
    /// Messages, whole, at most once, in any order.
    Some,
}

/// A carrier that the properties are asked of: one end of it.
pub(crate) trait Subject: Sized + 'static {
    /// What it runs over: the mock's fabric, or its datagrams.
    type Fabric: Fabric<Addr = MockAddr> + 'static;
    /// How both ends are set up.
    type Setup: Clone + Debug + 'static;
    const PROMISE: Promise;

    fn setup(dice: &mut Dice) -> Self::Setup;
    fn fabric(net: &MockNet, setup: &Self::Setup) -> (Self::Fabric, MockFabric);
    fn open(
        track: <Self::Fabric as Fabric>::Track,
        role: Role,
        setup: Self::Setup,
    ) -> impl Future<Output = Result<Self, ErrorKind>> + 'static;

    /// How long what is sent may be.
    fn longest(&self) -> usize;
    /// Sends, and says whether it did: it is given up when [`Sending::wait`] is, and then nothing of it arrives. A carrier that
    /// cannot take back what it began waits without bounds.
    fn send(&mut self, data: &[u8], sending: Sending<'_>) -> impl Future<Output = Result<bool, ErrorKind>>;
    /// What comes next; `None` at a clean end. Keeps it, if that is asked for, and then gives a copy.
    fn recv(&mut self, keep: bool) -> impl Future<Output = Result<Option<Vec<u8>>, ErrorKind>>;
    /// Lets go of all that is kept.
    fn let_go(&mut self);
    /// Anything else that this carrier can do, and that sends `data` or does not: whether it did.
    fn other(&mut self, data: &[u8], dice: &mut Dice) -> Result<bool, ErrorKind>;
    /// Says that no more comes.
    fn finish(&mut self) -> impl Future<Output = Result<(), ErrorKind>>;
    fn close(&mut self) -> impl Future<Output = Result<(), ErrorKind>>;
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

/// What one end did, and what it knows at the end.
#[derive(Debug, Default)]
struct Known {
    /// Said to be sent.
    sent: Vec<Vec<u8>>,
    /// Failed on the way: it may arrive, or not.
    doubtful: Option<Vec<u8>>,
    received: Vec<Vec<u8>>,
    /// The peer's goodbye was received.
    goodbye: bool,
    finished: bool,
    error: Option<ErrorKind>,
    closed: Option<Result<(), ErrorKind>>,
}

/// One end, at work.
struct End<S> {
    carrier: S,
    known: Known,
    dice: Dice,
    timer: MockTimer,
    number: u8,
    over: bool,
}

impl<S: Subject> End<S> {
    async fn work(mut self, operations: u64) -> Known {
        for _ in 0..operations {
            if self.over {
                break;
            }
            self.operate().await;
        }
        self.carrier.let_go();
        self.wind_up().await;
        self.known
    }

    async fn operate(&mut self) {
        match self.dice.below(20) {
            0..=5 => self.send().await,
            6..=7 => self.other(),
            8..=14 => {
                let patience = Some(self.dice.index(4));
                self.recv(patience).await;
            }
            15 | 16 => self.carrier.let_go(),
            17 => self.timer.sleep(Duration::from_micros(self.dice.below(60))).await,
            18 => self.recv(None).await,
            _ => {}
        }
    }

    /// Bytes that no other send has.
    fn data(&mut self, longest: usize) -> Vec<u8> {
        let most = if self.dice.one_in(3) { longest } else { longest.min(200) };
        let len = self.dice.index(most + 1);
        let mut data: Vec<u8> = (0..len).map(|_| self.dice.roll() as u8).collect();
        for (place, byte) in data.iter_mut().zip([self.number, self.known.sent.len() as u8]) {
            *place = byte;
        }
        data
    }

    async fn send(&mut self) {
        if self.known.finished {
            return;
        }
        let data = self.data(self.carrier.longest());
        let patience = self.dice.one_in(4).then(|| self.dice.index(4));
        let sending = Sending { patience, timer: &self.timer };
        match self.carrier.send(&data, sending).await {
            Ok(true) => self.known.sent.push(data),
            Ok(false) => {}
            Err(error) => self.fail(error, Some(data)),
        }
    }

    fn other(&mut self) {
        if self.known.finished {
            return;
        }
        let data = self.data(100);
        match self.carrier.other(&data, &mut self.dice) {
            Ok(true) => self.known.sent.push(data),
            Ok(false) => {}
            Err(error) => self.fail(error, Some(data)),
        }
    }

    /// Waits for what comes next: for a while, or, where the peer must send something still, as long as it takes.
    async fn recv(&mut self, patience: Option<usize>) {
        if self.known.goodbye {
            return;
        }
        // Both ends that wait for the other to send would wait for ever: what must come is the end, once this has finished.
        if patience.is_none() {
            if !self.dice.one_in(10) {
                return;
            }
            self.finish().await;
        }
        let keep = patience.is_some() && self.dice.one_in(3);
        match polls(self.carrier.recv(keep), patience, &self.timer).await {
            Some(Ok(Some(data))) => self.known.received.push(data),
            Some(Ok(None)) => self.known.goodbye = true,
            Some(Err(error)) => self.fail(error, None),
            None => {}
        }
    }

    async fn finish(&mut self) {
        if !std::mem::replace(&mut self.known.finished, true) {
            if let Err(error) = self.carrier.finish().await {
                self.fail(error, None);
            }
        }
    }

    fn fail(&mut self, error: ErrorKind, doubtful: Option<Vec<u8>>) {
        self.known.error.get_or_insert(error);
        if self.known.doubtful.is_none() {
            self.known.doubtful = doubtful;
        }
        self.over = true;
    }

    /// Says that it is done, receives to the end, and closes.
    async fn wind_up(&mut self) {
        self.finish().await;
        while !self.known.goodbye {
            match self.carrier.recv(false).await {
                Ok(Some(data)) => self.known.received.push(data),
                Ok(None) => self.known.goodbye = true,
                Err(error) => {
                    self.known.error.get_or_insert(error);
                    break;
                }
            }
        }
        self.known.closed = Some(self.carrier.close().await);
    }
}

/// One run: what the seed says, under a plan that breaks things or one that only slows down.
pub(crate) fn run<S: Subject>(seed: u64) -> Result<(), String> {
    let mut outcome = Ok(());
    let used = measure(|| outcome = run_counted::<S>(seed));
    outcome?;
    match used.bytes_current {
        0 => Ok(()),
        leaked => Err(format!("{leaked} bytes leaked")),
    }
}

fn run_counted<S: Subject>(seed: u64) -> Result<(), String> {
    let breaks = seed % 4 == 3;
    let plan = MockPlan::seeded(seed, 2);
    let plan = if breaks { plan.with_an_end(seed, 2) } else { plan };
    let mut dice = Dice::new(seed);
    let setup = S::setup(&mut dice);
    // What is planned takes seconds at most, and deadlines some more.
    let mut sim = MockSim::new(seed, plan).with_limit(Duration::from_secs(120));
    let (acceptor, acceptor_handle) = S::fabric(sim.net(), &setup);
    let (connector, connector_handle) = S::fabric(sim.net(), &setup);
    let addr: MockAddr = "there".parse().map_err(|_| "no address")?;
    let mut listener = acceptor.listen(&addr).map_err(|error| format!("{error:?}"))?;
    let operations = dice.below(40);
    let ends = [Dice::new(dice.roll()), Dice::new(dice.roll())];
    let [left_dice, right_dice] = ends;
    let (timer, with) = (sim.timer(), setup.clone());
    let left = sim.spawn("left", async move {
        let track = connector.connect(&addr).await.map_err(|error| kind(&error))?;
        let carrier = S::open(track, Role::Connector, with).await?;
        let end = End { carrier, known: Known::default(), dice: left_dice, timer, number: 1, over: false };
        Ok::<_, ErrorKind>(end.work(operations).await)
    });
    let (timer, with) = (sim.timer(), setup.clone());
    let right = sim.spawn("right", async move {
        // A connector that was killed before it asked never will.
        let incoming = within(listener.incoming(), &timer).await.ok_or(ErrorKind::TimedOut)?;
        let track = incoming.map_err(|error| kind(&error))?.accept().await.map_err(|error| kind(&error))?;
        let carrier = S::open(track, Role::Acceptor, with).await?;
        let end = End { carrier, known: Known::default(), dice: right_dice, timer, number: 2, over: false };
        Ok::<_, ErrorKind>(end.work(operations).await)
    });
    let report = sim.run().map_err(|failure| failure.to_string())?;
    let rnr = connector_handle.counters().rnr_stalls + acceptor_handle.counters().rnr_stalls;
    let outcome = (left.output().unwrap_or(Err(ErrorKind::Closed)), right.output().unwrap_or(Err(ErrorKind::Closed)));
    check::<S>(&outcome, breaks, rnr).map_err(|why| format!("{why}\nafter {report:?}, with {setup:?}"))
}

fn kind<E: trespass_core::TransportError>(error: &E) -> ErrorKind {
    error.kind()
}

async fn within<F: Future>(future: F, timer: &MockTimer) -> Option<F::Output> {
    let (mut future, mut alarm) = (pin!(future), timer.sleep(Duration::from_secs(20)));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Pin::new(&mut alarm).poll(cx).map(|()| None),
    })
    .await
}

/// Whether what both ends know fits together.
fn check<S: Subject>(
    (left, right): &(Result<Known, ErrorKind>, Result<Known, ErrorKind>),
    breaks: bool,
    rnr: u64,
) -> Result<(), String> {
    if S::PROMISE != Promise::Some && rnr > 0 {
        return Err(format!("{rnr} messages met a receiver that was not ready"));
    }
    match (left, right) {
        (Ok(left), Ok(right)) => {
            both_ways::<S>(left, right, breaks).map_err(|why| format!("left to right: {why}"))?;
            both_ways::<S>(right, left, breaks).map_err(|why| format!("right to left: {why}"))
        }
        _ if !breaks => Err(format!("no carriers: {:?}, {:?}", left.as_ref().err(), right.as_ref().err())),
        _ => Ok(()),
    }
}

fn both_ways<S: Subject>(from: &Known, to: &Known, breaks: bool) -> Result<(), String> {
    let counts = || {
        let (sent, received) = (from.sent.len(), to.received.len());
        format!(
            "{sent} sent ({:?}, {:?}), {received} received ({:?}, {:?})",
            from.error, from.closed, to.error, to.closed
        )
    };
    let maybe = || from.sent.iter().chain(&from.doubtful);
    let fits = match S::PROMISE {
        Promise::Messages => {
            let all = to.received == from.sent;
            all || (breaks
                && !to.goodbye
                && to.received.len() <= maybe().count()
                && to.received.iter().eq(maybe().take(to.received.len())))
        }
        Promise::Bytes => {
            let (got, sent) = (to.received.concat(), from.sent.concat());
            let more: Vec<u8> = maybe().flatten().copied().collect();
            got == sent || (breaks && !to.goodbye && more.starts_with(&got))
        }
        Promise::Some => {
            let mut left: Vec<&Vec<u8>> = maybe().collect();
            to.received.iter().all(|got| {
                let found = left.iter().position(|sent| *sent == got);
                found.map(|at| left.swap_remove(at)).is_some()
            })
        }
    };
    if !fits {
        return Err(format!("not what was sent: {}", counts()));
    }
    if to.goodbye && !from.finished {
        return Err(format!("a goodbye that nobody said: {}", counts()));
    }
    if !breaks && (from.error.is_some() || from.closed != Some(Ok(())) || !to.goodbye) {
        return Err(format!("an error where nothing broke: {}", counts()));
    }
    Ok(())
}
