//! Requests to the token endpoint. Secrets travel in the body and a header; in the URL only where a CRM takes nothing
//! else.

use std::net::Ipv4Addr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use oauth2::{AuthUrl, AuthorizationCode, ClientId, ClientSecret, RedirectUrl, TokenUrl};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::form_urlencoded::{Serializer, byte_serialize};
use url::{Host, Url};

use super::dialect::{Basis, Dialect, TokenBody};
use super::party::Party;
use super::reaction::{TokenAnswer, TokenError, react};
use super::token::Grant;
use crate::clock::{Clock, Timestamp};
use crate::http::Exchange;

/// How the client proves itself to the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// HTTP Basic, the vendor's Python form.
    Basic,
    /// `client_id` and `client_secret` in the form, the vendor's URL form moved into the body.
    Params,
}

/// The grant type of a signed statement (RFC 7523).
const STATEMENT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";

/// The app as it is registered with Reteno or a CRM. `Debug` redacts the secret.
#[derive(Debug, Clone)]
pub struct App {
    /// The app's id.
    pub client_id: ClientId,
    /// The app's secret; an app that signs statements needs none.
    pub client_secret: Option<ClientSecret>,
    /// How they are sent.
    pub client_auth: ClientAuth,
    /// Where a person grants access. Of no meaning to an app that asks nobody.
    pub authorize_url: AuthUrl,
    /// Where codes and refresh tokens become access tokens.
    pub token_url: TokenUrl,
    /// The app's Callback URL, byte for byte as registered. Of no meaning to an app that asks nobody.
    pub redirect_uri: RedirectUrl,
    /// The ways of the server.
    pub dialect: Dialect,
}

impl App {
    /// An app of Reteno's as the configuration names it; an empty secret is none. `redirect` is kept as written: OAuth compares it byte for byte.
    ///
    /// # Errors
    /// Where `redirect` is not a URL.
    pub fn new(
        (client_id, client_secret): (String, &SecretString),
        client_auth: ClientAuth,
        authorize_url: Url,
        token_url: Url,
        redirect: &str,
    ) -> Result<Self, url::ParseError> {
        Ok(Self {
            client_id: ClientId::new(client_id),
            client_secret: (!client_secret.expose_secret().is_empty())
                .then(|| ClientSecret::new(client_secret.expose_secret().to_owned())),
            client_auth,
            authorize_url: AuthUrl::from_url(authorize_url),
            token_url: TokenUrl::from_url(token_url),
            redirect_uri: RedirectUrl::new(redirect.to_owned())?,
            dialect: Dialect::reteno(),
        })
    }

    /// The same app at a server with other ways.
    #[must_use]
    pub fn speaking(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// Who gives the tokens.
    #[must_use]
    pub fn party(&self) -> &Party {
        &self.dialect.party
    }

    /// May an answer of the token endpoint name this host? One of this machine only where the endpoint is that very service:
    /// a stranger's answer must not lead our requests to what listens here for nobody else.
    #[must_use]
    pub fn may_name(&self, base_url: &str) -> bool {
        let Ok(named) = Url::parse(base_url) else { return false };
        !is_of_this_machine(&named) || named.origin() == self.token_url.url().origin()
    }

    /// When the refresh token of `grant` dies if it is never used, where that is known.
    #[must_use]
    pub fn refresh_token_expires_at(&self, grant: &Grant) -> Option<Timestamp> {
        let has_one = !grant.refresh_token.expose_secret().is_empty();
        self.dialect.refresh_token_lifetime.filter(|_| has_one).map(|lifetime| grant.requested_at.plus(lifetime))
    }
}

/// The token endpoint of one app.
#[derive(Clone)]
pub struct TokenEndpoint {
    exchange: Arc<dyn Exchange>,
    app: Arc<App>,
    clock: Clock,
}

/// Tokens, and when they were asked for.
#[derive(Debug)]
pub struct Issued {
    /// The tokens.
    pub answer: TokenAnswer,
    /// The moment the request was sent.
    pub sent: Timestamp,
}

impl TokenEndpoint {
    /// The endpoint `app.token_url`, reached through `exchange`.
    #[must_use]
    pub fn new(exchange: Arc<dyn Exchange>, app: Arc<App>, clock: Clock) -> Self {
        Self { exchange, app, clock }
    }

