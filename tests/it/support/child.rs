//! Tests that need a process of their own.

use std::{
    any::type_name_of_val,
    env,
    process::{Command, Stdio},
};

/// Runs a test in a child process, which is this program again with the name of the test, taken
/// from the closure `test`.
///
/// Use this for a test that would abort the process if it failed, or that changes a limit of the
/// process.
pub(crate) fn in_own_process<F: FnOnce()>(test: F) {
    const INSIDE: &str = "WSSTREAM_TEST_INSIDE";

    let name = type_name_of_val(&test);
    let name = name.strip_prefix("it::").expect("a test of this program");
    let name = name.strip_suffix("::{{closure}}").expect("a closure");
    if env::var(INSIDE).is_ok_and(|inside| inside == name) {
        return test();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", name])
        .env(INSIDE, name)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{}: {text}", output.status);
    assert!(text.contains("1 passed"), "{name} was not run: {text}");
}
