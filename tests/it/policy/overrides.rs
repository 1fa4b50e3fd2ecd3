//! Idle timeouts of routes and requests.

use super::*;

/// Returns when a session at a path ends, if that is within an hour.
async fn end_at(router: impl HttpService, path: &str) -> Option<Duration> {
    let (near, far) = tokio::io::duplex(4096);
    serve(far, router);
    let mut client = Raw::handshake_at(near, path, subprotocols::V5)
        .await
        .unwrap();
    let start = Instant::now();
    let told = timeout(LONG, client.next()).await.ok()?.unwrap();
    assert_eq!(told.close_code(), Some(1001));
    Some(start.elapsed() - secs(1))
}

#[tokio::test(start_paused = true)]
async fn each_route_has_the_idle_timeout_it_was_given_last() {
    let _watchdog = Watchdog::bites_after(BITE);
    let stack = idle().layer(tower::service_fn(never));
    let by_request = ServiceBuilder::new()
        .map_request(|mut request: http::Request<axum::body::Body>| {
            let asked = request.uri().query().and_then(|query| query.parse().ok());
            if let Some(asked) = asked {
                let timeout = IdleTimeout(Some(secs(asked)));
                request.extensions_mut().insert(timeout);
            }
            request
        })
        .service(stack.clone());
    let of = |timeout: Option<u64>| IdleTimeoutLayer::new(timeout.map(secs));
    let router = axum::Router::new()
        .route_service("/layer", stack.clone())
        .route_service("/longer", of(Some(60)).layer(stack.clone()))
        .route_service("/never", of(None).layer(stack.clone()))
        .route_service("/request", by_request.clone())
        .route_service("/both", of(Some(60)).layer(by_request.clone()))
        .route_service(
            "/inner",
            of(Some(60)).layer(of(Some(20)).layer(stack.clone())),
        )
        .route_service("/inner-none", of(Some(60)).layer(of(None).layer(stack)))
        .route_service(
            "/without",
            of(Some(30)).layer(layer().layer(tower::service_fn(never))),
        );
    let end = |path| end_at(router.clone(), path);
    // All at the same time, because none of them affects another.
    let ends = futures_util::future::join_all([
        end("/layer"),
        end("/longer"),
        end("/never"),
        end("/request"),
        end("/request?5"),
        end("/both"),
        end("/both?7"),
        end("/inner"),
        end("/inner-none"),
        end("/without"),
        end("/layer"),
    ]);
    let expected = [
        Some(10),
        Some(60),
        None,
        Some(10),
        Some(5),
        Some(60),
        Some(7),
        Some(20),
        None,
        Some(30),
        Some(10),
    ];
    for (n, (end, expected)) in ends.await.into_iter().zip(expected).enumerate() {
        assert_eq!(end.is_some(), expected.is_some(), "session {n}");
        if let (Some(end), Some(expected)) = (end, expected) {
            assert_at(&format!("session {n}"), end, secs(expected));
        }
    }
}
