//! Singer's messages as they stand on a line. Pure; a number, list or key that the specification leaves open is not
//! insisted on, and what is not needed is not parsed.

use serde::Deserialize;

use crate::json;

/// One message. What is passed on borrows from the line.
#[derive(Debug)]
pub(super) enum Message<'a> {
    Schema {
        stream: String,
        key_properties: Vec<String>,
    },
    Record {
        stream: String,
        record: &'a [u8],
        version: Option<&'a str>,
    },
    /// The value as it stands, byte for byte; absent where it is missing or null.
    State(Option<&'a str>),
    ActivateVersion {
        stream: String,
        version: &'a str,
    },
    Batch {
        stream: String,
        form: String,
        manifest: Vec<String>,
    },
    /// A type that this program does not know.
    Unknown(String),
}

#[derive(Deserialize)]
struct Encoding {
    format: Option<String>,
    compression: Option<String>,
}

/// Plain lines of JSON: the only batch form that is read here.
pub(super) const BATCH_FORM: &str = "jsonl";

/// Reads one line. The error says what is wrong without its content. What a record or a state holds is not looked into.
pub(super) fn parse(line: &[u8]) -> Result<Message<'_>, String> {
    let entries = json::entries(line).map_err(|error| format!("not a Singer message: {error}"))?;
    let raw = |name: &str| {
        let found = entries.iter().find(|(key, _)| key == name).map(|(_, raw)| *raw);
        found.filter(|raw| *raw != b"null")
    };
    let text = |name: &str| serde_json::from_slice::<String>(raw(name)?).ok();
    let kind = text("type").ok_or("not a Singer message: it has no type")?.to_ascii_uppercase();
    let missing = |what: &str| format!("a {kind} without its {what}");
    let stream = || text("stream").ok_or_else(|| missing("stream"));
    let version = || raw("version").and_then(|raw| str::from_utf8(raw).ok());
    Ok(match kind.as_str() {
        "SCHEMA" => Message::Schema { stream: stream()?, key_properties: to_names(raw("key_properties")) },
        "RECORD" => Message::Record {
            stream: stream()?,
            record: raw("record").ok_or_else(|| missing("record"))?,
            version: version(),
        },
        "STATE" => {
            let value = raw("value").map(str::from_utf8).transpose();
            Message::State(value.map_err(|_| "a STATE that is not UTF-8".to_owned())?)
        }
        "ACTIVATE_VERSION" => {
            Message::ActivateVersion { stream: stream()?, version: version().ok_or_else(|| missing("version"))? }
        }
        "BATCH" => {
            Message::Batch { stream: stream()?, form: batch_form(raw("encoding")), manifest: to_names(raw("manifest")) }
        }
        _ => Message::Unknown(kind),
    })
}

fn to_names(list: Option<&[u8]>) -> Vec<String> {
    list.and_then(|list| serde_json::from_slice(list).ok()).unwrap_or_default()
}

/// `jsonl`, `jsonl+gzip`, `parquet` …
fn batch_form(encoding: Option<&[u8]>) -> String {
    let unknown = Encoding { format: None, compression: None };
    let encoding: Encoding = encoding.and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or(unknown);
    let format = encoding.format.unwrap_or_else(|| "unknown".to_owned()).to_ascii_lowercase();
    match encoding.compression {
        Some(compression) if !compression.eq_ignore_ascii_case("none") => format!("{format}+{compression}"),
        Some(_) | None => format,
    }
}
