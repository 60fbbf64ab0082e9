//! One-sided memory: what is lent to a peer, and how a peer's is read and written.
//!
//! The memory of an application goes through three hands, and is in one of them at a time:
//! - A [`Region`] is owned: plain bytes, nobody else touches them. An operation takes it and gives it back when it is done.
//! - A [`SharedRegion`] is lent: peers read and write in it through [`Window`]s, so no reference to its bytes exists. Its
//!   owner copies in and out.
//! - A [`RemoteWindow`] is what the peer gets: a name and its bounds, as bytes in a message. It holds nothing.
// What is refused is handed back, so results are long; an alias would hide which things come back.
#![allow(clippy::type_complexity)]

use std::future::{Future, poll_fn};
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
/// parts of it to peers.
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
/// tell. Only [`load`](SharedRegion::load) and [`store`](SharedRegion::store) of a word are never torn.
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
/// Permit, queue, flush, complete; the `async` forms are in [`RemoteMemoryExt`]. `tag` is yours: it comes back with the
/// completion. A write is there before a message that is sent after it arrives; a read may be answered before or after what
/// is queued behind it is done. Operations complete in the order in which they were queued.
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

/// `async` forms of [`RemoteMemory`]. Each borrows the side alone and holds no memory; dropping one at any await loses
/// nothing.
pub trait RemoteMemoryExt: RemoteMemory {
    /// Waits for the right to queue a write.
    ///
    /// # Errors
    /// What ended the track.
    fn write_permit(&mut self) -> impl Future<Output = Result<Self::WritePermit, Self::Error>> + use<'_, Self>;

    /// Waits for the right to queue a read or an atomic operation.
    ///
    /// # Errors
    /// What ended the track.
    fn fetch_permit(&mut self) -> impl Future<Output = Result<Self::FetchPermit, Self::Error>> + use<'_, Self>;

    /// Waits for the next operation that is over.
    ///
    /// # Errors
    /// What ended the track, once nothing more comes back.
    fn completed(
        &mut self,
    ) -> impl Future<Output = Result<Completed<Self::Region, Self::Error>, Self::Error>> + use<'_, Self>;
}

impl<S: RemoteMemory + ?Sized> RemoteMemoryExt for S {
    #[inline]
    fn write_permit(&mut self) -> impl Future<Output = Result<Self::WritePermit, Self::Error>> + use<'_, S> {
        poll_fn(|cx| poll_try(self, cx, S::try_write_permit, S::poll_write_permit_ready))
    }

    #[inline]
    fn fetch_permit(&mut self) -> impl Future<Output = Result<Self::FetchPermit, Self::Error>> + use<'_, S> {
        poll_fn(|cx| poll_try(self, cx, S::try_fetch_permit, S::poll_fetch_permit_ready))
    }

    #[inline]
    fn completed(
        &mut self,
    ) -> impl Future<Output = Result<Completed<Self::Region, Self::Error>, Self::Error>> + use<'_, S> {
        poll_fn(|cx| poll_try(self, cx, S::try_complete, S::poll_complete_ready))
    }
}

/// Tries, or waits until a try is worth it.
#[inline]
fn poll_try<S: ?Sized, T, E>(
    side: &mut S,
    cx: &mut Context<'_>,
    attempt: impl Fn(&mut S) -> Result<T, TryError<E>>,
    ready: impl Fn(&mut S, &mut Context<'_>) -> Poll<()>,
) -> Poll<Result<T, E>> {
    loop {
        match attempt(side) {
            Ok(value) => return Poll::Ready(Ok(value)),
            Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
            Err(TryError::WouldBlock) => std::task::ready!(ready(side, cx)),
        }
    }
}

/// A fabric with one-sided memory.
///
/// # For users
/// `F: MemoryFabric` is a bound of those alone who need it: a fabric without it still has tracks.
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

/// A [`MemoryFabric`] that may be used from any thread, with all that belongs to it: a bound to state once.
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
