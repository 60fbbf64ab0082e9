//! Looking before sleeping: what it saves, and that it saves it without losing anything.

mod support;

use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use support::{fresh_addr, mocks};
use trespass_core::{
    Fabric, Incoming, ListenerExt, RecvSide, RecvSideExt, SendSide, SendSideExt, Spin, Spinning, SpinningReceiver,
    Track, wait, wait_within,
};
use trespass_layers::Spun;
use trespass_mock::{MockConfig, MockFabric, MockTrack};

/// So long that a machine under load does not come near it.
const LONG: Spin = Spin::up_to(Duration::from_secs(60));

/// Two tracks, joined, whose waits look for so long: the one that connected and the one that accepted.
fn pair(spin: Spin) -> (Spinning<MockTrack>, Spinning<MockTrack>) {
    join(&mocks(MockConfig::default()), spin)
}

fn join(mocks: &[MockFabric; 2], spin: Spin) -> (Spinning<MockTrack>, Spinning<MockTrack>) {
    let [server, client] = mocks.each_ref().map(|mock| Spun::over(mock.clone(), spin));
    let mut listener = server.listen(&fresh_addr()).expect("a listener");
    let connecting = client.connect(&trespass_core::Listener::local(&listener));
    wait(async {
        let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        (connecting.await.expect("connected"), accepted)
    })
}

async fn say(track: &mut impl SendSide, byte: u8) {
    let mut buf = track.reserve(1).await.expect("a slot");
    buf[0] = byte;
    assert!(track.send(buf).is_ok(), "a reserved buffer cannot be sent");
    track.flush().expect("flushed");
}

#[test]
fn a_wait_that_finds_what_it_looks_for_arms_nothing() {
    let (mut client, mut server) = pair(LONG);
    let echo = thread::spawn(move || {
        wait(async {
            for _ in 0..200 {
                let heard = server.recv().await.expect("a ping")[0];
                say(&mut server, heard).await;
            }
        });
        server
    });
    wait(async {
        for round in 0..200 {
            say(&mut client, round).await;
            assert_eq!(client.recv().await.expect("a pong")[0], round);
        }
    });
    let server = echo.join().expect("the echo");
    assert_eq!((client.inner().counters().arms, server.inner().counters().arms), (0, 0));
}

#[test]
fn a_wait_that_finds_nothing_arms_once_and_is_woken() {
    // Without looking this is how each wait is: the counter that the test above reads does count.
    let mocks = mocks(MockConfig::default());
    let (mut client, server) = join(&mocks, Spin::up_to(Duration::from_millis(1)));
    let waiting = thread::spawn(move || {
        let mut server = server;
        let heard = wait_within(Duration::from_secs(60), server.recv()).expect("woken").expect("a message")[0];
        (heard, server.inner().counters().arms, server.patience())
    });
    // Until it has given up looking.
    while mocks[0].counters().arms == 0 {
        assert!(!waiting.is_finished(), "it ended, and nobody sent");
        thread::yield_now();
    }
    wait(say(&mut client, 7));
    let (heard, arms, patience) = waiting.join().expect("the one who waits");
    assert_eq!((heard, arms), (7, 1));
    assert_eq!(patience, Duration::from_micros(500), "a message that comes late halves the time to look");
}

#[test]
fn what_a_wait_has_found_survives_its_end() {
    let (mut client, mut server) = pair(LONG);
    wait(async {
        for byte in 0..3 {
            say(&mut client, byte).await;
        }
    });
    let mut cx = Context::from_waker(Waker::noop());
    assert!(server.poll_recv_ready(&mut cx).is_ready());
    // Found, and then split: the receiving half has it, and it is the first.
    let (sender, mut receiver) = server.split();
    assert!(receiver.poll_recv_ready(&mut cx).is_ready());
    drop((sender, client));
    wait(async {
        for byte in 0..3 {
            assert_eq!(receiver.recv().await.expect("what had arrived")[0], byte);
        }
        receiver.recv().await.expect_err("the end");
    });
}

#[test]
fn a_wait_rings_the_doorbell_before_it_looks() {
    let (mut client, mut server) = pair(LONG);
    let pinger = thread::spawn(move || {
        wait(async {
            let mut buf = client.reserve(1).await.expect("a slot");
            buf[0] = 9;
            // Queued, and not flushed.
            client.send(buf).expect("queued");
            client.recv().await.expect("a pong")[0]
        })
    });
    let answered = wait_within(Duration::from_secs(30), async {
        let heard = server.recv().await.expect("a ping")[0];
        say(&mut server, heard).await;
        heard
    });
    assert_eq!((answered, pinger.join().expect("the pinger")), (Some(9), 9));
}

#[test]
fn a_half_of_any_track_may_look() {
    let (client, server) = pair(Spin::up_to(Duration::ZERO));
    let (mut sender, _kept) = client.split();
    let (_sender, receiver) = server.split();
    let mut receiver = SpinningReceiver::new(receiver, LONG);
    let hearing = thread::spawn(move || wait(async { receiver.recv().await.expect("a message")[0] }));
    wait(say(&mut sender, 3));
    assert_eq!(hearing.join().expect("the receiver"), 3);
}
