//! `corelane top`: who asks a running server, and for what, in a terminal.
//!
//! Looks at the server's `/status.json` every two seconds and draws the screen anew; where standard
//! output is no terminal, it looks twice, a second apart, prints what it saw and ends. The server's health
//! port answers it from the same host or pod only, unless `status on` is said there: forward the port.
//!
//! What is shown came from outside: characters that would steer the terminal are not printed.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::limits::{TOP_COLUMNS_MAX, TOP_DOCUMENT_BYTES_MAX};

/// Which server is looked at.
#[derive(Debug, PartialEq, Eq, clap::Args)]
pub struct Top {
    /// Address of the server's health port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub server: String,
}

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(2);
/// For one look.
const PATIENCE: Duration = Duration::from_secs(10);
/// Cursor to the top, everything below it erased.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Looks and prints, in a terminal until it is interrupted.
///
/// # Errors
/// One line: the server does not answer, or with something else.
pub async fn run(wanted: &Top) -> Result<(), String> {
    let is_terminal = std::io::stdout().is_terminal();
    let mut last = look(&wanted.server).await?;
    let mut wait = Duration::from_secs(1);
    loop {
        sleep(wait).await;
        let now = look(&wanted.server).await?;
        let text = report(&last, &now);
        let text = if is_terminal { format!("{CLEAR}{text}") } else { text };
        let mut out = std::io::stdout().lock();
        let printed = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        // Who reads has gone: nothing left to do.
        if !is_terminal || printed.is_err() {
            return Ok(());
        }
        (last, wait) = (now, PERIOD);
    }
}

/// What the server says of itself.
async fn look(server: &str) -> Result<Value, String> {
    let asking = timeout(PATIENCE, ask(server)).await;
    let answer = asking.map_err(|_| format!("{server}: no answer"))?;
    let answer = answer.map_err(|error| format!("{server}: {error}"))?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.lines().next().unwrap_or_default();
    if !status.contains(" 200 ") {
        return Err(plain(&format!("{server}: {status}: {}", body.trim())));
    }
    serde_json::from_str(body).map_err(|_| format!("{server}: no status of corelane"))
}

async fn ask(server: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let head = format!("GET /status.json HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(TOP_DOCUMENT_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_default()
}

/// The sum of a field over a list.
fn sum(list: &Value, field: &str) -> f64 {
    list.as_array().into_iter().flatten().map(|one| number(&one[field])).sum()
}

fn servfail(document: &Value) -> f64 {
    number(&document["all_zones"]["responses"]["SERVFAIL"])
}

/// The screen.
fn report(last: &Value, now: &Value) -> String {
    let seconds = number(&now["uptime_seconds"]) - number(&last["uptime_seconds"]);
    // Started anew between the looks: since then.
    let (seconds, last) = match seconds > 0.0 {
        true => (seconds, last),
        false => (number(&now["uptime_seconds"]).max(0.001), &Value::Null),
    };
    let rate = |of: &dyn Fn(&Value) -> f64| (of(now) - of(last)).max(0.0) / seconds;
    let queries = rate(&|document| sum(&document["cores"], "queries"));
    let lost = |document: &Value| {
        number(&document["process"]["receive_drops"]) + number(&document["process"]["shed"])
    };
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{}, up {:.0} s, configuration {}\nqueries/s {queries:.0}   SERVFAIL/s {:.1}   \
         waiting {:.1}   lost/s {:.1}   cores in use {:.2}   resident {:.0} MiB",
        plain(now["version"].as_str().unwrap_or_default()),
        number(&now["uptime_seconds"]),
        number(&now["generation"]["number"]),
        rate(&servfail),
        sum(&now["top"]["waiting"]["rows"], "waiting"),
        rate(&lost),
        rate(&|document| number(&document["process"]["cpu_seconds"])),
        number(&now["process"]["resident_bytes"]) / 1_048_576.0,
    );
    for (by, title) in
        [("client", "CLIENT"), ("name", "NAME"), ("nxdomain", "NXDOMAIN"), ("waiting", "WAITING")]
    {
        ranking(&now["top"][by], by, title, &mut text);
    }
    upstreams(last, now, seconds, &mut text);
    text
}

/// Who is asked, and how soon it replies: percentiles of the time between the looks.
fn upstreams(last: &Value, now: &Value, seconds: f64, text: &mut String) {
    let list = |document: &Value| document["upstreams"].as_array().cloned().unwrap_or_default();
    let before = list(last);
    let asked = list(now);
    if !asked.is_empty() {
        let _ = writeln!(text, "\n QUERIES/S NO REPLY/S     P50     P99   P99.9  UPSTREAM");
    }
    for one in asked {
        let same =
            |other: &&Value| (&other["plugin"], &other["to"]) == (&one["plugin"], &one["to"]);
        let then = before.iter().find(same).unwrap_or(&Value::Null);
        let rate = |field: &str| (number(&one[field]) - number(&then[field])).max(0.0) / seconds;
        let times = between(&then["latency"], &one["latency"]);
        let [p50, p99, high] = [0.5, 0.99, 0.999].map(|share| time(percentile(&times, share)));
        let (replies, silent) = (rate("queries"), rate("unanswered"));
        let to = plain(one["to"].as_str().unwrap_or_default());
        let _ = write!(text, "{:>10.1} {silent:>10.1}", replies + silent);
        let _ = writeln!(text, " {p50:>7} {p99:>7} {high:>7}  {}", cut(&to));
    }
}

