//! Every call that this program can make to Reteno. One that is not here cannot be made: there is no way to read a
//! contact, and none to delete or unsubscribe one.

use std::fmt;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

/// One call, with what it carries. `Debug` and `Display` show its name only: bodies are personal.
#[derive(Clone, PartialEq, Eq)]
pub enum Call {
    /// `POST v1/contacts`: up to 3000 contacts, carried out later.
    SubmitContacts(Bytes),
    /// `GET v1/importstatus/{session}`.
    ImportStatus(String),
    /// `POST v1/contact`: writes one contact at once; restores a deleted one.
    UpsertContact(Bytes),
    /// `PUT v1/contact/{id}`: writes one known contact at once; restores a deleted one.
    UpdateContact(i64, Bytes),
    /// `GET v2/version`: the check of an authorization.
    Version,
    /// `GET v1/version`: where the second version is not there.
    VersionOne,
    /// `GET v1/account/info`.
    AccountInfo,
    /// `GET v1/addressbooks`: the additional fields.
    AddressBooks,
    /// `GET v1/subscriptions`: the subscription categories.
    Subscriptions,
}

/// Why a call cannot be put into a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotBuilt {
    /// `reteno.api_url` cannot be the start of another URL.
    #[error("reteno.api_url cannot be extended to a call's address")]
    Address,
    /// The access token holds bytes that no header may hold.
    #[error("the access token cannot stand in a header")]
    Token,
}

impl NotBuilt {
    /// The command or key that repairs it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Address => "check `reteno.api_url`",
            Self::Token => "run `reteno-sync authorize`",
        }
    }
}

impl Call {
    /// Method and path with placeholders: for logs, metrics and errors.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::SubmitContacts(_) => "POST v1/contacts",
            Self::ImportStatus(_) => "GET v1/importstatus",
            Self::UpsertContact(_) => "POST v1/contact",
            Self::UpdateContact(..) => "PUT v1/contact/{id}",
            Self::Version => "GET v2/version",
            Self::VersionOne => "GET v1/version",
            Self::AccountInfo => "GET v1/account/info",
            Self::AddressBooks => "GET v1/addressbooks",
            Self::Subscriptions => "GET v1/subscriptions",
        }
    }

    /// The request for this call under `api_url`, with `token` as bearer.
    pub fn request(&self, api_url: &Url, token: &SecretString) -> Result<http::Request<Bytes>, NotBuilt> {
        let (method, segments, body) = self.parts();
        let mut url = api_url.clone();
        url.set_query(None);
        url.set_fragment(None);
        // `extend` encodes each segment, so that no id can leave its place in the path.
        url.path_segments_mut().map_err(|()| NotBuilt::Address)?.pop_if_empty().extend(segments);

        let mut bearer =
            HeaderValue::try_from(format!("Bearer {}", token.expose_secret())).map_err(|_| NotBuilt::Token)?;
        bearer.set_sensitive(true);
        let json = HeaderValue::from_static("application/json");
        let mut request = http::Request::builder()
            .method(method)
            .uri(url.as_str())
            .header(AUTHORIZATION, bearer)
            .header(ACCEPT, json.clone());
        if body.is_some() {
            request = request.header(CONTENT_TYPE, json);
        }
        request.body(body.cloned().unwrap_or_default()).map_err(|_| NotBuilt::Address)
    }

    fn parts(&self) -> (Method, Vec<String>, Option<&Bytes>) {
        let path = |segments: &[&str]| segments.iter().map(|segment| (*segment).to_owned()).collect();
        match self {
            Self::SubmitContacts(body) => (Method::POST, path(&["v1", "contacts"]), Some(body)),
            Self::ImportStatus(session) => (Method::GET, path(&["v1", "importstatus", session]), None),
            Self::UpsertContact(body) => (Method::POST, path(&["v1", "contact"]), Some(body)),
            Self::UpdateContact(id, body) => (Method::PUT, path(&["v1", "contact", &id.to_string()]), Some(body)),
            Self::Version => (Method::GET, path(&["v2", "version"]), None),
            Self::VersionOne => (Method::GET, path(&["v1", "version"]), None),
            Self::AccountInfo => (Method::GET, path(&["v1", "account", "info"]), None),
            Self::AddressBooks => (Method::GET, path(&["v1", "addressbooks"]), None),
            Self::Subscriptions => (Method::GET, path(&["v1", "subscriptions"]), None),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(call: &Call, api_url: &str) -> http::Request<Bytes> {
        let url = Url::parse(api_url).expect("a url");
        call.request(&url, &SecretString::from("tok")).expect("a request")
    }

    #[test]
    fn every_call_has_its_method_and_address() {
        let body = Bytes::from_static(b"{}");
        let cases = [
            (Call::SubmitContacts(body.clone()), "POST", "/api/v1/contacts"),
            (Call::ImportStatus("a-1".into()), "GET", "/api/v1/importstatus/a-1"),
            (Call::UpsertContact(body.clone()), "POST", "/api/v1/contact"),
            (Call::UpdateContact(77, body), "PUT", "/api/v1/contact/77"),
            (Call::Version, "GET", "/api/v2/version"),
            (Call::VersionOne, "GET", "/api/v1/version"),
            (Call::AccountInfo, "GET", "/api/v1/account/info"),
            (Call::AddressBooks, "GET", "/api/v1/addressbooks"),
            (Call::Subscriptions, "GET", "/api/v1/subscriptions"),
        ];
        for (call, method, path) in cases {
            // With and without the closing slash, and with what does not belong into the address.
            for base in ["https://reteno.com/api", "https://reteno.com/api/", "https://reteno.com/api?a=b#c"] {
                let request = request(&call, base);
                assert_eq!(request.method(), method, "{call}");
                assert_eq!(request.uri(), &*format!("https://reteno.com{path}"), "{call}");
                assert_eq!(request.headers()[AUTHORIZATION], "Bearer tok");
                assert!(request.headers()[AUTHORIZATION].is_sensitive());
                assert_eq!(request.headers().contains_key(CONTENT_TYPE), !request.body().is_empty(), "{call}");
            }
        }
    }

    #[test]
    fn a_session_cannot_leave_its_place_in_the_path() {
        let sessions = [
            ("a/b", "a%2Fb"),
            ("x?erase=true", "x%3Ferase=true"),
            ("../contacts", "..%2Fcontacts"),
            ("a b#c", "a%20b%23c"),
            ("100%", "100%25"),
        ];
        for (session, encoded) in sessions {
            let request = request(&Call::ImportStatus(session.into()), "https://reteno.com/api");
            assert_eq!(request.uri(), &*format!("https://reteno.com/api/v1/importstatus/{encoded}"));
        }
    }

    #[test]
    fn what_cannot_be_built_is_said_and_not_sent() {
        let token = SecretString::from("tok");
        let mail = Url::parse("mailto:a@b.example").expect("a url");
        assert_eq!(Call::Version.request(&mail, &token).map(drop), Err(NotBuilt::Address));
        let api = Url::parse("https://reteno.com/api").expect("a url");
        assert_eq!(Call::Version.request(&api, &SecretString::from("a\nb")).map(drop), Err(NotBuilt::Token));
    }

    #[test]
    fn a_call_prints_no_body() {
        let call = Call::UpdateContact(7, Bytes::from_static(b"jane@example.com"));
        assert_eq!(format!("{call} {call:?}"), "PUT v1/contact/{id} Call(PUT v1/contact/{id})");
    }
}
