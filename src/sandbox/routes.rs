//! Which calls the sandbox serves. One table; a call that is not in it is not served.

use http::Method;

use super::crm::CSV_PATH;

/// The calls a request can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallKind {
    /// `POST v1/contacts`.
    SubmitContacts,
    /// `GET v1/importstatus/{session}`.
    ImportStatus,
    /// `POST v1/contact`.
    UpsertContact,
    /// `PUT v1/contact/{id}`.
    UpdateContact,
    /// `DELETE v1/contact/{id}`, or `DELETE v1/contact?externalCustomerId=`.
    DeleteContact,
    /// The same with `erase=true`.
    EraseContact,
    /// `PUT v1/contact/{id}/subscriptions`.
    SetSubscriptions,
    /// `POST v1/contact/subscribe`.
    Subscribe,
    /// `POST v1/emails/unsubscribed/add`.
    Unsubscribe,
    /// `POST v1/emails/unsubscribed/delete`.
    Resubscribe,
    /// `POST v1/group/{id}/contacts/detach`.
    Detach,
    /// `POST v1/contacts/upload`.
    Upload,
    /// `GET v1/addressbooks`.
    AddressBooks,
    /// `GET v1/subscriptions`.
    Subscriptions,
    /// `GET v1/account/info`.
    AccountInfo,
    /// `GET v1/version` and `GET v2/version`.
    Version,
    /// `GET /uaa/oauth/authorize`.
    Authorize,
    /// `POST /uaa/oauth/token` with an authorization code, or with nothing that can be read.
    TokenExchange,
    /// `POST /uaa/oauth/token` with a refresh token.
    TokenRefresh,
    /// The sandbox CRM's `GET /crm/contacts.csv` and `.jsonl`.
    Crm,
    /// Anything else: 404, or 405 on a served path.
    Other,
}

/// What the table says about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Served; the string is the variable part of the path, or empty.
    Served(CallKind, String),
    WrongMethod,
    Unknown,
}

/// Where a file's link is handed in.
pub(super) const UPLOAD_PATH: &str = "/api/v1/contacts/upload";

/// `{}` stands for one variable segment.
const CALLS: &[(&str, Method, CallKind)] = &[
    ("/api/v1/contacts", Method::POST, CallKind::SubmitContacts),
    ("/api/v1/importstatus/{}", Method::GET, CallKind::ImportStatus),
    ("/api/v1/contact", Method::POST, CallKind::UpsertContact),
    ("/api/v1/contact", Method::DELETE, CallKind::DeleteContact), // by the external id in its query
    ("/api/v1/contact/{}", Method::PUT, CallKind::UpdateContact),
    ("/api/v1/contact/{}", Method::DELETE, CallKind::DeleteContact), // or EraseContact, by its query
    ("/api/v1/contact/{}/subscriptions", Method::PUT, CallKind::SetSubscriptions),
    ("/api/v1/contact/subscribe", Method::POST, CallKind::Subscribe),
    ("/api/v1/emails/unsubscribed/add", Method::POST, CallKind::Unsubscribe),
    ("/api/v1/emails/unsubscribed/delete", Method::POST, CallKind::Resubscribe),
    ("/api/v1/group/{}/contacts/detach", Method::POST, CallKind::Detach),
    (UPLOAD_PATH, Method::POST, CallKind::Upload),
    ("/api/v1/addressbooks", Method::GET, CallKind::AddressBooks),
    ("/api/v1/subscriptions", Method::GET, CallKind::Subscriptions),
    ("/api/v1/account/info", Method::GET, CallKind::AccountInfo),
    ("/api/v1/version", Method::GET, CallKind::Version),
    ("/api/v2/version", Method::GET, CallKind::Version),
    ("/uaa/oauth/authorize", Method::GET, CallKind::Authorize),
    ("/uaa/oauth/token", Method::POST, CallKind::TokenExchange),
    (CSV_PATH, Method::GET, CallKind::Crm),
    ("/crm/contacts.jsonl", Method::GET, CallKind::Crm),
];

/// Looks a request up.
pub(super) fn route(method: &Method, path: &str) -> Route {
    let mut found = Route::Unknown;
    for (template, served, kind) in CALLS {
        let Some(variable) = variable_part(template, path) else { continue };
        if method == served {
            return Route::Served(*kind, variable.to_owned());
        }
        found = Route::WrongMethod;
    }
    found
}

/// The part of `path` that stands where the template has `{}`; empty where it has none; `None` where they differ.
pub(super) fn variable_part<'a>(template: &str, path: &'a str) -> Option<&'a str> {
    match template.split_once("{}") {
        None => (template == path).then_some(""),
        Some((before, after)) => {
            let variable = path.strip_prefix(before)?.strip_suffix(after)?;
            (!variable.is_empty() && !variable.contains('/')).then_some(variable)
        }
    }
}
