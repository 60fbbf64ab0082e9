//! Models of what a track, its buffers and the driver share.
//!
//! Besides what tests of their own show to fail, each of these fails a model: a push that is relaxed, or not SeqCst;
//! taking by an exchange that is relaxed, or by a load and a store; a look at the list, at the count of a sleeper, or a
//! store of that, that is not SeqCst; a wake-up one buffer early only; waking before the end is set; the end set before
//! its cause; a cause that is told and not settled. That `ended` is read with Acquire fails none: whoever tells a cause
//! settles it by an exchange, which finds the failure anyway.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::ending::Ending;
use super::returns::Returns;
use super::slots::Shared;
use crate::error::VerbsError;
use crate::sync::{Memory, Ordering, block_on, explore};

fn failure() -> VerbsError {
    VerbsError::Device { action: "model", why: String::new() }
}

#[test]
fn slots_that_two_threads_put_back_are_taken_once_each() {
    explore(None, || {
        let returns = Arc::new((Returns::new(2), [Memory::new(), Memory::new()]));
        let giving: Vec<_> = (0..2)
            .map(|slot| {
                let returns = Arc::clone(&returns);
                thread::spawn(move || {
                    returns.1[slot as usize].write();
                    returns.0.push(slot);
                })
            })
            .collect();
        let mut mine = [false; 2];
        let mut take = |slot: u32| {
            returns.1[slot as usize].write();
            assert!(!std::mem::replace(&mut mine[slot as usize], true), "slot {slot} came back twice");
        };
        let early: Vec<_> = returns.0.take().collect();
        if let [slot, rest @ ..] = &early[..] {
            rest.iter().for_each(|slot| take(*slot));
            // Out and back while the other is being put back: a head that went and came again.
            returns.1[*slot as usize].write();
            returns.0.push(*slot);
        }
        giving.into_iter().for_each(|thread| thread.join().unwrap());
        returns.0.take().for_each(&mut take);
        assert_eq!(mine, [true; 2], "a slot is lost");
        assert!(returns.0.is_empty());
    });
}

/// As `RecvQueue` does it: awake, registered, it takes what is there; then says for how many it sleeps, and looks again.
fn poll_returned(shared: &Shared, idle: &mut Vec<u32>, wanted: usize, again: bool, cx: &mut Context<'_>) -> Poll<()> {
    shared.awake();
    shared.recv_waker.register(cx.waker());
    idle.extend(shared.given_back.take());
    while idle.len() < wanted {
        shared.sleep_until_returned((wanted - idle.len()) as u32);
        if !again || shared.given_back.is_empty() {
            return Poll::Pending;
        }
        idle.extend(shared.given_back.take());
    }
    Poll::Ready(())
}

fn a_receiver_sleeps_until_buffers_come_back(count: u32, again: bool) {
    let shared = Shared::of_no_device(count as usize);
    let giving: Vec<_> = (0..count)
        .map(|slot| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.give_back(slot))
        })
        .collect();
    let mut idle = Vec::new();
    block_on(poll_fn(|cx| poll_returned(&shared, &mut idle, count as usize, again, cx)));
    idle.sort_unstable();
    assert!(idle.into_iter().eq(0..count));
    giving.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_receiver_that_sleeps_until_a_buffer_comes_back_is_woken() {
    explore(None, || a_receiver_sleeps_until_buffers_come_back(1, true));
}

#[test]
fn a_receiver_that_sleeps_until_two_buffers_come_back_is_woken() {
    explore(Some(3), || a_receiver_sleeps_until_buffers_come_back(2, true));
}

#[test]
#[should_panic(expected = "deadlock")]
fn one_that_does_not_look_again_is_not() {
    explore(None, || a_receiver_sleeps_until_buffers_come_back(1, false));
}

/// A completion queue of one side, and the channel on which its events come. The lock stands for the order in which a
/// device and the calls of libibverbs see each other.
#[derive(Default)]
struct Device {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    completions: usize,
    armed: bool,
    events: usize,
    over: bool,
}

impl Device {
    fn complete(&self) {
        let mut state = self.state.lock().unwrap();
        state.completions += 1;
        if std::mem::take(&mut state.armed) {
            state.events += 1;
            self.changed.notify_one();
        }
    }

    fn poll(&self) -> usize {
        std::mem::take(&mut self.state.lock().unwrap().completions)
    }

    fn arm(&self) {
        self.state.lock().unwrap().armed = true;
    }

