//! What the NIFs of the relay say and are told, as terms.
//!
//! An origin is `{type, created_ms, created_by, changed_ms}`, a record
//! `{user, flags, version, joined_ms}`.

use crate::atoms;
use crate::decode::{atom_enum, Name, NAME_BYTES};
use gen_api_core::relay::{
    Bounds, Command, Created, Device, GroupType, MemberFlags, Moderation, Origin, Page, Record,
    Refusal, Status,
};
use rustler::types::atom;
use rustler::{Atom, Binary, Decoder, Encoder, Env, Error, LocalPid, NifResult, Term};

atom_enum!(Kind(GroupType) {
    public => GroupType::Public,
    private => GroupType::Private,
    strict_private => GroupType::StrictPrivate,
});

atom_enum!(StatusAtom(Status) {
    active => Status::Active,
    pending => Status::Pending,
    muted => Status::Muted,
});

atom_enum!(ModerationAtom(Moderation) {
    accept => Moderation::Accept,
    mute => Moderation::Mute,
    unmute => Moderation::Unmute,
    kick => Moderation::Kick,
    ban => Moderation::Ban,
    unban => Moderation::Unban,
    promote => Moderation::Promote,
    demote => Moderation::Demote,
});

pub fn refused(env: Env<'_>, refusal: Refusal) -> Term<'_> {
    let reason = match refusal {
        Refusal::TooFast(after_ms) => return (atoms::too_fast(), after_ms).encode(env),
        Refusal::NotFound => atoms::not_found(),
        Refusal::AlreadyExists => atoms::already_exists(),
        Refusal::TooManyGroups => atoms::too_many_groups(),
        Refusal::AlreadyMember => atoms::already_member(),
        Refusal::TooManyDevices => atoms::too_many_devices(),
        Refusal::GroupFull => atoms::group_full(),
        Refusal::Banned => atoms::banned(),
        Refusal::NotInGroup => atoms::user_not_in_group(),
        Refusal::NotAdmin => atoms::not_admin(),
        Refusal::NotPending => atoms::user_not_pending(),
        Refusal::NotStrictPrivate => atoms::not_strict_private(),
        Refusal::CannotMute => atoms::cannot_mute(),
        Refusal::NotMuted => atoms::not_muted(),
        Refusal::CannotKick => atoms::cannot_kick(),
        Refusal::CannotBan => atoms::cannot_ban(),
        Refusal::AlreadyBanned => atoms::already_banned(),
        Refusal::NotBanned => atoms::not_banned(),
        Refusal::CannotPromote => atoms::cannot_promote(),
        Refusal::AlreadyAdmin => atoms::already_admin(),
        Refusal::CannotDemote => atoms::cannot_demote(),
        Refusal::LastAdmin => atoms::last_admin(),
        Refusal::Pending => atoms::pending(),
        Refusal::Muted => atoms::muted(),
        Refusal::Shared => atoms::shared(),
    };
    reason.encode(env)
}

/// What came of it, or why not.
pub fn answer<T: Encoder>(env: Env<'_>, outcome: Result<T, Refusal>) -> Term<'_> {
    match outcome {
        Ok(result) => result.encode(env),
        Err(refusal) => refused(env, refusal),
    }
}

/// `:ok`, or why not.
pub fn done(env: Env<'_>, outcome: Result<(), Refusal>) -> Term<'_> {
    answer(env, outcome.map(|()| atom::ok()))
}

/// `{status, origin, record}`, or why not.
pub fn record_or_refusal(env: Env<'_>, outcome: Result<(Origin, Record), Refusal>) -> Term<'_> {
    let outcome = outcome.map(|(origin, record)| {
        let status = record.flags.status().map(StatusAtom);
        (status, origin_term(env, &origin), record_term(env, &record))
    });
    answer(env, outcome)
}

/// `{head, rows, next}`, or why not.
pub fn page_or_refusal<'a, T>(
    env: Env<'a>,
    page: Result<Page<T>, Refusal>,
    head: impl Fn(Env<'a>, &Origin) -> Term<'a>,
    row: impl Fn(Env<'a>, &T) -> Term<'a>,
) -> Term<'a> {
    let page = page.map(|page| {
        let rows: Vec<Term> = page.rows.iter().map(|item| row(env, item)).collect();
        (head(env, &page.origin), rows, page.next)
    });
    answer(env, page)
}

/// Who joins, whom messages are sent to, and in which form.
pub type Joining<'a> = (LocalPid, LocalPid, Lane<'a>);

/// The form, which each group keeps: no longer than a name.
pub struct Lane<'a>(Binary<'a>);

impl<'a> Decoder<'a> for Lane<'a> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let bytes: Binary = term.decode()?;
        if bytes.len() > NAME_BYTES {
            return Err(Error::BadArg);
        }
        Ok(Lane(bytes))
    }
}

