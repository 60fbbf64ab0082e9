//! How places in a net are named.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::MockError;

/// The longest address, in bytes.
const MAX_LEN: usize = 255;

/// A place in a [`MockNet`](crate::MockNet): any text of 1 to 255 bytes without spaces or control characters.
///
/// Cheap to clone. The end that connects is given a name of its own, unique in its net.
///
/// ```
/// use trespass_mock::MockAddr;
///
/// let addr: MockAddr = "server".parse().unwrap();
/// assert_eq!(addr.to_string(), "server");
/// assert!("".parse::<MockAddr>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MockAddr(Arc<str>);

impl MockAddr {
    /// The address that is written `text`.
    ///
    /// # Errors
    /// Kind `Config` for a text that is empty, longer than 255 bytes, or has spaces or control characters in it.
    pub fn new(text: &str) -> Result<Self, MockError> {
        let why = if text.is_empty() {
            "is empty"
        } else if text.len() > MAX_LEN {
            "is longer than 255 bytes"
        } else if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            "has a space or a control character in it"
        } else {
            return Ok(Self(text.into()));
        };
        Err(MockError::BadAddress { why })
    }

    /// The name of an end that connects.
    pub(crate) fn of_connector(number: u64) -> Self {
        Self(format!("connector-{number}").into())
    }

    /// The address as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for MockAddr {
    type Err = MockError;

    fn from_str(text: &str) -> Result<Self, MockError> {
        Self::new(text)
    }
}

impl fmt::Display for MockAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MockAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MockAddr({})", self.0)
    }
}
