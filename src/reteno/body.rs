//! The bodies of the calls that write contacts. Equal arguments give equal bytes: a repeat must be byte for byte.
//!
//! A field that nobody wanted written must never be listed: Reteno sets a listed field without a value to null. And
//! no JSON null may stand anywhere: it can fail the whole request.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::Serialize;

use crate::contact::{Field, Wanted};

/// The most contacts that one `POST v1/contacts` may carry (Reteno's limit).
pub const BATCH_CONTACTS_MAX: usize = 3000;

/// By what Reteno finds a contact whose `externalCustomerId` it does not know, or that carries none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DedupeOn {
    /// E-mail address.
    Email,
    /// Phone.
    Sms,
    /// E-mail address, then phone.
    EmailOrSms,
    /// Reteno's id.
    Id,
    /// `externalCustomerId`.
    ExternalCustomerId,
}

impl DedupeOn {
    /// Reteno's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
            Self::EmailOrSms => "email_or_sms",
            Self::Id => "id",
            Self::ExternalCustomerId => "externalCustomerId",
        }
    }
}

/// One contact of a bulk request.
#[derive(Clone, Copy, Debug)]
pub struct BulkContact<'a> {
    /// Reteno's id: with [`DedupeOn::Id`] only.
    pub id: Option<i64>,
    /// What is known of the contact, each field once: all masked fields, and the ids and channels it has.
    pub fields: &'a [(Field, Wanted)],
}

/// One `POST v1/contacts`.
#[derive(Clone, Copy, Debug)]
pub struct BulkRequest<'a> {
    /// 1 to [`BATCH_CONTACTS_MAX`] contacts, all due in exactly the fields of `mask`.
    pub contacts: &'a [BulkContact<'a>],
    /// How Reteno finds them.
    pub dedupe_on: DedupeOn,
    /// The due fields: only these are written.
    pub mask: &'a [Field],
    /// Whether contacts that were deleted in Reteno come back.
    pub restore_deleted: bool,
    /// Static segments that the contacts enter.
    pub group_names: &'a [String],
    /// Static segments that the contacts leave.
    pub group_names_exclude: &'a [String],
    /// The key of the event that Reteno makes for each new contact. A repeat may make the event twice.
    pub event_key_for_new_contacts: Option<&'a str>,
}

/// Why a body cannot be built without risking what Reteno holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// None, or more than [`BATCH_CONTACTS_MAX`].
    #[error("build a bulk request of {0} contacts: it takes 1 to {BATCH_CONTACTS_MAX}")]
    ContactCount(usize),
    /// A contact says nothing of a masked field: Reteno would wipe it.
    #[error("build a bulk request: a contact says nothing of the due field {0}")]
    MissingField(Field),
    /// Only additional fields are due and the contacts have no field in common that could be listed beside them; the
    /// batch must be split by [`anchor`].
    #[error("build a bulk request: no standard field is due, and no id or channel is common to all contacts")]
    NoAnchor,
    /// Dedupe by Reteno's id, and a contact without one.
    #[error("build a bulk request that finds contacts by reteno's id: a contact has none")]
    MissingId,
}

/// The first of external id, e-mail and phone that a contact has: what is listed in `contactFields` where no
/// standard field is due. `contactFields` must not be absent (then *all* standard fields are written, and nulled),
/// an empty list might be taken for absent, and writing the value that the contact carries anyway changes nothing.
#[must_use]
pub fn anchor(contact: &BulkContact<'_>) -> Option<Field> {
    [Field::ExternalCustomerId, Field::Email, Field::Sms].into_iter().find(|field| value_of(contact, *field).is_some())
}

