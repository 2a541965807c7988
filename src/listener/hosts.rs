//! By which name the private address may be asked. A page in somebody's browser can have its own name point at this machine
//! (DNS rebinding), and would then read what only this machine may read: it can only do so by a name, and by its own.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};

const MISDIRECTED: &str =
    "reteno-sync is not asked by this name: ask by its IP address or as localhost, or set listen.names\n";

/// Answers of `router` only to whoever asks by an IP address, by a name without a dot, as localhost, or by one of `names`.
pub(super) fn guard(router: Router, names: &Arc<[String]>) -> Router {
    let names = Arc::clone(names);
    router.layer(from_fn(move |request: Request, next: Next| {
        let names = Arc::clone(&names);
        async move { if is_own(&request, &names) { next.run(request).await } else { refuse() } }
    }))
}

fn refuse() -> Response {
    (StatusCode::MISDIRECTED_REQUEST, MISDIRECTED).into_response()
}

fn is_own(request: &Request, names: &[String]) -> bool {
    let in_target = request.uri().authority().is_none_or(|authority| is_own_name(authority.host(), names));
    in_target && is_own_host(request.headers(), names)
}

/// A browser always says its host; old health checks do not.
fn is_own_host(headers: &HeaderMap, names: &[String]) -> bool {
    headers.get_all(header::HOST).iter().all(|host| {
        let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        host.is_some_and(|host| is_own_name(host.host(), names))
    })
}

fn is_own_name(host: &str, names: &[String]) -> bool {
    let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    // nobody can own a name without a dot, or one below localhost
    let is_local = !host.is_empty() && (!host.contains('.') || host.ends_with(".localhost"));
    is_address || is_local || names.iter().any(|name| name.trim_end_matches('.').eq_ignore_ascii_case(&host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_local_names_and_those_configured_are_own() {
        let names = ["sync.example.com".to_owned()];
        let own = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            is_own_host(&headers, &names)
        };
        for host in ["127.0.0.1:8400", "[::1]:8400", "10.0.0.7", "localhost:8400", "LOCALHOST", "sync", "a.localhost"] {
            assert!(own(host), "{host}");
        }
        assert!(own("Sync.Example.com.:8400"));
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "example.com",
            "x.sync.example.com",
            "localhost.evil.example",
            "",
            "a b",
        ] {
            assert!(!own(host), "{host}");
        }
        assert!(is_own_host(&HeaderMap::new(), &names));
        let mut two = HeaderMap::new();
        two.append(header::HOST, "localhost".parse().unwrap());
        two.append(header::HOST, "evil.example".parse().unwrap());
        assert!(!is_own_host(&two, &names));
    }
}