    fn end(&self) {
        self.state.lock().unwrap().over = true;
        self.changed.notify_one();
    }

    /// The next event; false when there will be none.
    fn next_event(&self) -> bool {
        let mut state = self.state.lock().unwrap();
        while state.events == 0 && !state.over {
            state = self.changed.wait(state).unwrap();
        }
        state.events.checked_sub(1).map(|left| state.events = left).is_some()
    }
}

/// A side takes two completions. As `SendQueue` and `RecvQueue` do it: registered, it arms unless that was done, and looks
/// `again`. As the driver does it: it clears the mark, `then` wakes, or the other way about.
fn a_side_sleeps_until_completions_come(again: bool, clear_first: bool) {
    let (shared, device) = (Shared::of_no_device(1), Arc::new(Device::default()));
    let driving = {
        let (shared, device) = (Arc::clone(&shared), Arc::clone(&device));
        thread::spawn(move || {
            while device.next_event() {
                if clear_first {
                    shared.recv_armed.store(false, Ordering::Release);
                    shared.recv_waker.wake();
                } else {
                    shared.recv_waker.wake();
                    shared.recv_armed.store(false, Ordering::Release);
                }
            }
        })
    };
    let completing = {
        let device = Arc::clone(&device);
        thread::spawn(move || (0..2).for_each(|_| device.complete()))
    };
    let mut taken = 0;
    block_on(poll_fn(|cx| {
        shared.recv_waker.register(cx.waker());
        taken += device.poll();
        if taken < 2 && !shared.recv_armed.swap(true, Ordering::AcqRel) {
            device.arm();
        }
        if again {
            taken += device.poll();
        }
        if taken < 2 { Poll::Pending } else { Poll::Ready(()) }
    }));
    assert_eq!(taken, 2);
    device.end();
    completing.join().unwrap();
    driving.join().unwrap();
}

#[test]
fn a_side_that_arms_and_looks_again_is_woken() {
    explore(Some(3), || a_side_sleeps_until_completions_come(true, true));
}

#[test]
#[should_panic(expected = "deadlock")]
fn one_that_arms_and_does_not_look_again_is_not() {
    explore(Some(3), || a_side_sleeps_until_completions_come(false, true));
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_driver_that_wakes_before_it_clears_the_mark_loses_a_wake_up() {
    explore(Some(3), || a_side_sleeps_until_completions_come(true, false));
}

#[test]
fn both_halves_are_woken_by_the_end_and_told_the_failure() {
    explore(Some(3), || {
        let shared = Shared::of_no_device(1);
        let ending = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.end(Some(failure())))
        };
        let sending = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                block_on(poll_fn(|cx| {
                    shared.send_waker.register(cx.waker());
                    if shared.has_ended() { Poll::Ready(()) } else { Poll::Pending }
                }));
                assert_eq!(shared.cause(), failure());
            })
        };
        block_on(poll_fn(|cx| {
            shared.recv_waker.register(cx.waker());
            if shared.has_ended() { Poll::Ready(()) } else { Poll::Pending }
        }));
        assert_eq!(shared.cause(), failure());
        ending.join().unwrap();
        sending.join().unwrap();
    });
}

#[test]
fn all_are_told_the_same_cause() {
    explore(None, || {
        let ending = Arc::new(Ending::new());
        let failing = {
            let ending = Arc::clone(&ending);
            thread::spawn(move || {
                ending.end(Some(failure()));
                ending.tell()
            })
        };
        let closing = {
            let ending = Arc::clone(&ending);
            thread::spawn(move || {
                ending.end(None);
                ending.tell()
            })
        };
        let told = [ending.tell(), failing.join().unwrap(), closing.join().unwrap(), ending.tell()];
        assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    });
}

#[test]
fn a_place_for_an_operation_is_never_had_twice_and_its_return_wakes() {
    explore(Some(3), || {
        let shared = Arc::new((Shared::of_no_device(1), Memory::new()));
        shared.0.allow_fetches(1);
        assert!(shared.0.begin_fetch());
        let ending = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.1.write();
                shared.0.end_fetch();
                shared.0.send_waker.wake();
            })
        };
        block_on(poll_fn(|cx| {
            shared.0.send_waker.register(cx.waker());
            if shared.0.may_fetch() { Poll::Ready(()) } else { Poll::Pending }
        }));
        assert!(shared.0.begin_fetch() && !shared.0.begin_fetch());
        shared.1.write();
        ending.join().unwrap();
    });
}
