//! One client: its frames in, its handlers polled, their frames out, all in one task.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use trespass::carriers::{Accepted, CarrierError, Message, MessageCarrier, Peer};
use trespass::core::{Address, Endpoint, InOrder, Lossless, Timer, Track, TryError, within};

use super::config::ServeConfig;
use super::router::Service;
use super::router::sealed::Finished;
use super::streams::{Opened, Shared};
use super::tasks::Tasks;
use crate::core::served::{Action, Request, Served};
use crate::core::wire::{CallId, End, Fault, Frame, Hello, parse};
use crate::hub::{Alarm, Hub};
use crate::link::{Link, each_frame};

/// How many messages, and how many rounds, one turn takes, so that others of the same task have theirs.
const BATCH: usize = 64;

/// Serves one client, until it goes or the server has drained: for servers that run each in a task or thread of its own. What ends the
/// connection concerns nobody else, so there is nothing to return.
///
/// Dropping the future drops the handlers that run, and the connection.
pub async fn serve_connection<T, A, S>(accepted: Accepted<MessageCarrier<T>, A>, service: Arc<S>, config: ServeConfig)
where
    T: Track<Delivery: Lossless + InOrder>,
    A: Address,
    S: Service,
{
    let Accepted { carrier, peer } = accepted;
    peer.until_cut_off(serve(carrier, &peer, service, &config)).await;
}

async fn serve<T, A, S>(carrier: MessageCarrier<T>, peer: &Peer<A>, service: Arc<S>, config: &ServeConfig)
where
    T: Track<Delivery: Lossless + InOrder>,
    A: Address,
    S: Service,
{
    let (Some(timer), Ok(own)) = (carrier.track().map(Endpoint::timer), config.hello()) else { return };
    let Some(mut link) = Link::new(carrier) else { return };
    match greet(&mut link, &timer, own, config.patience).await {
        Some(Ok((hello, message))) => {
            let mut connection = Connection::new(link, timer, own, hello, service, config.patience);
            let rest = parse(&message).map_or(&[][..], |(_, rest)| rest);
            let greeted = connection.frames(rest);
            drop(message);
            let end = match greeted {
                Ok(()) => poll_fn(|cx| connection.poll(cx, peer)).await,
                Err(fault) => Some(fault),
            };
            link = connection.end();
            part(link, end).await;
        }
        Some(Err(fault)) => part(link, Some(fault)).await,
        None => {}
    }
}

/// Greets, and waits to be greeted. `None` where nobody is there to talk to.
async fn greet<T: Track<Delivery: Lossless + InOrder>>(
    link: &mut Link<T>,
    timer: &T::Timer,
    own: Hello,
    patience: Duration,
) -> Option<Result<(Hello, Message<T>), Fault>> {
    link.write_one(&Frame::Hello(own)).ok()?;
    link.flush().ok()?;
    let received = within(timer, patience, poll_fn(|cx| link.poll_recv(cx))).await.ok()?;
    let message = received.ok()??;
    match parse(&message) {
        Ok((Frame::Hello(hello), _)) => Some(Ok((hello, message))),
        Ok(_) => Some(Err(Fault::Hello)),
        Err(fault) => Some(Err(fault)),
    }
}

/// Says goodbye; and why, where the client broke the protocol.
async fn part<T: Track<Delivery: Lossless + InOrder>>(mut link: Link<T>, fault: Option<Fault>) {
    if let Some(fault) = fault {
        if link.write_one(&Frame::Fault(fault.number())).is_err() {
            return;
        }
    }
    // That it cannot be said is no matter: it is the end in any case.
    let _ = poll_fn(|cx| link.poll_close(cx)).await;
}

struct Connection<T: Track<Delivery: Lossless + InOrder>, S: Service> {
    link: Link<T>,
    timer: T::Timer,
    service: Arc<S>,
    shared: Arc<Shared>,
    tasks: Tasks<S::Running>,
    /// Memory for the next reply.
    reply: Vec<u8>,
    alarm: Alarm<T::Timer>,
    hub: Arc<Hub>,
    waker: Waker,
    /// What time it is, where that was asked for in this round: to ask is not free on every machine.
    now: Option<Duration>,
    patience: Duration,
    /// Until when a client that has nothing under way may go by itself.
    parting: Option<<T::Timer as Timer>::Sleep>,
}

/// How one round went.
enum Round {
    /// Something was done.
    Busy,
    /// There is nothing to do.
    Idle,
    /// It is over, and why where the client broke the protocol.
    Over(Option<Fault>),
}

impl<T: Track<Delivery: Lossless + InOrder>, S: Service> Connection<T, S> {
    fn new(link: Link<T>, timer: T::Timer, own: Hello, peer: Hello, service: Arc<S>, patience: Duration) -> Self {
        let hub = Arc::new(Hub::default());
        Self {
            link,
            timer,
            service,
            shared: Arc::new(Shared::new(Served::new(own, peer), Arc::clone(&hub))),
            tasks: Tasks::new(own.max_calls, Arc::clone(&hub)),
            reply: Vec::new(),
            alarm: Alarm::new(Arc::clone(&hub)),
            waker: Waker::from(Arc::clone(&hub)),
            hub,
            now: None,
            patience,
            parting: None,
        }
    }

    /// Drops the handlers: their calls are over.
    fn end(self) -> Link<T> {
        self.shared.lock().end();
        self.link
    }

