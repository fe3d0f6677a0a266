//! NIFs of `PhoenixGenApi.CandidateSet`: nodes that come and go while plans refer to them.

use crate::config_db::TableResource;
use crate::decode::{List, Name};
use crate::node_selector::SelectorResource;
use gen_api_core::nodes::CandidateSet;
use rustler::types::atom;
use rustler::{Atom, Env, NifResult, Resource, ResourceArc};

/// A set of nodes of one gateway.
pub struct CandidateSetResource {
    selector: ResourceArc<SelectorResource>,
    set: CandidateSet<Atom>,
}

#[rustler::resource_impl]
impl Resource for CandidateSetResource {}

// A panic leaves the state before or the one after.
impl std::panic::RefUnwindSafe for CandidateSetResource {}

impl CandidateSetResource {
    pub fn set(&self) -> &CandidateSet<Atom> {
        &self.set
    }
}

/// A set without members. Normal scheduler.
#[rustler::nif]
fn candidate_set_new(selector: ResourceArc<SelectorResource>) -> ResourceArc<CandidateSetResource> {
    ResourceArc::new(CandidateSetResource {
        selector,
        set: CandidateSet::default(),
    })
}

/// The set that the function stored under exactly that key takes its nodes from, or nil. Normal scheduler.
#[rustler::nif]
fn candidate_set_of_function(
    table: &TableResource,
    service: Name<'_>,
    request_type: Name<'_>,
    version: Name<'_>,
) -> Option<ResourceArc<CandidateSetResource>> {
    table.0.function(&service, &request_type, |function| {
        let version = function?.version(&version)?;
        version.payload().route()?.set().cloned()
    })
}

/// These are the members from now on, the first 1,000 of them by name. Every choice that begins later knows. Dirty
/// CPU scheduler: linear in their number.
#[rustler::nif(schedule = "DirtyCpu")]
fn candidate_set_put(
    env: Env<'_>,
    set: &CandidateSetResource,
    nodes: List<Atom>,
) -> NifResult<Atom> {
    let named = |node: Atom| Ok((node.to_term(env).atom_to_string()?, node));
    let members = nodes.0.into_iter().map(named);
    let members = members.collect::<NifResult<Vec<_>>>()?;
    set.set.put(set.selector.0.registry(), members);
    Ok(atom::ok())
}

/// The members, in the order of their names. Dirty CPU scheduler: linear in their number.
#[rustler::nif(schedule = "DirtyCpu")]
fn candidate_set_nodes(set: &CandidateSetResource) -> Vec<Atom> {
    set.set.load().payloads().to_vec()
}
