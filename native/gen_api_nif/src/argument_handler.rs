//! NIFs of `PhoenixGenApi.ArgumentHandler`.

use crate::atoms;
use crate::build::Builder;
use crate::decode::{List, Map};
use crate::encoded::{Encoded, Nothing};
use crate::outcome;
use crate::plan::PlanResource;
use crate::schema::{Fault, SchemaResource};
use crate::value::Arg;
use gen_api_core::schema::{Failure, Formats, Outcome, Shape, TreeLimits};
use rustler::types::atom;
use rustler::{Encoder, Env, Error, NifResult, ResourceArc, Term};

/// Work done on a normal scheduler before the arguments are handed to a dirty one. A unit is
/// some 10 ns, but a refused check walks the arguments up to four times, and entries of a large
/// map cost three times as much: 10,000 units are at most some 400 us, whatever is sent.
pub const BUDGET: u32 = 10_000;

/// Problems of one request that are told.
const MAX_PROBLEMS: usize = 20;

/// Compiles schemas: `{fields, as_map?}` each. Dirty CPU scheduler: a schema of 10,000 types
/// takes some milliseconds. Many in one call, because getting to that scheduler takes longer
/// than compiling a small one.
///
/// `{:ok, schema}` or `{:error, {code, path, reason | nil}}` for each.
#[rustler::nif(schedule = "DirtyCpu")]
fn argument_handler_compile<'a>(
    env: Env<'a>,
    schemas: List<(Term<'a>, bool)>,
    max_depth: u32,
    max_nodes: u32,
) -> NifResult<Vec<Term<'a>>> {
    let limits = TreeLimits::new(max_depth, max_nodes).ok_or(Error::BadArg)?;
    let mut formats = Formats::default();
    let compile = |(fields, as_map)| {
        let shape = if as_map { Shape::Map } else { Shape::List };
        match SchemaResource::compile(fields, shape, limits, &mut formats) {
            Ok(schema) => Ok((atom::ok(), ResourceArc::new(schema)).encode(env)),
            Err(Fault::Refused(why)) => {
                Ok((atom::error(), (why.code, why.path, why.reason)).encode(env))
            }
            Err(Fault::Bug(error)) => Err(error),
        }
    };
    schemas.0.into_iter().map(compile).collect()
}

/// Checks and converts the arguments of a plan. Normal scheduler, at most [`BUDGET`] units of
/// work: then `:out_of_budget`, and `argument_handler_convert_dirty/2` does it whole.
///
/// The list of call arguments, or `{:error, {code, path, a, b}}`.
#[rustler::nif]
fn argument_handler_convert<'a>(env: Env<'a>, plan: &PlanResource, arguments: Map<'a>) -> Term<'a> {
    convert(env, plan, arguments, BUDGET.into())
}

/// The same without a bound on the work but the tree limits. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn argument_handler_convert_dirty<'a>(
    env: Env<'a>,
    plan: &PlanResource,
    arguments: Map<'a>,
) -> Term<'a> {
    convert(env, plan, arguments, u64::MAX)
}

/// Every problem of the arguments of a plan, at most 20, in order: `[{code, path, a, b}]`, or
/// `:out_of_budget` as above. Normal scheduler, at most [`BUDGET`] units of work.
#[rustler::nif]
fn argument_handler_problems<'a>(
    env: Env<'a>,
    plan: &PlanResource,
    arguments: Map<'a>,
) -> Term<'a> {
    problems(env, plan, arguments, BUDGET.into())
}

/// The same without a bound on the work but the tree limits. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn argument_handler_problems_dirty<'a>(
    env: Env<'a>,
    plan: &PlanResource,
    arguments: Map<'a>,
) -> Term<'a> {
    problems(env, plan, arguments, u64::MAX)
}

fn problems<'a>(env: Env<'a>, plan: &PlanResource, arguments: Map<'a>, units: u64) -> Term<'a> {
    problems_of(env, plan.schema(), arguments, units)
}

fn problems_of<'a>(
    env: Env<'a>,
    schema: &SchemaResource,
    arguments: Map<'a>,
    units: u64,
) -> Term<'a> {
    let build = Builder {
        env,
        kept: &schema.kept,
    };
    let found = schema
        .schema
        .problems(Arg(arguments.0), &build, units, MAX_PROBLEMS);
    let encode = |failure: &Failure<Arg<'a>>| outcome::failure(env, failure, &schema.kept);
    match found {
        Some(failures) => failures.iter().map(encode).collect::<Vec<_>>().encode(env),
        None => atoms::out_of_budget().encode(env),
    }
}

/// Whether a result is of the type that the function of the plan declares, as far as that shows: `false`
/// also where only its JSON can tell. `result` is a map with the result under that name. Normal scheduler, at most
/// [`BUDGET`] units of work: then `:out_of_budget`.
#[rustler::nif]
fn argument_handler_check_result<'a>(
    env: Env<'a>,
    plan: &PlanResource,
    result: Map<'a>,
) -> Term<'a> {
    check_result(env, plan, result, BUDGET.into())
}

/// The same without a bound on the work. Dirty CPU scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn argument_handler_check_result_dirty<'a>(
    env: Env<'a>,
    plan: &PlanResource,
    result: Map<'a>,
) -> Term<'a> {
    check_result(env, plan, result, u64::MAX)
}

fn check_result<'a>(env: Env<'a>, plan: &PlanResource, result: Map<'a>, units: u64) -> Term<'a> {
    let Some(schema) = plan.result() else {
        return true.encode(env);
    };
    let names = &schema.names;
    let result = Encoded::new(result.0, names);
    match schema.schema.check(result, &Nothing { env, names }, units) {
        Outcome::Valid(_nothing) => true.encode(env),
        Outcome::Invalid(_failure) => false.encode(env),
        Outcome::OutOfBudget => atoms::out_of_budget().encode(env),
    }
}

/// Every problem of a result that was decoded from its JSON, at most 20, as those of arguments. Dirty CPU
/// scheduler.
#[rustler::nif(schedule = "DirtyCpu")]
fn argument_handler_result_problems<'a>(
    env: Env<'a>,
    plan: &PlanResource,
    result: Map<'a>,
) -> Term<'a> {
    match plan.result() {
        Some(schema) => problems_of(env, schema, result, u64::MAX),
        None => Term::list_new_empty(env),
    }
}

fn convert<'a>(env: Env<'a>, plan: &PlanResource, arguments: Map<'a>, units: u64) -> Term<'a> {
    let schema = plan.schema();
    let arguments = Arg(arguments.0);
    let build = Builder {
        env,
        kept: &schema.kept,
    };
    match schema.schema.check(arguments, &build, units) {
        Outcome::Valid(list) => list.0,
        Outcome::Invalid(failure) => {
            let problem = outcome::failure(env, &failure, &schema.kept);
            (atom::error(), problem).encode(env)
        }
        Outcome::OutOfBudget => atoms::out_of_budget().encode(env),
    }
}
