//! Reads and writes, at the primary of a key and at the others that have it.

use std::time::Duration;

use bytes::Bytes;
use trespass::core::Address;

use super::State;
use crate::membership::{Epoch, NodeId};
use crate::planted::{self, Bug};
use crate::store::{Applied, Entry, Room, Version};
use crate::view::View;
use crate::wire::{Found, Read, Refusal, Replicate, Replicated, Stamp, Unready, Write};

/// No time to live is longer: beyond it sums of times would not fit.
const LONGEST_TTL: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A write that its primary has begun: it is to be replicated to others, and then finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// In which epoch.
    pub epoch: Epoch,
    /// Which key.
    pub key: Bytes,
    /// What it will be.
    pub entry: Entry,
    /// Who has to have it besides.
    pub others: Vec<NodeId>,
}

impl<A: Address> State<A> {
    /// The newest value of a key of which this node is the primary. What it gives every node of the key has that has all of its keys.
    ///
    /// # Errors
    /// Why it cannot say.
    pub fn read(&mut self, read: &Read, now: Duration) -> Result<Found, Refusal> {
        self.primary_of(read.epoch, &read.key, now)?;
        let at = if planted::is(Bug::Expiry) { Duration::ZERO } else { now };
        let found = self.store.read(&read.key, at);
        let value = found.and_then(|entry| Some((entry.version, entry.value.clone()?)));
        let hot = match (&mut self.hot, found) {
            (Some(hot), Some(entry)) => hot.was_read(&read.key, entry),
            _ => false,
        };
        Ok(Found { value, hot: hot.then_some(Stamp { now, until: self.lease }) })
    }

    /// Gives a write its version. It changes nothing yet: of one key no two may be under way at once, which the caller sees to.
    ///
    /// # Errors
    /// Why it cannot be.
    pub fn begin(&mut self, write: Write, now: Duration) -> Result<Pending, Refusal> {
        let most = self.settings.longest;
        let len = write.key.len() as u64 + write.value.as_ref().map_or(0, |value| value.len() as u64);
        if len > most {
            return Err(Refusal::TooLarge { len, most });
        }
        let view = self.primary_of(write.epoch, &write.key, now)?;
        let others = view.replicas(&write.key).iter().copied().skip(1).collect();
        self.number += 1;
        let version = Version { epoch: write.epoch, start: self.settings.incarnation, number: self.number };
        let expires = now.saturating_add(write.ttl.min(LONGEST_TTL));
        Ok(Pending {
            epoch: write.epoch,
            key: write.key,
            entry: Entry { version, expires, value: write.value },
            others,
        })
    }

    /// Makes a write to be read here, once all others have it: which start of each said so is in `confirmed`.
    ///
    /// # Errors
    /// The epoch or the lease is over, or one of the others was started again since it said so. The write is in doubt then.
    pub fn finish(&mut self, pending: Pending, confirmed: &[(NodeId, u64)], now: Duration) -> Result<Version, Refusal> {
        let Pending { epoch, key, entry, others } = pending;
        self.primary_of(epoch, &key, now).map_err(|_| Refusal::InDoubt)?;
        let has_it = |other: &NodeId| {
            let said = confirmed.iter().find(|(node, _)| node == other);
            said.is_some_and(|(_, incarnation)| self.incarnation_of(*other) == Some(*incarnation))
        };
        if !others.iter().all(has_it) && !planted::is(Bug::Acknowledge) {
            return Err(Refusal::InDoubt);
        }
        let version = entry.version;
        self.take(key, entry).map_err(|_| Refusal::InDoubt)?;
        Ok(version)
    }

    /// Takes in a write of the primary of its key.
    ///
    /// # Errors
    /// Why not.
    pub fn replicate(&mut self, write: Replicate, now: Duration) -> Result<Replicated, Refusal> {
        self.same_epoch(write.epoch)?;
        let me = self.settings.node;
        let nodes = self.view.as_ref().map_or(&[][..], |view| view.replicas(&write.key));
        if nodes.first() != Some(&write.from) || !nodes.contains(&me) || write.from == me {
            return Err(Refusal::Misplaced);
        }
        let Some(peer) = self.peers.get_mut(&write.from) else { return Err(Refusal::NotReady(Unready::Unacquainted)) };
        if write.incarnation < peer.incarnation {
            return Err(Refusal::Superseded);
        }
        let clock = peer.clock.filter(|_| write.incarnation == peer.incarnation);
        let clock = clock.ok_or(Refusal::NotReady(Unready::Unacquainted))?;
        if write.link < peer.link {
            return Err(Refusal::OldLink { seen: peer.link });
        }
        peer.link = write.link;
        let expires = clock.to_mine(write.expires);
        self.take(write.key, Entry { version: write.version, expires, value: write.value })?;
        self.turn(now);
        Ok(Replicated { incarnation: self.settings.incarnation })
    }

    /// The view, where this node is the primary of `key` in `epoch`, may serve it, and has all there is of it.
    fn primary_of(&self, epoch: Epoch, key: &[u8], now: Duration) -> Result<&View<A>, Refusal> {
        self.same_epoch(epoch)?;
        let view = self.serving(now)?;
        if view.replicas(key).first() != Some(&self.settings.node) {
            return Err(Refusal::Misplaced);
        }
        match self.has_all_of(view, key) {
            true => Ok(view),
            false => Err(Refusal::NotReady(Unready::Syncing)),
        }
    }

    /// Takes an entry in. Where this node has all of its keys nothing older can come any more, and what is deleted may be
    /// forgotten; else that has to be kept, so that nothing older is taken for new.
    fn take(&mut self, key: Bytes, entry: Entry) -> Result<(), Refusal> {
        let ready = self.is_ready();
        if ready && entry.value.is_none() {
            if self.store.entry(&key).is_some_and(|known| known.version > entry.version) {
                return Err(Refusal::Superseded);
            }
            self.store.remove(&key);
            if let Some(hot) = &mut self.hot {
                hot.retract(&key);
            }
            return Ok(());
        }
        match self.store.apply(key.clone(), entry.clone(), if ready { Room::Evict } else { Room::Keep }) {
            Applied::Done { evicted } => {
                if let Some(hot) = &mut self.hot {
                    hot.was_written(&key, &entry);
                    evicted.iter().for_each(|key| hot.retract(key));
                }
                Ok(())
            }
            Applied::Older => Err(Refusal::Superseded),
            Applied::Full => Err(Refusal::Full),
        }
    }
}
