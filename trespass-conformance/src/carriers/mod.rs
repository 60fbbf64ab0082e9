//! Carriers: the message carrier over the tracks of a fabric, with another carrier or with a raw peer at the other end.

mod ends;
mod hostile;
mod limits;
mod raw;

use trespass_carriers::{CarrierError, Message, MessageCarrier, MessageConfig};
use trespass_core::{Endpoint, ErrorKind, Fabric, InOrder, Lossless, RecvSide, Role, Track, TransportError, TryError};

use crate::harness::ReliableHarness;
use crate::traffic::{bytes, check, length, pair};
use crate::wait::{RecvWait, Waits, both, both_well, poll_and_drop};

pub use ends::{
    a_carrier_close_has_a_deadline, a_close_sends_what_is_queued, a_fin_is_the_only_clean_end,
    an_end_without_a_fin_is_disconnected, both_carriers_may_close_at_once,
};
pub use hostile::{
    a_peer_that_will_not_do_is_refused_on_both_sides, an_open_has_a_deadline, nonsense_in_a_conversation_is_survived,
    nonsense_in_a_handshake_is_survived, random_frames_are_survived,
};
pub use limits::{a_limit_to_one_call_loses_nothing, a_peer_that_stands_still_is_found};

/// Two carriers that have shaken hands, `client` and `server`.
struct Carriers<F: Fabric<Track: Track<Delivery: Lossless + InOrder>>> {
    client: MessageCarrier<F::Track>,
    server: MessageCarrier<F::Track>,
}

fn carriers<H: ReliableHarness>(h: &H, config: MessageConfig) -> Carriers<H::Fabric> {
    let pair = pair(h);
    let (client, server) = open(h, pair.client, pair.server, [config.clone(), config]);
    Carriers { client, server }
}

fn open<H: ReliableHarness, T: Track<Delivery: Lossless + InOrder>>(
    h: &H,
    client: T,
    server: T,
    [ours, theirs]: [MessageConfig; 2],
) -> (MessageCarrier<T>, MessageCarrier<T>) {
    let connecting = MessageCarrier::open(client, Role::Connector, ours);
    let accepting = MessageCarrier::open(server, Role::Acceptor, theirs);
    let opened = h.wait("two carriers that shake hands", both_well(connecting, accepting));
    opened.unwrap_or_else(|error| panic!("a handshake of two carriers fails: {error}"))
}

/// Sizes such that the longest message takes more frames than a track has slots.
fn config<E: Endpoint>(track: &E) -> MessageConfig {
    let limits = track.limits();
    let frames = 2 * limits.send_slots.max(limits.recv_slots) + 3;
    MessageConfig::default().with_max_message(frames * limits.max_message).with_spill_limit(64 << 20)
}

/// The bytes of message `id` at `len` bytes.
fn message(id: u64, len: usize) -> Vec<u8> {
    bytes(id, len).collect()
}

/// Sends message `id` at `len` bytes.
async fn post<T: Track<Delivery: Lossless + InOrder>>(carrier: &mut MessageCarrier<T>, id: u64, len: usize) {
    let sent = carrier.send(&message(id, len)).await;
    sent.unwrap_or_else(|error| panic!("cannot send message {id} of {len} bytes: {error}"));
}

/// Waits for the next message, which must be message `id` at `len` bytes.
async fn fetch<T: Track<Delivery: Lossless + InOrder>>(
    carrier: &mut MessageCarrier<T>,
    id: u64,
    len: usize,
) -> Message<T> {
    let message = carrier.recv().await.unwrap_or_else(|error| panic!("cannot receive message {id}: {error}"));
    let message = message.unwrap_or_else(|| panic!("a clean end, where message {id} was due"));
    check(&message, id, len);
    message
}

/// What a receive fails with.
async fn receive_error<T: Track<Delivery: Lossless + InOrder>>(
    carrier: &mut MessageCarrier<T>,
) -> CarrierError<T::Error> {
    match carrier.recv().await {
        Ok(Some(message)) => panic!("a message of {} bytes, where an error was due", message.len()),
        Ok(None) => panic!("a clean end, where an error was due"),
        Err(error) => error,
    }
}

