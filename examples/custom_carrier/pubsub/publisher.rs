//! Topics, and who wants them. Publishing never waits: every subscriber has a queue of its own, which is bounded, and from
//! which the oldest event goes when one more comes. The next that it gets says how many it missed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use thiserror::Error;
use trespass::core::{Carrier, InOrder, Lossless, Track, WakerSlot};

use super::PubSubError;
use super::feed::{Feed, Request};
use super::wire::{EVENT_HEADER, Event, MAX_TOPIC, Violation};

/// What bounds a publisher.
#[derive(Debug, Clone)]
pub(crate) struct PublisherConfig {
    /// Events that wait for one subscriber. One more, and it misses the oldest.
    pub(crate) queue: usize,
    /// The longest event, in bytes.
    pub(crate) max_payload: usize,
    /// Topics of which the latest event is kept for those who come late.
    pub(crate) kept_topics: usize,
    /// Topics of one subscriber. One that asks for more is shown out.
    pub(crate) max_topics: usize,
    /// How long a subscriber has, at the end, to take what waits for it.
    pub(crate) drain: Duration,
}

impl Default for PublisherConfig {
    fn default() -> Self {
        Self { queue: 256, max_payload: 1024, kept_topics: 1024, max_topics: 128, drain: Duration::from_secs(5) }
    }
}

/// Why an event was not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum PublishError {
    #[error("the name of a topic has {0} bytes, and {max} are allowed", max = MAX_TOPIC)]
    TopicTooLong(usize),
    #[error("an event has {len} bytes, and {max} are allowed")]
    TooLong { len: usize, max: usize },
    #[error("the publisher has ended")]
    Ended,
}

/// Publishes to any number of subscribers. Clones are handles of the same one.
#[derive(Debug, Clone)]
pub(crate) struct Publisher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: PublisherConfig,
    state: Mutex<State>,
    /// A subscriber came or went, or asked for a topic.
    audience: Condvar,
}

#[derive(Debug, Default)]
struct State {
    subscribers: HashMap<u64, Subscription>,
    next: u64,
    latest: HashMap<String, Arc<Published>>,
    ended: bool,
}

/// What is known of one subscriber.
#[derive(Debug)]
struct Subscription {
    topics: BTreeSet<String>,
    queue: VecDeque<Waiting>,
    missed: u64,
    changed: Arc<WakerSlot>,
}

#[derive(Debug)]
struct Published {
    topic: String,
    payload: Box<[u8]>,
}

/// An event on its way to one subscriber.
#[derive(Debug)]
struct Waiting {
    published: Arc<Published>,
    retained: bool,
    missed: u64,
}

impl Subscription {
    fn push(&mut self, published: &Arc<Published>, retained: bool, room: usize) {
        if self.queue.len() >= room {
            self.queue.pop_front();
            self.missed += 1;
        }
        self.queue.push_back(Waiting { published: Arc::clone(published), retained, missed: 0 });
    }

    fn pop(&mut self) -> Option<Waiting> {
        let next = self.queue.pop_front()?;
        Some(Waiting { missed: std::mem::take(&mut self.missed), ..next })
    }
}

