//! The state machines, by themselves.

use std::io::IoSlice;
use std::ops::{Deref, DerefMut};

use proptest::prelude::*;
use trespass_core::SendBuf;

use super::inbound::Inbound;
use super::outbound::{Next, Outbound, Slices};
use crate::error::Violation;
use crate::wire::{HEADER, Kind, StreamFrame, stamp};

#[derive(Debug)]
struct Buf(Vec<u8>);

impl Deref for Buf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buf {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl SendBuf for Buf {
    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

/// A frame with room for so many bytes.
fn room(len: usize) -> Buf {
    Buf(vec![0; HEADER + len])
}

fn fill(out: &mut Outbound<Buf>, bytes: &[u8]) -> usize {
    out.fill(&mut Slices::new(&[IoSlice::new(bytes)]))
}

fn framed(kind: Kind, body: &[u8]) -> Vec<u8> {
    let mut bytes = [&[0; HEADER], body].concat();
    stamp(&mut bytes, kind, 9);
    bytes
}

#[test]
fn each_frame_of_a_stream_is_what_it_says() {
    let parse = |kind, body: &[u8]| StreamFrame::parse(&framed(kind, body));
    assert_eq!(framed(Kind::Bytes, b"hi"), [64, 0, 0, 0, 9, 0, 0, 0, b'h', b'i']);
    assert_eq!(parse(Kind::Bytes, b"abc"), Ok((StreamFrame::Bytes { len: 3 }, 9)));
    assert_eq!(parse(Kind::Bytes, b""), Err(Violation::EmptySegment));
    for (kind, frame) in
        [(Kind::Credit, StreamFrame::Credit), (Kind::Fin, StreamFrame::Fin), (Kind::Bye, StreamFrame::Bye)]
    {
        assert_eq!(parse(kind, b""), Ok((frame, 9)));
        assert_eq!(frame.code(), kind.code());
        assert_eq!(parse(kind, b"x"), Err(Violation::Long { len: 9, max: 8 }));
    }
    for kind in
        [Kind::Hello, Kind::Welcome, Kind::Message, Kind::First, Kind::More, Kind::Abort, Kind::Lend, Kind::Fetched]
    {
        assert_eq!(parse(kind, &[0; 16]), Err(Violation::OutOfPlace(kind.code())));
    }
    assert_eq!(crate::wire::Frame::parse(&framed(Kind::Bytes, b"x")), Err(Violation::OutOfPlace(64)));
    assert_eq!(StreamFrame::parse(&[64; 7]), Err(Violation::Short { len: 7, need: 8 }));
}

#[test]
fn bytes_go_before_the_ends_and_each_end_is_said_once() {
    let mut out = Outbound::new();
    out.open(room(10), HEADER);
    assert_eq!(fill(&mut out, b"abc"), 3);
    assert_eq!((out.next(), out.has_room()), (None, true), "it waits for more");
    out.finish();
    assert_eq!((out.next(), out.has_room(), out.is_over()), (Some(Next::Bytes), false, true));
    assert_eq!(&out.take().unwrap()[HEADER..], b"abc");
    assert_eq!(out.next(), Some(Next::Fin));
    out.said(Next::Fin);
    assert!(out.has_finished() && out.next().is_none());
    out.finish();
    assert_eq!(out.next(), None);
    out.leave();
    assert_eq!(out.next(), Some(Next::Bye));
    out.said(Next::Bye);
    out.leave();
    assert_eq!(out.next(), None);
}

#[test]
fn a_bye_takes_the_place_of_a_fin() {
    let mut out = Outbound::<Buf>::new();
    out.finish();
    out.leave();
    assert_eq!(out.next(), Some(Next::Bye));
}

#[test]
fn a_full_frame_is_due_by_itself() {
    let mut out = Outbound::new();
    out.open(room(3), HEADER);
    assert_eq!(fill(&mut out, b"abcde"), 3);
    assert_eq!((out.next(), out.has_room()), (Some(Next::Bytes), false));
    assert_eq!(fill(&mut out, b"de"), 0);
}

#[test]
fn nothing_goes_out_after_an_error_and_only_a_bye_to_a_peer_that_left() {
    let mut out = Outbound::new();
    out.open(room(3), HEADER);
    fill(&mut out, b"abc");
    out.peer_left();
    assert_eq!(out.next(), None);
    out.leave();
    assert_eq!(out.next(), Some(Next::Bye));
    out.end();
    assert!(out.next().is_none() && out.is_dead() && out.is_over());
}

#[test]
fn nothing_but_credits_and_a_bye_may_come_after_an_end() {
    let bytes = StreamFrame::Bytes { len: 1 };
    for (first, then) in [
        (StreamFrame::Fin, vec![bytes, StreamFrame::Fin]),
        (StreamFrame::Bye, vec![bytes, StreamFrame::Fin, StreamFrame::Bye]),
    ] {
        for frame in then {
            let mut inbound = Inbound::<Buf>::new();
            inbound.admit(&bytes).unwrap();
            inbound.admit(&first).unwrap();
            inbound.admit(&StreamFrame::Credit).unwrap();
            assert!(inbound.finished());
            assert_eq!(inbound.admit(&frame), Err(Violation::AfterFin(frame.code())));
        }
    }
}

#[derive(Debug, Clone)]
enum Act {
    Write(Vec<Vec<u8>>),
    Push,
    Send,
    Read,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let pieces = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..5);
    let act =
        prop_oneof![3 => pieces.prop_map(Act::Write), 1 => Just(Act::Push), 3 => Just(Act::Send), 2 => Just(Act::Read)];
    prop::collection::vec(act, 0..100)
}

proptest! {
    /// Whatever is written in whatever pieces, pushed, sent and read at whatever time: the same bytes, in order, then the end.
    #[test]
    fn what_goes_in_comes_out(acts in acts(), sizes in prop::collection::vec(1..30_usize, 1..8)) {
        let (mut out, mut inbound) = (Outbound::new(), Inbound::new());
        let (mut written, mut read, mut opened) = (Vec::new(), Vec::new(), 0);
        let send = |out: &mut Outbound<Buf>, inbound: &mut Inbound<Vec<u8>>| {
            let Some(next) = out.next() else { return false };
            let bytes = match next {
                Next::Bytes => {
                    let mut frame = out.take().unwrap();
                    stamp(&mut frame, Kind::Bytes, 9);
                    frame.0
                }
                Next::Fin => framed(Kind::Fin, b""),
                Next::Bye => framed(Kind::Bye, b""),
            };
            out.said(next);
            let (frame, _) = StreamFrame::parse(&bytes).unwrap();
            inbound.admit(&frame).unwrap();
            if matches!(frame, StreamFrame::Bytes { .. }) {
                inbound.store(bytes);
            }
            true
        };
        for act in acts {
            match act {
                Act::Write(pieces) => {
                    let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
                    let (all, mut slices) = (pieces.concat(), Slices::new(&slices));
                    let mut done = 0;
                    while slices.len() > 0 {
                        if out.is_empty() {
                            out.open(room(sizes[opened % sizes.len()]), HEADER);
                            opened += 1;
                        }
                        match out.fill(&mut slices) {
                            0 => break,
                            copied => done += copied,
                        }
                    }
                    prop_assert_eq!(slices.len(), all.len() - done);
                    written.extend_from_slice(&all[..done]);
                }
                Act::Push => out.push(),
                Act::Send => drop(send(&mut out, &mut inbound)),
                Act::Read => read.extend(inbound.next().into_iter().flat_map(|frame| frame[HEADER..].to_vec())),
            }
        }
        prop_assert!(!inbound.finished());
        out.finish();
        while send(&mut out, &mut inbound) {}
        while let Some(frame) = inbound.next() {
            read.extend_from_slice(&frame[HEADER..]);
        }
        prop_assert!(inbound.finished() && out.has_finished());
        prop_assert_eq!(read, written);
    }
}
