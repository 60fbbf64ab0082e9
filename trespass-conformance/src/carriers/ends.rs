//! How carriers end.

use std::time::Duration;

use trespass_carriers::{MessageCarrier, MessageConfig};
use trespass_core::{Endpoint, ErrorKind, InOrder, Lossless, RecvSide, Timer, Track, TransportError};

use crate::carriers::{carriers, expect_kind, fetch, message, post, raw, receive_error, try_post};
use crate::ends::assert_in_time;
use crate::harness::ReliableHarness;
use crate::traffic::{bytes, now, settle};
use crate::wait::{Waits, both};

/// After a FIN there are no more messages, again and again, and the other direction goes on; after both the close is clean.
pub fn a_fin_is_the_only_clean_end<H: ReliableHarness>(h: &H) {
    let mut carriers = carriers(h, MessageConfig::default());
    let (client, server) = (&mut carriers.client, &mut carriers.server);
    let say = async {
        for id in 0..20 {
            post(client, id, 100).await;
        }
        client.finish().await?;
        client.finish().await
    };
    let hear = async {
        for id in 0..20 {
            drop(fetch(server, id, 100).await);
        }
    };
    let (finished, ()) = h.wait("messages and a FIN", both(say, hear));
    finished.unwrap_or_else(|error| panic!("cannot finish: {error}"));
    let refused = h.wait("a refusal", client.send(&[1])).expect_err("sent after the FIN");
    expect_kind("a send after a FIN", &refused, ErrorKind::Closed);
    for _ in 0..3 {
        expect_clean_end(h, server);
    }
    for id in 10..30 {
        h.wait("a message the other way", both(post(server, id, 100), fetch(client, id, 100)));
    }
    h.wait("a FIN", server.finish()).unwrap_or_else(|error| panic!("cannot finish: {error}"));
    expect_clean_end(h, client);
    let (ours, theirs) = h.wait("both closes", both(client.close(), server.close()));
    ours.and(theirs).unwrap_or_else(|error| panic!("a close after both FINs is not clean: {error}"));
}

fn expect_clean_end<H: ReliableHarness, T: Track<Delivery: Lossless + InOrder>>(
    h: &H,
    carrier: &mut MessageCarrier<T>,
) {
    match h.wait("a clean end", carrier.recv()) {
        Ok(None) => {}
        Ok(Some(message)) => panic!("a message of {} bytes after the FIN", message.len()),
        Err(error) => panic!("{error}, where the end is clean"),
    }
}

/// The end of the track without a FIN is `Disconnected`, after all that had arrived, and of a message in segments that
/// were not all there nothing is shown.
pub fn an_end_without_a_fin_is_disconnected<H: ReliableHarness>(h: &H) {
    for in_a_message in [false, true] {
        let (mut carrier, mut raw) = raw::greeted(h, MessageConfig::default());
        drop(h.wait("an answer", raw::hear(&mut raw, raw::kind::WELCOME)));
        let mut frames: Vec<_> = (0..4).map(|id| (raw::kind::MESSAGE, message(id, 60))).collect();
        if in_a_message {
            let total = 500_u64.to_le_bytes();
            frames.push((raw::kind::FIRST, total.into_iter().chain(bytes(9, 100)).collect()));
        }
        for (kind, body) in frames {
            let frame = raw::frame(kind, raw.posted(), &body);
            h.wait("a slot", raw::say(&mut raw, &frame));
        }
        // All slots are free: everything has arrived.
        settle(h, &mut raw);
        drop(raw);
        for id in 0..4 {
            drop(h.wait("a message that came before the end", fetch(&mut carrier, id, 60)));
        }
        for _ in 0..3 {
            let error = h.wait("the end of a carrier whose peer is gone", receive_error(&mut carrier));
            expect_kind("the end of a carrier whose peer is gone", &error, ErrorKind::Disconnected);
        }
    }
    // A carrier that is dropped has not said goodbye either.
    let mut carriers = carriers(h, MessageConfig::default());
    drop(carriers.client);
    let error = h.wait("the end of a carrier whose peer was dropped", receive_error(&mut carriers.server));
    expect_kind("the end of a carrier whose peer was dropped", &error, ErrorKind::Disconnected);
}

