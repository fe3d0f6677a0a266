//! What each kind of argument type is made of.

use crate::atoms;
use crate::decode::List;
use crate::schema::{Attempt, Compiler};
use crate::value::Arg;
use gen_api_core::schema::{Bound, Flags, FlatMap, Kind, Member, Members, Range, Size, StrRule};
use gen_api_core::value::{Value, View};
use rustler::types::atom;
use rustler::{Atom, Error, NifResult, Term};

/// A kind as far as it can be read without the types that it consists of.
pub enum Reading<'a> {
    Whole(Kind),
    Record(Term<'a>),
    List(Size, Term<'a>),
}

impl Compiler<'_> {
    pub fn kind<'a>(&mut self, kind: Atom, parameters: Term<'a>) -> Attempt<Reading<'a>> {
        if kind == atoms::list() {
            let (bounds, item): (Term, Term) = parameters.decode()?;
            Ok(Reading::List(size(bounds)?, item))
        } else if kind == atoms::record() {
            Ok(Reading::Record(parameters))
        } else {
            self.whole(kind, parameters).map(Reading::Whole)
        }
    }

    fn whole(&mut self, kind: Atom, parameters: Term<'_>) -> Attempt<Kind> {
        let is = |name: Atom| name == kind;
        Ok(if is(atoms::string()) {
            self.string(parameters)?
        } else if is(atoms::num()) {
            Kind::Num(range(parameters)?)
        } else if is(atoms::integer()) {
            Kind::Integer(range(parameters)?)
        } else if is(atoms::float()) {
            Kind::Float(range(parameters)?)
        } else if is(atoms::enum_()) {
            self.members(parameters)?
        } else if is(atoms::scalar_list()) {
            let (bounds, max_length): (Term, u32) = parameters.decode()?;
            Kind::ScalarList {
                size: size(bounds)?,
                max_length,
            }
        } else if is(atoms::list_string()) {
            let (bounds, max_length, max_bytes): (Term, u32, Option<u32>) = parameters.decode()?;
            Kind::StrList {
                size: size(bounds)?,
                max_length,
                max_bytes,
            }
        } else if is(atoms::list_num()) {
            Kind::NumList(size(parameters)?)
        } else if is(atoms::list_uuid()) {
            Kind::UuidList(size(parameters)?)
        } else if is(atoms::list_map()) {
            Kind::MapList(size(parameters)?)
        } else if is(atoms::map()) {
            Kind::AnyMap(parameters.decode()?)
        } else if is(atoms::flat_map()) {
            flat_map(parameters)?
        } else if atom::nil() != parameters {
            return Err(Error::BadArg.into());
        } else if is(atoms::boolean()) {
            Kind::Boolean
        } else if is(atoms::uuid()) {
            Kind::Uuid
        } else if is(atoms::utc()) {
            Kind::DateTime
        } else if is(atoms::naive()) {
            Kind::NaiveDateTime
        } else if is(atoms::calendar_date()) {
            Kind::Date
        } else if is(atoms::time_of_day()) {
            Kind::Time
        } else if is(atoms::any()) {
            Kind::Any
        } else {
            return Err(Error::BadArg.into());
        })
    }

    fn members(&mut self, values: Term<'_>) -> NifResult<Kind> {
        let shown = self.kept.save(values);
        let List(values) = values.decode()?;
        let listed: NifResult<Vec<Member>> =
            values.into_iter().map(|value| self.member(value)).collect();
        Ok(Kind::Enum(Members::new(listed?, shown)))
    }

    fn string(&mut self, parameters: Term<'_>) -> Attempt<Kind> {
        type Parameters = (u32, u32, Option<u32>, Option<(String, String)>);
        let (max_length, min_length, max_bytes, format): Parameters = parameters.decode()?;
        let format = format.map(|(pattern, flags)| {
            let flags = Flags {
                case_insensitive: flags.contains('i'),
                multi_line: flags.contains('m'),
                dot_all: flags.contains('s'),
                extended: flags.contains('x'),
                unicode: flags.contains('u'),
            };
            self.formats
                .format(&pattern, flags)
                .map_err(|error| self.refused(atoms::unsafe_format(), Some(error.0)))
        });
        let format = format.transpose()?;
        Ok(Kind::Str(StrRule {
            max_length,
            min_length,
            max_bytes,
            format,
        }))
    }

    fn member(&mut self, value: Term<'_>) -> NifResult<Member> {
        match Arg(value).view() {
            View::Str(_) => Ok(Member::Str(value.decode::<String>()?.into_boxed_str())),
            View::Int(n) => Ok(Member::Int(n)),
            View::BigInt => Ok(Member::Big(Arg(value).big().ok_or(Error::BadArg)?)),
            View::Float(n) => Ok(Member::Float(n)),
            View::Bool(b) => Ok(Member::Bool(b)),
            View::Atom => {
                let id = u32::try_from(self.kept.atoms.len()).map_err(|_| Error::BadArg)?;
                self.kept.atoms.push(value.decode()?);
                Ok(Member::Atom(value.atom_to_string()?.into_boxed_str(), id))
            }
            _ => Err(Error::BadArg),
        }
    }
}

struct Number(Bound);

impl<'a> rustler::Decoder<'a> for Number {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        match Arg(term).view() {
            View::Int(n) => Ok(Number(Bound::Int(n))),
            View::BigInt => Ok(Number(Bound::Big(Arg(term).big().ok_or(Error::BadArg)?))),
            View::Float(n) => Ok(Number(Bound::Float(n))),
            _ => Err(Error::BadArg),
        }
    }
}

fn range(term: Term<'_>) -> NifResult<Range> {
    let (min, max): (Option<Number>, Option<Number>) = term.decode()?;
    let bound = |number: Option<Number>| number.map(|number| number.0);
    Ok(Range {
        min: bound(min),
        max: bound(max),
    })
}

fn size(term: Term<'_>) -> NifResult<Size> {
    let (max, min): (u32, u32) = term.decode()?;
    Ok(Size { max, min })
}

fn flat_map(parameters: Term<'_>) -> NifResult<Kind> {
    type Texts = List<String>;
    type Parameters = (u32, Texts, Option<Texts>, bool, u32, u32);
    let (max_items, required, accept, nested, max_length, max_list): Parameters =
        parameters.decode()?;
    Ok(Kind::FlatMap(FlatMap {
        max_items,
        required: required.0.into_iter().map(String::into_boxed_str).collect(),
        accept: accept.map(|keys| keys.0.into_iter().map(String::into_boxed_str).collect()),
        nested,
        max_length,
        max_list,
    }))
}
