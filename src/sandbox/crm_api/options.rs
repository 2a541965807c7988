//! What a sandbox CRM is told at its start: its app, its limits, its page caps, and how it reads what the vendors'
//! documents leave open. Holds values only, decides nothing.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Everything that can be set about a sandbox CRM.
#[derive(Clone, Debug)]
pub struct CrmOptions {
    /// Decides every person, draw, delay and token.
    pub seed: u64,
    /// The registered app's client id, for all dialects.
    pub client_id: String,
    /// The registered app's client secret; it also signs HubSpot's webhooks.
    pub client_secret: String,
    /// The registered callback URL, compared byte for byte.
    pub redirect_uri: String,
    /// A token that never expires: amoCRM's long-lived one, HubSpot's `pat-…`, Pipedrive's API token.
    pub static_token: String,
    /// How long an access token lives; `None`: as the vendor says (24 h, 30 min, 1 h).
    pub access_token_lifetime: Option<Duration>,
    /// The vendors whose refresh gives a new refresh token and kills the old one.
    pub rotating: Vec<Dialect>,
    /// Whether a refresh kills the access tokens given before.
    pub refresh_kills_access: bool,
    /// What a client may ask for.
    pub rates: Rates,
    /// A page never holds more, whatever `limit` allows: the client sees short pages that are not the last.
    pub page_cap: Option<usize>,
    /// HubSpot's search: results that one query can reach.
    pub search_cap: usize,
    /// HubSpot's search: how long a write takes to be seen by it.
    pub index_lag: Duration,
    /// What the search shows of a write that it has not seen.
    pub late: Late,
    /// amoCRM: whether this account's plan has the API filter. Without it filters are ignored, not refused.
    pub api_filter: bool,
    /// The order of rows that share a moment.
    pub ties: Ties,
    /// Whether some of the invented people are bad rows, as in [`invented_contacts`](crate::sandbox::crm::invented_contacts).
    pub flawed: bool,
    /// amoCRM: whether some people have their whole name in `name`, and no `first_name`.
    pub unsplit_names: bool,
    /// HubSpot: whether asking for a merged person's id gives the survivor, under the survivor's id.
    pub merged_ids_resolve: bool,
    /// amoCRM: whether `filter[updated_at]` leaves out its bounds.
    pub exclusive_bounds: bool,
    /// Whether a restored person counts as changed then. Without it only events tell.
    pub restore_moves_time: bool,
    /// Pipedrive: whether the list of persons holds deleted ones too, with `is_deleted`.
    pub lists_deleted: bool,
    /// Where events go from the start; more with [`CrmSandbox::subscribe`](super::CrmSandbox::subscribe).
    pub webhooks: Vec<CrmWebhook>,
    /// How events travel.
    pub habits: HookHabits,
}

impl Default for CrmOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            client_id: "crm-client".into(),
            client_secret: "crm-secret".into(),
            redirect_uri: "http://127.0.0.1:8400/callback".into(),
            static_token: "crm-static-token".into(),
            access_token_lifetime: None,
            rotating: vec![Dialect::AmoCrm],
            refresh_kills_access: false,
            rates: Rates::default(),
            page_cap: None,
            search_cap: 10_000,
            index_lag: Duration::ZERO,
            late: Late::OldPlace,
            api_filter: true,
            ties: Ties::ById,
            flawed: false,
            unsplit_names: true,
            merged_ids_resolve: true,
            exclusive_bounds: false,
            restore_moves_time: true,
            lists_deleted: false,
            webhooks: Vec::new(),
            habits: HookHabits::default(),
        }
    }
}

/// Whose API it speaks. All are served at once, each below its own paths, and all show the same people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    /// amoCRM and Kommo, API v4: `/api/v4/…`, `/oauth2/access_token`.
    AmoCrm,
    /// HubSpot, CRM v3: `/crm/v3/…`, `/oauth/2026-03/token`.
    HubSpot,
    /// Pipedrive, v2 and what is left of v1: `/api/v2/…`, `/api/v1/…`, `/v1/…`, `/oauth/token`.
    Pipedrive,
}

/// Requests allowed, for all tokens of a vendor together.
#[derive(Clone, Debug)]
pub struct Rates {
    /// amoCRM, in a sliding second.
    pub amocrm_per_second: u32,
    /// amoCRM: `retry_after` of its 429.
    pub amocrm_retry_after: Duration,
    /// amoCRM: so many 429 within a minute, and everything is answered 403 until
    /// [`CrmSandbox::lift_block`](super::CrmSandbox::lift_block).
    pub amocrm_abuse: Option<u32>,
    /// HubSpot's search, in a sliding second.
    pub hubspot_search_per_second: u32,
    /// HubSpot, in sliding ten seconds.
    pub hubspot_per_ten_seconds: u32,
    /// HubSpot, in a day of UTC.
    pub hubspot_per_day: u32,
    /// Pipedrive, in sliding two seconds.
    pub pipedrive_per_two_seconds: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            amocrm_per_second: 7,
            amocrm_retry_after: Duration::from_secs(1),
            amocrm_abuse: None,
            hubspot_search_per_second: 5,
            hubspot_per_ten_seconds: 100,
            hubspot_per_day: 250_000,
            pipedrive_per_two_seconds: 40,
        }
    }
}

impl Rates {
    /// No limit at all: for tests of other things on a clock that stands still.
    #[must_use]
    pub fn unlimited() -> Self {
        let all = u32::MAX;
        Self {
            amocrm_per_second: all,
            hubspot_search_per_second: all,
            hubspot_per_ten_seconds: all,
            hubspot_per_day: all,
            pipedrive_per_two_seconds: all,
            ..Self::default()
        }
    }
}

/// What a search shows of a write that its index has not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// The person as before, at the old place.
    OldPlace,
    /// Not at all.
    Nowhere,
}

/// The order of rows that share a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// By id.
    ById,
    /// Drawn anew for each request, as a database may that was told no second key.
    Drawn,
}

/// Where a vendor sends its events.
#[derive(Clone, PartialEq, Eq)]
pub struct CrmWebhook {
    /// Whose events, in whose form.
    pub dialect: Dialect,
    /// The whole URL.
    pub url: String,
    /// Pipedrive: `http_auth_user` and `http_auth_password`.
    pub basic: Option<(String, String)>,
}

impl std::fmt::Debug for CrmWebhook {
    /// Without the URL, whose path may be a secret, and without the password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CrmWebhook({:?})", self.dialect)
    }
}

/// How events travel. Every draw comes from the seed.
#[derive(Clone, Debug)]
pub struct HookHabits {
    /// From a change to the first attempt. A range makes disorder by itself.
    pub delay: RangeInclusive<Duration>,
    /// One event in so many is sent twice; 0 for none.
    pub duplicate_one_in: u64,
    /// One event in so many is never sent; 0 for none.
    pub lose_one_in: u64,
    /// What is due at one time goes in a drawn order.
    pub disorder: bool,
    /// HubSpot: events in one request at most; the vendor's 100.
    pub batch_max: usize,
    /// Between two attempts, instead of the vendor's ladder: for tests on a clock that cannot be moved. There are as
    /// many attempts as on the ladder.
    pub retry_after: Option<Duration>,
}

impl Default for HookHabits {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO..=Duration::ZERO,
            duplicate_one_in: 0,
            lose_one_in: 0,
            disorder: false,
            batch_max: 100,
            retry_after: None,
        }
    }
}
