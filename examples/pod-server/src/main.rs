//! The program; `lib.rs` says what it is and how to run it.

fn main() -> std::process::ExitCode {
    pod_server::main()
}
