//! What clients and primaries ask of a node.

use trespass::core::{InOrder, Lossless, ThreadFabric, Track};
use trespass_example_rpc::{Router, RpcServer, ServeConfig};

use super::{Inner, write};
use crate::calls::{GiveReport, MARGIN, ReadKey, TakeWrite, TellLent, WriteKey};
use crate::wire::{Answer, Read, Refusal, Replicate, Write};

/// Answers until the listener ends, and says why it did.
pub(super) async fn serve<F, S>(inner: &Inner<F, S>, listener: F::Listener) -> String
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let service = Router::new()
        .unary(ReadKey, |read: Read, _| {
            let now = inner.clock.now();
            let answer = noticed(inner, inner.state().read(&read, now));
            async move { Ok(answer) }
        })
        .unary(WriteKey, |write: Write, _| async move { Ok(noticed(inner, write::write(inner, write).await)) })
        .unary(TakeWrite, |write: Replicate, _| {
            let now = inner.clock.now();
            let answer = noticed(inner, inner.state().replicate(write, now));
            async move { Ok(answer) }
        })
        .unary(GiveReport, |(), _| {
            let report = inner.state().report();
            async move { Ok(report) }
        })
        .unary(TellLent, |(), _| async move { Ok(inner.lent.clone()) });
    let longest = u32::try_from(inner.longest.saturating_add(MARGIN)).unwrap_or(u32::MAX);
    let config = ServeConfig::default().with_max_message(longest);
    let mut server = match RpcServer::new(listener, inner.fabric.timer(), service, config) {
        Ok(server) => server,
        Err(fault) => return fault.to_string(),
    };
    match server.run().await {
        Ok(_) => "it was drained".to_owned(),
        Err(error) => error.to_string(),
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
