//! A kernel that refuses io_uring, as under a container runtime's default seccomp profile, is no
//! reason not to serve.
#![allow(unsafe_code)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Has every later io_uring_setup(2) of this process and its children fail with EPERM.
fn refuse_io_uring() -> io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump = |jt, jf| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt,
        jf,
        k: libc::SYS_io_uring_setup as u32,
    };
    // The number of the call is the first word of seccomp's data.
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        jump(0, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: prctl(2) reads `filter` and what it points to during the call only.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) != 0
    };
    if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A running server, ended with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn gso_serves_where_io_uring_is_refused() {
    // Two ports that are free now: one to serve, one for metrics.
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (dns, metrics) = (free(), free());
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(["-conf", "stdin", "-io-engine", "uring"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    // SAFETY: between fork and exec only prctl(2) is called, which is safe to call there.
    unsafe { command.pre_exec(refuse_io_uring) };
    let mut server = Server(command.spawn().unwrap());
    let corefile = format!(".:{} {{\n whoami\n prometheus {metrics}\n}}\n", dns.port());
    server.0.stdin.take().unwrap().write_all(corefile.as_bytes()).unwrap();
    let lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
    let warned = lines.map_while(Result::ok).find(|line| line.contains("io_uring"));
    let warned = warned.expect("a line says that io_uring cannot be used");
    assert!(warned.contains("not permitted") && warned.contains("gso"), "{warned}");

    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(dns).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01";
    let mut reply = [0; 512];
    let answered = (0..300).any(|_| {
        let sent = client.send(query);
        let got = sent.and_then(|_| client.recv(&mut reply));
        // Refused while the server is still starting: then at once.
        if got.is_err() {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        got.is_ok()
    });
    assert!(answered && reply[..2] == query[..2]);
    let mut page = String::new();
    let mut stream = TcpStream::connect(metrics).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
    stream.read_to_string(&mut page).unwrap();
    assert!(page.contains("corelane_io_engine{engine=\"gso\"} 1"), "{page}");
}
