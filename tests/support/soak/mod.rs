//! A soak, for any fabric: lanes of numbered records through carriers of every kind, each received record acknowledged,
//! connections that break and are made again; and whatever is acknowledged was received: whole, once, and in order.
//!
//! A *lane* is a carrier of one kind, from one [`client`] to one [`Desk`], over as many connections as it takes. The
//! client numbers its records from one. The desk takes the next number and nothing else, whatever connection it comes by,
//! and answers each with its number and a digest of all so far, which the client compares with its own. On a new
//! connection the desk says first how far it is, and the client goes on from there.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod client;
pub(crate) mod datagrams;
pub(crate) mod desk;
pub(crate) mod pipes;
pub(crate) mod record;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use trespass_core::{ErrorKind, Timer};

pub(crate) use desk::Desk;

/// Something that runs by itself: a thread or a task of a simulation.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What goes on, and until when.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// No new records are to be made: what was made is to arrive.
    pub(crate) over: Arc<AtomicBool>,
    /// The longest body of a record, in bytes.
    pub(crate) longest: usize,
    /// How many records may wait for their acknowledgement. So many answers fit the receive slots of any track here, so
    /// that a lane may send them all before it looks at an answer, also on a stream.
    pub(crate) window: u64,
    /// A rest after each window, so that an hour of a simulation is not an hour's work.
    pub(crate) rest: Duration,
    /// How long an answer is waited for by a connection that a fault may have cut without a word to this end.
    pub(crate) silence: Duration,
    /// How long anything is waited for that must come: past it there is a hang, which is what this is to find.
    pub(crate) patience: Duration,
}

/// Why a connection is over before its time.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It broke, as connections do where there are faults: another one goes on.
    Broken(String),
    /// What must not be.
    Wrong(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(why) | Self::Wrong(why) => f.write_str(why),
        }
    }
}

/// What to make of an error of this kind in the middle of a soak: faults break connections, and do nothing else.
pub(crate) fn judged(what: &str, kind: ErrorKind) -> Trouble {
    let said = format!("{what}: {kind}");
    match kind {
        ErrorKind::Disconnected | ErrorKind::Closed | ErrorKind::TimedOut | ErrorKind::Device => Trouble::Broken(said),
        // The memory that a peer lent goes with the peer.
        ErrorKind::RemoteAccess => Trouble::Broken(said),
        _ => Trouble::Wrong(said),
    }
}

/// What to make of a connection that did not come about: the peer may be out of reach, have no time, or have given up.
pub(crate) fn judged_handshake(what: &str, kind: ErrorKind) -> Trouble {
    match kind {
        ErrorKind::Unreachable | ErrorKind::Refused | ErrorKind::Busy => Trouble::Broken(format!("{what}: {kind}")),
        _ => judged(what, kind),
    }
}

impl Load {
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// How many faults there were: what was connected before the last one may have been cut without a word.
#[derive(Debug, Default)]
pub(crate) struct Faults(AtomicU64);

impl Faults {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// What `future` gives, if that comes within `limit`.
pub(crate) async fn within<T: Timer, F: Future>(timer: &T, limit: Duration, future: F) -> Option<F::Output> {
    let (mut future, mut alarm) = (pin!(future), timer.sleep(limit));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Pin::new(&mut alarm).poll(cx).map(|()| None),
    })
    .await
}
