//! A sandbox CRM: invented people behind the APIs of amoCRM, HubSpot and Pipedrive at once, with paging that drifts,
//! equal seconds, a late search index, deletions, merges, rate limits, rotating tokens, and webhooks that are doubled,
//! lost and retried. For tests and rehearsals; it shares no type and no rule with the sources it is there to judge, and
//! it must never listen beyond loopback.
//!
//! A test makes one, reads it through the seam, changes it meanwhile, and compares with the truth:
//!
//! ```
//! use reteno_sync::clock::{Clock, Timestamp};
//! use reteno_sync::sandbox::crm_api::{CrmOptions, CrmSandbox, CrmWebhook, Dialect, Rates};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let options = CrmOptions { rates: Rates::unlimited(), ..CrmOptions::default() };
//! let crm = CrmSandbox::new(options, Clock::simulated(Timestamp(1_770_000_000_000)));
//! crm.seed(3);
//!
//! // Any host: only paths count. The static token opens all three vendors.
//! let get = |uri: &str| {
//!     let request = http::Request::get(uri).header("Authorization", "Bearer crm-static-token");
//!     request.body(bytes::Bytes::new()).unwrap()
//! };
//! let page = crm.exchange().exchange(get("https://examplecrm.amocrm.ru/api/v4/contacts?limit=2")).await.unwrap();
//! let page: serde_json::Value = serde_json::from_slice(page.body()).unwrap();
//! assert_eq!(page["_embedded"]["contacts"].as_array().unwrap().len(), 2);
//!
//! // What happens next goes to the webhook, when it is due and somebody carries it.
//! let url = "http://127.0.0.1:8400/hooks/crm/path-token".to_owned();
//! crm.subscribe(CrmWebhook { dialect: Dialect::AmoCrm, url, basic: None });
//! let id = crm.people()[0].id;
//! crm.edit(id);
//! crm.deliver_due(&*crm.exchange()).await; // a real test hands in an exchange that ends at the daemon's listener
//! assert_eq!((crm.deliveries().queued, crm.deliveries().attempts), (1, 1));
//! assert_eq!(crm.person(id).unwrap().town, "Полтава");
//! # });
//! ```

mod admin;
mod amocrm;
mod calls;
mod deeds;
mod delivery;
mod exchange;
mod grants;
mod hooks;
mod hubspot;
mod index;
mod limits;
mod listen;
mod options;
mod outbox;
mod page;
mod people;
mod pipedrive;
mod query;
mod state;
mod webhooks;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::clock::{Clock, Timestamp};
use crate::http::Exchange;

use super::Phase;

pub use self::calls::{AmoCall, CrmCallKind, CrmCallSeen, CrmEffect, CrmFault, CrmRequestSeen, HubCall, PipeCall};
pub use self::grants::CrmTokens;
pub use self::listen::CrmListening;
pub use self::options::{CrmOptions, CrmWebhook, Dialect, HookHabits, Late, Rates, Ties};
pub use self::outbox::{CrmDeliveries, CrmDelivery};
pub use self::people::CrmPerson;

use self::state::{State, Verdict};

/// A sandbox CRM. Clones are handles to the same one.
#[derive(Clone)]
pub struct CrmSandbox(Arc<Inner>);

struct Inner {
    clock: Clock,
    /// Held for one step at a time, never over an await or a hook.
    state: Mutex<State>,
    hooks: Mutex<Vec<Arc<Hook>>>,
}

type Hook = dyn Fn(&CrmRequestSeen) + Send + Sync;

/// What becomes of a request to a sandbox CRM.
#[derive(Debug)]
pub enum CrmOutcome {
    /// This arrives.
    Answer(http::Response<Bytes>),
    /// Lost on the way, not carried out.
    LostBefore,
    /// Carried out, and the answer lost.
    LostAfter,
}

impl fmt::Debug for CrmSandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CrmSandbox")
    }
}

/// As a server and as what tests see of it.
impl CrmSandbox {
    /// A CRM without people whose present moment is `clock`'s.
    #[must_use]
    pub fn new(options: CrmOptions, clock: Clock) -> Self {
        Self(Arc::new(Inner { clock, state: Mutex::new(State::new(options)), hooks: Mutex::new(Vec::new()) }))
    }

