//! The process that does what tasks cannot: kill, emit events, send to other nodes.

use super::task::Cause;
use crate::breaker::Transition;
use crate::sync::atomic::{AtomicBool, Ordering::SeqCst};
use crate::sync::Mutex;

/// Something that the server has to see to.
#[derive(Debug, PartialEq, Eq)]
pub enum Notice<M> {
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
pub(super) struct Server<P, M> {
    process: Mutex<Option<P>>,
    open: AtomicBool,
    /// Whether it has been told to look and has not begun to.
    notified: AtomicBool,
    notices: Mutex<Vec<Notice<M>>>,
}

impl<P: Copy + PartialEq, M> Server<P, M> {
    pub(super) fn none() -> Self {
        Self {
            process: Mutex::new(None),
            open: AtomicBool::new(false),
            notified: AtomicBool::new(false),
            notices: Mutex::new(Vec::new()),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(SeqCst)
    }

    /// The server looks by itself before anything else.
    pub(super) fn set_server(&self, process: P) {
        *self.process.lock() = Some(process);
        self.notified.store(false, SeqCst);
    }

    pub(super) fn open(&self) {
        self.open.store(true, SeqCst);
    }

    pub(super) fn close(&self) {
        self.open.store(false, SeqCst);
    }

    /// A process has ended; if it was the server, the pool is closed.
    pub(super) fn ended(&self, process: P) {
        let mut server = self.process.lock();
        if *server == Some(process) {
            *server = None;
            self.close();
        }
    }

    /// Whom to tell to look, if that has not been said yet. Notices are added before.
    pub(super) fn notify(&self) -> Option<P> {
        let server = (*self.process.lock())?;
        (!self.notified.swap(true, SeqCst)).then_some(server)
    }

    pub(super) fn add(&self, notice: Notice<M>) {
        self.notices.lock().push(notice);
    }

    /// The server begins to look: what comes from now on has it told again.
    pub(super) fn begin(&self) {
        self.notified.store(false, SeqCst);
    }

    pub(super) fn take_notices(&self) -> Vec<Notice<M>> {
        std::mem::take(&mut *self.notices.lock())
    }
}
