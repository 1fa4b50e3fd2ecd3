use std::{borrow::Cow, ffi::OsString, fmt};

use crate::{
    query::{pairs, unescape_bytes},
    rejection::Rejection,
};

/// The parameters of exec or attach, from the query of the request's URL.
///
/// Kubernetes has two dialects, each with its own rule for flags:
///
/// | dialect | input, output, error output | a flag is set |
/// |---|---|---|
/// | API server | `stdin`, `stdout`, `stderr` | unless it is absent, `0`, or `false` in upper or lower case: `?stdout` and `stdout=` set it |
/// | kubelet, container runtime | `input`, `output`, `error` | if it is `1` |
///
/// A query is in the API server's dialect, unless it names streams, and only by the kubelet's
/// names. `tty`, `command` (which may be repeated) and `container` are the same in both, and `tty`
/// follows the rule of the dialect. The first of several values wins, and unknown parameters are
/// ignored.
///
/// `Debug` shows the program but not its arguments, which may contain passwords.
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
    /// The program and its arguments. Empty for attach.
    ///
    /// Like a file name, an argument may consist of any bytes, which you can pass to
    /// [`std::process::Command`] unchanged. Where arguments have to be text, as in a request to a
    /// container runtime, use [`command_str`](Self::command_str).
    pub command: Vec<OsString>,
    /// The container of the pod. If it is `None`, the server chooses one.
    pub container: Option<String>,
    /// Set if the client sends input.
    pub stdin: bool,
    /// Set if the client wants the output.
    pub stdout: bool,
    /// Set if the client wants the error output separately. This is never set with `tty`, where the
    /// terminal's output contains both.
    pub stderr: bool,
    /// Set if the command runs in a terminal.
    pub tty: bool,
}

impl Options {
    /// Parses the query of a request, which is the part of the URL after the `?`.
    ///
    /// `tty` turns `stderr` off, as in Go. `+` and `%20` both stand for a space.
    ///
    /// # Errors
    ///
    /// Returns a [`Rejection`] with 400 if
    ///
    /// * the client asks for none of stdin, stdout and stderr, or only for `stderr` with `tty`;
    /// * a known parameter has a malformed escape;
    /// * `container` is not UTF-8;
    /// * an argument of the command is not UTF-8, on systems other than Unix.
    pub fn from_query(query: &str) -> Result<Self, Rejection> {
        let parameters = parameters(query)?;
        let first = |name: &str| {
            let mut values = parameters.iter().filter(|(known, _)| *known == name);
            values.next().map(|(_, value)| &**value)
        };
        let dialect = Dialect::of(|name| first(name).is_some());
        let flag = |name| first(name).is_some_and(|value| dialect.is_set(value));

        let [stdin, stdout, stderr] = dialect.streams().map(flag);
        let tty = flag("tty");
        let stderr = stderr && !tty;
        if !(stdin || stdout || stderr) {
            return Err(Rejection::bad_request(
                "ask for at least one of stdin, stdout and stderr, for example with stdout=true (stderr is off with tty)",
            ));
        }
        let container = match first("container").map(str::from_utf8) {
            Some(Ok(name)) => Some(name.to_owned()).filter(|name| !name.is_empty()),
            Some(Err(_)) => return Err(not_text("container")),
            None => None,
        };
        let command = parameters
            .into_iter()
            .filter(|(name, _)| *name == "command")
            .map(|(name, value)| argument(value.into_owned()).ok_or_else(|| not_text(name)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            command,
            container,
            stdin,
            stdout,
            stderr,
            tty,
        })
    }

