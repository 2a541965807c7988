//! Requests to the token endpoint. Secrets travel in the body and a header, never in the URL.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use oauth2::{AuthUrl, AuthorizationCode, ClientId, ClientSecret, RedirectUrl, TokenUrl};
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

use super::reaction::{TokenAnswer, TokenError, react_token};
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

/// The app as it is registered with Reteno. `Debug` redacts the secret.
#[derive(Debug, Clone)]
pub struct App {
    /// Reteno's client id.
    pub client_id: ClientId,
    /// Reteno's client secret.
    pub client_secret: ClientSecret,
    /// How they are sent.
    pub client_auth: ClientAuth,
    /// Where a person grants access.
    pub authorize_url: AuthUrl,
    /// Where codes and refresh tokens become access tokens.
    pub token_url: TokenUrl,
    /// The app's Callback URL, byte for byte as registered.
    pub redirect_uri: RedirectUrl,
}

impl App {
    /// An app as the configuration names it. `redirect` is kept as written: OAuth compares it byte for byte.
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
            client_secret: ClientSecret::new(client_secret.expose_secret().to_owned()),
            client_auth,
            authorize_url: AuthUrl::from_url(authorize_url),
            token_url: TokenUrl::from_url(token_url),
            redirect_uri: RedirectUrl::new(redirect.to_owned())?,
        })
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
        self.request(&[("grant_type", "authorization_code"), ("code", code.secret())]).await
    }

    /// Refreshes `grant`: Reteno wants the original code beside the last refresh token. The vendor's page has
    /// `redirect_uri` in one of its two forms, so it is sent.
    pub async fn refresh(&self, grant: &Grant) -> Result<Issued, TokenError> {
        let fields = [
            ("grant_type", "refresh_token"),
            ("refresh_token", grant.refresh_token.expose_secret()),
            ("code", grant.code.expose_secret()),
        ];
        self.request(&fields).await
    }

    async fn request(&self, fields: &[(&str, &str)]) -> Result<Issued, TokenError> {
        let request = self.build_request(fields)?;
        // Taken before sending: a lifetime that starts too early costs nothing, one that starts too late costs a 401.
        let sent = self.clock.now();
        let answer = react_token(self.exchange.exchange(request).await)?;
        Ok(Issued { answer, sent })
    }

    fn build_request(&self, fields: &[(&str, &str)]) -> Result<Request<Bytes>, TokenError> {
        let app = &self.app;
        let mut form = Serializer::new(String::new());
        form.extend_pairs(fields).append_pair("redirect_uri", app.redirect_uri.as_str());
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(app.token_url.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        match app.client_auth {
            ClientAuth::Basic => request = request.header(header::AUTHORIZATION, basic(app)),
            ClientAuth::Params => {
                form.append_pair("client_id", &app.client_id).append_pair("client_secret", app.client_secret.secret());
            }
        }
        request
            .body(Bytes::from(form.finish()))
            .map_err(|_| TokenError::NotUnderstood { cause: "reteno.token_url is no usable address".to_owned() })
    }
}

/// HTTP Basic with both parts form-encoded first (RFC 6749, section 2.3.1). Some servers decode, some do not: the hex
/// ids of Reteno are the same either way.
fn basic(app: &App) -> HeaderValue {
    let encode = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(&app.client_id), encode(app.client_secret.secret()));
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
