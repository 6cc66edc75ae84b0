//! The cluster from files instead of an API server.
//!
//! A file is YAML or JSON: documents one after the other, `List`s taken apart, kinds without records
//! passed over. All files are read before anything is applied, so that one that is broken leaves the
//! cluster as it was; then each kind is marked and swept like a list of the API server's. Files are
//! known to have changed by time, size and inode.
//!
//! Costs: all objects in memory while they are applied.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::held::Held;
use super::settings::Settings;
use crate::cluster::feed::{Change, Feed as _};
use crate::cluster::object::{IMPORT_NAME, Kind, Meta, Object, Port};
use crate::cluster::selector::Selector;
use crate::limits::{MANIFEST_BYTES_MAX, MANIFEST_DEPTH_MAX, MANIFEST_FILES_MAX, MANIFEST_SECONDS};
use crate::plugin::site;

/// What tells that a file is another: its path, time of change, size and inode.
type Seen = (PathBuf, i64, i64, u64, u64);

/// Files, the cluster that they make, and how they looked when they were read last.
pub struct Manifests {
    paths: Vec<PathBuf>,
    kinds: Vec<Kind>,
    labels: Selector,
    namespace_labels: Selector,
    held: Arc<Held>,
    seen: Vec<Seen>,
}

impl Manifests {
    /// Nothing is read yet.
    pub fn new(paths: &[PathBuf], settings: &Settings, held: &Arc<Held>) -> Self {
        Self {
            paths: paths.into(),
            kinds: settings.kinds(),
            labels: settings.labels.clone(),
            namespace_labels: settings.namespace_labels.clone(),
            held: Arc::clone(held),
            seen: Vec::new(),
        }
    }

    /// Reads the files if one has changed, and puts what they hold into the index.
    ///
    /// # Errors
    /// What is wrong with a file; nothing changes then.
    pub fn load(&mut self) -> Result<(), String> {
        let files = files(&self.paths)?;
        let seen = files.iter().map(|(path, about)| seen(path, about)).collect();
        if self.seen == seen {
            return Ok(());
        }
        // Whatever comes of it, the same files are not read again.
        self.seen = seen;
        let mut objects = Vec::new();
        for (path, _) in &files {
            read(path, &self.kinds, &mut objects)?;
        }
        objects.retain(|object| self.is_wanted(object));
        for kind in &self.kinds {
            self.held.apply(Change::Begin(*kind));
            let (of_kind, rest) = objects.into_iter().partition(|one| one.kind() == *kind);
            let of_kind: Vec<Object> = of_kind;
            objects = rest;
            for object in of_kind {
                self.held.apply(Change::Put(object));
            }
            self.held.apply(Change::End(*kind));
        }
        Ok(())
    }

    fn is_wanted(&self, object: &Object) -> bool {
        let selector = match object.kind() {
            Kind::Namespaces | Kind::Imports => &self.namespace_labels,
            _ => &self.labels,
        };
        selector.matches(&object.meta().labels)
    }
}

impl site::Watched for Manifests {
    type Table = ();

    fn wait(&self) -> Option<Duration> {
        Some(Duration::from_secs(MANIFEST_SECONDS))
    }

    fn look(&mut self, _all: bool) -> Option<()> {
        if let Err(why) = self.load() {
            tracing::error!(target: "plugin/kubernetes", "manifests: {why}");
        }
        None
    }
}

fn seen(path: &Path, about: &Metadata) -> Seen {
    (path.to_owned(), about.mtime(), about.mtime_nsec(), about.size(), about.ino())
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    format!("{}: {error}", path.display())
}

/// The files that paths name, those of a directory by their names.
fn files(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Metadata)>, String> {
    let mut files = Vec::new();
    for path in paths {
        let about = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if about.is_file() {
            files.push((path.clone(), about));
            continue;
        }
        if !about.is_dir() {
            return Err(format!("{}: neither a file nor a directory", path.display()));
        }
        let entries = fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
        let mut inside: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        inside.sort();
        let ends = [Some("yaml"), Some("yml"), Some("json")];
        inside.retain(|path| ends.contains(&path.extension().and_then(|end| end.to_str())));
        for path in inside {
            // One that has gone since is gone.
            files.extend(fs::metadata(&path).ok().filter(Metadata::is_file).map(|a| (path, a)));
        }
    }
    if files.len() > MANIFEST_FILES_MAX {
        return Err(format!("more than {MANIFEST_FILES_MAX} files"));
    }
    let bytes: u64 = files.iter().map(|(_, about)| about.len()).sum();
    if bytes > MANIFEST_BYTES_MAX {
        return Err(format!("more than {MANIFEST_BYTES_MAX} octets"));
    }
    Ok(files)
}

