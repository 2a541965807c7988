//! Where a value stands in a record, and reading it there in three states.
//!
//! It knows records only: no field of Reteno and no rule about values. What it reads it never prints.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use serde_json::Value;
use serde_json_path::JsonPath;

use super::part::Part;
use super::record::{Record, Row, is_unreadable};

/// A place in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// A column, or a key of the top object. In a JSON record a name with dots that is no key is walked through
    /// nested objects: `address.city`.
    Name(String),
    /// An RFC 9535 `JSONPath`. A table row is seen as an object of its columns.
    Path {
        /// The path.
        path: JsonPath,
        /// The key of the top object that it begins with; `None` where it begins otherwise, as `$..city` does.
        head: Option<String>,
    },
    /// The first of these that holds a value.
    FirstOf(Vec<Selector>),
    /// A part of what stands at another place: `first_word($.name)`.
    Part(Part, Box<Selector>),
}

/// Why a text is no selector.
#[derive(Debug, thiserror::Error)]
pub enum SelectorError {
    /// Nothing but white space.
    #[error("the place of a value is empty")]
    Empty,
    /// It begins with `$` and is no `JSONPath`.
    #[error("read {text:?} as a JSONPath")]
    Path {
        /// As configured.
        text: String,
        /// Where and why.
        #[source]
        source: serde_json_path::ParseError,
    },
}

impl SelectorError {
    /// How to repair the configuration.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Empty => "give a column or key, or a JSONPath that begins with $",
            Self::Path { .. } => "see RFC 9535; a key that itself begins with $ is written $['$key']",
        }
    }
}

/// What stands at a place. `Debug` shows the state only.
#[derive(Clone, PartialEq, Eq)]
pub enum Read<'a> {
    /// The record does not speak of it: the column, or the first key of the path, is missing.
    Absent,
    /// The record says that there is nothing: null, an empty cell, white space, an empty list; or the first key of the
    /// path is there and what it holds (null, a list, an object) has nothing at the rest of the path. So a removed
    /// e-mail address is one that is gone: `$.emails[0].value` in `{"emails": []}`.
    Empty,
    /// Text without outer white space. Numbers have no exponent and no `.0`; a list of scalars is joined by commas.
    Value(Cow<'a, str>),
    /// An object, or a list that holds one: no value of a field.
    NotScalar,
    /// A number that was rounded when it was read: several numbers look like it, so it is none of them.
    Rounded,
}

impl fmt::Debug for Read<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Empty => "Empty",
            Self::Value(_) => "Value(****)",
            Self::NotScalar => "NotScalar",
            Self::Rounded => "Rounded",
        })
    }
}

/// What a list is taken for.
#[derive(Clone, Copy)]
enum Lists {
    /// A value: its items, joined by commas.
    Joined,
    /// No value, unless it is empty.
    Refused,
    /// Its first item that holds a value.
    First,
}

