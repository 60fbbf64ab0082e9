use proptest::prelude::*;

use super::*;

const MAX: usize = 4096;

fn inbox(spill_limit: usize) -> Inbox<Vec<u8>> {
    Inbox::new(MAX, spill_limit, 1 << 20)
}

fn message(len: usize, fill: u8) -> (Frame, Vec<u8>) {
    (Frame::Message { len }, [vec![0; HEADER], vec![fill; len]].concat())
}

fn first(total: u64, len: usize, fill: u8) -> (Frame, Vec<u8>) {
    (Frame::First { total, len }, [vec![0; FIRST_HEADER], vec![fill; len]].concat())
}

fn more(len: usize, fill: u8) -> (Frame, Vec<u8>) {
    (Frame::More { len }, [vec![0; HEADER], vec![fill; len]].concat())
}

fn store(inbox: &mut Inbox<Vec<u8>>, (frame, buf): (Frame, Vec<u8>)) {
    inbox.admit(&frame).unwrap();
    inbox.store(frame, buf);
}

fn abort(inbox: &mut Inbox<Vec<u8>>) {
    inbox.admit(&Frame::Abort).unwrap();
}

/// All messages that wait.
fn drain(inbox: &mut Inbox<Vec<u8>>) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| inbox.next().unwrap()).map(|payload| bytes(&payload)).collect()
}

fn bytes(payload: &Payload<Vec<u8>>) -> Vec<u8> {
    match payload {
        Payload::Direct(frame, head) => frame[*head..].to_vec(),
        Payload::Pooled(bytes) => bytes.bytes().to_vec(),
        Payload::Lent(window) => window.encode().to_vec(),
    }
}

#[test]
fn what_waits_comes_out_in_order_whether_copied_or_not() {
    let mut inbox = inbox(1 << 20);
    store(&mut inbox, message(3, 1));
    store(&mut inbox, first(5, 2, 2));
    assert_eq!(inbox.spill(), Ok((1, 3)));
    store(&mut inbox, more(3, 2));
    store(&mut inbox, message(0, 0));
    store(&mut inbox, first(2, 2, 3));
    assert_eq!(drain(&mut inbox), [vec![1; 3], vec![2; 5], vec![], vec![3; 2]]);
    assert!(inbox.is_empty() && inbox.held == 0);
}

#[test]
fn what_does_not_fit_the_limit_stays_in_the_tracks_buffers() {
    let mut inbox = inbox(1000);
    for fill in 0..10 {
        store(&mut inbox, message(100, fill));
    }
    // 256 bytes are the least that is allocated, and each costs 64 more.
    assert_eq!(inbox.spill(), Ok((3, 300)));
    assert_eq!(inbox.backlog.len(), 7);
    assert_eq!(inbox.spill(), Ok((0, 0)));
    assert!(inbox.next().unwrap().is_some());
    assert_eq!(inbox.spill(), Ok((1, 100)));
}

#[test]
fn short_messages_count_too() {
    let mut inbox = inbox(10_000);
    for _ in 0..64 {
        store(&mut inbox, message(0, 0));
    }
    let (messages, _) = inbox.spill().unwrap();
    assert!(messages < 64 && inbox.held <= 10_000 + 320);
}

#[test]
fn one_message_always_gets_through_unless_nothing_may() {
    let mut one = inbox(10);
    store(&mut one, first(4096, 2000, 1));
    store(&mut one, more(2000, 1));
    store(&mut one, more(96, 1));
    store(&mut one, message(1, 2));
    assert_eq!(one.spill(), Ok((1, 4096)));
    assert_eq!(one.backlog.len(), 1);
    let mut none = inbox(0);
    store(&mut none, message(1, 1));
    assert_eq!(none.spill(), Ok((0, 0)));
}

#[test]
fn an_abort_takes_the_message_that_was_begun_and_no_other() {
    // With its First in the backlog, behind a whole message in segments.
    let mut stored = inbox(0);
    store(&mut stored, message(1, 1));
    store(&mut stored, first(4, 2, 2));
    store(&mut stored, more(2, 2));
    store(&mut stored, first(9, 2, 3));
    store(&mut stored, more(2, 3));
    abort(&mut stored);
    store(&mut stored, message(1, 4));
    assert_eq!(drain(&mut stored), [vec![1], vec![2; 4], vec![4]]);

    // With its First in assembly already.
    let mut assembling = inbox(1 << 20);
    store(&mut assembling, message(1, 1));
    store(&mut assembling, first(9, 2, 3));
    assembling.spill().unwrap();
    store(&mut assembling, more(2, 3));
    abort(&mut assembling);
    store(&mut assembling, message(1, 4));
    assert_eq!(drain(&mut assembling), [vec![1], vec![4]]);
    assert!(assembling.assembly.is_none());
}

