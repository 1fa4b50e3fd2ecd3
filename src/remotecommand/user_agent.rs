use http::{header::USER_AGENT, request::Parts};

use crate::session::Hold;

/// The first minor version of kubectl 1 that sets up its streams before it reads.
const READY_SINCE: u32 = 34;

/// Returns the default [`Hold`] if the client may lose early output, judging by the `User-Agent` of
/// the handshake.
///
/// This is the default of [`RemoteCommandLayer::hold`](super::RemoteCommandLayer::hold).
///
/// | client | `User-Agent` | held |
/// |---|---|---|
/// | kubectl from 1.34 on | `kubectl/v1.34.1 (linux/amd64) kubernetes/93248f9` | no |
/// | kubectl up to 1.33 | `kubectl/v1.33.1 (linux/amd64) kubernetes/8adc0f0` | yes |
/// | other programs with client-go, whose version says nothing about that of client-go | `program/v1.2.3 (linux/amd64) kubernetes/8adc0f0`, `Go-http-client/1.1` | yes |
/// | kube-rs, Python `kubernetes`, `@kubernetes/client-node` | none | no |
/// | browsers | `Mozilla/5.0 ...` | no |
/// | Python `websockets` | `Python/3.11 websockets/17.4` | no |
/// | anything else | | yes |
///
/// # Examples
///
/// To add a program that is known to be ready:
///
/// ```
/// use http::{header::USER_AGENT, request::Parts};
/// use tower_wsstream::{
///     remotecommand::{self, RemoteCommandLayer},
///     session::Hold,
/// };
///
/// fn hold(head: &Parts) -> Option<Hold> {
///     match head.headers.get(USER_AGENT) {
///         Some(agent) if agent.as_bytes().starts_with(b"our-console/") => None,
///         _ => remotecommand::hold_by_user_agent(head),
///     }
/// }
///
/// let layer = RemoteCommandLayer::new().hold(hold);
/// # let _ = layer;
/// ```
#[must_use]
pub fn hold_by_user_agent(head: &Parts) -> Option<Hold> {
    let mut agents = head.headers.get_all(USER_AGENT).iter();
    // With two headers it is unclear which one counts, so both must name a ready client.
    let is_ready = agents.all(|agent| agent.to_str().is_ok_and(is_ready));
    (!is_ready).then(Hold::default)
}

/// Returns whether a client of this name is ready for output once it has sent its request.
fn is_ready(agent: &str) -> bool {
    let (product, rest) = agent.split_once(' ').unwrap_or((agent, ""));
    match product.split_once('/') {
        Some(("Mozilla", _)) => true,
        Some(("Python", _)) => rest.starts_with("websockets/"),
        // client-go sends the name of the program's file: `kubectl.exe`, `kubectl.1.34`.
        Some((program, version)) if program == "kubectl" || program.starts_with("kubectl.") => {
            is_ready_kubectl(version)
        }
        _ => false,
    }
}

