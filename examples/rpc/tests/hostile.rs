//! Clients that get every field wrong: each is answered, or its connection ended with a reason, and others are served on.
#![cfg(feature = "mock")]

#[path = "support/raw.rs"]
mod raw;
#[path = "support/mod.rs"]
mod support;

use proptest::prelude::*;
use raw::{
    CALL, CANCEL, CREDIT, DONE, END, FAULT, HELLO, ITEM, LAST, LEAVE, MORE, PART, RawClient, RawFrame, call, frame,
    hello,
};
use support::{World, addr};
use trespass_example_rpc::arith::{Divide, Division};
use trespass_example_rpc::{ChannelConfig, Rejection, ServeConfig};

const DIVIDE: u32 = 1;
const ECHO: u32 = 2;
const COUNT: u32 = 3;
const SUM: u32 = 4;
const NEVER: u64 = u64::MAX;
const MAX_CALLS: u16 = 8;
/// 91 / 7, as postcard has it.
const GOOD: [u8; 3] = [0xb6, 0x01, 14];

fn config() -> ServeConfig {
    ServeConfig::default().with_max_calls(MAX_CALLS).with_max_message(1000).with_window(2000)
}

/// Says `frames` after a good greeting. What the server says until a good call at the end, which the others must not disturb, has its
/// reply, or until it ends the connection; and then another client is served.
fn answers(frames: Vec<RawFrame>) -> Vec<RawFrame> {
    answers_to_bytes(frames.iter().flat_map(RawFrame::bytes).collect())
}

fn answers_to_bytes(bytes: Vec<u8>) -> Vec<RawFrame> {
    let world = World::slow(3);
    let (handle, channel) = (world.serve_arith(config()), world.channel(ChannelConfig::default()));
    let fabric = world.client.clone();
    world.run(handle, async move {
        let mut client = RawClient::connect(&fabric, &addr()).await;
        if !bytes.is_empty() {
            client.say_bytes(&bytes).await;
        }
        let last = MAX_CALLS - 1;
        client.say(&[call(0, last, NEVER, DIVIDE, NEVER, &GOOD)]).await;
        let mut heard = Vec::new();
        while let Some(frame) = client.next().await {
            if frame.index == last && frame.generation == NEVER {
                assert_eq!((frame.kind, frame.flags, &frame.body[..]), (ITEM, LAST, &[26][..]), "the good call");
                break;
            }
            heard.push(frame);
        }
        client.close().await;
        let division = Division { dividend: 91, divisor: 7 };
        assert_eq!(channel.call(Divide, &division).await, Ok(13), "others are served");
        channel.close().await;
        heard
    })
}

fn rejected(index: u16, generation: u64, rejection: Rejection) -> RawFrame {
    frame(END, 0, index, generation, &[2, rejection.number()])
}

#[test]
fn a_good_client_is_served() {
    let replies = answers(vec![call(0, 0, 1, DIVIDE, NEVER, &GOOD), call(0, 1, 1, DIVIDE, 5_000_000, &[2, 0])]);
    assert_eq!(replies[0], frame(ITEM, LAST, 0, 1, &[26]));
    // 1 / 0: the service says no.
    assert_eq!((replies[1].kind, &replies[1].body[..2]), (END, &[1, 3][..]));
    assert_eq!(replies.len(), 2);
}

#[test]
fn calls_that_make_no_sense_are_rejected() {
    let reject = |frames: Vec<RawFrame>, rejection| {
        let generation = frames[0].generation;
        let index = frames[0].index;
        assert_eq!(answers(frames.clone()), [rejected(index, generation, rejection)], "{frames:?}");
    };
    reject(vec![call(0, 0, 1, 99, NEVER, &GOOD)], Rejection::UnknownMethod);
    reject(vec![call(0, 0, 1, u32::MAX, NEVER, &[])], Rejection::UnknownMethod);
    reject(vec![call(0, 0, 1, DIVIDE, 0, &GOOD)], Rejection::DeadlineExceeded);
    // A request that is cut short, one with something behind it, and none.
    reject(vec![call(0, 0, 1, DIVIDE, NEVER, &GOOD[..2])], Rejection::BadRequest);
    reject(vec![call(0, 0, 1, DIVIDE, NEVER, &[&GOOD[..], &[0]].concat())], Rejection::BadRequest);
    reject(vec![call(0, 0, 1, DIVIDE, NEVER, &[])], Rejection::BadRequest);
    reject(vec![call(0, 0, 1, DIVIDE, NEVER, &[0xff; 30])], Rejection::BadRequest);
    // An index beyond what the server said.
    reject(vec![call(0, MAX_CALLS, 1, DIVIDE, NEVER, &GOOD)], Rejection::Busy);
    reject(vec![call(0, u16::MAX, 1, DIVIDE, NEVER, &GOOD)], Rejection::Busy);
    // Too long, at once and in parts.
    reject(vec![call(0, 0, 1, ECHO, NEVER, &[0; 1001])], Rejection::TooLarge);
    let parts = vec![call(MORE, 0, 1, ECHO, NEVER, &[0; 600]), frame(PART, 0, 0, 1, &[0; 600])];
    reject(parts, Rejection::TooLarge);
    // A stream of requests has none in the call.
    reject(vec![call(0, 0, 1, SUM, NEVER, &[1])], Rejection::Protocol);
    reject(vec![call(MORE, 0, 1, SUM, NEVER, &[])], Rejection::Protocol);
}