fn expect_kind<E: TransportError>(what: &str, error: &E, kind: ErrorKind) {
    assert_eq!(error.kind(), kind, "{what}: {error}");
    assert!(!error.to_string().is_empty(), "{what}: an error that does not say why");
}

/// Two ends with different sizes agree on the smaller ones, and messages pass.
pub fn an_open_agrees_on_sizes<H: ReliableHarness>(h: &H) {
    for (ours, theirs) in [(1, 100), (1 << 16, 5), (300, 300)] {
        let pair = pair(h);
        let config = |max| MessageConfig::default().with_max_message(max);
        let (mut client, mut server) = open(h, pair.client, pair.server, [config(ours), config(theirs)]);
        let max = ours.min(theirs);
        assert_eq!(
            (client.max_message(), server.max_message()),
            (max, max),
            "the longest message, as both ends see it"
        );
        h.wait("a message", both(post(&mut client, 1, max), fetch(&mut server, 1, max)));
        h.wait("a message", both(post(&mut server, 2, max), fetch(&mut client, 2, max)));
        for carrier in [&mut client, &mut server] {
            let refused = h.wait("a refusal", carrier.send(&message(3, max + 1)));
            expect_kind("a message longer than agreed", &refused.expect_err("too long a message"), ErrorKind::Oversize);
        }
    }
}

/// Messages of all lengths arrive whole, both ways; one byte too many is refused before anything is sent.
pub fn messages_of_every_length_arrive_whole<H: ReliableHarness>(h: &H) {
    let pair = pair(h);
    let config = config(&pair.client);
    let frame = pair.client.limits().max_message;
    let (mut client, mut server) = open(h, pair.client, pair.server, [config.clone(), config]);
    let (eager, max) = (client.eager_limit(), client.max_message());
    let edges = [0, 1, 2, eager - 1, eager, eager + 1, frame - 1, frame, frame + 1, 2 * frame, max / 2, max - 1, max];
    for (id, len) in (0..).zip(edges) {
        let what = format_args!("a message of {len} bytes, of {eager} in one frame and {max} at most");
        h.wait(what, both(post(&mut client, id, len), fetch(&mut server, id, len)));
        h.wait(what, both(post(&mut server, !id, len), fetch(&mut client, !id, len)));
        let before = client.stats();
        let refused = h.wait("a refusal", client.send(&message(id, max + 1)));
        expect_kind("a message above the maximum", &refused.expect_err("too long a message"), ErrorKind::Oversize);
        assert_eq!(client.stats(), before, "a message above the maximum was sent in part");
    }
}

/// Messages of any length, both ways at once, sent in each of the ways there are: whole, in order, once.
pub fn messages_arrive_in_order_both_ways<H: ReliableHarness>(h: &H) {
    let pair = pair(h);
    let config = config(&pair.client);
    let (mut client, mut server) = open(h, pair.client, pair.server, [config.clone(), config]);
    let count = h.many(200) as u64;
    h.wait("a conversation", both(converse(&mut client, count, 0, 1 << 32), converse(&mut server, count, 1 << 32, 0)));
    for carrier in [&mut client, &mut server] {
        let more = h.stays(|| match carrier.try_recv() {
            Ok(message) => Some(message.map(|message| message.len())),
            Err(TryError::WouldBlock) => None,
            Err(TryError::Failed(error)) => panic!("a carrier that should live has failed: {error}"),
        });
        assert_eq!(more, None, "something arrived that nobody sent");
    }
}

