//! One-sided memory: a group of its own, for fabrics that have it ([`MemoryHarness`]).
//!
//! In every property the client is the requester, unless it says otherwise, and the server lends.

mod atomics;
mod ends;
mod hostile;
mod model;
mod operations;
mod permits;
mod regions;
mod waking;
mod windows;

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use trespass_core::{
    Access, Completed, Fabric, MemoryFabric, RecvSide, Region, RemoteMemory, RemoteSlice, RemoteWindow, RemoteWord,
    SendSide, SharedRegion, TryError, Window,
};

pub use atomics::*;
pub use ends::*;
pub use hostile::*;
pub use model::*;
pub use operations::*;
pub use permits::*;
pub use regions::*;
pub use waking::*;
pub use windows::*;

use crate::harness::{Harness, MemoryHarness};
use crate::traffic::{Pair, bytes, now, one_way, pair, stamp};
use crate::wait::{InVain, Waits};

type TrackOf<H> = <<H as Harness>::Fabric as Fabric>::Track;
type SharedOf<F> = <<F as MemoryFabric>::Region as Region>::Shared;
type WindowOf<F> = <SharedOf<F> as SharedRegion>::Window;

/// Two tracks, and memory of the server's, one window to all of it.
struct Loan<F: MemoryFabric> {
    pair: Pair<F>,
    lent: Lent<F>,
}

/// Memory that is lent, and what of it peers are told.
struct Lent<F: MemoryFabric> {
    shared: SharedOf<F>,
    window: WindowOf<F>,
    remote: RemoteWindow,
}

/// A fresh pair, and `len` blank bytes of the server's.
fn loan<H: MemoryHarness>(h: &H, len: usize, access: Access) -> Loan<H::Fabric> {
    let pair = pair(h);
    let lent = lend(&pair.fabrics.server, len, access);
    Loan { pair, lent }
}

/// `len` blank bytes, and a window to all of them.
fn lend<F: MemoryFabric>(fabric: &F, len: usize, access: Access) -> Lent<F> {
    let shared = region(fabric, len).share();
    let window = export(&shared, 0..len, access);
    let remote = told(&window);
    Lent { shared, window, remote }
}

fn export<S: SharedRegion>(shared: &S, range: std::ops::Range<usize>, access: Access) -> S::Window {
    shared.export(range.clone(), access).unwrap_or_else(|error| panic!("cannot lend bytes {range:?}: {error}"))
}

/// What a peer makes of the bytes by which it is told of `window`.
fn told<W: Window>(window: &W) -> RemoteWindow {
    let told = RemoteWindow::decode(&window.remote().encode()).expect("a window survives its bytes");
    assert_eq!(told, window.remote(), "a window is another one after it travelled");
    told
}

/// `len` blank bytes.
fn region<F: MemoryFabric>(fabric: &F, len: usize) -> F::Region {
    let region = fabric.alloc(len).unwrap_or_else(|error| panic!("cannot allocate {len} bytes: {error}"));
    assert_eq!(region.len(), len, "memory of another length than was asked for");
    region
}

/// Memory with the bytes of message `id`.
fn stamped<F: MemoryFabric>(fabric: &F, id: u64, len: usize) -> F::Region {
    let mut region = region(fabric, len);
    stamp(&mut region, id);
    region
}

/// All bytes of memory that is lent.
fn content<S: SharedRegion>(shared: &S) -> Vec<u8> {
    let mut bytes = vec![0; shared.len()];
    shared.read_at(0, &mut bytes).expect("all of it lies inside");
    bytes
}

/// Panics unless `got` is blank but for the bytes of message `id` in `part`.
fn check_part(got: &[u8], part: std::ops::Range<usize>, id: u64, what: &str) {
    let expected = bytes(id, part.len());
    crate::traffic::check(&got[part.clone()], id, expected.count());
    let stray = got.iter().enumerate().position(|(at, byte)| !part.contains(&at) && *byte != crate::traffic::BLANK);
    assert!(stray.is_none(), "{what} of bytes {part:?} touched byte {stray:?} as well");
}

