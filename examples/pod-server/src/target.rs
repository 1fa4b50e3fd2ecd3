//! The pod that a request is for.

use axum::{
    extract::{FromRequestParts, Path, Query},
    http::request::Parts,
};
use serde::Deserialize;
use tower_wsstream::Rejection;

use crate::refusal::{bad_request, not_found};

pub(crate) const NAMESPACE: &str = "default";
pub(crate) const POD: &str = "demo";
pub(crate) const CONTAINER: &str = "main";

/// An extractor that refuses requests for other pods and containers, as a real server does.
///
/// A kubelet's path may hold the UID of the pod. Any is accepted, because only the API server
/// knows the one that it has given to the pod.
pub(crate) struct Target;

/// Parameters of the path.
#[derive(Deserialize)]
struct Names {
    namespace: String,
    pod: String,
    /// In the paths of a kubelet.
    container: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Target {
    type Rejection = Rejection;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let Path(names) = Path::<Names>::from_request_parts(head, state)
            .await
            .map_err(|error| bad_request(error.body_text()))?;
        let Names {
            namespace,
            pod,
            container,
        } = names;
        if namespace != NAMESPACE || pod != POD {
            return Err(not_found(format!("pods \"{pod}\" not found")));
        }
        if let Some(name) = container.filter(|name| name != CONTAINER) {
            return Err(not_found(format!(
                "container \"{name}\" not found in pod \"{pod}\""
            )));
        }
        // The parameter of an API server's clients.
        let pairs = Pairs::from_request_parts(head, state).await?;
        match pairs.first("container") {
            None | Some("" | CONTAINER) => Ok(Self),
            Some(name) => Err(bad_request(format!(
                "container {name} is not valid for pod {pod}"
            ))),
        }
    }
}

/// The pairs of a query, read as the API server reads them: unknown ones are ignored, and the
/// first of several counts.
pub(crate) struct Pairs(Vec<(String, String)>);

impl Pairs {
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        let pair = self.0.iter().find(|pair| pair.0 == name);
        pair.map(|pair| pair.1.as_str())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = Rejection;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, Rejection> {
        let pairs = Query::from_request_parts(head, state).await;
        let Query(pairs) = pairs.map_err(|error| bad_request(error.body_text()))?;
        Ok(Self(pairs))
    }
}
