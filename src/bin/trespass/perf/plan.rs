//! What a client asks a server for, checked wherever it comes from: the command line here, or bytes over there.

use std::time::Duration;

use clap::ValueEnum;
use thiserror::Error;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum Layer {
    /// Messages on a reliable track
    Track,
    /// Messages on a reliable track whose queues are shared
    Shared,
    /// Messages on a track of unreliable datagrams
    Datagrams,
    /// A message carrier on a reliable track
    Message,
    /// A rendezvous carrier: each message is lent, and read by the peer's device
    Rendezvous,
    /// A stream carrier: messages of one size in a stream of bytes
    Stream,
    /// A carrier over datagrams
    DatagramCarrier,
    /// Reads of the server's memory
    Read,
    /// Writes to the server's memory
    Write,
    /// Atomic additions to a word of the server's memory
    Add,
    /// Atomic compare-and-swap of a word of the server's memory
    Swap,
}

impl Layer {
    pub(crate) const ALL: [Self; 11] = [
        Self::Track,
        Self::Shared,
        Self::Datagrams,
        Self::Message,
        Self::Rendezvous,
        Self::Stream,
        Self::DatagramCarrier,
        Self::Read,
        Self::Write,
        Self::Add,
        Self::Swap,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Shared => "shared",
            Self::Datagrams => "datagrams",
            Self::Message => "message",
            Self::Rendezvous => "rendezvous",
            Self::Stream => "stream",
            Self::DatagramCarrier => "datagram-carrier",
            Self::Read => "read",
            Self::Write => "write",
            Self::Add => "add",
            Self::Swap => "swap",
        }
    }

    /// The server's processor takes no part.
    pub(crate) fn is_one_sided(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::Add | Self::Swap)
    }

    pub(crate) fn is_atomic(self) -> bool {
        matches!(self, Self::Add | Self::Swap)
    }

    /// What is sent may not arrive.
    pub(crate) fn is_lossy(self) -> bool {
        matches!(self, Self::Datagrams | Self::DatagramCarrier)
    }

    /// Messages are cut into slots whose length is a setting.
    pub(crate) fn has_slots(self) -> bool {
        matches!(self, Self::Message | Self::Rendezvous | Self::Stream)
    }
}

/// What goes which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// One message there, one back; or one operation at a time.
    Latency,
    /// Messages from the client to the server, or operations, as many as there are slots.
    OneWay,
    /// The same, both ways at once.
    BothWays,
}

impl Work {
    const ALL: [Self; 3] = [Self::Latency, Self::OneWay, Self::BothWays];
}

/// How both ends wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Never asleep.
    Polling,
    /// Asleep until the device says something.
    Events,
}

impl Wait {
    const ALL: [Self; 2] = [Self::Polling, Self::Events];
}

/// The longest message.
pub(crate) const MAX_SIZE: usize = 1 << 30;
/// The deepest queue: that of common devices.
pub(crate) const MAX_DEPTH: usize = 1 << 15;
/// The memory that one end may take for a test.
pub(crate) const MAX_MEMORY: u64 = 1 << 30;
/// The shortest slot of a carrier, for its handshake.
pub(crate) const MIN_SLOT: usize = 256;
/// The longest that an end may be told to wait for the other.
pub(crate) const MAX_PATIENCE: Duration = Duration::from_secs(3600);
/// Send slots that a carrier has beside those of the depth: it keeps some for itself.
const SPARE: usize = 4;
/// How many messages a rendezvous carrier lends at a time.
const LENT: usize = 64;
/// What a track takes that carries no messages to speak of.
const SMALL_SLOT: usize = 64;

/// A test, of which both ends have to know the same. Every value of it is one that can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan(Terms);

/// A plan before it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) layer: Layer,
    pub(crate) work: Work,
    pub(crate) wait: Wait,
    /// The bytes of a message or operation.
    pub(crate) size: usize,
    /// How many messages or operations may be under way.
    pub(crate) depth: usize,
    /// How many receives are kept posted.
    pub(crate) receives: usize,
    /// The slots of a carrier's track, in bytes.
    pub(crate) slot: usize,
    /// Messages for each doorbell.
    pub(crate) batch: usize,
    /// Messages that come first and do not count.
    pub(crate) warmup: u64,
    /// Messages after those, of each end that sends; 0 where the client alone knows when it is over.
    pub(crate) count: u64,
    /// For how long nothing may happen until an end gives the other up.
    pub(crate) patience: Duration,
}