/// Waits until what the client queued so far is done: a message that was queued behind it has arrived.
fn sync<H: Harness, A: SendSide, B: RecvSide>(h: &H, client: &mut A, server: &mut B) {
    one_way(h, client, server, 77_777);
}

/// Waiting, as [`trespass_core::RemoteMemoryExt`], but a side that is always ready and never is ends in a panic.
trait MemoryWait: RemoteMemory {
    fn write_permit(&mut self) -> impl Future<Output = Result<Self::WritePermit, Self::Error>> {
        wait_for(self, "poll_write_permit_ready", Self::try_write_permit, Self::poll_write_permit_ready)
    }

    fn fetch_permit(&mut self) -> impl Future<Output = Result<Self::FetchPermit, Self::Error>> {
        wait_for(self, "poll_fetch_permit_ready", Self::try_fetch_permit, Self::poll_fetch_permit_ready)
    }

    fn completed(&mut self) -> impl Future<Output = Result<Completed<Self::Region, Self::Error>, Self::Error>> {
        wait_for(self, "poll_complete_ready", Self::try_complete, Self::poll_complete_ready)
    }
}

impl<S: RemoteMemory> MemoryWait for S {}

async fn wait_for<S: ?Sized, T, E>(
    side: &mut S,
    name: &str,
    attempt: impl Fn(&mut S) -> Result<T, TryError<E>>,
    poll: impl Fn(&mut S, &mut Context<'_>) -> Poll<()>,
) -> Result<T, E> {
    let mut in_vain = InVain::default();
    poll_fn(|cx| {
        loop {
            match attempt(side) {
                Ok(value) => return Poll::Ready(Ok(value)),
                Err(TryError::Failed(error)) => return Poll::Ready(Err(error)),
                Err(TryError::WouldBlock) => std::task::ready!(poll(side, cx)),
            }
            in_vain.count(&format!("{name} says ready, and the try says WouldBlock"));
        }
    })
    .await
}

/// Queues a write of all of `from`, with a permit that has to be waited for at most.
async fn put_write<S: RemoteMemory>(side: &mut S, from: S::Region, at: usize, to: RemoteSlice, tag: u64) {
    let permit = side.write_permit().await.unwrap_or_else(|error| panic!("no permit for write {tag}: {error}"));
    side.write(permit, from, at, to, tag).unwrap_or_else(|unsent| panic!("cannot write {tag}: {}", unsent.error));
}

/// Queues a read.
async fn put_read<S: RemoteMemory>(side: &mut S, into: S::Region, at: usize, from: RemoteSlice, tag: u64) {
    let permit = side.fetch_permit().await.unwrap_or_else(|error| panic!("no permit for read {tag}: {error}"));
    side.read(permit, into, at, from, tag).unwrap_or_else(|unsent| panic!("cannot read {tag}: {}", unsent.error));
}

/// Queues an atomic addition.
async fn put_add<S: RemoteMemory>(side: &mut S, word: RemoteWord, add: u64, tag: u64) {
    let permit = side.fetch_permit().await.unwrap_or_else(|error| panic!("no permit for addition {tag}: {error}"));
    side.fetch_add(permit, word, add, tag).unwrap_or_else(|unsent| panic!("cannot add {tag}: {}", unsent.error));
}

/// Queues an atomic exchange.
async fn put_swap<S: RemoteMemory>(side: &mut S, word: RemoteWord, expected: u64, new: u64, tag: u64) {
    let permit = side.fetch_permit().await.unwrap_or_else(|error| panic!("no permit for exchange {tag}: {error}"));
    let queued = side.compare_swap(permit, word, expected, new, tag);
    queued.unwrap_or_else(|unsent| panic!("cannot exchange {tag}: {}", unsent.error));
}

/// Waits for the completion with `tag`, which must be the next. What became of it.
async fn memory_of<S: RemoteMemory>(side: &mut S, tag: u64) -> (S::Region, Result<(), S::Error>) {
    let completed = side.completed().await.unwrap_or_else(|error| panic!("no completion {tag}: {error}"));
    assert_eq!(completed.tag(), tag, "completions come in the order of queueing, each with its tag");
    match completed {
        Completed::Memory { region, result, .. } => (region, result),
        other => {
            panic!("completion {tag} of an operation with memory comes without it: {other:?}", other = kind(&other))
        }
    }
}

/// The same for an operation that must have been done.
async fn done<S: RemoteMemory>(side: &mut S, tag: u64) -> S::Region {
    let (region, result) = memory_of(side, tag).await;
    result.unwrap_or_else(|error| panic!("operation {tag} has failed: {error}"));
    region
}

/// Waits for the completion with `tag`, which must be the next, of an atomic operation. What the word was.
async fn word_of<S: RemoteMemory>(side: &mut S, tag: u64) -> Result<u64, S::Error> {
    let completed = side.completed().await.unwrap_or_else(|error| panic!("no completion {tag}: {error}"));
    assert_eq!(completed.tag(), tag, "completions come in the order of queueing, each with its tag");
    match completed {
        Completed::Word { result, .. } => result,
        other => panic!("completion {tag} of an atomic operation is none: {}", kind(&other)),
    }
}

fn kind<R, E>(completed: &Completed<R, E>) -> &'static str {
    match completed {
        Completed::Memory { .. } => "memory",
        Completed::Word { .. } => "a word",
        _ => "something else",
    }
}

