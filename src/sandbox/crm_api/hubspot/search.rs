//! HubSpot's search: groups of filters, one sort, an offset as the cursor, an end at 10,000, and an index that sees a
//! write late.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::clock::Timestamp;
use crate::sandbox::crm_api::page;
use crate::sandbox::crm_api::people::CrmPerson;
use crate::sandbox::crm_api::state::{Request, State};
use crate::sandbox::reply::{self, Reply};

use super::{bad, view};

const LIMIT_DEFAULT: i64 = 10;
const LIMIT_MAX: i64 = 200;
const BODY_CHARS_MAX: usize = 3000;
const GROUPS_MAX: usize = 5;
const FILTERS_MAX: usize = 6;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Search {
    #[serde(default)]
    filter_groups: Vec<Group>,
    #[serde(default)]
    sorts: Vec<Sort>,
    #[serde(default)]
    properties: Vec<String>,
    limit: Option<i64>,
    after: Option<Value>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    filters: Vec<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    property_name: String,
    operator: String,
    value: Option<Value>,
    high_value: Option<Value>,
    #[serde(default)]
    values: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Sort {
    #[serde(rename_all = "camelCase")]
    Whole {
        property_name: String,
        #[serde(default)]
        direction: String,
    },
    Name(String),
}

/// `POST /crm/v3/objects/contacts/search`.
pub(super) fn answer(state: &mut State, now: Timestamp, request: &Request) -> Reply {
    if std::str::from_utf8(&request.body).map_or(usize::MAX, |body| body.chars().count()) > BODY_CHARS_MAX {
        return bad("The request body is longer than 3000 characters");
    }
    let search: Search = match serde_json::from_slice(&request.body) {
        Ok(search) => search,
        Err(_) => return bad("Invalid input JSON"),
    };
    match carry_out(state, now, &search) {
        Ok(body) => reply::ok(&body),
        Err(reason) => bad(&reason),
    }
}

fn carry_out(state: &mut State, now: Timestamp, search: &Search) -> Result<Value, String> {
    let limit = search.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(format!("limit must be between 1 and {LIMIT_MAX}"));
    }
    let groups = &search.filter_groups;
    if groups.len() > GROUPS_MAX || groups.iter().any(|group| group.filters.len() > FILTERS_MAX) {
        return Err(format!("At most {GROUPS_MAX} filterGroups of {FILTERS_MAX} filters"));
    }
    let (cap, size) = (state.options.search_cap, state.page_size(limit));
    let from = match &search.after {
        None | Some(Value::Null) => 0,
        Some(after) => number(after).and_then(|after| usize::try_from(after).ok()).ok_or("after is not valid")?,
    };
    if from >= cap {
        return Err(format!("Paging is not possible beyond {cap} results of one query"));
    }
    let (by, descending) = sorted_by(&search.sorts)?;
    state.index.advance(now);
    let people = state.searchable();
    let mut keyed = Vec::new();
    for person in people.values() {
        if matches(groups, person)? {
            keyed.push((view::number(person, by).unwrap_or(i64::MIN), person.id));
        }
    }
    let total = keyed.len();
    let chosen = page::cut(keyed, from, size.min(cap - from), &state.order(descending));
    let asked: Vec<&str> = search.properties.iter().map(String::as_str).collect();
    let shown = chosen.iter().filter_map(|id| people.get(id));
    let results: Vec<Value> = shown.map(|person| view::contact(person, &asked)).collect();
    let end = from + results.len();
    let mut body = json!({ "total": total, "results": results });
    if end < total {
        body["paging"] = json!({ "next": { "after": end.to_string(), "link": format!("?after={end}") } });
    }
    Ok(body)
}

/// The property of the one sort that is allowed, and whether it goes down.
fn sorted_by(sorts: &[Sort]) -> Result<(&str, bool), String> {
    match sorts {
        [] => Ok(("hs_object_id", false)),
        [Sort::Whole { property_name, direction }] => Ok((property_name, direction.to_uppercase().starts_with("DESC"))),
        [Sort::Name(name)] => Ok((name.trim_start_matches('-'), name.starts_with('-'))),
        [_, _, ..] => Err("At most one sort".to_owned()),
    }
}

fn matches(groups: &[Group], person: &CrmPerson) -> Result<bool, String> {
    if groups.is_empty() {
        return Ok(true);
    }
    for group in groups {
        let mut all = true;
        for filter in &group.filters {
            all &= passes(filter, person)?;
        }
        if all {
            return Ok(true);
        }
    }
    Ok(false)
}

fn passes(filter: &Filter, person: &CrmPerson) -> Result<bool, String> {
    let name = filter.property_name.as_str();
    if !view::PROPERTIES.iter().any(|(known, _)| *known == name) {
        return Err(format!("There was a problem with the request: no property {name}"));
    }
    let bound = |given: &Option<Value>| {
        let text = given.as_ref().and_then(words).ok_or_else(|| format!("{} needs a value", filter.operator))?;
        value_number(name, &text).ok_or_else(|| format!("{text} is no value for {name}"))
    };
    let has = view::number(person, name);
    let same = |value: &Value| words(value).is_some_and(|text| alike(name, person, &text));
    Ok(match filter.operator.as_str() {
        "GTE" => has >= Some(bound(&filter.value)?),
        "GT" => has > Some(bound(&filter.value)?),
        "LTE" => has.is_some() && has <= Some(bound(&filter.value)?),
        "LT" => has.is_some() && has < Some(bound(&filter.value)?),
        "BETWEEN" => {
            let (low, high) = (bound(&filter.value)?, bound(&filter.high_value)?);
            has.is_some_and(|has| (low..=high).contains(&has))
        }
        "EQ" => filter.value.as_ref().is_some_and(same),
        "NEQ" => !filter.value.as_ref().is_some_and(same),
        "IN" => filter.values.iter().any(same),
        "NOT_IN" => !filter.values.iter().any(same),
        "HAS_PROPERTY" => view::property(person, name).is_some(),
        "NOT_HAS_PROPERTY" => view::property(person, name).is_none(),
        other => return Err(format!("{other} is no operator")),
    })
}

fn alike(name: &str, person: &CrmPerson, text: &str) -> bool {
    match (view::number(person, name), value_number(name, text)) {
        (Some(has), Some(text)) => has == text,
        (None, _) | (_, None) => view::property(person, name).is_some_and(|has| has.eq_ignore_ascii_case(text)),
    }
}

fn words(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned).or_else(|| value.is_number().then(|| value.to_string()))
}

fn number(value: &Value) -> Option<i64> {
    words(value)?.parse().ok()
}

/// A number, or a moment in milliseconds (given as such, or as RFC 3339), for the properties that are one.
fn value_number(name: &str, text: &str) -> Option<i64> {
    let (_, kind) = view::PROPERTIES.iter().find(|(known, _)| *known == name)?;
    match *kind {
        "number" => text.parse().ok(),
        "datetime" => text
            .parse()
            .ok()
            .or_else(|| chrono::DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())),
        _ => None,
    }
}
