//! Messages over datagrams that a layer makes of reliable tracks.
#![cfg(feature = "mock")]

use futures_executor::block_on;
use futures_util::future::join;
use trespass::carriers::{DatagramCarrier, DatagramConfig};
use trespass::core::{Fabric, Incoming, ListenerExt, Role, TryError};
use trespass::layers::{Lossy, lossy::LossyConfig};
use trespass::mock::{MockConfig, MockNet};

#[test]
fn what_a_lossy_layer_leaves_is_whole_and_comes_once() {
    let faults = LossyConfig::new(11).with_loss(50).with_duplication(50).with_reordering(100).with_delay(50, 16);
    let track = MockConfig::default().with_max_message(512).with_send_slots(64).with_recv_slots(256);
    let fabric = Lossy::over(MockNet::new().fabric(track).expect("a fabric"), faults);
    let mut listener = fabric.listen(&"there".parse().expect("an address")).expect("a listener");
    let connecting = fabric.connect(&"there".parse().expect("an address"));
    let (near, far) = block_on(async {
        let accepted = listener.incoming().await.expect("a request").accept().await.expect("accepted");
        (connecting.await.expect("connected"), accepted)
    });
    let (near, far) = block_on(join(
        DatagramCarrier::open(near, Role::Connector, DatagramConfig::default()),
        DatagramCarrier::open(far, Role::Acceptor, DatagramConfig::default()),
    ));
    let (mut near, mut far) = (near.expect("opened"), far.expect("opened"));
    let mut seen = vec![false; 500];
    // By turns: nothing is lost but by the layer, and by its seed the same each time.
    for number in 0..500_usize {
        let mut message = vec![number as u8; 2 + number * 11];
        message[..2].copy_from_slice(&(number as u16).to_le_bytes());
        block_on(near.send(&message)).expect("sent");
        let _ = near.try_recv();
        loop {
            match far.try_recv() {
                Ok(message) => check(&message.expect("nobody has said goodbye"), &mut seen),
                Err(TryError::WouldBlock) => break,
                Err(TryError::Failed(error)) => panic!("{error}"),
            }
        }
    }
    let stats = far.stats();
    assert_eq!(stats.messages_received, seen.iter().filter(|seen| **seen).count() as u64);
    // Of a loss of 5 %: a message of 500 bytes is one datagram, one of 5,500 is twelve.
    assert!((200..500).contains(&stats.messages_received) && stats.garbage == 0, "{stats:?}");
    assert!(stats.duplicates > 0 && stats.given_up > 0, "{stats:?}");
    block_on(near.close()).expect("closed");
}

fn check(message: &[u8], seen: &mut [bool]) {
    let number = message[0] as usize | (message[1] as usize) << 8;
    assert!(message[2..].iter().all(|byte| *byte == number as u8), "message {number} is mixed");
    assert_eq!(message.len(), 2 + number * 11);
    assert!(!std::mem::replace(&mut seen[number], true), "message {number} came twice");
}
