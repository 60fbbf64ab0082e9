//! Frames over a stream: a length and what postcard makes of a [`Frame`].

use std::time::Duration;

use thiserror::Error;
use trespass::carriers::{CarrierError, StreamCarrier, StreamConfig};
use trespass::core::{Elapsed, ErrorKind, Fabric, InOrder, Lossless, Role, Track, TransportError, within};

use crate::wire::{Frame, Refusal};

/// No frame is longer. Items are sent some at a time; one value fits in any case.
pub(crate) const LONGEST: usize = 16 << 20;

/// Why a conversation over a stream came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ControlError {
    #[error("{0}: {1}")]
    Transport(ErrorKind, String),
    #[error("the other end said nothing in time")]
    Late,
    #[error("the other end has finished")]
    Over,
    #[error("the other end spoke nonsense")]
    Nonsense,
    #[error("the other end refused: {0}")]
    Refused(#[from] Refusal),
}

impl ControlError {
    fn transport<E: TransportError>(error: E) -> Self {
        Self::Transport(error.kind(), error.to_string())
    }
}

impl<E: TransportError> From<CarrierError<E>> for ControlError {
    fn from(error: CarrierError<E>) -> Self {
        Self::transport(error)
    }
}

impl From<Elapsed> for ControlError {
    fn from(_: Elapsed) -> Self {
        Self::Late
    }
}

/// A stream that carries frames. Everything on it has a deadline.
pub(crate) struct Conversation<T: Track<Delivery: Lossless + InOrder>> {
    stream: StreamCarrier<T>,
    timer: T::Timer,
    limit: Duration,
    frame: Vec<u8>,
}

impl<T: Track<Delivery: Lossless + InOrder>> Conversation<T> {
    /// Connects within `limit`, in which each step after it has to be done, too.
    pub(crate) async fn connect<F>(fabric: &F, addr: &F::Addr, limit: Duration) -> Result<Self, ControlError>
    where
        F: Fabric<Track = T, Timer = T::Timer, Error = T::Error, Addr = T::Addr>,
    {
        let timer = fabric.timer();
        let connecting = async {
            let track = fabric.connect(addr).await.map_err(ControlError::transport)?;
            Ok::<_, ControlError>(StreamCarrier::open(track, Role::Connector, StreamConfig::default()).await?)
        };
        let stream = within(&timer, limit, connecting).await??;
        Ok(Self { stream, timer, limit, frame: Vec::new() })
    }

    /// The accepting end's.
    pub(crate) fn over(stream: StreamCarrier<T>, timer: T::Timer, limit: Duration) -> Self {
        Self { stream, timer, limit, frame: Vec::new() }
    }

    pub(crate) async fn send(&mut self, frame: &Frame) -> Result<(), ControlError> {
        self.frame.clear();
        self.frame.extend_from_slice(&[0; 4]);
        self.frame = postcard::to_extend(frame, std::mem::take(&mut self.frame)).map_err(|_| ControlError::Nonsense)?;
        let len = u32::try_from(self.frame.len() - 4).unwrap_or(u32::MAX);
        self.frame[..4].copy_from_slice(&len.to_le_bytes());
        within(&self.timer, self.limit, self.stream.put_all(&self.frame)).await??;
        Ok(())
    }

    /// The next frame, within the limit.
    pub(crate) async fn recv(&mut self) -> Result<Frame, ControlError> {
        let limit = self.limit;
        self.recv_within(limit).await
    }

    /// The next frame, within another limit.
    pub(crate) async fn recv_within(&mut self, limit: Duration) -> Result<Frame, ControlError> {
        let timer = self.timer.clone();
        within(&timer, limit, self.next()).await?
    }

    async fn next(&mut self) -> Result<Frame, ControlError> {
        let mut len = [0; 4];
        let mut have = 0;
        while have < len.len() {
            have += self.read(&mut len[have..]).await?;
        }
        let len = u32::from_le_bytes(len) as usize;
        if len > LONGEST {
            return Err(ControlError::Nonsense);
        }
        // It grows as bytes arrive: a peer that says a length has not sent so much yet.
        self.frame.clear();
        while self.frame.len() < len {
            let bytes = self.stream.fill().await?;
            if bytes.is_empty() {
                return Err(ControlError::Over);
            }
            let taken = bytes.len().min(len - self.frame.len());
            self.frame.extend_from_slice(&bytes[..taken]);
            self.stream.consume(taken);
        }
        postcard::from_bytes(&self.frame).map_err(|_| ControlError::Nonsense)
    }

    async fn read(&mut self, into: &mut [u8]) -> Result<usize, ControlError> {
        let bytes = self.stream.fill().await?;
        if bytes.is_empty() {
            return Err(ControlError::Over);
        }
        let taken = bytes.len().min(into.len());
        into[..taken].copy_from_slice(&bytes[..taken]);
        self.stream.consume(taken);
        Ok(taken)
    }

    /// Says goodbye. What was said has arrived then.
    pub(crate) async fn close(mut self) {
        // Whoever does not hear it finds the stream ended, which is no worse here.
        let _ = self.stream.close().await;
    }
}