    /// Carries one request out at the clock's present moment. Only method, path, query, headers and body matter.
    pub fn answer(&self, request: http::Request<Bytes>) -> CrmOutcome {
        let request = self.state().arrive(self.now(), request);
        let (number, kind, path) = (request.number, request.kind, request.path.clone());
        let mut seen = CrmRequestSeen { phase: Phase::Before, number, kind, path, status: None };
        self.call_hooks(&seen);
        let verdict = self.state().carry_out(self.now(), &request);
        seen.phase = Phase::After;
        if let Verdict::Answer(answer) = &verdict {
            seen.status = Some(answer.status().as_u16());
        }
        self.call_hooks(&seen);
        match verdict {
            Verdict::Answer(answer) => CrmOutcome::Answer(answer),
            Verdict::LostBefore => CrmOutcome::LostBefore,
            Verdict::LostAfter => CrmOutcome::LostAfter,
        }
    }

    /// This CRM behind the program's own seam, without a socket: any host, paths as over HTTP.
    #[must_use]
    pub fn exchange(&self) -> Arc<dyn Exchange> {
        Arc::new(exchange::InProcess::new(self.clone()))
    }

    /// Serves HTTP/1 on a loopback address (port 0 for a free one) until the answer is dropped or stopped. Tests in
    /// other processes change the CRM below `/sandbox/`.
    ///
    /// # Errors
    /// An address that is not loopback (`InvalidInput`), or the port's own.
    pub async fn listen(&self, address: std::net::SocketAddr) -> std::io::Result<CrmListening> {
        listen::listen(self.clone(), address).await
    }

    /// Has `hook` called with each request, before it is carried out and after it, before the answer leaves. It may
    /// call the sandbox (to edit people in the middle of a scan).
    pub fn on_request(&self, hook: impl Fn(&CrmRequestSeen) + Send + Sync + 'static) {
        self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(hook));
    }

    /// Every request so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<CrmCallSeen> {
        self.state().calls.clone()
    }

    /// Requests by kind and by the status answered.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<(CrmCallKind, Option<u16>), u64> {
        let mut counts = BTreeMap::new();
        for call in &self.state().calls {
            *counts.entry((call.kind, call.status)).or_default() += 1;
        }
        counts
    }

    /// Requests of one kind, whatever they were answered.
    #[must_use]
    pub fn count(&self, kind: CrmCallKind) -> usize {
        self.state().calls.iter().filter(|call| call.kind == kind).count()
    }

    /// Everybody, deleted people too, by id: the truth.
    #[must_use]
    pub fn people(&self) -> Vec<CrmPerson> {
        self.state().people.iter().cloned().collect()
    }

    /// One person, deleted or not; `None` where the id is unknown or erased.
    #[must_use]
    pub fn person(&self, id: u64) -> Option<CrmPerson> {
        self.state().people.get(id).cloned()
    }

    /// The next calls of a kind suffer a fault.
    pub fn fault(&self, fault: CrmFault) {
        self.state().faults.push(fault);
    }

    /// Lets no fault strike again.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }
}

/// Tokens, limits, options.
impl CrmSandbox {
    /// What the page of authorization would give.
    #[must_use]
    pub fn issue_code(&self) -> String {
        let now = self.now();
        self.state().grants.code(now)
    }

    /// A pair of tokens without the calls.
    #[must_use]
    pub fn issue_tokens(&self, dialect: Dialect) -> CrmTokens {
        let now = self.now();
        let State { grants, options, .. } = &mut *self.state();
        grants.issue(dialect, options, now)
    }

    /// Every access token is answered 401 from now on; the static one is not.
    pub fn expire_access_tokens(&self) {
        self.state().grants.expire_access();
    }

    /// As when a person removes the app: every code and token is refused from now on, except the static one.
    pub fn revoke_authorization(&self) {
        self.state().grants.revoke();
    }

    /// How often a refresh token was used that an earlier refresh had replaced: a client that lost one.
    #[must_use]
    pub fn refreshes_reused(&self) -> u64 {
        self.state().grants.reused()
    }

    /// Changes options while it runs (rates, habits, the API filter …). Seed and webhooks are read at the start only.
    pub fn set_options(&self, change: impl FnOnce(&mut CrmOptions)) {
        let mut state = self.state();
        let lagged = !state.options.index_lag.is_zero();
        change(&mut state.options);
        let State { index, people, options, .. } = &mut *state;
        if !lagged && !options.index_lag.is_zero() {
            index.fill(people.living());
        }
    }

    /// amoCRM answers 403 to everything from now on.
    pub fn block(&self) {
        self.state().limits.block();
    }

    /// amoCRM's support has lifted the block.
    pub fn lift_block(&self) {
        self.state().limits.lift();
    }
}

impl CrmSandbox {
    fn call_hooks(&self, seen: &CrmRequestSeen) {
        // Copied out, so that a hook may set another or call the sandbox.
        let hooks = self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for hook in hooks {
            hook(seen);
        }
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// A panic elsewhere leaves counts and people that are still worth reading.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
