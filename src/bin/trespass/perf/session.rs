//! One test, at either end: a fabric for it, a connection, the link over that, and the conversation.

use std::task::Poll;

use trespass_carriers::{
    DatagramCarrier, DatagramConfig, MessageCarrier, MessageConfig, RendezvousCarrier, RendezvousConfig, StreamCarrier,
    StreamConfig,
};
use trespass_core::{
    Datagram, Drive, Endpoint, Fabric, InOrder, Incoming, Listener, ListenerExt, Lossless, RemoteMemory, RemoteWindow,
    Role, SendSideExt, Track, TransportError, block_on,
};

use super::backend::Backend;
use super::carriers::{MessageLink, RendezvousLink, StreamLink};
use super::error::PerfError;
use super::link::{Link, close};
use super::memory::{Loan, Operations};
use super::pace::{Events, Gauge, Halt, Pace, Polling, Watch};
use super::plan::{Layer, MAX_PATIENCE, Plan, Wait, Work};
use super::said::{BadFrame, Control, Counts, Said};
use super::stop::unless_stopped;
use super::talk::{self, Tally};
use super::tracks::{Notes, SharedLink, TrackLink};

type TrackOf<B> = <<B as Backend>::Fabric as Fabric>::Track;

/// What an end has for one test.
struct Session<'a, B: Backend, A> {
    plan: &'a Plan,
    control: &'a mut Control<TrackOf<B>>,
    /// The clock of the control connection, which nobody has to drive.
    clock: <B::Fabric as Fabric>::Timer,
    gauge: &'a Gauge,
    backend: &'a B,
    fabric: B::Fabric,
    driver: B::Driver,
    end: End<B::Addr>,
    /// What a client does over a link.
    leader: Option<&'a mut A>,
}

/// A client's part of a conversation: what it measures, and how it goes about it.
pub(crate) trait Leader {
    async fn lead<L: Link, P: Pace>(
        &mut self,
        link: &mut L,
        pace: &mut P,
        plan: &Plan,
        gauge: &Gauge,
        tally: &mut Tally,
    ) -> Result<(), Halt>;
}

/// Which end it is.
#[derive(Clone)]
enum End<A> {
    Client {
        /// Where the server listens for this test.
        there: A,
        window: Option<RemoteWindow>,
    },
    Server {
        /// Where to listen.
        here: A,
    },
}

/// What a conversation came to.
struct Outcome {
    tally: Tally,
    /// What the other end says that it has sent and received.
    theirs: Counts,
}

/// The client's part of a test: what it measured, and what the server counted.
pub(crate) fn lead<B: Backend, A: Leader>(
    backend: &B,
    control: &mut Control<TrackOf<B>>,
    plan: &Plan,
    gauge: &Gauge,
    leader: &mut A,
) -> Result<(Tally, Counts), PerfError> {
    let patience = plan.terms().patience;
    if plan.terms().layer == Layer::Shared && !B::SHARED {
        return Err(PerfError::Unsupported("tracks that share their queues"));
    }
    let here = control.track().map(Endpoint::local).ok_or(PerfError::Gone)?;
    let clock = control.track().map(Endpoint::timer).ok_or(PerfError::Gone)?;
    let (fabric, driver) = backend.open(plan.shape(), &here)?;
    let go = trespass_core::wait(unless_stopped(&clock, Some(patience), async {
        control.say(&Said::Test(*plan)).await?;
        control.hear().await
    }))??;
    let Said::Go { addr, window } = go else { return Err(PerfError::Frame(BadFrame::Turn)) };
    let there = addr.parse().map_err(|_| PerfError::Frame(BadFrame::Text))?;
    let end = End::Client { there, window };
    let session = Session { plan, control, clock, gauge, backend, fabric, driver, end, leader: Some(leader) };
    let Outcome { tally, theirs } = session.run()?;
    compare(plan, &tally.counts, &theirs)?;
    Ok((tally, theirs))
}

