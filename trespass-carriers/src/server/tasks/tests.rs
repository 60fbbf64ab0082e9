use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;

use super::*;

type Boxed = Pin<Box<dyn Future<Output = usize>>>;

/// Futures that end when they are told to, and say how often they were polled.
#[derive(Clone, Default)]
struct Script {
    polls: Rc<RefCell<Vec<usize>>>,
    wakers: Rc<RefCell<Vec<Option<Waker>>>>,
    over: Rc<RefCell<Vec<bool>>>,
}

impl Script {
    fn future(&self, number: usize) -> Boxed {
        let this = self.clone();
        this.wakers.borrow_mut().resize(number + 1, None);
        this.over.borrow_mut().resize(number + 1, false);
        Box::pin(poll_fn(move |cx| {
            this.polls.borrow_mut().push(number);
            this.wakers.borrow_mut()[number] = Some(cx.waker().clone());
            match this.over.borrow()[number] {
                true => Poll::Ready(number),
                false => Poll::Pending,
            }
        }))
    }

    fn wake(&self, number: usize) {
        self.wakers.borrow()[number].as_ref().expect("it was polled").wake_by_ref();
    }

    fn end(&self, number: usize) {
        self.over.borrow_mut()[number] = true;
        self.wake(number);
    }

    fn polls(&self) -> Vec<usize> {
        std::mem::take(&mut self.polls.borrow_mut())
    }
}

/// Counts how often it was woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn filled(count: usize) -> (Tasks<Boxed>, Script) {
    let (mut tasks, script) = (Tasks::new(count), Script::default());
    for number in 0..count {
        assert!(tasks.insert(script.future(number)).is_ok());
    }
    assert!(tasks.insert(script.future(count)).is_err(), "there is no room");
    (tasks, script)
}

#[test]
fn each_is_polled_when_it_was_woken_and_no_other() {
    // Across words of bits, and with the last word not full.
    let (mut tasks, script) = filled(200);
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    assert!(tasks.poll_next(&mut cx).is_pending());
    assert_eq!(script.polls(), (0..200).collect::<Vec<_>>());
    assert!(tasks.poll_next(&mut cx).is_pending());
    assert_eq!(script.polls(), []);

    let before = count.0.load(Ordering::SeqCst);
    for number in [199, 0, 63, 64, 127, 128] {
        script.wake(number);
    }
    assert!(count.0.load(Ordering::SeqCst) > before, "the task is woken");
    assert!(tasks.poll_next(&mut cx).is_pending());
    let mut polls = script.polls();
    polls.sort_unstable();
    assert_eq!(polls, [0, 63, 64, 127, 128, 199]);
}

#[test]
fn what_ends_makes_room_and_gives_what_it_has() {
    let (mut tasks, script) = filled(3);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(tasks.poll_next(&mut cx).is_pending());
    script.end(1);
    script.end(2);
    let mut ended = Vec::new();
    while let Poll::Ready(number) = tasks.poll_next(&mut cx) {
        ended.push(number);
    }
    ended.sort_unstable();
    assert_eq!((ended, tasks.len()), (vec![1, 2], 1));
    // A late wake-up of one that is gone harms nobody.
    script.wake(1);
    assert!(tasks.insert(script.future(3)).is_ok());
    assert!(tasks.insert(script.future(4)).is_ok());
    assert!(tasks.insert(script.future(5)).is_err(), "there is no room");
    script.polls();
    assert!(tasks.poll_next(&mut cx).is_pending());
    script.end(4);
    assert_eq!(tasks.poll_next(&mut cx), Poll::Ready(4));
    tasks.clear();
    assert!(tasks.is_empty() && tasks.len() == 0);
    assert!(tasks.poll_next(&mut cx).is_pending());
}

/// One that wakes itself all the time keeps nobody from his turn, and the task from no other.
#[test]
fn whoever_is_always_ready_leaves_others_their_turn() {
    let mut tasks: Tasks<Boxed> = Tasks::new(3);
    let greedy = || -> Boxed {
        Box::pin(poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        }))
    };
    let script = Script::default();
    assert!(tasks.insert(greedy()).is_ok());
    assert!(tasks.insert(script.future(0)).is_ok());
    assert!(tasks.insert(greedy()).is_ok());
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    assert!(tasks.poll_next(&mut cx).is_pending());
    assert_eq!(script.polls(), [0]);
    for _ in 0..10 {
        script.wake(0);
        let before = count.0.load(Ordering::SeqCst);
        assert!(tasks.poll_next(&mut cx).is_pending());
        assert_eq!(script.polls(), [0]);
        assert!(count.0.load(Ordering::SeqCst) > before, "there is more to do, and the task knows");
    }
}

#[test]
fn wake_ups_come_from_any_thread() {
    let mut tasks: Tasks<Pin<Box<dyn Future<Output = usize> + Send>>> = Tasks::new(100);
    for number in 0..100 {
        let shared = Arc::new((AtomicUsize::new(0), WakerSlot::new()));
        let other = Arc::clone(&shared);
        std::thread::spawn(move || {
            other.0.store(1, Ordering::SeqCst);
            other.1.wake();
        });
        let future = poll_fn(move |cx| {
            shared.1.register(cx.waker());
            match shared.0.load(Ordering::SeqCst) {
                0 => Poll::Pending,
                _ => Poll::Ready(number),
            }
        });
        assert!(tasks.insert(Box::pin(future)).is_ok());
    }
    let mut seen = vec![false; 100];
    trespass_core::wait(async {
        for _ in 0..100 {
            seen[poll_fn(|cx| tasks.poll_next(cx)).await] = true;
        }
    });
    assert!(tasks.is_empty() && seen.iter().all(|seen| *seen));
}