impl<'a> Read<'a> {
    /// The same, bound to nothing.
    #[must_use]
    pub fn into_owned(self) -> Read<'static> {
        match self {
            Self::Absent => Read::Absent,
            Self::Empty => Read::Empty,
            Self::Value(text) => Read::Value(Cow::Owned(text.into_owned())),
            Self::NotScalar => Read::NotScalar,
            Self::Rounded => Read::Rounded,
        }
    }

    fn part(self, part: Part) -> Self {
        match self {
            Self::Value(Cow::Borrowed(text)) => part.of(text).map_or(Self::Empty, |part| Self::Value(part.into())),
            Self::Value(Cow::Owned(text)) => {
                part.of(&text).map_or(Self::Empty, |part| Self::Value(Cow::Owned(part.to_owned())))
            }
            Self::Absent | Self::Empty | Self::NotScalar | Self::Rounded => self,
        }
    }

    fn text(text: &'a str) -> Self {
        let text = text.trim();
        if text.is_empty() { Self::Empty } else { Self::Value(Cow::Borrowed(text)) }
    }

    fn json(value: &'a Value, lists: Lists) -> Self {
        match value {
            Value::Null => Self::Empty,
            Value::Bool(true) => Self::Value(Cow::Borrowed("true")),
            Value::Bool(false) => Self::Value(Cow::Borrowed("false")),
            Value::Number(number) => plain_number(number).map_or(Self::Rounded, |text| Self::Value(Cow::Owned(text))),
            Value::String(text) => Self::text(text),
            Value::Array(items) => Self::list(items.iter(), lists),
            Value::Object(_) => Self::NotScalar,
        }
    }

    fn list(mut items: impl Iterator<Item = &'a Value>, lists: Lists) -> Self {
        match lists {
            Lists::Joined => Self::joined(items),
            Lists::Refused => match Self::joined(items) {
                Self::Empty => Self::Empty,
                Self::Absent | Self::NotScalar | Self::Rounded | Self::Value(_) => Self::NotScalar,
            },
            Lists::First => items
                .find_map(|item| match Self::json(item, Lists::First) {
                    Self::Absent | Self::Empty => None,
                    found @ (Self::NotScalar | Self::Rounded | Self::Value(_)) => Some(found),
                })
                .unwrap_or(Self::Empty),
        }
    }

    fn joined(items: impl Iterator<Item = &'a Value>) -> Self {
        let mut joined: Option<Cow<'a, str>> = None;
        for item in items {
            if item.is_array() {
                return Self::NotScalar;
            }
            match Self::json(item, Lists::Joined) {
                Self::Absent | Self::Empty => {}
                Self::NotScalar => return Self::NotScalar,
                Self::Rounded => return Self::Rounded,
                Self::Value(text) => match &mut joined {
                    None => joined = Some(text),
                    Some(list) => {
                        let list = list.to_mut();
                        list.push(',');
                        list.push_str(&text);
                    }
                },
            }
        }
        joined.map_or(Self::Empty, Self::Value)
    }
}

impl Selector {
    /// Reads a selector as it is configured: a `JSONPath` when it begins with `$`, else a name.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SelectorError::Empty);
        }
        if let Some((part, inner)) = Part::split(text) {
            return Self::parse(inner).map(|inner| Self::Part(part, Box::new(inner)));
        }
        if !text.starts_with('$') {
            return Ok(Self::Name(text.to_owned()));
        }
        let path = JsonPath::parse(text).map_err(|source| SelectorError::Path { text: text.to_owned(), source })?;
        Ok(Self::Path { path, head: head_of(text).map(str::to_owned) })
    }

    /// The first of several selectors that holds a value.
    pub fn parse_first_of(texts: &[String]) -> Result<Self, SelectorError> {
        if texts.is_empty() {
            return Err(SelectorError::Empty);
        }
        texts.iter().map(|text| Self::parse(text)).collect::<Result<_, _>>().map(Self::FirstOf)
    }

    /// What stands there in a record.
    #[must_use]
    pub fn read(&self, record: &Record) -> Read<'static> {
        self.read_in(&View::of(record)).into_owned()
    }

    /// As [`Selector::read`], borrowing from a view that is shared by all selectors of a mapping.
    pub(super) fn read_in<'a>(&self, view: &'a View<'_>) -> Read<'a> {
        self.read_with(view, Lists::Joined)
    }

    /// As [`Selector::read_in`], of several places at this one.
    pub(super) fn read_at<'a>(&self, place: usize, view: &'a View<'_>) -> Read<'a> {
        match self {
            Self::FirstOf(selectors) => selectors.get(place).map_or(Read::Absent, |selector| selector.read_in(view)),
            Self::Name(_) | Self::Path { .. } | Self::Part(..) => self.read_in(view),
        }
    }

    /// As [`Selector::read_in`], for what is one value or none: a list that holds anything is no scalar.
    pub(super) fn read_one_in<'a>(&self, view: &'a View<'_>) -> Read<'a> {
        self.read_with(view, Lists::Refused)
    }

    /// As [`Selector::read_in`], for what is one value of possibly many: of a list the first.
    pub(super) fn read_first_in<'a>(&self, view: &'a View<'_>) -> Read<'a> {
        self.read_with(view, Lists::First)
    }

    fn read_with<'a>(&self, view: &'a View<'_>, lists: Lists) -> Read<'a> {
        let read = match self {
            Self::Name(name) => match view.record {
                Record::Row(row) => read_cell(row, name),
                Record::Json(value) => match find(value, name) {
                    Some(found) => Read::json(found, lists),
                    None => nothing_at(name.split_once('.').and_then(|(head, _)| value.get(head))),
                },
            },
            Self::Path { path, head } => {
                let nodes = path.query(view.json());
                match (nodes.len(), nodes.first()) {
                    (1, Some(node)) => Read::json(node, lists),
                    (_, None) => nothing_at(head.as_ref().and_then(|head| view.json().get(head))),
                    (_, Some(_)) => Read::list(nodes.all().into_iter(), lists),
                }
            }
            Self::FirstOf(selectors) => return read_first(selectors, view, lists),
            Self::Part(part, inner) => return inner.read_with(view, Lists::Refused).part(*part),
        };
        match read {
            Read::Value(text) if view.nulls.iter().any(|null| *null == text) => Read::Empty,
            read => read,
        }
    }

    /// The columns of a table that it reads, in its order; `None` for one that its text does not tell.
    pub(super) fn columns(&self) -> Vec<Option<&str>> {
        match self {
            Self::Name(name) => vec![Some(name)],
            Self::Path { head, .. } => vec![head.as_deref()],
            Self::FirstOf(selectors) => selectors.iter().flat_map(Self::columns).collect(),
            Self::Part(_, inner) => inner.columns(),
        }
    }
}

