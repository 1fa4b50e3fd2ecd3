//! What the client of exec and attach asks for, in the query of its URL.

use std::fmt;

use crate::{handshake::Rejection, query::unescape};

/// What a client of exec or attach asked for.
///
/// Both dialects are read: the API server's `stdin`, `stdout`, `stderr`, `tty`,
/// and the `input`, `output`, `error`, `tty` of kubelets and container
/// runtimes; `command` (repeated) and `container` are the same in both. A flag
/// is set by `true`, in any case, or `1`; any other value leaves it off. The
/// first of several wins. Unknown parameters are ignored.
///
/// Its `Debug` shows the program but not its arguments, which may hold
/// passwords.
///
/// # Examples
///
/// ```
/// use tower_wsstream::remotecommand::Options;
///
/// let options = Options::from_query("command=ls&command=-l+%2Ftmp&stdout=true&container=web")?;
/// assert_eq!(options.command, ["ls", "-l /tmp"]);
/// assert_eq!(options.container.as_deref(), Some("web"));
/// assert!(options.stdout && !options.stdin);
/// # Ok::<(), tower_wsstream::Rejection>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The program and its arguments; empty on attach.
    pub command: Vec<String>,
    /// The container of the pod; `None` leaves the choice to the server.
    pub container: Option<String>,
    /// Whether the client sends input.
    pub stdin: bool,
    /// Whether the client wants the output.
    pub stdout: bool,
    /// Whether the client wants the error output apart; never with `tty`,
    /// where one terminal carries both.
    pub stderr: bool,
    /// Whether the command runs in a terminal.
    pub tty: bool,
}

impl Options {
    /// Reads the query of a request, the part behind the `?`.
    ///
    /// `tty` turns `stderr` off, as in Go. `+` and `%20` are both a space.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] with 400: none of stdin, stdout and stderr is asked for
    /// (`tty` with `stderr` alone leaves none), or a parameter that we need has
    /// an escape that is malformed or not UTF-8.
    pub fn from_query(query: &str) -> Result<Self, Rejection> {
        let mut command = Vec::new();
        let mut container = None;
        let (mut stdin, mut stdout, mut stderr, mut tty) = (None, None, None, None);

        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // A name that cannot be decoded is none of ours, and a value is
            // looked at only if its name is: what a proxy added for its own
            // use is not ours to judge.
            let Some(name) = unescape(name) else { continue };
            let value = || unescape(value).ok_or_else(|| bad_escape(&name));
            let flag = match &*name {
                "command" => {
                    command.push(value()?.into_owned());
                    continue;
                }
                "container" => {
                    container.get_or_insert(value()?.into_owned());
                    continue;
                }
                "stdin" | "input" => &mut stdin,
                "stdout" | "output" => &mut stdout,
                "stderr" | "error" => &mut stderr,
                "tty" => &mut tty,
                _ => continue,
            };
            flag.get_or_insert(is_set(&value()?));
        }

        let tty = tty.unwrap_or(false);
        let options = Self {
            command,
            container: container.filter(|name| !name.is_empty()),
            stdin: stdin.unwrap_or(false),
            stdout: stdout.unwrap_or(false),
            stderr: stderr.unwrap_or(false) && !tty,
            tty,
        };
        if !(options.stdin || options.stdout || options.stderr) {
            return Err(Rejection::bad_request(
                "ask for at least one of stdin, stdout and stderr, for example with stdout=true (stderr is off with tty)",
            ));
        }
        Ok(options)
    }
}

/// Any case, because some languages print their booleans as `True`.
fn is_set(value: &str) -> bool {
    value == "1" || value.eq_ignore_ascii_case("true")
}

