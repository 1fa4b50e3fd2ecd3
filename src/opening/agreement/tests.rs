use std::time::{Duration, SystemTime};

use http::{Request, StatusCode, header};

use super::*;
use crate::{
    policy::{IdleTimeout, OriginPolicy},
    protocol::{ChannelType, Encoding},
    session::Sessions,
};

/// A handshake that lacks nothing, with the subprotocols that it offers.
fn head(offers: &str) -> Box<Parts> {
    let request = Request::builder()
        .header("host", "localhost")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-protocol", offers)
        .extension(hyper::upgrade::on(Request::new(())));
    Box::new(request.body(()).unwrap().into_parts().0)
}

fn table() -> ChannelProtocols {
    let channels =
        |count| ChannelProtocolConfig::new(Encoding::Binary, vec![ChannelType::Read; count]);
    let table = ChannelProtocols::builder()
        .protocol("one", channels(1))
        .protocol("two", channels(2));
    table.build().unwrap()
}

fn judge(head: Box<Parts>, config: &SessionConfig) -> Result<Proposal, Rejection> {
    Proposal::judge(Upgrade::Http1, head, &Arc::new(config.clone()))
}

fn agree(head: Box<Parts>, config: &Arc<SessionConfig>) -> (Agreement, Head) {
    let proposal = Proposal::judge(Upgrade::Http1, head, config).unwrap();
    proposal.select(&table()).unwrap()
}

/// A head and a server with every mistake, which are put right in the order of their reports.
#[test]
fn a_mistake_of_the_configuration_is_reported_first_and_one_of_the_request_last() {
    let mut request = head("one");
    request.headers.remove("sec-websocket-key");
    request
        .headers
        .insert(header::ORIGIN, "https://other.example".parse().unwrap());
    request.extensions.remove::<OnUpgrade>();
    request.extensions.insert(IdleTimeout(Some(Duration::ZERO)));
    let sessions = Sessions::default();
    sessions.close();
    let mut config = SessionConfig::default()
        .sessions(sessions)
        .upgrade_timeout(Duration::ZERO);
    type PutRight = fn(&mut Parts, &mut SessionConfig);
    let reports: [(RejectionKind, &str, PutRight); 6] = [
        (RejectionKind::Config, "upgrade_timeout", |_, config| {
            *config = config.clone().upgrade_timeout(Duration::from_secs(1));
        }),
        (RejectionKind::BadRequest, "Sec-WebSocket-Key", |head, _| {
            head.headers = self::head("one").headers;
            head.headers
                .insert(header::ORIGIN, "https://other.example".parse().unwrap());
        }),
        (
            RejectionKind::Config,
            "hands over no connection",
            |head, _| {
                head.extensions.insert(hyper::upgrade::on(Request::new(())));
            },
        ),
        (RejectionKind::Origin, "other.example", |head, _| {
            head.headers.remove(header::ORIGIN);
        }),
        (RejectionKind::Draining, "shutting down", |_, config| {
            *config = config.clone().sessions(Sessions::default());
        }),
        (RejectionKind::Config, "IdleTimeout", |head, _| {
            head.extensions.remove::<IdleTimeout>();
        }),
    ];
    for (kind, text, put_right) in reports {
        let rejection = judge(Box::new((*request).clone()), &config).err().unwrap();
        assert_eq!(rejection.kind(), kind, "{rejection}");
        assert!(rejection.message().contains(text), "{rejection}");
        put_right(&mut request, &mut config);
    }
    assert!(judge(request, &config).is_ok());
}

#[test]
fn an_origin_policy_of_the_request_replaces_that_of_the_configuration() {
    let mut request = head("one");
    request
        .headers
        .insert(header::ORIGIN, "https://other.example".parse().unwrap());
    let same_origin = SessionConfig::default();
    assert!(judge(request.clone(), &same_origin).is_err());
    request.extensions.insert(OriginPolicy::any());
    assert!(judge(request.clone(), &same_origin).is_ok());
    request.extensions.insert(OriginPolicy::same_origin());
    let any = SessionConfig::default().origin(OriginPolicy::any());
    assert!(judge(request, &any).is_err());
}

#[test]
fn a_proposal_becomes_the_agreement_of_the_first_offer_that_is_spoken() {
    let hour = Duration::from_secs(60 * 60);
    let mut request = head("none, two, one");
    request.extensions.insert(Peer::new("anna"));
    request
        .extensions
        .insert(ValidUntil(SystemTime::now() + hour));
    let config = Arc::new(SessionConfig::default());
    let (agreement, head) = agree(request, &config);
    assert_eq!(agreement.subprotocol, "two");
    assert_eq!(agreement.channels.channels().len(), 2);
    assert_eq!(agreement.peer, Some(Peer::new("anna")));
    let left = agreement.expiry.unwrap() - Instant::now();
    assert!(left > hour / 2 && left <= hour, "{left:?}");
    assert!(
        Arc::ptr_eq(&agreement.config, &config),
        "nothing is overridden"
    );
    // The service gets the head, but for the connection.
    assert!(head.get_ref().extensions.get::<Peer>().is_some());
    assert!(head.get_ref().extensions.get::<OnUpgrade>().is_none());

    let mut request = self::head("one");
    request.extensions.insert(IdleTimeout(Some(hour)));
    let (agreement, _) = agree(request, &config);
    assert_eq!(agreement.config.policy.idle_timeout, Some(hour));
    assert_eq!((agreement.peer, agreement.expiry), (None, None));
}

#[test]
fn without_a_common_subprotocol_there_is_no_agreement() {
    let proposal = judge(head("none"), &SessionConfig::default()).unwrap();
    let rejection = proposal.select(&table()).err().unwrap();
    assert_eq!(rejection.kind(), RejectionKind::NoCommonSubprotocol);
}

#[test]
fn a_drain_after_the_judgement_refuses() {
    let sessions = Sessions::default();
    let proposal = judge(
        head("one"),
        &SessionConfig::default().sessions(sessions.clone()),
    );
    let proposal = proposal.unwrap();
    assert!(proposal.refuse_if_draining().is_ok());
    sessions.close();
    let rejection = proposal.refuse_if_draining().unwrap_err();
    assert_eq!(rejection.kind(), RejectionKind::Draining);
}

#[test]
fn an_error_is_mapped_and_a_mapping_that_panics_is_500() {
    let of = |config| {
        let (agreement, _) = agree(head("one"), &Arc::new(config));
        agreement.refusal(&"no such pod".into())
    };
    let plain = of(SessionConfig::default());
    assert_eq!(plain.kind(), RejectionKind::Internal);
    assert!(!plain.message().contains("no such pod"), "{plain}");
    let mapped = of(SessionConfig::default()
        .map_rejection(|error| Rejection::new(StatusCode::NOT_FOUND, error.to_string())));
    assert_eq!(mapped.status(), StatusCode::NOT_FOUND);
    assert_eq!(mapped.message(), "no such pod");
    let panicked = of(SessionConfig::default().map_rejection(|_| panic!("on purpose")));
    assert_eq!(panicked.kind(), RejectionKind::Internal);
}
