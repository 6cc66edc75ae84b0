//! Spans as collectors take them: Zipkin's API v2, OTLP as JSON (OpenTelemetry), Datadog's API 0.3.
//!
//! Values are made by `serde_json`, which escapes whatever names hold. Ids of spans are random; the
//! span of a query has the trace's last 64 bits for its own, as Zipkin's libraries have it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::record::Trace;
use crate::data::rng::Rng;
use crate::wire::{rcode, rtype};

/// A kind of collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Zipkin, and whoever speaks its API v2.
    Zipkin,
    /// A collector of OpenTelemetry.
    Otlp,
    /// Datadog's agent.
    Datadog,
}

impl Kind {
    pub(super) const WORDS: &[&str] = &["zipkin", "otlp", "datadog"];

    pub(super) fn of(word: &str) -> Option<Self> {
        match word {
            "zipkin" => Some(Self::Zipkin),
            "otlp" => Some(Self::Otlp),
            "datadog" => Some(Self::Datadog),
            _ => None,
        }
    }

    /// Where such a collector is unless it is said: host and path.
    pub(super) fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Zipkin => ("localhost:9411", "/api/v2/spans"),
            Self::Otlp => ("localhost:4318", "/v1/traces"),
            Self::Datadog => ("localhost:8126", "/v0.3/traces"),
        }
    }

    /// The method of its requests.
    pub(super) fn method(self) -> hyper::Method {
        if self == Self::Datadog { hyper::Method::PUT } else { hyper::Method::POST }
    }
}

/// The id of a trace as text: 64 bits for Zipkin.
pub(super) fn trace_id(kind: Kind, id: [u8; 16]) -> String {
    let id = u128::from_be_bytes(id);
    if kind == Kind::Zipkin { format!("{id:016x}") } else { format!("{id:032x}") }
}

/// Whose spans they are.
pub(super) struct Whose {
    pub service: String,
    /// The address that `bind` says.
    pub bound: Option<SocketAddr>,
    pub analytics_rate: f64,
}

/// Makes spans of traces, and requests of spans.
pub(super) struct Encoder {
    pub kind: Kind,
    whose: Whose,
    rng: Rng,
}

/// What is the same in all kinds.
struct Span<'a> {
    trace: &'a Trace,
    name: &'static str,
    id: u64,
    parent: Option<u64>,
    began: Duration,
    lasted: Duration,
    tags: Vec<(&'static str, String)>,
}

impl Encoder {
    pub(super) fn new(kind: Kind, whose: Whose) -> Self {
        Self { kind, whose, rng: Rng::from_entropy() }
    }

    /// The spans of a trace that began so long after 1970; the query's is the first.
    pub(super) fn spans(&mut self, trace: &Trace, began: Duration) -> Vec<Value> {
        let low = u128::from_be_bytes(trace.id) as u64;
        let root = Span {
            trace,
            name: "servedns",
            id: low,
            parent: None,
            began,
            lasted: Duration::from_nanos(trace.nanos),
            tags: self.tags(trace),
        };
        let mut ids = Vec::new();
        let mut spans = vec![self.encode(&root)];
        for part in &trace.parts {
            let id = self.rng.next_u64().max(1);
            ids.push(id);
            let parent = part.parent.and_then(|parent| ids.get(parent)).copied();
            let peer = part.peer.map(|peer| ("peer.address", peer.to_string()));
            let span = Span {
                trace,
                name: part.name,
                id,
                parent: Some(parent.unwrap_or(low)),
                began: began + Duration::from_nanos(part.began),
                lasted: Duration::from_nanos(part.ended.saturating_sub(part.began)),
                tags: peer.into_iter().collect(),
            };
            spans.push(self.encode(&span));
        }
        spans
    }

    fn tags(&self, trace: &Trace) -> Vec<(&'static str, String)> {
        let names: [&str; 5] = match self.kind {
            Kind::Datadog => [
                "coredns.io@name",
                "coredns.io@type",
                "coredns.io@rcode",
                "coredns.io@proto",
                "coredns.io@remote",
            ],
            Kind::Zipkin | Kind::Otlp => [
                "coredns.io/name",
                "coredns.io/type",
                "coredns.io/rcode",
                "coredns.io/proto",
                "coredns.io/remote",
            ],
        };
        let values = [
            trace.name.to_string(),
            rtype::text(trace.rtype).to_string(),
            rcode::text(trace.rcode).to_string(),
            trace.client.transport.as_str().to_owned(),
            trace.client.ip().to_string(),
        ];
        let mut tags: Vec<_> = names.into_iter().zip(values).collect();
        if !trace.reason.is_empty() {
            tags.push(("error", "true".to_owned()));
        }
        tags
    }

