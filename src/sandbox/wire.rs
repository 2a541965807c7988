//! The bodies of contact calls as Reteno's schemas describe them, read strictly: an unknown key, a wrong type, a
//! missing required key or a JSON null anywhere fails the whole body.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Schema `ContactsBulkUpdate`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct BulkUpdate {
    pub(super) contacts: Vec<WireContact>,
    pub(super) dedupe_on: DedupeOn,
    #[serde(default, deserialize_with = "present")]
    pub(super) field_id: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    pub(super) contact_fields: Option<Vec<StandardField>>,
    #[serde(default, rename = "customFieldsIDs", deserialize_with = "present")]
    pub(super) custom_fields_ids: Option<Vec<i32>>,
    #[serde(default)]
    pub(super) group_names: Vec<String>,
    #[serde(default)]
    pub(super) group_names_exclude: Vec<String>,
    #[serde(default)]
    pub(super) restore_deleted: bool,
    #[serde(default, deserialize_with = "present")]
    pub(super) event_key_for_new_contacts: Option<String>,
}

/// `dedupeOn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum DedupeOn {
    #[serde(rename = "email")]
    Email,
    #[serde(rename = "sms")]
    Sms,
    #[serde(rename = "push")]
    Push,
    #[serde(rename = "webpush")]
    WebPush,
    #[serde(rename = "email_or_sms")]
    EmailOrSms,
    #[serde(rename = "id")]
    Id,
    #[serde(rename = "externalCustomerId")]
    ExternalCustomerId,
    #[serde(rename = "fieldId")]
    FieldId,
}

/// A name that `contactFields` may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum StandardField {
    FirstName,
    LastName,
    Email,
    Sms,
    Mobilepush,
    Webpush,
    Address,
    Town,
    Region,
    Postcode,
    LanguageCode,
    TimeZone,
    ContactKey,
    ExternalCustomerId,
    OrdersInfo,
}

impl StandardField {
    pub(super) const ALL: [Self; 15] = [
        Self::FirstName,
        Self::LastName,
        Self::Email,
        Self::Sms,
        Self::Mobilepush,
        Self::Webpush,
        Self::Address,
        Self::Town,
        Self::Region,
        Self::Postcode,
        Self::LanguageCode,
        Self::TimeZone,
        Self::ContactKey,
        Self::ExternalCustomerId,
        Self::OrdersInfo,
    ];

    /// The name in `contactFields`, which is also the key under which the sandbox stores the value.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::FirstName => "firstName",
            Self::LastName => "lastName",
            Self::Email => "email",
            Self::Sms => "sms",
            Self::Mobilepush => "mobilepush",
            Self::Webpush => "webpush",
            Self::Address => "address",
            Self::Town => "town",
            Self::Region => "region",
            Self::Postcode => "postcode",
            Self::LanguageCode => "languageCode",
            Self::TimeZone => "timeZone",
            Self::ContactKey => "contactKey",
            Self::ExternalCustomerId => "externalCustomerId",
            Self::OrdersInfo => "ordersInfo",
        }
    }
}

/// Schemas `Contact` and `ContactUpdate`; both must carry `channels` (the second by its words, not its schema).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct WireContact {
    pub(super) channels: Vec<Channel>,
    #[serde(default, deserialize_with = "present")]
    pub(super) first_name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) last_name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) address: Option<Address>,
    #[serde(default, deserialize_with = "present")]
    pub(super) fields: Option<Vec<FieldValue>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) address_book_id: Option<i32>,
    #[serde(default, deserialize_with = "present")]
    pub(super) id: Option<i64>,
    #[serde(default, deserialize_with = "present")]
    pub(super) external_customer_id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) contact_key: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) language_code: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) time_zone: Option<String>,
}

/// Schema `FailedContact`: the contact as it was sent, without its external id, and why it was refused.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FailedContact<'a> {
    pub(super) channels: &'a [Channel],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<&'a Address>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) fields: Option<&'a [FieldValue]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) address_book_id: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) contact_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) language_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) time_zone: Option<&'a str>,
    pub(super) error: &'a str,
}

impl<'a> FailedContact<'a> {
    pub(super) fn of(contact: &'a WireContact, error: &'a str) -> Self {
        Self {
            channels: &contact.channels,
            first_name: contact.first_name.as_deref(),
            last_name: contact.last_name.as_deref(),
            address: contact.address.as_ref(),
            fields: contact.fields.as_deref(),
            address_book_id: contact.address_book_id,
            id: contact.id,
            contact_key: contact.contact_key.as_deref(),
            language_code: contact.language_code.as_deref(),
            time_zone: contact.time_zone.as_deref(),
            error,
        }
    }
}

/// Schema `Channel`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Channel {
    #[serde(rename = "type")]
    pub(super) kind: ChannelKind,
    pub(super) value: String,
    #[serde(default, deserialize_with = "present_object", skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<Map<String, Value>>,
    #[serde(default, deserialize_with = "present_object", skip_serializing_if = "Option::is_none")]
    pub(super) web_push_subscription: Option<Map<String, Value>>,
}

/// `Channel.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ChannelKind {
    Email,
    Sms,
    Viber,
    Mobilepush,
    Webpush,
    Appinbox,
    Widget,
    Inapp,
}

/// Schema `Address`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Address {
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(super) region: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(super) town: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[expect(clippy::struct_field_names, reason = "the schema's own name")]
    pub(super) address: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub(super) postcode: Option<String>,
}

/// Schema `ContactField`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FieldValue {
    pub(super) id: i32,
    pub(super) value: String,
}

/// Schema `UnsubscribeParamsDto`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Emails {
    pub(super) emails: Vec<String>,
}

/// Schema `ModifyContactsInGroup`: neither key is required.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ModifyContacts {
    #[serde(default, deserialize_with = "present")]
    pub(super) contact_ids: Option<Vec<i64>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) external_customer_ids: Option<Vec<String>>,
}

/// Schema `ContactSubscriptionCategoryUpsertRequest`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscriptions {
    pub(super) subscriptions: Vec<String>,
}

/// Schema `SubscribeContact`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct SubscribeContact {
    pub(super) contact: WireContact,
    #[serde(default)]
    pub(super) groups: Vec<String>,
    #[serde(default)]
    pub(super) subscriptions: Vec<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) form_type: Option<String>,
}

/// Schema `FileContactsBulkUpdate`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FileUpdate {
    pub(super) link: String,
    pub(super) dedupe_on: DedupeOn,
    #[serde(default)]
    pub(super) group_names: Vec<String>,
    #[serde(default)]
    pub(super) group_names_exclude: Vec<String>,
    #[serde(default)]
    pub(super) restore_deleted: bool,
    #[serde(default, deserialize_with = "present")]
    pub(super) event_key_for_new_contacts: Option<String>,
}

/// A key that is there must hold a value: null is refused.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

fn present_object<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Map<String, Value>>, D::Error> {
    let map = Map::deserialize(from)?;
    if map.values().any(Value::is_null) {
        return Err(serde::de::Error::custom("null is not allowed"));
    }
    Ok(Some(map))
}
