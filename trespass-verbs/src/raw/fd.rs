//! File descriptors: non-blocking mode, waiting for several, and an event of our own.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Switches `fd` to non-blocking mode.
pub(crate) fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument and touches no memory of ours; an invalid descriptor is an error.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: F_SETFL takes an integer and touches no memory of ours.
    if unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Waits for any of a few descriptors to be readable (epoll(7)): they are named once, not at every wait.
#[derive(Debug)]
pub(crate) struct Readable(OwnedFd);

/// How many descriptors one [`Readable`] may have.
const MOST: usize = 8;

impl Readable {
    /// For these descriptors, which have to stay open as long as it is used: one that is closed is never readable.
    pub(crate) fn new(fds: &[RawFd]) -> io::Result<Self> {
        // SAFETY: epoll_create1 takes an integer and touches no memory of ours.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, is open, and nobody else owns it.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        for (index, &fd) in fds.iter().take(MOST).enumerate() {
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: index as u64 };
            // SAFETY: `event` is initialised and lives across the call, which copies it (epoll_ctl(2)).
            if unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Self(epoll))
    }

    /// Waits until one can be read, at most `timeout` (`None`: as long as it takes). A bit for each that can, by its place in
    /// [`new`](Readable::new); none after a signal or the timeout.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> u32 {
        let millis = match timeout {
            None => -1,
            // Rounded up: waking early would spin until the deadline.
            Some(timeout) => i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX),
        };
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; MOST];
        // SAFETY: `events` has room for MOST events and lives across the call (epoll_wait(2)).
        let ready = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), MOST as i32, millis) };
        let ready = usize::try_from(ready).unwrap_or(0);
        events.iter().take(ready).fold(0, |bits, event| bits | 1 << (event.u64 % MOST as u64))
    }
}

/// An event that any thread can raise and one waits for (eventfd(2)).
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes two integers and touches no memory of ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just made, is open, and nobody else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Raises the event. Cannot fail: a counter that is full is raised already.
    pub(crate) fn raise(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: `one` is 8 readable bytes that live across the call (eventfd(2): writes take 8 bytes).
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Takes the event back.
    pub(crate) fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: `count` is 8 writable bytes that live across the call; the descriptor does not block.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
