//! Answers by script for the tests of this folder.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response, header};
use oauth2::{AuthUrl, ClientId, ClientSecret, RedirectUrl, TokenUrl};
use secrecy::SecretString;

use crate::clock::Timestamp;
use crate::http::{Exchange, ExchangeError};
use crate::oauth::dialect::Dialect;
use crate::oauth::endpoint::{App, ClientAuth};
use crate::oauth::token::{Condition, Grant};

pub(in crate::oauth) type Answer = Result<Response<Bytes>, ExchangeError>;

/// One request as it left.
#[derive(Debug, Clone)]
pub(in crate::oauth) struct Seen {
    pub(in crate::oauth) method: String,
    pub(in crate::oauth) uri: String,
    pub(in crate::oauth) body: String,
    pub(in crate::oauth) authorization: Option<String>,
    pub(in crate::oauth) content_type: Option<String>,
}

/// Gives its answers in order, each after `delay`; asking for more than it has fails the test.
pub(in crate::oauth) struct Script {
    answers: Mutex<VecDeque<Answer>>,
    seen: Mutex<Vec<Seen>>,
    delay: Duration,
}

impl Script {
    pub(in crate::oauth) fn of(answers: Vec<Answer>) -> Arc<Self> {
        Self::slow(answers, Duration::ZERO)
    }

    pub(in crate::oauth) fn slow(answers: Vec<Answer>, delay: Duration) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.into()), seen: Mutex::default(), delay })
    }

    pub(in crate::oauth) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(in crate::oauth) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

impl Exchange for Script {
    fn exchange(&self, request: Request<Bytes>) -> BoxFuture<'_, Answer> {
        let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        self.seen.lock().unwrap().push(Seen {
            method: request.method().to_string(),
            uri: request.uri().to_string(),
            body: String::from_utf8(request.body().to_vec()).unwrap(),
            authorization: text(header::AUTHORIZATION),
            content_type: text(header::CONTENT_TYPE),
        });
        let answer = self.answers.lock().unwrap().pop_front().expect("a request too many");
        async move {
            tokio::time::sleep(self.delay).await;
            answer
        }
        .boxed()
    }
}

pub(in crate::oauth) fn app() -> App {
    App {
        client_id: ClientId::new("client-id".to_owned()),
        client_secret: Some(ClientSecret::new("s: cret".to_owned())),
        client_auth: ClientAuth::Basic,
        authorize_url: AuthUrl::new("https://uaa.example/uaa/oauth/authorize".to_owned()).unwrap(),
        token_url: TokenUrl::new("https://uaa.example/uaa/oauth/token".to_owned()).unwrap(),
        redirect_uri: RedirectUrl::new("http://127.0.0.1:8400/callback".to_owned()).unwrap(),
        dialect: Dialect::reteno(),
    }
}

pub(in crate::oauth) fn grant(requested_at: Timestamp, expires_in: Duration) -> Grant {
    let secret = |text: &str| SecretString::from(text.to_owned());
    Grant {
        access_token: secret("access-0"),
        refresh_token: secret("refresh-0"),
        code: secret("code-0"),
        requested_at,
        expires_in,
        scope: None,
        authorized_at: requested_at,
        condition: Condition::Active,
        serial: 1,
        base_url: None,
    }
}

/// The tokens of generation `number`, good for 1000 s.
pub(in crate::oauth) fn tokens(number: u32) -> Answer {
    tokens_for(number, 1000)
}

pub(in crate::oauth) fn tokens_for(number: u32, seconds: u32) -> Answer {
    let body = format!(
        r#"{{"access_token":"access-{number}","token_type":"bearer","refresh_token":"refresh-{number}","expires_in":{seconds}}}"#
    );
    status(200, &body)
}

pub(in crate::oauth) fn invalid_grant() -> Answer {
    status(400, r#"{"error":"invalid_grant","error_description":"Invalid refresh token: refresh-0"}"#)
}

#[expect(clippy::unnecessary_wraps, reason = "a scripted answer, like the failures beside it")]
pub(in crate::oauth) fn status(status: u16, body: &str) -> Answer {
    Ok(Response::builder().status(status).body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
}

pub(in crate::oauth) fn not_sent() -> ExchangeError {
    ExchangeError::NotSent { host: "uaa.example:443".to_owned(), source: "connection refused".into() }
}

pub(in crate::oauth) fn lost() -> ExchangeError {
    ExchangeError::Lost { host: "uaa.example:443".to_owned(), source: "connection reset".into() }
}