async fn converse<T: Track<Delivery: Lossless + InOrder>>(
    carrier: &mut MessageCarrier<T>,
    count: u64,
    ours: u64,
    theirs: u64,
) {
    let (eager, max) = (carrier.eager_limit(), carrier.max_message());
    let len = |first: u64, at: u64| length(first + at, if at % 10 == 0 { max } else { eager });
    for at in 0..count {
        let id = ours + at;
        let data = message(id, len(ours, at));
        // In place, in one call, or whatever its length: a way that has no room now leaves it to the last one.
        let sent = match at % 3 {
            0 => carrier.try_send(&data).is_ok(),
            1 => match carrier.try_reserve(data.len()) {
                Ok(mut buf) => {
                    buf.copy_from_slice(&data);
                    carrier.send_buf(buf).is_ok()
                }
                Err(_) => false,
            },
            _ => false,
        };
        if !sent {
            carrier.send(&data).await.unwrap_or_else(|error| panic!("cannot send message {id}: {error}"));
        }
        carrier.flush().unwrap_or_else(|error| panic!("cannot flush message {id}: {error}"));
        if at % 4 == 3 || at + 1 == count {
            for at in at / 4 * 4..=at {
                drop(fetch(carrier, theirs + at, len(theirs, at)).await);
            }
        }
    }
}

/// The standing deadlock test: both ends send many times what all buffers hold, before either receives.
pub fn both_ends_send_before_either_receives<H: ReliableHarness>(h: &H) {
    let pair = pair(h);
    let limits = pair.client.limits();
    let config = config(&pair.client);
    let (mut client, mut server) = open(h, pair.client, pair.server, [config.clone(), config]);
    let max = client.max_message();
    let buffers = (limits.send_slots + limits.recv_slots) * limits.max_message;
    let lengths: Vec<usize> = (0..)
        .map(|id| length(id, max))
        .scan(0, |sum, len| {
            let before = *sum;
            *sum += len;
            (before < 6 * buffers).then_some(len)
        })
        .collect();
    let talk = async |carrier: &mut MessageCarrier<<H::Fabric as Fabric>::Track>, ours: u64, theirs: u64| {
        for (id, len) in (ours..).zip(&lengths) {
            post(carrier, id, *len).await;
        }
        for (id, len) in (theirs..).zip(&lengths) {
            drop(fetch(carrier, id, *len).await);
        }
    };
    let talks = both(talk(&mut client, 0, 1 << 32), talk(&mut server, 1 << 32, 0));
    h.wait("two ends that each send everything before they receive anything", talks);
}

/// What fills up drains again: a receiver that does not look, or that keeps all messages, holds its peer up, and no longer
/// than until it goes on.
pub fn what_fills_up_drains<H: ReliableHarness>(h: &H) {
    let pair = pair(h);
    // Nothing is copied out of the way here.
    let config = config(&pair.client).with_spill_limit(0);
    let (mut client, mut server) = open(h, pair.client, pair.server, [config.clone(), config]);
    let (eager, max) = (client.eager_limit(), client.max_message());
    for round in 0..h.many(4).max(2) as u64 {
        let first = round << 20;
        let mut next = first;
        // As many as go without a receiver that looks; some of them are kept by it then.
        while try_post(&mut client, next, 30.min(eager)) {
            next += 1;
            assert!(next < first + 100_000, "there is no end to what a carrier sends to nobody");
        }
        // Later the credits for what was received may still be on their way, or come just now.
        assert!(next > first || round > 0, "a new carrier has no room");
        let early = usize::from(poll_and_drop(client.send(&[]), 3).is_some());
        assert!(early == 0 || round > 0, "sent, without credits");
        let (sent, kept) = h.wait(
            "a send that waited for credits",
            both(client.send(&[]), async {
                let mut kept = Vec::new();
                for id in first..next {
                    kept.push(fetch(&mut server, id, 30.min(eager)).await);
                    if kept.len() > 2 {
                        kept.remove(0);
                    }
                }
                for _ in 0..early + 1 {
                    drop(fetch(&mut server, 0, 0).await);
                }
                kept
            }),
        );
        sent.unwrap_or_else(|error| panic!("cannot send: {error}"));
        h.wait("a long message after it", both(post(&mut client, 7, max), fetch(&mut server, 7, max)));
        kept.iter().zip(next - kept.len() as u64..).for_each(|(message, id)| check(message, id, 30.min(eager)));
    }
}

