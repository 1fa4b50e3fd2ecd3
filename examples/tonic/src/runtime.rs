//! The gRPC service: it answers a request for an exec with the URL to run it at.

use axum::http::uri::PathAndQuery;
use tonic::{Request, Response, Status};

use crate::{
    generated::{ExecRequest, ExecResponse, runtime_service_server::RuntimeService},
    tokens::Tokens,
};

/// The only container: this machine.
const CONTAINER: &str = "demo";

/// The service. Commands wait in `commands` for a client with their token.
pub(crate) struct Runtime {
    base: String,
    commands: Tokens<PathAndQuery>,
}

impl Runtime {
    /// Creates the service. Clients reach the streaming server at `base`, such as
    /// `http://127.0.0.1:8006`.
    pub(crate) fn new(base: String, commands: Tokens<PathAndQuery>) -> Self {
        Self { base, commands }
    }
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn exec(&self, request: Request<ExecRequest>) -> Result<Response<ExecResponse>, Status> {
        let request = request.into_inner();
        check(&request)?;
        let command = to_uri(&request)?;
        let token = self
            .commands
            .issue(command)
            .map_err(|error| Status::internal(format!("no token: {error}")))?
            .ok_or_else(|| Status::resource_exhausted("too many commands wait for their client"))?;
        let url = format!("{}/exec/{token}", self.base);
        Ok(Response::new(ExecResponse { url }))
    }
}

/// Makes the checks of Kubernetes' streaming server, and refuses what this one lacks.
fn check(request: &ExecRequest) -> Result<(), Status> {
    let invalid = |message| Err(Status::invalid_argument(message));
    if request.container_id.is_empty() {
        return invalid("missing required container_id");
    }
    if request.tty && request.stderr {
        return invalid("tty and stderr cannot both be true");
    }
    if !(request.stdin || request.stdout || request.stderr) {
        return invalid("one of stdin, stdout, or stderr must be set");
    }
    if request.cmd.is_empty() {
        return invalid("missing required cmd");
    }
    if request.container_id != CONTAINER {
        let message = format!("there is no container but {CONTAINER:?}");
        return Err(Status::not_found(message));
    }
    if request.tty {
        return Err(Status::unimplemented("there are no terminals here"));
    }
    Ok(())
}

/// Returns the request as the URI of an exec, in which
/// [`Protocols`](tower_wsstream::remotecommand::Protocols) and
/// [`RemoteCommandLayer`](tower_wsstream::remotecommand::RemoteCommandLayer) read it.
fn to_uri(request: &ExecRequest) -> Result<PathAndQuery, Status> {
    let mut query = form_urlencoded::Serializer::new(String::from("/exec?"));
    let flags = [
        ("stdin", request.stdin),
        ("stdout", request.stdout),
        ("stderr", request.stderr),
    ];
    for (name, _) in flags.iter().filter(|(_, wanted)| *wanted) {
        query.append_pair(name, "true");
    }
    for word in &request.cmd {
        query.append_pair("command", word);
    }
    // A URI of `http` holds 64 KiB at most.
    PathAndQuery::from_maybe_shared(query.finish())
        .map_err(|_| Status::invalid_argument("the command is too long"))
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tower_wsstream::remotecommand::Options;

    use super::*;

    fn good() -> ExecRequest {
        ExecRequest {
            container_id: CONTAINER.into(),
            cmd: vec!["true".into()],
            stdin: true,
            stdout: true,
            ..ExecRequest::default()
        }
    }

    #[test]
    fn a_request_that_cannot_run_is_refused_with_its_code() {
        type Change = fn(&mut ExecRequest);
        let cases: [(Change, Code); 8] = [
            (|_| {}, Code::Ok),
            (
                |request| request.container_id.clear(),
                Code::InvalidArgument,
            ),
            (|request| request.container_id.push('x'), Code::NotFound),
            (|request| request.cmd.clear(), Code::InvalidArgument),
            (|request| request.tty = true, Code::Unimplemented),
            (
                |request| (request.tty, request.stderr) = (true, true),
                Code::InvalidArgument,
            ),
            (
                |request| (request.stdin, request.stdout) = (false, false),
                Code::InvalidArgument,
            ),
            (
                |request| request.cmd.push("x".repeat(64 * 1024)),
                Code::InvalidArgument,
            ),
        ];
        for (n, (change, code)) in cases.into_iter().enumerate() {
            let mut request = good();
            change(&mut request);
            let answer = check(&request).and_then(|()| to_uri(&request));
            let got = answer.err().map_or(Code::Ok, |status| status.code());
            assert_eq!(got, code, "case {n}");
        }
    }

    #[test]
    fn a_command_survives_the_uri() {
        let mut request = good();
        request.cmd = ["sh", "-c", "a b&c=d+e%f?g#h\n\u{e9}", ""]
            .map(String::from)
            .to_vec();
        let uri = to_uri(&request).unwrap();
        let options = Options::from_query(uri.query().unwrap()).unwrap();
        assert_eq!(options.command_str().unwrap(), request.cmd);
        assert!(options.stdin && options.stdout && !options.stderr && !options.tty);
    }
}
