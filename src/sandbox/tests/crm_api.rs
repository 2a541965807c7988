//! The sandbox CRM against the vendors' documented shapes, and its traps: each is seen to be there.

mod amocrm;
mod hooks;
mod hubspot;
mod pipedrive;

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::clock::{Clock, Timestamp};
use crate::sandbox::crm_api::{CrmOptions, CrmOutcome, CrmSandbox, Rates};

/// 2026-11-20 09:00:00.120 UTC.
const NOW: Timestamp = Timestamp(1_795_165_200_120);

/// A CRM without limits, at a paused moment.
fn crm(change: impl FnOnce(&mut CrmOptions)) -> CrmSandbox {
    let mut options = CrmOptions { rates: Rates::unlimited(), ..CrmOptions::default() };
    change(&mut options);
    CrmSandbox::new(options, Clock::simulated(NOW))
}

fn send(crm: &CrmSandbox, method: &str, path: &str, token: &str, body: &str) -> http::Response<Bytes> {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("https://crm.example.com{path}"))
        .header("Authorization", format!("Bearer {token}"))
        .body(Bytes::from(body.to_owned()))
        .unwrap();
    let CrmOutcome::Answer(answer) = crm.answer(request) else { panic!("lost") };
    answer
}

fn read(answer: &http::Response<Bytes>) -> (u16, Value) {
    (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap_or(Value::Null))
}

/// With the static token.
fn call(crm: &CrmSandbox, method: &str, path: &str, body: &str) -> (u16, Value) {
    read(&send(crm, method, path, "crm-static-token", body))
}

fn get(crm: &CrmSandbox, path: &str) -> Value {
    let (status, body) = call(crm, "GET", path, "");
    assert_eq!(status, 200, "{path}: {body}");
    body
}

fn fixture(path: &str) -> Value {
    serde_json::from_str(&fixture_text(path)).unwrap()
}

