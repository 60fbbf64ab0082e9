//! The kit is itself tested: a fabric that is broken on purpose, in every way that is listed, is caught by the property
//! that is there for it; and every property catches something.

#[macro_use]
#[path = "../support/faults.rs"]
mod faults;

mod bufs;
mod fabric;
#[macro_use]
mod fault;
mod receiver;
mod tap;
mod track;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fabric::BrokenHarness;
use fault::{ALSO, Fault, TABLE};
use trespass_conformance::{Property, properties};

trespass_conformance::conformance_tests!(BrokenHarness::new(Fault::Nothing));

#[allow(non_snake_case)]
mod caught {
    one_test_per_fault!();
}

/// Checks that the property that is named for `fault` fails with what it should say.
fn catch(fault: Fault) {
    let row = TABLE.iter().find(|(listed, ..)| *listed == fault).expect("a fault of the table");
    catch_by(row);
}

#[test]
fn other_properties_catch_it_too() {
    ALSO.iter().for_each(catch_by);
}

fn catch_by((fault, name, says): &(Fault, &str, &str)) {
    let text = failure_of(*fault, name);
    assert!(text.contains(says), "{fault:?} was noticed by {name}, but by: {text}");
}

/// What property `name` says of `fault`.
fn failure_of(fault: Fault, name: &str) -> String {
    let mut harness = BrokenHarness::new(fault);
    // It will not come, whatever it is: there is no sense in waiting for long.
    harness.patience = Duration::from_millis(700);
    let failed = catch_unwind(AssertUnwindSafe(|| property(name).check(&harness)));
    let Err(panic) = failed else { panic!("{fault:?} was not noticed by {name}") };
    let text = panic.downcast_ref::<String>().cloned();
    text.or(panic.downcast_ref::<&str>().map(ToString::to_string)).expect("a panic with a text")
}

fn property(name: &str) -> Property<BrokenHarness> {
    let found = properties().into_iter().find(|property| property.to_string() == name);
    found.unwrap_or_else(|| panic!("there is no property {name}"))
}

#[test]
fn every_property_catches_something() {
    let is_caught = |name: &str| TABLE.iter().chain(ALSO).any(|(_, listed, _)| *listed == name);
    let names = properties::<BrokenHarness>().into_iter().map(|property| property.to_string());
    let missing: Vec<_> = names.filter(|name| !is_caught(name)).collect();
    assert!(missing.is_empty(), "no fault is there for {missing:?}: can they fail at all?");
}
