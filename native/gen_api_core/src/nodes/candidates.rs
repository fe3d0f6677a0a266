use std::collections::HashSet;
use std::mem::size_of;
use std::sync::Arc;

use super::node::Node;
use super::registry::Registry;

/// The nodes of one function, in the order they were listed, each name once. Compiled when the function is
/// stored; the request path refers to candidates by their index.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    nodes: Box<[Arc<Node>]>,
    /// The nodes' hashes side by side: scoring reads these and leaves most of the nodes alone.
    hashes: Box<[u64]>,
}

impl Candidates {
    /// The nodes of these names. Of a name listed twice the first place counts.
    pub fn new<'a>(registry: &Registry, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut seen = HashSet::new();
        let nodes: Box<[_]> = names
            .into_iter()
            .filter(|name| seen.insert(*name))
            .map(|name| registry.node(name))
            .collect();
        let hashes = nodes.iter().map(|node| node.hash()).collect();
        Self { nodes, hashes }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The candidate at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&Arc<Node>> {
        self.nodes.get(index)
    }

    /// The name of the candidate at `index`.
    #[must_use]
    pub fn name(&self, index: usize) -> Option<&str> {
        self.nodes.get(index).map(|node| node.name())
    }

    /// All of them, in the order listed.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Node>> {
        self.nodes.iter()
    }

    /// Memory held, in bytes, without the nodes, which belong to the registry.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.len() * (size_of::<Arc<Node>>() + size_of::<u64>())
    }

    pub(super) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    pub(super) fn is_up(&self, index: usize) -> bool {
        self.nodes.get(index).is_some_and(|node| node.is_up())
    }

    /// Where `node` is listed. `hint` is where it was last time, which after the first time is nearly always
    /// right.
    pub(super) fn position(&self, node: &Arc<Node>, hint: usize) -> Option<usize> {
        match self.nodes.get(hint) {
            Some(listed) if Arc::ptr_eq(listed, node) => Some(hint),
            _ => self
                .nodes
                .iter()
                .position(|listed| Arc::ptr_eq(listed, node)),
        }
    }
}
