use proptest::prelude::*;
use trespass_core::Role;

use super::*;
use crate::datagram::wire::{BYE, READY, WHOLE, greeting, put_header, refusal};
use crate::wire::{DATAGRAM_CARRIER, HEADER, Kind};

fn offer() -> Offer {
    Offer { carrier: DATAGRAM_CARRIER, ..Offer::new(64, 4096, 1 << 20) }
}

/// A connector of session 7 and an acceptor of session 9.
fn ends() -> (Handshake, Handshake) {
    (Handshake::new(Role::Connector, offer(), 7), Handshake::new(Role::Acceptor, offer(), 9))
}

/// As it goes over the wire.
fn bytes(say: Say, session: u32) -> Vec<u8> {
    match say {
        Say::Hello(offer) => greeting(Kind::Hello, &offer, session, 0).to_vec(),
        Say::Welcome { offer, to } => greeting(Kind::Welcome, &offer, session, to).to_vec(),
        Say::Refuse { why, to } => refusal(why, to).to_vec(),
        Say::Ready { to } => packet(READY, to),
    }
}

fn packet(kind: u8, to: u32) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    put_header(&mut frame, kind, to, 0);
    frame
}

#[test]
fn three_steps_open_both() {
    let (connector, mut acceptor) = ends();
    assert_eq!(acceptor.prompt(), None);
    let hello = bytes(connector.prompt().unwrap(), 7);
    let Heard::Say(welcome) = acceptor.hear(&hello) else { panic!("no welcome") };
    let (mut connector, welcome) = (connector, bytes(welcome, 9));
    let Heard::Open(agreed, Some(ready)) = connector.hear(&welcome) else { panic!("not open") };
    assert_eq!(agreed.peer, 9);
    let Heard::Open(agreed, None) = acceptor.hear(&bytes(ready, 7)) else { panic!("not open") };
    assert_eq!(agreed.peer, 7);
}

#[test]
fn a_message_says_ready_as_well() {
    let (connector, mut acceptor) = ends();
    assert_eq!(acceptor.hear(&packet(WHOLE, 9)), Heard::Nothing, "nothing was agreed yet");
    acceptor.hear(&bytes(connector.prompt().unwrap(), 7));
    assert_eq!(acceptor.hear(&packet(WHOLE, 8)), Heard::Nothing, "of another session");
    assert!(matches!(acceptor.hear(&packet(WHOLE, 9)), Heard::OpenWith(agreed) if agreed.peer == 7));
    assert_eq!(acceptor.hear(&packet(BYE, 9)), Heard::Left);
}

#[test]
fn what_answers_another_is_no_answer() {
    let (mut connector, mut acceptor) = ends();
    assert_eq!(connector.hear(&greeting(Kind::Welcome, &offer(), 9, 6)), Heard::Nothing);
    assert_eq!(connector.hear(&refusal(Refusal::Kind(1), 6)), Heard::Nothing);
    assert_eq!(connector.hear(&refusal(Refusal::Kind(1), 7)), Heard::Refused(Refusal::Kind(1)));
    assert_eq!(acceptor.hear(&refusal(Refusal::Kind(1), 9)), Heard::Nothing, "it has said nothing yet");
}

#[test]
fn each_end_may_refuse_the_other() {
    let (mut connector, mut acceptor) = ends();
    let other = Offer { carrier: 1, ..offer() };
    let expected = |to| Heard::Incompatible(Refusal::Kind(3), Say::Refuse { why: Refusal::Kind(3), to });
    assert_eq!(acceptor.hear(&greeting(Kind::Hello, &other, 7, 0)), expected(7));
    assert_eq!(connector.hear(&greeting(Kind::Welcome, &other, 9, 7)), expected(9));
}

proptest! {
    /// Nothing that comes makes an end panic, and what is no greeting to this session opens none.
    #[test]
    fn anything_may_come(role in any::<bool>(), datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..20)) {
        let role = if role { Role::Connector } else { Role::Acceptor };
        let mut end = Handshake::new(role, offer(), 7);
        for datagram in datagrams {
            prop_assert!(matches!(end.hear(&datagram), Heard::Nothing));
        }
    }

    /// Whatever is lost, repeated or late: in the end both are open.
    #[test]
    fn losses_are_made_good(fates in prop::collection::vec(0..4_u8, 0..60)) {
        let (mut connector, mut acceptor) = ends();
        let (mut to_acceptor, mut to_connector) = (Vec::new(), Vec::new());
        let (mut there, mut here) = (false, false);
        let mut fates = fates.into_iter();
        for _ in 0..200 {
            if !here {
                to_acceptor.extend(connector.prompt().map(|say| bytes(say, 7)));
            }
            if !there {
                to_connector.extend(acceptor.prompt().map(|say| bytes(say, 9)));
            }
            for queue in [&mut to_acceptor, &mut to_connector] {
                match fates.next().unwrap_or(3) {
                    0 => queue.clear(),
                    1 => queue.extend_from_within(..),
                    2 => queue.reverse(),
                    _ => {}
                }
            }
            for datagram in std::mem::take(&mut to_acceptor) {
                match acceptor.hear(&datagram) {
                    Heard::Say(say) if !there => to_connector.push(bytes(say, 9)),
                    Heard::Open(agreed, None) => there = agreed.peer == 7,
                    _ => {}
                }
            }
            for datagram in std::mem::take(&mut to_connector) {
                // An open end answers a Welcome in the same way.
                if let Heard::Open(agreed, Some(say)) = connector.hear(&datagram) {
                    here = agreed.peer == 9;
                    to_acceptor.push(bytes(say, 7));
                }
            }
        }
        prop_assert!(here && there);
    }
}
