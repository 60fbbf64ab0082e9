//! A write on its way to all of its key's nodes.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use futures_util::future::join_all;
use trespass::core::{InOrder, Lossless, ThreadFabric, Timer, Track};

use super::{Inner, STRIPES};
use crate::calls::TakeWrite;
use crate::membership::NodeId;
use crate::planted::{self, Bug};
use crate::state::Pending;
use crate::store::Version;
use crate::wire::{Answer, Refusal, Replicate, Unready, Write};

/// As primary: every other node of the key first, then here, where it is read from; and then it is acknowledged.
pub(super) async fn write<F, S>(inner: &Inner<F, S>, write: Write) -> Answer<Version>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let stripe = BuildHasherDefault::<DefaultHasher>::default().hash_one(&write.key) as usize % STRIPES;
    let _alone = inner.stripes[stripe].lock().await;
    let pending = inner.state().begin(write, inner.clock.now())?;
    let confirmed = match planted::is(Bug::Acknowledge) {
        true => Vec::new(),
        false => replicate(inner, &pending).await?,
    };
    inner.state().finish(pending, &confirmed, inner.clock.now())
}

/// What became of a write at one of the others.
enum Outcome {
    /// It has it: which start of it.
    Has(u64),
    /// It has it not.
    Refused(Refusal),
    /// It may have it.
    Unknown,
}

/// Which start of each of the others has it.
///
/// # Errors
/// Where some may have it and others have not, or may not, the write is in doubt. Where none has it, why.
async fn replicate<F, S>(inner: &Inner<F, S>, pending: &Pending) -> Result<Vec<(NodeId, u64)>, Refusal>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let outcomes = join_all(pending.others.iter().map(|other| to_one(inner, pending, *other))).await;
    let mut confirmed = Vec::with_capacity(outcomes.len());
    let (mut refused, mut unknown) = (None, false);
    for (other, outcome) in pending.others.iter().zip(outcomes) {
        match outcome {
            Outcome::Has(incarnation) => confirmed.push((*other, incarnation)),
            Outcome::Refused(refusal) => refused = Some(refusal),
            Outcome::Unknown => unknown = true,
        }
    }
    match refused {
        None if !unknown => Ok(confirmed),
        Some(refusal) if !unknown && confirmed.is_empty() => Err(refusal),
        _ => Err(Refusal::InDoubt),
    }
}

/// How soon one that is not ready yet is asked again.
const PAUSE: Duration = Duration::from_millis(5);

async fn to_one<F, S>(inner: &Inner<F, S>, pending: &Pending, other: NodeId) -> Outcome
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let until = inner.clock.now().saturating_add(inner.patience);
    let unreached = Outcome::Refused(Refusal::NotReady(Unready::Unreached));
    loop {
        let Some(caller) = inner.caller(other) else { return unreached };
        let mut under_way = UnderWay { inner, other, link: inner.link(other, None), answered: false };
        let left = until.saturating_sub(inner.clock.now());
        let answer = caller.call(TakeWrite, &message(inner, pending, under_way.link), left).await;
        under_way.answered = !matches!(&answer, Err(failure) if failure.maybe_done);
        drop(under_way);
        let refusal = match answer {
            Ok(Ok(replicated)) => return Outcome::Has(replicated.incarnation),
            Ok(Err(refusal)) => refusal,
            Err(failure) if failure.maybe_done => return Outcome::Unknown,
            Err(_) => return unreached,
        };
        match refusal {
            Refusal::OldLink { seen } => drop(inner.link(other, Some(seen.saturating_sub(1)))),
            Refusal::Behind | Refusal::NotReady(_) => inner.clock.timer().sleep(PAUSE).await,
            _ => return Outcome::Refused(refusal),
        }
        if inner.clock.now() >= until || inner.epoch() != Some(pending.epoch) {
            return Outcome::Refused(refusal);
        }
    }
}

fn message<F, S>(inner: &Inner<F, S>, pending: &Pending, link: u64) -> Replicate
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let (from, incarnation) = {
        let state = inner.state();
        (state.settings().node, state.settings().incarnation)
    };
    Replicate {
        epoch: pending.epoch,
        from,
        incarnation,
        link,
        key: pending.key.clone(),
        version: pending.entry.version,
        expires: pending.entry.expires,
        value: pending.entry.value.clone(),
    }
}

/// A replicate that was sent. If it is given up, or its write is, it may still come: so what is sent from then on has a greater
/// number, and it is refused if it comes after that.
struct UnderWay<'a, F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>, S> {
    inner: &'a Inner<F, S>,
    other: NodeId,
    link: u64,
    answered: bool,
}

impl<F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>, S> Drop for UnderWay<'_, F, S> {
    fn drop(&mut self) {
        if !self.answered {
            self.inner.link(self.other, Some(self.link));
        }
    }
}
