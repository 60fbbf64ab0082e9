//! The two sides of a carrier, each of which may wait.

use trespass_core::{FanOut, WakerSlot};

/// Who waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Reader,
    Writer,
}

impl Side {
    pub(crate) fn of(self, fan_out: &FanOut) -> &WakerSlot {
        match self {
            Self::Reader => fan_out.reader(),
            Self::Writer => fan_out.writer(),
        }
    }

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Reader => Self::Writer,
            Self::Writer => Self::Reader,
        }
    }
}
