//! A function config as the request path reads it: compiled once, immutable.

use crate::atoms;
use crate::candidate_set::CandidateSetResource;
use crate::decode::List;
use crate::mode::ModeSpec;
use crate::node_selector::SelectorResource;
use crate::rate_limiter::LimiterResource;
use crate::route::Route;
use crate::schema::SchemaResource;
use crate::terms::{Terms, SMALL};
use gen_api_core::limits::Scope;
use gen_api_core::nodes::CallStats;
use rustler::types::atom;
use rustler::types::tuple::make_tuple;
use rustler::{Atom, Decoder, Encoder, Env, NifResult, Resource, ResourceArc, Term};

use std::sync::Arc;

/// The flag `:limited` of `PhoenixGenApi.Plan`, the one that is not fixed.
const LIMITED: u32 = 128;

/// The flag `:local` of `PhoenixGenApi.Plan`.
const LOCAL: u32 = 32;

/// A compiled function config.
// In this order: what every lookup reads fills the first cache line.
#[repr(C)]
pub struct PlanResource {
    module: Atom,
    function: Atom,
    response_type: Atom,
    permission: Permission,
    timeout: Option<u32>,
    arguments: Option<u32>,
    flags: u32,
    light: bool,
    config: u32,
    scope: Option<Arc<Scope>>,
    schema: ResourceArc<SchemaResource>,
    result: Option<ResourceArc<SchemaResource>>,
    route: Option<Route>,
    stats: Option<Arc<CallStats>>,
    terms: Terms,
    pub service: Box<str>,
    pub request_type: Box<str>,
    pub version: Box<str>,
    pub disabled: bool,
    term_bytes: usize,
}

#[rustler::resource_impl]
impl Resource for PlanResource {}

impl std::panic::RefUnwindSafe for PlanResource {}

/// The permission as a term: the common kinds are atoms, the others have a name or a list.
enum Permission {
    Atom(Atom),
    Term(u32),
}

/// What Elixir hands over for one function config.
struct PlanSpec<'a> {
    service: String,
    request_type: String,
    version: String,
    disabled: bool,
    schema: ResourceArc<SchemaResource>,
    /// Of the result by itself; nil if it is not described.
    result: Option<ResourceArc<SchemaResource>>,
    module: Atom,
    function: Atom,
    /// The arguments inside the mfa, a list.
    arguments: Term<'a>,
    /// Milliseconds; nil for none.
    timeout: Option<u32>,
    response_type: Atom,
    permission: Term<'a>,
    flags: u32,
    /// A fixed list, the gateway alone for a local function, a set, or nil.
    nodes: Option<Nodes>,
    mode: ModeSpec,
    config: Term<'a>,
    term_bytes: usize,
}

enum Nodes {
    List(Vec<Atom>),
    Set(ResourceArc<CandidateSetResource>),
}

impl<'a> Decoder<'a> for Nodes {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        match term.decode() {
            Ok(set) => Ok(Nodes::Set(set)),
            Err(_) => term.decode().map(|List(nodes)| Nodes::List(nodes)),
        }
    }
}

impl<'a> Decoder<'a> for PlanSpec<'a> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        fn field<'a, T: Decoder<'a>>(spec: Term<'a>, name: Atom) -> NifResult<T> {
            spec.map_get(name)?.decode()
        }
        let arguments: Term = field(term, atoms::arguments())?;
        arguments.list_length()?;
        Ok(PlanSpec {
            service: field(term, atoms::service())?,
            request_type: field(term, atoms::request_type())?,
            version: field(term, atoms::version())?,
            disabled: field(term, atoms::disabled())?,
            schema: field(term, atoms::schema())?,
            result: field(term, atoms::result())?,
            module: field(term, atoms::module())?,
            function: field(term, atoms::function())?,
            arguments,
            timeout: field(term, atoms::timeout())?,
            response_type: field(term, atoms::response_type())?,
            permission: field(term, atoms::permission())?,
            flags: field(term, atoms::flags())?,
            nodes: field(term, atoms::nodes())?,
            mode: field(term, atoms::mode())?,
            config: field(term, atoms::config())?,
            term_bytes: field(term, atoms::term_bytes())?,
        })
    }
}

impl PlanResource {
    fn new(
        env: Env<'_>,
        selector: Option<ResourceArc<SelectorResource>>,
        limiter: Option<&LimiterResource>,
        spec: PlanSpec<'_>,
    ) -> NifResult<Self> {
        let function = [&spec.service, &spec.request_type, &spec.version].map(String::as_str);
        let call_stats = |selector: &ResourceArc<SelectorResource>| {
            selector.0.call_stats().of_function(function)
        };
        // Held for as long as the plan, so that nothing of it is forgotten between two requests.
        let stats = selector.as_ref().map(call_stats);
        let route = match (selector, spec.nodes) {
            (Some(selector), Some(Nodes::Set(set))) => {
                Some(Route::of_set(selector, function, set, spec.mode))
            }
            (Some(selector), Some(Nodes::List(nodes))) => {
                let route = Route::of_atoms(env, selector, function, nodes, spec.mode)?;
                Some(if spec.flags & LOCAL == 0 {
                    route
                } else {
                    route.uncounted()
                })
            }
            _ => None,
        };
        let scope = limiter.map(|limiter| limiter.0.scope(&spec.service, &spec.request_type));
        let mut terms = Terms::new();
        let config = terms.save(spec.config);
        let arguments = (!spec.arguments.is_empty_list()).then(|| terms.save(spec.arguments));
        let permission = match spec.permission.decode() {
            Ok(kind) => Permission::Atom(kind),
            Err(_) => Permission::Term(terms.save(spec.permission)),
        };
        let words = |id: Option<u32>| id.map_or(Some(0), |id| terms.words(id));
        let permission_term = match permission {
            Permission::Atom(_) => None,
            Permission::Term(id) => Some(id),
        };
        let light = words(arguments)
            .zip(words(permission_term))
            .is_some_and(|(arguments, permission)| arguments + permission <= SMALL);
        Ok(PlanResource {
            light,
            route,
            stats,
            scope,
            service: spec.service.into_boxed_str(),
            request_type: spec.request_type.into_boxed_str(),
            version: spec.version.into_boxed_str(),
            disabled: spec.disabled,
            schema: spec.schema,
            result: spec.result,
            module: spec.module,
            function: spec.function,
            timeout: spec.timeout,
            response_type: spec.response_type,
            flags: spec.flags,
            terms,
            config,
            arguments,
            permission,
            term_bytes: spec.term_bytes,
        })
    }

