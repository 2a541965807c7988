//! `kind = "oauth2"` of a source's `auth`: where tokens come from, as data.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rsa::KeyPair;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::auth::{Part, RawAuth, lifetime, statuses};
use super::scope::FilledText;
use crate::config::raw::Leaf;
use crate::config::reteno::Redirect;

/// Its keys.
pub(super) const KEYS: &[&str] = &[
    "prefix",
    "refresh_on",
    "grant",
    "authorize_url",
    "token_url",
    "token_body",
    "client_auth",
    "client_id",
    "client_secret",
    "client_secret_file",
    "redirect_uri",
    "scope",
    "extra",
    "authorize_extra",
    "base_url_path",
    "error_path",
    "refresh_token_lifetime",
    "access_token_lifetime",
    "subject",
    "audience",
    "private_key_file",
];

/// What an access token is taken to live where an answer does not say it: a short one costs a request an hour, a long
/// one a read that fails first.
const ACCESS_TOKEN_LIFETIME: Duration = Duration::from_hours(1);
/// No token's life is longer than a certificate's.
const LIFETIME_MAX: Duration = Duration::from_hours(24 * 3660);

/// Where tokens come from, and what they are used for.
#[derive(Clone, Debug)]
pub struct OAuthConfig {
    /// What a token is given for.
    pub grant: OAuthGrant,
    /// Where tokens are asked for.
    pub token_url: Url,
    /// How the request carries its parameters.
    pub token_body: TokenBody,
    /// How the app proves itself.
    pub client_auth: OAuthClientAuth,
    /// The app's id.
    pub client_id: FilledText,
    /// The app's secret; there is always one but with [`OAuthGrant::JwtBearer`].
    pub client_secret: Option<SecretString>,
    /// What is asked for.
    pub scope: Option<String>,
    /// Further parameters of a token request; they win over ours of the same name.
    pub extra: Vec<(String, FilledText)>,
    /// Where the answer says which host to ask: a path of RFC 9535.
    pub base_url_path: Option<String>,
    /// Where an answer says that it is an error, whatever its status: likewise.
    pub error_path: Option<String>,
    /// The word before the token in the header.
    pub prefix: String,
    /// The statuses of an API call that ask for another token, at least one.
    pub refresh_on: Vec<u16>,
    /// The life of an access token whose answer does not say it.
    pub access_token_lifetime: Duration,
    /// The life of an unused refresh token; `None`: it does not end, or nobody knows when.
    pub refresh_token_lifetime: Option<Duration>,
}

/// What a token is given for.
#[derive(Clone, Debug)]
pub enum OAuthGrant {
    /// A person's consent, given once.
    RefreshToken {
        /// Where it is given.
        authorize_url: Url,
        /// Further parameters of that page.
        authorize_extra: Vec<(String, String)>,
        /// Where the person is sent back to; Reteno's own where it is not set.
        redirect: Option<Redirect>,
    },
    /// The app's id and secret.
    ClientCredentials,
    /// A statement that the app signs (RFC 7523), with RS256.
    JwtBearer {
        /// As whom the app acts.
        subject: String,
        /// For whom the statement is meant.
        audience: String,
        /// What signs it.
        key: Arc<KeyPair>,
    },
}

/// How a token request carries its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenBody {
    /// A form.
    Form,
    /// A JSON object.
    Json,
    /// The address's query, in a GET.
    Query,
}

impl TokenBody {
    const WORDS: [(&str, Self); 3] = [("form", Self::Form), ("json", Self::Json), ("query", Self::Query)];
}

/// How the app proves itself to a CRM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OAuthClientAuth {
    /// Id and secret are parameters like the others.
    Body,
    /// HTTP Basic.
    Basic,
}

