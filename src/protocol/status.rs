//! The outcome of a session, as `metav1.Status` of Kubernetes.

use std::{borrow::Cow, error::Error, fmt};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

// Clients look for exactly these words to find an exit code.
const NON_ZERO_EXIT_CODE: &str = "NonZeroExitCode";
const EXIT_CODE_CAUSE: &str = "ExitCode";
const INTERNAL_ERROR: &str = "InternalError";

/// The HTTP status of a fault of the server. Kubernetes also sets it with the exit code of a
/// command, where clients ignore it.
const INTERNAL_ERROR_CODE: u16 = 500;

/// The outcome of a session or a request: `metav1.Status` of Kubernetes.
///
/// From `v4` on, it is the last message of a session, as JSON on channel 3. On older
/// subprotocols, the message of a failure is sent as plain text. The body of every refused
/// handshake is a status, too.
///
/// Parsing keeps the fields that this type has, and ignores all others.
///
/// # Examples
///
/// ```
/// use tower_wsstream::Status;
///
/// assert_eq!(
///     &Status::success().to_json()[..],
///     br#"{"metadata":{},"status":"Success"}"#,
/// );
///
/// let status = Status::from_exit_code(3);
/// assert_eq!(status.exit_code(), Some(3));
/// assert_eq!(Status::from_json(&status.to_json())?, status);
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// A failure of your own, as its parts and as each kind of client is told it:
///
/// ```
/// use tower_wsstream::Status;
///
/// let status = Status::failure("NotFound", "there is no container \"web\"", 404);
/// assert!(!status.is_success());
/// assert_eq!(status.reason(), Some("NotFound"));
/// assert_eq!(status.message(), Some("there is no container \"web\""));
/// assert_eq!(status.code(), Some(404));
/// // Before v4, and in an HTTP answer.
/// assert_eq!(status.plain_text().as_deref(), status.message());
/// assert!(status.to_response_json().starts_with(br#"{"kind":"Status","apiVersion":"v1","#));
///
/// let error = Status::internal_error("the node is out of disk: ask its operator");
/// assert_eq!(error.code(), Some(500));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    // The fields are in the order in which Go writes them. `metadata` is always written, as in
    // Go, and never read, because nothing in it matters here.
    #[serde(skip_deserializing)]
    metadata: Metadata,
    status: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<Cow<'static, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'static, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Metadata {}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Outcome {
    Success,
    Failure,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Cause {
    // Go's field is called `Type`; its JSON key is `reason`.
    reason: Cow<'static, str>,
    message: Cow<'static, str>,
}

impl Status {
    /// Creates the status of a session whose service succeeded.
    #[must_use]
    pub fn success() -> Self {
        Self {
            metadata: Metadata {},
            status: Outcome::Success,
            message: None,
            reason: None,
            details: None,
            code: None,
        }
    }

    /// Creates a failure.
    ///
    /// `reason` is one word for programs, such as `NotFound`. `message` is for people; kubectl
    /// prints it after `error: `. `code` is an HTTP status. An empty reason or message is left
    /// out, as in Go.
    #[must_use]
    pub fn failure(
        reason: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
        code: u16,
    ) -> Self {
        Self {
            metadata: Metadata {},
            status: Outcome::Failure,
            message: Some(message.into()).filter(|text| !text.is_empty()),
            reason: Some(reason.into()).filter(|text| !text.is_empty()),
            details: None,
            code: Some(code),
        }
    }

    /// Creates the status of a command that exited with `code`; 0 is [`success`](Self::success).
    ///
    /// For a command that was ended by a signal, the code is 128 plus the signal's number.
    #[must_use]
    pub fn from_exit_code(code: u8) -> Self {
        if code == 0 {
            return Self::success();
        }
        let message = format!("command terminated with non-zero exit code: exit status {code}");
        let mut status = Self::failure(NON_ZERO_EXIT_CODE, message, INTERNAL_ERROR_CODE);
        status.details = Some(Details {
            causes: vec![Cause {
                reason: Cow::Borrowed(EXIT_CODE_CAUSE),
                message: Cow::Owned(code.to_string()),
            }],
        });
        status
    }

    /// Creates a failure with reason `InternalError` and code 500.
    ///
    /// The message is sent unchanged. It should tell the person at the other end what to do, and
    /// must not contain anything confidential.
    #[must_use]
    pub fn internal_error(message: impl Into<Cow<'static, str>>) -> Self {
        Self::failure(INTERNAL_ERROR, message, INTERNAL_ERROR_CODE)
    }

    /// Returns whether this is a success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status == Outcome::Success
    }

    /// Returns the text for people, if there is one.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// Returns the word for programs, such as `NonZeroExitCode`, if there is one.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Returns the HTTP status of a failure.
    ///
    /// This is *not* the exit code of a command; for that, see [`exit_code`](Self::exit_code).
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        self.code
    }

    /// Returns the exit code of the command: 0 for a success, or `None` for a failure without one.
    #[must_use]
    pub fn exit_code(&self) -> Option<u8> {
        if self.is_success() {
            return Some(0);
        }
        if self.reason() != Some(NON_ZERO_EXIT_CODE) {
            return None;
        }
        let causes = &self.details.as_ref()?.causes;
        let cause = causes
            .iter()
            .find(|cause| cause.reason == EXIT_CODE_CAUSE)?;
        cause.message.parse().ok()
    }

    /// Returns the text that subprotocols before `v4` send: the message of a failure, or `None` for
    /// a success.
    ///
    /// The text is never empty, because a client does not notice an empty message, and would take
    /// the failure for a success.
    #[must_use]
    pub fn plain_text(&self) -> Option<String> {
        if self.is_success() {
            return None;
        }
        let text = self.message().or(self.reason());
        Some(
            text.filter(|text| !text.is_empty())
                .unwrap_or(FAILED)
                .to_owned(),
        )
    }

    /// Returns the JSON for channel 3.
    #[must_use]
    pub fn to_json(&self) -> Bytes {
        self.json_after("{").into()
    }

    /// Returns the JSON for an HTTP body, which begins with `kind` and `apiVersion`.
    #[must_use]
    pub fn to_response_json(&self) -> Bytes {
        self.json_after(r#"{"kind":"Status","apiVersion":"v1","#)
            .into()
    }

    /// Returns the JSON object with `opening` in place of its opening brace.
    ///
    /// The object always has a first field, so `opening` may end in a comma.
    fn json_after(&self, opening: &str) -> Vec<u8> {
        let object =
            serde_json::to_vec(self).expect("strings, numbers and structs always have a JSON form");
        let fields = object.strip_prefix(b"{").unwrap_or_default();
        [opening.as_bytes(), fields].concat()
    }

    /// Parses a status from JSON, with or without `kind` and `apiVersion`.
    ///
    /// # Errors
    ///
    /// Fails if the text is not a JSON object whose `status` is `Success` or `Failure`, or if a
    /// known field has the wrong type.
    pub fn from_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }
}

