use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

/// Delivers a message, if it may be.
fn deliver(window: &mut Window, number: u32) -> Verdict {
    let verdict = window.admit(number);
    if verdict == Verdict::Fresh {
        window.finish(number);
    }
    verdict
}

#[test]
fn each_is_fresh_once() {
    let mut window = Window::new();
    for number in [0, 1, 5, 3, 4, 2, 1028, 6] {
        assert_eq!(deliver(&mut window, number), Verdict::Fresh, "{number}");
        assert_eq!(deliver(&mut window, number), Verdict::Over, "{number}");
    }
    assert_eq!(deliver(&mut window, 4), Verdict::Late);
    assert_eq!(deliver(&mut window, 7), Verdict::Fresh);
}

#[test]
fn one_wrong_number_spoils_nothing() {
    let mut window = Window::new();
    assert_eq!(deliver(&mut window, 0), Verdict::Fresh);
    for wrong in [1 << 20, 1 << 20, 1 << 30, 1025, 0x7FFF_FFFF] {
        assert_eq!(deliver(&mut window, wrong), Verdict::Stray);
    }
    // As far ahead as is believed at once.
    assert_eq!(deliver(&mut window, 1024), Verdict::Fresh);
    for number in 1..1024 {
        assert_eq!(deliver(&mut window, number), Verdict::Fresh);
    }
}

#[test]
fn after_a_long_silence_the_second_is_believed() {
    let mut window = Window::new();
    assert_eq!(deliver(&mut window, 0), Verdict::Fresh);
    assert_eq!(deliver(&mut window, 1 << 20), Verdict::Stray);
    assert_eq!(deliver(&mut window, (1 << 20) + 1), Verdict::Fresh);
    assert_eq!(deliver(&mut window, 1 << 20), Verdict::Fresh, "it was not delivered");
    assert_eq!(deliver(&mut window, 5), Verdict::Late);
    assert_eq!(window.missed(), (1 << 20) - 1 - 1023 + 1);
}

#[test]
fn numbers_may_wrap() {
    let mut window = Window { newest: u32::MAX - 3, ..Window::new() };
    for number in [u32::MAX - 2, u32::MAX, 1, 0, u32::MAX - 1] {
        assert_eq!(deliver(&mut window, number), Verdict::Fresh);
        assert_eq!(deliver(&mut window, number), Verdict::Over);
    }
}

#[test]
fn what_never_came_is_counted_when_it_is_old() {
    let mut window = Window::new();
    for number in (0..10_000).filter(|number| number % 10 != 0) {
        deliver(&mut window, number);
    }
    for number in 10_000..10_000 + SPAN {
        deliver(&mut window, number);
    }
    assert_eq!(window.missed(), 1000);
}

proptest! {
    /// Whatever the order: no number is fresh twice, and one that is not far from the newest is fresh the first time.
    #[test]
    fn it_is_a_set_of_numbers(steps in prop::collection::vec((-1500_i64..1000, any::<bool>()), 1..400)) {
        let (mut window, mut delivered, mut newest) = (Window::new(), HashSet::new(), -1_i64);
        for (step, repeat) in steps {
            let number = (newest + step).max(0);
            for _ in 0..=usize::from(repeat) {
                let verdict = deliver(&mut window, number as u32);
                newest = newest.max(number);
                let expected = match (newest - number >= i64::from(SPAN), delivered.insert(number)) {
                    (true, _) => Verdict::Late,
                    (false, true) => Verdict::Fresh,
                    (false, false) => Verdict::Over,
                };
                prop_assert_eq!(verdict, expected);
            }
        }
    }
}
