//! Several threads, and wakers that do what wakers may do.

mod common;

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;

use common::{addr, join, pair, put, queue, small, take};
use futures_executor::block_on;
use trespass_core::{Fabric, Incoming, ListenerExt, RecvSide, RecvSideExt, SendSide, SendSideExt, Track, TryError};
use trespass_mock::{MockNet, MockRecvBuf, MockTrack};

const MESSAGES: u32 = 20_000;

async fn send_all(mut side: impl SendSide, flush_every: u32) {
    for id in 0..MESSAGES {
        let mut buf = side.reserve(4).await.ok().unwrap();
        buf.copy_from_slice(&id.to_le_bytes());
        side.send(buf).ok().unwrap();
        if id % flush_every == 0 {
            side.flush().ok().unwrap();
        }
    }
    side.close().await.ok().unwrap();
}

async fn receive_all<R: RecvSide>(mut side: R, mut each: impl FnMut(R::RecvBuf)) {
    for id in 0..MESSAGES {
        let buf = side.recv().await.ok().unwrap();
        assert_eq!(*buf, id.to_le_bytes());
        each(buf);
    }
    assert!(side.recv().await.is_err());
}

#[test]
fn two_ends_on_two_threads() {
    let (client, server) = pair(small());
    thread::scope(|scope| {
        scope.spawn(|| block_on(send_all(client, 5)));
        block_on(receive_all(server, drop));
    });
}

#[test]
fn halves_on_four_threads_and_buffers_dropped_on_a_fifth() {
    let (client, server) = pair(small());
    let ((to_server, from_server), (to_client, from_client)) = (client.split(), server.split());
    let (give, given) = channel::<MockRecvBuf>();
    thread::scope(|scope| {
        let other = give.clone();
        // The first to close ends both directions, so that each sender waits for the other direction to be done.
        let done = Arc::new(std::sync::Barrier::new(4));
        let senders = [(to_server, Arc::clone(&done)), (to_client, Arc::clone(&done))];
        for (mut side, done) in senders {
            scope.spawn(move || {
                block_on(async {
                    for id in 0..MESSAGES {
                        let mut buf = side.reserve(4).await.unwrap();
                        buf.copy_from_slice(&id.to_le_bytes());
                        side.send(buf).unwrap();
                        if id % 3 == 0 {
                            side.flush().unwrap();
                        }
                    }
                    side.flush().unwrap();
                });
                done.wait();
            });
        }
        for (mut side, give, done) in [(from_server, give, Arc::clone(&done)), (from_client, other, done)] {
            scope.spawn(move || {
                for id in 0..MESSAGES {
                    let buf = block_on(side.recv()).unwrap();
                    assert_eq!(*buf, id.to_le_bytes());
                    give.send(buf).unwrap();
                }
                drop(give);
                done.wait();
            });
        }
        scope.spawn(move || given.into_iter().for_each(drop));
    });
}

#[test]
fn two_busy_polling_threads_never_arm() {
    let (mut client, mut server) = pair(small());
    thread::scope(|scope| {
        let client = &mut client;
        scope.spawn(move || {
            let mut id = 0;
            while id < MESSAGES {
                if queue(client, &id.to_le_bytes()) {
                    id += 1;
                } else {
                    thread::yield_now();
                }
                client.flush().unwrap();
            }
        });
        let mut id = 0;
        while id < MESSAGES {
            match server.try_recv() {
                Ok(buf) => {
                    assert_eq!(*buf, id.to_le_bytes());
                    id += 1;
                }
                Err(TryError::WouldBlock) => thread::yield_now(),
                Err(TryError::Failed(error)) => panic!("{error}"),
            }
        }
    });
    assert_eq!((client.counters().arms, server.counters().arms), (0, 0));
    assert_eq!(client.counters().sends, u64::from(MESSAGES));
    assert_eq!(server.counters().receives, u64::from(MESSAGES));
}

