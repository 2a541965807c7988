//! `[source.NAME.segments]`: Reteno's static segments, and which contacts belong to them.

use serde::Deserialize;
use toml::Value;

use super::contact;
use crate::config::raw::Leaf;
use crate::config::reader::Reader;
use crate::config::words;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawSegment {
    when: Option<Leaf>,
    always: Option<Leaf>,
    group_id: Option<Leaf>,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentText {
    /// Its name in Reteno; no two of one configuration share a [`crate::contact::Field::segment`].
    pub name: String,
    /// A JSON path: whose record matches it belongs to the segment. `None`: every contact does.
    pub condition: Option<String>,
    /// Its number in Reteno, by which contacts are detached without a post; 1 or more.
    pub group_id: Option<u64>,
}

/// Who belongs to a segment.
enum Members {
    All,
    Matching(String),
}

const ALWAYS: &str = "always";
const FORMS: &str = "\"always\", { when = \"<JSONPath>\" } or { always = true }, both also with group_id";
const GROUP_ID_MAX: u64 = i64::MAX.unsigned_abs();

/// The segments in the order of their names; `None` where one is wrong.
pub(super) fn resolve(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<Vec<SegmentText>> {
    let Some(leaf) = leaf else { return Some(Vec::new()) };
    let table = reader.table(Some(leaf))?;
    let mut all = Vec::new();
    let count = table.len();
    for (name, value) in table {
        all.extend(segment(reader, &Leaf::of(leaf.key.child(&name), value)));
    }
    (all.len() == count).then_some(all)
}

fn segment(reader: &mut Reader, leaf: &Leaf) -> Option<SegmentText> {
    let name = words::segment_name(reader, &leaf.key);
    let (condition, group_id) = match &leaf.value {
        Value::String(text) if text == ALWAYS => (Some(Members::All), Some(None)),
        Value::String(text) => (short_condition(reader, leaf, text), Some(None)),
        Value::Table(table) => {
            let raw: RawSegment = reader.section(&leaf.key, table.clone(), &[]);
            let group_id = match &raw.group_id {
                Some(leaf) => reader.number(Some(leaf), 1..=GROUP_ID_MAX).map(Some),
                None => Some(None),
            };
            (condition(reader, leaf, &raw), group_id)
        }
        _ => (reader.refuse(leaf, "does not say who belongs to the segment", FORMS), None),
    };
    let condition = match condition? {
        Members::All => None,
        Members::Matching(path) => Some(path),
    };
    Some(SegmentText { name: name?, condition, group_id: group_id? })
}

/// A path alone is refused: beside `"always"` a mistyped word would be taken for one.
fn short_condition(reader: &mut Reader, leaf: &Leaf, text: &str) -> Option<Members> {
    let mut problem = reader.problem(&leaf.key, "does not say who belongs to the segment");
    problem = problem.value(leaf.value.to_string()).accepted(FORMS);
    if text.starts_with('$') {
        problem = problem.hint("write { when = \"…\" }");
    } else if crate::config::raw::nearest(text, [ALWAYS]).is_some() {
        problem = problem.hint(format!("did you mean {ALWAYS:?}?"));
    }
    reader.push(problem);
    None
}

fn condition(reader: &mut Reader, leaf: &Leaf, raw: &RawSegment) -> Option<Members> {
    match (&raw.when, &raw.always) {
        (Some(when), None) => {
            let text = reader.text(Some(when), "a JSONPath such as \"$[?@.type == 'vip']\"")?;
            contact::json_path(reader, when, text)?;
            Some(Members::Matching(text.to_owned()))
        }
        (None, Some(always)) => {
            if reader.flag(Some(always))? {
                return Some(Members::All);
            }
            reader.refuse(always, "is false, so nobody belongs to the segment", FORMS)
        }
        (Some(when), Some(_)) => reader.refuse(when, "stands beside always", "one of the two"),
        (None, None) => {
            let problem = reader.problem(&leaf.key, "does not say who belongs to the segment");
            reader.push(problem.accepted(FORMS));
            None
        }
    }
}
