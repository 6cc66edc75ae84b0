//! Whether the server is ready: what the `ready` end points answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::compile::Graph;
use crate::plugin::Ready;

/// Who has to be ready.
#[derive(Default)]
pub struct Readiness {
    /// By plugin name; of the same plugin in two blocks the last one counts, as in CoreDNS.
    #[allow(clippy::disallowed_types, reason = "between control and the admin thread only")]
    plugins: Mutex<BTreeMap<&'static str, (Arc<dyn Ready>, bool)>>,
    shutting_down: AtomicBool,
}

impl Readiness {
    /// Takes over who has to be ready from a graph.
    pub fn set(&self, graph: &Graph) {
        let parts = graph.parts.iter().flat_map(|part| part.ready.iter());
        let plugins = parts.map(|(name, ready)| (*name, (Arc::clone(ready), false)));
        *self.plugins.lock().unwrap_or_else(PoisonError::into_inner) = plugins.collect();
    }

    /// The server is about to stop.
    pub fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::Relaxed);
    }

    /// Whether the server is about to stop.
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Relaxed)
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
}
