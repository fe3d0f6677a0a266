//! NIFs of `PhoenixGenApi.WorkerPool`.
//!
//! A slot is a resource that watches the process of its task and the owner of the task. So the
//! slot of a process that is killed is given back by whatever ends it, and no process of ours
//! has to be told of every task. The keeper, one process per pool, is told only of what NIFs
//! cannot do: killing, emitting events, sending to other nodes.

use crate::atoms;
use crate::decode::{atom_enum, AnyPid};
use crate::node_selector::now;
use gen_api_core::breaker::{FailureRate, Settings, Transition};
use gen_api_core::clock::Nanos;
use gen_api_core::pool::{Admission, Cause, End, Entry, Finish, Kind, Pool, Ticket, Was};
use parking_lot::Mutex;
use rustler::env::SavedTerm;
use rustler::types::atom;
use rustler::{
    Atom, Encoder, Env, LocalPid, Monitor, NifUnitEnum, OwnedEnv, Resource, ResourceArc, Term,
};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};
use std::sync::Arc;

/// A pool and what its keeper has to see to.
pub struct PoolResource {
    pool: Pool<LocalPid>,
    open: AtomicBool,
    keeper: Mutex<Option<LocalPid>>,
    told: AtomicBool,
    news: Mutex<Vec<News>>,
}

enum News {
    /// A task that had begun was killed.
    Killed(i64, Option<Cause>, Transition),
    /// `{pid, message}` for a process on another node.
    Remote(Saved),
}

type Saved = (OwnedEnv, SavedTerm);

/// A task that was accepted.
pub struct SlotResource {
    pool: ResourceArc<PoolResource>,
    ticket: Arc<Ticket<LocalPid>>,
    on_death: Mutex<Option<Saved>>,
    owner: Mutex<(Option<LocalPid>, Option<Monitor>)>,
    // As the events want it, in native units of the VM.
    started: AtomicI64,
}

impl std::panic::RefUnwindSafe for PoolResource {}
impl std::panic::RefUnwindSafe for SlotResource {}

#[rustler::resource_impl]
impl Resource for PoolResource {
    const IMPLEMENTS_DOWN: bool = true;

    fn down<'a>(&'a self, _env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        let mut keeper = self.keeper.lock();
        if *keeper == Some(pid) {
            *keeper = None;
            self.open.store(false, SeqCst);
        }
    }
}

#[rustler::resource_impl]
impl Resource for SlotResource {
    const IMPLEMENTS_DESTRUCTOR: bool = true;
    const IMPLEMENTS_DOWN: bool = true;

    // Nobody can run the task any more: its submitter died before it made the process.
    fn destructor(self, env: Env<'_>) {
        self.end(env, End::Failed);
    }

    fn down<'a>(&'a self, env: Env<'a>, pid: LocalPid, _monitor: Monitor) {
        if self.owner.lock().0 == Some(pid) {
            match self.pool.pool.doom(&self.ticket, Cause::OwnerDied, now()) {
                None => self.pool.tell_keeper(env),
                Some(finish) => {
                    self.ended(env, &finish, End::Failed);
                    // Its process, if it waits, may go.
                    wake(env, self.ticket.process());
                }
            }
            return;
        }
        let finish = self.end(env, End::Failed);
        if finish.was == Was::Running {
            self.report_killed(env, &finish);
        }
    }
}

impl PoolResource {
    /// At most one message is under way.
    fn tell_keeper(&self, env: Env<'_>) {
        let Some(keeper) = *self.keeper.lock() else {
            return;
        };
        if !self.told.swap(true, SeqCst) {
            // One that has just died will be followed by one that looks for itself.
            let _ = env.send(&keeper, (atoms::worker_pool(), atoms::attend()));
        }
    }
}

impl SlotResource {
    fn end(&self, env: Env<'_>, end: End) -> Finish<LocalPid> {
        let finish = self.pool.pool.finish(&self.ticket, end, now());
        self.ended(env, &finish, end);
        finish
    }

    fn ended(&self, env: Env<'_>, finish: &Finish<LocalPid>, end: End) {
        if finish.was == Was::Ended {
            return;
        }
        wake(env, finish.wake);
        // Taken in any case: the submitter may keep the slot alive for long.
        let saved = self.on_death.lock().take();
        let lost = finish.was == Was::NotBegun || end == End::Failed;
        if let (true, Some(saved)) = (lost, saved) {
            self.say_farewell(env, saved);
        }
    }

