//! Peers that do not suit, say nothing, or speak nonsense.

use std::time::Duration;

use trespass_carriers::{MessageCarrier, MessageConfig};
use trespass_core::{Endpoint, ErrorKind, InOrder, Lossless, RecvSide, Role, SendSide, Timer, Track, TransportError};

use crate::carriers::raw::{self, Offer, frame, greet, kind};
use crate::carriers::{expect_kind, message};
use crate::ends::assert_in_time;
use crate::harness::ReliableHarness;
use crate::traffic::{Pair, join, listen, pair, receive_end, settle};
use crate::wait::{Dice, RecvWait, SendWait, Waits, both};

/// A peer of another kind or version, or with sizes that will not do, is refused, and both sides learn why.
pub fn a_peer_that_will_not_do_is_refused_on_both_sides<H: ReliableHarness>(h: &H) {
    type Edit = fn(&mut Offer);
    let edits: [(&str, Edit); 7] = [
        ("a later version", |offer| offer.versions = (2, 9)),
        ("no version yet", |offer| offer.versions = (0, 0)),
        ("another kind", |offer| offer.kind = 2),
        ("an unknown feature", |offer| offer.required = 1 << 63),
        ("too few receives", |offer| offer.window = 1),
        ("too many receives", |offer| offer.window = u32::MAX),
        ("too short frames", |offer| (offer.max_frame, offer.eager_limit) = (16, 8)),
    ];
    let fabrics = h.fabrics();
    let mut listener = listen(h, &fabrics.server);
    for (what, edit) in edits {
        for role in [Role::Connector, Role::Acceptor] {
            let (client, server) = join(h, &fabrics.client, &mut listener);
            let (opened, mut raw) = greet(h, server, client, role, MessageConfig::default(), edit);
            let error = opened.err().unwrap_or_else(|| panic!("a peer with {what} was accepted as {role:?}"));
            expect_kind(what, &error, ErrorKind::Refused);
            drop(h.wait("the refusal, at the peer", raw::hear(&mut raw, kind::REFUSE)));
            receive_end(h, &mut raw);
        }
    }
    // The other way round: what a peer says why it refuses is what the open fails with.
    let (client, server) = join(h, &fabrics.client, &mut listener);
    let mut raw = server;
    let opening = MessageCarrier::open(client, Role::Connector, MessageConfig::default());
    let refuse = async {
        drop(raw::hear(&mut raw, kind::HELLO).await);
        let mut reason = [0; 16];
        (reason[0], reason[8]) = (3, 77);
        raw::say(&mut raw, &frame(kind::REFUSE, 0, &reason)).await;
    };
    let (opened, ()) = h.wait("a refusal by the peer", both(opening, refuse));
    let error = opened.expect_err("a refusal");
    expect_kind("an open that the peer refuses", &error, ErrorKind::Refused);
    assert!(error.to_string().contains("77"), "an open that the peer refuses does not say why: {error}");
}

/// An open against a peer that says nothing ends with `TimedOut` at the configured deadline.
pub fn an_open_has_a_deadline<H: ReliableHarness>(h: &H) {
    for role in [Role::Connector, Role::Acceptor] {
        let Pair { client, server: mut silent, .. } = pair(h);
        let timeout = Duration::from_millis(200);
        let timer = client.timer();
        let start = timer.now();
        let config = MessageConfig::default().with_open_timeout(timeout);
        let opened = h.wait("an open against silence", MessageCarrier::open(client, role, config));
        let took = timer.now() - start;
        expect_kind("an open against silence", &opened.expect_err("a failure"), ErrorKind::TimedOut);
        assert!(took >= timeout / 2, "an open gave up after {took:?}, and its deadline is {timeout:?}");
        assert_in_time("an open against silence", took, timeout);
        // What it said is there; then the track has ended.
        if role == Role::Connector {
            drop(h.wait("a greeting", raw::hear(&mut silent, kind::HELLO)));
        }
        receive_end(h, &mut silent);
    }
}

