//! Many puts and gets at once: a doorbell for as many as go, and many READs under way.

use std::collections::VecDeque;

use trespass::core::{ErrorKind, InOrder, Lossless, Track, TransportError, TryError};
use trespass_example_table::Lookup;

use super::client::{Client, StoreError, unexpected};
use super::gets::Gets;
use super::protocol::{Key, Reply, Request};

/// Requests that wait for their replies at most.
const UNANSWERED: usize = 64;

impl<T: Track<Delivery: Lossless + InOrder>, G: Gets> Client<T, G> {
    /// Gets all `keys`. `each` is told the number of a key and its value, or that there is none; in no order.
    ///
    /// # Errors
    /// What ended the connection: of the rest `each` does not hear. What concerns one key is told to `each`.
    pub(crate) async fn get_many<K: AsRef<[u8]>>(
        &mut self,
        keys: &[K],
        mut each: impl FnMut(usize, Result<Option<&[u8]>, StoreError>),
    ) -> Result<(), StoreError> {
        self.look_for_table().await?;
        let mut told = vec![false; keys.len()];
        let found = |index: usize, lookup, value: &[u8]| {
            // What cannot be a key is an error below, as it is by message.
            if Key::new(keys[index].as_ref()).is_err() {
                return;
            }
            told[index] = true;
            each(index, Ok(matches!(lookup, Lookup::Found { .. }).then_some(value)));
        };
        self.gets.find_many(keys, found).await;
        let rest: Vec<usize> = told.iter().enumerate().filter(|(_, told)| !*told).map(|(index, _)| index).collect();
        let request = |number: usize| Ok(Request::Get { key: Key::new(keys[rest[number]].as_ref())? });
        self.converse(rest.len(), request, |number, reply| {
            let value = match reply {
                Ok(Reply::Value(value)) => Ok(Some(value)),
                Ok(Reply::Missing) => Ok(None),
                Ok(other) => Err(unexpected(other)),
                Err(error) => Err(error),
            };
            each(rest[number], value);
        })
        .await
    }

    /// Puts all `pairs`, in their order. `each` is told the number of a pair and what came of it.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many).
    pub(crate) async fn put_many<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        pairs: &[(K, V)],
        mut each: impl FnMut(usize, Result<(), StoreError>),
    ) -> Result<(), StoreError> {
        let request = |number: usize| {
            let (key, value) = &pairs[number];
            Ok(Request::Put { key: Key::new(key.as_ref())?, value: value.as_ref() })
        };
        self.converse(pairs.len(), request, |number, reply| {
            each(
                number,
                match reply {
                    Ok(Reply::Done) => Ok(()),
                    Ok(other) => Err(unexpected(other)),
                    Err(error) => Err(error),
                },
            );
        })
        .await
    }

    /// Sends `count` requests, as many before their replies as may be. `each` is told what came of each, in their order.
    async fn converse<'a>(
        &mut self,
        count: usize,
        request: impl Fn(usize) -> Result<Request<'a>, StoreError>,
        mut each: impl FnMut(usize, Result<Reply<'_>, StoreError>),
    ) -> Result<(), StoreError> {
        self.settle().await?;
        let (mut sent, mut answered) = (0, 0);
        // Those that cannot be sent have no reply.
        let mut unsent: VecDeque<(usize, StoreError)> = VecDeque::new();
        while answered < count {
            while sent < count && self.owed < UNANSWERED {
                match self.try_send(request(sent)).await {
                    Ok(true) => self.owed += 1,
                    Ok(false) => break,
                    Err(error) if error.kind().is_none() => unsent.push_back((sent, error)),
                    Err(error) => return Err(error),
                }
                sent += 1;
            }
            self.carrier.flush().map_err(StoreError::transport)?;
            let is_next = unsent.front().is_some_and(|(number, _)| *number == answered);
            match is_next.then(|| unsent.pop_front()).flatten() {
                Some((_, error)) => each(answered, Err(error)),
                None => {
                    let reply = self.reply().await?;
                    each(answered, Reply::parse(&reply).map_err(StoreError::from));
                }
            }
            answered += 1;
        }
        Ok(())
    }

    /// Queues a request, or sends it where it is long. Whether there was room.
    async fn try_send(&mut self, request: Result<Request<'_>, StoreError>) -> Result<bool, StoreError> {
        self.write(request?)?;
        match self.carrier.try_send(&self.request) {
            Ok(()) => Ok(true),
            Err(TryError::WouldBlock) if self.owed > 0 => Ok(false),
            // One alone may wait, and take more than one frame.
            Err(TryError::WouldBlock) => self.send_whole().await,
            Err(TryError::Failed(error)) if error.kind() == ErrorKind::Oversize => match self.owed {
                0 => self.send_whole().await,
                _ => Ok(false),
            },
            Err(TryError::Failed(error)) => Err(StoreError::transport(error)),
        }
    }

    async fn send_whole(&mut self) -> Result<bool, StoreError> {
        self.carrier.send(&self.request).await.map_err(StoreError::transport)?;
        Ok(true)
    }
}
