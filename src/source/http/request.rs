//! Builds a request from its description. An address that an answer gave must lead to the host that was asked: it would
//! carry the token elsewhere.

use bytes::Bytes;
use http::{HeaderValue, Request, header};
use url::Url;

use super::link::Ask;
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
        Some(link) => follow(&base, link).ok_or_else(|| unusable("the next page's address leads to another host"))?,
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

/// A link of an answer: relative ones are of the same host, others must be.
fn follow(base: &Url, link: &str) -> Option<Url> {
    let url = base.join(link).ok()?;
    let is_same = url.scheme() == base.scheme()
        && url.host() == base.host()
        && url.port_or_known_default() == base.port_or_known_default();
    (is_same && url.username().is_empty() && url.password().is_none()).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_next_links_stay_on_the_same_host() {
        let base = Url::parse("https://acme.my.example.com/services/data/v63.0").unwrap();
        #[rustfmt::skip]
        let rows = [
            ("/services/data/v63.0/query/01g-2000", Some("https://acme.my.example.com/services/data/v63.0/query/01g-2000")),
            ("https://acme.my.example.com/x?page=2", Some("https://acme.my.example.com/x?page=2")),
            ("https://acme.my.example.com:443/x", Some("https://acme.my.example.com/x")),
            ("https://evil.example.com/x", None),
            ("http://acme.my.example.com/x", None),
            ("https://acme.my.example.com:8443/x", None),
            ("//evil.example.com/x", None),
            ("https://u:p@acme.my.example.com/x", None),
        ];
        for (link, wanted) in rows {
            assert_eq!(follow(&base, link).as_ref().map(Url::as_str), wanted, "{link}");
        }
    }

    #[test]
    fn a_variable_stays_one_segment_of_a_path() {
        assert_eq!(escape_segment("a/../b?c#d"), "a%2F..%2Fb%3Fc%23d");
        assert_eq!(escape_segment("123-x"), "123-x");
    }
}