    fn encode(&self, span: &Span<'_>) -> Value {
        match self.kind {
            Kind::Zipkin => self.zipkin(span),
            Kind::Otlp => otlp(span),
            Kind::Datadog => self.datadog(span),
        }
    }

    fn zipkin(&self, span: &Span<'_>) -> Value {
        let mut local = json!({ "serviceName": self.whose.service });
        if let Some(bound) = self.whose.bound {
            let ip = if bound.is_ipv4() { "ipv4" } else { "ipv6" };
            local[ip] = json!(bound.ip().to_string());
            local["port"] = json!(bound.port());
        }
        let mut all = json!({
            "traceId": trace_id(self.kind, span.trace.id),
            "id": format!("{:016x}", span.id),
            "name": span.name,
            "timestamp": micros(span.began),
            // Zipkin's model has no shorter one.
            "duration": micros(span.lasted).max(1),
            "localEndpoint": local,
        });
        match span.parent {
            Some(parent) => all["parentId"] = json!(format!("{parent:016x}")),
            None => {
                all["kind"] = json!("SERVER");
                if !span.trace.reason.is_empty() {
                    let at = micros(span.began + span.lasted);
                    all["annotations"] = json!([{ "timestamp": at, "value": span.trace.reason }]);
                }
            }
        }
        if !span.tags.is_empty() {
            all["tags"] = Value::Object(object(&span.tags));
        }
        all
    }

    fn datadog(&self, span: &Span<'_>) -> Value {
        let has_failed = span.parent.is_none() && !span.trace.reason.is_empty();
        let mut meta = object(&span.tags);
        let mut metrics = Map::new();
        if span.parent.is_none() {
            let high = (u128::from_be_bytes(span.trace.id) >> 64) as u64;
            meta.insert("_dd.p.tid".into(), json!(format!("{high:016x}")));
            metrics.insert("_sampling_priority_v1".into(), json!(1));
            if self.whose.analytics_rate > 0.0 {
                metrics.insert("_dd1.sr.eausr".into(), json!(self.whose.analytics_rate));
            }
        }
        if has_failed {
            meta.insert("error.message".into(), json!(span.trace.reason));
            meta.insert("error.type".into(), json!("dns_error"));
        }
        json!({
            "trace_id": u128::from_be_bytes(span.trace.id) as u64,
            "span_id": span.id,
            "parent_id": span.parent.unwrap_or(0),
            "service": self.whose.service,
            "name": span.name,
            "resource": span.name,
            "type": "dns",
            "start": span.began.as_nanos() as u64,
            "duration": span.lasted.as_nanos() as u64,
            "error": i32::from(has_failed),
            "meta": meta,
            "metrics": metrics,
        })
    }

    /// The body of a request with these spans, which belong together as they were made.
    pub(super) fn body(&self, traces: Vec<Vec<Value>>) -> String {
        match self.kind {
            Kind::Zipkin => Value::Array(traces.into_iter().flatten().collect()),
            Kind::Datadog => Value::Array(traces.into_iter().map(Value::Array).collect()),
            Kind::Otlp => {
                let service = attribute("service.name", &self.whose.service);
                let spans: Vec<Value> = traces.into_iter().flatten().collect();
                json!({ "resourceSpans": [{
                    "resource": { "attributes": [service] },
                    "scopeSpans": [{
                        "scope": { "name": "corelane", "version": env!("CARGO_PKG_VERSION") },
                        "spans": spans,
                    }],
                }] })
            }
        }
        .to_string()
    }
}

/// OTLP's numbers of 64 bits are strings (the JSON mapping of protobuf), its ids hexadecimal.
fn otlp(span: &Span<'_>) -> Value {
    let is_error = |tag: &&(&str, String)| tag.0 != "error";
    let tags = span.tags.iter().filter(is_error);
    let attributes: Vec<_> = tags.map(|(name, value)| attribute(name, value)).collect();
    let mut all = json!({
        "traceId": trace_id(Kind::Otlp, span.trace.id),
        "spanId": format!("{:016x}", span.id),
        "name": span.name,
        // SPAN_KIND_SERVER, SPAN_KIND_INTERNAL
        "kind": if span.parent.is_none() { 2 } else { 1 },
        "startTimeUnixNano": span.began.as_nanos().to_string(),
        "endTimeUnixNano": (span.began + span.lasted).as_nanos().to_string(),
        "attributes": attributes,
    });
    match span.parent {
        Some(parent) => all["parentSpanId"] = json!(format!("{parent:016x}")),
        None if !span.trace.reason.is_empty() => {
            // STATUS_CODE_ERROR
            all["status"] = json!({ "code": 2, "message": span.trace.reason });
        }
        None => {}
    }
    all
}

fn attribute(name: &str, value: &str) -> Value {
    json!({ "key": name, "value": { "stringValue": value } })
}

