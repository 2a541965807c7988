//! Text and JSON with places for what is only known when a request is made: the cursor, the page, the ids.
//!
//! One rule places everything: an entry whose variable is unset disappears, and a text that is just one variable keeps
//! the variable's type. Knows no request. `Debug` shows no text: it may hold a secret.

use std::fmt;

use serde_json::{Map, Value};

/// What a request is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `{start}`: the earliest change time that is asked for.
    Start,
    /// `{end}`: the first change time that is not asked for any more (sources without an order only).
    End,
    /// `{page}`: the number of the page.
    Page,
    /// `{offset}`: the records before the page.
    Offset,
    /// `{next}`: what the last answer gave for the next page.
    Next,
    /// `{page_size}`.
    PageSize,
    /// `{id}`: the one record that is fetched.
    Id,
    /// `{ids}`: the records that are fetched.
    Ids,
    /// `{auth.base_url}`: the address that came with the access token.
    BaseUrl,
}

impl Variable {
    const WORDS: [(&'static str, Self); 9] = [
        ("start", Self::Start),
        ("end", Self::End),
        ("page", Self::Page),
        ("offset", Self::Offset),
        ("next", Self::Next),
        ("page_size", Self::PageSize),
        ("id", Self::Id),
        ("ids", Self::Ids),
        ("auth.base_url", Self::BaseUrl),
    ];

    /// The words that may stand between braces.
    pub fn words() -> impl Iterator<Item = &'static str> {
        Self::WORDS.into_iter().map(|(word, _)| word)
    }
}

/// How a variable is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// As it is.
    Plain,
    /// `{ids:csv}`: with commas between them.
    Csv,
    /// `{ids:numbers}`, `{id:number}`: as JSON numbers, for those that are.
    Numbers,
    /// `{ids:objects}`: each as `{"id": …}`.
    Objects,
}

impl Shape {
    const WORDS: [(&'static str, Self); 4] =
        [("csv", Self::Csv), ("number", Self::Numbers), ("numbers", Self::Numbers), ("objects", Self::Objects)];
}

/// What stands in braces and is no variable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no variable {{{0}}}")]
pub struct UnknownVariable(pub String);

/// The variables of one request; `None` and an empty list are unset.
#[derive(Clone, Default)]
pub struct Bindings {
    /// In the form of the parameter.
    pub start: Option<Value>,
    /// In the form of the parameter.
    pub end: Option<Value>,
    /// Counted from the description's first page.
    pub page: Option<u64>,
    /// Records before the page.
    pub offset: Option<u64>,
    /// As the last answer gave it.
    pub next: Option<Value>,
    /// Records.
    pub page_size: Option<u64>,
    /// The CRM's ids.
    pub ids: Vec<String>,
    /// From the token's answer.
    pub base_url: Option<String>,
}

impl Bindings {
    fn value(&self, variable: Variable, shape: Shape) -> Option<Value> {
        match variable {
            Variable::Start => self.start.clone(),
            Variable::End => self.end.clone(),
            Variable::Page => self.page.map(Value::from),
            Variable::Offset => self.offset.map(Value::from),
            Variable::Next => self.next.clone(),
            Variable::PageSize => self.page_size.map(Value::from),
            Variable::Id => self.ids.first().map(|id| id_value(id, shape)),
            Variable::Ids => (!self.ids.is_empty()).then(|| self.ids_value(shape)),
            Variable::BaseUrl => self.base_url.clone().map(Value::String),
        }
    }

    fn ids_value(&self, shape: Shape) -> Value {
        match shape {
            Shape::Csv => Value::String(self.ids.join(",")),
            Shape::Plain | Shape::Numbers => self.ids.iter().map(|id| id_value(id, shape)).collect(),
            Shape::Objects => self.ids.iter().map(|id| serde_json::json!({ "id": id })).collect(),
        }
    }
}

fn id_value(id: &str, shape: Shape) -> Value {
    let number = id.parse::<u64>().ok().filter(|_| shape == Shape::Numbers);
    number.map_or_else(|| Value::String(id.to_owned()), Value::from)
}

#[derive(Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(Variable, Shape),
}

/// A text with variables in it.
#[derive(Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template(****)")
    }
}

