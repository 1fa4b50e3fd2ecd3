//! The page at `/`: a terminal in the browser, and what belongs to it.
//!
//! The files in `web/` are part of the program. xterm.js is not: it is served from
//! `web/node_modules` if `npm ci` has put it there, and else the page loads it from a public CDN. In
//! both cases the browser compares it with the hashes in `index.html`.
//!
//! A client that asks and does not read holds what it was answered with, and over HTTP/2 once for
//! each stream. So all answers with a file share its bytes.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    Router,
    extract::Path as Named,
    http::{
        HeaderName, HeaderValue,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use tokio::sync::OnceCell;
use tower_wsstream::Rejection;

use crate::refusal::not_found;

const INDEX: &str = include_str!("../web/index.html");

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The other files of the page: names, types and texts.
const FILES: [(&str, &str, &str); 9] = [
    ("style.css", CSS, include_str!("../web/style.css")),
    ("main.js", SCRIPT, include_str!("../web/main.js")),
    ("server.js", SCRIPT, include_str!("../web/server.js")),
    ("socket.js", SCRIPT, include_str!("../web/socket.js")),
    ("channels.js", SCRIPT, include_str!("../web/channels.js")),
    ("screen.js", SCRIPT, include_str!("../web/screen.js")),
    ("command.js", SCRIPT, include_str!("../web/command.js")),
    ("log.js", SCRIPT, include_str!("../web/log.js")),
    ("sessions.js", SCRIPT, include_str!("../web/sessions.js")),
];

/// The beginning of the addresses in `index.html` of all that is not part of the program.
const CDN: &str = "https://cdn.jsdelivr.net/npm/";

/// The beginning of the same addresses at this server.
const LOCAL: &str = "/web/npm/";

/// The files behind these: packages with their versions, and where `npm ci` puts the file.
const PACKAGES: [(&str, &str, &str); 3] = [
    (
        "@xterm/xterm@6.0.0/lib/xterm.js",
        SCRIPT,
        "@xterm/xterm/lib/xterm.js",
    ),
    (
        "@xterm/xterm@6.0.0/css/xterm.css",
        CSS,
        "@xterm/xterm/css/xterm.css",
    ),
    (
        "@xterm/addon-fit@0.11.0/lib/addon-fit.js",
        SCRIPT,
        "@xterm/addon-fit/lib/addon-fit.js",
    ),
];

/// Routes to the page and its files. They hold no secret, so a browser may load them before its user
/// has typed a token.
pub(crate) fn router() -> Router {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/node_modules");
    router_with(modules)
}

fn router_with(modules: PathBuf) -> Router {
    let installed = Arc::new(Installed::new(modules));
    let index = {
        let installed = installed.clone();
        move || index(installed)
    };
    Router::new()
        .route("/", get(index))
        .route("/web/{file}", get(file))
        .route(
            &format!("{LOCAL}{{*file}}"),
            get(move |file| package(installed, file)),
        )
}

/// The files that `npm ci` has put at this server.
struct Installed {
    modules: PathBuf,
    /// The page that loads all of it from here.
    index: Bytes,
    /// The text of each of [`PACKAGES`], once it was asked for. The version is in the address, so
    /// it does not change.
    texts: [OnceCell<Bytes>; PACKAGES.len()],
}

impl Installed {
    fn new(modules: PathBuf) -> Self {
        Self {
            modules,
            index: INDEX.replace(CDN, LOCAL).into(),
            texts: Default::default(),
        }
    }

    /// Returns whether all of it is there. Looked for each time, so that `npm ci` needs no restart.
    fn is_complete(&self) -> bool {
        PACKAGES
            .iter()
            .all(|(.., path)| self.modules.join(path).is_file())
    }

    async fn package(&self, wanted: &str) -> Option<(&'static str, Bytes)> {
        let mut packages = PACKAGES.iter().zip(&self.texts);
        let ((_, kind, path), text) = packages.find(|((name, ..), _)| *name == wanted)?;
        let text = text.get_or_try_init(async || {
            let text = tokio::fs::read(self.modules.join(path)).await;
            text.map(Bytes::from)
        });
        Some((kind, text.await.ok()?.clone()))
    }
}

async fn index(installed: Arc<Installed>) -> Response {
    if installed.is_complete() {
        answer(HTML, installed.index.clone(), "")
    } else {
        let urls = PACKAGES.map(|(name, ..)| format!("{CDN}{name}"));
        answer(HTML, INDEX, &urls.join(" "))
    }
}

async fn file(Named(wanted): Named<String>) -> Result<Response, Rejection> {
    let file = FILES.iter().find(|(name, ..)| *name == wanted);
    let (_, kind, text) = file.ok_or_else(missing)?;
    Ok(answer(kind, *text, ""))
}

async fn package(
    installed: Arc<Installed>,
    Named(wanted): Named<String>,
) -> Result<Response, Rejection> {
    let (kind, text) = installed.package(&wanted).await.ok_or_else(missing)?;
    Ok(answer(kind, text, ""))
}

fn missing() -> Rejection {
    not_found("the page has no such file")
}

/// Not among the names of the crate `http`.
const CROSS_ORIGIN_OPENER_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-opener-policy");

/// Answers with a file. Its page may load scripts and styles from here and from `elsewhere`.
fn answer(kind: &'static str, body: impl IntoResponse, elsewhere: &str) -> Response {
    // xterm.js writes the rules of its cells into style elements of its own.
    let policy = format!(
        "default-src 'none'; script-src 'self' {elsewhere}; style-src 'self' 'unsafe-inline' \
         {elsewhere}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let headers: [(HeaderName, HeaderValue); 7] = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (
            CONTENT_SECURITY_POLICY,
            HeaderValue::try_from(policy).expect("it is ASCII"),
        ),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // For browsers that do not know `frame-ancestors`: no page may lay this one under its own.
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        // And none that has opened this one keeps a handle on its window.
        (
            CROSS_ORIGIN_OPENER_POLICY,
            HeaderValue::from_static("same-origin"),
        ),
        (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        // The files change with the program.
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, body).into_response()
}

#[cfg(test)]
#[path = "web_tests.rs"]
mod tests;
