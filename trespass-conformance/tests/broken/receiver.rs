//! The receiving half of a track with one fault.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use toy_fabric::{ToyError, ToyReceiver};
use trespass_core::{ErrorKind, RecvSide, TryError};

use crate::bufs::BrokenRecvBuf;
use crate::fault::Fault;
use crate::tap::{Deaf, unheard};
use crate::track::{Flags, Own, failed};

pub(crate) struct BrokenReceiver {
    pub(crate) toy: ToyReceiver,
    pub(crate) own: Own,
    received: u64,
    told: u64,
    /// Whether the last `try_recv` found nothing.
    looked: bool,
    over_last: Option<Arc<OnceLock<Box<[u8]>>>>,
}

impl BrokenReceiver {
    pub(crate) fn new(toy: ToyReceiver, own: Own) -> Self {
        Self { toy, own, received: 0, told: 0, looked: false, over_last: None }
    }
}

impl RecvSide for BrokenReceiver {
    type RecvBuf = BrokenRecvBuf;

    fn posted(&self) -> u64 {
        match self.own.shared.fault {
            Fault::CountsReceivesTwice => 2 * self.toy.posted() - self.own.limits.recv_slots as u64,
            Fault::StartsAtZero => self.toy.posted() - self.own.limits.recv_slots as u64,
            _ => self.toy.posted(),
        }
    }

    fn try_recv(&mut self) -> Result<BrokenRecvBuf, TryError<ToyError>> {
        if let Some(error) = self.own.ended_above() {
            return Err(TryError::Failed(error));
        }
        match self.own.shared.fault {
            Fault::FullQueueBlocksTheReceiver if Flags::is(&self.own.flags.full) => return Err(TryError::WouldBlock),
            Fault::CloseThrowsAway if Flags::is(&self.own.flags.closed_here) => return failed(ErrorKind::Closed),
            Fault::EndOvertakes if self.own.shared.any_ended.load(Ordering::Acquire) => {
                return failed(ErrorKind::Closed);
            }
            Fault::ArmsInTry => drop(self.toy.poll_recv_ready(&mut Context::from_waker(std::task::Waker::noop()))),
            _ => {}
        }
        let toy = &mut self.toy;
        let deaf = if self.own.is(Fault::StalledSenderIsNotWoken) { Deaf::Everybody } else { Deaf::Nobody };
        let result = unheard(deaf, || toy.try_recv());
        self.looked = matches!(result, Err(TryError::WouldBlock));
        if self.looked && self.own.is(Fault::LookForgetsTheWaker) {
            self.own.tap.forget();
        }
        match result {
            Ok(buf) => {
                if self.own.is(Fault::ShowsReceivedBytes) {
                    *self.own.shared.last_received.lock().expect("no panic under this lock") = buf.to_vec();
                }
                if self.own.is(Fault::OverwritesHeldBuffers) {
                    let over = self.over_last.take();
                    over.into_iter().for_each(|over| _ = over.set(buf.to_vec().into()));
                }
                let owner = Arc::downgrade(&self.own.alive);
                let longest = buf.len() == self.own.limits.max_message;
                let buf = BrokenRecvBuf::new(buf, self.own.shared.fault, self.received, owner);
                if longest && self.own.is(Fault::Lengthens) {
                    let _ = buf.pen().set([&buf[..], &[0]].concat().into());
                }
                self.received += 1;
                self.over_last = Some(buf.pen());
                Ok(buf)
            }
            Err(TryError::WouldBlock) => Err(TryError::WouldBlock),
            Err(TryError::Failed(error)) => {
                self.told += 1;
                match self.own.shared.fault {
                    Fault::TellsTheEndOnce if self.told > 1 => Err(TryError::WouldBlock),
                    Fault::ErrorsChange if self.told > 1 => failed(ErrorKind::Device),
                    _ => Err(TryError::Failed(self.own.renamed(error))),
                }
            }
        }
    }

    fn poll_recv_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waker = self.own.tap.waker(cx.waker());
        let mut cx = Context::from_waker(&waker);
        let toy = &mut self.toy;
        let split = Flags::is(&self.own.flags.split);
        let deaf = match self.own.shared.fault {
            Fault::StalledSenderIsNotWoken => Deaf::Everybody,
            Fault::SplitReceiverIsNotWoken if split => {
                // With no waker to it, that is.
                cx = Context::from_waker(std::task::Waker::noop());
                Deaf::Nobody
            }
            _ => Deaf::Nobody,
        };
        let polled = unheard(deaf, || toy.poll_recv_ready(&mut cx));
        match self.own.shared.fault {
            Fault::ForgetsTheRecheck if std::mem::take(&mut self.looked) => Poll::Pending,
            Fault::EndIsNotReady if self.told > 0 => Poll::Pending,
            Fault::ReadyToReceiveForNothing => Poll::Ready(()),
            _ => polled,
        }
    }
}

impl Drop for BrokenReceiver {
    fn drop(&mut self) {
        Flags::raise(&self.own.flags.receiver_dropped);
    }
}
