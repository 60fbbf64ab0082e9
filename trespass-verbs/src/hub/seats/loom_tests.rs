//! A model of who leaves a seat while the last of his is sorted, and somebody else looks for one.
//!
//! Each of these fails it: a seat that is free though sends are under way, though a buffer is out, or before whoever has it
//! has left; a seat that is not counted when it is taken.

use loom::sync::Mutex;
use loom::thread;

use super::*;
use crate::sync::explore;

/// Seats under the lock of their hub, and what the device and the user have of the first member.
struct Hub {
    state: Mutex<(Seats, Has)>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Has {
    send: bool,
    buffer: bool,
}

#[test]
fn a_seat_is_free_once_nothing_of_who_had_it_is_out() {
    explore(Some(3), || {
        let mut seats = Seats::new(1);
        let member = seats.sit(0, Shared::of_no_device(0), 1);
        member.post(1);
        member.hold();
        let hub = Arc::new(Hub { state: Mutex::new((seats, Has { send: true, buffer: true })) });
        let request = member.request(1);
        let (sorting, posting) = (Arc::clone(&hub), Arc::clone(&hub));
        let sorting = thread::spawn(move || {
            let (seats, has) = &mut *sorting.state.lock().unwrap();
            let owner = seats.owner(request).expect("its seat is nobody else's yet");
            owner.complete(request);
            has.send = false;
        });
        let same = Arc::clone(&member);
        let posting = thread::spawn(move || {
            let (_, has) = &mut *posting.state.lock().unwrap();
            same.release();
            has.buffer = false;
        });
        let sit = || {
            let (seats, has) = &mut *hub.state.lock().unwrap();
            let seat = seats.free()?;
            assert_eq!(*has, Has { send: false, buffer: false }, "its seat was given away");
            Some(seats.sit(seat, Shared::of_no_device(0), 1))
        };
        assert!(sit().is_none(), "it has not left");
        member.leave(1);
        let early = sit();
        sorting.join().unwrap();
        posting.join().unwrap();
        let next = early.or_else(sit).expect("all is back");
        assert!(!next.owns(request), "what is left of one would be taken for the other's");
        assert!(hub.state.lock().unwrap().0.owner(request).is_none());
    });
}
