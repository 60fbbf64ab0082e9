//! Models of what the members of a hub share: a lane, inboxes, and the buffers that come back.
//!
//! The device is a model, whose lock stands for the order in which a device and the calls of libibverbs see each other; so
//! is the hub's lock over its lists. All else is what runs over devices.
//!
//! Each of these fails a model: a look at the marks, at `filled`, `done`, `short` or the count of what came back that is
//! not SeqCst, or a store to one of them; no second look by a half that sleeps; `look` for `look_surely`, or for
//! `look_now` at an end; an event after which nobody arms, or looks again; the flag of those to wake set before they are
//! in the list, or cleared after the list was looked through; a member forgotten while it has to be minded, or uncounted
//! meanwhile; `filled` cleared after the lock is let go; a shut inbox that takes messages; `short` looked at before the
//! buffer is in the list.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Poll;

use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::lane::Completions;
use super::memory::Refiller;
use super::{HubMemory, Inward, Lane, Member, Message, Received, Receives, Side, Source, Supply};
use crate::error::VerbsError;
use crate::pool::Arena;
use crate::raw::cq::CompletionBatch;
use crate::sync::{Memory, Ordering, block_on, explore};
use crate::track::slots::Shared;

/// A device with one completion queue, and all that its driver waits for.
struct Device {
    state: Mutex<State>,
    changed: Condvar,
    /// Of each receive buffer.
    memory: [Memory; 2],
}

#[derive(Default)]
struct State {
    /// Messages that wait for a receive.
    messages: usize,
    receives: Vec<u64>,
    completed: VecDeque<u64>,
    armed: bool,
    events: usize,
    /// The hub called for a refill.
    called: bool,
    over: bool,
}

/// What the driver is woken by.
enum Work {
    Event,
    Call,
}

impl Device {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), memory: [Memory::new(), Memory::new()] })
    }

    /// Changes the state, and does what it then has to do.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap();
        change(&mut state);
        while state.messages > 0 {
            let Some(slot) = state.receives.pop() else { break };
            state.messages -= 1;
            self.memory[slot as usize].write();
            state.completed.push_back(slot);
            state.notify();
        }
        self.changed.notify_one();
    }

    fn complete(&self, request: u64) {
        self.change(|state| {
            state.completed.push_back(request);
            state.notify();
        });
    }

    /// What there is to do next; none when it is over.
    fn next(&self) -> Option<Work> {
        let mut state = self.state.lock().unwrap();
        loop {
            if let Some(left) = state.events.checked_sub(1) {
                state.events = left;
                return Some(Work::Event);
            }
            if std::mem::take(&mut state.called) {
                return Some(Work::Call);
            }
            if state.over {
                return None;
            }
            state = self.changed.wait(state).unwrap();
        }
    }
}

impl State {
    fn notify(&mut self) {
        if std::mem::take(&mut self.armed) {
            self.events += 1;
        }
    }
}

impl Refiller for Device {
    fn call(&self, _: u64) {
        self.change(|state| state.called = true);
    }
}

struct Queue(Arc<Device>);

impl Completions for Queue {
    fn poll(&self, batch: &mut CompletionBatch) -> io::Result<usize> {
        Ok(batch.fill(self.0.state.lock().unwrap().completed.drain(..)))
    }

    fn arm(&self) -> io::Result<()> {
        self.0.state.lock().unwrap().armed = true;
        Ok(())
    }

    fn ack(&self, _: u32) {}
}

/// As `SharedQueue` and `Port` do it.
struct Hub {
    device: Arc<Device>,
    lane: Lane<Queue>,
    memory: Arc<HubMemory>,
    member: Arc<Member>,
    receives: Mutex<Receives>,
}

impl Hub {
    /// With one member, whose quota are all buffers, posted.
    fn new(quota: u32) -> Arc<Self> {
        let device = Device::new();
        let memory = HubMemory::new(1, quota as usize, 0, &device, 0);
        let mut receives = Receives::new(Arc::clone(&memory));
        assert!(receives.grow(Arena::none(), 0).is_ok());
        let hub = Self {
            lane: Lane::new(Queue(Arc::clone(&device)), Side::Recv),
            memory,
            member: Arc::new(Member::new(Shared::of_no_device(0), quota, 0)),
            receives: Mutex::new(receives),
            device,
        };
        hub.refill(true);
        Arc::new(hub)
    }

    fn refill(&self, all: bool) {
        let mut receives = self.receives.lock().unwrap();
        if all || receives.is_due() {
            self.post(&mut receives);
        }
    }

