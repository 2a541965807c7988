//! What a CRM's API is like, as data: where its contacts are listed, how a page follows a page, how it says that somebody
//! was deleted, what its errors mean. Resolved from the configuration, valid by construction; asks nobody.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use http::{HeaderName, Method};
use serde_json::Value;
use serde_json_path::JsonPath;

use super::records::RecordsPath;
use super::template::{JsonTemplate, Template, Variable};
use super::time::{ChangeTime, TimeFormat};
use crate::contact::Selector;

/// One CRM.
#[derive(Clone, Debug)]
pub struct Description {
    /// What every path is appended to.
    pub base_url: Template,
    /// The CRM's id of a record.
    pub key: Selector,
    /// How many requests the CRM allows.
    pub rate_limit: Option<RateLimit>,
    /// What must hold before anything is read.
    pub preflight: Option<Preflight>,
    /// Where contacts are listed.
    pub list: List,
    /// When a record was changed; without it every read is a full one.
    pub cursor: Option<CursorRule>,
    /// How a page follows a page.
    pub pagination: Pagination,
    /// How deletions are told, by the operator's names.
    pub deletes: Vec<(String, Deletes)>,
    /// How records are fetched by their ids.
    pub fetch: Option<Fetch>,
    /// What its errors mean, by the operator's names; the first that matches counts.
    pub errors: Vec<ErrorRule>,
}

/// A number of requests in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// So many.
    pub requests: NonZeroU32,
    /// In this time.
    pub per: Duration,
    /// So many at once after a rest.
    pub burst: NonZeroU32,
}

/// A request before all others.
#[derive(Clone, Debug)]
pub struct Preflight {
    /// The request.
    pub call: Call,
    /// Where its answer says it.
    pub path: JsonPath,
    /// What it must say.
    pub equals: Value,
    /// Otherwise the source is read without the CRM's filters; else it halts.
    pub scans_otherwise: bool,
}

/// One request.
#[derive(Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Behind the base URL; a variable is one segment of it.
    pub path: Template,
    /// The query.
    pub query: Vec<(String, Template)>,
    /// Headers beside those of the authorization.
    pub headers: Vec<(HeaderName, Template)>,
    /// The body, sent as JSON.
    pub body: Option<JsonTemplate>,
}

impl Call {
    /// Whether any part of it names the variable.
    #[must_use]
    pub fn uses(&self, variable: Variable) -> bool {
        self.path.uses(variable)
            || self.query.iter().any(|(_, template)| template.uses(variable))
            || self.headers.iter().any(|(_, template)| template.uses(variable))
            || self.body.as_ref().is_some_and(|body| body.uses(variable))
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", self.method)
    }
}

/// A list of records.
#[derive(Clone, Debug)]
pub struct List {
    /// The request of a page.
    pub call: Call,
    /// The records of an answer.
    pub records: RecordsPath,
    /// Statuses that mean that there is nothing.
    pub empty_statuses: Vec<u16>,
}

/// The change time of records.
#[derive(Clone, Debug)]
pub struct CursorRule {
    /// Where it stands in a record.
    pub path: Selector,
    /// How it is written there.
    pub format: TimeFormat,
    /// How it is written in requests.
    pub param_format: TimeFormat,
    /// The list is sorted by it, ascending.
    pub is_ordered: bool,
    /// Where a full read begins; without it at no bound at all.
    pub initial: Option<ChangeTime>,
    /// So much before the cursor is read again: what was committed late.
    pub overlap: Duration,
    /// The last moments are read again the next time: what an index does not show yet.
    pub lag: Duration,
    /// The length of a window of a list without order.
    pub window: Duration,
}