impl Template {
    /// Reads a text. Braces that hold anything but small letters, `_`, `.` and `:` are text: JSON in a query is.
    ///
    /// # Errors
    /// Where braces hold a word that is no variable.
    pub fn parse(text: &str) -> Result<Self, UnknownVariable> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            let (before, from) = rest.split_at(open);
            plain.push_str(before);
            let Some(word) = word_in_braces(from) else {
                plain.push('{');
                rest = &from[1..];
                continue;
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            let (variable, shape) = variable_of(word).ok_or_else(|| UnknownVariable(word.to_owned()))?;
            parts.push(Part::Variable(variable, shape));
            rest = &from[word.len() + 2..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// Whether it names the variable.
    #[must_use]
    pub fn uses(&self, variable: Variable) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Variable(used, _) if *used == variable))
    }

    /// The text; `None` where a variable of it is unset. Lists have commas between them.
    #[must_use]
    pub fn text(&self, bindings: &Bindings) -> Option<String> {
        self.text_with(bindings, str::to_owned)
    }

    /// The same, each variable's value changed by `escape` first: what is put into a path must stay one segment.
    #[must_use]
    pub fn text_with(&self, bindings: &Bindings, escape: impl Fn(&str) -> String) -> Option<String> {
        let mut whole = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => whole.push_str(text),
                Part::Variable(Variable::BaseUrl, _) => whole.push_str(bindings.base_url.as_deref()?),
                Part::Variable(variable, shape) => whole.push_str(&escape(&words(&bindings.value(*variable, *shape)?))),
            }
        }
        Some(whole)
    }

    /// The text, or the values of a list that it just is; `None` where a variable is unset.
    #[must_use]
    pub fn texts(&self, bindings: &Bindings) -> Option<Vec<String>> {
        match self.value(bindings)? {
            Value::Array(items) => Some(items.iter().map(words).collect()),
            other => Some(vec![words(&other)]),
        }
    }

    /// The value, of the variable's type where it is just one.
    #[must_use]
    pub fn value(&self, bindings: &Bindings) -> Option<Value> {
        match self.0.as_slice() {
            [Part::Variable(variable, shape)] => bindings.value(*variable, *shape),
            _ => self.text(bindings).map(Value::String),
        }
    }
}

fn word_in_braces(from: &str) -> Option<&str> {
    let word = &from[1..from.find('}')?];
    let is_word = |letter: char| letter.is_ascii_lowercase() || matches!(letter, '_' | '.' | ':');
    (!word.is_empty() && word.chars().all(is_word)).then_some(word)
}

fn variable_of(word: &str) -> Option<(Variable, Shape)> {
    let (name, shape) = match word.split_once(':') {
        Some((name, shape)) => (name, Shape::WORDS.into_iter().find(|(word, _)| *word == shape)?.1),
        None => (word, Shape::Plain),
    };
    let (_, variable) = Variable::WORDS.into_iter().find(|(word, _)| *word == name)?;
    let has_shape = shape == Shape::Plain || matches!(variable, Variable::Id | Variable::Ids);
    has_shape.then_some((variable, shape))
}

fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(","),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// JSON whose texts are templates.
#[derive(Clone, Debug, PartialEq)]
pub enum JsonTemplate {
    /// A text.
    Text(Template),
    /// A number, true, false.
    Fixed(Value),
    /// A list.
    List(Vec<Self>),
    /// An object, in the order of its keys.
    Table(Vec<(String, Self)>),
}

impl JsonTemplate {
    /// The value. An entry of an object whose variable is unset disappears; so does an item of a list, and of items
    /// that are objects or lists themselves the whole item: a condition without its bound is none. What has lost all it
    /// had is unset itself.
    #[must_use]
    pub fn fill(&self, bindings: &Bindings) -> Option<Value> {
        match self {
            Self::Text(template) => template.value(bindings),
            Self::Fixed(value) => Some(value.clone()),
            Self::List(items) => {
                let filled: Vec<Value> = items.iter().filter_map(|item| item.fill_item(bindings)).collect();
                (items.is_empty() || !filled.is_empty()).then_some(Value::Array(filled))
            }
            Self::Table(entries) => {
                let filled = entries.iter().filter_map(|(key, entry)| Some((key.clone(), entry.fill(bindings)?)));
                let filled: Map<String, Value> = filled.collect();
                (entries.is_empty() || !filled.is_empty()).then_some(Value::Object(filled))
            }
        }
    }

    fn fill_item(&self, bindings: &Bindings) -> Option<Value> {
        let is_whole = match self {
            Self::Text(_) | Self::Fixed(_) => true,
            Self::List(items) => items.iter().all(|item| item.fill(bindings).is_some()),
            Self::Table(entries) => entries.iter().all(|(_, entry)| entry.fill(bindings).is_some()),
        };
        if is_whole { self.fill(bindings) } else { None }
    }

