//! The tap's catalog: finding the stream, and selecting it in a discovered one. Pure but for reading a given file.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::{ReplicationMethod, SingerOptions};
use crate::json as tolerant;
use crate::source::SourceError;

/// How many names an error offers.
const NAMES_OFFERED: usize = 8;

/// The stream as the catalog has it.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    /// The catalog to pass to the tap.
    pub(super) path: PathBuf,
    /// The name on messages, by the catalog.
    pub(super) stream: String,
    /// The other name on messages: some taps use this one.
    pub(super) tap_stream_id: String,
    /// What the tap will do, where the catalog says so.
    pub(super) method: Option<ReplicationMethod>,
    pub(super) warnings: Vec<String>,
}

/// Reads a catalog that the operator made; it is passed on as it is.
pub(super) fn read_given(path: &Path, stream: &str) -> Result<Selection, SourceError> {
    let text = std::fs::read(path).map_err(|source| SourceError::Unreadable {
        action: "read the catalog",
        path: path.to_owned(),
        source,
    })?;
    let catalog = parse(&text, &path.display().to_string())?;
    let place = find(&catalog, stream)?;
    Ok(selection(&catalog["streams"][place], path.to_owned(), Vec::new()))
}

/// Selects the stream, and only it, in a discovered catalog; gives the catalog to pass on as text.
pub(super) fn select(discovered: &[u8], options: &SingerOptions) -> Result<(Selection, String), SourceError> {
    let mut catalog = parse(discovered, "that the tap discovered")?;
    let wanted = find(&catalog, &options.stream)?;
    let mut warnings = Vec::new();
    if let Some(streams) = catalog.get_mut("streams").and_then(Value::as_array_mut) {
        for (place, stream) in streams.iter_mut().filter_map(Value::as_object_mut).enumerate() {
            select_stream(stream, place == wanted);
            if place == wanted {
                warnings.extend(set_replication(stream, options));
            }
        }
    }
    let selection = selection(&catalog["streams"][wanted], PathBuf::new(), warnings);
    Ok((selection, catalog.to_string()))
}

fn parse(text: &[u8], origin: &str) -> Result<Value, SourceError> {
    let wrong = |reason: &str| SourceError::Catalog { origin: origin.to_owned(), reason: reason.to_owned() };
    let catalog = tolerant::read(text, usize::MAX).map_err(|_| wrong("it is not JSON"))?;
    let streams = catalog.get("streams").and_then(Value::as_array).ok_or_else(|| wrong("it has no list of streams"))?;
    if streams.iter().all(Value::is_object) { Ok(catalog) } else { Err(wrong("a stream in it is not an object")) }
}

fn find(catalog: &Value, name: &str) -> Result<usize, SourceError> {
    let streams = catalog["streams"].as_array().map(Vec::as_slice).unwrap_or_default();
    let by = |key: &str| streams.iter().position(|stream| stream[key] == name);
    // The id is unique by the specification; the name need not be.
    by("tap_stream_id").or_else(|| by("stream")).ok_or_else(|| {
        let mut nearest: Vec<String> = streams.iter().map(|stream| name_of(stream, "tap_stream_id")).collect();
        nearest.sort_by(|a, b| strsim::jaro_winkler(b, name).total_cmp(&strsim::jaro_winkler(a, name)));
        nearest.truncate(NAMES_OFFERED);
        SourceError::NoStream { stream: name.to_owned(), nearest }
    })
}

/// A stream's name by this key, or by the other one where it lacks this.
fn name_of(stream: &Value, key: &str) -> String {
    let name = stream[key].as_str().or_else(|| stream["tap_stream_id"].as_str()).or_else(|| stream["stream"].as_str());
    name.unwrap_or_default().to_owned()
}

fn selection(stream: &Value, path: PathBuf, warnings: Vec<String>) -> Selection {
    Selection {
        path,
        stream: name_of(stream, "stream"),
        tap_stream_id: name_of(stream, "tap_stream_id"),
        method: stream.as_object().and_then(method_of),
        warnings,
    }
}

