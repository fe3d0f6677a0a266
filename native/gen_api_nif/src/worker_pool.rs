//! NIFs of `PhoenixGenApi.WorkerPool`.
//!
//! A slot is a resource that watches the process of its task and the owner of the task. So the
//! slot of a process that is killed is given back by whatever ends it, and no process of ours
//! has to be told of every task.

use crate::atoms;
use crate::decode::{atom_enum, AnyPid, NAME_BYTES};
use crate::node_selector::now;
use crate::terms::is_small;
use gen_api_core::breaker::{Settings, Transition};
use gen_api_core::clock::Nanos;
use gen_api_core::worker_pool::{
    Cause, Circuit, Effects, Entry, Kind, Left, Name, Notice, OnDeath, Refusal, Slot, TaskResult,
    WorkerPool,
};
use parking_lot::Mutex;
use rustler::env::SavedTerm;
use rustler::types::atom;
use rustler::{
    Atom, Binary, Encoder, Env, Error, LocalPid, Monitor, NifResult, OwnedEnv, Resource,
    ResourceArc, Term,
};

/// A term in an environment of its own.
type Message = (OwnedEnv, SavedTerm);

pub struct PoolResource(WorkerPool<LocalPid, Message>);

/// A task that was accepted.
pub struct SlotResource {
    pool: ResourceArc<PoolResource>,
    slot: Slot<LocalPid, Message>,
    owner: Mutex<Option<Monitor>>,
}

impl std::panic::RefUnwindSafe for PoolResource {}
impl std::panic::RefUnwindSafe for SlotResource {}

#[rustler::resource_impl]
impl Resource for PoolResource {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        self.0.server_exited(pid);
    }
}

#[rustler::resource_impl]
impl Resource for SlotResource {
    const IMPLEMENTS_DESTRUCTOR: bool = true;
    const IMPLEMENTS_DOWN: bool = true;

    fn destructor(self, env: Env<'_>) {
        apply(env, self.pool.0.lost(&self.slot, now()));
    }

    fn down<'a>(&'a self, env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        apply(env, self.pool.0.ended(&self.slot, pid, now()));
    }
}

/// Sends what a step has others do. To a process that has died in the meantime there is nothing to
/// say: the slot of one is given back by its death, and another server looks for itself.
fn apply(env: Env<'_>, effects: Effects<LocalPid, Message>) {
    for process in effects.wake.into_iter().flatten() {
        let _ = env.send(&process, (atoms::worker_pool(), atoms::wake()));
    }
    if let Some((process, message)) = effects.send {
        let _ = env.send(&process, load(env, &message));
    }
    if let Some(server) = effects.notify {
        let _ = env.send(&server, (atoms::worker_pool(), atoms::work()));
    }
}

fn load<'a>(env: Env<'a>, (own, saved): &Message) -> Term<'a> {
    own.run(|own| saved.load(own).in_env(env))
}

/// A closed pool without a server.
#[rustler::nif]
fn worker_pool_new(
    size: u32,
    max_queue: u32,
    threshold: u32,
    failure_rate: f64,
    cooldown_ms: u64,
) -> ResourceArc<PoolResource> {
    let settings = Settings {
        threshold,
        failure_rate,
        cooldown: Nanos::from_millis(cooldown_ms),
    };
    ResourceArc::new(PoolResource(WorkerPool::new(size, max_queue, settings)))
}

/// The caller is the server from now on: the pool is open until it dies.
#[rustler::nif]
fn worker_pool_set_server(env: Env<'_>, pool: ResourceArc<PoolResource>) -> Atom {
    let pid = env.pid();
    pool.0.set_server(pid);
    let _monitor = env.monitor(&pool, &pid);
    atom::ok()
}

/// What the server has to see to: whom to kill, notices, and after how many ms to ask again.
#[rustler::nif(schedule = "DirtyCpu")]
fn worker_pool_take_work<'a>(
    env: Env<'a>,
    pool: &PoolResource,
) -> (Vec<LocalPid>, Vec<Term<'a>>, Option<u64>) {
    let now = now();
    let work = pool.0.take_work(now);
    let notices = work.notices.into_iter().map(|notice| match notice {
        Notice::Killed {
            started,
            cause,
            transition,
        } => {
            let changed = transition_term(env, transition);
            (atoms::killed(), started, cause.map(CauseAtom), changed).encode(env)
        }
        Notice::Message(message) => load(env, &message),
    });
    let left = |due: Nanos| due.saturating_sub(now).0.div_ceil(1_000_000);
    (work.kill, notices.collect(), work.next.map(left))
}

atom_enum!(CauseAtom(Cause) {
    timeout => Cause::Timeout,
    owner_died => Cause::OwnerDied,
    stopped => Cause::Stopped,
});

/// Accepts nothing more and lets nothing begin; returns the processes that are to be killed.
#[rustler::nif(schedule = "DirtyCpu")]
fn worker_pool_stop(env: Env<'_>, pool: &PoolResource) -> Vec<LocalPid> {
    let (kill, waiting) = pool.0.stop();
    for process in waiting {
        let _ = env.send(&process, (atoms::worker_pool(), atoms::wake()));
    }
    kill
}

