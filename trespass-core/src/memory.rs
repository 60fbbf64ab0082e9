//! One-sided memory: what is lent to a peer, and how a peer's is read and written.
//!
//! The memory of an application goes through three hands, and is in one of them at a time:
//! - A [`Region`] is owned: plain bytes, nobody else touches them. An operation takes it and gives it back when it is done.
//! - A [`SharedRegion`] is lent: peers read and write in it through [`Window`]s, so no reference to its bytes exists. Its
//!   owner copies in and out.
//! - A [`RemoteWindow`] is what the peer gets: a name and its bounds, as bytes in a message. It holds nothing.
// What is refused is handed back, so results are long; an alias would hide which things come back.
#![allow(clippy::type_complexity)]

use std::ops::{DerefMut, Range};
use std::task::{Context, Poll};

use crate::error::{TransportError, TryError, Unsent};
use crate::fabric::{Fabric, ThreadFabric};
use crate::track::{SendSide, Track};
use crate::window::{OutOfBounds, RemoteSlice, RemoteWindow, RemoteWord};

/// What a peer may do in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Access {
    /// Read.
    #[default]
    ReadOnly,
    /// Read, write, and change words atomically.
    ReadWrite,
}

/// Registered memory of any length, owned: no peer and no device touches it. See [`MemoryFabric::alloc`].
///
/// # For implementers
/// - The memory stays registered and where it is while this or anything made of it lives, also after fabric and tracks are
///   gone.
/// - `share` is cheap: no copy, no registration. Lending comes with [`SharedRegion::export`].
///
/// # For users
/// Fill it and hand it to an operation of [`RemoteMemory`], which gives it back with its completion; or share it, and lend
/// parts of it to peers. See [`RemoteMemory`] for a toy that implements it.
///
/// # Implemented by
/// `VerbsRegion` on NICs, `MockRegion` in process.
pub trait Region: DerefMut<Target = [u8]> + 'static {
    /// The same memory, to be lent.
    type Shared: SharedRegion<Region = Self>;

    /// Gives up plain access to the bytes, so that peers may have some.
    fn share(self) -> Self::Shared;
}

/// Registered memory that peers may read and write: a handle, cheap to clone.
///
/// # For implementers
/// - No reference to the bytes is ever formed: a peer may change them at any moment. Copies are made by atomic loads and
///   stores of words and bytes, so that any number of threads may make them at once.
/// - [`export`](SharedRegion::export) makes a registration for each window, so that one can be revoked and the others live.
///
/// # For users
/// What is copied out while a peer writes may be half old and half new: a protocol of one's own (versions, checksums) has to
/// tell. Only [`load`](SharedRegion::load) and [`store`](SharedRegion::store) of a word are never torn. See
/// [`RemoteMemory`] for a toy that implements it.
///
/// # Implemented by
/// `VerbsSharedRegion` on NICs, `MockSharedRegion` in process.
pub trait SharedRegion: Clone + 'static {
    /// What can go wrong.
    type Error: TransportError;
    /// The same memory, owned again.
    type Region: Region<Shared = Self>;
    /// A part of it that a peer may use.
    type Window: Window<Error = Self::Error>;

    /// Its length in bytes.
    fn len(&self) -> usize;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies out.
    ///
    /// # Errors
    /// Nothing is copied where the range does not lie inside.
    fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds>;

    /// Copies in.
    ///
    /// # Errors
    /// Nothing is copied where the range does not lie inside.
    fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds>;

    /// The aligned word at `offset`, in one piece. What a peer's atomic operation is atomic with depends on the device: with
    /// other peers' through the same device always, with this only where the device says so (`IBV_ATOMIC_GLOB`,
    /// ibv_query_device(3)).
    ///
    /// # Errors
    /// Where it does not lie inside, or not at an address that is a multiple of 8. What was allocated begins at one.
    fn load(&self, offset: usize) -> Result<u64, OutOfBounds>;

    /// Changes the aligned word at `offset`, in one piece.
    ///
    /// # Errors
    /// Where it does not lie inside, or not at an address that is a multiple of 8. What was allocated begins at one.
    fn store(&self, offset: usize, word: u64) -> Result<(), OutOfBounds>;

    /// Lends the bytes in `range` to whoever is told of the window, through any track of the fabric. One registration with
    /// the device: a system call, and some 16 µs on hardware. Memory to be changed by words begins at a multiple of 8.
    ///
    /// # Errors
    /// Kind `Config` where the range is empty or does not lie inside, `ResourceLimit`, `Device`.
    fn export(&self, range: Range<usize>, access: Access) -> Result<Self::Window, Self::Error>;

    /// Plain access again, once no window and no other handle is left.
    ///
    /// # Errors
    /// The handle, where there are others.
    fn reclaim(self) -> Result<Self::Region, Self>;
}

