//! Whether the server is ready: what the `ready` end points answer.
//!
//! One for the process: a reload changes whom it asks, once the new graph serves. Costs a lock and a
//! question for each plugin that has not been ready, when somebody asks.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use super::compile::Graph;
use crate::plugin::Ready;

/// By plugin name: whom to ask, and whether the answer has been yes.
type Plugins = BTreeMap<&'static str, (Arc<dyn Ready>, bool)>;
#[allow(clippy::disallowed_types, reason = "between control and the admin thread only")]
type Locked = std::sync::Mutex<Plugins>;

/// Who has to be ready.
#[derive(Default)]
pub struct Readiness {
    /// Of the same plugin in two blocks the last one counts, as in CoreDNS.
    plugins: Locked,
}

impl Readiness {
    /// Takes over who has to be ready from a graph.
    pub fn set(&self, graph: &Graph) {
        let parts = graph.parts.iter().flat_map(|part| part.ready.iter());
        let plugins = parts.map(|(name, ready)| (*name, (Arc::clone(ready), false)));
        *self.plugins.lock().unwrap_or_else(PoisonError::into_inner) = plugins.collect();
    }

    /// Names of those that are not ready. Once ready a plugin is not asked again, unless
    /// `continuously`.
    pub fn waiting(&self, continuously: bool) -> Vec<&'static str> {
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = Vec::new();
        for (name, (ready, seen)) in plugins.iter_mut() {
            if !*seen || continuously {
                *seen = ready.is_ready();
            }
            if !*seen {
                waiting.push(*name);
            }
        }
        waiting
    }

    /// What those that are not ready wait for, as far as they know it: for the log.
    pub fn why_not(&self) -> String {
        let plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = plugins.values().filter(|(_, seen)| !seen);
        let why = waiting.map(|(ready, _)| ready.why_not()).filter(|why| !why.is_empty());
        why.collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;

    struct Switch(AtomicBool);

    impl Ready for Switch {
        fn is_ready(&self) -> bool {
            self.0.load(Relaxed)
        }
    }

    fn readiness(names: &[&'static str]) -> (Readiness, Vec<Arc<Switch>>) {
        let switches: Vec<_> = names.iter().map(|_| Arc::new(Switch(false.into()))).collect();
        let entry = |(name, switch): (&&'static str, &Arc<Switch>)| {
            (*name, (Arc::clone(switch) as Arc<dyn Ready>, false))
        };
        let readiness = Readiness::default();
        *readiness.plugins.lock().unwrap() = names.iter().zip(&switches).map(entry).collect();
        (readiness, switches)
    }

    #[test]
    fn names_who_is_not_ready_and_believes_a_yes() {
        let (readiness, switches) = readiness(&["kubernetes", "erratic"]);
        assert_eq!(readiness.waiting(false), ["erratic", "kubernetes"]);
        switches[1].0.store(true, Relaxed);
        assert_eq!(readiness.waiting(false), ["kubernetes"]);
        switches[1].0.store(false, Relaxed);
        switches[0].0.store(true, Relaxed);
        assert!(readiness.waiting(false).is_empty());
    }

    #[test]
    fn continuously_asks_again() {
        let (readiness, switches) = readiness(&["erratic"]);
        switches[0].0.store(true, Relaxed);
        assert!(readiness.waiting(true).is_empty());
        switches[0].0.store(false, Relaxed);
        assert_eq!(readiness.waiting(true), ["erratic"]);
    }
}
