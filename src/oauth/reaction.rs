//! What an answer of the token endpoint means for us: one total table. Pure.
//!
//! Never quotes an `error_description`: servers of this make put the refused token into it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use oauth2::basic::BasicErrorResponseType;
use secrecy::SecretString;
use serde_json::Value;
use url::{Host, Url};

use super::dialect::AnswerShape;
use crate::backoff;
use crate::http::ExchangeError;
use crate::json;

/// No lifetime is taken as shorter: one of zero would ask for a refresh before every call.
const LIFETIME_MIN: Duration = Duration::from_secs(2);
/// No lifetime is taken as longer: half of it must come in the time of this process's users.
const LIFETIME_MAX: Duration = Duration::from_hours(24 * 365);
/// A token answer has a dozen values; a profile that comes with it some hundreds.
const VALUES_MAX: usize = 20_000;
/// An error code of a server is shown up to this length.
const CODE_LENGTH_MAX: usize = 60;

/// What the token endpoint gave.
#[derive(Debug, Clone)]
pub struct TokenAnswer {
    /// Usable in a header.
    pub access_token: SecretString,
    /// `None` where the answer had none.
    pub refresh_token: Option<SecretString>,
    /// Lifetime of the access token from its creation.
    pub expires_in: Duration,
    /// As said.
    pub scope: Option<String>,
    /// The host to ask, where it names a usable one; without a slash at its end.
    pub base_url: Option<String>,
}

/// Why the token endpoint gave no tokens, divided by what is done next.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The code was used or has expired, or the refresh token is dead. Final for this grant.
    #[error("reteno refused the authorization code or refresh token")]
    InvalidGrant,
    /// The client id or secret is wrong. The configuration must be mended; the grant may be sound.
    #[error("reteno refused the client id or secret")]
    InvalidClient,
    /// Another refusal; waiting alone will hardly help.
    #[error("reteno refused the token request with the error {code}")]
    OtherRefusal {
        /// The server's error code, harmless characters only.
        code: String,
    },
    /// Certainly or most likely nothing happened: ask again later.
    #[error("cannot get tokens from reteno for now, {cause}")]
    Temporary {
        /// In words, without a secret.
        cause: String,
        /// Not before this long, where the server said so.
        retry_after: Option<Duration>,
        /// Why the request did not leave, where it did not.
        #[source]
        source: Option<ExchangeError>,
    },
    /// The tokens may have been issued, but did not arrive: the same request is tried again.
    #[error("the answer to the token request was lost, {cause}")]
    Uncertain {
        /// In words, without a secret.
        cause: &'static str,
        /// Why no answer came, where none did.
        #[source]
        source: Option<ExchangeError>,
    },
    /// An answer no token endpoint gives.
    #[error("cannot understand the answer to the token request, {cause}")]
    NotUnderstood {
        /// In words, without a secret.
        cause: String,
    },
}

impl TokenError {
    /// What an operator can do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::InvalidGrant => {
                "access has to be granted anew with `--authorize`; a code works once and not for long"
            }
            Self::InvalidClient => {
                "compare reteno.client_id and reteno.client_secret with the app's page in Reteno; if they are right, \
                 try the other reteno.client_auth (basic, params)"
            }
            Self::OtherRefusal { .. } => {
                "compare reteno.redirect_uri with the Callback URL of the app in Reteno, and try the other \
                 reteno.client_auth (basic, params)"
            }
            Self::Temporary { .. } => "check the network of this machine and reteno.token_url, then try again",
            Self::Uncertain { .. } => "check the network of this machine, then run the same command again",
            Self::NotUnderstood { .. } => "check reteno.token_url: something else than Reteno's token endpoint answers",
        }
    }

    /// Not before this long, where the server said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Temporary { retry_after, .. } => *retry_after,
            Self::InvalidGrant
            | Self::InvalidClient
            | Self::OtherRefusal { .. }
            | Self::Uncertain { .. }
            | Self::NotUnderstood { .. } => None,
        }
    }
}

/// The table for Reteno.
pub fn react_token(outcome: Result<Response<Bytes>, ExchangeError>) -> Result<TokenAnswer, TokenError> {
    react(outcome, &AnswerShape::reteno())
}