fn bad_escape(name: &str) -> Rejection {
    // The name is one of the constants above; the value is not repeated.
    Rejection::bad_request(format!(
        "the query parameter {name:?} has a malformed escape: send UTF-8, each byte as % and two hex digits"
    ))
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("program", &self.command.first())
            .field("arguments", &self.command.len().saturating_sub(1))
            .field("container", &self.container)
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .field("tty", &self.tty)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn streams(query: &str) -> (bool, bool, bool, bool) {
        let options = Options::from_query(query).unwrap();
        (options.stdin, options.stdout, options.stderr, options.tty)
    }

    fn refusal(query: &str) -> String {
        let rejection = Options::from_query(query).unwrap_err();
        assert_eq!(rejection.status(), 400);
        rejection.message().to_owned()
    }

    #[test]
    fn the_api_servers_dialect() {
        assert_eq!(
            streams("stdin=true&stdout=true&stderr=true"),
            (true, true, true, false)
        );
        assert_eq!(streams("stdin=1&stdout=1&tty=1"), (true, true, false, true));
    }

    #[test]
    fn the_kubelets_dialect() {
        assert_eq!(
            streams("input=1&output=1&error=1"),
            (true, true, true, false)
        );
        assert_eq!(streams("input=1&output=1&tty=1"), (true, true, false, true));
    }

    #[test]
    fn real_clients() {
        // The JavaScript client says what it does not want, kube-rs begins
        // with an ampersand, Python prints a capital.
        assert_eq!(
            streams("stdin=false&stdout=true"),
            (false, true, false, false)
        );
        assert_eq!(
            streams("&stdout=true&command=ls"),
            (false, true, false, false)
        );
        assert_eq!(
            streams("stdin=True&stdout=True&tty=False"),
            (true, true, false, false)
        );
    }

    #[test]
    fn other_values_leave_a_flag_off_and_the_first_one_counts() {
        assert_eq!(
            streams("stdout=1&stdin=&stderr=yes&tty=0"),
            (false, true, false, false)
        );
        assert_eq!(
            streams("stdout=1&stdin=0&stdin=1"),
            (false, true, false, false)
        );
        assert_eq!(streams("stdout=1&stdin"), (false, true, false, false));
    }

    #[test]
    fn tty_turns_stderr_off() {
        assert_eq!(
            streams("stdin=1&stdout=1&stderr=1&tty=1"),
            (true, true, false, true)
        );
        assert!(refusal("stderr=1&tty=1").contains("tty"));
    }

    #[test]
    fn one_stream_at_least() {
        for query in [
            "",
            "&",
            "command=ls",
            "stdin=false&stdout=false",
            "tty=true",
        ] {
            assert!(refusal(query).contains("stdout=true"), "{query:?}");
        }
    }

    #[test]
    fn commands_keep_their_order_and_their_spaces() {
        let query = "command=sh&stdout=1&command=-c&command=echo+%22a%20b%22%3b+%2B&command=";
        let options = Options::from_query(query).unwrap();
        assert_eq!(options.command, ["sh", "-c", "echo \"a b\"; +", ""]);
    }

    #[test]
    fn a_container_is_optional() {
        let container = |query| Options::from_query(query).unwrap().container;
        assert_eq!(container("stdout=1"), None);
        assert_eq!(container("stdout=1&container="), None);
        assert_eq!(
            container("stdout=1&container=main").as_deref(),
            Some("main")
        );
        assert_eq!(
            container("stdout=1&container=a&container=b").as_deref(),
            Some("a")
        );
    }

    #[test]
    fn names_may_be_escaped() {
        assert_eq!(streams("std%6fut=true"), (false, true, false, false));
    }

    #[test]
    fn malformed_escapes_are_refused_where_they_matter() {
        for value in ["%", "%4", "%zz", "%+1", "%ff", "a%c3"] {
            assert!(refusal(&format!("stdout=1&command={value}")).contains("\"command\""));
            assert!(refusal(&format!("stdout={value}")).contains("\"stdout\""));
            assert!(Options::from_query(&format!("stdout=1&other={value}")).is_ok());
            assert!(Options::from_query(&format!("stdout=1&{value}=1")).is_ok());
        }
    }

    #[test]
    fn debug_hides_the_arguments() {
        let options = Options::from_query("command=mysql&command=-phunter2&stdout=1").unwrap();
        let debug = format!("{options:?}");
        assert!(
            debug.contains("mysql") && !debug.contains("hunter2"),
            "{debug}"
        );
    }

    proptest! {
        #[test]
        fn any_query_is_answered(query in "[a-z0-9=&%+;]{0,64}|.{0,64}") {
            let _ = Options::from_query(&query);
        }

        #[test]
        fn any_argument_survives_its_escaping(argument in ".{0,32}") {
            let escaped: String = argument.bytes().map(|b| format!("%{b:02x}")).collect();
            let options = Options::from_query(&format!("stdout=1&command={escaped}")).unwrap();
            prop_assert_eq!(&options.command, &[argument]);
        }
    }
}
