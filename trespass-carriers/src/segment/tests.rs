use proptest::prelude::*;

use super::*;
use crate::wire::Kind;

const MAX: usize = 1000;

fn admitted(frames: &[Frame]) -> Result<Sequence, Violation> {
    let mut sequence = Sequence::Between;
    for frame in frames {
        sequence.admit(frame, MAX)?;
    }
    Ok(sequence)
}

#[test]
fn segments_fill_their_frames() {
    let mut cut = Cut::new(600, 256);
    let mut segments = Vec::new();
    while let Some(segment) = cut.next() {
        segments.push((segment.kind, segment.header, segment.start, segment.end));
        cut.sent(segment);
    }
    assert_eq!(segments, [(Kind::First, 16, 0, 240), (Kind::More, 8, 240, 488), (Kind::More, 8, 488, 600)]);
}

#[test]
fn a_message_goes_whole_or_in_segments_or_is_withdrawn() {
    let begun = Frame::First { total: 10, len: 4 };
    assert_eq!(admitted(&[Frame::Message { len: 0 }, Frame::Message { len: MAX }]), Ok(Sequence::Between));
    assert_eq!(admitted(&[begun]), Ok(Sequence::Within(6)));
    assert_eq!(admitted(&[begun, Frame::Credit, Frame::More { len: 6 }]), Ok(Sequence::Between));
    assert_eq!(admitted(&[begun, Frame::Abort, begun]), Ok(Sequence::Within(6)));
    assert_eq!(admitted(&[Frame::Fin, Frame::Credit, Frame::Bye, Frame::Credit]), Ok(Sequence::Finished));
    assert_eq!(admitted(&[begun, Frame::Bye]), Ok(Sequence::Finished));
}

#[test]
fn each_thing_that_is_wrong_is_named() {
    let begun = Frame::First { total: 10, len: 4 };
    let wrong = |frames: &[Frame]| admitted(frames).unwrap_err();
    assert_eq!(wrong(&[Frame::Message { len: 1001 }]), Violation::Oversize { len: 1001, max: 1000 });
    assert_eq!(wrong(&[Frame::First { total: 1001, len: 1 }]), Violation::Oversize { len: 1001, max: 1000 });
    assert_eq!(wrong(&[Frame::First { total: u64::MAX, len: 1 }]), Violation::Oversize { len: u64::MAX, max: 1000 });
    assert_eq!(wrong(&[Frame::First { total: 10, len: 0 }]), Violation::EmptySegment);
    assert_eq!(wrong(&[Frame::First { total: 10, len: 11 }]), Violation::Overrun { len: 11, left: 10 });
    assert_eq!(wrong(&[Frame::First { total: 0, len: 0 }]), Violation::EmptySegment);
    assert_eq!(wrong(&[begun, Frame::More { len: 0 }]), Violation::EmptySegment);
    assert_eq!(wrong(&[begun, Frame::More { len: 7 }]), Violation::Overrun { len: 7, left: 6 });
    assert_eq!(wrong(&[Frame::More { len: 1 }]), Violation::NoMessage);
    assert_eq!(wrong(&[Frame::Abort]), Violation::NoMessage);
    for (frame, code) in [(Frame::Message { len: 1 }, 16), (begun, 17), (Frame::Fin, 33)] {
        assert_eq!(wrong(&[begun, frame]), Violation::Interleaved(code));
    }
    for (frame, code) in [(Frame::Message { len: 1 }, 16), (begun, 17), (Frame::Fin, 33), (Frame::Abort, 19)] {
        assert_eq!(wrong(&[Frame::Fin, frame]), Violation::AfterFin(code));
        assert_eq!(wrong(&[Frame::Bye, frame]), Violation::AfterFin(code));
    }
}

proptest! {
    #[test]
    fn what_is_cut_is_put_together(total in 0..MAX, frame in 17..300_usize) {
        let data: Vec<u8> = (0..total).map(|at| at as u8).collect();
        let pool = Pool::new(0);
        let (mut cut, mut sequence) = (Cut::new(total, frame), Sequence::Between);
        let mut assembly = None;
        let mut whole = None;
        while let Some(segment) = cut.next() {
            prop_assert!(whole.is_none());
            let bytes = &data[segment.start..segment.end];
            prop_assert!(segment.header + bytes.len() <= frame);
            let parsed = match segment.kind {
                Kind::First => Frame::First { total: total as u64, len: bytes.len() },
                _ => Frame::More { len: bytes.len() },
            };
            sequence.admit(&parsed, MAX).unwrap();
            let mut going = assembly.take().unwrap_or_else(|| Assembly::begin(&pool, total).unwrap());
            going.append(bytes);
            match going.finish() {
                Ok(done) => whole = Some(done),
                Err(more) => assembly = Some(more),
            }
            cut.sent(segment);
        }
        prop_assert_eq!(sequence, Sequence::Between);
        prop_assert_eq!(whole.as_ref().map(|whole| whole.bytes()), (total > 0).then_some(&data[..]));
    }
}
