//! The arguments and outcomes of [`Requests`](super::Requests).

/// The limits of a channel.
#[derive(Copy, Clone, Debug)]
pub struct Limits {
    /// Unfinished requests of the whole connection.
    pub connection: u32,
    /// Bytes that may wait for the client when a request starts.
    pub bytes: u64,
    /// Requests that execute at a time.
    pub concurrency: u32,
    /// Requests that wait.
    pub pending: u32,
    /// Requests that go on after their acknowledgement.
    pub running: u32,
}

/// Which limit refuses a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::connection`], or the client has gone.
    Connection,
    /// [`Limits::pending`].
    Pending,
    /// [`Limits::running`].
    Running,
}

/// The outcome of an arrival: of a request, an answer that is known already, or a cancel.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Admission<P> {
    /// It starts now under this number. If `true`, its process first calls
    /// [`Requests::follow`](super::Requests::follow).
    Start(u64, bool),
    /// It is queued under this number in that process, or in one that the caller starts.
    Wait(u64, Option<P>),
    /// An unfinished request of the channel has its id.
    Duplicate,
    /// It is over a limit.
    Refused(Limit),
}

/// The queued item that may leave the queue.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// None, until a slot frees up or the next item arrives.
    Nobody,
    /// None, unless the client turns out to have read enough.
    Reading,
    /// This request starts; the flag is that of [`Admission::Start`].
    Start(u64, bool),
    /// This request is over [`Limits::running`].
    Refused(u64),
    /// This item takes no slot: an answer that is known already, or a cancel.
    Other(u64),
}

/// Properties of a request that are known when it arrives.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// No other request of the channel may have its id meanwhile.
    pub holds_id: bool,
    /// It goes on after its acknowledgement.
    pub long: bool,
    /// It runs after those of the channel that started earlier and are like that: messages to groups.
    pub in_order: bool,
}

/// How the results of a request that was acknowledged reach the client.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One.
    Async,
    /// Any number.
    Stream,
}

/// Whether a request may send its acknowledgement.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// It may.
    Granted,
    /// It is over [`Limits::running`], and ends with that answer.
    Refused,
    /// It was claimed by somebody else, and sends nothing.
    Ended,
}

/// A request that a cancel has ended, with what its answer needs.
#[derive(Debug, PartialEq, Eq)]
pub enum Cancelled<P, I> {
    /// It was waiting, under that number, in that process.
    Waiting(u64, Option<P>, I),
    /// It was executing in that process, which is to be killed. One that is being started learns
    /// it when it is named.
    Executing(Option<P>, I),
    /// It was acknowledged: its process ends it when it is told.
    Running(Option<P>),
}

/// Requests whose process has ended before their last answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost<I> {
    /// What their answer needs.
    pub info: I,
    /// How its results would have reached the client, of one that was acknowledged.
    pub kind: Option<Kind>,
    /// Its process was running its function.
    pub called: bool,
}

/// What the end of a process asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended<P, I> {
    /// The channel or its client is gone: these processes are to be killed.
    pub kill: Vec<P>,
    /// These requests are to be answered.
    pub lost: Vec<Lost<I>>,
    /// The process where requests wait is to look again.
    pub wake: Option<P>,
    /// The request of this process may go on, see [`Requests::follow`].
    pub proceed: Option<P>,
}

impl<P, I> Default for Ended<P, I> {
    fn default() -> Self {
        Self {
            kill: Vec::new(),
            lost: Vec::new(),
            wake: None,
            proceed: None,
        }
    }
}
