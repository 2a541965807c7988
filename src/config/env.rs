//! The highest layer: `RETENO_SYNC_<SECTION>__<KEY>` variables. Values stay text; what reads them knows their type.
//! Variables without the prefix are none of its business.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::problem::{KeyPath, Place, Problem};
use crate::contact::Field;

/// The beginning of every variable that is ours.
pub(super) const PREFIX: &str = "RETENO_SYNC_";

/// Ours too, but not configuration: the file's name.
const RESERVED: &str = "CONFIG";

/// The variables as a layer over the file.
#[derive(Default)]
pub(super) struct Variables {
    /// Their keys.
    pub(super) table: Table,
    /// The variable that set a key.
    pub(super) names: BTreeMap<KeyPath, String>,
    /// Variables that name no key at all. Those that name an unknown key are in the table.
    pub(super) problems: Vec<Problem>,
}

/// Sorts the variables into a tree. `sections` are the names that hold keys; `file` is the layer below.
pub(super) fn layer(variables: &BTreeMap<String, String>, sections: &[&str], file: &Table) -> Variables {
    let mut layer = Variables::default();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if rest == RESERVED {
            continue;
        }
        let key = key_of(rest, file);
        if let Err(reason) = check_shape(&key, sections).and_then(|()| insert(&mut layer.table, key.segments(), value))
        {
            let accepted = format!("{PREFIX}<SECTION>__<KEY>, for example {PREFIX}RETENO__CLIENT_ID");
            layer.problems.push(Problem::at(Place::Variable(name.clone()), reason).accepted(accepted));
        } else {
            layer.names.insert(key, name.clone());
        }
    }
    layer
}

/// Variables know one case and nothing but letters, digits and `_`; keys, names of sources and of segments know more.
/// So each segment is matched to the one of the file that reads the same; a name that the file lacks is in lower case.
fn key_of(rest: &str, file: &Table) -> KeyPath {
    let mut segments: Vec<String> = rest.split("__").map(str::to_lowercase).collect();
    let mut level = Some(file);
    for segment in &mut segments {
        let known = level.and_then(|table| meant(segment, table));
        level = known.as_ref().and_then(|known| level?.get(known)?.as_table());
        if let Some(known) = known {
            *segment = known;
        }
    }
    if let [source, _, contact, field, ..] = segments.as_mut_slice()
        && source == "source"
        && contact == "contact"
    {
        let standard = Field::STANDARD.into_iter().filter_map(Field::standard_name);
        if let Some(known) = standard.into_iter().find(|known| known.eq_ignore_ascii_case(field)) {
            known.clone_into(field);
        }
    }
    KeyPath::of(&segments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The key of the file that `segment` names: the same, or else the only one that reads the same.
fn meant(segment: &str, table: &Table) -> Option<String> {
    if table.contains_key(segment) {
        return Some(segment.to_owned());
    }
    let mut alike = table.keys().filter(|key| fold(key) == fold(segment));
    match (alike.next(), alike.next()) {
        (Some(key), None) => Some(key.clone()),
        _ => None,
    }
}

/// How a name can be written in a variable: every run of other signs is one `_`.
fn fold(name: &str) -> String {
    let lower = name.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_")
}

fn check_shape(key: &KeyPath, sections: &[&str]) -> Result<(), String> {
    match key.segments() {
        segments if segments.iter().any(String::is_empty) => Err("this variable names no key".to_owned()),
        [section] if sections.contains(&section.as_str()) => {
            Err(format!("this variable names the section `{section}`, not a key in it"))
        }
        _ => Ok(()),
    }
}

fn insert(table: &mut Table, segments: &[String], value: &str) -> Result<(), String> {
    const CLASH: &str = "this variable contradicts another one, whose name is the beginning of its own";
    match segments {
        [] => Ok(()),
        [last] => match table.insert(last.clone(), Value::String(value.to_owned())) {
            None => Ok(()),
            Some(_) => Err("this variable sets a key that another variable sets too".to_owned()),
        },
        [first, rest @ ..] => {
            let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            insert(inner.as_table_mut().ok_or(CLASH)?, rest, value)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(pairs: &[(&str, &str)]) -> Variables {
        let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let file =
            "[source.my-crm]\n[source.a_b]\n[source.a_b.segments]\n'VIP & Co.' = 1\nvip = 1\n'A B' = 1\n'a-b' = 1\n";
        layer(&variables, &["reteno", "source"], &file.parse().unwrap())
    }

    #[test]
    fn names_are_matched_to_keys_of_any_case_and_sources_with_hyphens() {
        let cases = [
            ("RETENO_SYNC_STATE_DIR", "state_dir"),
            ("RETENO_SYNC_RETENO__CLIENT_ID", "reteno.client_id"),
            ("RETENO_SYNC_SOURCE__MY_CRM__PATH", "source.my-crm.path"),
            ("RETENO_SYNC_SOURCE__A_B__PATH", "source.a_b.path"),
            ("RETENO_SYNC_SOURCE__OTHER__PATH", "source.other.path"),
            ("RETENO_SYNC_SOURCE__A_B__CONTACT__EXTERNALCUSTOMERID", "source.a_b.contact.externalCustomerId"),
            ("RETENO_SYNC_SOURCE__A_B__CONTACT__FIELDS__87166", "source.a_b.contact.fields.87166"),
            ("RETENO_SYNC_SOURCE__A_B__SEGMENTS__VIP_CO", "source.a_b.segments.\"VIP & Co.\""),
            ("RETENO_SYNC_SOURCE__A_B__SEGMENTS__VIP__WHEN", "source.a_b.segments.vip.when"),
            // Two names read the same: neither is meant.
            ("RETENO_SYNC_SOURCE__A_B__SEGMENTS__A_B", "source.a_b.segments.a_b"),
        ];
        for (variable, key) in cases {
            let built = build(&[(variable, "x")]);
            assert!(built.problems.is_empty(), "{variable}: {:?}", built.problems);
            let keys: Vec<String> = built.names.keys().map(ToString::to_string).collect();
            assert_eq!(keys, [key], "{variable}");
        }
    }

    #[test]
    fn variables_that_name_no_key_are_problems_and_reserved_and_foreign_ones_are_not() {
        let built = build(&[("RETENO_SYNC_CONFIG", "c"), ("HOME", "/")]);
        assert!(built.problems.is_empty() && built.table.is_empty());
        for wrong in ["RETENO_SYNC_", "RETENO_SYNC_RETENO", "RETENO_SYNC_RETENO__", "RETENO_SYNC___X"] {
            assert_eq!(build(&[(wrong, "c")]).problems.len(), 1, "{wrong}");
        }
        let clash = [("RETENO_SYNC_RETENO__A", "1"), ("RETENO_SYNC_RETENO__A__B", "2")];
        assert_eq!(build(&clash).problems.len(), 1);
    }
}