/// A part of a [`SharedRegion`] that peers may use. Dropping it revokes it.
///
/// # For implementers
/// - When `revoke` or drop returns, no peer reads or writes there any more: what comes later fails at the peer with kind
///   `RemoteAccess`, and ends the peer's track (a reliable queue pair does not survive a refused access; InfiniBand
///   specification vol. 1, 9.9.2). This end of that track ends too. No other track is disturbed.
/// - The keys of windows are not to be guessed from one another where the device lets one choose.
///
/// # Implemented by
/// `VerbsWindow` on NICs, `MockWindow` in process. See [`RemoteMemory`] for a toy that implements it.
pub trait Window: 'static {
    /// What can go wrong.
    type Error: TransportError;

    /// What a peer has to know of it.
    fn remote(&self) -> RemoteWindow;

    /// Takes it back. A system call.
    ///
    /// # Errors
    /// Kind `Device`. Then the memory stays lent, and is never given back: better leaked than written to by a stranger.
    fn revoke(self) -> Result<(), Self::Error>;
}

/// What became of an operation: its memory, or its word, comes back with it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Completed<R, E> {
    /// Of a read, a write or a gathered send.
    Memory {
        /// As it was given.
        tag: u64,
        /// The memory that was given. After a failed read its bytes may be anything.
        region: R,
        /// Kind `RemoteAccess` where the peer's window does not allow it, or what ended the track.
        result: Result<(), E>,
    },
    /// Of an atomic operation.
    Word {
        /// As it was given.
        tag: u64,
        /// What the word was before, or why it was not changed (or, where the track ended, why nobody knows).
        result: Result<u64, E>,
    },
}

impl<R, E> Completed<R, E> {
    /// The tag of the operation.
    pub fn tag(&self) -> u64 {
        match self {
            Self::Memory { tag, .. } | Self::Word { tag, .. } => *tag,
        }
    }
}