/// Writes, and waits until that is done.
async fn write<S: RemoteMemory>(side: &mut S, from: S::Region, at: usize, to: RemoteSlice, tag: u64) -> S::Region {
    put_write(side, from, at, to, tag).await;
    done(side, tag).await
}

/// Reads, and waits until that is done.
async fn read<S: RemoteMemory>(side: &mut S, into: S::Region, at: usize, from: RemoteSlice, tag: u64) -> S::Region {
    put_read(side, into, at, from, tag).await;
    done(side, tag).await
}

/// A part of a window that lies inside.
fn slice(window: &RemoteWindow, offset: usize, len: usize) -> RemoteSlice {
    window.slice(offset as u64, len).expect("it lies inside")
}

/// All permits that there are now, and no more than `bound`.
fn claim_all<S: RemoteMemory, P>(
    side: &mut S,
    bound: usize,
    claim: impl Fn(&mut S) -> Result<P, TryError<S::Error>>,
) -> Vec<P> {
    let mut permits = Vec::new();
    while let Some(permit) = now(claim(side)) {
        permits.push(permit);
        assert!(permits.len() <= bound, "more than {bound} permits, which is all there is, are out at once");
    }
    permits
}

/// Waits until all slots are free and claims them as permits: whatever was done has cost none.
fn expect_all_permits<H: Harness, S: RemoteMemory>(h: &H, side: &mut S) {
    let slots = side.limits().send_slots;
    let mut permits = Vec::new();
    for at in 0..slots {
        let what = format_args!("permit {at} of {slots} to be free again");
        permits.push(h.wait(what, side.write_permit()).unwrap_or_else(|error| panic!("no permit: {error}")));
    }
    assert!(now(side.try_write_permit()).is_none(), "there are more permits than slots");
    drop(permits);
    let fetches = side.fetch_slots().min(slots);
    let mut permits = Vec::new();
    for at in 0..fetches {
        let what = format_args!("fetch permit {at} of {fetches} to be free again");
        permits.push(h.wait(what, side.fetch_permit()).unwrap_or_else(|error| panic!("no permit: {error}")));
    }
    assert!(now(side.try_fetch_permit()).is_none(), "there are more fetch permits than places");
}

/// What another thread of a property gave; its panic goes on here.
fn joined<T>(result: std::thread::Result<T>) -> T {
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Stops other threads of a property when it is dropped, by a panic too.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Says whether it was dropped.
    fn watch(&self) -> impl Fn() -> bool + Send + use<> {
        let stopped = Arc::clone(&self.0);
        move || stopped.load(Ordering::Acquire)
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
