//! How far the close of a carrier has come.

use trespass_core::{Endpoint, Timer};

use crate::error::CarrierError;

pub(crate) enum Closing<T: Endpoint> {
    Under {
        deadline: <T::Timer as Timer>::Sleep,
        /// The goodbye is queued: the track waits until all has arrived.
        said: bool,
    },
    Over(Result<(), CarrierError<T::Error>>),
}