/// One-sided access to a peer's memory: the peer's processor takes no part. For a whole track or its sending half.
///
/// # For implementers
/// - A *permit* is a send slot without memory, and for reads and atomics also a place among those that the device can have
///   under way (`max_rd_atomic`): beyond it they would stall the sends behind them. Back-pressure is at the permit; queueing
///   with one never blocks. Dropping a permit, on any thread, gives it back and wakes who waits. That of an operation comes
///   back when its completion is taken: completions that nobody takes are bounded by it.
/// - Operations queue behind sends, in one list: [`flush`](SendSide::flush) rings one doorbell for all. Waiting and closing
///   flush first. A close waits for them too.
/// - The memory of an operation is the implementation's until it is completed: no future, timeout or drop gives it back
///   earlier. Where the track ends first and the device never says so, it is kept until the device has let go of it.
/// - Bounds are checked before anything is queued. A refused operation comes back whole, and the track lives on.
/// - A peer that refuses an access ends the track: the operation's error is kind `RemoteAccess`, and so is the track's.
///
/// # For users
/// Permit, queue, flush, complete; the `async` forms are in [`RemoteMemoryExt`](crate::RemoteMemoryExt). `tag` is yours: it comes back with the
/// completion. A write is there before a message that is sent after it arrives; a read may be answered before or after what
/// is queued behind it is done. Operations complete in the order in which they were queued. Take completions
/// before you wait for a permit or a slot: all may be in completions.
///
/// An operation of no bytes is legal: it touches nothing, and completes in its turn.
///
/// # Implemented by
/// `ReliableTrack` and its half `VerbsSender` on NICs, `MockTrack` and `MockSender` in process.
///
/// # A toy
/// One's own memory, lent to oneself. (Its permits are endless and nothing is ever under way: it keeps no contract but shows
/// every part.)
/// ```
/// use std::collections::{HashMap, VecDeque};
/// use std::ops::{Deref, DerefMut, Range};
/// use std::sync::{Arc, Mutex};
/// use std::task::{Context, Poll};
/// use trespass_core::*;
///
/// # #[derive(Debug, Clone, thiserror::Error)]
/// # #[error("the toy says: {0}")]
/// # struct ToyError(ErrorKind);
/// # impl TransportError for ToyError {
/// #     fn kind(&self) -> ErrorKind { self.0 }
/// # }
/// /// Memory that is lent, by key.
/// type Windows = Arc<Mutex<HashMap<u32, (Arc<Mutex<Vec<u8>>>, Range<usize>)>>>;
///
/// struct Owned(Vec<u8>, Windows);
/// impl Deref for Owned {
///     type Target = [u8];
///     fn deref(&self) -> &[u8] {
///         &self.0
///     }
/// }
/// impl DerefMut for Owned {
///     fn deref_mut(&mut self) -> &mut [u8] {
///         &mut self.0
///     }
/// }
/// impl Region for Owned {
///     type Shared = Shared;
///     fn share(self) -> Shared {
///         Shared(Arc::new(Mutex::new(self.0)), self.1)
///     }
/// }
///
/// #[derive(Clone)]
/// struct Shared(Arc<Mutex<Vec<u8>>>, Windows);
/// impl SharedRegion for Shared {
///     type Error = ToyError;
///     type Region = Owned;
///     type Window = Lent;
///     fn len(&self) -> usize {
///         self.0.lock().unwrap().len()
///     }
///     fn read_at(&self, offset: usize, into: &mut [u8]) -> Result<(), OutOfBounds> {
///         let memory = self.0.lock().unwrap();
///         into.copy_from_slice(memory.get(offset..).and_then(|rest| rest.get(..into.len())).ok_or(OUTSIDE)?);
///         Ok(())
///     }
///     fn write_at(&self, offset: usize, from: &[u8]) -> Result<(), OutOfBounds> {
///         let mut memory = self.0.lock().unwrap();
///         memory.get_mut(offset..).and_then(|rest| rest.get_mut(..from.len())).ok_or(OUTSIDE)?.copy_from_slice(from);
///         Ok(())
///     }
///     fn export(&self, range: Range<usize>, access: Access) -> Result<Lent, ToyError> {
///         let mut windows = self.1.lock().unwrap();
///         let key = windows.len() as u32; // Easy to guess, and soon used twice: a toy.
///         let remote = RemoteWindow::new(0, range.len() as u64, key, access).map_err(|_| ToyError(ErrorKind::Config))?;
///         windows.insert(key, (Arc::clone(&self.0), range));
///         Ok(Lent(key, remote, Arc::clone(&self.1)))
///     }
///     fn reclaim(self) -> Result<Owned, Self> {
///         match Arc::try_unwrap(self.0) {
///             Ok(memory) => Ok(Owned(memory.into_inner().unwrap(), self.1)),
///             Err(memory) => Err(Self(memory, self.1)),
///         }
///     }
/// #     fn load(&self, offset: usize) -> Result<u64, OutOfBounds> {
/// #         let mut word = [0; 8];
/// #         self.read_at(offset, &mut word).map(|()| u64::from_ne_bytes(word))
/// #     }
/// #     fn store(&self, offset: usize, word: u64) -> Result<(), OutOfBounds> {
/// #         self.write_at(offset, &word.to_ne_bytes())
/// #     }
/// }
/// # const OUTSIDE: OutOfBounds = OutOfBounds { offset: 0, len: 0, size: 0, unaligned: false };
///
/// struct Lent(u32, RemoteWindow, Windows);
/// impl Window for Lent {
///     type Error = ToyError;
///     fn remote(&self) -> RemoteWindow {
///         self.1
///     }
///     fn revoke(self) -> Result<(), ToyError> {
///         Ok(())
///     }
/// }
/// impl Drop for Lent {
///     fn drop(&mut self) {
///         self.2.lock().unwrap().remove(&self.0);
///     }
/// }
///
/// struct Myself {
///     windows: Windows,
///     done: VecDeque<Completed<Owned, ToyError>>,
/// }
/// # impl Endpoint for Myself {
/// #     type Error = ToyError; type Addr = String; type Timer = SystemTimer;
/// #     fn limits(&self) -> Limits { Limits::new(0, 1, 1) }
/// #     fn local(&self) -> String { "me".into() }
/// #     fn peer(&self) -> String { "me".into() }
/// #     fn timer(&self) -> SystemTimer { SystemTimer::new() }
/// # }
/// # struct NoBuf;
/// # impl Deref for NoBuf { type Target = [u8]; fn deref(&self) -> &[u8] { &[] } }
/// # impl DerefMut for NoBuf { fn deref_mut(&mut self) -> &mut [u8] { &mut [] } }
/// # impl SendBuf for NoBuf { fn truncate(&mut self, _: usize) {} }
/// # impl SendSide for Myself {
/// #     type SendBuf = NoBuf;
/// #     fn try_reserve(&mut self, _: usize) -> Result<NoBuf, TryError<ToyError>> { Ok(NoBuf) }
/// #     fn send(&mut self, buf: NoBuf) -> Result<(), Unsent<NoBuf, ToyError>> { refuse(buf) }
/// #     fn flush(&mut self) -> Result<(), ToyError> { Ok(()) }
/// #     fn poll_send_ready(&mut self, _: &mut Context<'_>) -> Poll<()> { Poll::Ready(()) }
/// #     fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ToyError>> { Poll::Ready(Ok(())) }
/// # }
/// # fn refuse<B>(buf: B) -> Result<(), Unsent<B, ToyError>> { Err(Unsent { buf, error: ToyError(ErrorKind::Config) }) }
/// impl Myself {
///     /// What a device does: looks the key up, and does it.
///     fn reach(&self, slice: RemoteSlice, work: impl FnOnce(&mut [u8])) -> Result<(), ToyError> {
///         let windows = self.windows.lock().unwrap();
///         let (memory, range) = windows.get(&slice.key()).ok_or(ToyError(ErrorKind::RemoteAccess))?;
///         let start = range.start + slice.address() as usize;
///         work(&mut memory.lock().unwrap()[start..start + slice.len()]);
///         Ok(())
///     }
/// }
/// impl RemoteMemory for Myself {
///     type Region = Owned;
///     type WritePermit = ();
///     type FetchPermit = ();
///     fn read(
///         &mut self,
///         _: (),
///         mut into: Owned,
///         at: usize,
///         from: RemoteSlice,
///         tag: u64,
///     ) -> Result<(), Unsent<((), Owned), ToyError>> {
///         let result = self.reach(from, |theirs| into[at..at + theirs.len()].copy_from_slice(theirs));
///         self.done.push_back(Completed::Memory { tag, region: into, result });
///         Ok(())
///     }
///     fn write(
///         &mut self,
///         _: (),
///         from: Owned,
///         at: usize,
///         to: RemoteSlice,
///         tag: u64,
///     ) -> Result<(), Unsent<((), Owned), ToyError>> {
///         let result = self.reach(to, |theirs| theirs.copy_from_slice(&from[at..at + theirs.len()]));
///         self.done.push_back(Completed::Memory { tag, region: from, result });
///         Ok(())
///     }
///     fn try_complete(&mut self) -> Result<Completed<Owned, ToyError>, TryError<ToyError>> {
///         self.done.pop_front().ok_or(TryError::WouldBlock)
///     }
///     // The rest refuses, or is always ready.
/// #     fn fetch_slots(&self) -> usize { 1 }
/// #     fn try_write_permit(&mut self) -> Result<(), TryError<ToyError>> { Ok(()) }
/// #     fn try_fetch_permit(&mut self) -> Result<(), TryError<ToyError>> { Ok(()) }
/// #     fn write_buf(&mut self, buf: NoBuf, _: RemoteSlice) -> Result<(), Unsent<NoBuf, ToyError>> { refuse(buf) }
/// #     fn compare_swap(&mut self, _: (), _: RemoteWord, _: u64, _: u64, _: u64) -> Result<(), Unsent<(), ToyError>> { refuse(()) }
/// #     fn fetch_add(&mut self, _: (), _: RemoteWord, _: u64, _: u64) -> Result<(), Unsent<(), ToyError>> { refuse(()) }
/// #     fn send_gathered(&mut self, head: NoBuf, body: Owned, _: Range<usize>, _: u64) -> Result<(), Unsent<(NoBuf, Owned), ToyError>> {
/// #         refuse((head, body))
/// #     }
/// #     fn poll_write_permit_ready(&mut self, _: &mut Context<'_>) -> Poll<()> { Poll::Ready(()) }
/// #     fn poll_fetch_permit_ready(&mut self, _: &mut Context<'_>) -> Poll<()> { Poll::Ready(()) }
/// #     fn poll_complete_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
/// #         if self.done.is_empty() { Poll::Pending } else { Poll::Ready(()) }
/// #     }
/// }
///
/// let windows = Windows::default();
/// let mut peer = Myself { windows: Arc::clone(&windows), done: VecDeque::new() };
/// let shared = Owned(vec![0; 100], Arc::clone(&windows)).share();
/// let window = shared.export(20..40, Access::ReadWrite).unwrap();
/// // It travels as bytes, and is parsed where it arrives.
/// let remote = RemoteWindow::decode(&window.remote().encode()).unwrap();
///
/// futures_executor::block_on(async {
///     let from = Owned(b"hello".to_vec(), windows.clone());
///     let permit = peer.write_permit().await.unwrap();
///     peer.write(permit, from, 0, remote.slice(1, 5).unwrap(), 7).unwrap();
///     peer.flush().unwrap();
///     assert_eq!(peer.completed().await.unwrap().tag(), 7);
/// });
/// let mut word = [0; 5];
/// shared.read_at(21, &mut word).unwrap();
/// assert_eq!(&word, b"hello");
/// assert!(remote.slice(16, 5).is_err(), "no slice leaves its window");
///
/// drop(window);
/// assert!(shared.reclaim().is_ok(), "nobody has it any more");
/// ```
pub trait RemoteMemory: SendSide {
    /// The memory that operations take and give back.
    type Region: Region;
    /// The right to queue one write or gathered send.
    type WritePermit: 'static;
    /// The right to queue one read or atomic operation.
    type FetchPermit: 'static;

