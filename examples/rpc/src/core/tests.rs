//! The two ends of the protocol against each other, and against nonsense, without a carrier.

use std::task::Waker;
use std::time::Duration;

use proptest::prelude::*;
use trespass::core::ErrorKind;

use super::calls::Calls;
use super::served::{Action, Served};
use super::wire::{CallId, End, Fault, Frame, HEADER, Hello, Piece, parse, write};
use crate::link::each_frame;
use crate::method::Flow;
use crate::status::{CallError, Code, Ran, Rejection, Status};

const UNARY: Flow = Flow { requests: false, replies: false };
const BIDI: Flow = Flow { requests: true, replies: true };
const OWN: Hello = Hello { max_calls: 0, window: 5000, max_message: 100_000 };
const SERVER: Hello = Hello { max_calls: 4, window: 5000, max_message: 100_000 };
const NOW: Duration = Duration::ZERO;

fn now() -> Duration {
    NOW
}

/// Both ends, connected.
fn ends() -> (Calls, Served) {
    let mut calls = Calls::new(OWN, 100);
    calls.connected(SERVER).expect("a good greeting");
    (calls, Served::new(SERVER, OWN))
}

/// One message of frames.
fn said(calls: &mut Calls) -> Vec<u8> {
    let mut room = vec![0; 1024];
    let len = calls.fill(&mut room, now);
    room.truncate(len);
    room
}

fn answered(served: &mut Served) -> Vec<u8> {
    let mut room = vec![0; 1024];
    let len = served.fill(&mut room);
    room.truncate(len);
    room
}

/// Has the server hear `bytes`: which calls are to start, and with what.
fn hear(served: &mut Served, bytes: &[u8]) -> Vec<(CallId, Vec<u8>)> {
    let mut started = Vec::new();
    each_frame(bytes, |frame| {
        if let Action::Start { id, request, .. } = served.on_frame(frame, now, |_| Some(UNARY))? {
            started.push((id, request.bytes().to_vec()));
        }
        Ok(())
    })
    .expect("frames that make sense");
    started
}

fn learn(calls: &mut Calls, bytes: &[u8]) {
    each_frame(bytes, |frame| calls.on_frame(frame)).expect("frames that make sense");
}

#[test]
fn a_long_request_takes_turns_with_short_ones() {
    let (mut calls, mut served) = ends();
    let long = calls.open(1, UNARY, None, vec![1; 50_000]).expect("room");
    let first = said(&mut calls);
    assert!(hear(&mut served, &first).is_empty(), "it is not whole");
    let short = calls.open(1, UNARY, None, vec![2; 10]).expect("room");
    // One frame of the long one at most goes before it.
    let started: Vec<_> = (0..2).flat_map(|_| hear(&mut served, &said(&mut calls))).collect();
    assert_eq!(started.iter().map(|(_, request)| request.len()).collect::<Vec<_>>(), [10]);
    let mut whole = Vec::new();
    while calls.has_output() {
        whole.extend(hear(&mut served, &said(&mut calls)));
    }
    assert_eq!(whole[0].1, vec![1; 50_000]);

    // The same for replies.
    served.finish(whole[0].0, Ok(vec![3; 50_000]));
    learn(&mut calls, &answered(&mut served));
    served.finish(started[0].0, Ok(vec![4; 10]));
    for _ in 0..2 {
        learn(&mut calls, &answered(&mut served));
    }
    assert_eq!(calls.reply(short), Some(Ok(Some(vec![4; 10]))));
    assert_eq!(calls.reply(long), None);
    while served.has_output() {
        learn(&mut calls, &answered(&mut served));
    }
    assert_eq!(calls.reply(long), Some(Ok(Some(vec![3; 50_000]))));
}

#[test]
fn a_call_that_was_never_sent_goes_to_the_next_connection() {
    let (mut calls, mut served) = ends();
    let sent = calls.open(1, UNARY, None, vec![1]).expect("room");
    hear(&mut served, &said(&mut calls));
    let in_part = calls.open(1, UNARY, None, vec![2; 50_000]).expect("room");
    said(&mut calls);
    let never = calls.open(1, UNARY, None, vec![3]).expect("room");
    calls.disconnected(ErrorKind::Disconnected);
    let ended = |ran| Some(Err(CallError::Disconnected { kind: ErrorKind::Disconnected, ran }));
    assert_eq!(calls.reply(sent), ended(Ran::Maybe));
    assert_eq!(calls.reply(in_part), ended(Ran::No), "half a request runs nothing");
    assert_eq!(calls.reply(never), None);
    assert!(calls.wants_connection());
    calls.connected(SERVER).expect("a good greeting");
    let mut served = Served::new(SERVER, OWN);
    assert_eq!(hear(&mut served, &said(&mut calls)).len(), 1);
}

