//! Codes and tokens of the three vendors. Tokens come from the seed: they protect nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::clock::Timestamp;
use crate::random::Random;
use crate::sandbox::draw;

use super::options::{CrmOptions, Dialect};

/// Keeps the draws of codes and tokens apart from all others.
const STREAM: u64 = 0x4100_0000;
/// How long an authorization code may wait for its exchange, with amoCRM; the others' are not longer.
const CODE_LIFETIME: Duration = Duration::from_mins(20);

/// Everything that was granted.
#[derive(Debug)]
pub(super) struct Grants {
    random: Random,
    /// Codes that wait, and since when.
    codes: BTreeMap<String, Timestamp>,
    access: BTreeMap<String, Access>,
    refresh: BTreeMap<String, Dialect>,
    /// Refresh tokens that were replaced.
    replaced: BTreeSet<String>,
    reused: u64,
}

#[derive(Clone, Copy, Debug)]
struct Access {
    dialect: Dialect,
    expires: Timestamp,
}

/// A pair of tokens as a client would hold it.
#[derive(Clone, PartialEq, Eq)]
pub struct CrmTokens {
    /// The access token.
    pub access_token: String,
    /// The refresh token.
    pub refresh_token: String,
    /// How long the access token lives, in seconds.
    pub expires_in: u64,
}

/// Why a token call has no tokens to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// Client id or secret.
    Client,
    /// Not the registered one.
    RedirectUri,
    /// Unknown, used, too old or replaced.
    Grant,
    /// Neither a code nor a refresh token was given as a known grant.
    Malformed,
}

/// What a token call asks for, whatever form it came in.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) grant_type: String,
    pub(super) client_id: String,
    pub(super) client_secret: String,
    pub(super) code: Option<String>,
    pub(super) refresh_token: Option<String>,
    pub(super) redirect_uri: Option<String>,
}

impl Asked {
    /// Reads it by the names of its parts.
    pub(super) fn read(text: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            grant_type: text("grant_type").unwrap_or_default(),
            client_id: text("client_id").unwrap_or_default(),
            client_secret: text("client_secret").unwrap_or_default(),
            code: text("code"),
            refresh_token: text("refresh_token"),
            redirect_uri: text("redirect_uri"),
        }
    }
}

impl Grants {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            random: draw::sequence(seed, STREAM),
            codes: BTreeMap::new(),
            access: BTreeMap::new(),
            refresh: BTreeMap::new(),
            replaced: BTreeSet::new(),
            reused: 0,
        }
    }

    pub(super) fn code(&mut self, now: Timestamp) -> String {
        let code = format!("def502{}", draw::hex::<32>(&self.random));
        self.codes.insert(code.clone(), now);
        code
    }

    /// Carries a token call out.
    pub(super) fn token(
        &mut self,
        dialect: Dialect,
        asked: &Asked,
        options: &CrmOptions,
        now: Timestamp,
    ) -> Result<CrmTokens, Denied> {
        if asked.client_id != options.client_id || asked.client_secret != options.client_secret {
            return Err(Denied::Client);
        }
        let refreshes = asked.grant_type == "refresh_token";
        // amoCRM wants it with every grant, the others with a code only.
        let needs_redirect = dialect == Dialect::AmoCrm || !refreshes;
        if needs_redirect && asked.redirect_uri.as_deref() != Some(options.redirect_uri.as_str()) {
            return Err(Denied::RedirectUri);
        }
        match (asked.grant_type.as_str(), &asked.code, &asked.refresh_token) {
            ("authorization_code", Some(code), _) => {
                let made = self.codes.remove(code).ok_or(Denied::Grant)?;
                if made.plus(CODE_LIFETIME) <= now {
                    return Err(Denied::Grant);
                }
                Ok(self.issue(dialect, options, now))
            }
            ("refresh_token", _, Some(token)) => self.renew(dialect, token, options, now),
            _ => Err(Denied::Malformed),
        }
    }

    fn renew(
        &mut self,
        dialect: Dialect,
        token: &str,
        options: &CrmOptions,
        now: Timestamp,
    ) -> Result<CrmTokens, Denied> {
        if self.refresh.get(token) != Some(&dialect) {
            self.reused += u64::from(self.replaced.contains(token));
            return Err(Denied::Grant);
        }
        if options.refresh_kills_access {
            self.access.retain(|_, access| access.dialect != dialect);
        }
        let mut tokens = self.issue(dialect, options, now);
        if options.rotating.contains(&dialect) {
            self.refresh.remove(token);
            self.replaced.insert(token.to_owned());
        } else {
            self.refresh.remove(&tokens.refresh_token);
            token.clone_into(&mut tokens.refresh_token);
        }
        Ok(tokens)
    }

    /// A pair without a call.
    pub(super) fn issue(&mut self, dialect: Dialect, options: &CrmOptions, now: Timestamp) -> CrmTokens {
        let vendors = Duration::from_secs(match dialect {
            Dialect::AmoCrm => 86_400,
            Dialect::HubSpot => 1800,
            Dialect::Pipedrive => 3599,
        });
        let lifetime = options.access_token_lifetime.unwrap_or(vendors);
        let access_token = match dialect {
            Dialect::AmoCrm => self.web_token(options, now, now.plus(lifetime)),
            // A long one, as the vendor gives it: a client must not have a short column for it.
            Dialect::HubSpot => draw::hex::<160>(&self.random),
            Dialect::Pipedrive => draw::hex::<32>(&self.random),
        };
        let refresh_token = format!("def502{}", draw::hex::<128>(&self.random));
        self.access.insert(access_token.clone(), Access { dialect, expires: now.plus(lifetime) });
        self.refresh.insert(refresh_token.clone(), dialect);
        CrmTokens { access_token, refresh_token, expires_in: lifetime.as_secs() }
    }

    /// amoCRM's access token is a JSON web token, of which clients read when it ends.
    fn web_token(&self, options: &CrmOptions, now: Timestamp, ends: Timestamp) -> String {
        let head = json!({"typ": "JWT", "alg": "RS256", "jti": draw::hex::<40>(&self.random)});
        let claims = json!({
            "aud": options.client_id, "jti": draw::hex::<40>(&self.random), "iat": now.0 / 1000, "nbf": now.0 / 1000,
            "exp": ends.0 / 1000, "sub": "504141", "grant_type": "", "account_id": 30_500_001,
            "base_domain": "amocrm.ru", "version": 2, "scopes": ["crm", "notifications"],
        });
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let signature = part(&self.random.bytes::<256>());
        format!("{}.{}.{signature}", part(head.to_string().as_bytes()), part(claims.to_string().as_bytes()))
    }

    pub(super) fn admits(&self, dialect: Dialect, token: &str, options: &CrmOptions, now: Timestamp) -> bool {
        token == options.static_token
            || self.access.get(token).is_some_and(|access| access.dialect == dialect && access.expires > now)
    }

    pub(super) fn expire_access(&mut self) {
        self.access.clear();
    }

    pub(super) fn revoke(&mut self) {
        self.access.clear();
        self.refresh.clear();
        self.codes.clear();
    }

    /// How often a replaced refresh token was tried again.
    pub(super) const fn reused(&self) -> u64 {
        self.reused
    }
}
