//! The built-in sandbox: a strict in-process Reteno (API and OAuth server), a tiny CRM table, and a CRM behind the APIs of
//! three vendors ([`crm_api`]), with fault switches, for `reteno-sync demo`, rehearsals and tests.
//!
//! It stands for the other side, so it shares no type and no rule with `contact`, `plan` or `reteno`: it reads bytes by
//! itself, refuses what Reteno's documents say is refused, and counts what it saw. It must never listen beyond loopback
//! and never log what it holds.

mod admin;
mod bulk;
mod consent;
mod contacts;
pub mod crm;
pub mod crm_api;
mod deeds;
mod draw;
mod engine;
mod exchange;
mod facts;
mod faults;
mod grants;
mod imports;
mod incoming;
mod inspect;
mod listen;
mod loopback;
mod options;
mod reply;
mod routes;
mod rules;
mod single;
mod subscribe;
#[cfg(test)]
mod tests;
mod upload;
mod view;
mod wire;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use crate::clock::{Clock, Timestamp};
use crate::http::Exchange;

pub use self::faults::{Applied, Canned, Effect, Fault, FaultId};
pub use self::grants::IssuedTokens;
pub use self::inspect::{
    AppliedChange, CallSeen, ConsentAction, ConsentChange, Overlap, Phase, RequestSeen, StoredContact, Tally,
};
pub use self::listen::Listening;
pub use self::options::{
    AdditionalField, BadField, FieldKind, MappingValue, Readings, RefreshGrace, SandboxOptions, SubscriptionCategory,
};
pub use self::routes::CallKind;
pub use self::upload::Downloader;

use self::engine::{State, Verdict};

/// A sandbox Reteno. Clones are handles to the same one.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

struct Inner {
    clock: Clock,
    /// Held for one step at a time, never over an await or a hook.
    state: Mutex<State>,
    hooks: Mutex<Vec<Arc<Hook>>>,
    downloader: Mutex<Option<Arc<Downloader>>>,
    /// Moves on at each release of held answers.
    releases: watch::Sender<u64>,
}

type Hook = dyn Fn(&RequestSeen) + Send + Sync;

/// What becomes of a request.
#[derive(Debug)]
pub enum Outcome {
    /// This arrives, whole or (by a fault) cut.
    Answer(http::Response<Bytes>),
    /// The connection was refused: certainly not sent.
    Refused,
    /// Lost on the way, not carried out.
    LostBefore,
    /// Carried out, and the answer lost.
    LostAfter,
    /// Carried out; the answer waits.
    Held(Held),
}

/// An answer that is kept back.
pub struct Held {
    answer: http::Response<Bytes>,
    number: u64,
    sandbox: Sandbox,
    released: watch::Receiver<u64>,
}

impl Held {
    /// The answer, once [`Sandbox::release`] was called.
    pub async fn released(mut self) -> http::Response<Bytes> {
        // The sender lives as long as the sandbox, which this value holds; so an error cannot come before a release.
        let _ = self.released.changed().await;
        self.sandbox.state().note_delivered(self.number);
        self.answer
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held(#{} {})", self.number, self.answer.status())
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sandbox")
    }
}

/// Why [`Sandbox::authorize`] has no redirect to give.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizeError {
    /// The URL cannot be requested.
    #[error("cannot read the authorization URL")]
    Url(#[source] http::Error),
    /// The page refused the request, or a fault took it: what happened.
    #[error("no redirect from the authorization page: {0}")]
    NoRedirect(String),
}

impl Sandbox {
    /// An empty account whose present moment is `clock`'s.
    #[must_use]
    pub fn new(options: SandboxOptions, clock: Clock) -> Self {
        Self(Arc::new(Inner {
            clock,
            state: Mutex::new(State::new(options)),
            hooks: Mutex::new(Vec::new()),
            downloader: Mutex::new(None),
            releases: watch::Sender::new(0),
        }))
    }

    /// Carries one request out at the clock's present moment. Only method, path, query, headers and body matter.
    ///
    /// An upload's file must have been fetched before, which [`Sandbox::exchange`] and [`Sandbox::listen`] do; here it
    /// is answered as one that cannot be.
    pub fn answer(&self, request: http::Request<Bytes>) -> Outcome {
        let now = self.now();
        let request = self.state().arrive(now, request);
        let mut seen = RequestSeen {
            phase: Phase::Before,
            number: request.number,
            kind: request.kind,
            path: request.path.clone(),
            body: request.body.clone(),
            status: None,
        };
        self.call_hooks(&seen);
        // Before anyone can release it, a held answer must already be waiting.
        let released = self.0.releases.subscribe();
        let verdict = self.state().carry_out(self.now(), &request);
        seen.phase = Phase::After;
        seen.status = match &verdict {
            Verdict::Answer(answer) | Verdict::Cut(answer) | Verdict::Held(answer) => Some(answer.status().as_u16()),
            Verdict::Refused | Verdict::LostBefore | Verdict::LostAfter => None,
        };
        self.call_hooks(&seen);
        match verdict {
            Verdict::Answer(answer) | Verdict::Cut(answer) => Outcome::Answer(answer),
            Verdict::Refused => Outcome::Refused,
            Verdict::LostBefore => Outcome::LostBefore,
            Verdict::LostAfter => Outcome::LostAfter,
            Verdict::Held(answer) => {
                Outcome::Held(Held { answer, number: request.number, sandbox: self.clone(), released })
            }
        }
    }

