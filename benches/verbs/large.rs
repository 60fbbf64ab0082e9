//! Long messages, in segments or lent.
//!
//! A carrier sends them by futures alone. Who polls asks these again and again, with a waker that does nothing; the track
//! arms a notification the first time, and never again since nobody takes it.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use trespass::carriers::{CarrierError, MessageCarrier, RendezvousCarrier};
use trespass::core::{Fabric, InOrder, Lossless, MemoryFabric, Track, TryError};

use crate::clock::pause;
use crate::link::{Link, Result, number, put_number};

/// A message carrier whose messages are longer than a slot.
pub(crate) struct SegmentsLink<T: Track<Delivery: Lossless + InOrder>> {
    carrier: MessageCarrier<T>,
    message: Vec<u8>,
}

impl<T: Track<Delivery: Lossless + InOrder>> SegmentsLink<T> {
    pub(crate) fn new(carrier: MessageCarrier<T>) -> Self {
        Self { carrier, message: Vec::new() }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Link for SegmentsLink<T> {
    type Error = CarrierError<T::Error>;

    /// Waits, spinning, until all of it is on its way.
    fn try_send(&mut self, size: usize, number: u64) -> Result<bool, Self> {
        spin(self.send(size, number)).map(|()| true)
    }

    fn flush(&mut self) -> Result<(), Self> {
        self.carrier.flush()
    }

    fn try_recv(&mut self) -> Result<Option<u64>, Self> {
        match self.carrier.try_recv() {
            Ok(message) => Ok(Some(message.map_or(u64::MAX, |message| number(&message)))),
            Err(TryError::WouldBlock) => Ok(None),
            Err(TryError::Failed(error)) => Err(error),
        }
    }

    async fn send(&mut self, size: usize, number: u64) -> Result<(), Self> {
        self.message.resize(size, 1);
        put_number(&mut self.message, number);
        self.carrier.send(&self.message).await
    }

    async fn recv(&mut self) -> Result<u64, Self> {
        Ok(self.carrier.recv().await?.map_or(u64::MAX, |message| number(&message)))
    }

    async fn close(&mut self) -> Result<(), Self> {
        self.carrier.close().await
    }
}

fn spin<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        pause();
    }
}

/// How many messages are lent at a time.
const LENT: usize = 8;

/// A rendezvous carrier, with memory that goes round.
pub(crate) struct LentLink<F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>> {
    carrier: RendezvousCarrier<F>,
    out: usize,
}

impl<F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>> LentLink<F> {
    pub(crate) fn new(carrier: RendezvousCarrier<F>) -> Self {
        Self { carrier, out: 0 }
    }
}

impl<F: MemoryFabric<Track: Track<Delivery: Lossless + InOrder>>> Link for LentLink<F> {
    type Error = CarrierError<<F as Fabric>::Error>;

    /// Waits, spinning, until all of it is on its way.
    fn try_send(&mut self, size: usize, number: u64) -> Result<bool, Self> {
        spin(self.send(size, number)).map(|()| true)
    }

    fn flush(&mut self) -> Result<(), Self> {
        self.carrier.flush()
    }

    fn try_recv(&mut self) -> Result<Option<u64>, Self> {
        match self.carrier.try_recv() {
            Ok(message) => Ok(Some(message.map_or(u64::MAX, |message| number(&message)))),
            Err(TryError::WouldBlock) => Ok(None),
            Err(TryError::Failed(error)) => Err(error),
        }
    }

    async fn send(&mut self, size: usize, number: u64) -> Result<(), Self> {
        let back = if self.out < LENT { None } else { self.carrier.returned().await };
        let mut region = match back {
            Some(region) if region.len() >= size => region,
            _ => {
                self.out += 1;
                self.carrier.alloc(size)?
            }
        };
        put_number(&mut region, number);
        self.carrier.send_region(region, 0..size).await
    }

    async fn recv(&mut self) -> Result<u64, Self> {
        Ok(self.carrier.recv().await?.map_or(u64::MAX, |message| number(&message)))
    }

    async fn close(&mut self) -> Result<(), Self> {
        self.carrier.close().await
    }
}
