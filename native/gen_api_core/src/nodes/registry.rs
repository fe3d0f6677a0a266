use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::mem::size_of;
use std::sync::Arc;

use super::node::{Node, NodeEvent, NodeStatus};
use crate::clock::Nanos;
use crate::sync::{RandomState, RwLock};

/// How long an unlisted node that is down is remembered as down. Dynamic node lists name it only while a
/// request runs; forgetting it between two requests would make every request try to connect again.
const KEEP_DOWN: Nanos = Nanos::from_secs(3_600);

/// Every node this gateway knows, one object per name.
#[derive(Debug, Default)]
pub struct Registry {
    nodes: RwLock<HashSet<ByName, RandomState>>,
}

impl Registry {
    /// The node of that name, known from now on.
    pub fn node(&self, name: &str) -> Arc<Node> {
        self.find(name).unwrap_or_else(|| {
            let mut nodes = self.nodes.write();
            match nodes.get(name) {
                Some(ByName(node)) => Arc::clone(node),
                None => {
                    let node = Arc::new(Node::new(name));
                    nodes.insert(ByName(Arc::clone(&node)));
                    node
                }
            }
        })
    }

    /// The node of that name, if it is known.
    ///
    /// For events about nodes that may be none of ours (remote shells come and go under random names):
    /// learning those would fill the registry with nodes that no function uses.
    pub fn find(&self, name: &str) -> Option<Arc<Node>> {
        let nodes = self.nodes.read();
        let ByName(node) = nodes.get(name)?;
        node.touch();
        Some(Arc::clone(node))
    }

    /// Notes what has become of a node; whether that changed anything. Only an operator makes one known that
    /// is not.
    pub fn note(&self, name: &str, event: NodeEvent) -> bool {
        let known = match event {
            NodeEvent::Drain => Some(self.node(name)),
            _ => self.find(name),
        };
        known.is_some_and(|node| match event {
            NodeEvent::Up => node.mark_up(),
            NodeEvent::Down => node.mark_down(),
            NodeEvent::Drain => node.drain(),
            NodeEvent::Undrain => node.undrain(),
        })
    }

    /// The status of a node; one that is not known has never failed.
    pub fn status(&self, name: &str) -> NodeStatus {
        self.find(name).map_or(NodeStatus::Up, |node| node.status())
    }

    /// Every known node with its status, in no particular order.
    pub fn statuses(&self) -> Vec<(Arc<Node>, NodeStatus)> {
        let nodes = self.nodes.read();
        nodes
            .iter()
            .map(|ByName(node)| (Arc::clone(node), node.status()))
            .collect()
    }

    /// Forgets nodes that nothing refers to (no candidate list, sticky entry or call in flight); returns how
    /// many. Nodes that are down stay until nobody has asked for them for an hour, draining ones until they are
    /// undrained or down.
    ///
    /// Walks all nodes under the write lock: for a periodic task, some 10 ns per node.
    pub fn prune(&self, now: Nanos) -> usize {
        let mut nodes = self.nodes.write();
        let before = nodes.len();
        // The set's own handle is the one. Nobody can clone that one while the lock is held.
        nodes.retain(|ByName(node)| {
            !node.is_forgettable(Arc::strong_count(node) > 1, now, KEEP_DOWN)
        });
        if nodes.len() < nodes.capacity() / 4 {
            nodes.shrink_to_fit();
        }
        before - nodes.len()
    }

    /// How many nodes are known.
    pub fn len(&self) -> usize {
        self.nodes.read().len()
    }

    /// Whether no node is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held, in bytes, without the allocator's own overhead.
    pub fn bytes(&self) -> usize {
        // An Arc puts two counters before its value, here widened to the value's alignment.
        let fixed = size_of::<Node>() + align_of::<Node>();
        let nodes = self.nodes.read();
        let slots = nodes.capacity() * (size_of::<ByName>() + 1);
        let names: usize = nodes.iter().map(|ByName(node)| node.name().len()).sum();
        slots + nodes.len() * fixed + names
    }
}

/// A node that hashes and compares as its name, so that the name is stored once.
#[derive(Debug)]
struct ByName(Arc<Node>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for ByName {}