/// The text for a failure that has neither a message nor a reason.
const FAILED: &str = "failed";

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Outcome::Success => f.write_str("success"),
            Outcome::Failure => f.write_str(self.message().or(self.reason()).unwrap_or(FAILED)),
        }
    }
}

impl Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn success_is_written_as_go_writes_it() {
        assert_eq!(
            text(&Status::success().to_json()),
            r#"{"metadata":{},"status":"Success"}"#
        );
    }

    #[test]
    fn exit_code_is_written_as_go_writes_it() {
        assert_eq!(
            text(&Status::from_exit_code(3).to_json()),
            concat!(
                r#"{"metadata":{},"status":"Failure","#,
                r#""message":"command terminated with non-zero exit code: exit status 3","#,
                r#""reason":"NonZeroExitCode","#,
                r#""details":{"causes":[{"reason":"ExitCode","message":"3"}]},"code":500}"#
            )
        );
    }

    #[test]
    fn exit_code_zero_is_success() {
        assert_eq!(Status::from_exit_code(0), Status::success());
    }

    #[test]
    fn every_exit_code_survives_the_wire() {
        for code in 0..=u8::MAX {
            let read = Status::from_json(&Status::from_exit_code(code).to_json()).unwrap();
            assert_eq!(read.exit_code(), Some(code));
        }
    }

    #[test]
    fn an_internal_error_has_no_exit_code() {
        let status = Status::internal_error("the container is gone");
        assert_eq!(
            text(&status.to_json()),
            r#"{"metadata":{},"status":"Failure","message":"the container is gone","reason":"InternalError","code":500}"#
        );
        assert_eq!(status.exit_code(), None);
        assert_eq!(status.to_string(), "the container is gone");
    }

    #[test]
    fn a_response_names_its_kind_first() {
        let status = Status::failure("Forbidden", "no", 403);
        assert_eq!(
            text(&status.to_response_json()),
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"no","reason":"Forbidden","code":403}"#
        );
        assert_eq!(
            Status::from_json(&status.to_response_json()).unwrap(),
            status
        );
    }

    #[test]
    fn an_unknown_reason_is_left_out() {
        let json = Status::failure("", "no", 426).to_json();
        assert!(!text(&json).contains("reason"));
    }

    #[test]
    fn statuses_of_go_servers_are_read() {
        let short = Status::from_json(br#"{"status":"Success"}"#).unwrap();
        assert!(short.is_success());
        let long = br#"{"kind":"Status","metadata":null,"status":"Failure","details":{"name":"x",
            "causes":[{"field":"f"},{"reason":"ExitCode","message":"42"}]},"reason":"NonZeroExitCode","unknown":[1]}"#;
        assert_eq!(Status::from_json(long).unwrap().exit_code(), Some(42));
        let words = br#"{"status":"Failure","reason":"NonZeroExitCode",
            "details":{"causes":[{"reason":"ExitCode","message":"many"}]}}"#;
        assert_eq!(Status::from_json(words).unwrap().exit_code(), None);
        for bad in [&b"{}"[..], b"", b"[]", br#"{"status":"Maybe"}"#] {
            assert!(Status::from_json(bad).is_err());
        }
    }

    #[test]
    fn plain_text_is_for_failures_and_never_empty() {
        assert_eq!(Status::success().plain_text(), None);
        assert_eq!(
            Status::from_exit_code(3).plain_text().as_deref(),
            Some("command terminated with non-zero exit code: exit status 3")
        );
        assert_eq!(
            Status::failure("Gone", "", 410).plain_text().as_deref(),
            Some("Gone")
        );
        assert_eq!(
            Status::failure("", "", 500).plain_text().as_deref(),
            Some("failed")
        );
        let empty = Status::from_json(br#"{"status":"Failure","message":""}"#).unwrap();
        assert_eq!(empty.plain_text().as_deref(), Some("failed"));
    }
}
