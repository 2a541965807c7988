//! The OAuth 2.0 server: authorization page, one-time codes, the exchange of a code, and refreshes that insist on the
//! original code and give a new refresh token each time. Tokens come from the seed: they protect nothing.

use std::collections::BTreeMap;

use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::json;

use crate::clock::Timestamp;
use crate::random::Random;

use super::draw;
use super::engine::Request;
use super::options::{RefreshGrace, SandboxOptions};
use super::reply::{self, Reply, oauth_error};
use super::routes::CallKind;

/// Keeps the draws of codes and tokens apart from all others.
const STREAM: u64 = 0x2000_0000;

/// Everything that was granted.
#[derive(Debug)]
pub(super) struct Grants {
    random: Random,
    all: Vec<Grant>,
    /// Access token → whose it is and how long it lives.
    access: BTreeMap<String, Access>,
    last_refreshed: Option<usize>,
}

/// One authorization by a person.
#[derive(Debug)]
struct Grant {
    code: String,
    asked: Timestamp,
    exchanged: bool,
    revoked: bool,
    access: Option<String>,
    refresh: Option<RefreshToken>,
    /// The refresh token that the last refresh used, while it may be used again.
    previous: Option<RefreshToken>,
    previous_lost: bool,
}

#[derive(Clone, Debug)]
struct RefreshToken {
    value: String,
    made: Timestamp,
}

#[derive(Debug)]
struct Access {
    grant: usize,
    expires: Timestamp,
}

/// A pair of tokens as a client would hold it.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedTokens {
    /// The authorization code, which every refresh must carry.
    pub code: String,
    /// The access token.
    pub access_token: String,
    /// The refresh token.
    pub refresh_token: String,
}

/// The parameters of a token request, from the query and the form together.
pub(super) struct TokenRequest(BTreeMap<String, Vec<String>>);

impl TokenRequest {
    fn read(query: &str, body: &[u8]) -> Self {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let form = url::form_urlencoded::parse(body);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()).chain(form) {
            all.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Self(all)
    }

    /// Which of the two calls on the token path this is.
    pub(super) fn kind(query: &str, body: &[u8]) -> CallKind {
        let grant_type = Self::read(query, body).one("grant_type").unwrap_or_default();
        if grant_type == "refresh_token" { CallKind::TokenRefresh } else { CallKind::TokenExchange }
    }

    fn one(&self, name: &str) -> Option<String> {
        self.0.get(name)?.first().cloned()
    }

    /// RFC 6749, 3.2: no parameter more than once.
    fn has_repeated(&self) -> bool {
        self.0.values().any(|values| values.len() > 1)
    }
}

impl Grants {
    pub(super) fn new(seed: u64) -> Self {
        let random = draw::sequence(seed, STREAM);
        Self { random, all: Vec::new(), access: BTreeMap::new(), last_refreshed: None }
    }

    /// `GET /uaa/oauth/authorize`: a page with two links; `auto=allow` and `auto=deny` are where they lead.
    pub(super) fn authorize(&mut self, options: &SandboxOptions, now: Timestamp, path: &str, query: &str) -> Reply {
        let parameters = TokenRequest::read(query, b"");
        let is = |name, wanted: &str| parameters.one(name).as_deref() == Some(wanted);
        let refuse = |why: &str| reply::page(StatusCode::BAD_REQUEST, why, "");
        if parameters.has_repeated() {
            return refuse("A parameter is repeated");
        }
        if !is("client_id", &options.client_id) {
            return refuse("Unknown client_id");
        }
        // A redirect that is not registered is never followed, also not to report an error.
        let Ok(mut target) = url::Url::parse(&options.redirect_uri) else { return refuse("No callback is registered") };
        if !is("redirect_uri", &options.redirect_uri) {
            return refuse("redirect_uri is not the registered one");
        }
        if !is("response_type", "code") {
            return refuse("response_type must be code");
        }
        let Some(choice) = parameters.one("auto") else { return consent_page(options, path, query) };
        match choice.as_str() {
            "allow" => drop(target.query_pairs_mut().append_pair("code", &self.grant(now))),
            "deny" => {
                let mut answer = target.query_pairs_mut();
                answer.append_pair("error", "access_denied").append_pair("error_description", "User denied access");
            }
            _ => return refuse("auto is allow or deny"),
        }
        if let Some(state) = parameters.one("state") {
            target.query_pairs_mut().append_pair("state", &state);
        }
        reply::redirect(target.as_str())
    }

    fn grant(&mut self, now: Timestamp) -> String {
        let code = draw::hex::<6>(&self.random);
        self.all.push(Grant {
            code: code.clone(),
            asked: now,
            exchanged: false,
            revoked: false,
            access: None,
            refresh: None,
            previous: None,
            previous_lost: false,
        });
        code
    }

