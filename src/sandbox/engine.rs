//! One request from arrival to answer: which call it is, who may make it, what is refused before the call itself is
//! looked at, and what a fault makes of it. All state of the sandbox stands here behind one lock, which its callers
//! hold for one step and never across an await.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;

use super::consent::{self, Consent};
use super::contacts::{Change, Contacts, Found};
use super::crm::CrmRow;
use super::draw;
use super::faults::{Effect, Faults, Slot};
use super::grants::{Grants, TokenRequest};
use super::imports::{Imports, Part};
use super::incoming::Incoming;
use super::inspect::{CallSeen, ConsentAction, Overlap, Tally};
use super::options::{AdditionalField, SandboxOptions};
use super::reply::{self, Reply};
use super::routes::{CallKind, Route, route};
use super::single::CarriedOut;
use super::upload::{self, Files};
use super::{bulk, crm, deeds, facts, single, subscribe};

/// Everything a sandbox is.
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: SandboxOptions,
    pub(super) catalogue: BTreeMap<i32, AdditionalField>,
    pub(super) contacts: Contacts,
    pub(super) consent: Consent,
    pub(super) files: Files,
    pub(super) imports: Imports,
    pub(super) grants: Grants,
    pub(super) faults: Faults,
    pub(super) journal: Journal,
    pub(super) carried_out: CarriedOut,
    pub(super) poisoned: BTreeSet<String>,
    pub(super) jammed: BTreeSet<String>,
    pub(super) crm: Vec<CrmRow>,
    /// Moments of the last second's requests, by token.
    rate: BTreeMap<String, VecDeque<Timestamp>>,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) calls: Vec<CallSeen>,
    pub(super) overlaps: Vec<Overlap>,
    pub(super) tally: Tally,
    /// (key, external id or e-mail of the new contact).
    pub(super) events_fired: Vec<(String, String)>,
    accepted_bodies: BTreeSet<String>,
}

impl Journal {
    /// Counts the contacts of one request, and those of them that failed by their reasons.
    pub(super) fn received<'a>(&mut self, contacts: usize, failures: impl Iterator<Item = &'a String>) {
        self.tally.contacts_received += u64::try_from(contacts).unwrap_or(u64::MAX);
        for reason in failures {
            self.tally.contacts_failed += 1;
            *self.tally.failures.entry(reason.clone()).or_default() += 1;
        }
    }

    /// Counts an accepted import by its body.
    pub(super) fn accepted(&mut self, body_sha256: &str) {
        self.tally.imports_accepted += 1;
        self.tally.bodies_repeated += u64::from(!self.accepted_bodies.insert(body_sha256.to_owned()));
    }
}

/// A request that has arrived whole.
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) body_sha256: String,
    pub(super) kind: CallKind,
    route: Route,
}

/// What becomes of a request.
pub(super) enum Verdict {
    Answer(Reply),
    /// Only a part of the answer arrives, and looks complete.
    Cut(Reply),
    Refused,
    LostBefore,
    LostAfter,
    Held(Reply),
}

/// Counts contacts without reading them.
#[derive(Deserialize)]
struct Counted {
    contacts: Vec<IgnoredAny>,
}

impl State {
    pub(super) fn new(options: SandboxOptions) -> Self {
        Self {
            catalogue: options.additional_fields.iter().map(|field| (field.id, field.clone())).collect(),
            grants: Grants::new(options.seed),
            options,
            contacts: Contacts::default(),
            consent: Consent::default(),
            files: Files::new(),
            imports: Imports::default(),
            faults: Faults::default(),
            journal: Journal::default(),
            carried_out: CarriedOut::new(),
            poisoned: BTreeSet::new(),
            jammed: BTreeSet::new(),
            crm: Vec::new(),
            rate: BTreeMap::new(),
        }
    }

    /// Notes a request's arrival; nothing is carried out yet.
    pub(super) fn arrive(&mut self, now: Timestamp, request: http::Request<Bytes>) -> Request {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let route = route(&parts.method, &path);
        let kind = match &route {
            Route::Served(CallKind::TokenExchange, _) => TokenRequest::kind(&query, &body),
            Route::Served(CallKind::DeleteContact, _) if deeds::erases(&query) => CallKind::EraseContact,
            Route::Served(kind, _) => *kind,
            Route::WrongMethod | Route::Unknown => CallKind::Other,
        };
        let number = u64::try_from(self.journal.calls.len()).unwrap_or(u64::MAX).saturating_add(1);
        let secret = matches!(kind, CallKind::TokenExchange | CallKind::TokenRefresh);
        let body_sha256 = draw::to_hex(&Sha256::digest(&body));
        self.journal.tally.calls += 1;
        self.journal.calls.push(CallSeen {
            number,
            at: now,
            method: parts.method.to_string(),
            path: path.clone(),
            kind,
            status: None,
            delivered: false,
            contacts: contacts_in(kind, &body),
            body_sha256: body_sha256.clone(),
            body: (self.options.keep_bodies && !secret).then(|| body.clone()),
        });
        Request { number, method: parts.method, path, query, headers: parts.headers, body, body_sha256, kind, route }
    }