#[test]
fn calls_given_up_while_there_is_no_connection_leave_nothing_behind() {
    let mut calls = Calls::new(OWN, 100);
    for _ in 0..10_000 {
        let ticket = calls.open(1, UNARY, None, vec![1; 100]).expect("room");
        calls.release(ticket);
    }
    assert!(!calls.wants_connection());
    assert!(calls.remembered() < 200, "{} are remembered", calls.remembered());
}

#[test]
fn a_second_use_of_an_index_is_another_call() {
    let (mut calls, mut served) = ends();
    let one = calls.open(1, UNARY, None, vec![1]).expect("room");
    let started = hear(&mut served, &said(&mut calls));
    // Given up, and its index used again; then the reply of the first comes.
    served.finish(started[0].0, Ok(vec![11]));
    let late = answered(&mut served);
    calls.release(one);
    let two = calls.open(1, UNARY, None, vec![2]).expect("room");
    let again = hear(&mut served, &said(&mut calls));
    assert_eq!((again[0].0.index, again[0].1.clone()), (started[0].0.index, vec![2]));
    learn(&mut calls, &late);
    assert_eq!(calls.reply(two), None, "that was the other's");
    served.finish(again[0].0, Ok(vec![22]));
    learn(&mut calls, &answered(&mut served));
    assert_eq!(calls.reply(two), Some(Ok(Some(vec![22]))));
}

#[test]
fn a_server_that_says_nonsense_is_found_out() {
    let id = CallId { index: 0, generation: 1 };
    let piece = |bytes, more, last| Piece { bytes, more, last };
    let finds = |frames: &[Frame<'_>], fault| {
        let mut calls = Calls::new(OWN, 100);
        calls.connected(SERVER).expect("a good greeting");
        calls.open(1, UNARY, None, vec![1]).expect("room");
        said(&mut calls);
        let found = frames.iter().try_for_each(|frame| calls.on_frame(frame.clone()));
        assert_eq!(found, Err(fault), "{frames:?}");
    };
    let never = CallId { index: 0, generation: 2 };
    finds(&[Frame::Item(never, piece(&[1], false, true))], Fault::Place);
    finds(&[Frame::Item(CallId { index: 9, ..id }, piece(&[1], false, true))], Fault::Place);
    finds(&[Frame::End(never, End::Ok)], Fault::Place);
    finds(&[Frame::Credit(never, 1)], Fault::Place);
    finds(&[Frame::Part(id, piece(&[1], false, true))], Fault::Place);
    finds(&[Frame::Item(id, piece(&[1], true, false)), Frame::Item(id, piece(&[1], false, true))], Fault::Place);
    // One reply that is not the last, and an end without a reply.
    finds(&[Frame::Item(id, piece(&[1], false, false))], Fault::Place);
    finds(&[Frame::End(id, End::Ok)], Fault::Place);
    finds(&[Frame::Credit(id, 1)], Fault::Place);
    finds(&[Frame::Hello(SERVER)], Fault::Place);
    finds(&[Frame::Done(id)], Fault::Place);
    finds(&[Frame::Cancel(id)], Fault::Place);
    finds(&[Frame::Call { id, method: 1, left: None, piece: piece(&[], false, false) }], Fault::Place);
    finds(&[Frame::Fault(3)], Fault::Told(3));
    let long = vec![0; 100_001];
    finds(&[Frame::Item(id, piece(&long, false, true))], Fault::Window);
}

