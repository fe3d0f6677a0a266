//! Checking and converting arguments.
//!
//! The walk bets on success: it asks a value only what its type expects, and works out what
//! else may be wrong when the bet is lost. So of several problems the one with precedence is
//! found on the way out, where time does not matter.

mod every;
mod list;
mod map;
mod record;
mod scalar;

use super::problem::{Failure, Problem, Segment};
use super::tree::{Meter, Stop, Walk};
use super::{KeptValue, Kind, Schema, Shape, TreeLimits, Type, TypeName};
use crate::value::{Build, Value, View};
use smallvec::SmallVec;

/// The outcome of a check.
#[derive(Debug)]
pub enum Outcome<'s, V> {
    /// The call arguments: one list in the order or shape declared.
    Valid(V),
    /// The first problem.
    Invalid(Box<Failure<'s, V>>),
    /// The arguments are too large to be checked with the work allowed; nothing is known
    /// about them. Check them where more work is allowed.
    OutOfBudget,
}

/// `None` when the value needs no conversion.
type Converted<V> = Option<V>;

impl Schema {
    /// Checks a map of arguments and converts it into the list of call arguments.
    ///
    /// `units` bounds the work: one is about 10 ns. Cost is linear in the size of the
    /// arguments, which the schema's tree limits bound, and of the default values used.
    pub fn check<'s, 'a, B: Build<'a>>(
        &'s self,
        args: B::V,
        build: &B,
        units: u64,
    ) -> Outcome<'s, B::V> {
        let mut walked = Check::new(build, self.limits, units).arguments(self, args);
        if matches!(walked, Err(Stop::Failed(_))) {
            walked = self.first_problem(args, build, units);
        }
        match walked {
            Ok(list) => Outcome::Valid(list),
            Err(Stop::OutOfBudget) => Outcome::OutOfBudget,
            Err(Stop::Failed(failure)) => Outcome::Invalid(failure),
        }
    }

    /// The problem that comes first: the tree limits come before everything else (a
    /// successful walk has counted every value, a failed one has not), then the arguments
    /// in their order.
    #[cold]
    fn first_problem<'s, 'a, B: Build<'a>>(
        &'s self,
        args: B::V,
        build: &B,
        units: u64,
    ) -> Walk<'s, B::V, B::V> {
        Meter::new(self.limits, units).measure_entries(args, 1)?;
        let mut check = Check::new(build, self.limits, units);
        check.in_order = true;
        check.by_name = self.shape == Shape::Map;
        check.arguments(self, args)
    }
}

impl Type {
    /// Converts one value by itself, such as a default value; `None` when it stays as it is.
    pub fn convert<'s, 'a, B: Build<'a>>(
        &'s self,
        value: B::V,
        build: &B,
        limits: TreeLimits,
    ) -> Result<Option<B::V>, Box<Failure<'s, B::V>>> {
        let mut check = Check::new(build, limits, u64::MAX);
        match check.value(self, value, 1) {
            Ok(converted) => Ok(converted),
            Err(Stop::Failed(failure)) => Err(failure),
            Err(Stop::OutOfBudget) => Err(Failure::new(Problem::TooManyNodes(limits.max_nodes))),
        }
    }
}

struct Check<'a, 'b, B: Build<'a>> {
    build: &'b B,
    meter: Meter,
    /// What the fields of all open records became; eight covers most functions without an allocation.
    values: SmallVec<[B::V; 8]>,
    /// The keys that were sent for them, but for those of the arguments themselves.
    keys: SmallVec<[Option<B::V>; 8]>,
    /// Whether the first problem counts. Otherwise the values of a map are checked as it
    /// hands them over, and need not be put aside first: that tells whether all is well, and
    /// nearly always it is.
    in_order: bool,
    /// Whether that is the order of the names, for the arguments themselves.
    by_name: bool,
}