/// The table: what came back of a token request, and what it means where answers have this shape.
pub fn react(outcome: Result<Response<Bytes>, ExchangeError>, shape: &AnswerShape) -> Result<TokenAnswer, TokenError> {
    let response = match outcome {
        Ok(response) => response,
        Err(error @ ExchangeError::NotSent { .. }) => {
            let cause = "no connection".to_owned();
            return Err(TokenError::Temporary { cause, retry_after: None, source: Some(error) });
        }
        Err(error @ ExchangeError::Lost { .. }) => {
            return Err(TokenError::Uncertain { cause: "the connection broke", source: Some(error) });
        }
    };
    let status = response.status();
    if status.is_success() {
        return read_tokens(response.body(), shape);
    }
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::REQUEST_TIMEOUT {
        let cause = format!("status {}", status.as_u16());
        return Err(TokenError::Temporary { cause, retry_after: retry_after(response.headers()), source: None });
    }
    let code = json::read(response.body(), VALUES_MAX).ok().and_then(|answer| {
        told_error(&answer, shape).or_else(|| answer.get("error").and_then(Value::as_str).map(str::to_owned))
    });
    Err(react_refusal(status, code.as_deref(), shape))
}

/// The error that an answer tells at the place of this shape.
fn told_error(answer: &Value, shape: &AnswerShape) -> Option<String> {
    let path = shape.error.as_ref()?;
    let mut told = path.query(answer).into_iter().filter(|told| !told.is_null());
    told.next().map(|told| told.as_str().map_or_else(|| told.to_string(), str::to_owned))
}

/// A refusal by its status and error code.
fn react_refusal(status: StatusCode, code: Option<&str>, shape: &AnswerShape) -> TokenError {
    let Some(code) = code else {
        return match status {
            // Wrong HTTP Basic credentials may be turned away before the endpoint itself speaks.
            StatusCode::UNAUTHORIZED => TokenError::InvalidClient,
            _ => TokenError::NotUnderstood { cause: format!("status {} without an error code", status.as_u16()) },
        };
    };
    if let (true, Some(meant)) = (shape.is_crm, react_crm(code)) {
        return meant;
    }
    let kind = serde_json::from_value(Value::String(code.to_owned()));
    match kind {
        Ok(BasicErrorResponseType::InvalidClient) => TokenError::InvalidClient,
        Ok(BasicErrorResponseType::InvalidGrant) => TokenError::InvalidGrant,
        Ok(BasicErrorResponseType::Extension(code)) => react_extension(status, &code),
        Ok(
            BasicErrorResponseType::InvalidRequest
            | BasicErrorResponseType::InvalidScope
            | BasicErrorResponseType::UnauthorizedClient
            | BasicErrorResponseType::UnsupportedGrantType,
        )
        | Err(_) => TokenError::OtherRefusal { code: harmless(code) },
    }
}

/// Codes outside RFC 6749 that servers of this make (Spring's `/uaa/oauth/token`) are known to send.
fn react_extension(status: StatusCode, code: &str) -> TokenError {
    match code.to_ascii_lowercase().as_str() {
        // An expired refresh token, as opposed to an unknown one.
        "invalid_token" => TokenError::InvalidGrant,
        "unauthorized" if status == StatusCode::UNAUTHORIZED => TokenError::InvalidClient,
        "server_error" | "temporarily_unavailable" => {
            TokenError::Temporary { cause: format!("the error {}", harmless(code)), retry_after: None, source: None }
        }
        _ => TokenError::OtherRefusal { code: harmless(code) },
    }
}

/// Words of CRMs for what RFC 6749 has other codes for.
fn react_crm(code: &str) -> Option<TokenError> {
    match code.to_ascii_lowercase().as_str() {
        // Zoho; HubSpot; amoCRM's `hint`
        "invalid_code" | "bad_refresh_token" | "token has expired" | "token has been revoked" => {
            Some(TokenError::InvalidGrant)
        }
        // Salesforce; Zoho; Bitrix24
        "invalid_client_id" | "invalid_client_secret" | "wrong_client" => Some(TokenError::InvalidClient),
        _ => None,
    }
}

/// Lenient on purpose: a refusal to read an answer that holds tokens would lose them.
fn read_tokens(body: &[u8], shape: &AnswerShape) -> Result<TokenAnswer, TokenError> {
    let not_understood = |cause: &str| TokenError::NotUnderstood { cause: cause.to_owned() };
    let mut answer = match json::read(body, VALUES_MAX) {
        Ok(answer @ Value::Object(_)) => answer,
        // A connection that was cut may still end in a well-formed, shorter answer.
        Err(broken) if broken.is_cut_off() => {
            return Err(TokenError::Uncertain { cause: "the answer is cut off", source: None });
        }
        Ok(_) | Err(_) => return Err(not_understood("it is not the JSON of a token answer")),
    };
    if let Some(code) = told_error(&answer, shape) {
        return Err(react_refusal(StatusCode::OK, Some(&code), shape));
    }
    let base_url = base_url(&answer, shape);
    let mut taken = |key: &str| answer.get_mut(key).map_or(Value::Null, Value::take);
    let Value::String(access_token) = taken("access_token") else {
        return Err(match taken("error") {
            Value::String(code) => react_refusal(StatusCode::OK, Some(&code), shape),
            _ => not_understood("it holds no access token"),
        });
    };
    if !is_token(&access_token) {
        return Err(not_understood("its access token cannot be put into a header"));
    }
    // a CRM's word for them is the configuration's business
    let has_kind = !shape.is_crm;
    if has_kind && taken("token_type").as_str().is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(not_understood("its tokens are not bearer tokens"));
    }
    Ok(TokenAnswer {
        access_token: SecretString::from(access_token),
        refresh_token: text(taken("refresh_token")).filter(|token| !token.is_empty()).map(SecretString::from),
        expires_in: lifetime(&taken("expires_in"), shape.lifetime_default),
        scope: text(taken("scope")),
        base_url,
    })
}