/// What there is room for in a track's queues, and how long its messages are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) message: usize,
    pub(crate) sends: usize,
    pub(crate) receives: usize,
}

/// Why a test cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum BadPlan {
    #[error("{field} is {value}, and there is no such thing in this version")]
    Unknown { field: &'static str, value: u64 },
    #[error("{field} is {value}; it has to be from {least} to {most}")]
    Range { field: &'static str, value: u64, least: u64, most: u64 },
    #[error(
        "it would take {need} bytes of memory at one end, and {MAX_MEMORY} are allowed: fewer slots (-t), or shorter messages (-s)"
    )]
    Memory { need: u64 },
    #[error("{0}")]
    Pair(&'static str),
}

impl Plan {
    /// # Errors
    /// What of `terms` cannot be.
    pub(crate) fn new(terms: Terms) -> Result<Self, BadPlan> {
        let range = |field, value: u64, least: u64, most: u64| match (least..=most).contains(&value) {
            true => Ok(()),
            false => Err(BadPlan::Range { field, value, least, most }),
        };
        range("size", terms.size as u64, 1, MAX_SIZE as u64)?;
        range("depth", terms.depth as u64, 1, MAX_DEPTH as u64)?;
        range("receives", terms.receives as u64, 4, MAX_DEPTH as u64)?;
        range("slot", terms.slot as u64, MIN_SLOT as u64, MAX_SIZE as u64)?;
        range("batch", terms.batch as u64, 1, terms.depth as u64)?;
        range("warm-up", terms.warmup, 0, 1 << 40)?;
        range("count", terms.count, 0, 1 << 40)?;
        range("patience in ms", millis(terms.patience), 1, millis(MAX_PATIENCE))?;
        if terms.layer.is_atomic() && terms.size != 8 {
            return Err(BadPlan::Pair("an atomic operation is on a word of 8 bytes: -s 8"));
        }
        if terms.work == Work::BothWays && (terms.layer.is_one_sided() || terms.layer.is_lossy()) {
            return Err(BadPlan::Pair(
                "both ways at once (-b) is for layers whose messages arrive: not for datagrams and operations",
            ));
        }
        if terms.work == Work::BothWays && terms.layer == Layer::Shared {
            return Err(BadPlan::Pair(
                "a shared track without a carrier takes no more than was posted for it, which is counted one way only: not -b",
            ));
        }
        let plan = Self(terms);
        match plan.memory() {
            need if need <= MAX_MEMORY => Ok(plan),
            need => Err(BadPlan::Memory { need }),
        }
    }

    pub(crate) fn terms(&self) -> &Terms {
        &self.0
    }

    /// The track that it needs, at either end.
    pub(crate) fn shape(&self) -> Shape {
        let Terms { layer, size, depth, receives, slot, .. } = self.0;
        match layer {
            _ if layer.has_slots() => Shape { message: slot, sends: (depth + SPARE).min(MAX_DEPTH), receives },
            _ if layer.is_one_sided() => Shape { message: SMALL_SLOT, sends: depth, receives: 4 },
            // The other end tells of what it has posted.
            Layer::Shared => Shape { message: size.max(8), sends: depth, receives },
            _ => Shape { message: size, sends: depth.max(SPARE), receives },
        }
    }

    /// Pieces of registered memory beside the track's own slots.
    pub(crate) fn regions(&self) -> usize {
        match self.0.layer {
            // What the receiver holds comes on top, and is as much at most.
            Layer::Rendezvous => self.0.depth.min(LENT),
            Layer::Read | Layer::Write => self.0.depth,
            _ => 0,
        }
    }

    fn memory(&self) -> u64 {
        let Shape { message, sends, receives } = self.shape();
        // Neither can overflow: 2^17 of 2^30 at most.
        (sends + receives) as u64 * message as u64 + (self.regions() as u64 + 2) * self.0.size as u64
    }

    /// A message of its own for each word, and the room that a plan takes.
    pub(crate) const ENCODED: usize = 56;

