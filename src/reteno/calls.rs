//! Every call that this program can make to Reteno: those of "update contacts and segments", and a few harmless ones
//! that tell of the account. One that is not here cannot be made: there is no way to read a contact, and none to empty
//! a segment, since the bodies that could do so cannot hold an empty list.

use std::fmt;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::contact::Personal;
use crate::reteno::lists::{DetachBody, EmailsBody};

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
    /// `DELETE v1/contact/{id}`: a deletion that can be taken back.
    DeleteContact(i64),
    /// `DELETE v1/contact/{id}?erase=true`: for good, with everything that Reteno knows of the person.
    EraseContact(i64),
    /// `DELETE v1/contact?externalCustomerId=`: the same for a contact whose id in Reteno is not known.
    DeleteNamed(Personal),
    /// `DELETE v1/contact?externalCustomerId=&erase=true`.
    EraseNamed(Personal),
    /// `PUT v1/contact/{id}/subscriptions`: replaces the contact's whole set of categories.
    SetSubscriptions(i64, Bytes),
    /// `POST v1/contact/subscribe`: double opt-in; starts workflows.
    Subscribe(Bytes),
    /// `POST v1/emails/unsubscribed/add`: acts on the addresses, in every contact that has them.
    Unsubscribe(EmailsBody),
    /// `POST v1/emails/unsubscribed/delete`.
    Resubscribe(EmailsBody),
    /// `POST v1/group/{id}/contacts/detach`: takes contacts out of a static segment. With no ids Reteno empties it.
    Detach(u64, DetachBody),
    /// `POST v1/contacts/upload`: Reteno fetches a file of contacts from a link.
    Upload(Bytes),
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
            Self::DeleteContact(_) => "DELETE v1/contact/{id}",
            Self::EraseContact(_) => "DELETE v1/contact/{id}?erase=true",
            Self::DeleteNamed(_) => "DELETE v1/contact?externalCustomerId={key}",
            Self::EraseNamed(_) => "DELETE v1/contact?externalCustomerId={key}&erase=true",
            Self::SetSubscriptions(..) => "PUT v1/contact/{id}/subscriptions",
            Self::Subscribe(_) => "POST v1/contact/subscribe",
            Self::Unsubscribe(_) => "POST v1/emails/unsubscribed/add",
            Self::Resubscribe(_) => "POST v1/emails/unsubscribed/delete",
            Self::Detach(..) => "POST v1/group/{id}/contacts/detach",
            Self::Upload(_) => "POST v1/contacts/upload",
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
        self.set_query(&mut url);
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

    /// Left out, `erase` is false.
    fn set_query(&self, url: &mut Url) {
        url.set_query(None);
        match self {
            Self::EraseContact(_) => url.set_query(Some("erase=true")),
            Self::DeleteNamed(key) => {
                url.query_pairs_mut().append_pair("externalCustomerId", key.expose());
            }
            Self::EraseNamed(key) => {
                url.query_pairs_mut().append_pair("externalCustomerId", key.expose()).append_pair("erase", "true");
            }
            Self::SubmitContacts(_)
            | Self::ImportStatus(_)
            | Self::UpsertContact(_)
            | Self::UpdateContact(..)
            | Self::DeleteContact(_)
            | Self::SetSubscriptions(..)
            | Self::Subscribe(_)
            | Self::Unsubscribe(_)
            | Self::Resubscribe(_)
            | Self::Detach(..)
            | Self::Upload(_)
            | Self::Version
            | Self::VersionOne
            | Self::AccountInfo
            | Self::AddressBooks
            | Self::Subscriptions => {}
        }
    }

    fn parts(&self) -> (Method, Vec<String>, Option<&Bytes>) {
        let path = |segments: &[&str]| segments.iter().map(|segment| (*segment).to_owned()).collect();
        match self {
            Self::SubmitContacts(body) => (Method::POST, path(&["v1", "contacts"]), Some(body)),
            Self::ImportStatus(session) => (Method::GET, path(&["v1", "importstatus", session]), None),
            Self::UpsertContact(body) => (Method::POST, path(&["v1", "contact"]), Some(body)),
            Self::UpdateContact(id, body) => (Method::PUT, path(&["v1", "contact", &id.to_string()]), Some(body)),
            Self::DeleteContact(id) | Self::EraseContact(id) => {
                (Method::DELETE, path(&["v1", "contact", &id.to_string()]), None)
            }
            Self::DeleteNamed(_) | Self::EraseNamed(_) => (Method::DELETE, path(&["v1", "contact"]), None),
            Self::SetSubscriptions(id, body) => {
                (Method::PUT, path(&["v1", "contact", &id.to_string(), "subscriptions"]), Some(body))
            }
            Self::Subscribe(body) => (Method::POST, path(&["v1", "contact", "subscribe"]), Some(body)),
            Self::Unsubscribe(body) => {
                (Method::POST, path(&["v1", "emails", "unsubscribed", "add"]), Some(body.as_bytes()))
            }
            Self::Resubscribe(body) => {
                (Method::POST, path(&["v1", "emails", "unsubscribed", "delete"]), Some(body.as_bytes()))
            }
            Self::Detach(group, body) => {
                (Method::POST, path(&["v1", "group", &group.to_string(), "contacts", "detach"]), Some(body.as_bytes()))
            }
            Self::Upload(body) => (Method::POST, path(&["v1", "contacts", "upload"]), Some(body)),
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
    use std::collections::BTreeSet;

    use super::*;

    fn request(call: &Call, api_url: &str) -> http::Request<Bytes> {
        let url = Url::parse(api_url).expect("a url");
        call.request(&url, &SecretString::from("tok")).expect("a request")
    }

    /// One of each; [`place`] holds the list complete.
    fn all() -> Vec<Call> {
        let body = Bytes::from_static(b"{}");
        let emails = EmailsBody::of(&Personal::new("jane@example.com"), &[]);
        vec![
            Call::SubmitContacts(body.clone()),
            Call::ImportStatus("a-1".into()),
            Call::UpsertContact(body.clone()),
            Call::UpdateContact(77, body.clone()),
            Call::DeleteContact(77),
            Call::EraseContact(77),
            Call::SetSubscriptions(77, body.clone()),
            Call::Subscribe(body.clone()),
            Call::Unsubscribe(emails.clone()),
            Call::Resubscribe(emails),
            Call::Detach(9, DetachBody::of_contact_ids(7, &[]).expect("a body")),
            Call::Upload(body),
            Call::Version,
            Call::VersionOne,
            Call::AccountInfo,
            Call::AddressBooks,
            Call::Subscriptions,
            Call::DeleteNamed(Personal::new("c-5")),
            Call::EraseNamed(Personal::new("c-5")),
        ]
    }

    /// Where a call stands in [`all`]. One that is added does not compile before it stands here too.
    fn place(call: &Call) -> usize {
        match call {
            Call::SubmitContacts(_) => 0,
            Call::ImportStatus(_) => 1,
            Call::UpsertContact(_) => 2,
            Call::UpdateContact(..) => 3,
            Call::DeleteContact(_) => 4,
            Call::EraseContact(_) => 5,
            Call::SetSubscriptions(..) => 6,
            Call::Subscribe(_) => 7,
            Call::Unsubscribe(_) => 8,
            Call::Resubscribe(_) => 9,
            Call::Detach(..) => 10,
            Call::Upload(_) => 11,
            Call::Version => 12,
            Call::VersionOne => 13,
            Call::AccountInfo => 14,
            Call::AddressBooks => 15,
            Call::Subscriptions => 16,
            Call::DeleteNamed(_) => 17,
            Call::EraseNamed(_) => 18,
        }
    }

    #[test]
    fn no_call_can_be_expressed_beyond_the_list_that_reteno_allows_this_program() {
        let places: Vec<usize> = all().iter().map(place).collect();
        assert_eq!(places, (0..19).collect::<Vec<_>>(), "every call is in the list");
        // As an address shows them, with ids put back into their braces: a name could say anything.
        let shown = |call: &Call| {
            let request = request(call, "https://reteno.com/api");
            let path = request.uri().path().trim_start_matches("/api/").to_owned();
            let path = path.replace("/77", "/{id}").replace("/9/", "/{id}/").replace("/a-1", "/{sessionId}");
            let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
            let query = query.replace("c-5", "{key}");
            format!("{} {path}{query}", request.method())
        };
        let expressible: BTreeSet<String> = all().iter().map(shown).collect();
        let update_contacts_and_segments = [
            "POST v1/contacts",
            "POST v1/contacts/upload",
            "GET v1/importstatus/{sessionId}",
            "POST v1/contact",
            "PUT v1/contact/{id}",
            "DELETE v1/contact/{id}",
            "DELETE v1/contact/{id}?erase=true",
            "DELETE v1/contact?externalCustomerId={key}",
            "DELETE v1/contact?externalCustomerId={key}&erase=true",
            "PUT v1/contact/{id}/subscriptions",
            "POST v1/contact/subscribe",
            "POST v1/emails/unsubscribed/add",
            "POST v1/emails/unsubscribed/delete",
            "POST v1/group/{id}/contacts/detach",
        ];
        let about_the_account =
            ["GET v1/version", "GET v2/version", "GET v1/account/info", "GET v1/addressbooks", "GET v1/subscriptions"];
        let allowed: BTreeSet<String> =
            update_contacts_and_segments.into_iter().chain(about_the_account).map(str::to_owned).collect();
        assert_eq!(expressible, allowed);
        for call in all() {
            assert!(shown(&call).starts_with(call.name()), "{call} is called what it is");
        }
    }

    #[test]
    fn every_call_has_its_method_and_address() {
        let cases = [
            ("POST", "/api/v1/contacts"),
            ("GET", "/api/v1/importstatus/a-1"),
            ("POST", "/api/v1/contact"),
            ("PUT", "/api/v1/contact/77"),
            ("DELETE", "/api/v1/contact/77"),
            ("DELETE", "/api/v1/contact/77?erase=true"),
            ("PUT", "/api/v1/contact/77/subscriptions"),
            ("POST", "/api/v1/contact/subscribe"),
            ("POST", "/api/v1/emails/unsubscribed/add"),
            ("POST", "/api/v1/emails/unsubscribed/delete"),
            ("POST", "/api/v1/group/9/contacts/detach"),
            ("POST", "/api/v1/contacts/upload"),
            ("GET", "/api/v2/version"),
            ("GET", "/api/v1/version"),
            ("GET", "/api/v1/account/info"),
            ("GET", "/api/v1/addressbooks"),
            ("GET", "/api/v1/subscriptions"),
            ("DELETE", "/api/v1/contact?externalCustomerId=c-5"),
            ("DELETE", "/api/v1/contact?externalCustomerId=c-5&erase=true"),
        ];
        for (call, (method, path)) in all().into_iter().zip(cases) {
            // With and without the closing slash, and with what does not belong into the address.
            for base in ["https://reteno.com/api", "https://reteno.com/api/", "https://reteno.com/api?erase=true#c"] {
                let request = request(&call, base);
                assert_eq!(request.method(), method, "{call}");
                assert_eq!(request.uri(), &*format!("https://reteno.com{path}"), "{call}");
                assert_eq!(request.headers()[AUTHORIZATION], "Bearer tok");
                assert!(request.headers()[AUTHORIZATION].is_sensitive());
                assert_eq!(request.headers().contains_key(CONTENT_TYPE), !request.body().is_empty(), "{call}");
                assert_eq!(request.body().is_empty(), matches!(method, "GET" | "DELETE"), "{call}");
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

    /// Else an id of a CRM could erase where a deletion was meant.
    #[test]
    fn an_external_id_cannot_leave_its_place_in_the_query() {
        let api = "https://reteno.com/api";
        let keys = [("a&erase=true", "a%26erase%3Dtrue"), ("a b+c#d", "a+b%2Bc%23d"), ("\u{406}1", "%D0%861")];
        for (key, encoded) in keys {
            let named = request(&Call::DeleteNamed(Personal::new(key)), api);
            assert_eq!(named.uri().query(), Some(&*format!("externalCustomerId={encoded}")));
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
