//! Who may do what: the permission matrix, once.

use super::member::Status;

/// How people get into a group, and whether members can be muted.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum GroupType {
    /// Everybody is active at once.
    Public,
    /// Any active member accepts.
    Private,
    /// Admins accept, and mute.
    StrictPrivate,
}

/// What a member may be allowed to do.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Make a pending member active.
    Accept,
    /// Send messages.
    Send,
    /// Get messages.
    Receive,
    /// Mute and unmute.
    Mute,
    /// Kick, ban, unban, promote and demote.
    Moderate,
}

#[derive(Copy, Clone)]
enum Who {
    Nobody,
    Active,
    ActiveOrMuted,
    ActiveAdmin,
}

use Who::{Active, ActiveAdmin, ActiveOrMuted, Nobody};

/// One row per action; columns: public, private, strict private.
const MATRIX: [(Action, [Who; 3]); 5] = [
    (Action::Accept, [Active, Active, ActiveAdmin]),
    (Action::Send, [Active, Active, Active]),
    (Action::Receive, [Active, Active, ActiveOrMuted]),
    (Action::Mute, [Nobody, Nobody, ActiveAdmin]),
    (Action::Moderate, [ActiveAdmin, ActiveAdmin, ActiveAdmin]),
];

/// What somebody becomes who joins for the first time; columns as above.
const JOINS_AS: [Status; 3] = [Status::Active, Status::Pending, Status::Pending];

impl GroupType {
    const fn column(self) -> usize {
        match self {
            Self::Public => 0,
            Self::Private => 1,
            Self::StrictPrivate => 2,
        }
    }

    /// The status of somebody who joins for the first time.
    #[must_use]
    pub fn joins_as(self) -> Status {
        JOINS_AS
            .get(self.column())
            .copied()
            .unwrap_or(Status::Pending)
    }

    /// Whether a member with that status and role may do it.
    #[must_use]
    pub fn allows(self, action: Action, status: Status, admin: bool) -> bool {
        match self.who(action) {
            Nobody => false,
            Active => status == Status::Active,
            ActiveOrMuted => status != Status::Pending,
            ActiveAdmin => status == Status::Active && admin,
        }
    }

    /// Whether anybody may do it in a group of this type.
    #[must_use]
    pub fn knows(self, action: Action) -> bool {
        !matches!(self.who(action), Nobody)
    }

    fn who(self, action: Action) -> Who {
        let row = MATRIX.iter().find(|(of, _)| *of == action);
        row.and_then(|(_, row)| row.get(self.column()))
            .copied()
            .unwrap_or(Nobody)
    }
}