#[test]
fn more_than_the_window_is_found_out() {
    let (mut calls, _) = ends();
    calls.open(1, BIDI, None, Vec::new()).expect("room");
    said(&mut calls);
    let id = CallId { index: 0, generation: 1 };
    let item = || Frame::Item(id, Piece { bytes: &[0; 1000], more: false, last: false });
    let taken = (0..20).take_while(|_| calls.on_frame(item()).is_ok()).count();
    // 1064 each of 5000: the fifth may begin.
    assert_eq!(taken, 5);
    assert_eq!(calls.on_frame(item()), Err(Fault::Window));
}

#[test]
fn frames_are_read_as_they_were_written() {
    let id = CallId { index: 513, generation: 1 << 40 };
    let piece = Piece { bytes: &[1, 2, 3], more: true, last: false };
    let service = |message| End::Service(Status::new(Code::Aborted, message));
    for frame in [
        Frame::Hello(SERVER),
        Frame::Call { id, method: 77, left: Some(Duration::from_micros(5)), piece },
        Frame::Call { id, method: 77, left: None, piece: Piece { more: false, ..piece } },
        Frame::Item(id, piece),
        Frame::Part(id, Piece { more: false, last: true, ..piece }),
        Frame::Done(id),
        Frame::End(id, End::Ok),
        Frame::End(id, service("because")),
        Frame::End(id, End::Rejected(Rejection::Busy)),
        Frame::Cancel(id),
        Frame::Credit(id, 7),
        Frame::Leave,
        Frame::Fault(3),
    ] {
        let mut room = [0xff; 512];
        let len = write(&mut room, &frame).expect("room");
        assert_eq!(parse(&room[..len]), Ok((frame.clone(), &[][..])));
        for short in 0..len {
            assert_eq!(write(&mut room[..short], &frame), None);
        }
    }
    // A message that is too long is cut between two letters.
    let mut room = [0; 512];
    let len = write(&mut room, &Frame::End(id, service("ä".repeat(200).leak()))).expect("room");
    assert_eq!(parse(&room[..len]).expect("a frame").0, Frame::End(id, service("ä".repeat(128).leak())));
    assert_eq!(len, HEADER + 2 + Status::MESSAGE);
}

fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let frame = (0..12_u8, 0..5_u8, 0..6_u8, 1..3_u64, prop::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(kind, flags, index, generation, body)| {
            let mut bytes = vec![kind, flags, index, 0];
            bytes.extend((body.len() as u32).to_le_bytes());
            bytes.extend(generation.to_le_bytes());
            bytes.extend(body);
            bytes
        },
    );
    prop::collection::vec(prop_oneof![4 => frame, 1 => prop::collection::vec(any::<u8>(), 0..60)], 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes, each call ends once, and what is kept is bounded.
    #[test]
    fn a_client_survives_any_server(chunks in chunks()) {
        let (mut calls, _) = ends();
        let tickets: Vec<_> = (0..6).map(|number| {
            let flow = Flow { requests: number % 2 == 1, replies: number % 3 == 1 };
            calls.open(number, flow, None, Vec::new()).expect("room")
        }).collect();
        said(&mut calls);
        for chunk in &chunks {
            if each_frame(chunk, |frame| calls.on_frame(frame)).is_err() {
                break;
            }
            said(&mut calls);
        }
        calls.disconnected(ErrorKind::Protocol);
        calls.close();
        for ticket in tickets {
            let mut ends = 0;
            for _ in 0..100 {
                match calls.reply(ticket) {
                    Some(Ok(Some(item))) => prop_assert!(item.len() <= 100_000),
                    Some(_) => ends += 1,
                    None => prop_assert!(false, "it has not ended"),
                }
            }
            prop_assert!(ends > 0);
            calls.release(ticket);
        }
        prop_assert_eq!(calls.ripe(), 0);
    }

    #[test]
    fn a_server_survives_any_client(chunks in chunks()) {
        let (_, mut served) = ends();
        for chunk in &chunks {
            let flow = |method| (method < 200).then_some(Flow { requests: method % 2 == 1, replies: method % 3 == 1 });
            if each_frame(chunk, |frame| served.on_frame(frame, now, flow).map(drop)).is_err() {
                break;
            }
            for index in 0..4 {
                if let Some(id) = served.id(index) {
                    let _ = served.poll_request(id, Waker::noop());
                }
            }
            prop_assert!(answered(&mut served).len() <= 1024);
        }
        served.end();
        while !answered(&mut served).is_empty() {}
        prop_assert!(!served.has_output());
    }
}
