//! The frame stream to a collector: whoever connects, we write.
//!
//! The handshake is that of a bidirectional frame stream: READY, ACCEPT, START, data frames. A collector
//! that ends is connected to again, or comes again; what it has not taken in time waits in a queue of
//! bounded length. All this runs on control's thread, in tasks that end with their link.

use std::fmt;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufWriter};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::control::identity::{Authorities, ClientAuth, Identity};
use crate::control::trust;
use crate::limits::{
    DNSTAP_CLIENT_QUEUE_MAX, DNSTAP_CLIENTS_MAX, DNSTAP_CONTROL_BYTES_MAX, DNSTAP_TIMEOUT_SECONDS,
};

const TIMEOUT: Duration = Duration::from_secs(DNSTAP_TIMEOUT_SECONDS);
/// Until a collector that could not be had is tried again: at first, and after several times.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// Tries to bind, four a second, before an address in use is told.
const PATIENT_TRIES: u32 = 20;
const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";
/// Control frames of a frame stream.
const ACCEPT: u32 = 1;
const START: u32 = 2;
const STOP: u32 = 3;
const READY: u32 = 4;
/// The one field of a control frame.
const FIELD_CONTENT_TYPE: u32 = 1;

/// A frame: one encoded message, shared by all who get it.
pub(super) type Frame = Arc<[u8]>;

/// Where a collector is, or where collectors come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Unix(PathBuf),
    /// HOST:PORT.
    Tcp(String),
    /// HOST:PORT.
    Tls(String),
}

impl Endpoint {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let host = |rest: &str| match rest.split('/').next() {
            Some("") | None => Err(format!("no host in {text:?}")),
            Some(host) => Ok(host.to_owned()),
        };
        if let Some(rest) = text.strip_prefix("tls://") {
            return host(rest).map(Self::Tls);
        }
        if let Some(rest) = text.strip_prefix("tcp://") {
            return host(rest).map(Self::Tcp);
        }
        Ok(Self::Unix(text.strip_prefix("unix://").unwrap_or(text).into()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
            Self::Tls(host) => write!(f, "tls://{host}"),
        }
    }
}

/// Files of `tls CERT KEY [CACERT]`.
#[derive(Clone, Debug)]
pub(super) struct ListenTls {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) ca: Option<PathBuf>,
}

/// The near end of the queue.
pub(super) struct Collector {
    frames: Sender<Frame>,
}

impl Collector {
    /// A queue of so many frames, and its far end.
    pub(super) fn new(queue: usize) -> (Self, Receiver<Frame>) {
        let (frames, far) = channel(queue);
        (Self { frames }, far)
    }

