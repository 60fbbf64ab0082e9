//! The waker slot, the fan-out and the driver's `block_on`: no wake-up is lost, and none is made up.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

use trespass_core::{Drive, FanOut, WakerSlot, block_on, wait, wait_within};

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn counter() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (Arc::clone(&count), Waker::from(count))
}

#[test]
fn the_latest_waker_is_woken_once() {
    let slot = WakerSlot::new();
    slot.wake();
    let ((first, one), (second, other)) = (counter(), counter());
    slot.register(&one);
    slot.register(&other);
    slot.wake();
    slot.wake();
    assert_eq!((first.0.load(Ordering::SeqCst), second.0.load(Ordering::SeqCst)), (0, 1));
}

#[test]
fn a_fan_out_wakes_both() {
    let fan_out = FanOut::new();
    let ((reader, one), (writer, other)) = (counter(), counter());
    fan_out.reader().register(&one);
    fan_out.writer().register(&other);
    fan_out.waker().wake_by_ref();
    assert_eq!((reader.0.load(Ordering::SeqCst), writer.0.load(Ordering::SeqCst)), (1, 1));
}

/// A waker whose last owner, when dropped, comes back to the slot: as a task does that owns what it waits for.
#[test]
fn a_waker_that_is_dropped_may_use_the_slot() {
    struct Owner(Arc<WakerSlot>);
    impl Wake for Owner {
        fn wake(self: Arc<Self>) {}
    }
    impl Drop for Owner {
        fn drop(&mut self) {
            self.0.wake();
        }
    }
    let slot = Arc::new(WakerSlot::new());
    slot.register(&Waker::from(Arc::new(Owner(Arc::clone(&slot)))));
    slot.register(Waker::noop());
    slot.register(&Waker::from(Arc::new(Owner(Arc::clone(&slot)))));
    slot.wake();
}

/// Waits for a message or an interruption, on a channel.
struct Channel {
    mail: mpsc::Receiver<()>,
    interrupt: Arc<Interrupt>,
    turns: usize,
}

struct Interrupt(mpsc::Sender<()>);

impl Wake for Interrupt {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        let _ = self.0.send(());
    }
}

impl Channel {
    fn new() -> Self {
        let (send, mail) = mpsc::channel();
        Self { mail, interrupt: Arc::new(Interrupt(send)), turns: 0 }
    }
}

impl Drive for Channel {
    fn drive(&mut self, timeout: Option<Duration>) {
        self.turns += 1;
        let woken = self.mail.recv_timeout(timeout.unwrap_or(Duration::from_secs(20)));
        assert!(woken.is_ok(), "a wake-up was lost");
    }
    fn interrupter(&self) -> Waker {
        Waker::from(Arc::clone(&self.interrupt))
    }
}

#[test]
fn block_on_is_woken_from_any_thread() {
    let mut driver = Channel::new();
    for _ in 0..2000 {
        let ready = Arc::new((AtomicUsize::new(0), WakerSlot::new()));
        let other = Arc::clone(&ready);
        let thread = std::thread::spawn(move || {
            other.0.store(1, Ordering::SeqCst);
            other.1.wake();
        });
        block_on(
            &mut driver,
            poll_fn(|cx| {
                ready.1.register(cx.waker());
                if ready.0.load(Ordering::SeqCst) == 1 { Poll::Ready(()) } else { Poll::Pending }
            }),
        );
        thread.join().unwrap();
    }
}

#[test]
fn block_on_does_not_drive_what_wakes_itself() {
    let mut driver = Channel::new();
    let mut left = 10;
    block_on(
        &mut driver,
        poll_fn(|cx| {
            left -= 1;
            cx.waker().wake_by_ref();
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        }),
    );
    assert_eq!(driver.turns, 0);
}

/// Starts a thread that makes it ready, and waits for that.
async fn ready_by_another_thread() {
    let ready = Arc::new((AtomicUsize::new(0), WakerSlot::new()));
    let other = Arc::clone(&ready);
    let thread = std::thread::spawn(move || {
        other.0.store(1, Ordering::SeqCst);
        other.1.wake();
    });
    poll_fn(|cx| {
        ready.1.register(cx.waker());
        if ready.0.load(Ordering::SeqCst) == 1 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    thread.join().unwrap();
}

#[test]
fn a_thread_that_waits_is_woken() {
    for _ in 0..2000 {
        assert!(wait_within(Duration::from_secs(20), ready_by_another_thread()).is_some(), "a wake-up was lost");
    }
}

#[test]
fn a_wait_within_a_wait_takes_no_wake_up_of_the_outer() {
    let mut polls = 0;
    let outer = poll_fn(|cx| {
        polls += 1;
        cx.waker().wake_by_ref();
        wait(ready_by_another_thread());
        if polls == 3 { Poll::Ready(()) } else { Poll::Pending }
    });
    assert_eq!(wait_within(Duration::from_secs(20), outer), Some(()));
}
