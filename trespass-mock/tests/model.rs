//! A track against a model of what a queue pair does: the same operations, one after the other, with the same results.

mod common;

use std::collections::VecDeque;
use std::task::{Context, Waker};

use common::{blocks, pair, small};
use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use trespass_core::{RecvSide, SendBuf, SendSide};
use trespass_mock::{MockConfig, MockRecvBuf, MockSendBuf, MockTrack};

#[derive(Debug, Clone)]
enum Op {
    Reserve,
    /// Sends the reserved buffer at this place, cut to this length.
    Send(usize, usize),
    DropReserved(usize),
    Flush,
    PollSend,
    Receive,
    PollReceive,
    DropReceived(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let place = || any::<u8>().prop_map(usize::from);
    prop::collection::vec(
        prop_oneof![
            4 => proptest::strategy::Just(Op::Reserve),
            4 => (place(), 0..=LEN).prop_map(|(at, len)| Op::Send(at, len)),
            1 => place().prop_map(Op::DropReserved),
            2 => proptest::strategy::Just(Op::Flush),
            1 => proptest::strategy::Just(Op::PollSend),
            4 => proptest::strategy::Just(Op::Receive),
            1 => proptest::strategy::Just(Op::PollReceive),
            3 => place().prop_map(Op::DropReceived),
        ],
        0..200,
    )
}

/// The longest message.
const LEN: usize = 16;

/// What one direction of a track does, said as plainly as can be.
struct Model {
    slots: usize,
    recv_slots: usize,
    reserved: usize,
    queued: VecDeque<Vec<u8>>,
    under_way: VecDeque<Vec<u8>>,
    receives: usize,
    arrived: VecDeque<Vec<u8>>,
    returned: usize,
    posted: u64,
    doorbells: u64,
    stalls: u64,
    stalled: bool,
    placed: u64,
    reposts: u64,
}

impl Model {
    fn new(config: &MockConfig) -> Self {
        Self {
            slots: config.send_slots,
            recv_slots: config.recv_slots,
            reserved: 0,
            queued: VecDeque::new(),
            under_way: VecDeque::new(),
            receives: config.recv_slots,
            arrived: VecDeque::new(),
            returned: 0,
            posted: config.recv_slots as u64,
            doorbells: 0,
            stalls: 0,
            stalled: false,
            placed: 0,
            reposts: 0,
        }
    }

    fn free(&self) -> usize {
        self.slots - self.reserved - self.queued.len() - self.under_way.len()
    }

    fn flush(&mut self) {
        if !self.queued.is_empty() {
            self.doorbells += 1;
            self.under_way.append(&mut self.queued);
            self.go();
        }
    }

    fn go(&mut self) {
        while let Some(message) = self.under_way.pop_front() {
            if self.receives == 0 {
                self.under_way.push_front(message);
                self.stalls += u64::from(!self.stalled);
                self.stalled = true;
                return;
            }
            self.stalled = false;
            self.receives -= 1;
            self.placed += 1;
            self.arrived.push_back(message);
        }
    }

    fn repost(&mut self, all: bool) {
        let batch = (self.recv_slots / 4).max(1);
        let due = self.returned >= batch || self.receives < batch;
        if self.returned > 0 && (all || due) {
            self.reposts += 1;
            self.posted += self.returned as u64;
            self.receives += std::mem::take(&mut self.returned);
            self.go();
        }
    }
}

struct Run {
    model: Model,
    sender: MockTrack,
    receiver: MockTrack,
    reserved: Vec<MockSendBuf>,
    received: Vec<(MockRecvBuf, Vec<u8>)>,
    next: u8,
}

impl Run {
    fn step(&mut self, op: Op) {
        let mut cx = Context::from_waker(Waker::noop());
        let model = &mut self.model;
        match op {
            Op::Reserve => {
                let result = self.sender.try_reserve(LEN);
                match model.free() {
                    0 => assert!(blocks(result)),
                    _ => {
                        model.reserved += 1;
                        self.reserved.push(result.unwrap());
                    }
                }
            }
            Op::Send(at, len) if !self.reserved.is_empty() => {
                let mut buf = self.reserved.swap_remove(at % self.reserved.len());
                buf.fill(self.next);
                buf.truncate(len);
                model.reserved -= 1;
                model.queued.push_back(buf.to_vec());
                self.next = self.next.wrapping_add(1);
                self.sender.send(buf).unwrap();
            }
            Op::DropReserved(at) if !self.reserved.is_empty() => {
                self.reserved.swap_remove(at % self.reserved.len());
                model.reserved -= 1;
            }
            Op::Send(..) | Op::DropReserved(_) => {}
            Op::Flush => {
                self.sender.flush().unwrap();
                model.flush();
            }
            Op::PollSend => {
                let ready = self.sender.poll_send_ready(&mut cx).is_ready();
                model.flush();
                assert_eq!(ready, model.free() > 0);
            }
            Op::Receive => {
                let result = self.receiver.try_recv();
                model.repost(false);
                match model.arrived.pop_front() {
                    None => assert!(blocks(result)),
                    Some(bytes) => self.received.push((result.unwrap(), bytes)),
                }
            }
            Op::PollReceive => {
                let ready = self.receiver.poll_recv_ready(&mut cx).is_ready();
                model.repost(true);
                assert_eq!(ready, !model.arrived.is_empty());
            }
            Op::DropReceived(at) if !self.received.is_empty() => {
                let (buf, bytes) = self.received.swap_remove(at % self.received.len());
                assert_eq!(*buf, *bytes);
                model.returned += 1;
            }
            Op::DropReceived(_) => {}
        }
        self.agree();
    }

    fn agree(&self) {
        let model = &self.model;
        let (sent, received) = (self.sender.counters(), self.receiver.counters());
        assert_eq!(self.receiver.posted(), model.posted);
        assert_eq!((sent.doorbells, sent.rnr_stalls, sent.dma_copies), (model.doorbells, model.stalls, model.placed));
        assert_eq!(received.reposts, model.reposts);
        for (buf, bytes) in &self.received {
            assert_eq!(**buf, **bytes, "nothing writes to a buffer that is held");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_track_does_what_the_model_does(send_slots in 1..10_usize, recv_slots in 1..14_usize, ops in ops()) {
        let config = small().with_max_message(LEN).with_send_slots(send_slots).with_recv_slots(recv_slots);
        let model = Model::new(&config);
        let (sender, receiver) = pair(config);
        let mut run = Run { model, sender, receiver, reserved: Vec::new(), received: Vec::new(), next: 1 };
        for op in ops {
            run.step(op);
        }
        // Whatever was left, it all drains.
        run.received.clear();
        run.model.returned = 0;
        run.sender.flush().unwrap();
        run.model.flush();
        let left = run.model.arrived.len() + run.model.under_way.len();
        for _ in 0..left {
            run.receiver.try_recv().unwrap();
        }
        assert!(blocks(run.receiver.try_recv()));
    }
}
