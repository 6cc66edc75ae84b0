//! Questions over UDP and TCP, as a client asks them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::{Cause, Chart};
use crate::control::explain::asked::query;
use crate::limits::DOCTOR_ANSWER_SECONDS_MAX;
use crate::wire::{Flags, HEADER_BYTES, NameBuf, rcode, rtype};

/// Asks each endpoint by UDP and by TCP for the name that every cluster has; gives whether they can be
/// reached from here at all.
pub(super) async fn endpoints(
    endpoints: &[SocketAddr],
    zone: &str,
    chart: &mut Chart,
) -> Result<bool, Cause> {
    let text = format!("kubernetes.default.svc.{}.", zone.trim_end_matches('.'));
    let Ok(name) = NameBuf::parse(&text) else {
        return Err(Cause::new(format!("{zone}: not a zone"), "give the cluster's with --zone"));
    };
    let mut answers = Vec::new();
    for endpoint in endpoints {
        let message = query(&name, rtype::A);
        let (udp, tcp) = tokio::join!(by_udp(*endpoint, &message), by_tcp(*endpoint, &message));
        answers.push((endpoint, udp, tcp));
    }
    if answers.iter().all(|(_, udp, tcp)| udp.is_err() && tcp.is_err()) && !endpoints.is_empty() {
        chart.note(format!(
            "no endpoint answers here: from outside of the cluster's network that proves nothing; \
             inside of it a NetworkPolicy or the CNI stands between ({})",
            answers[0].1.as_ref().err().map_or(String::new(), ToString::to_string)
        ));
        return Ok(false);
    }
    for (endpoint, udp, tcp) in answers {
        for (by, answer) in [("UDP", udp), ("TCP", tcp)] {
            judge(endpoint, by, &text, answer)?;
        }
        chart.ok(format!("{endpoint} answers {text} by UDP and TCP"));
    }
    Ok(true)
}

fn judge(at: &SocketAddr, by: &str, name: &str, answer: io::Result<u16>) -> Result<(), Cause> {
    let (what, remedy) = match answer {
        Ok(rcode::NOERROR) => return Ok(()),
        Ok(rcode::SERVFAIL) => (
            "answers SERVFAIL".to_owned(),
            "it is not in sync with the API server: see its log and /ready".to_owned(),
        ),
        Ok(rcode::NXDOMAIN) => (
            "answers NXDOMAIN".to_owned(),
            "it serves another zone: let the kubelet's clusterDomain agree with the zone of \
             `kubernetes` in the Corefile"
                .to_owned(),
        ),
        Ok(other) => (
            format!("answers {}", rcode::text(other)),
            "see which block serves the name: corelane explain NAME --corefile FILE".to_owned(),
        ),
        Err(error) => (
            format!("gives no answer ({error}) where others do"),
            format!(
                "see that port {} by {by} is open: NetworkPolicies, the node's firewall",
                at.port()
            ),
        ),
    };
    Err(Cause::new(format!("{at} by {by}, asked for {name}, {what}"), remedy))
}

/// Asks each upstream for the root.
pub(super) async fn upstreams(upstreams: &[SocketAddr], chart: &mut Chart) -> Result<(), Cause> {
    for upstream in upstreams {
        let message = query(&NameBuf::root(), rtype::NS);
        match by_udp(*upstream, &message).await {
            Ok(code) => chart.ok(format!("{upstream} answers {}", rcode::text(code))),
            Err(error) => {
                return Err(Cause::new(
                    format!("the upstream {upstream} gives no answer: {error}"),
                    "have `forward` in the Corefile ask another one, or open the way to it",
                ));
            }
        }
    }
    Ok(())
}

async fn by_udp(server: SocketAddr, message: &[u8]) -> io::Result<u16> {
    let any: SocketAddr =
        if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 16], 0).into() };
    in_time(async {
        let socket = UdpSocket::bind(any).await?;
        // Only from there; and the kernel tells of a closed port.
        socket.connect(server).await?;
        socket.send(message).await?;
        let mut reply = [0; 4_096];
        let len = socket.recv(&mut reply).await?;
        code(&reply[..len])
    })
    .await
}

async fn by_tcp(server: SocketAddr, message: &[u8]) -> io::Result<u16> {
    in_time(async {
        let mut stream = TcpStream::connect(server).await?;
        let len = u16::try_from(message.len()).map_err(io::Error::other)?;
        stream.write_all(&[&len.to_be_bytes()[..], message].concat()).await?;
        let len = stream.read_u16().await?;
        let mut reply = vec![0; len.into()];
        stream.read_exact(&mut reply).await?;
        code(&reply)
    })
    .await
}

fn code(reply: &[u8]) -> io::Result<u16> {
    if reply.len() < HEADER_BYTES || !Flags::read(reply).qr() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Flags::read(reply).rcode_low().into())
}

async fn in_time<T>(asked: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let patience = Duration::from_secs(DOCTOR_ANSWER_SECONDS_MAX);
    timeout(patience, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
