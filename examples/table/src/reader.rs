//! A peer's side: keys are looked up by READs.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::task::{Context, Poll, ready};

use trespass_core::{Completed, MemoryFabric, RemoteMemory, TryError, Unsent};

use crate::bucket::{Seen, locate};
use crate::layout::Directory;

/// What a look-up came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lookup {
    /// The key has a value: see [`Reader::value`].
    Found {
        /// Of the write that made it so: a later write of the same key has a greater one.
        version: u64,
    },
    /// There is no such key.
    Absent,
    /// It may exist, and is not in the table: ask its owner, by message.
    Elsewhere,
    /// It was being written each time that it was read: ask its owner, by message.
    Torn,
}

/// How a reader goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReaderConfig {
    /// READs under way at once, where the track has as many [`fetch_slots`](RemoteMemory::fetch_slots). One at least.
    pub in_flight: usize,
    /// READs for one look-up, where they are torn. One at least.
    pub attempts: u32,
}

impl Default for ReaderConfig {
    /// 16 READs under way, and 16 for one look-up.
    fn default() -> Self {
        Self { in_flight: 16, attempts: 16 }
    }
}

impl ReaderConfig {
    /// The same, with so many READs under way at once.
    pub const fn with_in_flight(self, in_flight: usize) -> Self {
        Self { in_flight, ..self }
    }

    /// The same, with so many READs for one look-up.
    pub const fn with_attempts(self, attempts: u32) -> Self {
        Self { attempts, ..self }
    }
}

/// What a reader has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReaderStats {
    /// READs that were done.
    pub reads: u64,
    /// Of those, how many were torn.
    pub torn: u64,
    /// Look-ups that ended as [`Lookup::Torn`].
    pub given_up: u64,
}

/// Looks keys up in a peer's table, by READs on a track of its own.
///
/// It has the track to itself, since a READ that is refused ends its track: what goes by message has another.
///
/// # Two ways to use it
/// - A task: [`find`](Self::find), [`find_many`](Self::find_many).
/// - A thread that polls: [`try_begin`](Self::try_begin), [`flush`](Self::flush), [`try_finish`](Self::try_finish).
///
/// One at a time: a `find` abandons what `try_begin` began, as does a `find` whose predecessor was dropped half-way. An
/// abandoned READ keeps its memory until the device is done with it; nothing is lost, and nothing comes to another's key.
///
/// # Errors
/// What ended the track, then and ever after: kind `RemoteAccess` where the table was withdrawn, `Closed` or `Disconnected`
/// where its owner is gone, in the time that the fabric states. The way back is a new track, and the directory told anew.
///
/// # Costs
/// Memory for a bucket for each READ under way and one more. A look-up is a READ and the checksum of an entry; it copies
/// nothing but the key, and allocates nothing once each place had a key as long.
pub struct Reader<M: RemoteMemory> {
    track: M,
    directory: Directory,
    attempts: u32,
    idle: Vec<Seat<M::Region>>,
    /// What the device has, oldest first. It has their memory too, in this order.
    under_way: VecDeque<Wanted>,
    /// To be read again, for want of a permit.
    again: VecDeque<(Wanted, M::Region)>,
    done: VecDeque<Done<M::Region>>,
    /// What [`value`](Self::value) is of.
    last: Option<Done<M::Region>>,
    stats: ReaderStats,
}

/// Memory for a bucket, and for the key that is looked for in it.
struct Seat<R> {
    region: R,
    key: Vec<u8>,
}

/// A look-up.
struct Wanted {
    tag: u64,
    key: Vec<u8>,
    attempt: u32,
    /// Nobody waits for it any more.
    abandoned: bool,
}

struct Done<R> {
    tag: u64,
    lookup: Lookup,
    seat: Seat<R>,
    value: Range<usize>,
}

impl<M: RemoteMemory> Reader<M> {
    /// A reader of the table that its owner told of, over `track`, which leads there. `fabric` is the track's own.
    ///
    /// # Errors
    /// As [`MemoryFabric::alloc`].
    pub fn new<F>(fabric: &F, track: M, directory: Directory, config: ReaderConfig) -> Result<Self, F::Error>
    where
        F: MemoryFabric<Region = M::Region>,
    {
        let at_once = config.in_flight.min(track.fetch_slots()).max(1);
        // One more, for the value in hand.
        let seats = (0..=at_once).map(|_| {
            let region = fabric.alloc(directory.layout().bucket_bytes())?;
            Ok(Seat { region, key: Vec::new() })
        });
        Ok(Self {
            track,
            directory,
            attempts: config.attempts.max(1),
            idle: seats.collect::<Result<_, _>>()?,
            under_way: VecDeque::with_capacity(at_once),
            again: VecDeque::new(),
            done: VecDeque::new(),
            last: None,
            stats: ReaderStats::default(),
        })
    }

