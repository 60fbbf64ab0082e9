//! Where keys are, now and before: a membership with a ring of each of its epochs.

use std::sync::Arc;

use hashring::HashRing;
use trespass::core::Address;

use crate::membership::{Epoch, Line, Membership, NodeId};

/// Points of each node on the ring: with so many the fullest of five nodes has some tenth more than its share.
const POINTS: u16 = 128;

/// One of a node's points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Point {
    node: NodeId,
    number: u16,
}

/// Which nodes have a key in one epoch: the first on a ring, clockwise from the key.
///
/// That order has the property that everything here relies on: where one node is added or taken away, at most one of the
/// nodes of a key is another. (Multi-probe hashing, as of the crate `mpchash`, needs no points, but may change all of them
/// at once.) The ring is of `hashring`, which is small and was kept since 2016; its hash is SipHash with a fixed key, so that all
/// processes agree. Who comes after a point is looked up once, so that a key takes one search of the ring, and no memory.
#[derive(Debug)]
pub struct Placement {
    ring: HashRing<Point>,
    nodes: Vec<NodeId>,
    /// For each point, by node and number, the nodes that come first from it on: `each` of them.
    first: Vec<NodeId>,
    each: usize,
}

impl Placement {
    /// Places keys on `nodes`, which are in order and not empty, `replicas` of them for each.
    pub fn new(nodes: Vec<NodeId>, replicas: usize) -> Self {
        let each = replicas.min(nodes.len());
        let mut ring = HashRing::new();
        let points = |node: &NodeId| (0..POINTS).map(|number| Point { node: *node, number }).collect::<Vec<_>>();
        ring.batch_add(nodes.iter().flat_map(points).collect());
        let count = nodes.len() * usize::from(POINTS);
        // All points, clockwise from where this key happens to lie.
        let order = ring.get_with_replicas(&0_u8, count.saturating_sub(1)).unwrap_or_default();
        let mut placement = Self { ring, first: vec![NodeId(0); count * each], nodes, each };
        for (at, point) in order.iter().enumerate() {
            let mut next = Vec::with_capacity(each);
            for Point { node, .. } in order[at..].iter().chain(&order[..at]) {
                if !next.contains(node) {
                    next.push(*node);
                }
                if next.len() == each {
                    break;
                }
            }
            if let Some(slot) = placement.slot(point) {
                placement.first[slot..slot + next.len()].copy_from_slice(&next);
            }
        }
        placement
    }

    /// The nodes that have `key`, its primary first. No allocation.
    pub fn replicas(&self, key: &[u8]) -> &[NodeId] {
        let slot = self.ring.get(&key).and_then(|point| self.slot(point));
        slot.and_then(|slot| self.first.get(slot..slot + self.each)).unwrap_or_default()
    }

    /// Whether `node` has `key`.
    pub fn has(&self, node: NodeId, key: &[u8]) -> bool {
        self.replicas(key).contains(&node)
    }

    fn slot(&self, point: &Point) -> Option<usize> {
        let node = self.nodes.binary_search(&point.node).ok()?;
        Some((node * usize::from(POINTS) + usize::from(point.number)) * self.each)
    }
}

/// A membership, and the placement of each of its epochs.
#[derive(Debug)]
pub struct View<A> {
    membership: Membership<A>,
    /// As many as the membership has lines.
    placements: Vec<Arc<Placement>>,
}

impl<A: Address> View<A> {
    /// Builds the rings: some hundred microseconds for each epoch that the view `before` does not have.
    pub fn new(membership: Membership<A>, before: Option<&Self>) -> Self {
        let known = |line: &Line<A>| {
            let before = before.filter(|before| before.membership.replicas() == membership.replicas())?;
            let at = before.membership.lines().iter().position(|known| known == line)?;
            before.placements.get(at).cloned()
        };
        let place = |line: &Line<A>| {
            known(line).unwrap_or_else(|| {
                let nodes = line.members.iter().map(|member| member.id).collect();
                Arc::new(Placement::new(nodes, membership.replicas()))
            })
        };
        let placements = membership.lines().iter().map(place).collect();
        Self { membership, placements }
    }

    /// Who is where.
    pub fn membership(&self) -> &Membership<A> {
        &self.membership
    }

    /// The epoch of it.
    pub fn epoch(&self) -> Epoch {
        self.membership.epoch()
    }

    /// The nodes that have `key` now, its primary first. No allocation.
    pub fn replicas(&self, key: &[u8]) -> &[NodeId] {
        self.placements.last().map_or(&[], |placement| placement.replicas(key))
    }

