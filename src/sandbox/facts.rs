//! The calls that only tell: versions, account, catalogue of additional fields, subscription categories.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::options::{AdditionalField, FieldKind, SandboxOptions};
use super::reply::{Reply, ok, one_or_many};

/// The id of the one catalogue.
pub(super) const ADDRESS_BOOK_ID: i32 = 7200;

/// `GET v1/version`, `GET v2/version`: their fields are in no schema.
pub(super) fn version() -> Reply {
    ok(&json!({ "version": "sandbox", "protocolVersion": "v1" }))
}

/// `GET v1/account/info`.
pub(super) fn account_info(options: &SandboxOptions) -> Reply {
    ok(&json!({ "userEmail": options.user_email, "organisationName": options.organisation_name }))
}

/// `GET v1/subscriptions`.
pub(super) fn subscriptions(options: &SandboxOptions) -> Reply {
    let rows = options.subscription_categories.iter().map(|category| {
        json!({ "id": category.id, "key": category.key, "groupId": category.group_id, "name": category.name })
    });
    ok(&Value::Array(rows.collect()))
}

/// `GET v1/addressbooks`: each of its three lists is an object when it holds one element.
pub(super) fn address_books(options: &SandboxOptions) -> Reply {
    let mut groups: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for field in &options.additional_fields {
        groups.entry(&field.profile_key).or_default().push(field_info(field));
    }
    let groups = groups
        .into_iter()
        .map(|(key, fields)| json!({ "name": key.to_lowercase(), "profileKey": key, "fields": one_or_many(fields) }));
    let book = json!({
        "addressBookId": ADDRESS_BOOK_ID,
        "name": "Personal",
        "fieldGroups": one_or_many(groups.collect()),
    });
    ok(&json!({ "addressBook": one_or_many(vec![book]) }))
}

fn field_info(field: &AdditionalField) -> Value {
    let (kind, allowed) = match &field.kind {
        FieldKind::TextField => ("TEXTFIELD", None),
        FieldKind::TextArea => ("TEXTAREA", None),
        FieldKind::Number { bounds } => {
            ("NUMBER", bounds.map(|(low, high)| json!({ "minValue": low, "maxValue": high })))
        }
        FieldKind::Decimal => ("DECIMAL", None),
        FieldKind::Date => ("DATE", None),
        FieldKind::DateTime => ("DATETIME", None),
        FieldKind::ComboBox(values) => ("COMBOBOX", Some(json!({ "possibleValues": values }))),
        FieldKind::CheckBoxList(values) => ("CHECKBOXLIST", Some(json!({ "possibleValues": values }))),
        FieldKind::Tags => ("TAGS", None),
    };
    let mut description = json!({ "type": kind, "required": false, "readonly": false });
    if let (Some(allowed), Some(description)) = (allowed, description.as_object_mut()) {
        description.insert("allowedValues".to_owned(), allowed);
    }
    json!({ "id": field.id, "name": field.name, "fieldKey": field.field_key, "description": description })
}
