//! Messages over datagrams, on the mock: whole or not at all, and nothing that ends but what should.

#[path = "support/datagrams.rs"]
mod datagrams;
mod support;

use std::time::Duration;

use datagrams::{Carrier, carriers, heard, open, say, small, tracks};
use futures_executor::block_on;
use support::raw::{Greeting, HELLO};
use support::{both, pattern, poll_once};
use trespass_carriers::{CarrierError, ConfigFault, DatagramCarrier, DatagramConfig, Phase, Refusal};
use trespass_core::{ErrorKind, Role, TransportError, TryError, wait_within};
use trespass_mock::{MockDatagramConfig, MockNet};

/// What has arrived at a carrier, all of it.
fn drain(carrier: &mut Carrier) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    loop {
        match carrier.try_recv() {
            Ok(Some(message)) => got.push(message.to_vec()),
            Ok(None) | Err(TryError::WouldBlock) => return got,
            Err(TryError::Failed(error)) => panic!("{error}"),
        }
    }
}

#[test]
fn every_length_arrives_on_a_perfect_network() {
    let (mut left, mut right) = carriers(&small(), DatagramConfig::default().with_max_message(20_000));
    assert_eq!((left.eager_limit(), left.max_message()), (248, 20_000));
    for len in [0, 1, 247, 248, 249, 480, 481, 1000, 19_999, 20_000] {
        let data = pattern(len, len);
        let (sent, got) = both(left.send(&data), right.recv());
        sent.unwrap();
        let got = got.unwrap().unwrap();
        assert!(*got == data, "{len}");
        assert_eq!(got.is_direct(), len <= 248);
    }
    let error = block_on(left.send(&[0; 20_001])).unwrap_err();
    assert_eq!(error, CarrierError::Oversize { len: 20_001, max: 20_000 });
    let error = left.try_reserve(249).unwrap_err().failed().unwrap();
    assert_eq!(error, CarrierError::Oversize { len: 249, max: 248 });
    assert_eq!((left.stats().messages_sent, right.stats().messages_received), (10, 10));
}

/// Each message whose number is its first four bytes: whole, and once.
#[test]
fn what_a_bad_network_leaves_is_whole_and_comes_once() {
    let track = small().with_seed(5).with_loss(50).with_duplication(100).with_reordering(200);
    let (mut left, mut right) = carriers(&track, DatagramConfig::default());
    let message = |number: u32| {
        let mut data = pattern(number as usize, 4 + number as usize * 97 % 3000);
        data[..4].copy_from_slice(&number.to_le_bytes());
        data
    };
    let mut seen = vec![false; 1000];
    for number in 0..1000 {
        block_on(left.send(&message(number))).unwrap();
        for got in drain(&mut right) {
            let number = u32::from_le_bytes(*got.first_chunk().unwrap());
            assert!(got == message(number), "{number}");
            assert!(!std::mem::replace(&mut seen[number as usize], true), "{number} came twice");
        }
    }
    let (arrived, stats) = (seen.iter().filter(|seen| **seen).count(), right.stats());
    assert!((500..950).contains(&arrived), "{arrived}");
    assert!(stats.duplicates > 0 && stats.given_up > 0, "{stats:?}");
    assert_eq!((stats.garbage, stats.messages_received), (0, arrived as u64));
}

#[test]
fn handshakes_survive_loss() {
    for seed in 0..20 {
        let track = small().with_seed(seed).with_loss(400).with_duplication(200).with_reordering(200);
        let config = DatagramConfig::default().with_open_retry(Duration::from_millis(2));
        let (left, right) = tracks(&MockNet::new(), &track);
        let connector = async {
            let mut carrier = DatagramCarrier::open(left, Role::Connector, config.clone()).await.unwrap();
            // Waiting for a message answers a Welcome that comes again.
            carrier.recv().await.unwrap().map(|message| message.to_vec())
        };
        let acceptor = async {
            let mut carrier = DatagramCarrier::open(right, Role::Acceptor, config.clone()).await.unwrap();
            for _ in 0..40 {
                carrier.send(b"there").await.unwrap();
            }
            carrier.close().await.unwrap();
        };
        let (heard, ()) = both(connector, acceptor);
        assert_eq!(heard.as_deref(), Some(&b"there"[..]), "seed {seed}");
    }
}

