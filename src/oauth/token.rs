//! What one authorization has given: the tokens, the code they came from, and how long each lives.
//!
//! Pure. Never prints a token or the code; the only way to their text besides the fields is [`Grant::to_sealed_form`],
//! which a vault encrypts.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::dialect::RETENO_REFRESH_TOKEN;
use super::reaction::TokenAnswer;
use crate::clock::{Timestamp, millis};

/// How far a stored moment may lie ahead of the clock before the clock is taken to have been set back.
const CLOCK_SLACK: Duration = Duration::from_mins(1);

/// May the grant be refreshed, or must a person act?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// The refresh token is believed to work.
    Active,
    /// Reteno refused the refresh token for good. The access token is used until it ends.
    NeedsAuthorization {
        /// When that was found out.
        #[serde(with = "millis")]
        since: Timestamp,
        /// In words, without a secret.
        reason: String,
    },
}

/// The stored outcome of an authorization, renewed by every refresh.
#[derive(Clone)]
pub struct Grant {
    /// Goes into `Authorization: Bearer`.
    pub access_token: SecretString,
    /// The last refresh token received; each refresh replaces it. Empty where tokens are had without any.
    pub refresh_token: SecretString,
    /// The original authorization code: Reteno wants it in every refresh. Empty where no person was asked.
    pub code: SecretString,
    /// The moment the request that gave these tokens was *sent*: lifetimes count from the tokens' creation, which is
    /// never earlier.
    pub requested_at: Timestamp,
    /// Lifetime of the access token, from `requested_at`.
    pub expires_in: Duration,
    /// As Reteno said it, e.g. `UseRestApi`.
    pub scope: Option<String>,
    /// When a person authorized.
    pub authorized_at: Timestamp,
    /// May it be refreshed?
    pub condition: Condition,
    /// Grows with every stored change, across authorizations too.
    pub serial: u64,
    /// The host to ask with these tokens, where the answer named one; without a slash at its end.
    pub base_url: Option<String>,
}

impl Grant {
    /// The first grant of an authorization. `serial` must exceed the stored one's.
    #[must_use]
    pub fn first(
        code: SecretString,
        refresh_token: SecretString,
        answer: &TokenAnswer,
        sent: Timestamp,
        serial: u64,
    ) -> Self {
        Self {
            access_token: answer.access_token.clone(),
            refresh_token,
            code,
            requested_at: sent,
            expires_in: answer.expires_in,
            scope: answer.scope.clone(),
            authorized_at: sent,
            condition: Condition::Active,
            serial,
            base_url: answer.base_url.clone(),
        }
    }

    /// This grant after a refresh that was sent at `sent`. An answer without a refresh token leaves the old one valid
    /// (RFC 6749, section 6).
    #[must_use]
    pub fn refreshed(&self, answer: &TokenAnswer, sent: Timestamp) -> Self {
        Self {
            access_token: answer.access_token.clone(),
            refresh_token: answer.refresh_token.clone().unwrap_or_else(|| self.refresh_token.clone()),
            code: self.code.clone(),
            requested_at: sent,
            expires_in: answer.expires_in,
            scope: answer.scope.clone().or_else(|| self.scope.clone()),
            authorized_at: self.authorized_at,
            condition: Condition::Active,
            serial: self.serial.saturating_add(1),
            base_url: answer.base_url.clone().or_else(|| self.base_url.clone()),
        }
    }

    /// This grant once Reteno has refused its refresh token for good.
    #[must_use]
    pub fn refused(&self, since: Timestamp, reason: String) -> Self {
        let condition = Condition::NeedsAuthorization { since, reason };
        Self { condition, serial: self.serial.saturating_add(1), ..self.clone() }
    }

    /// Half of the access token's lifetime: from then on a refresh is due.
    #[must_use]
    pub fn refresh_due_at(&self) -> Timestamp {
        self.requested_at.plus(self.expires_in / 2)
    }

