//! What expressions give, what is refused, and that nothing makes them panic.

use proptest::prelude::*;

use super::*;

const FUNCTIONS: &[Function] = &[
    Function { name: "name", takes: &[], gives: Kind::Text },
    Function { name: "id", takes: &[], gives: Kind::Int },
    Function { name: "starts", takes: &[Kind::Text, Kind::Text], gives: Kind::Bool },
    Function { name: "some", takes: &[], gives: Kind::Any },
];

struct Surroundings;

impl Environment for Surroundings {
    fn call(
        &self,
        function: usize,
        arguments: &[Value],
        memory: &mut Memory,
    ) -> Result<Value, Cause> {
        match (function, arguments) {
            (0, []) => memory.make(|out| fmt::Write::write_str(out, "www.example.org.")),
            (1, []) => Ok(Value::Int(4711)),
            (2, [Value::Text(one), Value::Text(other)]) => {
                Ok(Value::Bool(memory.text(*one).starts_with(memory.text(*other))))
            }
            (3, []) => Ok(Value::Nil),
            _ => Err(Cause::Kind),
        }
    }
}

/// What `text` gives, as text.
fn value(text: &str) -> Result<String, String> {
    let mut draft = Draft::new(FUNCTIONS);
    draft.variable("it", text).map_err(|error| error.to_string())?;
    let program = draft.finish();
    let mut memory = Memory::new();
    program.run(&Surroundings, &mut memory).map_err(|cause| cause.to_string())?;
    Ok(shown(memory.variable(0), &memory))
}

fn shown(value: Value, memory: &Memory) -> String {
    match value {
        Value::Nil => "nil".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => format!("{value:?}"),
        Value::Text(text) => format!("'{}'", memory.text(text)),
        Value::List(list) | Value::Map(list) => {
            let items = memory.list(list).iter().map(|value| shown(*value, memory));
            format!("[{}]", items.collect::<Vec<_>>().join(" "))
        }
    }
}

#[test]
fn operators() {
    for (text, wanted) in [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * 3", "9"),
        ("2 ** 3 ** 2", "512.0"),
        ("7 / 2", "3.5"),
        ("7 % 4", "3"),
        ("-2 ^ 2", "-4.0"),
        ("0x1F + 0b11 + 0o17 + 1_000", "1049"),
        (".5 + 1e1", "10.5"),
        ("'a' + \"b\" + `\\c`", "'ab\\c'"),
        (r"'\x41\u0042\n\103'", "'AB\nC'"),
        ("1 < 2 and 2 <= 2 && !(3 != 3)", "true"),
        ("1 < 2 < 3", "true"),
        ("1 < 2 > 3", "false"),
        ("1 == 1.0", "true"),
        ("[1, 'a'] == [1, 'a']", "true"),
        ("'a' < 'b'", "true"),
        ("true ? 1 : 2", "1"),
        ("nil ?? 3", "3"),
        ("some() ?: 4", "non-bool"),
        ("'b' in ['a', 'b']", "true"),
        ("'b' not in ['a', 'b']", "false"),
        ("not ('b' in ['a', 'b'])", "false"),
        ("5 in 1..5", "true"),
        ("'k' in {k: 1}", "true"),
        ("1..3", "[1 2 3]"),
        ("name() matches '^w+[.]'", "true"),
        ("name() not matches '^x'", "true"),
        ("name() contains 'example' && name() startsWith 'www' && name() endsWith '.'", "true"),
        ("id() == 4711 || 1 % 0 == 1", "true"),
        ("if id() > 1 { 'yes' } else { 'no' }", "'yes'"),
        ("if id() > 9999 { 1 } else if id() > 4000 { 2 } else { 3 }", "2"),
        ("let a = 2; let b = a * 3; a + b", "8"),
        ("1; 2", "2"),
        ("2 /* two */ + 3 // three", "5"),
        ("name() | split('.') | first()", "'www'"),
        ("name() == 'x' || starts(name(), 'www')", "true"),
    ] {
        match value(text) {
            Ok(given) => assert_eq!(given, wanted, "{text}"),
            Err(error) => assert!(
                error.contains(wanted) || (wanted == "non-bool" && error.contains("type")),
                "{text}: {error}"
            ),
        }
    }
}

#[test]
fn places_in_texts_lists_and_maps() {
    for (text, wanted) in [
        ("[1, 2, 3][1]", "2"),
        ("[1, 2, 3][-1]", "3"),
        ("[1, 2, 3][1:]", "[2 3]"),
        ("[1, 2, 3][:-1]", "[1 2]"),
        ("'abcdef'[1:3]", "'bc'"),
        ("'abc'[0]", "'a'"),
        ("{a: 1, 'b': 2}.b", "2"),
        ("{a: {b: 7}}.a.b", "7"),
        ("{a: 1}?.b?.c", "nil"),
        ("{a: 1}['a']", "1"),
        ("get({a: 1}, 'x')", "nil"),
        ("get([1], 5)", "nil"),
    ] {
        assert_eq!(value(text).as_deref(), Ok(wanted), "{text}");
    }
}

