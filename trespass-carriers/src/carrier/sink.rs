//! The halves of a carrier as the futures crates know them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::stream::FusedStream;
use futures_sink::Sink;
use trespass_core::{InOrder, Lossless, Track, TryError};

use crate::carrier::{MessageReceiver, MessageSender};
use crate::error::CarrierError;
use crate::message::Message;
use crate::segment::Cut;

impl<T: Track<Delivery: Lossless + InOrder>> MessageSender<T> {
    /// A `Sink` of messages, whose items are anything that is bytes: `Vec<u8>`, `Bytes`, `&[u8]`.
    pub fn into_sink<I: AsRef<[u8]>>(self) -> MessageSink<T, I> {
        MessageSink { sender: self, item: None }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> MessageReceiver<T> {
    /// A `Stream` of messages.
    pub fn into_stream(self) -> MessageStream<T> {
        MessageStream { receiver: self, over: false }
    }
}

/// Sends its items, each as a message: see [`MessageSender::into_sink`].
///
/// An item is queued, and dropped, by `start_send` where there is room for it; else it is kept, one at most, until the next
/// poll of any sort. `poll_flush` rings the doorbell once for all that is queued. `poll_close` says that no more comes, as
/// [`MessageSender::finish`] does, and leaves receiving alone.
///
/// # Errors
/// Those of [`MessageSender::send`]. One of kind `Oversize` leaves the sink as it was. An item that is given without
/// `poll_ready`, while another is kept, is dropped: kind `Busy`.
///
/// # Dropping it
/// An item that is kept is lost whole: never does a part of it arrive.
#[derive(Debug)]
pub struct MessageSink<T: Track<Delivery: Lossless + InOrder>, I> {
    sender: MessageSender<T>,
    /// What there was no room for, and how much of it was sent.
    item: Option<(I, Cut)>,
}

impl<T: Track<Delivery: Lossless + InOrder>, I> MessageSink<T, I> {
    /// The half that it sends with. An item that is kept is lost, and withdrawn before anything else is sent.
    pub fn into_inner(self) -> MessageSender<T> {
        self.sender
    }
}

impl<T: Track<Delivery: Lossless + InOrder>, I: AsRef<[u8]>> MessageSink<T, I> {
    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CarrierError<T::Error>>> {
        let Some((item, cut)) = &mut self.item else { return Poll::Ready(Ok(())) };
        let outcome = ready!(self.sender.poll(|carrier| carrier.poll_message(cx, cut, item.as_ref())));
        self.item = None;
        Poll::Ready(outcome)
    }
}

// Nothing in it is pinned.
impl<T: Track<Delivery: Lossless + InOrder>, I> Unpin for MessageSink<T, I> {}

impl<T: Track<Delivery: Lossless + InOrder>, I: AsRef<[u8]>> Sink<I> for MessageSink<T, I> {
    type Error = CarrierError<T::Error>;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let this = self.get_mut();
        ready!(this.poll_item(cx))?;
        this.sender.poll_send_ready(cx).map(Ok)
    }

    fn start_send(self: Pin<&mut Self>, item: I) -> Result<(), Self::Error> {
        let this = self.get_mut();
        if this.item.is_some() {
            return Err(CarrierError::NotReady);
        }
        let mut carrier = this.sender.carrier();
        let mut cut = carrier.cut(item.as_ref().len());
        match carrier.try_message(&mut cut, item.as_ref()) {
            Ok(()) => {}
            Err(TryError::Failed(error)) => return Err(error),
            Err(TryError::WouldBlock) => {
                drop(carrier);
                this.item = Some((item, cut));
            }
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let this = self.get_mut();
        ready!(this.poll_item(cx))?;
        Poll::Ready(this.sender.flush())
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let this = self.get_mut();
        ready!(this.poll_item(cx))?;
        this.sender.poll_finish(cx)
    }
}

/// The messages of a carrier: see [`MessageReceiver::into_stream`]. It ends after the peer's last message, and after the
/// first error.
#[derive(Debug)]
pub struct MessageStream<T: Track<Delivery: Lossless + InOrder>> {
    receiver: MessageReceiver<T>,
    over: bool,
}

impl<T: Track<Delivery: Lossless + InOrder>> MessageStream<T> {
    /// The half that it receives with. Nothing is lost.
    pub fn into_inner(self) -> MessageReceiver<T> {
        self.receiver
    }
}

// Nothing in it is pinned.
impl<T: Track<Delivery: Lossless + InOrder>> Unpin for MessageStream<T> {}

impl<T: Track<Delivery: Lossless + InOrder>> Stream for MessageStream<T> {
    type Item = Result<Message<T>, CarrierError<T::Error>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        let next = ready!(this.receiver.poll_recv(cx)).transpose();
        this.over = !matches!(next, Some(Ok(_)));
        Poll::Ready(next)
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> FusedStream for MessageStream<T> {
    fn is_terminated(&self) -> bool {
        self.over
    }
}