    fn post(&self, receives: &mut Receives) {
        let posted = receives.post(|request| {
            let mut next = request;
            self.device.change(|state| {
                // SAFETY: a list of requests, each of which lives in the queue that lends it, up to null.
                while let Some(request) = unsafe { next.as_ref() } {
                    state.receives.push(request.wr_id);
                    next = request.next;
                }
            });
            Ok(())
        });
        assert!(posted.is_ok());
    }

    fn sort(&self, batch: &mut CompletionBatch) {
        let mut unread = Vec::new();
        let mut receives = self.receives.lock().unwrap();
        while let Some(completion) = batch.next() {
            let slot = completion.wr_id as u32;
            assert!(receives.completed(slot), "the device has had the buffer twice");
            assert!(self.member.has_room(), "a quota is exceeded");
            receives.assign(slot, &self.member);
            // SAFETY: a message of no bytes, in a slot that the device has completed.
            let message =
                unsafe { Received::new(&self.memory, (slot, NonNull::dangling()), 0, 0, Source::NONE, (0, 0)) };
            match self.member.inbox.push(message) {
                None => self.lane.got(&self.member),
                Some(message) => unread.push(message),
            }
        }
        if receives.is_due() {
            self.post(&mut receives);
        }
        drop(receives);
        drop(unread);
    }

    /// As the driver does it, until the model is over.
    fn drive(&self) {
        while let Some(work) = self.device.next() {
            match work {
                Work::Event => {
                    if self.lane.on_event(|| self.look_surely()).unwrap() {
                        self.mind_shortage();
                    }
                }
                Work::Call => {
                    self.refill(true);
                    self.mind_shortage();
                }
            }
        }
    }

    fn end(&self) {
        self.device.change(|state| state.over = true);
    }
}

impl Supply for Hub {
    type Queue = Queue;

    fn receives(&self) -> &Lane<Queue> {
        &self.lane
    }

    fn look(&self) {
        if self.memory.is_due() {
            self.refill(false);
        }
        self.lane.look(|batch| self.sort(batch)).unwrap();
    }

    fn look_surely(&self) {
        if self.memory.returned() > 0 {
            self.refill(true);
        }
        self.lane.look_surely(|batch| self.sort(batch)).unwrap();
    }

    fn look_now(&self) {
        self.lane.look_now(|batch| self.sort(batch)).unwrap();
    }

    fn mind_shortage(&self) {
        self.memory.call_when_returned(self.memory.is_short());
        if self.memory.returned() > 0 {
            self.refill(true);
        }
    }

    fn fail(&self, failure: VerbsError) {
        panic!("{failure}");
    }
}

/// Waits for a message, as a user does.
fn recv(inward: &mut Inward<Hub>) -> Message {
    loop {
        if let Ok(message) = inward.try_recv() {
            return message;
        }
        block_on(poll_fn(|cx| inward.poll_ready(cx)));
    }
}

/// Runs `work` beside, with the hub.
fn beside(hub: &Arc<Hub>, work: impl FnOnce(&Hub) + 'static) -> thread::JoinHandle<()> {
    let hub = Arc::clone(hub);
    thread::spawn(move || work(&hub))
}

#[test]
fn a_receiver_that_sleeps_is_woken_whoever_looks() {
    explore(Some(2), || {
        let hub = Hub::new(1);
        let driving = beside(&hub, Hub::drive);
        // Another member's thread, which spins: it looks once, at any time.
        let spinning = beside(&hub, |hub| {
            hub.device.change(|state| state.messages += 1);
            hub.look();
        });
        let mut inward = Inward::new(Arc::clone(&hub), Arc::clone(&hub.member));
        recv(&mut inward);
        hub.device.memory[0].write();
        hub.end();
        driving.join().unwrap();
        spinning.join().unwrap();
    });
}

#[test]
fn all_that_arrive_at_once_are_found() {
    explore(Some(2), || {
        let hub = Hub::new(2);
        let looking = [(); 2].map(|()| {
            beside(&hub, |hub| {
                hub.device.change(|state| state.messages += 1);
                hub.look_surely();
            })
        });
        let mut inward = Inward::new(Arc::clone(&hub), Arc::clone(&hub.member));
        let messages = [recv(&mut inward), recv(&mut inward)];
        looking.into_iter().for_each(|thread| thread.join().unwrap());
        drop(messages);
    });
}

#[test]
fn a_buffer_that_comes_back_while_all_sleep_is_posted() {
    explore(Some(2), || {
        let hub = Hub::new(1);
        let driving = beside(&hub, Hub::drive);
        hub.device.change(|state| state.messages += 2);
        let mut inward = Inward::new(Arc::clone(&hub), Arc::clone(&hub.member));
        let first = recv(&mut inward);
        // Dropped on another thread, while the receiver waits for the second, for which there is no other buffer.
        let dropping = beside(&hub, move |hub| {
            hub.device.memory[0].write();
            drop(first);
        });
        drop(recv(&mut inward));
        hub.end();
        dropping.join().unwrap();
        driving.join().unwrap();
        assert_eq!(hub.member.posted() + u64::from(hub.memory.returned()), 3, "a buffer is lost");
    });
}

