//! What is counted, and where it is kept.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trespass_core::ErrorKind;

/// The counters of tracks, each named once.
macro_rules! counters {
    ($($(#[$doc:meta])+ $name:ident,)*) => {
        /// What a track, or all tracks of a fabric together, have done so far.
        ///
        /// Numbers from another thread may be a little behind; each is exact once that thread's work happened before.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct TrackCounts {
            $($(#[$doc])+ pub $name: u64,)*
        }

        impl AddAssign for TrackCounts {
            fn add_assign(&mut self, other: Self) {
                $(self.$name += other.$name;)*
            }
        }

        impl TrackCounts {
            /// Each with its name.
            #[cfg(feature = "metrics")]
            pub(super) fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((concat!("trespass_", stringify!($name), "_total"), self.$name),)*].into_iter()
            }
        }

        /// The same, while they count.
        #[derive(Debug, Default)]
        pub(super) struct Counting {
            $(pub(super) $name: Count,)*
            /// Whether the end of the track was counted.
            pub(super) ended: AtomicBool,
        }

        impl Counting {
            pub(super) fn read(&self) -> TrackCounts {
                TrackCounts { $($name: self.$name.read(),)* }
            }
        }
    };
}

counters! {
    /// Messages queued.
    messages_sent,
    /// Their bytes.
    bytes_sent,
    /// Messages handed to the application.
    messages_received,
    /// Their bytes.
    bytes_received,
    /// How often a reserve found no slot: `WouldBlock`.
    stalls,
    /// How often a wait for a slot, or for a close, had to sleep.
    send_waits,
    /// How often a wait for a message had to sleep.
    recv_waits,
    /// Flushes by the application. Those that are part of a wait are not counted.
    flushes,
    /// Receives posted, as `posted` of the track said at its last receive or wait.
    posted,
}

/// One number with one writer at a time: the half of the track that it belongs to. So a load and a store will do, at a
/// fraction of the cost of an atomic addition.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    #[inline]
    pub(super) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Errors, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Errors([u64; ErrorKind::ALL.len()]);

impl Errors {
    /// How many there were of `kind`.
    pub fn of(&self, kind: ErrorKind) -> u64 {
        self.0[kind as usize]
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Those that there were, by kind.
    pub fn iter(&self) -> impl Iterator<Item = (ErrorKind, u64)> {
        ErrorKind::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0)
    }
}

/// What a fabric has done so far: see [`Metered::snapshot`](super::Metered::snapshot).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// What all its tracks together have done, those that are gone included.
    pub tracks: TrackCounts,
    /// Tracks that are there now.
    pub live_tracks: u64,
    /// Connections begun by this side.
    pub connects: u64,
    /// Tracks that came of them.
    pub connected: u64,
    /// Requests taken from listeners.
    pub requests: u64,
    /// Tracks that came of them.
    pub accepted: u64,
    /// Requests refused, or dropped unanswered.
    pub refused: u64,
    /// Tracks that this side closed cleanly.
    pub closed: u64,
    /// Handshakes, listeners and tracks that failed, each once; a track that its peer ended counts as kind `Closed`.
    /// Buffers that were refused (`Oversize`, `ForeignBuffer`) count each time.
    pub errors: Errors,
}

/// What is counted per connection: by anybody, so these are atomic additions.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) connects: AtomicU64,
    pub(super) connected: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) accepted: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) closed: AtomicU64,
    errors: [AtomicU64; ErrorKind::ALL.len()],
    tracks: Mutex<Tracks>,
}

/// The tracks of a fabric.
#[derive(Debug, Default)]
struct Tracks {
    next: u64,
    live: BTreeMap<u64, Arc<Counting>>,
    /// What those that are gone have counted.
    gone: TrackCounts,
}

impl Tracks {
    /// What all together have counted, and how many are there.
    fn sum(&self) -> (TrackCounts, u64) {
        let mut sum = self.gone;
        self.live.values().for_each(|counting| sum += counting.read());
        (sum, self.live.len() as u64)
    }
}

pub(super) fn one_more(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

impl Totals {
    pub(super) fn error(&self, kind: ErrorKind) {
        one_more(&self.errors[kind as usize]);
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let (tracks, live_tracks) = self.tracks().sum();
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Snapshot {
            tracks,
            live_tracks,
            connects: read(&self.connects),
            connected: read(&self.connected),
            requests: read(&self.requests),
            accepted: read(&self.accepted),
            refused: read(&self.refused),
            closed: read(&self.closed),
            errors: Errors(std::array::from_fn(|kind| read(&self.errors[kind]))),
        }
    }

    fn tracks(&self) -> MutexGuard<'_, Tracks> {
        // What it guards is valid at every step.
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A track's place among those of its fabric, for as long as one of its halves is there.
#[derive(Debug)]
pub(super) struct Membership {
    totals: Arc<Totals>,
    number: u64,
    pub(super) counting: Arc<Counting>,
}

impl Membership {
    pub(super) fn new(totals: Arc<Totals>) -> Self {
        let counting = Arc::<Counting>::default();
        let mut tracks = totals.tracks();
        let number = tracks.next;
        tracks.next += 1;
        tracks.live.insert(number, Arc::clone(&counting));
        drop(tracks);
        Self { totals, number, counting }
    }

    pub(super) fn totals(&self) -> &Totals {
        &self.totals
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // Under one lock, so that no snapshot misses it.
        let mut tracks = self.totals.tracks();
        tracks.live.remove(&self.number);
        tracks.gone += self.counting.read();
    }
}
