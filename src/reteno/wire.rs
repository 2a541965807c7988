//! What Reteno's answers hold, read tolerantly: unknown keys are ignored, a list of one may be the element itself,
//! numbers may be text. It reads; what an answer means is decided in [`crate::reteno::reaction`].

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::contact::Personal;
use crate::json;
use crate::plan::answer::FailedContact;
use crate::reteno::text;

/// Most values of an answer: that about a file of 50,000 contacts, all refused with their channels, has 600,000. As small
/// objects so many take 250 MB.
const VALUES_MAX: usize = 700_000;
/// A session is a UUID of 36 letters; the longest path that servers take is some thousands.
const SESSION_LENGTH_MAX: usize = 500;

/// The JSON of an answer, or what it is instead, in words without any of its content.
pub fn parse(body: &[u8]) -> Result<Value, String> {
    json::read(body, VALUES_MAX).map_err(|broken| {
        if body.trim_ascii().is_empty() {
            "an empty body".to_owned()
        } else if text::is_page(&String::from_utf8_lossy(body)) {
            "a page of markup instead of JSON".to_owned()
        } else if broken.is_too_much() {
            format!("JSON with {}", broken.what)
        } else if broken.is_cut_off() {
            "JSON that is cut off".to_owned()
        } else {
            "text that is not JSON".to_owned()
        }
    })
}

/// Like [`parse`], for answers that are an object.
pub fn parse_object(body: &[u8]) -> Result<Value, String> {
    match parse(body)? {
        object @ Value::Object(_) => Ok(object),
        Value::Array(_) | Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {
            Err("JSON that is not an object".to_owned())
        }
    }
}

/// The elements of a list, where a list of one may be the element itself, and an empty one null, `""` or absent.
#[must_use]
pub fn one_or_many(value: Option<&Value>) -> &[Value] {
    match value {
        None | Some(Value::Null) => &[],
        Some(Value::String(text)) if text.is_empty() => &[],
        Some(Value::Array(elements)) => elements,
        Some(one @ (Value::Object(_) | Value::String(_) | Value::Number(_) | Value::Bool(_))) => {
            std::slice::from_ref(one)
        }
    }
}

/// Text that is not blank, or a number or truth value as text.
#[must_use]
pub fn text(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) if text.trim().is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A whole number, also as text.
#[must_use]
pub fn whole(value: Option<&Value>) -> Option<i64> {
    match value? {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn truth(value: Option<&Value>) -> bool {
    text(value).is_some_and(|text| text.eq_ignore_ascii_case("true"))
}

fn personal(value: Option<&Value>) -> Option<Personal> {
    text(value).map(Personal::new)
}

/// The answer to `POST v1/contacts` with status 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmitResult {
    /// `asyncSessionId`, where it can be asked about.
    pub session: Option<String>,
    /// `failedContacts`. An entry that cannot be read is there with nothing to match it by.
    pub failed: Vec<FailedContact>,
    /// `errorMessage`, cleaned.
    pub error_message: Option<String>,
}

impl SubmitResult {
    /// Reads an answer; `Err` says what came instead.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let answer = parse_object(body)?;
        Ok(Self {
            session: text(answer.get("asyncSessionId")).filter(|session| can_be_asked_about(session)),
            failed: one_or_many(answer.get("failedContacts")).iter().map(failed_contact).collect(),
            error_message: text(answer.get("errorMessage")).map(|message| text::clean(&message)),
        })
    }
}

/// A dot segment cannot stand in a path, and no server takes a path of any length.
fn can_be_asked_about(session: &str) -> bool {
    session.len() <= SESSION_LENGTH_MAX && !matches!(session, "." | "..")
}

fn failed_contact(entry: &Value) -> FailedContact {
    let channels = one_or_many(entry.get("channels")).iter();
    let channels: Vec<(String, Personal)> =
        channels.filter_map(|channel| Some((text(channel.get("type"))?, personal(channel.get("value"))?))).collect();
    let names = ["firstName", "lastName", "contactKey", "externalCustomerId"].map(|key| text(entry.get(key)));
    let known: Vec<&str> =
        names.iter().flatten().map(String::as_str).chain(channels.iter().map(|(_, value)| value.expose())).collect();
    let error = text(entry.get("error")).map_or_else(String::new, |error| text::clean_without(&error, &known));
    FailedContact {
        error,
        id: whole(entry.get("id")),
        contact_key: personal(entry.get("contactKey")),
        external_customer_id: personal(entry.get("externalCustomerId")),
        first_name: personal(entry.get("firstName")),
        last_name: personal(entry.get("lastName")),
        channels,
    }
}

