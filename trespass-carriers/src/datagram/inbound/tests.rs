use proptest::prelude::*;

use super::*;
use crate::datagram::wire::{SEGMENT, SEGMENT_HEADER, WHOLE, put_header, put_segment};
use crate::wire::HEADER;

const SESSION: u32 = 0xABCD;
const SLOTS: usize = 4;
const LONGEST: usize = 2000;
const PIECE: usize = 100;

fn inbound() -> Inbound {
    let bounds = Bounds { max_message: LONGEST, segment: PIECE, timeout: Duration::from_secs(1) };
    Inbound::new(SESSION, SLOTS, bounds, Pool::new(1 << 20))
}

/// Bytes by which a message is known.
fn message(number: u32, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..len).map(|at| (at as u32 ^ number.wrapping_mul(37)) as u8).collect();
    bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(byte, known)| *byte = known);
    bytes
}

/// The datagrams of a message.
fn datagrams(number: u32, message: &[u8]) -> Vec<Vec<u8>> {
    if message.len() <= PIECE + SEGMENT_HEADER - HEADER {
        let mut frame = vec![0; HEADER];
        put_header(&mut frame, WHOLE, SESSION, number);
        frame.extend(message);
        return vec![frame];
    }
    let pieces = message.chunks(PIECE).enumerate();
    let frame = |(index, piece): (usize, &[u8])| {
        let mut frame = vec![0; SEGMENT_HEADER + piece.len()];
        put_header(&mut frame, SEGMENT, SESSION, number);
        put_segment(&mut frame, message.len() as u32, index as u32, piece);
        frame
    };
    pieces.map(frame).collect()
}

/// Takes a datagram in at this time, in seconds. A message, if it was one, or its last segment.
fn take(inbound: &mut Inbound, datagram: &[u8], now: u64) -> Option<Vec<u8>> {
    match inbound.take(datagram, || Duration::from_secs(now)) {
        Taken::Whole => Some(datagram[HEADER..].to_vec()),
        Taken::Assembled(bytes) => Some(bytes.bytes().to_vec()),
        _ => None,
    }
}

#[test]
fn segments_in_any_order_make_the_message_once() {
    for rotate in 0..20 {
        let (mut inbound, expected) = (inbound(), message(0, 1950));
        let mut pieces = datagrams(0, &expected);
        pieces.rotate_left(rotate);
        let last = pieces.pop().unwrap();
        for piece in pieces.iter().chain(&pieces) {
            assert_eq!(take(&mut inbound, piece, 0), None);
        }
        assert_eq!(take(&mut inbound, &last, 0), Some(expected));
        for piece in pieces.iter().chain([&last]) {
            assert_eq!(take(&mut inbound, piece, 0), None);
        }
        assert_eq!((inbound.stats().duplicates, inbound.stats().messages_received), (19 + 20, 1));
        assert_eq!(inbound.assemblies.len(), 0);
    }
}

#[test]
fn the_oldest_makes_way() {
    let mut inbound = inbound();
    let all: Vec<_> = (0..5).map(|number| datagrams(number, &message(number, 150))).collect();
    for pieces in &all {
        assert_eq!(take(&mut inbound, &pieces[0], 0), None);
    }
    assert_eq!((inbound.stats().given_up, inbound.assemblies.len()), (1, SLOTS));
    assert_eq!(take(&mut inbound, &all[0][1], 0), None, "it was given up, and does not begin again");
    for (number, pieces) in all.iter().enumerate().skip(1) {
        assert_eq!(take(&mut inbound, &pieces[1], 0), Some(message(number as u32, 150)));
    }
    assert_eq!(inbound.stats().duplicates, 1);
}

#[test]
fn time_gives_up_what_is_incomplete() {
    let mut inbound = inbound();
    let pieces = datagrams(0, &message(0, 150));
    take(&mut inbound, &pieces[0], 5);
    assert_eq!(inbound.next_deadline(), Some(Duration::from_secs(6)));
    inbound.expire(Duration::from_millis(5999));
    assert_eq!(inbound.assemblies.len(), 1);
    inbound.expire(Duration::from_secs(6));
    assert_eq!((inbound.assemblies.len(), inbound.next_deadline(), inbound.stats().given_up), (0, None, 1));
    assert_eq!(take(&mut inbound, &pieces[1], 6), None);
    assert_eq!(take(&mut inbound, &pieces[0], 6), None);
}

#[test]
fn what_contradicts_itself_is_dropped_and_counted() {
    let mut inbound = inbound();
    let pieces = datagrams(0, &message(0, 150));
    let segment = |total: u32, index: u32, len: usize| {
        let mut frame = vec![0; SEGMENT_HEADER + len];
        put_header(&mut frame, SEGMENT, SESSION, 0);
        put_segment(&mut frame, total, index, &vec![1; len]);
        frame
    };
    take(&mut inbound, &pieces[0], 0);
    let bad = [
        segment(0, 0, 0),
        segment(150, 2, 50),
        segment(150, 1, 49),
        segment(150, 1, 51),
        segment(151, 1, 51),
        segment(u32::MAX, 0, PIECE),
        segment(LONGEST as u32 + 1, 0, PIECE),
        segment(150, u32::MAX, PIECE),
        datagrams(0, b"whole").remove(0),
        datagrams(1, &[0; 10]).remove(0)[..7].to_vec(),
        vec![],
    ];
    for (at, bad) in bad.iter().enumerate() {
        assert_eq!(take(&mut inbound, bad, 0), None, "{at}");
        assert_eq!(inbound.stats().garbage, 1 + at as u64);
    }
    assert_eq!(take(&mut inbound, &pieces[1], 0), Some(message(0, 150)), "none of them has done any harm");
}

