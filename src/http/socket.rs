//! The one HTTP client that opens sockets: TLS except to loopback, no redirects, bounded in time and size.
//!
//! It never logs, never follows an answer elsewhere, and its errors name the host only.

use std::error::Error;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use url::{Host, Url};

use super::charset::in_utf8;
use super::{Exchange, ExchangeError};

const USER_AGENT: &str = concat!("reteno-sync/", env!("CARGO_PKG_VERSION"));

/// How long an unused connection is kept.
const IDLE_MAX: Duration = Duration::from_secs(30);

type BoxError = Box<dyn Error + Send + Sync>;

/// How long one request may take. Waiting for a turn in [`super::paced::Paced`] is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands, with name resolution and TLS.
    pub connect: Duration,
    /// Between two pieces of the answer.
    pub read: Duration,
    /// From the first step to the last byte of the answer.
    pub total: Duration,
}

/// Why a URL is not asked at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RefusedUrl {
    /// Tokens and contacts would travel in clear.
    #[error("only https is allowed, except to this machine itself")]
    Clear,
    /// A user name or password in a URL ends in logs.
    #[error("the url holds a user name or password")]
    Credentials,
}

/// An answer longer than the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is longer than {bytes_max} bytes")]
pub struct TooLong {
    /// The bound.
    pub bytes_max: usize,
}

/// [`Exchange`] over real sockets. One for the process: it keeps connections open and shares them.
///
/// A request is made once. Where HTTP/2 itself proves that the server did not look at it (a refused stream, a
/// connection being wound up), reqwest makes it again on another connection.
#[derive(Clone)]
pub struct HttpExchange {
    secure: Built,
    loopback: Built,
    body_bytes_max: usize,
}

/// A client that could not be set up (no root certificates, say) fails each request that needs it and no other: the
/// demo runs on loopback alone, also on a machine without certificates.
type Built = Result<reqwest::Client, Arc<reqwest::Error>>;

impl HttpExchange {
    /// `body_bytes_max` bounds an answer's body as it is unpacked; a longer one is [`ExchangeError::Lost`].
    ///
    /// Requests over TLS go through the proxy of `HTTPS_PROXY`, where set. Clear text to loopback never does: the
    /// proxy is another machine, and a token would reach it in clear.
    #[must_use]
    pub fn new(timeouts: Timeouts, body_bytes_max: usize) -> Self {
        let secure = builder(timeouts).https_only(true).build();
        // `localhost` is pinned, so that no resolver can turn clear text away from this machine.
        let here = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
        let loopback = builder(timeouts).no_proxy().tls_certs_only([]).resolve_to_addrs("localhost", &here).build();
        Self { secure: secure.map_err(Arc::new), loopback: loopback.map_err(Arc::new), body_bytes_max }
    }

    fn client_for(&self, url: &Url) -> Result<&reqwest::Client, BoxError> {
        if !url.username().is_empty() || url.password().is_some() {
            return Err(RefusedUrl::Credentials.into());
        }
        let built = match url.scheme() {
            "https" => &self.secure,
            "http" if is_loopback(url) => &self.loopback,
            _ => return Err(RefusedUrl::Clear.into()),
        };
        built.as_ref().map_err(|error| Arc::clone(error).into())
    }

    async fn perform(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, ExchangeError> {
        let host = host_and_port(request.uri());
        let request = match reqwest::Request::try_from(request) {
            Ok(request) => request,
            Err(error) => return Err(ExchangeError::NotSent { host, source: error.without_url().into() }),
        };
        let client = match self.client_for(request.url()) {
            Ok(client) => client,
            Err(source) => return Err(ExchangeError::NotSent { host, source }),
        };
        let mut response = client.execute(request).await.map_err(|error| by_effect(host.clone(), error))?;
        let body = match read_bounded(&mut response, self.body_bytes_max).await {
            Ok(body) => body,
            Err(source) => return Err(ExchangeError::Lost { host, source }),
        };
        let mut answer = http::Response::new(in_utf8(response.headers(), &body).map_or(body, Bytes::from));
        *answer.status_mut() = response.status();
        *answer.version_mut() = response.version();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }
}

impl Exchange for HttpExchange {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, ExchangeError>> {
        Box::pin(self.perform(request))
    }
}

impl fmt::Debug for HttpExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpExchange").field("body_bytes_max", &self.body_bytes_max).finish_non_exhaustive()
    }
}

#[expect(clippy::disallowed_methods, reason = "the one builder of HTTP clients")]
fn builder(timeouts: Timeouts) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        // A redirect would carry the token to a place nobody configured, and turns a POST into a GET.
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        // A server that closes an idle connection in the moment of a POST leaves it unknown whether that was carried
        // out. Servers close after a minute or so: half of that costs a handshake now and then instead.
        .pool_idle_timeout(IDLE_MAX)
        .connect_timeout(timeouts.connect)
        .read_timeout(timeouts.read)
        .timeout(timeouts.total)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

/// Host and port without the user name that an authority may hold.
fn host_and_port(uri: &http::Uri) -> String {
    match (uri.host(), uri.port_u16()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => "an address without a host".to_owned(),
    }
}

/// Only a failure before the connection stood proves that nothing was sent; in doubt the request is lost.
fn by_effect(host: String, error: reqwest::Error) -> ExchangeError {
    let not_sent = error.is_builder() || error.is_connect();
    let source: BoxError = error.without_url().into();
    if not_sent { ExchangeError::NotSent { host, source } } else { ExchangeError::Lost { host, source } }
}

async fn read_bounded(response: &mut reqwest::Response, bytes_max: usize) -> Result<Bytes, BoxError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len().saturating_add(chunk.len()) > bytes_max {
            return Err(TooLong { bytes_max }.into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