    /// Puts a frame in; false if there is no room.
    pub(super) fn send(&self, frame: Vec<u8>) -> bool {
        self.frames.try_send(frame.into()).is_ok()
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Writes to the collector at `endpoint`, again and again, until the queue has no near end.
pub(super) async fn connect(
    endpoint: Endpoint,
    skip_verify: bool,
    write_bytes: usize,
    mut frames: Receiver<Frame>,
) {
    let tls = match &endpoint {
        Endpoint::Tls(_) => match trust::client(skip_verify) {
            Ok(config) => Some(TlsConnector::from(config)),
            Err(error) => {
                tracing::error!("No connection to dnstap endpoint: {endpoint}: {error}");
                return;
            }
        },
        _ => None,
    };
    let mut pause = PAUSE.0;
    let mut told = false;
    loop {
        let stream = timeout(TIMEOUT, dial(&endpoint, tls.as_ref(), write_bytes)).await;
        let ended = match stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                (pause, told) = (PAUSE.0, false);
                hand_out(stream, &mut frames).await
            }
            Err(error) => Err(error),
        };
        match ended {
            Ok(()) => return,
            Err(error) if !told => {
                tracing::error!("No connection to dnstap endpoint: {endpoint}: {error}");
                told = true;
            }
            Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

async fn dial(
    endpoint: &Endpoint,
    tls: Option<&TlsConnector>,
    write_bytes: usize,
) -> io::Result<Box<dyn Stream>> {
    let host = match endpoint {
        Endpoint::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
        Endpoint::Tcp(host) | Endpoint::Tls(host) => host,
    };
    let stream = TcpStream::connect(host.as_str()).await?;
    // As far as the kernel lets us.
    drop(SockRef::from(&stream).set_send_buffer_size(write_bytes));
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(io::Error::other)?;
    Ok(Box::new(tls.connect(name, stream).await?))
}

/// Takes collectors that connect, and gives each all frames.
pub(super) async fn listen(
    endpoint: Endpoint,
    tls: Option<ListenTls>,
    skip_verify: bool,
    mut frames: Receiver<Frame>,
) {
    let acceptor = match (&endpoint, tls) {
        (Endpoint::Tls(_), None) => {
            tracing::warn!("TLS listener requires cert and key files");
            return;
        }
        (Endpoint::Tls(_), Some(files)) => match server_config(&files, skip_verify) {
            Ok(config) => Some(TlsAcceptor::from(config)),
            Err(error) => {
                tracing::error!("Failed to start dnstap listener: {error}");
                return;
            }
        },
        _ => None,
    };
    let mut listener = bind(&endpoint).await;
    let mut serving = JoinSet::new();
    let mut clients: Vec<Sender<Frame>> = Vec::new();
    loop {
        tokio::select! {
            stream = listener.accept() => match stream {
                Ok(stream) if clients.len() < DNSTAP_CLIENTS_MAX => {
                    let (near, far) = channel(DNSTAP_CLIENT_QUEUE_MAX);
                    clients.push(near);
                    serving.spawn(serve(stream, acceptor.clone(), far));
                }
                Ok(_) => {
                    let most = DNSTAP_CLIENTS_MAX;
                    tracing::warn!("dnstap: {most} collectors at {endpoint}: no more");
                }
                Err(error) => {
                    tracing::warn!("Error accepting dnstap connection: {error}");
                    sleep(PAUSE.0).await;
                }
            },
            frame = frames.recv() => {
                let Some(frame) = frame else { return };
                // A slow collector misses frames, and holds up nobody.
                clients.retain(|client| {
                    !client.is_closed() && {
                        drop(client.try_send(Arc::clone(&frame)));
                        true
                    }
                });
            }
            Some(_) = serving.join_next() => clients.retain(|client| !client.is_closed()),
        }
    }
}

/// A socket that accepts.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&mut self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// Binds as soon as it can be: after a reload the listener before it may still be open for a moment,
/// so that an address in use is told only when it stays so.
async fn bind(endpoint: &Endpoint) -> Listener {
    let mut tries = 0;
    loop {
        let bound = match endpoint {
            Endpoint::Unix(path) => bind_unix(path).await.map(Listener::Unix),
            Endpoint::Tcp(host) | Endpoint::Tls(host) => {
                TcpListener::bind(host.as_str()).await.map(Listener::Tcp)
            }
        };
        let error = match bound {
            Ok(listener) => return listener,
            Err(error) => error,
        };
        let patience = if error.kind() == io::ErrorKind::AddrInUse { PATIENT_TRIES } else { 0 };
        if tries == patience {
            tracing::error!("Failed to start dnstap listener: {endpoint}: {error}");
        }
        tries += 1;
        sleep(PAUSE.0 / 4).await;
    }
}

/// Binds where nobody listens any more: a socket that another process has left behind is removed, and
/// nothing else that may stand there.
async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket && UnixStream::connect(path).await.is_err() {
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

async fn serve(stream: Box<dyn Stream>, tls: Option<TlsAcceptor>, mut frames: Receiver<Frame>) {
    let ended = match tls {
        None => hand_out(stream, &mut frames).await,
        Some(tls) => match timeout(TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => hand_out(Box::new(stream), &mut frames).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        },
    };
    if let Err(error) = ended {
        tracing::info!("dnstap: a collector is gone: {error}");
    }
}

/// Shakes hands, then writes frames until there will be none.
async fn hand_out(stream: Box<dyn Stream>, frames: &mut Receiver<Frame>) -> io::Result<()> {
    let mut stream = BufWriter::new(stream);
    within(shake_hands(&mut stream)).await?;
    let mut some = Vec::new();
    while frames.recv_many(&mut some, 256).await != 0 {
        let writing = async {
            for frame in some.drain(..) {
                stream.write_u32(frame.len() as u32).await?;
                stream.write_all(&frame).await?;
            }
            stream.flush().await
        };
        within(writing).await?;
    }
    within(async {
        control_frame(&mut stream, STOP, None).await?;
        stream.shutdown().await
    })
    .await
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(TIMEOUT, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn shake_hands<S: Stream>(stream: &mut BufWriter<S>) -> io::Result<()> {
    control_frame(stream, READY, Some(CONTENT_TYPE)).await?;
    if stream.read_u32().await? != 0 {
        return Err(io::Error::other("a data frame where ACCEPT should be"));
    }
    let length = stream.read_u32().await? as usize;
    let mut accept = vec![0; length.min(DNSTAP_CONTROL_BYTES_MAX)];
    stream.read_exact(&mut accept).await?;
    if length > DNSTAP_CONTROL_BYTES_MAX || accept.get(..4) != Some(&ACCEPT.to_be_bytes()[..]) {
        return Err(io::Error::other("no ACCEPT frame"));
    }
    if !accept.windows(CONTENT_TYPE.len()).any(|octets| octets == CONTENT_TYPE) {
        return Err(io::Error::other("the collector does not take dnstap"));
    }
    control_frame(stream, START, Some(CONTENT_TYPE)).await
}

async fn control_frame<S: Stream>(
    stream: &mut BufWriter<S>,
    kind: u32,
    content_type: Option<&[u8]>,
) -> io::Result<()> {
    let field = content_type.map_or(0, |content| 8 + content.len());
    // An escape, the length of the rest, the kind, the fields.
    stream.write_u32(0).await?;
    stream.write_u32(4 + field as u32).await?;
    stream.write_u32(kind).await?;
    if let Some(content) = content_type {
        stream.write_u32(FIELD_CONTENT_TYPE).await?;
        stream.write_u32(content.len() as u32).await?;
        stream.write_all(content).await?;
    }
    stream.flush().await
}

/// What a listener shows, and which clients it takes.
fn server_config(files: &ListenTls, skip_verify: bool) -> Result<Arc<ServerConfig>, String> {
    let identity = Identity::read(files.cert.clone(), files.key.clone())?;
    let auth = match (&files.ca, skip_verify) {
        (None, _) => ClientAuth::None,
        (Some(_), true) => ClientAuth::VerifyIfGiven,
        (Some(_), false) => ClientAuth::RequireAndVerify,
    };
    let roots = files.ca.as_deref().map(Authorities::read).transpose()?;
    identity.accept(auth, roots).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a collector gets: the kinds of control frames, and the data frames.
    async fn collect<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> (Vec<u32>, Vec<Vec<u8>>) {
        let (mut kinds, mut data) = (Vec::new(), Vec::new());
        while let Ok(length) = stream.read_u32().await {
            let escaped = length == 0;
            let length = if escaped { stream.read_u32().await.expect("a length") } else { length };
            let mut frame = vec![0; length as usize];
            stream.read_exact(&mut frame).await.expect("a frame");
            if !escaped {
                data.push(frame);
                continue;
            }
            let kind = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
            kinds.push(kind);
            if kind == READY {
                // ACCEPT repeats what READY said.
                frame[..4].copy_from_slice(&ACCEPT.to_be_bytes());
                let head = [0u32.to_be_bytes(), length.to_be_bytes()].concat();
                stream.write_all(&[head, frame].concat()).await.expect("written");
            }
        }
        (kinds, data)
    }

    #[tokio::test]
    async fn shakes_hands_and_hands_out_every_frame() {
        let (near, far) = tokio::io::duplex(64);
        let (collector, mut frames) = Collector::new(4);
        for n in 0..4 {
            assert!(collector.send(vec![n; 100]));
        }
        assert!(!collector.send(vec![9]), "the queue is full");
        drop(collector);
        let collecting = tokio::spawn(collect(far));
        hand_out(Box::new(near), &mut frames).await.expect("handed out");
        let (kinds, data) = collecting.await.expect("collected");
        assert_eq!(kinds, [READY, START, STOP]);
        assert_eq!(data, (0..4).map(|n| vec![n; 100]).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_peer_that_is_no_collector_is_refused() {
        for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0, 0, 0, 0, 0xff, 0, 0, 0, 1, 2]]
        {
            let (near, mut far) = tokio::io::duplex(1024);
            far.write_all(answer).await.expect("written");
            drop(far.shutdown().await);
            let (_collector, mut frames) = Collector::new(1);
            assert!(hand_out(Box::new(near), &mut frames).await.is_err());
        }
    }

    #[tokio::test]
    async fn only_a_socket_that_nobody_listens_on_makes_way() {
        let folder = std::env::temp_dir().join(format!("corelane-dnstap-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (file, socket) = (folder.join("file"), folder.join("socket"));
        std::fs::write(&file, "kept").expect("written");
        let in_use = |bound: io::Result<UnixListener>| {
            bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        };
        assert!(in_use(bind_unix(&file).await));
        assert_eq!(std::fs::read(&file).expect("still there"), b"kept");
        let first = bind_unix(&socket).await.expect("bound");
        assert!(in_use(bind_unix(&socket).await), "somebody listens");
        drop(first);
        assert!(bind_unix(&socket).await.is_ok(), "left behind");
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn sockets() {
        let said = |text: &str| Endpoint::parse(text).map(|endpoint| endpoint.to_string());
        assert_eq!(said("/run/tap"), Ok("unix:///run/tap".into()));
        assert_eq!(said("unix:///run/tap"), Ok("unix:///run/tap".into()));
        assert_eq!(said("tcp://h:1/x"), Ok("tcp://h:1".into()));
        assert_eq!(said("tls://h:1"), Ok("tls://h:1".into()));
        assert!(said("tcp://").is_err());
    }
}