impl<'a, 'b, B: Build<'a>> Check<'a, 'b, B> {
    fn new(build: &'b B, limits: TreeLimits, units: u64) -> Self {
        Check {
            build,
            meter: Meter::new(limits, units),
            values: SmallVec::new(),
            keys: SmallVec::new(),
            in_order: false,
            by_name: false,
        }
    }

    fn arguments<'s>(&mut self, schema: &'s Schema, args: B::V) -> Walk<'s, B::V, B::V> {
        let fields = &schema.fields;
        match schema.shape {
            Shape::List => {
                self.arguments_in_order(fields, args)?;
                Ok(self.build.list(&self.values))
            }
            Shape::Map => {
                let map = self.record(fields, args, 1)?;
                Ok(self.build.list(&[map.unwrap_or(args)]))
            }
        }
    }

    fn absent<'s>(&mut self, r#type: &'s Type) -> Walk<'s, B::V, Converted<B::V>> {
        match r#type.default {
            Some(KeptValue { id, units }) => {
                self.meter.work(units)?;
                Ok(Some(self.build.default_value(id)))
            }
            None if r#type.allow_nil => Ok(None),
            None => Err(Problem::Missing.into()),
        }
    }

    fn value<'s>(
        &mut self,
        r#type: &'s Type,
        value: B::V,
        depth: u32,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        self.meter.node()?;
        let outcome = self.kind(&r#type.kind, value, depth);
        if outcome.is_err() && value.view() == View::Nil {
            return if r#type.allow_nil {
                Ok(None)
            } else {
                Err(Problem::Missing.into())
            };
        }
        outcome
    }

    #[inline]
    fn kind<'s>(
        &mut self,
        kind: &'s Kind,
        value: B::V,
        depth: u32,
    ) -> Walk<'s, B::V, Converted<B::V>> {
        match kind {
            Kind::Str(rule) => self.string(rule, value)?,
            Kind::Num(range) => scalar::number(range, value)?,
            Kind::Integer(range) => scalar::integer(range, value)?,
            Kind::Float(range) => return self.float(range, value),
            Kind::Boolean => match value.as_bool() {
                Some(_) => {}
                None => return Err(mismatch(TypeName::Boolean, value)),
            },
            Kind::Enum(members) => return self.member(members, value),
            Kind::Uuid => scalar::uuid(value, || mismatch(TypeName::Uuid, value))?,
            Kind::DateTime => return self.date(TypeName::DateTime, value),
            Kind::NaiveDateTime => return self.date(TypeName::NaiveDateTime, value),
            Kind::Date => return self.date(TypeName::Date, value),
            Kind::Time => return self.date(TypeName::Time, value),
            // Nil is JSON, but whether it may stand for a whole value is an option.
            Kind::Any if value.view() == View::Nil => return Err(Problem::Missing.into()),
            Kind::Any => self.json(value, depth)?,
            Kind::List { size, item } => return self.typed_items(*size, item, value, depth),
            Kind::ScalarList { size, max_length } => {
                self.items(TypeName::List, *size, value, depth, |check, item| {
                    check.scalar_item(item, *max_length)
                })?;
            }
            Kind::StrList {
                size,
                max_length,
                max_bytes,
            } => self.strs(*size, value, depth, |check, bytes| {
                check.text(bytes, *max_length, *max_bytes)
            })?,
            Kind::NumList(size) => {
                self.items(TypeName::NumList, *size, value, depth, |_, item| {
                    if scalar::is_number(item) {
                        Ok(())
                    } else {
                        Err(list::unsupported(item, TypeName::Num))
                    }
                })?;
            }
            Kind::UuidList(size) => {
                self.items(TypeName::UuidList, *size, value, depth, |_, item| {
                    scalar::uuid(item, || list::unsupported(item, TypeName::Uuid))
                })?;
            }
            Kind::MapList(size) => {
                self.items(TypeName::MapList, *size, value, depth, |check, item| {
                    if item.map_len().is_some() {
                        check.json(item, depth + 1)
                    } else {
                        Err(list::unsupported(item, TypeName::Map))
                    }
                })?;
            }
            Kind::AnyMap(max) => self.any_map(*max, value, depth)?,
            Kind::FlatMap(rule) => self.flat_map(rule, value, depth)?,
            Kind::Record(fields) => {
                if value.map_len().is_none() {
                    return Err(mismatch(TypeName::Map, value));
                }
                self.meter.level(depth)?;
                return self.record(fields, value, depth + 1);
            }
        }
        Ok(None)
    }
}

impl<V> Stop<'_, V> {
    /// The failure lies below this segment. The path is built on the way up, so success
    /// pays nothing for it.
    #[cold]
    fn below(mut self, segment: impl FnOnce() -> Segment) -> Self {
        if let Stop::Failed(failure) = &mut self {
            failure.path.insert(0, segment());
        }
        self
    }
}

/// A value of another type, or of no type that JSON has.
#[cold]
fn mismatch<'a, 's, V: Value<'a>>(name: TypeName, value: V) -> Stop<'s, V> {
    if is_json(value) {
        Problem::WrongType(name, value).into()
    } else {
        Problem::NotJson(value).into()
    }
}

/// Whether JSON has a type for the value itself, whatever it holds.
fn is_json<'a, V: Value<'a>>(value: V) -> bool {
    match value.view() {
        View::Atom | View::Other => false,
        View::Map => !value.is_struct(),
        _ => true,
    }
}
