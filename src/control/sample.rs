//! The sample configuration and zone of `corelane try`, unpacked where the server can read them.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const FILES: &[(&str, &str)] = &[
    ("Corefile", include_str!("../../deploy/sample/Corefile")),
    ("db.example.org", include_str!("../../deploy/sample/db.example.org")),
];

/// Questions to try, for the terminal.
pub fn lines_to_try(port: u16) -> String {
    let dig = |rest: &str| format!("  dig @127.0.0.1 -p {port} {rest}\n");
    let mut text = String::from("Try, in another terminal:\n");
    for rest in ["www.example.org", "any.apps.example.org AAAA", "printer.lan", "whoami.test A"] {
        text += &dig(rest);
    }
    text + "  curl -s http://localhost:9153/metrics | grep ^coredns_dns_requests_total\n"
}

/// Path of the sample's Corefile, in a folder of this process's own.
pub fn corefile() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("corelane-sample-{}", std::process::id()));
        if let Err(error) = unpack(&folder) {
            tracing::error!("cannot unpack the sample to {}: {error}", folder.display());
        }
        folder.join("Corefile")
    })
    .clone()
}

fn unpack(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, text) in FILES {
        let text = match *name {
            // Relative paths start at the working directory, which is the user's.
            "Corefile" => {
                text.replace("db.example.org", &folder.join("db.example.org").to_string_lossy())
            }
            _ => (*text).to_owned(),
        };
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}

/// Removes the folder.
pub fn clean_up() {
    let folder = std::env::temp_dir().join(format!("corelane-sample-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(folder);
}