/// The answer to `GET v1/importstatus/{session}` with status 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportStatus {
    /// `status` in capitals.
    pub status: String,
    /// `description`, cleaned.
    pub description: Option<String>,
    /// (`dedupeValue`, `contactId`); `None` where the key is absent, or where no entry of its list can be read. An entry
    /// without either value is left out. A list that is empty names nobody, which is an answer, too.
    pub mapping: Option<Vec<(Personal, i64)>>,
}

impl ImportStatus {
    /// Reads an answer; `Err` says what came instead.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let answer = parse_object(body)?;
        let status = text(answer.get("status")).ok_or("JSON without an import status")?;
        let entries = one_or_many(answer.get("mapping"));
        let pair = |entry: &Value| Some((personal(entry.get("dedupeValue"))?, whole(entry.get("contactId"))?));
        Ok(Self {
            status: status.trim().to_ascii_uppercase(),
            description: text(answer.get("description")).map(|description| text::clean(&description)),
            mapping: answer
                .get("mapping")
                .filter(|mapping| mapping.is_array() || mapping.is_object())
                .map(|_| entries.iter().filter_map(pair).collect::<Vec<_>>())
                .filter(|pairs| !pairs.is_empty() || entries.is_empty()),
        })
    }
}

/// What a version call shows. Its keys are in no schema, so all are kept as they come, cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiVersion(pub BTreeMap<String, String>);

impl ApiVersion {
    /// Reads an answer: a JSON object, another JSON value or a line of text; a page of markup is refused.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let whole_text = String::from_utf8_lossy(body);
        let shown = match parse(body) {
            Ok(Value::Object(object)) => object
                .iter()
                .filter_map(|(key, value)| Some((text::clean(key), text::clean(&text(Some(value))?))))
                .collect(),
            Ok(other) => BTreeMap::from_iter(text(Some(&other)).map(|text| ("version".to_owned(), text::clean(&text)))),
            // "2.1" as plain text fails as JSON or not, by chance: one line without a brace is taken for a version.
            Err(_) if !text::is_page(&whole_text) && !whole_text.trim().is_empty() && !whole_text.contains('{') => {
                BTreeMap::from([("version".to_owned(), text::clean(&whole_text))])
            }
            Err(cause) => return Err(cause),
        };
        Ok(Self(shown))
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (key, value)) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{key} {value}")?;
        }
        Ok(())
    }
}

/// The account that a token belongs to. Reteno gives no id for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountInfo {
    /// `organisationName`, cleaned: to be shown. Two accounts may look alike so.
    pub organisation_name: Option<String>,
    /// `organisationName` as it came: to tell accounts apart. It may be an address or a phone.
    pub organisation: Option<Personal>,
    /// `userEmail`: of the person who authorized.
    pub user_email: Option<Personal>,
}

impl AccountInfo {
    /// Reads an answer; `Err` says what came instead, also where it names no account at all.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let answer = parse_object(body)?;
        let info = Self {
            organisation_name: text(answer.get("organisationName")).map(|name| text::clean(&name)),
            organisation: personal(answer.get("organisationName")),
            user_email: personal(answer.get("userEmail")),
        };
        if info.organisation_name.is_none() && info.user_email.is_none() {
            return Err("JSON that names no account".to_owned());
        }
        Ok(info)
    }
}

/// The type of an additional field.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum FieldKind {
    /// TEXTFIELD: at most 1,000 characters.
    Text,
    /// TEXTAREA: at most 5,000 characters.
    TextArea,
    /// NUMBER: whole, 32 bits.
    Number,
    /// DECIMAL.
    Decimal,
    /// DATE: `yyyy-MM-dd`.
    Date,
    /// DATETIME: `yyyy-MM-ddTHH:mm`.
    DateTime,
    /// COMBOBOX: one of the allowed values.
    Choice,
    /// CHECKBOXLIST: several of the allowed values, separated by commas.
    Choices,
    /// TAGS.
    Tags,
    /// A type that this program does not know, or none.
    Unknown(String),
}