/// The body of `POST v1/contacts`.
///
/// A contact carries the masked fields, and always its external id and channels where it has them: by them it is
/// found, and refused without them. Cleared standard fields are listed and left out (Reteno nulls them); cleared
/// additional fields are sent as `""`, because only for standard fields does Reteno say that it nulls.
pub fn bulk_body(request: &BulkRequest<'_>) -> Result<Bytes, BodyError> {
    let count = request.contacts.len();
    if count == 0 || count > BATCH_CONTACTS_MAX {
        return Err(BodyError::ContactCount(count));
    }
    let mask: BTreeSet<Field> = request.mask.iter().copied().collect();
    let mut contacts = Vec::with_capacity(count);
    for contact in request.contacts {
        contacts.push(bulk_contact(contact, &mask, request.dedupe_on)?);
    }
    let mut contact_fields: Vec<&str> = mask.iter().filter_map(|field| field.standard_name()).collect();
    if contact_fields.is_empty() {
        let anchor = common_anchor(request.contacts).ok_or(BodyError::NoAnchor)?;
        contact_fields.extend(anchor.standard_name());
    }
    Ok(to_bytes(&WireBulk {
        contacts,
        dedupe_on: request.dedupe_on.name(),
        contact_fields,
        custom_fields_ids: mask.iter().filter_map(|field| additional_id(*field)).collect(),
        group_names: request.group_names,
        group_names_exclude: request.group_names_exclude,
        restore_deleted: request.restore_deleted,
        event_key_for_new_contacts: request.event_key_for_new_contacts,
    }))
}

/// The body of `POST v1/contact` and `PUT v1/contact/{id}`: all mapped fields, `""` for cleared ones, since Reteno
/// does not say what it does with absent ones. A cleared channel is left out: an empty one is refused, so a single
/// call cannot take a channel away.
#[must_use]
pub fn contact_body(fields: &[(Field, Wanted)]) -> Bytes {
    to_bytes(&wire_contact(None, &shown_in_single(fields)))
}

/// What a single call says of each field.
pub(super) fn shown_in_single(fields: &[(Field, Wanted)]) -> BTreeMap<Field, &str> {
    let shown = fields.iter().filter_map(|(field, wanted)| match (wanted, field) {
        (Wanted::Value(value), _) => Some((*field, value.expose())),
        (Wanted::Clear, Field::Email | Field::Sms) => None,
        (Wanted::Clear, _) => Some((*field, "")),
    });
    shown.collect()
}

/// The most bytes that a contact adds to the `contacts` of a bulk body, whatever is due: to split batches by size
/// before they are built.
#[must_use]
pub fn estimated_bytes(contact: &BulkContact<'_>) -> usize {
    // {"id":-9223372036854775808,"channels":[],"address":{},"fields":[]}, with its comma: 67 bytes.
    const FRAME: usize = 72;
    // {"type":"email","value":"+"}, and {"id":4294967295,"value":""}, are the longest frames of a list's element.
    const ELEMENT: usize = 32;
    contact.fields.iter().fold(FRAME, |sum, (field, wanted)| {
        let value = match wanted {
            Wanted::Value(value) => escaped_bytes(value.expose()),
            Wanted::Clear => 0,
        };
        // "name":"value", with its comma.
        let frame = field.standard_name().map_or(0, |name| name.len() + 6).max(ELEMENT);
        sum.saturating_add(frame).saturating_add(value)
    })
}

fn escaped_bytes(value: &str) -> usize {
    let byte_cost = |byte: u8| match byte {
        0..=0x1f => 6,
        b'"' | b'\\' => 2,
        0x20..=0xff => 1,
    };
    value.bytes().map(byte_cost).sum()
}

fn bulk_contact<'a>(
    contact: &BulkContact<'a>,
    mask: &BTreeSet<Field>,
    dedupe_on: DedupeOn,
) -> Result<WireContact<'a>, BodyError> {
    let by_id = dedupe_on == DedupeOn::Id;
    if by_id && contact.id.is_none() {
        return Err(BodyError::MissingId);
    }
    let known: BTreeMap<Field, &Wanted> = contact.fields.iter().map(|(field, wanted)| (*field, wanted)).collect();
    if let Some(missing) = mask.iter().find(|field| !known.contains_key(field)) {
        return Err(BodyError::MissingField(*missing));
    }
    let shown = known.into_iter().filter_map(|(field, wanted)| {
        let identifies = matches!(field, Field::ExternalCustomerId | Field::Email | Field::Sms);
        match wanted {
            Wanted::Value(value) if identifies || mask.contains(&field) => Some((field, value.expose())),
            Wanted::Clear if mask.contains(&field) && additional_id(field).is_some() => Some((field, "")),
            Wanted::Value(_) | Wanted::Clear => None,
        }
    });
    Ok(wire_contact(contact.id.filter(|_| by_id), &shown.collect()))
}

