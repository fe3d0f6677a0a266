//! The next state of the table, while a writer makes it.

use super::bucket::Bucket;
use super::{bucket_of, hash, Entry, Function, Key, Origin, Snapshot, Version};
use crate::sync::RandomState;
use ahash::AHashSet;

/// A copy of a state, of which each bucket is copied once it is touched.
pub(super) struct Edit<'t, P> {
    buckets: Box<[Bucket<P>]>,
    versions: usize,
    hasher: &'t RandomState,
    touched: bool,
}

impl<'t, P: Clone> Edit<'t, P> {
    /// An edit that has changed nothing yet.
    pub(super) fn of(snapshot: &Snapshot<P>, hasher: &'t RandomState) -> Self {
        Edit {
            buckets: snapshot.buckets.clone(),
            versions: snapshot.versions,
            hasher,
            touched: false,
        }
    }

    /// The state that it has made, unless that is the one before.
    pub(super) fn into_next(self, state: u64) -> Option<Snapshot<P>> {
        self.touched.then_some(Snapshot {
            buckets: self.buckets,
            versions: self.versions,
            state,
        })
    }

    /// Edits a function that may not be there yet.
    pub(super) fn function<R>(
        &mut self,
        service: &str,
        request_type: &str,
        edit: impl FnOnce(&mut Function<P>) -> R,
    ) -> Option<R> {
        let hash = hash(self.hasher, service.as_bytes(), request_type.as_bytes());
        let bucket = self.buckets.get_mut(bucket_of(hash))?;
        self.touched = true;
        let function = bucket.entry(hash, service, request_type)?;
        let before = function.len();
        let result = edit(function);
        self.versions = self.versions + function.len() - before;
        if function.is_forgotten() {
            bucket.remove(hash, service, request_type);
        }
        Some(result)
    }

    pub(super) fn put(&mut self, entries: Vec<Entry<P>>) {
        for entry in entries {
            self.function(
                &entry.service.clone(),
                &entry.request_type.clone(),
                |function| function.put(entry),
            );
        }
    }

    fn find(&self, service: &str, request_type: &str) -> Option<&Function<P>> {
        let (service, request_type) = (service.as_bytes(), request_type.as_bytes());
        let hash = hash(self.hasher, service, request_type);
        let bucket = self.buckets.get(bucket_of(hash))?;
        bucket.find(hash, service, request_type)
    }

    pub(super) fn knows(&self, service: &str, request_type: &str) -> bool {
        self.find(service, request_type).is_some()
    }

    /// Whether the gateway has added a function config with that key.
    pub(super) fn is_direct(&self, entry: &Entry<P>) -> bool {
        self.find(&entry.service, &entry.request_type)
            .is_some_and(|function| function.origin(&entry.version) == Some(Origin::Direct))
    }

    /// Drops the versions of a service's functions that `keep` does not keep. An operator's
    /// mark outlives them: the service may offer the version again.
    pub(super) fn prune(
        &mut self,
        service: &str,
        keep: impl Fn(&Function<P>, &Version<P>) -> bool,
    ) -> usize {
        let types = self.types(service, |function| {
            function.versions().iter().any(|v| !keep(function, v))
        });
        types
            .iter()
            .filter_map(|request_type| {
                self.function(service, request_type, |function| function.retain(&keep))
            })
            .sum()
    }

    pub(super) fn set_ineligible(&mut self, service: &str, keys: &AHashSet<Key>) -> bool {
        let types = self.types(service, |function| function.differs_from_ineligible(keys));
        for request_type in &types {
            self.function(service, request_type, |function| {
                function.set_ineligible(keys)
            });
        }
        !types.is_empty()
    }

    /// The functions of a service for which that holds.
    fn types(&self, service: &str, holds: impl Fn(&Function<P>) -> bool) -> Vec<Box<str>> {
        self.buckets
            .iter()
            .flat_map(|bucket| bucket.functions())
            .filter(|function| function.service() == service && holds(function))
            .map(|function| function.request_type().into())
            .collect()
    }
}
