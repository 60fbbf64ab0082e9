//! What bytes mean, by themselves: torn mixtures, and whatever else a READ may bring.

mod support;

use proptest::prelude::*;
use trespass_example_table::bucket::{Seen, find};
use trespass_example_table::{Layout, Secret, Table};

use support::Plain;

/// A table of one bucket, so that all keys meet.
fn layout() -> Layout {
    Layout::new(1, 3, 88).expect("a layout")
}

fn seen(bytes: &[u8], secret: Secret, key: &[u8]) -> Seen<Vec<u8>> {
    match find(bytes, layout(), secret, key) {
        Seen::Found { version, value } => Seen::Found { version, value: value.to_vec() },
        Seen::Absent => Seen::Absent,
        Seen::Elsewhere => Seen::Elsewhere,
        Seen::Torn => Seen::Torn,
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, Vec<u8>),
    Remove(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..62),
        // Values that are much alike are the hardest to tell apart.
        8 => (any::<bool>(), 0..62_usize).prop_map(|(one, len)| vec![u8::from(one); len]),
        1 => Just(vec![7; 100]),
    ];
    let step = prop_oneof![
        4 => (0..5_u8, value).prop_map(|(key, value)| Step::Put(key, value)),
        1 => (0..5_u8).prop_map(Step::Remove),
    ];
    proptest::collection::vec(step, 1..12)
}

/// What the bucket was after each step, and what each key was said to be then.
fn history(secret: Secret, steps: &[Step]) -> Vec<Vec<u8>> {
    let shared = Plain::new(layout().bytes());
    let table = Table::over(shared.clone(), layout(), secret).expect("it fits");
    let mut states = vec![shared.bytes()];
    for step in steps {
        match step {
            // Whether it was placed shows in what is found.
            Step::Put(key, value) => drop(table.put(&[*key], value)),
            Step::Remove(key) => drop(table.remove(&[*key])),
        }
        states.push(shared.bytes());
    }
    states
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    /// Each byte is of any of the states that the bucket went through, as bad as a device could ever mix them. What is
    /// found is what some state had, with its version; and of what is mixed within a word nothing is found, either.
    #[test]
    fn a_mixture_is_never_taken_for_a_value(
        secret in any::<u64>(), steps in steps(), from in proptest::collection::vec(any::<u8>(), 272), grain in 0..4_usize,
    ) {
        let secret = Secret::from_seed(secret);
        let states = history(secret, &steps);
        let grain = [1, 8, 16, 64][grain];
        let mixed: Vec<u8> = (0..layout().bytes())
            .map(|at| states[usize::from(from[at / grain]) % states.len()][at])
            .collect();
        for key in 0..5_u8 {
            if let found @ Seen::Found { .. } = seen(&mixed, secret, &[key]) {
                let real = states.iter().any(|state| seen(state, secret, &[key]) == found);
                prop_assert!(real, "key {key}: {found:?} was never there");
            }
        }
    }

    /// Two states of one entry, cut anywhere: the commonest way to be torn.
    #[test]
    fn a_cut_is_never_taken_for_a_value(
        secret in any::<u64>(),
        old in proptest::collection::vec(any::<u8>(), 0..62),
        new in proptest::collection::vec(any::<u8>(), 0..62),
        cut in 0..272_usize,
    ) {
        let secret = Secret::from_seed(secret);
        let states = history(secret, &[Step::Put(1, old.clone()), Step::Put(1, new.clone())]);
        let mixed = [&states[2][..cut], &states[1][cut..]].concat();
        match seen(&mixed, secret, &[1]) {
            Seen::Found { version: 1, value } => prop_assert_eq!(value, old),
            Seen::Found { version: 2, value } => prop_assert_eq!(value, new),
            Seen::Torn => {}
            other => prop_assert!(false, "{:?}", other),
        }
    }

    /// Bytes that nobody wrote, of any length.
    #[test]
    fn nothing_is_found_in_noise(
        secret in any::<u64>(), bytes in proptest::collection::vec(any::<u8>(), 0..300), key in any::<Vec<u8>>(),
    ) {
        prop_assert_eq!(seen(&bytes, Secret::from_seed(secret), &key), Seen::Torn);
        let mut bytes = bytes;
        bytes.resize(layout().bytes(), 0);
        prop_assert_eq!(seen(&bytes, Secret::from_seed(secret), &key), Seen::Torn);
    }

    /// After each step the whole bucket says what a map would.
    #[test]
    fn what_is_whole_is_what_was_put(secret in any::<u64>(), steps in steps()) {
        let secret = Secret::from_seed(secret);
        let states = history(secret, &steps);
        let mut map = std::collections::HashMap::new();
        for (state, step) in states[1..].iter().zip(&steps) {
            match step {
                Step::Put(key, value) => drop(map.insert(*key, value)),
                Step::Remove(key) => drop(map.remove(key)),
            }
            for key in 0..5_u8 {
                match (seen(state, secret, &[key]), map.get(&key)) {
                    (Seen::Found { value, .. }, Some(wanted)) => prop_assert_eq!(&value, *wanted),
                    (Seen::Absent, None) | (Seen::Elsewhere, _) => {}
                    (seen, wanted) => prop_assert!(false, "{:?}, not {:?}", seen, wanted),
                }
            }
        }
    }
}

#[test]
fn every_bit_counts() {
    let secret = Secret::from_seed(9);
    let state = history(secret, &[Step::Put(1, vec![5; 20])]).pop().expect("a state");
    let entry = 8..8 + 24 + 1 + 20;
    for bit in 8 * entry.start..8 * entry.end {
        let mut wrong = state.clone();
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(seen(&wrong, secret, &[1]), Seen::Torn, "bit {bit}");
    }
    // An entry in another's place, and of another table.
    let mut moved = state.clone();
    moved.copy_within(8..96, 96);
    moved[8..96].copy_from_slice(&state[96..184]);
    assert_eq!(seen(&moved, secret, &[1]), Seen::Torn);
    assert_eq!(seen(&state, Secret::from_seed(10), &[1]), Seen::Torn);
}
