//! The list of unsubscribed addresses: whose e-mail gets nothing. It is of addresses, not of contacts: one that no
//! contact has can be on it, and no change or erasure of a contact takes one off, unless a reading says so.

use std::collections::BTreeSet;

use http::StatusCode;

use crate::clock::Timestamp;

use super::engine::{Request, State};
use super::inspect::{ConsentAction, ConsentChange};
use super::reply::{JSON, Reply, bad_request, reply};
use super::rules;
use super::wire::Emails;

/// The list, and everything that was done to it.
#[derive(Debug, Default)]
pub(super) struct Consent {
    unsubscribed: BTreeSet<String>,
    log: Vec<ConsentChange>,
}

impl Consent {
    pub(super) const fn unsubscribed(&self) -> &BTreeSet<String> {
        &self.unsubscribed
    }

    pub(super) fn log(&self) -> &[ConsentChange] {
        &self.log
    }

    /// Puts an address (in its stored form) on the list, or takes it off.
    pub(super) fn note(&mut self, at: Timestamp, address: &str, action: ConsentAction, by: &str) {
        let changed = match action {
            ConsentAction::Added => self.unsubscribed.insert(address.to_owned()),
            ConsentAction::Removed => self.unsubscribed.remove(address),
        };
        self.log.push(ConsentChange { at, address: address.to_owned(), action, changed, by: by.to_owned() });
    }

    /// What the reading `create_resubscribes` makes of addresses that a contact has just got.
    pub(super) fn note_new_addresses(&mut self, at: Timestamp, addresses: &[String], by: &str) {
        for address in addresses {
            if self.unsubscribed.contains(address) {
                self.note(at, address, ConsentAction::Removed, by);
            }
        }
    }
}

/// `POST v1/emails/unsubscribed/add` and `delete`.
pub(super) fn change(state: &mut State, now: Timestamp, request: &Request, action: ConsentAction) -> Reply {
    let Emails { emails } = match serde_json::from_slice(&request.body) {
        Ok(emails) => emails,
        Err(error) => return bad_request(&format!("Cannot read request: {error}")),
    };
    if emails.is_empty() {
        return bad_request("emails is empty");
    }
    let stored: Result<Vec<String>, String> = emails.iter().map(|email| rules::email(email)).collect();
    let stored = match stored {
        Ok(stored) => stored,
        Err(reason) => return bad_request(&reason),
    };
    for address in stored {
        state.consent.note(now, &address, action, &format!("call {}", request.number));
    }
    reply(StatusCode::OK, JSON, "")
}
