//! What is measured of a track and of a carrier alike: numbered messages, out and in, waiting or not.

use std::error::Error;

use trespass::carriers::MessageCarrier;
use trespass::core::{InOrder, Lossless, RecvSideExt, SendSideExt, Track, TryError};

/// Not `dyn Error`: a boxed error would cost the loops that never see one.
pub(crate) type Result<T, L> = std::result::Result<T, <L as Link>::Error>;

/// One end. Every message begins with its number, which the other end checks.
pub(crate) trait Link {
    type Error: Error + 'static;

    /// Queues a message of `size` bytes, filled in place; `false` where there is no room yet.
    fn try_send(&mut self, size: usize, number: u64) -> Result<bool, Self>;
    /// Sends what was queued.
    fn flush(&mut self) -> Result<(), Self>;
    /// The number of the next message, if it is there.
    fn try_recv(&mut self) -> Result<Option<u64>, Self>;
    /// Queues a message once there is room.
    async fn send(&mut self, size: usize, number: u64) -> Result<(), Self>;
    /// The number of the next message.
    async fn recv(&mut self) -> Result<u64, Self>;
    async fn close(&mut self) -> Result<(), Self>;
}

pub(crate) fn put_number(message: &mut [u8], number: u64) {
    message[..8].copy_from_slice(&number.to_le_bytes());
}

pub(crate) fn number(message: &[u8]) -> u64 {
    message.first_chunk().map_or(u64::MAX, |bytes| u64::from_le_bytes(*bytes))
}

pub(crate) struct TrackLink<T>(pub(crate) T);

impl<T: Track> TrackLink<T> {
    pub(crate) fn new(track: T) -> Self {
        Self(track)
    }
}

impl<T: Track> Link for TrackLink<T> {
    type Error = T::Error;

    #[inline]
    fn try_send(&mut self, size: usize, number: u64) -> Result<bool, Self> {
        let mut buf = match self.0.try_reserve(size) {
            Ok(buf) => buf,
            Err(TryError::WouldBlock) => return Ok(false),
            Err(TryError::Failed(error)) => return Err(error),
        };
        put_number(&mut buf, number);
        self.0.send(buf).map_err(|unsent| unsent.error)?;
        Ok(true)
    }

    #[inline]
    fn flush(&mut self) -> Result<(), Self> {
        self.0.flush()
    }

    #[inline]
    fn try_recv(&mut self) -> Result<Option<u64>, Self> {
        match self.0.try_recv() {
            Ok(buf) => Ok(Some(number(&buf))),
            Err(TryError::WouldBlock) => Ok(None),
            Err(TryError::Failed(error)) => Err(error),
        }
    }

    #[inline]
    async fn send(&mut self, size: usize, number: u64) -> Result<(), Self> {
        while !self.try_send(size, number)? {
            std::future::poll_fn(|cx| self.0.poll_send_ready(cx)).await;
        }
        Ok(())
    }

    #[inline]
    async fn recv(&mut self) -> Result<u64, Self> {
        Ok(number(&self.0.recv().await?))
    }

    async fn close(&mut self) -> Result<(), Self> {
        self.0.close().await
    }
}

pub(crate) struct CarrierLink<T: Track<Delivery: Lossless + InOrder>>(MessageCarrier<T>);

impl<T: Track<Delivery: Lossless + InOrder>> CarrierLink<T> {
    pub(crate) fn new(carrier: MessageCarrier<T>) -> Self {
        Self(carrier)
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Link for CarrierLink<T> {
    type Error = <MessageCarrier<T> as trespass::core::Carrier>::Error;

    #[inline]
    fn try_send(&mut self, size: usize, number: u64) -> Result<bool, Self> {
        let mut buf = match self.0.try_reserve(size) {
            Ok(buf) => buf,
            Err(TryError::WouldBlock) => return Ok(false),
            Err(TryError::Failed(error)) => return Err(error),
        };
        put_number(&mut buf, number);
        self.0.send_buf(buf).map_err(|unsent| unsent.error)?;
        Ok(true)
    }

    #[inline]
    fn flush(&mut self) -> Result<(), Self> {
        self.0.flush()
    }

    #[inline]
    fn try_recv(&mut self) -> Result<Option<u64>, Self> {
        match self.0.try_recv() {
            Ok(Some(message)) => Ok(Some(number(&message))),
            // The end: no message has this number.
            Ok(None) => Ok(Some(u64::MAX)),
            Err(TryError::WouldBlock) => Ok(None),
            Err(TryError::Failed(error)) => Err(error),
        }
    }

    #[inline]
    async fn send(&mut self, size: usize, number: u64) -> Result<(), Self> {
        while !self.try_send(size, number)? {
            std::future::poll_fn(|cx| self.0.poll_send_ready(cx)).await;
        }
        Ok(())
    }

    #[inline]
    async fn recv(&mut self) -> Result<u64, Self> {
        Ok(self.0.recv().await?.map_or(u64::MAX, |message| number(&message)))
    }

    async fn close(&mut self) -> Result<(), Self> {
        self.0.close().await
    }
}