    /// Returns the program and its arguments as text.
    ///
    /// This is for servers that pass a command on as strings, as the container runtime interface
    /// requires. A service may return the error unchanged.
    ///
    /// # Errors
    ///
    /// Returns a [`Rejection`] with 400 if an argument is not UTF-8. Its text contains the number of
    /// that argument; the program is number 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_wsstream::remotecommand::Options;
    ///
    /// let options = Options::from_query("command=ls&command=%ff&stdout=true")?;
    /// let refused = options.command_str().unwrap_err();
    /// assert_eq!(refused.status(), 400);
    /// # Ok::<(), tower_wsstream::Rejection>(())
    /// ```
    pub fn command_str(&self) -> Result<Vec<&str>, Rejection> {
        let text = |(number, argument)| {
            OsString::as_os_str(argument).to_str().ok_or_else(|| {
                Rejection::bad_request(format!(
                    "argument {number} of the command is not UTF-8, which this server needs"
                ))
            })
        };
        self.command.iter().enumerate().map(text).collect()
    }
}

/// The names of the streams and the rule for flags that a Kubernetes server uses.
#[derive(Clone, Copy)]
enum Dialect {
    /// The dialect of the generated conversions in apimachinery: `Convert_Slice_string_To_bool`.
    ApiServer,
    /// The dialect of `NewOptions` in the streaming server that kubelets and runtimes share.
    Kubelet,
}

impl Dialect {
    const ALL: [Self; 2] = [Self::ApiServer, Self::Kubelet];

    /// Returns the dialect of a query that has the parameters for which `names` returns `true`.
    fn of(names: impl Fn(&str) -> bool) -> Self {
        let speaks = |dialect: Self| dialect.streams().into_iter().any(&names);
        if speaks(Self::Kubelet) && !speaks(Self::ApiServer) {
            Self::Kubelet
        } else {
            Self::ApiServer
        }
    }

    /// Returns the names of the parameters for input, output and error output.
    fn streams(self) -> [&'static str; 3] {
        match self {
            Self::ApiServer => ["stdin", "stdout", "stderr"],
            Self::Kubelet => ["input", "output", "error"],
        }
    }

    /// Returns whether a flag with this value is set.
    fn is_set(self, value: &[u8]) -> bool {
        match self {
            Self::ApiServer => value != b"0" && !value.eq_ignore_ascii_case(b"false"),
            Self::Kubelet => value == b"1",
        }
    }
}

/// The name of a known parameter, and its unescaped value.
type Parameter<'a> = (&'static str, Cow<'a, [u8]>);

/// Returns the name of a parameter if it is known.
fn known(name: &str) -> Option<&'static str> {
    let streams = Dialect::ALL.into_iter().flat_map(Dialect::streams);
    let mut known = ["command", "container", "tty"].into_iter().chain(streams);
    known.find(|known| *known == name)
}

/// Returns the known parameters, in order.
fn parameters(query: &str) -> Result<Vec<Parameter<'_>>, Rejection> {
    let mut parameters = Vec::new();
    for (name, value) in pairs(query) {
        // The value of an unknown parameter, which a proxy may have added, is not examined.
        if let Some(name) = known(&name) {
            let value = unescape_bytes(value).ok_or_else(|| bad_escape(name))?;
            parameters.push((name, value));
        }
    }
    Ok(parameters)
}

/// Creates an argument of the command, which may consist of any bytes on Unix. The trait is part of
/// std, so it adds no dependency.
#[cfg(unix)]
fn argument(bytes: Vec<u8>) -> Option<OsString> {
    Some(std::os::unix::ffi::OsStringExt::from_vec(bytes))
}

#[cfg(not(unix))]
fn argument(bytes: Vec<u8>) -> Option<OsString> {
    String::from_utf8(bytes).ok().map(OsString::from)
}

// The texts contain the names of parameters, which are our own constants, but never their values.

fn bad_escape(name: &str) -> Rejection {
    Rejection::bad_request(format!(
        "the query parameter {name:?} has a malformed escape: send each byte as % and two hex digits"
    ))
}

