use http::{Request, Uri};

use crate::{
    ChannelType, ProtocolSource as _, portforward,
    portforward::ports,
    remotecommand::{self, Options},
};

/// The names that exec and attach know.
const KNOWN: [&str; 9] = [
    "command",
    "container",
    "tty",
    "stdin",
    "stdout",
    "stderr",
    "input",
    "output",
    "error",
];

/// The most ports of a request.
const MOST: usize = 127;

/// Reads the query of an exec and of a port-forward.
pub fn query(input: &[u8]) {
    let query = String::from_utf8_lossy(input);
    let options = Options::from_query(&query);
    let expected = expected_options(&query);
    assert_eq!(options.is_ok(), expected.is_some());
    if let (Ok(options), Some(expected)) = (&options, &expected) {
        let command = options
            .command
            .iter()
            .map(|argument| argument.as_encoded_bytes());
        assert!(command.eq(expected.command.iter().map(|argument| &argument[..])));
        let is_text = expected
            .command
            .iter()
            .all(|argument| std::str::from_utf8(argument).is_ok());
        assert_eq!(options.command_str().is_ok(), is_text);
        assert_eq!(options.container, expected.container);
        let flags = [options.stdin, options.stdout, options.stderr, options.tty];
        assert_eq!(flags, expected.flags);
        check_shown(options);
    }
    let ports = ports(&query).ok();
    let expected = expected_ports(&query);
    let numbers = ports.map(|ports| ports.into_iter().map(|port| port.get()).collect::<Vec<_>>());
    assert_eq!(numbers, expected);
    check_tables(&query, options.ok(), numbers);
}

/// An argument of a command may be a password, so that none is shown.
fn check_shown(options: &Options) {
    const SECRET: &str = "hunter2";
    let shown = format!("{options:?}");
    let holds = |text: &str| text.contains(SECRET);
    let is_open = options.container.as_deref().is_some_and(holds)
        || options
            .command
            .first()
            .is_some_and(|program| holds(&program.to_string_lossy()));
    assert!(is_open || !shown.contains(SECRET));
}

/// The channels of a request are those that its query asks for.
fn check_tables(query: &str, options: Option<Options>, ports: Option<Vec<u16>>) {
    let Ok(uri) = format!("/?{query}").parse::<Uri>() else {
        return;
    };
    // The query ends at a #.
    if uri.query() != Some(query) {
        return;
    }
    let (head, ()) = Request::get(uri)
        .body(())
        .expect("it is valid")
        .into_parts();
    let exec = remotecommand::Protocols::default().protocols(&head);
    assert_eq!(exec.is_ok(), options.is_some());
    if let (Ok(table), Some(options)) = (exec, options) {
        let (_, v5) = table.get("v5.channel.k8s.io").expect("it is always there");
        let or_ignored = |wanted, kind| if wanted { kind } else { ChannelType::Ignore };
        let expected = [
            or_ignored(options.stdin, ChannelType::Read),
            or_ignored(options.stdout, ChannelType::Write),
            or_ignored(options.stderr, ChannelType::Write),
            ChannelType::Write,
            or_ignored(options.tty, ChannelType::Read),
        ];
        assert_eq!(v5.channels(), expected);
    }
    let forward = portforward::Protocols::default().protocols(&head);
    assert_eq!(forward.is_ok(), ports.is_some());
    if let (Ok(table), Some(ports)) = (forward, ports) {
        let (_, v4) = table.get("v4.channel.k8s.io").expect("it is always there");
        assert_eq!(v4.channels().len(), 2 * ports.len());
    }
}

/// Returns the parameters of these names in order, with their values, of which a malformed one is
/// `None`.
fn parameters(query: &str, names: &[&'static str]) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let mut parameters = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = plain(name).unwrap_or_default();
        let known = names.iter().find(|known| known.as_bytes() == name);
        parameters.extend(known.map(|known| (*known, plain(value))));
    }
    parameters
}

/// Undoes the escapes of a form.
fn plain(text: &str) -> Option<Vec<u8>> {
    let text = text.replace('+', " ");
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let digits = part.get(..2)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        plain.push(u8::from_str_radix(digits, 16).ok()?);
        plain.extend_from_slice(&part.as_bytes()[2..]);
    }
    Some(plain)
}

struct Expected {
    command: Vec<Vec<u8>>,
    container: Option<String>,
    flags: [bool; 4],
}

fn expected_options(query: &str) -> Option<Expected> {
    let mut values = Vec::new();
    for (name, value) in parameters(query, &KNOWN) {
        values.push((name, value?));
    }
    let first = |name: &str| {
        values
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    };
    let names_any = |names: [&str; 3]| names.into_iter().any(|name| first(name).is_some());
    let server = ["stdin", "stdout", "stderr"];
    let kubelet = ["input", "output", "error"];
    let is_kubelet = names_any(kubelet) && !names_any(server);
    let flag = |name: &str| {
        first(name).is_some_and(|value| match is_kubelet {
            true => value == b"1",
            false => value != b"0" && !value.eq_ignore_ascii_case(b"false"),
        })
    };
    let [stdin, stdout, stderr] = if is_kubelet { kubelet } else { server }.map(flag);
    let tty = flag("tty");
    let stderr = stderr && !tty;
    let container = match first("container") {
        Some(name) => Some(String::from_utf8(name.clone()).ok()?).filter(|name| !name.is_empty()),
        None => None,
    };
    let command = values.iter().filter(|(name, _)| *name == "command");
    let command = command.map(|(_, value)| value.clone()).collect();
    (stdin || stdout || stderr).then_some(Expected {
        command,
        container,
        flags: [stdin, stdout, stderr, tty],
    })
}

fn expected_ports(query: &str) -> Option<Vec<u16>> {
    let mut ports = Vec::new();
    for (_, list) in parameters(query, &["ports", "port"]) {
        let list = String::from_utf8(list?).ok()?;
        for port in list.split(',') {
            let digits = port.trim_start_matches('0');
            let is_number = port.chars().all(|digit| digit.is_ascii_digit());
            if !is_number || digits.is_empty() || digits.len() > 5 {
                return None;
            }
            let port: u32 = digits.parse().ok()?;
            ports.push(u16::try_from(port).ok()?);
        }
    }
    (1..=MOST).contains(&ports.len()).then_some(ports)
}
