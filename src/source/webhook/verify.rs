//! How a delivery proves who sent it: the kinds, and the comparing that all of them share. Over the raw bytes, before
//! anything is decoded; what is compared with a secret is compared in constant time. It never says which part of a
//! proof was wrong beyond the header that lacks it.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{constant_time, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use serde_json_path::JsonPath;

use super::hmac::HmacScheme;
use super::standard::StandardKey;
use super::{Delivery, Head, Proof, Refused, holds, hubspot, standard};
use crate::clock::Timestamp;

/// What Standard Webhooks and `HubSpot` call too old, and what clocks may differ by the other way.
pub const TOLERANCE: Duration = Duration::from_mins(5);

/// Bytes of a SHA-256, and of an HMAC by it.
pub(super) const SHA256_BYTES: usize = 32;

/// How the sender proves itself.
pub enum Verification {
    /// Not at all: whoever knows the address may make us fetch contacts, and no more than that.
    None,
    /// By the end of the path, which nobody else knows.
    PathToken(SecretString),
    /// By HTTP Basic.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// By a token in the body (Bitrix24, Zoho).
    BodyToken {
        /// Where it is.
        path: JsonPath,
        /// What it must be.
        token: SecretString,
    },
    /// Standard Webhooks, by any of these keys.
    Standard(Vec<StandardKey>),
    /// `HubSpot`'s first version: a hash of client secret and body.
    HubspotV1(Vec<SecretString>),
    /// `HubSpot`'s second version: with method and URL.
    HubspotV2(Vec<SecretString>),
    /// `HubSpot`'s third version: an HMAC with method, URL and time.
    HubspotV3(Vec<SecretString>),
    /// `EspoCRM`'s `Signature`, by any of these: each subscription there has a key of its own.
    Espocrm(Vec<EspoKey>),
    /// An HMAC in a header, put together as configured.
    Hmac(HmacScheme),
}

/// The kind only.
impl fmt::Debug for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::PathToken(_) => "PathToken(****)",
            Self::Basic { .. } => "Basic(****)",
            Self::BodyToken { .. } => "BodyToken(****)",
            Self::Standard(_) => "Standard(****)",
            Self::HubspotV1(_) => "HubspotV1(****)",
            Self::HubspotV2(_) => "HubspotV2(****)",
            Self::HubspotV3(_) => "HubspotV3(****)",
            Self::Espocrm(_) => "Espocrm(****)",
            Self::Hmac(_) => "Hmac(****)",
        })
    }
}

/// The key of a subscription in `EspoCRM`.
pub struct EspoKey {
    /// The subscription's id; `None` takes any.
    id: Option<String>,
    secret: SecretString,
}

impl EspoKey {
    /// From `ID:SECRETKEY`, or the secret key alone, as `EspoCRM` answers them to whoever makes the subscription.
    #[must_use]
    pub fn of(text: &str) -> Self {
        match text.split_once(':') {
            Some((id, secret)) => Self { id: Some(id.to_owned()), secret: secret.into() },
            None => Self { id: None, secret: text.into() },
        }
    }
}

/// What a proof that does not fit is answered with, whatever of it does not fit.
pub(super) const MISMATCH: Refused = Refused::Unverified("the signature is not one of the configured secret");

impl Verification {
    /// Whether the delivery can come from the sender, as far as it tells before its body: of a signature that it is there,
    /// is of now, and has the form and length of one.
    pub(super) fn prove_head(&self, head: &Head<'_>) -> Result<Proof, Refused> {
        match self {
            Self::None | Self::BodyToken { .. } => return Ok(Proof::Open),
            Self::PathToken(token) => {
                let given = head.path_token.ok_or(Refused::Unverified("the path has no token"))?;
                let good = same(given.as_bytes(), token.expose_secret().as_bytes());
                return if good {
                    Ok(Proof::Given)
                } else {
                    Err(Refused::Unverified("the token in the path is another"))
                };
            }
            Self::Basic { user, password } => {
                return basic(head.headers, user, password).map(|()| Proof::Given);
            }
            Self::Standard(keys) => drop(standard::claim(keys, head)?),
            Self::HubspotV1(_) => drop(hubspot::claim_hash("v1", head)?),
            Self::HubspotV2(_) => drop(hubspot::claim_hash("v2", head)?),
            Self::HubspotV3(_) => drop(hubspot::claim_v3(head)?),
            Self::Espocrm(keys) => drop(EspoClaim::of(keys, head)?),
            Self::Hmac(scheme) => drop(scheme.claim(head)?),
        }
        Ok(Proof::Open)
    }

    /// Whether the delivery comes from the sender, as far as its raw form tells.
    pub(super) fn prove_raw(&self, delivery: &Delivery<'_>) -> Result<Proof, Refused> {
        match self {
            // the second proves itself once the body is read
            Self::None | Self::BodyToken { .. } | Self::PathToken(_) | Self::Basic { .. } => {
                return self.prove_head(&delivery.head);
            }
            Self::Standard(keys) => standard::verify(keys, delivery)?,
            Self::HubspotV1(secrets) => hubspot::verify_hash("v1", secrets, delivery)?,
            Self::HubspotV2(secrets) => hubspot::verify_hash("v2", secrets, delivery)?,
            Self::HubspotV3(secrets) => hubspot::verify_v3(secrets, delivery)?,
            Self::Espocrm(keys) => espocrm(keys, delivery)?,
            Self::Hmac(scheme) => scheme.verify(delivery)?,
        }
        Ok(Proof::Given)
    }

