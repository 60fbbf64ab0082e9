//! What a node knows and may do: the whole of its decisions, without IO. Every call says what time it is.
//!
//! - here: the epochs, the lease, and what peers say of themselves;
//! - `serve`: reads and writes;
//! - `sync`: how a node gets its keys, and hands over those that it has.
//!
//! Why it is safe is in `ARCHITECTURE.md`.

mod serve;
mod sync;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use trespass::core::Address;

use crate::hot::Hot;
use crate::membership::{Epoch, MOST_LINES, Membership, NodeId};
use crate::planted::{self, Bug};
use crate::store::{Store, Version};
use crate::view::View;
use crate::wire::{Presence, Refusal, Report, Unready};

pub use serve::Pending;
pub use sync::{Merge, Sync};

/// What a node is set up with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name.
    pub node: NodeId,
    /// Which start of it: has to grow from one to the next.
    pub incarnation: u64,
    /// For how long a node may serve after it has looked at the membership. All nodes have to be told the same.
    pub lease: Duration,
    /// How many bytes its entries may take.
    pub capacity: u64,
    /// How long key and value may be together.
    pub longest: u64,
}

/// A node.
pub struct State<A> {
    settings: Settings,
    view: Option<Arc<View<A>>>,
    /// When the view was first seen.
    learned: Duration,
    /// Until when it may be served.
    lease: Duration,
    /// The last epoch of which it was sure that nobody serves an earlier one.
    active: Option<Epoch>,
    /// The epochs in which this node had all of its keys, the newest last: as far back as others may need what it has since.
    bases: Vec<Epoch>,
    /// The last epoch in which every member had all of its keys.
    settled: Option<Epoch>,
    peers: BTreeMap<NodeId, Peer>,
    store: Store,
    hot: Option<Hot>,
    /// How many writes it has begun.
    number: u64,
}

/// What is known of another node.
#[derive(Debug, Clone, Default)]
struct Peer {
    incarnation: u64,
    epoch: Option<Epoch>,
    bases: Vec<Epoch>,
    clock: Option<Clocks>,
    /// The newest link that was seen of it as a primary.
    link: u64,
}

/// One moment by two clocks: when a question was sent, by the own, and what the answer said of the other. The other's moment
/// was the later one, so a time of the other's comes out early here, by a round trip at most: never late.
#[derive(Debug, Clone, Copy)]
pub struct Clocks {
    /// When the question was sent.
    pub mine: Duration,
    /// What the other's clock said in its answer.
    pub theirs: Duration,
}

impl Clocks {
    /// A moment of the other's clock by the own, or a little earlier.
    pub fn to_mine(self, theirs: Duration) -> Duration {
        match theirs.checked_sub(self.theirs) {
            Some(later) => self.mine.saturating_add(later),
            None => self.mine.saturating_sub(self.theirs.saturating_sub(theirs)),
        }
    }

    /// A moment of the own clock by the other's, or a little later.
    pub fn to_theirs(self, mine: Duration) -> Duration {
        match mine.checked_sub(self.mine) {
            Some(later) => self.theirs.saturating_add(later),
            None => self.theirs.saturating_sub(self.mine.saturating_sub(mine)),
        }
    }
}

/// What a look at the membership told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// It is as it was: the lease goes on.
    Same,
    /// There is a new epoch.
    Advanced,
    /// It is older than what is known: where it comes from has gone back, which must not be. Nothing is done.
    Older,
}

impl<A: Address> State<A> {
    /// A node that knows nothing yet, and so serves nothing.
    pub fn new(settings: Settings, hot: Option<Hot>) -> Self {
        let store = Store::new(settings.capacity);
        Self {
            settings,
            view: None,
            learned: Duration::ZERO,
            lease: Duration::ZERO,
            active: None,
            bases: Vec::new(),
            settled: None,
            peers: BTreeMap::new(),
            store,
            hot,
            number: 0,
        }
    }

    /// What it was set up with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The newest membership that it knows.
    pub fn view(&self) -> Option<&Arc<View<A>>> {
        self.view.as_ref()
    }

    /// The epoch of it.
    pub fn epoch(&self) -> Option<Epoch> {
        self.view.as_ref().map(|view| view.epoch())
    }

    /// Takes in what a look at the membership told that began at `asked`.
    ///
    /// A new epoch ends all service of the one before, at once and before anybody hears of it; what was lent is taken back.
    pub fn confirm(&mut self, membership: Membership<A>, asked: Duration, now: Duration) -> Confirmed {
        let lease = asked.saturating_add(self.settings.lease);
        match self.epoch().map(|known| known.cmp(&membership.epoch())) {
            Some(std::cmp::Ordering::Greater) => return Confirmed::Older,
            Some(std::cmp::Ordering::Equal) => {
                self.lease = self.lease.max(lease);
                return Confirmed::Same;
            }
            _ => {}
        }
        if let Some(hot) = self.hot.as_mut().filter(|_| !planted::is(Bug::Lent)) {
            hot.clear();
        }
        self.view = Some(Arc::new(View::new(membership, self.view.as_deref())));
        self.learned = now;
        self.lease = lease;
        self.turn(now);
        Confirmed::Advanced
    }

    /// What this node says of itself.
    pub fn presence(&self, now: Duration) -> Presence {
        let Settings { node, incarnation, .. } = self.settings;
        Presence { node, incarnation, epoch: self.epoch(), bases: self.bases.clone(), now }
    }

