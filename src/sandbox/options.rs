//! What a sandbox is told at its start: its account, its catalogue, its pace, and how it reads what Reteno's documents
//! leave open. Holds values only, decides nothing.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Everything that can be set about a sandbox Reteno.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// Decides every delay, order, id and token.
    pub seed: u64,
    /// The registered app's client id.
    pub client_id: String,
    /// The registered app's client secret.
    pub client_secret: String,
    /// The registered callback URL, compared byte for byte.
    pub redirect_uri: String,
    /// Reteno's default: 172,800 s from creation.
    pub access_token_lifetime: Duration,
    /// Reteno's default: 2,592,000 s from creation.
    pub refresh_token_lifetime: Duration,
    /// How long an authorization code may wait for its exchange.
    pub code_lifetime: Duration,
    /// Whether a replaced refresh token may work once more.
    pub refresh_grace: RefreshGrace,
    /// Whether a refresh kills the access tokens given before.
    pub revoke_on_refresh: bool,
    /// Whether a refresh hands out the still-living access token again, with what is left of its life.
    pub reuse_living_token: bool,
    /// Between the acceptance of an import and its end.
    pub import_delay: RangeInclusive<Duration>,
    /// Over a real socket: how long an answer takes on its way.
    pub answer_delay: Duration,
    /// Requests a token may make in a sliding second; Reteno's limit is 200.
    pub requests_per_second: u32,
    /// A longer body is answered 413.
    pub body_bytes_max: usize,
    /// `organisationName` of `v1/account/info`.
    pub organisation_name: String,
    /// `userEmail` of `v1/account/info`.
    pub user_email: String,
    /// The one catalogue of additional fields.
    pub additional_fields: Vec<AdditionalField>,
    /// What `v1/subscriptions` lists.
    pub subscription_categories: Vec<SubscriptionCategory>,
    /// Static segments by their ids, which only a detach names; every other call has names.
    pub groups: BTreeMap<u64, String>,
    /// How the open points of Reteno's documents are read.
    pub readings: Readings,
    /// Whether [`CallSeen`](super::CallSeen) keeps the bodies of API calls; the bodies of token calls never are.
    pub keep_bodies: bool,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            client_id: "sandbox-client".into(),
            client_secret: "sandbox-secret".into(),
            redirect_uri: "http://127.0.0.1:8400/callback".into(),
            access_token_lifetime: Duration::from_hours(48),
            refresh_token_lifetime: Duration::from_hours(720),
            code_lifetime: Duration::from_mins(10),
            refresh_grace: RefreshGrace::WhenLost,
            revoke_on_refresh: false,
            reuse_living_token: false,
            import_delay: Duration::from_millis(500)..=Duration::from_secs(5),
            answer_delay: Duration::ZERO,
            requests_per_second: 200,
            body_bytes_max: 32 * 1024 * 1024,
            organisation_name: "Sandbox Ltd".into(),
            user_email: "owner@example.com".into(),
            additional_fields: default_fields(),
            subscription_categories: vec![
                SubscriptionCategory { id: 301, key: "news".into(), group_id: 9301, name: "News".into() },
                SubscriptionCategory { id: 302, key: "offers".into(), group_id: 9302, name: "Offers".into() },
            ],
            groups: BTreeMap::from([(9401, "VIP".into()), (9402, "Newsletter".into())]),
            readings: Readings::default(),
            keep_bodies: true,
        }
    }
}

/// Whether a replaced refresh token may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshGrace {
    /// Never: the answer of a refresh must not be lost.
    Never,
    /// Where a fault switch lost the answer that carried its successor, until that successor or the access token
    /// beside it was used.
    WhenLost,
    /// Always, until its successor or the access token beside it was used: for tests that kill the client.
    UntilUsed,
}

