//! Ports, and how they are found.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use super::faults::Parcel;
use super::recv::MockPeer;
use super::track::MockDatagramTrack;
use crate::addr::MockAddr;
use crate::counters::LaneCounts;
use crate::error::MockError;
use crate::fabric::FabricShared;
use crate::lane::Lane;
use crate::listen::ListenerShared;
use crate::sync::{Mutex, lock};

/// Where datagrams go in a net.
#[derive(Debug)]
pub(crate) struct Directory {
    /// The number of the net in this process.
    net: u64,
    /// What the next port is numbered. No two ports of a net have the same.
    next: AtomicU64,
    ports: Mutex<HashMap<u64, Weak<Port>>>,
    /// Datagrams have addresses of their own: a listener for reliable tracks may have the same.
    places: Mutex<HashMap<MockAddr, Place>>,
}

/// What is at an address.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Port(u64),
    Listener(Arc<ListenerShared<MockDatagramTrack>>),
}

impl Directory {
    pub(crate) fn new() -> Self {
        static NETS: AtomicU64 = AtomicU64::new(0);
        Self {
            net: NETS.fetch_add(1, Ordering::Relaxed),
            next: AtomicU64::new(1),
            ports: Mutex::default(),
            places: Mutex::default(),
        }
    }

    pub(super) fn peer(&self, number: u64) -> MockPeer {
        MockPeer { net: self.net, number }
    }

    /// The port that `peer` is; `None` for one that is gone.
    ///
    /// # Errors
    /// For one of another net.
    pub(super) fn port(&self, peer: &MockPeer) -> Result<Option<Arc<Port>>, MockError> {
        match peer.net == self.net {
            true => Ok(lock(&self.ports).get(&peer.number).and_then(Weak::upgrade)),
            false => Err(MockError::ForeignPeer),
        }
    }

    pub(super) fn occupy(&self, addr: &MockAddr, place: Place) -> Result<(), MockError> {
        match lock(&self.places).entry(addr.clone()) {
            Entry::Occupied(_) => Err(MockError::AddressInUse { addr: addr.clone() }),
            Entry::Vacant(vacant) => {
                vacant.insert(place);
                Ok(())
            }
        }
    }

    /// Takes what is at `addr` away, if it is what `is` says.
    pub(super) fn vacate(&self, addr: &MockAddr, is: impl FnOnce(&Place) -> bool) {
        let mut places = lock(&self.places);
        let gone = places.get(addr).is_some_and(is).then(|| places.remove(addr));
        drop(places);
        drop(gone);
    }

    pub(super) fn at(&self, addr: &MockAddr) -> Result<Place, MockError> {
        lock(&self.places).get(addr).cloned().ok_or_else(|| MockError::NobodyListens { addr: addr.clone() })
    }
}

/// One queue pair, as it were.
#[derive(Debug)]
pub(crate) struct Port {
    number: u64,
    fabric: Arc<FabricShared>,
    seats: Mutex<Seats>,
    strangers: AtomicU64,
}

/// Who gets what arrives.
#[derive(Debug)]
enum Seats {
    /// One gets all.
    Anyone(Arc<Lane>),
    /// Each what its peer, a port by its number, has sent.
    Peers(HashMap<u64, Arc<Lane>>),
}

/// Whose datagrams a member of a port gets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Seat {
    Anyone,
    Peer(u64),
}

impl Port {
    /// One that nobody has a seat at.
    pub(super) fn new(fabric: &Arc<FabricShared>) -> Arc<Self> {
        let directory = fabric.directory();
        let number = directory.next.fetch_add(1, Ordering::Relaxed);
        let (seats, strangers) = (Mutex::new(Seats::Peers(HashMap::new())), AtomicU64::new(0));
        let port = Arc::new(Self { number, fabric: Arc::clone(fabric), seats, strangers });
        lock(&directory.ports).insert(number, Arc::downgrade(&port));
        port
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// This port, as others know it.
    pub(super) fn peer(&self) -> MockPeer {
        self.fabric.directory().peer(self.number)
    }

    /// Datagrams that were for nobody here.
    pub(super) fn strangers(&self) -> u64 {
        self.strangers.load(Ordering::Relaxed)
    }

    /// How many have seats.
    pub(super) fn taken(&self) -> usize {
        match &*lock(&self.seats) {
            Seats::Anyone(_) => 1,
            Seats::Peers(lanes) => lanes.len(),
        }
    }

    /// Gives `lane` a seat, if there are fewer than `most`.
    pub(super) fn seat(&self, seat: Seat, lane: &Arc<Lane>, most: usize) -> bool {
        let mut seats = lock(&self.seats);
        match (&mut *seats, seat) {
            (Seats::Peers(lanes), Seat::Peer(number)) if lanes.len() < most => {
                lanes.insert(number, Arc::clone(lane));
                true
            }
            (Seats::Peers(lanes), Seat::Anyone) if lanes.is_empty() => {
                *seats = Seats::Anyone(Arc::clone(lane));
                true
            }
            _ => false,
        }
    }

    /// Nobody has `seat` any more.
    pub(super) fn leave(&self, seat: Seat) {
        let mut seats = lock(&self.seats);
        let gone = match (&mut *seats, seat) {
            (Seats::Peers(lanes), Seat::Peer(number)) => lanes.remove(&number),
            (Seats::Anyone(lane), Seat::Anyone) => {
                let lane = Arc::clone(lane);
                *seats = Seats::Peers(HashMap::new());
                Some(lane)
            }
            _ => None,
        };
        drop(seats);
        drop(gone);
    }

    /// Takes a datagram in for whom it is for. The copy counts in `counts`. No lock may be held.
    pub(super) fn deliver(&self, parcel: Parcel<'_>, counts: &LaneCounts) {
        let Parcel { from, bytes, word } = parcel;
        let lane = match &*lock(&self.seats) {
            Seats::Anyone(lane) => Some(Arc::clone(lane)),
            Seats::Peers(lanes) => lanes.get(&from).cloned(),
        };
        match lane {
            Some(lane) => lane.deliver(from, bytes, word, counts),
            None => _ = self.strangers.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        lock(&self.fabric.directory().ports).remove(&self.number);
    }
}
