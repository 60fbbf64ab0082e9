//! An end that says what no good one would: frames written by hand, over a carrier of its own.
#![allow(dead_code, reason = "not every test uses all of it")]

use trespass::carriers::{MessageCarrier, MessageConfig};
use trespass::core::{Fabric, Role};
use trespass::mock::{MockAddr, MockFabric, MockTrack};

pub(crate) const HELLO: u8 = 1;
pub(crate) const CALL: u8 = 2;
pub(crate) const ITEM: u8 = 3;
pub(crate) const PART: u8 = 4;
pub(crate) const DONE: u8 = 5;
pub(crate) const END: u8 = 6;
pub(crate) const CANCEL: u8 = 7;
pub(crate) const CREDIT: u8 = 8;
pub(crate) const LEAVE: u8 = 9;
pub(crate) const FAULT: u8 = 10;
pub(crate) const MORE: u8 = 1;
pub(crate) const LAST: u8 = 2;

/// A frame as it is on the wire, every field of it to be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawFrame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) index: u16,
    pub(crate) generation: u64,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn frame(kind: u8, flags: u8, index: u16, generation: u64, body: &[u8]) -> RawFrame {
    RawFrame { kind, flags, index, generation, body: body.to_vec() }
}

pub(crate) fn hello(max_calls: u16, window: u32, max_message: u32) -> RawFrame {
    let mut body = b"trespRPC".to_vec();
    body.extend(1_u16.to_le_bytes());
    body.extend(max_calls.to_le_bytes());
    body.extend(window.to_le_bytes());
    body.extend(max_message.to_le_bytes());
    frame(HELLO, 0, 0, 0, &body)
}

pub(crate) fn call(flags: u8, index: u16, generation: u64, method: u32, micros: u64, request: &[u8]) -> RawFrame {
    let body = [&method.to_le_bytes()[..], &micros.to_le_bytes(), request].concat();
    frame(CALL, flags, index, generation, &body)
}

impl RawFrame {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes_that_say(self.body.len() as u32)
    }

    /// With a length that may be a lie.
    pub(crate) fn bytes_that_say(&self, len: u32) -> Vec<u8> {
        let mut bytes = vec![self.kind, self.flags];
        bytes.extend(self.index.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend(self.generation.to_le_bytes());
        bytes.extend(&self.body);
        bytes
    }

    fn parse_all(mut bytes: &[u8]) -> Vec<Self> {
        let mut frames = Vec::new();
        while let Some((head, rest)) = bytes.split_at_checked(16) {
            let len = u32::from_le_bytes(head[4..8].try_into().expect("four bytes")) as usize;
            let index = u16::from_le_bytes(head[2..4].try_into().expect("two bytes"));
            let generation = u64::from_le_bytes(head[8..].try_into().expect("eight bytes"));
            frames.push(frame(head[0], head[1], index, generation, &rest[..len]));
            bytes = &rest[len..];
        }
        frames
    }
}

/// A client that greets well, and then says what it is told to.
pub(crate) struct RawClient {
    carrier: MessageCarrier<MockTrack>,
    heard: Vec<RawFrame>,
}

impl RawClient {
    pub(crate) async fn connect(fabric: &MockFabric, addr: &MockAddr) -> Self {
        let mut client = Self::connect_silently(fabric, addr).await;
        client.say(&[hello(0, 1 << 16, 1 << 16)]).await;
        assert_eq!(client.next().await.map(|frame| frame.kind), Some(HELLO), "the server greets");
        client
    }

    pub(crate) async fn connect_silently(fabric: &MockFabric, addr: &MockAddr) -> Self {
        let track = fabric.connect(addr).await.expect("connected");
        let config = MessageConfig::default().with_max_message(64 << 10);
        let carrier = MessageCarrier::open(track, Role::Connector, config).await.expect("opened");
        Self { carrier, heard: Vec::new() }
    }

    pub(crate) async fn say(&mut self, frames: &[RawFrame]) {
        let bytes: Vec<u8> = frames.iter().flat_map(RawFrame::bytes).collect();
        self.say_bytes(&bytes).await;
    }

    pub(crate) async fn say_bytes(&mut self, bytes: &[u8]) {
        self.carrier.send(bytes).await.expect("sent");
    }

    /// The next frame; `None` once the server has said goodbye.
    pub(crate) async fn next(&mut self) -> Option<RawFrame> {
        while self.heard.is_empty() {
            match self.carrier.recv().await {
                Ok(Some(message)) => self.heard = RawFrame::parse_all(&message),
                Ok(None) | Err(_) => return None,
            }
        }
        Some(self.heard.remove(0))
    }

    pub(crate) async fn close(mut self) {
        // The server may have closed before.
        let _ = self.carrier.close().await;
    }
}
