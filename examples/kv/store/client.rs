//! The client: put, get, delete and scan, one at a time; many at once are in [`batch`](super::batch).

use std::error::Error;
use std::ops::Deref;

use thiserror::Error;
use trespass::carriers::{CarrierError, Message, MessageCarrier, MessageConfig};
use trespass::core::{ErrorKind, Fabric, InOrder, Lossless, Role, Track, TransportError};

use trespass_example_table::Lookup;

use super::gets::{ByMessage, Gets, GetsStats};
use super::protocol::{Effort, Key, KeyTooLong, MAX_PUT_HEAD, Nonsense, Rejection, Reply, Request};

/// A connection to a server, and how values are got beside it.
pub(crate) struct Client<T: Track<Delivery: Lossless + InOrder>, G = ByMessage> {
    pub(super) carrier: MessageCarrier<T>,
    /// The request in the making: kept, so that not every request allocates.
    pub(super) request: Vec<u8>,
    /// Requests that were sent and whose replies were not waited for, because a call was dropped half-way. Replies come
    /// in order: these come first.
    pub(super) owed: usize,
    pub(super) gets: G,
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
    pub(super) fn transport<E: TransportError>(error: E) -> Self {
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
    /// Connects to the server at `addr`. All goes by message.
    pub(crate) async fn connect<F>(fabric: &F, addr: &F::Addr, config: MessageConfig) -> Result<Self, StoreError>
    where
        F: Fabric<Track = T, Error = T::Error>,
    {
        Self::open(fabric, addr, config, ByMessage).await
    }

    /// The longest value that fits into a message of a connection with this `config`, however long its key.
    pub(crate) fn longest_value(config: &MessageConfig) -> usize {
        config.max_message.saturating_sub(MAX_PUT_HEAD)
    }
}

impl<T: Track<Delivery: Lossless + InOrder>, G: Gets> Client<T, G> {
    /// Connects to the server at `addr`, to get values by `gets` where that can be.
    pub(crate) async fn open<F>(fabric: &F, addr: &F::Addr, config: MessageConfig, gets: G) -> Result<Self, StoreError>
    where
        F: Fabric<Track = T, Error = T::Error>,
    {
        let track = fabric.connect(addr).await.map_err(StoreError::transport)?;
        let carrier = MessageCarrier::open(track, Role::Connector, config).await.map_err(StoreError::transport)?;
        let mut client = Self { carrier, request: Vec::new(), owed: 0, gets };
        client.look_for_table().await?;
        Ok(client)
    }

    pub(crate) async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let reply = self.exchange(Request::Put { key: Key::new(key)?, value }).await?;
        match Reply::parse(&reply)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// The value where it was received, or read: no copy is made.
    pub(crate) async fn get(&mut self, key: &[u8]) -> Result<Option<Value<'_, T>>, StoreError> {
        let key = Key::new(key)?;
        self.look_for_table().await?;
        match self.gets.find(key.bytes()).await {
            Some(Lookup::Found { .. }) => return Ok(Some(Value::Read(self.gets.value()))),
            Some(Lookup::Absent) => return Ok(None),
            _ => {}
        }
        let reply = self.exchange(Request::Get { key }).await?;
        match Reply::parse(&reply)? {
            Reply::Value(value) => {
                let head = reply.len() - value.len();
                Ok(Some(Value::Received { reply, head }))
            }
            Reply::Missing => Ok(None),
            other => Err(unexpected(other)),
        }
    }

    /// Asks where the table is, when it is time to.
    pub(super) async fn look_for_table(&mut self) -> Result<(), StoreError> {
        if !self.gets.wants_table() {
            return Ok(());
        }
        let reply = self.exchange(Request::Table).await?;
        match Reply::parse(&reply)? {
            Reply::Table(directory, addr) => self.gets.open(Some((directory, addr))).await,
            Reply::Missing => self.gets.open(None).await,
            other => return Err(unexpected(other)),
        }
        Ok(())
    }

    /// Shows `each` up to `most` pairs from `from` on, in the order of their keys. How many there were: fewer than `most`, too,
    /// where they are too long together.
    pub(crate) async fn scan(
        &mut self,
        from: &[u8],
        most: u32,
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<usize, StoreError> {
        let reply = self.exchange(Request::Scan { from: Key::new(from)?, most }).await?;
        match Reply::parse(&reply)? {
            Reply::Pairs(pairs) => Ok(pairs.iter().map(|(key, value)| each(key, value)).count()),
            other => Err(unexpected(other)),
        }
    }

    /// How busy the server was so far.
    pub(crate) async fn effort(&mut self) -> Result<Effort, StoreError> {
        let reply = self.exchange(Request::Effort).await?;
        match Reply::parse(&reply)? {
            Reply::Busy(effort) => Ok(effort),
            other => Err(unexpected(other)),
        }
    }

    /// What it is below, for its counters.
    pub(crate) fn carrier(&self) -> &MessageCarrier<T> {
        &self.carrier
    }

    /// What was done beside messages.
    pub(crate) fn gets_stats(&self) -> GetsStats {
        self.gets.stats()
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
        self.settle().await?;
        self.write(request)?;
        self.carrier.send(&self.request).await.map_err(StoreError::transport)?;
        self.owed += 1;
        self.reply().await
    }

    /// Makes the message. One that is too long is not even copied.
    pub(super) fn write(&mut self, request: Request<'_>) -> Result<(), StoreError> {
        let (len, max) = (request.len(), self.carrier.max_message());
        if len > max {
            return Err(StoreError::transport(CarrierError::<T::Error>::Oversize { len, max }));
        }
        self.request.clear();
        request.encode(&mut self.request);
        Ok(())
    }

    /// Takes the replies that nobody waits for any more.
    pub(super) async fn settle(&mut self) -> Result<(), StoreError> {
        while self.owed > 0 {
            self.reply().await?;
        }
        Ok(())
    }

    pub(super) async fn reply(&mut self) -> Result<Message<T>, StoreError> {
        let reply = self.carrier.recv().await.map_err(StoreError::transport)?;
        self.owed -= 1;
        reply.ok_or(StoreError::Unanswered)
    }
}

pub(super) fn unexpected(reply: Reply<'_>) -> StoreError {
    match reply {
        Reply::Rejected(why, reason) => StoreError::Rejected(why, reason.to_owned()),
        _ => StoreError::Nonsense(Nonsense),
    }
}

/// A value in the memory in which it arrived. Drop it soon: that memory is what the server may send into, or the next value
/// is read into.
pub(crate) enum Value<'a, T: Track> {
    Received { reply: Message<T>, head: usize },
    Read(&'a [u8]),
}

impl<T: Track> Deref for Value<'_, T> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Received { reply, head } => &reply[*head..],
            Self::Read(value) => value,
        }
    }
}
