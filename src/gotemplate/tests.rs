//! What Go's own engine makes of a table of templates, and the bounds, which are ours.

use proptest::prelude::*;

use super::{Fields, Full, List, Map, Method, Template, TextBuf, Value};
use crate::limits::{
    TEMPLATE_ARGUMENTS_MAX, TEMPLATE_DEPTH_MAX, TEMPLATE_SCRATCH_BYTES, TEMPLATE_VARIABLES_MAX,
};

/// Templates and what Go 1.26 does with them; its head describes the lines.
const TABLE: &str = include_str!("table.txt");

struct Data;
struct Question;
struct Meta;
struct Strings(&'static [&'static str]);
struct Entries {
    kind: &'static str,
    zero: Value<'static>,
    sorted: &'static [(&'static str, Value<'static>)],
}

fn entries(name: &str) -> Option<&'static Entries> {
    const GROUP: Entries = Entries {
        kind: "map[string]string",
        zero: Value::Text(b""),
        sorted: &[
            ("0", Value::Text(b"www.example.org.")),
            ("1", Value::Text(b"www")),
            ("a", Value::Text(b"0a")),
            ("b", Value::Text(b"ff")),
            ("n", Value::Text(b"12")),
            ("z", Value::Text(b"")),
        ],
    };
    const VAR: Entries = Entries {
        kind: "map[string]interface {}",
        zero: Value::Nil,
        sorted: &[
            ("f", Value::Float(2.5)),
            ("n", Value::Int(21)),
            ("nil", Value::Nil),
            ("s", Value::Text(b"text")),
            ("t", Value::Bool(true)),
        ],
    };
    const NOTHING: Entries =
        Entries { kind: "map[string]interface {}", zero: Value::Nil, sorted: &[] };
    match name {
        "Group" => Some(&GROUP),
        "Var" => Some(&VAR),
        "Nothing" => Some(&NOTHING),
        _ => None,
    }
}

impl Fields for Data {
    fn type_name(&self) -> &'static str {
        "*main.Data"
    }

    fn field(&self, name: &str) -> Option<Value<'_>> {
        const MATCH: &Strings = &Strings(&["www.example.org.", "www", ""]);
        Some(match name {
            "Zone" => Value::text("example.org."),
            "Name" => Value::text("www.example.org."),
            "Class" => Value::text("IN"),
            "Type" => Value::text("A"),
            "Remote" => Value::text("192.0.2.7"),
            "Empty" => Value::text(""),
            "Match" => Value::list(MATCH),
            "None" => Value::list(const { &Strings(&[]) }),
            "Question" => Value::Object(&Question),
            "Id" => Value::Uint(4711),
            "Zero" => Value::Int(0),
            "Neg" => Value::Int(-42),
            "Big" => Value::Uint(u64::MAX),
            "Yes" => Value::Bool(true),
            "No" => Value::Bool(false),
            #[allow(clippy::approx_constant)]
            "Pi" => Value::Float(3.14159),
            "Huge" => Value::Float(1e100),
            "Bytes" => Value::Text(b"a\xff\xc3\xa9\n\"`"),
            "Meta" => Value::Method(&Meta),
            _ => return entries(name).map(|entries| Value::Map(entries)),
        })
    }

    fn print(&self, out: &mut TextBuf<'_>) -> Result<(), Full> {
        out.push(b"the data")
    }
}

impl Fields for Question {
    fn type_name(&self) -> &'static str {
        "*main.Question"
    }

    fn field(&self, name: &str) -> Option<Value<'_>> {
        match name {
            "Name" => Some(Value::text("www.example.org.")),
            "Qtype" | "Qclass" => Some(Value::Uint(1)),
            _ => None,
        }
    }

    fn print(&self, out: &mut TextBuf<'_>) -> Result<(), Full> {
        out.push(b";www.example.org.")
    }
}

