//! Limits as they are configured.

/// Where the value that a limit counts by comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// The user.
    UserId,
    /// The device.
    DeviceId,
    /// The address of the client.
    IpAddress,
    /// The argument of that name.
    Argument(Box<str>),
}

/// Which limits a request is charged to, and when.
///
/// What the connection of a client says (its user, its address) is charged first, also for requests that come to
/// nothing. What the client itself chooses is charged only once a request is known to be permitted and valid:
/// otherwise a stranger could use up what belongs to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Every limit.
    All,
    /// The limits by user and address.
    Verified,
    /// The limits by user, address and device: the connection knows the device.
    VerifiedDevice,
    /// What [`Group::Verified`] leaves.
    Claimed,
    /// What [`Group::VerifiedDevice`] leaves.
    ClaimedDevice,
}

impl Group {
    pub(super) fn has(self, key: &Key) -> bool {
        let by_sender = matches!(key, Key::UserId | Key::IpAddress);
        let by_device = *key == Key::DeviceId;
        match self {
            Self::All => true,
            Self::Verified => by_sender,
            Self::VerifiedDevice => by_sender || by_device,
            Self::Claimed => !by_sender,
            Self::ClaimedDevice => !by_sender && !by_device,
        }
    }
}

/// What becomes of a request that has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissing {
    /// The limit does not apply to it.
    Skip,
    /// It is denied.
    Deny,
    /// All such requests share one window.
    Shared,
}

/// Which requests a limit counts; `None` counts all, else those of that service and type.
pub type ScopeName = Option<(Box<str>, Box<str>)>;

/// A limit as it is configured.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Which requests it counts.
    pub scope: ScopeName,
    /// By which value.
    pub key: Key,
    /// Most requests in any window.
    pub max_requests: u32,
    /// The length of the window.
    pub window_ms: u64,
    /// What becomes of a request without a value.
    pub on_missing: OnMissing,
}

impl Spec {
    /// What tells windows of different limits apart, besides the length of the window.
    pub(super) fn name(&self) -> Vec<u8> {
        let (kind, argument) = match &self.key {
            Key::UserId => (0u8, ""),
            Key::DeviceId => (1, ""),
            Key::IpAddress => (2, ""),
            Key::Argument(name) => (3, &**name),
        };
        let mut bytes = vec![kind, u8::from(self.scope.is_some())];
        let (service, request_type) = match &self.scope {
            Some((service, request_type)) => (&**service, &**request_type),
            None => ("", ""),
        };
        for part in [service, request_type, argument] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}
