//! A node: its decisions, joined to a fabric.
//!
//! - here: what it is made of, and the tasks that it runs, all in one future;
//! - `requests`: what clients and primaries ask of it;
//! - `write`: a write on its way to all of its key's nodes;
//! - `beats`: what nodes say of themselves to one another;
//! - `handover`: how it gets its keys, and gives others theirs.

mod beats;
mod handover;
mod requests;
mod write;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{LocalBoxFuture, select_all};
use thiserror::Error;
use trespass::core::{ErrorKind, InOrder, Listener, Lossless, ThreadFabric, Timer, Track, TransportError, within};

use crate::bell::Bell;
use crate::calls::Caller;
use crate::clock::Clock;
use crate::hot::Hot;
use crate::membership::{Epoch, Member, NodeId};
use crate::source::Source;
use crate::state::{Confirmed, Settings, State};
use crate::wire::{Lent, Report};

/// How a node is set up.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NodeConfig {
    /// Its name, as the membership has it.
    pub node: NodeId,
    /// Which start of the node it is: has to grow from one to the next. Milliseconds of the system's clock will do, where that
    /// does not go back.
    pub incarnation: u64,
    /// For how long a node may serve after it has looked at the membership: all nodes have to be told the same. So long, and
    /// a little more, it takes until the others serve the keys of a node that went without a word. The membership is looked
    /// at four times as often. Default 2 s.
    pub lease: Duration,
    /// How many bytes its entries may take. Default 256 MiB.
    pub capacity: u64,
    /// How long key and value may be together, in bytes; an eighth of the capacity at most. Default 1 MiB.
    pub longest: u64,
    /// How long a write may take to get to all nodes of its key, and how long a conversation between nodes may stand still. Default
    /// 1 s.
    pub patience: Duration,
    /// What the node's clock is to say when the fabric's says nothing: for simulations, in which clocks would agree. Default
    /// zero.
    pub zero: Duration,
    /// What chance is made of, for runs that are to be the same again. Default `None`: of chance.
    pub seed: Option<u64>,
}

impl NodeConfig {
    /// The defaults, for this start of a node.
    pub fn new(node: NodeId, incarnation: u64) -> Self {
        Self {
            node,
            incarnation,
            lease: Duration::from_secs(2),
            capacity: 256 << 20,
            longest: 1 << 20,
            patience: Duration::from_secs(1),
            zero: Duration::ZERO,
            seed: None,
        }
    }

    fn check(&self) -> Result<Settings, NodeError> {
        match () {
            () if self.lease < Duration::from_millis(10) => Err(NodeError::Config("lease has to be 10 ms at least")),
            () if self.patience.is_zero() => Err(NodeError::Config("patience has to be longer than zero")),
            () if self.capacity < 64 << 10 => Err(NodeError::Config("capacity has to be 64 KiB at least")),
            () if self.longest == 0 || self.longest > (self.capacity / 8).min(8 << 20) => {
                Err(NodeError::Config("longest has to be from 1 byte to an eighth of the capacity, and to 8 MiB"))
            }
            () => Ok(Settings {
                node: self.node,
                incarnation: self.incarnation,
                lease: self.lease,
                capacity: self.capacity,
                longest: self.longest,
            }),
        }
    }
}

/// Why a node is not, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A setting is out of range.
    #[error("a bad setting: {0}")]
    Config(&'static str),
    /// It cannot listen.
    #[error("cannot listen at {0}: {1}: {2}")]
    Listen(String, ErrorKind, String),
    /// One of its listeners has ended.
    #[error("a listener has ended: {0}")]
    Ended(String),
}

/// A node, which does nothing before it is [run](Node::run).
pub struct Node<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>, S> {
    inner: Arc<Inner<F, S>>,
    data: F::Listener,
    control: F::Listener,
}

/// Looks at a node, and stops it, from elsewhere.
pub struct NodeHandle<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>, S> {
    inner: Arc<Inner<F, S>>,
}

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>, S> Clone for NodeHandle<F, S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

/// Locks of keys: writes of one key go one after another, and so do those of a few that share a lock with it.
const STRIPES: usize = 256;

struct Inner<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>, S> {
    fabric: F,
    source: S,
    clock: Clock<F::Timer>,
    lease: Duration,
    patience: Duration,
    longest: u64,
    seed: Option<u64>,
    /// Never held across an await.
    state: Mutex<State<F::Addr>>,
    callers: Mutex<BTreeMap<NodeId, Arc<Caller<F>>>>,
    /// By node that replicates go to: see [`Replicate::link`](crate::wire::Replicate::link).
    links: Mutex<BTreeMap<NodeId, u64>>,
    stripes: Vec<futures_util::lock::Mutex<()>>,
    lent: Option<Lent>,
    /// Somebody knows of a newer epoch.
    outdated: Bell,
    /// There are keys to be got.
    unready: Bell,
    stop: Bell,
}