/// Whatever comes instead of a handshake, the answer is a typed error and a closed track.
pub fn nonsense_in_a_handshake_is_survived<H: ReliableHarness>(h: &H) {
    let fabrics = h.fabrics();
    let mut listener = listen(h, &fabrics.server);
    let (sample, _other) = join(h, &fabrics.client, &mut listener);
    let good = Offer::of(&sample, 1000);
    let body = good.bytes();
    let hello = |offer: Offer| frame(kind::HELLO, 8, &offer.bytes());
    let mut frames = vec![
        ("nothing", vec![]),
        ("seven bytes", vec![kind::HELLO; 7]),
        ("a header alone", frame(kind::HELLO, 8, &[])),
        ("a short handshake", frame(kind::HELLO, 8, &body[..63])),
        ("a handshake that lies about its length", frame(kind::HELLO, 8, &[&body[..], &[0; 5]].concat())),
        ("another magic", hello(Offer { magic: *b"trespasS", ..good.clone() })),
        ("versions the wrong way round", hello(Offer { versions: (3, 1), ..good.clone() })),
        ("no message at all", hello(Offer { max_message: 0, eager_limit: 0, ..good.clone() })),
        ("a message that is longer than itself", hello(Offer { eager_limit: u32::MAX, ..good.clone() })),
        ("credits beyond the window", frame(kind::HELLO, u64::from(good.window) + 5000, &body)),
        ("a message", frame(kind::MESSAGE, 8, &[1; 50])),
        ("a FIN", frame(kind::FIN, 8, &[])),
        ("a flag", {
            let mut bytes = hello(good.clone());
            bytes[1] = 1;
            bytes
        }),
    ];
    let mut dice = Dice::new(3);
    frames.extend((0..10).map(|_| ("random bytes", random_bytes(&mut dice, 100))));
    for (what, bytes) in frames {
        let (mut raw, server) = join(h, &fabrics.client, &mut listener);
        let opening = MessageCarrier::open(server, Role::Acceptor, MessageConfig::default());
        let (opened, ()) = h.wait(format_args!("an answer to {what}"), both(opening, raw::say(&mut raw, &bytes)));
        let error = opened.err().unwrap_or_else(|| panic!("{what} was accepted as a handshake"));
        expect_kind(what, &error, ErrorKind::Protocol);
        // Maybe a refusal; then the end.
        let end = h.wait("the end of the track", async {
            loop {
                if let Err(error) = raw.recv().await {
                    break error;
                }
            }
        });
        assert_eq!(end.kind(), ErrorKind::Closed, "the end of the track after {what}: {end}");
    }
}

fn random_bytes(dice: &mut Dice, up_to: usize) -> Vec<u8> {
    (0..dice.below(up_to)).map(|_| dice.roll().to_le_bytes()[0]).collect()
}

/// Whatever comes after the handshake against the protocol, the answer is a typed error and a closed track.
pub fn nonsense_in_a_conversation_is_survived<H: ReliableHarness>(h: &H) {
    let first = |total: u64, len| (kind::FIRST, [&total.to_le_bytes()[..], &message(1, len)].concat());
    let plain = |kind| (kind, vec![]);
    let cases = [
        ("an unknown kind", vec![plain(99)]),
        ("a kind that is zero", vec![plain(0)]),
        ("a handshake again", vec![(kind::HELLO, vec![0; 64])]),
        ("credits with a body", vec![(kind::CREDIT, vec![1])]),
        ("a FIN with a body", vec![(kind::FIN, vec![1])]),
        ("a beginning without a length", vec![(kind::FIRST, vec![1; 7])]),
        ("a beginning without a byte", vec![first(500, 0)]),
        ("a message that is too long", vec![first(1001, 100)]),
        ("a message that is far too long", vec![first(u64::MAX, 100)]),
        ("a beginning with more than the whole", vec![first(50, 100)]),
        ("a segment of nothing", vec![(kind::MORE, message(1, 100))]),
        ("an empty segment", vec![first(500, 100), plain(kind::MORE)]),
        ("a segment too many", vec![first(150, 100), (kind::MORE, message(1, 51))]),
        ("a beginning in the middle", vec![first(500, 100), first(500, 100)]),
        ("a message in the middle", vec![first(500, 100), (kind::MESSAGE, message(1, 10))]),
        ("a FIN in the middle", vec![first(500, 100), plain(kind::FIN)]),
        ("the withdrawal of nothing", vec![plain(kind::ABORT)]),
        ("a message after the FIN", vec![plain(kind::FIN), (kind::MESSAGE, message(1, 10))]),
        ("a message in one frame that is too long", vec![(kind::MESSAGE, message(1, 1001))]),
    ];
    for (what, frames) in cases {
        let config = MessageConfig::default().with_max_message(1000);
        let (mut carrier, mut raw) = raw::greeted(h, config);
        let posted = raw.posted();
        let frames = frames.into_iter().map(|(kind, body)| frame(kind, posted, &body)).collect();
        expect_protocol_error(h, what, &mut carrier, &mut raw, frames);
    }
    let window = 8;
    let lies = [("a frame without a header", vec![1, 2, 3]), ("an empty frame", vec![])];
    for (what, bytes) in lies {
        let (mut carrier, mut raw) = raw::greeted(h, MessageConfig::default());
        expect_protocol_error(h, what, &mut carrier, &mut raw, vec![bytes]);
    }
    for (what, ahead) in [("credits far beyond the window", 1 << 20), ("credits that are taken back", u64::MAX)] {
        let (mut carrier, mut raw) = raw::greeted(h, MessageConfig::default());
        let posted = raw.posted().max(window).wrapping_add(ahead);
        expect_protocol_error(h, what, &mut carrier, &mut raw, vec![frame(kind::CREDIT, posted, &[])]);
    }
}

