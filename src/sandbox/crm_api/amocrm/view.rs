//! How amoCRM shows a contact: the v4 record of its API, and the v2 form of its webhooks.

use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::sandbox::crm_api::options::CrmOptions;
use crate::sandbox::crm_api::outbox::{Event, Payload};
use crate::sandbox::crm_api::people::{Change, CrmPerson, Deed};

/// The account behind everything.
pub(super) const ACCOUNT_ID: u64 = 30_500_001;
pub(super) const SUBDOMAIN: &str = "examplecrm";
/// The one user.
pub(super) const USER_ID: u64 = 504_141;
/// Custom fields of contacts.
pub(super) const PHONE: (u64, &str) = (264_911, "Телефон");
pub(super) const EMAIL: (u64, &str) = (264_913, "Email");
pub(super) const LANGUAGE: (u64, &str) = (271_003, "Мова");
pub(super) const OPT_OUT: (u64, &str) = (271_005, "Не надсилати розсилки");
pub(super) const ADDRESS: (u64, &str) = (271_009, "Адреса");
pub(super) const TIER: (u64, &str) = (271_013, "Рівень");
/// Enums of the two multitext fields: id and code.
const MOBILE: (u64, &str) = (504_517, "MOB");
const WORK_PHONE: (u64, &str) = (504_513, "WORK");
const PRIVATE: (u64, &str) = (504_523, "PRIV");
const WORK_EMAIL: (u64, &str) = (504_521, "WORK");
/// One person in so many has the whole name in `name`.
const UNSPLIT_EVERY: u64 = 7;

/// Seconds, as amoCRM counts.
pub(super) const fn seconds(at: Timestamp) -> i64 {
    at.0.div_euclid(1000)
}

/// A contact as the API gives it; `link` is what its own link ends in.
pub(super) fn contact(person: &CrmPerson, options: &CrmOptions, base: &str, link: &str) -> Value {
    let unsplit = options.unsplit_names && person.id.is_multiple_of(UNSPLIT_EVERY);
    let (first, last) = if unsplit { ("", "") } else { (person.first_name.as_str(), person.last_name.as_str()) };
    let fields = fields(person);
    json!({
        "id": person.id,
        "name": person.name(),
        "first_name": first,
        "last_name": last,
        "responsible_user_id": USER_ID,
        "group_id": 0,
        "created_by": USER_ID,
        "updated_by": USER_ID,
        "created_at": seconds(person.created),
        "updated_at": seconds(person.changed),
        "closest_task_at": null,
        "is_deleted": false,
        "is_unsorted": false,
        "custom_fields_values": if fields.is_empty() { Value::Null } else { Value::Array(fields) },
        "account_id": ACCOUNT_ID,
        "_links": { "self": { "href": format!("{base}/api/v4/contacts/{}{link}", person.id) } },
        "_embedded": { "tags": [], "companies": [] },
    })
}

fn fields(person: &CrmPerson) -> Vec<Value> {
    let field = |(id, name): (u64, &str), code: Option<&str>, kind: &str, values: Vec<Value>| {
        let (id, code) = (json!(id), json!(code));
        (!values.is_empty()).then(
            || json!({"field_id": id, "field_name": name, "field_code": code, "field_type": kind, "values": values}),
        )
    };
    let of_enum = |value: &str, (id, code): (u64, &str)| json!({"value": value, "enum_id": id, "enum_code": code});
    let chosen = |value: &str, id: u64| json!({"value": value, "enum_id": id, "enum_code": null});
    // The one for work stands first where there is one: the first is not always the right one.
    let phones = [(person.other_phone.as_deref(), WORK_PHONE), (filled(&person.phone), MOBILE)];
    let phones = phones.iter().filter_map(|(value, code)| Some(of_enum((*value)?, *code))).collect();
    let emails = [(person.other_email.as_deref(), WORK_EMAIL), (filled(&person.email), PRIVATE)];
    let emails = emails.iter().filter_map(|(value, code)| Some(of_enum((*value)?, *code))).collect();
    let language = filled(&person.language).map(|language| chosen(language, 561_001)).into_iter().collect();
    let opt_out = person.opt_out.map(|value| json!({ "value": value })).into_iter().collect();
    let city = json!({"value": person.town, "enum_id": 3, "enum_code": "city"});
    let address = filled(&person.town).map(|_| city).into_iter().collect();
    let tier = filled(&person.tier).map(|tier| json!({ "value": tier })).into_iter().collect();
    let all = [
        field(PHONE, Some("PHONE"), "multitext", phones),
        field(EMAIL, Some("EMAIL"), "multitext", emails),
        field(LANGUAGE, None, "select", language),
        field(OPT_OUT, None, "checkbox", opt_out),
        field(ADDRESS, None, "smart_address", address),
        field(TIER, None, "text", tier),
    ];
    all.into_iter().flatten().collect()
}