fn not_text(name: &str) -> Rejection {
    Rejection::bad_request(format!("the query parameter {name:?} is not UTF-8"))
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
        // The JavaScript client sends `false` for streams that it does not want, kube-rs begins
        // with an ampersand, and Python writes a capital.
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
    fn the_first_of_several_values_counts() {
        assert_eq!(
            streams("stdout=1&stdin=0&stdin=1"),
            (false, true, false, false)
        );
        assert_eq!(
            streams("output=1&input=0&input=1&error&error=1"),
            (false, true, false, false)
        );
    }

    #[test]
    fn the_api_servers_flags_are_off_only_when_absent_false_or_0() {
        for stdout in [
            "stdout",
            "stdout=",
            "stdout=yes",
            "stdout=true",
            "stdout=%ff",
        ] {
            assert_eq!(streams(stdout), (false, true, false, false), "{stdout}");
        }
        for off in ["false", "False", "FALSE", "0"] {
            let query = format!("stdin=1&stdout={off}&tty={off}");
            assert_eq!(streams(&query), (true, false, false, false), "{off}");
        }
        assert_eq!(streams("stdout=&tty"), (false, true, false, true));
    }

    #[test]
    fn the_kubelets_flags_are_on_only_when_1() {
        for off in ["", "=", "=0", "=true", "=yes", "=01", "=1+"] {
            let query = format!("output=1&input{off}&error{off}&tty{off}");
            assert_eq!(streams(&query), (false, true, false, false), "{off}");
        }
    }

    #[test]
    fn a_query_speaks_one_dialect() {
        assert_eq!(
            streams("stdout=1&input=1&output=1&error=1"),
            (false, true, false, false)
        );
        assert_eq!(
            streams("output=1&stdin=0&stdout=true"),
            (false, true, false, false)
        );
        assert_eq!(streams("output=1&tty=true"), (false, true, false, false));
        assert_eq!(
            streams("stdout=1&output=1&tty=true"),
            (false, true, false, true)
        );
    }

    #[cfg(unix)]
    #[test]
    fn an_argument_may_be_any_bytes() {
        use std::os::unix::ffi::OsStrExt;

        let query = "stdout=1&command=%ff&command=a%c3+%00&command=caf%c3%a9";
        let options = Options::from_query(query).unwrap();
        let bytes: Vec<_> = options.command.iter().map(|a| a.as_bytes()).collect();
        assert_eq!(bytes, [&b"\xff"[..], b"a\xc3 \0", "caf\u{e9}".as_bytes()]);
    }

    #[cfg(unix)]
    #[test]
    fn a_command_is_text_or_says_where_it_is_not() {
        let read = |query: &str| Options::from_query(query).unwrap();
        let text = read("stdout=1&command=caf%c3%a9&command=");
        assert_eq!(text.command_str().unwrap(), ["caf\u{e9}", ""]);
        assert!(read("stdout=1").command_str().unwrap().is_empty());
        for (query, number) in [("command=%ff", 0), ("command=a&command=%c3&command=%ff", 1)] {
            let options = read(&format!("stdout=1&{query}"));
            let refused = options.command_str().unwrap_err();
            assert_eq!(refused.status(), 400);
            let message = refused.message();
            assert!(
                message.contains(&format!("argument {number} ")),
                "{message}"
            );
        }
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
        for value in ["%", "%4", "%zz", "%+1"] {
            for name in ["command", "container", "stdout", "tty"] {
                let query = format!("stdout=1&{name}={value}");
                assert!(refusal(&query).contains(&format!("{name:?}")), "{query}");
            }
            assert!(Options::from_query(&format!("stdout=1&other={value}")).is_ok());
            assert!(Options::from_query(&format!("stdout=1&{value}=1")).is_ok());
        }
    }

    #[test]
    fn a_container_is_text() {
        assert!(refusal("stdout=1&container=%ff").contains("\"container\""));
        assert!(Options::from_query("stdout=1&container=a&container=%ff").is_ok());
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
            prop_assert_eq!(options.command_str().unwrap(), [argument]);
        }
    }
}