    /// Carries a request out, unless a fault prevents it.
    pub(super) fn carry_out(&mut self, now: Timestamp, request: &Request) -> Verdict {
        self.advance(now);
        let instead = self.faults.strike(request.kind, Slot::Instead);
        let verdict = if let Some(Effect::Answer(canned)) = instead {
            Verdict::Answer(canned.into_reply())
        } else if matches!(instead, Some(Effect::RefuseConnection)) {
            Verdict::Refused
        } else if matches!(instead, Some(Effect::LoseRequest)) {
            Verdict::LostBefore
        } else {
            if matches!(instead, Some(Effect::ExpireAccessTokens)) {
                self.grants.expire_access_tokens(now);
            }
            let answer = self.answer(now, request);
            self.note_status(request, answer.status().as_u16());
            self.deliver(request, answer)
        };
        if let Verdict::Answer(answer) = &verdict {
            self.note_status(request, answer.status().as_u16());
            self.note_delivered(request.number);
        }
        self.advance(now); // an import without any delay is applied before anyone can look
        verdict
    }

    fn note_status(&mut self, request: &Request, status: u16) {
        let place = usize::try_from(request.number - 1).unwrap_or(usize::MAX);
        if let Some(call) = self.journal.calls.get_mut(place) {
            call.status = Some(status);
        }
    }

    /// Marks an answer as sent whole.
    pub(super) fn note_delivered(&mut self, number: u64) {
        if let Some(call) = usize::try_from(number - 1).ok().and_then(|place| self.journal.calls.get_mut(place)) {
            call.delivered = true;
        }
    }

    fn deliver(&mut self, request: &Request, mut answer: Reply) -> Verdict {
        let delivery = self.faults.strike(request.kind, Slot::Delivery);
        let lost = matches!(delivery, Some(Effect::LoseAnswer));
        let cut = matches!(delivery, Some(Effect::CutAnswer));
        if (lost || cut) && request.kind == CallKind::TokenRefresh {
            self.grants.answer_was_lost();
        }
        if lost {
            return Verdict::LostAfter;
        }
        if cut {
            let half = answer.body().len() / 2;
            *answer.body_mut() = answer.body().slice(..half);
            return Verdict::Cut(answer);
        }
        if matches!(delivery, Some(Effect::HoldAnswer)) { Verdict::Held(answer) } else { Verdict::Answer(answer) }
    }

    fn answer(&mut self, now: Timestamp, request: &Request) -> Reply {
        if request.path.starts_with("/api/") {
            return self.admit(now, request).unwrap_or_else(|| self.call(now, request));
        }
        self.call(now, request)
    }

    /// What stands before every API call: token, rate, path, method, type and size of the body.
    fn admit(&mut self, now: Timestamp, request: &Request) -> Option<Reply> {
        let token = bearer(&request.headers).filter(|token| self.grants.use_access_token(token, now));
        let Some(token) = token else { return Some(reply::unauthorized()) };
        if self.is_over_rate(now, token) {
            return Some(reply::too_many());
        }
        if matches!(request.method, Method::POST | Method::PUT) && matches!(request.route, Route::Served(..)) {
            if request.body.len() > self.options.body_bytes_max {
                return Some(reply::too_large());
            }
            if !is_json(&request.headers) {
                return Some(reply::unsupported_media());
            }
        }
        None
    }

    fn is_over_rate(&mut self, now: Timestamp, token: &str) -> bool {
        let seen = self.rate.entry(token.to_owned()).or_default();
        while seen.front().is_some_and(|at| now.since(*at) >= Duration::from_secs(1)) {
            seen.pop_front();
        }
        if seen.len() >= usize::try_from(self.options.requests_per_second).unwrap_or(usize::MAX) {
            return true;
        }
        seen.push_back(now);
        false
    }