    /// `POST /uaa/oauth/token`.
    pub(super) fn token(&mut self, options: &SandboxOptions, now: Timestamp, request: &Request) -> Reply {
        let parameters = TokenRequest::read(&request.query, &request.body);
        let invalid = |why: &str| oauth_error(StatusCode::BAD_REQUEST, "invalid_request", why);
        if parameters.has_repeated() {
            return invalid("a parameter is repeated");
        }
        if !request.body.is_empty() && !is_form(request) {
            return invalid("parameters must be form-encoded");
        }
        if let Err(answer) = check_client(options, request, &parameters) {
            return *answer;
        }
        let wrong_redirect = parameters.one("redirect_uri").is_some_and(|uri| uri != options.redirect_uri);
        if wrong_redirect {
            return oauth_error(StatusCode::BAD_REQUEST, "invalid_grant", "Redirect URI mismatch");
        }
        match parameters.one("grant_type").as_deref() {
            Some("authorization_code") => self.exchange(options, now, &parameters),
            Some("refresh_token") => self.refresh(options, now, &parameters),
            Some(_) => oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type", "unsupported grant type"),
            None => invalid("grant_type is missing"),
        }
    }

    fn exchange(&mut self, options: &SandboxOptions, now: Timestamp, parameters: &TokenRequest) -> Reply {
        let (Some(code), Some(_)) = (parameters.one("code"), parameters.one("redirect_uri")) else {
            return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", "code and redirect_uri are required");
        };
        let fresh =
            |grant: &Grant| !grant.exchanged && !grant.revoked && now.since(grant.asked) < options.code_lifetime;
        let Some(number) = self.all.iter().position(|grant| grant.code == code && fresh(grant)) else {
            return oauth_error(StatusCode::BAD_REQUEST, "invalid_grant", "Invalid authorization code");
        };
        if let Some(grant) = self.all.get_mut(number) {
            grant.exchanged = true;
        }
        self.give(options, now, number)
    }

    fn refresh(&mut self, options: &SandboxOptions, now: Timestamp, parameters: &TokenRequest) -> Reply {
        let (Some(code), Some(token)) = (parameters.one("code"), parameters.one("refresh_token")) else {
            return oauth_error(StatusCode::BAD_REQUEST, "invalid_request", "code and refresh_token are required");
        };
        let living = |held: &RefreshToken| held.value == token && now.since(held.made) < options.refresh_token_lifetime;
        let takes = |grant: &Grant| {
            let grace = match options.refresh_grace {
                RefreshGrace::Never => false,
                RefreshGrace::WhenLost => grant.previous_lost,
                RefreshGrace::UntilUsed => true,
            };
            let current = grant.refresh.as_ref().is_some_and(living);
            current || (grace && grant.previous.as_ref().is_some_and(living))
        };
        let valid = |grant: &Grant| grant.code == code && grant.exchanged && !grant.revoked && takes(grant);
        let Some(number) = self.all.iter().position(valid) else {
            return oauth_error(StatusCode::BAD_REQUEST, "invalid_grant", "Invalid refresh token");
        };
        if let Some(grant) = self.all.get_mut(number) {
            // With the successor in use the old token is dead; with the old one in use the lost successor is.
            let was_current = grant.refresh.as_ref().is_some_and(living);
            grant.previous = if was_current { grant.refresh.take() } else { grant.previous.take() };
            grant.previous_lost = false;
        }
        if options.revoke_on_refresh {
            self.access.retain(|_, access| access.grant != number);
        }
        self.last_refreshed = Some(number);
        self.give(options, now, number)
    }

    /// Gives a pair of tokens and answers with it.
    fn give(&mut self, options: &SandboxOptions, now: Timestamp, number: usize) -> Reply {
        let lifetime = options.access_token_lifetime;
        let held = self.all.get(number).and_then(|grant| grant.access.clone());
        let living = held.and_then(|token| {
            let left = self.access.get(&token)?.expires.since(now);
            (options.reuse_living_token && !left.is_zero()).then_some((token, left))
        });
        let (token, left) = living.unwrap_or_else(|| (draw::hex::<20>(&self.random), lifetime));
        self.access.insert(token.clone(), Access { grant: number, expires: now.plus(left) });
        let refresh = draw::hex::<20>(&self.random);
        if let Some(grant) = self.all.get_mut(number) {
            grant.access = Some(token.clone());
            grant.refresh = Some(RefreshToken { value: refresh.clone(), made: now });
        }
        let body = json!({
            "access_token": token,
            "token_type": "bearer",
            "refresh_token": refresh,
            "scope": "UseRestApi",
            "expires_in": left.as_secs(),
        });
        let mut answer = reply::ok(&body);
        reply::put(&mut answer, http::header::CACHE_CONTROL, "no-store");
        answer
    }

