//! Alarms: in order, once, and gone when cancelled.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use futures_executor::block_on;
use trespass_core::{SystemTimer, Timer, TimerQueue};

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn alarms_go_off_in_order_and_once() {
    let mut queue = TimerQueue::default();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let (late, early) = (queue.insert(at(5)), queue.insert(at(2)));
    assert!(queue.poll(late, at(0), &waker).is_pending());
    assert!(queue.poll(early, at(0), &waker).is_pending());
    assert_eq!(queue.next_deadline(), Some(at(2)));
    assert!(queue.pop_due(at(1)).is_none());
    queue.pop_due(at(2)).expect("the early one").wake();
    assert!(queue.pop_due(at(2)).is_none());
    assert!(queue.poll(early, at(2), &waker).is_ready());
    assert_eq!(queue.next_deadline(), Some(at(5)));
    assert!(queue.poll(late, at(6), &waker).is_ready(), "past it, whether or not it was popped");
    assert_eq!(queue.next_deadline(), None);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
}

#[test]
fn a_cancelled_alarm_wakes_nobody() {
    let mut queue = TimerQueue::default();
    let id = queue.insert(at(1));
    assert!(queue.poll(id, at(0), Waker::noop()).is_pending());
    queue.cancel(id);
    assert_eq!(queue.next_deadline(), None);
    assert!(queue.pop_due(at(9)).is_none());
}

#[test]
fn many_cancelled_alarms_leave_no_memory() {
    let mut queue = TimerQueue::default();
    // One that stays at the front keeps the others from being dropped from there.
    let first = queue.insert(at(0));
    for _ in 0..100_000 {
        let id = queue.insert(at(10));
        queue.cancel(id);
    }
    assert!(format!("{queue:?}").len() < 20_000, "it remembers what was cancelled");
    queue.cancel(first);
}

#[test]
fn real_time_wakes_and_never_early() {
    let timer = SystemTimer::new();
    for millis in [0, 1, 5, 20] {
        let (begun, after) = (Instant::now(), Duration::from_millis(millis));
        block_on(timer.sleep(after));
        assert!(begun.elapsed() >= after);
    }
}

#[test]
fn many_sleeps_on_one_clock() {
    let timer = SystemTimer::new();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let timer = timer.clone();
            scope.spawn(move || {
                for round in 0..50 {
                    let sleep = timer.sleep(Duration::from_micros(200 * (thread + round) % 1500));
                    // Every third is dropped before its time.
                    if round % 3 == 0 {
                        let mut sleep = pin!(sleep);
                        let _: Poll<()> = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    } else {
                        block_on(sleep);
                    }
                }
            });
        }
    });
}
