//! Virtual time, and the driver that moves it.

mod common;

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{Wakeups, poll_once, small};
use trespass_core::{Drive, Fabric, Timer, block_on};
use trespass_mock::{MockNet, MockSleep, MockTimer};

const SECOND: Duration = Duration::from_secs(1);

fn clock() -> (MockTimer, trespass_mock::MockDriver) {
    let (net, driver) = MockNet::virtual_time();
    (net.fabric(small()).unwrap().timer(), driver)
}

#[test]
fn a_day_passes_at_once() {
    let (timer, mut driver) = clock();
    let start = Instant::now();
    block_on(&mut driver, async {
        for _ in 0..24 * 60 {
            timer.sleep(60 * SECOND).await;
        }
    });
    assert_eq!(timer.now(), 24 * 3600 * SECOND);
    assert!(start.elapsed() < 60 * SECOND);
}

#[test]
fn alarms_go_off_in_order_and_not_before_their_time() {
    let (timer, mut driver) = clock();
    let mut sleeps: Vec<_> = [3, 1, 2, 2].map(|seconds| timer.sleep(seconds * SECOND)).into();
    let (wakeups, waker) = Wakeups::new();
    let mut cx = Context::from_waker(&waker);
    let mut poll_all = || sleeps.iter_mut().map(|sleep| Pin::new(sleep).poll(&mut cx).is_ready()).collect::<Vec<_>>();
    assert_eq!(poll_all(), [false; 4]);
    driver.drive(None);
    assert_eq!((driver.now(), wakeups.take()), (SECOND, 1));
    assert_eq!(poll_all(), [false, true, false, false]);
    driver.advance(SECOND - Duration::from_nanos(1));
    assert_eq!((wakeups.take(), poll_all()), (0, vec![false, true, false, false]));
    driver.drive(Some(10 * SECOND));
    assert_eq!((driver.now(), wakeups.take()), (2 * SECOND, 2));
    assert_eq!(poll_all(), [false, true, true, true]);
    // Cut short by its own timeout.
    driver.drive(Some(SECOND / 2));
    assert_eq!((driver.now(), wakeups.take()), (2 * SECOND + SECOND / 2, 0));
    driver.advance(10 * SECOND);
    assert_eq!((driver.now(), wakeups.take()), (12 * SECOND + SECOND / 2, 1));
}

#[test]
fn a_sleep_of_nothing_is_ready_and_a_dropped_one_is_forgotten() {
    let (timer, mut driver) = clock();
    let mut nothing = timer.sleep(Duration::ZERO);
    assert!(poll_once(&mut nothing).is_ready());
    assert!(poll_once(&mut nothing).is_ready());
    let (wakeups, waker) = Wakeups::new();
    let mut dropped = timer.sleep(SECOND);
    assert!(Pin::new(&mut dropped).poll(&mut Context::from_waker(&waker)).is_pending());
    drop(dropped);
    let kept = timer.sleep(5 * SECOND);
    driver.drive(None);
    assert_eq!((driver.now(), wakeups.take()), (5 * SECOND, 0));
    drop(kept);
    // A time beyond the end of all times.
    assert!(poll_once(timer.sleep(Duration::MAX)).is_pending());
}

#[test]
fn without_an_alarm_the_driver_waits_to_be_interrupted() {
    let (timer, mut driver) = clock();
    // Interrupted in advance.
    driver.interrupter().wake();
    driver.drive(None);
    for _ in 0..20 {
        let interrupter = driver.interrupter();
        thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(1));
                interrupter.wake();
            });
            driver.drive(None);
        });
    }
    assert_eq!(timer.now(), Duration::ZERO);
    // Or for an alarm of another thread.
    thread::scope(|scope| {
        let slept = scope.spawn(|| {
            thread::sleep(Duration::from_millis(1));
            timer.sleep(SECOND)
        });
        driver.drive(None);
        drop(slept.join().unwrap());
    });
    assert_eq!(timer.now(), SECOND);
}

#[test]
fn a_wake_up_by_another_thread_reaches_block_on() {
    let (_timer, mut driver) = clock();
    for _ in 0..200 {
        let (send, receive) = std::sync::mpsc::channel();
        let woken = thread::spawn(move || {
            let waker: std::task::Waker = receive.recv().unwrap();
            waker.wake();
        });
        let mut handed = false;
        let ready = std::future::poll_fn(|cx| {
            if std::mem::replace(&mut handed, true) {
                return Poll::Ready(());
            }
            send.send(cx.waker().clone()).unwrap();
            Poll::Pending
        });
        block_on(&mut driver, ready);
        woken.join().unwrap();
    }
}

#[test]
fn patience_gives_other_threads_time() {
    let (timer, driver) = clock();
    let mut driver = driver.with_patience(Duration::from_secs(20));
    let (send, receive) = std::sync::mpsc::channel::<std::task::Waker>();
    let other = thread::spawn(move || {
        let waker = receive.recv().unwrap();
        thread::sleep(Duration::from_millis(5));
        waker.wake();
    });
    let mut alarm = timer.sleep(SECOND);
    let mut polls = 0;
    let timed_out = block_on(
        &mut driver,
        std::future::poll_fn(|cx| {
            polls += 1;
            if polls > 1 {
                return Poll::Ready(Pin::new(&mut alarm).poll(cx).is_ready());
            }
            assert!(Pin::new(&mut alarm).poll(cx).is_pending());
            send.send(cx.waker().clone()).unwrap();
            Poll::Pending
        }),
    );
    assert!(!timed_out, "the clock was moved while another thread was busy");
    other.join().unwrap();
    // When nobody interrupts, it moves at last.
    block_on(&mut driver.with_patience(Duration::from_millis(1)), alarm);
    assert_eq!(timer.now(), SECOND);
}

/// Owns an alarm, which goes when the last waker goes.
struct Owner(#[allow(dead_code)] Mutex<Vec<MockSleep>>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn the_last_waker_of_a_task_may_own_an_alarm() {
    let (timer, mut driver) = clock();
    for dropped in [false, true] {
        let mut sleep = timer.sleep(SECOND);
        let owner = Waker::from(Arc::new(Owner(Mutex::new(vec![timer.sleep(SECOND)]))));
        assert!(Pin::new(&mut sleep).poll(&mut Context::from_waker(&owner)).is_pending());
        drop(owner);
        match dropped {
            true => drop(sleep),
            false => assert!(poll_once(&mut sleep).is_pending()),
        }
    }
    // All of them are gone, and the clock runs.
    block_on(&mut driver, timer.sleep(2 * SECOND));
    assert_eq!(timer.now(), 2 * SECOND);
}

#[test]
fn real_time_passes_by_itself() {
    let net = MockNet::new();
    let timer = net.fabric(small()).unwrap().timer();
    let before = timer.now();
    let mut never = std::pin::pin!(pending::<()>());
    futures_executor::block_on(async {
        let mut sleep = timer.sleep(Duration::from_millis(3));
        std::future::poll_fn(|cx| {
            assert!(never.as_mut().poll(cx).is_pending());
            Pin::new(&mut sleep).poll(cx)
        })
        .await;
    });
    assert!(timer.now() - before >= Duration::from_millis(3));
}