fn fixture_text(path: &str) -> String {
    std::fs::read_to_string(format!("{}/tests/fixtures/crm/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// That ours has the same names and types as theirs; an element of a list must be like one of theirs.
#[track_caller]
fn same_shape(theirs: &Value, ours: &Value) {
    if let Some(difference) = difference(theirs, ours, "$") {
        panic!("{difference}");
    }
}

fn difference(theirs: &Value, ours: &Value, at: &str) -> Option<String> {
    match (theirs, ours) {
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::Object(theirs), Value::Object(ours)) => {
            let (names, our_names): (Vec<_>, Vec<_>) = (theirs.keys().collect(), ours.keys().collect());
            if names != our_names {
                return Some(format!("{at}: {our_names:?}, documented {names:?}"));
            }
            theirs.iter().find_map(|(name, value)| difference(value, &ours[name], &format!("{at}.{name}")))
        }
        (Value::Array(theirs), Value::Array(ours)) => ours.iter().find_map(|ours| {
            let all: Vec<_> = theirs.iter().map(|theirs| difference(theirs, ours, &format!("{at}[]"))).collect();
            if all.contains(&None) { None } else { all.into_iter().next().flatten() }
        }),
        _ => {
            let same = std::mem::discriminant(theirs) == std::mem::discriminant(ours);
            (!same).then(|| format!("{at}: {ours}, documented {theirs}"))
        }
    }
}

#[test]
fn a_missing_name_is_a_difference() {
    let theirs = serde_json::json!({"a": [{"b": 1, "c": null}]});
    assert_eq!(difference(&theirs, &serde_json::json!({"a": [{"b": 2, "c": "x"}]}), "$"), None);
    for ours in [serde_json::json!({"a": [{"b": 2}]}), serde_json::json!({"a": [{"b": "2", "c": 1}]})] {
        assert!(difference(&theirs, &ours, "$").is_some(), "{ours}");
    }
}

/// The ids of a page, in order.
fn ids(page: &Value) -> Vec<u64> {
    let rows = page.as_array().unwrap();
    rows.iter().map(|row| row["id"].as_u64().or_else(|| row["id"].as_str()?.parse().ok()).unwrap()).collect()
}

async fn pass(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_people_and_all_of_them_can_be_reached() {
    let (one, other) = (crm(|_| ()), crm(|_| ()));
    one.seed(300);
    other.seed(300);
    assert_eq!(one.people(), other.people());
    assert!(one.people().iter().all(|person| person.flaw.is_none() && !person.email.is_empty()));
    let flawed = crm(|options| options.flawed = true);
    flawed.seed(300);
    assert!(flawed.people().iter().any(|person| person.flaw.is_some()));
    let mut seconds: Vec<i64> = one.people().iter().map(|person| person.changed.0 / 1000).collect();
    seconds.dedup();
    assert!(seconds.len() < 300, "some share a second");
}

#[tokio::test(start_paused = true)]
async fn it_listens_on_loopback_only() {
    let error = crm(|_| ()).listen("192.0.2.1:0".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

/// A request over a real socket, as a test in another process makes it.
async fn over_http(base: &str, path: &str) -> (u16, Bytes) {
    let timeouts = crate::http::socket::Timeouts {
        connect: Duration::from_secs(5),
        read: Duration::from_secs(5),
        total: Duration::from_secs(5),
    };
    let request = http::Request::get(format!("{base}{path}")).header("Authorization", "Bearer crm-static-token");
    let via = crate::http::socket::HttpExchange::new(timeouts, 1 << 20);
    let answer = crate::http::Exchange::exchange(&via, request.body(Bytes::new()).unwrap()).await.unwrap();
    (answer.status().as_u16(), answer.into_body())
}

#[tokio::test]
async fn another_process_changes_people_and_sees_the_truth() {
    let crm = CrmSandbox::new(CrmOptions { rates: Rates::unlimited(), ..CrmOptions::default() }, Clock::system());
    let listening = crm.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let base = listening.base_url();
    let act = async |path: &str| -> Value {
        let (status, body) = over_http(&base, &format!("/sandbox/{path}")).await;
        assert_eq!(status, 200, "{path}");
        serde_json::from_slice(&body).unwrap()
    };
    act("seed?count=10").await;
    let all: Vec<u64> = crm.people().iter().map(|person| person.id).collect();
    assert_eq!(act("edit?count=3").await["ids"].as_array().unwrap().len(), 3);
    assert_eq!(act(&format!("opt_out?id={}", all[0])).await["ids"], serde_json::json!([all[0]]));
    assert_eq!(act(&format!("delete?id={}", all[1])).await["ids"], serde_json::json!([all[1]]));
    assert_eq!(act(&format!("delete?id={}", all[1])).await["ids"], serde_json::json!([]), "it is gone already");
    act(&format!("merge?loser={}&winner={}", all[2], all[3])).await;
    assert_eq!(act("add?count=2").await["ids"].as_array().unwrap().len(), 2);
    let (_, lines) = over_http(&base, "/sandbox/truth.jsonl").await;
    let lines: Vec<Value> =
        String::from_utf8(lines.to_vec()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 12);
    assert_eq!((&lines[0]["opt_out"], &lines[1]["deleted"]), (&Value::Bool(true), &Value::Bool(true)));
    assert_eq!(lines[2]["merged_into"], serde_json::json!(all[3]));
    let (status, page) = over_http(&base, "/api/v4/contacts?limit=1").await;
    let page: Value = serde_json::from_slice(&page).unwrap();
    let next = page["_links"]["next"]["href"].as_str().unwrap();
    assert!(status == 200 && next.starts_with(&format!("{base}/api/v4/contacts?page=2")), "{next}");
    assert_eq!(act("calls.json").await, serde_json::json!({"GET /api/v4/contacts 200": 1}));
    assert_eq!(over_http(&base, "/sandbox/other").await.0, 404);
    listening.stop().await;
}