impl Method for Meta {
    fn call(&self, argument: &[u8], out: &mut TextBuf<'_>) -> Result<(), Full> {
        out.push(b"<")?;
        out.push(argument)?;
        out.push(b">")
    }
}

impl List for Strings {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, at: usize) -> Value<'_> {
        Value::text(self.0[at])
    }
}

impl Map for Entries {
    fn type_name(&self) -> &'static str {
        self.kind
    }

    fn len(&self) -> usize {
        self.sorted.len()
    }

    fn entry(&self, at: usize) -> (&[u8], Value<'_>) {
        (self.sorted[at].0.as_bytes(), self.sorted[at].1)
    }

    fn get(&self, key: &[u8]) -> Option<Value<'_>> {
        self.sorted.iter().find(|(known, _)| known.as_bytes() == key).map(|(_, value)| *value)
    }

    fn zero(&self) -> Value<'_> {
        self.zero
    }
}

fn unescape(line: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = line.as_bytes();
    while let [octet, after @ ..] = rest {
        rest = match rest {
            [b'\\', b'x', high, low, after @ ..] => {
                let digit = |d: &u8| char::from(*d).to_digit(16).expect("the table is well formed");
                out.push((digit(high) * 16 + digit(low)) as u8);
                after
            }
            [b'\\', escape, after @ ..] => {
                out.push(match escape {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    other => *other,
                });
                after
            }
            _ => {
                out.push(*octet);
                after
            }
        };
    }
    out
}

/// One entry of the table again, as ours answers.
fn answer(text: &str) -> (char, Vec<u8>, String) {
    let template = match Template::parse("t", text) {
        Ok(template) => template,
        Err(error) => return ('!', error.to_string().into_bytes(), String::new()),
    };
    let mut buffer = [0; 4096];
    let mut out = TextBuf::new(&mut buffer);
    match template.execute(&Data, &mut out) {
        Ok(()) => ('=', out.as_bytes().to_vec(), template.to_string()),
        Err(_) => ('-', Vec::new(), template.to_string()),
    }
}

#[test]
fn answers_as_go_does() {
    let mut faults = Vec::new();
    let mut lines =
        TABLE.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).peekable();
    let mut count = 0;
    while let Some(question) = lines.next() {
        let text = String::from_utf8(unescape(&question[2..])).expect("templates are UTF-8");
        let want = lines.next().expect("every template has an answer");
        let (kind, output) = (want.as_bytes()[0] as char, unescape(want.get(2..).unwrap_or("")));
        let shown = match lines.next_if(|line| line.starts_with('~')) {
            Some(line) => String::from_utf8(unescape(&line[2..])).expect("shown as UTF-8"),
            None if kind == '!' => String::new(),
            None => text.clone(),
        };
        let got = answer(&text);
        if got != (kind, output.clone(), shown.clone()) {
            let show = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
            faults.push(format!(
                "{text}\n   want {kind} {:?} {shown:?}\n   got  {} {:?} {:?}",
                show(&output),
                got.0,
                show(&got.1),
                got.2
            ));
        }
        count += 1;
    }
    assert!(count > 300, "the table has {count} templates");
    assert!(faults.is_empty(), "{} of {count}:\n{}", faults.len(), faults.join("\n"));
}

fn execute(text: &str, room: usize) -> Result<String, String> {
    let template = Template::parse("t", text).map_err(|error| error.to_string())?;
    let mut buffer = vec![0; room];
    let mut out = TextBuf::new(&mut buffer);
    match template.execute(&Data, &mut out) {
        Ok(()) => Ok(String::from_utf8_lossy(out.as_bytes()).into_owned()),
        Err(error) => Err(template.describe(&error)),
    }
}

