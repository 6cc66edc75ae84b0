//! What lies in `deploy/`: rendered by the programs that operators use, held to the API's schemas, to
//! each other and to this program. `tests/deploy/check.py` does it and says what it skips.

#![allow(clippy::disallowed_macros, reason = "a test says on its output what it skips")]

use std::path::Path;
use std::process::Command;

#[test]
fn what_is_deployed_holds_together() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".venv/bin/python");
    if !python.exists() {
        println!("skipped: deploy: no Python environment (make test makes it)");
        return;
    }
    let done = Command::new(python)
        .arg(root.join("tests/deploy/check.py"))
        .arg(env!("CARGO_BIN_EXE_corelane"))
        .output()
        .expect("python starts");
    let said = String::from_utf8_lossy(&done.stdout);
    println!("{said}");
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
}