#[test]
fn a_buffer_of_another_that_comes_back_while_all_sleep_is_posted() {
    explore(Some(2), || {
        let hub = Hub::new(1);
        let driving = beside(&hub, Hub::drive);
        hub.device.change(|state| state.messages += 2);
        hub.look_surely();
        // In nobody's hands of whom this member would be told.
        let mut others = VecDeque::new();
        hub.member.inbox.take(&mut others);
        assert_eq!(others.len(), 1);
        let dropping = beside(&hub, move |hub| {
            hub.device.memory[0].write();
            drop(others);
        });
        let mut inward = Inward::new(Arc::clone(&hub), Arc::clone(&hub.member));
        drop(recv(&mut inward));
        hub.end();
        dropping.join().unwrap();
        driving.join().unwrap();
    });
}

#[test]
fn what_arrives_while_the_receiver_goes_is_given_back() {
    explore(Some(3), || {
        let hub = Hub::new(1);
        let looking = beside(&hub, |hub| {
            hub.device.change(|state| state.messages += 1);
            hub.look();
        });
        drop(Inward::new(Arc::clone(&hub), Arc::clone(&hub.member)));
        looking.join().unwrap();
        hub.look_surely();
        assert!(!hub.member.inbox.is_filled());
        // Posted again, or on its way to be.
        hub.refill(true);
        assert_eq!((hub.member.room(), hub.memory.returned()), (1, 0));
    });
}

#[test]
fn the_end_is_told_after_the_last_message() {
    explore(Some(2), || {
        let hub = Hub::new(1);
        let ending = beside(&hub, |hub| {
            hub.device.change(|state| state.messages += 1);
            // Whoever ends a member has looked, or somebody is at it.
            hub.look();
            hub.member.shared.end(None);
        });
        let driving = beside(&hub, Hub::drive);
        let mut inward = Inward::new(Arc::clone(&hub), Arc::clone(&hub.member));
        let first = recv(&mut inward);
        let told = loop {
            match inward.try_recv() {
                Ok(_) => panic!("there was one message"),
                Err(trespass_core::TryError::Failed(told)) => break told,
                Err(trespass_core::TryError::WouldBlock) => block_on(poll_fn(|cx| inward.poll_ready(cx))),
            }
        };
        assert_eq!(told, VerbsError::Closed);
        drop(first);
        hub.end();
        ending.join().unwrap();
        driving.join().unwrap();
    });
}

/// The lane of sends of a member: as `Sends` does it.
struct Sending {
    device: Arc<Device>,
    lane: Lane<Queue>,
    member: Arc<Member>,
}

impl Sending {
    fn new() -> Arc<Self> {
        let device = Device::new();
        let member = Arc::new(Member::new(Shared::of_no_device(0), 1, 0));
        Arc::new(Self { lane: Lane::new(Queue(Arc::clone(&device)), Side::Send), member, device })
    }

    /// As `SharedQueue` does it: a completion of 0 stands for one that failed.
    fn sort(&self, batch: &mut CompletionBatch) {
        while let Some(completion) = batch.next() {
            if completion.wr_id == 0 {
                self.member.shared.end(None);
                continue;
            }
            self.member.complete(completion.wr_id);
            self.lane.got(&self.member);
            if !self.member.is_sending() {
                self.lane.forget_unless(&self.member, || self.member.is_sending());
            }
        }
    }

    fn look(&self) {
        self.lane.look(|batch| self.sort(batch)).unwrap();
    }

    fn look_surely(&self) {
        self.lane.look_surely(|batch| self.sort(batch)).unwrap();
    }

    fn drive(&self) {
        while self.device.next().is_some() {
            self.lane.on_event(|| self.look_surely()).unwrap();
        }
    }

    fn beside(self: &Arc<Self>, work: impl FnOnce(&Self) + 'static) -> thread::JoinHandle<()> {
        let sending = Arc::clone(self);
        thread::spawn(move || work(&sending))
    }
}

fn a_sender_sleeps_until_it_has_a_slot(again: bool) {
    let sending = Sending::new();
    sending.member.post(1);
    let driving = sending.beside(Sending::drive);
    let spinning = sending.beside(|sending| {
        sending.device.complete(sending.member.request(1));
        sending.look();
    });
    block_on(poll_fn(|cx| {
        sending.member.shared.send_waker.register(cx.waker());
        sending.lane.sleep(&sending.member);
        for look in [true, again] {
            if look {
                sending.look_surely();
                if sending.member.done() == 1 {
                    sending.lane.awake(&sending.member);
                    return Poll::Ready(());
                }
            }
            sending.lane.arm().unwrap();
        }
        Poll::Pending
    }));
    sending.device.change(|state| state.over = true);
    driving.join().unwrap();
    spinning.join().unwrap();
}