    /// The last epoch up to which a node that had all of its keys in `base` has every acknowledged write of `key`: `None`
    /// where it was not one of the key's nodes then, or that is too long ago.
    ///
    /// A write needs all of its key's nodes in its epoch. So a node that was one of them in each epoch since has every one, also of
    /// those epochs that it never heard of: there nothing was acknowledged without it.
    pub fn complete_through(&self, node: NodeId, base: Epoch, key: &[u8]) -> Option<Epoch> {
        let lines = self.membership.lines().iter().zip(&self.placements);
        let mut since = lines.skip_while(|(line, _)| line.epoch < base).peekable();
        if since.peek().is_none_or(|(line, _)| line.epoch != base) {
            return None;
        }
        since.take_while(|(_, placement)| placement.has(node, key)).last().map(|(line, _)| line.epoch)
    }

    /// Of a node that had all of its keys in each of `bases`, the best that can be said.
    pub fn complete(&self, node: NodeId, bases: &[Epoch], key: &[u8]) -> Option<Epoch> {
        bases.iter().filter_map(|base| self.complete_through(node, *base, key)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Member;

    fn ids(ids: &[u16]) -> Vec<NodeId> {
        ids.iter().map(|id| NodeId(*id)).collect()
    }

    fn keys() -> impl Iterator<Item = Vec<u8>> {
        (0..2000_u32).map(|number| format!("key {number}").into_bytes())
    }

    #[test]
    fn each_key_has_as_many_different_nodes_as_it_is_to_have() {
        let placement = Placement::new(ids(&[1, 2, 3, 4, 5]), 3);
        let mut first = [0; 6];
        for key in keys() {
            let nodes = placement.replicas(&key);
            assert!(matches!(nodes, [a, b, c] if a != b && b != c && a != c), "{nodes:?}");
            first[usize::from(nodes[0].0)] += 1;
        }
        assert!(first[1..].iter().all(|count| (250..600).contains(count)), "{first:?}");
        let few = Placement::new(ids(&[7]), 3);
        assert_eq!(few.replicas(b"any"), [NodeId(7)]);
    }

    #[test]
    fn one_node_more_or_less_changes_one_node_of_a_key_at_most() {
        let (five, four) = (Placement::new(ids(&[1, 2, 3, 4, 5]), 3), Placement::new(ids(&[1, 2, 4, 5]), 3));
        let mut moved = 0;
        for key in keys() {
            let (before, after) = (five.replicas(&key), four.replicas(&key));
            let kept: Vec<_> = before.iter().filter(|node| **node != NodeId(3)).collect();
            assert!(kept.iter().all(|node| after.contains(node)), "{before:?} {after:?}");
            assert_eq!(kept[..], after.iter().take(kept.len()).collect::<Vec<_>>()[..], "in the same order");
            moved += usize::from(before != after);
        }
        assert!(moved > 800, "{moved}: about three of five keys were on the node that went");
    }

    #[test]
    fn processes_agree_about_where_keys_are() {
        let placement = Placement::new(ids(&[1, 2, 3, 4, 5]), 2);
        let places: Vec<_> = ["a", "b", "c", "d"].map(|key| placement.replicas(key.as_bytes())[0].0).into();
        assert_eq!(
            places, PLACES,
            "another ring or hash: nodes and clients of two versions would not find each other's keys"
        );
    }

    const PLACES: [u16; 4] = [4, 5, 1, 3];

    fn view(lines: &[(u64, &[u16])]) -> View<String> {
        let mut text = "replicas 2\n".to_owned();
        for (epoch, nodes) in lines {
            text += &epoch.to_string();
            for id in *nodes {
                let member = Member { id: NodeId(*id), data: "a", control: "b" };
                text += &format!(" {member}");
            }
            text += "\n";
        }
        View::new(text.parse().expect("a membership"), None)
    }

    #[test]
    fn a_node_is_complete_while_it_stays() {
        let view = view(&[(4, &[1, 2]), (5, &[1]), (6, &[1, 2]), (9, &[1, 2])]);
        let complete = |node, base| view.complete_through(NodeId(node), Epoch(base), b"key");
        assert_eq!(complete(1, 4), Some(Epoch(9)));
        assert_eq!(complete(2, 4), Some(Epoch(4)), "it was away in 5");
        assert_eq!(complete(2, 6), Some(Epoch(9)));
        assert_eq!(complete(2, 5), None, "it was not one of them");
        assert_eq!(complete(1, 3), None, "that is too long ago");
        assert_eq!(complete(1, 7), None, "there was no such epoch");
        assert_eq!(view.complete(NodeId(2), &[Epoch(4), Epoch(6)], b"key"), Some(Epoch(9)));
        assert_eq!(view.complete(NodeId(2), &[], b"key"), None);
    }
}
