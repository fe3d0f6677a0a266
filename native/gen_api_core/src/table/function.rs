//! One function and its versions.

use super::{version, Entry, Key, Switched};
use ahash::AHashSet;
use smallvec::SmallVec;

/// The version of a function config that has none.
pub const UNVERSIONED: &str = "0.0.0";

/// How a function config came into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Added on the gateway.
    Direct,
    /// Pulled from its service.
    Pull,
    /// Pushed by its service.
    Push,
    /// Offered by the nodes of its service.
    Offer,
}

/// What a lookup finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'t, P> {
    /// The payload of the version chosen.
    Found(&'t P),
    /// The function config is there and disabled.
    Disabled,
    /// There is none.
    NotFound,
}

/// One version of a function.
#[derive(Clone, Debug)]
pub struct Version<P> {
    name: Box<str>,
    origin: Origin,
    disabled: bool,
    eligible: bool,
    payload: P,
}

impl<P> Version<P> {
    /// The version as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it came here.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether requests are refused, by the config or by an operator.
    pub fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// Whether it comes before those that are not for requests that name no version.
    pub fn is_eligible(&self) -> bool {
        self.eligible
    }

    /// What a lookup returns.
    pub fn payload(&self) -> &P {
        &self.payload
    }
}

/// All versions of one function of a service, ascending.
#[derive(Clone, Debug)]
pub struct Function<P> {
    // Service and request type in one piece, inline when short: a lookup compares it
    // without following one more pointer.
    key: SmallVec<[u8; 40]>,
    service_len: u32,
    default: Default<P>,
    versions: Vec<Version<P>>,
    // Versions that an operator disabled; they stay marked when the config goes and comes.
    marked: Vec<Box<str>>,
}

/// What a request without a version gets; worked out at every change and kept here, so that
/// it is found without a look at the versions.
#[derive(Clone, Debug)]
enum Default<P> {
    Found(P),
    Disabled,
    NotFound,
}

impl<P> Function<P> {
    pub(super) fn new(service: &str, request_type: &str) -> Self {
        let mut key = SmallVec::with_capacity(service.len() + request_type.len());
        key.extend_from_slice(service.as_bytes());
        key.extend_from_slice(request_type.as_bytes());
        Function {
            key,
            service_len: u32::try_from(service.len()).unwrap_or(u32::MAX),
            default: Default::NotFound,
            versions: Vec::new(),
            marked: Vec::new(),
        }
    }

    #[inline]
    pub(super) fn is(&self, service: &[u8], request_type: &[u8]) -> bool {
        self.service_len as usize == service.len()
            && self.key.len() == service.len() + request_type.len()
            && self.key.starts_with(service)
            && self.key.ends_with(request_type)
    }

    /// The service that offers it.
    pub fn service(&self) -> &str {
        let name = self.key.get(..self.service_len as usize);
        name.and_then(|name| std::str::from_utf8(name).ok())
            .unwrap_or_default()
    }

    /// Its name within the service.
    pub fn request_type(&self) -> &str {
        let name = self.key.get(self.service_len as usize..);
        name.and_then(|name| std::str::from_utf8(name).ok())
            .unwrap_or_default()
    }

    /// The versions, ascending.
    pub fn versions(&self) -> &[Version<P>] {
        &self.versions
    }

    /// How many versions there are.
    pub fn len(&self) -> usize {
        self.versions.len()
    }

    /// Whether there is none left.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.versions.is_empty() && self.marked.is_empty()
    }

    /// The version that a request for `version`, or for none, gets.
    #[inline]
    pub fn resolve(&self, version: Option<&[u8]>) -> Lookup<'_, P> {
        match version {
            None => self.default(),
            Some(wanted) => match self.exact(wanted) {
                Lookup::NotFound if wanted == UNVERSIONED.as_bytes() => self.default(),
                lookup => lookup,
            },
        }
    }

    /// Exactly that version.
    pub fn exact(&self, version: &[u8]) -> Lookup<'_, P> {
        match self.versions.iter().find(|v| v.name.as_bytes() == version) {
            Some(version) if version.disabled => Lookup::Disabled,
            Some(version) => Lookup::Found(&version.payload),
            None => Lookup::NotFound,
        }
    }

    /// Exactly that version, disabled or not.
    pub fn version(&self, version: &str) -> Option<&Version<P>> {
        self.versions.iter().find(|v| *v.name == *version)
    }

    /// How exactly that version came here.
    pub fn origin(&self, version: &str) -> Option<Origin> {
        self.version(version).map(Version::origin)
    }

    /// The highest enabled version.
    pub fn latest(&self) -> Option<&Version<P>> {
        self.versions.iter().rev().find(|version| !version.disabled)
    }

    #[inline]
    fn default(&self) -> Lookup<'_, P> {
        match &self.default {
            Default::Found(payload) => Lookup::Found(payload),
            Default::Disabled => Lookup::Disabled,
            Default::NotFound => Lookup::NotFound,
        }
    }
}

