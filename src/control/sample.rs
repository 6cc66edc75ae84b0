//! The sample configuration, cluster and zone of `corelane try`, unpacked where the server can read them.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const FILES: &[(&str, &str)] = &[
    ("Corefile", include_str!("../../deploy/sample/Corefile")),
    ("cluster.yaml", include_str!("../../deploy/sample/cluster.yaml")),
    ("db.example.org", include_str!("../../deploy/sample/db.example.org")),
];

/// Questions to try, for the terminal.
pub fn lines_to_try(port: u16) -> String {
    let dig = |rest: &str| format!("  dig @127.0.0.1 -p {port} {rest}\n");
    let mut text = String::from("Try, in another terminal:\n");
    for rest in [
        "web.default.svc.cluster.local",
        "_postgres._tcp.db.backend.svc.cluster.local SRV",
        "docs.backend.svc.cluster.local",
        "-x 10.96.0.80",
        "any.apps.example.org",
        "printer.lan",
        "whoami.test A",
    ] {
        text += &dig(rest);
    }
    text + "  curl -s http://localhost:9153/metrics | grep ^coredns_dns_requests_total\n"
}

/// The sample's folder, once it is there.
static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Path of the sample's Corefile, in a folder of this process's own.
pub fn corefile() -> PathBuf {
    let folder = FOLDER.get_or_init(|| {
        // A name that nobody can guess: no file or link of another user waits there.
        let mut random = [0; 8];
        let known = getrandom::fill(&mut random).is_ok();
        let name = format!("corelane-sample-{:016x}", u64::from_ne_bytes(random));
        let folder = std::env::temp_dir().join(name);
        match known.then(|| unpack(&folder)) {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::error!("cannot unpack the sample to {}: {error}", folder.display());
            }
            None => tracing::error!("cannot unpack the sample: the kernel gives no random name"),
        }
        folder
    });
    folder.join("Corefile")
}

/// Writes the files into a new folder that only this user can read.
fn unpack(folder: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)?;
    for (name, text) in FILES {
        let text = match *name {
            // Relative paths start at the working directory, which is the user's.
            "Corefile" => FILES[1..].iter().fold((*text).to_owned(), |text, (other, _)| {
                text.replace(other, &folder.join(other).to_string_lossy())
            }),
            _ => (*text).to_owned(),
        };
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// Removes the folder.
pub fn clean_up() {
    if let Some(folder) = FOLDER.get() {
        // What is left in a temporary folder is no fault to tell of.
        let _ = std::fs::remove_dir_all(folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_there_until_it_is_cleaned_up() {
        let path = corefile();
        let folder = path.parent().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("file {}/db.example.org", folder.display())), "{text}");
        assert!(folder.join("db.example.org").exists());
        let again = unpack(folder).expect_err("a folder that is there already is not ours");
        assert_eq!(again.kind(), std::io::ErrorKind::AlreadyExists);
        clean_up();
        assert!(!folder.exists());
    }
}