impl OAuthClientAuth {
    const WORDS: [(&str, Self); 2] = [("body", Self::Body), ("basic", Self::Basic)];
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Grant {
    RefreshToken,
    ClientCredentials,
    JwtBearer,
}

impl Grant {
    const WORDS: [(&str, Self); 3] = [
        ("refresh_token", Self::RefreshToken),
        ("client_credentials", Self::ClientCredentials),
        ("jwt_bearer", Self::JwtBearer),
    ];
}

pub(super) fn resolve(part: &mut Part<'_>, raw: &RawAuth) -> Option<OAuthConfig> {
    let grant = choice(part, raw.grant.as_ref(), &Grant::WORDS, Grant::RefreshToken);
    part.required(raw.token_url.as_ref(), "token_url", "https://HOST/PATH");
    let token_url = part.url(raw.token_url.as_ref());
    let token_body = choice(part, raw.token_body.as_ref(), &TokenBody::WORDS, TokenBody::Form);
    let client_auth = choice(part, raw.client_auth.as_ref(), &OAuthClientAuth::WORDS, OAuthClientAuth::Body);
    part.required(raw.client_id.as_ref(), "client_id", "the app's id as text");
    let client_id = part.filled(raw.client_id.as_ref(), "the app's id as text");
    let secret = (raw.client_secret.as_ref(), raw.client_secret_file.as_ref());
    let client_secret = match grant {
        Some(Grant::JwtBearer) | None => Some(part.secret("client_secret", secret.0, secret.1)),
        Some(Grant::RefreshToken | Grant::ClientCredentials) => {
            part.demanded("client_secret", secret.0, secret.1).map(Some)
        }
    };
    let scope = part.plain(raw.scope.as_ref(), "what is asked for, as the CRM names it");
    let extra = parameters(part, raw.extra.as_ref());
    let base_url_path = part.path(raw.base_url_path.as_ref());
    let error_path = part.path(raw.error_path.as_ref());
    let prefix = part.prefix(raw.prefix.as_ref(), "Bearer");
    let refresh_on = statuses(part, raw.refresh_on.as_ref());
    let access = match &raw.access_token_lifetime {
        Some(leaf) => lifetime(part, Some(leaf), LIFETIME_MAX),
        None => Some(ACCESS_TOKEN_LIFETIME),
    };
    let refresh = lifetime(part, raw.refresh_token_lifetime.as_ref(), LIFETIME_MAX);
    let grant = grant.and_then(|grant| match grant {
        Grant::RefreshToken => consent(part, raw),
        Grant::ClientCredentials => Some(OAuthGrant::ClientCredentials),
        Grant::JwtBearer => statement(part, raw),
    });
    Some(OAuthConfig {
        grant: grant?,
        token_url: token_url?.1,
        token_body: token_body?,
        client_auth: client_auth?,
        client_id: client_id?,
        client_secret: client_secret?,
        scope,
        extra: extra?,
        base_url_path,
        error_path,
        prefix: prefix?,
        refresh_on: refresh_on?,
        access_token_lifetime: access?,
        refresh_token_lifetime: refresh,
    })
}

fn choice<T: Copy>(part: &mut Part<'_>, leaf: Option<&Leaf>, words: &[(&str, T)], usual: T) -> Option<T> {
    if leaf.is_some() { part.reader.choice(leaf, words, &[]) } else { Some(usual) }
}

/// What a person's consent needs.
fn consent(part: &mut Part<'_>, raw: &RawAuth) -> Option<OAuthGrant> {
    part.required(raw.authorize_url.as_ref(), "authorize_url", "https://HOST/PATH");
    let authorize_url = part.url(raw.authorize_url.as_ref());
    let extra = parameters(part, raw.authorize_extra.as_ref());
    let redirect = part.url(raw.redirect_uri.as_ref()).map(|(text, url)| Redirect { text, url });
    let mut shown = Vec::new();
    for (name, value) in extra? {
        match value {
            FilledText::Plain(text) => shown.push((name, text)),
            FilledText::Secret(_) => {
                let leaf = raw.authorize_extra.as_ref()?;
                let problem = part.reader.problem(&leaf.key.child(&name), "would show a secret to a browser");
                part.reader.push(problem.accepted("text without {secret.…}"));
                return None;
            }
        }
    }
    Some(OAuthGrant::RefreshToken { authorize_url: authorize_url?.1, authorize_extra: shown, redirect })
}

/// What a signed statement needs.
fn statement(part: &mut Part<'_>, raw: &RawAuth) -> Option<OAuthGrant> {
    part.required(raw.subject.as_ref(), "subject", "the user as whom the app acts");
    let subject = part.plain(raw.subject.as_ref(), "the user as whom the app acts");
    part.required(raw.audience.as_ref(), "audience", "the address of the CRM's login");
    let audience = part.plain(raw.audience.as_ref(), "the address of the CRM's login");
    let told = part.reader.problems.len();
    let pem = part.secret("private_key", None, raw.private_key_file.as_ref());
    let section = part.section.child("private_key_file");
    if pem.is_none() && part.reader.problems.len() == told {
        let accepted = format!("a file, or the systemd credential {}_private_key", part.scope.source());
        let problem = part.reader.problem(&section, "is missing").accepted(accepted);
        part.reader.push(problem);
    }
    let key = read_key(&pem?);
    if key.is_none() {
        let problem = part.reader.problem(&section, "does not name an RSA private key");
        part.reader.push(problem.accepted("a PEM file: BEGIN PRIVATE KEY or BEGIN RSA PRIVATE KEY, 2048 bits or more"));
    }
    Some(OAuthGrant::JwtBearer { subject: subject?, audience: audience?, key: Arc::new(key?) })
}

fn read_key(pem: &SecretString) -> Option<KeyPair> {
    match PrivateKeyDer::from_pem_slice(pem.expose_secret().as_bytes()).ok()? {
        PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()).ok(),
        PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()).ok(),
        _ => None,
    }
}

/// A table of names and texts; a number is a text too.
fn parameters(part: &mut Part<'_>, leaf: Option<&Leaf>) -> Option<Vec<(String, FilledText)>> {
    let Some(table) = leaf else { return Some(Vec::new()) };
    let (mut all, mut is_good) = (Vec::new(), true);
    for (name, value) in part.reader.table(Some(table))? {
        let value = match value {
            toml::Value::Integer(number) => toml::Value::String(number.to_string()),
            other => other,
        };
        let leaf = Leaf::of(table.key.child(&name), value);
        match part.filled(Some(&leaf), "text") {
            Some(text) => all.push((name, text)),
            None => is_good = false,
        }
    }
    is_good.then_some(all)
}