#[test]
fn nobody_there_is_a_time_out() {
    let (net, mut driver) = MockNet::virtual_time();
    for role in [Role::Connector, Role::Acceptor] {
        let (left, _right) = tracks(&net, &small());
        let opening = DatagramCarrier::open(left, role, DatagramConfig::default());
        let error = trespass_core::block_on(&mut driver, opening).unwrap_err();
        assert_eq!(error, CarrierError::TimedOut(Phase::Open));
    }
    assert_eq!(driver.now(), Duration::from_secs(10));
}

#[test]
fn another_kind_of_carrier_is_refused_at_both_ends() {
    let (mut left, right) = tracks(&MockNet::new(), &small());
    let mut opening = DatagramCarrier::open(right, Role::Acceptor, DatagramConfig::default());
    say(&mut left, &Greeting::honest(HELLO).bytes());
    let error = block_on(&mut opening).unwrap_err();
    assert_eq!((error.kind(), &error), (ErrorKind::Refused, &CarrierError::Incompatible(Refusal::Kind(3))));
    let refusal = heard(&mut left).unwrap();
    assert_eq!(refusal[..8], [3, 0, 0, 0, 8, 0, 0, 0], "it answers the session that asked");
    assert_eq!((refusal[8], refusal[16]), (3, 3));
}