    /// When the access token ends.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.requested_at.plus(self.expires_in)
    }

    /// When a refresh token of Reteno's dies if it is never used.
    #[must_use]
    pub fn refresh_token_expires_at(&self) -> Timestamp {
        self.requested_at.plus(RETENO_REFRESH_TOKEN)
    }

    /// Is a refresh due? Also where the grant seems to come from the future: the clock was set back, so its age is
    /// unknown.
    #[must_use]
    pub fn is_due(&self, now: Timestamp) -> bool {
        now >= self.refresh_due_at() || self.requested_at > now.plus(CLOCK_SLACK)
    }

    /// Has the access token ended?
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now >= self.expires_at()
    }

    /// Is it the same access token?
    #[must_use]
    pub fn bears(&self, access_token: &SecretString) -> bool {
        self.access_token.expose_secret() == access_token.expose_secret()
    }

    /// The whole grant as JSON, tokens included: for a vault, which must encrypt it before it touches a disk.
    ///
    /// # Panics
    /// Never: text, numbers and a plain enum are always JSON.
    #[must_use]
    pub fn to_sealed_form(&self) -> SecretString {
        let form = SealedForm {
            access_token: self.access_token.expose_secret().to_owned(),
            refresh_token: self.refresh_token.expose_secret().to_owned(),
            code: self.code.expose_secret().to_owned(),
            requested_at: self.requested_at,
            expires_in_ms: u64::try_from(self.expires_in.as_millis()).unwrap_or(u64::MAX),
            scope: self.scope.clone(),
            authorized_at: self.authorized_at,
            condition: self.condition.clone(),
            serial: self.serial,
            base_url: self.base_url.clone(),
        };
        let text = serde_json::to_string(&form).expect("text, numbers and a plain enum are always JSON");
        SecretString::from(text)
    }

    /// Reads what [`Grant::to_sealed_form`] wrote.
    pub fn from_sealed_form(text: &str) -> Result<Self, SealedFormError> {
        // The JSON error is dropped: it may quote a token.
        let form: SealedForm = serde_json::from_str(text).map_err(|_| SealedFormError)?;
        Ok(Self {
            access_token: SecretString::from(form.access_token),
            refresh_token: SecretString::from(form.refresh_token),
            code: SecretString::from(form.code),
            requested_at: form.requested_at,
            expires_in: Duration::from_millis(form.expires_in_ms),
            scope: form.scope,
            authorized_at: form.authorized_at,
            condition: form.condition,
            serial: form.serial,
            base_url: form.base_url,
        })
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("serial", &self.serial)
            .field("condition", &self.condition)
            .field("requested_at", &self.requested_at)
            .field("expires_in", &self.expires_in)
            .field("scope", &self.scope)
            .field("authorized_at", &self.authorized_at)
            .finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct SealedForm {
    access_token: String,
    refresh_token: String,
    code: String,
    #[serde(with = "millis")]
    requested_at: Timestamp,
    expires_in_ms: u64,
    scope: Option<String>,
    #[serde(with = "millis")]
    authorized_at: Timestamp,
    condition: Condition,
    serial: u64,
    /// Not in what older versions wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_url: Option<String>,
}

/// The text is not what [`Grant::to_sealed_form`] writes.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the stored grant: it is damaged or of another version")]
pub struct SealedFormError;

/// Why there is no access token to send with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// Nobody has authorized yet, or Reteno refused the refresh token and the access token has ended.
    #[error("reteno has not authorized this program")]
    NeedsAuthorization,
    /// Asking again later may help; no person is needed for now.
    #[error("cannot get an access token for now: {0}")]
    Temporarily(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::tests::scripted::grant;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn lifetimes_count_from_the_moment_the_request_was_sent() {
        let grant = grant(Timestamp(1_000), Duration::from_hours(48));
        assert_eq!(grant.refresh_due_at(), Timestamp(86_401_000));
        assert_eq!(grant.expires_at(), Timestamp(172_801_000));
        assert_eq!(grant.refresh_token_expires_at(), Timestamp(2_592_001_000));
        assert!(!grant.is_due(Timestamp(86_400_999)));
        assert!(grant.is_due(Timestamp(86_401_000)));
        assert!(!grant.is_expired(Timestamp(172_800_999)));
        assert!(grant.is_expired(Timestamp(172_801_000)));
    }

    #[test]
    fn a_grant_from_the_future_is_due_but_a_small_step_of_the_clock_is_not() {
        let grant = grant(Timestamp(10_000_000), HOUR);
        assert!(grant.is_due(Timestamp(9_000_000)));
        assert!(!grant.is_due(Timestamp(9_990_000)));
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", grant(Timestamp(0), HOUR));
        for secret in ["access-0", "refresh-0", "code-0"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    #[test]
    fn the_sealed_form_keeps_everything() {
        let before = grant(Timestamp(7), HOUR).refused(Timestamp(8), "refused".to_owned());
        let after = Grant::from_sealed_form(before.to_sealed_form().expose_secret()).unwrap();
        assert_eq!(after.to_sealed_form().expose_secret(), before.to_sealed_form().expose_secret());
        assert_eq!(after.condition, before.condition);
        assert_eq!(after.serial, before.serial);
        assert!(after.bears(&before.access_token));
    }

    #[test]
    fn a_damaged_sealed_form_is_an_error_that_quotes_nothing() {
        let error = Grant::from_sealed_form(r#"{"access_token":"s3cret","serial":"s3cret"}"#).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("s3cret"));
    }

    #[test]
    fn a_refresh_answer_without_a_refresh_token_keeps_the_old_one() {
        let before = grant(Timestamp(0), HOUR);
        let answer = TokenAnswer {
            access_token: SecretString::from("new".to_owned()),
            refresh_token: None,
            expires_in: HOUR,
            scope: None,
            base_url: None,
        };
        let after = before.refreshed(&answer, Timestamp(5));
        assert_eq!(after.refresh_token.expose_secret(), before.refresh_token.expose_secret());
        assert_eq!(after.code.expose_secret(), before.code.expose_secret());
        assert_eq!((after.serial, after.requested_at), (before.serial + 1, Timestamp(5)));
    }
}
