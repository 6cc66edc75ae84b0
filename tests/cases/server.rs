//! A server process in a folder of its own, killed when the case is over.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::ports::Port;

/// How long a server may take to start, to end, or to say what it is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

pub struct Server {
    child: Child,
    folder: PathBuf,
    ports: [(&'static str, Port); 3],
}

impl Server {
    /// Writes `files` into `folder` and starts the server there.
    pub fn start(folder: &Path, files: &[(String, String)]) -> Result<Self, String> {
        Self::start_with(folder, files, &[])
    }

    /// Likewise with further flags.
    pub fn start_with(
        folder: &Path,
        files: &[(String, String)],
        flags: &[&str],
    ) -> Result<Self, String> {
        let told = |what: &str, error: std::io::Error| format!("{what}: {error}");
        drop(fs::remove_dir_all(folder));
        for (name, content) in files {
            let path = folder.join(name);
            let parent = path.parent().expect("a file of the folder");
            fs::create_dir_all(parent).map_err(|error| told(name, error))?;
            fs::write(&path, content).map_err(|error| told(name, error))?;
        }
        let names = |content: &str| content.contains("cert.pem");
        let given = files.iter().any(|(name, _)| name == "cert.pem");
        if !given && files.iter().any(|(_, content)| names(content)) {
            certify(folder).map_err(|error| told("cert.pem", error))?;
        }
        let ports = ["PORT", "P1", "P2"].map(|name| (name, Port::free()));
        let program =
            std::env::var_os("SERVER").unwrap_or_else(|| env!("CARGO_BIN_EXE_corelane").into());
        let output = fs::File::create(folder.join(".output")).expect("the folder is there");
        let errors = output.try_clone().expect("an open file");
        let child = Command::new(&program)
            .args(["-conf", "Corefile", "-dns.port", &ports[0].1.number.to_string()])
            .args(flags)
            .envs(ports.iter().map(|(name, port)| (*name, port.number.to_string())))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| told(&program.to_string_lossy(), error))?;
        Ok(Self { child, folder: folder.to_owned(), ports })
    }

    /// Waits until the server has said that it serves, and listens on its default port.
    pub fn ready(&mut self) -> Result<(), String> {
        let address = self.address(None)?;
        let began = Instant::now();
        // The banner tells ours from another server on a port that both may bind.
        while !self.output().contains("CoreDNS-")
            || TcpStream::connect_timeout(&address, PATIENCE).is_err()
        {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended: {status}"));
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("the server does not listen on {address}"));
            }
            sleep(PAUSE);
        }
        Ok(())
    }

    /// Where the server listens, by the name of a port.
    pub fn address(&self, port: Option<&str>) -> Result<SocketAddr, String> {
        let name = port.unwrap_or("PORT");
        let found = self.ports.iter().find(|(known, _)| *known == name);
        let (_, port) = found.ok_or_else(|| format!("no port {name}"))?;
        Ok(SocketAddr::from(([127, 0, 0, 1], port.number)))
    }

    /// The exit status of a server that ends by itself.
    pub fn ended(&mut self) -> Result<i32, String> {
        let mut status = None;
        eventually(|| {
            status = self.child.try_wait().ok().flatten();
            status.is_some()
        });
        let status = status.ok_or("the server goes on")?;
        status.code().ok_or_else(|| format!("the server was ended: {status}"))
    }

    /// Standard output and standard error, as written so far.
    pub fn output(&self) -> String {
        let bytes = fs::read(self.folder.join(".output")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the output holds `text`.
    pub fn says(&self, text: &str) -> Result<(), String> {
        let said = eventually(|| self.output().contains(text));
        said.then_some(()).ok_or_else(|| format!("the server did not say `{text}`"))
    }

    pub fn signal(&self, name: &str) -> Result<(), String> {
        let id = self.child.id().to_string();
        let done = Command::new("kill").args(["-s", name, &id]).status();
        let sent = done.is_ok_and(|status| status.success());
        sent.then_some(()).ok_or_else(|| format!("kill -s {name} failed"))
    }

    /// Puts a copy of `from` in place of `to`, at once.
    pub fn copy(&self, from: &str, to: &str) -> Result<(), String> {
        let fresh = self.folder.join(format!("{to}.new"));
        fs::copy(self.folder.join(from), &fresh)
            .and_then(|_| fs::rename(&fresh, self.folder.join(to)))
            .map_err(|error| format!("{from}: {error}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Tries until `done`, for as long as patience lasts.
pub fn eventually(mut done: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !done() {
        if began.elapsed() > PATIENCE {
            return false;
        }
        sleep(PAUSE);
    }
    true
}

/// Gives the folder a certificate, `cert.pem`, and its key, `key.pem`.
fn certify(folder: &Path) -> std::io::Result<()> {
    let names = ["dns.example".to_owned(), "127.0.0.1".to_owned()];
    let ours = rcgen::generate_simple_self_signed(names).expect("two names");
    fs::write(folder.join("cert.pem"), ours.cert.pem())?;
    fs::write(folder.join("key.pem"), ours.signing_key.serialize_pem())
}
