//! The process that does what tasks cannot: kill, emit events, send to other nodes.

use super::ticket::Cause;
use crate::breaker::Transition;
use crate::sync::atomic::{AtomicBool, Ordering::SeqCst};
use crate::sync::Mutex;

/// Something that the keeper has to see to.
#[derive(Debug, PartialEq, Eq)]
pub enum News<M> {
    /// A task that had begun was killed.
    Killed {
        /// When it began, as its process said.
        started: i64,
        /// Why, if the pool wanted it.
        cause: Option<Cause>,
        /// What that did to the circuit.
        transition: Transition,
    },
    /// To be sent to a process of another node.
    Message(M),
}

/// Who sees to a pool, and what there is to see to. The pool is open while there is somebody.
#[derive(Debug)]
pub(super) struct Keeper<P, M> {
    process: Mutex<Option<P>>,
    open: AtomicBool,
    /// Whether it has been told to look and has not begun to.
    notified: AtomicBool,
    news: Mutex<Vec<News<M>>>,
}

impl<P: Copy + PartialEq, M> Keeper<P, M> {
    pub(super) fn none() -> Self {
        Self {
            process: Mutex::new(None),
            open: AtomicBool::new(false),
            notified: AtomicBool::new(false),
            news: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(SeqCst)
    }

    /// Who is the keeper looks of itself before anything else.
    pub(super) fn adopt(&self, process: P) {
        *self.process.lock() = Some(process);
        self.notified.store(false, SeqCst);
    }

    pub(super) fn open(&self) {
        self.open.store(true, SeqCst);
    }

    pub(super) fn close(&self) {
        self.open.store(false, SeqCst);
    }

    /// A process has ended; if it was the keeper, the pool is closed.
    pub(super) fn ended(&self, process: P) {
        let mut keeper = self.process.lock();
        if *keeper == Some(process) {
            *keeper = None;
            self.close();
        }
    }

    /// Whom to tell to look, if that has not been said yet. News are added before.
    pub(super) fn notify(&self) -> Option<P> {
        let keeper = (*self.process.lock())?;
        (!self.notified.swap(true, SeqCst)).then_some(keeper)
    }

    pub(super) fn add(&self, news: News<M>) {
        self.news.lock().push(news);
    }

    /// The keeper begins to look: what comes from now on has it told again.
    pub(super) fn begin(&self) {
        self.notified.store(false, SeqCst);
    }

    pub(super) fn take_news(&self) -> Vec<News<M>> {
        std::mem::take(&mut *self.news.lock())
    }
}