fn common_anchor(contacts: &[BulkContact<'_>]) -> Option<Field> {
    let all_have = |field: &Field| contacts.iter().all(|contact| value_of(contact, *field).is_some());
    [Field::ExternalCustomerId, Field::Email, Field::Sms].into_iter().find(all_have)
}

fn value_of<'a>(contact: &BulkContact<'a>, field: Field) -> Option<&'a str> {
    contact.fields.iter().find(|(known, _)| *known == field).and_then(|(_, wanted)| match wanted {
        Wanted::Value(value) => Some(value.expose()),
        Wanted::Clear => None,
    })
}

const fn additional_id(field: Field) -> Option<u32> {
    match field {
        Field::Additional(id) => Some(id),
        Field::ExternalCustomerId
        | Field::Email
        | Field::Sms
        | Field::FirstName
        | Field::LastName
        | Field::Address
        | Field::Town
        | Field::Region
        | Field::Postcode
        | Field::LanguageCode
        | Field::TimeZone
        | Field::ContactKey
        | Field::Subscriptions
        | Field::Segment(_) => None,
    }
}

pub(super) fn wire_contact<'a>(id: Option<i64>, shown: &BTreeMap<Field, &'a str>) -> WireContact<'a> {
    let get = |field: Field| shown.get(&field).copied();
    let channel = |field: Field, kind: &'static str| {
        get(field).map(|value| WireChannel {
            kind,
            value: if field == Field::Sms { international(value) } else { value.into() },
        })
    };
    let address = WireAddress {
        address: get(Field::Address),
        town: get(Field::Town),
        region: get(Field::Region),
        postcode: get(Field::Postcode),
    };
    let fields = shown.iter().filter_map(|(field, value)| additional_id(*field).map(|id| WireField { id, value }));
    WireContact {
        id,
        external_customer_id: get(Field::ExternalCustomerId),
        contact_key: get(Field::ContactKey),
        first_name: get(Field::FirstName),
        last_name: get(Field::LastName),
        channels: channel(Field::Email, "email").into_iter().chain(channel(Field::Sms, "sms")).collect(),
        address: (!address.is_empty()).then_some(address),
        language_code: get(Field::LanguageCode),
        time_zone: get(Field::TimeZone),
        fields: fields.collect(),
    }
}

/// Reteno wants a phone in international form, digits after a plus sign. The canonical form is that already; one
/// without the sign (as Reteno itself stores it) gets it.
fn international(phone: &str) -> std::borrow::Cow<'_, str> {
    if phone.starts_with('+') { phone.into() } else { format!("+{phone}").into() }
}

pub(super) fn to_bytes(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("text, numbers and lists with text keys always become JSON").into()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireBulk<'a> {
    contacts: Vec<WireContact<'a>>,
    dedupe_on: &'static str,
    contact_fields: Vec<&'static str>,
    #[serde(rename = "customFieldsIDs", skip_serializing_if = "Vec::is_empty")]
    custom_fields_ids: Vec<u32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    group_names: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    group_names_exclude: &'a [String],
    restore_deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_key_for_new_contacts: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireContact<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_customer_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contact_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_name: Option<&'a str>,
    // Always there, also empty: a contact without the key may fail the whole request.
    channels: Vec<WireChannel<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<WireAddress<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    language_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<WireField<'a>>,
}

#[derive(Serialize)]
struct WireChannel<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    value: std::borrow::Cow<'a, str>,
}

#[derive(Serialize)]
struct WireAddress<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    town: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    postcode: Option<&'a str>,
}

impl WireAddress<'_> {
    fn is_empty(&self) -> bool {
        let Self { address, town, region, postcode } = self;
        [address, town, region, postcode].into_iter().all(Option::is_none)
    }
}

