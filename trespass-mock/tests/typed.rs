//! Plain data in memory that is lent.

use trespass_core::{MemoryFabric, OutOfBounds, Region, SharedRegion, SharedRegionExt};
use trespass_mock::{MockFabric, MockSharedRegion};
use zerocopy::byteorder::{BE, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes};

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Entry {
    version: u64,
    key: [u8; 6],
    len: u16,
}

const ENTRY: Entry = Entry { version: 0x0102_0304_0506_0708, key: *b"abcdef", len: 0xBEEF };

fn shared(len: usize) -> MockSharedRegion {
    MockFabric::new().alloc(len).unwrap().share()
}

#[test]
fn what_is_written_is_read_at_any_offset() {
    let shared = shared(64);
    for offset in [0, 1, 7, 8, 48] {
        shared.write_at(0, &[0; 64]).unwrap();
        shared.write(offset, &ENTRY).unwrap();
        assert_eq!(shared.read::<Entry>(offset), Ok(ENTRY));
        let mut bytes = [0; 64];
        shared.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes[offset..offset + 8], ENTRY.version.to_ne_bytes(), "in the byte order of this machine");
        let stray = (0..64).find(|at| !(offset..offset + 16).contains(at) && bytes[*at] != 0);
        assert_eq!(stray, None, "a write at {offset} touched other bytes");
    }
}

#[test]
fn what_does_not_fit_is_refused_whole() {
    let shared = shared(64);
    for offset in [49, 64, 65, usize::MAX, usize::MAX - 7] {
        let refused = OutOfBounds { offset: offset as u64, len: 16, size: 64, unaligned: false };
        assert_eq!(shared.write(offset, &ENTRY), Err(refused));
        assert_eq!(shared.read::<Entry>(offset), Err(refused));
    }
    assert_eq!(shared.read::<[u8; 64]>(0), Ok([0; 64]), "a refused write has written");
}

#[test]
fn slices_and_byte_orders() {
    let shared = shared(32);
    shared.write(1, [0x0102_u16, 0x0304].as_slice()).unwrap();
    assert_eq!(shared.read::<[u16; 2]>(1), Ok([0x0102, 0x0304]));
    shared.write(8, &U32::<BE>::new(0x0102_0304)).unwrap();
    assert_eq!(shared.read::<[u8; 4]>(8), Ok([1, 2, 3, 4]));
    assert_eq!(shared.write(32, b"".as_slice()), Ok(()), "nothing, at the end");
    // A word is the same, by whichever way.
    shared.store(16, 77).unwrap();
    assert_eq!(shared.read::<u64>(16), Ok(77));
}
