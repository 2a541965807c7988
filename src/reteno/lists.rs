//! The bodies of the calls that act on a list of addresses or ids: types that cannot hold an empty one.
//!
//! Taking contacts out of a segment with no ids empties the whole segment (Reteno's words), so the list is never empty
//! when it is made, and is looked at again when a body comes back from the checkpoint as bytes.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::contact::Personal;
use crate::reteno::body::to_bytes;

/// The most contacts that one call takes out of a segment (Reteno's limit).
pub const DETACH_IDS_MAX: usize = 500;

/// Why a list cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Stored bytes that are no body of this kind.
    #[error("read a stored list: it is not what was stored")]
    NotAList,
    /// No element.
    #[error("build a list: it is empty")]
    Empty,
    /// An element that names nobody: Reteno might take such a list for an empty one.
    #[error("build a list: an element of it is blank")]
    Blank,
    /// More than [`DETACH_IDS_MAX`].
    #[error("build a list of {0} contacts: it takes {DETACH_IDS_MAX}")]
    TooMany(usize),
    /// Reteno's ids and external ids in one body.
    #[error("build a list: it mixes two kinds of ids")]
    TwoKinds,
}

/// The body of `POST v1/emails/unsubscribed/add` and `delete`: one address at least.
#[derive(Clone, PartialEq, Eq)]
pub struct EmailsBody(Bytes);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Emails<T> {
    emails: Vec<T>,
}

impl EmailsBody {
    /// The addresses in the order given.
    #[must_use]
    pub fn of(first: &Personal, others: &[Personal]) -> Self {
        let emails = std::iter::once(first).chain(others).map(Personal::expose).collect();
        Self(to_bytes(&Emails::<&str> { emails }))
    }

    /// The very bytes that were stored, once they prove to hold an address.
    pub fn from_stored(bytes: Bytes) -> Result<Self, ListError> {
        let stored: Emails<String> = serde_json::from_slice(&bytes).map_err(|_| ListError::NotAList)?;
        check_texts(&stored.emails)?;
        Ok(Self(bytes))
    }

    /// What is sent, and stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// The body of `POST v1/group/{id}/contacts/detach`: 1 to [`DETACH_IDS_MAX`] ids of one kind.
#[derive(Clone, PartialEq, Eq)]
pub struct DetachBody(Bytes);

/// Schema `ModifyContactsInGroup`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Detached<T> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contact_ids: Option<Vec<i64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    external_customer_ids: Option<Vec<T>>,
}

impl DetachBody {
    /// By Reteno's ids.
    pub fn of_contact_ids(first: i64, others: &[i64]) -> Result<Self, ListError> {
        let ids: Vec<i64> = std::iter::once(first).chain(others.iter().copied()).collect();
        check_ids(&ids)?;
        Ok(Self(to_bytes(&Detached::<&str> { contact_ids: Some(ids), external_customer_ids: None })))
    }

    /// By `externalCustomerId`.
    pub fn of_external_ids(first: &Personal, others: &[Personal]) -> Result<Self, ListError> {
        let ids: Vec<&str> = std::iter::once(first).chain(others).map(Personal::expose).collect();
        check_count(ids.len())?;
        check_texts(&ids)?;
        Ok(Self(to_bytes(&Detached { contact_ids: None, external_customer_ids: Some(ids) })))
    }

    /// The very bytes that were stored, once they prove to name contacts.
    pub fn from_stored(bytes: Bytes) -> Result<Self, ListError> {
        let stored: Detached<String> = serde_json::from_slice(&bytes).map_err(|_| ListError::NotAList)?;
        match (&stored.contact_ids, &stored.external_customer_ids) {
            (Some(_), Some(_)) => return Err(ListError::TwoKinds),
            (None, None) => return Err(ListError::Empty),
            (Some(ids), None) => check_ids(ids)?,
            (None, Some(ids)) => {
                check_count(ids.len())?;
                check_texts(ids)?;
            }
        }
        Ok(Self(bytes))
    }

    /// What is sent, and stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

fn check_ids(ids: &[i64]) -> Result<(), ListError> {
    check_count(ids.len())?;
    // Reteno's ids are positive: nothing else was ever learnt from it.
    if ids.iter().any(|id| *id <= 0) { Err(ListError::Blank) } else { Ok(()) }
}

fn check_count(count: usize) -> Result<(), ListError> {
    match count {
        0 => Err(ListError::Empty),
        1..=DETACH_IDS_MAX => Ok(()),
        _ => Err(ListError::TooMany(count)),
    }
}

fn check_texts(texts: &[impl AsRef<str>]) -> Result<(), ListError> {
    if texts.is_empty() {
        return Err(ListError::Empty);
    }
    if texts.iter().any(|text| text.as_ref().trim().is_empty()) { Err(ListError::Blank) } else { Ok(()) }
}

/// The body of `PUT v1/contact/{id}/subscriptions`: the whole set of category keys. Here an empty one has a meaning: the
/// contact is subscribed to nothing.
#[must_use]
pub fn subscriptions_body(keys: &[&str]) -> Bytes {
    #[derive(Serialize)]
    struct Subscriptions<'a> {
        subscriptions: &'a [&'a str],
    }
    to_bytes(&Subscriptions { subscriptions: keys })
}

