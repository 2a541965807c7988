//! Makes Reteno's calls: a token for each, one attempt for calls that write, a few for reads.
//!
//! It never decides what is sent, and never repeats a call that may have written something.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use url::Url;

use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::contact::Personal;
use crate::http::Exchange;
use crate::plan::answer::{DeedAnswer, ImportAnswer, NotWritten, SingleAnswer, SubmitAnswer, SubscribeAnswer};
use crate::random::Random;
use crate::reteno::calls::{Call, NotBuilt};
use crate::reteno::lists::{DetachBody, EmailsBody};
use crate::reteno::reaction::{self, Answer, DeedPath};
use crate::reteno::text;
use crate::reteno::wire::{AccountInfo, ApiVersion, CatalogField, SubscriptionCategory};
use crate::reteno::{AccessTokens, NoToken, RetenoError};

/// How often a read is made before its failure is told. Reads are asked for by a person or a start-up, who should
/// not wait minutes; fewer would fail on one burst of 429.
const READ_ATTEMPTS_MAX: u32 = 4;
const READ_WAIT_FIRST: Duration = Duration::from_millis(500);
const READ_WAIT_LAST: Duration = Duration::from_secs(8);

/// How long a look for a token may take: the loop that sends must not stand still for it.
const TOKEN_LOOK: Duration = Duration::from_secs(1);

/// A longer `Retry-After` is handed to the caller instead of slept through.
const READ_RETRY_AFTER_MAX: Duration = Duration::from_mins(1);

/// Reteno's API for one account.
pub struct Client {
    exchange: Arc<dyn Exchange>,
    api_url: Url,
    tokens: Arc<dyn AccessTokens>,
    clock: Clock,
    random: Random,
}

/// Why there is no answer although nothing was sent.
enum Unsent {
    NoToken(NoToken),
    NotBuilt(NotBuilt),
}

impl Client {
    /// `exchange` holds the account's rate ([`crate::http::paced::Paced`]); `api_url` is `reteno.api_url`; `random`
    /// spreads the waits between the attempts of a read.
    #[must_use]
    pub fn new(
        exchange: Arc<dyn Exchange>,
        api_url: Url,
        tokens: Arc<dyn AccessTokens>,
        clock: Clock,
        random: Random,
    ) -> Self {
        Self { exchange, api_url, tokens, clock, random }
    }

    /// `POST v1/contacts` with a body of [`crate::reteno::body::bulk_body`]. Attempted once: whether and when it is
    /// repeated is decided by the planner.
    pub async fn submit_contacts(&self, body: Bytes) -> SubmitAnswer {
        match self.perform(&Call::SubmitContacts(body.clone())).await {
            Ok(answer) => match reaction::react_submit(&answer, self.clock.now()) {
                SubmitAnswer::Refused { status, reason } => {
                    SubmitAnswer::Refused { status, reason: text::reason_without(&reason, &body) }
                }
                SubmitAnswer::Accepted { session, mut failed } => {
                    text::clean_failures(&mut failed, &body);
                    SubmitAnswer::Accepted { session, failed }
                }
                answer @ (SubmitAnswer::NotWritten { .. } | SubmitAnswer::Uncertain { .. }) => answer,
            },
            Err(unsent) => SubmitAnswer::NotWritten { cause: unsent.cause(), retry_after: None },
        }
    }

    /// `GET v1/importstatus/{session}`, once: the import's next check is a row in the checkpoint.
    pub async fn import_status(&self, session: &str) -> ImportAnswer {
        match self.perform(&Call::ImportStatus(session.to_owned())).await {
            Ok(answer) => reaction::react_import(&answer, self.clock.now()),
            Err(unsent) => match unsent.cause() {
                NotWritten::NeedsAuthorization => ImportAnswer::NeedsAuthorization,
                cause @ (NotWritten::Unreachable(_)
                | NotWritten::RateLimited
                | NotWritten::Forbidden(_)
                | NotWritten::WrongAddress(_)) => {
                    ImportAnswer::Unreachable { cause: reaction::in_words(&cause), retry_after: None }
                }
            },
        }
    }

    /// `POST v1/contact` with a body of [`crate::reteno::body::contact_body`], once. It restores a deleted contact.
    pub async fn upsert_contact(&self, body: Bytes) -> SingleAnswer {
        match self.perform(&Call::UpsertContact(body.clone())).await {
            Ok(answer) => without_values(reaction::react_upsert(&answer, self.clock.now()), &body),
            Err(unsent) => SingleAnswer::NotWritten { cause: unsent.cause(), retry_after: None },
        }
    }

    /// `PUT v1/contact/{id}` with a body of [`crate::reteno::body::contact_body`], once. It restores a deleted
    /// contact.
    pub async fn update_contact(&self, id: i64, body: Bytes) -> SingleAnswer {
        match self.perform(&Call::UpdateContact(id, body.clone())).await {
            Ok(answer) => without_values(reaction::react_update(&answer, self.clock.now(), id), &body),
            Err(unsent) => SingleAnswer::NotWritten { cause: unsent.cause(), retry_after: None },
        }
    }