    fn report_killed(&self, env: Env<'_>, finish: &Finish<LocalPid>) {
        let started = self.started.load(SeqCst);
        let news = News::Killed(started, finish.cause, finish.transition);
        self.pool.news.lock().push(news);
        self.pool.tell_keeper(env);
    }

    fn say_farewell(&self, env: Env<'_>, (own, saved): Saved) {
        let term = own.run(|own| saved.load(own).in_env(env));
        match term.decode::<(LocalPid, Term<'_>)>() {
            // To one that has died in the meantime there is nothing to say.
            Ok((pid, message)) => drop(env.send(&pid, message)),
            Err(_) => {
                self.pool.news.lock().push(News::Remote((own, saved)));
                self.pool.tell_keeper(env);
            }
        }
    }
}

/// Has the process of a task ask whether its turn has come.
fn wake(env: Env<'_>, process: Option<LocalPid>) {
    if let Some(process) = process {
        // The slot of one that has died is given back by its death.
        let _ = env.send(&process, (atoms::worker_pool(), atoms::wake()));
    }
}

/// A closed pool without a keeper.
#[rustler::nif]
fn worker_pool_new(
    size: u32,
    max_queue: u32,
    threshold: u32,
    failure_rate: Option<(u32, u32)>,
    cooldown_ms: u64,
) -> ResourceArc<PoolResource> {
    let settings = Settings {
        threshold,
        failure_rate: failure_rate.map(|(failures, window)| FailureRate { failures, window }),
        cooldown: Nanos::from_millis(cooldown_ms),
        ..Settings::default()
    };
    ResourceArc::new(PoolResource {
        pool: Pool::new(size, max_queue, settings),
        open: AtomicBool::new(false),
        keeper: Mutex::new(None),
        told: AtomicBool::new(false),
        news: Mutex::new(Vec::new()),
    })
}

/// The caller is the keeper from now on: the pool is open until it dies.
#[rustler::nif]
fn worker_pool_adopt(env: Env<'_>, pool: ResourceArc<PoolResource>) -> Atom {
    let pid = env.pid();
    *pool.keeper.lock() = Some(pid);
    pool.told.store(false, SeqCst);
    pool.pool.adopt();
    pool.open.store(true, SeqCst);
    let _monitor = env.monitor(&pool, &pid);
    atom::ok()
}

/// What the keeper has to see to: whom to kill, news, and after how many ms to ask again.
#[rustler::nif(schedule = "DirtyCpu")]
fn worker_pool_attend<'a>(
    env: Env<'a>,
    pool: &PoolResource,
) -> (Vec<LocalPid>, Vec<Term<'a>>, Option<u64>) {
    pool.told.store(false, SeqCst);
    let now = now();
    let (kill, next) = pool.pool.doomed(now);
    let news = std::mem::take(&mut *pool.news.lock());
    let news = news.into_iter().map(|news| match news {
        News::Killed(started, cause, transition) => {
            let cause = cause.map(|cause| match cause {
                Cause::Timeout => atoms::timeout(),
                Cause::OwnerDied => atoms::owner_died(),
                Cause::Stopped => atoms::stopped(),
            });
            let changed = transition_term(env, transition);
            (atoms::killed(), started, cause, changed).encode(env)
        }
        News::Remote((own, saved)) => own.run(|own| saved.load(own).in_env(env)),
    });
    let left = next.map(|due| due.saturating_sub(now).0.div_ceil(1_000_000));
    (kill, news.collect(), left)
}

/// Accepts nothing more and lets nothing begin; returns the processes that are to be killed.
#[rustler::nif(schedule = "DirtyCpu")]
fn worker_pool_stop(env: Env<'_>, pool: &PoolResource) -> Vec<LocalPid> {
    pool.open.store(false, SeqCst);
    let (kill, waiting) = pool.pool.stop();
    for process in waiting {
        wake(env, Some(process));
    }
    kill
}

/// Accepts a task or says why not. `on_death` is nil or `{pid, message}`, sent if the task fails.
#[rustler::nif]
fn worker_pool_admit<'a>(
    env: Env<'a>,
    pool: ResourceArc<PoolResource>,
    counted: bool,
    timeout_ms: Option<u64>,
    on_death: Option<(AnyPid<'a>, Term<'a>)>,
) -> Term<'a> {
    if !pool.open.load(SeqCst) {
        return atoms::closed().encode(env);
    }
    let now = now();
    let due = timeout_ms.map(|ms| now.saturating_add(Nanos::from_millis(ms)));
    let kind = if counted {
        Kind::Counted
    } else {
        Kind::Uncounted
    };
    match pool.pool.admit(kind, due, now) {
        Admission::Accepted(ticket) => ResourceArc::new(SlotResource {
            pool,
            ticket,
            on_death: Mutex::new(on_death.map(|(pid, message)| {
                let own = OwnedEnv::new();
                let saved = own.save((pid.0, message).encode(env));
                (own, saved)
            })),
            owner: Mutex::new((None, None)),
            started: AtomicI64::new(0),
        })
        .encode(env),
        Admission::Full => atoms::queue_full().encode(env),
        Admission::CircuitOpen => atoms::circuit_open().encode(env),
    }
}