#[test]
fn a_refusal_is_heard() {
    let (left, mut right) = tracks(&MockNet::new(), &small());
    let mut opening = DatagramCarrier::open(left, Role::Connector, DatagramConfig::default());
    assert!(poll_once(&mut opening).is_pending());
    let hello = heard(&mut right).unwrap();
    let mut refusal = vec![3, 0, 0, 0];
    refusal.extend(&hello[4..8]);
    refusal.extend([4, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    // One that answers somebody else first, and nonsense.
    let mut other = refusal.clone();
    other[5] ^= 1;
    for bytes in [&other[..], &[0xFF; 20], &[], &refusal] {
        assert!(poll_once(&mut opening).is_pending());
        say(&mut right, bytes);
    }
    assert_eq!(block_on(opening).unwrap_err(), CarrierError::Refused(Refusal::Features(9)));
}

#[test]
fn what_a_peer_makes_up_ends_nothing() {
    let (mut left, right) = tracks(&MockNet::new(), &small());
    let mut opening = DatagramCarrier::open(right, Role::Acceptor, DatagramConfig::default());
    say(&mut left, &Greeting { carrier: 3, ..Greeting::honest(HELLO) }.bytes());
    assert!(poll_once(&mut opening).is_pending());
    let welcome = heard(&mut left).unwrap();
    let (session, whole) = (&welcome[4..6], |number: u8, tag: &[u8]| [80, 0, tag[0], tag[1], number, 0, 0, 0, b'!']);
    assert_eq!(welcome[60..64], [8, 0, 0, 0], "it answers this session");
    say(&mut left, &whole(0, session));
    let mut carrier = block_on(opening).unwrap();
    for kind in 0..=255 {
        for len in [0, 1, 7, 8, 9, 16, 17, 100] {
            let mut bytes = vec![kind; len];
            if let Some(header) = bytes.first_chunk_mut::<8>() {
                // A goodbye in good form would be one.
                *header = [kind, u8::from(kind == 34), session[0], session[1], 0, 0, 0, 0];
            }
            say(&mut left, &bytes);
            while let Ok(message) = carrier.try_recv() {
                assert_eq!(**message.as_ref().unwrap(), *b"!", "the first one only");
            }
        }
    }
    assert!(carrier.stats().garbage > 1500, "{:?}", carrier.stats());
    say(&mut left, &whole(1, &[session[0] ^ 1, session[1]]));
    say(&mut left, &whole(1, session));
    assert_eq!(**carrier.try_recv().unwrap().as_ref().unwrap(), *b"!");
    assert_eq!(carrier.stats().messages_received, 2);
}

#[test]
fn a_goodbye_is_heard_and_no_error() {
    let (mut left, mut right) = carriers(&small(), DatagramConfig::default());
    block_on(left.send(b"last")).unwrap();
    block_on(left.close()).unwrap();
    assert_eq!(block_on(left.close()), Ok(()), "again");
    assert_eq!(block_on(left.send(b"?")), Err(CarrierError::Closed));
    assert_eq!(block_on(left.recv()).unwrap_err(), CarrierError::Closed);
    assert_eq!(**block_on(right.recv()).unwrap().as_ref().unwrap(), *b"last");
    assert!(block_on(right.recv()).unwrap().is_none());
    assert!(block_on(right.recv()).unwrap().is_none(), "again");
    assert_eq!(block_on(right.send(b"?")), Err(CarrierError::Closed));
    block_on(right.close()).unwrap();
}

#[test]
fn silence_ends_what_beats_keep_open() {
    let (net, mut driver) = MockNet::virtual_time();
    let config = DatagramConfig::default().with_idle_timeout(Some(Duration::from_secs(3)));
    let beating = config.clone().with_keepalive(Some(Duration::from_secs(1)));
    let (left, right) = open(&net, &small(), [beating, config]);
    let (mut left, mut right) = (left.unwrap(), right.unwrap());
    // Ten seconds, in which the left one beats and the right one is heard of too.
    for _ in 0..10 {
        assert!(poll_once(&mut Box::pin(left.recv())).is_pending());
        assert!(poll_once(&mut Box::pin(right.recv())).is_pending());
        block_on(right.send(b"here")).unwrap();
        assert!(block_on(left.recv()).unwrap().is_some());
        driver.advance(Duration::from_secs(1));
    }
    assert!(left.stats().control_sent >= 8, "{:?}", left.stats());
    let before = driver.now();
    // The left one is not called any more, so it does not beat.
    let error = trespass_core::block_on(&mut driver, right.recv()).unwrap_err();
    assert_eq!((error.kind(), &error), (ErrorKind::TimedOut, &CarrierError::TimedOut(Phase::Idle)));
    let took = driver.now() - before;
    assert!((Duration::from_secs(2)..=Duration::from_secs(6)).contains(&took), "{took:?}");
}

#[test]
fn the_halves_beat_too() {
    let (net, mut driver) = MockNet::virtual_time();
    let config = DatagramConfig::default().with_keepalive(Some(Duration::from_secs(1)));
    let (left, right) = open(&net, &small(), [config.clone(), config]);
    let (mut sender, _receiver) = left.unwrap().split();
    let mut right = right.unwrap();
    {
        let mut beats = Box::pin(sender.keepalive());
        for _ in 0..5 {
            assert!(poll_once(&mut beats).is_pending());
            driver.advance(Duration::from_secs(1));
        }
    }
    assert!(sender.stats().control_sent >= 3, "{:?}", sender.stats());
    assert!(drain(&mut right).is_empty());
    assert_eq!(right.stats().garbage + right.stats().stale, 0);
}

#[test]
fn what_stays_incomplete_is_given_up_in_time() {
    let (net, mut driver) = MockNet::virtual_time();
    // Every other datagram is lost: no long message is ever complete.
    let track = small().with_loss(500);
    let config = DatagramConfig::default().with_assemblies(16, Duration::from_secs(1));
    let (left, right) = tracks(&net, &track);
    let retry = config.clone().with_open_timeout(Duration::from_secs(60));
    let (left, right) = trespass_core::block_on(
        &mut driver,
        support::join(
            async {
                let mut left = DatagramCarrier::open(left, Role::Connector, retry.clone()).await.unwrap();
                // Until the other one is open too.
                let _ = left.recv().await;
                left
            },
            async {
                let mut right = DatagramCarrier::open(right, Role::Acceptor, retry.clone()).await.unwrap();
                for _ in 0..20 {
                    right.send(b"open").await.unwrap();
                }
                right
            },
        ),
    );
    let (mut left, mut right) = (left, right);
    for number in 0..5 {
        block_on(left.send(&pattern(number, 20_000))).unwrap();
        assert!(poll_once(&mut Box::pin(right.recv())).is_pending());
    }
    assert_eq!(right.stats().given_up, 0);
    driver.advance(Duration::from_secs(2));
    assert!(poll_once(&mut Box::pin(right.recv())).is_pending());
    assert_eq!(right.stats().given_up, 5, "{:?}", right.stats());
}

#[test]
fn what_a_receiver_has_no_room_for_is_counted() {
    let track = small().with_slots(8, 8);
    let (mut left, mut right) = carriers(&track, DatagramConfig::default());
    for _ in 0..100 {
        block_on(left.send(b"flood")).unwrap();
    }
    let first = drain(&mut right).len();
    assert!(first <= 8, "{first}");
    for _ in 0..1200 {
        block_on(left.send(b"one by one")).unwrap();
        drain(&mut right);
    }
    assert_eq!(right.stats().missed, 100 - first as u64);
    assert_eq!(right.stats().messages_received, 1200 + first as u64);
}

#[test]
fn two_threads_have_a_half_each() {
    let (left, mut right) = carriers(&small(), DatagramConfig::default());
    let (mut sender, mut receiver) = left.split();
    let echo = std::thread::spawn(move || {
        block_on(async {
            while let Some(message) = right.recv().await.unwrap() {
                right.send(&message).await.unwrap();
            }
        });
    });
    let reader = std::thread::spawn(move || {
        block_on(async {
            for _ in 0..500 {
                let message = receiver.recv().await.unwrap().unwrap();
                assert_eq!(message.len(), 600);
            }
        });
        receiver
    });
    // What is lost for want of room is made up for by more.
    while !reader.is_finished() {
        block_on(sender.send(&[7; 600])).unwrap();
        std::thread::yield_now();
    }
    let mut receiver = reader.join().unwrap();
    // The goodbye would be lost for want of room too: but not after something that came back.
    let mut came_back = false;
    while !came_back {
        block_on(sender.send(&[8; 10])).unwrap();
        while let Some(message) = wait_within(Duration::from_millis(100), receiver.recv()) {
            came_back |= message.unwrap().unwrap().len() == 10;
        }
    }
    block_on(sender.close()).unwrap();
    echo.join().unwrap();
}

#[test]
fn bad_settings_are_refused_by_name() {
    let fault = |config: DatagramConfig, track: MockDatagramConfig| {
        let (left, _right) = tracks(&MockNet::new(), &track);
        match block_on(DatagramCarrier::open(left, Role::Connector, config)).unwrap_err() {
            CarrierError::Config(fault) => fault,
            other => panic!("{other}"),
        }
    };
    let ok = DatagramConfig::default;
    let second = Duration::from_secs(1);
    assert_eq!(fault(ok().with_max_message(0), small()), ConfigFault::MaxMessage(0));
    assert_eq!(fault(ok().with_max_message(1 << 32), small()), ConfigFault::LongMessage(1 << 32));
    assert_eq!(fault(ok().with_assemblies(0, second), small()), ConfigFault::Assemblies(0));
    assert_eq!(fault(ok().with_assemblies(1025, second), small()), ConfigFault::Assemblies(1025));
    assert_eq!(fault(ok().with_assemblies(1, Duration::ZERO), small()), ConfigFault::Timeout(Phase::Assembly));
    assert_eq!(fault(ok().with_idle_timeout(Some(Duration::ZERO)), small()), ConfigFault::Timeout(Phase::Idle));
    assert_eq!(fault(ok(), small().with_mtu(127)), ConfigFault::FrameSize { have: 127, need: 128 });
    assert!(matches!(fault(ok(), small().with_slots(8, 7)), ConfigFault::RecvSlots { have: 7, .. }));
    assert!(matches!(fault(ok(), small().with_slots(1, 8)), ConfigFault::SendSlots { have: 1, .. }));
}

#[test]
fn a_buffer_of_another_carrier_comes_back() {
    let (mut left, mut right) = carriers(&small(), DatagramConfig::default());
    let buf = left.try_reserve(5).unwrap();
    let unsent = right.send_buf(buf).unwrap_err();
    assert_eq!(unsent.error.kind(), ErrorKind::ForeignBuffer);
    left.send_buf(unsent.buf).unwrap();
    left.flush().unwrap();
    assert_eq!(block_on(right.recv()).unwrap().unwrap().len(), 5);
}