impl FieldKind {
    fn read(value: Option<&Value>) -> Self {
        let name = text(value).unwrap_or_default();
        match name.to_ascii_uppercase().as_str() {
            "TEXTFIELD" => Self::Text,
            "TEXTAREA" => Self::TextArea,
            "NUMBER" => Self::Number,
            "DECIMAL" => Self::Decimal,
            "DATE" => Self::Date,
            "DATETIME" => Self::DateTime,
            "COMBOBOX" => Self::Choice,
            "CHECKBOXLIST" => Self::Choices,
            "TAGS" => Self::Tags,
            _ => Self::Unknown(text::clean(&name)),
        }
    }
}

/// One additional field of the account, from `GET v1/addressbooks`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CatalogField {
    /// Reteno's numeric id, as in `customFieldsIDs`.
    pub id: u32,
    /// `profileKey` of the group it is in; empty where there is none.
    pub profile_key: String,
    /// `fieldKey`; empty where there is none.
    pub field_key: String,
    /// The name that people see.
    pub name: String,
    /// Its type.
    pub kind: FieldKind,
    /// Its allowed values in their order; empty where anything is allowed.
    pub allowed_values: Vec<String>,
    /// The smallest number allowed.
    pub min: Option<i64>,
    /// The largest number allowed.
    pub max: Option<i64>,
    /// Whether Reteno wants a value in each contact.
    pub required: bool,
    /// Whether only Reteno itself may write it.
    pub read_only: bool,
}

impl CatalogField {
    /// `PROFILE.FIELD`, as in the configuration.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}.{}", self.profile_key, self.field_key)
    }

    /// Reads all fields of an answer, in its order; `Err` says what came instead. An entry without a usable id is
    /// left out: nothing could be sent to it, and looking up its key says that it is unknown.
    pub fn read_all(body: &[u8]) -> Result<Vec<Self>, String> {
        let answer = parse_object(body)?;
        let books = answer.get("addressBook").ok_or("JSON without address books")?;
        let mut fields = Vec::new();
        for book in one_or_many(Some(books)) {
            for group in one_or_many(book.get("fieldGroups")) {
                let profile_key = text(group.get("profileKey")).unwrap_or_default();
                let entries = one_or_many(group.get("fields")).iter();
                fields.extend(entries.filter_map(|entry| Self::read(entry, &profile_key)));
            }
        }
        Ok(fields)
    }

    fn read(entry: &Value, profile_key: &str) -> Option<Self> {
        let description = entry.get("description");
        let detail = |key: &str| description.and_then(|description| description.get(key));
        let allowed = |key: &str| detail("allowedValues").and_then(|allowed| allowed.get(key));
        Some(Self {
            id: u32::try_from(whole(entry.get("id"))?).ok()?,
            profile_key: profile_key.to_owned(),
            field_key: text(entry.get("fieldKey")).unwrap_or_default(),
            name: text(entry.get("name")).unwrap_or_default(),
            kind: FieldKind::read(detail("type")),
            allowed_values: one_or_many(allowed("possibleValues"))
                .iter()
                .filter_map(|value| text(Some(value)))
                .collect(),
            min: whole(allowed("minValue")),
            max: whole(allowed("maxValue")),
            required: truth(detail("required")),
            read_only: truth(detail("readonly")),
        })
    }
}

/// One subscription category of the account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionCategory {
    /// Its unique key.
    pub key: String,
    /// The name that people see.
    pub name: String,
    /// The segment behind it.
    pub group_id: Option<i64>,
}

impl SubscriptionCategory {
    /// Reads all categories of an answer (a list, or the only one); `Err` says what came instead. An entry without a
    /// key is left out: it cannot be named in a call.
    pub fn read_all(body: &[u8]) -> Result<Vec<Self>, String> {
        let answer = parse(body)?;
        let read = |entry: &Value| {
            Some(Self {
                key: text(entry.get("key"))?,
                name: text(entry.get("name")).unwrap_or_default(),
                group_id: whole(entry.get("groupId")),
            })
        };
        Ok(one_or_many(Some(&answer)).iter().filter_map(read).collect())
    }
}