    /// The calls themselves. A further one is a row in `routes` and an arm here.
    fn call(&mut self, now: Timestamp, request: &Request) -> Reply {
        let (kind, variable) = match &request.route {
            // Exchange and refresh are one route, and so are deletion and erasure.
            Route::Served(_, variable) => (request.kind, variable.as_str()),
            Route::WrongMethod => return reply::wrong_method(),
            Route::Unknown => return reply::not_found(),
        };
        match kind {
            CallKind::SubmitContacts => bulk::submit(self, now, request),
            CallKind::ImportStatus => bulk::import_status(self, now, variable),
            CallKind::UpsertContact => single::upsert(self, now, request),
            CallKind::UpdateContact => single::update(self, now, request, variable),
            CallKind::DeleteContact => deeds::delete(self, request, variable),
            CallKind::EraseContact => deeds::erase(self, request, variable),
            CallKind::SetSubscriptions => deeds::set_subscriptions(self, request, variable),
            CallKind::Subscribe => subscribe::subscribe(self, now, request),
            CallKind::Unsubscribe => consent::change(self, now, request, ConsentAction::Added),
            CallKind::Resubscribe => consent::change(self, now, request, ConsentAction::Removed),
            CallKind::Detach => deeds::detach(self, request, variable),
            CallKind::Upload => upload::submit(self, now, request),
            CallKind::AddressBooks => facts::address_books(&self.options),
            CallKind::Subscriptions => facts::subscriptions(&self.options),
            CallKind::AccountInfo => facts::account_info(&self.options),
            CallKind::Version => facts::version(),
            CallKind::Authorize => self.grants.authorize(&self.options, now, &request.path, &request.query),
            CallKind::TokenExchange | CallKind::TokenRefresh => {
                let answer = self.grants.token(&self.options, now, request);
                self.journal.tally.tokens_given += u64::from(answer.status().is_success());
                answer
            }
            CallKind::Crm => crm::answer(&self.crm, &request.path),
            CallKind::Other => reply::not_found(),
        }
    }

    /// Applies every part of an import whose time has come, in order of time.
    pub(super) fn advance(&mut self, now: Timestamp) {
        while let Some(part) = self.imports.due(now) {
            self.apply(&part);
            if let Some(finished) = part.ends {
                self.imports.end(part.import);
                self.journal.tally.imports_finished += u64::from(finished);
                self.journal.tally.imports_failed += u64::from(!finished);
            }
        }
    }

    fn apply(&mut self, part: &Part) {
        let Some(import) = self.imports.all.get_mut(part.import) else { return };
        let (order, session) = (import.order.clone(), import.session.clone());
        let members: Vec<_> = import.members.get(part.members.clone()).unwrap_or_default().to_vec();
        let tally = &mut self.journal.tally;
        for member in &members {
            let (id, new) = match self.contacts.find(member, order.search) {
                Found::Known(id) => (id, false),
                Found::New => (self.contacts.create(), true),
                Found::Skipped | Found::Nowhere => {
                    tally.contacts_skipped += 1;
                    continue;
                }
            };
            let addresses = self.contacts.write(id, member, &order.writing, Change { at: part.at, by: &session, new });
            if self.options.readings.create_resubscribes {
                self.consent.note_new_addresses(part.at, &addresses, &session);
            }
            import.map(member, id, self.options.readings.mapping_value);
            tally.contacts_written += 1;
            tally.contacts_created += u64::from(new);
            if let (true, Some(key)) = (new, &order.event_key) {
                *tally.events.entry(key.clone()).or_default() += 1;
                self.journal.events_fired.push((key.clone(), name_of(member)));
            }
        }
    }
}

/// What a test knows a new contact by.
fn name_of(contact: &Incoming) -> String {
    contact
        .external_id
        .as_deref()
        .or_else(|| contact.email())
        .or_else(|| contact.phone())
        .unwrap_or_default()
        .to_owned()
}

fn contacts_in(kind: CallKind, body: &[u8]) -> usize {
    match kind {
        CallKind::SubmitContacts => serde_json::from_slice::<Counted>(body).map_or(0, |body| body.contacts.len()),
        CallKind::UpsertContact
        | CallKind::UpdateContact
        | CallKind::DeleteContact
        | CallKind::EraseContact
        | CallKind::SetSubscriptions
        | CallKind::Subscribe => 1,
        CallKind::ImportStatus
        | CallKind::Unsubscribe
        | CallKind::Resubscribe
        | CallKind::Detach
        | CallKind::Upload
        | CallKind::AddressBooks
        | CallKind::Subscriptions
        | CallKind::AccountInfo
        | CallKind::Version
        | CallKind::Authorize
        | CallKind::TokenExchange
        | CallKind::TokenRefresh
        | CallKind::Crm
        | CallKind::Other => 0,
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}