fn object(tags: &[(&'static str, String)]) -> Map<String, Value> {
    tags.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::super::record::Part;
    use super::*;
    use crate::data::chain::Client;
    use crate::wire::NameBuf;

    fn trace(reason: &str) -> Trace {
        let connect = Part {
            name: "connect",
            parent: Some(0),
            began: 3_000,
            ended: 5_000,
            peer: Some(([192, 0, 2, 1], 53).into()),
        };
        let forward =
            Part { name: "forward", parent: None, began: 2_000, ended: 9_000, peer: None };
        Trace {
            id: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10_u128.to_be_bytes(),
            began: 0,
            nanos: 10_000,
            client: Client { peer: ([192, 0, 2, 9], 1000).into(), ..Client::NOBODY },
            name: NameBuf::parse("we\\\"ird.example.").expect("a name"),
            rtype: 28,
            rcode: 2,
            reason: reason.to_owned(),
            parts: vec![forward, connect],
        }
    }

    fn encoded(kind: Kind, reason: &str) -> Value {
        let bound = Some(([192, 0, 2, 53], 53).into());
        let whose = Whose { service: "dns".into(), bound, analytics_rate: 0.5 };
        let mut encoder = Encoder::new(kind, whose);
        let spans = encoder.spans(&trace(reason), Duration::from_secs(1));
        serde_json::from_str(&encoder.body(vec![spans])).expect("JSON")
    }

    #[test]
    fn zipkin_s_api_v2() {
        let spans = encoded(Kind::Zipkin, "no \"answer\"");
        let (root, forward, connect) = (&spans[0], &spans[1], &spans[2]);
        assert_eq!(root["id"], "090a0b0c0d0e0f10");
        assert_eq!((&root["name"], &root["kind"]), (&json!("servedns"), &json!("SERVER")));
        assert_eq!((&root["timestamp"], &root["duration"]), (&json!(1_000_000), &json!(10)));
        assert_eq!(root["tags"]["coredns.io/name"], "we\\\"ird.example.");
        assert_eq!(root["tags"]["coredns.io/type"], "AAAA");
        assert_eq!(root["tags"]["coredns.io/rcode"], "SERVFAIL");
        assert_eq!(root["tags"]["coredns.io/proto"], "udp");
        assert_eq!(root["tags"]["coredns.io/remote"], "192.0.2.9");
        assert_eq!(root["tags"]["error"], "true");
        assert_eq!(root["annotations"][0]["value"], "no \"answer\"");
        let local = json!({ "serviceName": "dns", "ipv4": "192.0.2.53", "port": 53 });
        assert_eq!(root["localEndpoint"], local);
        assert_eq!(forward["parentId"], root["id"]);
        assert_eq!((&connect["parentId"], &connect["duration"]), (&forward["id"], &json!(2)));
        assert_eq!(connect["tags"]["peer.address"], "192.0.2.1:53");
    }

    #[test]
    fn otlp_as_json() {
        let sent = encoded(Kind::Otlp, "late");
        let resource = &sent["resourceSpans"][0];
        assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "dns");
        let spans = &resource["scopeSpans"][0]["spans"];
        assert_eq!(spans[0]["traceId"], "0102030405060708090a0b0c0d0e0f10");
        assert_eq!(spans[0]["startTimeUnixNano"], "1000000000");
        assert_eq!(spans[0]["endTimeUnixNano"], "1000010000");
        assert_eq!(spans[0]["status"], json!({ "code": 2, "message": "late" }));
        assert_eq!((&spans[0]["kind"], &spans[1]["kind"]), (&json!(2), &json!(1)));
        assert_eq!(spans[2]["parentSpanId"], spans[1]["spanId"]);
        assert_eq!(spans[0]["attributes"][1], attribute("coredns.io/type", "AAAA"));
        assert!(encoded(Kind::Otlp, "").get("status").is_none());
    }

    #[test]
    fn datadog_s_api() {
        let sent = encoded(Kind::Datadog, "late");
        let spans = &sent[0];
        assert_eq!(spans[0]["trace_id"], json!(0x090a_0b0c_0d0e_0f10_u64));
        assert_eq!((&spans[0]["parent_id"], &spans[0]["error"]), (&json!(0), &json!(1)));
        assert_eq!(spans[0]["meta"]["coredns.io@rcode"], "SERVFAIL");
        assert_eq!(spans[0]["meta"]["_dd.p.tid"], "0102030405060708");
        assert_eq!(spans[0]["metrics"]["_dd1.sr.eausr"], json!(0.5));
        assert_eq!(spans[1]["parent_id"], spans[0]["span_id"]);
        assert_eq!(spans[2]["parent_id"], spans[1]["span_id"]);
    }
}