/// Returns whether a kubectl of this version is ready.
///
/// The version is `v1.34.0`, or a vendor's form such as `v1.34.1-gke.5` or `v1.34+`. One that cannot
/// be parsed counts as old.
fn is_ready_kubectl(version: &str) -> bool {
    let Some((major, rest)) = version
        .strip_prefix('v')
        .and_then(|version| version.split_once('.'))
    else {
        return false;
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (minor, rest) = rest.split_at(digits);
    let (Some(major), Some(minor)) = (number(major), number(minor)) else {
        return false;
    };
    match (major, minor) {
        (1, READY_SINCE) => !is_pre_release(rest),
        (1, minor) => minor > READY_SINCE,
        (major, _) => major > 1,
    }
}

fn number(digits: &str) -> Option<u32> {
    // `parse` would accept a sign.
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// Returns whether the rest of a version, after the minor one, is that of a pre-release, such as
/// `.0-alpha.1`. A vendor's suffix, such as `.0-eks-2d5f260`, is not.
fn is_pre_release(rest: &str) -> bool {
    let stages = ["-alpha", "-beta", "-rc"];
    let suffix = rest.find('-').map_or("", |at| &rest[at..]);
    stages.iter().any(|stage| suffix.starts_with(stage))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn held(agents: &[&[u8]]) -> bool {
        let request = Request::get("/").header("host", "x");
        let add =
            |request: http::request::Builder, agent: &&[u8]| request.header(USER_AGENT, *agent);
        let request = agents.iter().fold(request, add);
        let (head, ()) = request.body(()).unwrap().into_parts();
        let hold = hold_by_user_agent(&head);
        assert!(hold.is_none_or(|hold| hold == Hold::default()));
        hold.is_some()
    }

    #[test]
    fn kubectl_says_which_it_is() {
        for (version, held_back) in [
            ("v1.29.15", true),
            ("v1.30.14", true),
            ("v1.33.0", true),
            ("v1.33.1", true),
            ("v1.33.99", true),
            ("v1.33.1-gke.5", true),
            ("v1.33.4-eks-e386d34", true),
            ("v1.3.4", true),
            ("v1.9.34", true),
            ("v0.0.0", true),
            ("v0.34.1", true),
            ("v0.0.0-master+$Format:%H$", true),
            ("v1.34.0-alpha.1", true),
            ("v1.34.0-beta.0", true),
            ("v1.34.0-rc.1", true),
            ("v1.34.0", false),
            ("v1.34.1", false),
            ("v1.34.1-gke.5", false),
            ("v1.34.0-eks-2d5f260", false),
            ("v1.34+", false),
            ("v1.34", false),
            ("v1.35.0-alpha.1", false),
            ("v1.37.2", false),
            ("v1.100.0", false),
            ("v2.0", false),
            ("v2.0.0-alpha.1", false),
            ("v10.1.0", false),
            // A version that cannot be parsed counts as old.
            ("", true),
            ("v", true),
            ("v1", true),
            ("v1.", true),
            ("v.34.0", true),
            ("v1.x.34", true),
            ("v1.-34.0", true),
            ("v1.+34.0", true),
            ("v+1.34.0", true),
            ("v-2.0", true),
            ("1.34.0", true),
            ("V1.34.0", true),
            ("vv1.34.0", true),
            ("v1.99999999999999999999.0", true),
            ("v99999999999999999999.0", true),
            ("v1.\u{663}\u{664}.0", true),
            ("unknown", true),
        ] {
            let tail = "(linux/amd64) kubernetes/8adc0f0";
            for program in ["kubectl", "kubectl.exe", "kubectl.1.34"] {
                let agent = format!("{program}/{version} {tail}");
                assert_eq!(held(&[agent.as_bytes()]), held_back, "{agent}");
            }
            let alone = format!("kubectl/{version}");
            assert_eq!(held(&[alone.as_bytes()]), held_back, "{alone}");
        }
    }

    #[test]
    fn others_are_known_by_their_names() {
        for (agent, held_back) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                false,
            ),
            ("Mozilla/5.0", false),
            ("Python/3.11 websockets/17.4", false),
            ("Python/3.14 websockets/15.0.1", false),
            // These use client-go, of an unknown version.
            ("Go-http-client/1.1", true),
            ("k9s/v0.50.6 (linux/amd64) kubernetes/8adc0f0", true),
            ("oc/v4.19.0 (linux/amd64) kubernetes/298429b", true),
            ("helm/v3.18.4 (linux/amd64) kubernetes/8adc0f0", true),
            (
                "kubectl-debug/v1.34.1 (linux/amd64) kubernetes/8adc0f0",
                true,
            ),
            ("kubectlx/v1.34.1 (linux/amd64) kubernetes/8adc0f0", true),
            // Unknown names, and names that merely contain a known one.
            ("", true),
            (" ", true),
            ("/", true),
            ("kubectl", true),
            ("kubectl v1.34.1", true),
            ("x kubectl/v1.34.1", true),
            ("mozilla/5.0", true),
            ("NotMozilla/5.0", true),
            ("Mozilla", true),
            ("Python/3.11", true),
            ("Python/3.11 aiohttp/3.12.15", true),
            ("Python/3.11 x websockets/17.4", true),
            ("websockets/17.4", true),
            ("curl/8.5.0", true),
        ] {
            assert_eq!(held(&[agent.as_bytes()]), held_back, "{agent:?}");
        }
    }

    #[test]
    fn no_name_is_a_client_that_is_ready() {
        assert!(!held(&[]));
    }

    #[test]
    fn of_two_names_both_must_be_ready() {
        let (old, new): (&[u8], &[u8]) = (b"kubectl/v1.33.1", b"kubectl/v1.34.1");
        assert!(!held(&[new, b"Mozilla/5.0"]));
        for agents in [[old, new], [new, old], [old, old]] {
            assert!(held(&agents));
        }
    }

    #[test]
    fn a_name_that_is_no_text_is_unknown() {
        assert!(held(&[b"kubectl/v1.34.1 \xff"]));
        assert!(held(&[b"\xff"]));
    }
}
