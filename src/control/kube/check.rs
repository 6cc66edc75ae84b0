//! A look at whether what is held is what the API server holds: the repair of lost events.
//!
//! A paged list is put over what is there, which marks; what the server does not hold is swept. What
//! the watch brings meanwhile is newer than the list and is left alone. The list shows the cluster
//! at one version, and the watch may not have come to it yet: it is given time, and what it then
//! brings itself was not lost.
//!
//! Costs: the requests and the reading of a list, spread out to `KUBE_CHECK_SHARE_PERCENT_MAX` of a
//! core; eight octets for each object that changes while it runs.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::trouble::Trouble;
use super::watch::{Watch, key};
use crate::cluster::feed::{Applied, Change};
use crate::limits::{KUBE_CHECK_CHANGES_MAX, KUBE_CHECK_SHARE_PERCENT_MAX};

impl Watch {
    /// Compares, and repairs; gives how many objects were not as they are.
    pub(super) async fn check(&self) -> Result<u64, Trouble> {
        self.place().touched = Some(Default::default());
        self.feed.apply(Change::Begin(self.kind));
        let mut suspects = Vec::new();
        let version = self
            .pages(Some(KUBE_CHECK_SHARE_PERCENT_MAX), |object| {
                let key = key(&object);
                if self.has_touched(key) {
                    return;
                }
                if self.feed.apply(Change::Put(object)) != Applied::Same {
                    suspects.push(key);
                }
            })
            .await?;
        self.wait_for(&version).await;
        if self.place().touched.as_ref().is_none_or(|all| all.len() > KUBE_CHECK_CHANGES_MAX) {
            return Err(Trouble::Malformed("too much has changed during a check".into()));
        }
        let swept = match self.feed.apply(Change::End(self.kind)) {
            Applied::Swept(objects) => objects,
            _ => 0,
        };
        suspects.retain(|key| !self.has_touched(*key));
        Ok(suspects.len() as u64 + u64::from(swept))
    }

    fn has_touched(&self, key: u64) -> bool {
        self.place().touched.as_ref().is_some_and(|touched| touched.contains(&key))
    }

    /// Waits until the watch has come to a version, for as long as a watch may be silent.
    async fn wait_for(&self, version: &str) {
        let latest = Instant::now() + self.times.silence;
        let Ok(wanted) = version.parse::<u64>() else { return };
        while Instant::now() < latest {
            let reached = self.place().version.parse::<u64>();
            if reached.is_ok_and(|reached| reached >= wanted) {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}