    /// `POST v1/emails/unsubscribed/add`, once.
    pub async fn unsubscribe(&self, emails: EmailsBody) -> DeedAnswer {
        let body = emails.as_bytes().clone();
        self.deed(&Call::Unsubscribe(emails), &body, DeedPath::Fixed).await
    }

    /// `POST v1/emails/unsubscribed/delete`, once: raises consent.
    pub async fn resubscribe(&self, emails: EmailsBody) -> DeedAnswer {
        let body = emails.as_bytes().clone();
        self.deed(&Call::Resubscribe(emails), &body, DeedPath::Fixed).await
    }

    /// `POST v1/group/{group}/contacts/detach`, once.
    pub async fn detach(&self, group: u64, contacts: DetachBody) -> DeedAnswer {
        let body = contacts.as_bytes().clone();
        self.deed(&Call::Detach(group, contacts), &body, DeedPath::Named).await
    }

    /// `DELETE v1/contact/{id}`, once: a deletion that can be taken back.
    pub async fn delete_contact(&self, id: i64) -> DeedAnswer {
        self.deed(&Call::DeleteContact(id), &[], DeedPath::Named).await
    }

    /// `DELETE v1/contact/{id}?erase=true`, once: for good.
    pub async fn erase_contact(&self, id: i64) -> DeedAnswer {
        self.deed(&Call::EraseContact(id), &[], DeedPath::Named).await
    }

    /// `DELETE v1/contact?externalCustomerId=`, once: names a contact whose id in Reteno is not known, and makes none.
    pub async fn delete_named(&self, external_id: Personal) -> DeedAnswer {
        let known = external_id.expose().to_owned();
        without_key(self.deed(&Call::DeleteNamed(external_id), &[], DeedPath::Named).await, &known)
    }

    /// The same for good.
    pub async fn erase_named(&self, external_id: Personal) -> DeedAnswer {
        let known = external_id.expose().to_owned();
        without_key(self.deed(&Call::EraseNamed(external_id), &[], DeedPath::Named).await, &known)
    }

    /// `PUT v1/contact/{id}/subscriptions` with a body of [`crate::reteno::lists::subscriptions_body`], once.
    pub async fn set_subscriptions(&self, id: i64, body: Bytes) -> DeedAnswer {
        self.deed(&Call::SetSubscriptions(id, body.clone()), &body, DeedPath::Named).await
    }

    /// `POST v1/contact/subscribe` with a body of [`crate::reteno::start::subscribe_body`], once: it starts workflows.
    pub async fn subscribe(&self, body: Bytes) -> SubscribeAnswer {
        match self.perform(&Call::Subscribe(body.clone())).await {
            Ok(answer) => match reaction::react_subscribe(&answer, self.clock.now()) {
                SubscribeAnswer::Refused { status, reason } => {
                    SubscribeAnswer::Refused { status, reason: text::reason_without(&reason, &body) }
                }
                answer @ (SubscribeAnswer::Taken { .. }
                | SubscribeAnswer::RepeatedWithinMinute
                | SubscribeAnswer::NotWritten { .. }
                | SubscribeAnswer::Uncertain { .. }) => answer,
            },
            Err(unsent) => SubscribeAnswer::NotWritten { cause: unsent.cause(), retry_after: None },
        }
    }

    /// `POST v1/contacts/upload` with a body of [`crate::reteno::start::upload_body`], once. The session that comes back
    /// is the `importId`.
    pub async fn upload(&self, body: Bytes) -> SubmitAnswer {
        match self.perform(&Call::Upload(body.clone())).await {
            Ok(answer) => match reaction::react_upload(&answer, self.clock.now()) {
                SubmitAnswer::Refused { status, reason } => {
                    SubmitAnswer::Refused { status, reason: text::reason_without(&reason, &body) }
                }
                answer @ (SubmitAnswer::Accepted { .. }
                | SubmitAnswer::NotWritten { .. }
                | SubmitAnswer::Uncertain { .. }) => answer,
            },
            Err(unsent) => SubmitAnswer::NotWritten { cause: unsent.cause(), retry_after: None },
        }
    }

    async fn deed(&self, call: &Call, body: &[u8], path: DeedPath) -> DeedAnswer {
        match self.perform(call).await {
            Ok(answer) => match reaction::react_deed(&answer, self.clock.now(), path) {
                DeedAnswer::Refused { status, reason } => {
                    DeedAnswer::Refused { status, reason: text::reason_without(&reason, body) }
                }
                answer @ (DeedAnswer::Done
                | DeedAnswer::NotThere
                | DeedAnswer::NotWritten { .. }
                | DeedAnswer::Uncertain { .. }) => answer,
            },
            Err(unsent) => DeedAnswer::NotWritten { cause: unsent.cause(), retry_after: None },
        }
    }

    /// Whether there is a token to make a call with, or one may come without a person's help. Where that takes long (a
    /// refresh is under way), it may.
    pub async fn has_token(&self) -> bool {
        let asked = tokio::time::timeout(TOKEN_LOOK, self.tokens.access_token()).await;
        !matches!(asked, Ok(Err(NoToken::NeedsAuthorization)))
    }

