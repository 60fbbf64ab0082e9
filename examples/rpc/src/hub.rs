//! Wakers: whoever looks after a connection is woken for all of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use trespass::core::{Timer, WakerSlot};

/// One waker for all that a connection waits for: it wakes whoever looks after it now.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    pub(crate) task: WakerSlot,
}

impl Wake for Hub {
    fn wake(self: Arc<Self>) {
        self.task.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.task.wake();
    }
}

/// One alarm for all deadlines of a connection: set for the earliest, and set again when it goes off. So a call costs none, where
/// deadlines come in about the order of their calls.
pub(crate) struct Alarm<T: Timer> {
    set: Option<(Duration, T::Sleep)>,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Notes that the alarm went off, so that nobody has to ask it each time.
struct Bell {
    rung: AtomicBool,
    hub: Arc<Hub>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.hub.task.wake();
    }
}

impl<T: Timer> Alarm<T> {
    pub(crate) fn new(hub: Arc<Hub>) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(false), hub });
        let waker = Waker::from(Arc::clone(&bell));
        Self { set: None, bell, waker }
    }

    /// Whether `earliest` may be past. If not, the hub is woken then.
    pub(crate) fn is_due(&mut self, timer: &T, earliest: Option<Duration>) -> bool {
        let Some(earliest) = earliest else { return false };
        let rung = self.bell.rung.swap(false, Ordering::AcqRel);
        let sleep = match &mut self.set {
            Some((at, sleep)) if *at <= earliest => match rung {
                true => sleep,
                false => return false,
            },
            set => {
                let left = earliest.saturating_sub(timer.now());
                &mut set.insert((earliest, timer.sleep(left))).1
            }
        };
        let due = Pin::new(sleep).poll(&mut Context::from_waker(&self.waker)) == Poll::Ready(());
        if due {
            self.set = None;
        }
        due
    }
}
