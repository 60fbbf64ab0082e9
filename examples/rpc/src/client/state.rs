//! What all users of a channel share: its calls, its connection, and whoever looks after that.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use trespass::carriers::{CarrierError, MessageCarrier, MessageOpening};
use trespass::core::{ErrorKind, Fabric, Role, Timer, TransportError, TryError};

use super::config::{CallOptions, ChannelConfig};
use crate::RpcFabric;
use crate::core::Waiter;
use crate::core::calls::{Calls, Ticket};
use crate::core::wire::{Fault, Frame, Hello};
use crate::hub::{Alarm, Hub};
use crate::link::{Link, each_frame};
use crate::method::Flow;
use crate::status::CallError;

/// How many messages one look takes in, so that nobody receives for others without end.
const BATCH: usize = 64;
/// After how many looks of those who poll the clock is read: often enough for a deadline.
const LOOKS: u32 = 16;

pub(super) struct Shared<F: RpcFabric>(Mutex<State<F>>);

pub(super) struct State<F: RpcFabric> {
    fabric: F,
    addr: F::Addr,
    config: ChannelConfig,
    timer: F::Timer,
    pub(super) calls: Calls,
    link: Linking<F>,
    alarm: Alarm<F::Timer>,
    hub: Arc<Hub>,
    /// The hub, as the waker of all that the connection waits for.
    waker: Waker,
    leader: Option<Who>,
    /// Those who drive it: calls leave the lead to them. Each with its number, and its waker once it has waited.
    drivers: Vec<(u32, Waiter)>,
    /// Who comes again to flush.
    promised: Option<Who>,
    /// What time it is, where that was asked for in this look.
    now: Option<Duration>,
    /// Looks of those who poll, which ask for the time only now and then.
    looks: u32,
    /// Connections that failed since one was good.
    failures: u32,
    chance: u64,
    closed: bool,
}

/// Somebody who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Reader(Ticket),
    Writer(Ticket),
    Driver(u32),
    Closer,
}

enum Linking<F: RpcFabric> {
    /// No connection, and none wanted.
    Idle,
    /// The last one failed: not at once again.
    Resting(<F::Timer as Timer>::Sleep),
    Connecting(Pin<Box<F::Connecting>>),
    Opening(Pin<Box<MessageOpening<F::Track>>>),
    /// The greeting of this end is out, that of the server not in.
    Greeting {
        link: Link<F::Track>,
        limit: <F::Timer as Timer>::Sleep,
    },
    Up(Link<F::Track>),
    /// Goodbye is being said.
    Leaving(Link<F::Track>),
}

/// What one look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Look again.
    Again,
    /// There is nothing to do now.
    Wait,
}

