//! Reads what the browser was redirected to. Pure; never keeps or quotes what it read.

use oauth2::AuthorizationCode;
use url::{Url, form_urlencoded};

use super::authorize_error::AuthorizeError;
use super::desk::StateHash;
use super::reaction::harmless;

/// Where an answer comes from, hence how much it must prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A browser came to the listener: anyone can send a browser there, so the state is demanded.
    Callback,
    /// The operator gave it at the terminal: the bare code, or an address without a state, is taken; a wrong state is
    /// not.
    Pasted,
}

/// The code in a redirected address, in its query, or (pasted only) alone.
pub fn read_response(text: &str, expected: &StateHash, origin: Origin) -> Result<AuthorizationCode, AuthorizeError> {
    let text = text.trim();
    let answer = match (Answer::read(query_of(text)), origin) {
        (Some(answer), _) => answer,
        (None, Origin::Callback) => return Err(AuthorizeError::NoCode),
        (None, Origin::Pasted) => return bare_code(text),
    };
    match answer.state.as_deref() {
        Some(state) if expected.matches(state) => {}
        Some(_) => return Err(AuthorizeError::WrongState),
        None if origin == Origin::Pasted => {}
        None => return Err(AuthorizeError::NoState),
    }
    if let Some(code) = answer.error {
        return Err(match code.as_str() {
            "access_denied" => AuthorizeError::Refused,
            _ => AuthorizeError::OtherError { code: harmless(&code) },
        });
    }
    answer.code.filter(|code| is_code(code)).map(AuthorizationCode::new).ok_or(AuthorizeError::NoCode)
}

/// The parameters of a redirect; each counts only where it comes exactly once (RFC 6749, section 3.1).
struct Answer {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
}

impl Answer {
    /// `None` where the text is no redirect at all.
    fn read(query: &str) -> Option<Self> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let named =
            |name: &str| pairs.iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect::<Vec<_>>();
        let (codes, states, errors) = (named("code"), named("state"), named("error"));
        if codes.is_empty() && states.is_empty() && errors.is_empty() {
            return None;
        }
        let single = |values: &[&String]| match values {
            [value] => Some((*value).clone()),
            _ => None,
        };
        Some(Self {
            code: single(&codes),
            // Two states are a wrong one: the first could be forged, the second right, or the other way round.
            state: if states.len() > 1 { Some(String::new()) } else { single(&states) },
            error: errors.first().map(|code| (*code).clone()),
        })
    }
}

fn query_of(text: &str) -> &str {
    let text = text.split('#').next().unwrap_or_default();
    match text.split_once('?') {
        Some((_, query)) => query,
        None => text,
    }
}

fn bare_code(text: &str) -> Result<AuthorizationCode, AuthorizeError> {
    if text.contains("://") || Url::parse(text).is_ok() {
        return Err(AuthorizeError::NoCode);
    }
    // Cut out of an address it is still percent-encoded; a plus is a plus there.
    let form = format!("code={}", text.replace('+', "%2B").replace('&', "%26"));
    let decoded = form_urlencoded::parse(form.as_bytes()).next().map(|(_, code)| code.into_owned());
    decoded.filter(|code| is_code(code)).map(AuthorizationCode::new).ok_or(AuthorizeError::NoCode)
}

/// RFC 6749, appendix A.11: visible ASCII. The bound keeps a pasted file out of a request.
fn is_code(text: &str) -> bool {
    !text.is_empty() && text.len() <= 4096 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, origin: Origin) -> String {
        match read_response(text, &StateHash::of("st"), origin) {
            Ok(code) => format!("code {}", code.secret()),
            Err(AuthorizeError::Refused) => "refused".to_owned(),
            Err(AuthorizeError::OtherError { code }) => format!("error {code}"),
            Err(AuthorizeError::WrongState) => "wrong state".to_owned(),
            Err(AuthorizeError::NoState) => "no state".to_owned(),
            Err(AuthorizeError::NoCode) => "no code".to_owned(),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_form_of_an_answer_from_either_side() {
        #[rustfmt::skip]
        let rows = [
            // text, from the listener, pasted
            ("code=a%2Fb&state=st", "code a/b", "code a/b"),
            ("?code=C&state=st", "code C", "code C"),
            ("http://127.0.0.1:8400/callback?code=C&state=st#_", "code C", "code C"),
            ("  http://host/cb?state=st&code=C \n", "code C", "code C"),
            // Without a state only the operator is believed.
            ("http://awesome_host/callback?code=C", "no state", "code C"),
            ("code=C&state=", "wrong state", "wrong state"),
            ("code=C&state=other", "wrong state", "wrong state"),
            ("code=C&state=st&state=st", "wrong state", "wrong state"),
            ("error=access_denied&state=st", "refused", "refused"),
            ("error=access_denied", "no state", "refused"),
            ("error=access_denied&state=other", "wrong state", "wrong state"),
            ("error=access_denied&code=C&state=st", "refused", "refused"),
            ("error=server%0Aerror&state=st", "error servererror", "error servererror"),
            ("state=st", "no code", "no code"),
            ("code=&state=st", "no code", "no code"),
            ("code=a&code=b&state=st", "no code", "no code"),
            ("code=a%20b&state=st", "no code", "no code"),
            // The bare code, also as it stands in an address.
            ("SplxlOBeZQQYbYS6WxSbIA", "no code", "code SplxlOBeZQQYbYS6WxSbIA"),
            ("a%2Fb+c==", "no code", "code a/b+c=="),
            ("two words", "no code", "no code"),
            ("", "no code", "no code"),
            // The address that was printed, by mistake; the callback without anything.
            ("https://uaa.example/uaa/oauth/authorize?response_type=code&client_id=x", "no code", "no code"),
            ("http://127.0.0.1:8400/callback", "no code", "no code"),
        ];
        for (text, from_listener, pasted) in rows {
            assert_eq!(read(text, Origin::Callback), from_listener, "callback {text:?}");
            assert_eq!(read(text, Origin::Pasted), pasted, "pasted {text:?}");
        }
    }
}