#[derive(Clone, Copy, NifUnitEnum)]
enum EntryAtom {
    Run,
    Late,
    Orphan,
    Wait,
    Gone,
}

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
    let mut orphan = false;
    slot.started.store(started, SeqCst);
    if first {
        let _monitor = env.monitor(&slot, &pid);
        if let Some(owner) = owner {
            // Named before it is watched: it may die at once.
            slot.owner.lock().0 = Some(owner);
            let monitor = env.monitor(&slot, &owner);
            slot.owner.lock().1 = monitor;
            orphan = monitor.is_none();
        }
    }
    let (entry, sooner) = slot.pool.pool.enter(&slot.ticket, pid, now());
    if sooner {
        slot.pool.tell_keeper(env);
    }
    match entry {
        Entry::Run if orphan => EntryAtom::Orphan,
        Entry::Run => EntryAtom::Run,
        Entry::Late => EntryAtom::Late,
        Entry::Wait if !orphan => EntryAtom::Wait,
        Entry::Wait | Entry::Gone => {
            slot.end(env, End::Failed);
            EntryAtom::Gone
        }
    }
}

#[derive(Clone, Copy)]
pub enum HowEnded {
    Returned,
    Failed,
    // A function of an API has failed, and its caller has been told.
    Answered,
}

atom_enum!(EndAtom(HowEnded) {
    returned => HowEnded::Returned,
    failed => HowEnded::Failed,
    answered => HowEnded::Answered,
});

/// The task of a slot has ended; returns what that did to the circuit. `answer` is nil or
/// `{pid, message}` for a process of this node: a process that is killed has sent either this or
/// what was to be sent should it die, never both and never neither.
///
/// `:killed` when the keeper has been told to kill it. It may do so before the caller can tell
/// anybody of the end, so the keeper tells.
#[rustler::nif]
fn worker_pool_leave<'a>(
    env: Env<'a>,
    slot: ResourceArc<SlotResource>,
    end: EndAtom,
    answer: Option<(LocalPid, Term<'a>)>,
) -> Term<'a> {
    let monitor = slot.owner.lock().1.take();
    if let Some(monitor) = monitor {
        env.demonitor(&slot, &monitor);
    }
    let end = match end.0 {
        HowEnded::Returned => End::Returned,
        HowEnded::Failed => End::Failed,
        HowEnded::Answered => {
            *slot.on_death.lock() = None;
            End::Failed
        }
    };
    let finish = slot.end(env, end);
    if let Some((pid, message)) = answer {
        // To one that has died in the meantime there is nothing to say.
        let _ = env.send(&pid, message);
    }
    if finish.was == Was::Running && finish.cause.is_some() {
        slot.report_killed(env, &finish);
        return atoms::killed().encode(env);
    }
    transition_term(env, finish.transition)
}

#[derive(Clone, Copy, NifUnitEnum)]
enum CircuitAtom {
    Closed,
    // What does not count is let through: the next that counts is the probe, or it is under way.
    Probing,
    Open,
}

/// `{size, running, waiting, circuit, ended, failed}`.
#[rustler::nif]
fn worker_pool_status(pool: &PoolResource) -> (u32, u32, u32, CircuitAtom, u64, u64) {
    let status = pool.pool.status(now());
    let circuit = match (status.circuit_open, status.refusing) {
        (false, _) => CircuitAtom::Closed,
        (true, false) => CircuitAtom::Probing,
        (true, true) => CircuitAtom::Open,
    };
    (
        status.size,
        status.running,
        status.waiting,
        circuit,
        status.ended,
        status.failed,
    )
}

fn transition_term(env: Env<'_>, transition: Transition) -> Term<'_> {
    match transition {
        Transition::None => atom::nil().encode(env),
        Transition::Closed => atoms::closed().encode(env),
        Transition::Opened { consecutive } => (atoms::opened(), consecutive).encode(env),
    }
}
