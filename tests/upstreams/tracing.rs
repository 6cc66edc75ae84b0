//! Where the time goes: what `trace` tells a collector of queries that an upstream answers, what
//! `log` says of slow ones, and as JSON.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::client::Client;
use crate::server::{Server, eventually};
use crate::upstream::{Act, Upstream};
use crate::{metric, serve};

/// What came by one request: its first line and its body.
type Told = (String, Value);

/// A collector that answers every request with one status.
struct Collector {
    address: SocketAddr,
    told: Arc<Mutex<Vec<Told>>>,
}

impl Collector {
    fn new(status: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = Arc::clone(&heard);
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    while let Some(told) = request(&mut reader) {
                        heard.lock().expect("a list").push(told);
                        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
                        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, told }
    }

    /// What it was told, once that is so much.
    fn told(&self, much: usize) -> Vec<Told> {
        let mut told = Vec::new();
        let enough = || {
            told = self.told.lock().expect("a list").clone();
            told.len() >= much
        };
        assert!(eventually(enough), "the collector is told");
        told
    }
}

fn request(reader: &mut impl std::io::BufRead) -> Option<Told> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_lowercase());
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    assert!(lines.iter().any(|line| line == "content-type: application/json"));
    Some((lines[0].clone(), serde_json::from_slice(&body).expect("JSON")))
}

fn slow() -> Upstream {
    Upstream::new(|heard| vec![Act::Wait(Duration::from_millis(50)), Act::Say(heard.answer(&[1]))])
}

#[test]
fn slow_queries_are_logged_with_who_made_them_slow() {
    let upstream = Upstream::new(|heard| match heard.name().as_str() {
        "slow.example" => {
            vec![Act::Wait(Duration::from_millis(300)), Act::Say(heard.answer(&[1]))]
        }
        _ => vec![Act::Say(heard.answer(&[2]))],
    });
    let to = upstream.address;
    let corefile = format!(
        ". {{\n prometheus 127.0.0.1:{{$P1}}\n log . {{\n slow 200ms\n }}\n cache\n \
         forward . {to}\n}}\n"
    );
    let server = serve("tracing-slow", &corefile);
    let client = Client::of(&server);
    client.ask("quick.example.");
    client.ask("slow.example.");
    client.ask("slow.example.");
    let counted = || {
        let labels = format!("{{server=\"dns://:{}\"}}", server.address(None).unwrap().port());
        metric(&server, &format!("corelane_slow_queries_total{labels}"))
    };
    assert!(eventually(|| counted() == 1.0), "the second comes from the cache");
    let said = format!(" forward {to} 0.3");
    assert!(eventually(|| server.output().contains(&said)), "{}", server.output());
    assert!(!server.output().contains("quick.example."), "{}", server.output());
}