    /// How many reads and atomic operations may be under way at once.
    fn fetch_slots(&self) -> usize;

    /// Claims a send slot for a write.
    ///
    /// # Errors
    /// `WouldBlock` while all slots are taken; what ended the track.
    fn try_write_permit(&mut self) -> Result<Self::WritePermit, TryError<Self::Error>>;

    /// Claims a send slot for a read or an atomic operation, of which the device has few.
    ///
    /// # Errors
    /// `WouldBlock` while all are taken; what ended the track.
    fn try_fetch_permit(&mut self) -> Result<Self::FetchPermit, TryError<Self::Error>>;

    /// Queues a read of `from` into `into`, from its byte `at` on.
    ///
    /// # Errors
    /// Everything comes back: kind `Oversize` where it does not fit, or is longer than the device takes; `ForeignBuffer` where
    /// permit or memory are of another track or fabric; what ended the track.
    fn read(
        &mut self,
        permit: Self::FetchPermit,
        into: Self::Region,
        at: usize,
        from: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(Self::FetchPermit, Self::Region), Self::Error>>;

    /// Queues a write to `to`, from byte `at` of `from` on.
    ///
    /// # Errors
    /// As [`read`](RemoteMemory::read); kind `RemoteAccess` for a window that is read-only.
    fn write(
        &mut self,
        permit: Self::WritePermit,
        from: Self::Region,
        at: usize,
        to: RemoteSlice,
        tag: u64,
    ) -> Result<(), Unsent<(Self::WritePermit, Self::Region), Self::Error>>;

    /// Queues a write of a buffer that was reserved: for little, where a region would be too much ado. It has no completion;
    /// the slot comes back like that of a message. `to` is as long as the buffer.
    ///
    /// # Errors
    /// The buffer comes back: kind `Oversize` where the lengths differ, and as [`write`](RemoteMemory::write).
    fn write_buf(&mut self, buf: Self::SendBuf, to: RemoteSlice) -> Result<(), Unsent<Self::SendBuf, Self::Error>>;

    /// Queues: set the word to `new` if it is `expected`. The completion has what it was.
    ///
    /// # Errors
    /// The permit comes back: kind `RemoteAccess` for a window that is read-only, `Config` where the device has no atomic
    /// operations, `ForeignBuffer`; what ended the track.
    fn compare_swap(
        &mut self,
        permit: Self::FetchPermit,
        word: RemoteWord,
        expected: u64,
        new: u64,
        tag: u64,
    ) -> Result<(), Unsent<Self::FetchPermit, Self::Error>>;

    /// Queues: add `add` to the word, wrapping. The completion has what it was.
    ///
    /// # Errors
    /// As [`compare_swap`](RemoteMemory::compare_swap).
    fn fetch_add(
        &mut self,
        permit: Self::FetchPermit,
        word: RemoteWord,
        add: u64,
        tag: u64,
    ) -> Result<(), Unsent<Self::FetchPermit, Self::Error>>;

    /// Queues one message of a header, `head`, and the bytes of `body` in `range` behind it: the device gathers them, nothing
    /// is copied. It arrives as one message; the peer's slots have to take it. `body` comes back with the completion.
    ///
    /// # Errors
    /// Everything comes back: kind `Oversize` where it is longer than a message or the range does not lie inside;
    /// `ForeignBuffer`; what ended the track.
    fn send_gathered(
        &mut self,
        head: Self::SendBuf,
        body: Self::Region,
        range: Range<usize>,
        tag: u64,
    ) -> Result<(), Unsent<(Self::SendBuf, Self::Region), Self::Error>>;

    /// The next operation that is over, with its memory. Never arms the device.
    ///
    /// # Errors
    /// `WouldBlock` while there is none. After the end of the track, and after all that the device has let go of: what ended
    /// it.
    fn try_complete(&mut self) -> Result<Completed<Self::Region, Self::Error>, TryError<Self::Error>>;

    /// Ready when [`try_write_permit`](RemoteMemory::try_write_permit) would not say `WouldBlock`. It shares its waker with
    /// [`poll_send_ready`](SendSide::poll_send_ready): the latest wins. Flushes first.
    fn poll_write_permit_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready when [`try_fetch_permit`](RemoteMemory::try_fetch_permit) would not say `WouldBlock`. It shares its waker with
    /// [`poll_send_ready`](SendSide::poll_send_ready): the latest wins. Flushes first.
    fn poll_fetch_permit_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready when [`try_complete`](RemoteMemory::try_complete) would not say `WouldBlock`. One waker of its own: the latest
    /// wins. Flushes first; then arms notification and looks again, so that no edge is lost.
    fn poll_complete_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}

/// A fabric with one-sided memory: it has memory that is registered, to be lent to peers and moved by its tracks.
///
/// # For users
/// `F: MemoryFabric` is a bound of those alone who need it: a fabric without it still has tracks.
///
/// # Implemented by
/// `VerbsFabric` on NICs, `MockFabric` in process.
///
/// # Example
/// ```
/// use trespass_core::{Access, MemoryFabric, Region, RemoteWindow, SharedRegion, Window};
///
/// /// Memory that peers may read, what lends it to them, and what they have to be told.
/// fn publish<F: MemoryFabric>(
///     fabric: &F,
///     bytes: &[u8],
/// ) -> Result<(<F::Region as Region>::Shared, impl Window + use<F>, [u8; RemoteWindow::ENCODED]), F::Error> {
///     let mut region = fabric.alloc(bytes.len())?;
///     region.copy_from_slice(bytes);
///     let shared = region.share();
///     let window = shared.export(0..bytes.len(), Access::ReadOnly)?;
///     let told = window.remote().encode();
///     Ok((shared, window, told))
/// }
/// ```
pub trait MemoryFabric:
    Fabric<
        Track: RemoteMemory<Region = Self::Region>
                   + Track<
            // What was claimed before a split is good after it.
            Sender: RemoteMemory<
                Region = Self::Region,
                WritePermit = <Self::Track as RemoteMemory>::WritePermit,
                FetchPermit = <Self::Track as RemoteMemory>::FetchPermit,
            >,
        >,
    >
{
    /// Its registered memory.
    type Region: Region<Shared: SharedRegion<Error = Self::Error>>;

    /// Zeroed memory of `len` bytes, at least one, registered with the device; aligned to a page at least. Registering costs a
    /// system call and pins the pages; memory of the same size that was given back is taken first.
    ///
    /// # Errors
    /// Kind `ResourceLimit` where there is no memory, or too little may be locked; `Config` for a length of 0.
    fn alloc(&self, len: usize) -> Result<Self::Region, Self::Error>;

    /// Registers memory that exists. It is freed with the region.
    ///
    /// # Errors
    /// The memory comes back, with an error as of [`alloc`](MemoryFabric::alloc).
    fn adopt(&self, memory: Box<[u8]>) -> Result<Self::Region, Unsent<Box<[u8]>, Self::Error>>;
}

/// A [`MemoryFabric`] that may be used from any thread, with all that belongs to it: a bound to state once. Implemented for
/// everything that fits, as are `VerbsFabric` and `MockFabric`. [`ThreadFabric`] has an example of such a bound.
pub trait ThreadMemoryFabric:
    ThreadFabric
    + MemoryFabric<
        Track: RemoteMemory<WritePermit: Send, FetchPermit: Send>,
        Region: Region<Shared: SharedRegion<Window: Send + Sync> + Send + Sync> + Send + Sync,
    >
{
}

impl<F> ThreadMemoryFabric for F where
    F: ThreadFabric
        + MemoryFabric<
            Track: RemoteMemory<WritePermit: Send, FetchPermit: Send>,
            Region: Region<Shared: SharedRegion<Window: Send + Sync> + Send + Sync> + Send + Sync,
        >
{
}