    /// The app it speaks for.
    #[must_use]
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Exchanges an authorization code. A code works once.
    pub async fn exchange_code(&self, code: &AuthorizationCode) -> Result<Issued, TokenError> {
        let fields = [("grant_type", "authorization_code"), ("code", code.secret())];
        self.request(&[&fields[..], &self.redirect()].concat()).await
    }

    /// Refreshes `grant`. Reteno wants the original code beside the last refresh token. The vendor's page has
    /// `redirect_uri` in one of its two forms, so it is sent; amoCRM demands it, and others pay no heed to it.
    pub async fn refresh(&self, grant: &Grant) -> Result<Issued, TokenError> {
        let mut fields = vec![("grant_type", "refresh_token"), ("refresh_token", grant.refresh_token.expose_secret())];
        if matches!(self.app.dialect.basis, Basis::Consent { repeats_code: true }) {
            fields.push(("code", grant.code.expose_secret()));
        }
        fields.extend(self.redirect());
        self.request(&fields).await
    }

    /// Asks for a new token as one that needs no person; where a person is needed, nobody has granted anything.
    pub async fn obtain(&self) -> Result<Issued, TokenError> {
        let scope = self.app.dialect.scope.as_deref().map(|scope| ("scope", scope));
        match &self.app.dialect.basis {
            Basis::Consent { .. } => Err(TokenError::InvalidGrant),
            Basis::ClientCredentials => {
                let fields: Vec<_> = [("grant_type", "client_credentials")].into_iter().chain(scope).collect();
                self.request(&fields).await
            }
            Basis::Statement(statement) => {
                let assertion = statement.sign(self.clock.now()).map_err(|_| TokenError::Temporary {
                    cause: "the statement could not be signed".to_owned(),
                    retry_after: None,
                    source: None,
                })?;
                let fields = [("grant_type", STATEMENT), ("assertion", assertion.expose_secret())];
                let fields: Vec<_> = fields.into_iter().chain(scope).collect();
                self.request(&fields).await
            }
        }
    }

    fn redirect(&self) -> [(&str, &str); 1] {
        [("redirect_uri", self.app.redirect_uri.as_str())]
    }

    async fn request(&self, fields: &[(&str, &str)]) -> Result<Issued, TokenError> {
        let request = self.build_request(fields)?;
        // Taken before sending: a lifetime that starts too early costs nothing, one that starts too late costs a 401.
        let sent = self.clock.now();
        let answer = react(self.exchange.exchange(request).await, &self.app.dialect.answer)?;
        Ok(Issued { answer, sent })
    }

