//! Standard Webhooks 1.0.0: `v1` (HMAC-SHA256, keys `whsec_`) and `v1a` (ed25519, public keys `whpk_`), with the names
//! of its headers and those of Svix. It knows no other scheme.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use secrecy::{ExposeSecret, SecretSlice};

use super::verify::{MISMATCH, SHA256_BYTES, TOLERANCE, any, header, moment, same};
use super::{Delivery, Head, Refused};

/// A shorter one could be guessed; the standard says 24 to 64.
const SECRET_BYTES_MIN: usize = 16;

/// What ed25519 has.
const PUBLIC_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;

/// A header holds as many entries as the sender has keys.
const SIGNATURES_MAX: usize = 16;
/// While keys are exchanged there are two.
const PUBLIC_SIGNATURES_MAX: usize = 4;

/// A key of one sender.
pub enum StandardKey {
    /// Shared with the sender.
    Secret(SecretSlice<u8>),
    /// The sender's public one.
    Public(Vec<u8>),
}

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StandardKeyError {
    /// Not base64.
    #[error("is not base64 after its prefix")]
    NotBase64,
    /// Too few bytes.
    #[error("has fewer than {SECRET_BYTES_MIN} bytes")]
    TooShort,
    /// Another count of bytes.
    #[error("is no public key of ed25519, which has {PUBLIC_BYTES} bytes")]
    NotPublic,
    /// `whsk_`.
    #[error("is the sender's own private key, which nobody else should have")]
    Private,
}

impl StandardKey {
    /// A key as the sender shows it: `whsec_…`, `whpk_…`, or the base64 of a secret alone.
    pub fn parse(text: &str) -> Result<Self, StandardKeyError> {
        let decode = |text: &str| STANDARD.decode(text.trim()).map_err(|_| StandardKeyError::NotBase64);
        if text.starts_with("whsk_") {
            return Err(StandardKeyError::Private);
        }
        if let Some(public) = text.strip_prefix("whpk_") {
            let key = decode(public)?;
            return if key.len() == PUBLIC_BYTES { Ok(Self::Public(key)) } else { Err(StandardKeyError::NotPublic) };
        }
        let key = decode(text.strip_prefix("whsec_").unwrap_or(text))?;
        if key.len() < SECRET_BYTES_MIN {
            return Err(StandardKeyError::TooShort);
        }
        Ok(Self::Secret(key.into()))
    }

    /// Whether a signature can be by this key at all.
    fn can_sign(&self, version: &str, signature: &[u8]) -> bool {
        match self {
            Self::Secret(_) => version == "v1" && signature.len() == SHA256_BYTES,
            Self::Public(_) => version == "v1a" && signature.len() == SIGNATURE_BYTES,
        }
    }

    /// Whether one of the signatures is by this key. The body is gone through once, however many there are; of those by public
    /// keys, each of which costs ten thousand times as much as a comparison, a few are looked at.
    fn signed(&self, (id, time, body): (&[u8], &[u8], &[u8]), signatures: &[(&str, Vec<u8>)]) -> bool {
        let of_version = |wanted| signatures.iter().filter(move |(version, _)| *version == wanted);
        match self {
            Self::Secret(key) => {
                let parts = [id, b".", time, b".", body];
                let tag = super::hmac::tag(aws_lc_rs::hmac::HMAC_SHA256, key.expose_secret(), parts);
                of_version("v1").fold(false, |found, (_, signature)| same(tag.as_ref(), signature) | found)
            }
            Self::Public(key) => {
                let message = [id, b".", time, b".", body].concat();
                let key = UnparsedPublicKey::new(&ED25519, key);
                of_version("v1a")
                    .take(PUBLIC_SIGNATURES_MAX)
                    .any(|(_, signature)| key.verify(&message, signature).is_ok())
            }
        }
    }
}

/// Any entry by any of the keys passes: that is how keys are exchanged.
pub(super) fn verify(keys: &[StandardKey], delivery: &Delivery<'_>) -> Result<(), Refused> {
    let claim = claim(keys, &delivery.head)?;
    let signed = (claim.id, claim.time, delivery.body);
    let good = any(keys, |key| key.signed(signed, &claim.signatures));
    if good { Ok(()) } else { Err(MISMATCH) }
}

/// What the head tells; nothing of it is proven, but one of the signatures at least can be by one of the keys.
pub(super) struct Claim<'a> {
    id: &'a [u8],
    time: &'a [u8],
    signatures: Vec<(&'a str, Vec<u8>)>,
}

pub(super) fn claim<'a>(keys: &[StandardKey], head: &Head<'a>) -> Result<Claim<'a>, Refused> {
    let headers = Headers::of(head.headers)?;
    let time = moment(headers.time, 1000, TOLERANCE, head.now)?;
    let entries = headers.signatures.split(|byte| *byte == b' ').filter_map(entry).take(SIGNATURES_MAX);
    let can_be = |(version, signature): &(&str, Vec<u8>)| keys.iter().any(|key| key.can_sign(version, signature));
    let signatures: Vec<_> = entries.filter(can_be).collect();
    if signatures.is_empty() { Err(MISMATCH) } else { Ok(Claim { id: headers.id, time, signatures }) }
}

/// `v1,BASE64`; what is not so is passed over, as versions to come are.
fn entry(entry: &[u8]) -> Option<(&str, Vec<u8>)> {
    let (version, signature) = std::str::from_utf8(entry).ok()?.split_once(',')?;
    Some((version, STANDARD.decode(signature).ok()?))
}

struct Headers<'a> {
    id: &'a [u8],
    time: &'a [u8],
    signatures: &'a [u8],
}

impl<'a> Headers<'a> {
    fn of(headers: &'a HeaderMap) -> Result<Self, Refused> {
        // All of one sort: a mixture would be signed by nobody.
        if headers.contains_key("webhook-id") || !headers.contains_key("svix-id") {
            Ok(Self {
                id: header(headers, "webhook-id", "the header webhook-id is missing")?,
                time: header(headers, "webhook-timestamp", "the header webhook-timestamp is missing")?,
                signatures: header(headers, "webhook-signature", "the header webhook-signature is missing")?,
            })
        } else {
            Ok(Self {
                id: header(headers, "svix-id", "the header svix-id is missing")?,
                time: header(headers, "svix-timestamp", "the header svix-timestamp is missing")?,
                signatures: header(headers, "svix-signature", "the header svix-signature is missing")?,
            })
        }
    }
}
