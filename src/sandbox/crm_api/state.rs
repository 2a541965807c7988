//! One request from arrival to answer, and all state of a sandbox CRM behind one lock, which its callers hold for one
//! step and never across an await.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{AUTHORIZATION, DATE, HOST, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use crate::clock::Timestamp;
use crate::random::Random;
use crate::sandbox::draw;
use crate::sandbox::reply::{self, Reply};

use super::calls::{CrmCallKind, CrmCallSeen, CrmEffect, CrmFault, route};
use super::grants::Grants;
use super::hooks::Hooks;
use super::index::Index;
use super::limits::{Limits, Refusal};
use super::options::{CrmOptions, Dialect};
use super::outbox::Outbox;
use super::page::Order;
use super::people::{Change, CrmPerson, People};
use super::query::Query;
use super::{amocrm, hubspot, pipedrive};

/// Keeps the draws of ties apart from all others.
const STREAM: u64 = 0x4200_0000;

/// Everything a sandbox CRM is.
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: CrmOptions,
    pub(super) people: People,
    pub(super) index: Index,
    pub(super) grants: Grants,
    pub(super) limits: Limits,
    pub(super) events: amocrm::Events,
    pub(super) hooks: Hooks,
    pub(super) outbox: Outbox,
    pub(super) calls: Vec<CrmCallSeen>,
    pub(super) faults: Vec<CrmFault>,
    random: Random,
}

/// A request that has arrived whole.
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) path: String,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) kind: CrmCallKind,
    /// The variable part of the path.
    pub(super) variable: String,
    /// Scheme and authority as the client called them: what links begin with.
    pub(super) base: String,
}

/// What becomes of a request.
pub(super) enum Verdict {
    Answer(Reply),
    LostBefore,
    LostAfter,
}

impl State {
    pub(super) fn new(options: CrmOptions) -> Self {
        let seed = options.seed;
        Self {
            people: People::new(seed, options.flawed),
            index: Index::default(),
            grants: Grants::new(seed),
            limits: Limits::default(),
            events: amocrm::Events::default(),
            hooks: Hooks::new(&options.webhooks),
            outbox: Outbox::new(seed),
            calls: Vec::new(),
            faults: Vec::new(),
            random: draw::sequence(seed, STREAM),
            options,
        }
    }

    /// Notes a request's arrival; nothing is carried out yet.
    pub(super) fn arrive(&mut self, now: Timestamp, request: http::Request<Bytes>) -> Request {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let (kind, variable) = route(&parts.method, &path);
        let number = u64::try_from(self.calls.len()).unwrap_or(u64::MAX).saturating_add(1);
        self.calls.push(CrmCallSeen {
            number,
            at: now,
            method: parts.method.to_string(),
            path: path.clone(),
            query: query.clone(),
            kind,
            body: if kind.gives_tokens() { Bytes::new() } else { body.clone() },
            status: None,
        });
        let base = base(&parts);
        Request {
            number,
            path,
            query: Query::parse(query.as_bytes()),
            headers: parts.headers,
            body,
            kind,
            variable,
            base,
        }
    }

    pub(super) fn carry_out(&mut self, now: Timestamp, request: &Request) -> Verdict {
        let verdict = match self.strike(request.kind) {
            Some(CrmEffect::LoseRequest) => Verdict::LostBefore,
            Some(CrmEffect::LoseAnswer) => {
                self.reply(now, request);
                Verdict::LostAfter
            }
            Some(CrmEffect::CutAnswer) => {
                let answer = self.reply(now, request);
                Verdict::Answer(answer.map(|body| body.slice(..body.len() / 2)))
            }
            Some(CrmEffect::Answer(canned)) => Verdict::Answer(canned.into_reply()),
            None => Verdict::Answer(self.reply(now, request)),
        };
        let Verdict::Answer(mut answer) = verdict else { return verdict };
        reply::put(&mut answer, DATE, &http_date(now));
        let place = usize::try_from(request.number).unwrap_or(0).saturating_sub(1);
        if let Some(seen) = self.calls.get_mut(place) {
            seen.status = Some(answer.status().as_u16());
        }
        Verdict::Answer(answer)
    }

    fn strike(&mut self, kind: CrmCallKind) -> Option<CrmEffect> {
        let fault = self.faults.iter_mut().find(|fault| fault.kind == kind && fault.times > 0)?;
        fault.times -= 1;
        Some(fault.effect.clone())
    }

