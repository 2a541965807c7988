//! What a test in another process sees and does, over the CRM's own listener, below `/sandbox/`. These are no calls of
//! a vendor and are not counted.
//!
//! `truth.jsonl`, `calls.json`, `deliveries.json` show; `seed?count=`, `add?count=`, `edit?count=` or `?id=`,
//! `opt_out?id=`, `opt_in?id=`, `delete?id=` or `?count=`, `erase?id=`, `restore?id=`, `merge?loser=&winner=`,
//! `company?id=`, `expire`, `revoke`, `block`, `lift` do, and answer with the ids that changed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::sandbox::reply::{self, Reply};

use super::query::Query;
use super::{CrmPerson, CrmSandbox};

/// The answer to a request below `/sandbox/`; `None` for any other path.
pub(super) fn answer(crm: &CrmSandbox, path: &str, query: &str) -> Option<Reply> {
    let name = path.strip_prefix("/sandbox/")?;
    let query = Query::parse(query.as_bytes());
    Some(show(crm, name).or_else(|| act(crm, name, &query)).unwrap_or_else(reply::not_found))
}

fn show(crm: &CrmSandbox, name: &str) -> Option<Reply> {
    match name {
        "truth.jsonl" => {
            let lines: Vec<String> = crm.people().iter().map(|person| line(person).to_string()).collect();
            Some(reply::reply(http::StatusCode::OK, "application/x-ndjson", lines.join("\n") + "\n"))
        }
        "calls.json" => {
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            for ((kind, status), count) in crm.counts() {
                *counts.entry(format!("{} {}", kind.name(), status.unwrap_or(0))).or_default() += count;
            }
            Some(reply::ok(&json!(counts)))
        }
        "deliveries.json" => {
            let totals = crm.deliveries();
            Some(reply::ok(&json!({
                "queued": totals.queued, "lost": totals.lost, "doubled": totals.doubled,
                "attempts": totals.attempts, "accepted": totals.accepted, "given_up": totals.given_up,
                "unheard": totals.unheard, "waiting": crm.undelivered(),
            })))
        }
        _ => None,
    }
}

fn line(person: &CrmPerson) -> Value {
    json!({
        "id": person.id, "first_name": person.first_name, "last_name": person.last_name, "email": person.email,
        "phone": person.phone, "town": person.town, "language": person.language, "tier": person.tier,
        "opt_out": person.opt_out, "changed": person.changed.0, "deleted": !person.is_living(),
        "merged_into": person.merged_into,
    })
}

fn act(crm: &CrmSandbox, name: &str, query: &Query) -> Option<Reply> {
    let number = |name: &str| query.number(name).ok().flatten().and_then(|value| u64::try_from(value).ok());
    let count = number("count").and_then(|count| usize::try_from(count).ok());
    let many = || count.unwrap_or(1);
    let one = |deed: fn(&CrmSandbox, u64) -> bool| number("id").filter(|id| deed(crm, *id)).into_iter().collect();
    let none = Vec::<u64>::new;
    let ids: Vec<u64> = match name {
        "seed" => {
            crm.seed(many());
            none()
        }
        "add" => crm.import_same_second(many()),
        "edit" if count.is_some() => crm.edit_many(many()),
        "edit" => one(CrmSandbox::edit),
        "opt_out" => one(CrmSandbox::opt_out),
        "opt_in" => one(CrmSandbox::opt_in),
        "delete" if count.is_some() => crm.delete_many(many()),
        "delete" => one(CrmSandbox::delete),
        "erase" => one(CrmSandbox::erase),
        "restore" => one(CrmSandbox::restore),
        "merge" => {
            let merged = number("loser").zip(number("winner"));
            merged.filter(|(loser, winner)| crm.merge(*loser, *winner)).into_iter().flat_map(|(a, b)| [a, b]).collect()
        }
        "company" => number("id").inspect(|id| crm.edit_company(*id)).into_iter().collect(),
        "expire" => {
            crm.expire_access_tokens();
            none()
        }
        "revoke" => {
            crm.revoke_authorization();
            none()
        }
        "block" => {
            crm.block();
            none()
        }
        "lift" => {
            crm.lift_block();
            none()
        }
        _ => return None,
    };
    Some(reply::ok(&json!({ "ids": ids })))
}