#[test]
fn functions() {
    for (text, wanted) in [
        ("len('äb')", "2"),
        ("len([1, 2])", "2"),
        ("int('42') + int(1.9)", "43"),
        ("float('1.5')", "1.5"),
        ("string(1.5) + string(2) + string(true)", "'1.52true'"),
        ("trim('  a ') + trim('xax', 'x')", "'aa'"),
        ("trimPrefix('www.a', 'www.') + trimSuffix('a.b', '.b')", "'aa'"),
        ("upper('aé') + lower('ÀB')", "'AÉàb'"),
        ("split('a.b.c', '.')", "['a' 'b' 'c']"),
        ("split('a.b.c', '.', 2)", "['a' 'b.c']"),
        ("split('abc', '')", "['a' 'b' 'c']"),
        ("splitAfter('a.b', '.')", "['a.' 'b']"),
        ("replace('1-2-3', '-', '.')", "'1.2.3'"),
        ("replace('1-2-3', '-', '.', 1)", "'1.2-3'"),
        ("replace('ab', '', '-')", "'-a-b-'"),
        ("repeat('ab', 3)", "'ababab'"),
        ("join(['a', 'b'], '.') + join(['c', 'd'])", "'a.bcd'"),
        ("indexOf('abcb', 'b') + lastIndexOf('abcb', 'b') * 10 + indexOf('a', 'x') * 100", "-69"),
        ("hasPrefix('abc', 'ab') && hasSuffix('abc', 'bc')", "true"),
        ("max(1, 5, 3) + min([4, 2])", "7"),
        ("mean(1, 2)", "1.5"),
        ("abs(-5)", "5"),
        ("ceil(1.2) + floor(1.8) + round(2.5)", "6.0"),
        ("last([1, 2])", "2"),
        ("first([])", "nil"),
        ("take([1, 2, 3], 2)", "[1 2]"),
        ("reverse([1, 2])", "[2 1]"),
        ("concat([1], [2, 3])", "[1 2 3]"),
        ("keys({a: 1, b: 2})", "['a' 'b']"),
        ("values({a: 1, b: 2})", "[1 2]"),
        ("bitand(6, 3) + bitor(4, 1) + bitxor(7, 2) + bitshl(1, 4) + bitshr(16, 2)", "32"),
        ("all([1, 2], # > 0)", "true"),
        ("any(['a', 'b'], {# == 'b'})", "true"),
        ("none([1, 2], # > 2)", "true"),
        ("one([1, 2], # > 1)", "true"),
        ("filter(1..6, # % 2 == 0)", "[2 4 6]"),
        ("map(filter(['a', 'bb'], len(#) > 1), upper(#))", "['BB']"),
        ("map([{v: 1}, {v: 2}], .v)", "[1 2]"),
        ("map([5, 6], #index)", "[0 1]"),
        ("count([true, false, true])", "2"),
        ("count([1, 2, 3], # > 1)", "2"),
        ("sum([1, 2, 3])", "6"),
        ("sum([1, 2], # * 2)", "6"),
        ("find([1, 2, 3], # > 1)", "2"),
        ("findIndex([1, 2, 3], # > 1)", "1"),
        ("findLast([1, 2, 3], # > 1)", "3"),
        ("findLastIndex([1, 2, 3], # > 5)", "nil"),
        ("reduce([1, 2, 3], #acc + #)", "6"),
        ("reduce([1, 2, 3], #acc + #, 10)", "16"),
        ("all([[1], [2]], any(#, # > 0))", "true"),
    ] {
        assert_eq!(value(text).as_deref(), Ok(wanted), "{text}");
    }
}