    /// This sandbox behind the program's own seam, without a socket: any host, paths as over HTTP.
    #[must_use]
    pub fn exchange(&self) -> Arc<dyn Exchange> {
        Arc::new(exchange::InProcess::new(self.clone()))
    }

    /// From now on `downloader` gives what stands behind the link of an upload. Without one an upload over
    /// [`Sandbox::exchange`] is answered as not valid, and over [`Sandbox::listen`] its file is fetched by HTTP.
    pub fn set_downloader(&self, downloader: Arc<Downloader>) {
        *self.0.downloader.lock().unwrap_or_else(PoisonError::into_inner) = Some(downloader);
    }

    /// Serves HTTP/1 on a loopback address (port 0 for a free one) until the answer is dropped or stopped.
    ///
    /// # Errors
    /// An address that is not loopback (`InvalidInput`), or the port's own.
    pub async fn listen(&self, address: std::net::SocketAddr) -> std::io::Result<Listening> {
        listen::listen(self.clone(), address).await
    }

    /// Has `hook` called with each request, before it is carried out and after it, before the answer leaves. It may
    /// call the sandbox, and it holds its request up while it runs.
    pub fn on_request(&self, hook: impl Fn(&RequestSeen) + Send + Sync + 'static) {
        self.hooks().push(Arc::new(hook));
    }

    /// What a person's browser brings back from an authorization URL: the whole callback URL.
    ///
    /// # Errors
    /// See [`AuthorizeError`].
    pub fn authorize(&self, url: &str, allow: bool) -> Result<String, AuthorizeError> {
        let choice = if allow { "allow" } else { "deny" };
        let request = http::Request::get(format!("{url}&auto={choice}")).body(Bytes::new());
        let outcome = self.answer(request.map_err(AuthorizeError::Url)?);
        let location = match &outcome {
            Outcome::Answer(answer) => answer.headers().get(http::header::LOCATION),
            Outcome::Refused | Outcome::LostBefore | Outcome::LostAfter | Outcome::Held(_) => None,
        };
        let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
        location.ok_or_else(|| AuthorizeError::NoRedirect(format!("{outcome:?}")))
    }

    /// A pair of tokens without the calls, for tests of other things.
    #[must_use]
    pub fn issue_tokens(&self) -> IssuedTokens {
        let now = self.now();
        let mut state = self.state();
        let State { grants, options, .. } = &mut *state;
        grants.issue(options, now)
    }

    /// Sets a fault.
    pub fn fault(&self, fault: Fault) -> FaultId {
        self.state().faults.set(fault)
    }

    /// How often a fault has struck.
    #[must_use]
    pub fn fired(&self, fault: FaultId) -> u32 {
        self.state().faults.fired(fault)
    }

    /// Lets no fault strike again.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Every access token is answered 401 from now on.
    pub fn expire_access_tokens(&self) {
        let now = self.now();
        self.state().grants.expire_access_tokens(now);
    }

    /// As when a person disconnects the app: every code and token is refused from now on.
    pub fn revoke_authorization(&self) {
        self.state().grants.revoke_all();
    }

    /// From now on a batch that holds one of these external ids is refused whole, with 400.
    pub fn poison(&self, external_ids: impl IntoIterator<Item = String>) {
        self.state().poisoned = external_ids.into_iter().collect::<BTreeSet<_>>();
    }

    /// From now on a proxy answers 502 to every batch that holds one of these external ids, and passes it on to nobody.
    pub fn jam(&self, external_ids: impl IntoIterator<Item = String>) {
        self.state().jammed = external_ids.into_iter().collect::<BTreeSet<_>>();
    }

    /// Lets the answers go that are held now.
    pub fn release(&self) {
        self.0.releases.send_modify(|count| *count += 1);
    }

    /// Applies every stuck import now; returns how many.
    pub fn release_stuck(&self) -> usize {
        let now = self.now();
        let mut state = self.state();
        let released = state.imports.release_stuck(now);
        state.advance(now);
        released
    }

    /// Deletes a contact as a person would in Reteno; false where no contact has the external id.
    pub fn delete_contact(&self, external_id: &str) -> bool {
        let mut state = self.advanced();
        let Some(id) = state.contacts.with_external_id(external_id) else { return false };
        state.contacts.delete(id)
    }

    /// Erases a contact as a person would in Reteno; false where no contact has the external id.
    pub fn erase_contact(&self, external_id: &str) -> bool {
        let mut state = self.advanced();
        let Some(id) = state.contacts.with_external_id(external_id) else { return false };
        state.contacts.erase(id)
    }

    /// Takes an address off every mailing, as the person does who clicks the link in a letter.
    pub fn person_unsubscribes(&self, email: &str) {
        let now = self.now();
        self.advanced().consent.note(now, &email.to_lowercase(), ConsentAction::Added, "person");
    }

    /// What the sandbox CRM serves below `/crm`.
    pub fn serve_crm(&self, rows: Vec<crm::CrmRow>) {
        self.state().crm = rows;
    }

    fn downloader(&self) -> Option<Arc<Downloader>> {
        self.0.downloader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn call_hooks(&self, seen: &RequestSeen) {
        // Copied out, so that a hook may set another or call the sandbox.
        let hooks = self.hooks().clone();
        for hook in hooks {
            hook(seen);
        }
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// The state as it is now, with everything applied that is due.
    fn advanced(&self) -> MutexGuard<'_, State> {
        let now = self.now();
        let mut state = self.state();
        state.advance(now);
        state
    }

    /// A panic elsewhere leaves counts and contacts that are still worth reading.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hooks(&self) -> MutexGuard<'_, Vec<Arc<Hook>>> {
        self.0.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
