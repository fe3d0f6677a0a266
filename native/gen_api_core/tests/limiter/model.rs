use std::collections::HashMap;

use gen_api_core::limiter::Decision;

use super::denied;

/// A limit as the model knows it. Limits with one `id` share their windows.
#[derive(Copy, Clone, Debug)]
pub struct ModelLimit {
    pub id: usize,
    pub max_requests: u32,
    pub window: u64,
}

/// Every request that was ever admitted, and no cleverness at all.
#[derive(Debug, Default)]
pub struct Model {
    admitted: HashMap<(usize, u8), Vec<u64>>,
}

impl Model {
    fn requests(&self, limit: ModelLimit, value: u8) -> &[u64] {
        self.admitted
            .get(&(limit.id, value))
            .map_or(&[], Vec::as_slice)
    }

    /// A window's time does not run backwards.
    fn time(&self, limit: ModelLimit, value: u8, now: u64) -> u64 {
        now.max(self.requests(limit, value).last().copied().unwrap_or(0))
    }

    pub fn current(&self, limit: ModelLimit, value: u8, now: u64) -> usize {
        let time = self.time(limit, value, now);
        let requests = self.requests(limit, value).iter();
        requests.filter(|at| **at + limit.window > time).count()
    }

    fn fits(&self, limit: ModelLimit, value: u8, now: u64, ahead: usize) -> bool {
        self.current(limit, value, now) + ahead < limit.max_requests as usize
    }

    /// The first moment at which it fits, found by trying all at which something changes.
    pub fn retry_after(&self, limit: ModelLimit, value: u8, now: u64, ahead: usize) -> u64 {
        if ahead >= limit.max_requests as usize {
            return limit.window;
        }
        let requests = self.requests(limit, value).iter();
        let moments = std::iter::once(now).chain(requests.map(|at| at + limit.window));
        // In order, as the times of the requests are.
        moments
            .filter(|moment| *moment >= now)
            .find(|moment| self.fits(limit, value, *moment, ahead))
            .map_or(limit.window, |moment| moment - now)
    }

    pub fn check(&mut self, charges: &[(ModelLimit, u8)], now: u64) -> Decision {
        let mut worst: Option<(u64, usize, u32)> = None;
        for (index, &(limit, value)) in charges.iter().enumerate() {
            let same = |(other, v): &&(ModelLimit, u8)| other.id == limit.id && *v == value;
            let ahead = charges[..index].iter().filter(same).count();
            if !self.fits(limit, value, now, ahead) {
                let retry = self.retry_after(limit, value, now, ahead);
                if worst.is_none_or(|(longest, ..)| retry > longest) {
                    worst = Some((retry, index, self.current(limit, value, now) as u32));
                }
            }
        }
        if let Some((retry, index, current)) = worst {
            return denied(index, retry, current);
        }
        for &(limit, value) in charges {
            let time = self.time(limit, value, now);
            self.admitted
                .entry((limit.id, value))
                .or_default()
                .push(time);
        }
        Decision::Admitted
    }

    /// The same under caps, when everything expired has been reclaimed.
    pub fn check_capped(
        &mut self,
        charges: &[(ModelLimit, u8)],
        now: u64,
        limits: &[ModelLimit],
        max_keys: usize,
        max_entries: usize,
    ) -> Decision {
        let before = self.admitted.clone();
        let decision = self.check(charges, now);
        let live = |limit: &ModelLimit| {
            let values = 0..=u8::MAX;
            values
                .map(|value| self.current(*limit, value, now))
                .filter(|n| *n > 0)
                .collect::<Vec<_>>()
        };
        let per_limit: Vec<Vec<usize>> = limits.iter().map(live).collect();
        let fits = per_limit.iter().all(|windows| windows.len() <= max_keys)
            && per_limit.iter().flatten().sum::<usize>() <= max_entries;
        if decision == Decision::Admitted && !fits {
            self.admitted = before;
            return Decision::Overflow;
        }
        decision
    }

    pub fn reset(&mut self, limit: ModelLimit, value: u8) {
        self.admitted.remove(&(limit.id, value));
    }

    pub fn forget(&mut self, id: usize) {
        self.admitted.retain(|(other, _), _| *other != id);
    }

    pub fn clear(&mut self) {
        self.admitted.clear();
    }
}