fn expect_protocol_error<H: ReliableHarness, T>(
    h: &H,
    what: &str,
    carrier: &mut MessageCarrier<T>,
    raw: &mut T,
    frames: Vec<Vec<u8>>,
) where
    T: Track<Delivery: Lossless + InOrder>,
{
    for bytes in &frames {
        h.wait("a slot", raw::say(raw, bytes));
    }
    // All of it is there before the carrier looks: one that has seen a FIN need not wait for more.
    settle(h, raw);
    let clean = h.wait(format_args!("an answer to {what}"), async {
        // A FIN before the nonsense may be seen first, and be there first: then the nonsense is found by who has something to
        // send, at the latest when there are no credits left.
        match carrier.recv().await {
            Ok(None) => loop {
                if let Err(error) = carrier.send(b"more").await {
                    break Some(error);
                }
            },
            Ok(Some(message)) => panic!("{what}: a message of {} bytes", message.len()),
            Err(error) => Some(error),
        }
    });
    let error = clean.unwrap_or_else(|| panic!("{what} was taken for a clean end"));
    expect_kind(what, &error, ErrorKind::Protocol);
    let end = h.wait("the end of the track", async {
        loop {
            if let Err(error) = raw.recv().await {
                break error;
            }
        }
    });
    assert_eq!(end.kind(), ErrorKind::Closed, "the end of the track after {what}: {end}");
}

/// Frames at random, most of them of a known kind: no panic, and an end.
pub fn random_frames_are_survived<H: ReliableHarness>(h: &H) {
    let fabrics = h.fabrics();
    let mut listener = listen(h, &fabrics.server);
    let mut dice = Dice::new(17);
    let kinds = [kind::HELLO, kind::MESSAGE, kind::FIRST, kind::MORE, kind::ABORT, kind::CREDIT, kind::FIN, 34, 35];
    for _ in 0..h.many(40) {
        let (client, server) = join(h, &fabrics.client, &mut listener);
        let config = MessageConfig::default().with_max_message(3000);
        let (opened, mut raw) = greet(h, server, client, Role::Acceptor, config, |_| {});
        let mut carrier = opened.unwrap_or_else(|error| panic!("a good handshake fails: {error}"));
        let posted = raw.posted();
        let talk = async {
            for _ in 0..30 {
                let kind = kinds[dice.below(kinds.len())];
                let mut body = random_bytes(&mut dice, 60);
                if kind == kind::FIRST && body.len() > 8 {
                    body[..8].copy_from_slice(&(dice.below(4000) as u64).to_le_bytes());
                }
                let credits = if dice.below(8) == 0 { dice.roll() } else { posted };
                let bytes = frame(kind, credits, &body);
                // The carrier may have closed the track.
                let Ok(mut buf) = raw.reserve(bytes.len()).await else { return };
                buf.copy_from_slice(&bytes);
                if raw.send(buf).is_err() || raw.flush().is_err() {
                    return;
                }
            }
        };
        let listen = async {
            loop {
                match carrier.recv().await {
                    Ok(Some(message)) => assert!(message.len() <= 3000, "a message of {} bytes", message.len()),
                    Ok(None) => break,
                    Err(error) => {
                        expect_kind("an answer to random frames", &error, ErrorKind::Protocol);
                        break;
                    }
                }
            }
            drop(carrier);
        };
        h.wait("an answer to random frames", both(talk, listen));
    }
}