/// The host that the answer names. One that tokens may not be sent to counts as none: to refuse the whole answer would
/// lose its tokens.
fn base_url(answer: &Value, shape: &AnswerShape) -> Option<String> {
    let told = shape.base_url.as_ref()?.query(answer).at_most_one().ok()??.as_str()?.trim_end_matches('/');
    let url = Url::parse(told).ok()?;
    let is_loopback = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_loopback);
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    (is_safe && is_plain && url.fragment().is_none()).then(|| told.to_owned())
}

fn text(value: Value) -> Option<String> {
    if let Value::String(text) = value { Some(text) } else { None }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn lifetime(expires_in: &Value, default: Duration) -> Duration {
    let seconds = match expires_in {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse::<f64>().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match seconds {
        Some(seconds) if seconds.is_finite() => {
            Duration::from_secs_f64(seconds.clamp(LIFETIME_MIN.as_secs_f64(), LIFETIME_MAX.as_secs_f64()))
        }
        Some(_) | None => default,
    }
}

/// `Retry-After` in seconds, or as a date, which is read against the answer's own `Date`.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let now = headers.get(header::DATE).and_then(|date| date.to_str().ok()).and_then(backoff::http_date);
    backoff::retry_after(headers, now)
}

/// A server's code, fit to be printed.
pub(super) fn harmless(code: &str) -> String {
    let kept: String = code
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
        .take(CODE_LENGTH_MAX)
        .collect();
    if kept.is_empty() { "without a readable name".to_owned() } else { kept }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::oauth::tests::scripted::{lost, not_sent};

    fn answer(status: u16, body: &str) -> Result<TokenAnswer, TokenError> {
        let response = Response::builder().status(status).body(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        react_token(Ok(response))
    }

    fn name(outcome: &Result<TokenAnswer, TokenError>) -> &'static str {
        match outcome {
            Ok(_) => "tokens",
            Err(TokenError::InvalidGrant) => "invalid grant",
            Err(TokenError::InvalidClient) => "invalid client",
            Err(TokenError::OtherRefusal { .. }) => "other refusal",
            Err(TokenError::Temporary { .. }) => "temporary",
            Err(TokenError::Uncertain { .. }) => "uncertain",
            Err(TokenError::NotUnderstood { .. }) => "not understood",
        }
    }

    #[test]
    fn every_row_of_the_table() {
        let whole = r#"{"access_token":"AT","token_type":"bearer","refresh_token":"RT","scope":"UseRestApi","expires_in":172541}"#;
        #[rustfmt::skip]
        let rows: &[(u16, &str, &str)] = &[
            (200, whole, "tokens"),
            // The least that can be used; what is missing has a default.
            (200, r#"{"access_token":"AT"}"#, "tokens"),
            (200, r#"{"access_token":"AT","token_type":"Bearer","expires_in":"60","scope":["a"]}"#, "tokens"),
            // Tokens win over a stray key.
            (200, r#"{"access_token":"AT","error":{},"token_type":1,"more":{}}"#, "tokens"),
            (200, r#"{"access_token":"AT","token_type":"mac"}"#, "not understood"),
            (200, r#"{"access_token":""}"#, "not understood"),
            (200, r#"{"access_token":"two words"}"#, "not understood"),
            (200, r#"{"access_token":"line\r\nbreak"}"#, "not understood"),
            (200, "{}", "not understood"),
            (200, "[]", "not understood"),
            (200, "<html>sign in</html>", "not understood"),
            // Cut off, or nothing left of it: the tokens were issued all the same.
            (200, &whole[..50], "uncertain"),
            (200, "", "uncertain"),
            // A refusal under 200.
            (200, r#"{"error":"invalid_grant"}"#, "invalid grant"),
            (201, whole, "tokens"),
            (204, "", "uncertain"),
            (302, "", "not understood"),
            (400, r#"{"error":"invalid_grant","error_description":"Invalid refresh token: s3cret"}"#, "invalid grant"),
            (401, r#"{"error":"invalid_grant"}"#, "invalid grant"),
            (401, r#"{"error":"invalid_token","error_description":"Invalid refresh token (expired): s3cret"}"#, "invalid grant"),
            (400, r#"{"error":"invalid_client"}"#, "invalid client"),
            (401, r#"{"error":"invalid_client"}"#, "invalid client"),
            (401, r#"{"error":"unauthorized","error_description":"Bad credentials"}"#, "invalid client"),
            (401, r#"{"status":401,"error":"Unauthorized"}"#, "invalid client"),
            (401, "<html>401</html>", "invalid client"),
            (401, "", "invalid client"),
            (400, r#"{"error":"unauthorized"}"#, "other refusal"),
            (400, r#"{"error":"invalid_request"}"#, "other refusal"),
            (400, r#"{"error":"unauthorized_client"}"#, "other refusal"),
            (400, r#"{"error":"unsupported_grant_type"}"#, "other refusal"),
            (400, r#"{"error":"invalid_scope"}"#, "other refusal"),
            (403, r#"{"error":"access_denied"}"#, "other refusal"),
            (400, r#"{"error":"temporarily_unavailable"}"#, "temporary"),
            (400, r#"{"error":"server_error"}"#, "temporary"),
            (400, "", "not understood"),
            (403, "<html>blocked</html>", "not understood"),
            (404, "not found", "not understood"),
            (405, "", "not understood"),
            (408, "", "temporary"),
            (429, "", "temporary"),
            (500, "", "temporary"),
            // Whatever a broken server says, it never costs a token.
            (500, r#"{"error":"invalid_grant"}"#, "temporary"),
            (502, "<html>bad gateway</html>", "temporary"),
            (503, "", "temporary"),
            (504, "", "temporary"),
        ];
        for (status, body, expected) in rows {
            let outcome = answer(*status, body);
            assert_eq!(name(&outcome), *expected, "{status} {body}");
            let shown = format!("{outcome:?}");
            assert!(!shown.contains("s3cret") && !shown.contains("\"RT\""), "{shown}");
        }
        assert_eq!(name(&react_token(Err(not_sent()))), "temporary");
        assert_eq!(name(&react_token(Err(lost()))), "uncertain");
    }

    #[test]
    fn the_answer_of_the_vendors_page_is_read_whole() {
        let body = r#"{"access_token":"YOUR_TOKEN","token_type":"bearer","refresh_token":"YOUR_REFRESH_TOKEN","scope":"UseRestApi","expires_in":172541}"#;
        let tokens = answer(200, body).unwrap();
        assert_eq!(tokens.access_token.expose_secret(), "YOUR_TOKEN");
        assert_eq!(tokens.refresh_token.unwrap().expose_secret(), "YOUR_REFRESH_TOKEN");
        assert_eq!(tokens.expires_in, Duration::from_secs(172_541));
        assert_eq!(tokens.scope.as_deref(), Some("UseRestApi"));
    }

    #[test]
    fn lifetimes_are_bounded_and_have_a_default() {
        let of =
            |text: &str| answer(200, &format!(r#"{{"access_token":"A","expires_in":{text}}}"#)).unwrap().expires_in;
        assert_eq!(of("3600"), Duration::from_hours(1));
        assert_eq!(of("\"3600\""), Duration::from_hours(1));
        for unusable in ["null", "true", "\"soon\"", "[1]", "\"NaN\""] {
            assert_eq!(of(unusable), AnswerShape::reteno().lifetime_default, "{unusable}");
        }
        for small in ["0", "-5", "1"] {
            assert_eq!(of(small), LIFETIME_MIN, "{small}");
        }
        assert_eq!(of("1e300"), LIFETIME_MAX);
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let of = |value: &str| {
            let response = Response::builder()
                .status(429)
                .header("retry-after", value)
                .header("date", "Wed, 21 Oct 2015 07:28:00 GMT")
                .body(Bytes::new())
                .unwrap();
            react_token(Ok(response)).unwrap_err().retry_after()
        };
        assert_eq!(of("7"), Some(Duration::from_secs(7)));
        assert_eq!(of("0.493"), Some(Duration::from_secs(1)));
        assert_eq!(of("Wed, 21 Oct 2015 07:28:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(of("Wed, 21 Oct 2015 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(of("soon"), None);
    }

    #[test]
    fn a_servers_code_is_shown_without_control_characters() {
        assert_eq!(harmless("in\u{1b}[31mvalid\n<b>"), "in31mvalidb");
        assert_eq!(harmless("\n"), "without a readable name");
        assert_eq!(harmless(&"x".repeat(500)).len(), CODE_LENGTH_MAX);
    }
}