/// The client has sent all, and hears what came of it.
fn finish<T: Track<Delivery: Lossless + InOrder>>(
    control: &mut Control<T>,
    clock: &T::Timer,
    plan: &Plan,
    counts: Counts,
) -> Result<Counts, PerfError> {
    let done = trespass_core::wait(unless_stopped(clock, Some(plan.terms().patience), async {
        control.say(&Said::Finish(counts)).await?;
        control.hear().await
    }))??;
    match done {
        Said::Done(counts) => Ok(counts),
        _ => Err(PerfError::Frame(BadFrame::Turn)),
    }
}

/// Every message that was sent was received, or may be lost.
fn compare(plan: &Plan, ours: &Counts, theirs: &Counts) -> Result<(), PerfError> {
    let answered = plan.terms().work != Work::OneWay && !plan.terms().layer.is_one_sided();
    let pairs = [Some((ours.sent, theirs.received)), answered.then_some((theirs.sent, ours.received))];
    for (sent, received) in pairs.into_iter().flatten() {
        let lossy = plan.terms().layer.is_lossy();
        if received > sent || (received < sent && !lossy) {
            return Err(PerfError::Miscounted { sent, received });
        }
    }
    Ok(())
}

/// The server's part of a test that it was asked for.
pub(crate) fn follow<B: Backend>(
    backend: &B,
    control: &mut Control<TrackOf<B>>,
    plan: &Plan,
) -> Result<Counts, PerfError> {
    let here = control.track().map(Endpoint::local).ok_or(PerfError::Gone)?;
    let clock = control.track().map(Endpoint::timer).ok_or(PerfError::Gone)?;
    let (fabric, driver) = backend.open(plan.shape(), &here)?;
    let end = End::Server { here: backend.place(&here)? };
    let gauge = Gauge::default();
    let session: Session<'_, B, talk::Measure> =
        Session { plan, control, clock: clock.clone(), gauge: &gauge, backend, fabric, driver, end, leader: None };
    let Outcome { tally, theirs } = session.run()?;
    let counts = match plan.terms().layer.is_one_sided() {
        // What is in the memory was looked at.
        true => Counts { received: tally.counts.received, ..theirs },
        false => tally.counts,
    };
    let done = Said::Done(counts);
    trespass_core::wait(unless_stopped(&clock, Some(plan.terms().patience), control.say(&done)))??;
    Ok(counts)
}