    fn reply(&mut self, now: Timestamp, request: &Request) -> Reply {
        let kind = request.kind;
        if let Err(refusal) = self.limits.admit(kind, now, &self.options.rates) {
            return match refusal {
                Refusal::AmoCrm => amocrm::too_many(self.options.rates.amocrm_retry_after),
                Refusal::Blocked => amocrm::blocked(),
                Refusal::HubSpot(policy) => hubspot::too_many(policy),
                Refusal::Pipedrive => pipedrive::too_many(&self.options.rates),
            };
        }
        if let Some(dialect) = kind.dialect().filter(|_| !kind.gives_tokens())
            && !token(request).is_some_and(|token| self.grants.admits(dialect, &token, &self.options, now))
        {
            return match dialect {
                Dialect::AmoCrm => amocrm::unauthorized(),
                Dialect::HubSpot => hubspot::unauthorized(),
                Dialect::Pipedrive => pipedrive::unauthorized(),
            };
        }
        match kind {
            CrmCallKind::Amo(call) => amocrm::answer(self, now, call, request),
            CrmCallKind::Hub(call) => hubspot::answer(self, now, call, request),
            CrmCallKind::Pipe(call) => {
                let answer = pipedrive::answer(self, now, call, request);
                pipedrive::with_limits(answer, self.limits.pipedrive_left(&self.options.rates), &self.options.rates)
            }
            CrmCallKind::Authorize => self.authorize(now, request),
            CrmCallKind::Other => reply::not_found(),
        }
    }

    /// A person's browser at the page where the app is allowed, who does so at once (`auto=deny`: refuses).
    fn authorize(&mut self, now: Timestamp, request: &Request) -> Reply {
        let query = &request.query;
        if query.get("client_id") != Some(self.options.client_id.as_str()) {
            return reply::page(StatusCode::BAD_REQUEST, "Unknown app", "");
        }
        let mut back = vec![("state", query.get("state").unwrap_or_default().to_owned())];
        if query.get("auto") == Some("deny") {
            back.push(("error", "access_denied".to_owned()));
        } else {
            back.push(("code", self.grants.code(now)));
            // Only amoCRM says which account was chosen.
            if request.path == "/oauth" {
                let host = request.base.split_once("://").map_or("", |(_, host)| host);
                back.push(("referer", host.to_owned()));
                back.push(("client_id", self.options.client_id.clone()));
            }
        }
        let back = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(back).finish();
        reply::redirect(&format!("{}?{back}", self.options.redirect_uri))
    }

    /// Tells everybody who listens of a deed: amoCRM's list of events, the webhooks, the late index.
    pub(super) fn note(&mut self, change: &Change) {
        self.events.note(change);
        if !self.options.index_lag.is_zero() {
            self.index.note(&change.after, change.at, self.options.index_lag, self.options.late);
        }
        self.outbox.note(change, &self.hooks, &self.options);
    }

    /// People as HubSpot's search sees them.
    pub(super) fn searchable(&self) -> BTreeMap<u64, &CrmPerson> {
        if self.options.index_lag.is_zero() {
            self.people.living().map(|person| (person.id, person)).collect()
        } else {
            self.index.iter().map(|person| (person.id, person)).collect()
        }
    }

    pub(super) fn order(&self, descending: bool) -> Order<'_> {
        Order { descending, ties: self.options.ties, random: &self.random }
    }

    /// What a page holds at most, for a client that asked for `limit`.
    pub(super) fn page_size(&self, limit: i64) -> usize {
        let limit = usize::try_from(limit).unwrap_or(0);
        self.options.page_cap.map_or(limit, |cap| limit.min(cap))
    }
}

/// The token a request carries, wherever a vendor lets it.
fn token(request: &Request) -> Option<String> {
    let text = |name: HeaderName| request.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let bearer = text(AUTHORIZATION).and_then(|value| value.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let own = || match request.kind.dialect() {
        Some(Dialect::Pipedrive) => {
            text(HeaderName::from_static("x-api-token")).or_else(|| request.query.get("api_token"))
        }
        Some(Dialect::AmoCrm | Dialect::HubSpot) | None => None,
    };
    bearer.or_else(own).map(str::to_owned)
}

fn base(parts: &http::request::Parts) -> String {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    if let (Some(scheme), Some(authority)) = (parts.uri.scheme_str(), parts.uri.authority()) {
        return format!("{scheme}://{authority}");
    }
    let host = text(HOST.as_str()).unwrap_or_default();
    // A vendor's own name ends at a front that speaks TLS; this machine's address and port are this listener's.
    let scheme = if host.contains(':') || host == "localhost" { "http" } else { "https" };
    format!("{scheme}://{host}")
}

fn http_date(at: Timestamp) -> String {
    let time = chrono::DateTime::from_timestamp_millis(at.0);
    time.map_or_else(String::new, |time| time.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
}
