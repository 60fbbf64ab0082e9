//! The end that receives: one desk for each lane, whatever connection its records come by.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use trespass_core::{Fabric, Incoming, Listener, Role, TransportError, WakerSlot};

use super::pipes::Pipe;
use super::record::{self, Kind, Record};
use super::{Task, Trouble, judged, judged_handshake};

/// How far a lane has come, and who may go on with it.
#[derive(Default)]
pub(crate) struct Desk {
    taken: Mutex<Taken>,
    stopped: AtomicBool,
    listening: WakerSlot,
    pub(crate) bytes: AtomicU64,
    pub(crate) sessions: AtomicU64,
    pub(crate) broken: AtomicU64,
}

#[derive(Default)]
struct Taken {
    number: u64,
    digest: u32,
    seat: Arc<Seat>,
}

/// A connection's right to hand records in: the newest has it.
#[derive(Default)]
pub(crate) struct Seat {
    gone: AtomicBool,
    waker: WakerSlot,
}

impl Seat {
    fn vacate(&self) {
        self.gone.store(true, Ordering::SeqCst);
        self.waker.wake();
    }

    /// What `future` gives, unless a newer connection comes first.
    pub(super) async fn hold<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            match self.gone.load(Ordering::SeqCst) {
                true => Poll::Ready(None),
                false => future.as_mut().poll(cx).map(Some),
            }
        })
        .await
    }
}

impl Desk {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the last record, and the digest of all.
    pub(crate) fn state(&self) -> (u64, u32) {
        let taken = self.taken();
        (taken.number, taken.digest)
    }

    /// Ends every session, and listens no more.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.listening.wake();
        self.taken().seat.vacate();
    }

    /// Takes the seat from whoever has it: what that one receives from now on it was never asked to acknowledge.
    pub(crate) fn sit(&self) -> Arc<Seat> {
        let mut taken = self.taken();
        let before = std::mem::take(&mut taken.seat);
        let seat = Arc::clone(&taken.seat);
        drop(taken);
        before.vacate();
        self.sessions.fetch_add(1, Ordering::Relaxed);
        if self.stopped.load(Ordering::SeqCst) {
            seat.vacate();
        }
        seat
    }

    /// Takes a record, if it is the next one, from whoever has the seat. The digest of all up to it.
    fn take(&self, seat: &Arc<Seat>, record: &Record<'_>) -> Result<Option<u32>, String> {
        let mut taken = self.taken();
        if !Arc::ptr_eq(&taken.seat, seat) {
            return Ok(None);
        }
        if record.kind != Kind::Data || record.number != taken.number + 1 {
            return Err(format!("{:?} {} comes after {}", record.kind, record.number, taken.number));
        }
        taken.number = record.number;
        taken.digest = record::digest(taken.digest, record.sum);
        self.bytes.fetch_add(record.body.len() as u64, Ordering::Relaxed);
        Ok(Some(taken.digest))
    }

    pub(super) async fn next<L: Listener>(&self, listener: &mut L) -> Option<Result<L::Incoming, L::Error>> {
        poll_fn(|cx| {
            self.listening.register(cx.waker());
            match self.stopped.load(Ordering::SeqCst) {
                true => Poll::Ready(None),
                false => listener.poll_incoming(cx).map(Some),
            }
        })
        .await
    }
}

/// Takes connections until the desk is stopped, each in a task of its own. What is wrong panics.
pub(crate) async fn serve<P: Pipe>(
    fabric: P::Fabric,
    mut listener: <P::Fabric as Fabric>::Listener,
    desk: Arc<Desk>,
    longest: usize,
    spawn: impl Fn(Task),
) {
    while let Some(incoming) = desk.next(&mut listener).await {
        let incoming = incoming.unwrap_or_else(|error| panic!("{}: the listener: {error}", P::NAME));
        let (fabric, desk) = (fabric.clone(), Arc::clone(&desk));
        spawn(Box::pin(async move {
            match attend::<P>(&fabric, incoming, &desk, longest).await {
                Ok(()) => {}
                Err(Trouble::Broken(_)) => {
                    desk.broken.fetch_add(1, Ordering::Relaxed);
                }
                Err(Trouble::Wrong(why)) => panic!("{}, at the desk: {why}", P::NAME),
            }
        }));
    }
}

/// One connection, from its handshake to its end or until there is a newer one.
async fn attend<P: Pipe>(
    fabric: &P::Fabric,
    incoming: <<P::Fabric as Fabric>::Listener as Listener>::Incoming,
    desk: &Desk,
    longest: usize,
) -> Result<(), Trouble> {
    let track = incoming.accept().await.map_err(|error| judged_handshake("accept", error.kind()))?;
    let pipe = P::open(fabric, track, Role::Acceptor).await.map_err(|kind| judged("open", kind))?;
    let seat = desk.sit();
    match seat.hold(receive(pipe, desk, &seat, longest)).await {
        Some(ended) => ended,
        None => Ok(()),
    }
}

async fn receive<P: Pipe>(mut pipe: P, desk: &Desk, seat: &Arc<Seat>, longest: usize) -> Result<(), Trouble> {
    let (mut bytes, mut answer) = (Vec::new(), Vec::new());
    let (number, digest) = desk.state();
    record::write(&mut answer, Kind::Welcome, number, digest, &[]);
    pipe.send(&answer).await.map_err(|kind| judged("welcome", kind))?;
    while pipe.recv(&mut bytes).await.map_err(|kind| judged("receive", kind))? {
        let record = record::read(&bytes).map_err(Trouble::Wrong)?;
        let expected = record::body_of(P::LANE, record.number, record::len_of(P::LANE, record.number, longest));
        if record.body != expected {
            return Err(Trouble::Wrong(format!("record {} is not what was sent", record.number)));
        }
        let Some(digest) = desk.take(seat, &record).map_err(Trouble::Wrong)? else { return Ok(()) };
        // Answers have a body too, of up to a frame of the least of tracks here.
        let body = record::body_of(!P::LANE, record.number, record.number as usize % 200);
        record::write(&mut answer, Kind::Ack, record.number, digest, body);
        pipe.send(&answer).await.map_err(|kind| judged("acknowledge", kind))?;
    }
    pipe.finish().await.map_err(|kind| judged("finish", kind))?;
    // Until the client has gone, so that it hears the goodbye.
    pipe.close().await.map_err(|kind| judged("close", kind))
}
