//! What parses says again what it said: nothing is taken for what it is not.

use crate::datagram;
use crate::error::Refusal;
use crate::handshake::agree;
use crate::wire::{
    FIRST_HEADER, Frame, Greeting, HEADER, Kind, MAX_WINDOW, MIN_FRAME, MIN_WINDOW, Offer, StreamFrame, encode_refusal,
    stamp, stamp_total,
};

/// Every decoder of what a peer sends, on the same bytes.
pub fn decoders(bytes: &[u8]) {
    message_frame(bytes);
    stream_frame(bytes);
    greeting(bytes);
    datagram::fuzzing::packet(bytes);
}

fn message_frame(bytes: &[u8]) {
    let whole = Frame::whole_message(bytes);
    let Ok((frame, credits)) = Frame::parse(bytes) else {
        assert_eq!(whole, None, "a message by the short way alone");
        return;
    };
    let mut again = header(frame.kind(), credits);
    match frame {
        Frame::Message { len } => {
            assert_eq!(whole, Some((len, credits)));
            again.extend(tail(bytes, len));
        }
        Frame::First { total, len } => {
            again.resize(FIRST_HEADER, 0);
            stamp_total(&mut again, total);
            again.extend(tail(bytes, len));
        }
        Frame::More { len } => again.extend(tail(bytes, len)),
        Frame::Lend(window) => again.extend(window.encode()),
        Frame::Refuse(why) => return refusal(why),
        Frame::Abort | Frame::Credit | Frame::Fin | Frame::Bye | Frame::Fetched => {}
    }
    assert_eq!(again, bytes, "{frame:?}");
    assert_eq!(whole.is_some(), matches!(frame, Frame::Message { .. }));
}

fn stream_frame(bytes: &[u8]) {
    let Ok((frame, credits)) = StreamFrame::parse(bytes) else { return };
    let (kind, len) = match frame {
        StreamFrame::Bytes { len } => (Kind::Bytes, len),
        StreamFrame::Credit => (Kind::Credit, 0),
        StreamFrame::Fin => (Kind::Fin, 0),
        StreamFrame::Bye => (Kind::Bye, 0),
        StreamFrame::Refuse(why) => return refusal(why),
    };
    assert!(kind != Kind::Bytes || len > 0);
    let mut again = header(kind, credits);
    again.extend(tail(bytes, len));
    assert_eq!((again.as_slice(), frame.code()), (bytes, kind.code()));
}

fn greeting(bytes: &[u8]) {
    let Ok((greeting, credits)) = Greeting::parse(bytes) else { return };
    let (kind, offer) = match greeting {
        Greeting::Hello(offer) => (Kind::Hello, offer),
        Greeting::Welcome(offer) => (Kind::Welcome, offer),
        Greeting::Refuse(why) => return refusal(why),
    };
    let mut again = header(kind, credits);
    again.extend(offer.encode());
    assert_eq!(Greeting::parse(&again), Ok((greeting, credits)));
    for ours in [Offer::new(8, MIN_FRAME, 1), Offer::new(64, 4096, 1 << 20), Offer::stream(MAX_WINDOW, u32::MAX)] {
        agreement(&ours, &offer);
    }
}

/// Whatever an end may say, what is agreed lies within what this one offered, and the other finds the same.
fn agreement(ours: &Offer, theirs: &Offer) {
    let Ok(here) = agree(ours, theirs) else { return };
    assert_eq!((here.version, theirs.carrier), (ours.max_version, ours.carrier));
    assert!((MIN_FRAME as usize..=ours.max_frame as usize).contains(&here.send_frame), "{here:?}");
    assert!(here.max_message as u64 <= ours.max_message, "{here:?}");
    assert!(here.eager_limit <= here.max_message && here.eager_limit + HEADER <= here.send_frame, "{here:?}");
    assert!((MIN_WINDOW..=MAX_WINDOW).contains(&here.peer_window), "{here:?}");
    assert_eq!(here.features & !ours.optional, 0, "{here:?}");
    if let Ok(there) = agree(theirs, ours) {
        let both = (here.version, here.send_frame, here.max_message, here.features);
        assert_eq!(both, (there.version, there.send_frame, there.max_message, there.features));
    }
}

fn refusal(why: Refusal) {
    let mut again = header(Kind::Refuse, 0);
    again.extend(encode_refusal(why));
    assert_eq!(Greeting::parse(&again), Ok((Greeting::Refuse(why), 0)));
}

fn header(kind: Kind, credits: u32) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    stamp(&mut bytes, kind, u64::from(credits));
    bytes
}

fn tail(bytes: &[u8], len: usize) -> &[u8] {
    &bytes[bytes.len() - len..]
}
