//! What a test or the demo may see of the sandbox: contacts, calls, counts and overlapping imports. Plain values,
//! copied out; nothing here changes the sandbox. Rehearsals put real people's data in here, so nothing is logged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;

use crate::clock::Timestamp;

use super::routes::CallKind;

/// A contact as the sandbox holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredContact {
    /// Reteno's id.
    pub id: i64,
    /// `externalCustomerId`.
    pub external_id: Option<String>,
    /// The first e-mail address, lower case.
    pub email: Option<String>,
    /// The first phone number, digits.
    pub phone: Option<String>,
    /// Standard fields by their name in `contactFields` (without channels and external id), additional fields by
    /// their number.
    pub fields: BTreeMap<String, String>,
    /// Names of static segments.
    pub segments: BTreeSet<String>,
    /// Keys of the subscription categories that it is subscribed to.
    pub subscriptions: BTreeSet<String>,
    /// `emailStatus` as the double opt-in that made the contact answered it.
    pub email_status: Option<String>,
    /// Deleted in Reteno, and restorable.
    pub deleted: bool,
}

/// Values that one import or single call wrote into a contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedChange {
    /// When they were applied, which is later than accepted.
    pub at: Timestamp,
    /// The session id of an import, or `call N` for a single call.
    pub by: String,
    /// Field name or number to value; `None` was wiped.
    pub values: BTreeMap<String, Option<String>>,
}

/// One request that reached the sandbox.
#[derive(Clone, PartialEq, Eq)]
pub struct CallSeen {
    /// Its number, from 1.
    pub number: u64,
    /// When it came.
    pub at: Timestamp,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// Which call it is.
    pub kind: CallKind,
    /// The status that was meant for the client; `None` where the request was lost before it was carried out.
    pub status: Option<u16>,
    /// Whether the answer was sent whole.
    pub delivered: bool,
    /// How many contacts its body held.
    pub contacts: usize,
    /// SHA-256 of its body, lower-case hex.
    pub body_sha256: String,
    /// Its body, where the options keep bodies; never that of a token call.
    pub body: Option<Bytes>,
}

impl fmt::Debug for CallSeen {
    /// Without the body, which may be megabytes of people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {} {} {} → {:?}", self.number, self.at, self.method, self.path, self.status)?;
        write!(f, " ({} contacts{})", self.contacts, if self.delivered { "" } else { ", not delivered" })
    }
}

/// A call that was accepted for a contact while an earlier import that holds it was still unapplied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// When the later one was accepted.
    pub at: Timestamp,
    /// What they share, as `external id X`, `email X` or `phone X`.
    pub shared: String,
    /// The earlier import's session id.
    pub earlier: String,
    /// The later import's session id, or `call N` for a single call.
    pub later: String,
    /// Whether both bodies are the same, byte for byte: two copies commute.
    pub identical: bool,
    /// Whether the earlier import is one that a fault keeps from ending.
    pub earlier_stuck: bool,
}

/// Totals since the start. Contacts are counted once for each call that carried them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests of every kind.
    pub calls: u64,
    /// `POST v1/contacts` and `POST v1/contacts/upload` that began an import.
    pub imports_accepted: u64,
    /// Accepted bodies that had been accepted before, byte for byte.
    pub bodies_repeated: u64,
    /// Contacts in accepted bulk bodies and files, failed ones included.
    pub contacts_received: u64,
    /// Contacts answered among `failedContacts`, and bad rows of files.
    pub contacts_failed: u64,
    /// Those, by the reason given.
    pub failures: BTreeMap<String, u64>,
    /// Contacts written by imports and single calls.
    pub contacts_written: u64,
    /// Contacts made.
    pub contacts_created: u64,
    /// Deleted contacts that were skipped.
    pub contacts_skipped: u64,
    /// Imports that ended FINISHED.
    pub imports_finished: u64,
    /// Imports that ended in ERROR.
    pub imports_failed: u64,
    /// Events made for new contacts, by key.
    pub events: BTreeMap<String, u64>,
    /// Deletions of living contacts, by the call.
    pub contacts_deleted: u64,
    /// Contacts erased, by the call.
    pub contacts_erased: u64,
    /// Memberships ended by a detach that named its contacts.
    pub contacts_detached: u64,
    /// Detaches that named nobody, by segment: each emptied it whole. A client that does this has done harm.
    pub segments_emptied: BTreeMap<String, u64>,
    /// Times that a contact's subscription categories were replaced.
    pub subscriptions_replaced: u64,
    /// Workflows started by `POST v1/contact/subscribe`: each sends a person a letter.
    pub workflows_started: u64,
    /// Files taken in.
    pub files_accepted: u64,
    /// Pairs of tokens given, the first and refreshed ones.
    pub tokens_given: u64,
}

/// One address that was put on the list of unsubscribed ones, or taken off it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentChange {
    /// When.
    pub at: Timestamp,
    /// The address, lower case.
    pub address: String,
    /// What was asked for.
    pub action: ConsentAction,
    /// Whether the list was another one afterwards.
    pub changed: bool,
    /// `call N`, the session of an import (by a reading), or `person`.
    pub by: String,
}

/// Which way consent moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsentAction {
    /// Onto the list: no mail any more.
    Added,
    /// Off the list: mail again.
    Removed,
}

/// What a hook is told about a request.
#[derive(Clone)]
pub struct RequestSeen {
    /// Before it is carried out, or after it and before its answer leaves.
    pub phase: Phase,
    /// The number that its [`CallSeen`] will bear.
    pub number: u64,
    /// Which call it is.
    pub kind: CallKind,
    /// Its path, without the query.
    pub path: String,
    /// Its body.
    pub body: Bytes,
    /// The answer's status; `None` before, and where the request is lost.
    pub status: Option<u16>,
}

/// When a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The request has arrived whole; nothing has been done.
    Before,
    /// It has been carried out; no byte of the answer has been sent.
    After,
}