#[test]
fn frames_of_streams_out_of_place_end_their_call() {
    let sum = || call(0, 0, 1, SUM, NEVER, &[]);
    let reject = |frames: Vec<RawFrame>| {
        let heard = answers(frames.clone());
        let ends: Vec<_> = heard.iter().filter(|frame| frame.kind == END).collect();
        assert_eq!(ends, [&rejected(0, 1, Rejection::Protocol)], "{frames:?} {heard:?}");
    };
    // Of a call that has no streams, while it runs.
    let running = || call(MORE, 0, 1, ECHO, NEVER, &[1]);
    reject(vec![running(), frame(ITEM, 0, 0, 1, &[1])]);
    reject(vec![running(), frame(DONE, 0, 0, 1, &[])]);
    reject(vec![running(), frame(CREDIT, 0, 0, 1, &1_u32.to_le_bytes())]);
    reject(vec![running(), frame(PART, LAST, 0, 1, &[1])]);
    // A part of nothing, a message in the middle of another, an end there, and anything after the end.
    reject(vec![sum(), frame(PART, 0, 0, 1, &[1])]);
    reject(vec![sum(), frame(ITEM, MORE, 0, 1, &[1]), frame(ITEM, 0, 0, 1, &[1])]);
    reject(vec![sum(), frame(ITEM, MORE, 0, 1, &[1]), frame(DONE, 0, 0, 1, &[])]);
    // The end of the requests in the same message as what comes after it: the service has had no turn yet.
    reject(vec![sum(), frame(DONE, 0, 0, 1, &[]), frame(ITEM, 0, 0, 1, &[1])]);
    reject(vec![sum(), frame(DONE, 0, 0, 1, &[]), frame(DONE, 0, 0, 1, &[])]);
    // Credits that nobody owes.
    reject(vec![sum(), frame(CREDIT, 0, 0, 1, &1_u32.to_le_bytes())]);
    let count = call(0, 0, 1, COUNT, NEVER, &[0xff, 0xff, 0xff, 0x7f]);
    reject(vec![count, frame(CREDIT, 0, 0, 1, &u32::MAX.to_le_bytes())]);
    // A message of a stream that is too long, and more than the window has.
    reject(vec![sum(), frame(ITEM, MORE, 0, 1, &[0; 900]), frame(PART, 0, 0, 1, &[0; 200])]);
    reject([vec![sum()], vec![frame(ITEM, 0, 0, 1, &[2]); 40]].concat());
    // A message that is none ends the service's own way: with a status.
    let heard = answers(vec![sum(), frame(ITEM, 0, 0, 1, &[0xff])]);
    assert_eq!((heard[0].kind, &heard[0].body[..2]), (END, &[1, 3][..]));
}

#[test]
fn wrong_ids_are_told_or_come_too_late() {
    for kind in [ITEM, PART, DONE] {
        // A call that was never made.
        assert_eq!(answers(vec![frame(kind, 0, 3, 7, &[])]), [rejected(3, 7, Rejection::Protocol)]);
        assert_eq!(answers(vec![frame(kind, 0, 500, 7, &[])]), [rejected(500, 7, Rejection::Protocol)]);
        // One that has ended.
        let late =
            answers(vec![call(0, 0, 5, DIVIDE, NEVER, &GOOD), frame(CANCEL, 0, 0, 5, &[]), frame(kind, 0, 0, 5, &[])]);
        assert!(late.iter().all(|frame| frame.kind == ITEM), "{late:?}");
    }
    assert_eq!(answers(vec![frame(CANCEL, 0, 3, 7, &[])]), [], "nothing to cancel");
    assert_eq!(answers(vec![frame(CREDIT, 0, 3, 7, &1_u32.to_le_bytes())]), [rejected(3, 7, Rejection::Protocol)]);
    // An id that was used, and an index that is in use.
    let rest = call(MORE, 0, 5, ECHO, NEVER, &[]);
    for generation in [4, 5, 6] {
        let again = answers(vec![rest.clone(), call(0, 0, generation, DIVIDE, NEVER, &GOOD)]);
        assert_eq!(again, [rejected(0, generation, Rejection::Protocol)]);
    }
}

