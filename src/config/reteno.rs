//! `[reteno]`: the account, the app that may write to it, and how hard it is used.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;
use url::Url;

use super::raw::Leaf;
use super::reader::Reader;
use super::{secret, words};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// Reteno's limit for the whole account; above it every caller of the account gets 429.
const REQUESTS_PER_SECOND_MAX: u32 = 200;

/// Reteno refuses a `POST v1/contacts` with more.
const BATCH_CONTACTS_MAX: u32 = 3000;

/// Below the least, one contact with long additional fields may not fit; above the most, an answer that is lost costs
/// minutes of repeated sending.
const BATCH_BYTES: std::ops::RangeInclusive<usize> = 64 * 1024..=64 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawReteno {
    brand: Option<Leaf>,
    api_url: Option<Leaf>,
    authorize_url: Option<Leaf>,
    token_url: Option<Leaf>,
    client_id: Option<Leaf>,
    client_secret: Option<Leaf>,
    client_secret_file: Option<Leaf>,
    client_auth: Option<Leaf>,
    redirect_uri: Option<Leaf>,
    requests_per_second: Option<Leaf>,
    dedupe_on: Option<Leaf>,
    restore_deleted: Option<Leaf>,
    restore_deleted_in_full_reads: Option<Leaf>,
    new_contacts_event: Option<Leaf>,
    pub(super) time_zone: Option<Leaf>,
    new_contacts_event_in_full_reads: Option<Leaf>,
    batch_contacts_max: Option<Leaf>,
    batch_bytes_max: Option<Leaf>,
    posts_in_flight: Option<Leaf>,
    import_age_max: Option<Leaf>,
    import_poll_first: Option<Leaf>,
    import_poll_max: Option<Leaf>,
    connect_timeout: Option<Leaf>,
    read_timeout: Option<Leaf>,
    request_timeout: Option<Leaf>,
}

/// The account and its limits.
#[derive(Clone, Debug)]
pub struct Reteno {
    /// The root of the API, without a slash at its end: `https://reteno.com/api`.
    pub api_url: Url,
    /// Where a person allows the app.
    pub authorize_url: Url,
    /// Where codes and refresh tokens become tokens.
    pub token_url: Url,
    /// The app's id; needed for tokens only.
    pub client_id: Option<String>,
    /// The app's secret; needed for tokens only.
    pub client_secret: Option<SecretString>,
    /// How id and secret travel.
    pub client_auth: ClientAuth,
    /// Where Reteno sends the person back to.
    pub redirect: Redirect,
    /// 1 to 200; Reteno's limit of 200 is for the whole account.
    pub requests_per_second: u32,
    /// What makes two contacts one, besides the external id.
    pub dedupe_on: DedupeOn,
    /// When a contact that was deleted in Reteno may come back.
    pub restore_deleted: RestoreDeleted,
    /// [`RestoreDeleted::Always`] also holds in first loads and reconciles; false with the other two.
    pub restore_in_full_reads: bool,
    /// Reteno's `eventKeyForNewContacts`: the event of each new contact; it may start workflows there. 1 to 100
    /// characters.
    pub new_contacts_event: Option<String>,
    /// The event also in first loads and reconciles; false where there is none.
    pub new_contacts_event_in_full_reads: bool,
    /// Contacts of one post, 1 to 3000.
    pub batch_contacts_max: usize,
    /// Bytes of one post's body.
    pub batch_bytes_max: usize,
    /// Posts under way at once, 1 to 32.
    pub posts_in_flight: usize,
    /// An import older than this is abandoned; also how long a lost post may still land.
    pub import_age_max: Duration,
    /// The first wait before an import is asked about.
    pub import_poll_first: Duration,
    /// The longest wait between two questions.
    pub import_poll_max: Duration,
    /// For a connection with its TLS.
    pub connect_timeout: Duration,
    /// For silence while an answer is read.
    pub read_timeout: Duration,
    /// For a request as a whole.
    pub request_timeout: Duration,
}

