//! How a node gets its keys, and hands over those that it has.
//!
//! In each epoch a node asks every other member for what it has of the node's keys, all of it, and takes the best. What is best is
//! told by the epochs up to which each is complete (`View::complete`): of the writes up to the latest of these, those who are
//! complete up to it have the newest and nothing that was overwritten or deleted; of later writes whoever has one has the truth,
//! since nobody forgets a deletion before it has all of its keys. So an entry is taken from those who are complete, or if it is
//! of a later epoch; and of what is taken the newest version stays.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use trespass::core::Address;

use super::{Clocks, State};
use crate::membership::{Epoch, MOST_LINES, Member, NodeId};
use crate::planted::{self, Bug};
use crate::store::{Applied, Entry, Room, Version};
use crate::view::View;
use crate::wire::{Item, Presence, Refusal};

/// What there is to be got.
#[derive(Debug, Clone)]
pub struct Sync<A> {
    /// In which epoch.
    pub epoch: Epoch,
    /// From whom: all of them.
    pub others: Vec<Member<A>>,
}

/// Which entries of which node are to be taken.
#[derive(Debug, Clone)]
pub struct Merge<A> {
    view: Arc<View<A>>,
    node: NodeId,
    /// Every member, and the epochs in which it had all of its keys.
    members: Vec<(NodeId, Vec<Epoch>)>,
}

impl<A: Address> Merge<A> {
    /// Whether an entry that `from` has is to be taken, or kept where it is the node's own.
    pub fn wants(&self, from: NodeId, key: &[u8], version: Version) -> bool {
        if !self.view.replicas(key).contains(&self.node) {
            return false;
        }
        let complete = |(node, bases): &(NodeId, Vec<Epoch>)| (*node, self.view.complete(*node, bases, key));
        let of = |wanted: NodeId| self.members.iter().map(complete).find(|(node, _)| *node == wanted);
        let best = self.members.iter().map(complete).filter_map(|(_, complete)| complete).max();
        best.is_none_or(|best| version.epoch > best || of(from).is_some_and(|(_, complete)| complete == Some(best)))
    }
}

impl<A: Address> State<A> {
    /// What this node has to get to have all of its keys: `None` where it has, or is no member.
    pub fn wanted(&self) -> Option<Sync<A>> {
        let view = self.view.as_ref().filter(|_| !self.is_ready())?;
        let members = view.membership().members();
        let me = self.settings.node;
        let others = || members.iter().filter(|member| member.id != me).cloned().collect();
        members.iter().any(|member| member.id == me).then(|| Sync { epoch: view.epoch(), others: others() })
    }

    /// Another wants what there is of its keys in `epoch`. It is noted which start of it does, before it is answered: from
    /// then on what an earlier start has confirmed counts no more.
    ///
    /// # Errors
    /// This node is not in that epoch; or the request is from before the other was started again.
    pub fn pulled(&mut self, by: &Presence, epoch: Epoch, now: Duration) -> Result<Presence, Refusal> {
        self.heard(by, None, now)?;
        self.same_epoch(epoch)?;
        Ok(self.presence(now))
    }

    /// The keys of which `node` is to get what there is, in order.
    pub fn keys_of(&self, node: NodeId) -> Vec<Bytes> {
        let Some(view) = &self.view else { return Vec::new() };
        self.store.keys(|key| view.replicas(key).contains(&node))
    }

    /// What there is of one of them, while this node is in `epoch`.
    ///
    /// # Errors
    /// It has moved on.
    pub fn item(&self, epoch: Epoch, key: &Bytes) -> Result<Option<Item>, Refusal> {
        self.same_epoch(epoch)?;
        let item = |Entry { version, expires, value }: Entry| Item { key: key.clone(), version, expires, value };
        Ok(self.store.entry(key).cloned().map(item))
    }

    /// Begins to take in what all others have, who have said what they are. Of what this node had itself it forgets what
    /// others know better.
    ///
    /// # Errors
    /// It has moved on.
    pub fn merge(&mut self, epoch: Epoch, others: &[Presence]) -> Result<Merge<A>, Refusal> {
        self.same_epoch(epoch)?;
        let view = self.view.clone().ok_or(Refusal::Behind)?;
        let me = self.settings.node;
        let theirs = others.iter().map(|presence| (presence.node, presence.bases.clone()));
        let members = theirs.chain([(me, self.bases.clone())]).collect();
        let merge = Merge { view, node: me, members };
        self.store.retain(|key, entry| !merge.view.replicas(key).contains(&me) || merge.wants(me, key, entry.version));
        Ok(merge)
    }

    /// Takes in an item of `from`, whose clock was compared with this node's.
    ///
    /// # Errors
    /// It has moved on.
    pub fn merged(
        &mut self,
        epoch: Epoch,
        merge: &Merge<A>,
        from: NodeId,
        clocks: Clocks,
        item: Item,
    ) -> Result<(), Refusal> {
        self.same_epoch(epoch)?;
        let me = self.settings.node;
        let is_primary = merge.view.replicas(&item.key).first() == Some(&me);
        if is_primary && merge.view.complete(me, &self.bases, &item.key) == Some(epoch) {
            // What it does not have is in doubt. It is served here, and what is read from here on is what all had before.
            return Ok(());
        }
        if !merge.wants(from, &item.key, item.version) && !planted::is(Bug::Version) {
            return Ok(());
        }
        let Item { key, version, expires, value } = item;
        let entry = Entry { version, expires: clocks.to_mine(expires), value };
        if planted::is(Bug::Version) {
            self.store.remove(&key);
        }
        // What does not fit goes without, as what is evicted does.
        if self.store.apply(key, entry, Room::Keep) == Applied::Full {
            self.store.count_eviction();
        }
        Ok(())
    }

    /// All others have given all that they have: this node has all of its keys.
    ///
    /// # Errors
    /// It has moved on.
    pub fn synced(&mut self, epoch: Epoch, now: Duration) -> Result<(), Refusal> {
        self.same_epoch(epoch)?;
        if !self.bases.contains(&epoch) {
            self.bases.push(epoch);
            // Older ones say nothing any more, for nobody knows those epochs.
            let forgotten = self.bases.len().saturating_sub(MOST_LINES);
            self.bases.drain(..forgotten);
        }
        self.sweep(now);
        self.turn(now);
        Ok(())
    }

    /// Once every member has all of its keys nobody needs what this node has of others' keys, or what it was.
    pub(super) fn settle(&mut self, now: Duration) {
        let Some(view) = self.view.clone() else { return };
        let epoch = view.epoch();
        if self.settled == Some(epoch) || !self.is_ready() {
            return;
        }
        let me = self.settings.node;
        let has_all = |member: &Member<A>| {
            member.id == me || self.peers.get(&member.id).is_some_and(|peer| peer.bases.contains(&epoch))
        };
        if view.membership().members().iter().all(has_all) {
            self.settled = Some(epoch);
            self.bases = vec![epoch];
            self.store.retain(|key, _| view.replicas(key).contains(&me));
            self.sweep(now);
        }
    }

    /// Forgets what is not read any more, where that can do no harm: of its own keys, when it has all of them.
    pub fn sweep(&mut self, now: Duration) {
        let Some(view) = self.view.clone().filter(|_| self.is_ready()) else { return };
        let me = self.settings.node;
        let dead = |entry: &Entry| entry.value.is_none() || entry.expires <= now;
        self.store.retain(|key, entry| !dead(entry) || !view.replicas(key).contains(&me));
    }
}
