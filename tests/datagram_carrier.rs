//! Messages over datagrams that a layer makes of reliable tracks.
#![cfg(feature = "mock")]

use std::time::{Duration, Instant};

use futures_executor::block_on;
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
    let receiver = std::thread::spawn(move || {
        let mut far = block_on(DatagramCarrier::open(far, Role::Acceptor, DatagramConfig::default())).expect("open");
        let (mut seen, began) = (vec![false; 500], Instant::now());
        while seen.iter().filter(|seen| **seen).count() < 200 {
            match far.try_recv() {
                Ok(Some(message)) => {
                    let number = message[0] as usize | (message[1] as usize) << 8;
                    assert!(message[2..].iter().all(|byte| *byte == number as u8), "message {number} is mixed");
                    assert_eq!(message.len(), 2 + number * 11);
                    assert!(!std::mem::replace(&mut seen[number], true), "message {number} came twice");
                }
                Ok(None) => break,
                Err(TryError::WouldBlock) if began.elapsed() > Duration::from_secs(60) => panic!("it hangs: {far:?}"),
                Err(TryError::WouldBlock) => std::thread::yield_now(),
                Err(TryError::Failed(error)) => panic!("{error}"),
            }
        }
        far.stats()
    });
    let mut near = block_on(DatagramCarrier::open(near, Role::Connector, DatagramConfig::default())).expect("open");
    for number in 0..500_usize {
        let mut message = vec![number as u8; 2 + number * 11];
        message[..2].copy_from_slice(&(number as u16).to_le_bytes());
        block_on(near.send(&message)).expect("sent");
        let _ = near.try_recv();
        std::thread::yield_now();
    }
    block_on(near.close()).expect("closed");
    drop(near);
    let stats = receiver.join().expect("the receiver");
    assert!(stats.messages_received > 50 && stats.garbage == 0, "{stats:?}");
}
