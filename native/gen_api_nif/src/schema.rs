//! Argument schemas: from the canonical form that Elixir hands over to the core's.
//!
//! A type is `{kind, allow_nil?, default, parameters}` with default `nil` or `{:value, term}`;
//! `PhoenixGenApi.ArgumentHandler.Types` makes that form out of every spelling.

use crate::atoms;
use crate::build::Builder;
use crate::terms::Terms;
use crate::value::Arg;
use gen_api_core::schema::{
    Bound, Field, Fields, Flags, FlatMap, Format, Kind, Member, Members, Range, Schema, Shape,
    Size, StrRule, TreeLimits, Type,
};
use gen_api_core::value::{Value, View};
use rustler::types::atom;
use rustler::{Atom, Encoder, Env, Error, NifResult, Resource, Term};

/// A compiled schema with the terms that it may have to return.
pub struct SchemaResource {
    pub schema: Schema,
    pub kept: Kept,
}

#[rustler::resource_impl]
impl Resource for SchemaResource {}

/// Defaults, listed values and enum atoms, by their numbers.
pub struct Kept {
    terms: Terms,
    atoms: Vec<Atom>,
}

impl Kept {
    pub fn atom(&self, id: u32) -> Option<Atom> {
        self.atoms.get(id as usize).copied()
    }

    pub fn term<'a>(&self, env: Env<'a>, id: u32) -> Term<'a> {
        let none = || atom::nil().encode(env);
        self.terms.load(env, id).unwrap_or_else(none)
    }
}

/// Why a schema was refused: a code, the path of the type, and a text where there is one.
pub struct Refused {
    pub code: Atom,
    pub path: Vec<String>,
    pub reason: Option<String>,
}

/// Either refused, or malformed in a way that Elixir must have prevented.
pub enum Fault {
    Refused(Refused),
    Bug(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Bug(error)
    }
}

type Compiled<T> = Result<T, Fault>;

impl SchemaResource {
    /// `fields` is a list of `{name, type}` in call order.
    pub fn compile(fields: Term<'_>, shape: Shape, limits: TreeLimits) -> Compiled<Self> {
        let mut compiler = Compiler {
            kept: Kept {
                terms: Terms::new(),
                atoms: Vec::new(),
            },
            path: Vec::new(),
            limits,
        };
        let fields = compiler.fields(fields)?;
        Ok(SchemaResource {
            schema: Schema::new(fields, shape, limits),
            kept: compiler.kept,
        })
    }
}

struct Compiler {
    kept: Kept,
    path: Vec<String>,
    limits: TreeLimits,
}

impl Compiler {
    fn fields(&mut self, term: Term<'_>) -> Compiled<Vec<Field>> {
        let pairs: Vec<(String, Term)> = term.decode()?;
        pairs
            .into_iter()
            .map(|(name, r#type)| {
                self.path.push(name.clone());
                let r#type = self.r#type(r#type)?;
                self.path.pop();
                Ok(Field {
                    name: name.into_boxed_str(),
                    r#type,
                })
            })
            .collect()
    }