    /// Authorizes and exchanges without the calls.
    pub(super) fn issue(&mut self, options: &SandboxOptions, now: Timestamp) -> IssuedTokens {
        let code = self.grant(now);
        let number = self.all.len() - 1;
        if let Some(grant) = self.all.get_mut(number) {
            grant.exchanged = true;
        }
        drop(self.give(options, now, number));
        let grant = self.all.get(number);
        let access_token = grant.and_then(|grant| grant.access.clone()).unwrap_or_default();
        let refresh_token = grant.and_then(|grant| grant.refresh.clone()).map(|held| held.value).unwrap_or_default();
        IssuedTokens { code, access_token, refresh_token }
    }

    /// Whether a token may call the API now. Using a newest token ends the grace of its predecessor.
    pub(super) fn use_access_token(&mut self, token: &str, now: Timestamp) -> bool {
        let Some(access) = self.access.get(token).filter(|access| access.expires > now) else { return false };
        let Some(grant) = self.all.get_mut(access.grant) else { return false };
        if grant.revoked {
            return false;
        }
        if grant.access.as_deref() == Some(token) {
            grant.previous = None;
        }
        true
    }

    /// The answer of the last refresh did not arrive.
    pub(super) fn answer_was_lost(&mut self) {
        if let Some(grant) = self.last_refreshed.and_then(|number| self.all.get_mut(number)) {
            grant.previous_lost = true;
        }
    }

    pub(super) fn expire_access_tokens(&mut self, now: Timestamp) {
        for access in self.access.values_mut() {
            access.expires = access.expires.min(now);
        }
    }

    /// Every code and token in use: what nobody but their holder may keep in the clear.
    pub(super) fn secrets(&self) -> Vec<String> {
        let of_grant = |grant: &Grant| [Some(grant.code.clone()), grant.refresh.clone().map(|held| held.value)];
        self.access.keys().cloned().chain(self.all.iter().flat_map(of_grant).flatten()).collect()
    }

    /// As when a person disconnects the app: no code and no token works any more.
    pub(super) fn revoke_all(&mut self) {
        for grant in &mut self.all {
            grant.revoked = true;
        }
    }
}

fn consent_page(options: &SandboxOptions, path: &str, query: &str) -> Reply {
    let link = |choice: &str, words: &str| {
        let address = format!("{path}?{query}&auto={choice}");
        let escaped = address.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;");
        format!("<p><a href=\"{escaped}\">{words}</a></p>")
    };
    let inner = format!(
        "<p>reteno-sync asks to update the contacts of {}.</p>{}{}",
        options.organisation_name.replace('&', "&amp;").replace('<', "&lt;"),
        link("allow", "Allow"),
        link("deny", "Refuse")
    );
    reply::page(StatusCode::OK, "Sandbox authorization", &inner)
}

fn is_form(request: &Request) -> bool {
    let value = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The client by HTTP Basic or by parameters, never by both (RFC 6749, 2.3).
fn check_client(options: &SandboxOptions, request: &Request, parameters: &TokenRequest) -> Result<(), Box<Reply>> {
    let wrong = || Box::new(oauth_error(StatusCode::UNAUTHORIZED, "invalid_client", "Bad client credentials"));
    let by_parameters = (parameters.one("client_id"), parameters.one("client_secret"));
    let header = request.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(header) = header else {
        let (id, secret) = by_parameters;
        let right = id.as_ref() == Some(&options.client_id) && secret.as_ref() == Some(&options.client_secret);
        return if right { Ok(()) } else { Err(wrong()) };
    };
    let (id, secret) = by_parameters;
    if secret.is_some() {
        let why = "two ways of client authentication";
        return Err(Box::new(oauth_error(StatusCode::BAD_REQUEST, "invalid_request", why)));
    }
    let pair = header.strip_prefix("Basic ").and_then(from_base64).and_then(|bytes| String::from_utf8(bytes).ok());
    let pair = pair.unwrap_or_default();
    let (basic_id, basic_secret) = pair.split_once(':').unwrap_or_default();
    let right = is_or_encodes(basic_id, &options.client_id) && is_or_encodes(basic_secret, &options.client_secret);
    if right && id.is_none_or(|id| id == options.client_id) { Ok(()) } else { Err(wrong()) }
}

/// RFC 6749, 2.3.1 form-encodes both parts before Basic; many servers take them raw, so either is accepted.
fn is_or_encodes(given: &str, wanted: &str) -> bool {
    let encoded: String = url::form_urlencoded::byte_serialize(wanted.as_bytes()).collect();
    let decoded =
        url::form_urlencoded::parse(format!("v={given}").as_bytes()).next().map(|(_, value)| value.into_owned());
    given == wanted || given == encoded || decoded.as_deref() == Some(wanted)
}

/// Standard base64 with padding; `None` where it is not.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bare = text.trim().trim_end_matches('=');
    let mut out = Vec::with_capacity(bare.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0_u32);
    for byte in bare.bytes() {
        let digit = ALPHABET.iter().position(|known| *known == byte)?;
        bits = (bits << 6) | u32::try_from(digit).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).ok()?);
        }
    }
    Some(out)
}
