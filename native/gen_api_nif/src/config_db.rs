//! NIFs of `PhoenixGenApi.ConfigDb`.
//!
//! Reads run on a normal scheduler and take well under a microsecond. Writes may wait for
//! another writer, and listings follow the size of the table: both run on dirty schedulers.

use crate::atoms;
use crate::decode::{atom_enum, List, Name};
use crate::plan::{self, PlanResource};
use gen_api_core::table::{version, Entry, Function, Key, Lookup, Origin, Switched, Table};
use rustler::types::atom;
use rustler::{Atom, Binary, Encoder, Env, Resource, ResourceArc, Term};
use std::cmp::Ordering;

type Plan = ResourceArc<PlanResource>;

/// A table of plans.
pub struct TableResource(pub Table<Plan>);

#[rustler::resource_impl]
impl Resource for TableResource {}

// A panic cannot leave a table half changed: a write builds the next state aside.
impl std::panic::RefUnwindSafe for TableResource {}

atom_enum!(Source(Origin) {
    direct => Origin::Direct,
    pull => Origin::Pull,
    push => Origin::Push,
    offer => Origin::Offer,
});

/// An empty table. Normal scheduler.
#[rustler::nif]
fn config_db_new() -> ResourceArc<TableResource> {
    ResourceArc::new(TableResource(Table::new()))
}

/// The plan that a request gets, `:not_found` or `:disabled`; the version is nil when none
/// was sent. Normal scheduler: `:out_of_budget` where the arguments inside the mfa take too long to
/// copy, then `config_db_fetch_dirty/4`.
#[rustler::nif]
fn config_db_fetch<'a>(
    env: Env<'a>,
    table: &TableResource,
    service: Binary<'a>,
    request_type: Binary<'a>,
    version: Option<Binary<'a>>,
) -> Term<'a> {
    let version = version.as_deref();
    table.0.lookup(&service, &request_type, version, |lookup| {
        match found(lookup) {
            Ok(plan) if plan.is_light() => plan::record(env, plan),
            Ok(_heavy) => atoms::out_of_budget().encode(env),
            Err(why) => why.encode(env),
        }
    })
}

/// The same for arguments of any size. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_db_fetch_dirty<'a>(
    env: Env<'a>,
    table: &TableResource,
    service: Binary<'a>,
    request_type: Binary<'a>,
    version: Option<Binary<'a>>,
) -> Term<'a> {
    let version = version.as_deref();
    // Cloned: a state of the table is not kept for as long as the copy takes.
    let plan = table.0.lookup(&service, &request_type, version, |lookup| {
        found(lookup).cloned()
    });
    match plan {
        Ok(plan) => plan::record(env, &plan),
        Err(why) => why.encode(env),
    }
}

fn found<'t>(lookup: Lookup<'t, Plan>) -> Result<&'t Plan, Atom> {
    match lookup {
        Lookup::Found(plan) => Ok(plan),
        Lookup::Disabled => Err(atoms::disabled()),
        Lookup::NotFound => Err(atoms::not_found()),
    }
}

/// The handle of exactly that version's plan, `:not_found` or `:disabled`. Normal scheduler.
#[rustler::nif]
fn config_db_get<'a>(
    env: Env<'a>,
    table: &TableResource,
    service: Name<'_>,
    request_type: Name<'_>,
    version: Binary<'a>,
) -> Term<'a> {
    table.0.function(&service, &request_type, |function| {
        let lookup = function.map_or(Lookup::NotFound, |function| function.exact(&version));
        match found(lookup) {
            Ok(plan) => plan.encode(env),
            Err(why) => why.encode(env),
        }
    })
}

/// The handle of the highest enabled version's plan, or `:not_found`. Normal scheduler.
#[rustler::nif]
fn config_db_latest<'a>(
    env: Env<'a>,
    table: &TableResource,
    service: Name<'_>,
    request_type: Name<'_>,
) -> Term<'a> {
    table.0.function(&service, &request_type, |function| {
        match function.and_then(Function::latest) {
            Some(version) => version.payload().encode(env),
            None => atoms::not_found().encode(env),
        }
    })
}

/// Stores plans in one visible step. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_db_store(table: &TableResource, plans: List<Plan>, source: Source) -> Atom {
    table.0.store(entries(plans.0, source));
    atom::ok()
}