impl Publisher {
    pub(crate) fn new(config: PublisherConfig) -> Self {
        Self { shared: Arc::new(Shared { config, state: Mutex::default(), audience: Condvar::new() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Publishes `payload` to those who subscribe to `topic` now, and keeps it for those who come later. How many they are now.
    ///
    /// Never waits for a subscriber. Costs one allocation for the event, one for the list of those to wake, and for each
    /// subscriber one copy, when it is sent.
    ///
    /// # Errors
    /// What is too long, or after [`end`](Self::end): nothing was published.
    pub(crate) fn publish(&self, topic: &str, payload: &[u8]) -> Result<usize, PublishError> {
        let PublisherConfig { queue, max_payload, kept_topics, .. } = self.shared.config;
        if topic.len() > MAX_TOPIC {
            return Err(PublishError::TopicTooLong(topic.len()));
        }
        if payload.len() > max_payload {
            return Err(PublishError::TooLong { len: payload.len(), max: max_payload });
        }
        let published = Arc::new(Published { topic: topic.to_owned(), payload: payload.into() });
        let mut woken = Vec::new();
        let mut state = self.state();
        if state.ended {
            return Err(PublishError::Ended);
        }
        for subscription in state.subscribers.values_mut().filter(|one| one.topics.contains(topic)) {
            subscription.push(&published, false, queue);
            woken.push(Arc::clone(&subscription.changed));
        }
        if state.latest.len() < kept_topics || state.latest.contains_key(topic) {
            state.latest.insert(published.topic.clone(), published);
        }
        drop(state);
        woken.iter().for_each(|changed| changed.wake());
        Ok(woken.len())
    }

    /// Waits until so many subscribers are there as `enough` wants, of those of `topic` or of all; for so long at most. Whether
    /// they are.
    pub(crate) fn wait_for(&self, topic: Option<&str>, within: Duration, enough: impl Fn(usize) -> bool) -> bool {
        let wanted = |one: &&Subscription| topic.is_none_or(|topic| one.topics.contains(topic));
        let too_few = |state: &mut State| !enough(state.subscribers.values().filter(wanted).count());
        let waited = self.shared.audience.wait_timeout_while(self.state(), within, too_few);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Publishes no more. Subscribers get what waits for them, if they take it in time, and a goodbye.
    pub(crate) fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        let woken: Vec<_> = state.subscribers.values().map(|one| Arc::clone(&one.changed)).collect();
        drop(state);
        woken.iter().for_each(|changed| changed.wake());
    }

    /// Serves one subscriber until it leaves, dies, or the publisher ends. Whatever becomes of it, the others do not notice.
    ///
    /// # Errors
    /// What ended the carrier, where that was not a goodbye.
    pub(crate) async fn serve<T>(&self, feed: Feed<T>) -> Result<(), PubSubError<T::Error>>
    where
        T: Track<Delivery: Lossless + InOrder>,
    {
        let longest = EVENT_HEADER + MAX_TOPIC + self.shared.config.max_payload;
        if feed.longest_event() < longest {
            return Err(Violation("its messages are too short for an event").into());
        }
        let mut seat = Seat::take(self, feed);
        let served = poll_fn(|cx| seat.poll_serve(cx)).await;
        // Where the subscriber was first, or is dead, there is nobody left to say goodbye to.
        let closed = poll_fn(|cx| seat.feed.poll_close(cx)).await;
        served.and(closed)
    }
}

/// A subscriber's place. Dropping it makes the publisher forget the subscriber.
struct Seat<'a, T: Track<Delivery: Lossless + InOrder>> {
    publisher: &'a Publisher,
    feed: Feed<T>,
    id: u64,
    changed: Arc<WakerSlot>,
    /// Taken from the queue, and not sent yet.
    next: Option<Waiting>,
    draining: Option<<T::Timer as trespass::core::Timer>::Sleep>,
}

impl<'a, T: Track<Delivery: Lossless + InOrder>> Seat<'a, T> {
    fn take(publisher: &'a Publisher, feed: Feed<T>) -> Self {
        let changed = Arc::new(WakerSlot::new());
        let mut state = publisher.state();
        let id = state.next;
        state.next += 1;
        let subscription =
            Subscription { topics: BTreeSet::new(), queue: VecDeque::new(), missed: 0, changed: Arc::clone(&changed) };
        state.subscribers.insert(id, subscription);
        drop(state);
        publisher.shared.audience.notify_all();
        Self { publisher, feed, id, changed, next: None, draining: None }
    }

    /// Ready when there is nothing more to do for this subscriber.
    fn poll_serve(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), PubSubError<T::Error>>> {
        // Registered first, looked at then: an event that comes in between wakes.
        self.changed.register(cx.waker());
        loop {
            match self.feed.poll_request(cx)? {
                Poll::Ready(Some(request)) => self.on_request(request)?,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        while self.fetch() {
            let Some(Waiting { published, retained, missed }) = &self.next else { break };
            let (topic, payload) = (published.topic.as_str(), &published.payload[..]);
            let event = Event { missed: *missed, retained: *retained, topic, payload };
            if self.feed.poll_send(cx, &event)?.is_pending() {
                return self.poll_drained(cx, false);
            }
            self.next = None;
        }
        self.feed.flush()?;
        self.poll_drained(cx, true)
    }

    /// After the end of the publisher: ready when nothing waits any more, or the time for it is over.
    fn poll_drained(&mut self, cx: &mut Context<'_>, empty: bool) -> Poll<Result<(), PubSubError<T::Error>>> {
        if !self.publisher.state().ended {
            return Poll::Pending;
        }
        if self.draining.is_none() {
            self.draining = self.feed.sleep(self.publisher.shared.config.drain);
        }
        match &mut self.draining {
            Some(sleep) if !empty => Pin::new(sleep).poll(cx).map(Ok),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Takes the next event out of the queue, unless there is one already. Whether there is one.
    fn fetch(&mut self) -> bool {
        if self.next.is_none() {
            self.next = self.publisher.state().subscribers.get_mut(&self.id).and_then(Subscription::pop);
        }
        self.next.is_some()
    }

    fn on_request(&mut self, request: Request) -> Result<(), Violation> {
        let PublisherConfig { queue, max_topics, .. } = self.publisher.shared.config;
        let mut state = self.publisher.state();
        let State { subscribers, latest, .. } = &mut *state;
        let Some(subscription) = subscribers.get_mut(&self.id) else { return Ok(()) };
        match request {
            Request::Subscribe(topic) => {
                if subscription.topics.len() >= max_topics && !subscription.topics.contains(&topic) {
                    return Err(Violation("it asks for more topics than one subscriber may have"));
                }
                let kept = latest.get(&topic);
                if subscription.topics.insert(topic) {
                    kept.into_iter().for_each(|published| subscription.push(published, true, queue));
                }
            }
            Request::Unsubscribe(topic) => _ = subscription.topics.remove(&topic),
        }
        drop(state);
        self.publisher.shared.audience.notify_all();
        Ok(())
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Drop for Seat<'_, T> {
    fn drop(&mut self) {
        let gone = self.publisher.state().subscribers.remove(&self.id);
        drop(gone);
        self.publisher.shared.audience.notify_all();
    }
}
