//! The parts of this crate that nobody else sees, for `fuzz/`: only with the feature `fuzzing`, which is for that alone. Each
//! function takes any bytes, and panics where a promise is broken.

mod decoders;
mod inbox;

use arbitrary::Unstructured;

pub use decoders::decoders;
pub use inbox::inbox;

pub use crate::datagram::fuzzing::assembly;

/// The next byte of a script; 0 when it is over.
pub fn byte(script: &mut Unstructured<'_>) -> u8 {
    script.arbitrary().unwrap_or_default()
}

/// The next two.
pub fn word(script: &mut Unstructured<'_>) -> u16 {
    script.arbitrary().unwrap_or_default()
}

/// The next `len` bytes, or as many as there are.
pub fn bytes<'a>(script: &mut Unstructured<'a>, len: usize) -> &'a [u8] {
    let len = len.min(script.len());
    script.bytes(len).unwrap_or_default()
}
