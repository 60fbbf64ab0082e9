//! Models of what the halves of a carrier share: its lock, the mark of a receiver that is gone, and who waits.
//!
//! Each of these fails a model: a sender that sleeps without a second look at the mark; a fence less on either side of it; a
//! side that finds the track ready and does not tell the other; a close that wakes nobody, or a receiver that waits for one
//! and says so to nobody.

use std::future::poll_fn;
use std::task::{Context, Waker};

use loom::future::block_on;
use loom::thread;

use crate::carrier::{MessageCarrier, MessageReceiver, MessageSender};
use crate::config::MessageConfig;
use crate::error::CarrierError;
use crate::modelled::{ModelTrack, NO_DATA, Wire, model};
use crate::wire::Kind;

fn halves(wire: &Wire) -> (MessageSender<ModelTrack>, MessageReceiver<ModelTrack>) {
    MessageCarrier::opened(wire.opened(), MessageConfig::default()).split()
}

#[test]
fn loom_a_receiver_that_is_dropped_in_the_middle_of_a_call_leaves_nothing_behind() {
    model(2, || {
        let wire = Wire::default();
        wire.arrive(Kind::Message, NO_DATA, b"unread");
        let (mut sender, receiver) = halves(&wire);
        let dropping = thread::spawn(move || drop(receiver));
        assert!(sender.poll_send_ready(&mut Context::from_waker(Waker::noop())).is_pending());
        dropping.join().unwrap();
        assert_eq!(wire.held(), 0, "the sender sleeps, and the peer with it");
    });
}

#[test]
fn loom_both_halves_wait_and_both_are_woken_by_one_arrival() {
    model(3, || {
        let wire = Wire::default();
        let (mut sender, mut receiver) = halves(&wire);
        let receiving = thread::spawn(move || {
            let message = block_on(receiver.recv()).unwrap().expect("a message");
            assert_eq!(*message, *b"both");
            receiver
        });
        let peer = wire.clone();
        let arriving = thread::spawn(move || peer.arrive(Kind::Message, 8, b"both"));
        // The message brings the credits that the sender waits for.
        block_on(poll_fn(|cx| sender.poll_send_ready(cx)));
        sender.try_send(b"x").unwrap();
        arriving.join().unwrap();
        drop(receiving.join().unwrap());
    });
}

#[test]
fn loom_a_close_by_the_sender_ends_a_receiver_that_waits() {
    model(3, || {
        let wire = Wire::default();
        let (mut sender, mut receiver) = halves(&wire);
        let receiving = thread::spawn(move || block_on(receiver.recv()).unwrap_err());
        let peer = wire.clone();
        let device = thread::spawn(move || peer.let_close());
        assert_eq!(block_on(sender.close()), Ok(()));
        assert!(wire.has_sent(Kind::Bye));
        device.join().unwrap();
        assert_eq!(receiving.join().unwrap(), CarrierError::Closed);
    });
}