/// How the points that Reteno's documents leave open are read. The default is the reading that hurts a careless
/// client most.
#[derive(Clone, Debug)]
pub struct Readings {
    /// What a bad standard or additional value costs.
    pub bad_field: BadField,
    /// Whether an additional field that is listed in `customFieldsIDs` and absent in the contact is nulled.
    pub wipe_listed_additional: bool,
    /// What `dedupeValue` holds for a contact that was sent with an external id.
    pub mapping_value: MappingValue,
    /// Whether a mapping of one pair may come as an object (drawn for each import).
    pub mapping_one_as_object: bool,
    /// Whether `dedupeOn = "id"` finds a contact by its id although it carries an external id, and so renames it.
    pub rename_by_id: bool,
    /// Whether a single call wipes the standard fields that it leaves out.
    pub single_wipes_absent: bool,
    /// Whether a batch whose contacts all failed still gets an `asyncSessionId`.
    pub session_when_all_fail: bool,
    /// Whether a contact that is made, or given another address, takes that address off the list of unsubscribed ones.
    pub create_resubscribes: bool,
}

impl Default for Readings {
    fn default() -> Self {
        Self {
            bad_field: BadField::FailsContact,
            wipe_listed_additional: true,
            mapping_value: MappingValue::ExternalId,
            mapping_one_as_object: true,
            rename_by_id: false,
            single_wipes_absent: false,
            session_when_all_fail: true,
            // the one reading that is not the worst: no document hints at it
            create_resubscribes: false,
        }
    }
}

/// What a bad value costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadField {
    /// The whole contact, which is then among `failedContacts`.
    FailsContact,
    /// The field, silently: what the contact held stays.
    DropsField,
}

/// What `mapping[].dedupeValue` holds for contacts sent with an external id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MappingValue {
    /// That external id.
    ExternalId,
    /// The value of the `dedupeOn` property in its stored form.
    DedupeOn,
}

/// One additional field of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdditionalField {
    /// Reteno's numeric id.
    pub id: i32,
    /// The label that people see.
    pub name: String,
    /// The key of the group of fields, upper case.
    pub profile_key: String,
    /// The key within the group, upper case.
    pub field_key: String,
    /// What its values may be.
    pub kind: FieldKind,
}

impl AdditionalField {
    /// A field with a text label taken from its key.
    #[must_use]
    pub fn new(id: i32, profile_key: &str, field_key: &str, kind: FieldKind) -> Self {
        let name = field_key.to_lowercase().replace('_', " ");
        Self { id, name, profile_key: profile_key.into(), field_key: field_key.into(), kind }
    }
}

/// The types of additional fields, as `FieldDescription.type` names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// At most 1,000 characters.
    TextField,
    /// At most 5,000 characters.
    TextArea,
    /// A whole number in 32 bits, within the bounds where there are some.
    Number {
        /// Least and greatest value.
        bounds: Option<(i32, i32)>,
    },
    /// A decimal number.
    Decimal,
    /// `yyyy-MM-dd`.
    Date,
    /// `yyyy-MM-ddTHH:mm`.
    DateTime,
    /// One of these.
    ComboBox(Vec<String>),
    /// Several of these, comma-separated.
    CheckBoxList(Vec<String>),
    /// Any words, comma-separated.
    Tags,
}

/// One row of `v1/subscriptions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionCategory {
    /// Its id.
    pub id: i32,
    /// Its key, which calls carry.
    pub key: String,
    /// The segment behind it.
    pub group_id: i64,
    /// What people see.
    pub name: String,
}

fn default_fields() -> Vec<AdditionalField> {
    let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    vec![
        AdditionalField::new(87166, "PERSONAL", "TIER", FieldKind::TextField),
        AdditionalField::new(87167, "PERSONAL", "NOTES", FieldKind::TextArea),
        AdditionalField::new(87168, "PERSONAL", "BIRTHDAY", FieldKind::Date),
        AdditionalField::new(87169, "PERSONAL", "PLAN", FieldKind::ComboBox(words(&["free", "silver", "gold"]))),
        AdditionalField::new(
            87170,
            "PERSONAL",
            "INTERESTS",
            FieldKind::CheckBoxList(words(&["books", "music", "sport", "travel"])),
        ),
        AdditionalField::new(87171, "ORDERS", "COUNT", FieldKind::Number { bounds: None }),
        AdditionalField::new(87172, "ORDERS", "TOTAL", FieldKind::Decimal),
        AdditionalField::new(87173, "ORDERS", "LAST_ORDER", FieldKind::DateTime),
        AdditionalField::new(87174, "ORDERS", "RATING", FieldKind::Number { bounds: Some((1, 5)) }),
        AdditionalField::new(87175, "LABELS", "TAGS", FieldKind::Tags),
    ]
}
