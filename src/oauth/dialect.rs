//! How one server's token requests and answers differ from another's, as data. Does no I/O and asks for nothing.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use serde_json_path::JsonPath;

use super::party::Party;
use crate::clock::Timestamp;

/// Reteno's default lifetime of an access token, where an answer does not state it.
const RETENO_ACCESS_TOKEN: Duration = Duration::from_hours(48);
/// Reteno's default lifetime of a refresh token; no answer states it.
pub(super) const RETENO_REFRESH_TOKEN: Duration = Duration::from_hours(30 * 24);

/// How long a signed statement may be used. Servers refuse more than five minutes; their clocks may be some seconds off.
const STATEMENT_LIFETIME: Duration = Duration::from_mins(3);

/// The ways of one server. `Debug` shows no secret.
#[derive(Debug, Clone)]
pub struct Dialect {
    /// Who it is.
    pub party: Party,
    /// What a token is given for.
    pub basis: Basis,
    /// How a request carries its parameters.
    pub body: TokenBody,
    /// What is asked for.
    pub scope: Option<String>,
    /// Further parameters of a token request; they win over ours of the same name.
    pub extra: Vec<(String, SecretString)>,
    /// Further parameters of the page on which a person grants access.
    pub authorize_extra: Vec<(String, String)>,
    /// How an answer is read.
    pub answer: AnswerShape,
    /// How long an unused refresh token lives, where that is known.
    pub refresh_token_lifetime: Option<Duration>,
}

impl Dialect {
    /// Reteno's: a form, the original code in every refresh.
    #[must_use]
    pub fn reteno() -> Self {
        Self {
            party: Party::Reteno,
            basis: Basis::Consent { repeats_code: true },
            body: TokenBody::Form,
            scope: None,
            extra: Vec::new(),
            authorize_extra: Vec::new(),
            answer: AnswerShape::reteno(),
            refresh_token_lifetime: Some(RETENO_REFRESH_TOKEN),
        }
    }

    /// Whether tokens are had without any person.
    #[must_use]
    pub const fn asks_nobody(&self) -> bool {
        match self.basis {
            Basis::Consent { .. } => false,
            Basis::ClientCredentials | Basis::Statement(_) => true,
        }
    }
}

/// What a token is given for.
#[derive(Debug, Clone)]
pub enum Basis {
    /// A person's consent: a code once, then refresh tokens.
    Consent {
        /// Whether a refresh carries the original code.
        repeats_code: bool,
    },
    /// The app's id and secret.
    ClientCredentials,
    /// A statement that the app signs.
    Statement(Statement),
}

/// How a token request carries its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenBody {
    /// A form.
    Form,
    /// A JSON object.
    Json,
    /// The address's query, in a GET: only for a server that takes nothing else.
    Query,
}

/// How an answer is read.
#[derive(Debug, Clone)]
pub struct AnswerShape {
    /// Whose words its error codes are: those of CRMs are more, and some have no `token_type` of the usual name.
    pub is_crm: bool,
    /// The life of an access token whose answer does not say it.
    pub lifetime_default: Duration,
    /// Where it says which host to ask.
    pub base_url: Option<JsonPath>,
    /// Where it says that it is an error, whatever its status.
    pub error: Option<JsonPath>,
}

impl AnswerShape {
    /// Reteno's.
    #[must_use]
    pub fn reteno() -> Self {
        Self { is_crm: false, lifetime_default: RETENO_ACCESS_TOKEN, base_url: None, error: None }
    }
}

/// A statement of RFC 7523, signed with RS256. `Debug` shows the public key only.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The app's id.
    pub issuer: String,
    /// As whom it acts.
    pub subject: String,
    /// For whom the statement is meant.
    pub audience: String,
    /// What signs it.
    pub key: Arc<KeyPair>,
}

/// The statement could not be signed.
#[derive(Debug, Clone, Copy)]
pub(super) struct NotSigned;

impl Statement {
    /// The statement of this moment, as `assertion` carries it.
    pub(super) fn sign(&self, now: Timestamp) -> Result<SecretString, NotSigned> {
        let Self { issuer, subject, audience, key } = self;
        let seconds = now.0.div_euclid(1000);
        let claims = serde_json::json!({
            "iss": issuer,
            "sub": subject,
            "aud": audience,
            "iat": seconds,
            "exp": seconds.saturating_add(STATEMENT_LIFETIME.as_secs().cast_signed()),
        });
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let signed = format!("{}.{}", encode(br#"{"alg":"RS256","typ":"JWT"}"#), encode(claims.to_string().as_bytes()));
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).map_err(|_| NotSigned)?;
        Ok(SecretString::from(format!("{signed}.{}", encode(&signature))))
    }
}
