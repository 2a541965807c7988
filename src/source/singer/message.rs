//! Singer's messages as they stand on a line. Pure; a number, list or key that the specification leaves open is not
//! insisted on, and what is not needed is not parsed.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One message. Text borrows from the line.
#[derive(Debug)]
pub(super) enum Message<'a> {
    Schema {
        stream: Cow<'a, str>,
        key_properties: Vec<String>,
    },
    Record {
        stream: Cow<'a, str>,
        record: &'a str,
        version: Option<&'a str>,
    },
    /// The value as it stands, byte for byte; absent where it is missing or null.
    State(Option<&'a str>),
    ActivateVersion {
        stream: Cow<'a, str>,
        version: &'a str,
    },
    Batch {
        stream: Cow<'a, str>,
        form: String,
        manifest: Vec<String>,
    },
    /// A type that this program does not know.
    Unknown(String),
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    stream: Option<Cow<'a, str>>,
    #[serde(borrow)]
    record: Option<&'a RawValue>,
    #[serde(borrow)]
    version: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    key_properties: Option<&'a RawValue>,
    #[serde(borrow)]
    encoding: Option<&'a RawValue>,
    #[serde(borrow)]
    manifest: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Encoding {
    format: Option<String>,
    compression: Option<String>,
}

/// Plain lines of JSON: the only batch form that is read here.
pub(super) const BATCH_FORM: &str = "jsonl";

/// Reads one line. The error says what is wrong without its content.
pub(super) fn parse(line: &[u8]) -> Result<Message<'_>, String> {
    let wire: Wire<'_> = serde_json::from_slice(line)
        .map_err(|error| format!("not a Singer message: invalid JSON or type at byte {}", error.column()))?;
    let kind = wire.kind.to_ascii_uppercase();
    let missing = |what: &str| format!("a {kind} without its {what}");
    let stream = wire.stream.ok_or_else(|| missing("stream"));
    Ok(match kind.as_str() {
        "SCHEMA" => Message::Schema { stream: stream?, key_properties: to_names(wire.key_properties) },
        "RECORD" => Message::Record {
            stream: stream?,
            record: wire.record.ok_or_else(|| missing("record"))?.get(),
            version: wire.version.map(RawValue::get),
        },
        "STATE" => Message::State(wire.value.map(RawValue::get)),
        "ACTIVATE_VERSION" => {
            Message::ActivateVersion { stream: stream?, version: wire.version.ok_or_else(|| missing("version"))?.get() }
        }
        "BATCH" => {
            Message::Batch { stream: stream?, form: batch_form(wire.encoding), manifest: to_names(wire.manifest) }
        }
        _ => Message::Unknown(kind),
    })
}

fn to_names(list: Option<&RawValue>) -> Vec<String> {
    list.and_then(|list| serde_json::from_str(list.get()).ok()).unwrap_or_default()
}

/// `jsonl`, `jsonl+gzip`, `parquet` …
fn batch_form(encoding: Option<&RawValue>) -> String {
    let unknown = Encoding { format: None, compression: None };
    let encoding: Encoding = encoding.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or(unknown);
    let format = encoding.format.unwrap_or_else(|| "unknown".to_owned()).to_ascii_lowercase();
    match encoding.compression {
        Some(compression) if !compression.eq_ignore_ascii_case("none") => format!("{format}+{compression}"),
        Some(_) | None => format,
    }
}