#[test]
fn a_sender_that_sleeps_is_woken_whoever_looks() {
    explore(Some(3), || a_sender_sleeps_until_it_has_a_slot(true));
}

#[test]
#[should_panic(expected = "deadlock")]
fn one_that_does_not_look_again_once_it_has_armed_is_not() {
    explore(Some(2), || a_sender_sleeps_until_it_has_a_slot(false));
}

#[test]
fn a_receiver_that_sleeps_learns_that_sends_have_failed() {
    explore(Some(2), || {
        let sending = Sending::new();
        let driving = sending.beside(Sending::drive);
        // The sending half posts two, of which one completes and one fails, and looks at neither.
        let posting = sending.beside(|sending| {
            for seq in [1, 2] {
                sending.member.post(seq);
                if sending.member.recv_asleep.load(Ordering::SeqCst) {
                    sending.lane.mind(&sending.member);
                    sending.lane.arm().unwrap();
                    sending.look_surely();
                }
                sending.device.complete(if seq == 1 { sending.member.request(1) } else { 0 });
            }
        });
        // The mark of the receiving half, which is one of the lane of receives, left out here.
        block_on(poll_fn(|cx| {
            let member = &sending.member;
            member.shared.recv_waker.register(cx.waker());
            member.recv_asleep.store(true, Ordering::SeqCst);
            if member.is_sending() {
                sending.lane.mind(member);
                sending.lane.arm().unwrap();
                sending.look_surely();
            }
            if member.shared.has_ended() { Poll::Ready(()) } else { Poll::Pending }
        }));
        sending.device.change(|state| state.over = true);
        driving.join().unwrap();
        posting.join().unwrap();
    });
}

#[test]
fn a_failure_is_told_though_an_earlier_send_completes_meanwhile() {
    explore(Some(3), || {
        // The receiving half sleeps while one is under way, which completes.
        let sending = Sending::new();
        let member = Arc::clone(&sending.member);
        member.post(1);
        member.recv_asleep.store(true, Ordering::SeqCst);
        sending.lane.mind(&member);
        sending.lane.arm().unwrap();
        sending.device.complete(member.request(1));
        let driving = sending.beside(Sending::drive);
        // The next one fails, after the sending half has looked for the last time.
        let posting = sending.beside(|sending| {
            sending.member.post(2);
            if sending.member.recv_asleep.load(Ordering::SeqCst) {
                sending.lane.mind(&sending.member);
                sending.lane.arm().unwrap();
                sending.look_surely();
            }
            sending.device.complete(0);
        });
        // Another member's thread looks meanwhile, and is the one that waits for this one to be told.
        sending.look();
        block_on(poll_fn(|cx| {
            member.shared.recv_waker.register(cx.waker());
            if member.shared.has_ended() { Poll::Ready(()) } else { Poll::Pending }
        }));
        sending.device.change(|state| state.over = true);
        driving.join().unwrap();
        posting.join().unwrap();
    });
}

#[test]
fn whoever_looks_wakes_all_that_got_something() {
    explore(Some(3), || {
        let device = Device::new();
        let members = [0, 1].map(|tag| Arc::new(Member::new(Shared::of_no_device(0), 1, tag)));
        let hub = Arc::new((Lane::new(Queue(Arc::clone(&device)), Side::Send), members));
        let (lane, members) = &*hub;
        members.iter().for_each(|member| lane.sleep(member));
        let looking = [0, 1].map(|one| {
            let (hub, device) = (Arc::clone(&hub), Arc::clone(&device));
            thread::spawn(move || {
                let (lane, members) = &*hub;
                device.complete(members[one].request(1));
                lane.look_surely(|batch| {
                    while let Some(completion) = batch.next() {
                        let owner = members.iter().find(|member| member.owns(completion.wr_id)).unwrap();
                        owner.complete(completion.wr_id);
                        lane.got(owner);
                    }
                })
                .unwrap();
            })
        });
        // Both are one task's, which marked them before.
        block_on(poll_fn(|cx| {
            members.iter().for_each(|member| member.shared.send_waker.register(cx.waker()));
            if members.iter().all(|member| member.done() == 1) { Poll::Ready(()) } else { Poll::Pending }
        }));
        looking.into_iter().for_each(|thread| thread.join().unwrap());
    });
}
