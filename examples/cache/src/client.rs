//! A client: finds the primary of a key, and another where there is another now.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use trespass::core::{InOrder, Lossless, ThreadFabric, Timer, Track, within};
use trespass_example_rpc::{Method, Unary};

use crate::calls::{CallFailure, Caller, GiveReport, ReadKey, WriteKey};
use crate::membership::{Epoch, NodeId};
use crate::source::{Source, SourceError};
use crate::store::Version;
use crate::view::View;
use crate::wire::{Answer, Found, Read, Refusal, Report, Write};

/// How long a client tries.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ClientConfig {
    /// For how long a call is tried, in all. Default 10 s: some times the lease of the nodes.
    pub deadline: Duration,
    /// For how long one node is waited for. Default 2 s: longer than a node waits for the others.
    pub attempt: Duration,
    /// How long a value may be, in bytes: as the nodes take them. Default 1 MiB.
    pub longest: u64,
    /// What chance is made of, for runs that are to be the same again. Default `None`: of chance.
    pub seed: Option<u64>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(10), attempt: Duration::from_secs(2), longest: 1 << 20, seed: None }
    }
}

/// What went wrong in one try.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The node said no.
    #[error("{0} says: {1}")]
    Refused(NodeId, Refusal),
    /// There was no answer.
    #[error("{0} did not answer: {1}")]
    Unanswered(NodeId, CallFailure),
    /// The membership is not known.
    #[error(transparent)]
    Membership(#[from] SourceError),
    /// Nobody has the key, for there are no members.
    #[error("the membership names nobody who has the key")]
    Nobody,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CacheError {
    /// A write may have been done, or be done yet: it was sent, and not acknowledged. It is not tried again, since it might then
    /// overwrite what another wrote meanwhile: read, or write anew, as the application needs it.
    #[error("the write may have been done, or not: {0}")]
    InDoubt(Trouble),
    /// Not in time. A write was not done.
    #[error("not in time, in {tries} tries; the last: {last}")]
    Unavailable {
        /// How often it was tried.
        tries: u32,
        /// What went wrong last.
        last: Trouble,
    },
    /// Key and value are longer than the nodes take. Nothing was done.
    #[error("key and value have {len} bytes, where at most {most} are taken")]
    TooLarge {
        /// How long both are.
        len: u64,
        /// How long they may be.
        most: u64,
    },
}

/// A client of the cache. Any number of calls may be under way at once.
pub struct Client<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>, S> {
    timer: F::Timer,
    fabric: F,
    source: S,
    config: ClientConfig,
    view: Mutex<Option<Arc<View<F::Addr>>>>,
    callers: Mutex<BTreeMap<NodeId, Arc<Caller<F>>>>,
}

/// Who answered, in which epoch, and when it was asked by this end's clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) node: NodeId,
    pub(crate) epoch: Epoch,
    pub(crate) asked: Duration,
}

/// Between two tries: at first, and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(64)];

