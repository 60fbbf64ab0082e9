//! Every clause of the contract has a property, and every property cites clauses that exist.

#[path = "../../tests/support/mock_harness.rs"]
mod mock_harness;
#[path = "../../examples/toy_fabric/tests/harness/mod.rs"]
mod toy_harness;

use std::collections::{BTreeMap, BTreeSet};

use mock_harness::MockHarness;
use toy_fabric::{Toy, ToyAddr};
use toy_harness::ToyHarness;
use trespass_conformance::{Deadlines, Fabrics, Harness, Property};
use trespass_layers::{Lossy, lossy::LossyConfig};

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
    for group in ["B", "F", "W", "E", "D", "C", "M", "K", "S"] {
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

/// What datagram tracks do not owe, the contract says: what is left of it they have properties for.
#[test]
fn every_clause_that_datagrams_owe_has_a_property_for_them() {
    let cited: BTreeSet<_> = datagram_properties().into_iter().flat_map(|(_, clauses)| clauses).collect();
    let exempt = CONTRACT.split("owes them all but ").nth(1).and_then(|rest| rest.split(", and nothing").next());
    let exempt: BTreeSet<_> = exempt.expect("the exemptions").split([' ', ',', '\n']).collect();
    let is_exempt = |clause: &str| exempt.contains(clause) || clause.starts_with(['K', 'M', 'S']);
    let missing: Vec<_> =
        clauses().into_iter().filter(|clause| !is_exempt(clause) && !cited.contains(clause)).collect();
    assert!(missing.is_empty(), "clauses without a property for datagrams: {missing:?}");
    assert!(exempt.contains("F1") && exempt.contains("E4") && !exempt.contains("B1"), "{exempt:?}");
}

/// Those of reliable tracks, and those that only datagram tracks have.
fn properties() -> Vec<(String, Vec<&'static str>)> {
    let mut properties = listed(trespass_conformance::properties::<ToyHarness>());
    properties.extend(listed(trespass_conformance::memory_properties::<MockHarness>()));
    let datagrams = datagram_properties();
    properties.extend(datagrams.into_iter().filter(|(name, _)| name.starts_with("datagrams::")));
    properties
}

fn datagram_properties() -> Vec<(String, Vec<&'static str>)> {
    listed(trespass_conformance::datagram_properties::<ToyDatagrams>())
}

fn listed<H: Harness>(properties: Vec<Property<H>>) -> Vec<(String, Vec<&'static str>)> {
    properties.into_iter().map(|property| (property.to_string(), property.clauses.to_vec())).collect()
}

/// Datagrams of the toy: only listed, never run.
struct ToyDatagrams(ToyHarness);

impl Harness for ToyDatagrams {
    type Fabric = Lossy<Toy>;

    fn fabrics(&self) -> Fabrics<Lossy<Toy>> {
        let Fabrics { server, client } = self.0.fabrics();
        let config = LossyConfig::new(0);
        Fabrics { server: Lossy::over(server, config), client: Lossy::over(client, config) }
    }

    fn listen_addr(&self) -> ToyAddr {
        self.0.listen_addr()
    }

    fn vacant_addr(&self) -> ToyAddr {
        self.0.vacant_addr()
    }

    fn deadlines(&self) -> Deadlines {
        self.0.deadlines()
    }
}
