//! What nodes are asked for, as calls, and who asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use thiserror::Error;
use trespass::core::{InOrder, Lossless, ThreadFabric, Track};
use trespass_example_rpc::{CallError, CallOptions, Channel, ChannelConfig, Method, Ran, Unary, methods};

use crate::store::Version;
use crate::wire::{Answer, Found, Lent, Read, Replicate, Replicated, Report, Write};

methods! {
    /// The newest value of a key, by its primary.
    pub(crate) ReadKey = 1, "cache.read": unary(Read) -> Answer<Found>;
    /// A write of a key, by its primary.
    pub(crate) WriteKey = 2, "cache.write": unary(Write) -> Answer<Version>;
    /// A write, from the primary of its key.
    pub(crate) TakeWrite = 3, "cache.take": unary(Replicate) -> Answer<Replicated>;
    /// How a node does.
    pub(crate) GiveReport = 4, "cache.report": unary(()) -> Report;
    /// Where a node lends its hot keys.
    pub(crate) TellLent = 5, "cache.lent": unary(()) -> Option<Lent>;
}

/// What a request or an answer takes besides key and value.
pub(crate) const MARGIN: u64 = 4 << 10;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}")]
pub struct CallFailure {
    /// Whether the other end may have done what it was asked to.
    pub maybe_done: bool,
    /// What went wrong.
    pub what: String,
}

impl From<CallError> for CallFailure {
    fn from(error: CallError) -> Self {
        Self { maybe_done: error.ran() != Ran::No, what: error.to_string() }
    }
}

/// Calls one node, over one connection.
pub(crate) struct Caller<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> {
    channel: Channel<F>,
    addr: F::Addr,
    /// The last call was answered.
    reached: AtomicBool,
}

/// How long a node may take to be reached, where the last call was not answered. A channel waits for a connection as long as a call may
/// take; whoever has another node to go to wants to know sooner that there is none.
const REACH: Duration = Duration::from_millis(250);

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>> Caller<F> {
    /// One that calls the node at `addr`. `longest` is how long an answer may be; chance is made of `seed`, where there is one.
    pub(crate) fn new(fabric: F, addr: F::Addr, longest: u64, seed: Option<u64>) -> Self {
        let longest = u32::try_from(longest.saturating_add(MARGIN)).unwrap_or(u32::MAX);
        let mut config = ChannelConfig::default().with_max_message(longest);
        config.longest_rest = REACH;
        config.seed = seed;
        Self { channel: Channel::new(fabric, addr.clone(), config), addr, reached: AtomicBool::new(false) }
    }

    pub(crate) fn addr(&self) -> &F::Addr {
        &self.addr
    }

    /// Calls, for so long at most.
    pub(crate) async fn call<M>(
        &self,
        method: M,
        request: &M::Request,
        limit: Duration,
    ) -> Result<M::Reply, CallFailure>
    where
        M: Method<Shape = Unary>,
    {
        if !self.reached.load(Ordering::Relaxed) {
            let reach = self.channel.call_with(GiveReport, &(), CallOptions::within(limit.min(REACH))).await;
            reach.map_err(|error| CallFailure { maybe_done: false, what: format!("not reached: {error}") })?;
        }
        let called = self.channel.call_with(method, request, CallOptions::within(limit)).await;
        self.reached.store(called.is_ok(), Ordering::Relaxed);
        Ok(called?)
    }
}