/// What the network does to a datagram.
#[derive(Debug, Clone)]
struct Fate {
    lost: bool,
    twice: bool,
    late: usize,
    /// A place and what is done to the byte there; or the datagram ends there.
    corrupt: Option<(usize, u8)>,
}

fn fates(corruption: u32) -> impl Strategy<Value = Vec<Fate>> {
    let corrupt = (0..100_u32, 0..SEGMENT_HEADER, any::<u8>());
    let corrupt = corrupt.prop_map(move |(dice, place, flip)| (dice < corruption).then_some((place, flip)));
    let fate = (prop::bool::weighted(0.05), prop::bool::weighted(0.1), 0_usize..12, corrupt);
    let fate = fate.prop_map(|(lost, twice, late, corrupt)| Fate { lost, twice, late, corrupt });
    prop::collection::vec(fate, 1..200)
}

/// What arrives of messages of these lengths, in the order of arrival.
fn network(lengths: &[usize], fates: &[Fate]) -> Vec<Vec<u8>> {
    let sent = lengths.iter().enumerate().flat_map(|(number, len)| {
        let number = number as u32;
        datagrams(number, &message(number, *len))
    });
    let mut arriving = Vec::new();
    for (at, (mut datagram, fate)) in sent.zip(fates.iter().cycle()).enumerate() {
        match fate.corrupt {
            Some((place, 0)) => datagram.truncate(place),
            Some((place, flip)) if place < datagram.len() => datagram[place] ^= flip,
            _ => {}
        }
        if fate.twice {
            arriving.push((at + 2 * fate.late, datagram.clone()));
        }
        if !fate.lost {
            arriving.push((at + fate.late, datagram));
        }
    }
    arriving.sort_by_key(|(when, _)| *when);
    arriving.into_iter().map(|(_, datagram)| datagram).collect()
}

proptest! {
    /// Loss, duplication and reordering: each message is whole, and comes once at most.
    #[test]
    fn whole_and_once_or_not_at_all(
        lengths in prop::collection::vec(4..LONGEST, 1..40),
        fates in fates(0),
    ) {
        let (mut inbound, mut seen) = (inbound(), vec![false; lengths.len()]);
        for (now, datagram) in network(&lengths, &fates).iter().enumerate() {
            if let Some(got) = take(&mut inbound, datagram, now as u64 / 50) {
                let number = u32::from_le_bytes(*got.first_chunk().unwrap());
                prop_assert_eq!(&got, &message(number, lengths[number as usize]));
                prop_assert!(!std::mem::replace(&mut seen[number as usize], true));
            }
            prop_assert!(inbound.assemblies.len() <= SLOTS);
        }
        let stats = inbound.stats();
        prop_assert_eq!(stats.garbage + stats.stale + stats.out_of_window, 0);
        prop_assert_eq!(stats.messages_received, seen.iter().filter(|seen| **seen).count() as u64);
    }

    /// On a network that only duplicates and swaps neighbours everything arrives.
    #[test]
    fn what_is_not_lost_arrives(
        lengths in prop::collection::vec(4..LONGEST, 1..40),
        mut fates in fates(0),
    ) {
        for fate in &mut fates {
            fate.lost = false;
            fate.late %= 2;
        }
        let mut inbound = inbound();
        let got = network(&lengths, &fates).iter().filter_map(|datagram| take(&mut inbound, datagram, 0)).count();
        prop_assert_eq!(got, lengths.len());
    }

    /// Headers that are wrong, too: no panic, no memory beyond the bounds, nothing longer than a message may be.
    #[test]
    fn garbage_is_dropped(
        lengths in prop::collection::vec(4..LONGEST, 1..40),
        fates in fates(10),
    ) {
        let mut inbound = inbound();
        for datagram in network(&lengths, &fates) {
            if let Some(got) = take(&mut inbound, &datagram, 0) {
                prop_assert!(got.len() <= LONGEST);
            }
            prop_assert!(inbound.assemblies.len() <= SLOTS && inbound.assemblies.bytes() <= SLOTS * LONGEST);
        }
        // Two wrong numbers that agree with each other are believed; or several that are not far off add up.
        prop_assume!(inbound.window.missed() == 0);
        // And it goes on: a message that is said again and again, under the numbers that follow, arrives; at the latest under those that
        // nothing wrong came under.
        let next = lengths.len() as u32;
        let again = (next..next.max(inbound.window.newest().wrapping_add(1)) + 3).any(|number| {
            let expected = message(number, 500);
            let pieces = datagrams(number, &expected);
            pieces.iter().filter_map(|piece| take(&mut inbound, piece, 0)).any(|got| got == expected)
        });
        prop_assert!(again, "{:?}", inbound);
    }

    /// Bytes of no kind at all, with the right tag or not.
    #[test]
    fn nonsense_is_dropped(datagrams in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..150)), 0..100)) {
        let mut inbound = inbound();
        for (tagged, mut datagram) in datagrams {
            if let (true, Some(header)) = (tagged, datagram.first_chunk_mut::<4>()) {
                *header = [80 + header[0] % 4, 0, 0xCD, 0xAB];
            }
            take(&mut inbound, &datagram, 0);
            prop_assert!(inbound.assemblies.len() <= SLOTS && inbound.assemblies.bytes() <= SLOTS * LONGEST);
        }
    }
}
