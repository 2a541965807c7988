//! The switches that make a sandbox misbehave as networks and vendors do. Holds what is set and counts what fired;
//! carries nothing out itself.

use std::time::Duration;

use http::StatusCode;

use super::reply::{self, HTML, JSON, Reply, TEXT};
use super::routes::CallKind;

/// A fault on calls of one kind: for the next one, unless told otherwise.
#[derive(Clone, Debug)]
pub struct Fault {
    kind: CallKind,
    effect: Effect,
    skip: u32,
    left: Option<u32>,
    fired: u32,
}

impl Fault {
    /// The next call of `kind` suffers `effect`.
    #[must_use]
    pub fn on(kind: CallKind, effect: Effect) -> Self {
        Self { kind, effect, skip: 0, left: Some(1), fired: 0 }
    }

    /// The next `times` calls.
    #[must_use]
    pub fn times(self, times: u32) -> Self {
        Self { left: Some(times), ..self }
    }

    /// Every call, until the faults are cleared.
    #[must_use]
    pub fn always(self) -> Self {
        Self { left: None, ..self }
    }

    /// Lets `calls` matching calls pass first.
    #[must_use]
    pub fn after(self, calls: u32) -> Self {
        Self { skip: calls, ..self }
    }
}

/// What happens to a call. One effect of each group (as listed) can meet on one call; the first one set goes first.
#[derive(Clone, Debug)]
pub enum Effect {
    // Instead of carrying the call out:
    /// Answered with this.
    Answer(Canned),
    /// The connection is refused: certainly not sent. Over a real socket it cannot be, and is lost instead.
    RefuseConnection,
    /// Lost on the way, not carried out.
    LoseRequest,
    /// Every access token expires first, so that the call is answered 401.
    ExpireAccessTokens,

    // The fate of an accepted import (`SubmitContacts`, `Upload`):
    /// It ends in ERROR after writing this much.
    FailImport(Applied),
    /// It never ends, until [`Sandbox::release_stuck`](super::Sandbox::release_stuck).
    StickImport,
    /// It ends this long after its acceptance.
    DelayImport(Duration),

    // Its mapping (`SubmitContacts`, `Upload`):
    /// Finished without any mapping.
    OmitMapping,
    /// Written, but missing from the mapping: contacts with these external ids.
    OmitFromMapping(Vec<String>),

    // What a 200 says:
    /// Accepted and carried out, but the answer lacks `asyncSessionId` (`SubmitContacts`) or `importId` (`Upload`).
    OmitSessionId,
    /// A status of no schema (`ImportStatus`).
    UnknownStatus(String),

    // How the answer travels:
    /// Lost on the way back, after the call was carried out.
    LoseAnswer,
    /// Cut in half, as a complete answer.
    CutAnswer,
    /// Kept back until [`Sandbox::release`](super::Sandbox::release).
    HoldAnswer,
}

/// How much of a failed import was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// All of it.
    All,
    /// The part that was applied first, at least one contact where there are two.
    Part,
    /// Nothing.
    Nothing,
}

/// An answer given without carrying the call out.
#[derive(Clone, Debug)]
pub struct Canned {
    /// HTTP status.
    pub status: StatusCode,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body as it is.
    pub body: String,
    /// `Retry-After`, in seconds or as an HTTP date.
    pub retry_after: Option<String>,
}

impl Canned {
    /// A page, as a proxy in front of Reteno shows it: 500, 502, 503 …
    #[must_use]
    pub fn html(status: StatusCode) -> Self {
        let body =
            format!("<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>");
        Self { status, content_type: HTML, body, retry_after: None }
    }

    /// JSON as given.
    #[must_use]
    pub fn json(status: StatusCode, body: &str) -> Self {
        Self { status, content_type: JSON, body: body.to_owned(), retry_after: None }
    }

    /// 429, with `Retry-After` where given.
    #[must_use]
    pub fn too_many(retry_after: Option<&str>) -> Self {
        Self {
            status: StatusCode::TOO_MANY_REQUESTS,
            content_type: TEXT,
            body: "Too many requests".to_owned(),
            retry_after: retry_after.map(str::to_owned),
        }
    }

    /// 200 with `errorMessage` and nothing else: refused.
    #[must_use]
    pub fn error_message(text: &str) -> Self {
        Self::json(StatusCode::OK, &serde_json::json!({ "errorMessage": text }).to_string())
    }

    pub(super) fn into_reply(self) -> Reply {
        let mut answer = reply::reply(self.status, self.content_type, self.body);
        if let Some(wait) = &self.retry_after {
            reply::put(&mut answer, http::header::RETRY_AFTER, wait);
        }
        answer
    }
}

/// Names a fault that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultId(usize);

/// The moments at which an effect can strike; at each at most one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Instead,
    ImportFate,
    Mapping,
    Content,
    Delivery,
}

impl Effect {
    const fn slot(&self) -> Slot {
        match self {
            Self::Answer(_) | Self::RefuseConnection | Self::LoseRequest | Self::ExpireAccessTokens => Slot::Instead,
            Self::FailImport(_) | Self::StickImport | Self::DelayImport(_) => Slot::ImportFate,
            Self::OmitMapping | Self::OmitFromMapping(_) => Slot::Mapping,
            Self::OmitSessionId | Self::UnknownStatus(_) => Slot::Content,
            Self::LoseAnswer | Self::CutAnswer | Self::HoldAnswer => Slot::Delivery,
        }
    }
}

/// All faults that were set, in order.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

impl Faults {
    pub(super) fn set(&mut self, fault: Fault) -> FaultId {
        self.0.push(fault);
        FaultId(self.0.len() - 1)
    }

    pub(super) fn fired(&self, id: FaultId) -> u32 {
        self.0.get(id.0).map_or(0, |fault| fault.fired)
    }

    /// Lets none of them fire again; their counts stay.
    pub(super) fn clear(&mut self) {
        for fault in &mut self.0 {
            fault.left = Some(0);
        }
    }

    /// Whether a fault would strike a call of `kind` at `slot` now.
    pub(super) fn will_strike(&self, kind: CallKind, slot: Slot) -> bool {
        let ready = |fault: &Fault| fault.left != Some(0) && fault.skip == 0;
        self.0.iter().any(|fault| fault.kind == kind && fault.effect.slot() == slot && ready(fault))
    }

    /// The effect that strikes a call of `kind` at `slot`, which is spent by asking.
    pub(super) fn strike(&mut self, kind: CallKind, slot: Slot) -> Option<Effect> {
        let mut struck = None;
        for fault in self.0.iter_mut().filter(|fault| fault.kind == kind && fault.effect.slot() == slot) {
            if fault.left == Some(0) {
                continue;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if struck.is_none() {
                fault.left = fault.left.map(|left| left - 1);
                fault.fired += 1;
                struck = Some(fault.effect.clone());
            }
        }
        struck
    }
}
