//! The format's own tests: a runner that accepts everything would prove nothing.

use libtest_mimic::{Failed, Trial};

use crate::script::{Action, Ask, Edns, Step, fits, line_fits, parse};

/// The tests of the format.
pub fn trials() -> Vec<Trial> {
    let tests: [(&str, fn()); 5] = [
        ("a_case_is_its_steps_and_files", a_case_is_its_steps_and_files),
        ("queries_have_words", queries_have_words),
        ("faults_name_their_line", faults_name_their_line),
        ("lines_fit_word_by_word", lines_fit_word_by_word),
        ("replies_fit_as_a_whole", replies_fit_as_a_whole),
    ];
    let trial = |(name, test): (&str, fn())| {
        Trial::test(format!("format/{name}"), move || {
            test();
            Ok::<(), Failed>(())
        })
    };
    tests.into_iter().map(trial).collect()
}

fn a_case_is_its_steps_and_files() {
    let text = "# why\n\n> a.test. A\n< NOERROR aa\n< answer a.test. 5 IN A 192.0.2.1\n\
                $ copy b a\n$ signal USR1\n$ log some words\n$ fails 1\n< text\n\
                -- Corefile --\n. {\n}\n\n-- a --\n> not a query\n";
    let case = parse(text).unwrap();
    let step = |line, action, expected: &[&str]| Step {
        line,
        action,
        expected: expected.iter().map(|&text| text.to_owned()).collect(),
    };
    let ask = Ask { name: "a.test.".into(), rtype: "A".into(), ..Ask::default() };
    assert_eq!(
        case.steps,
        [
            step(3, Action::Ask(ask), &["NOERROR aa", "answer a.test. 5 IN A 192.0.2.1"]),
            step(6, Action::Copy { from: "b".into(), to: "a".into() }, &[]),
            step(7, Action::Signal("USR1".into()), &[]),
            step(8, Action::Log("some words".into()), &[]),
            step(9, Action::Fails(1), &["text"]),
        ]
    );
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(case.files, [file("Corefile", ". {\n}\n\n"), file("a", "> not a query\n")]);
}

fn queries_have_words() {
    let query = |words: &str| {
        let text = format!("> a. TXT {words}\n< silence\n-- Corefile --\n");
        match parse(&text).unwrap().steps.remove(0).action {
            Action::Ask(ask) => ask,
            other => panic!("{other:?}"),
        }
    };
    let all =
        query("tcp cd ad norec ordered eventually class=CH opcode=NOTIFY port=P1 size=512 do");
    assert!(all.tcp && all.cd && all.ad && all.norec && all.ordered && all.eventually);
    assert_eq!(all.class.as_deref(), Some("CH"));
    assert_eq!(all.opcode.as_deref(), Some("NOTIFY"));
    assert_eq!(all.port.as_deref(), Some("P1"));
    assert_eq!(all.edns, Some(Edns { size: 512, dnssec_ok: true, nsid: false }));
    assert_eq!(query("").edns, None);
    assert_eq!(query("edns").edns, Some(Edns::default()));
    assert_eq!(query("nsid").edns, Some(Edns { nsid: true, ..Edns::default() }));
}

fn faults_name_their_line() {
    for (text, fault) in [
        ("> a.\n", "line 1: a query is"),
        ("\n> a. A frob\n", "line 2: `frob`"),
        ("> a. A size=x\n", "line 1: `size=x`"),
        ("< NOERROR\n", "line 1: `<` before"),
        ("hello\n", "line 1: `hello`"),
        ("$ frob a\n", "line 1: `$ frob a`"),
        ("$ fails x\n", "line 1: `x`"),
        ("> a. A\n-- Corefile --\n", "line 1: a query without"),
        ("-- Corefile --\n> a. A\n", "nothing is asked"),
        ("> a. A\n< silence\n", "no `-- Corefile --`"),
    ] {
        let found = parse(text).unwrap_err();
        assert!(found.starts_with(fault), "{text:?}: {found}");
    }
}

fn lines_fit_word_by_word() {
    for (want, have, fit) in [
        ("a 5 IN A", "a  5 IN A", true),
        ("a * IN A", "a 5 IN A", true),
        ("a ...", "a 5 IN A", true),
        ("a * IN", "a 5 IN A", false),
        ("a * IN A *", "a 5 IN A", false),
        ("a 5 IN A", "A 5 IN A", false),
    ] {
        assert_eq!(line_fits(want, have), fit, "{want} / {have}");
    }
}

fn replies_fit_as_a_whole() {
    let lines = |text: &str| text.split('|').map(str::to_owned).collect::<Vec<_>>();
    let fit = |want: &str, have: &str, ordered| fits(&lines(want), &lines(have), ordered);
    assert!(fit("a|b", "b|a", false));
    assert!(!fit("a|b", "b|a", true));
    assert!(!fit("a|a", "a|b", false));
    assert!(!fit("a", "a|b", false));
    assert!(fit("* x|a x", "a x|b x", false));
    assert!(fit("a|...", "a", false) && fit("a|...", "b|a", false) && fit("a|...", "a|b", true));
    assert!(!fit("a|...", "b|c", false) && !fit("a|...", "b|a", true));
}
