//! What the types of the verbs fabric promise to generic code, pinned.

use static_assertions::{assert_impl_all, assert_not_impl_any};
use trespass_core::{Drive, InOrder, Lossless, RecvBuf, SendBuf, ThreadFabric, ThreadTrack, Track, TransportError};
use trespass_verbs::{
    ReliableTrack, VerbsDriver, VerbsError, VerbsFabric, VerbsHandshake, VerbsRecvBuf, VerbsSendBuf, VerbsTimer,
};

assert_impl_all!(VerbsFabric: ThreadFabric);
assert_impl_all!(ReliableTrack: ThreadTrack);
assert_impl_all!(<ReliableTrack as Track>::Delivery: Lossless, InOrder);
assert_impl_all!(VerbsSendBuf: SendBuf, Send, Sync);
assert_impl_all!(VerbsRecvBuf: RecvBuf, Send, Sync);
assert_impl_all!(VerbsHandshake: Send, Unpin);
assert_impl_all!(VerbsDriver: Drive, Send);
assert_impl_all!(VerbsTimer: Send, Sync);
assert_impl_all!(VerbsError: TransportError);
// A slot has one owner, or two would write to the same memory; a track's queues have one user.
assert_not_impl_any!(VerbsSendBuf: Clone);
assert_not_impl_any!(VerbsRecvBuf: Clone, std::ops::DerefMut);
assert_not_impl_any!(ReliableTrack: Clone);
assert_not_impl_any!(VerbsDriver: Clone);
