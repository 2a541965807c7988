//! `[source.NAME.consent]`: where a record says whether its person wants e-mails. Three states: yes, no, nothing said;
//! what is not plainly one of the first two is the third.

use serde::Deserialize;
use toml::Value;

use super::{SelectorText, contact};
use crate::config::problem::KeyPath;
use crate::config::raw::Leaf;
use crate::config::reader::Reader;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawConsent {
    email: Option<Leaf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawAnswer {
    path: Option<Leaf>,
    yes: Option<Leaf>,
    no: Option<Leaf>,
    neither: Option<Leaf>,
}

/// Where the answer is, and which values mean what. The words are trimmed and in lower case, and a value is compared so
/// too; no word is in both of yes and no, and neither of these is empty. No value says nothing, and so does any other,
/// which is told to the operator unless it is under `neither`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentText {
    /// Where the answer is.
    pub paths: SelectorText,
    /// What means yes.
    pub yes: Vec<String>,
    /// What means no.
    pub no: Vec<String>,
    /// What says nothing.
    pub neither: Vec<String>,
}

/// What a CRM may write for yes: a person's and a spreadsheet's words in English, Ukrainian, Russian, Polish and Kazakh.
pub(super) const YES: [&str; 33] = [
    "true",
    "1",
    "yes",
    "y",
    "on",
    "t",
    "subscribed",
    "opt-in",
    "opted in",
    "opted-in",
    "так",
    "т",
    "істина",
    "увімкнено",
    "підписаний",
    "підписана",
    "да",
    "д",
    "истина",
    "вкл",
    "подписан",
    "подписана",
    "tak",
    "prawda",
    "włączone",
    "zapisany",
    "zapisana",
    "subskrybuje",
    "иә",
    "ия",
    "ақиқат",
    "қосулы",
    "жазылған",
];
/// What a CRM may write for no. An empty value is not among them: a column that was not filled would unsubscribe all.
const NO: [&str; 38] = [
    "false",
    "0",
    "no",
    "n",
    "off",
    "f",
    "unsubscribed",
    "opt-out",
    "opted out",
    "opted-out",
    "optout",
    "ні",
    "н",
    "хибність",
    "хиба",
    "вимкнено",
    "відписаний",
    "відписана",
    "нет",
    "ложь",
    "выкл",
    "отписан",
    "отписана",
    "nie",
    "fałsz",
    "wyłączone",
    "wypisany",
    "wypisana",
    "nie subskrybuje",
    "жоқ",
    "жок",
    "жалған",
    "өшірулі",
    "сөндірулі",
    "жазылмаған",
    "жазылымнан шыққан",
    "not subscribed",
    "do not mail",
];

const FORMS: &str = "a column or JSONPath, a list of them, or { path = …, yes = [\"…\"], no = [\"…\"] }";

pub(super) fn resolve(
    reader: &mut Reader,
    section: &KeyPath,
    leaf: Option<&Leaf>,
    maps_email: bool,
) -> Option<ConsentText> {
    let table = reader.table(leaf)?;
    let raw: RawConsent = reader.section(section, table, &[]);
    if !maps_email {
        let problem = reader.problem(section, "needs the address that is unsubscribed, and email is not mapped");
        let mapping = section.parent().unwrap_or_default().child("contact");
        reader.push(problem.accepted(format!("email = \"…\" in [{mapping}]")));
    }
    let leaf = reader.required(raw.email.as_ref(), &section.child("email"), FORMS)?;
    let raw = match &leaf.value {
        Value::Table(table) => reader.section::<RawAnswer>(&leaf.key, table.clone(), &[]),
        _ => RawAnswer { path: Some(leaf.clone()), yes: None, no: None, neither: None },
    };
    reader.required(raw.path.as_ref(), &leaf.key.child("path"), "a column or JSONPath, or a list of them");
    let paths = contact::selector(reader, raw.path.as_ref(), FORMS);
    let yes = words(reader, raw.yes.as_ref(), &YES);
    let no = words(reader, raw.no.as_ref(), &NO);
    let neither = words(reader, raw.neither.as_ref(), &[]);
    let (yes, no) = (yes?, no?);
    if let Some(both) = yes.iter().find(|word| no.contains(word)) {
        // The list that was written down is the one to mend; where both were, the first.
        let at = raw.yes.as_ref().or(raw.no.as_ref())?;
        let other = if raw.yes.is_some() { "no" } else { "yes" };
        let (what, accepted) =
            (format!("holds {both:?}, which also means {other}"), "lists that have no word in common");
        return reader.refuse(at, what, accepted);
    }
    Some(ConsentText { paths: paths?, yes, no, neither: neither? })
}

/// The words of the list as they are compared, or else `usual`.
pub(super) fn words(reader: &mut Reader, leaf: Option<&Leaf>, usual: &[&str]) -> Option<Vec<String>> {
    const ACCEPTED: &str = "a list of texts such as [\"true\", \"1\"]; an empty one says nothing";
    let Some(leaf) = leaf else { return Some(usual.iter().map(ToString::to_string).collect()) };
    let words = reader.list(Some(leaf), ACCEPTED)?;
    if words.is_empty() {
        return reader.refuse(leaf, "holds no word", ACCEPTED);
    }
    Some(words.into_iter().map(|word| word.to_lowercase()).collect())
}
