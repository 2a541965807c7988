//! Which calls a sandbox CRM serves, in one table, and what a test may see of those that came.

use std::fmt;

use bytes::Bytes;
use http::Method;

use crate::clock::Timestamp;
use crate::sandbox::routes::variable_part;
use crate::sandbox::{Canned, Phase};

use self::CrmCallKind::{Amo, Hub, Pipe};
use super::options::Dialect;

/// The calls a request can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrmCallKind {
    /// One of amoCRM's.
    Amo(AmoCall),
    /// One of HubSpot's.
    Hub(HubCall),
    /// One of Pipedrive's.
    Pipe(PipeCall),
    /// The page where a person allows the app, of any vendor.
    Authorize,
    /// Anything else.
    Other,
}

/// amoCRM's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AmoCall {
    /// The list of contacts.
    Contacts,
    /// One contact.
    Contact,
    /// The account.
    Account,
    /// The definitions of contacts' custom fields.
    Fields,
    /// The list of events.
    Events,
    /// Registers a webhook.
    HookAdd,
    /// Lists webhooks.
    Hooks,
    /// Removes a webhook.
    HookRemove,
    /// Tokens.
    Token,
}

/// HubSpot's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HubCall {
    /// Search.
    Search,
    /// The list of contacts, archived or not.
    List,
    /// One contact.
    Contact,
    /// Contacts by their ids.
    Batch,
    /// Definitions of properties.
    Properties,
    /// What its connectors look up beside contacts, all of it empty.
    Nothing,
    /// Tokens.
    Token,
}

/// Pipedrive's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PipeCall {
    /// The list of persons.
    Persons,
    /// One person.
    Person,
    /// v1: changes of the last 30 days.
    Recents,
    /// Definitions of fields; only a person has any.
    Fields,
    /// Registers a webhook.
    HookAdd,
    /// Lists webhooks.
    Hooks,
    /// Removes a webhook.
    HookRemove,
    /// Tokens.
    Token,
}

impl CrmCallKind {
    /// Whose call it is; `None` for the page of authorization and for what is not served.
    #[must_use]
    pub const fn dialect(self) -> Option<Dialect> {
        match self {
            Self::Amo(_) => Some(Dialect::AmoCrm),
            Self::Hub(_) => Some(Dialect::HubSpot),
            Self::Pipe(_) => Some(Dialect::Pipedrive),
            Self::Authorize | Self::Other => None,
        }
    }

    /// Method and path, `{}` for what varies in it: a stable word for programs.
    #[must_use]
    pub fn name(self) -> String {
        let row = CALLS.iter().find(|(_, _, kind)| *kind == self);
        row.map_or_else(|| "other".to_owned(), |(template, method, _)| format!("{method} {template}"))
    }

    /// Whether it asks for tokens, and so carries none.
    pub(super) const fn gives_tokens(self) -> bool {
        matches!(self, Self::Amo(AmoCall::Token) | Self::Hub(HubCall::Token) | Self::Pipe(PipeCall::Token))
    }
}

