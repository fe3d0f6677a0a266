//! Argument schemas: from the canonical form that Elixir hands over to the core's.
//!
//! A type is `{kind, allow_nil?, default, parameters}` with default `nil` or `{:value, term}`;
//! `PhoenixGenApi.ArgumentHandler.Types` makes that form out of every spelling.
//!
//! Types nest. What is still open lies on a heap, not on the stack: that of a dirty scheduler is small.

use crate::argument_handler::BUDGET;
use crate::atoms;
use crate::build::Builder;
use crate::decode::List;
use crate::encoded::Names;
use crate::schema_kinds::Reading;
use crate::terms::Terms;
use crate::value::Arg;
use gen_api_core::schema::{
    self, Field, Fields, Formats, Kind, Schema, Shape, Size, TreeLimits, Type, MAX_LEVELS,
};
use rustler::types::atom;
use rustler::{Atom, Encoder, Env, Error, Resource, Term};

/// A compiled schema with the terms that it may have to return.
pub struct SchemaResource {
    pub schema: Schema,
    pub kept: KeptTerms,
    /// Of a type of results.
    pub names: Names,
}

impl std::panic::RefUnwindSafe for SchemaResource {}

#[rustler::resource_impl]
impl Resource for SchemaResource {}

/// Defaults, listed values and enum atoms, by their numbers.
pub struct KeptTerms {
    terms: Terms,
    pub atoms: Vec<Atom>,
}

impl KeptTerms {
    /// A copy of a term takes some 3 ns a word; of a large one, more than a normal scheduler has.
    pub fn save(&mut self, term: Term<'_>) -> schema::KeptValue {
        let id = self.terms.save(term);
        let units = self.terms.words(id).map_or(BUDGET + 1, |words| words / 4);
        schema::KeptValue { id, units }
    }

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

pub type Attempt<T> = Result<T, Fault>;

impl SchemaResource {
    /// `fields` is a list of `{name, type}` in call order.
    pub fn compile(
        fields: Term<'_>,
        shape: Shape,
        limits: TreeLimits,
        formats: &mut Formats,
    ) -> Attempt<Self> {
        let mut compiler = Compiler {
            formats,
            kept: KeptTerms {
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
            names: Names::default(),
        })
    }
}

pub struct Compiler<'f> {
    pub formats: &'f mut Formats,
    pub kept: KeptTerms,
    path: Vec<String>,
    limits: TreeLimits,
}

/// A type whose parts are being compiled, or the arguments themselves.
struct Open<'a> {
    options: Options<'a>,
    parts: Parts<'a>,
}

#[derive(Clone, Copy)]
struct Options<'a> {
    allow_nil: bool,
    default: Option<Term<'a>>,
}

enum Parts<'a> {
    Fields(std::vec::IntoIter<(String, Term<'a>)>, Vec<Field>),
    Item(Size, Option<Term<'a>>, Option<Type>),
}

impl<'a> Parts<'a> {
    fn fields(term: Term<'a>) -> Attempt<Self> {
        let List(pairs) = term.decode()?;
        Ok(Parts::Fields(pairs.into_iter(), Vec::new()))
    }

    /// The next part, and what it is called in messages.
    fn next(&mut self) -> Option<(String, Term<'a>)> {
        match self {
            Parts::Fields(left, _) => left.next(),
            Parts::Item(_, left, _) => Some(("[]".to_owned(), left.take()?)),
        }
    }

    fn add(&mut self, part: Field) {
        match self {
            Parts::Fields(_, done) => done.push(part),
            Parts::Item(_, _, done) => *done = Some(part.r#type),
        }
    }

    fn into_kind(self) -> Attempt<Kind> {
        match self {
            Parts::Fields(_, done) => Ok(Kind::Record(Fields::new(done))),
            Parts::Item(size, _, done) => Ok(Kind::List {
                size,
                item: Box::new(done.ok_or(Error::BadArg)?),
            }),
        }
    }
}

impl Compiler<'_> {
    fn fields(&mut self, term: Term<'_>) -> Attempt<Vec<Field>> {
        let no_options = Options {
            allow_nil: false,
            default: None,
        };
        let mut outer = Vec::new();
        let mut open = Open {
            options: no_options,
            parts: Parts::fields(term)?,
        };
        loop {
            if let Some((name, part)) = open.parts.next() {
                if outer.len() >= MAX_LEVELS as usize {
                    return Err(Error::BadArg.into());
                }
                self.path.push(name);
                let (options, reading) = self.read(part)?;
                let parts = match reading {
                    Reading::Whole(kind) => {
                        open.parts.add(self.field(options, kind)?);
                        continue;
                    }
                    Reading::Record(fields) => Parts::fields(fields)?,
                    Reading::List(size, item) => Parts::Item(size, Some(item), None),
                };
                outer.push(std::mem::replace(&mut open, Open { options, parts }));
            } else {
                let Some(around) = outer.pop() else {
                    return match open.parts {
                        Parts::Fields(_, done) => Ok(done),
                        Parts::Item(..) => Err(Error::BadArg.into()),
                    };
                };
                let whole = std::mem::replace(&mut open, around);
                let kind = whole.parts.into_kind()?;
                open.parts.add(self.field(whole.options, kind)?);
            }
        }
    }

    fn read<'a>(&mut self, term: Term<'a>) -> Attempt<(Options<'a>, Reading<'a>)> {
        type Default<'a> = Option<(Atom, Term<'a>)>;
        let (kind, allow_nil, default, parameters): (Atom, bool, Default, Term) = term.decode()?;
        if default.is_some_and(|(tag, _)| tag != atoms::value()) {
            return Err(Error::BadArg.into());
        }
        let options = Options {
            allow_nil,
            default: default.map(|(_, value)| value),
        };
        Ok((options, self.kind(kind, parameters)?))
    }

    /// The type at the current path is whole.
    fn field(&mut self, options: Options<'_>, kind: Kind) -> Attempt<Field> {
        let mut r#type = Type {
            kind,
            allow_nil: options.allow_nil,
            default: None,
        };
        if let Some(value) = options.default {
            r#type.default = Some(self.default(&r#type, value)?);
        }
        let name = self.path.pop().unwrap_or_default().into_boxed_str();
        Ok(Field { name, r#type })
    }

    /// A default goes through its own type, so that it is what a caller's value would become.
    fn default(&mut self, r#type: &Type, value: Term<'_>) -> Attempt<schema::KeptValue> {
        let build = Builder {
            env: value.get_env(),
            kept: &self.kept,
        };
        match r#type.convert(Arg(value), &build, self.limits) {
            Ok(converted) => {
                let value = converted.map_or(value, |converted| converted.0);
                Ok(self.kept.save(value))
            }
            Err(_failure) => Err(self.refused(atoms::invalid_default(), None)),
        }
    }

    pub fn refused(&self, code: Atom, reason: Option<String>) -> Fault {
        Fault::Refused(Refused {
            code,
            path: self.path.clone(),
            reason,
        })
    }
}
