//! Tests that need a process of their own.

use std::{
    any::type_name_of_val,
    env,
    process::{Command, Stdio},
};

/// Runs a test in a child process, which is this program again with the name of the test, taken
/// from the closure `test`. bash runs `prepare` first, and becomes the child.
///
/// Use this for a test that changes a limit or the signals of its process.
pub(crate) fn in_own_process<F: AsyncFnOnce()>(prepare: &str, test: F) {
    const INSIDE: &str = "POD_SERVER_TEST_INSIDE";

    let name = type_name_of_val(&test);
    let name = name
        .strip_prefix("pod_server::")
        .expect("a test of this program");
    let name = name.strip_suffix("::{{closure}}").expect("a closure");
    if env::var(INSIDE).is_ok_and(|inside| inside == name) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        return runtime.enable_all().build().unwrap().block_on(test());
    }
    let script = format!("{prepare}\nexec \"$0\" --exact \"$1\"");
    let output = Command::new("bash")
        .args(["-c", &script])
        .args([env::current_exe().unwrap().as_os_str(), name.as_ref()])
        .env(INSIDE, name)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success(), "{}: {text}", output.status);
    assert!(text.contains("1 passed"), "{name} was not run: {text}");
}