fn filled(value: &str) -> Option<&str> {
    (!value.is_empty()).then_some(value)
}

/// What amoCRM's webhooks tell of a deed. Of a merged contact's end they tell nothing (unconfirmed; the worse reading).
pub(in crate::sandbox::crm_api) fn hook_events(change: &Change) -> Vec<Event> {
    let person = &change.after;
    let (setting, action) = match change.deed {
        Deed::Added => ("add_contact", "add"),
        Deed::Edited | Deed::Merged { .. } => ("update_contact", "update"),
        Deed::Deleted | Deed::Erased if person.merged_into.is_some() => return Vec::new(),
        Deed::Deleted | Deed::Erased => ("delete_contact", "delete"),
        Deed::Restored => ("restore_contact", "restore"),
    };
    let mut form = Form::new(action);
    form.put("[id]", &person.id.to_string());
    if action != "delete" {
        form.put_person(person);
    }
    form.put("[type]", "contact");
    vec![Event { setting, payload: Payload::Form(form.finish()), person: person.id }]
}

/// What the same webhook tells of a company, under `contacts` too.
pub(in crate::sandbox::crm_api) fn company_event(id: u64, name: &str, at: Timestamp) -> Event {
    let mut form = Form::new("update");
    form.put("[id]", &id.to_string());
    form.put("[name]", name);
    form.put("[type]", "company");
    form.put("[updated_at]", &seconds(at).to_string());
    Event { setting: "update_contact", payload: Payload::Form(form.finish()), person: id }
}

/// A body in PHP's brackets, in the order in which the fields are put.
struct Form {
    prefix: String,
    out: url::form_urlencoded::Serializer<'static, String>,
}

impl Form {
    fn new(action: &str) -> Self {
        let prefix = format!("contacts[{action}][0]");
        Self { prefix, out: url::form_urlencoded::Serializer::new(String::new()) }
    }

    fn put(&mut self, name: &str, value: &str) {
        self.out.append_pair(&format!("{}{name}", self.prefix), value);
    }

    /// v2's names, and no first or last name.
    fn put_person(&mut self, person: &CrmPerson) {
        let user = USER_ID.to_string();
        let (created, changed) = (seconds(person.created).to_string(), seconds(person.changed).to_string());
        self.put("[name]", &person.name());
        self.put("[responsible_user_id]", &user);
        self.put("[date_create]", &created);
        self.put("[last_modified]", &changed);
        self.put("[created_user_id]", &user);
        self.put("[modified_user_id]", &user);
        self.put("[account_id]", &ACCOUNT_ID.to_string());
        let multitext = [(PHONE, "PHONE", &person.phone, MOBILE.0), (EMAIL, "EMAIL", &person.email, PRIVATE.0)];
        let filled = multitext.iter().filter(|(_, _, value, _)| !value.is_empty());
        for (place, ((id, name), code, value, of)) in filled.enumerate() {
            let field = format!("[custom_fields][{place}]");
            self.put(&format!("{field}[id]"), &id.to_string());
            self.put(&format!("{field}[name]"), name);
            self.put(&format!("{field}[values][0][value]"), value);
            self.put(&format!("{field}[values][0][enum]"), &of.to_string());
            self.put(&format!("{field}[code]"), code);
        }
        self.put("[created_at]", &created);
        self.put("[updated_at]", &changed);
    }

    fn finish(mut self) -> String {
        self.out.append_pair("account[subdomain]", SUBDOMAIN);
        self.out.append_pair("account[id]", &ACCOUNT_ID.to_string());
        self.out.append_pair("account[_links][self]", &format!("https://{SUBDOMAIN}.amocrm.ru"));
        self.out.finish()
    }
}
