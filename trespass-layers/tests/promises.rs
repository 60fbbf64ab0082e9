//! What the types promise, pinned.

use static_assertions::assert_impl_all;
use trespass_core::ThreadFabric;
use trespass_layers::Checked;
use trespass_mock::MockFabric;

assert_impl_all!(Checked<MockFabric>: ThreadFabric);
// Layers stack.
assert_impl_all!(Checked<Checked<MockFabric>>: ThreadFabric);
