//! An HMAC in a header, put together as the configuration says: for senders that have a scheme of their own.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use secrecy::{ExposeSecret, SecretString};

use super::verify::{MISMATCH, any, from_hex, moment, same};
use super::{Delivery, Head, Refused};

/// A scheme as it is configured.
pub struct HmacScheme {
    /// Any of them passes.
    pub secrets: Vec<SecretString>,
    /// Where the signature is.
    pub header: HeaderName,
    /// Its hash.
    pub algorithm: Algorithm,
    /// How it is written.
    pub encoding: Encoding,
    /// What stands before it in the header, such as `sha256=`.
    pub prefix: String,
    /// What is signed.
    pub message: Message,
    /// Where the time is, if it is signed.
    pub timestamp: Option<TimeHeader>,
}

/// The hash under the HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Old, and not broken as an HMAC.
    Sha1,
    /// Usual.
    Sha256,
    /// Long.
    Sha512,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Digits, capital or not.
    Hex,
    /// With padding.
    Base64,
}

/// Where a time of sending is.
#[derive(Debug, Clone)]
pub struct TimeHeader {
    /// The header.
    pub header: HeaderName,
    /// 1000 where it counts seconds, 1 for milliseconds.
    pub millis_each: i64,
    /// How far from now it may be, either way.
    pub tolerance: Duration,
}

/// What is signed: texts, and parts of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Body,
    Time,
    Method,
    Url,
}

/// Why a text is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A variable that there is not.
    #[error("names {{{0}}}, which a message cannot have")]
    Unknown(String),
    /// An opening brace alone.
    #[error("has a brace that is not closed")]
    Open,
    /// A signature that any body would pass with.
    #[error("lacks {{body}}: a signature that does not cover the body proves nothing")]
    NoBody,
}

impl Message {
    /// Reads `{body}`, `{timestamp}`, `{method}`, `{url}` and texts between them.
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(MessageError::Open)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(match name {
                "body" => Part::Body,
                "timestamp" => Part::Time,
                "method" => Part::Method,
                "url" => Part::Url,
                other => return Err(MessageError::Unknown(other.to_owned())),
            });
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        if parts.contains(&Part::Body) { Ok(Self(parts)) } else { Err(MessageError::NoBody) }
    }

    /// Whether the time of sending is part of it.
    #[must_use]
    pub fn has_time(&self) -> bool {
        self.0.contains(&Part::Time)
    }
}

/// The secrets stay out of it.
impl fmt::Debug for HmacScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HmacScheme")
            .field("header", &self.header)
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

impl HmacScheme {
    /// The time and the signature that the head tells; neither is proven.
    pub(super) fn claim<'a>(&self, head: &Head<'a>) -> Result<(&'a [u8], Vec<u8>), Refused> {
        let time = match &self.timestamp {
            Some(time) => time.read(head)?,
            None => b"",
        };
        let given = head.headers.get(&self.header).map(|value| value.as_bytes().trim_ascii());
        let given = given.ok_or(Refused::Unverified("the header of the signature is missing"))?;
        let given = given.strip_prefix(self.prefix.as_bytes()).ok_or(MISMATCH)?;
        let given = match self.encoding {
            Encoding::Hex => from_hex(given),
            Encoding::Base64 => STANDARD.decode(given).ok(),
        };
        let bytes = self.algorithm.hash().digest_algorithm().output_len;
        Ok((time, given.filter(|given| given.len() == bytes).ok_or(MISMATCH)?))
    }

    pub(super) fn verify(&self, delivery: &Delivery<'_>) -> Result<(), Refused> {
        let (time, given) = self.claim(&delivery.head)?;
        let algorithm = self.algorithm.hash();
        let parts: Vec<&[u8]> = self.message.0.iter().map(|part| part.of(delivery, time)).collect();
        let is_one = |secret: &SecretString| {
            let made = tag(algorithm, secret.expose_secret().as_bytes(), parts.iter().copied());
            same(made.as_ref(), &given)
        };
        if any(&self.secrets, is_one) { Ok(()) } else { Err(MISMATCH) }
    }
}

impl Algorithm {
    fn hash(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

impl TimeHeader {
    fn read<'a>(&self, head: &Head<'a>) -> Result<&'a [u8], Refused> {
        let given = head.headers.get(&self.header).map(|value| value.as_bytes().trim_ascii());
        let given = given.ok_or(Refused::Unverified("the header of the time is missing"))?;
        moment(given, self.millis_each, self.tolerance, head.now)
    }
}

impl Part {
    fn of<'a>(&'a self, delivery: &Delivery<'a>, time: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Body => delivery.body,
            Self::Time => time,
            Self::Method => delivery.head.method.as_bytes(),
            Self::Url => delivery.head.url.as_bytes(),
        }
    }
}

/// The HMAC of the parts, one after the other.
pub(super) fn tag<'a>(algorithm: hmac::Algorithm, key: &[u8], parts: impl IntoIterator<Item = &'a [u8]>) -> hmac::Tag {
    let mut context = hmac::Context::with_key(&hmac::Key::new(algorithm, key));
    for part in parts {
        context.update(part);
    }
    context.sign()
}
