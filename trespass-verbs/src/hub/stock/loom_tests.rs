//! Models of memory on loan: who borrows, who gives back, and whoever makes the stock grow, at once.
//!
//! Each of these fails a model: a top that is not counted when it changes; an exchange of the top that is relaxed, in
//! `push`; a stock that grows without the lock, or whose slots can be taken before their block is there; sends that count
//! as done before their memory is back; a place that is looked at and then emptied, in two steps, when what it has is
//! given back. That a place is filled and emptied relaxed fails none: what it names went through the stack, or comes by
//! a completion.

use std::future::poll_fn;
use std::sync::atomic::AtomicBool;
use std::task::Poll;

use loom::thread;

use super::*;
use crate::hub::Member;
use crate::link::Link;
use crate::sync::{Memory, block_on, explore};
use crate::track::slots::Shared;

/// A stock, and what it lends.
struct Lender<const SLOTS: usize> {
    stock: Arc<Stock>,
    memory: [Memory; SLOTS],
    /// Which slots somebody has. Loom sees nothing of it, so it orders nothing.
    out: [AtomicBool; SLOTS],
}

impl<const SLOTS: usize> Lender<SLOTS> {
    fn new(blocks: usize) -> Arc<Self> {
        let stock = Stock::new(|| Ok(Arena::none()), blocks, SLOTS / blocks, 0).unwrap();
        Arc::new(Self {
            stock,
            memory: std::array::from_fn(|_| Memory::new()),
            out: std::array::from_fn(|_| AtomicBool::new(false)),
        })
    }

    fn take(&self, borrower: u32) -> Result<u32, VerbsError> {
        let (slot, _) = self.stock.take(borrower, 0)?;
        assert!(!self.out[slot as usize].swap(true, Ordering::Relaxed), "slot {slot} is lent twice");
        self.memory[slot as usize].write();
        Ok(slot)
    }

    fn give(&self, slot: u32) {
        self.memory[slot as usize].write();
        self.out[slot as usize].store(false, Ordering::Relaxed);
        self.stock.push(slot);
    }
}

#[test]
fn what_one_has_nobody_else_gets() {
    explore(Some(4), || {
        let lender = Lender::<4>::new(1);
        let other = Arc::clone(&lender);
        // The top goes, and comes back above another slot than before, while the other thread is at it.
        let borrowing = thread::spawn(move || {
            let [first, second] = [(); 2].map(|()| other.take(1).expect("two for each"));
            other.give(first);
            other.give(second);
        });
        [(); 2].map(|()| lender.take(2).expect("two for each")).map(|slot| lender.give(slot));
        borrowing.join().unwrap();
        (0..4).for_each(|_| assert!(lender.take(3).is_ok(), "a slot is lost"));
        assert_eq!(lender.take(3), Err(none_left()));
    });
}

#[test]
fn it_grows_for_whoever_finds_none_and_no_further() {
    explore(Some(3), || {
        let lender = Lender::<3>::new(3);
        let held = lender.take(0).expect("the first block");
        let borrowing = [1, 2].map(|borrower| {
            let lender = Arc::clone(&lender);
            thread::spawn(move || {
                for _ in 0..2 {
                    let slot = lender.take(borrower).expect("there is a block for each");
                    lender.give(slot);
                }
            })
        });
        borrowing.into_iter().for_each(|thread| thread.join().unwrap());
        lender.give(held);
        let grown = *lender.stock.grown.lock().unwrap();
        assert!((2..=3).contains(&grown), "{grown} blocks");
        (0..3).for_each(|_| assert!(lender.take(3).is_ok(), "a slot is lost"));
        assert_eq!(lender.take(3), Err(none_left()));
    });
}

#[test]
fn a_sender_that_was_woken_finds_memory() {
    explore(None, || {
        // No slot more than the one member may have under way.
        let lender = Lender::<1>::new(1);
        let loan = Loan::new(&lender.stock, 1);
        let shared = Arc::new(Shared::lent(loan, Link::of_no_device(), 0, 1));
        let member = Arc::new(Member::new(shared, 1, 0));
        let loan = member.shared.loan.as_ref().unwrap();
        let send = |number: u64| {
            loan.reserve(0, 0).expect("a slot is free, so there is memory for it");
            lender.memory[0].write();
            loan.queue(0, number);
            member.post(number + 1);
        };
        send(0);
        let (sorting, device) = (Arc::clone(&member), Arc::clone(&lender));
        let sorting = thread::spawn(move || {
            device.memory[0].write();
            sorting.complete(sorting.request(1));
            sorting.shared.send_waker.wake();
        });
        block_on(poll_fn(|cx| {
            member.shared.send_waker.register(cx.waker());
            if member.done() == 1 { Poll::Ready(()) } else { Poll::Pending }
        }));
        send(1);
        sorting.join().unwrap();
        assert!(lender.stock.take(1, 0).is_err(), "the second send has the only slot");
        member.complete(member.request(2));
        assert!(lender.take(1).is_ok());
    });
}

#[test]
fn what_completes_while_the_queue_pair_goes_comes_back_once() {
    explore(None, || {
        let lender = Lender::<2>::new(1);
        let loan = Arc::new(Loan::new(&lender.stock, 2));
        for number in 0..2 {
            loan.reserve(number as u32, 0).unwrap();
            loan.queue(number as u32, number);
        }
        let sorting = Arc::clone(&loan);
        let sorting = thread::spawn(move || sorting.complete(0, 2));
        loan.reclaim();
        sorting.join().unwrap();
        assert!(lender.take(1).is_ok() && lender.take(1).is_ok(), "a slot is lost");
        assert!(lender.take(1).is_err(), "there are two");
    });
}