/// What a path says that finds nothing, by what stands at its first key. A text or number there has another shape than
/// the path expects (an id in place of the object), which says nothing of what is looked for.
fn nothing_at(head: Option<&Value>) -> Read<'static> {
    match head {
        // what cannot be read says nothing of what is in it
        Some(value @ Value::Object(_)) if is_unreadable(value) => Read::Absent,
        Some(Value::Null | Value::Array(_) | Value::Object(_)) => Read::Empty,
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) | None => Read::Absent,
    }
}

/// The first key of a `JSONPath`, where it is one key: `$.name…` or `$['name']…`.
fn head_of(path: &str) -> Option<&str> {
    let rest = path.strip_prefix('$')?.trim_start();
    if let Some(name) = rest.strip_prefix('.') {
        let end = name.find(|letter: char| letter == '.' || letter == '[' || letter.is_whitespace());
        return Some(&name[..end.unwrap_or(name.len())]).filter(|name| !name.is_empty() && *name != "*");
    }
    quoted_key(rest)
}

/// The key of the brackets that a text begins with: `['name']`.
pub(super) fn quoted_key(rest: &str) -> Option<&str> {
    let quoted = rest.strip_prefix('[')?.trim_start();
    let quote = quoted.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let (name, after) = quoted[1..].split_once(quote)?;
    (!name.contains('\\') && after.trim_start().starts_with(']')).then_some(name)
}

/// A record as selectors see it: a row becomes a JSON object at most once, and only for a `JSONPath`.
pub(super) struct View<'a> {
    record: &'a Record,
    /// Values by which the CRM means nothing.
    nulls: &'a [String],
    row_as_json: OnceCell<Value>,
    in_list: OnceCell<Value>,
}

impl<'a> View<'a> {
    pub(super) fn of(record: &'a Record) -> Self {
        Self::with_nulls(record, &[])
    }

    /// The same; what is read of it and is one of `nulls` is empty.
    pub(super) fn with_nulls(record: &'a Record, nulls: &'a [String]) -> Self {
        Self { record, nulls, row_as_json: OnceCell::new(), in_list: OnceCell::new() }
    }

    pub(super) fn json(&self) -> &Value {
        match self.record {
            Record::Json(value) => value,
            Record::Row(row) => self.row_as_json.get_or_init(|| row_as_object(row)),
        }
    }

    /// A list that holds the record alone. A copy, made at most once and only where a condition asks.
    pub(super) fn in_list(&self) -> &Value {
        self.in_list.get_or_init(|| Value::Array(vec![self.json().clone()]))
    }
}

