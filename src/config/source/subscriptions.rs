//! `[source.NAME.subscriptions]`: which subscription categories a contact has, as the CRM says. Reteno takes the whole
//! set only: what a person chose there and the CRM does not know would be lost. So the operator declares the owner.

use serde::Deserialize;
use toml::Value;

use super::consent::{self, YES};
use super::{SelectorText, contact};
use crate::config::problem::KeyPath;
use crate::config::raw::Leaf;
use crate::config::reader::Reader;
use crate::config::words;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawSubscriptions {
    owned: Option<Leaf>,
    path: Option<Leaf>,
    categories: Option<Leaf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawCategory {
    path: Option<Leaf>,
    yes: Option<Leaf>,
}

/// Where the categories of a contact are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionsText {
    /// One field with the keys of all categories of the contact.
    List(SelectorText),
    /// A field for each category, in the order of their keys; at least one.
    Flags(Vec<CategoryText>),
}

/// A category with a field of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CategoryText {
    /// Reteno's key; without blanks and commas.
    pub key: String,
    /// Where the answer is.
    pub paths: SelectorText,
    /// The values that mean yes, trimmed and in lower case, as they are compared; any other value means no.
    pub yes: Vec<String>,
}

const FORMS: &str = "a column or JSONPath, a list of them, or { path = …, yes = [\"…\"] }";

pub(super) fn resolve(reader: &mut Reader, section: &KeyPath, leaf: Option<&Leaf>) -> Option<SubscriptionsText> {
    let table = reader.table(leaf)?;
    let raw: RawSubscriptions = reader.section(section, table, &[]);
    let is_owned = owned(reader, section, raw.owned.as_ref());
    let text = match (&raw.path, &raw.categories) {
        (Some(path), None) => {
            let paths = contact::selector(reader, Some(path), "a column or JSONPath that holds a list of keys");
            paths.map(SubscriptionsText::List)
        }
        (None, Some(leaf)) => categories(reader, leaf),
        (Some(path), Some(_)) => {
            let what = format!("stands beside {}", section.child("categories"));
            reader.refuse(path, what, "one of the two: a field with all keys, or a field for each category")
        }
        (None, None) => {
            let problem = reader.problem(section, "does not say where the categories are");
            reader.push(problem.accepted("path = \"…\" (a list of keys), or categories = { \"key\" = \"…\" }"));
            None
        }
    };
    is_owned?;
    text
}

fn owned(reader: &mut Reader, section: &KeyPath, leaf: Option<&Leaf>) -> Option<()> {
    const ACCEPTED: &str = "owned = true: Reteno replaces the whole set of a contact, also what people chose there";
    let leaf = reader.required(leaf, &section.child("owned"), ACCEPTED)?;
    if reader.flag(Some(leaf))? {
        return Some(());
    }
    reader.refuse(leaf, "does not give the categories to the CRM", ACCEPTED)
}

fn categories(reader: &mut Reader, leaf: &Leaf) -> Option<SubscriptionsText> {
    let table = reader.table(Some(leaf))?;
    if table.is_empty() {
        return reader.refuse(leaf, "names no category", "{ \"key\" = \"…\" }");
    }
    let mut all = Vec::new();
    let count = table.len();
    for (name, value) in table {
        all.extend(category(reader, &Leaf::of(leaf.key.child(&name), value)));
    }
    (all.len() == count).then_some(SubscriptionsText::Flags(all))
}

fn category(reader: &mut Reader, leaf: &Leaf) -> Option<CategoryText> {
    let key = words::category_key(reader, &leaf.key);
    let raw = match &leaf.value {
        Value::Table(table) => reader.section::<RawCategory>(&leaf.key, table.clone(), &[]),
        _ => RawCategory { path: Some(leaf.clone()), yes: None },
    };
    reader.required(raw.path.as_ref(), &leaf.key.child("path"), "a column or JSONPath, or a list of them");
    let paths = contact::selector(reader, raw.path.as_ref(), FORMS);
    let yes = consent::words(reader, raw.yes.as_ref(), &YES);
    Some(CategoryText { key: key?, paths: paths?, yes: yes? })
}
