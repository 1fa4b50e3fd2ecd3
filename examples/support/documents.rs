// The documents that kubectl reads before it uses a pod: what there is, and the pod `demo`. Copy
// this file to try a server with kubectl.

use axum::{Router, http::header::CONTENT_TYPE, routing::get};

/// The path of the pod.
pub(crate) const POD: &str = "/api/v1/namespaces/default/pods/demo";

/// Returns the routes of the documents.
pub(crate) fn router() -> Router {
    let documents = [
        ("/api", r#"{"kind":"APIVersions","versions":["v1"]}"#),
        (
            "/apis",
            r#"{"kind":"APIGroupList","apiVersion":"v1","groups":[]}"#,
        ),
        (
            "/api/v1",
            r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"v1","resources":[{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get"]}]}"#,
        ),
        (
            POD,
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"demo","namespace":"default"},"spec":{"containers":[{"name":"main"}]},"status":{"phase":"Running"}}"#,
        ),
    ];
    documents
        .into_iter()
        .fold(Router::new(), |app, (path, document)| {
            app.route(path, get(([(CONTENT_TYPE, "application/json")], document)))
        })
}
