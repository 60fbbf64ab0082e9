//! How far the close of a carrier has come.

use trespass_core::{Endpoint, Timer};

use crate::error::CarrierError;

pub(crate) enum Closing<T: Endpoint> {
    Under {
        deadline: <T::Timer as Timer>::Sleep,
        /// The track, once the goodbye is queued: it only waits until all has arrived. What it says meanwhile of its end is this
        /// end's doing, and nobody else's to judge.
        parting: Option<T>,
    },
    Over(Result<(), CarrierError<T::Error>>),
}