fn read_cell<'a>(row: &'a Row, name: &str) -> Read<'a> {
    let cell = row.header.place(name).and_then(|place| row.cells.get(place));
    cell.map_or(Read::Absent, Read::text)
}

fn find<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.get(name).or_else(|| {
        if !name.contains('.') {
            return None;
        }
        name.split('.').try_fold(value, |value, key| value.get(key))
    })
}

/// A value wins; else something that is no scalar, so that it is reported; else empty, where any place was there.
fn read_first<'a>(selectors: &[Selector], view: &'a View<'_>, lists: Lists) -> Read<'a> {
    let mut otherwise = Read::Absent;
    for selector in selectors {
        match (selector.read_with(view, lists), &otherwise) {
            (found @ Read::Value(_), _) => return found,
            (found @ (Read::NotScalar | Read::Rounded), _) => otherwise = found,
            (Read::Empty, Read::Absent) => otherwise = Read::Empty,
            (Read::Empty | Read::Absent, _) => {}
        }
    }
    otherwise
}

fn row_as_object(row: &Row) -> Value {
    let mut object = serde_json::Map::new();
    for (name, cell) in row.header.names().iter().zip(&row.cells) {
        object.entry(name.clone()).or_insert_with(|| Value::String(cell.to_owned()));
    }
    Value::Object(object)
}