impl<P: Clone> Function<P> {
    /// The unversioned one, else the highest, of the enabled versions that are eligible, or of all enabled ones
    /// when none is.
    fn settle(&mut self) {
        let enabled = || self.versions.iter().filter(|version| !version.disabled);
        let any_eligible = enabled().any(|version| version.eligible);
        let mut allowed = enabled().filter(|version| version.eligible || !any_eligible);
        let chosen = allowed
            .clone()
            .find(|version| *version.name == *UNVERSIONED)
            .or_else(|| allowed.next_back());
        self.default = match chosen {
            Some(version) => Default::Found(version.payload.clone()),
            None if self.versions.is_empty() => Default::NotFound,
            None => Default::Disabled,
        };
    }

    pub(super) fn put(&mut self, entry: Entry<P>) {
        let stored = Version {
            disabled: entry.disabled || self.marked.contains(&entry.version),
            name: entry.version,
            origin: entry.origin,
            eligible: true,
            payload: entry.payload,
        };
        match self
            .versions
            .binary_search_by(|v| version::compare(&v.name, &stored.name))
        {
            Ok(at) => {
                if let Some(version) = self.versions.get_mut(at) {
                    *version = stored;
                }
            }
            Err(at) => self.versions.insert(at, stored),
        }
        self.settle();
    }

    pub(super) fn delete(&mut self, version: &str) -> bool {
        let before = self.versions.len();
        self.versions.retain(|v| *v.name != *version);
        self.marked.retain(|marked| **marked != *version);
        self.settle();
        self.versions.len() != before
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Self, &Version<P>) -> bool) -> usize {
        let kept: Vec<bool> = self.versions.iter().map(|v| keep(self, v)).collect();
        let before = self.versions.len();
        let mut kept = kept.into_iter();
        self.versions.retain(|_| kept.next().unwrap_or(true));
        self.settle();
        before - self.versions.len()
    }

    pub(super) fn differs_from_ineligible(&self, keys: &AHashSet<Key>) -> bool {
        let mut versions = self.versions.iter();
        versions.any(|version| version.eligible == keys.contains(&self.key_of(version)))
    }

    /// Makes ineligible what `keys` names, and everything else eligible.
    pub(super) fn set_ineligible(&mut self, keys: &AHashSet<Key>) {
        let flags: Vec<bool> = self
            .versions
            .iter()
            .map(|version| !keys.contains(&self.key_of(version)))
            .collect();
        for (version, eligible) in self.versions.iter_mut().zip(flags) {
            version.eligible = eligible;
        }
        self.settle();
    }

    pub(super) fn switch(&mut self, version: &str, enabled: bool, ahead: bool) -> Switched {
        let found = self.versions.iter_mut().find(|v| *v.name == *version);
        if found.is_none() && !ahead {
            return Switched::NotFound;
        }
        let changed =
            found.map(|found| std::mem::replace(&mut found.disabled, !enabled) == enabled);
        self.marked.retain(|marked| **marked != *version);
        if !enabled {
            self.marked.push(version.into());
        }
        self.settle();
        match changed {
            Some(true) => Switched::Changed,
            Some(false) => Switched::Unchanged,
            None => Switched::NotFound,
        }
    }
}

impl<P> Function<P> {
    pub(super) fn key_of(&self, version: &Version<P>) -> Key {
        (self.request_type().into(), version.name().into())
    }

    pub(super) fn bytes(&self, payload: impl Fn(&P) -> usize) -> usize {
        let key = if self.key.spilled() {
            self.key.capacity()
        } else {
            0
        };
        let fixed = std::mem::size_of::<Self>() + key;
        self.versions.iter().fold(fixed, |bytes, v| {
            let own = std::mem::size_of::<Version<P>>() + v.name.len();
            // What a payload says of itself may be anything.
            bytes
                .saturating_add(own)
                .saturating_add(payload(&v.payload))
        })
    }
}