    fn r#type(&mut self, term: Term<'_>) -> Compiled<Type> {
        let (kind, allow_nil, default, parameters): (Atom, bool, Term, Term) = term.decode()?;
        let kind = self.kind(kind, parameters)?;
        let mut compiled = Type {
            kind,
            allow_nil,
            default: None,
        };
        if !default.is_atom() {
            let (_value, default): (Atom, Term) = default.decode()?;
            compiled.default = Some(self.default(&compiled, default)?);
        }
        Ok(compiled)
    }

    /// A default goes through its own type, so that it is what a caller's value would become.
    fn default(&mut self, r#type: &Type, value: Term<'_>) -> Compiled<u32> {
        let build = Builder {
            env: value.get_env(),
            kept: &self.kept,
        };
        match r#type.convert(Arg(value), &build, self.limits) {
            Ok(converted) => {
                let value = converted.map_or(value, |converted| converted.0);
                Ok(self.kept.terms.save(value))
            }
            Err(_failure) => Err(self.refused(atoms::invalid_default(), None)),
        }
    }

    fn refused(&self, code: Atom, reason: Option<String>) -> Fault {
        Fault::Refused(Refused {
            code,
            path: self.path.clone(),
            reason,
        })
    }

    fn kind(&mut self, kind: Atom, parameters: Term<'_>) -> Compiled<Kind> {
        let kinds = [
            (atoms::num(), Kind::Num as fn(Range) -> Kind),
            (atoms::integer(), Kind::Integer),
            (atoms::float(), Kind::Float),
        ];
        if let Some((_, make)) = kinds.iter().find(|(name, _)| *name == kind) {
            let (min, max): (Option<Number>, Option<Number>) = parameters.decode()?;
            let bound = |number: Option<Number>| number.map(|number| number.0);
            return Ok(make(Range {
                min: bound(min),
                max: bound(max),
            }));
        }
        let kinds = [
            (atoms::list_num(), Kind::NumList as fn(Size) -> Kind),
            (atoms::list_uuid(), Kind::UuidList),
            (atoms::list_map(), Kind::MapList),
        ];
        if let Some((_, make)) = kinds.iter().find(|(name, _)| *name == kind) {
            return Ok(make(size(parameters)?));
        }
        let kinds = [
            (atoms::boolean(), Kind::Boolean),
            (atoms::uuid(), Kind::Uuid),
            (atoms::utc(), Kind::DateTime),
            (atoms::naive(), Kind::NaiveDateTime),
            (atoms::any(), Kind::Any),
        ];
        if let Some((_, kind)) = kinds.into_iter().find(|(name, _)| *name == kind) {
            return Ok(kind);
        }
        if kind == atoms::string() {
            self.string(parameters)
        } else if kind == atoms::enum_() {
            let values: Vec<Term> = parameters.decode()?;
            let listed: NifResult<Vec<Member>> =
                values.into_iter().map(|value| self.member(value)).collect();
            let shown = self.kept.terms.save(parameters);
            Ok(Kind::Enum(Members::new(listed?, shown)))
        } else if kind == atoms::scalar_list() {
            let (bounds, max_length): (Term, u32) = parameters.decode()?;
            Ok(Kind::ScalarList {
                size: size(bounds)?,
                max_length,
            })
        } else if kind == atoms::list() {
            let (bounds, item): (Term, Term) = parameters.decode()?;
            self.path.push("[]".to_owned());
            let item = Box::new(self.r#type(item)?);
            self.path.pop();
            Ok(Kind::List {
                size: size(bounds)?,
                item,
            })
        } else if kind == atoms::list_string() {
            let (bounds, max_length, max_bytes): (Term, u32, Option<u32>) = parameters.decode()?;
            Ok(Kind::StrList {
                size: size(bounds)?,
                max_length,
                max_bytes,
            })
        } else if kind == atoms::map() {
            Ok(Kind::AnyMap(parameters.decode()?))
        } else if kind == atoms::flat_map() {
            flat_map(parameters)
        } else if kind == atoms::record() {
            Ok(Kind::Record(Fields::new(self.fields(parameters)?)))
        } else {
            Err(Error::BadArg.into())
        }
    }

    fn string(&mut self, parameters: Term<'_>) -> Compiled<Kind> {
        let (max_length, min_length, max_bytes, format): (u32, u32, Option<u32>, Term) =
            parameters.decode()?;
        let format = if format.is_atom() {
            None
        } else {
            let (pattern, flags): (String, String) = format.decode()?;
            let flags = Flags {
                case_insensitive: flags.contains('i'),
                multi_line: flags.contains('m'),
                dot_all: flags.contains('s'),
                extended: flags.contains('x'),
                unicode: flags.contains('u'),
            };
            let format = Format::new(&pattern, flags)
                .map_err(|error| self.refused(atoms::unsafe_format(), Some(error.0)))?;
            Some(format)
        };
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
            View::Float(n) => Ok(Number(Bound::Float(n))),
            _ => Err(Error::BadArg),
        }
    }
}

fn size(term: Term<'_>) -> NifResult<Size> {
    let (max, min): (u32, u32) = term.decode()?;
    Ok(Size { max, min })
}

fn flat_map(parameters: Term<'_>) -> Compiled<Kind> {
    type Parameters = (u32, Vec<String>, Option<Vec<String>>, bool, u32, u32);
    let (max_items, required, accept, nested, max_length, max_list): Parameters =
        parameters.decode()?;
    Ok(Kind::FlatMap(FlatMap {
        max_items,
        required: required.into_iter().map(String::into_boxed_str).collect(),
        accept: accept.map(|keys| keys.into_iter().map(String::into_boxed_str).collect()),
        nested,
        max_length,
        max_list,
    }))
}