/// Accepts a task or says why not. `on_death` is nil or `{pid, message}`, sent if the task fails; a large message
/// is refused, as it is copied whenever the process ends. `caller` is nil or `{name, nil, most}` for a user and
/// `{name, bits, most}` for an address, of whom there may be only so many tasks at a time.
#[rustler::nif]
fn worker_pool_admit<'a>(
    env: Env<'a>,
    pool: ResourceArc<PoolResource>,
    counted: bool,
    timeout_ms: Option<u64>,
    on_death: Option<(AnyPid<'a>, Term<'a>)>,
    caller: Option<(Binary<'a>, Option<u32>, u32)>,
) -> NifResult<Term<'a>> {
    if on_death.is_some_and(|(_pid, message)| !is_small(message)) {
        return Err(Error::BadArg);
    }
    let caller = caller.as_ref().map(|(name, prefix, most)| {
        // A longer one is no name that a client can send.
        let name = name.get(..NAME_BYTES).unwrap_or(name);
        let name = match prefix {
            None => Name::User(name),
            Some(bits) => Name::Address(name, *bits),
        };
        (name, *most)
    });
    let now = now();
    let due = timeout_ms.map(|ms| now.saturating_add(Nanos::from_millis(ms)));
    let kind = if counted {
        Kind::Counted
    } else {
        Kind::Uncounted
    };
    let on_death = || on_death.map(|(pid, message)| save(env, pid, message));
    Ok(match pool.0.admit_for(caller, kind, due, on_death, now) {
        Ok(slot) => ResourceArc::new(SlotResource {
            pool,
            slot,
            owner: Mutex::new(None),
        })
        .encode(env),
        Err(why) => RefusalAtom(why).encode(env),
    })
}

atom_enum!(RefusalAtom(Refusal) {
    closed => Refusal::Closed,
    queue_full => Refusal::QueueFull,
    circuit_open => Refusal::CircuitOpen,
    user_share => Refusal::ShareTaken,
});

/// Whether the turn of an accepted task has not come yet.
#[rustler::nif]
fn worker_pool_waits(slot: &SlotResource) -> bool {
    slot.slot.waits()
}

/// The message alone, or with its receiver, where the server sends it.
fn save<'a>(env: Env<'a>, pid: AnyPid<'a>, message: Term<'a>) -> OnDeath<LocalPid, Message> {
    let to = pid.0.decode::<LocalPid>().ok();
    let own = OwnedEnv::new();
    let saved = match to {
        Some(_) => own.save(message),
        None => own.save((pid.0, message).encode(env)),
    };
    OnDeath {
        to,
        message: (own, saved),
    }
}

atom_enum!(EntryAtom(Entry) {
    run => Entry::Run,
    late => Entry::Late,
    orphan => Entry::Orphaned,
    wait => Entry::Wait,
    gone => Entry::Gone,
});

/// The caller comes to run the task of a slot; for the first time with the owner, if any.
#[rustler::nif]
fn worker_pool_enter(
    env: Env<'_>,
    slot: ResourceArc<SlotResource>,
    first: bool,
    owner: Option<LocalPid>,
    started: i64,
) -> EntryAtom {
    let pid = env.pid();
    let mut orphaned = false;
    if first {
        let _monitor = env.monitor(&slot, &pid);
        if let Some(owner) = owner {
            slot.slot.set_owner(owner);
            let monitor = env.monitor(&slot, &owner);
            orphaned = monitor.is_none();
            *slot.owner.lock() = monitor;
        }
    }
    let pool = &slot.pool.0;
    let (entry, effects) = pool.enter(&slot.slot, pid, orphaned, started, now());
    apply(env, effects);
    EntryAtom(entry)
}

atom_enum!(TaskResultAtom(TaskResult) {
    returned => TaskResult::Returned,
    failed => TaskResult::Failed,
    answered => TaskResult::Answered,
});

/// The task of a slot has ended; returns what that did to the circuit, or `:killed`. `answer` is nil or
/// `{pid, message}` for a process of this node: a process that is killed has sent either this or
/// what was to be sent should it die, never both and never neither. The message is copied, as by `send/2`.
#[rustler::nif]
fn worker_pool_leave<'a>(
    env: Env<'a>,
    slot: ResourceArc<SlotResource>,
    result: TaskResultAtom,
    answer: Option<(LocalPid, Term<'a>)>,
) -> Term<'a> {
    let monitor = slot.owner.lock().take();
    if let Some(monitor) = monitor {
        env.demonitor(&slot, &monitor);
    }
    let (left, effects) = slot.pool.0.leave(&slot.slot, result.0, now());
    apply(env, effects);
    if let Some((pid, message)) = answer {
        // To one that has died in the meantime there is nothing to say.
        let _ = env.send(&pid, message);
    }
    match left {
        Left::Ended(transition) => transition_term(env, transition),
        Left::Killed => atoms::killed().encode(env),
    }
}

atom_enum!(CircuitAtom(Circuit) {
    closed => Circuit::Closed,
    probing => Circuit::Probing,
    open => Circuit::Open,
});

/// `{size, running, waiting, circuit, ended, failed}`.
#[rustler::nif]
fn worker_pool_status(pool: &PoolResource) -> (u32, u32, u32, CircuitAtom, u64, u64) {
    let status = pool.0.status(now());
    let circuit = CircuitAtom(status.circuit);
    let (size, running, waiting) = (status.size, status.running, status.waiting);
    (size, running, waiting, circuit, status.ended, status.failed)
}

fn transition_term(env: Env<'_>, transition: Transition) -> Term<'_> {
    match transition {
        Transition::None => atom::nil().encode(env),
        Transition::Closed => atoms::closed().encode(env),
        Transition::Opened { failures } => (atoms::opened(), failures).encode(env),
    }
}