#[test]
fn ends_race_with_everything() {
    for round in 0..300 {
        let net = MockNet::new();
        let (one, two) = (net.fabric(small()).unwrap(), net.fabric(small()).unwrap());
        let (client, server) = join(&one, &two);
        let ((mut to_server, from_server), (to_client, mut from_client)) = (client.split(), server.split());
        thread::scope(|scope| {
            scope.spawn(move || {
                block_on(async {
                    while let Ok(buf) = to_server.reserve(4).await {
                        let _ = to_server.send(buf);
                        let _ = to_server.flush();
                    }
                    assert!(to_server.reserve(4).await.is_err());
                });
            });
            scope.spawn(move || {
                block_on(async {
                    while from_client.recv().await.is_ok() {}
                    assert!(from_client.recv().await.is_err());
                });
            });
            scope.spawn(move || drop(from_server));
            match round % 4 {
                0 => drop(to_client),
                1 => two.kill(),
                2 => one.break_link(),
                _ => one.kill(),
            }
        });
    }
}

#[test]
fn connections_from_many_threads_do_not_cross() {
    let fabric = MockNet::new().fabric(small()).unwrap();
    let here = addr("here");
    let mut listener = fabric.listen(&here).unwrap();
    thread::scope(|scope| {
        for client in 0..4_u8 {
            let (fabric, here) = (&fabric, &here);
            scope.spawn(move || {
                for round in 0..50_u8 {
                    let mut track = block_on(fabric.connect(here)).unwrap();
                    put(&mut track, &[client, round]);
                    assert_eq!(*block_on(track.recv()).unwrap(), [client, round]);
                }
            });
        }
        for _ in 0..4 * 50 {
            let mut track = block_on(async { listener.incoming().await?.accept().await }).unwrap();
            scope.spawn(move || {
                let asked = block_on(track.recv()).unwrap();
                put(&mut track, &asked);
                assert!(block_on(track.recv()).is_err());
            });
        }
    });
}

/// Uses tracks from inside of `wake`, and from inside of its own drop.
struct Meddler(Mutex<Vec<MockTrack>>, Mutex<Vec<MockRecvBuf>>);

impl Wake for Meddler {
    fn wake(self: Arc<Self>) {
        for track in self.0.lock().unwrap().iter_mut() {
            let _ = track.try_recv();
            let _ = track.try_reserve(1);
            let _ = track.flush();
            assert!(track.poll_recv_ready(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        self.1.lock().unwrap().clear();
    }
}

#[test]
fn a_waker_may_use_the_track_that_wakes_it() {
    let (mut client, mut server) = pair(small());
    put(&mut client, b"held");
    let held = take(&mut server);
    let waker = Waker::from(Arc::new(Meddler(Mutex::default(), Mutex::new(vec![held]))));
    assert!(server.poll_recv_ready(&mut Context::from_waker(&waker)).is_pending());
    put(&mut client, b"wakes");
    assert_eq!(*take(&mut server), *b"wakes");

    let meddler = Arc::new(Meddler(Mutex::default(), Mutex::default()));
    let waker = Waker::from(Arc::clone(&meddler));
    assert!(server.poll_recv_ready(&mut Context::from_waker(&waker)).is_pending());
    meddler.0.lock().unwrap().push(server);
    put(&mut client, b"taken by the waker");
    assert_eq!(meddler.0.lock().unwrap()[0].counters().receives, 3);
    // The waker that its own track holds is the last of its kind, and the track goes with it: nobody waits for itself.
    drop(waker);
    meddler.0.lock().unwrap().clear();
}

#[test]
fn a_waker_that_is_replaced_may_take_a_track_with_it() {
    let (mut client, mut server) = pair(small());
    put(&mut client, b"1");
    let held = take(&mut server);
    put(&mut server, b"2");
    let other = take(&mut client);
    // The only owners of buffers of the very lanes that their wakers are registered with.
    let last = Waker::from(Arc::new(Meddler(Mutex::default(), Mutex::new(vec![held, other]))));
    assert!(server.poll_recv_ready(&mut Context::from_waker(&last)).is_pending());
    drop(last);
    assert!(server.poll_recv_ready(&mut Context::from_waker(Waker::noop())).is_pending());

    let (third, fourth) = pair(small());
    let bufs: Vec<_> = (0..8).map(|_| client.try_reserve(1).unwrap()).collect();
    let last = Waker::from(Arc::new(Meddler(Mutex::new(vec![third, fourth]), Mutex::default())));
    assert!(client.poll_send_ready(&mut Context::from_waker(&last)).is_pending());
    drop(last);
    assert!(client.poll_send_ready(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(bufs);
}