/// What the tap will do: what it cannot but do (tap-postgres writes "" where that is nothing), then what is asked of it.
fn method_of(stream: &Map<String, Value>) -> Option<ReplicationMethod> {
    let own = own_metadata(stream);
    let said = ["forced-replication-method", "replication-method"]
        .iter()
        .find_map(|key| own.and_then(|own| own.get(*key)).and_then(Value::as_str).filter(|said| !said.is_empty()))
        .or_else(|| stream.get("replication_method").and_then(Value::as_str));
    match said {
        Some("FULL_TABLE") => Some(ReplicationMethod::FullTable),
        Some("INCREMENTAL") => Some(ReplicationMethod::Incremental),
        Some("LOG_BASED") => Some(ReplicationMethod::LogBased),
        Some(_) | None => None,
    }
}

/// The metadata of the stream itself: that with the empty breadcrumb.
fn own_metadata(stream: &Map<String, Value>) -> Option<&Map<String, Value>> {
    let entries = stream.get("metadata")?.as_array()?;
    entries.iter().find(|entry| is_own(entry))?.get("metadata")?.as_object()
}

fn is_own(entry: &Value) -> bool {
    entry["breadcrumb"].as_array().is_some_and(Vec::is_empty)
}

/// Taps read the selection in different places, so it is written in all of them.
fn select_stream(stream: &mut Map<String, Value>, selected: bool) {
    let legacy = !stream.get("metadata").is_some_and(Value::is_array);
    stream.insert("selected".to_owned(), json!(selected));
    if let Some(schema) = stream.get_mut("schema").and_then(Value::as_object_mut) {
        schema.insert("selected".to_owned(), json!(selected));
        if legacy && selected {
            let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
            for property in properties.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
                property.insert("selected".to_owned(), json!(true));
            }
        }
    }
    set_own(stream, "selected", json!(selected));
    if selected {
        select_fields(stream);
    }
}

/// Selects each field that may be chosen, also those that the metadata does not mention.
fn select_fields(stream: &mut Map<String, Value>) {
    let properties = stream.get("schema").and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    let mut unmentioned: Vec<String> = properties.into_iter().flat_map(Map::keys).cloned().collect();
    let Some(entries) = stream.get_mut("metadata").and_then(Value::as_array_mut) else { return };
    for entry in &mut *entries {
        let Some(breadcrumb) = entry["breadcrumb"].as_array() else { continue };
        if let [Value::String(kind), Value::String(field)] = breadcrumb.as_slice()
            && kind == "properties"
        {
            unmentioned.retain(|name| name != field);
        }
        if breadcrumb.is_empty() {
            continue;
        }
        if let Some(metadata) = entry.get_mut("metadata").and_then(Value::as_object_mut)
            // An automatic field comes anyway, an unsupported one cannot.
            && !matches!(metadata.get("inclusion").and_then(Value::as_str), Some("automatic" | "unsupported"))
        {
            metadata.insert("selected".to_owned(), json!(true));
        }
    }
    entries.extend(
        unmentioned
            .into_iter()
            .map(|field| json!({"breadcrumb": ["properties", field], "metadata": {"selected": true}})),
    );
}

fn set_own(stream: &mut Map<String, Value>, key: &str, value: Value) {
    let metadata = stream.entry("metadata").or_insert_with(|| json!([]));
    if !metadata.is_array() {
        *metadata = json!([]);
    }
    let Some(entries) = metadata.as_array_mut() else { return };
    let place = entries.iter().position(is_own).unwrap_or_else(|| {
        entries.insert(0, json!({"breadcrumb": [], "metadata": {}}));
        0
    });
    match entries[place].get_mut("metadata").and_then(Value::as_object_mut) {
        Some(own) => {
            own.insert(key.to_owned(), value);
        }
        None => entries[place]["metadata"] = json!({key: value}),
    }
}

/// Writes method and key; warns where the tap has a will of its own.
fn set_replication(stream: &mut Map<String, Value>, options: &SingerOptions) -> Option<String> {
    let asked = options
        .replication_method
        .or_else(|| options.replication_key.is_some().then_some(ReplicationMethod::Incremental));
    let offered = method_of(stream);
    let method = asked.or(offered).unwrap_or(ReplicationMethod::FullTable);
    set_own(stream, "replication-method", json!(method.as_str()));
    stream.insert("replication_method".to_owned(), json!(method.as_str()));
    if let Some(key) = &options.replication_key {
        set_own(stream, "replication-key", json!(key));
        stream.insert("replication_key".to_owned(), json!(key));
    }
    let forced =
        own_metadata(stream)?.get("forced-replication-method")?.as_str().filter(|forced| !forced.is_empty())?;
    (forced != method.as_str())
        .then(|| format!("the tap reads stream {:?} only as {forced}, not as {}", options.stream, method.as_str()))
}