#[test]
fn a_goodbye_withdraws_what_was_begun_and_nothing_that_is_whole() {
    let mut whole = inbox(0);
    store(&mut whole, first(4, 2, 2));
    store(&mut whole, more(2, 2));
    whole.admit(&Frame::Bye).unwrap();
    assert_eq!(drain(&mut whole), [vec![2; 4]]);

    let mut begun = inbox(0);
    store(&mut begun, message(1, 1));
    store(&mut begun, first(4, 2, 2));
    begun.admit(&Frame::Bye).unwrap();
    assert_eq!(drain(&mut begun), [[1]]);
}

#[test]
fn what_is_put_back_is_next_again() {
    let mut inbox = inbox(1 << 20);
    store(&mut inbox, message(1, 1));
    inbox.spill().unwrap();
    store(&mut inbox, message(1, 2));
    let next = inbox.next().unwrap().unwrap();
    inbox.put_back(next);
    assert_eq!(drain(&mut inbox), [[1], [2]]);
    assert_eq!(inbox.held, 0);
}

#[test]
fn nothing_waits_once_nobody_reads() {
    let mut inbox = inbox(1 << 20);
    store(&mut inbox, message(1, 1));
    store(&mut inbox, first(9, 2, 3));
    inbox.discard();
    store(&mut inbox, more(7, 3));
    assert!(inbox.is_empty());
    let (frame, buf) = message(1, 1);
    assert!(inbox.open(frame, buf).unwrap().is_none());
}

#[derive(Debug, Clone)]
enum Step {
    Message(usize),
    Segments(Vec<usize>),
    Withdrawn(Vec<usize>),
    Spill,
    Take,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lengths = || prop::collection::vec(1..50_usize, 1..6);
    let step = prop_oneof![
        (0..50_usize).prop_map(Step::Message),
        lengths().prop_map(Step::Segments),
        lengths().prop_map(Step::Withdrawn),
        Just(Step::Spill),
        Just(Step::Take),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// However storing, copying out, withdrawing and taking alternate: every message that was not withdrawn comes out, once,
    /// whole and in order, and the limit holds.
    #[test]
    fn nothing_is_lost_or_mixed(steps in steps(), limit in 0..4000_usize) {
        let mut inbox = inbox(limit);
        let (mut expected, mut taken) = (Vec::new(), Vec::new());
        for (fill, step) in steps.into_iter().enumerate() {
            let fill = fill as u8;
            match step {
                Step::Message(len) => {
                    store(&mut inbox, message(len, fill));
                    expected.push(vec![fill; len]);
                }
                Step::Segments(lengths) => {
                    segments(&mut inbox, &lengths, lengths.iter().sum(), fill);
                    expected.push(vec![fill; lengths.iter().sum()]);
                }
                Step::Withdrawn(lengths) => {
                    segments(&mut inbox, &lengths, lengths.iter().sum::<usize>() + 1, fill);
                    abort(&mut inbox);
                }
                Step::Spill => drop(inbox.spill().unwrap()),
                Step::Take => taken.extend(inbox.next().unwrap().map(|payload| bytes(&payload))),
            }
            // One message beyond the limit, with what it costs, where nothing else is held.
            prop_assert!(inbox.held <= limit.max(320));
        }
        taken.extend(drain(&mut inbox));
        prop_assert_eq!(taken, expected);
    }
}

/// Stores segments, copying out after every other.
fn segments(inbox: &mut Inbox<Vec<u8>>, lengths: &[usize], total: usize, fill: u8) {
    for (at, &len) in lengths.iter().enumerate() {
        match at {
            0 => store(inbox, first(total as u64, len, fill)),
            _ => store(inbox, more(len, fill)),
        }
        if at % 2 == 1 {
            inbox.spill().unwrap();
        }
    }
}
