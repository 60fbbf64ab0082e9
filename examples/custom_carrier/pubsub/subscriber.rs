//! The subscribing end.

use std::future::poll_fn;
use std::task::{Context, Poll};

use trespass::carriers::{Message, MessageCarrier, MessageConfig};
use trespass::core::{Carrier, InOrder, Lossless, Role, Track};

use super::PubSubError;
use super::open::{End, Opening, poll_say};
use super::wire::{self, Frame, MAX_TOPIC, Side, Violation};

/// A carrier that receives the events of the topics that it asks for.
#[derive(Debug)]
pub(crate) struct Subscriber<T: Track<Delivery: Lossless + InOrder>> {
    carrier: MessageCarrier<T>,
}

impl<T: Track<Delivery: Lossless + InOrder>> End<T> for Subscriber<T> {
    const SIDE: Side = Side::Subscriber;

    fn start(carrier: MessageCarrier<T>) -> Self {
        Self { carrier }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Carrier for Subscriber<T> {
    type Track = T;
    type Config = MessageConfig;
    type Error = PubSubError<T::Error>;
    type Opening = Opening<T, Self>;

    fn open(track: T, role: Role, config: MessageConfig) -> Self::Opening {
        Opening::new(track, role, config)
    }

    fn most_memory(config: &MessageConfig) -> usize {
        MessageCarrier::<T>::most_memory(config)
    }

    fn incarnation(&self) -> Option<u64> {
        self.carrier.incarnation()
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.carrier.poll_close(cx).map_err(PubSubError::Below)
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Subscriber<T> {
    /// Asks for the events of `topic`. The latest of those that were published before comes first, if it was kept.
    ///
    /// # Errors
    /// Kind `Oversize` for a name that is too long; else what ended the carrier. Dropping the future asks for it, or does not.
    pub(crate) async fn subscribe(&mut self, topic: &str) -> Result<(), PubSubError<T::Error>> {
        self.say(Frame::Subscribe(checked(topic)?)).await
    }

    /// Asks for no more of them. Those that are under way still come.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub(crate) async fn unsubscribe(&mut self, topic: &str) -> Result<(), PubSubError<T::Error>> {
        self.say(Frame::Unsubscribe(checked(topic)?)).await
    }

    async fn say(&mut self, frame: Frame<'_>) -> Result<(), PubSubError<T::Error>> {
        poll_fn(|cx| poll_say(&mut self.carrier, cx, &frame)).await
    }

    /// The next event, in the memory into which the device wrote it; `None` once the publisher has said goodbye. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// Kind `Disconnected` where the publisher is gone without that; `Protocol` where it spoke nonsense.
    pub(crate) async fn recv(&mut self) -> Result<Option<Received<T>>, PubSubError<T::Error>> {
        let Some(message) = self.carrier.recv().await? else { return Ok(None) };
        match Frame::parse(&message)? {
            Frame::Event(_) => Ok(Some(Received { message })),
            _ => Err(Violation("something else than an event").into()),
        }
    }

    /// Ends it: says goodbye.
    ///
    /// # Errors
    /// As [`Carrier::poll_close`].
    pub(crate) async fn close(&mut self) -> Result<(), PubSubError<T::Error>> {
        poll_fn(|cx| self.poll_close(cx)).await
    }
}

fn checked<E>(topic: &str) -> Result<&str, PubSubError<E>> {
    match topic.len() > MAX_TOPIC {
        true => Err(PubSubError::TopicTooLong(topic.len())),
        false => Ok(topic),
    }
}

/// An event, which keeps a receive buffer of the track for as long as it lives.
pub(crate) struct Received<T: Track> {
    message: Message<T>,
}

impl<T: Track> Received<T> {
    /// What it is: parsed when it was received, so that here it is one.
    pub(crate) fn event(&self) -> Option<wire::Event<'_>> {
        match Frame::parse(&self.message) {
            Ok(Frame::Event(event)) => Some(event),
            _ => None,
        }
    }
}
