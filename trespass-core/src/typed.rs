//! Plain data in memory that is lent.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::memory::SharedRegion;
use crate::window::OutOfBounds;

/// Plain data (of the crate `zerocopy`: integers, arrays and structs of them, without padding) in a [`SharedRegion`].
///
/// It is copied as bytes, at any offset, aligned or not, with no allocation. What it says of a peer's concurrent writes is
/// what [`SharedRegion`] says: a value may be half old and half new. Integers are in the byte order of this machine; those of
/// `zerocopy::byteorder` have one of their own, for peers that differ.
///
/// Owned memory, messages and buffers are plain bytes, for which `zerocopy` itself has all there is.
///
/// # Implemented by
/// Every [`SharedRegion`].
///
/// ```
/// use trespass_core::{OutOfBounds, SharedRegion, SharedRegionExt};
/// use zerocopy::{FromBytes, Immutable, IntoBytes};
///
/// #[derive(FromBytes, IntoBytes, Immutable)]
/// #[repr(C)]
/// struct Entry {
///     version: u64,
///     key: [u8; 8],
/// }
///
/// /// A new version of entry `number`.
/// fn touch(table: &impl SharedRegion, number: usize) -> Result<u64, OutOfBounds> {
///     let offset = number * size_of::<Entry>();
///     let mut entry: Entry = table.read(offset)?;
///     entry.version += 1;
///     table.write(offset, &entry)?;
///     Ok(entry.version)
/// }
/// ```
pub trait SharedRegionExt: SharedRegion {
    /// Copies the value at `offset` out.
    ///
    /// # Errors
    /// Where it does not lie inside.
    fn read<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, OutOfBounds>;

    /// Copies `value`, which may be a slice, to `offset`.
    ///
    /// # Errors
    /// Where it does not fit; then nothing is copied.
    fn write<T: IntoBytes + Immutable + ?Sized>(&self, offset: usize, value: &T) -> Result<(), OutOfBounds>;
}

impl<S: SharedRegion> SharedRegionExt for S {
    #[inline]
    fn read<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T, OutOfBounds> {
        let mut value = T::new_zeroed();
        self.read_at(offset, value.as_mut_bytes())?;
        Ok(value)
    }

    #[inline]
    fn write<T: IntoBytes + Immutable + ?Sized>(&self, offset: usize, value: &T) -> Result<(), OutOfBounds> {
        self.write_at(offset, value.as_bytes())
    }
}
