//! What fails outside any work request: a queue pair, a queue, or the device with all that is on it.

use std::sync::Arc;

use super::VerbsDriver;
use super::entry::Entry;
use super::handshake::REFUSED;
use crate::error::VerbsError;
use crate::hub::Supply;
use crate::raw::events::{AsyncEvent, next_async_event};

/// What has failed. All that has a part of it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failed {
    /// The queue pair with this number.
    QueuePair(u32),
    /// A completion queue, or a shared receive queue, of what has this token.
    Queue(u64),
    Device,
}

/// Why everything is over when the connection manager says so.
pub(super) const REMOVED: &str = "the device was removed";

impl Failed {
    /// What `event` says has failed, and how; none where nothing has.
    fn by(event: AsyncEvent) -> Option<(Self, &'static str)> {
        match event {
            AsyncEvent::QueuePair(number, why) => Some((Self::QueuePair(number), why)),
            AsyncEvent::CompletionQueue(queue) => Some((Self::Queue(queue >> 1), "its completion queue has failed")),
            AsyncEvent::DeviceFatal => Some((Self::Device, "the device has failed; see `dmesg`")),
            AsyncEvent::ReceivesLow(_) | AsyncEvent::PortDown(_) | AsyncEvent::PortUp(_) | AsyncEvent::Other => None,
        }
    }

    /// Whether what has this token, and the queue pair of this number where it has one of its own, goes with it.
    fn takes(self, token: u64, queue_pair: Option<u32>) -> bool {
        match self {
            Self::QueuePair(number) => queue_pair == Some(number),
            Self::Queue(of) => of == token,
            Self::Device => true,
        }
    }
}

impl VerbsDriver {
    #[cold]
    pub(super) fn read_async_events(&mut self) {
        while let Ok(Some(event)) = next_async_event(&self.control.device.context) {
            let links = &self.control.device.links;
            match event {
                AsyncEvent::ReceivesLow(queue) => {
                    if let Some(queue) = self.control.shared(queue >> 1) {
                        queue.ran_low();
                    }
                }
                // A link may come back before the retries are used up; if not, the sends fail and say so.
                AsyncEvent::PortDown(port) => links.went_down(port),
                AsyncEvent::PortUp(port) => links.came_up(port),
                event => {
                    if let Some((failed, why)) = Failed::by(event) {
                        self.fail_all_of(failed, why);
                    }
                }
            }
        }
    }

    /// Ends all that `failed` takes with it: tracks, ports, handshakes, and listeners. The cause that a completion gave is the
    /// better one, and stays where a side has seen it.
    pub(super) fn fail_all_of(&mut self, failed: Failed, why: &str) {
        let error = |action| VerbsError::Device { action, why: why.to_owned() };
        let ended = || error("go on with the track");
        let (mut conns, mut ports, mut queues) = (Vec::new(), Vec::new(), Vec::new());
        let (mut handshakes, mut listeners) = (Vec::new(), Vec::new());
        for (token, entry) in self.control.state().entries.iter_mut() {
            let queue_pair = match entry {
                Entry::Established(established) => Some(established.conn.qp.number()),
                Entry::Waiting(waiting) => Some(waiting.queues.conn().qp.number()),
                Entry::Port(entry) => Some(entry.port.qp.number()),
                _ => None,
            };
            if !failed.takes(token, queue_pair) {
                continue;
            }
            match entry {
                Entry::Established(established) => conns.push(Arc::clone(&established.conn)),
                Entry::Shared(queue) => queues.push(Arc::clone(queue)),
                Entry::Port(entry) => {
                    ports.push(Arc::clone(&entry.port));
                    listeners.extend(entry.listener().cloned());
                }
                Entry::Listening(listening) => listeners.push(Arc::clone(&listening.shared)),
                Entry::Resolving(_)
                | Entry::Pausing(_)
                | Entry::Waiting(_)
                | Entry::Requested(_)
                | Entry::Seeking(_)
                | Entry::Asking(_) => handshakes.push(token),
            }
        }
        for queue in queues {
            queue.fail(ended());
        }
        for port in ports {
            port.end(Some(ended()));
        }
        for conn in conns {
            match failed {
                // There is nothing over which to say goodbye.
                Failed::Device => conn.fail(ended()),
                Failed::QueuePair(_) | Failed::Queue(_) => conn.end(Some(ended())),
            }
        }
        for token in handshakes {
            self.fail(token, |_| error("connect"));
            self.fail_seeking(token, |_| error("connect"));
            self.forget_asking(token);
        }
        for listener in listeners {
            drop(listener.end(error("listen")));
        }
    }

    /// Refuses a request for datagrams that waits for the user.
    fn forget_asking(&mut self, token: u64) {
        let is_asking = matches!(self.control.state().entries.get_mut(token), Some(Entry::Asking(_)));
        if let (true, Some(Entry::Asking(asking))) = (is_asking, self.control.take(token)) {
            self.refuse_datagrams(&asking, token, REFUSED);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries as the table has them: a token, and a queue pair where it has one.
    const ENTRIES: [(u64, Option<u32>); 4] = [(0, None), (1, Some(17)), (2, Some(18)), (3, Some(17 << 1))];

    /// The tokens of what goes when this event comes.
    fn gone(event: AsyncEvent) -> Vec<u64> {
        let failed = Failed::by(event);
        let gone = |(token, number)| failed.is_some_and(|(failed, _)| failed.takes(token, number));
        ENTRIES.into_iter().filter(|entry| gone(*entry)).map(|(token, _)| token).collect()
    }

    #[test]
    fn what_has_failed_takes_its_own_and_nothing_else() {
        assert_eq!(gone(AsyncEvent::QueuePair(17, "why")), [1]);
        assert_eq!(gone(AsyncEvent::QueuePair(99, "why")), []);
        // Two queues to a token; of a number that is another's queue pair, too.
        assert_eq!((gone(AsyncEvent::CompletionQueue(4)), gone(AsyncEvent::CompletionQueue(5))), (vec![2], vec![2]));
        assert_eq!(gone(AsyncEvent::CompletionQueue(17)), []);
        assert_eq!(gone(AsyncEvent::DeviceFatal), [0, 1, 2, 3]);
        for harmless in [AsyncEvent::ReceivesLow(2), AsyncEvent::PortDown(1), AsyncEvent::PortUp(1), AsyncEvent::Other]
        {
            assert_eq!(gone(harmless), [], "{harmless:?}");
        }
    }

    #[test]
    fn it_is_said_what_has_failed() {
        let why = |event| Failed::by(event).map(|(_, why)| why);
        assert_eq!(why(AsyncEvent::QueuePair(1, "as the device says")), Some("as the device says"));
        assert!(why(AsyncEvent::CompletionQueue(1)).is_some_and(|why| why.contains("completion queue")));
        assert!(why(AsyncEvent::DeviceFatal).is_some_and(|why| why.contains("dmesg")));
    }
}