    pub(crate) fn encode(&self) -> [u8; Self::ENCODED] {
        let Terms { layer, work, wait, size, depth, receives, slot, batch, warmup, count, patience } = self.0;
        let mut bytes = [0; Self::ENCODED];
        bytes[0] = layer as u8;
        bytes[1] = work as u8;
        bytes[2] = wait as u8;
        let words = [size, depth, receives, slot, batch].map(|value| value as u32);
        for (to, word) in bytes[4..24].chunks_exact_mut(4).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        for (to, word) in bytes[24..48].chunks_exact_mut(8).zip([warmup, count, millis(patience)]) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// # Errors
    /// What of it cannot be, by name.
    pub(crate) fn decode(bytes: &[u8; Self::ENCODED]) -> Result<Self, BadPlan> {
        let short = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i])) as usize;
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let zeros = bytes[3..4].iter().chain(&bytes[48..]);
        if let Some(value) = zeros.copied().find(|byte| *byte != 0) {
            return Err(BadPlan::Unknown { field: "a byte that has to be 0", value: value.into() });
        }
        Self::new(Terms {
            layer: named("layer", &Layer::ALL, bytes[0])?,
            work: named("work", &Work::ALL, bytes[1])?,
            wait: named("wait", &Wait::ALL, bytes[2])?,
            size: short(4),
            depth: short(8),
            receives: short(12),
            slot: short(16),
            batch: short(20),
            warmup: long(24),
            count: long(32),
            patience: Duration::from_millis(long(40)),
        })
    }
}

fn named<T: Copy>(field: &'static str, all: &[T], byte: u8) -> Result<T, BadPlan> {
    all.get(usize::from(byte)).copied().ok_or(BadPlan::Unknown { field, value: byte.into() })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn terms() -> Terms {
        Terms {
            layer: Layer::Track,
            work: Work::OneWay,
            wait: Wait::Events,
            size: 64,
            depth: 16,
            receives: 64,
            slot: 4096,
            batch: 2,
            warmup: 10,
            count: 100,
            patience: Duration::from_secs(10),
        }
    }

    #[test]
    fn a_plan_survives_its_bytes() {
        for layer in Layer::ALL {
            for work in Work::ALL {
                for wait in Wait::ALL {
                    let size = if layer.is_atomic() { 8 } else { 777 };
                    let Ok(plan) = Plan::new(Terms { layer, work, wait, size, ..terms() }) else { continue };
                    assert_eq!(Plan::decode(&plan.encode()), Ok(plan));
                }
            }
        }
    }

    #[test]
    fn every_field_is_checked_by_name() {
        let good = Plan::new(terms()).expect("a plan").encode();
        let cases: [(usize, &[u8], &str); 16] = [
            (0, &[11], "layer is 11"),
            (0, &[255], "layer is 255"),
            (1, &[3], "work is 3"),
            (2, &[2], "wait is 2"),
            (3, &[1], "a byte that has to be 0 is 1"),
            (4, &[0; 4], "size is 0"),
            (4, &[255; 4], "size is 4294967295"),
            (8, &[0; 4], "depth is 0"),
            (8, &[1, 128, 0, 0], "depth is 32769"),
            (12, &[3, 0, 0, 0], "receives is 3"),
            (16, &[255, 0, 0, 0], "slot is 255"),
            (20, &[17, 0, 0, 0], "batch is 17"),
            (24, &[255; 8], "warm-up is"),
            (32, &[255; 8], "count is"),
            (40, &[0; 8], "patience in ms is 0"),
            (55, &[9], "a byte that has to be 0 is 9"),
        ];
        for (at, bytes, why) in cases {
            let mut bad = good;
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            let refused = Plan::decode(&bad).expect_err(why).to_string();
            assert!(refused.starts_with(why), "{refused:?} for {why:?}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let refused = |terms: Terms| Plan::new(terms).expect_err("it cannot be");
        let long = Terms { size: 1 << 30, ..terms() };
        assert!(matches!(refused(long), BadPlan::Memory { need } if need > MAX_MEMORY));
        for layer in [Layer::Shared, Layer::Datagrams, Layer::DatagramCarrier, Layer::Read] {
            assert!(matches!(refused(Terms { layer, work: Work::BothWays, ..terms() }), BadPlan::Pair(_)));
        }
        assert!(matches!(refused(Terms { layer: Layer::Add, ..terms() }), BadPlan::Pair(_)));
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for layer in Layer::ALL {
            assert_eq!(Layer::from_str(layer.name(), false), Ok(layer));
        }
    }
}
