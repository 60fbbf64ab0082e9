//! Values as bytes: postcard, by serde.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Appends `value` to `buffer`, whose memory it uses. `Err` where its `Serialize` fails.
pub(crate) fn encode<T: Serialize>(value: &T, buffer: Vec<u8>) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(value, buffer)
}

/// All of `bytes` as one value: what is left over is an error too.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, postcard::Error> {
    match postcard::take_from_bytes(bytes)? {
        (value, []) => Ok(value),
        _ => Err(postcard::Error::DeserializeBadEncoding),
    }
}