    fn build_request(&self, fields: &[(&str, &str)]) -> Result<Request<Bytes>, TokenError> {
        let app = &self.app;
        let mut request = Request::builder().header(header::ACCEPT, "application/json");
        let mut fields = fields.to_vec();
        match (&app.client_secret, app.client_auth) {
            (Some(secret), ClientAuth::Basic) => {
                request = request.header(header::AUTHORIZATION, basic(&app.client_id, secret));
            }
            (Some(secret), ClientAuth::Params) => {
                fields.extend([("client_id", app.client_id.as_str()), ("client_secret", secret.secret().as_str())]);
            }
            // a statement says by itself whose it is
            (None, ClientAuth::Basic | ClientAuth::Params) => {}
        }
        for (name, value) in &app.dialect.extra {
            fields.retain(|(ours, _)| ours != name);
            fields.push((name, value.expose_secret()));
        }
        let (method, address, kind, body) = match app.dialect.body {
            TokenBody::Form => {
                let form = Serializer::new(String::new()).extend_pairs(&fields).finish();
                (Method::POST, app.token_url.url().clone(), Some("application/x-www-form-urlencoded"), form)
            }
            TokenBody::Json => {
                let object: serde_json::Map<_, _> =
                    fields.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
                let body = Value::Object(object).to_string();
                (Method::POST, app.token_url.url().clone(), Some("application/json"), body)
            }
            TokenBody::Query => {
                let mut address = app.token_url.url().clone();
                address.query_pairs_mut().extend_pairs(&fields);
                (Method::GET, address, None, String::new())
            }
        };
        if let Some(kind) = kind {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        let built = request.method(method).uri(address.as_str()).body(Bytes::from(body));
        built.map_err(|_| TokenError::NotUnderstood {
            cause: match app.party() {
                Party::Reteno => "reteno.token_url is no usable address".to_owned(),
                Party::Crm(source) => format!("source.{source}.auth.token_url is no usable address"),
            },
        })
    }
}

/// Whether an address leads to this machine, or to what a machine is told about itself (link-local).
fn is_of_this_machine(url: &Url) -> bool {
    let is_v4 = |address: Ipv4Addr| address.is_loopback() || address.is_unspecified() || address.is_link_local();
    match url.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => is_v4(address),
        Some(Host::Ipv6(address)) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unicast_link_local()
                || address.to_ipv4_mapped().is_some_and(is_v4)
        }
        None => true,
    }
}

/// HTTP Basic with both parts form-encoded first (RFC 6749, section 2.3.1). Some servers decode, some do not: the hex
/// ids of Reteno are the same either way.
fn basic(client_id: &ClientId, client_secret: &ClientSecret) -> HeaderValue {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(client_id), encode(client_secret.secret()));
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
        .expect("base64 holds only characters that a header may hold");
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::oauth::tests::scripted::{Script, app, grant, tokens};

    fn endpoint(script: &Arc<Script>, client_auth: ClientAuth) -> TokenEndpoint {
        let app = App { client_auth, ..app() };
        TokenEndpoint::new(script.clone(), Arc::new(app), Clock::simulated(Timestamp(5_000)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_refresh_carries_the_code_the_last_refresh_token_and_basic_credentials() {
        let script = Script::of(vec![tokens(1)]);
        let issued =
            endpoint(&script, ClientAuth::Basic).refresh(&grant(Timestamp(0), Duration::from_secs(9))).await.unwrap();
        assert_eq!(issued.sent, Timestamp(5_000));
        let seen = script.seen().remove(0);
        assert_eq!(seen.uri, "https://uaa.example/uaa/oauth/token");
        assert_eq!(
            seen.body,
            "grant_type=refresh_token&refresh_token=refresh-0&code=code-0\
             &redirect_uri=http%3A%2F%2F127.0.0.1%3A8400%2Fcallback"
        );
        // client-id:s%3A+cret
        assert_eq!(seen.authorization.as_deref(), Some("Basic Y2xpZW50LWlkOnMlM0ErY3JldA=="));
        assert_eq!(seen.content_type.as_deref(), Some("application/x-www-form-urlencoded"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_code_is_exchanged_with_credentials_in_the_form() {
        let script = Script::of(vec![tokens(1)]);
        let code = AuthorizationCode::new("a/b+c".to_owned());
        endpoint(&script, ClientAuth::Params).exchange_code(&code).await.unwrap();
        let seen = script.seen().remove(0);
        assert_eq!(
            seen.body,
            "grant_type=authorization_code&code=a%2Fb%2Bc&redirect_uri=http%3A%2F%2F127.0.0.1%3A8400%2Fcallback\
             &client_id=client-id&client_secret=s%3A+cret"
        );
        assert_eq!(seen.authorization, None);
        assert!(!seen.uri.contains('?'), "nothing secret in the URL");
    }
}
