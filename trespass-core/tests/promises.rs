//! What the types promise, pinned: a change that breaks one of these breaks the promise to users.

use static_assertions::{assert_impl_all, assert_not_impl_any, assert_obj_safe, const_assert};
use trespass_core::{
    Datagram, Delivery, Drive, ErrorKind, FanOut, InOrder, Limits, Lossless, Reliable, SystemSleep, SystemTimer,
    TimerQueue, TryError, Unordered, Unsent, WakerSlot,
};

// One axis: each delivery promises exactly this.
assert_impl_all!(Reliable: Delivery, Lossless, InOrder);
assert_impl_all!(Unordered: Delivery, Lossless);
assert_not_impl_any!(Unordered: InOrder);
assert_impl_all!(Datagram: Delivery);
assert_not_impl_any!(Datagram: Lossless, InOrder);
const_assert!(Reliable::LOSSLESS && Reliable::IN_ORDER);
const_assert!(Unordered::LOSSLESS && !Unordered::IN_ORDER);
const_assert!(!Datagram::LOSSLESS && !Datagram::IN_ORDER);

// What threads share.
assert_impl_all!(WakerSlot: Send, Sync);
assert_impl_all!(FanOut: Send, Sync);
assert_impl_all!(SystemTimer: Send, Sync, Clone);
assert_impl_all!(SystemSleep: Send, Sync, Unpin);
assert_impl_all!(TimerQueue: Send);

// A fan-out has an owner; its waker is what is cloned.
assert_not_impl_any!(FanOut: Clone);

// A driver may be chosen at run time; errors go anywhere.
assert_obj_safe!(Drive);
assert_impl_all!(ErrorKind: Copy, Eq, std::hash::Hash, Send, Sync);
assert_impl_all!(TryError<std::fmt::Error>: std::error::Error, Send, Sync);
assert_impl_all!(Unsent<Vec<u8>, std::fmt::Error>: std::error::Error, Send, Sync);
assert_impl_all!(Limits: Copy, Send, Sync);

#[test]
fn limits_keep_what_they_are_given() {
    let limits = Limits::new(1, 2, 3).with_inline(4);
    assert_eq!((limits.max_message, limits.send_slots, limits.recv_slots, limits.inline), (1, 2, 3, 4));
}

#[test]
fn every_kind_is_in_its_place() {
    for (at, kind) in ErrorKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, at, "{kind:?}");
    }
}
