//! Compares what handles and client saw with the table.

use super::*;

pub(super) fn check_handles(
    cause: Cause,
    subprotocol: &str,
    saw: &Saw,
    connected: bool,
    context: &str,
) {
    let row = row(cause);
    let said = saw.cause.to_string();
    assert!(said.starts_with(row.words), "{context}: {said}");
    let kind = if subprotocol == HALF_CLOSE {
        row.half
    } else {
        row.whole
    };
    let end = match kind {
        None => End::Eof,
        Some(kind) => End::Error(kind, saw.cause.clone()),
    };
    let before: &[u8] = if connected { b"before" } else { b"" };
    assert_eq!(saw.input, (before.to_vec(), end), "{context}");
    let broken = End::Error(ErrorKind::BrokenPipe, saw.cause.clone());
    if cause == Stalled {
        // Its writers are gone, or the session would not be over for them.
        return;
    }
    match &saw.write {
        Ok(()) => assert!(row.late, "{context}: a write behind the end"),
        Err(error) => {
            assert!(!row.late, "{context}: no write in the grace");
            assert_eq!(End::of(error), broken, "{context}");
        }
    }
    let error = saw.after.as_ref().expect_err(context);
    assert_eq!(End::of(error), broken, "{context}");
}

pub(super) fn check_client(
    cause: Cause,
    how: How,
    kind: Kind,
    subprotocol: &str,
    told: Option<Told>,
    context: &str,
) {
    let Some(told) = told else { return };
    let (plain, say, command) = client(cause, how);
    let (say, code) = match kind {
        Kind::Plain => (Say::Nothing, plain),
        Kind::Command => (say, command),
    };
    assert_eq!(told.close, code, "{context}");
    if cause != Stalled {
        let late = if row(cause).late { "late" } else { "" };
        assert_eq!(told.text(1), late, "{context}");
    }
    let on_error: Vec<_> = told.messages.iter().filter(|(id, _)| *id == 3).collect();
    let Some((reason, code, text)) = say.words() else {
        return assert!(on_error.is_empty(), "{context}: {on_error:?}");
    };
    assert_eq!(on_error.len(), 1, "{context}");
    assert_eq!(told.messages.last(), Some(on_error[0]), "{context}");
    let message = if subprotocol.starts_with("v4.") || subprotocol.starts_with("v5.") {
        let status = Status::from_json(&on_error[0].1).expect(context);
        let seen = (status.reason(), status.code());
        assert_eq!(seen, (Some(reason), Some(code)), "{context}");
        status.message().unwrap_or_default().to_owned()
    } else {
        String::from_utf8(on_error[0].1.clone()).expect(context)
    };
    assert!(message.contains(text), "{context}: {message}");
    if say == Say::Ended {
        assert!(message.ends_with(row(cause).words), "{context}: {message}");
    }
}