/// Stores plans and removes the service's other pulled, pushed and offered configs, but for the kept
/// `{request_type, version}`, in one visible step, in which `ineligible` counts as for `config_db_set_ineligible/3`.
/// Those that the gateway has added stay, and with `strict` nothing is stored then: `{removed, [{request_type,
/// version}]}` of how many were removed and which stay. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_db_replace(
    table: &TableResource,
    service: &str,
    plans: List<Plan>,
    source: Source,
    keep: List<(String, String)>,
    strict: bool,
    ineligible: List<(String, String)>,
) -> (usize, Vec<(String, String)>) {
    let plans = entries(plans.0, source);
    let (keep, ineligible) = (keys(keep), keys(ineligible));
    let replaced = table
        .0
        .replace_service(service, plans, keep, strict, ineligible);
    let taken = replaced.taken.into_iter();
    let taken = taken.map(|(request_type, version)| (request_type.into(), version.into()));
    (replaced.removed, taken.collect())
}

/// Requests that name no version get these `{request_type, version}` of the service's functions only where there
/// is no other, and all others as ever, in one visible step; whether that changes anything. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_db_set_ineligible(
    table: &TableResource,
    service: &str,
    ineligible: List<(String, String)>,
) -> bool {
    table.0.set_ineligible(service, keys(ineligible))
}

fn keys(keys: List<(String, String)>) -> Vec<Key> {
    let keys = keys.0.into_iter();
    keys.map(|(request_type, version)| (request_type.into(), version.into()))
        .collect()
}

fn entries(plans: Vec<Plan>, source: Source) -> Vec<Entry<Plan>> {
    plans
        .into_iter()
        .map(|plan| Entry {
            service: plan.service.clone(),
            request_type: plan.request_type.clone(),
            version: plan.version.clone(),
            origin: source.0,
            disabled: plan.disabled,
            payload: plan,
        })
        .collect()
}

/// Removes one config; whether it was there. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_db_delete(
    table: &TableResource,
    service: &str,
    request_type: &str,
    version: &str,
) -> bool {
    table.0.delete(service, request_type, version)
}

/// Enables or disables: `:changed`, `:unchanged` or `:not_found`. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_db_switch(
    table: &TableResource,
    service: &str,
    request_type: &str,
    version: &str,
    enabled: bool,
    ahead: bool,
) -> Atom {
    let switched = if ahead {
        table
            .0
            .switch_ahead(service, request_type, version, enabled)
    } else {
        table.0.switch(service, request_type, version, enabled)
    };
    match switched {
        Switched::NotFound => atoms::not_found(),
        Switched::Unchanged => atoms::unchanged(),
        Switched::Changed => atoms::changed(),
    }
}

/// Empties the table; how many configs there were. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_db_clear(table: &TableResource) -> usize {
    table.0.clear()
}

/// How many configs there are. Normal scheduler, constant.
#[rustler::nif]
fn config_db_count(table: &TableResource) -> usize {
    table.0.snapshot().len()
}

/// The number of the state of the table, which every change makes another one. Normal scheduler, constant.
#[rustler::nif]
fn config_db_state(table: &TableResource) -> u64 {
    table.0.snapshot().state()
}

/// A rough count of the bytes held. Dirty CPU scheduler, linear.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_db_bytes(table: &TableResource) -> usize {
    table.0.snapshot().bytes(|plan| plan.bytes())
}

/// `[{service, request_type, [{version, disabled?}]}]`, versions ascending. Dirty CPU
/// scheduler, linear.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_db_list<'a>(env: Env<'a>, table: &TableResource) -> Term<'a> {
    let snapshot = table.0.snapshot();
    let functions: Vec<Term> = snapshot
        .functions()
        .filter(|function| !function.is_empty())
        .map(|function| {
            let versions: Vec<(&str, bool)> = function
                .versions()
                .iter()
                .map(|version| (version.name(), version.is_disabled()))
                .collect();
            (function.service(), function.request_type(), versions).encode(env)
        })
        .collect();
    functions.encode(env)
}

/// How a config came here: `:direct`, `:pull`, `:push`, `:offer`, or nil. Normal scheduler.
#[rustler::nif]
fn config_db_origin<'a>(
    env: Env<'a>,
    table: &TableResource,
    service: Name<'_>,
    request_type: Name<'_>,
    version: Name<'_>,
) -> Term<'a> {
    table.0.function(&service, &request_type, |function| {
        let origin = function
            .and_then(|function| function.origin(&version))
            .map(Source);
        match origin {
            Some(source) => source.encode(env),
            None => atom::nil().encode(env),
        }
    })
}

atom_enum!(Comparison(Ordering) {
    lt => Ordering::Less,
    eq => Ordering::Equal,
    gt => Ordering::Greater,
});

/// How two versions are ordered; equal only when they are the same text. Dirty CPU scheduler: linear in
/// their length, which nothing bounds.
#[rustler::nif(schedule = "DirtyCpu")]
fn config_db_compare(a: &str, b: &str) -> Comparison {
    Comparison(version::compare(a, b))
}
