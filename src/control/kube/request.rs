//! What is asked for: paths and queries of lists and watches.
//!
//! A list is paged (`limit`, `continue`) and never says `resourceVersion=0`, which would be answered
//! with the whole list in one body whatever the limit. A watch asks for bookmarks, and for an end
//! after a random while. A streaming list is a watch that begins with what is there (KEP-3157).

use std::fmt::Write as _;

use crate::cluster::object::{IMPORT_NAME, Kind};
use crate::limits::{KUBE_PAGE_OBJECTS, KUBE_WATCH_SECONDS_MIN};

/// Which objects of each kind are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selectors {
    /// Label selector of services, slices and pods; empty for all.
    pub labels: String,
    /// Label selector of namespaces and of service imports; empty for all.
    pub namespace_labels: String,
}

/// Pods that will never answer again have no records.
const LIVING: &str = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown";

impl Selectors {
    /// A page of a list: the first, or what goes on at `next`.
    pub fn list(&self, kind: Kind, next: &str) -> String {
        let mut target = self.target(kind);
        target.add("limit", &KUBE_PAGE_OBJECTS.to_string());
        if !next.is_empty() {
            target.add("continue", next);
        }
        target.0
    }

    /// The shortest list: for its version.
    pub fn glance(&self, kind: Kind) -> String {
        let mut target = self.target(kind);
        target.add("limit", "1");
        target.0
    }

    /// A watch that begins with all objects, and marks where they end.
    pub fn stream(&self, kind: Kind, random: u32) -> String {
        let mut target = self.watching(kind, random);
        target.add("sendInitialEvents", "true");
        target.add("resourceVersionMatch", "NotOlderThan");
        target.0
    }

    /// A watch from a version on.
    pub fn watch(&self, kind: Kind, version: &str, random: u32) -> String {
        let mut target = self.watching(kind, random);
        target.add("resourceVersion", version);
        target.0
    }

    fn watching(&self, kind: Kind, random: u32) -> Target {
        let mut target = self.target(kind);
        target.add("watch", "true");
        target.add("allowWatchBookmarks", "true");
        let seconds = KUBE_WATCH_SECONDS_MIN + u64::from(random) % KUBE_WATCH_SECONDS_MIN;
        target.add("timeoutSeconds", &seconds.to_string());
        target
    }

    fn target(&self, kind: Kind) -> Target {
        let root = match kind.group() {
            "" => format!("/api/{}", kind.version()),
            group => format!("/apis/{group}/{}", kind.version()),
        };
        let mut target = Target(format!("{root}/{}", kind.resource()));
        let selector = match kind {
            Kind::Services | Kind::Slices | Kind::Pods => self.labels.clone(),
            Kind::Namespaces | Kind::Imports => self.namespace_labels.clone(),
            Kind::ImportSlices if self.labels.is_empty() => IMPORT_NAME.to_owned(),
            Kind::ImportSlices => format!("{},{IMPORT_NAME}", self.labels),
        };
        if !selector.is_empty() {
            target.add("labelSelector", &selector);
        }
        if kind == Kind::Pods {
            target.add("fieldSelector", LIVING);
        }
        target
    }
}

/// A path with the query so far.
struct Target(String);

impl Target {
    fn add(&mut self, key: &str, value: &str) {
        self.0.push(if self.0.contains('?') { '&' } else { '?' });
        self.0.push_str(key);
        self.0.push('=');
        for byte in value.bytes() {
            match byte {
                // RFC 3986 section 2.3.
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    self.0.push(byte.into());
                }
                // Writing to a String cannot fail.
                _ => drop(write!(self.0, "%{byte:02X}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_paged_and_watches_end() {
        let all = Selectors::default();
        assert_eq!(all.list(Kind::Services, ""), "/api/v1/services?limit=500");
        assert_eq!(
            all.list(Kind::Slices, "a=b/"),
            "/apis/discovery.k8s.io/v1/endpointslices?limit=500&continue=a%3Db%2F"
        );
        assert_eq!(
            all.watch(Kind::Namespaces, "17", 10_007),
            "/api/v1/namespaces?watch=true&allowWatchBookmarks=true&timeoutSeconds=407\
             &resourceVersion=17"
        );
        assert_eq!(all.glance(Kind::Services), "/api/v1/services?limit=1");
        assert!(all.stream(Kind::Imports, 0).ends_with(
            "serviceimports?watch=true&allowWatchBookmarks=true&timeoutSeconds=300\
             &sendInitialEvents=true&resourceVersionMatch=NotOlderThan"
        ));
    }

    #[test]
    fn selectors_are_the_kind_s_own() {
        let some = Selectors { labels: "a in (b)".into(), namespace_labels: "team=x".into() };
        let list = |kind| some.list(kind, "");
        let own = "?labelSelector=a%20in%20%28b%29&";
        assert!(list(Kind::Services).contains(own));
        assert!(list(Kind::Pods).contains("&fieldSelector=status.phase%21%3DSucceeded%2C"));
        let imported =
            "labelSelector=a%20in%20%28b%29%2Cmulticluster.kubernetes.io%2Fservice-name&";
        assert!(list(Kind::ImportSlices).contains(imported));
        assert!(list(Kind::Namespaces).contains("?labelSelector=team%3Dx&"));
        assert!(list(Kind::Imports).contains("?labelSelector=team%3Dx&"));
    }
}
