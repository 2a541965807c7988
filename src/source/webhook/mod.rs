//! A CRM's webhook as pure computation: bytes and headers in, events out. Whether the sender is who it says is decided
//! here, and nothing is stored, sent, waited for or logged.
//!
//! No text that leaves here carries anything of a body, a header's value or a secret: a refusal names what is wrong and
//! where.

pub mod events;
pub mod form;
pub mod hmac;
mod hubspot;
pub mod standard;
pub mod verify;

#[cfg(test)]
mod tests;

use std::fmt;

use http::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use serde_json_path::JsonPath;

pub use events::{Action, ActionRule, Ids, Reading};
pub use form::FormError;
pub use verify::Verification;

use crate::clock::Timestamp;
use crate::http::charset::in_utf8;
use crate::json;

/// Most values in the body of a delivery that is proven: a batch of ten thousand events has fewer.
const PROVEN_VALUES_MAX: usize = 100_000;
/// The same for one that is not proven yet: as many as a record may have. Each value takes up to 700 bytes of memory.
const UNPROVEN_VALUES_MAX: usize = json::RECORD_VALUES_MAX;

/// Without a bound of its own: more than any CRM sends, and little to hold while it is looked at.
pub const BODY_BYTES_DEFAULT: usize = 1024 * 1024;

/// The resolved description of a source's webhook.
#[derive(Debug)]
pub struct Webhook {
    /// How a body is written.
    pub body: BodyKind,
    /// A longer one is refused before it is read: at least 1.
    pub body_bytes_max: usize,
    /// How the sender proves itself.
    pub verification: Verification,
    /// What a body must say.
    pub requirements: Vec<Requirement>,
    /// Where the events are in a body.
    pub reading: Reading,
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyKind {
    /// JSON.
    Json,
    /// A form with PHP's brackets.
    Form,
}

/// A place in the body that must hold a value.
#[derive(Debug)]
pub struct Requirement {
    /// Its name in the configuration.
    pub name: String,
    /// Where the value is; each that is found must be equal, and there must be one.
    pub path: JsonPath,
    /// What it must be, compared as text.
    pub equals: SecretString,
    /// Another value means that the sender is not who it says, not that the body is of another kind.
    pub is_secret: bool,
}

/// What of a request to a hook comes before its body.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// In capitals.
    pub method: &'a str,
    /// What follows the name of the source in the path, where anything does.
    pub path_token: Option<&'a str>,
    /// The whole public URL as the sender saw it, with its query as it was written.
    pub url: &'a str,
    /// As they came.
    pub headers: &'a HeaderMap,
    /// The moment of arrival.
    pub now: Timestamp,
}

/// One request to a hook, as it came in.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    /// What comes before the body.
    pub head: Head<'a>,
    /// As it came, byte for byte.
    pub body: &'a [u8],
}

/// How far a delivery has proven where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It has.
    Given,
    /// What was looked at so far speaks not against it; the rest, if anything, is still to prove it.
    Open,
}

impl fmt::Debug for Delivery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({} bytes)", self.body.len())
    }
}

/// What a delivery comes to.
#[derive(Debug, Default)]
pub struct Taken {
    /// Its events, in its order.
    pub events: Vec<Event>,
    /// Events that could not be understood beside others that could, and why the first could not.
    pub refused: (u64, Option<String>),
    /// Events whose word for what happened the description does not know.
    pub unknown: u64,
    /// A word for what happened, where the description knows none of the delivery's words.
    pub unknown_word: Option<String>,
}

/// What a delivery says of one contact.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The CRM's id, in the form in which [`crate::contact::Selector`] reads it from a record. Never empty.
    pub key: String,
    /// What became of it.
    pub kind: EventKind,
}

/// What became of a contact. `Debug` shows no record.
#[derive(Clone, PartialEq)]
pub enum EventKind {
    /// It may have changed: a hint to fetch it.
    Changed,
    /// It is said to be deleted: a hint to look.
    Deleted,
    /// It is said to be deleted because another took its place.
    MergedInto {
        /// The id of the other; never the key itself.
        winner: String,
    },
    /// It is this now: nothing needs to be fetched.
    Whole(Value),
    /// It is deleted, and there is nothing to look at.
    WholeDeleted {
        /// What the event still holds of it: its age may be there.
        record: Option<Value>,
    },
}

impl fmt::Debug for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => f.write_str("Changed"),
            Self::Deleted => f.write_str("Deleted"),
            Self::MergedInto { winner } => write!(f, "MergedInto({winner})"),
            Self::Whole(_) => f.write_str("Whole(****)"),
            Self::WholeDeleted { record: _ } => f.write_str("WholeDeleted"),
        }
    }
}

