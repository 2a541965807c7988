//! One source as all layers together say it, for people to look at: defaults, preset, file, variables. Never shows a
//! secret: what stands in its place says so.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::problem::ConfigProblems;
use super::{SECTIONS, defaults, env, file, merged, sources};

/// Keys whose value is a secret, wherever they stand; a name in braces is none.
const SECRETS: [&str; 6] = ["token", "key", "password", "secret", "client_secret", "tokens"];
/// Tables of which every value is one.
const SECRET_TABLES: [&str; 1] = ["secrets"];
/// Tables of the description in which such a word is a key of the CRM's or a place in a record, and no secret of ours.
const OPEN_TABLES: [&str; 8] =
    ["contact", "list", "fetch", "deletes", "preflight", "segments", "vars", "subscriptions"];

/// Tables whose keys are names of the CRM's: of headers and parameters.
const NAMED_BY_THE_CRM: [&str; 4] = ["headers", "query", "extra", "authorize_extra"];

/// The whole table of a source; `None` where there is no such source.
///
/// # Errors
/// Where the file cannot be read.
pub fn effective_source(
    path: &Path,
    env: impl Iterator<Item = (String, String)>,
    name: &str,
) -> Result<Option<Table>, ConfigProblems> {
    let file = file::read(path).map_err(ConfigProblems::sorted)?;
    let environment: BTreeMap<String, String> = env.collect();
    let variables = env::layer(&environment, &SECTIONS, &file.table);
    let is_there = sources(&file.table, &variables.table).iter().any(|(known, _)| known == name);
    let defaults = defaults::layer(&sources(&file.table, &variables.table));
    let all = merged(&defaults, &file.table, &variables.table).unwrap_or_default();
    let table = all.get("source").and_then(|sources| sources.get(name)).and_then(Value::as_table).cloned();
    Ok(table.filter(|_| is_there).map(|table| veiled_table(table, Veil::BySort)))
}

/// Whether the file at `path` itself holds a secret, not only the place of one.
///
/// # Errors
/// Where the file cannot be read.
pub fn holds_secrets(path: &Path) -> Result<bool, ConfigProblems> {
    let file = file::read(path).map_err(ConfigProblems::sorted)?;
    let is_secret = |table: &Table| veiled_table(table.clone(), Veil::BySort) != *table;
    let (sources, rest): (Table, Table) = file.table.into_iter().partition(|(name, _)| name == "source");
    let of_sources = sources.values().filter_map(Value::as_table).flat_map(Table::values).filter_map(Value::as_table);
    Ok(is_secret(&rest) || of_sources.into_iter().any(is_secret))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Veil {
    /// By the names of keys.
    BySort,
    /// Everything.
    All,
    /// Nothing.
    None,
}

fn veiled_table(table: Table, veil: Veil) -> Table {
    let veiled = |(key, value): (String, Value)| {
        let inner = match veil {
            _ if SECRET_TABLES.contains(&key.as_str()) => Veil::All,
            Veil::BySort if OPEN_TABLES.contains(&key.as_str()) => Veil::None,
            other => other,
        };
        let hides = inner == Veil::All || (veil == Veil::BySort && SECRETS.contains(&key.as_str()));
        // at the top of a source `key` is the place of the record's id
        let hides = hides && !(key == "key" && value.as_str().is_some_and(|text| text.starts_with("$.")));
        let veiled = match value {
            Value::Table(entries) if inner != Veil::All && NAMED_BY_THE_CRM.contains(&key.as_str()) => {
                Value::Table(veiled_parameters(entries, inner))
            }
            value => veiled_value(value, inner, hides),
        };
        (key, veiled)
    };
    table.into_iter().map(veiled).collect()
}

/// A token that somebody wrote into a request is one, although its name is the CRM's; text with a variable in the token's
/// place is none.
fn veiled_parameters(entries: Table, veil: Veil) -> Table {
    const SIGNS: [&str; 8] = ["auth", "token", "api_key", "apikey", "api-key", "secret", "cookie", "passw"];
    let veiled = |(name, value): (String, Value)| {
        let lower = name.to_ascii_lowercase();
        let is_plain = !value.as_str().is_some_and(|text| text.contains('{'));
        let is_ours = veil == Veil::BySort && SECRETS.contains(&lower.as_str());
        let hides = is_plain && (is_ours || SIGNS.iter().any(|sign| lower.contains(sign)));
        (name, veiled_value(value, Veil::None, hides))
    };
    entries.into_iter().map(veiled).collect()
}

fn veiled_value(value: Value, veil: Veil, hides: bool) -> Value {
    match value {
        Value::Table(table) if table.contains_key("file") && table.len() == 1 => Value::Table(table),
        Value::Table(table) => Value::Table(veiled_table(table, veil)),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| veiled_value(item, veil, hides)).collect()),
        Value::String(text) if hides && !text.starts_with("{secret.") => Value::String("****".to_owned()),
        other if hides && !other.is_str() => Value::String("****".to_owned()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_layers_are_there_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let text = "[source.crm]\nkind = \"http\"\nkey = \"$.id\"\nvars = { a = \"x\" }\n\
                    secrets = { s = \"hunter2\", f = { file = \"s.txt\" } }\n\
                    auth = { kind = \"bearer\", token = \"hunter3\", extra = { key = \"hunter8\" } }\n\
                    webhook = { verify = \"basic\", user = \"u\", password = \"$hunter4\", secrets = [\"hunter5\"] }\n\
                    [source.crm.list]\nquery = { token = \"{secret.s}\", key = \"open\", api_token = \"hunter7\" }\n\
                    headers = { Authorization = \"Bearer hunter6\", X-Token = \"{secret.f}\" }\n";
        std::fs::write(&path, text).unwrap();
        let variables = [("RETENO_SYNC_SOURCE__CRM__TIME_ZONE".to_owned(), "Europe/Kyiv".to_owned())];
        let table = effective_source(&path, variables.into_iter(), "crm").unwrap().unwrap();
        let shown = table.to_string();
        for words in [
            "on_delete = \"keep\"",
            "time_zone = \"Europe/Kyiv\"",
            "{secret.s}",
            "{secret.f}",
            "\"open\"",
            "$.id",
            "s.txt",
        ] {
            assert!(shown.contains(words), "{words} is not in {shown}");
        }
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(effective_source(&path, std::iter::empty(), "other").unwrap().is_none());
    }

    #[test]
    fn a_file_with_a_secret_is_told_from_one_that_only_says_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let cases = [
            ("[reteno]\nclient_secret = \"s\"\n", true),
            ("[reteno]\nclient_secret_file = \"/s\"\nclient_id = \"x\"\n", false),
            ("[source.crm]\nkey = \"$.id\"\nsecrets = { s = { file = \"s.txt\" } }\n", false),
            ("[source.crm]\nsecrets = { s = \"x\" }\n", true),
            ("[source.crm.auth]\nkind = \"bearer\"\ntoken = \"x\"\n", true),
            ("[source.crm.auth]\nkind = \"bearer\"\ntoken = \"{secret.s}\"\n", false),
            ("[source.crm.webhook]\nverify = \"basic\"\npassword = \"x\"\n", true),
            ("[source.token.contact]\nemail = \"token\"\n", false),
        ];
        for (text, holds) in cases {
            std::fs::write(&path, text).unwrap();
            assert_eq!(holds_secrets(&path).unwrap(), holds, "{text}");
        }
    }
}
