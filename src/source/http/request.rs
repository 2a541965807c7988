//! Builds a request from its description. An address that an answer gave is read as RFC 3986 says, and must lead to the host
//! that was asked: it would carry the token elsewhere.

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use url::Url;

use super::link::{Ask, NextLink};
use super::template::{Bindings, Template};
use crate::source::SourceError;

/// The request of `ask`, without its authorization.
pub(super) fn build_request(
    base_url: &Template,
    ask: &Ask<'_>,
    bindings: &Bindings,
) -> Result<Request<Bytes>, SourceError> {
    let unusable = |reason: &str| SourceError::Call { what: ask.what.to_owned(), reason: reason.to_owned() };
    let base = base_url.text(bindings).ok_or_else(|| unusable("the access token came without an address"))?;
    let base = Url::parse(&base).map_err(|_| unusable("base_url is no address"))?;
    let url = match ask.next_link {
        Some(link) => follow(&base, &link).ok_or_else(|| unusable("the next page's address leads to another host"))?,
        None => address(&base, ask, bindings).ok_or_else(|| unusable("its path lacks a value, or is none"))?,
    };
    let mut request = Request::builder().method(ask.call.method.clone()).uri(url.as_str());
    request = request.header(header::ACCEPT, "application/json, application/hal+json;q=0.9, */*;q=0.1");
    for (name, template) in &ask.call.headers {
        let Some(text) = template.text(bindings) else { continue };
        let mut value = HeaderValue::from_str(&text).map_err(|_| unusable("a header cannot hold its value"))?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    let body = ask.call.body.as_ref().map(|body| body.fill(bindings).unwrap_or_else(|| serde_json::json!({})));
    let body = match body {
        Some(body) => {
            request = request.header(header::CONTENT_TYPE, "application/json");
            Bytes::from(body.to_string())
        }
        None => Bytes::new(),
    };
    request.body(body).map_err(|_| unusable("its address cannot be requested"))
}

fn address(base: &Url, ask: &Ask<'_>, bindings: &Bindings) -> Option<Url> {
    let path = ask.call.path.text_with(bindings, escape_segment)?;
    // not Url::join, which would drop what the base has behind its last slash
    let mut url = Url::parse(&format!("{}{path}", base.as_str().trim_end_matches('/'))).ok()?;
    let pairs: Vec<(&str, String)> = ask
        .call
        .query
        .iter()
        .flat_map(|(name, template)| {
            let values = template.texts(bindings).unwrap_or_default();
            values.into_iter().map(move |value| (name.as_str(), value))
        })
        .collect();
    if !pairs.is_empty() {
        url.query_pairs_mut().extend_pairs(pairs);
    }
    Some(url)
}

/// What a variable puts into a path stays one segment of it.
fn escape_segment(text: &str) -> String {
    let mut url = Url::parse("http://host/").expect("a constant address");
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.push(text);
    }
    url.path().trim_start_matches('/').to_owned()
}

/// Where a link of an answer leads. A relative one is relative to the address that gave the answer (RFC 3986, 5.1.3). It must
/// stay on the host of `base`, and is asked for by its scheme: a CRM behind a proxy that ends TLS writes `http` into its
/// links.
fn follow(base: &Url, link: &NextLink<'_>) -> Option<Url> {
    let from = Url::parse(link.from).ok()?;
    let mut url = from.join(link.text.trim()).ok()?;
    let is_same_port = if url.scheme() == base.scheme() {
        url.port_or_known_default() == base.port_or_known_default()
    } else {
        url.port() == base.port() || url.port() == base.port_or_known_default()
    };
    let is_web = matches!(url.scheme(), "http" | "https");
    if !is_web || !is_same_port || url.host() != base.host() || !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    url.set_scheme(base.scheme()).ok()?;
    url.set_port(base.port()).ok()?;
    url.set_fragment(None);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_links_are_read_as_rfc_3986_says_and_stay_on_the_same_host() {
        let base = Url::parse("https://acme.my.example.com/services/data").unwrap();
        let from = "https://acme.my.example.com/services/data/people/list?limit=5&page=1";
        let host = |rest: &str| Some(format!("https://acme.my.example.com{rest}"));
        let rows = [
            ("/services/data/query/01g-2000", host("/services/data/query/01g-2000")),
            ("?after=2", host("/services/data/people/list?after=2")),
            ("list?page=2", host("/services/data/people/list?page=2")),
            ("./list?page=2", host("/services/data/people/list?page=2")),
            ("../more/7", host("/services/data/more/7")),
            ("//acme.my.example.com/x", host("/x")),
            ("https://acme.my.example.com/x?page=2", host("/x?page=2")),
            ("HTTPS://ACME.my.example.com:443/x", host("/x")),
            (" https://acme.my.example.com/x\n", host("/x")),
            ("?after=2#top", host("/services/data/people/list?after=2")),
            ("?q=Іва", host("/services/data/people/list?q=%D0%86%D0%B2%D0%B0")),
            // as a CRM behind a proxy writes it
            ("http://acme.my.example.com/x", host("/x")),
            ("http://acme.my.example.com:443/x", host("/x")),
            ("http://acme.my.example.com:8080/x", None),
            ("https://evil.example.com/x", None),
            ("http://evil.example.com/x", None),
            ("https://acme.my.example.com:8443/x", None),
            ("//evil.example.com/x", None),
            ("https://u:p@acme.my.example.com/x", None),
            ("file:///etc/passwd", None),
            ("javascript:alert(1)", None),
            ("https://", None),
        ];
        for (text, wanted) in rows {
            assert_eq!(follow(&base, &NextLink { text, from }).map(String::from), wanted, "{text}");
        }
        let (base, from) = (Url::parse("http://127.0.0.1:8069/api").unwrap(), "http://127.0.0.1:8069/api/people");
        let followed = |text| follow(&base, &NextLink { text, from }).map(String::from);
        assert_eq!(followed("https://127.0.0.1:8069/api/2").as_deref(), Some("http://127.0.0.1:8069/api/2"));
        assert_eq!(followed("https://127.0.0.1/api/2"), None, "another service may listen there");
    }

    #[test]
    fn a_variable_stays_one_segment_of_a_path() {
        assert_eq!(escape_segment("a/../b?c#d"), "a%2F..%2Fb%3Fc%23d");
        assert_eq!(escape_segment("123-x"), "123-x");
    }
}