/// Why a delivery is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing proves that it comes from the CRM.
    #[error("the delivery is not verified: {0}")]
    Unverified(&'static str),
    /// It is proven, where it has to be, and cannot be understood.
    #[error("the delivery is malformed: {0}")]
    Malformed(String),
    /// Longer than the bound, in bytes.
    #[error("the delivery has more than {bytes_max} bytes")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
}

impl Refused {
    /// The status that says so.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Unverified(_) => 401,
            Self::Malformed(_) => 400,
            Self::TooLarge { .. } => 413,
        }
    }
}

impl Webhook {
    /// The bound of a body in bytes: nobody needs to read more of one.
    #[must_use]
    pub const fn body_bytes_max(&self) -> usize {
        self.body_bytes_max
    }

    /// Whether an accepted delivery has proven who sends it.
    #[must_use]
    pub const fn proves(&self) -> bool {
        !matches!(self.verification, Verification::None)
    }

    /// Whether its events hold whole records.
    #[must_use]
    pub const fn brings_records(&self) -> bool {
        self.reading.record.is_some()
    }

    /// Whether each delivery has an id of its own, which tells one that comes again.
    #[must_use]
    pub const fn has_delivery_ids(&self) -> bool {
        matches!(self.verification, Verification::Standard(_))
    }

    /// What is proven, or disproven, before a byte of the body is there.
    pub fn prove_head(&self, head: &Head<'_>) -> Result<Proof, Refused> {
        self.verification.prove_head(head)
    }

    /// What is proven by the head and the raw bytes of the body, before anything is decoded.
    pub fn prove_raw(&self, delivery: &Delivery<'_>) -> Result<Proof, Refused> {
        let proof = self.prove_head(&delivery.head)?;
        if delivery.body.len() > self.body_bytes_max {
            return Err(Refused::TooLarge { bytes_max: self.body_bytes_max });
        }
        match proof {
            Proof::Given => Ok(proof),
            Proof::Open => self.verification.prove_raw(delivery),
        }
    }

    /// The events of a delivery, after it has proven where it comes from; one that speaks of nothing that concerns this source
    /// has none. A contact may be named more than once. An event that cannot be understood costs itself alone.
    pub fn receive(&self, delivery: &Delivery<'_>) -> Result<Taken, Refused> {
        let proof = self.prove_raw(delivery)?;
        self.read(delivery.head.headers, delivery.body, proof)
    }

    /// The same of a body for which [`Webhook::prove_raw`] has given this proof.
    pub fn read(&self, headers: &HeaderMap, body: &[u8], proof: Proof) -> Result<Taken, Refused> {
        let in_utf8 = in_utf8(headers, body);
        let body = match self.decode(in_utf8.as_deref().unwrap_or(body), proof) {
            Err(_) if self.verification.is_in_body() => {
                return Err(Refused::Unverified("the token is in the body, which cannot be read"));
            }
            body => body?,
        };
        self.verification.verify_decoded(&body)?;
        for requirement in &self.requirements {
            requirement.check(&body)?;
        }
        self.reading.take(&body)
    }

    fn decode(&self, body: &[u8], proof: Proof) -> Result<Value, Refused> {
        let values_max = match proof {
            Proof::Given => PROVEN_VALUES_MAX,
            Proof::Open => UNPROVEN_VALUES_MAX,
        };
        match self.body {
            BodyKind::Json => json::read(body, values_max).map_err(|error| Refused::Malformed(error.to_string())),
            BodyKind::Form => form::decode(body).map_err(|error| Refused::Malformed(error.to_string())),
        }
    }
}

impl Requirement {
    fn check(&self, body: &Value) -> Result<(), Refused> {
        if holds(body, &self.path, self.equals.expose_secret()) {
            Ok(())
        } else if self.is_secret {
            Err(Refused::Unverified("a required value is not the configured one"))
        } else {
            Err(Refused::Malformed(format!("what require.{} asks for is not in it", self.name)))
        }
    }
}

/// Whether there is a value at the path and each is this text. Compared in constant time.
fn holds(body: &Value, path: &JsonPath, expected: &str) -> bool {
    let mut found = 0_usize;
    let all = path.query(body).iter().fold(true, |all, node| {
        found += 1;
        let text = events::scalar(node).unwrap_or_default();
        verify::same(text.as_bytes(), expected.as_bytes()) & all
    });
    all && found > 0
}