/// Reads the objects of these kinds from a file.
fn read(path: &Path, kinds: &[Kind], objects: &mut Vec<Object>) -> Result<(), String> {
    let text = fs::read(path).map_err(|error| unreadable(path, &error))?;
    let fault = |why: String| format!("{}: {why}", path.display());
    let text = std::str::from_utf8(&text).map_err(|error| fault(error.to_string()))?;
    let mut take = |value, line: usize| {
        take(value, None, kinds, 0, objects)
            .map_err(|why| format!("{}:{line}: {why}", path.display()))
    };
    if path.extension().is_some_and(|end| end == "json") {
        for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            take(value.map_err(|error| fault(error.to_string()))?, 1)?;
        }
        return Ok(());
    }
    for (line, document) in documents(text) {
        let value = serde_saphyr::from_str::<Value>(document).map_err(|error| {
            let at = error.location().map_or(0, |at| at.line().saturating_sub(1) as usize);
            let why = error.without_snippet().to_string();
            format!("{}:{}: {}", path.display(), line + at, why.lines().next().unwrap_or_default())
        })?;
        take(value, line)?;
    }
    Ok(())
}

/// The documents of a YAML file, each with the line that it begins in.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut begin, mut at, mut first) = (0, 0, 1);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        // A marker is one wherever it stands at the beginning of a line (YAML 1.2 section 9.1.2).
        let is_marker =
            line.starts_with("---") && !line[3..].starts_with(|c: char| !c.is_whitespace());
        if is_marker && at > begin {
            found.push((first, &text[begin..at]));
        }
        if is_marker {
            (begin, first) = (at, number + 1);
        }
        at += line.len();
    }
    found.push((first, &text[begin..]));
    let is_said = |line: &str| !matches!(line.trim().chars().next(), None | Some('#'));
    let has_text = |document: &str| {
        let rest = document.strip_prefix("---").unwrap_or(document);
        rest.lines().any(is_said)
    };
    found.retain(|(_, document)| has_text(document));
    found
}

/// Takes an object, or the items of a list, whose kind is `listed` unless they say it themselves.
fn take(
    value: Value,
    listed: Option<&str>,
    kinds: &[Kind],
    depth: usize,
    objects: &mut Vec<Object>,
) -> Result<(), String> {
    let Value::Object(mut map) = value else { return Err("no object of Kubernetes".into()) };
    let said = map.get("kind").and_then(Value::as_str).map(str::to_owned);
    let Some(word) = said.as_deref().or(listed) else {
        return Err("an object without kind".into());
    };
    if let Some(of) = word.strip_suffix("List") {
        if depth == MANIFEST_DEPTH_MAX {
            return Err("lists of lists of lists".into());
        }
        let items = match map.remove("items") {
            Some(Value::Array(items)) => items,
            None | Some(Value::Null) => Vec::new(),
            Some(_) => return Err(format!("the items of a {word} are no list")),
        };
        let of = (!of.is_empty()).then_some(of);
        return items.into_iter().try_for_each(|item| take(item, of, kinds, depth + 1, objects));
    }
    let value = Value::Object(map);
    for kind in kinds.iter().filter(|kind| word_of(**kind) == word) {
        let object = Object::read(*kind, &value).map_err(|why| format!("{word}: {why}"))?;
        let is_import = object.meta().labels.contains_key(IMPORT_NAME);
        if *kind != Kind::ImportSlices || is_import {
            objects.push(complete(object));
        }
    }
    Ok(())
}

/// The word for a kind in an object.
fn word_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Namespaces => "Namespace",
        Kind::Services => "Service",
        Kind::Slices | Kind::ImportSlices => "EndpointSlice",
        Kind::Pods => "Pod",
        Kind::Imports => "ServiceImport",
    }
}

