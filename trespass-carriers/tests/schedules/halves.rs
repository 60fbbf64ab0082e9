//! An end in two halves, in two tasks: each is woken for itself.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Poll, Waker};

use trespass_core::ErrorKind;
use trespass_mock::MockSpawner;

use crate::end::{Actor, Ending, Known};
use crate::subject::{Receives, Sends, Subject};

/// A carrier that can be split.
pub(crate) trait Halved: Subject {
    type Sender: Sends + 'static;
    type Receiver: Receives + 'static;
    /// Whether to drop the sender, unfinished, ends the whole. Where it does not, two ends that do so and receive wait for ever.
    const DROP_ENDS: bool;
    /// Whether what comes for a receiver that was dropped is discarded. Where it is not, two ends that do so and send wait for ever.
    const DISCARDS: bool;

    fn split(self) -> (Self::Sender, Self::Receiver);
    /// Closes, with both halves at hand.
    fn close_both(sender: Self::Sender, receiver: Self::Receiver, actor: &mut Actor) -> impl Future<Output = ()>;
    /// The sending half closes, whatever the other one does; `None` where it cannot, and is dropped.
    fn close_half(sender: Self::Sender) -> impl Future<Output = Option<Result<(), ErrorKind>>>;
}

/// An end in halves. The receiver is in this task, the sender in one of its own.
pub(crate) async fn halved<S: Halved>(carrier: S, mut actor: Actor, operations: u64, spawner: MockSpawner) -> Known {
    let (sender, mut receiver) = carrier.split();
    let mut other = Actor::new(actor.dice.fork(), actor.timer.clone(), actor.number);
    let sending = Meeting::default();
    let place = sending.clone();
    spawner.spawn(if actor.number == 1 { "left sender" } else { "right sender" }, async move {
        let sender = send::<S>(sender, &mut other, operations).await;
        place.put((sender, other.known));
    });
    for _ in 0..operations {
        if actor.over {
            break;
        }
        receive(&mut receiver, &mut actor).await;
    }
    receiver.let_go();
    // With one half gone there is no whole any more.
    let mut receiver = Some(receiver);
    if actor.dice.one_in(16) && (S::DISCARDS || actor.number == 1) {
        receiver = None;
        actor.known.left = true;
    } else if let (Some(receiver), false) = (&mut receiver, actor.known.goodbye) {
        actor.recv_all(receiver).await;
    }
    let (sender, sent) = sending.take().await;
    let mut known = merged(sent, actor.known);
    match (sender, receiver) {
        (Some(sender), Some(receiver)) => {
            actor.known = known;
            S::close_both(sender, receiver, &mut actor).await;
            known = actor.known;
        }
        (Some(sender), None) => {
            known.closed = S::close_half(sender).await;
            known.dropped |= known.closed.is_none();
        }
        (None, Some(_)) => {}
        // Nobody is left to hear all.
        (None, None) => known.dropped |= known.closed.is_none(),
    }
    known
}

/// What the sending half does. It comes back, unless it closed or was dropped.
async fn send<S: Halved>(mut sender: S::Sender, actor: &mut Actor, operations: u64) -> Option<S::Sender> {
    for _ in 0..operations {
        if actor.over {
            break;
        }
        match actor.dice.below(8) {
            0..=4 => actor.send(&mut sender).await,
            5 | 6 => actor.other(&mut sender),
            _ => actor.pause().await,
        }
    }
    match Ending::by(&mut actor.dice) {
        Ending::Clean => {
            actor.finish(&mut sender).await;
            actor.known.parted = S::MAY_PART && actor.dice.one_in(4);
            (!actor.known.parted).then_some(sender)
        }
        Ending::Leave => {
            // The receiver may be waiting: a close ends that.
            actor.known.left = true;
            actor.known.closed = S::close_half(sender).await;
            match actor.known.closed {
                Some(_) => actor.known.finished = true,
                None => actor.known.dropped = true,
            }
            None
        }
        Ending::Drop => {
            if !S::DROP_ENDS {
                actor.finish(&mut sender).await;
            }
            drop(sender);
            actor.known.dropped = true;
            None
        }
    }
}

async fn receive(receiver: &mut impl Receives, actor: &mut Actor) {
    match actor.dice.below(8) {
        0..=4 => {
            let patience = Some(actor.dice.index(4));
            actor.recv(receiver, patience).await;
        }
        5 => actor.recv(receiver, None).await,
        6 => receiver.let_go(),
        _ => actor.pause().await,
    }
}

/// What both halves know.
fn merged(sender: Known, receiver: Known) -> Known {
    Known {
        received: receiver.received,
        goodbye: receiver.goodbye,
        left: sender.left || receiver.left,
        error: sender.error.or(receiver.error),
        ..sender
    }
}

/// Where one task leaves something for another.
struct Meeting<T>(Rc<RefCell<(Option<T>, Option<Waker>)>>);

impl<T> Meeting<T> {
    fn put(&self, value: T) {
        let mut place = self.0.borrow_mut();
        place.0 = Some(value);
        let waker = place.1.take();
        drop(place);
        waker.into_iter().for_each(Waker::wake);
    }

    async fn take(&self) -> T {
        poll_fn(|cx| {
            let mut place = self.0.borrow_mut();
            match place.0.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    place.1 = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl<T> Clone for Meeting<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Default for Meeting<T> {
    fn default() -> Self {
        Self(Rc::default())
    }
}
