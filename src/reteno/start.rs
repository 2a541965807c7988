//! The bodies of the two calls that start something in Reteno: a double opt-in, and the import of a file. Equal arguments
//! give equal bytes. It never decides whether either is made.

use bytes::Bytes;
use serde::Serialize;

use crate::contact::{Field, Wanted};
use crate::reteno::body::{WireContact, shown_in_single, to_bytes, wire_contact};

/// What goes beside the contact of a `POST v1/contact/subscribe`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// The form's name: it tells several forms apart. Reteno refuses some characters in it.
    pub form_type: Option<String>,
    /// Static segments that the contact enters, by name.
    pub groups: Vec<String>,
    /// Keys of the subscription categories that are added.
    pub subscriptions: Vec<String>,
}

/// The body of `POST v1/contact/subscribe` (schema `SubscribeContact`): the contact as in a single call, but nothing for
/// a cleared field, since the call is for contacts that Reteno does not have yet.
#[must_use]
pub fn subscribe_body(fields: &[(Field, Wanted)], options: &SubscribeOptions) -> Bytes {
    let valued: Vec<(Field, Wanted)> =
        fields.iter().filter(|(_, wanted)| matches!(wanted, Wanted::Value(_))).cloned().collect();
    let SubscribeOptions { form_type, groups, subscriptions } = options;
    to_bytes(&WireSubscribe {
        contact: wire_contact(None, &shown_in_single(&valued)),
        groups,
        subscriptions,
        form_type: form_type.as_deref(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireSubscribe<'a> {
    contact: WireContact<'a>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    groups: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    subscriptions: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    form_type: Option<&'a str>,
}

/// By what Reteno finds the contacts of a file. It cannot be the external id, which a file has no column for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileDedupeOn {
    /// E-mail address.
    Email,
    /// Phone.
    Sms,
    /// E-mail address, then phone.
    EmailOrSms,
    /// Reteno's id.
    Id,
}

impl FileDedupeOn {
    /// Reteno's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
            Self::EmailOrSms => "email_or_sms",
            Self::Id => "id",
        }
    }
}

/// One `POST v1/contacts/upload`.
#[derive(Clone, Copy)]
pub struct UploadRequest<'a> {
    /// Where Reteno fetches the file: a secret while the file is there.
    pub link: &'a str,
    /// How Reteno finds the contacts.
    pub dedupe_on: FileDedupeOn,
    /// Static segments that the contacts enter.
    pub group_names: &'a [String],
    /// Static segments that the contacts leave.
    pub group_names_exclude: &'a [String],
    /// Whether contacts that were deleted in Reteno come back.
    pub restore_deleted: bool,
    /// The key of the event that is made for each new contact.
    pub event_key_for_new_contacts: Option<&'a str>,
}

/// The body of `POST v1/contacts/upload` (schema `FileContactsBulkUpdate`).
#[must_use]
pub fn upload_body(request: &UploadRequest<'_>) -> Bytes {
    let UploadRequest {
        link,
        dedupe_on,
        group_names,
        group_names_exclude,
        restore_deleted,
        event_key_for_new_contacts,
    } = *request;
    to_bytes(&WireUpload {
        link,
        dedupe_on: dedupe_on.name(),
        group_names,
        group_names_exclude,
        restore_deleted,
        event_key_for_new_contacts,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireUpload<'a> {
    link: &'a str,
    dedupe_on: &'static str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    group_names: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    group_names_exclude: &'a [String],
    restore_deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_key_for_new_contacts: Option<&'a str>,
}

impl std::fmt::Debug for UploadRequest<'_> {
    /// Without the link: who knows it may fetch the file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UploadRequest").field("dedupe_on", &self.dedupe_on).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::contact::{MEMBER, Personal};

    fn value(field: Field, text: &str) -> (Field, Wanted) {
        (field, Wanted::Value(Personal::new(text)))
    }

    fn json_of(body: &Bytes) -> Value {
        serde_json::from_slice(body).expect("JSON")
    }

    #[test]
    fn a_subscription_carries_the_contact_and_what_it_enters() {
        let fields = [
            value(Field::ExternalCustomerId, "c-1"),
            value(Field::Email, "jane@example.com"),
            (Field::Sms, Wanted::Clear),
            value(Field::FirstName, "Jane"),
            (Field::Town, Wanted::Clear),
            value(Field::Additional(9), "gold"),
            value(Field::Subscriptions, "news"),
            value(Field::segment("VIP"), MEMBER),
        ];
        let options = SubscribeOptions {
            form_type: Some("Footer form".into()),
            groups: vec!["VIP".into()],
            subscriptions: vec!["news".into()],
        };
        let expected = json!({
            "contact": {
                "externalCustomerId": "c-1",
                "firstName": "Jane",
                "channels": [{"type": "email", "value": "jane@example.com"}],
                "fields": [{"id": 9, "value": "gold"}],
            },
            "groups": ["VIP"],
            "subscriptions": ["news"],
            "formType": "Footer form",
        });
        assert_eq!(json_of(&subscribe_body(&fields, &options)), expected);
        let bare = json_of(&subscribe_body(&fields[1..2], &SubscribeOptions::default()));
        assert_eq!(bare, json!({"contact": {"channels": [{"type": "email", "value": "jane@example.com"}]}}));
    }

    #[test]
    fn an_upload_names_its_file_and_how_contacts_are_found() {
        let (enters, leaves) = (["A".to_owned()], ["B".to_owned()]);
        let full = UploadRequest {
            link: "https://crm.example.com/exports/secret.csv",
            dedupe_on: FileDedupeOn::EmailOrSms,
            group_names: &enters,
            group_names_exclude: &leaves,
            restore_deleted: true,
            event_key_for_new_contacts: Some("newContact"),
        };
        let expected = json!({
            "link": "https://crm.example.com/exports/secret.csv",
            "dedupeOn": "email_or_sms",
            "groupNames": ["A"],
            "groupNamesExclude": ["B"],
            "restoreDeleted": true,
            "eventKeyForNewContacts": "newContact",
        });
        assert_eq!(json_of(&upload_body(&full)), expected);
        assert!(!format!("{full:?}").contains("secret"));
        let names = [FileDedupeOn::Email, FileDedupeOn::Sms, FileDedupeOn::Id].map(FileDedupeOn::name);
        assert_eq!(names, ["email", "sms", "id"]);
        let bare = UploadRequest {
            group_names: &[],
            group_names_exclude: &[],
            restore_deleted: false,
            event_key_for_new_contacts: None,
            ..full
        };
        let expected = json!({"link": full.link, "dedupeOn": "email_or_sms", "restoreDeleted": false});
        assert_eq!(json_of(&upload_body(&bare)), expected);
    }
}