impl<F, S> Client<F, S>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
    S: Source<F::Addr>,
{
    /// A client. It does nothing yet.
    pub fn new(fabric: F, source: S, config: ClientConfig) -> Self {
        Self { timer: fabric.timer(), fabric, source, config, view: Mutex::default(), callers: Mutex::default() }
    }

    /// The newest value of `key`, and its version; `None` where there is none, or its time is up, or it had to go. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// [`CacheError::Unavailable`].
    pub async fn get(&self, key: &[u8]) -> Result<Option<(Version, Bytes)>, CacheError> {
        Ok(self.find(key).await?.0.value)
    }

    /// The same, and who said so.
    pub(crate) async fn find(&self, key: &[u8]) -> Result<(Found, Told), CacheError> {
        let owned = Bytes::copy_from_slice(key);
        let read = async |caller: &Caller<F>, epoch, limit| {
            let key = owned.clone();
            caller.call(ReadKey, &Read { epoch, key }, limit).await
        };
        self.call(key, true, read).await
    }

    /// The same in one try, of whoever is its primary as far as this client knows.
    ///
    /// # Errors
    /// [`CacheError::Unavailable`], with what went wrong.
    pub async fn get_once(&self, key: &[u8]) -> Result<Option<(Version, Bytes)>, CacheError> {
        let owned = Bytes::copy_from_slice(key);
        let read = async |caller: &Caller<F>, epoch, limit| {
            let key = owned.clone();
            caller.call(ReadKey, &Read { epoch, key }, limit).await
        };
        let found = self.attempt(key, self.config.attempt, read).await;
        found.map(|(found, _)| found.value).map_err(|last| CacheError::Unavailable { tries: 1, last })
    }

    /// Writes `key`, to be read for `ttl`. Once it has returned every node that has the key in the membership has the value. A
    /// future that is dropped leaves the write in doubt.
    ///
    /// # Errors
    /// See [`CacheError`].
    pub async fn put(&self, key: &[u8], value: impl Into<Bytes>, ttl: Duration) -> Result<Version, CacheError> {
        self.write(key, Some(value.into()), ttl).await
    }

    /// Deletes `key`, as [`put`](Self::put) writes it.
    ///
    /// # Errors
    /// See [`CacheError`].
    pub async fn delete(&self, key: &[u8]) -> Result<Version, CacheError> {
        self.write(key, None, Duration::MAX).await
    }

    async fn write(&self, key: &[u8], value: Option<Bytes>, ttl: Duration) -> Result<Version, CacheError> {
        let key = Bytes::copy_from_slice(key);
        let write = async |caller: &Caller<F>, epoch, limit| {
            let (key, value) = (key.clone(), value.clone());
            caller.call(WriteKey, &Write { epoch, key, value, ttl }, limit).await
        };
        Ok(self.call(&key, false, write).await?.0)
    }

    /// The primary of `key`, as far as this client knows.
    pub(crate) fn primary(&self, key: &[u8]) -> Option<(Epoch, NodeId)> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let view = view.as_ref()?;
        Some((view.epoch(), *view.replicas(key).first()?))
    }

    /// Calls one node, once.
    pub(crate) async fn ask<M: Method<Shape = Unary>>(
        &self,
        node: NodeId,
        method: M,
        request: &M::Request,
    ) -> Option<M::Reply> {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        self.caller(&view, node)?.call(method, request, self.config.attempt).await.ok()
    }

    pub(crate) fn fabric(&self) -> &F {
        &self.fabric
    }

    pub(crate) fn timer(&self) -> &F::Timer {
        &self.timer
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// How each member does, by the membership now; those that do not say are left out.
    ///
    /// # Errors
    /// The membership is not known.
    pub async fn reports(&self) -> Result<Vec<Report>, SourceError> {
        let view = self.refreshed(self.config.attempt).await?;
        let ask = async |node| self.caller(&view, node)?.call(GiveReport, &(), self.config.attempt).await.ok();
        let members = view.membership().members().iter().map(|member| ask(member.id));
        Ok(futures_util::future::join_all(members).await.into_iter().flatten().collect())
    }

    /// Calls the primary of `key`, whoever that is, until there is an answer. A call that is not `harmless` is not made twice, unless
    /// it was not done.
    async fn call<T>(
        &self,
        key: &[u8],
        harmless: bool,
        call: impl AsyncFn(&Caller<F>, Epoch, Duration) -> Result<Answer<T>, CallFailure>,
    ) -> Result<(T, Told), CacheError> {
        let timer = &self.timer;
        let until = timer.now().saturating_add(self.config.deadline);
        let [mut pause, longest] = PAUSES;
        let mut tries = 0;
        loop {
            tries += 1;
            let left = until.saturating_sub(timer.now());
            let last = match self.attempt(key, left, &call).await {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Refused(_, Refusal::TooLarge { len, most })) => {
                    return Err(CacheError::TooLarge { len, most });
                }
                Err(trouble) if !harmless && trouble.maybe_done() => {
                    // For the next call: others may have moved on.
                    let _ = self.refreshed(until.saturating_sub(timer.now())).await;
                    return Err(CacheError::InDoubt(trouble));
                }
                Err(trouble) => trouble,
            };
            if timer.now().saturating_add(pause) >= until {
                return Err(CacheError::Unavailable { tries, last });
            }
            timer.sleep(pause).await;
            pause = (pause * 2).min(longest);
            // What is not known anew is tried again as it was.
            let _ = self.refreshed(until.saturating_sub(timer.now())).await;
        }
    }

    async fn attempt<T>(
        &self,
        key: &[u8],
        left: Duration,
        call: impl AsyncFn(&Caller<F>, Epoch, Duration) -> Result<Answer<T>, CallFailure>,
    ) -> Result<(T, Told), Trouble> {
        let known = self.view.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let view = match known {
            Some(view) => view,
            None => self.refreshed(left).await?,
        };
        let primary = *view.replicas(key).first().ok_or(Trouble::Nobody)?;
        let caller = self.caller(&view, primary).ok_or(Trouble::Nobody)?;
        let told = Told { node: primary, epoch: view.epoch(), asked: self.timer.now() };
        match call(&caller, view.epoch(), left.min(self.config.attempt)).await {
            Ok(Ok(answer)) => Ok((answer, told)),
            Ok(Err(refusal)) => Err(Trouble::Refused(primary, refusal)),
            Err(failure) => Err(Trouble::Unanswered(primary, failure)),
        }
    }

    /// The membership, read again.
    async fn refreshed(&self, limit: Duration) -> Result<Arc<View<F::Addr>>, SourceError> {
        let late = |_| Err(SourceError::Unavailable("not in time".to_owned()));
        let membership = within(&self.timer, limit, self.source.read()).await.unwrap_or_else(late)?;
        let mut view = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        match &*view {
            Some(known) if known.epoch() >= membership.epoch() => Ok(Arc::clone(known)),
            before => {
                let new = Arc::new(View::new(membership, before.as_deref()));
                Ok(Arc::clone(view.insert(new)))
            }
        }
    }

    fn caller(&self, view: &View<F::Addr>, node: NodeId) -> Option<Arc<Caller<F>>> {
        let addr = &view.membership().member(node)?.data;
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        match callers.get(&node).filter(|caller| caller.addr() == addr) {
            Some(caller) => Some(Arc::clone(caller)),
            None => {
                let caller =
                    Arc::new(Caller::new(self.fabric.clone(), addr.clone(), self.config.longest, self.config.seed));
                callers.insert(node, Arc::clone(&caller));
                Some(caller)
            }
        }
    }
}

impl Trouble {
    /// Whether a write may have been done all the same.
    fn maybe_done(&self) -> bool {
        match self {
            Self::Refused(_, refusal) => *refusal == Refusal::InDoubt,
            Self::Unanswered(_, failure) => failure.maybe_done,
            Self::Membership(_) | Self::Nobody => false,
        }
    }
}