/// How a page follows a page.
#[derive(Clone, Debug)]
pub struct Pagination {
    /// The kind.
    pub kind: Paging,
    /// Records of a page.
    pub page_size: u64,
    /// The number of the first page.
    pub start_page: u64,
    /// What the answer gives for the next page.
    pub next: Option<JsonPath>,
    /// Whether the answer says that there is more: a value that is neither null nor false nor empty.
    pub has_more: Option<JsonPath>,
    /// So many records of one query are given at most.
    pub max_records: Option<u64>,
    /// When the query begins anew at the last seen change time.
    pub restart: Restart,
}

/// The kinds of pagination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// All in one answer.
    None,
    /// `{page}`.
    Page,
    /// `{offset}`.
    Offset,
    /// `{next}`.
    Cursor,
    /// The answer holds the next page's address.
    NextLink,
}

/// When a query begins anew at the last seen change time, in place of its next page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Never: its pages do not move.
    Never,
    /// Where the CRM gives no more of one query.
    OnLimit,
    /// After each page: what is edited meanwhile moves the rows behind it up by one, over the page's edge.
    EveryPage,
}

/// How the CRM tells that somebody is deleted.
#[derive(Clone, Debug)]
pub enum Deletes {
    /// A record says it of itself.
    Flag {
        /// Where.
        path: JsonPath,
        /// What stands there then.
        equals: Value,
        /// The id of the record that it was merged into.
        merged_into: Option<Selector>,
    },
    /// A record names those that were merged into it.
    MergedIds {
        /// Where.
        path: Selector,
        /// What stands between two of them.
        separator: String,
    },
    /// A list of events in the order of time.
    Stream(Box<Stream>),
    /// A list of the deleted, read every so often.
    List {
        /// Its pages.
        pages: Box<DeletedPages>,
        /// So often.
        every: Duration,
    },
    /// It does not: only a full read shows it, at least so often.
    Snapshot {
        /// So often.
        every: Duration,
    },
}

/// Pages of ids.
#[derive(Clone, Debug)]
pub struct DeletedPages {
    /// The pages.
    pub list: List,
    /// Where an entry has the contact's id.
    pub id: Selector,
    /// How a page follows a page.
    pub pagination: Pagination,
}

/// Events of deletion and return.
#[derive(Clone, Debug)]
pub struct Stream {
    /// The events.
    pub pages: DeletedPages,
    /// How its times are written in requests, and the overlap.
    pub cursor: CursorRule,
    /// What it says, where not all are deletions.
    pub action: Option<Selector>,
    /// Its words and what they mean; others say nothing.
    pub actions: Vec<(String, StreamAction)>,
}

/// What an event of a stream means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamAction {
    /// Somebody is deleted.
    Delete,
    /// The record is to be looked at.
    Fetch,
}

/// Records by their ids.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The request.
    pub call: Call,
    /// The records of its answer.
    pub records: RecordsPath,
    /// Ids in one request.
    pub batch: usize,
    /// Asked for one that was merged into another, the CRM gives the other, under its own id. Otherwise a record that was
    /// not asked for means that it pays no heed to the ids.
    pub follows_merges: bool,
}

/// What an answer means that is no list.
#[derive(Clone, Debug)]
pub struct ErrorRule {
    /// The operator's name of it, told where it strikes.
    pub name: String,
    /// The status.
    pub status: u16,
    /// Where the body has its code, and the code.
    pub body: Option<(JsonPath, Value)>,
    /// What is done.
    pub action: ErrorAction,
    /// How long to wait, where the answer does not say it.
    pub wait: Option<Duration>,
    /// The header that says how many seconds to wait.
    pub wait_header: Option<HeaderName>,
    /// Where the body says it.
    pub wait_path: Option<JsonPath>,
}

/// What is done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorAction {
    /// Ask again, later each time.
    Retry,
    /// The whole source waits.
    RateLimited,
    /// A new access token.
    Reauthorize,
    /// The query begins anew at the last seen change time.
    RestartAtCursor,
    /// There is nothing.
    Ignore,
    /// The read ends; the next is tried at its time.
    FailRun,
    /// Nobody asks this CRM again for some hours: it has blocked us.
    HaltSource,
}