/// `{}` stands for one variable segment. The first row that fits counts.
const CALLS: &[(&str, Method, CrmCallKind)] = &[
    ("/api/v4/contacts", Method::GET, Amo(AmoCall::Contacts)),
    ("/api/v4/contacts/custom_fields", Method::GET, Amo(AmoCall::Fields)),
    ("/api/v4/contacts/{}", Method::GET, Amo(AmoCall::Contact)),
    ("/api/v4/account", Method::GET, Amo(AmoCall::Account)),
    ("/api/v4/events", Method::GET, Amo(AmoCall::Events)),
    ("/api/v4/webhooks", Method::POST, Amo(AmoCall::HookAdd)),
    ("/api/v4/webhooks", Method::GET, Amo(AmoCall::Hooks)),
    ("/api/v4/webhooks", Method::DELETE, Amo(AmoCall::HookRemove)),
    ("/oauth2/access_token", Method::POST, Amo(AmoCall::Token)),
    ("/oauth", Method::GET, CrmCallKind::Authorize),
    ("/crm/v3/objects/contacts/search", Method::POST, Hub(HubCall::Search)),
    ("/crm/v3/objects/contacts/batch/read", Method::POST, Hub(HubCall::Batch)),
    ("/crm/v3/objects/contacts", Method::GET, Hub(HubCall::List)),
    ("/crm/v3/objects/contacts/{}", Method::GET, Hub(HubCall::Contact)),
    ("/crm/v3/properties/contacts", Method::GET, Hub(HubCall::Properties)),
    ("/crm/v3/properties/{}", Method::GET, Hub(HubCall::Nothing)),
    ("/crm/v3/schemas", Method::GET, Hub(HubCall::Nothing)),
    ("/companies/v2/properties", Method::GET, Hub(HubCall::Nothing)),
    ("/properties/v1/deals/properties", Method::GET, Hub(HubCall::Nothing)),
    ("/oauth/2026-03/token", Method::POST, Hub(HubCall::Token)),
    ("/oauth/v3/token", Method::POST, Hub(HubCall::Token)),
    ("/oauth/v1/token", Method::POST, Hub(HubCall::Token)),
    ("/oauth/authorize", Method::GET, CrmCallKind::Authorize),
    ("/api/v2/persons", Method::GET, Pipe(PipeCall::Persons)),
    ("/api/v2/persons/{}", Method::GET, Pipe(PipeCall::Person)),
    ("/api/v2/{}Fields", Method::GET, Pipe(PipeCall::Fields)),
    ("/api/v1/{}Fields", Method::GET, Pipe(PipeCall::Fields)),
    ("/api/v1/recents", Method::GET, Pipe(PipeCall::Recents)),
    ("/api/v1/webhooks", Method::POST, Pipe(PipeCall::HookAdd)),
    ("/api/v1/webhooks", Method::GET, Pipe(PipeCall::Hooks)),
    ("/api/v1/webhooks/{}", Method::DELETE, Pipe(PipeCall::HookRemove)),
    ("/oauth/token", Method::POST, Pipe(PipeCall::Token)),
];

/// The call behind a request and the variable part of its path. HubSpot's dated paths and Pipedrive's host without
/// `/api` are other names of the same.
pub(super) fn route(method: &Method, path: &str) -> (CrmCallKind, String) {
    let named = if let Some(rest) = path.strip_prefix("/crm/objects/2026-03/") {
        format!("/crm/v3/objects/{rest}")
    } else if path.starts_with("/v1/") {
        format!("/api{path}")
    } else {
        path.to_owned()
    };
    let found = CALLS.iter().filter(|(_, served, _)| served == method);
    let mut found = found.filter_map(|(template, _, kind)| Some((*kind, variable_part(template, &named)?.to_owned())));
    found.next().unwrap_or((CrmCallKind::Other, String::new()))
}

/// One request that reached the sandbox CRM, after it was answered.
#[derive(Clone, PartialEq, Eq)]
pub struct CrmCallSeen {
    /// Its number, from 1.
    pub number: u64,
    /// When it came.
    pub at: Timestamp,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// Its query as it came, still encoded.
    pub query: String,
    /// Which call it is.
    pub kind: CrmCallKind,
    /// Its body; empty for a token call.
    pub body: Bytes,
    /// The answer's status; `None` where the request or the answer was lost.
    pub status: Option<u16>,
}

impl fmt::Debug for CrmCallSeen {
    /// Without query and body, which may hold tokens and people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {} {} {} → {:?}", self.number, self.at, self.method, self.path, self.status)
    }
}

/// What a hook is told about a request.
#[derive(Clone, Debug)]
pub struct CrmRequestSeen {
    /// Before it is carried out, or after it and before its answer leaves.
    pub phase: Phase,
    /// The number that its [`CrmCallSeen`] will bear.
    pub number: u64,
    /// Which call it is.
    pub kind: CrmCallKind,
    /// Its path, without the query.
    pub path: String,
    /// The answer's status; `None` before, and where it is lost.
    pub status: Option<u16>,
}

/// A fault on the next calls of one kind.
#[derive(Clone, Debug)]
pub struct CrmFault {
    /// On which calls.
    pub kind: CrmCallKind,
    /// How many of them.
    pub times: u32,
    /// What happens to them.
    pub effect: CrmEffect,
}

/// What happens to a call.
#[derive(Clone, Debug)]
pub enum CrmEffect {
    /// Answered with this, not carried out.
    Answer(Canned),
    /// Lost on the way, not carried out.
    LoseRequest,
    /// Carried out, and the answer lost.
    LoseAnswer,
    /// Carried out, and the answer's body cut in half, as a complete answer.
    CutAnswer,
}