impl<F, S> Node<F, S>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
    S: Source<F::Addr>,
{
    /// Listens at `data` for requests and at `control` for streams: where the membership says, or will say, that this node is.
    ///
    /// # Errors
    /// A setting out of range; an address that cannot be listened at.
    pub fn bind(
        fabric: F,
        source: S,
        data: &F::Addr,
        control: &F::Addr,
        config: NodeConfig,
    ) -> Result<Self, NodeError> {
        Self::lending(fabric, source, data, control, config, None)
    }

    /// The same, and keys that are read often are put where clients read them one-sided; `lent` tells clients where that is.
    ///
    /// # Errors
    /// As [`bind`](Self::bind).
    pub fn lending(
        fabric: F,
        source: S,
        data: &F::Addr,
        control: &F::Addr,
        config: NodeConfig,
        hot: Option<(Hot, Lent)>,
    ) -> Result<Self, NodeError> {
        let settings = config.check()?;
        let listen = |addr: &F::Addr| {
            let why = |error: F::Error| NodeError::Listen(addr.to_string(), error.kind(), error.to_string());
            fabric.listen(addr).map_err(why)
        };
        let (data, control) = (listen(data)?, listen(control)?);
        let (hot, lent) = hot.unzip();
        let inner = Inner {
            clock: Clock::new(fabric.timer(), config.zero),
            fabric,
            source,
            lease: config.lease,
            patience: config.patience,
            longest: config.longest,
            seed: config.seed,
            state: Mutex::new(State::new(settings, hot)),
            callers: Mutex::default(),
            links: Mutex::default(),
            stripes: (0..STRIPES).map(|_| futures_util::lock::Mutex::new(())).collect(),
            lent,
            outdated: Bell::default(),
            unready: Bell::default(),
            stop: Bell::default(),
        };
        Ok(Self { inner: Arc::new(inner), data, control })
    }

    /// Where it listens, with what the fabric chose filled in: what the membership has to say of it.
    pub fn member(&self) -> Member<F::Addr> {
        let id = self.inner.state().settings().node;
        Member { id, data: self.data.local(), control: self.control.local() }
    }

    /// What looks at it from elsewhere.
    pub fn handle(&self) -> NodeHandle<F, S> {
        NodeHandle { inner: Arc::clone(&self.inner) }
    }

    /// Serves, until it is stopped. All of a node goes on in this one future, in whatever executor polls it. Dropping it is as if
    /// the node were killed.
    ///
    /// # Errors
    /// A listener has ended, as it does when the device goes.
    pub async fn run(self) -> Result<(), NodeError> {
        let Self { inner, data, control } = self;
        let inner = &inner;
        let serving = async { Err(NodeError::Ended(requests::serve(inner, data).await)) };
        let controlling = async { Err(NodeError::Ended(beats::serve(inner, control).await)) };
        let stopped = async {
            inner.stop.heard().await;
            Ok(())
        };
        let tasks: Vec<LocalBoxFuture<'_, Result<(), NodeError>>> = vec![
            Box::pin(serving),
            Box::pin(controlling),
            Box::pin(stopped),
            Box::pin(endless(inner.watch())),
            Box::pin(endless(beats::beat(inner))),
            Box::pin(endless(handover::get_keys(inner))),
            Box::pin(endless(inner.sweep())),
        ];
        let (outcome, _, _) = select_all(tasks).await;
        outcome
    }
}

async fn endless(task: impl Future<Output = std::convert::Infallible>) -> Result<(), NodeError> {
    match task.await {}
}

impl<F, S> NodeHandle<F, S>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    /// Ends [`run`](Node::run).
    pub fn stop(&self) {
        self.inner.stop.ring();
    }

    /// How it does.
    pub fn report(&self) -> Report {
        self.inner.state().report()
    }

    /// The clock of its fabric.
    pub fn timer(&self) -> F::Timer {
        self.inner.fabric.timer()
    }

    /// Looks at its state.
    pub fn look<R>(&self, look: impl FnOnce(&State<F::Addr>) -> R) -> R {
        look(&self.inner.state())
    }
}

impl<F, S> Inner<F, S>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    fn state(&self) -> MutexGuard<'_, State<F::Addr>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What calls `node`, where that is a member.
    fn caller(&self, node: NodeId) -> Option<Arc<Caller<F>>> {
        let view = self.state().view().cloned()?;
        let addr = &view.membership().member(node)?.data;
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        match callers.get(&node).filter(|caller| caller.addr() == addr) {
            Some(caller) => Some(Arc::clone(caller)),
            None => {
                let caller = Arc::new(Caller::new(self.fabric.clone(), addr.clone(), self.longest, self.seed));
                callers.insert(node, Arc::clone(&caller));
                Some(caller)
            }
        }
    }

    /// Looks at the membership now and then, and when somebody knows of a newer one.
    async fn watch(&self) -> std::convert::Infallible
    where
        S: Source<F::Addr>,
    {
        loop {
            let asked = self.clock.now();
            let read = within(self.clock.timer(), self.lease, self.source.read()).await;
            let now = self.clock.now();
            // What cannot be read prolongs no lease: in the end this node stands still.
            if let Ok(Ok(membership)) = read {
                let confirmed = self.state().confirm(membership, asked, now);
                if confirmed == Confirmed::Advanced {
                    self.unready.ring();
                }
            }
            self.clock.timer().sleep(self.lease / 64).await;
            self.outdated.heard_within(self.clock.timer(), self.lease / 4).await;
        }
    }

    /// Does what has become possible, and forgets what is dead.
    async fn sweep(&self) -> std::convert::Infallible {
        loop {
            self.clock.timer().sleep(self.lease).await;
            let now = self.clock.now();
            let mut state = self.state();
            state.turn(now);
            state.sweep(now);
        }
    }

    /// The number of the link to `node`, of which `at` may be doubtful: then the next one.
    fn link(&self, node: NodeId, doubtful: Option<u64>) -> u64 {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let link = links.entry(node).or_default();
        if let Some(at) = doubtful {
            *link = (*link).max(at.saturating_add(1));
        }
        *link
    }

    fn epoch(&self) -> Option<Epoch> {
        self.state().epoch()
    }
}