    /// `GET v2/version`, or `v1/version` where the second is not there: the check of an authorization.
    pub async fn version(&self) -> Result<ApiVersion, RetenoError> {
        match self.read(&Call::Version, ApiVersion::read).await {
            Err(RetenoError::WrongAddress { .. }) => self.read(&Call::VersionOne, ApiVersion::read).await,
            told => told,
        }
    }

    /// `GET v1/account/info`.
    pub async fn account_info(&self) -> Result<AccountInfo, RetenoError> {
        self.read(&Call::AccountInfo, AccountInfo::read).await
    }

    /// The additional fields of the account, from `GET v1/addressbooks`.
    pub async fn address_books(&self) -> Result<Vec<CatalogField>, RetenoError> {
        self.read(&Call::AddressBooks, CatalogField::read_all).await
    }

    /// The subscription categories of the account.
    pub async fn subscriptions(&self) -> Result<Vec<SubscriptionCategory>, RetenoError> {
        self.read(&Call::Subscriptions, SubscriptionCategory::read_all).await
    }

    /// One call with a token. A 401 refreshes once and repeats once: a refused token wrote nothing, so the repeat is
    /// safe for calls that write too. What comes then is the answer, also a second 401.
    async fn perform(&self, call: &Call) -> Result<Answer, Unsent> {
        let token = self.tokens.access_token().await.map_err(Unsent::NoToken)?;
        let request = call.request(&self.api_url, &token).map_err(Unsent::NotBuilt)?;
        let answer = self.exchange.exchange(request).await;
        if !reaction::is_unauthorized(&answer) {
            return Ok(answer);
        }
        let newer = self.tokens.refused(&token).await.map_err(Unsent::NoToken)?;
        let request = call.request(&self.api_url, &newer).map_err(Unsent::NotBuilt)?;
        Ok(self.exchange.exchange(request).await)
    }

    async fn read<T>(&self, call: &Call, read: fn(&[u8]) -> Result<T, String>) -> Result<T, RetenoError> {
        let mut waits = Backoff::new(READ_WAIT_FIRST, READ_WAIT_LAST, self.random.clone());
        let mut attempt = 1;
        loop {
            let told = self.read_once(call, read).await;
            let Err(RetenoError::Temporary { retry_after, .. }) = &told else { return told };
            let wait = retry_after.unwrap_or_else(|| waits.next_wait());
            if attempt >= READ_ATTEMPTS_MAX || wait > READ_RETRY_AFTER_MAX {
                return told;
            }
            attempt += 1;
            tokio::time::sleep(wait).await;
        }
    }

    async fn read_once<T>(&self, call: &Call, read: fn(&[u8]) -> Result<T, String>) -> Result<T, RetenoError> {
        match self.perform(call).await {
            Ok(answer) => reaction::react_read(&answer, self.clock.now(), call.name(), read),
            Err(unsent) => Err(unsent.into_error(call.name())),
        }
    }
}

/// A refusal in words that do not repeat the external id that it is about.
fn without_key(answer: DeedAnswer, key: &str) -> DeedAnswer {
    match answer {
        DeedAnswer::Refused { status, reason } => {
            DeedAnswer::Refused { status, reason: text::clean_without(&reason, &[key]) }
        }
        answer @ (DeedAnswer::Done
        | DeedAnswer::NotThere
        | DeedAnswer::NotWritten { .. }
        | DeedAnswer::Uncertain { .. }) => answer,
    }
}

/// A refusal in words that hold nothing of the refused contact.
fn without_values(answer: SingleAnswer, body: &[u8]) -> SingleAnswer {
    match answer {
        SingleAnswer::Refused { status, reason } => {
            SingleAnswer::Refused { status, reason: text::reason_without(&reason, body) }
        }
        answer @ (SingleAnswer::Written { .. }
        | SingleAnswer::RepeatedWithinMinute { .. }
        | SingleAnswer::NotWritten { .. }
        | SingleAnswer::Uncertain { .. }) => answer,
    }
}

impl Unsent {
    fn cause(self) -> NotWritten {
        match self {
            Self::NoToken(NoToken::NeedsAuthorization) | Self::NotBuilt(NotBuilt::Token) => {
                NotWritten::NeedsAuthorization
            }
            Self::NoToken(error @ NoToken::Temporarily(_)) => NotWritten::Unreachable(error.to_string()),
            Self::NotBuilt(error @ NotBuilt::Address) => NotWritten::Unreachable(error.to_string()),
        }
    }

    fn into_error(self, call: &'static str) -> RetenoError {
        match self {
            Self::NoToken(NoToken::NeedsAuthorization) | Self::NotBuilt(NotBuilt::Token) => {
                RetenoError::NeedsAuthorization { call }
            }
            Self::NoToken(error @ NoToken::Temporarily(_)) => {
                RetenoError::Temporary { call, cause: error.to_string(), retry_after: None }
            }
            Self::NotBuilt(source @ NotBuilt::Address) => RetenoError::NotBuilt { call, source },
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("host", &self.api_url.host_str()).finish_non_exhaustive()
    }
}
