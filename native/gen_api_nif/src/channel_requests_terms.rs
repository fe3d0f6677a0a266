//! What the NIFs of `PhoenixGenApi.Channel.Requests` take and return.

use crate::atoms;
use crate::decode::{atom_enum, List};
use crate::terms::is_small;
use gen_api_core::connections::{Acknowledgement, Admission, Kind, Limit, Limits};
use rustler::env::SavedTerm;
use rustler::{Encoder, Env, Error, LocalPid, NifResult, OwnedEnv, Term};

/// A term that outlives the call.
pub struct Saved(OwnedEnv, SavedTerm);

impl Saved {
    pub fn new(term: Term<'_>) -> Self {
        let own = OwnedEnv::new();
        let saved = own.save(term);
        Self(own, saved)
    }

    pub fn load<'a>(&self, env: Env<'a>) -> Term<'a> {
        self.0.run(|own| self.1.load(own).in_env(env))
    }
}

/// A term that a normal scheduler may copy, as those are that the library makes here.
pub struct Small<'a>(pub Term<'a>);

impl<'a> rustler::Decoder<'a> for Small<'a> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        if is_small(term) {
            Ok(Small(term))
        } else {
            Err(Error::BadArg)
        }
    }
}

atom_enum!(KindAtom(Kind) {
    async_call => Kind::Async,
    stream_response => Kind::Stream,
});

atom_enum!(LimitAtom(Limit) {
    max_connection_requests => Limit::Connection,
    max_pending => Limit::Pending,
    max_running => Limit::Running,
});

atom_enum!(AcknowledgementAtom(Acknowledgement) {
    granted => Acknowledgement::Granted,
    refused => Acknowledgement::Refused,
    ended => Acknowledgement::Ended,
});

/// `{connection, bytes, concurrency, pending, running}`.
pub struct LimitsTuple(pub Limits);

impl<'a> rustler::Decoder<'a> for LimitsTuple {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let (connection, bytes, concurrency, pending, running) = term.decode()?;
        Ok(Self(Limits {
            connection,
            bytes,
            concurrency,
            pending,
            running,
        }))
    }
}

pub fn admission(env: Env<'_>, admission: Admission<LocalPid>) -> Term<'_> {
    match admission {
        Admission::Start(number, follows) => (atoms::start(), number, follows).encode(env),
        Admission::Wait(number, queue) => (atoms::wait(), number, queue).encode(env),
        Admission::Duplicate => atoms::duplicate().encode(env),
        Admission::Refused(limit) => LimitAtom(limit).encode(env),
    }
}

/// What is sent with a claim. No signal can end the calling process between the two.
pub type Messages<'a> = List<(LocalPid, Term<'a>)>;

pub fn send_if(env: Env<'_>, claimed: bool, messages: Messages<'_>) -> bool {
    if claimed {
        for (to, message) in messages.0 {
            // Who has just gone needs no answer.
            let _ = env.send(&to, message);
        }
    }
    claimed
}
