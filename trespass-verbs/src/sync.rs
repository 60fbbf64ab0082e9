//! What threads share is made of these: the standard library's, or under `--cfg loom` those of loom, which tries every order
//! that the language allows.
//!
//! Loom takes an access that is SeqCst for one that is AcqRel, and would refuse what relies on the one order of all of
//! them: "leave something, then look whether anybody sleeps", beside "say that I sleep, then look once more". So a load
//! that is SeqCst is here an exchange that fails: it reads the latest value, and changes nothing. That gives no more than
//! the language does: let the one order be that in which the model makes its steps. Such a load must not read what is
//! older than the last SeqCst store before it in that order; and a model fails where the latest store, which it reads, is
//! not one.

#[cfg(loom)]
pub(crate) use model::*;
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard, OnceLock,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
#[cfg(not(loom))]
pub(crate) use std::thread::yield_now;

/// As that of the standard library, in the form in which loom can watch it.
#[cfg(not(loom))]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// The value, for as long as `work` runs: whoever calls this sees to it that nobody else has it meanwhile.
    #[inline]
    pub(crate) fn with_mut<R>(&self, work: impl FnOnce(*mut T) -> R) -> R {
        work(self.0.get())
    }
}

#[cfg(loom)]
mod model {
    use loom::sync::atomic;

    pub(crate) use loom::cell::UnsafeCell;
    pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::Ordering};
    pub(crate) use loom::thread::yield_now;

    macro_rules! atomics {
        ($($name:ident of $value:ty, not $unlikely:expr $(, $fetch:ident)*;)*) => {$(
            #[derive(Debug)]
            pub(crate) struct $name {
                value: atomic::$name,
                /// The latest store was SeqCst.
                in_order: std::sync::atomic::AtomicBool,
            }

            #[allow(dead_code, reason = "not all of every atomic")]
            impl $name {
                pub(crate) fn new(value: $value) -> Self {
                    Self { value: atomic::$name::new(value), in_order: true.into() }
                }

                pub(crate) fn load(&self, order: Ordering) -> $value {
                    if order != Ordering::SeqCst {
                        return self.value.load(order);
                    }
                    // Where the value is the unlikely one the exchange succeeds, and stores what is there.
                    let read = self.value.compare_exchange($unlikely, $unlikely, Ordering::Acquire, Ordering::Acquire);
                    assert!(self.in_order.load(Ordering::Relaxed), "SeqCst reads what was not stored so");
                    read.unwrap_or_else(|value| value)
                }

                pub(crate) fn store(&self, value: $value, order: Ordering) {
                    self.value.store(value, order);
                    self.stored(order);
                }

                pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                    let before = self.value.swap(value, order);
                    self.stored(order);
                    before
                }

                pub(crate) fn compare_exchange(
                    &self,
                    before: $value,
                    after: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    let exchanged = self.value.compare_exchange(before, after, success, failure);
                    if exchanged.is_ok() {
                        self.stored(success);
                    }
                    exchanged
                }

                pub(crate) fn compare_exchange_weak(
                    &self,
                    before: $value,
                    after: $value,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$value, $value> {
                    self.compare_exchange(before, after, success, failure)
                }

                /// As the standard library has it.
                pub(crate) fn fetch_update(
                    &self,
                    stored: Ordering,
                    loaded: Ordering,
                    mut next: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    let mut before = self.load(loaded);
                    while let Some(after) = next(before) {
                        match self.compare_exchange(before, after, stored, loaded) {
                            Ok(before) => return Ok(before),
                            Err(now) => before = now,
                        }
                    }
                    Err(before)
                }

                $(pub(crate) fn $fetch(&self, other: $value, order: Ordering) -> $value {
                    let before = self.value.$fetch(other, order);
                    self.stored(order);
                    before
                })*

                /// Loom runs nothing else between a store and this.
                fn stored(&self, order: Ordering) {
                    self.in_order.store(order == Ordering::SeqCst, Ordering::Relaxed);
                }
            }
        )*};
    }

    atomics! {
        AtomicBool of bool, not true;
        AtomicU8 of u8, not 0xee;
        AtomicU32 of u32, not 0xeeee_eeee, fetch_add, fetch_sub;
        AtomicU64 of u64, not 0xeeee_eeee_eeee_eeee, fetch_add;
        AtomicUsize of usize, not 0xeeee_eeee, fetch_add, fetch_sub;
    }

    /// What the standard library promises of its own: whoever finds a value finds all that was done before it was set, and
    /// when `set` is over there is one.
    pub(crate) struct OnceLock<T> {
        setting: Mutex<()>,
        is_set: atomic::AtomicBool,
        value: std::sync::OnceLock<T>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            let (setting, is_set) = (Mutex::new(()), atomic::AtomicBool::new(false));
            Self { setting, is_set, value: std::sync::OnceLock::new() }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            if self.is_set.load(Ordering::Acquire) { self.value.get() } else { None }
        }

        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            let _setting = self.setting.lock();
            self.value.set(value)?;
            self.is_set.store(true, Ordering::Release);
            Ok(())
        }

        pub(crate) fn get_or_init(&self, value: impl FnOnce() -> T) -> &T {
            if self.get().is_none() {
                let _ = self.set(value());
            }
            self.value.get().expect("a model sets it before it says so")
        }
    }
}

/// Runs `run` in every order of its threads; `preemptions` bounds how often one may be interrupted where it could go on,
/// and with three threads it has to be bounded, since more take hours.
#[cfg(all(test, loom))]
pub(crate) fn explore(preemptions: Option<usize>, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    builder.max_branches = 10_000;
    builder.check(run);
}

/// Waits for `future`. (Loom's own aborts the process where it finds that nobody would ever wake it; here the test fails.)
#[cfg(all(test, loom))]
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    use std::task::{Context, Poll, Wake};

    #[derive(Default)]
    struct Signal {
        woken: Mutex<bool>,
        changed: loom::sync::Condvar,
    }

    impl Wake for Signal {
        fn wake(self: std::sync::Arc<Self>) {
            *self.woken.lock().unwrap() = true;
            self.changed.notify_one();
        }
    }

    let signal = std::sync::Arc::new(Signal::default());
    let waker = std::sync::Arc::clone(&signal).into();
    let mut cx = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        let mut woken = signal.woken.lock().unwrap();
        while !std::mem::take(&mut *woken) {
            woken = signal.changed.wait(woken).unwrap();
        }
    }
}

/// The memory of a slot, in a model. Loom says so where two have it at a time, or where one has it without what the one
/// before wrote.
#[cfg(all(test, loom))]
pub(crate) struct Memory(UnsafeCell<u32>);

// SAFETY: every use is a `with_mut`, and loom ends the test where another may be going on.
#[cfg(all(test, loom))]
unsafe impl Sync for Memory {}

#[cfg(all(test, loom))]
impl Memory {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    pub(crate) fn write(&self) {
        // SAFETY: the slot is in the hands of this thread, as far as the code that is tried is right; loom checks.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }
}