/// Sends message `id` if there is room now. Whether there was.
fn try_post<T: Track<Delivery: Lossless + InOrder>>(carrier: &mut MessageCarrier<T>, id: u64, len: usize) -> bool {
    match carrier.try_send(&message(id, len)) {
        Ok(()) => {
            carrier.flush().unwrap_or_else(|error| panic!("cannot flush: {error}"));
            true
        }
        Err(TryError::WouldBlock) => false,
        Err(TryError::Failed(error)) => panic!("no room is WouldBlock, never an error: {error}"),
    }
}

/// A carrier never sends to a receiver that has posted nothing: with a peer that holds every buffer and gives no credits,
/// nothing is left waiting for a receive.
pub fn a_carrier_stays_within_its_credits<H: ReliableHarness>(h: &H) {
    let (mut carrier, mut raw) = raw::greeted(h, MessageConfig::default().with_max_message(1 << 16));
    let slots = raw.limits().recv_slots;
    let mut held = vec![h.wait("an answer", raw::hear(&mut raw, raw::kind::WELCOME))];
    let mut sent = 0;
    for id in 0..4 * slots as u64 {
        sent += usize::from(try_post(&mut carrier, id, 40));
        // A long one too, which would go on by itself, and is withdrawn.
        let long = message(1, carrier.max_message());
        drop(poll_and_drop(carrier.send(&long), 2));
    }
    sent += carrier.stats().segments_sent as usize;
    assert!(sent > 0, "a new carrier has no room");
    assert!(sent < slots, "{sent} frames and an answer were sent to a peer with {slots} receives");
    h.spin("all that was sent", || {
        held.extend(crate::traffic::now(raw.try_recv()));
        (held.len() > sent).then_some(())
    });
    // Withdrawals may follow.
    h.stays(|| {
        held.extend(crate::traffic::now(raw.try_recv()));
        None::<()>
    });
    assert!(held.len() <= slots, "more frames than receives");
    // Room for more, of which the carrier knows nothing: what was sent beyond its credits would come now.
    held.clear();
    let more = h.stays(|| crate::traffic::now(raw.try_recv()).map(|buf| buf.len()));
    assert_eq!(more, None, "a frame was sent to a receiver that had posted nothing for it");
    // It learns, and goes on.
    let credit = raw::frame(raw::kind::CREDIT, raw.posted(), &[]);
    h.wait("a credit update", raw::say(&mut raw, &credit));
    h.wait("a send with new credits", carrier.send(&message(2, 40)))
        .unwrap_or_else(|error| panic!("cannot send: {error}"));
    drop(
        h.wait("a frame after new credits", raw.recv()).unwrap_or_else(|error| panic!("the track has ended: {error}")),
    );
}

/// A send that is dropped before it is ready withdraws its message: not even a part of it arrives.
pub fn a_dropped_send_is_withdrawn<H: ReliableHarness>(h: &H) {
    let pair = pair(h);
    let config = config(&pair.client);
    let (mut client, mut server) = open(h, pair.client, pair.server, [config.clone(), config]);
    let (eager, max) = (client.eager_limit(), client.max_message());
    let mut withdrawn = 0;
    for polls in 0..h.many(24).max(8) {
        let len = if polls % 2 == 0 { max } else { eager.min(40) };
        let marker = 1000 + polls as u64;
        let mut before = 0;
        // A short one is ready at once unless there are no credits left.
        while len < max && try_post(&mut client, before, 5) {
            before += 1;
        }
        let whole = poll_and_drop(client.send(&message(500, len)), polls / 2).is_some();
        withdrawn += u64::from(!whole && polls > 1);
        let received = async {
            for id in 0..before {
                drop(fetch(&mut server, id, 5).await);
            }
            if whole {
                drop(fetch(&mut server, 500, len).await);
            }
            drop(fetch(&mut server, marker, 11).await);
        };
        h.wait("the message after one that was withdrawn", both(post(&mut client, marker, 11), received));
    }
    assert!(withdrawn > 0, "no send had to wait: nothing was shown");
}
