//! Beats: what nodes say of themselves to one another, over a stream that stays.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, Stream};
use trespass::carriers::{Accepted, Server, ServerConfig, StreamCarrier, StreamConfig};
use trespass::core::{InOrder, Lossless, ThreadFabric, Timer, Track};

use super::{Inner, handover};
use crate::control::{ControlError, Conversation};
use crate::membership::Member;
use crate::wire::{Frame, Presence};

/// Takes streams in until the listener ends, and says why it did.
pub(super) async fn serve<F, S>(inner: &Inner<F, S>, listener: F::Listener) -> String
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let timer = inner.fabric.timer();
    let mut server = match Server::new(listener, timer, ServerConfig::default(), StreamConfig::default()) {
        Ok(server) => server,
        Err(fault) => return fault.to_string(),
    };
    let served = server.serve(|Accepted { carrier, peer }: Accepted<StreamCarrier<F::Track>, F::Addr>| async move {
        let conversation = Conversation::over(carrier, inner.fabric.timer(), inner.patience);
        // Whoever spoke to this node finds out by itself that it does not any more.
        let _ = converse(inner, conversation).await;
        drop(peer);
    });
    match served.await {
        Ok(_) => "it was drained".to_owned(),
        Err(error) => error.to_string(),
    }
}

async fn converse<F, S>(inner: &Inner<F, S>, mut with: Conversation<F::Track>) -> Result<(), ControlError>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    // One that beats does so more often than this.
    let silence = inner.lease.max(inner.patience);
    loop {
        match with.recv_within(silence).await? {
            Frame::Beat(presence) => {
                hear(inner, &presence, None)?;
                let mine = inner.state().presence(inner.clock.now());
                with.send(&Frame::Beat(mine)).await?;
            }
            Frame::Pull(by, epoch) => return handover::give_keys(inner, with, by, epoch).await,
            _ => return Err(ControlError::Nonsense),
        }
    }
}

/// Takes in what another says of itself.
pub(super) fn hear<F, S>(inner: &Inner<F, S>, presence: &Presence, asked: Option<Duration>) -> Result<(), ControlError>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let now = inner.clock.now();
    if inner.state().heard(presence, asked, now)? {
        inner.outdated.ring();
    }
    Ok(())
}

/// Beats to every member, for as long as it is one.
pub(super) async fn beat<F, S>(inner: &Inner<F, S>) -> Infallible
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let beating = RefCell::new(BTreeSet::new());
    let mut tasks = FuturesUnordered::<LocalBoxFuture<'_, ()>>::new();
    loop {
        for member in others(inner) {
            if beating.borrow_mut().insert((member.id, member.control.to_string())) {
                let beating = &beating;
                tasks.push(Box::pin(async move {
                    while others(inner).contains(&member) {
                        // Whatever ended it, it is tried again.
                        let _ = beat_to(inner, &member).await;
                        inner.clock.timer().sleep(interval(inner)).await;
                    }
                    beating.borrow_mut().remove(&(member.id, member.control.to_string()));
                }));
            }
        }
        let mut alarm = inner.clock.timer().sleep(interval(inner));
        poll_fn(|cx| {
            while let Poll::Ready(Some(())) = std::pin::Pin::new(&mut tasks).poll_next(cx) {}
            Future::poll(std::pin::Pin::new(&mut alarm), cx)
        })
        .await;
    }
}

fn interval<F, S>(inner: &Inner<F, S>) -> Duration
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    inner.lease / 8
}

async fn beat_to<F, S>(inner: &Inner<F, S>, member: &Member<F::Addr>) -> Result<(), ControlError>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let mut with = Conversation::connect(&inner.fabric, &member.control, inner.patience).await?;
    while others(inner).contains(member) {
        let asked = inner.clock.now();
        let mine = inner.state().presence(asked);
        with.send(&Frame::Beat(mine)).await?;
        let Frame::Beat(presence) = with.recv().await? else { return Err(ControlError::Nonsense) };
        if presence.node != member.id {
            return Err(ControlError::Nonsense);
        }
        hear(inner, &presence, Some(asked))?;
        inner.clock.timer().sleep(interval(inner)).await;
    }
    with.close().await;
    Ok(())
}

/// The other members.
fn others<F, S>(inner: &Inner<F, S>) -> Vec<Member<F::Addr>>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let state = inner.state();
    let me = state.settings().node;
    let members = state.view().map_or(&[][..], |view| view.membership().members());
    members.iter().filter(|member| member.id != me).cloned().collect()
}