#[test]
fn lines_are_json_if_the_flag_says_so() {
    let upstream = slow();
    let corefile = corefile("", &upstream);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("upstreams").join("tracing-json");
    let files = [("Corefile".to_owned(), corefile)];
    let mut server = Server::start_with(&folder, &files, &["-log-format=json"]).expect("a process");
    server.ready().expect("it serves");
    Client::of(&server).ask("odd\\\"name.example.");
    let record = || {
        let output = server.output();
        let lines = output.lines().map(|line| {
            serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}"))
        });
        let mut records: Vec<_> = lines.filter(|line| line.get("qname").is_some()).collect();
        records.pop()
    };
    assert!(eventually(|| record().is_some()), "{}", server.output());
    let record = record().expect("a record");
    assert_eq!(record["qname"], r#"odd\\\"name.example."#);
    assert_eq!((&record["qtype"], &record["rcode"]), (&"A".into(), &"NOERROR".into()));
    assert_eq!((&record["client_ip"], &record["plugin"]), (&"127.0.0.1".into(), &"log".into()));
    assert_eq!(record["msg"], r#"odd\\\"name.example. traced -"#);
    assert!(record["duration_seconds"].as_f64().is_some_and(|seconds| seconds > 0.049));
}

fn corefile(trace: &str, upstream: &Upstream) -> String {
    let to = upstream.address;
    format!(
        ". {{\n metadata\n prometheus 127.0.0.1:{{$P1}}\n errors\n\
         log . \"{{name}} traced {{/trace/traceid}}\"\n {trace}\n cache\n forward . {to}\n}}\n"
    )
}

#[test]
fn a_trace_has_a_span_for_each_plugin_and_for_the_wait() {
    let (upstream, collector) = (slow(), Collector::new("202 Accepted"));
    let trace = format!(
        "trace {} {{\n service dns\n zipkin_max_batch_interval 10ms\n }}",
        collector.address
    );
    let server = serve("tracing-zipkin", &corefile(&trace, &upstream));
    let client = Client::of(&server);
    assert_eq!(client.ask("Slow.example.").addresses, ["192.0.2.1"]);
    let (line, spans) = &collector.told(1)[0];
    assert!(line.starts_with("post /api/v2/spans http/1.1"), "{line}");
    let spans = spans.as_array().expect("spans");
    let of = |name: &str| {
        let named = spans.iter().find(|span| span["name"] == name);
        named.unwrap_or_else(|| panic!("no span {name} in {spans:#?}"))
    };
    let root = of("servedns");
    assert_eq!(root["tags"]["coredns.io/name"], "slow.example.");
    assert_eq!(root["tags"]["coredns.io/rcode"], "NOERROR");
    assert_eq!(root["localEndpoint"]["serviceName"], "dns");
    let parents = [
        ("prometheus", "servedns"),
        ("errors", "prometheus"),
        ("log", "errors"),
        ("cache", "log"),
        ("forward", "cache"),
        ("connect", "forward"),
    ];
    for (name, parent) in parents {
        assert_eq!(of(name)["parentId"], of(parent)["id"], "{name} lies in {parent}");
        let within = |span: &Value| span["duration"].as_u64().expect("microseconds");
        assert!(within(of(name)) <= within(of(parent)), "{name} is no longer than {parent}");
    }
    assert_eq!(of("connect")["tags"]["peer.address"], upstream.address.to_string());
    assert!(of("connect")["duration"].as_u64().expect("a number") >= 49_000);
    let id = root["traceId"].as_str().expect("an id");
    let logged = format!("slow.example. traced {id}");
    assert!(eventually(|| server.output().contains(&logged)), "{}", server.output());
    let taken = format!(
        "corelane_trace_spans_total{{endpoint=\"http://{}/api/v2/spans\"}}",
        collector.address
    );
    assert!(eventually(|| metric(&server, &taken) as usize == spans.len()));
}

#[test]
fn one_of_so_many_is_traced_by_otlp() {
    let (upstream, collector) = (slow(), Collector::new("200 OK"));
    let trace = format!(
        "trace otlp {} {{\n every 3\n zipkin_max_batch_interval 10ms\n }}\n multisocket 1",
        collector.address
    );
    let server = serve("tracing-otlp", &corefile(&trace, &upstream));
    let client = Client::of(&server);
    for round in 0..9 {
        client.ask(&format!("n{round}.example."));
    }
    let told = collector.told(3);
    assert!(told.iter().all(|(line, _)| line.starts_with("post /v1/traces ")));
    let roots = told.iter().flat_map(|(_, body)| {
        let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans");
        spans.iter().filter(|span| span["name"] == "servedns")
    });
    let names = roots.map(|span| span["attributes"][0]["value"]["stringValue"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["n2.example.", "n5.example.", "n8.example."]);
    assert!(eventually(|| server.output().contains("n0.example. traced -")));
}

#[test]
fn what_a_collector_does_not_take_is_counted_and_told_once() {
    let (upstream, collector) = (slow(), Collector::new("500 Oh"));
    let trace =
        format!("trace datadog {} {{\n zipkin_max_batch_interval 1ms\n }}", collector.address);
    let server = serve("tracing-refused", &corefile(&trace, &upstream));
    let client = Client::of(&server);
    for round in 0..3 {
        assert_eq!(client.ask("again.example.").addresses, ["192.0.2.1"]);
        let told = collector.told(round + 1);
        assert!(told[round].0.starts_with("put /v0.3/traces "));
    }
    let dropped = format!(
        "corelane_trace_dropped_total{{endpoint=\"http://{}/v0.3/traces\"}}",
        collector.address
    );
    assert!(eventually(|| metric(&server, &dropped) >= 3.0));
    assert_eq!(server.output().matches("spans not sent: ").count(), 1, "{}", server.output());
}