    /// Whether a text of it names the variable.
    #[must_use]
    pub fn uses(&self, variable: Variable) -> bool {
        match self {
            Self::Text(template) => template.uses(variable),
            Self::Fixed(_) => false,
            Self::List(items) => items.iter().any(|item| item.uses(variable)),
            Self::Table(entries) => entries.iter().any(|(_, entry)| entry.uses(variable)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(value: &Value) -> JsonTemplate {
        match value {
            Value::String(text) => JsonTemplate::Text(Template::parse(text).unwrap()),
            Value::Array(items) => JsonTemplate::List(items.iter().map(template).collect()),
            Value::Object(entries) => {
                JsonTemplate::Table(entries.iter().map(|(key, entry)| (key.clone(), template(entry))).collect())
            }
            fixed => JsonTemplate::Fixed(fixed.clone()),
        }
    }

    #[test]
    fn an_entry_whose_variable_is_unset_disappears_and_one_variable_keeps_its_type() {
        let first = Bindings { page_size: Some(200), ..Bindings::default() };
        let later = Bindings { start: Some(json!(17)), next: Some(json!(50)), ..first.clone() };
        let ids = Bindings { ids: vec!["1".to_owned(), "a".to_owned()], ..Bindings::default() };
        #[rustfmt::skip]
        let rows = [
            // template, on the first page, on a later one, of a fetch
            (json!("{page_size}"), Some(json!(200)), Some(json!(200)), None),
            (json!("a-{page_size}"), Some(json!("a-200")), Some(json!("a-200")), None),
            (json!({"limit": "{page_size}", "after": "{next}"}), Some(json!({"limit": 200})), Some(json!({"limit": 200, "after": 50})), None),
            // a condition without its bound is none, and neither is a group without conditions
            (json!({"groups": [{"filters": [{"name": "at", "value": "{start}"}, {"name": "at", "value": "{end}"}]}], "l": 1}),
                Some(json!({"l": 1})),
                Some(json!({"groups": [{"filters": [{"name": "at", "value": 17}]}], "l": 1})),
                Some(json!({"l": 1}))),
            (json!({"domain": [["at", ">=", "{start}"], ["company", "=", false]]}),
                Some(json!({"domain": [["company", "=", false]]})),
                Some(json!({"domain": [["at", ">=", 17], ["company", "=", false]]})),
                Some(json!({"domain": [["company", "=", false]]}))),
            (json!({"context": {}, "list": []}), Some(json!({"context": {}, "list": []})), Some(json!({"context": {}, "list": []})), Some(json!({"context": {}, "list": []}))),
            (json!({"ids": "{ids}"}), None, None, Some(json!({"ids": ["1", "a"]}))),
            (json!({"ids": "{ids:numbers}"}), None, None, Some(json!({"ids": [1, "a"]}))),
            (json!({"inputs": "{ids:objects}"}), None, None, Some(json!({"inputs": [{"id": "1"}, {"id": "a"}]}))),
            (json!("{ids:csv}"), None, None, Some(json!("1,a"))),
            (json!({"id": "{id:number}"}), None, None, Some(json!({"id": 1}))),
            // other braces are text
            (json!("{\"a\":1} {X} {}"), Some(json!("{\"a\":1} {X} {}")), Some(json!("{\"a\":1} {X} {}")), Some(json!("{\"a\":1} {X} {}"))),
        ];
        for (text, on_first, on_later, of_ids) in rows {
            let template = template(&text);
            assert_eq!(template.fill(&first), on_first, "{text}");
            assert_eq!(template.fill(&later), on_later, "{text}");
            assert_eq!(template.fill(&ids), of_ids, "{text}");
        }
    }

    #[test]
    fn a_list_is_a_repeated_parameter_and_a_path_takes_escaped_values() {
        let ids = Bindings { ids: vec!["1".to_owned(), "a/b".to_owned()], ..Bindings::default() };
        assert_eq!(Template::parse("{ids}").unwrap().texts(&ids).unwrap(), ["1", "a/b"]);
        assert_eq!(Template::parse("x{ids}").unwrap().texts(&ids).unwrap(), ["x1,a/b"]);
        let escape = |text: &str| text.replace('/', "%2F");
        assert_eq!(Template::parse("/c/{ids}").unwrap().text_with(&ids, escape).unwrap(), "/c/1,a%2Fb");
    }

    #[test]
    fn what_is_no_variable_is_named() {
        for (text, word) in
            [("{strat}", "strat"), ("a{var.x}", "var.x"), ("{start:csv}", "start:csv"), ("{ids:x}", "ids:x")]
        {
            assert_eq!(Template::parse(text).unwrap_err(), UnknownVariable(word.to_owned()));
        }
    }
}
