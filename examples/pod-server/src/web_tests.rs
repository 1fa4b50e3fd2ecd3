//! The page and its files, without a browser. `tests/browser` has one.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::*;

async fn get_from(router: &Router, path: &str) -> (StatusCode, String, String) {
    let request = Request::get(path).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let policy = response.headers().get(CONTENT_SECURITY_POLICY);
    let policy = policy.map(|policy| policy.to_str().unwrap().to_owned());
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.into()).unwrap();
    (status, policy.unwrap_or_default(), text)
}

/// Returns a folder as `npm ci` leaves it, with the names of the files as their content.
fn installed(name: &str) -> PathBuf {
    let modules = std::env::temp_dir().join(format!("pod-server-{name}-{}", std::process::id()));
    for (_, _, path) in PACKAGES {
        let path = modules.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, path.file_name().unwrap().as_encoded_bytes()).unwrap();
    }
    modules
}

/// The addresses in the page, with their hashes.
fn addresses(page: &str) -> Vec<(&str, &str)> {
    let quoted = |text: &'_ str| text.split('"').next().map(str::len);
    let mut found = Vec::new();
    for (at, _) in page.match_indices("integrity=\"") {
        let hash = &page[at + "integrity=\"".len()..];
        let before = &page[..at];
        let address = before.rfind("=\"").map(|at| &before[at + 2..]).unwrap();
        found.push((
            &address[..quoted(address).unwrap()],
            &hash[..quoted(hash).unwrap()],
        ));
    }
    found
}

#[tokio::test]
async fn every_file_of_the_page_is_there() {
    let router = router_with("/no/such".into());
    let (status, _, page) = get_from(&router, "/").await;
    assert_eq!(status, StatusCode::OK);
    let mut texts = vec![page];
    for (name, _, text) in FILES {
        let (status, policy, body) = get_from(&router, &format!("/web/{name}")).await;
        assert_eq!((status, &*body), (StatusCode::OK, text), "{name}");
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
        texts.push(body);
    }
    // Each file that the texts name is there.
    for (at, text) in texts.iter().enumerate() {
        let names = text
            .match_indices("/web/")
            .chain(text.match_indices("from \"./"));
        for (start, mark) in names {
            let name = text[start + mark.len()..].split('"').next().unwrap();
            assert!(
                FILES.iter().any(|(known, ..)| *known == name),
                "{at}: {name}"
            );
        }
    }
}

#[tokio::test]
async fn xterm_comes_from_here_if_it_is_installed() {
    let modules = installed("here");
    let router = router_with(modules.clone());
    let (_, policy, page) = get_from(&router, "/").await;
    assert!(!page.contains("https://"), "{page}");
    assert!(!policy.contains("https://"), "{policy}");
    for (address, _) in addresses(&page) {
        let (status, _, text) = get_from(&router, address).await;
        assert_eq!(status, StatusCode::OK, "{address}");
        assert!(address.ends_with(&text), "{address}: {text}");
    }
    std::fs::remove_dir_all(modules).unwrap();
}

/// A client with a hundred streams that reads none holds a hundred answers.
#[tokio::test]
async fn all_answers_share_the_bytes_of_a_file() {
    let modules = installed("shared");
    let router = router_with(modules.clone());
    let mut paths = vec!["/".to_owned()];
    paths.extend(FILES.map(|(name, ..)| format!("/web/{name}")));
    paths.extend(PACKAGES.map(|(name, ..)| format!("{LOCAL}{name}")));
    for path in paths {
        let body = async || {
            let request = Request::get(&path).body(Body::empty()).unwrap();
            let mut response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            frame.into_data().unwrap()
        };
        // Both are alive, so one allocation is one address.
        let (first, second) = (body().await, body().await);
        assert_eq!(first.as_ptr(), second.as_ptr(), "{path}");
    }
    std::fs::remove_dir_all(modules).unwrap();
}

/// No page may frame this one, nor keep a handle on its window.
#[tokio::test]
async fn other_pages_get_no_hold_of_this_one() {
    let router = router_with("/no/such".into());
    for path in ["/", "/web/main.js"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let headers = response.headers();
        assert_eq!(headers[CROSS_ORIGIN_OPENER_POLICY], "same-origin");
        assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    }
}

#[tokio::test]
async fn xterm_comes_from_elsewhere_if_it_is_not() {
    let router = router_with("/no/such".into());
    let (_, policy, page) = get_from(&router, "/").await;
    let found = addresses(&page);
    assert_eq!(found.len(), PACKAGES.len());
    for (address, hash) in found {
        let name = address.strip_prefix(CDN).expect(address);
        assert!(PACKAGES.iter().any(|(known, ..)| *known == name), "{name}");
        assert!(hash.starts_with("sha384-"), "{hash}");
        // Each is allowed by itself, not all that the CDN has.
        assert!(policy.split([' ', ';']).any(|source| source == address));
        let (status, ..) = get_from(&router, &format!("{LOCAL}{name}")).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn no_other_file_is_served() {
    let modules = installed("other");
    std::fs::write(modules.join("secret"), "secret").unwrap();
    let router = router_with(modules.clone());
    for path in [
        "/web/",
        "/web/web.rs",
        "/web/npm/secret",
        "/web/npm/@xterm/xterm/lib/xterm.js",
        "/web/npm/@xterm/xterm@6.0.0/lib/../../../secret",
        "/web/npm/..%2f..%2f..%2fetc%2fpasswd",
        "/web/..%2fsrc%2fweb.rs",
    ] {
        let (status, ..) = get_from(&router, path).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
    }
    std::fs::remove_dir_all(modules).unwrap();
}

/// An address in the page that nothing covers would be loaded without a check.
#[test]
fn nothing_is_loaded_without_a_hash() {
    assert_eq!(INDEX.matches("https://").count(), PACKAGES.len());
    assert_eq!(addresses(INDEX).len(), PACKAGES.len());
    for inline in ["<style", " style=", " onclick=", "javascript:"] {
        assert!(!INDEX.contains(inline), "{inline}");
    }
    let scripts = INDEX.matches("<script").count();
    assert_eq!(INDEX.matches("></script>").count(), scripts);
}
