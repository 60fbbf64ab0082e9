//! The ways from one port to its peers: address handles, made at the first datagram to an address and kept.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use super::config::Address;
use super::port::Port;
use crate::error::VerbsError;
use crate::hub::Sends;
use crate::raw::ah::{Ah, way_to};

/// Bounded: where it is full, the handle that was used least recently makes room. With more places than send slots, that
/// one has nothing under way.
pub(crate) struct Ways {
    places: HashMap<Ipv6Addr, usize>,
    ways: Vec<Way>,
    most: usize,
    /// Where the ways begin.
    from: Address,
    made: u64,
}

struct Way {
    gid: Ipv6Addr,
    handle: Arc<Ah>,
    /// How many sends were queued when the last one on this way was.
    used: u64,
}

impl Ways {
    pub(crate) fn new(from: Address, most: usize) -> Self {
        Self { places: HashMap::new(), ways: Vec::new(), most, from, made: 0 }
    }

    /// Where the ways begin.
    pub(crate) fn from(&self) -> Address {
        self.from
    }

    /// How many handles were made.
    pub(crate) fn made(&self) -> u64 {
        self.made
    }

    /// The handle for the way to `gid`, for the next of `sends`.
    ///
    /// # Errors
    /// Where the device makes none: there is no way to that address.
    #[inline]
    pub(crate) fn to(&mut self, gid: Ipv6Addr, sends: &Sends<Port>) -> Result<&Ah, VerbsError> {
        let place = match self.places.get(&gid) {
            Some(place) => *place,
            None => self.make(gid, sends)?,
        };
        let way = &mut self.ways[place];
        way.used = sends.queued() + 1;
        Ok(&way.handle)
    }

    #[cold]
    fn make(&mut self, gid: Ipv6Addr, sends: &Sends<Port>) -> Result<usize, VerbsError> {
        let place = self.room(sends);
        let attr = way_to(gid.octets(), self.from.port, self.from.index, sends.gate().shape.traffic_class);
        let handle = Arc::new(Ah::new(&sends.gate().device().pd, attr)?);
        self.made += 1;
        // Dropping the port drops this cache, while sends may be under way: the queue pair keeps the handles too.
        sends.gate().hold(sends.member(), place, Arc::clone(&handle));
        let way = Way { gid, handle, used: 0 };
        match self.ways.get_mut(place) {
            Some(old) => {
                self.places.remove(&old.gid);
                *old = way;
            }
            None => self.ways.push(way),
        }
        self.places.insert(gid, place);
        Ok(place)
    }

    /// A place that is free, or whose handle no send names that is not over.
    fn room(&self, sends: &Sends<Port>) -> usize {
        if self.ways.len() < self.most {
            return self.ways.len();
        }
        let oldest = self.ways.iter().enumerate().min_by_key(|(_, way)| way.used);
        let place = oldest.map_or(0, |(place, _)| place);
        debug_assert!(self.ways[place].used <= sends.done(), "more places than send slots");
        place
    }
}
