//! Every clause of the contract has a property, and every property cites clauses that exist.

#[path = "../../tests/support/mock_harness.rs"]
mod mock_harness;
#[path = "../../tests/support/toy/mod.rs"]
mod toy;
#[path = "../../tests/support/toy_harness.rs"]
mod toy_harness;

use std::collections::{BTreeMap, BTreeSet};

use mock_harness::MockHarness;
use toy_harness::ToyHarness;

const CONTRACT: &str = include_str!("../../docs/CONTRACT.md");

/// The clauses of the contract: a line for each, `- **B1** …`.
fn clauses() -> BTreeSet<&'static str> {
    CONTRACT.lines().filter_map(|line| line.strip_prefix("- **")?.split_once("**")).map(|(clause, _)| clause).collect()
}

#[test]
fn the_contract_is_read_whole() {
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for clause in clauses() {
        let (group, number) = clause.split_at(1);
        assert!(number.parse::<usize>().is_ok(), "{clause} is not a letter and a number");
        *groups.entry(group).or_default() += 1;
    }
    for group in ["B", "F", "W", "E", "C", "M", "K"] {
        let count = groups.get(group).copied().unwrap_or_default();
        assert!(count > 1, "no clauses of group {group} were found: has the contract another form now?");
        for number in 1..=count {
            assert!(clauses().contains(format!("{group}{number}").as_str()), "{group}{number} is missing");
        }
    }
}

#[test]
fn every_clause_has_a_property() {
    let cited: BTreeSet<_> = properties().into_iter().flat_map(|(_, clauses)| clauses).collect();
    let missing: Vec<_> = clauses().into_iter().filter(|clause| !cited.contains(clause)).collect();
    assert!(missing.is_empty(), "clauses without a property: {missing:?}");
}

#[test]
fn every_property_cites_clauses_that_exist() {
    for (name, cited) in properties() {
        assert!(!cited.is_empty(), "{name} cites no clause");
        for clause in cited {
            assert!(clauses().contains(clause), "{name} cites {clause}, which the contract does not have");
        }
    }
}

#[test]
fn names_are_unique() {
    let names: Vec<_> = properties().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

fn properties() -> Vec<(String, Vec<&'static str>)> {
    let properties = trespass_conformance::properties::<ToyHarness>().into_iter();
    let of_memory = trespass_conformance::memory_properties::<MockHarness>().into_iter();
    let properties = properties.map(|property| (property.to_string(), property.clauses.to_vec()));
    properties.chain(of_memory.map(|property| (property.to_string(), property.clauses.to_vec()))).collect()
}