#[derive(Serialize)]
struct WireField<'a> {
    id: u32,
    value: &'a str,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::contact::Personal;

    fn value(field: Field, text: &str) -> (Field, Wanted) {
        (field, Wanted::Value(Personal::new(text)))
    }

    fn contact(fields: &[(Field, Wanted)]) -> BulkContact<'_> {
        BulkContact { id: None, fields }
    }

    fn request<'a>(contacts: &'a [BulkContact<'a>], mask: &'a [Field]) -> BulkRequest<'a> {
        BulkRequest {
            contacts,
            dedupe_on: DedupeOn::ExternalCustomerId,
            mask,
            restore_deleted: false,
            group_names: &[],
            group_names_exclude: &[],
            event_key_for_new_contacts: None,
        }
    }

    fn json_of(body: &Bytes) -> Value {
        serde_json::from_slice(body).expect("JSON")
    }

    #[test]
    fn a_bulk_body_carries_and_lists_just_what_is_due() {
        let fields = [
            value(Field::ExternalCustomerId, "c-1"),
            value(Field::Email, "jane@example.com"),
            value(Field::Sms, "380955547708"),
            value(Field::FirstName, "Jane"),
            (Field::LastName, Wanted::Clear),
            value(Field::Town, "Київ"),
            value(Field::LanguageCode, "uk"), // known, but not due
            value(Field::Additional(9), "gold"),
            (Field::Additional(7), Wanted::Clear),
        ];
        let contacts = [contact(&fields)];
        let mask = [
            Field::Additional(9),
            Field::Additional(7),
            Field::Town,
            Field::LastName,
            Field::FirstName,
            Field::FirstName,
        ];
        let mut request = request(&contacts, &mask);
        let (enters, leaves) = (["A".to_owned()], ["B".to_owned()]);
        (request.group_names, request.group_names_exclude, request.restore_deleted) = (&enters, &leaves, true);
        request.event_key_for_new_contacts = Some("newContact");
        let body = bulk_body(&request).expect("a body");
        assert_eq!(
            json_of(&body),
            json!({
                "contacts": [{
                    "externalCustomerId": "c-1",
                    "firstName": "Jane",
                    "channels": [
                        {"type": "email", "value": "jane@example.com"},
                        {"type": "sms", "value": "+380955547708"},
                    ],
                    "address": {"town": "Київ"},
                    "fields": [{"id": 7, "value": ""}, {"id": 9, "value": "gold"}],
                }],
                "dedupeOn": "externalCustomerId",
                "contactFields": ["firstName", "lastName", "town"],
                "customFieldsIDs": [7, 9],
                "groupNames": ["A"],
                "groupNamesExclude": ["B"],
                "restoreDeleted": true,
                "eventKeyForNewContacts": "newContact",
            })
        );
        assert!(!String::from_utf8_lossy(&body).contains("null"));
    }

    #[test]
    fn equal_requests_are_equal_bytes_whatever_the_order_of_fields() {
        let one = [value(Field::ExternalCustomerId, "1"), value(Field::Additional(4), "x"), value(Field::Town, "T")];
        let mut two = one.clone();
        two.reverse();
        let bytes = |fields: &[(Field, Wanted)], mask: &[Field]| bulk_body(&request(&[contact(fields)], mask));
        let expected = r#"{"contacts":[{"externalCustomerId":"1","channels":[],"address":{"town":"T"},"fields":[{"id":4,"value":"x"}]}],"dedupeOn":"externalCustomerId","contactFields":["town"],"customFieldsIDs":[4],"restoreDeleted":false}"#;
        assert_eq!(bytes(&one, &[Field::Town, Field::Additional(4)]).expect("a body"), expected);
        assert_eq!(bytes(&two, &[Field::Additional(4), Field::Town]).expect("a body"), expected);
    }

    #[test]
    fn contact_fields_is_never_absent_or_empty_or_a_field_that_a_contact_lacks() {
        let extra = value(Field::Additional(4), "x");
        let with_id = [value(Field::ExternalCustomerId, "1"), value(Field::Email, "a@b.example"), extra.clone()];
        let with_email =
            [(Field::ExternalCustomerId, Wanted::Clear), value(Field::Email, "c@d.example"), extra.clone()];
        let with_phone = [value(Field::Sms, "+1"), extra];
        let listed = |contacts: &[BulkContact<'_>]| {
            bulk_body(&request(contacts, &[Field::Additional(4)])).map(|body| json_of(&body)["contactFields"].clone())
        };
        assert_eq!(listed(&[contact(&with_id)]), Ok(json!(["externalCustomerId"])));
        assert_eq!(listed(&[contact(&with_id), contact(&with_email)]), Ok(json!(["email"])));
        assert_eq!(listed(&[contact(&with_phone)]), Ok(json!(["sms"])));
        assert_eq!(listed(&[contact(&with_id), contact(&with_phone)]), Err(BodyError::NoAnchor));
        assert_eq!(anchor(&contact(&with_id)), Some(Field::ExternalCustomerId));
        assert_eq!(anchor(&contact(&with_email)), Some(Field::Email));
        assert_eq!(anchor(&contact(&with_phone)), Some(Field::Sms));
        assert_eq!(anchor(&contact(&[])), None);
    }

    #[test]
    fn a_due_field_that_a_contact_does_not_speak_of_is_refused_not_wiped() {
        let speaks = [value(Field::ExternalCustomerId, "1"), value(Field::Town, "T")];
        let silent = [value(Field::ExternalCustomerId, "2")];
        let contacts = [contact(&speaks), contact(&silent)];
        assert_eq!(bulk_body(&request(&contacts, &[Field::Town])), Err(BodyError::MissingField(Field::Town)));
    }

    #[test]
    fn segments_and_subscriptions_stand_in_no_contact_and_no_list_of_fields() {
        let vip = Field::segment("VIP");
        let fields = [
            value(Field::ExternalCustomerId, "1"),
            value(Field::Email, "a@b.example"),
            value(Field::Subscriptions, "news,offers"),
            value(vip, crate::contact::MEMBER),
            (Field::segment("Old"), Wanted::Clear),
        ];
        let contacts = [contact(&fields)];
        let mask = [vip, Field::segment("Old"), Field::Subscriptions];
        let enters = ["VIP".to_owned()];
        let bulk = BulkRequest { group_names: &enters, ..request(&contacts, &mask) };
        let channels = json!([{"type": "email", "value": "a@b.example"}]);
        assert_eq!(
            json_of(&bulk_body(&bulk).expect("a body")),
            json!({
                "contacts": [{"externalCustomerId": "1", "channels": channels}],
                "dedupeOn": "externalCustomerId",
                "contactFields": ["externalCustomerId"],
                "groupNames": ["VIP"],
                "restoreDeleted": false,
            })
        );
        let single = json!({"externalCustomerId": "1", "channels": channels});
        assert_eq!(json_of(&contact_body(&fields)), single);
    }

    #[test]
    fn a_cleared_channel_is_listed_and_left_out() {
        let fields = [value(Field::ExternalCustomerId, "1"), (Field::Email, Wanted::Clear), value(Field::Sms, "+1")];
        let body = json_of(&bulk_body(&request(&[contact(&fields)], &[Field::Email])).expect("a body"));
        assert_eq!(body["contactFields"], json!(["email"]));
        assert_eq!(body["contacts"][0]["channels"], json!([{"type": "sms", "value": "+1"}]));
    }

    #[test]
    fn the_number_of_contacts_is_held_to_the_limit() {
        let fields = [value(Field::ExternalCustomerId, "1")];
        let build = |count| bulk_body(&request(&vec![contact(&fields); count], &[Field::ExternalCustomerId]));
        assert_eq!(build(0), Err(BodyError::ContactCount(0)));
        assert!(build(3000).is_ok());
        assert_eq!(build(3001), Err(BodyError::ContactCount(3001)));
    }

    #[test]
    fn the_id_of_reteno_goes_only_where_contacts_are_found_by_it() {
        let fields = [value(Field::ExternalCustomerId, "1")];
        let known = [BulkContact { id: Some(5), fields: &fields }];
        let mut bulk = request(&known, &[Field::ExternalCustomerId]);
        assert_eq!(json_of(&bulk_body(&bulk).expect("a body"))["contacts"][0].get("id"), None);
        bulk.dedupe_on = DedupeOn::Id;
        assert_eq!(json_of(&bulk_body(&bulk).expect("a body"))["contacts"][0]["id"], json!(5));
        let unknown = [contact(&fields)];
        bulk.contacts = &unknown;
        assert_eq!(bulk_body(&bulk), Err(BodyError::MissingId));
    }

    #[test]
    fn a_single_body_carries_all_fields_and_empty_text_for_cleared_ones() {
        let fields = [
            value(Field::ExternalCustomerId, "c-1"),
            (Field::Email, Wanted::Clear),
            value(Field::Sms, "+380955547708"),
            (Field::FirstName, Wanted::Clear),
            (Field::Town, Wanted::Clear),
            value(Field::TimeZone, "Europe/Kyiv"),
            (Field::Additional(7), Wanted::Clear),
        ];
        assert_eq!(
            json_of(&contact_body(&fields)),
            json!({
                "externalCustomerId": "c-1",
                "firstName": "",
                "channels": [{"type": "sms", "value": "+380955547708"}],
                "address": {"town": ""},
                "timeZone": "Europe/Kyiv",
                "fields": [{"id": 7, "value": ""}],
            })
        );
        assert_eq!(json_of(&contact_body(&[])), json!({"channels": []}));
    }

    #[test]
    fn the_estimate_counts_what_json_makes_longer() {
        for char in ['"', '\\', '\u{1}', '\n', 'ї', 'a'] {
            let fields = [value(Field::Town, &char.to_string().repeat(10_000))];
            let body = bulk_body(&request(&[contact(&fields)], &[Field::Town]));
            let whole = body.expect("a body").len();
            let estimate = estimated_bytes(&contact(&fields));
            // The rest of the body is less than a hundred bytes.
            assert!(whole <= estimate + 100, "{char:?}: {whole} > {estimate}");
        }
    }

    fn any_field() -> impl Strategy<Value = Field> {
        prop_oneof![proptest::sample::select(Field::STANDARD.to_vec()), any::<u32>().prop_map(Field::Additional)]
    }

    fn any_wanted() -> impl Strategy<Value = Wanted> {
        // Control characters and quotes too: JSON makes them longer.
        let char = prop_oneof![any::<char>(), proptest::char::range('\0', '"'), Just('\\')];
        let text = proptest::collection::vec(char, 0..30).prop_map(String::from_iter);
        prop_oneof![Just(Wanted::Clear), text.prop_map(|text| Wanted::Value(Personal::new(text)))]
    }

    proptest! {
        #[test]
        fn the_estimate_is_never_too_small_and_seldom_much_too_large(
            fields in proptest::collection::btree_map(any_field(), any_wanted(), 1..20),
            id in any::<i64>(),
        ) {
            let fields: Vec<_> = fields.into_iter().collect();
            let mask: Vec<Field> = fields.iter().map(|(field, _)| *field).chain([Field::Town]).collect();
            let mut fields = fields;
            if !fields.iter().any(|(field, _)| *field == Field::Town) {
                fields.push((Field::Town, Wanted::Clear));
            }
            let one = [BulkContact { id: Some(id), fields: &fields }];
            let two = [one[0], one[0]];
            let length = |contacts: &[BulkContact<'_>]| {
                let request = BulkRequest { dedupe_on: DedupeOn::Id, ..request(contacts, &mask) };
                bulk_body(&request).expect("a body").len()
            };
            let added = length(&two) - length(&one);
            let estimate = estimated_bytes(&one[0]);
            prop_assert!(added <= estimate, "{added} > {estimate}");
            // A cleared or short field is estimated by its frame at most.
            prop_assert!(estimate <= 6 * added + 72 + 40 * fields.len());
        }
    }
}
