//! The client: put, get and delete, one at a time.

use std::error::Error;
use std::ops::Deref;

use thiserror::Error;
use trespass::carriers::{Message, MessageCarrier, MessageConfig};
use trespass::core::{ErrorKind, Fabric, InOrder, Lossless, Role, Track, TransportError};

use super::protocol::{Key, KeyTooLong, MAX_PUT_HEAD, Nonsense, Rejection, Reply, Request};

/// A connection to a server.
pub(crate) struct Client<T: Track<Delivery: Lossless + InOrder>> {
    carrier: MessageCarrier<T>,
    /// The request in the making: kept, so that not every request allocates.
    request: Vec<u8>,
    /// Requests that were sent and whose replies were not waited for, because a call was dropped half-way. Replies come
    /// in order: these come first.
    owed: usize,
}

/// Why a call failed.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    /// There is no connection, or there is none any more.
    #[error("{0}: {1}")]
    Transport(ErrorKind, Box<dyn Error + Send + Sync>),
    #[error("the server ended the conversation before it answered")]
    Unanswered,
    #[error("{0}: {1}")]
    Rejected(Rejection, String),
    #[error(transparent)]
    Nonsense(#[from] Nonsense),
    #[error(transparent)]
    KeyTooLong(#[from] KeyTooLong),
}

impl StoreError {
    fn transport<E: TransportError>(error: E) -> Self {
        Self::Transport(error.kind(), Box::new(error))
    }

    /// The portable part of the error, where it is about the connection; `None` where the connection is as good as before.
    pub(crate) fn kind(&self) -> Option<ErrorKind> {
        match self {
            Self::Transport(ErrorKind::Oversize, _) | Self::Rejected(..) | Self::KeyTooLong(_) => None,
            Self::Transport(kind, _) => Some(*kind),
            Self::Unanswered => Some(ErrorKind::Disconnected),
            Self::Nonsense(_) => Some(ErrorKind::Protocol),
        }
    }
}

impl<T: Track<Delivery: Lossless + InOrder>> Client<T> {
    /// Connects to the server at `addr`.
    pub(crate) async fn connect<F>(fabric: &F, addr: &F::Addr, config: MessageConfig) -> Result<Self, StoreError>
    where
        F: Fabric<Track = T, Error = T::Error>,
    {
        let track = fabric.connect(addr).await.map_err(StoreError::transport)?;
        let carrier = MessageCarrier::open(track, Role::Connector, config).await.map_err(StoreError::transport)?;
        Ok(Self { carrier, request: Vec::new(), owed: 0 })
    }

    /// The longest value that fits into a message of a connection with this `config`, however long its key.
    pub(crate) fn longest_value(config: &MessageConfig) -> usize {
        config.max_message.saturating_sub(MAX_PUT_HEAD)
    }

    pub(crate) async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let reply = self.exchange(Request::Put { key: Key::new(key)?, value }).await?;
        match Reply::parse(&reply)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// The value as it was received: no copy is made.
    pub(crate) async fn get(&mut self, key: &[u8]) -> Result<Option<Value<T>>, StoreError> {
        let reply = self.exchange(Request::Get { key: Key::new(key)? }).await?;
        match Reply::parse(&reply)? {
            Reply::Value(value) => {
                let head = reply.len() - value.len();
                Ok(Some(Value { reply, head }))
            }
            Reply::Missing => Ok(None),
            other => Err(unexpected(other)),
        }
    }

    /// Whether there was such a key.
    pub(crate) async fn delete(&mut self, key: &[u8]) -> Result<bool, StoreError> {
        let reply = self.exchange(Request::Delete { key: Key::new(key)? }).await?;
        match Reply::parse(&reply)? {
            Reply::Done => Ok(true),
            Reply::Missing => Ok(false),
            other => Err(unexpected(other)),
        }
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) -> Result<(), StoreError> {
        self.carrier.close().await.map_err(StoreError::transport)
    }

    async fn exchange(&mut self, request: Request<'_>) -> Result<Message<T>, StoreError> {
        while self.owed > 0 {
            self.reply().await?;
        }
        self.request.clear();
        request.encode(&mut self.request);
        self.carrier.send(&self.request).await.map_err(StoreError::transport)?;
        self.owed += 1;
        self.reply().await
    }

    async fn reply(&mut self) -> Result<Message<T>, StoreError> {
        let reply = self.carrier.recv().await.map_err(StoreError::transport)?;
        self.owed -= 1;
        reply.ok_or(StoreError::Unanswered)
    }
}

fn unexpected(reply: Reply<'_>) -> StoreError {
    match reply {
        Reply::Rejected(why, reason) => StoreError::Rejected(why, reason.to_owned()),
        Reply::Done | Reply::Value(_) | Reply::Missing => StoreError::Nonsense(Nonsense),
    }
}

/// A value in the memory in which it arrived. Drop it soon: that memory is what the server may send into.
pub(crate) struct Value<T: Track> {
    reply: Message<T>,
    head: usize,
}

impl<T: Track> Deref for Value<T> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.reply[self.head..]
    }
}