    /// The nodes and how one is chosen, where the native side knows them.
    pub fn route(&self) -> Option<&Route> {
        self.route.as_ref()
    }

    /// What is remembered of the function's calls, where a gateway runs.
    pub fn call_stats(&self) -> Option<&CallStats> {
        self.stats.as_deref()
    }

    pub fn schema(&self) -> &SchemaResource {
        &self.schema
    }

    /// The type of the result, as the one argument `result`.
    pub fn result(&self) -> Option<&SchemaResource> {
        self.result.as_deref()
    }

    /// The flags as they are now: whether a limit applies may change at any time.
    fn flags(&self) -> u32 {
        let limited = self.scope.as_ref().is_some_and(|scope| scope.is_limited());
        if limited {
            self.flags | LIMITED
        } else {
            self.flags
        }
    }

    /// Whether its record is small enough to be copied on a normal scheduler.
    pub fn is_light(&self) -> bool {
        self.light
    }

    /// The stored `%FunConfig{}`.
    fn config<'a>(&self, env: Env<'a>) -> Term<'a> {
        self.term(env, self.config)
    }

    pub fn bytes(&self) -> usize {
        let names = self.service.len() + self.request_type.len() + self.version.len();
        let route = self.route.as_ref().map_or(0, Route::bytes);
        let result = self
            .result
            .as_ref()
            .map_or(0, |result| result.schema.bytes());
        let schemas = self.schema.schema.bytes() + result;
        let own = std::mem::size_of::<Self>() + names + route + schemas;
        own.saturating_add(self.term_bytes)
    }

    fn term<'a>(&self, env: Env<'a>, id: u32) -> Term<'a> {
        let none = || atom::nil().encode(env);
        self.terms.load(env, id).unwrap_or_else(none)
    }
}

/// The record `PhoenixGenApi.Plan`.
pub fn record<'a>(env: Env<'a>, plan: &ResourceArc<PlanResource>) -> Term<'a> {
    let arguments = match plan.arguments {
        None => Term::list_new_empty(env),
        Some(id) => plan.term(env, id),
    };
    let timeout = match plan.timeout {
        None => atoms::infinity().encode(env),
        Some(ms) => ms.encode(env),
    };
    let permission = match plan.permission {
        Permission::Atom(kind) => kind.encode(env),
        Permission::Term(id) => plan.term(env, id),
    };
    make_tuple(
        env,
        &[
            atoms::plan().encode(env),
            plan.encode(env),
            plan.module.encode(env),
            plan.function.encode(env),
            arguments,
            timeout,
            plan.response_type.encode(env),
            permission,
            plan.flags().encode(env),
        ],
    )
}

/// Makes plans; without a selector they cannot choose nodes. Dirty CPU scheduler: the cost
/// follows the number of nodes and the size of the config terms. Many in one call, because
/// getting to that scheduler takes longer than making one.
#[rustler::nif(schedule = "DirtyCpu")]
fn plan_new<'a>(
    env: Env<'a>,
    selector: Option<ResourceArc<SelectorResource>>,
    limiter: Option<&LimiterResource>,
    specs: List<PlanSpec<'a>>,
) -> NifResult<Vec<Term<'a>>> {
    let plan = |spec| {
        let plan = PlanResource::new(env, selector.clone(), limiter, spec)?;
        Ok(record(env, &ResourceArc::new(plan)))
    };
    specs.0.into_iter().map(plan).collect()
}

/// The `%FunConfig{}` that the plan was made of, or `:out_of_budget` where a copy takes too long for a
/// normal scheduler.
#[rustler::nif]
fn plan_config<'a>(env: Env<'a>, plan: &PlanResource) -> Term<'a> {
    match plan.terms.words(plan.config) {
        Some(_) => plan.config(env),
        None => atoms::out_of_budget().encode(env),
    }
}

/// The same for a config of any size. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn plan_config_dirty<'a>(env: Env<'a>, plan: &PlanResource) -> Term<'a> {
    plan.config(env)
}

/// The set that the plan takes its nodes from, or nil. Normal scheduler.
#[rustler::nif]
fn plan_candidate_set(plan: &PlanResource) -> Option<ResourceArc<CandidateSetResource>> {
    plan.route().and_then(Route::set).cloned()
}
