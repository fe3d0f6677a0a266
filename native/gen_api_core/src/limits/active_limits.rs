//! The limits of one moment.

use super::spec::{Key, ScopeName, Spec};
use crate::limiter::Limit;
use crate::sync::AHashMap;

/// Something by service and request type.
pub(super) type ByFunction<T> = AHashMap<Box<str>, AHashMap<Box<str>, T>>;

fn of_function<'m, T>(map: &'m ByFunction<T>, service: &str, request_type: &str) -> Option<&'m T> {
    map.get(service)?.get(request_type)
}

/// An active limit.
#[derive(Debug)]
pub struct ActiveLimit {
    /// As configured.
    pub spec: Spec,
    pub(super) limit: Limit,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct ActiveLimits {
    pub(super) enabled: bool,
    pub(super) global: Vec<ActiveLimit>,
    pub(super) api: ByFunction<Vec<ActiveLimit>>,
}

impl ActiveLimits {
    pub(super) fn all(&self) -> impl Iterator<Item = &ActiveLimit> {
        let api = self.api.values().flat_map(|functions| functions.values());
        self.global.iter().chain(api.flatten())
    }

    /// Whether any limit applies to requests of that function.
    pub(super) fn limits(&self, service: &str, request_type: &str) -> bool {
        let api = || of_function(&self.api, service, request_type).is_some();
        self.enabled && (!self.global.is_empty() || api())
    }

    pub(super) fn of_request(
        &self,
        service: &str,
        request_type: &str,
    ) -> impl Iterator<Item = &ActiveLimit> {
        let api = of_function(&self.api, service, request_type);
        self.global
            .iter()
            .chain(api.into_iter().flatten())
            .filter(|_| self.enabled)
    }

    pub(super) fn of<'l>(
        &'l self,
        scope: &ScopeName,
        key: &'l Key,
    ) -> impl Iterator<Item = &'l ActiveLimit> {
        let limits = match scope {
            None => Some(&self.global),
            Some((service, request_type)) => of_function(&self.api, service, request_type),
        };
        limits
            .into_iter()
            .flatten()
            .filter(move |active| active.spec.key == *key)
    }
}