impl fmt::Debug for EmailsBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailsBody(****)")
    }
}

impl fmt::Debug for DetachBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DetachBody(****)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people(values: &[&str]) -> Vec<Personal> {
        values.iter().map(|value| Personal::new(*value)).collect()
    }

    #[test]
    fn lists_are_written_as_reteno_reads_them() {
        let emails = EmailsBody::of(&Personal::new("a@example.com"), &people(&["b@example.com"]));
        assert_eq!(emails.as_bytes(), r#"{"emails":["a@example.com","b@example.com"]}"#);
        let by_id = DetachBody::of_contact_ids(5_000_000_001, &[7]).expect("a body");
        assert_eq!(by_id.as_bytes(), r#"{"contactIds":[5000000001,7]}"#);
        let by_external = DetachBody::of_external_ids(&Personal::new("c-1"), &people(&["c-2"])).expect("a body");
        assert_eq!(by_external.as_bytes(), r#"{"externalCustomerIds":["c-1","c-2"]}"#);
        assert_eq!(subscriptions_body(&["news", "offers"]), r#"{"subscriptions":["news","offers"]}"#);
        assert_eq!(subscriptions_body(&[]), r#"{"subscriptions":[]}"#);
        assert_eq!(format!("{emails:?} {by_id:?}"), "EmailsBody(****) DetachBody(****)");
    }

    #[test]
    fn what_is_stored_comes_back_byte_for_byte() {
        // Not as this version would write them: an older one may have.
        let emails = Bytes::from_static(br#"{ "emails": ["a@example.com"] }"#);
        assert_eq!(EmailsBody::from_stored(emails.clone()).expect("a body").as_bytes(), &emails);
        for stored in [r#"{"contactIds": [7]}"#, r#"{"externalCustomerIds": ["c-1", "c-2"]}"#] {
            let stored = Bytes::from_static(stored.as_bytes());
            assert_eq!(DetachBody::from_stored(stored.clone()).expect("a body").as_bytes(), &stored);
        }
    }

    #[test]
    fn a_stored_list_that_is_empty_or_not_a_list_is_never_sent() {
        let emails = |stored: &str| EmailsBody::from_stored(Bytes::from(stored.to_owned())).map(drop);
        assert_eq!(emails(r#"{"emails":[]}"#), Err(ListError::Empty));
        assert_eq!(emails(r#"{"emails":["a@example.com"," "]}"#), Err(ListError::Blank));
        for stored in ["", "{}", "[]", r#"{"emails":null}"#, r#"{"emails":["a"],"more":1}"#, r#"{"emails":["#] {
            assert_eq!(emails(stored), Err(ListError::NotAList), "{stored}");
        }
        let detach = |stored: &str| DetachBody::from_stored(Bytes::from(stored.to_owned())).map(drop);
        let cases = [
            ("{}", ListError::Empty),
            (r#"{"contactIds":[]}"#, ListError::Empty),
            (r#"{"contactIds":null}"#, ListError::Empty),
            (r#"{"externalCustomerIds":[]}"#, ListError::Empty),
            (r#"{"externalCustomerIds":[""]}"#, ListError::Blank),
            (r#"{"contactIds":[0]}"#, ListError::Blank),
            (r#"{"contactIds":[7],"externalCustomerIds":["c"]}"#, ListError::TwoKinds),
            (r#"{"contactIds":[],"externalCustomerIds":["c"]}"#, ListError::TwoKinds),
            (r#"{"contactIds":[7],"contactIds":[]}"#, ListError::NotAList),
            (r#"{"contactIds":["7"]}"#, ListError::NotAList),
            (r#"{"contactIDs":[7]}"#, ListError::NotAList),
            ("", ListError::NotAList),
        ];
        for (stored, error) in cases {
            assert_eq!(detach(stored), Err(error), "{stored}");
        }
    }

    #[test]
    fn a_detach_holds_at_most_what_reteno_takes() {
        let ids: Vec<i64> = (1..=500).collect();
        let names: Vec<Personal> = ids.iter().map(|id| Personal::new(id.to_string())).collect();
        assert!(DetachBody::of_contact_ids(1, &ids[1..]).is_ok());
        assert_eq!(DetachBody::of_contact_ids(1, &ids), Err(ListError::TooMany(501)));
        assert!(DetachBody::of_external_ids(&names[0], &names[1..]).is_ok());
        assert_eq!(DetachBody::of_external_ids(&names[0], &names), Err(ListError::TooMany(501)));
        assert_eq!(DetachBody::of_external_ids(&Personal::new(""), &[]), Err(ListError::Blank));
        assert_eq!(DetachBody::of_contact_ids(0, &[]), Err(ListError::Blank));
        let stored = format!(r#"{{"contactIds":{}}}"#, serde_json::json!((1..=501).collect::<Vec<i64>>()));
        assert_eq!(DetachBody::from_stored(stored.into()), Err(ListError::TooMany(501)));
    }
}