    fn poll<A: Address>(&mut self, cx: &mut Context<'_>, peer: &Peer<A>) -> Poll<Option<Fault>> {
        self.hub.task.register(cx.waker());
        for _ in 0..BATCH {
            self.shared.begin_turn();
            self.now = None;
            let round = self.round(peer);
            self.shared.end_turn();
            match round {
                Round::Over(fault) => return Poll::Ready(fault),
                Round::Busy => {}
                Round::Idle if self.poll_ready().is_pending() => return Poll::Pending,
                Round::Idle => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Looks after everything once.
    fn round<A: Address>(&mut self, peer: &Peer<A>) -> Round {
        let earliest = self.shared.lock().earliest();
        let mut busy = self.alarm.is_due(&self.timer, earliest) && self.expire();
        match self.receive() {
            Ok(received) => busy |= received,
            Err(over) => return Round::Over(over),
        }
        busy |= self.run();
        if peer.poll_draining(&mut Context::from_waker(&self.waker)).is_ready() {
            self.shared.lock().leave();
        }
        if self.write().is_err() {
            return Round::Over(None);
        }
        if self.has_parted() {
            return Round::Over(None);
        }
        if busy { Round::Busy } else { Round::Idle }
    }

    /// Ends the calls whose time is up. Always something to do: the alarm went off.
    fn expire(&mut self) -> bool {
        let now = self.timer.now();
        loop {
            let Some(index) = self.shared.lock().expire(now) else { return true };
            self.tasks.stop(index);
        }
    }

    /// Takes in what has arrived. Nothing more is, while what there is to say does not get out.
    fn receive(&mut self) -> Result<bool, Option<Fault>> {
        for count in 0..BATCH {
            if self.shared.lock().is_backlogged() {
                return Ok(count > 0);
            }
            match self.link.try_recv() {
                Ok(Some(message)) => self.frames(&message).map_err(Some)?,
                Err(TryError::WouldBlock) => return Ok(count > 0),
                // The client has gone, whichever way.
                Ok(None) | Err(TryError::Failed(_)) => return Err(None),
            }
        }
        Ok(true)
    }

    fn frames(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        each_frame(bytes, |frame| self.frame(frame))
    }

    fn frame(&mut self, frame: Frame<'_>) -> Result<(), Fault> {
        let (service, timer, shared, known) = (&self.service, &self.timer, &self.shared, &mut self.now);
        let now = || *known.get_or_insert_with(|| read(timer, shared));
        let action = shared.lock().on_frame(frame, now, |method| service.flow(method))?;
        match action {
            Action::Nothing => {}
            Action::Stop(index) => self.tasks.stop(index),
            Action::Start { id, method, deadline, request } => {
                let call = Opened { id, deadline, shared: Arc::clone(&self.shared) };
                match service.start(method, request.bytes(), call) {
                    Ok(running) => {
                        let polled = self.tasks.start(id.index, running, &mut self.reply);
                        self.finished(id, polled);
                    }
                    Err(rejection) => {
                        self.shared.lock().refuse(id.index, rejection);
                    }
                }
                if let Request::Whole(bytes) = request {
                    self.shared.lock().buffers().give(bytes);
                }
            }
        }
        Ok(())
    }

    /// Polls the handlers that were woken. Whether there were any.
    fn run(&mut self) -> bool {
        let mut any = false;
        let mut word = 0;
        while let Some(mut bits) = self.tasks.take_woken(word) {
            if bits != 0 {
                self.now.get_or_insert_with(|| read(&self.timer, &self.shared));
            }
            while bits != 0 {
                let index = (word * 64) as u16 + bits.trailing_zeros() as u16;
                bits &= bits - 1;
                any = true;
                let id = self.shared.lock().id(index);
                let polled = self.tasks.poll(index, &mut self.reply);
                if let Some(id) = id {
                    self.finished(id, polled);
                }
            }
            word += 1;
        }
        any
    }

    fn finished(&mut self, id: CallId, polled: Poll<Finished>) {
        let Poll::Ready(finished) = polled else { return };
        let mut served = self.shared.lock();
        let end = match finished {
            Finished::Replied => Ok(std::mem::replace(&mut self.reply, served.buffers().take())),
            Finished::Ended => Err(End::Ok),
            Finished::Failed(status) => Err(End::Service(status)),
            Finished::BadReply => Err(End::Rejected(crate::Rejection::BadReply)),
        };
        served.finish(id, end);
    }

    fn write(&mut self) -> Result<(), CarrierError<T::Error>> {
        let mut served = self.shared.lock();
        if served.has_output() {
            match self.link.write(|room| served.fill(room)) {
                Ok(()) | Err(TryError::WouldBlock) => {}
                Err(TryError::Failed(error)) => return Err(error),
            }
        }
        drop(served);
        self.link.flush()
    }

    /// The server drains, nothing is under way, and the client had its time to go.
    fn has_parted(&mut self) -> bool {
        if !self.shared.lock().has_left() {
            self.parting = None;
            return false;
        }
        let parting = self.parting.get_or_insert_with(|| self.timer.sleep(self.patience));
        Pin::new(parting).poll(&mut Context::from_waker(&self.waker)).is_ready()
    }

    /// Ready when there may be something to do for the connection itself; the hub is woken then.
    fn poll_ready(&mut self) -> Poll<()> {
        let mut cx = Context::from_waker(&self.waker);
        let (backlogged, output) = {
            let served = self.shared.lock();
            (served.is_backlogged(), served.has_output())
        };
        let readable = !backlogged && self.link.poll_recv_ready(&mut cx).is_ready();
        let writable = output && self.link.poll_write_ready(&mut cx).is_ready();
        if readable || writable { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// Asks what time it is, and tells the handlers.
fn read<T: Timer>(timer: &T, shared: &Shared) -> Duration {
    let now = timer.now();
    shared.set_now(now);
    now
}
