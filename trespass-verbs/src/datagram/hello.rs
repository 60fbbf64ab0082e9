//! What two ports tell each other before the first datagram, as private data of the connection manager.
//!
//! The connection manager tells the one who is asked neither number nor key of the other's queue pair, and the one who asks
//! the default key: so both are in here. The nonce makes a repeated request known for what it is.

use crate::raw::cm::{PRIVATE_DATA, PrivateData};

/// First, so that no other program is taken for one of ours.
const MAGIC: [u8; 4] = *b"trUD";
/// Two programs of different versions do not understand each other.
const VERSION: u8 = 1;
/// The key's highest bit is for privileged programs.
pub(crate) const KEYS: u32 = 0x7fff_ffff;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A port of many peers, to send to.
    Port = 1,
    /// A track of one's own.
    Track = 2,
}

/// One end of what is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) wanted: Wanted,
    /// The queue pair; 24 bits.
    pub(crate) number: u32,
    /// What its datagrams have to show.
    pub(crate) key: u32,
    /// The longest datagram that it takes.
    pub(crate) mtu: u32,
    /// The same in all requests for one thing, and in the answers.
    pub(crate) nonce: u64,
    /// How often it was asked before: the last request is the one whose answer is waited for, and they may overtake each
    /// other.
    pub(crate) attempt: u32,
}

impl Hello {
    pub(crate) fn encode(&self) -> PrivateData {
        let mut data = [0; PRIVATE_DATA];
        data[..4].copy_from_slice(&MAGIC);
        data[4] = VERSION;
        data[5] = self.wanted as u8;
        data[8..12].copy_from_slice(&self.number.to_le_bytes());
        data[12..16].copy_from_slice(&self.key.to_le_bytes());
        data[16..20].copy_from_slice(&self.mtu.to_le_bytes());
        data[20..24].copy_from_slice(&self.attempt.to_le_bytes());
        data[24..32].copy_from_slice(&self.nonce.to_le_bytes());
        PrivateData(data)
    }

    /// `None` for what no port of this version said, or what cannot be.
    pub(crate) fn parse(PrivateData(data): &PrivateData) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?));
        if data[..4] != MAGIC || data[4] != VERSION {
            return None;
        }
        let wanted = match data[5] {
            1 => Wanted::Port,
            2 => Wanted::Track,
            _ => return None,
        };
        let (number, key, mtu, attempt) = (word(8)?, word(12)?, word(16)?, word(20)?);
        let nonce = u64::from_le_bytes(data.get(24..32)?.try_into().ok()?);
        let possible = number < 1 << 24 && key <= KEYS && (1..=1 << 16).contains(&mtu);
        possible.then_some(Self { wanted, number, key, mtu, nonce, attempt })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HELLO: Hello =
        Hello { wanted: Wanted::Track, number: 0x12_3456, key: 0x7654_3210, mtu: 4096, nonce: 1 << 63, attempt: 3 };

    #[test]
    fn what_is_said_is_understood() {
        for wanted in [Wanted::Port, Wanted::Track] {
            let hello = Hello { wanted, ..HELLO };
            assert_eq!(Hello::parse(&hello.encode()), Some(hello));
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let spoilt = |at: usize, byte: u8| {
            let PrivateData(mut data) = HELLO.encode();
            data[at] = byte;
            Hello::parse(&PrivateData(data))
        };
        assert_eq!(Hello::parse(&PrivateData([0; PRIVATE_DATA])), None);
        for (at, byte) in [(0, 0), (4, 2), (5, 0), (5, 3), (11, 1), (15, 0x80), (18, 2)] {
            assert_eq!(spoilt(at, byte), None, "byte {at} as {byte}");
        }
        let silent = Hello { mtu: 0, ..HELLO };
        assert_eq!(Hello::parse(&silent.encode()), None);
    }

    proptest! {
        /// Any bytes, and bytes that begin as they should: no panic, and what is understood is what would have been said.
        #[test]
        fn any_bytes_are_refused_or_understood_alike(
            mut data: [u8; PRIVATE_DATA],
            start in prop::sample::select(vec![0, 4, 5, 6]),
            small: bool,
        ) {
            let PrivateData(good) = HELLO.encode();
            data[..start].copy_from_slice(&good[..start]);
            if small {
                // Numbers in their range, which few of all are.
                (data[11], data[15], data[18], data[19]) = (0, data[15] & 0x7f, 0, 0);
            }
            if let Some(hello) = Hello::parse(&PrivateData(data)) {
                prop_assert!(hello.number < 1 << 24 && hello.key <= KEYS && (1..=1 << 16).contains(&hello.mtu));
                let PrivateData(again) = hello.encode();
                prop_assert_eq!(&again[..6], &data[..6]);
                prop_assert_eq!(&again[8..32], &data[8..32]);
            }
        }
    }
}
