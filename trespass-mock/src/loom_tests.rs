//! Models of what two ends of a mock track share, over the whole fabric: a lane's lock, the hints beside it, and who waits.
//!
//! Why a connection has ended and what is counted are the standard library's here too, so loom tries no order of theirs
//! but the one in which it makes its steps.
//!
//! Each of these fails a model: an end, or memory that comes back, that wakes nobody; a receiver that is woken by more than a
//! batch alone; hints that are not renewed at a message or an end; looking, and then registering under another lock.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Wake};

use loom::future::block_on;
use loom::sync::{Condvar, Mutex};
use loom::thread;
use trespass_core::{
    ErrorKind, Fabric, Incoming, ListenerExt, RecvSide, SendSide, Track, TransportError, TryError, Unsent,
};

use crate::{MockAddr, MockConfig, MockFabric, MockNet, MockReceiver, MockRecvBuf, MockSendBuf, MockSender, MockTrack};

/// Every order of two threads; of three, those in which a thread is interrupted at most twice.
fn model(threads: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or((threads > 2).then_some(2));
    builder.max_branches = 10_000;
    builder.check(run);
}

fn fabric(send_slots: usize, recv_slots: usize) -> MockFabric {
    let config = MockConfig::default().with_max_message(8).with_send_slots(send_slots).with_recv_slots(recv_slots);
    MockNet::new().fabric(config).unwrap()
}

/// Two tracks, joined, with so many slots each.
fn pair(send_slots: usize, recv_slots: usize) -> (MockTrack, MockTrack) {
    let fabric = fabric(send_slots, recv_slots);
    let at: MockAddr = "model".parse().unwrap();
    let mut listener = fabric.listen(&at).unwrap();
    let connecting = fabric.connect(&at);
    block_on(async {
        let ours = listener.incoming().await.unwrap().accept().await.unwrap();
        (connecting.await.unwrap(), ours)
    })
}

fn reserve(sender: &mut MockSender) -> MockSendBuf {
    loop {
        match sender.try_reserve(1) {
            Ok(buf) => return buf,
            Err(TryError::WouldBlock) => block_on(poll_fn(|cx| sender.poll_send_ready(cx))),
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
    }
}

fn send(sender: &mut MockSender, byte: u8) {
    let mut buf = reserve(sender);
    buf[0] = byte;
    sender.send(buf).map_err(|Unsent { error, .. }| error).unwrap();
    sender.flush().unwrap();
}

fn recv(receiver: &mut MockReceiver) -> Result<MockRecvBuf, ErrorKind> {
    loop {
        match receiver.try_recv() {
            Ok(buf) => return Ok(buf),
            Err(TryError::WouldBlock) => block_on(poll_fn(|cx| receiver.poll_recv_ready(cx))),
            Err(TryError::Failed(error)) => return Err(error.kind()),
        }
    }
}

/// Receives what the one wake-up is about: a hint that is not seen by then is a message that is not found.
fn recv_once_woken(receiver: &mut MockReceiver) -> Result<MockRecvBuf, ErrorKind> {
    #[derive(Default)]
    struct Signal(Mutex<bool>, Condvar);

    impl Wake for Signal {
        fn wake(self: Arc<Self>) {
            *self.0.lock().unwrap() = true;
            self.1.notify_one();
        }
    }

    let signal = Arc::new(Signal::default());
    if receiver.poll_recv_ready(&mut Context::from_waker(&Arc::clone(&signal).into())).is_pending() {
        let mut woken = signal.0.lock().unwrap();
        while !*woken {
            woken = signal.1.wait(woken).unwrap();
        }
    }
    match receiver.try_recv() {
        Ok(buf) => Ok(buf),
        Err(TryError::WouldBlock) => panic!("woken for nothing"),
        Err(TryError::Failed(error)) => Err(error.kind()),
    }
}

#[test]
fn a_receiver_that_waits_is_woken_and_finds_what_came() {
    model(2, || {
        let (client, server) = pair(1, 1);
        let ((mut sender, _), (_to_client, mut receiver)) = (client.split(), server.split());
        let sending = thread::spawn(move || {
            send(&mut sender, 7);
            sender
        });
        assert_eq!(recv_once_woken(&mut receiver).unwrap()[0], 7);
        drop(sending.join().unwrap());
    });
}

#[test]
fn a_sender_that_is_stalled_goes_on_when_the_receiver_lets_go() {
    model(3, || {
        let (client, server) = pair(1, 1);
        let ((mut sender, from_server), (to_client, mut receiver)) = (client.split(), server.split());
        let sending = thread::spawn(move || {
            (0..3).for_each(|byte| send(&mut sender, byte));
            sender
        });
        for byte in 0..3 {
            let buf = recv(&mut receiver).unwrap();
            assert_eq!(buf[0], byte);
            // The last buffer comes back on another thread, while this one may wait already.
            if byte == 1 {
                thread::spawn(move || drop(buf));
            }
        }
        drop((sending.join().unwrap(), from_server, to_client));
    });
}

#[test]
fn a_buffer_that_is_dropped_unsent_wakes_who_waits_for_its_slot() {
    model(2, || {
        let (client, _server) = pair(1, 1);
        let (mut sender, _from_server) = client.split();
        let buf = reserve(&mut sender);
        let dropping = thread::spawn(move || drop(buf));
        drop(reserve(&mut sender));
        dropping.join().unwrap();
    });
}

#[test]
fn the_end_wakes_both_halves_after_all_that_arrived() {
    model(3, || {
        let (client, server) = pair(1, 1);
        let (mut sender, mut receiver) = client.split();
        let ending = thread::spawn(move || {
            let (mut to_client, from_client) = server.split();
            send(&mut to_client, 7);
            drop((to_client, from_client));
        });
        let receiving = thread::spawn(move || {
            let first = recv(&mut receiver).map(|buf| buf[0]);
            (first, recv_once_woken(&mut receiver).map(drop))
        });
        // Its one slot is taken.
        let _reserved = sender.try_reserve(1);
        block_on(poll_fn(|cx| sender.poll_send_ready(cx)));
        assert!(matches!(sender.try_reserve(1), Err(TryError::Failed(error)) if error.kind() == ErrorKind::Closed));
        assert_eq!(receiving.join().unwrap(), (Ok(7), Err(ErrorKind::Closed)));
        ending.join().unwrap();
    });
}

#[test]
fn a_connect_and_an_accept_find_each_other() {
    model(2, || {
        let fabric = fabric(1, 1);
        let at: MockAddr = "model".parse().unwrap();
        let mut listener = fabric.listen(&at).unwrap();
        let connecting = thread::spawn(move || block_on(fabric.connect(&at)).unwrap());
        let ours = block_on(async { listener.incoming().await.unwrap().accept().await.unwrap() });
        drop((connecting.join().unwrap(), ours));
    });
}