/// Sets what the API server would have set. The version says nothing: the file may have been edited.
fn complete(mut object: Object) -> Object {
    let complete_ports = |ports: &mut Vec<Port>| {
        ports.iter_mut().filter(|port| port.protocol.is_empty()).for_each(|port| {
            port.protocol = "TCP".into();
        });
    };
    let complete_meta = |meta: &mut Meta| {
        meta.resource_version = "".into();
        if meta.namespace.is_empty() {
            meta.namespace = "default".into();
        }
    };
    match &mut object {
        Object::Namespace(one) => one.metadata.resource_version = "".into(),
        Object::Service(one) => {
            complete_meta(&mut one.metadata);
            complete_ports(&mut one.spec.ports);
        }
        Object::Slice(one) | Object::ImportSlice(one) => {
            complete_meta(&mut one.metadata);
            complete_ports(&mut one.ports);
        }
        Object::Pod(one) => complete_meta(&mut one.metadata),
        Object::Import(one) => {
            complete_meta(&mut one.metadata);
            complete_ports(&mut one.spec.ports);
        }
    }
    object
}

/// The objects of these kinds in files.
///
/// # Errors
/// What is wrong with a file.
pub fn objects(paths: &[PathBuf], kinds: &[Kind]) -> Result<Vec<Object>, String> {
    let mut objects = Vec::new();
    for (path, _) in files(paths)? {
        read(&path, kinds, &mut objects)?;
    }
    Ok(objects)
}

/// Names of the namespaces in files, as far as they can be read: for `corelane check`.
pub fn namespaces(paths: &[PathBuf]) -> Vec<String> {
    let mut objects = Vec::new();
    for (path, _) in files(paths).unwrap_or_default() {
        // What is wrong with a file is told when it is served.
        let _ = read(&path, &[Kind::Namespaces], &mut objects);
    }
    objects.iter().map(|object| object.meta().name.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(kinds: &[Kind], text: &str) -> Result<Vec<String>, String> {
        let mut objects = Vec::new();
        for (_, document) in documents(text) {
            let value = serde_saphyr::from_str(document).expect("YAML");
            take(value, None, kinds, 0, &mut objects)?;
        }
        let name = |object: &Object| {
            let meta = object.meta();
            format!("{} {}/{}", object.kind(), meta.namespace, meta.name)
        };
        Ok(objects.iter().map(name).collect())
    }

    #[test]
    fn documents_of_a_file() {
        let lines = |text| documents(text).into_iter().map(|(line, _)| line).collect::<Vec<_>>();
        assert_eq!(
            lines("a: 1\n--- # next\nb: 2\n---\n# nothing\n---\n---\nc: |\n  ---\n"),
            [1, 2, 7]
        );
        assert_eq!(lines("---\na: 1\n---x: 1\n"), [1]);
        assert_eq!(lines("# nothing\n\n"), [0; 0]);
    }

    #[test]
    fn lists_are_taken_apart_and_other_kinds_passed_over() {
        let text = "kind: List\nitems:\n- kind: Service\n  metadata: {name: a}\n\
            - kind: ServiceList\n  items:\n  - metadata: {name: b, namespace: shop}\n\
            - kind: Deployment\n  metadata: {name: c}\n---\nkind: NamespaceList\nitems: null\n";
        let found = objects(&[Kind::Services, Kind::Namespaces], text);
        assert_eq!(found.expect("read"), ["services default/a", "services shop/b"]);
        assert!(objects(&[Kind::Pods], text).expect("read").is_empty());
    }

    #[test]
    fn imported_slices_are_known_by_their_label() {
        let slice = |label| {
            format!("kind: EndpointSlice\nmetadata: {{name: x, labels: {{{label}: web}}}}\n")
        };
        let kinds = [Kind::Slices, Kind::ImportSlices];
        let found = objects(&kinds, &slice("multicluster.kubernetes.io/service-name"));
        assert_eq!(found.expect("read"), ["endpointslices default/x", "importedslices default/x"]);
        let found = objects(&kinds, &slice("kubernetes.io/service-name"));
        assert_eq!(found.expect("read"), ["endpointslices default/x"]);
    }

    #[test]
    fn what_is_no_manifest() {
        let kinds = [Kind::Services];
        for (text, words) in [
            ("- 1\n", "no object of Kubernetes"),
            ("metadata: {name: a}\n", "an object without kind"),
            ("kind: Service\nmetadata: {name: [a]}\n", "Service: invalid type"),
            ("kind: List\nitems: {a: b}\n", "the items of a List are no list"),
        ] {
            let why = objects(&kinds, text).expect_err(text);
            assert!(why.contains(words), "{text}: {why}");
        }
    }
}
