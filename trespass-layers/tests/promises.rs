//! What the types promise, pinned.

use static_assertions::assert_impl_all;
use trespass_core::ThreadFabric;
use trespass_layers::{Checked, Either, Lossy, Metered, Spun};
use trespass_mock::MockFabric;

assert_impl_all!(Checked<MockFabric>: ThreadFabric);
assert_impl_all!(Metered<MockFabric>: ThreadFabric);
assert_impl_all!(Either<MockFabric, Metered<MockFabric>>: ThreadFabric);
assert_impl_all!(Lossy<MockFabric>: ThreadFabric);
assert_impl_all!(Spun<MockFabric>: ThreadFabric);
// Layers stack.
assert_impl_all!(Checked<Metered<Lossy<Spun<Checked<MockFabric>>>>>: ThreadFabric);