    /// Takes in what another says of itself. `asked` is when it was asked, where it was. Says whether it knows of a newer epoch.
    ///
    /// # Errors
    /// It is from before the other was started again.
    pub fn heard(&mut self, presence: &Presence, asked: Option<Duration>, now: Duration) -> Result<bool, Refusal> {
        if presence.node == self.settings.node {
            // Somebody else goes by this name.
            return Err(Refusal::Superseded);
        }
        let newer = presence.epoch > self.epoch();
        if !self.was_member(presence.node) {
            // Not as far as is known here. Of strangers nothing is kept.
            return Ok(newer);
        }
        let peer = self.peers.entry(presence.node).or_default();
        if presence.incarnation < peer.incarnation {
            return Err(Refusal::Superseded);
        }
        if presence.incarnation > peer.incarnation {
            *peer = Peer { incarnation: presence.incarnation, ..Peer::default() };
        }
        if presence.epoch >= peer.epoch {
            peer.epoch = presence.epoch;
            peer.bases = presence.bases.iter().copied().take(MOST_LINES).collect();
        }
        if let Some(mine) = asked {
            peer.clock = Some(Clocks { mine, theirs: presence.now });
        }
        self.turn(now);
        Ok(newer)
    }

    /// Whether there is an epoch of those that are kept of which `node` is a member.
    fn was_member(&self, node: NodeId) -> bool {
        let lines = self.view.as_ref().map_or(&[][..], |view| view.membership().lines());
        lines.iter().flat_map(|line| &line.members).any(|member| member.id == node)
    }

    /// Which start of another node is known.
    pub fn incarnation_of(&self, node: NodeId) -> Option<u64> {
        self.peers.get(&node).map(|peer| peer.incarnation)
    }

    /// Does what has become possible: to be called now and then, and after whatever may have made it so.
    pub fn turn(&mut self, now: Duration) {
        if self.active != self.epoch() && self.may_activate(now) {
            self.active = self.epoch();
        }
        self.settle(now);
    }

    /// Whether nobody can serve an earlier epoch any more: all leases are over that began before this one was published, or all
    /// who might have said that they know of this one.
    fn may_activate(&self, now: Duration) -> bool {
        let Some(view) = &self.view else { return false };
        let lease = self.settings.lease;
        // Clocks do not run alike: a lease is taken to be longer here than it is there.
        if now >= self.learned.saturating_add(lease).saturating_add(lease / 32) || planted::is(Bug::Lease) {
            return true;
        }
        let membership = view.membership();
        let lines = membership.lines();
        let before = match self.active {
            Some(active) if lines.iter().any(|line| line.epoch == active) => active,
            None if membership.is_whole() => Epoch(0),
            _ => return false,
        };
        let epoch = view.epoch();
        let earlier = lines.iter().filter(|line| (before..epoch).contains(&line.epoch));
        let mut members = earlier.flat_map(|line| &line.members).map(|member| member.id);
        members.all(|id| id == self.settings.node || self.peers.get(&id).is_some_and(|peer| peer.epoch >= Some(epoch)))
    }

    /// The view, where this node may serve it now.
    fn serving(&self, now: Duration) -> Result<&Arc<View<A>>, Refusal> {
        let view = self.view.as_ref().ok_or(Refusal::NotReady(Unready::NotMember))?;
        if view.membership().member(self.settings.node).is_none() {
            return Err(Refusal::NotReady(Unready::NotMember));
        }
        if now >= self.lease && !planted::is(Bug::Lease) {
            return Err(Refusal::NotReady(Unready::Lease));
        }
        if self.active != Some(view.epoch()) {
            return Err(Refusal::NotReady(Unready::Waiting));
        }
        Ok(view)
    }

    /// Whether a request of `epoch` is of this node's own.
    fn same_epoch(&self, epoch: Epoch) -> Result<(), Refusal> {
        match self.epoch() {
            Some(known) if known == epoch => Ok(()),
            Some(known) if known > epoch => Err(Refusal::StaleEpoch { known }),
            _ => Err(Refusal::Behind),
        }
    }

    /// Whether this node has all of its keys.
    pub fn is_ready(&self) -> bool {
        self.epoch().is_some_and(|epoch| self.bases.contains(&epoch))
    }

    /// Whether it has everything that was acknowledged of one of its keys.
    fn has_all_of(&self, view: &View<A>, key: &[u8]) -> bool {
        let complete = || view.complete(self.settings.node, &self.bases, key) == Some(view.epoch());
        self.is_ready() || planted::is(Bug::Handover) || complete()
    }

    /// How it does.
    pub fn report(&self) -> Report {
        Report {
            node: self.settings.node,
            epoch: self.epoch(),
            ready: self.is_ready(),
            settled: self.epoch().is_some() && self.settled == self.epoch(),
            entries: self.store.len() as u64,
            weight: self.store.weight(),
            evictions: self.store.evictions(),
        }
    }

    /// Whether it knows of a write of `key`, or of one that came after it: it has one or the other, or has all there is of the key.
    pub fn knows(&self, key: &[u8], version: Version) -> bool {
        match (self.store.entry(key), &self.view) {
            (Some(entry), _) => entry.version >= version,
            (None, Some(view)) => view.replicas(key).contains(&self.settings.node) && self.has_all_of(view, key),
            (None, None) => false,
        }
    }

    /// Its entries, to be looked at.
    pub fn store(&self) -> &Store {
        &self.store
    }
}

#[cfg(test)]
mod tests;