/// The address that Reteno redirects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Exactly as it was written: OAuth compares it character by character.
    pub text: String,
    /// The same, parsed.
    pub url: Url,
}

impl Redirect {
    /// Whether a listener on this machine can take the redirect.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        super::reader::is_loopback(&self.url)
    }
}

/// How the client id and secret are sent to the token URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// HTTP Basic.
    Basic,
    /// Parameters in the form body.
    Params,
}

impl ClientAuth {
    const WORDS: [(&str, Self); 2] = [("basic", Self::Basic), ("params", Self::Params)];
}

/// Reteno's `dedupeOn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DedupeOn {
    /// The CRM's id.
    ExternalCustomerId,
    /// The e-mail address.
    Email,
    /// The phone number.
    Sms,
    /// Either channel.
    EmailOrSms,
}

impl DedupeOn {
    const WORDS: [(&str, Self); 4] = [
        ("externalCustomerId", Self::ExternalCustomerId),
        ("email", Self::Email),
        ("sms", Self::Sms),
        ("email_or_sms", Self::EmailOrSms),
    ];

    /// Reteno knows more; they need an id of Reteno's, or a channel that is not sent yet.
    const LATER: [&str; 4] = ["id", "fieldId", "push", "webpush"];

    /// Reteno's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ExternalCustomerId => "externalCustomerId",
            Self::Email => "email",
            Self::Sms => "sms",
            Self::EmailOrSms => "email_or_sms",
        }
    }
}

/// What happens to a contact that someone deleted in Reteno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreDeleted {
    /// It stays deleted.
    Never,
    /// A live change brings it back (single calls always do).
    Live,
    /// Every post brings it back.
    Always,
}

impl RestoreDeleted {
    const WORDS: [(&str, Self); 3] = [("never", Self::Never), ("live", Self::Live), ("always", Self::Always)];
}

/// The client id and secret, both there.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The app's id.
    pub client_id: String,
    /// The app's secret.
    pub client_secret: SecretString,
    /// How they travel.
    pub client_auth: ClientAuth,
}

/// A command needs tokens and the configuration lacks what gets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MissingCredentials {
    /// No `client_id`.
    #[error("cannot ask Reteno for tokens without reteno.client_id")]
    Id,
    /// No secret in any of its three places.
    #[error("cannot ask Reteno for tokens without a client secret")]
    Secret,
    /// Neither.
    #[error("cannot ask Reteno for tokens without reteno.client_id and a client secret")]
    Both,
}

impl MissingCredentials {
    /// What repairs it.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Id => "set reteno.client_id to the id of your app in Reteno",
            Self::Secret | Self::Both => {
                "set reteno.client_id, and one of reteno.client_secret_file, reteno.client_secret and the systemd \
                 credential reteno_client_secret"
            }
        }
    }
}

impl Reteno {
    /// What the token URL wants to see. `plan` and `check` do without, so it is asked for where it is needed.
    pub fn credentials(&self) -> Result<Credentials, MissingCredentials> {
        match (&self.client_id, &self.client_secret) {
            (Some(id), Some(secret)) => {
                Ok(Credentials { client_id: id.clone(), client_secret: secret.clone(), client_auth: self.client_auth })
            }
            (None, Some(_)) => Err(MissingCredentials::Id),
            (Some(_), None) => Err(MissingCredentials::Secret),
            (None, None) => Err(MissingCredentials::Both),
        }
    }
}

/// One platform under three names; only the host differs.
const BRANDS: [(&str, &str); 3] = [("reteno", "reteno.com"), ("yespo", "yespo.io"), ("esputnik", "esputnik.com")];