pub fn device<'d>(joining: &'d Joining<'_>) -> Device<'d, LocalPid> {
    Device {
        id: joining.0,
        to: joining.1,
        lane: &joining.2 .0,
    }
}

/// Groups, members, pending members, groups per user, grace in ms.
pub type BoundsTerm = (usize, usize, usize, usize, u64);

pub fn bounds((groups, members, pending, groups_per_user, grace_ms): BoundsTerm) -> Bounds {
    Bounds {
        groups,
        members,
        pending,
        groups_per_user,
        grace_ms,
    }
}

/// When a group was created, and what tells it from another one of the same millisecond.
pub type CreatedTerm = (u64, u64);

pub fn created((ms, by): CreatedTerm) -> Created {
    Created { ms, by }
}

/// A change of a group, as the gateways tell each other.
pub struct Change<'a> {
    pub group: &'a str,
    pub command: Command<'a>,
}

impl<'a> Decoder<'a> for Change<'a> {
    // By size: a tuple of a known one is decoded without a vector of its elements.
    fn decode(term: Term<'a>) -> NifResult<Self> {
        type Three<'a> = (Atom, Name<'a>, Name<'a>);
        type Four<'a> = (Atom, Name<'a>, Name<'a>, bool);
        type Five<'a> = (Atom, Name<'a>, Term<'a>, Name<'a>, Term<'a>);
        let (group, command) = if let Ok((tag, group, user)) = term.decode::<Three>() {
            if tag == atoms::join() {
                (
                    group,
                    Command::Join {
                        user: user.as_str(),
                    },
                )
            } else if tag == atoms::leave() {
                (
                    group,
                    Command::Leave {
                        user: user.as_str(),
                    },
                )
            } else {
                return Err(Error::BadArg);
            }
        } else if let Ok((tag, group, user, died)) = term.decode::<Four>() {
            if tag != atoms::depart() {
                return Err(Error::BadArg);
            }
            (
                group,
                Command::LeaveIfOffline {
                    user: user.as_str(),
                    died,
                },
            )
        } else {
            let (tag, group, kind, user, last): Five = term.decode()?;
            let command = if tag == atoms::create() {
                Command::Create {
                    kind: kind.decode::<Kind>()?.0,
                    user: user.as_str(),
                    created: created(last.decode()?),
                }
            } else if tag == atoms::change() {
                Command::Moderate {
                    moderation: kind.decode::<ModerationAtom>()?.0,
                    actor: user.as_str(),
                    target: last.decode::<Name>()?.as_str(),
                }
            } else {
                return Err(Error::BadArg);
            };
            (group, command)
        };
        Ok(Change {
            group: group.as_str(),
            command,
        })
    }
}

pub type OriginTerm = (Kind, u64, u64, u64);
pub type RecordTerm<'a> = (Name<'a>, FlagsByte, u32, u64);

/// rustler would take the low byte of a larger number.
pub struct FlagsByte(u8);

impl<'a> Decoder<'a> for FlagsByte {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        let number: u32 = term.decode()?;
        let byte = u8::try_from(number).map_err(|_| Error::BadArg)?;
        Ok(FlagsByte(byte))
    }
}

pub fn origin((kind, ms, by, changed_ms): OriginTerm) -> Origin {
    Origin {
        kind: kind.0,
        created: Created { ms, by },
        changed_ms,
    }
}

pub fn record((user, flags, version, joined_ms): RecordTerm<'_>) -> Record {
    Record {
        user: (*user).into(),
        flags: MemberFlags::from_bits(flags.0),
        version,
        joined_ms,
    }
}

pub fn origin_term<'a>(env: Env<'a>, origin: &Origin) -> Term<'a> {
    let created = origin.created;
    (Kind(origin.kind), created.ms, created.by, origin.changed_ms).encode(env)
}

pub fn record_term<'a>(env: Env<'a>, record: &Record) -> Term<'a> {
    (
        &*record.user,
        record.flags.bits(),
        record.version,
        record.joined_ms,
    )
        .encode(env)
}