impl<B: Backend, A: Leader> Session<'_, B, A> {
    fn run(mut self) -> Result<Outcome, PerfError> {
        let (shape, size) = (self.plan.shape(), self.plan.terms().size);
        match self.plan.terms().layer {
            Layer::Track => {
                let fabric = self.fabric.clone();
                let track = self.meet(&fabric, None)?;
                self.converse(TrackLink::new(track, size))
            }
            Layer::Shared => {
                let shared = self.backend.shared(&self.fabric, shape)?;
                let track = self.meet(&shared, None)?;
                let notes = match (self.plan.terms().work, &self.end) {
                    (Work::OneWay, End::Server { .. }) => Notes::Tells,
                    (Work::OneWay, End::Client { .. }) => Notes::Heeds,
                    _ => Notes::None,
                };
                self.converse(SharedLink::new(track, size, shape.receives, notes))
            }
            Layer::Datagrams => {
                let datagrams = self.backend.datagrams(&self.fabric, shape)?;
                let track = self.meet(&datagrams, None)?;
                // Known before the first message: nothing would ever come of it.
                fits(&track, size)?;
                self.converse(TrackLink::new(track, size))
            }
            Layer::Message | Layer::Rendezvous | Layer::Stream => self.over_a_carrier(),
            Layer::DatagramCarrier => {
                let datagrams = self.backend.datagrams(&self.fabric, shape)?;
                let track = self.meet(&datagrams, None)?;
                self.over_datagrams(track)
            }
            Layer::Read | Layer::Write | Layer::Add | Layer::Swap => self.over_memory(),
        }
    }

    fn over_a_carrier(mut self) -> Result<Outcome, PerfError> {
        let fabric = self.fabric.clone();
        let track = self.meet(&fabric, None)?;
        let (size, role, patience) = (self.plan.terms().size, self.role(), self.plan.terms().patience);
        let messages = MessageConfig::default().with_open_timeout(patience).with_close_timeout(patience);
        match self.plan.terms().layer {
            Layer::Stream => {
                let config = StreamConfig::default().with_open_timeout(patience).with_close_timeout(patience);
                let stream = self.opened(StreamCarrier::open(track, role, config))?;
                self.converse(StreamLink::new(stream, size))
            }
            Layer::Rendezvous => {
                let config = RendezvousConfig::new(fabric).with_messages(messages).with_lend_from(size);
                let carrier = self.opened(RendezvousCarrier::open(track, role, config))?;
                let link = RendezvousLink::new(carrier, size, self.plan.regions());
                let link = link.map_err(|error| PerfError::transport("registering memory", &error))?;
                self.converse(link)
            }
            _ => {
                let carrier = self.opened(MessageCarrier::open(track, role, messages))?;
                let eager = carrier.eager_limit();
                self.converse(MessageLink::new(carrier, size, eager))
            }
        }
    }

    fn over_datagrams<T: Track<Delivery = Datagram>>(mut self, track: T) -> Result<Outcome, PerfError> {
        let (size, role, patience) = (self.plan.terms().size, self.role(), self.plan.terms().patience);
        let config = DatagramConfig::default().with_open_timeout(patience).with_close_timeout(patience);
        // The acceptor is open once it has heard of the connector, which is by its first message.
        let carrier = self.opened(DatagramCarrier::open(track, role, config))?;
        let (eager, most) = (carrier.eager_limit(), carrier.max_message());
        if size > most {
            return Err(PerfError::TooLong { size, most });
        }
        self.converse(MessageLink::new(carrier, size, eager))
    }

    fn over_memory(mut self) -> Result<Outcome, PerfError> {
        let fabric = self.fabric.clone();
        match self.end.clone() {
            End::Server { .. } => {
                let loan = Loan::new(&fabric, self.plan)?;
                // Kept until the client is done with it.
                let _track = self.meet(&fabric, Some(loan.remote()))?;
                let theirs = self.sleep()?;
                let mut tally = Tally::new()?;
                tally.counts.received = loan.count(self.plan, theirs.sent)?;
                Ok(Outcome { tally, theirs })
            }
            End::Client { window, .. } => {
                let window = window.ok_or(PerfError::Frame(BadFrame::Turn))?;
                let mut track = self.meet(&fabric, None)?;
                let operations = Operations::new(&fabric, &mut track, window, self.plan)?;
                let mut tally = Tally::new()?;
                let Self { plan, gauge, mut driver, .. } = self;
                let mut watch = Watch::new(self.control, self.clock.clone(), gauge, plan.terms().patience);
                over(match plan.terms().wait {
                    Wait::Events => operate(Events(&mut watch), &mut driver, operations, gauge, &mut tally),
                    Wait::Polling => operate(Polling::new(&mut watch), &mut driver, operations, gauge, &mut tally),
                })?;
                let theirs = finish(self.control, &self.clock, plan, tally.counts)?;
                let _ = block_on(&mut driver, track.close());
                Ok(Outcome { tally, theirs })
            }
        }
    }

    /// Waits, asleep, until the client says that it is done. Of its operations nothing is seen here: that its process or machine is
    /// gone is, by the other connection, but not that it stands still.
    fn sleep(&mut self) -> Result<Counts, PerfError> {
        let mut watch = Watch::new(self.control, self.clock.clone(), self.gauge, MAX_PATIENCE);
        match block_on(&mut self.driver, Events(&mut watch).until(|_| Poll::<()>::Pending)) {
            Err(Halt::Finished(counts)) => Ok(counts),
            Err(Halt::Failed(error)) => Err(*error),
            Ok(()) => Err(PerfError::Gone),
        }
    }

    fn converse<L: Link>(self, mut link: L) -> Result<Outcome, PerfError> {
        let Self { plan, gauge, mut driver, leader, .. } = self;
        let leads = leader.is_some();
        let mut watch = Watch::new(self.control, self.clock.clone(), gauge, plan.terms().patience);
        let mut talk = Talk { plan, gauge, leader, tally: Tally::new()? };
        let claimed = match plan.terms().wait {
            Wait::Events => talk.over(&mut link, Events(&mut watch), &mut driver),
            Wait::Polling => talk.over(&mut link, Polling::new(&mut watch), &mut driver),
        }?;
        let tally = talk.tally;
        // Before the link is closed: to who still listens there that would be the end.
        let theirs = match leads {
            true => finish(self.control, &self.clock, plan, tally.counts)?,
            false => claimed,
        };
        close(&mut link, &mut driver);
        Ok(Outcome { tally, theirs })
    }

    fn role(&self) -> Role {
        match self.end {
            End::Client { .. } => Role::Connector,
            End::Server { .. } => Role::Acceptor,
        }
    }

    /// Joins the two ends by a track of `fabric`. The server tells the client where to connect, and of what it lends.
    fn meet<F>(&mut self, fabric: &F, window: Option<RemoteWindow>) -> Result<F::Track, PerfError>
    where
        F: Fabric<Addr = B::Addr>,
    {
        let Self { control, clock, driver, .. } = self;
        let patience = Some(self.plan.terms().patience);
        match &self.end {
            End::Client { there, .. } => {
                let track = block_on(driver, unless_stopped(clock, patience, fabric.connect(there)))?;
                track.map_err(|error| PerfError::transport("connecting", &error))
            }
            End::Server { here } => {
                let mut listener = fabric.listen(here).map_err(|error| PerfError::transport("listening", &error))?;
                let addr = listener.local().to_string();
                let accepting = async {
                    control.say(&Said::Go { addr, window }).await?;
                    let incoming = listener.incoming().await;
                    let accepting = incoming.map_err(|error| PerfError::transport("listening", &error))?.accept();
                    accepting.await.map_err(|error| PerfError::transport("accepting", &error))
                };
                block_on(driver, unless_stopped(clock, patience, accepting))?
            }
        }
    }

    /// A carrier's handshake, which has a deadline of its own.
    fn opened<C, E: TransportError>(&mut self, opening: impl Future<Output = Result<C, E>>) -> Result<C, PerfError> {
        let carrier = block_on(&mut self.driver, unless_stopped(&self.clock, None, opening))?;
        carrier.map_err(|error| PerfError::transport("opening the carrier", &error))
    }
}