pub(super) fn resolve(reader: &mut Reader, raw: &RawReteno) -> Option<Reteno> {
    let host = reader.choice(raw.brand.as_ref(), &BRANDS, &[]);
    let api_url = address(reader, raw.api_url.as_ref(), host.map(|host| format!("https://{host}/api")));
    let authorize = host.map(|host| format!("https://uaa.{host}/uaa/oauth/authorize"));
    let authorize_url = address(reader, raw.authorize_url.as_ref(), authorize);
    let token_url =
        address(reader, raw.token_url.as_ref(), host.map(|host| format!("https://uaa.{host}/uaa/oauth/token")));
    let client_id = reader.text(raw.client_id.as_ref(), "the app's client id as text").map(str::to_owned);
    let client_secret =
        secret::resolve(reader, &secret::RETENO, raw.client_secret.as_ref(), raw.client_secret_file.as_ref());
    let client_auth = reader.choice(raw.client_auth.as_ref(), &ClientAuth::WORDS, &[]);
    let redirect_url = reader.url(raw.redirect_uri.as_ref());
    let redirect_text = raw.redirect_uri.as_ref().and_then(|leaf| leaf.value.as_str());
    let requests_per_second = reader.whole(raw.requests_per_second.as_ref(), 1..=REQUESTS_PER_SECOND_MAX);
    let dedupe_on = reader.choice(raw.dedupe_on.as_ref(), &DedupeOn::WORDS, &DedupeOn::LATER);
    let restore_deleted = reader.choice(raw.restore_deleted.as_ref(), &RestoreDeleted::WORDS, &[]);
    let full_reads = full_reads(reader, raw, restore_deleted);
    let new_contacts_event = words::event_key(reader, raw.new_contacts_event.as_ref());
    let batch_contacts_max = reader.whole(raw.batch_contacts_max.as_ref(), 1..=BATCH_CONTACTS_MAX);
    let batch_bytes_max = reader.bytes(raw.batch_bytes_max.as_ref(), BATCH_BYTES);
    let posts_in_flight = reader.whole(raw.posts_in_flight.as_ref(), 1..=32);
    let polls = polls(reader, raw);
    let timeouts = timeouts(reader, raw);
    let (restore_in_full_reads, new_contacts_event_in_full_reads) = full_reads?;
    let (import_poll_first, import_poll_max, import_age_max) = polls?;
    let (connect_timeout, read_timeout, request_timeout) = timeouts?;
    Some(Reteno {
        api_url: api_url?,
        authorize_url: authorize_url?,
        token_url: token_url?,
        client_id,
        client_secret,
        client_auth: client_auth?,
        redirect: Redirect { text: redirect_text?.to_owned(), url: redirect_url? },
        requests_per_second: requests_per_second?,
        dedupe_on: dedupe_on?,
        restore_deleted: restore_deleted?,
        restore_in_full_reads,
        new_contacts_event,
        new_contacts_event_in_full_reads,
        batch_contacts_max: usize::try_from(batch_contacts_max?).ok()?,
        batch_bytes_max: batch_bytes_max?,
        posts_in_flight: usize::try_from(posts_in_flight?).ok()?,
        import_age_max,
        import_poll_first,
        import_poll_max,
        connect_timeout,
        read_timeout,
        request_timeout,
    })
}

/// The word of `dedupe_on` alone, for what depends on it while another key of the section is wrong. Tells no problem.
pub(super) fn dedupe_on(raw: &RawReteno) -> Option<DedupeOn> {
    let text = raw.dedupe_on.as_ref()?.value.as_str()?;
    DedupeOn::WORDS.into_iter().find(|(word, _)| *word == text).map(|(_, value)| value)
}

/// The word of `restore_deleted` alone, likewise.
pub(super) fn restore_deleted(raw: &RawReteno) -> Option<RestoreDeleted> {
    let text = raw.restore_deleted.as_ref()?.value.as_str()?;
    RestoreDeleted::WORDS.into_iter().find(|(word, _)| *word == text).map(|(_, value)| value)
}

