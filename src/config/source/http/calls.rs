//! Requests: method, path, query, headers and body with their variables; the preflight and the fetch.

use http::{HeaderName, Method};
use serde::Deserialize;
use serde_json_path::JsonPath;
use toml::Value;

use super::Resolver;
use crate::config::problem::KeyPath;
use crate::config::raw::Leaf;
use crate::config::source::contact::json_path;
use crate::source::http::description::{Call, Fetch, Preflight};
use crate::source::http::records::RecordsPath;
use crate::source::http::template::{JsonTemplate, Template, Variable};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawPreflight {
    method: Option<Leaf>,
    path: Option<Leaf>,
    query: Option<Leaf>,
    headers: Option<Leaf>,
    body: Option<Leaf>,
    require: Option<Leaf>,
    otherwise: Option<Leaf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRequire {
    path: Option<Leaf>,
    equals: Option<Leaf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawFetch {
    method: Option<Leaf>,
    path: Option<Leaf>,
    query: Option<Leaf>,
    headers: Option<Leaf>,
    body: Option<Leaf>,
    records: Option<Leaf>,
    batch: Option<Leaf>,
    follows_merges: Option<Leaf>,
}

/// The leaves of a request, wherever they stand.
pub(super) struct CallLeaves<'a> {
    pub(super) method: Option<&'a Leaf>,
    pub(super) path: Option<&'a Leaf>,
    pub(super) query: Option<&'a Leaf>,
    pub(super) headers: Option<&'a Leaf>,
    pub(super) body: Option<&'a Leaf>,
}

impl<'a> CallLeaves<'a> {
    /// Those of a section: method, path, query, headers, body.
    pub(super) fn of([method, path, query, headers, body]: [&'a Option<Leaf>; 5]) -> Self {
        Self {
            method: method.as_ref(),
            path: path.as_ref(),
            query: query.as_ref(),
            headers: headers.as_ref(),
            body: body.as_ref(),
        }
    }
}

const METHODS: [(&str, &str); 2] = [("GET", "GET"), ("POST", "POST")];

impl Resolver<'_> {
    pub(super) fn call(&mut self, section: &KeyPath, leaves: &CallLeaves<'_>) -> Option<Call> {
        let CallLeaves { method, path, query, headers, body } = leaves;
        let method = match method {
            Some(leaf) => self.reader.choice(Some(leaf), &METHODS, &[]),
            None => Some(if body.is_some() { "POST" } else { "GET" }),
        };
        let path = self.path(section, *path);
        let query = self.query(*query);
        let headers = self.headers(*headers);
        let body = match body {
            Some(leaf) => self.json(leaf, &leaf.value.clone()).map(Some),
            None => Some(None),
        };
        let method = if method? == "POST" { Method::POST } else { Method::GET };
        Some(Call { method, path: path?, query: query?, headers: headers?, body: body? })
    }

    fn path(&mut self, section: &KeyPath, leaf: Option<&Leaf>) -> Option<Template> {
        const ACCEPTED: &str = "a path that begins with /, behind base_url";
        let leaf = self.reader.required(leaf, &section.child("path"), ACCEPTED)?;
        let text = self.reader.text(Some(leaf), ACCEPTED)?.to_owned();
        if !text.starts_with('/') {
            return self.reader.refuse(leaf, "is no path", ACCEPTED);
        }
        self.template(leaf, &text)
    }

    fn query(&mut self, leaf: Option<&Leaf>) -> Option<Vec<(String, Template)>> {
        let mut parameters = Some(Vec::new());
        for (name, leaf) in self.named(leaf)? {
            let template = self.scalar(&leaf);
            parameters = parameters.zip(template).map(|(mut all, template)| {
                all.push((name, template));
                all
            });
        }
        parameters
    }

    fn headers(&mut self, leaf: Option<&Leaf>) -> Option<Vec<(HeaderName, Template)>> {
        let mut headers = Some(Vec::new());
        for (name, leaf) in self.named(leaf)? {
            let Ok(name) = HeaderName::try_from(name.as_str()) else {
                let problem = self.reader.problem(&leaf.key, "is no name of a header");
                self.reader.push(problem);
                headers = None;
                continue;
            };
            let template = self.scalar(&leaf);
            headers = headers.zip(template).map(|(mut all, template)| {
                all.push((name, template));
                all
            });
        }
        headers
    }

    /// One value of a query or header.
    fn scalar(&mut self, leaf: &Leaf) -> Option<Template> {
        let text = match &leaf.value {
            Value::String(text) => text.clone(),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => leaf.value.to_string(),
            Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
                return self.reader.refuse(leaf, "is not one value", "text, a number, or true");
            }
        };
        self.template(leaf, &text)
    }

    /// JSON whose texts are templates.
    fn json(&mut self, leaf: &Leaf, value: &Value) -> Option<JsonTemplate> {
        Some(match value {
            Value::String(text) => JsonTemplate::Text(self.template(leaf, text)?),
            Value::Integer(number) => JsonTemplate::Fixed((*number).into()),
            Value::Float(number) => JsonTemplate::Fixed((*number).into()),
            Value::Boolean(flag) => JsonTemplate::Fixed((*flag).into()),
            Value::Datetime(at) => JsonTemplate::Fixed(at.to_string().into()),
            Value::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| self.json(leaf, item)).collect();
                JsonTemplate::List(items.into_iter().collect::<Option<_>>()?)
            }
            Value::Table(entries) => {
                let entries: Vec<_> =
                    entries.iter().map(|(key, entry)| Some((key.clone(), self.json(leaf, entry)?))).collect();
                JsonTemplate::Table(entries.into_iter().collect::<Option<_>>()?)
            }
        })
    }

    /// A `JSONPath` that must be there.
    pub(super) fn required_path(&mut self, leaf: Option<&Leaf>, key: &KeyPath) -> Option<JsonPath> {
        const ACCEPTED: &str = "a JSONPath such as \"$.data[*]\"";
        self.reader.required(leaf, key, ACCEPTED)?;
        self.json_path(leaf)?
    }

    /// Where records are, which must be there.
    pub(super) fn records(&mut self, leaf: Option<&Leaf>, key: &KeyPath) -> Option<RecordsPath> {
        self.required_path(leaf, key)?;
        RecordsPath::parse(leaf?.value.as_str()?).ok()
    }

    /// A `JSONPath`; `Some(None)` where there is none.
    pub(super) fn json_path(&mut self, leaf: Option<&Leaf>) -> Option<Option<JsonPath>> {
        let Some(leaf) = leaf else { return Some(None) };
        let text = self.reader.text(Some(leaf), "a JSONPath such as \"$.data[*]\"")?.to_owned();
        json_path(self.reader, leaf, &text)?;
        JsonPath::parse(&text).ok().map(Some)
    }

    /// A value to compare with, as JSON; texts may name our variables.
    pub(super) fn value(&mut self, leaf: &Leaf) -> Option<serde_json::Value> {
        Some(match &leaf.value {
            Value::String(text) => {
                let filled = self.scope.fill(self.reader, leaf, text)?;
                if filled.is_secret() {
                    // it stands beside what answers say, where a description is shown
                    return self.reader.refuse(leaf, "compares with a secret", "text that may be seen");
                }
                filled.expose().into()
            }
            Value::Integer(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Boolean(flag) => (*flag).into(),
            Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
                return self.reader.refuse(leaf, "is not one value", "text, a number, true or false");
            }
        })
    }

    pub(super) fn preflight(&mut self, leaf: Option<&Leaf>) -> Option<Option<Preflight>> {
        const REQUIRE: &str = "{ path = \"$.…\", equals = … }";
        let Some(raw) = self.section::<RawPreflight>(leaf)? else { return Some(None) };
        let section = leaf.map(|leaf| leaf.key.clone()).unwrap_or_default();
        let RawPreflight { method, path, query, headers, body, require, otherwise } = &raw;
        let leaves = CallLeaves::of([method, path, query, headers, body]);
        let call = self.call(&section, &leaves);
        self.reader.required(require.as_ref(), &section.child("require"), REQUIRE);
        let require_key = section.child("require");
        let RawRequire { path, equals } = self.section(require.as_ref())??;
        let path = self.required_path(path.as_ref(), &require_key.child("path"));
        let equals = self.reader.required(equals.as_ref(), &require_key.child("equals"), "a value").cloned();
        let equals = equals.and_then(|leaf| self.value(&leaf));
        let scans_otherwise = match otherwise {
            Some(leaf) => self.reader.choice(Some(leaf), &[("halt", false), ("scan", true)], &[]),
            None => Some(false),
        };
        Some(Some(Preflight { call: call?, path: path?, equals: equals?, scans_otherwise: scans_otherwise? }))
    }

    pub(super) fn fetch(&mut self, leaf: Option<&Leaf>) -> Option<Option<Fetch>> {
        let Some(raw) = self.section::<RawFetch>(leaf)? else { return Some(None) };
        let section = leaf.map(|leaf| leaf.key.clone()).unwrap_or_default();
        let RawFetch { method, path, query, headers, body, records, batch, follows_merges } = &raw;
        let leaves = CallLeaves::of([method, path, query, headers, body]);
        let call = self.call(&section, &leaves);
        let records = self.records(records.as_ref(), &section.child("records"));
        let takes_many = call.as_ref().is_some_and(|call| call.uses(Variable::Ids));
        let batch = match batch {
            Some(leaf) => self.reader.whole(Some(leaf), 1..=1000),
            None => Some(if takes_many { 50 } else { 1 }),
        };
        let batch = if takes_many { batch? as usize } else { 1 };
        let follows_merges = match follows_merges {
            Some(leaf) => self.reader.flag(Some(leaf)),
            None => Some(false),
        };
        Some(Some(Fetch { call: call?, records: records?, batch, follows_merges: follows_merges? }))
    }
}
