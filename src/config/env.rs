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

/// Sorts the variables into a tree. `sections` are the names that hold keys; `sources` the sources of the file.
pub(super) fn layer(variables: &BTreeMap<String, String>, sections: &[&str], sources: &[String]) -> Variables {
    let mut layer = Variables::default();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        if rest == RESERVED {
            continue;
        }
        let key = key_of(rest, sources);
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

/// Variables know one case and no hyphen; keys and source names have both. So each segment is matched to what exists.
fn key_of(rest: &str, sources: &[String]) -> KeyPath {
    let mut segments: Vec<String> = rest.split("__").map(str::to_ascii_lowercase).collect();
    if segments.first().is_some_and(|first| first == "source") {
        if let Some(name) = segments.get_mut(1) {
            let same = |source: &&String| source.replace('-', "_") == *name;
            if !sources.contains(name) {
                *name = sources.iter().find(same).unwrap_or(name).clone();
            }
        }
        if segments.get(2).is_some_and(|third| third == "contact")
            && let Some(field) = segments.get_mut(3)
        {
            let standard = Field::STANDARD.into_iter().filter_map(Field::standard_name);
            if let Some(known) = standard.into_iter().find(|known| known.eq_ignore_ascii_case(field)) {
                known.clone_into(field);
            }
        }
    }
    KeyPath::of(&segments.iter().map(String::as_str).collect::<Vec<_>>())
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
        layer(&variables, &["reteno", "source"], &["my-crm".to_owned(), "a_b".to_owned()])
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