    /// Looks `key` up. Its value is [`value`](Self::value) until the next call.
    ///
    /// Dropping the future abandons the look-up.
    ///
    /// # Errors
    /// What ended the track.
    pub async fn find(&mut self, key: &[u8]) -> Result<Lookup, M::Error> {
        self.abandon();
        poll_fn(|cx| self.poll_begin(cx, key)).await?;
        loop {
            match self.take_done() {
                Some((_, lookup)) => return Ok(lookup),
                None => poll_fn(|cx| self.poll_progress(cx)).await?,
            }
        }
    }

    /// Looks all `keys` up, with as many READs under way as there may be and a doorbell for as many as go at once. `each` is
    /// told which key, what came of it, and the value, empty where there is none; in no order.
    ///
    /// Dropping the future abandons what is under way.
    ///
    /// # Errors
    /// What ended the track: keys of which `each` has not heard were not looked up.
    pub async fn find_many<K: AsRef<[u8]>>(
        &mut self,
        keys: &[K],
        mut each: impl FnMut(usize, Lookup, &[u8]),
    ) -> Result<(), M::Error> {
        self.abandon();
        let (mut begun, mut told) = (0, 0);
        while told < keys.len() {
            while let Some(key) = keys.get(begun) {
                match self.try_begin(key.as_ref(), begun as u64) {
                    Ok(()) => begun += 1,
                    Err(TryError::WouldBlock) => break,
                    Err(TryError::Failed(error)) => return Err(error),
                }
            }
            self.flush()?;
            poll_fn(|cx| self.poll_progress(cx)).await?;
            // All that is over, so that as many share the next doorbell.
            while let Some((tag, lookup)) = self.next_done()? {
                told += 1;
                // The tag is what it was given above.
                each(usize::try_from(tag).unwrap_or(usize::MAX), lookup, self.value());
            }
        }
        Ok(())
    }
}

impl<M: RemoteMemory> Reader<M> {
    /// Queues the READ of a look-up. `tag` comes back with what came of it. Nothing goes out before a [`flush`](Self::flush).
    ///
    /// # Errors
    /// `WouldBlock` while as many are under way as there may be, or done and not taken: [`try_finish`](Self::try_finish). What
    /// ended the track.
    pub fn try_begin(&mut self, key: &[u8], tag: u64) -> Result<(), TryError<M::Error>> {
        let Seat { region, key: mut kept } = self.idle.pop().ok_or(TryError::WouldBlock)?;
        kept.clear();
        kept.extend_from_slice(key);
        match self.queue(Wanted { tag, key: kept, attempt: 1, abandoned: false }, region) {
            Ok(()) => Ok(()),
            Err((error, wanted, region)) => {
                self.idle.push(Seat { region, key: wanted.key });
                Err(error)
            }
        }
    }

    /// Rings the doorbell once for all that was queued.
    ///
    /// # Errors
    /// What ended the track.
    pub fn flush(&mut self) -> Result<(), M::Error> {
        self.track.flush()
    }

    /// The next look-up that is over, with its tag: in no order. Its value is [`value`](Self::value) until the next call. What was torn
    /// is read again in here, and flushed.
    ///
    /// # Errors
    /// `WouldBlock` while there is none; what ended the track.
    pub fn try_finish(&mut self) -> Result<(u64, Lookup), TryError<M::Error>> {
        loop {
            self.read_again().map_err(TryError::Failed)?;
            if let Some(done) = self.take_done() {
                return Ok(done);
            }
            self.absorb()?;
            if !self.again.is_empty() {
                self.read_again().map_err(TryError::Failed)?;
                return Err(TryError::WouldBlock);
            }
        }
    }

    /// The value of the last look-up, where it was [`Lookup::Found`]; else nothing.
    pub fn value(&self) -> &[u8] {
        self.last.as_ref().and_then(|last| last.seat.region.get(last.value.clone())).unwrap_or_default()
    }

    /// What was done so far.
    pub fn stats(&self) -> ReaderStats {
        self.stats
    }

    /// What the owner told of its table.
    pub fn directory(&self) -> Directory {
        self.directory
    }

    /// The track, for its addresses and limits.
    pub fn track(&self) -> &M {
        &self.track
    }

    /// The track again, to be closed. What is under way is given up.
    pub fn into_track(self) -> M {
        self.track
    }

    /// From here on nobody waits for what is under way.
    fn abandon(&mut self) {
        self.under_way.iter_mut().for_each(|wanted| wanted.abandoned = true);
        let done = self.done.drain(..).chain(self.last.take()).map(|done| done.seat);
        let again = self.again.drain(..).map(|(Wanted { key, .. }, region)| Seat { region, key });
        self.idle.extend(done.chain(again));
    }