    /// Whether nothing is proven before the body is decoded, though something must be.
    pub(super) const fn is_in_body(&self) -> bool {
        matches!(self, Self::BodyToken { .. })
    }

    /// The same for what stands in the decoded body.
    pub(super) fn verify_decoded(&self, body: &Value) -> Result<(), Refused> {
        match self {
            Self::BodyToken { path, token } if !holds(body, path, token.expose_secret()) => {
                Err(Refused::Unverified("the token in the body is another, or there is none"))
            }
            Self::BodyToken { .. }
            | Self::None
            | Self::PathToken(_)
            | Self::Basic { .. }
            | Self::Standard(_)
            | Self::HubspotV1(_)
            | Self::HubspotV2(_)
            | Self::HubspotV3(_)
            | Self::Espocrm(_)
            | Self::Hmac(_) => Ok(()),
        }
    }
}

fn basic(headers: &HeaderMap, user: &str, password: &SecretString) -> Result<(), Refused> {
    const MISSING: Refused = Refused::Unverified("there is no Authorization header of HTTP Basic");
    let given = headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes).ok_or(MISSING)?;
    let (scheme, given) = given.split_at_checked(6).ok_or(MISSING)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return Err(MISSING);
    }
    let given = STANDARD.decode(given.trim_ascii()).map_err(|_| MISSING)?;
    let expected = format!("{user}:{}", password.expose_secret());
    let good = same(&given, expected.as_bytes());
    if good { Ok(()) } else { Err(Refused::Unverified("user or password is another")) }
}

/// What `Signature` says: the base64 of the subscription's id, a colon, and the HMAC-SHA256 of the body in hex.
struct EspoClaim {
    id: Vec<u8>,
    tag: Vec<u8>,
}

impl EspoClaim {
    fn of(keys: &[EspoKey], head: &Head<'_>) -> Result<Self, Refused> {
        let given = header(head.headers, "signature", "the header Signature is missing")?;
        let mut id = STANDARD.decode(given).map_err(|_| MISMATCH)?;
        let colon = id.iter().position(|byte| *byte == b':').ok_or(MISMATCH)?;
        let tag = from_hex(&id[colon + 1..]).filter(|tag| tag.len() == SHA256_BYTES).ok_or(MISMATCH)?;
        id.truncate(colon);
        let claim = Self { id, tag };
        if keys.iter().any(|key| claim.is_of(key)) { Ok(claim) } else { Err(MISMATCH) }
    }

    fn is_of(&self, key: &EspoKey) -> bool {
        key.id.as_ref().is_none_or(|known| known.as_bytes() == self.id)
    }
}

fn espocrm(keys: &[EspoKey], delivery: &Delivery<'_>) -> Result<(), Refused> {
    let claim = EspoClaim::of(keys, &delivery.head)?;
    let is_one = |key: &EspoKey| {
        let made =
            super::hmac::tag(aws_lc_rs::hmac::HMAC_SHA256, key.secret.expose_secret().as_bytes(), [delivery.body]);
        claim.is_of(key) & same(made.as_ref(), &claim.tag)
    };
    if any(keys, is_one) { Ok(()) } else { Err(MISMATCH) }
}

/// Whether one of them fits; all are tried, so that the time tells not which.
pub(super) fn any<K>(keys: &[K], fits: impl Fn(&K) -> bool) -> bool {
    keys.iter().fold(false, |found, key| fits(key) | found)
}

/// Equal, in a time that tells neither where they differ nor how long the secret is.
pub(super) fn same(given: &[u8], expected: &[u8]) -> bool {
    let hash = |bytes| digest::digest(&digest::SHA256, bytes);
    constant_time::verify_slices_are_equal(hash(given).as_ref(), hash(expected).as_ref()).is_ok()
}

/// A header that must be there, without outer blanks.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str, missing: &'static str) -> Result<&'a [u8], Refused> {
    let value = headers.get(name).ok_or(Refused::Unverified(missing))?;
    Ok(value.as_bytes().trim_ascii())
}

/// A header that tells a moment in whole seconds (or milliseconds), which must be near to now. Returns it as written.
pub(super) fn moment(given: &[u8], millis_each: i64, tolerance: Duration, now: Timestamp) -> Result<&[u8], Refused> {
    let told = std::str::from_utf8(given).ok().and_then(|text| text.parse::<i64>().ok());
    let told = told.and_then(|told| told.checked_mul(millis_each)).map(Timestamp);
    let told = told.ok_or(Refused::Unverified("the time of sending is no whole number"))?;
    if now.since(told).max(told.since(now)) > tolerance {
        return Err(Refused::Unverified("the time of sending is too far from now: a repeat, or a clock that is wrong"));
    }
    Ok(given)
}

/// The bytes of a text of hex digits, capital or not.
pub(super) fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}
