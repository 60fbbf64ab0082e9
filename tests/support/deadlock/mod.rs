//! The standing deadlock test: both ends of a connection write more than all that is between them holds before either
//! reads, and always get through. One body for each way to send, for any fabric; a [`Stage`] says on what, and with what
//! delays.
#![allow(dead_code, reason = "each test uses its part")]

mod datagrams;
mod messages;
mod streams;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use trespass_core::{
    Datagram, Endpoint, Fabric, InOrder, Lossless, Role, ThreadFabric, ThreadMemoryFabric, Timer, Track,
};

/// Something that runs by itself: a thread, or a task of a simulation.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where both ends are run, each in tasks of its own. A hang is to be a failure that says where.
pub(crate) trait Stage {
    type Fabric: ThreadMemoryFabric<Track: Track<Delivery: Lossless + InOrder>>;
    type Datagrams: ThreadFabric<Track: Track<Delivery = Datagram>>;

    /// Connects, hands each end to `way`, and runs the tasks that it makes of it to their ends.
    fn run<R>(&self, name: &str, way: impl Fn(End<Self::Fabric>) -> R)
    where
        R: Future<Output = Vec<Task>> + Send + 'static;

    /// The same, over datagrams.
    fn run_datagrams<R>(&self, name: &str, way: impl Fn(End<Self::Datagrams>) -> R)
    where
        R: Future<Output = Vec<Task>> + Send + 'static;
}

/// One end of a connection.
pub(crate) struct End<F: Fabric> {
    pub(crate) fabric: F,
    pub(crate) track: F::Track,
    pub(crate) role: Role,
    /// Where both ends say that they can write no more.
    pub(crate) full: Arc<Gate>,
    /// How long nobody reads after that: so long that nothing is under way any more, where time is virtual.
    pub(crate) rest: Duration,
}

impl<F: Fabric> End<F> {
    /// The longest frame, less what a carrier adds.
    fn frame(&self) -> usize {
        self.track.limits().max_message - 8
    }

    /// How many messages or writes of `len` bytes are four times all buffering: each takes a slot, however short it is.
    /// Less than what a message carrier copies out of the way.
    fn count(&self, len: usize) -> usize {
        let limits = self.track.limits();
        let slots = limits.send_slots + 2 * limits.recv_slots;
        (4 * slots).div_ceil(len.div_ceil(self.frame()))
    }

    /// Ready when both ends have filled up, and have rested.
    fn hold(&self) -> Hold<F::Timer> {
        Hold { full: Arc::clone(&self.full), timer: self.fabric.timer(), rest: self.rest, sleep: None, over: false }
    }
}

/// What a reader waits for before it reads.
struct Hold<T: Timer> {
    full: Arc<Gate>,
    timer: T,
    rest: Duration,
    sleep: Option<T::Sleep>,
    over: bool,
}

impl<T: Timer> Hold<T> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.over {
            return Poll::Ready(());
        }
        ready!(self.full.poll_open(cx));
        let sleep = self.sleep.get_or_insert_with(|| self.timer.sleep(self.rest));
        ready!(Pin::new(sleep).poll(cx));
        self.over = true;
        Poll::Ready(())
    }

    async fn over(mut self) {
        poll_fn(|cx| self.poll(cx)).await;
    }
}

/// Opens when so many have said so.
pub(crate) struct Gate(Mutex<(usize, Vec<Waker>)>);

impl Gate {
    pub(crate) fn of(count: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new((count, Vec::new()))))
    }

    /// One says so: to be called once by each.
    pub(crate) fn say(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 -= 1;
        let woken = match state.0 {
            0 => std::mem::take(&mut state.1),
            _ => Vec::new(),
        };
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_open(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    pub(crate) fn poll_open(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 == 0 {
            return Poll::Ready(());
        }
        if !state.1.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.1.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// All ways to send, on one stage.
pub(crate) fn all_ways<S: Stage>(stage: &S) {
    stage.run("messages of one frame", messages::eager);
    stage.run("messages in segments", messages::segmented);
    stage.run("messages written in place", messages::in_place);
    stage.run("halves of messages that copy out of the way", |end| messages::halves(end, 16 << 20));
    stage.run("halves of messages that wait for the reader", |end| messages::halves(end, 0));
    stage.run("messages that are lent", messages::lent);
    for coalesce in [false, true] {
        stage.run(&format!("a stream in one task, coalescing {coalesce}"), move |end| streams::whole(end, coalesce));
        stage.run(&format!("a stream in pieces, coalescing {coalesce}"), move |end| streams::vectored(end, coalesce));
        for chunk in [64, 3000] {
            let name = format!("halves of a stream, {chunk} bytes at a time, coalescing {coalesce}");
            stage.run(&name, move |end| streams::halves(end, coalesce, chunk));
        }
    }
    stage.run_datagrams("messages over datagrams", datagrams::whole);
}

/// Bytes that differ from place to place and from message to message.
fn pattern(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) ^ seed.wrapping_mul(131) ^ (at >> 8)) as u8).collect()
}
