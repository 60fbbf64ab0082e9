//! The publishing end of one conversation.

use std::task::{Context, Poll, ready};

use trespass::carriers::{MessageCarrier, MessageConfig};
use trespass::core::{Carrier, InOrder, Lossless, Role, Timer, Track, TryError};

use super::PubSubError;
use super::open::{End, Opening};
use super::wire::{Event, Frame, Side, Violation};

/// A carrier that takes a subscriber's requests, and sends it events.
#[derive(Debug)]
pub(crate) struct Feed<T: Track<Delivery: Lossless + InOrder>> {
    carrier: MessageCarrier<T>,
}

/// What a subscriber asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Subscribe(String),
    Unsubscribe(String),
}

impl<T: Track<Delivery: Lossless + InOrder>> End<T> for Feed<T> {
    const SIDE: Side = Side::Feed;

    fn start(carrier: MessageCarrier<T>) -> Self {
        Self { carrier }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Carrier for Feed<T> {
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

impl<T: Track<Delivery: Lossless + InOrder>> Feed<T> {
    /// The longest event, with its topic and its header: it has to go in one frame.
    pub(super) fn longest_event(&self) -> usize {
        self.carrier.eager_limit()
    }

    /// An alarm of the track's own clock; none once the track has ended.
    pub(super) fn sleep(&self, after: std::time::Duration) -> Option<<T::Timer as Timer>::Sleep> {
        self.carrier.track().map(|track| track.timer().sleep(after))
    }

    /// The next request; `None` once the subscriber has said goodbye.
    pub(super) fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Request>, PubSubError<T::Error>>> {
        let Some(message) = ready!(self.carrier.poll_recv(cx))? else { return Poll::Ready(Ok(None)) };
        Poll::Ready(match Frame::parse(&message)? {
            Frame::Subscribe(topic) => Ok(Some(Request::Subscribe(topic.to_owned()))),
            Frame::Unsubscribe(topic) => Ok(Some(Request::Unsubscribe(topic.to_owned()))),
            _ => Err(Violation("something else than a request").into()),
        })
    }

    /// Queues an event, filled in where it is sent from; or waits for room. Goes out with the next flush.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        event: &Event<'_>,
    ) -> Poll<Result<(), PubSubError<T::Error>>> {
        loop {
            match self.carrier.try_reserve(event.len()) {
                Ok(mut buf) => {
                    event.encode(&mut buf);
                    return Poll::Ready(self.carrier.send_buf(buf).map_err(|unsent| unsent.error.into()));
                }
                Err(TryError::Failed(error)) => return Poll::Ready(Err(error.into())),
                Err(TryError::WouldBlock) => ready!(self.carrier.poll_send_ready(cx)),
            }
        }
    }

    pub(super) fn flush(&mut self) -> Result<(), PubSubError<T::Error>> {
        Ok(self.carrier.flush()?)
    }
}