/// A conversation, of either end.
struct Talk<'a, A> {
    plan: &'a Plan,
    gauge: &'a Gauge,
    /// None at the server.
    leader: Option<&'a mut A>,
    tally: Tally,
}

impl<A: Leader> Talk<'_, A> {
    /// Has it over `link`. What the client claims is the server's to know.
    fn over<L: Link, P: Pace, D: Drive>(
        &mut self,
        link: &mut L,
        mut pace: P,
        driver: &mut D,
    ) -> Result<Counts, PerfError> {
        let Self { plan, gauge, leader, tally } = self;
        match leader {
            None => P::run(driver, talk::follow(link, &mut pace, plan, gauge, tally)),
            Some(leader) => {
                over(P::run(driver, leader.lead(link, &mut pace, plan, gauge, tally))).map(|()| Counts::default())
            }
        }
    }
}

fn operate<T: RemoteMemory, P: Pace, D: Drive>(
    mut pace: P,
    driver: &mut D,
    operations: Operations<'_, T>,
    gauge: &Gauge,
    tally: &mut Tally,
) -> Result<(), Halt> {
    P::run(driver, operations.measure(&mut pace, gauge, tally))
}

/// A client ends by itself: nobody tells it to.
fn over(ended: Result<(), Halt>) -> Result<(), PerfError> {
    match ended {
        Ok(()) => Ok(()),
        Err(Halt::Failed(error)) => Err(*error),
        Err(Halt::Finished(_)) => Err(PerfError::Frame(BadFrame::Turn)),
    }
}

/// Whether a track's messages are as long as `size`: that of datagrams is known when there is one.
fn fits<T: Track>(track: &T, size: usize) -> Result<(), PerfError> {
    match track.limits().max_message {
        most if size > most => Err(PerfError::TooLong { size, most }),
        _ => Ok(()),
    }
}