/// From here on a float skips whole numbers: two ids that differ in the last digit are one float.
const FLOAT_EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Taps give ids as floats: `1.0` and `1` are one id. `Display` of a float never writes an exponent. `None` for a float
/// that stands for several whole numbers, as all of more than 64 bits do.
fn plain_number(number: &serde_json::Number) -> Option<String> {
    match number.as_f64() {
        Some(float) if number.is_f64() => {
            (float.abs() < FLOAT_EXACT_MAX).then(|| format!("{}", float + 0.0)) // -0.0 + 0.0 is 0.0
        }
        _ => Some(number.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::record::Header;
    use super::*;

    fn value(text: &str) -> Read<'static> {
        Read::Value(Cow::Owned(text.to_owned()))
    }

    fn row(cells: &[(&str, &str)]) -> Record {
        let header = Header::new(cells.iter().map(|(name, _)| (*name).to_owned()).collect());
        Record::Row(Row { header: Arc::new(header), cells: cells.iter().map(|(_, cell)| *cell).collect() })
    }

    #[test]
    fn three_states_of_a_json_record() {
        let record = Record::Json(json!({
            "text": " Olena ", "null": null, "blank": " \t", "int": 42, "big": 18_446_744_073_709_551_615_u64,
            "float": 12.5, "whole": 1.0, "huge": 1e21, "rounded": 9_007_199_254_740_992.0, "minus_rounded": -1e16,
            "exact": 9_007_199_254_740_991.0, "hidden": [1, 1e17], "tiny": 1e-7, "minus": -0.0, "yes": true,
            "list": ["a", null, 2.0, "", "b"], "one": ["a"], "none": [], "blanks": [null, ""], "deep": [["a"]],
            "object": {"city": "Lviv", "nothing": null}, "objects": [{"v": "a"}, {"v": "b"}],
            "a.b": "literal", "a": {"b": "nested"},
        }));
        let rows = [
            ("text", value("Olena")),
            ("missing", Read::Absent),
            ("null", Read::Empty),
            ("blank", Read::Empty),
            ("int", value("42")),
            ("big", value("18446744073709551615")),
            ("float", value("12.5")),
            // a tap's float id
            ("whole", value("1")),
            // no exponent either way
            // a float that stands for several whole numbers is none of them
            ("huge", Read::Rounded),
            ("rounded", Read::Rounded),
            ("minus_rounded", Read::Rounded),
            ("hidden", Read::Rounded),
            ("exact", value("9007199254740991")),
            ("tiny", value("0.0000001")),
            ("minus", value("0")),
            ("yes", value("true")),
            // a checkbox list; nulls and blanks hold nothing
            ("list", value("a,2,b")),
            ("one", value("a")),
            ("none", Read::Empty),
            ("blanks", Read::Empty),
            ("deep", Read::NotScalar),
            ("object", Read::NotScalar),
            ("objects", Read::NotScalar),
            // the key as it stands goes before the nested one
            ("a.b", value("literal")),
            ("object.city", value("Lviv")),
            ("object.nothing", Read::Empty),
            ("$.object.city", value("Lviv")),
            // what holds it is there, and has none: it was removed
            ("object.street", Read::Empty),
            ("$.object.street", Read::Empty),
            ("null.street", Read::Empty),
            ("$.null[?@.code == 'PHONE'].values[0].value", Read::Empty),
            ("$.none[0].value", Read::Empty),
            ("$['none'][0].value", Read::Empty),
            ("$[ \"none\" ][0].value", Read::Empty),
            // what would hold it is not there, or cannot hold it
            ("gone.street", Read::Absent),
            ("$.gone[0].value", Read::Absent),
            ("text.street", Read::Absent),
            ("$.int.street", Read::Absent),
            // without one first key nothing is said
            ("$..street", Read::Absent),
            ("$.*.street", Read::Absent),
            ("$['none','gone'].street", Read::Absent),
            ("$.null", Read::Empty),
            ("$.objects[*].v", value("a,b")),
            ("$.objects[?@.v == 'b'].v", value("b")),
            ("$.objects[?@.v == 'c'].v", Read::Empty),
        ];
        for (selector, wanted) in rows {
            let got = Selector::parse(selector).unwrap().read(&record);
            assert!(got == wanted, "{selector}: {got:?}");
        }
    }

    #[test]
    fn rows_are_read_by_column_and_by_path() {
        let record = row(&[("id", " 7 "), ("first.name", "Ira"), ("mail", ""), ("id", "8")]);
        let rows = [
            ("id", value("7")),
            ("first.name", value("Ira")),
            ("mail", Read::Empty),
            ("phone", Read::Absent),
            // of two equal columns the first, as by name
            ("$.id", value("7")),
            ("$['first.name']", value("Ira")),
            ("$.mail", Read::Empty),
            ("$.phone", Read::Absent),
        ];
        for (selector, wanted) in rows {
            let got = Selector::parse(selector).unwrap().read(&record);
            assert!(got == wanted, "{selector}: {got:?}");
        }
    }

    #[test]
    fn a_short_row_does_not_speak_of_its_missing_cells() {
        let header = Arc::new(Header::new(vec!["id".into(), "mail".into()]));
        let record = Record::Row(Row { header, cells: csv::StringRecord::from(vec!["7"]) });
        assert!(Selector::Name("mail".into()).read(&record) == Read::Absent);
        assert!(Selector::parse("$.mail").unwrap().read(&record) == Read::Absent);
    }

    #[test]
    fn the_first_value_wins_and_empty_is_more_than_absent() {
        let record = Record::Json(json!({"a": null, "b": "", "c": "x", "d": "y", "o": {}}));
        let rows: [(&[&str], Read<'static>); 6] = [
            (&["a", "c", "d"], value("x")),
            (&["missing", "$.d", "c"], value("y")),
            (&["a", "b"], Read::Empty),
            (&["missing", "a"], Read::Empty),
            (&["missing", "gone"], Read::Absent),
            // reported rather than taken for empty
            (&["o", "a"], Read::NotScalar),
        ];
        for (selectors, wanted) in rows {
            let texts: Vec<String> = selectors.iter().map(|&text| text.to_owned()).collect();
            let got = Selector::parse_first_of(&texts).unwrap().read(&record);
            assert!(got == wanted, "{selectors:?}: {got:?}");
        }
    }

    #[test]
    fn a_selector_that_cannot_be_read_is_an_error_with_a_hint() {
        assert!(matches!(Selector::parse("  "), Err(SelectorError::Empty)));
        assert!(matches!(Selector::parse_first_of(&[]), Err(SelectorError::Empty)));
        let error = Selector::parse("$price(").unwrap_err();
        assert_eq!(error.to_string(), "read \"$price(\" as a JSONPath");
        assert!(error.hint().contains("$['$key']"));
    }

    #[test]
    fn what_was_read_cannot_be_printed() {
        assert_eq!(format!("{:?}", value("secret")), "Value(****)");
    }
}