impl<F: RpcFabric> Shared<F> {
    pub(super) fn new(fabric: F, addr: F::Addr, config: ChannelConfig) -> Self {
        let hub = Arc::new(Hub::default());
        let timer = fabric.timer();
        let own = Hello {
            max_calls: 0,
            window: config.window.clamp(1, i32::MAX as u32),
            max_message: config.max_message.max(1),
        };
        let chance = config.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let state = State {
            calls: Calls::new(own, config.max_calls),
            link: Linking::Idle,
            alarm: Alarm::new(Arc::clone(&hub)),
            waker: Waker::from(Arc::clone(&hub)),
            hub,
            leader: None,
            drivers: Vec::new(),
            promised: None,
            now: None,
            looks: 0,
            failures: 0,
            chance,
            closed: false,
            fabric,
            addr,
            config,
            timer,
        };
        Self(Mutex::new(state))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<F>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: RpcFabric> State<F> {
    pub(super) fn open(
        &mut self,
        method: u32,
        flow: Flow,
        options: CallOptions,
        request: Vec<u8>,
    ) -> Result<Ticket, CallError> {
        if self.closed {
            return Err(CallError::Closed);
        }
        let limit = options.limit(self.config.deadline);
        let deadline = limit.map(|limit| {
            let now = self.timer.now();
            self.now = Some(now);
            now.saturating_add(limit)
        });
        let ticket = self.calls.open(method, flow, deadline, request)?;
        if let (Some(Duration::ZERO), Some(now)) = (limit, self.now) {
            // Too late already: it is not sent.
            self.calls.expire(now);
        }
        Ok(ticket)
    }

    /// The call's owner is gone.
    pub(super) fn abandon(&mut self, ticket: Ticket) {
        self.calls.release(ticket);
        self.push();
        self.leave(Who::Reader(ticket));
        self.leave(Who::Writer(ticket));
    }

    /// Has what waits go out, as far as it can now.
    pub(super) fn push(&mut self) {
        if let Err(error) = self.write() {
            self.broke(error.kind());
        }
        self.now = None;
        if self.promised.is_none() {
            self.flush();
        }
    }

    /// Ends the interest of `who`; if others count on it, somebody else is woken to take over.
    pub(super) fn leave(&mut self, who: Who) {
        let promised = self.promised == Some(who);
        if promised {
            self.flush();
        }
        if promised || self.leader == Some(who) {
            self.leader = None;
            let driver = self.drivers.iter().find_map(|(_, waiter)| waiter.waker());
            if let Some(waker) = driver.or_else(|| self.calls.somebody()) {
                waker.wake_by_ref();
            }
        }
    }

    /// Looks after the connection for `who`, until `done` has something. While it has not, `who` is the one that is woken for all that
    /// happens to the connection.
    ///
    /// Where other calls have ended, and their owners are about to come and perhaps to call again, nothing is flushed or waited for until
    /// they have: `who` promises to come again behind them, unless somebody has. So what many call at once goes together.
    pub(super) fn poll<R>(
        &mut self,
        who: Who,
        cx: &mut Context<'_>,
        mut done: impl FnMut(&mut Self) -> Option<R>,
    ) -> Poll<R> {
        self.look();
        for round in 0..BATCH {
            if let Some(result) = done(self) {
                if self.calls.ripe() == 0 || self.promised.is_none_or(|promised| promised == who) {
                    self.flush();
                }
                return Poll::Ready(result);
            }
            if round == 0 && (self.drivers.is_empty() || matches!(who, Who::Driver(_) | Who::Closer)) {
                // Registered first, armed then.
                self.leader = Some(who);
                self.hub.task.register(cx.waker());
            }
            if self.calls.ripe() > 0 && self.promised != Some(who) {
                if self.promised.is_none() {
                    self.promised = Some(who);
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
            self.flush();
            if self.arm() == Step::Wait {
                return Poll::Pending;
            }
        }
        // So much comes in that others should have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The same for somebody who comes again anyway: nothing is armed. A call that is `fresh` leaves the flush to the next look where
    /// others have ended, and are looked at soon.
    pub(super) fn try_poll<R>(&mut self, fresh: bool, mut done: impl FnMut(&mut Self) -> Option<R>) -> Poll<R> {
        self.looks = self.looks.wrapping_add(1);
        if self.looks % LOOKS == 0 && self.calls.earliest().is_some() {
            self.calls.expire(self.timer.now());
        }
        self.look();
        if let Some(result) = done(self) {
            return Poll::Ready(result);
        }
        if !fresh || self.calls.ripe() == 0 {
            self.flush();
        }
        Poll::Pending
    }

    fn flush(&mut self) {
        self.promised = None;
        if let Linking::Up(link) = &mut self.link {
            if let Err(error) = link.flush() {
                self.broke(error.kind());
            }
        }
    }

    /// Does what there is to do, without a wait.
    fn look(&mut self) {
        for _ in 0..BATCH {
            if self.step() == Step::Wait {
                break;
            }
        }
        self.now = None;
    }

    /// Has the hub woken when there is more to do; does it where there is.
    fn arm(&mut self) -> Step {
        if self.alarm.is_due(&self.timer, self.calls.earliest()) {
            self.calls.expire(self.timer.now());
            return Step::Again;
        }
        let mut cx = Context::from_waker(&self.waker);
        let ready = match &mut self.link {
            Linking::Up(link) => {
                let blocked = self.calls.has_output();
                link.poll_recv_ready(&mut cx).is_ready() || (blocked && link.poll_write_ready(&mut cx).is_ready())
            }
            Linking::Greeting { link, limit } => {
                link.poll_recv_ready(&mut cx).is_ready() || Pin::new(limit).poll(&mut cx).is_ready()
            }
            // A step registers the hub by itself.
            _ => return self.step(),
        };
        match ready {
            true => {
                self.step();
                Step::Again
            }
            false => Step::Wait,
        }
    }

    fn step(&mut self) -> Step {
        let mut cx = Context::from_waker(&self.waker);
        match &mut self.link {
            Linking::Idle if self.calls.wants_connection() && !self.closed => self.connect(),
            Linking::Idle => Step::Wait,
            Linking::Resting(sleep) => match Pin::new(sleep).poll(&mut cx) {
                Poll::Ready(()) => self.to(Linking::Idle),
                Poll::Pending => Step::Wait,
            },
            Linking::Connecting(connecting) => match connecting.as_mut().poll(&mut cx) {
                Poll::Ready(Ok(track)) => {
                    let opening = MessageCarrier::open(track, Role::Connector, self.config.carrier.clone());
                    self.to(Linking::Opening(Box::pin(opening)))
                }
                Poll::Ready(Err(_)) => self.failed(),
                Poll::Pending => Step::Wait,
            },
            Linking::Opening(opening) => match opening.as_mut().poll(&mut cx) {
                Poll::Ready(Ok(carrier)) => self.greet(carrier),
                Poll::Ready(Err(_)) => self.failed(),
                Poll::Pending => Step::Wait,
            },
            Linking::Greeting { link, limit } => match link.try_recv() {
                Ok(Some(message)) => self.greeted(&message),
                Ok(None) | Err(TryError::Failed(_)) => self.failed(),
                Err(TryError::WouldBlock) => match Pin::new(limit).poll(&mut cx) {
                    Poll::Ready(()) => self.failed(),
                    Poll::Pending => Step::Wait,
                },
            },
            Linking::Up(_) => self.exchange(),
            Linking::Leaving(link) => match link.poll_close(&mut cx) {
                Poll::Ready(_) => self.to(Linking::Idle),
                Poll::Pending => Step::Wait,
            },
        }
    }

    fn to(&mut self, link: Linking<F>) -> Step {
        self.link = link;
        Step::Again
    }

    fn connect(&mut self) -> Step {
        let connecting = self.fabric.connect(&self.addr);
        self.to(Linking::Connecting(Box::pin(connecting)))
    }

    fn greet(&mut self, carrier: MessageCarrier<F::Track>) -> Step {
        let Some(mut link) = Link::new(carrier) else { return self.failed() };
        let said = link.write_one(&Frame::Hello(self.calls.hello())).and_then(|written| {
            link.flush()?;
            Ok(written)
        });
        match said {
            Ok(true) => {
                let limit = self.timer.sleep(self.config.carrier.open_timeout);
                self.to(Linking::Greeting { link, limit })
            }
            // A new connection has room for a first message.
            Ok(false) | Err(_) => self.failed(),
        }
    }

    fn greeted(&mut self, message: &[u8]) -> Step {
        let Linking::Greeting { mut link, .. } = std::mem::replace(&mut self.link, Linking::Idle) else {
            return Step::Again;
        };
        let mut hello = None;
        let calls = &mut self.calls;
        let greeted = each_frame(message, |frame| match (frame, hello) {
            (Frame::Hello(said), None) => {
                hello = Some(said);
                calls.connected(said)
            }
            (frame, Some(_)) => calls.on_frame(frame),
            (_, None) => Err(Fault::Hello),
        });
        match greeted {
            Ok(()) => self.to(Linking::Up(link)),
            Err(fault) => {
                let _ = link.write_one(&Frame::Fault(fault.number())).and_then(|_| link.flush());
                self.calls.disconnected(ErrorKind::Protocol);
                self.failed()
            }
        }
    }

    /// Takes in what has arrived, and writes what is to go.
    fn exchange(&mut self) -> Step {
        let Linking::Up(link) = &mut self.link else { return Step::Again };
        let message = match link.try_recv() {
            Ok(Some(message)) => Some(message),
            Ok(None) => return self.broke(ErrorKind::Closed),
            Err(TryError::Failed(error)) => return self.broke(error.kind()),
            Err(TryError::WouldBlock) => None,
        };
        if let Some(message) = &message {
            let calls = &mut self.calls;
            if let Err(fault) = each_frame(message, |frame| calls.on_frame(frame)) {
                return self.fault(fault);
            }
            // It answers: so it is a good one.
            self.failures = 0;
        }
        let written = self.write();
        match (message, written) {
            (_, Err(error)) => self.broke(error.kind()),
            _ if self.calls.may_leave() => self.part(),
            (Some(_), Ok(())) => Step::Again,
            (None, Ok(())) => Step::Wait,
        }
    }

    fn write(&mut self) -> Result<(), CarrierError<<F as Fabric>::Error>> {
        let Linking::Up(link) = &mut self.link else { return Ok(()) };
        if !self.calls.has_output() {
            return Ok(());
        }
        let (calls, timer, now) = (&mut self.calls, &self.timer, self.now);
        match link.write(|room| calls.fill(room, || now.unwrap_or_else(|| timer.now()))) {
            Ok(()) | Err(TryError::WouldBlock) => Ok(()),
            Err(TryError::Failed(error)) => Err(error),
        }
    }

    /// Says goodbye to a server that drains, or because this end closes.
    fn part(&mut self) -> Step {
        match std::mem::replace(&mut self.link, Linking::Idle) {
            Linking::Up(link) => {
                self.calls.disconnected(ErrorKind::Closed);
                self.to(Linking::Leaving(link))
            }
            Linking::Leaving(link) => self.to(Linking::Leaving(link)),
            _ => Step::Again,
        }
    }

    /// The server broke the protocol: it is told, and the connection ends.
    #[cold]
    fn fault(&mut self, fault: Fault) -> Step {
        if let Linking::Up(link) = &mut self.link {
            let _ = link.write_one(&Frame::Fault(fault.number())).and_then(|_| link.flush());
        }
        self.broke(ErrorKind::Protocol)
    }

    /// The connection ended.
    #[cold]
    fn broke(&mut self, kind: ErrorKind) -> Step {
        self.calls.disconnected(kind);
        self.promised = None;
        self.failed()
    }

    /// No connection: the next one after a rest, where this one was not good.
    fn failed(&mut self) -> Step {
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        if failures == 0 && matches!(self.link, Linking::Up(_)) {
            return self.to(Linking::Idle);
        }
        let doubled = self.config.first_rest.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
        let rest = doubled.min(self.config.longest_rest);
        let rest = rest.mul_f64(0.5 + 0.5 * self.chance());
        let sleep = self.timer.sleep(rest);
        self.to(Linking::Resting(sleep))
    }

    /// From 0 to 1.
    fn chance(&mut self) -> f64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One more who drives: its number.
    pub(super) fn drive(&mut self) -> u32 {
        let number = self.drivers.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
        self.drivers.push((number, Waiter::default()));
        number
    }

    /// Ready once the channel is closed.
    pub(super) fn poll_drive(&mut self, number: u32, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((_, waiter)) = self.drivers.iter_mut().find(|(other, _)| *other == number) {
            waiter.register(cx.waker());
        }
        self.poll(Who::Driver(number), cx, |state| state.closed.then_some(()))
    }

    pub(super) fn undrive(&mut self, number: u32) {
        self.drivers.retain(|(other, _)| *other != number);
        self.leave(Who::Driver(number));
    }

    /// No calls any more, and goodbye. Ready when that is said, or not to be said.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::replace(&mut self.closed, true) {
            self.calls.close();
            let _ = self.write();
            match self.link {
                Linking::Up(_) => drop(self.part()),
                _ => self.link = Linking::Idle,
            }
            self.drivers.iter_mut().for_each(|(_, waiter)| waiter.wake());
        }
        self.poll(Who::Closer, cx, |state| matches!(state.link, Linking::Idle).then_some(()))
    }
}