    fn poll_begin(&mut self, cx: &mut Context<'_>, key: &[u8]) -> Poll<Result<(), M::Error>> {
        loop {
            match self.try_begin(key, 0) {
                Ok(()) => return Poll::Ready(Ok(())),
                Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                Err(TryError::WouldBlock) if self.under_way.is_empty() => {
                    ready!(self.track.poll_fetch_permit_ready(cx));
                }
                // Memory and permits are in what was abandoned.
                Err(TryError::WouldBlock) => ready!(self.poll_progress(cx))?,
            }
        }
    }

    /// Ready when something is done, or at least a READ is over.
    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        self.read_again()?;
        loop {
            if !self.done.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match self.absorb() {
                Ok(()) if self.again.is_empty() => return Poll::Ready(Ok(())),
                Ok(()) => {
                    // Whoever writes may be a task of the same thread: it has its turn first.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                Err(TryError::WouldBlock) if self.under_way.is_empty() => {
                    ready!(self.track.poll_fetch_permit_ready(cx));
                    self.read_again()?;
                }
                Err(TryError::WouldBlock) => ready!(self.track.poll_complete_ready(cx)),
            }
        }
    }

    /// What is done, or is found to be so now.
    fn next_done(&mut self) -> Result<Option<(u64, Lookup)>, M::Error> {
        while self.done.is_empty() {
            match self.absorb() {
                Ok(()) => {}
                Err(TryError::WouldBlock) => return Ok(None),
                Err(TryError::Failed(error)) => return Err(error),
            }
        }
        Ok(self.take_done())
    }

    fn take_done(&mut self) -> Option<(u64, Lookup)> {
        let done = self.done.pop_front()?;
        let told = (done.tag, done.lookup);
        let before = self.last.replace(done);
        self.idle.extend(before.map(|before| before.seat));
        Some(told)
    }

    /// Takes one READ that is over.
    fn absorb(&mut self) -> Result<(), TryError<M::Error>> {
        let Completed::Memory { region, result, .. } = self.track.try_complete()? else { return Ok(()) };
        // They are over in the order in which they were queued, and nobody else queues any.
        let Some(wanted) = self.under_way.pop_front() else { return Ok(()) };
        if wanted.abandoned || result.is_err() {
            self.idle.push(Seat { region, key: wanted.key });
            return result.map_err(TryError::Failed);
        }
        self.stats.reads += 1;
        self.conclude(wanted, region);
        Ok(())
    }

    /// What a READ has brought.
    fn conclude(&mut self, wanted: Wanted, region: M::Region) {
        let (lookup, value) = match locate(&region, self.directory.layout(), self.directory.secret(), &wanted.key) {
            Seen::Found { version, value } => (Lookup::Found { version }, value),
            Seen::Absent => (Lookup::Absent, 0..0),
            Seen::Elsewhere => (Lookup::Elsewhere, 0..0),
            Seen::Torn => {
                self.stats.torn += 1;
                if wanted.attempt < self.attempts {
                    self.again.push_back((Wanted { attempt: wanted.attempt + 1, ..wanted }, region));
                    return;
                }
                self.stats.given_up += 1;
                (Lookup::Torn, 0..0)
            }
        };
        let Wanted { tag, key, .. } = wanted;
        self.done.push_back(Done { tag, lookup, seat: Seat { region, key }, value });
    }

    /// Reads again what was torn, as far as there are permits.
    fn read_again(&mut self) -> Result<(), M::Error> {
        if self.again.is_empty() {
            return Ok(());
        }
        while let Some((wanted, region)) = self.again.pop_front() {
            match self.queue(wanted, region) {
                Ok(()) => {}
                Err((TryError::WouldBlock, wanted, region)) => {
                    self.again.push_front((wanted, region));
                    break;
                }
                Err((TryError::Failed(error), wanted, region)) => {
                    self.idle.push(Seat { region, key: wanted.key });
                    return Err(error);
                }
            }
        }
        self.flush()
    }

    /// Queues a READ. What is refused comes back.
    #[allow(clippy::type_complexity, reason = "an alias would hide what comes back")]
    fn queue(&mut self, wanted: Wanted, region: M::Region) -> Result<(), (TryError<M::Error>, Wanted, M::Region)> {
        let directory = &self.directory;
        let from = directory.slice(directory.secret().bucket(&wanted.key, directory.layout().buckets()));
        let permit = match self.track.try_fetch_permit() {
            Ok(permit) => permit,
            Err(error) => return Err((error, wanted, region)),
        };
        match self.track.read(permit, region, 0, from, wanted.tag) {
            Ok(()) => {
                self.under_way.push_back(wanted);
                Ok(())
            }
            Err(Unsent { buf: (_, region), error }) => Err((TryError::Failed(error), wanted, region)),
        }
    }
}
