//! The format of a case: README.md in this folder tells it; here it is parsed.

/// A conversation and the files that the server finds.
#[derive(Debug, PartialEq)]
pub struct Case {
    pub steps: Vec<Step>,
    pub files: Vec<(String, String)>,
}

/// A line that starts with `>` or `$`, and the `<` lines below it.
#[derive(Debug, PartialEq)]
pub struct Step {
    /// In the case file, from 1.
    pub line: usize,
    pub action: Action,
    pub expected: Vec<String>,
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Ask(Ask),
    Copy { from: String, to: String },
    Signal(String),
    Log(String),
    Fails(i32),
}

/// A query, as its line says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ask {
    pub name: String,
    pub rtype: String,
    pub class: Option<String>,
    pub opcode: Option<String>,
    pub port: Option<String>,
    pub tcp: bool,
    pub tls: bool,
    pub cd: bool,
    pub ad: bool,
    pub norec: bool,
    pub edns: Option<Edns>,
    pub ordered: bool,
    pub eventually: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Edns {
    pub size: u16,
    pub dnssec_ok: bool,
    pub nsid: bool,
}

impl Default for Edns {
    fn default() -> Self {
        // What resolvers advertise since the DNS flag day of 2020.
        Self { size: 1232, dnssec_ok: false, nsid: false }
    }
}

/// Reads a case; an error names the line.
pub fn parse(text: &str) -> Result<Case, String> {
    let mut case = Case { steps: Vec::new(), files: Vec::new() };
    for (at, line) in text.lines().enumerate() {
        let number = at + 1;
        if let Some(name) = line.strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --")) {
            case.files.push((name.to_owned(), String::new()));
        } else if let Some((_, content)) = case.files.last_mut() {
            content.push_str(line);
            content.push('\n');
        } else {
            step(&mut case.steps, number, line)
                .map_err(|fault| format!("line {number}: {fault}"))?;
        }
    }
    if !case.files.iter().any(|(name, _)| name == "Corefile") {
        return Err("no `-- Corefile --`".to_owned());
    }
    let silent = |step: &&Step| matches!(step.action, Action::Ask(_)) && step.expected.is_empty();
    match case.steps.iter().find(silent) {
        Some(step) => Err(format!("line {}: a query without a `<` line", step.line)),
        None if case.steps.is_empty() => Err("nothing is asked".to_owned()),
        None => Ok(case),
    }
}

fn step(steps: &mut Vec<Step>, line: usize, text: &str) -> Result<(), String> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(());
    }
    let (mark, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
    let rest = rest.trim();
    let action = match mark {
        "<" => {
            let last = steps.last_mut().ok_or("`<` before anything was asked")?;
            last.expected.push(rest.to_owned());
            return Ok(());
        }
        ">" => Action::Ask(ask(rest)?),
        "$" => command(rest)?,
        _ => return Err(format!("`{text}`: lines start with `>`, `<`, `$` or `#`")),
    };
    steps.push(Step { line, action, expected: Vec::new() });
    Ok(())
}

fn ask(text: &str) -> Result<Ask, String> {
    let mut words = text.split_whitespace();
    let (Some(name), Some(rtype)) = (words.next(), words.next()) else {
        return Err("a query is `> NAME TYPE`".to_owned());
    };
    let mut ask = Ask { name: name.to_owned(), rtype: rtype.to_owned(), ..Ask::default() };
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let value = (!value.is_empty()).then(|| value.to_owned());
        match (key, value) {
            ("tcp", None) => ask.tcp = true,
            ("tls", None) => ask.tls = true,
            ("cd", None) => ask.cd = true,
            ("ad", None) => ask.ad = true,
            ("norec", None) => ask.norec = true,
            ("ordered", None) => ask.ordered = true,
            ("eventually", None) => ask.eventually = true,
            ("edns", None) => drop(ask.edns.get_or_insert_default()),
            ("do", None) => ask.edns.get_or_insert_default().dnssec_ok = true,
            ("nsid", None) => ask.edns.get_or_insert_default().nsid = true,
            ("size", Some(size)) => {
                let size = size.parse().map_err(|_| format!("`{word}`: not a size"))?;
                ask.edns.get_or_insert_default().size = size;
            }
            ("class", value @ Some(_)) => ask.class = value,
            ("opcode", value @ Some(_)) => ask.opcode = value,
            ("port", value @ Some(_)) => ask.port = value,
            _ => return Err(format!("`{word}`: unknown word of a query")),
        }
    }
    Ok(ask)
}

fn command(text: &str) -> Result<Action, String> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    match (verb, &words[..]) {
        ("copy", [from, to]) => Ok(Action::Copy { from: (*from).into(), to: (*to).into() }),
        ("signal", [name]) => Ok(Action::Signal((*name).into())),
        ("log", [_, ..]) => Ok(Action::Log(rest.trim().to_owned())),
        ("fails", [status]) => {
            status.parse().map(Action::Fails).map_err(|_| format!("`{status}`: not a status"))
        }
        _ => Err(format!("`$ {text}`: unknown command")),
    }
}

/// Whether the reply's lines are the expected ones, in this order or in any.
pub fn fits(expected: &[String], got: &[String], ordered: bool) -> bool {
    // `...` on a line of its own: whatever else there is.
    let (named, open) = match expected.split_last() {
        Some((last, before)) if last == "..." => (before, true),
        _ => (expected, false),
    };
    if named.len() > got.len() || !open && named.len() < got.len() {
        return false;
    }
    if ordered {
        return named.iter().zip(got).all(|(want, have)| line_fits(want, have));
    }
    let mut left: Vec<&String> = got.iter().collect();
    // Lines without stars choose first: they can fit only one.
    let (loose, exact): (Vec<_>, Vec<_>) = named
        .iter()
        .partition(|line| line.split_whitespace().any(|word| matches!(word, "*" | "...")));
    exact.into_iter().chain(loose).all(|want| {
        let at = left.iter().position(|have| line_fits(want, have));
        at.map(|at| left.swap_remove(at)).is_some()
    })
}

/// Whether a line fits, word by word; `*` is any word, `...` the rest.
pub fn line_fits(want: &str, have: &str) -> bool {
    let mut have = have.split_whitespace();
    for word in want.split_whitespace() {
        match (word, have.next()) {
            ("...", _) => return true,
            ("*", Some(_)) => {}
            (word, Some(other)) if word == other => {}
            _ => return false,
        }
    }
    have.next().is_none()
}
