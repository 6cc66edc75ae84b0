//! What the fuzz target of expressions checks of any octets; `tests/fuzz_replay_expression.rs` runs the
//! same on the seeds.

use std::fmt::Write as _;

use corelane::expression::{Cause, Draft, Environment, Function, Kind, Memory, Program, Value};
use corelane::limits::{EXPRESSION_MEMORY_BYTES_MAX, EXPRESSION_VALUES_MAX};

/// One of each kind: a text, a number, what takes texts, what gives anything, what fails.
const FUNCTIONS: &[Function] = &[
    Function { name: "name", takes: &[], gives: Kind::Text },
    Function { name: "id", takes: &[], gives: Kind::Int },
    Function { name: "starts", takes: &[Kind::Text, Kind::Text], gives: Kind::Bool },
    Function { name: "some", takes: &[], gives: Kind::Any },
    Function { name: "broken", takes: &[Kind::Any], gives: Kind::Any },
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
            (0, []) => memory.make(|out| out.write_str("www.exämple.org.")),
            (1, []) => Ok(Value::Int(4711)),
            (2, [Value::Text(one), Value::Text(other)]) => {
                Ok(Value::Bool(memory.text(*one).starts_with(memory.text(*other))))
            }
            (3, []) => Ok(Value::Nil),
            (4, [_]) => Err(Cause::Text),
            _ => panic!("function {function} with {arguments:?}"),
        }
    }
}

/// Lines are variables, the last one a condition. Reading ends, and a fault has a place in its line;
/// a run ends within its bounds, and gives the same again.
pub fn expression(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut draft = Draft::new(FUNCTIONS);
    let (variables, condition) = text.rsplit_once('\n').unwrap_or(("", text));
    for (at, line) in variables.lines().enumerate() {
        match draft.variable(&format!("v{at}"), line) {
            Ok(()) => {}
            Err(error) => return assert!(error.column <= line.chars().count() + 1, "{error}"),
        }
    }
    if let Err(error) = draft.condition(condition) {
        return assert!(error.column <= condition.chars().count() + 1, "{error}");
    }
    let program = draft.finish();
    let (mut first, mut again) = (Memory::new(), Memory::new());
    let outcome = program.run(&Surroundings, &mut first);
    // What a run before has left is nothing to the next.
    let _ = program.run(&Surroundings, &mut again);
    assert_eq!(outcome, program.run(&Surroundings, &mut again));
    assert!(first.all().len() <= EXPRESSION_VALUES_MAX);
    assert_eq!(values(&program, &first), values(&program, &again));
}

/// What the variables hold, their texts whole.
fn values(program: &Program, memory: &Memory) -> Vec<String> {
    let shown = |at| match memory.variable(at) {
        Value::Text(text) => {
            assert!(text.range().end <= EXPRESSION_MEMORY_BYTES_MAX);
            memory.text(text).to_owned()
        }
        Value::List(list) | Value::Map(list) => {
            assert!(list.range().end <= memory.all().len());
            format!("{} values", memory.list(list).len())
        }
        // A number that is none equals nothing, itself included.
        other => format!("{other:?}"),
    };
    (0..program.names().len()).map(shown).collect()
}