#[test]
fn describes_failures_as_go_does() {
    let sentences = [
        (
            "line\n  {{ .Grup.d }}",
            "template: t:2:5: executing \"t\" at <.Grup.d>: can't evaluate field Grup in type \
             *main.Data",
        ),
        (
            "{{ index .Match 9 }}",
            "template: t:1:3: executing \"t\" at <index .Match 9>: error calling index: index out \
             of range: 9",
        ),
        (
            "{{ range $i, $x = .Match }}{{ end }}",
            "template: t:1:9: executing \"t\" at <$i, $x = .Match>: undefined variable",
        ),
        (
            r#"{{ parseInt "gg" 16 8 }}"#,
            "template: t:1:3: executing \"t\" at <parseInt \"gg\" 16 8>: error calling parseInt: \
             invalid syntax",
        ),
    ];
    for (text, sentence) in sentences {
        assert_eq!(execute(text, 100), Err(sentence.to_owned()));
    }
}

#[test]
fn refuses_what_it_has_not_by_name() {
    for (text, words) in [
        (r#"{{ define "x" }}{{ end }}"#, "{{define}} is not supported"),
        (r#"{{ template "x" . }}"#, "{{template}} is not supported"),
        (r#"{{ block "x" . }}{{ end }}"#, "{{block}} is not supported"),
        ("{{ html .Name }}", "function \"html\" not supported"),
        ("{{ call .Name }}", "function \"call\" not supported"),
        ("{{ 1i }}", "bad number syntax"),
    ] {
        let error = execute(text, 100).expect_err("not supported");
        assert!(error.contains(words), "{text}: {error}");
    }
    for text in [
        r#"{{ printf "%[1]d" 1 }}"#,
        r#"{{ printf "%*d" 1 1 }}"#,
        r#"{{ printf "%#v" 1 }}"#,
        r#"{{ printf "%x" 1.5 }}"#,
    ] {
        let error = execute(text, 100).expect_err("not supported");
        assert!(error.ends_with("format is not supported"), "{text}: {error}");
    }
}

#[test]
fn strings_are_found_wherever_they_stand() {
    let text = r#"x{{ .Meta "a" }}{{ if (print "b" (print `c`)).x }}{{ "d" | .Meta }}{{ else }}
        {{ range $i, $x := .Match }}{{ $y := "e" }}{{ end }}{{ end }}"#;
    let template = Template::parse("t", text).expect("a template");
    assert_eq!(template.strings(), ["a", "b", "c", "d", "e"]);
}

#[test]
fn output_ends_where_its_buffer_ends() {
    assert_eq!(execute("12345", 5), Ok("12345".into()));
    assert!(execute("123456", 5).is_err_and(|error| error.ends_with("output is too long")));
    assert!(execute("{{ .Name }}", 15).is_err_and(|error| error.ends_with("output is too long")));
    assert_eq!(execute("{{ .Name }}", 16), Ok("www.example.org.".into()));
    let wide = format!("{{{{ len (printf \"%{TEMPLATE_SCRATCH_BYTES}d\" 1) }}}}");
    assert_eq!(execute(&wide, 16), Ok(TEMPLATE_SCRATCH_BYTES.to_string()));
    let wider = format!("{{{{ len (printf \"%{}d\" 1) }}}}", TEMPLATE_SCRATCH_BYTES + 1);
    assert!(execute(&wider, 16).is_err());
    assert!(execute(r#"{{ printf "%.9999999999d" 1 }}"#, 16).is_err());
    assert!(execute(r#"{{ printf "%.501f" 1.0 }}"#, 4096).is_err());
}

#[test]
fn work_is_bounded() {
    let endless = "{{ range 9223372036854775807 }}{{ end }}";
    assert!(execute(endless, 16).is_err_and(|error| error.ends_with("too much work")));
    let nested = "{{ range 1000 }}{{ range 1000 }}{{ end }}{{ end }}";
    assert!(execute(nested, 16).is_err_and(|error| error.ends_with("too much work")));
    assert_eq!(execute("{{ range 1000 }}{{ end }}done", 16), Ok("done".into()));
}

#[test]
fn nesting_variables_and_arguments_are_bounded() {
    let repeat = |text: &str, count: usize| text.repeat(count);
    let depth = |n| format!("{}x{}", repeat("{{ if . }}", n), repeat("{{ end }}", n));
    assert_eq!(execute(&depth(TEMPLATE_DEPTH_MAX), 16), Ok("x".into()));
    assert!(execute(&depth(TEMPLATE_DEPTH_MAX + 1), 16).is_err());
    let parens = |n| format!("{{{{ {}print 1{} }}}}", repeat("(", n), repeat(")", n));
    assert_eq!(execute(&parens(TEMPLATE_DEPTH_MAX), 16), Ok("1".into()));
    assert!(execute(&parens(TEMPLATE_DEPTH_MAX + 1), 16).is_err());
    let variables = |n| repeat("{{ $x := 1 }}", n) + "{{ $x }}";
    assert_eq!(execute(&variables(TEMPLATE_VARIABLES_MAX - 1), 16), Ok("1".into()));
    assert!(execute(&variables(TEMPLATE_VARIABLES_MAX), 16).is_err());
    let arguments = |n| format!("{{{{ len (print{}) }}}}", repeat(" \"a\"", n));
    assert_eq!(execute(&arguments(TEMPLATE_ARGUMENTS_MAX - 1), 16), Ok("31".into()));
    assert!(execute(&arguments(TEMPLATE_ARGUMENTS_MAX), 16).is_err());
    assert!(Template::parse("t", &repeat("x", 100_000)).is_err());
}

/// Pieces of the language, which make sense in some orders.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "{{",
        "}}",
        "{{- ",
        " -}}",
        "{{/*",
        "*/}}",
        "{{ if .Name }}",
        "{{ else }}",
        "{{ end }}",
        "{{ range .Match }}",
        "{{ with .Group }}",
        "{{ break }}",
        "{{ $x := .Name }}",
        "{{ $x }}",
        " ",
        ".",
        ".Name",
        ".Group.a",
        "$",
        "$x",
        ":=",
        "=",
        "|",
        "(",
        ")",
        ",",
        "\"a\"",
        "`a`",
        "'a'",
        "1",
        "-1",
        "0x",
        "1.5",
        "nil",
        "true",
        "len ",
        "index ",
        "slice ",
        "print ",
        "eq ",
        "printf ",
        "\"%5d %q\" ",
        "\"%[*.\"",
        "range ",
        "if ",
        "else ",
        "end",
        "parseInt ",
        "\n",
        "text",
        "é",
        "\\",
        "\0",
    ])
}

proptest! {
    #[test]
    fn any_text_is_refused_or_executed(text in ".{0,60}") {
        let _ = execute(&text, 64);
    }

    #[test]
    fn any_pieces_are_refused_or_executed(pieces in prop::collection::vec(piece(), 0..24)) {
        let _ = execute(&pieces.concat(), 64);
    }

    #[test]
    fn any_action_is_refused_or_executed(pieces in prop::collection::vec(piece(), 0..8)) {
        let text = format!("{{{{ {} }}}}", pieces.concat());
        let _ = execute(&text, 64);
    }

    #[test]
    fn any_format_prints_or_fails(
        format in "[%#0+ .\\-a-zA-Z0-9\\[*]{0,12}",
        value in prop::sample::select(vec![".Name", ".Bytes", ".Neg", ".Big", ".Pi", ".Huge",
            ".Match", ".Group", ".Var", ".Question", "nil", "true"]),
    ) {
        let _ = execute(&format!("{{{{ printf \"%{format}\" {value} 1 }}}}"), 4096);
    }

    #[test]
    fn the_normal_form_means_the_same(pieces in prop::collection::vec(piece(), 0..12)) {
        let text = format!("{{{{ {} }}}}", pieces.concat());
        if let Ok(template) = Template::parse("t", &text) {
            let shown = template.to_string();
            prop_assert_eq!(execute(&text, 64).ok(), execute(&shown, 64).ok());
            let again = Template::parse("t", &shown).expect("the normal form is a template");
            prop_assert_eq!(again.to_string(), shown);
        }
    }
}
