//! What clients and primaries ask of a node.

use trespass::core::{InOrder, Lossless, ThreadFabric, Track};

use super::{Inner, write};
use crate::calls::{Reply, Request};
use crate::wire::{Answer, Refusal};

pub(super) async fn answer<F, S>(inner: &Inner<F, S>, request: Request) -> Reply
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    match request {
        Request::Read(read) => {
            let now = inner.clock.now();
            Reply::Read(noticed(inner, inner.state().read(&read, now)))
        }
        Request::Write(write) => Reply::Write(noticed(inner, write::write(inner, write).await)),
        Request::Replicate(write) => {
            let now = inner.clock.now();
            Reply::Replicate(noticed(inner, inner.state().replicate(write, now)))
        }
        Request::Report => Reply::Report(inner.state().report()),
        Request::Lend => Reply::Lend(inner.lent.clone()),
    }
}

/// Whoever asks about an epoch that is not known here knows more: the membership is looked at at once.
fn noticed<F, S, T>(inner: &Inner<F, S>, answer: Answer<T>) -> Answer<T>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    if matches!(answer, Err(Refusal::Behind)) {
        inner.outdated.ring();
    }
    answer
}