#[test]
fn what_is_no_expression() {
    for (text, words, column) in [
        ("", "unexpected token EOF", 1),
        ("invalid expression", "unknown name invalid", 1),
        ("1 expression", "unexpected token Identifier(\"expression\")", 3),
        ("name() ==", "unexpected token EOF", 10),
        ("nothing()", "unknown name nothing", 1),
        ("now()", "function now is not built in", 1),
        ("name() == 1", "invalid operation: == (mismatched types string and int)", 8),
        ("name() + 1", "invalid operation: + (mismatched types string and int)", 8),
        ("!name()", "invalid operation: ! (mismatched type string)", 1),
        ("starts(name())", "not enough arguments to call starts", 1),
        ("name(1)", "too many arguments to call name", 1),
        ("starts(name(), 1)", "cannot use int as argument (type string) to call starts", 1),
        ("name() matches '('", "error parsing regexp", 8),
        ("name() matches name()", "string literal", 8),
        ("'a", "literal not terminated", 1),
        ("1x", "bad number syntax", 1),
        ("a ~ b", "unrecognized character", 3),
        ("1 ?? 2 + 3", "cannot be mixed", 8),
        ("name() ? 1 : 2", "non-bool expression (type string)", 8),
        ("filter([1], 1)", "predicate should return boolean", 1),
        ("let id = 1; id", "cannot redeclare variable id", 5),
        ("let len = 1; len", "cannot redeclare builtin len", 5),
        ("# > 1", "unexpected token", 1),
        ("[1, 2", "unexpected token EOF", 6),
    ] {
        let mut draft = Draft::new(FUNCTIONS);
        let error = draft.condition(text).expect_err(text);
        assert!(error.message.contains(words), "{text}: {error}");
        assert_eq!(error.column, column, "{text}: {error}");
    }
}

#[test]
fn variables_are_for_those_after_them() {
    let mut draft = Draft::new(FUNCTIONS);
    draft.variable("n", "len(name())").unwrap();
    assert!(draft.condition("double > 1").is_err());
    draft.variable("double", "let x = n; x * 2").unwrap();
    draft.condition("let y = n; double == 2 * y").unwrap();
    draft.condition("n == 16").unwrap();
    let program = draft.finish();
    let mut memory = Memory::new();
    for _ in 0..3 {
        assert_eq!(program.run(&Surroundings, &mut memory), Ok(true));
        assert_eq!(shown(memory.variable(1), &memory), "32");
    }
}

#[test]
fn runs_are_bounded() {
    let run = |text: &str| value(text).expect_err(text);
    assert_eq!(run("count(1..300, any(1..300, # < 0)) > 0"), Cause::Steps.to_string());
    assert_eq!(run("1..1000000"), Cause::Memory.to_string());
    assert_eq!(run("repeat(repeat('a', 1000), 1000)"), Cause::Memory.to_string());
    assert_eq!(run("1 % 0"), Cause::Zero.to_string());
    assert_eq!(run("[1][7]"), Cause::Index.to_string());
    assert_eq!(run("int('x')"), Cause::Text.to_string());
    assert_eq!(run("some() + 1"), Cause::Kind.to_string());
    let deep = format!("{}1{}", "(".repeat(200), ")".repeat(200));
    assert!(run(&deep).contains("too deeply"));
    assert!(run(&vec!["1"; 400].join("+")).contains("too deeply"));
}

#[test]
fn names_that_mean_something() {
    for name in ["len", "now", "true", "nil", "in", "not", "let", "filter"] {
        assert!(is_reserved(name), "{name}");
    }
    assert!(!is_reserved("ip") && !is_reserved("n2"));
}

proptest! {
    #[test]
    fn no_text_panics(text in "[ -~äß]{0,60}") {
        let _ = value(&text);
    }

    #[test]
    fn no_words_panic(words in prop::collection::vec(prop::sample::select(vec![
        "1", "-1", "2.5", "'a'", "'ä'", "name()", "id()", "some()", "[", "]", "(", ")", "{", "}",
        ",", ":", "?", "??", "?.", ".", "..", "+", "-", "*", "/", "%", "**", "==", "<", "in", "not",
        "and", "or", "!", "contains", "matches", "#", "#acc", "#index", "|", "len", "map", "filter",
        "reduce", "split", "replace", "let", "x", "=", ";", "if", "else", "get", "1..3", "nil",
    ]), 0..14)) {
        let _ = value(&words.join(" "));
    }

    #[test]
    fn sums_are_sums(numbers in prop::collection::vec(-1000i64..1000, 1..20)) {
        let text = numbers.iter().map(|n| format!("({n})")).collect::<Vec<_>>();
        let sum: i64 = numbers.iter().sum();
        prop_assert_eq!(value(&text.join(" + ")), Ok(sum.to_string()));
        let list = format!("sum([{}])", text.join(","));
        prop_assert_eq!(value(&list), Ok(sum.to_string()));
    }

    #[test]
    fn parts_of_a_text_join_to_it(text in "[a-c.ä]{0,20}") {
        let quoted = format!("'{text}'");
        prop_assert_eq!(value(&format!("join(split({quoted}, '.'), '.')")), Ok(quoted.clone()));
        prop_assert_eq!(value(&format!("replace({quoted}, 'a', 'a')")), Ok(quoted));
    }
}