/// Seconds at most and how many came to it since.
fn between(then: &Value, now: &Value) -> Vec<(f64, f64)> {
    let cells = |list: &Value| {
        let cells = list.as_array().into_iter().flatten();
        cells.map(|cell| (number(&cell[0]), number(&cell[1]))).collect::<Vec<_>>()
    };
    let old = cells(then);
    let before =
        |bound: f64| old.iter().find(|(known, _)| *known == bound).map_or(0.0, |cell| cell.1);
    cells(now).into_iter().map(|(bound, count)| (bound, count - before(bound))).collect()
}

/// The bound of the cell in which the percentile is; `None`: there are none.
fn percentile(cells: &[(f64, f64)], share: f64) -> Option<f64> {
    let mut left = share * cells.iter().map(|(_, count)| count).sum::<f64>();
    let cell = cells.iter().filter(|(_, count)| *count > 0.0).find(|(_, count)| {
        left -= count;
        left <= 1e-9
    });
    cell.map(|(bound, _)| *bound)
}

/// Seconds as one reads them.
fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds >= 1.0 => format!("{seconds:.1} s"),
        Some(seconds) if seconds >= 1e-3 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) => format!("{:.0} us", seconds * 1e6),
    }
}

fn ranking(ranking: &Value, by: &str, title: &str, text: &mut String) {
    let rows = ranking["rows"].as_array().map_or(&[][..], Vec::as_slice);
    if rows.is_empty() {
        return;
    }
    let waits = if by == "waiting" { " WAITING" } else { "" };
    let _ = writeln!(text, "\n{:>10} {:>7}{waits}  {title}", "QUERIES/S", "SHARE");
    let all = number(&ranking["queries_per_second"]);
    for row in rows {
        let queries = number(&row["queries_per_second"]);
        let share = if all > 0.0 { 100.0 * queries / all } else { 0.0 };
        let _ = write!(text, "{queries:>10.1} {share:>5.1} %");
        if by == "waiting" {
            let _ = write!(text, " {:>7.1}", number(&row["waiting"]));
        }
        let word = |field: &str| row[field].as_str().filter(|word| !word.is_empty());
        let mut what = plain(word("what").unwrap_or_default());
        if let Some(namespace) = word("namespace") {
            let name = word("pod").or(word("service")).unwrap_or_default();
            let _ = write!(what, "  {}/{}", plain(namespace), plain(name));
        }
        let _ = writeln!(text, "  {}", cut(&what));
    }
}

/// The text without what steers terminals.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(TOP_COLUMNS_MAX).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(uptime: f64, queries: u64) -> Value {
        let row = json!({
            "what": "10.0.0.1", "namespace": "shop", "pod": "web-\u{1b}[2J", "service": "web",
            "queries_per_second": 30.0, "waiting": 0.0,
        });
        let waits = json!({
            "what": "slow.example.", "namespace": "", "pod": "", "service": "",
            "queries_per_second": 2.0, "waiting": 1.5,
        });
        json!({
            "version": "corelane", "uptime_seconds": uptime,
            "generation": { "number": 3 },
            "cores": [{ "queries": queries }, { "queries": queries }],
            "all_zones": { "responses": { "SERVFAIL": queries } },
            "upstreams": [
                {
                    "plugin": "forward", "to": "10.0.0.53:53",
                    "queries": queries, "unanswered": uptime,
                    "latency": [[0.0002, 50], [0.004, queries], [1.5, uptime]],
                },
            ],
            "process": { "receive_drops": 0.0, "shed": 0.0, "cpu_seconds": uptime / 2.0 },
            "top": {
                "client": { "rows": [row], "queries_per_second": 60.0 },
                "waiting": { "rows": [waits], "queries_per_second": 2.0 },
            },
        })
    }

    #[test]
    fn a_screen_tells_what_happened_between_two_looks() {
        let text = report(&document(10.0, 100), &document(20.0, 400));
        assert!(text.starts_with("corelane, up 20 s, configuration 3\nqueries/s 60 "), "{text}");
        for part in ["SERVFAIL/s 30.0", "waiting 1.5", "cores in use 0.50"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(text.contains("\n      30.0  50.0 %  10.0.0.1  shop/web-?[2J\n"), "{text}");
        assert!(text.contains("\n       2.0 100.0 %     1.5  slow.example.\n"), "{text}");
        assert!(!text.contains("NXDOMAIN"), "nothing of that: {text}");
        let line = "      31.0        1.0  4.0 ms   1.5 s   1.5 s  10.0.0.53:53\n";
        assert!(text.ends_with(&format!("P99.9  UPSTREAM\n{line}")), "{text}");
    }

    #[test]
    fn a_server_that_was_started_anew_is_counted_from_its_start() {
        let text = report(&document(1000.0, 1_000_000), &document(2.0, 10));
        assert!(text.contains("queries/s 10 "), "{text}");
    }
}
