//! The `corelane` program: flags, sub-commands, control, workers, drain.

fn main() {}