/// Framing that is broken: the server says why, and goes.
#[test]
fn broken_framing_ends_the_connection_and_says_why() {
    let ends = |bytes: Vec<u8>, reason: u8| {
        assert_eq!(answers_to_bytes(bytes.clone()), [frame(FAULT, 0, 0, 0, &[reason])], "{bytes:?}");
    };
    let good = call(0, 0, 1, DIVIDE, NEVER, &GOOD);
    for len in 1..good.bytes().len() {
        ends(good.bytes()[..len].to_vec(), 1);
    }
    ends(good.bytes_that_say(1 << 31), 1);
    ends(good.bytes_that_say(u32::MAX), 1);
    for kind in [0, 11, 128, 255] {
        ends(RawFrame { kind, ..good.clone() }.bytes(), 2);
    }
    for flags in [2, 3, 4, 128, 255] {
        ends(RawFrame { flags, ..good.clone() }.bytes(), 3);
    }
    ends(frame(ITEM, MORE | LAST, 0, 1, &[]).bytes(), 3);
    ends(frame(CANCEL, MORE, 0, 1, &[]).bytes(), 3);
    ends(RawFrame { generation: 0, ..good.clone() }.bytes(), 3);
    ends(frame(LEAVE, 0, 1, 1, &[]).bytes(), 3);
    ends(frame(CALL, 0, 0, 1, &[0; 11]).bytes(), 4);
    ends(frame(DONE, 0, 0, 1, &[0]).bytes(), 4);
    ends(frame(CANCEL, 0, 0, 1, &[0]).bytes(), 4);
    ends(frame(CREDIT, 0, 0, 1, &[0; 3]).bytes(), 4);
    ends(frame(CREDIT, 0, 0, 1, &[0; 5]).bytes(), 4);
    ends(frame(LEAVE, 0, 0, 0, &[1]).bytes(), 4);
    ends(frame(FAULT, 0, 0, 0, &[]).bytes(), 4);
    // What only a server says, a second greeting, and a fault that is told.
    ends(frame(LEAVE, 0, 0, 0, &[]).bytes(), 6);
    ends(frame(END, 0, 0, 1, &[0, 0]).bytes(), 6);
    ends(frame(END, 0, 0, 1, &[1, 99]).bytes(), 7);
    ends(frame(END, 0, 0, 1, &[2, 99]).bytes(), 7);
    ends(frame(END, 0, 0, 1, &[3]).bytes(), 7);
    ends(hello(0, 1, 1).bytes(), 6);
    ends(frame(FAULT, 0, 0, 0, &[77]).bytes(), 77);
}

#[test]
fn greetings_that_will_not_do_end_the_connection() {
    let mut other = hello(0, 1 << 16, 1 << 16);
    other.body[0] ^= 1;
    let mut version = hello(0, 1 << 16, 1 << 16);
    version.body[8] = 2;
    let mut long = hello(0, 1 << 16, 1 << 16);
    long.body.push(0);
    for (first, reason) in [
        (other, 5),
        (version, 5),
        (long, 4),
        (hello(0, 0, 1 << 16), 5),
        (hello(0, 1 << 31, 1 << 16), 5),
        (hello(0, 1 << 16, 0), 5),
        (call(0, 0, 1, DIVIDE, NEVER, &GOOD), 5),
        (frame(0, 0, 0, 0, &[]), 2),
    ] {
        let world = World::slow(4);
        let (handle, channel) = (world.serve_arith(config()), world.channel(ChannelConfig::default()));
        let fabric = world.client.clone();
        world.run(handle, async move {
            let mut client = RawClient::connect_silently(&fabric, &addr()).await;
            client.say(std::slice::from_ref(&first)).await;
            assert_eq!(client.next().await.map(|frame| frame.kind), Some(HELLO));
            assert_eq!(client.next().await, Some(frame(FAULT, 0, 0, 0, &[reason])), "{first:?}");
            assert_eq!(client.next().await, None);
            client.close().await;
            assert_eq!(channel.call(Divide, &Division { dividend: 91, divisor: 7 }).await, Ok(13));
            channel.close().await;
        });
    }
}

/// A frame that is likely to be nearly right.
fn any_frame() -> impl Strategy<Value = RawFrame> {
    let generation = prop_oneof![4 => 1..4_u64, 1 => any::<u64>()];
    let body = prop_oneof![
        3 => (1..8_u32, any::<u64>(), prop::collection::vec(any::<u8>(), 0..8))
            .prop_map(|(method, micros, request)| call(0, 0, 0, method, micros, &request).body),
        2 => prop::collection::vec(any::<u8>(), 0..600),
        1 => Just(Vec::new()),
    ];
    let kind = prop_oneof![8 => 2..9_u8, 1 => any::<u8>()];
    (
        kind,
        prop_oneof![6 => 0..3_u8, 1 => any::<u8>()],
        prop_oneof![6 => 0..MAX_CALLS - 1, 1 => MAX_CALLS..u16::MAX],
        generation,
        body,
    )
        .prop_map(|(kind, flags, index, generation, body)| RawFrame { kind, flags, index, generation, body })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a client says, the server lives and serves others: the last part of `answers`.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        answers_to_bytes(bytes);
    }

    #[test]
    fn any_frames_are_survived(frames in prop::collection::vec(any_frame(), 0..6)) {
        let bytes: Vec<u8> = frames.iter().flat_map(RawFrame::bytes).collect();
        prop_assume!(bytes.len() < 4000);
        answers_to_bytes(bytes);
    }
}
