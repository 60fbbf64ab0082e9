//! Each future of the message carrier, dropped after every number of polls that it can have: nothing is lost that was said to
//! be sent, nothing arrives that was withdrawn, nothing leaks, and nobody waits for ever.

#[path = "schedules/polls.rs"]
mod polls;
#[path = "support/sim.rs"]
mod sim;

use std::fmt::Debug;
use std::time::Duration;

use polls::polls;
use sim::{End, at_every_poll, ends};
use trespass_carriers::{CarrierError, MessageCarrier, MessageConfig};
use trespass_core::{ErrorKind, Role, Timer, TransportError};
use trespass_mock::{MockError, MockTrack};

type Carrier = MessageCarrier<MockTrack>;
type Error = CarrierError<MockError>;

async fn open(track: MockTrack, role: Role) -> Carrier {
    MessageCarrier::open(track, role, MessageConfig::default()).await.unwrap()
}

async fn receive_all(carrier: &mut Carrier) -> (Vec<Vec<u8>>, Option<ErrorKind>) {
    let mut got = Vec::new();
    loop {
        match carrier.recv().await {
            Ok(Some(message)) => got.push(message.to_vec()),
            Ok(None) => return (got, None),
            Err(error) => return (got, Some(error.kind())),
        }
    }
}

/// Receives slowly, to the end.
async fn slow_receiver(End { track, timer, .. }: End) -> (Vec<Vec<u8>>, Option<ErrorKind>) {
    let mut carrier = open(track, Role::Acceptor).await;
    timer.sleep(Duration::from_micros(100)).await;
    let outcome = receive_all(&mut carrier).await;
    let _ = carrier.close().await;
    outcome
}

fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| seed.wrapping_mul(31) ^ at as u8).collect()
}

fn said<T: Debug>(outcome: Option<Result<T, Error>>) -> Option<T> {
    outcome.map(|result| result.unwrap())
}

#[test]
fn a_handshake_is_dropped_at_any_poll() {
    for role in [Role::Connector, Role::Acceptor] {
        at_every_poll(|seed, most| {
            let dropping = move |End { track, timer, .. }| async move {
                let opening = MessageCarrier::open(track, role, MessageConfig::default());
                let opened = said(polls(opening, Some(most), &timer).await);
                let mut carrier = opened?;
                carrier.send(b"through").await.unwrap();
                carrier.finish().await.unwrap();
                let (got, end) = receive_all(&mut carrier).await;
                carrier.close().await.unwrap();
                Some((got, end))
            };
            let other = move |End { track, .. }| async move {
                let role = if role == Role::Connector { Role::Acceptor } else { Role::Connector };
                let mut carrier = match MessageCarrier::open(track, role, MessageConfig::default()).await {
                    Ok(carrier) => carrier,
                    Err(error) => return Err(error.kind()),
                };
                let outcome = receive_all(&mut carrier).await;
                let _ = carrier.close().await;
                Ok(outcome)
            };
            let (here, there) = match role {
                Role::Connector => ends(seed, dropping, other),
                Role::Acceptor => {
                    let (there, here) = ends(seed, other, dropping);
                    (here, there)
                }
            };
            match &here {
                Some(end) => {
                    assert_eq!(*end, (vec![], None));
                    assert_eq!(there, Ok((vec![b"through".to_vec()], None)));
                }
                None => assert!(
                    matches!(there, Err(ErrorKind::Disconnected) | Ok((_, Some(ErrorKind::Disconnected)))),
                    "{there:?}"
                ),
            }
            here.is_some()
        });
    }
}

#[test]
fn a_send_is_dropped_at_any_poll() {
    for len in [0, 200, 3000] {
        at_every_poll(|seed, most| {
            let sender = move |End { track, timer, .. }| async move {
                let mut carrier = open(track, Role::Connector).await;
                // With this there are no credits for all of what comes.
                let ahead = pattern(1, 1000);
                carrier.send(&ahead).await.unwrap();
                let data = pattern(2, len);
                let sent = said(polls(carrier.send(&data), Some(most), &timer).await).is_some();
                carrier.send(b"after").await.unwrap();
                carrier.finish().await.unwrap();
                let end = receive_all(&mut carrier).await;
                (sent, end, carrier.close().await.is_ok())
            };
            let ((sent, end, clean), (got, told)) = ends(seed, sender, slow_receiver);
            let mut expected = vec![pattern(1, 1000), b"after".to_vec()];
            if sent {
                expected.insert(1, pattern(2, len));
            }
            assert_eq!((got, told), (expected, None), "seed {seed}, {most} polls of {len} bytes");
            assert_eq!((end, clean), ((vec![], None), true));
            sent
        });
    }
}