/// A close sends what is queued, and says goodbye: the peer receives everything, and then a clean end. It may be asked for
/// again and again; after it nothing can be sent.
pub fn a_close_sends_what_is_queued<H: ReliableHarness>(h: &H) {
    let mut carriers = carriers(h, MessageConfig::default());
    let (client, server) = (&mut carriers.client, &mut carriers.server);
    let mut sent = 0;
    while sent < 6 && client.try_send(&message(sent, 100)).is_ok() {
        sent += 1;
    }
    assert!(sent > 0, "a new carrier has no room");
    let receive = async {
        for id in 0..sent {
            drop(fetch(server, id, 100).await);
        }
        server.recv().await.map(|message| message.is_none())
    };
    let (closed, ended) = h.wait("a close, and what was queued before it", both(client.close(), receive));
    closed.unwrap_or_else(|error| panic!("the close is not clean: {error}"));
    assert!(ended.unwrap_or_else(|error| panic!("{error}, where the end is clean")), "a message after the goodbye");
    for _ in 0..3 {
        h.wait("a close again", client.close()).unwrap_or_else(|error| panic!("the close again is not clean: {error}"));
        let refused = h.wait("a refusal", client.send(&[1])).expect_err("sent after a close");
        expect_kind("a send after a close", &refused, ErrorKind::Closed);
    }
    h.wait("the peer's close", server.close()).unwrap_or_else(|error| panic!("the peer's close is not clean: {error}"));
}

/// Both ends may close at the same time, each with messages under way.
pub fn both_carriers_may_close_at_once<H: ReliableHarness>(h: &H) {
    for _ in 0..h.many(4) {
        let mut carriers = carriers(h, MessageConfig::default());
        let (client, server) = (&mut carriers.client, &mut carriers.server);
        h.wait("messages", both(post(client, 1, 100), post(server, 2, 100)));
        let (ours, theirs) = h.wait("both closes", both(client.close(), server.close()));
        ours.and(theirs).unwrap_or_else(|error| panic!("a close at the same time as the peer's is not clean: {error}"));
    }
}

/// A close that cannot be clean, because the peer takes nothing, ends with `TimedOut` at the configured deadline.
pub fn a_carrier_close_has_a_deadline<H: ReliableHarness>(h: &H) {
    let timeout = Duration::from_millis(300);
    let (mut carrier, mut raw) = raw::greeted(h, MessageConfig::default().with_close_timeout(timeout));
    let slots = raw.limits().recv_slots;
    let mut held = vec![h.wait("an answer", raw::hear(&mut raw, raw::kind::WELCOME))];
    // The raw peer takes frames, holds the buffers, and promises room that it does not have, but never beyond its window.
    let promise = async |carrier: &mut MessageCarrier<_>, raw: &mut _, sent: usize| {
        raw::say(raw, &raw::frame(raw::kind::CREDIT, (sent + slots) as u64, &[])).await;
        std::future::poll_fn(|cx| carrier.poll_send_ready(cx)).await;
    };
    // The answer, and what follows it.
    let mut sent = 1;
    while held.len() < slots {
        match try_post(&mut carrier, 1, 40) {
            true => sent += 1,
            false => h.wait("new credits", promise(&mut carrier, &mut raw, sent)),
        }
        held.extend(now(raw.try_recv()));
    }
    if !try_post(&mut carrier, 1, 40) {
        h.wait("new credits", promise(&mut carrier, &mut raw, sent));
        assert!(try_post(&mut carrier, 1, 40), "no room, with new credits");
    }
    let timer = raw.timer();
    let start = timer.now();
    let result = h.wait("a close that cannot be clean", carrier.close());
    let took = timer.now() - start;
    expect_kind("a close past its deadline", &result.expect_err("a clean close"), ErrorKind::TimedOut);
    assert!(took >= timeout / 2, "a close gave up after {took:?}, and its deadline is {timeout:?}");
    assert_in_time("a close of a carrier that cannot be clean", took, timeout);
    let again = h.wait("the same close again", carrier.close()).expect_err("a clean close");
    assert_eq!(again.kind(), ErrorKind::TimedOut, "the same close again: {again}");
    drop(held);
}
