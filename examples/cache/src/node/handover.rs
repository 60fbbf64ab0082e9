//! How a node gets its keys, and gives others theirs: in bulk, over a stream for each.

use std::convert::Infallible;

use futures_util::future::{join_all, try_join_all};
use trespass::core::{InOrder, Lossless, ThreadFabric, Track};

use super::{Inner, beats};
use crate::control::{ControlError, Conversation};
use crate::membership::{Epoch, Member};
use crate::state::{Clocks, Merge, Sync};
use crate::wire::{Frame, Item, Presence};

/// Items go together, up to so many bytes of keys and values and one item more.
const TOGETHER: usize = 64 << 10;

/// Gets this node its keys, in each epoch in which it does not have them all.
pub(super) async fn get_keys<F, S>(inner: &Inner<F, S>) -> Infallible
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    loop {
        let wanted = inner.state().wanted();
        if let Some(sync) = wanted {
            if get_from_all(inner, &sync).await.is_ok() {
                continue;
            }
        }
        inner.unready.heard_within(inner.clock.timer(), inner.lease / 16).await;
    }
}

/// A node that has answered.
struct Giving<T: Track<Delivery: Lossless + InOrder>> {
    with: Conversation<T>,
    presence: Presence,
    clocks: Clocks,
}

async fn get_from_all<F, S>(inner: &Inner<F, S>, sync: &Sync<F::Addr>) -> Result<(), ControlError>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let epoch = sync.epoch;
    // All of them have to have noted this start of the node before any begins to give: see ARCHITECTURE.md.
    let giving = try_join_all(sync.others.iter().map(|member| ask(inner, member, epoch))).await?;
    let presences: Vec<Presence> = giving.iter().map(|giving| giving.presence.clone()).collect();
    let merge = inner.state().merge(epoch, &presences)?;
    let took = join_all(giving.into_iter().map(|giving| take(inner, giving, &merge, epoch))).await;
    took.into_iter().collect::<Result<(), _>>()?;
    let now = inner.clock.now();
    Ok(inner.state().synced(epoch, now)?)
}

async fn ask<F, S>(
    inner: &Inner<F, S>,
    member: &Member<F::Addr>,
    epoch: Epoch,
) -> Result<Giving<F::Track>, ControlError>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let mut with = Conversation::connect(&inner.fabric, &member.control, inner.patience).await?;
    let asked = inner.clock.now();
    let mine = inner.state().presence(asked);
    with.send(&Frame::Pull(mine, epoch)).await?;
    let presence = match with.recv().await? {
        Frame::Have(presence) if presence.node == member.id => presence,
        Frame::Refused(refusal) => return Err(refusal.into()),
        _ => return Err(ControlError::Nonsense),
    };
    beats::hear(inner, &presence, Some(asked))?;
    let clocks = Clocks { mine: asked, theirs: presence.now };
    Ok(Giving { with, presence, clocks })
}

async fn take<F, S>(
    inner: &Inner<F, S>,
    giving: Giving<F::Track>,
    merge: &Merge<F::Addr>,
    epoch: Epoch,
) -> Result<(), ControlError>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    let Giving { mut with, presence, clocks } = giving;
    with.send(&Frame::Go).await?;
    loop {
        match with.recv().await? {
            Frame::Items(items) => {
                for item in items {
                    inner.state().merged(epoch, merge, presence.node, clocks, item)?;
                }
            }
            Frame::End => break,
            Frame::Refused(refusal) => return Err(refusal.into()),
            _ => return Err(ControlError::Nonsense),
        }
    }
    with.close().await;
    Ok(())
}

/// Gives another all that there is of its keys.
pub(super) async fn give_keys<F, S>(
    inner: &Inner<F, S>,
    mut with: Conversation<F::Track>,
    by: Presence,
    epoch: Epoch,
) -> Result<(), ControlError>
where
    F: ThreadFabric<Track: Track<Delivery: Lossless + InOrder>>,
{
    if by.epoch > inner.epoch() {
        inner.outdated.ring();
    }
    let pulled = inner.state().pulled(&by, epoch, inner.clock.now());
    let mine = match pulled {
        Ok(mine) => mine,
        Err(refusal) => {
            with.send(&Frame::Refused(refusal)).await?;
            with.close().await;
            return Ok(());
        }
    };
    with.send(&Frame::Have(mine)).await?;
    let Frame::Go = with.recv().await? else { return Err(ControlError::Nonsense) };
    let keys = inner.state().keys_of(by.node);
    let mut items: Vec<Item> = Vec::new();
    let mut bytes = 0;
    for key in &keys {
        let Some(item) = inner.state().item(epoch, key)? else { continue };
        bytes += item.key.len() + item.value.as_ref().map_or(0, bytes::Bytes::len);
        items.push(item);
        if bytes >= TOGETHER {
            with.send(&Frame::Items(std::mem::take(&mut items))).await?;
            bytes = 0;
        }
    }
    with.send(&Frame::Items(items)).await?;
    with.send(&Frame::End).await?;
    with.close().await;
    Ok(())
}