/// What is asked for a second time: restoring, and the event, also in full reads. Alone it would be a promise that
/// nothing keeps.
fn full_reads(reader: &mut Reader, raw: &RawReteno, restore: Option<RestoreDeleted>) -> Option<(bool, bool)> {
    let restores = reader.flag(raw.restore_deleted_in_full_reads.as_ref());
    let events = reader.flag(raw.new_contacts_event_in_full_reads.as_ref());
    if let (Some(true), Some(leaf), Some(RestoreDeleted::Never | RestoreDeleted::Live)) =
        (restores, &raw.restore_deleted_in_full_reads, restore)
    {
        let accepted = "false, or reteno.restore_deleted = \"always\"";
        reader.refuse::<()>(leaf, "has a meaning with reteno.restore_deleted = \"always\" only", accepted);
    }
    if let (Some(true), Some(leaf), None) = (events, &raw.new_contacts_event_in_full_reads, &raw.new_contacts_event) {
        let accepted = "false, or an event in reteno.new_contacts_event";
        reader.refuse::<()>(leaf, "has a meaning with reteno.new_contacts_event only", accepted);
    }
    Some((restores?, events?))
}

/// The URL of the configuration, or else of the brand; without a slash at its end, since paths are joined to it.
pub(super) fn address(reader: &mut Reader, leaf: Option<&Leaf>, default: Option<String>) -> Option<Url> {
    let mut url = if leaf.is_some() { reader.url(leaf)? } else { Url::parse(&default?).ok()? };
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Some(url)
}

/// First wait, longest wait, greatest age.
fn polls(reader: &mut Reader, raw: &RawReteno) -> Option<(Duration, Duration, Duration)> {
    let first = reader.duration(raw.import_poll_first.as_ref(), Duration::from_millis(100)..=10 * MINUTE);
    let max = reader.duration(raw.import_poll_max.as_ref(), SECOND..=HOUR);
    let age = reader.duration(raw.import_age_max.as_ref(), 10 * MINUTE..=7 * 24 * HOUR);
    let (first, max, age) = (first?, max?, age?);
    in_order(reader, (raw.import_poll_first.as_ref(), first), (raw.import_poll_max.as_ref(), max))?;
    in_order(reader, (raw.import_poll_max.as_ref(), max), (raw.import_age_max.as_ref(), age))?;
    Some((first, max, age))
}

/// Connect, read, whole request.
fn timeouts(reader: &mut Reader, raw: &RawReteno) -> Option<(Duration, Duration, Duration)> {
    let connect = reader.duration(raw.connect_timeout.as_ref(), SECOND..=5 * MINUTE);
    let read = reader.duration(raw.read_timeout.as_ref(), SECOND..=10 * MINUTE);
    let request = reader.duration(raw.request_timeout.as_ref(), SECOND..=30 * MINUTE);
    let (connect, read, request) = (connect?, read?, request?);
    in_order(reader, (raw.connect_timeout.as_ref(), connect), (raw.request_timeout.as_ref(), request))?;
    in_order(reader, (raw.read_timeout.as_ref(), read), (raw.request_timeout.as_ref(), request))?;
    Some((connect, read, request))
}

/// `less` may not exceed `more`; told at the one that the operator set.
fn in_order(reader: &mut Reader, less: (Option<&Leaf>, Duration), more: (Option<&Leaf>, Duration)) -> Option<()> {
    let ((Some(less_leaf), less), (Some(more_leaf), more)) = (less, more) else { return Some(()) };
    if less <= more {
        return Some(());
    }
    let (less, more) = (humantime::format_duration(less), humantime::format_duration(more));
    if reader.is_set(&less_leaf.key) {
        let (what, accepted) = (format!("is longer than {}", more_leaf.key), format!("at most {more}"));
        return reader.refuse(less_leaf, what, accepted);
    }
    let (what, accepted) = (format!("is shorter than {}", less_leaf.key), format!("at least {less}"));
    reader.refuse(more_leaf, what, accepted)
}
