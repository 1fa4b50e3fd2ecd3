use serde_json::Value;

use super::cuts::byte;
use crate::Status;

/// Parses the input as a status, or makes one of it.
pub fn status(mut input: &[u8]) {
    match byte(&mut input) {
        0 => parsed(input),
        code => made(code, input),
    }
}

fn parsed(input: &[u8]) {
    let status = Status::from_json(input);
    let value: Option<Value> = serde_json::from_slice(input).ok();
    let Ok(status) = status else {
        if let Some(value) = &value {
            assert!(!is_plain(input, value), "a status is refused: {value}");
        }
        return;
    };
    round_trip(&status);
    // The generic parser refuses more in the fields that are ignored.
    let Some(value) = value else { return };
    agrees(&status, &value);
}

/// Returns whether the input is an object with a valid outcome, once, and nothing else.
fn is_plain(input: &[u8], value: &Value) -> bool {
    let names = input.windows(8).filter(|window| window == br#""status""#);
    names.count() == 1
        && !input.contains(&b'\\')
        && value.as_object().is_some_and(|fields| fields.len() == 1)
        && matches!(value["status"].as_str(), Some("Success" | "Failure"))
}

fn agrees(status: &Status, value: &Value) {
    // serde accepts an array as well.
    let outcome = field(value, "status", 0);
    let reason = field(value, "reason", 2).as_str();
    assert_eq!(status.is_success(), outcome == "Success");
    assert_eq!(status.message(), field(value, "message", 1).as_str());
    assert_eq!(status.reason(), reason);
    let code = field(value, "code", 4).as_u64();
    assert_eq!(status.code().map(u64::from), code);
    let exit_code = || {
        let causes = field(field(value, "details", 3), "causes", 0).as_array()?;
        let mut causes = causes.iter();
        let cause = causes.find(|cause| field(cause, "reason", 0) == "ExitCode")?;
        field(cause, "message", 1).as_str()?.parse::<u8>().ok()
    };
    let exit_code = match reason {
        _ if outcome == "Success" => Some(0),
        Some("NonZeroExitCode") => exit_code(),
        _ => None,
    };
    assert_eq!(status.exit_code(), exit_code);
}

/// Returns a field of an object, or of an array of the fields in order.
fn field<'a>(value: &'a Value, name: &str, at: usize) -> &'a Value {
    if value.is_array() {
        &value[at]
    } else {
        &value[name]
    }
}

fn made(code: u8, input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (reason, message) = text.split_once('\n').unwrap_or(("", &text));
    let status = Status::failure(reason.to_owned(), message.to_owned(), 2 * u16::from(code));
    assert_eq!(status.reason().unwrap_or_default(), reason);
    assert_eq!(status.message().unwrap_or_default(), message);
    let last = status.plain_text().expect("a failure has a text");
    assert!(!last.is_empty());
    assert!(message.is_empty() || last == message);
    round_trip(&status);
    round_trip(&Status::from_exit_code(code));
    assert_eq!(Status::from_exit_code(code).exit_code(), Some(code));
}

fn round_trip(status: &Status) {
    assert_eq!(status.plain_text().is_none(), status.is_success());
    assert_ne!(status.plain_text().as_deref(), Some(""));
    let json = status.to_json();
    assert_eq!(Status::from_json(&json).as_ref().ok(), Some(status));
    let response = status.to_response_json();
    assert_eq!(Status::from_json(&response).as_ref().ok(), Some(status));
    let value: Value = serde_json::from_slice(&json).expect("it is JSON");
    assert_eq!(value["metadata"], Value::Object(Default::default()));
    agrees(status, &value);
    let response: Value = serde_json::from_slice(&response).expect("it is JSON");
    assert_eq!(
        (&response["kind"], &response["apiVersion"]),
        (&"Status".into(), &"v1".into())
    );
    agrees(status, &response);
}
