//! The pod `demo` through the `kube` crate, over one subprotocol.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderValue, Request, Response};
use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::Config;
use kube::api::{Api, AttachParams, AttachedProcess};
use kube::client::{Body, ClientBuilder, DynBody};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tower::util::{MapRequestLayer, MapResponseLayer};

use crate::report::{Failure, equal};

pub(crate) const POD: &str = "demo";

/// Silence of this length is a hang. When its connection breaks, kube lets its
/// pipes hang, and only `join` tells why.
const SILENCE: Duration = Duration::from_secs(60);

/// The subprotocols that kube offers by itself, and the offer that selects the older one.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Subprotocol {
    V4,
    V5,
}

impl Subprotocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4.channel.k8s.io",
            Self::V5 => "v5.channel.k8s.io",
        }
    }
}

pub(crate) struct Pod {
    pub(crate) api: Api<v1::Pod>,
    /// Of every answer, in the order of the answers.
    selected: Arc<Mutex<Vec<Option<HeaderValue>>>>,
}

/// The result of a command.
pub(crate) struct Ended {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) status: Status,
}

impl Pod {
    pub(crate) fn new(url: &http::Uri, subprotocol: Subprotocol) -> Result<Self, Failure> {
        let selected = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&selected);
        let client = ClientBuilder::try_from(Config::new(url.clone()))?
            // kube has no knob for this, but its client is a tower stack: the
            // list it offers is cut down on its way out. Its own stays as it is.
            .with_layer(&MapRequestLayer::new(move |mut request: Request<Body>| {
                if subprotocol == Subprotocol::V4
                    && let Some(offered) = request.headers_mut().get_mut(SEC_WEBSOCKET_PROTOCOL)
                {
                    *offered = HeaderValue::from_static(Subprotocol::V4.name());
                }
                request
            }))
            .with_layer(&MapResponseLayer::new(
                move |response: Response<Box<DynBody>>| {
                    let name = response.headers().get(SEC_WEBSOCKET_PROTOCOL).cloned();
                    record.lock().expect("no panic holds it").push(name);
                    response
                },
            ))
            .build();
        Ok(Self {
            api: Api::default_namespaced(client),
            selected,
        })
    }

    pub(crate) async fn exec(
        &self,
        command: &[&str],
        params: &AttachParams,
    ) -> Result<AttachedProcess, Failure> {
        Ok(self.api.exec(POD, command.iter().copied(), params).await?)
    }

    /// A command from its start to `join`, which must have nothing to complain of.
    ///
    /// With stdin, the bytes are written and ended by `shutdown`.
    pub(crate) async fn run(
        &self,
        command: &[&str],
        stdin: Option<&[u8]>,
    ) -> Result<Ended, Failure> {
        let params = AttachParams::default().stdin(stdin.is_some());
        self.run_with(command, stdin, &params).await
    }

    pub(crate) async fn run_with(
        &self,
        command: &[&str],
        stdin: Option<&[u8]>,
        params: &AttachParams,
    ) -> Result<Ended, Failure> {
        let mut process = self.exec(command, params).await?;
        let writer = process.stdin();
        let stdout = process.stdout().ok_or("kube gives no stdout")?;
        let stderr = process.stderr().ok_or("kube gives no stderr")?;
        let status = process.take_status().ok_or("kube gives no status")?;
        let feed = async {
            if let (Some(mut writer), Some(stdin)) = (writer, stdin) {
                writer.write_all(stdin).await?;
                writer.shutdown().await?;
            }
            Ok::<_, Failure>(())
        };
        let talk = async {
            tokio::try_join!(feed, to_end(stdout), to_end(stderr), async {
                status.await.ok_or_else(|| "kube got no status".into())
            })
        };
        let (_, stdout, stderr, status) = told(talk, process).await?;
        Ok(Ended {
            stdout,
            stderr,
            status,
        })
    }

    /// Every answer so far selected what was wanted; how many there were.
    pub(crate) fn selected(&self, wanted: Subprotocol) -> Result<usize, Failure> {
        let answers = self.selected.lock().expect("no panic holds it");
        let sessions = answers.iter().flatten();
        let name = wanted.name();
        for selected in sessions.clone() {
            equal(selected.to_str()?, name, "Sec-WebSocket-Protocol")?;
        }
        Ok(sessions.count())
    }
}

/// Waits for what is to be said, and then for the end, which must be no error.
pub(crate) async fn told<T>(
    talk: impl Future<Output = Result<T, Failure>>,
    process: AttachedProcess,
) -> Result<T, Failure> {
    match tokio::time::timeout(SILENCE, talk).await {
        Ok(Ok(said)) => {
            process.join().await.map_err(|error| why("join", &error))?;
            Ok(said)
        }
        unsaid => {
            let seen = match unsaid {
                Ok(Err(error)) => error.to_string(),
                _ => format!("not at its end after {SILENCE:?}"),
            };
            let end = tokio::time::timeout(Duration::from_secs(1), process.join()).await;
            Err(format!("{seen}; join says {end:?}").into())
        }
    }
}

/// An error with its sources.
pub(crate) fn why(what: &str, error: &dyn std::error::Error) -> Failure {
    let mut text = format!("{what}: {error}");
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text.into()
}

async fn to_end(mut pipe: impl AsyncRead + Unpin) -> Result<Vec<u8>, Failure> {
    let mut data = Vec::new();
    pipe.read_to_end(&mut data).await?;
    Ok(data)
}

impl Ended {
    /// The exit code as the Status tells it.
    pub(crate) fn code(&self) -> Result<String, Failure> {
        code(&self.status)
    }
}

pub(crate) fn code(status: &Status) -> Result<String, Failure> {
    match (status.status.as_deref(), status.reason.as_deref()) {
        (Some("Success"), None) => Ok("0".to_owned()),
        (Some("Failure"), Some("NonZeroExitCode")) => {
            let causes = status.details.as_ref().and_then(|it| it.causes.as_ref());
            let cause = causes
                .and_then(|causes| causes.first())
                .ok_or("a Failure without a cause")?;
            equal(cause.reason.as_deref(), Some("ExitCode"), "reason")?;
            Ok(cause.message.clone().ok_or("a cause without a code")?)
        }
        _ => Err(format!("the status is {status:?}").into()),
    }
}