#[test]
fn a_receive_is_dropped_at_any_poll() {
    at_every_poll(|seed, most| {
        let sender = |End { track, timer, .. }| async move {
            let mut carrier = open(track, Role::Connector).await;
            for number in 0..5 {
                timer.sleep(Duration::from_micros(50)).await;
                carrier.send(&pattern(number, 700)).await.unwrap();
            }
            carrier.finish().await.unwrap();
            let end = receive_all(&mut carrier).await;
            carrier.close().await.unwrap();
            end
        };
        let receiver = move |End { track, timer, .. }| async move {
            let mut carrier = open(track, Role::Acceptor).await;
            let first = said(polls(carrier.recv(), Some(most), &timer).await);
            let mut got: Vec<Vec<u8>> = first.iter().flatten().map(|message| message.to_vec()).collect();
            let (rest, end) = receive_all(&mut carrier).await;
            got.extend(rest);
            carrier.close().await.unwrap();
            (first.is_some(), got, end)
        };
        let (_, (enough, got, end)) = ends(seed, sender, receiver);
        let expected: Vec<Vec<u8>> = (0..5).map(|number| pattern(number, 700)).collect();
        assert_eq!((got, end), (expected, None), "seed {seed}, {most} polls");
        enough
    });
}

/// All that is queued goes out before the goodbye, however often it is begun.
#[test]
fn a_drain_is_dropped_at_any_poll() {
    at_every_poll(|seed, most| {
        let sender = move |End { track, timer, .. }| async move {
            let mut carrier = open(track, Role::Connector).await;
            let mut sent = 0;
            while carrier.try_send(&[sent; 100]).is_ok() {
                sent += 1;
            }
            let enough = said(polls(carrier.finish(), Some(most), &timer).await).is_some();
            carrier.finish().await.unwrap();
            let end = receive_all(&mut carrier).await;
            (sent, enough, end, carrier.close().await.is_ok())
        };
        let ((sent, enough, end, clean), (got, told)) = ends(seed, sender, slow_receiver);
        let expected: Vec<Vec<u8>> = (0..sent).map(|number| vec![number; 100]).collect();
        assert_eq!((got, told), (expected, None), "seed {seed}, {most} polls");
        assert_eq!((end, clean), ((vec![], None), true));
        enough
    });
}

#[test]
fn a_close_is_dropped_at_any_poll() {
    for again in [true, false] {
        at_every_poll(|seed, most| {
            let sender = move |End { track, timer, .. }| async move {
                let mut carrier = open(track, Role::Connector).await;
                let mut sent = 0;
                while carrier.try_send(&[sent; 100]).is_ok() {
                    sent += 1;
                }
                let enough = said(polls(carrier.close(), Some(most), &timer).await).is_some();
                if again {
                    carrier.close().await.unwrap();
                }
                (sent, enough)
            };
            let ((sent, enough), (got, told)) = ends(seed, sender, slow_receiver);
            let expected: Vec<Vec<u8>> = (0..sent).map(|number| vec![number; 100]).collect();
            match enough || again {
                true => assert_eq!((got, told), (expected, None), "seed {seed}, {most} polls"),
                // Dropped in the middle: what arrived is in order, and the end is told as what it is.
                false => {
                    assert!(expected.starts_with(&got), "seed {seed}, {most} polls: {} of {sent}", got.len());
                    assert!(told.is_none_or(|kind| kind == ErrorKind::Disconnected), "{told:?}");
                    assert!(told.is_some() || got == expected, "a goodbye before the last message");
                }
            }
            enough
        });
    }
}
