//! The engine of HTTP sources, rule by rule, against small scripted CRMs: what it asks, what it gives, where it goes on.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::cast_possible_wrap,
    missing_docs,
    reason = "tests"
)]

mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use reteno_sync::checkpoint::PageMode;
use reteno_sync::clock::Clock;
use reteno_sync::config;
use reteno_sync::contact::{Catalog, Record};
use reteno_sync::daemon::compose::{self, Surroundings};
use reteno_sync::daemon::cycle::{CycleParts, Reach, read_feed};
use reteno_sync::daemon::links::CrmLinks;
use reteno_sync::daemon::sender::Line;
use reteno_sync::http::{Exchange, ExchangeError};
use reteno_sync::random::Random;
use reteno_sync::sandbox::SandboxOptions;
use reteno_sync::source::{Cursor, Fetched, From, HttpSource, Item, ReadEnd, SourceError};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use support::{HOUR, MINUTE, START, World};

/// Seconds since 1970 at which the tests begin.
const NOW: i64 = START.0 / 1000;

/// What a request looks like to a scripted CRM.
#[derive(Clone, Debug)]
struct Asked {
    path: String,
    query: Vec<(String, String)>,
    headers: http::HeaderMap,
    body: Value,
}

impl Asked {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.parameter(name).map(|text| text.parse().unwrap())
    }
}

type Answer = http::Response<Bytes>;
type Script = dyn FnMut(&Asked) -> Answer + Send;

struct Scripted {
    script: Mutex<Box<Script>>,
    asked: Mutex<Vec<Asked>>,
}

impl Exchange for Scripted {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<Answer, ExchangeError>> {
        let url = url::Url::parse(&request.uri().to_string()).unwrap();
        let asked = Asked {
            path: url.path().to_owned(),
            query: url.query_pairs().into_owned().collect(),
            headers: request.headers().clone(),
            body: serde_json::from_slice(request.body()).unwrap_or(Value::Null),
        };
        self.asked.lock().unwrap().push(asked.clone());
        let answer = (self.script.lock().unwrap())(&asked);
        Box::pin(async move { Ok(answer) })
    }
}

fn answer(status: u16, body: &Value) -> Answer {
    let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
    http::Response::builder().status(status).body(body).unwrap()
}

fn ok(body: &Value) -> Answer {
    answer(200, body)
}

struct Crm {
    source: HttpSource,
    scripted: Arc<Scripted>,
    world: World,
}

/// What a read gave.
struct Given {
    items: Vec<Item>,
    cursor: Option<Cursor>,
    end: Result<ReadEnd, SourceError>,
}

impl Given {
    fn ids(&self) -> Vec<String> {
        let id = |item: &Item| match item {
            Item::Record { record: Record::Json(record), .. } => record["id"].to_string(),
            Item::Deleted { record: Record::Json(record), .. } => format!("-{}", record["id"]),
            Item::Pointed { key, is_deleted, .. } => format!("{}{key}", if *is_deleted { '?' } else { '!' }),
            Item::Record { .. } | Item::Deleted { .. } | Item::Malformed { .. } => panic!("{item:?}"),
        };
        self.items.iter().map(id).collect()
    }

    fn end(&self) -> &ReadEnd {
        self.end.as_ref().unwrap()
    }
}

impl Crm {
    async fn new(description: &str, script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Self {
        let world = World::begin().await;
        let scripted = Arc::new(Scripted { script: Mutex::new(Box::new(script)), asked: Mutex::default() });
        let path = world.dir.path().join("config.toml");
        let text = format!(
            "state_dir = \"{}\"\n[source.crm]\nkind = \"http\"\nbase_url = \"https://crm.example/api\"\nkey = \"$.id\"\n\
             [source.crm.contact]\nexternalCustomerId = \"$.id\"\nemail = \"$.email\"\n{description}",
            world.dir.path().display()
        );
        std::fs::write(&path, text).unwrap();
        let config = config::load(&path, std::iter::empty(), None).unwrap();
        let (clock, random) = (world.clock.clone(), Random::seeded(1));
        let around = Surroundings { store: world.store.clone(), clock, random, crms: Vec::new() };
        let exchange: Arc<dyn Exchange> = scripted.clone();
        let source = CrmLinks::over(&config, &around, &exchange).find("crm").unwrap().clone();
        Self { source, scripted, world }
    }

    fn clock(&self) -> &Clock {
        &self.world.clock
    }

    async fn read(&self, from: From) -> Given {
        let (sender, mut pages) = mpsc::channel::<reteno_sync::source::Page>(1);
        let collect = async {
            let (mut items, mut cursor) = (Vec::new(), None);
            while let Some(page) = pages.recv().await {
                items.extend(page.items);
                cursor = page.cursor.or(cursor);
            }
            (items, cursor)
        };
        let (end, (items, cursor)) = tokio::join!(self.source.read(from, sender, CancellationToken::new()), collect);
        Given { items, cursor, end }
    }

    async fn read_all(&self) -> Given {
        self.read(From::Beginning).await
    }

    async fn read_after(&self, given: &Given) -> Given {
        self.read(From::Cursor(given.cursor.clone().unwrap())).await
    }

    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.scripted.asked.lock().unwrap())
    }
}

/// A list sorted by change time, with pages by number.
const SORTED: &str = r#"
[source.crm.list]
path = "/people"
query = { since = "{start}", page = "{page}", size = "{page_size}" }
records = "$.people[*]"
[source.crm.cursor]
path = "$.at"
format = "unix_s"
overlap = "10m"
lag = "60s"
[source.crm.pagination]
kind = "page"
page_size = 3
restart_at_cursor = "every_page"
"#;

/// People as (id, change time), and a CRM of [`SORTED`] over them.
type People = Arc<Mutex<Vec<(i64, i64)>>>;

fn people(rows: impl IntoIterator<Item = (i64, i64)>) -> People {
    Arc::new(Mutex::new(rows.into_iter().collect()))
}

fn page_of(people: &People, asked: &Asked, size_max: usize) -> Answer {
    let mut rows = people.lock().unwrap().clone();
    rows.sort_by_key(|(id, at)| (*at, *id));
    rows.retain(|(_, at)| *at >= asked.number("since").unwrap_or(0));
    let size = usize::try_from(asked.number("size").unwrap()).unwrap().min(size_max);
    let skipped = size * usize::try_from(asked.number("page").unwrap() - 1).unwrap();
    let page: Vec<Value> = rows.iter().skip(skipped).take(size).map(|(id, at)| json!({"id": id, "at": at})).collect();
    ok(&json!({ "people": page }))
}

async fn sorted_crm(people: &People, size_max: usize) -> Crm {
    let people = Arc::clone(people);
    Crm::new(SORTED, move |asked| page_of(&people, asked, size_max)).await
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_by_key(|id| id.parse::<i64>().unwrap());
    ids.dedup();
    ids
}

#[tokio::test(start_paused = true)]
async fn a_poll_asks_from_the_cursor_less_the_overlap_and_the_cursor_stops_before_now_less_the_lag() {
    let people = people([(1, NOW - 5000), (2, NOW - 30)]);
    let crm = sorted_crm(&people, 100).await;
    let first = crm.read_all().await;
    assert_eq!(sorted(first.ids()), ["1", "2"]);
    assert!(first.end().full);
    crm.asked();
    let second = crm.read_after(&first).await;
    // what was changed 30 s ago may not be alone: it is within the lag
    let since = crm.asked()[0].number("since").unwrap();
    assert_eq!(since, NOW - 60 - 600);
    assert_eq!(second.ids(), ["2"]);
    assert!(!second.end().full);
}

#[tokio::test(start_paused = true)]
async fn the_cursor_goes_by_the_servers_clock() {
    let people = people([(1, NOW)]);
    let list = Arc::clone(&people);
    // ten minutes behind ours
    let crm = Crm::new(SORTED, move |asked| {
        let mut page = page_of(&list, asked, 100);
        let date = chrono::DateTime::from_timestamp(NOW - 600, 0).unwrap().to_rfc2822().replace("+0000", "GMT");
        page.headers_mut().insert("date", date.parse().unwrap());
        page
    })
    .await;
    let first = crm.read_all().await;
    let second = crm.read_after(&first).await;
    crm.asked();
    crm.read_after(&second).await;
    let since = crm.asked()[0].number("since").unwrap();
    assert!(since <= NOW - 600 - 60 - 600, "{since} is later than the server's present");
}

#[tokio::test(start_paused = true)]
async fn edits_during_a_scan_lose_nobody_since_it_goes_on_from_the_last_seen_moment() {
    let people = people((1..=300).map(|id| (id, NOW - 100_000 + 10 * id)));
    let (list, mut count) = (Arc::clone(&people), 0);
    let crm = Crm::new(SORTED, move |asked| {
        let page = page_of(&list, asked, 100);
        // one of those already given is edited: those behind it move up
        count += 1;
        let mut rows = list.lock().unwrap();
        let edited = rows.iter_mut().find(|(id, at)| *id <= count && *at < NOW).map(|row| row.1 = NOW + count);
        drop((rows, edited));
        page
    })
    .await;
    let given = crm.read_all().await;
    let expected: Vec<String> = (1..=300).map(|id| id.to_string()).collect();
    assert_eq!(sorted(given.ids()), expected);
}

#[tokio::test(start_paused = true)]
async fn more_of_one_moment_than_a_page_are_gone_through_until_nothing_new_is_among_them() {
    let people = people((1..=20).map(|id| (id, NOW - 90_000)).chain([(21, NOW - 80_000), (22, NOW - 70_000)]));
    let (list, mut count) = (Arc::clone(&people), 0);
    let crm = Crm::new(SORTED, move |asked| {
        let page = page_of(&list, asked, 100);
        count += 1;
        if count % 2 == 0 {
            // leaves the moment while its pages are read
            if let Some(row) = list.lock().unwrap().iter_mut().find(|(id, at)| *id == count / 2 && *at < NOW) {
                row.1 = NOW + count;
            }
        }
        page
    })
    .await;
    let given = crm.read_all().await;
    let expected: Vec<String> = (1..=22).map(|id| id.to_string()).collect();
    assert_eq!(sorted(given.ids()), expected);
    assert!(given.end().full);
}

#[tokio::test(start_paused = true)]
async fn a_crm_that_gives_smaller_pages_than_it_is_asked_for_is_read_to_its_end() {
    let people = people((1..=11).map(|id| (id, NOW - 50_000 + 100 * id)));
    let crm = sorted_crm(&people, 2).await;
    let first = crm.read_all().await;
    assert_eq!(first.ids().len(), 11);
    // known from then on
    for id in 12..=18 {
        people.lock().unwrap().push((id, NOW - 300 + id));
    }
    let second = crm.read_after(&first).await;
    assert_eq!(sorted(second.ids()), ["12", "13", "14", "15", "16", "17", "18"]);
}

#[tokio::test(start_paused = true)]
async fn a_filter_that_the_server_silently_ignores_is_noticed() {
    let people = people((1..=10).map(|id| (id, NOW - 50_000 + 100 * id)));
    let list = Arc::clone(&people);
    let crm = Crm::new(SORTED, move |asked| {
        let mut asked = asked.clone();
        asked.query.retain(|(name, _)| name != "since");
        page_of(&list, &asked, 100)
    })
    .await;
    let first = crm.read_all().await;
    assert_eq!(sorted(first.ids()).len(), 10);
    assert!(first.end().warnings[0].contains("ignores the filter"), "{:?}", first.end().warnings);
    let second = crm.read_after(&first).await;
    // all is read again, and it ends
    assert_eq!(sorted(second.ids()).len(), 10);
    assert!(second.end().warnings[0].contains("ignores the filter"));
}

#[tokio::test(start_paused = true)]
async fn a_record_at_its_old_place_with_its_new_time_is_no_place_to_go_on_from() {
    // the index shows number 3, which was just edited, where it stood before
    let list: Vec<(i64, i64)> = (1..=9).map(|id| (id, NOW - 90_000 + 1000 * id)).collect();
    let crm = Crm::new(SORTED, move |asked| {
        let since = asked.number("since").unwrap_or(0);
        let skipped = 3 * usize::try_from(asked.number("page").unwrap() - 1).unwrap();
        let rows = list.iter().filter(|(_, at)| *at >= since).skip(skipped).take(3);
        let page: Vec<Value> =
            rows.map(|(id, at)| json!({"id": id, "at": if *id == 3 { NOW - 5 } else { *at }})).collect();
        ok(&json!({ "people": page }))
    })
    .await;
    let given = crm.read_all().await;
    assert_eq!(sorted(given.ids()).len(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_not_sorted_as_described_ends_the_read_rather_than_leave_some_out() {
    let crm = Crm::new(SORTED, |asked| {
        let at = |n: i64| NOW - 90_000 + asked.number("since").unwrap_or(0) % 7 + n;
        let times = if asked.parameter("since").is_none() { [1, 2, 900] } else { [905, 903, 904] };
        let page: Vec<Value> = times.iter().map(|n| json!({"id": n, "at": at(*n)})).collect();
        ok(&json!({ "people": page }))
    })
    .await;
    let given = crm.read_all().await;
    assert!(matches!(given.end, Err(SourceError::NotSorted { .. })), "{:?}", given.end);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_and_four_and_three_hundred_and_four_are_empty_and_no_errors() {
    for status in [204, 304] {
        let crm = Crm::new(SORTED, move |_| answer(status, &Value::Null)).await;
        let given = crm.read_all().await;
        assert!(given.items.is_empty() && given.end().records == 0);
        assert_eq!(crm.asked().len(), 1);
    }
}

const LINKED: &str = r#"
[source.crm.list]
path = "/query"
query = { q = "SELECT x WHERE at >= {start}" }
records = "$.records[*]"
[source.crm.cursor]
path = "$.at"
format = "unix_s"
initial = "1970-01-01T00:00:00Z"
[source.crm.pagination]
kind = "next_link"
next = "$.next"
[source.crm.errors.expired]
status = 200
body_path = "$.error"
body_equals = "QUERY_EXPIRED"
action = "restart_at_cursor"
[source.crm.errors.blocked]
status = 403
action = "halt_source"
wait = "2h"
[source.crm.errors.busy]
status = 200
body_path = "$.error"
body_equals = "BUSY"
action = "rate_limited"
wait_path = "$.wait"
[source.crm.errors.dead_token]
status = 200
body_path = "$.error"
body_equals = "INVALID"
action = "fail_run"
"#;

#[tokio::test(start_paused = true)]
async fn a_relative_next_link_is_followed_on_the_same_host_and_no_other_is() {
    let crm = Crm::new(LINKED, |asked| match asked.path.as_str() {
        "/api/query" => ok(&json!({"records": [{"id": 1, "at": 5}], "next": "/api/more/6?x=1"})),
        "/api/more/6" if asked.parameter("x") == Some("1") => ok(&json!({"records": [], "next": "?x=2"})),
        "/api/more/6" => ok(&json!({"records": [], "next": "../more/7"})),
        "/api/more/7" => ok(&json!({"records": [{"id": 2, "at": 6}], "next": "https://evil.example/api/more/8"})),
        other => panic!("{other}"),
    })
    .await;
    let given = crm.read_all().await;
    assert_eq!(given.ids(), ["1", "2"]);
    let error = given.end.unwrap_err();
    assert!(error.to_string().contains("leads to another host"), "{error}");
    assert!(!error.to_string().contains("evil"), "an answer's content is not shown");
    assert_eq!(crm.asked()[0].parameter("q"), Some("SELECT x WHERE at >= 0"));
}

#[tokio::test(start_paused = true)]
async fn errors_in_a_200_are_errors_and_an_expired_query_begins_anew_where_it_was() {
    let mut step = 0;
    let crm = Crm::new(LINKED, move |asked| {
        step += 1;
        match step {
            1 => ok(&json!({"records": [{"id": 1, "at": 50}, {"id": 2, "at": 60}], "next": "/api/more"})),
            2 => ok(&json!({"error": "BUSY", "wait": 90})),
            3 => ok(&json!({"error": "QUERY_EXPIRED"})),
            4 => {
                assert_eq!(asked.parameter("q"), Some("SELECT x WHERE at >= 59"));
                ok(&json!({"records": [{"id": 2, "at": 60}, {"id": 3, "at": 70}]}))
            }
            _ => ok(&json!({"error": "INVALID"})),
        }
    })
    .await;
    let before = crm.clock().now();
    let given = crm.read_all().await;
    assert_eq!(given.ids(), ["1", "2", "3"]);
    assert!(crm.clock().now().since(before) >= Duration::from_secs(90), "the source waits as it is told");
    let error = crm.read_after(&given).await.end.unwrap_err();
    assert_eq!(error.to_string(), "the list was answered with status 200 (errors.dead_token)");
}

#[tokio::test(start_paused = true)]
async fn an_error_that_comes_with_a_good_status_is_no_empty_list_and_makes_nobody_missing() {
    for body in [json!({"error": {"code": 200}}), json!({"people": {"error": "x"}}), json!([])] {
        let told = body.clone();
        let crm = Crm::new(FETCHED, move |_| ok(&told)).await;
        let error = crm.read_all().await.end.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the answer to the list is not understood: it holds no list of records",
            "{body}"
        );
        let error = crm.source.fetch(&["1".to_owned()], &CancellationToken::new()).await.unwrap_err();
        assert!(error.to_string().contains("no list of records"), "{body}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_blocked_halts_itself_and_asks_nobody_for_some_hours() {
    let crm = Crm::new(LINKED, |_| answer(403, &Value::Null)).await;
    let error = crm.read_all().await.end.unwrap_err();
    assert!(matches!(error, SourceError::Halted { .. }), "{error}");
    assert_eq!(crm.asked().len(), 1);
    tokio::time::advance(119 * MINUTE).await;
    assert!(matches!(crm.read_all().await.end, Err(SourceError::Halted { .. })));
    assert_eq!(crm.asked().len(), 0);
    tokio::time::advance(2 * MINUTE).await;
    let _again = crm.read_all().await;
    assert_eq!(crm.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_is_tried_again_and_what_may_not_is_not() {
    let mut step = 0;
    let crm = Crm::new(LINKED, move |_| {
        step += 1;
        match step {
            1 => answer(502, &Value::Null),
            2 => ok(&Value::Null),
            3 => ok(&json!({"records": [{"id": 1, "at": 5}]})),
            _ => answer(400, &json!({"message": "Ann's field"})),
        }
    })
    .await;
    let given = crm.read_all().await;
    assert_eq!((given.ids(), crm.asked().len()), (vec!["1".to_owned()], 3));
    let error = crm.read_all().await.end.unwrap_err();
    assert_eq!(error.to_string(), "the list was answered with status 400");
    assert_eq!(crm.asked().len(), 1);
}

const WINDOWED: &str = r#"
[source.crm.list]
path = "/people"
query = { between = "{start},{end}", page = "{page}", size = "{page_size}" }
records = "$.people[*]"
[source.crm.cursor]
path = "$.at"
format = "unix_s"
ordered = false
window = "1h"
[source.crm.pagination]
kind = "page"
page_size = 10
max_records = 20
"#;

#[tokio::test(start_paused = true)]
async fn a_list_without_order_is_read_in_windows_and_a_cap_that_is_hit_exactly_narrows_the_window() {
    let rows: Vec<(i64, i64)> = (1..=60).map(|id| (id, NOW + 30 * id)).collect();
    let crm = Crm::new(WINDOWED, move |asked| {
        let Some(between) = asked.parameter("between") else { return ok(&json!({"people": []})) };
        let (start, end) = between.split_once(',').unwrap();
        let (start, end): (i64, i64) = (start.parse().unwrap(), end.parse().unwrap());
        // the CRM gives twenty of a query and stops
        let found: Vec<_> = rows.iter().filter(|(_, at)| (start..=end).contains(at)).take(20).collect();
        let skipped = 10 * usize::try_from(asked.number("page").unwrap() - 1).unwrap();
        let page: Vec<Value> =
            found.iter().rev().skip(skipped).take(10).map(|(id, at)| json!({"id": id, "at": at})).collect();
        ok(&json!({ "people": page }))
    })
    .await;
    let first = crm.read_all().await;
    assert!(first.items.is_empty());
    tokio::time::advance(120 * MINUTE).await;
    let second = crm.read_after(&first).await;
    let expected: Vec<String> = (1..=60).map(|id| id.to_string()).collect();
    assert_eq!(sorted(second.ids()), expected);
    tokio::time::advance(10 * MINUTE).await;
    crm.asked();
    let third = crm.read_after(&second).await;
    assert!(third.items.is_empty());
    assert_eq!(crm.asked().len(), 1, "a window that was read is not read again but for the overlap");
}

const FETCHED: &str = r#"
[source.crm.list]
path = "/people"
records = "$.people[*]"
[source.crm.pagination]
kind = "none"
[source.crm.deletes.flag]
kind = "flag"
path = "$.gone"
equals = true
merged_into = "$.winner"
[source.crm.deletes.losers]
kind = "merged_ids"
path = "$.losers"
separator = ";"
[source.crm.fetch]
path = "/people/some"
query = { "id[]" = "{ids}" }
batch = 2
records = "$.people[*]"
"#;

#[tokio::test(start_paused = true)]
async fn a_record_tells_that_it_is_deleted_and_who_was_merged() {
    let crm = Crm::new(FETCHED, |_| {
        ok(&json!({"people": [{"id": 1}, {"id": 2, "gone": true, "winner": 1}, {"id": 1, "losers": "7;8; 1"}]}))
    })
    .await;
    let given = crm.read_all().await;
    assert_eq!(given.ids(), ["1", "!1", "-2", "?7", "?8", "1"]);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_tells_who_is_missing_and_an_answer_that_ignores_the_ids_tells_nothing() {
    let crm = Crm::new(FETCHED, |asked| {
        let ids: Vec<i64> =
            asked.query.iter().filter(|(name, _)| name == "id[]").map(|(_, id)| id.parse().unwrap()).collect();
        match ids.as_slice() {
            [1, 2] => ok(&json!({"people": [{"id": 2, "gone": true}]})),
            [1] => ok(&json!({"people": []})),
            [3] => answer(204, &Value::Null),
            [4] => answer(404, &Value::Null),
            _ => ok(&json!({"people": [{"id": 1}, {"id": 2}]})),
        }
    })
    .await;
    let stop = CancellationToken::new();
    let keys = |ids: &[i64]| ids.iter().map(i64::to_string).collect::<Vec<_>>();
    let fetched = crm.source.fetch(&keys(&[1, 2, 3]), &stop).await.unwrap();
    let said: Vec<String> = fetched
        .iter()
        .map(|fetched| match fetched {
            Fetched::Missing { key } => format!("missing {key}"),
            Fetched::Deleted(Record::Json(record)) => format!("deleted {}", record["id"]),
            Fetched::Record(_) | Fetched::Deleted(_) => "there".to_owned(),
        })
        .collect();
    assert_eq!(said, ["deleted 2", "missing 1", "missing 3"]);
    let error = crm.source.fetch(&keys(&[9]), &stop).await.unwrap_err();
    assert!(error.to_string().contains("ignores the ids"), "{error}");
    // of a list of ids "not found" is a wrong path; of one record it is that record
    let error = crm.source.fetch(&keys(&[4]), &stop).await.unwrap_err();
    assert_eq!(error.to_string(), "fetch was answered with status 404");
    let single = FETCHED.replace("path = \"/people/some\"", "path = \"/people/{id}\"");
    let single = single.replace("query = { \"id[]\" = \"{ids}\" }\n", "");
    let crm = Crm::new(&single, |_| answer(404, &Value::Null)).await;
    assert!(matches!(crm.source.fetch(&keys(&[4]), &stop).await.unwrap()[..], [Fetched::Missing { .. }]));
}

const STREAMED: &str = r#"
[source.crm.list]
path = "/people"
query = { since = "{start}" }
records = "$.people[*]"
[source.crm.cursor]
path = "$.at"
format = "unix_s"
overlap = "10m"
[source.crm.pagination]
kind = "none"
[source.crm.deletes.events]
kind = "stream"
path = "/events"
query = { from = "{start}", page = "{page}" }
records = "$.events[*]"
id = "$.who"
cursor = "$.at"
action_path = "$.type"
actions = { deleted = "delete", restored = "fetch" }
page_size = 2
[source.crm.deletes.archive]
kind = "list"
path = "/archive"
query = { after = "{next}" }
records = "$.people[*]"
id = "$.id"
next = "$.next"
every = "24h"
"#;

#[tokio::test(start_paused = true)]
async fn deletions_come_from_a_stream_with_its_own_place_and_from_a_list_every_so_often() {
    let crm = Crm::new(STREAMED, |asked| match asked.path.as_str() {
        "/api/people" => ok(&json!({"people": []})),
        "/api/events" if asked.number("page") == Some(1) => ok(&json!({"events": [
            {"who": 5, "at": NOW - 50, "type": "deleted"}, {"who": 6, "at": NOW - 40, "type": "renamed"}]})),
        "/api/events" if asked.number("page") == Some(2) => {
            ok(&json!({"events": [{"who": 7, "at": NOW - 30, "type": "restored"}]}))
        }
        "/api/events" => ok(&json!({"events": []})),
        "/api/archive" if asked.parameter("after").is_none() => ok(&json!({"people": [{"id": "a"}], "next": "x"})),
        "/api/archive" => ok(&json!({"people": [{"id": "b"}]})),
        other => panic!("{other}"),
    })
    .await;
    let first = crm.read_all().await;
    assert_eq!(first.ids(), ["?a", "?b", "?5", "!7"]);
    let from =
        |asked: &[Asked]| asked.iter().find(|asked| asked.path == "/api/events").unwrap().number("from").unwrap();
    assert_eq!(from(&crm.asked()), NOW - 24 * 3600, "what was told before a full read is not lost");
    tokio::time::advance(30 * MINUTE).await;
    let second = crm.read_after(&first).await;
    assert_eq!(second.ids(), ["?5", "!7"]);
    assert_eq!(from(&crm.asked()), NOW - 600);
    tokio::time::advance(24 * 60 * MINUTE).await;
    assert_eq!(crm.read_after(&second).await.ids(), ["?a", "?b", "?5", "!7"]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_hold_before_a_read_halts_it_or_has_everything_read() {
    let preflight = |otherwise: &str| {
        format!(
            "{SORTED}\n[source.crm.preflight]\npath = \"/account\"\nrequire = {{ path = \"$.filters\", equals = true }}\notherwise = \"{otherwise}\""
        )
    };
    for (otherwise, holds) in [("halt", true), ("halt", false), ("scan", false)] {
        let people = people([(1, NOW - 500_000), (2, NOW - 400_000)]);
        let crm = Crm::new(&preflight(otherwise), move |asked| match asked.path.as_str() {
            "/api/account" => ok(&json!({"filters": holds})),
            _ => page_of(&people, asked, 100),
        })
        .await;
        let given = crm.read(From::Cursor(Cursor::from_text(format!("{{\"at\":{}}}", NOW * 1_000_000)))).await;
        match (otherwise, holds) {
            ("halt", false) => assert!(matches!(given.end, Err(SourceError::Preflight)), "{:?}", given.end),
            ("halt", _) => assert!(given.items.is_empty()),
            _ => {
                assert_eq!(sorted(given.ids()), ["1", "2"]);
                assert!(crm.asked().iter().all(|asked| asked.parameter("since").is_none()));
                assert_eq!(given.end().warnings.len(), 1);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_kept_by_the_source_whoever_asks() {
    let limited = format!("{FETCHED}\n[source.crm.rate_limit]\nrequests = 2\nper = \"1s\"\nburst = 1");
    let crm = Crm::new(&limited, |_| ok(&json!({"people": []}))).await;
    let before = tokio::time::Instant::now();
    for _ in 0..5 {
        crm.read_all().await.end.unwrap();
    }
    assert!(before.elapsed() >= Duration::from_secs(2), "{:?}", before.elapsed());
    assert!(crm.asked()[0].headers.contains_key("accept"));
    assert!(crm.asked().iter().all(|asked| asked.body.is_null()));
}

/// An invented CRM with habits of its own: POST for a list, ids in capitals, several addresses a person, a flag of
/// deletion, an opt-out in words. All that it costs is this table.
const UNHEARD_OF: &str = r#"
[source.crm]
kind = "http"
base_url = "https://unheard-of.example/v7"
key = "$.Ref"
changed_at = "$.Touched"
on_delete = "delete"
null_values = ["n/a"]
auth = { kind = "api_key", header = "x-key", key = "s3cret" }
[source.crm.list]
path = "/people/find"
records = "$.Found[*]"
body = { Since = "{start}", Sort = "Touched", Skip = "{offset}", Take = "{page_size}" }
[source.crm.cursor]
path = "$.Touched"
format = "%d.%m.%Y %H:%M:%S"
timezone = "Europe/Kyiv"
[source.crm.pagination]
kind = "offset"
page_size = 2
restart_at_cursor = "every_page"
[source.crm.deletes.marked]
kind = "flag"
path = "$.State"
equals = "removed"
[source.crm.contact]
externalCustomerId = { path = "$.Ref", prefix = "uh-" }
firstName = "first_word($.Name)"
lastName = "other_words($.Name)"
email = "$.Reach[?@.By=='mail'].At"
town = "$.Town"
[source.crm.consent.email]
path = "$.Letters"
yes = ["welcome"]
no = ["never"]
"#;

fn unheard_of(id: &str, name: &str, town: &str, touched: &str, letters: &str) -> Value {
    let by = |by: &str, at: &str| json!({"By": by, "At": at});
    let reach = [by("phone", "1"), by("mail", &format!("{id}@example.com")), by("mail", "x@y.z")];
    json!({"Ref": id, "Name": name, "Town": town, "Touched": touched, "Letters": letters, "State": "here", "Reach": reach})
}

/// What that CRM answers.
fn find_unheard_of(people: &[Value], asked: &Asked) -> Answer {
    assert_eq!(asked.headers["x-key"], "s3cret");
    let at = |text: &str| chrono::NaiveDateTime::parse_from_str(text, "%d.%m.%Y %H:%M:%S").unwrap();
    let touched = |person: &Value| at(person["Touched"].as_str().unwrap());
    let since = at(asked.body["Since"].as_str().unwrap_or("01.01.1970 00:00:00"));
    let skipped = usize::try_from(asked.body["Skip"].as_u64().unwrap()).unwrap();
    let mut found: Vec<Value> = people.iter().filter(|person| touched(person) >= since).cloned().collect();
    found.sort_by_key(touched);
    ok(&json!({"Found": found.into_iter().skip(skipped).take(2).collect::<Vec<_>>()}))
}

#[tokio::test(start_paused = true)]
async fn a_crm_that_nobody_described_before_costs_a_table_and_no_line_of_rust() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, format!("state_dir = \"{}\"\n{UNHEARD_OF}", dir.path().display())).unwrap();
    let config = config::load(&path, std::iter::empty(), None).unwrap_or_else(|problems| panic!("{problems}"));
    let options = SandboxOptions { access_token_lifetime: 1000 * HOUR, ..SandboxOptions::default() };
    let mut world = World::with(options, compose::send_settings(&config)).await;
    let people = Arc::new(Mutex::new(vec![
        unheard_of("a1", "Ann Lee Roe", "Lviv", "20.11.2026 10:00:00", "welcome"),
        unheard_of("b2", "Bo Coe", "n/a", "20.11.2026 10:00:01", "never"),
        unheard_of("c3", "Cy Doe", "Odesa", "21.11.2026 10:00:00", ""),
    ]));
    let list = Arc::clone(&people);
    let script = move |asked: &Asked| find_unheard_of(&list.lock().unwrap(), asked);
    let scripted: Arc<dyn Exchange> =
        Arc::new(Scripted { script: Mutex::new(Box::new(script)), asked: Mutex::default() });
    let around = Surroundings {
        store: world.store.clone(),
        clock: world.clock.clone(),
        random: Random::seeded(1),
        crms: Vec::new(),
    };
    let links = CrmLinks::over(&config, &around, &scripted);
    let place = compose::Place { state_dir: &config.state_dir, clock: &around.clock, links: &links };
    let (feed, _) = compose::build_feed(&config.sources[0], config.identity, &Catalog::empty(), place);
    let read = async |world: &World| {
        let (line, stop) = (Line::default(), CancellationToken::new());
        let (store, clock) = (&world.store, &world.clock);
        let parts = CycleParts { store, clock, line: &line, stop: &stop, mode: PageMode::Apply, on_page: &|_| {} };
        read_feed(&feed, Reach::Changes, &parts).await.unwrap()
    };
    assert_eq!(read(&world).await.balance.read, 3);
    world.send_until_quiet().await;
    let towns = |world: &World| -> BTreeSet<(String, Option<String>, bool)> {
        let held = world.sandbox.contacts().into_iter();
        held.map(|contact| (contact.external_id.unwrap(), contact.fields.get("town").cloned(), contact.deleted))
            .collect()
    };
    let held = |id: &str, town: Option<&str>, deleted| (id.to_owned(), town.map(str::to_owned), deleted);
    assert_eq!(
        towns(&world),
        BTreeSet::from([
            held("uh-a1", Some("Lviv"), false),
            held("uh-b2", None, false),
            held("uh-c3", Some("Odesa"), false)
        ])
    );
    assert!(world.is_unsubscribed("b2@example.com") && !world.is_unsubscribed("c3@example.com"));

    // one moves, one is removed; the third is not asked for again
    {
        let mut people = people.lock().unwrap();
        people[0] = unheard_of("a1", "Ann Lee Roe", "Dnipro", "23.11.2026 14:00:00", "welcome");
        people[2]["State"] = json!("removed");
        people[2]["Touched"] = json!("23.11.2026 14:00:00");
    }
    tokio::time::advance(MINUTE).await;
    assert_eq!(read(&world).await.balance.read, 1);
    world.send_until_quiet().await;
    assert_eq!(
        towns(&world),
        BTreeSet::from([
            held("uh-a1", Some("Dnipro"), false),
            held("uh-b2", None, false),
            held("uh-c3", Some("Odesa"), true)
        ])
    );
}

#[tokio::test(start_paused = true)]
async fn a_clock_of_the_server_that_is_far_ahead_never_moves_the_cursor_beyond_the_present() {
    let people = people([(1, NOW - 5000)]);
    let (list, mut count) = (Arc::clone(&people), 0);
    let crm = Crm::new(SORTED, move |asked| {
        let mut page = page_of(&list, asked, 100);
        count += 1;
        // three hours, as where local time is told as GMT; then the year 2100
        let ahead = if count == 1 { NOW + 3 * 3600 } else { 4_102_444_800 };
        let date = chrono::DateTime::from_timestamp(ahead, 0).unwrap().to_rfc2822().replace("+0000", "GMT");
        page.headers_mut().insert("date", date.parse().unwrap());
        page
    })
    .await;
    let mut given = crm.read_all().await;
    for id in 2..=4 {
        tokio::time::advance(20 * MINUTE).await;
        people.lock().unwrap().push((id, crm.clock().now().0 / 1000 - 300));
        given = crm.read_after(&given).await;
        assert!(given.ids().contains(&id.to_string()), "{id} is lost: {:?}", given.ids());
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_of_the_future_is_brought_back_to_the_present() {
    let crm = sorted_crm(&people([(1, NOW - 100)]), 100).await;
    let ahead = (NOW + 10_000_000) * 1_000_000;
    let given = crm.read(From::Cursor(Cursor::from_text(format!("{{\"at\":{ahead}}}")))).await;
    assert_eq!(given.ids(), ["1"]);
    assert!(!given.cursor.unwrap().as_text().contains(&ahead.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_crm_that_asks_for_a_pause_of_a_day_is_left_alone_and_no_short_wait_makes_us_hammer_it() {
    let crm = Crm::new(LINKED, |_| ok(&json!({"error": "BUSY", "wait": 999_999}))).await;
    assert!(matches!(crm.read_all().await.end, Err(SourceError::Limited { .. })));
    assert_eq!(crm.asked().len(), 1);
    tokio::time::advance(23 * 60 * MINUTE).await;
    assert!(matches!(crm.read_all().await.end, Err(SourceError::Limited { .. })));
    assert_eq!(crm.asked().len(), 0);
    tokio::time::advance(4 * 60 * MINUTE).await;
    let _again = crm.read_all().await;
    assert_eq!(crm.asked().len(), 1);

    let crm = Crm::new(LINKED, |_| ok(&json!({"error": "BUSY", "wait": 0}))).await;
    assert!(matches!(crm.read_all().await.end, Err(SourceError::Limited { .. })));
    let asked = crm.asked().len();
    assert!(asked < 20, "{asked} requests in ten minutes that were all refused");
}

/// A list without a change time, by offset, whose answers say whether there is more.
const BY_OFFSET: &str = r#"
[source.crm.list]
path = "/people"
query = { offset = "{offset}", size = "{page_size}" }
records = "$.people[*]"
[source.crm.pagination]
kind = "offset"
page_size = 10
has_more = "$.more"
"#;

#[tokio::test(start_paused = true)]
async fn the_next_offset_counts_the_records_that_came_and_not_those_that_were_asked_for() {
    for (page_most, has_word) in [(4, true), (10, true), (10, false), (4, false)] {
        let description =
            if has_word || page_most == 10 { BY_OFFSET.to_owned() } else { BY_OFFSET.replace("has_more", "next") };
        let crm = Crm::new(&description, move |asked| {
            let ids: Vec<i64> = (1..=30).skip(usize::try_from(asked.number("offset").unwrap()).unwrap()).collect();
            let page: Vec<Value> = ids.iter().take(page_most).map(|id| json!({"id": id})).collect();
            let more = if has_word { json!(u8::from(ids.len() > page_most)) } else { Value::Null };
            ok(&if has_word { json!({"people": page, "more": more}) } else { json!({"people": page}) })
        })
        .await;
        let given = crm.read_all().await;
        let expected: Vec<String> = (1..=30).map(|id| id.to_string()).collect();
        assert_eq!(given.ids(), expected, "{page_most} {has_word}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crm_that_pays_no_heed_to_the_page_or_never_comes_to_an_end_is_not_asked_for_ever() {
    let link = "[source.crm.list]\npath = \"/people\"\nrecords = \"$.people[*]\"\n\
                [source.crm.pagination]\nkind = \"next_link\"\nnext = \"$.next\"";
    let token = "[source.crm.list]\npath = \"/people\"\nquery = { after = \"{next}\" }\nrecords = \"$.people[*]\"\n\
                 [source.crm.pagination]\nkind = \"cursor\"\nnext = \"$.next\"";
    let rows = [
        (BY_OFFSET, json!({"people": [{"id": 1}], "more": true}), Some("the page before once more")),
        (BY_OFFSET, json!({"people": [], "more": true}), Some("gives nothing")),
        (link, json!({"people": [{"id": 1}], "next": {"href": "/api/people"}}), Some("no address")),
        (link, json!({"people": [{"id": 1}], "next": "/api/people"}), Some("the page before once more")),
        (token, json!({"people": [{"id": 1}], "next": "same"}), Some("the page before once more")),
        (token, json!({"people": [], "next": "same"}), None),
    ];
    for (description, body, wanted) in rows {
        let told = body.clone();
        let crm = Crm::new(description, move |_| ok(&told)).await;
        let end = crm.read_all().await.end;
        match wanted {
            Some(words) => assert!(end.unwrap_err().to_string().contains(words), "{body}"),
            None => assert!(end.is_ok(), "{body}"),
        }
        assert!(crm.asked().len() < 110, "{body}");
    }
}

#[test]
fn a_description_whose_request_does_not_say_which_page_it_asks_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    for (kind, word) in [("page", "{page}"), ("offset", "{offset}"), ("cursor", "{next}")] {
        let text = format!(
            "[source.crm]\nkind = \"http\"\nbase_url = \"https://crm.example\"\nkey = \"$.id\"\n\
             contact.externalCustomerId = \"$.id\"\nlist = {{ path = \"/people\", records = \"$[*]\" }}\n\
             pagination = {{ kind = \"{kind}\", next = \"$.next\" }}"
        );
        std::fs::write(&path, text).unwrap();
        let told = config::load(&path, std::iter::empty(), None).unwrap_err().to_string();
        assert!(told.contains("source.crm.pagination") && told.contains(word), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_of_which_few_pass_the_filter_of_its_path_is_no_short_page_and_none_no_error() {
    let plain = SORTED.replace("every_page", "never").replace("people[*]", "people[?@['kind']=='person']");
    for persons in [vec![1, 5, 6, 9], Vec::new()] {
        let list = persons.clone();
        let crm = Crm::new(&plain, move |asked| {
            let first = 3 * (asked.number("page").unwrap() - 1);
            let kind = |id| if list.contains(&id) { "person" } else { "company" };
            let page: Vec<Value> = (first..(first + 3).min(10))
                .map(|id| json!({"id": id, "at": NOW - 9_000 + id, "kind": kind(id)}))
                .collect();
            ok(&json!({ "people": page }))
        })
        .await;
        let given = crm.read_all().await;
        assert_eq!((given.ids(), given.end().full), (persons.iter().map(i64::to_string).collect(), true));
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_is_hit_among_the_records_of_one_moment_is_told_and_is_not_the_end() {
    let people = people((1..=30).map(|id| (id, NOW - 90_000)).chain([(31, NOW - 80_000)]));
    let capped = SORTED.replace("page_size = 3", "page_size = 3\nmax_records = 12");
    let crm = Crm::new(&capped, move |asked| {
        if asked.number("page").unwrap() > 4 { ok(&json!({"people": []})) } else { page_of(&people, asked, 100) }
    })
    .await;
    let given = crm.read_all().await;
    assert!(matches!(given.end, Err(SourceError::Stuck { .. })), "{:?}", given.end);
}

#[tokio::test(start_paused = true)]
async fn nothing_where_the_last_record_was_must_be_said_twice() {
    let people = people((1..=30).map(|id| (id, NOW - 90_000 + 100 * id)));
    let (list, mut count) = (Arc::clone(&people), 0);
    let crm = Crm::new(SORTED, move |asked| {
        count += 1;
        // stumbles in the middle
        if count == 4 { answer(204, &Value::Null) } else { page_of(&list, asked, 100) }
    })
    .await;
    let expected: Vec<String> = (1..=30).map(|id| id.to_string()).collect();
    assert_eq!(sorted(crm.read_all().await.ids()), expected);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_deletions_that_is_cut_stays_where_it_was_and_says_so() {
    let capped = format!("{STREAMED}\n[source.crm.errors.far]\nstatus = 400\naction = \"restart_at_cursor\"");
    let crm = Crm::new(&capped, |asked| match asked.path.as_str() {
        "/api/events" if asked.number("page") == Some(2) => answer(400, &Value::Null),
        "/api/events" => ok(&json!({"events": [
            {"who": 5, "at": NOW - 50, "type": "deleted"}, {"who": 6, "at": NOW - 40, "type": "deleted"}]})),
        _ => ok(&json!({"people": []})),
    })
    .await;
    let from =
        |asked: &[Asked]| asked.iter().find(|asked| asked.path == "/api/events").unwrap().number("from").unwrap();
    let first = crm.read_all().await;
    assert_eq!(first.ids(), ["?5", "?6"]);
    assert!(first.end().warnings[0].contains("deletes.events"), "{:?}", first.end().warnings);
    crm.asked();
    tokio::time::advance(30 * MINUTE).await;
    crm.read_after(&first).await;
    assert!(from(&crm.asked()) < NOW - 23 * 3600);
}

#[tokio::test(start_paused = true)]
async fn windows_of_a_crm_that_ignores_them_are_one_read_of_everything_and_no_more() {
    let crm = Crm::new(WINDOWED, |asked| {
        let page: Vec<Value> = if asked.number("page") == Some(1) {
            (1..=5).map(|id| json!({"id": id, "at": NOW - 1_000_000 * id})).collect()
        } else {
            Vec::new()
        };
        ok(&json!({ "people": page }))
    })
    .await;
    let from = format!("{{\"at\":{}}}", (NOW - 365 * 24 * 3600) * 1_000_000);
    let given = crm.read(From::Cursor(Cursor::from_text(from))).await;
    assert_eq!(sorted(given.ids()).len(), 5);
    assert!(given.end().warnings[0].contains("ignores the filter"), "{:?}", given.end().warnings);
    assert!(crm.asked().len() < 5);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_larger_than_any_before_may_be_cut_and_a_smaller_size_is_heeded() {
    // fewer people than the CRM gives at most of one page, and then many at once
    let people = people([(1, NOW - 50_000), (2, NOW - 40_000)]);
    let plain = SORTED.replace("every_page", "never").replace("page_size = 3", "page_size = 100");
    let list = Arc::clone(&people);
    let crm = Crm::new(&plain, move |asked| page_of(&list, asked, 5)).await;
    let first = crm.read_all().await;
    people.lock().unwrap().extend((3..=20).map(|id| (id, NOW - 300 + id)));
    let second = crm.read_after(&first).await;
    let expected: Vec<String> = (3..=20).map(|id| id.to_string()).collect();
    assert_eq!(sorted(second.ids()), expected);
    // somebody asks for fewer from now on
    let smaller = plain.replace("page_size = 100", "page_size = 2");
    let list = Arc::clone(&people);
    let crm = Crm::new(&smaller, move |asked| page_of(&list, asked, 5)).await;
    assert_eq!(sorted(crm.read_after(&first).await.ids()), expected);
}

#[tokio::test(start_paused = true)]
async fn who_is_missing_in_a_fetch_is_asked_for_again_since_the_answer_may_be_cut() {
    let crm = Crm::new(&FETCHED.replace("batch = 2", "batch = 10"), |asked| {
        let ids = asked.query.iter().filter(|(name, id)| name == "id[]" && id != "4");
        let page: Vec<Value> = ids.take(2).map(|(_, id)| json!({"id": id.parse::<i64>().unwrap()})).collect();
        ok(&json!({ "people": page }))
    })
    .await;
    let keys: Vec<String> = (1..=5).map(|id: i64| id.to_string()).collect();
    let fetched = crm.source.fetch(&keys, &CancellationToken::new()).await.unwrap();
    let missing: Vec<&str> = fetched
        .iter()
        .filter_map(|fetched| match fetched {
            Fetched::Missing { key } => Some(key.as_str()),
            Fetched::Record(_) | Fetched::Deleted(_) => None,
        })
        .collect();
    assert_eq!((fetched.len(), missing), (5, vec!["4"]));
}

#[tokio::test(start_paused = true)]
async fn a_description_whose_order_or_times_are_not_there_is_told() {
    let plain = SORTED.replace("every_page", "never");
    let timeless = Crm::new(&plain, |asked| {
        let page = if asked.number("page") == Some(1) { json!([{"id": 1, "updated": 5}]) } else { json!([]) };
        ok(&json!({ "people": page }))
    })
    .await;
    let given = timeless.read_all().await;
    assert!(given.end().warnings[0].contains("cursor.path"), "{:?}", given.end().warnings);
    // each page is sorted, and the whole is not: no page is a place to go on from
    let unsorted = Crm::new(&plain, |asked| {
        let page = usize::try_from(asked.number("page").unwrap() - 1).unwrap();
        let (first, count) = [(5, 3), (2, 3), (0, 1)].get(page).copied().unwrap_or((0, 0));
        let page: Vec<Value> =
            (0..count).map(|n| json!({"id": 10 * first + n, "at": NOW - 9_000 + 100 * first + n})).collect();
        ok(&json!({ "people": page }))
    })
    .await;
    let given = unsorted.read_all().await;
    assert_eq!(given.ids().len(), 7);
    assert!(given.end().warnings[0].contains("does not sort"), "{:?}", given.end().warnings);
}

/// Pages of three by number, without an order: the answers hold `people` and what else the CRM says.
const NUMBERED: &str = r#"
[source.crm.list]
path = "/people"
query = { page = "{page}", size = "{page_size}" }
records = "$.people[*]"
[source.crm.pagination]
kind = "page"
page_size = 3
"#;

fn page_with(ids: &[i64]) -> Value {
    json!({ "people": ids.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>() })
}

#[tokio::test(start_paused = true)]
async fn a_short_page_is_no_end_but_an_empty_one_is() {
    let crm = Crm::new(NUMBERED, |asked| match asked.number("page") {
        Some(1) => ok(&page_with(&[1, 2, 3])),
        // the token may not see number 5
        Some(2) => ok(&page_with(&[4, 6])),
        Some(3) => ok(&page_with(&[7])),
        _ => ok(&page_with(&[])),
    })
    .await;
    let given = crm.read_all().await;
    assert_eq!(given.ids(), ["1", "2", "3", "4", "6", "7"]);
    assert!(given.end().full);
    assert_eq!(crm.asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn behind_a_short_page_of_a_sorted_list_nobody_is_lost_to_an_edit() {
    let people = people((1..=8).map(|id| (id, NOW - 90_000 + 1000 * id)));
    let (list, mut count) = (Arc::clone(&people), 0);
    let crm = Crm::new(SORTED, move |asked| {
        count += 1;
        let page = page_of(&list, asked, 100);
        if count != 2 {
            return page;
        }
        // the last of this page is hidden from us; and before the next page is asked for, an edit of its first moves
        // those behind over its edge
        let mut body: Value = serde_json::from_slice(page.body()).unwrap();
        let rows = body["people"].as_array_mut().unwrap();
        rows.pop();
        let first = rows[0]["id"].as_i64().unwrap();
        list.lock().unwrap().iter_mut().find(|(id, _)| *id == first).unwrap().1 = NOW - 100;
        ok(&body)
    })
    .await;
    let given = crm.read_all().await;
    let expected: Vec<String> = (1..=8).map(|id| id.to_string()).collect();
    assert_eq!(sorted(given.ids()), expected);
    assert!(given.end().full);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_said_true_says_nothing_by_silence() {
    let description = format!("{NUMBERED}has_more = \"$.more\"\n");
    let crm = Crm::new(&description, |asked| {
        let page = asked.number("page").unwrap();
        let mut body = page_with(if page < 4 { &[1, 2][..] } else { &[] });
        for (place, person) in body["people"].as_array_mut().unwrap().iter_mut().enumerate() {
            person["id"] = json!(page * 10 + i64::try_from(place).unwrap());
        }
        if page == 1 {
            body["more"] = json!(true);
        }
        ok(&body)
    })
    .await;
    let given = crm.read_all().await;
    assert_eq!(given.ids(), ["10", "11", "20", "21", "30", "31"]);
    assert!(given.end().full);
}

#[tokio::test(start_paused = true)]
async fn what_a_rule_ignores_ends_a_read_and_proves_nothing() {
    let description = format!("{NUMBERED}[source.crm.errors.hidden]\nstatus = 403\naction = \"ignore\"\n");
    for (status, is_full) in [(403, false), (304, false), (204, true)] {
        let crm = Crm::new(&description, move |asked| match asked.number("page") {
            Some(1) => ok(&page_with(&[1, 2, 3])),
            _ => answer(status, &Value::Null),
        })
        .await;
        let given = crm.read_all().await;
        assert_eq!(given.ids(), ["1", "2", "3"], "{status}");
        assert_eq!(given.end().full, is_full, "{status}");
        assert_eq!(given.end().warnings.len(), usize::from(!is_full), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_ignored_error_makes_nobody_missing() {
    let description = format!(
        "{NUMBERED}[source.crm.fetch]\npath = \"/people/{{id}}\"\nrecords = \"$\"\n\
         [source.crm.errors.hidden]\nstatus = 403\naction = \"ignore\"\n"
    );
    let crm = Crm::new(&description, |_| answer(403, &Value::Null)).await;
    let fetched = crm.source.fetch(&["1".to_owned()], &CancellationToken::new()).await;
    assert!(matches!(fetched, Err(SourceError::NotUnderstood { .. })), "{fetched:?}");
}

#[tokio::test(start_paused = true)]
async fn one_answer_that_is_as_long_as_it_may_be_is_no_proof_of_all() {
    let description = NUMBERED.replace("\"page\"\npage_size", "\"none\"\npage_size");
    let crm = Crm::new(&description.replace("page = \"{page}\", ", ""), |_| ok(&page_with(&[1, 2, 3]))).await;
    assert!(!crm.read_all().await.end().full);
    let crm = Crm::new(&description.replace("page = \"{page}\", ", ""), |_| ok(&page_with(&[1, 2]))).await;
    assert!(crm.read_all().await.end().full);
    let description = format!("{}has_more = \"$.more\"\n", description.replace("page = \"{page}\", ", ""));
    let crm = Crm::new(&description, |_| {
        let mut body = page_with(&[1, 2]);
        body["more"] = json!(true);
        ok(&body)
    })
    .await;
    assert!(crm.read_all().await.end.is_err());
}

#[tokio::test(start_paused = true)]
async fn behind_a_short_page_a_missing_page_or_the_same_once_more_is_the_end() {
    let pages: [&[&[i64]]; 4] = [&[&[1, 2, 3], &[4, 5]], &[&[1, 2]], &[&[1, 2], &[3, 4]], &[&[1, 2, 3], &[4, 5, 6]]];
    // by what comes behind the last page: whether the read ends well, and whether that proves all
    let rows = [
        (404, [Some(true), Some(true), Some(false), None]),
        (410, [Some(true), Some(true), Some(false), None]),
        // a page that is as long as any that was seen may be all that a CRM gives which ignores the number
        (200, [Some(true), Some(false), Some(false), None]),
        (403, [None, None, None, None]),
    ];
    for (status, wanted) in rows {
        for (pages, wanted) in pages.into_iter().zip(wanted) {
            let crm = Crm::new(NUMBERED, move |asked| {
                let page = usize::try_from(asked.number("page").unwrap()).unwrap();
                match pages.get(page - 1) {
                    Some(ids) => ok(&page_with(ids)),
                    None if status == 200 => ok(&page_with(pages.last().unwrap())),
                    None => answer(status, &json!({"detail": "Invalid page."})),
                }
            })
            .await;
            let given = crm.read_all().await;
            let ids: Vec<String> = pages.concat().iter().map(ToString::to_string).collect();
            assert_eq!(given.ids(), ids, "{status} {pages:?}");
            assert_eq!(given.end.as_ref().ok().map(|end| end.full), wanted, "{status} {pages:?}");
            if let Some(is_full) = wanted {
                assert_eq!(given.end().warnings.len(), usize::from(!is_full), "{status} {pages:?}");
            }
            assert_eq!(crm.asked().len(), pages.len() + 1, "{status} {pages:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_sorted_list_whose_page_numbers_stop_at_the_last_page_is_read_poll_after_poll() {
    let people = people((1..=5).map(|id| (id, NOW - 90_000 + 1000 * id)));
    for is_clamped in [false, true] {
        let list = Arc::clone(&people);
        let crm = Crm::new(SORTED, move |asked| {
            let page = page_of(&list, asked, 100);
            let is_empty = page.body().as_ref() == b"{\"people\":[]}";
            let number = asked.number("page").unwrap();
            if !is_empty || number == 1 {
                return page;
            }
            if !is_clamped {
                return answer(404, &Value::Null);
            }
            let before = |number: i64| {
                let mut asked = asked.clone();
                asked.query.iter_mut().find(|(name, _)| name == "page").unwrap().1 = number.to_string();
                page_of(&list, &asked, 100)
            };
            before(number - 1)
        })
        .await;
        let first = crm.read_all().await;
        assert_eq!(first.ids(), ["1", "2", "3", "4", "5"], "{is_clamped}");
        assert!(first.end().full, "{is_clamped}");
        assert!(crm.read_after(&first).await.end.is_ok(), "{is_clamped}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_ignored_error_hides_counts_as_read_nowhere() {
    let ignored = "[source.crm.errors.hidden]\nstatus = 403\naction = \"ignore\"\n";
    let may = Arc::new(Mutex::new(false));
    let allowed = Arc::clone(&may);
    let crm = Crm::new(&format!("{STREAMED}{ignored}"), move |asked| match asked.path.as_str() {
        "/api/people" => ok(&json!({"people": []})),
        "/api/events" => ok(&json!({"events": []})),
        _ if *allowed.lock().unwrap() => ok(&json!({"people": [{"id": "a"}]})),
        _ => answer(403, &Value::Null),
    })
    .await;
    let first = crm.read_all().await;
    assert!(first.end().warnings[0].contains("deletes.archive"), "{:?}", first.end().warnings);
    *may.lock().unwrap() = true;
    tokio::time::advance(10 * MINUTE).await;
    assert_eq!(crm.read_after(&first).await.ids(), ["?a"], "it is asked for at once, and not a day later");
    // a window
    let allowed = Arc::clone(&may);
    let crm = Crm::new(&format!("{WINDOWED}{ignored}"), move |asked| {
        if !*allowed.lock().unwrap() {
            return answer(403, &Value::Null);
        }
        let person = json!({"id": 1, "at": NOW + 60});
        let is_there = asked.parameter("between").is_some_and(|between| {
            let (start, end) = between.split_once(',').unwrap();
            (start.parse::<i64>().unwrap()..=end.parse().unwrap()).contains(&(NOW + 60))
        });
        let is_there = is_there && asked.number("page") == Some(1);
        ok(&json!({ "people": if is_there { vec![person] } else { Vec::new() } }))
    })
    .await;
    let first = crm.read_all().await;
    *may.lock().unwrap() = false;
    tokio::time::advance(60 * MINUTE).await;
    let second = crm.read_after(&first).await;
    assert!(second.end().warnings[0].contains("nothing proves"), "{:?}", second.end().warnings);
    *may.lock().unwrap() = true;
    tokio::time::advance(60 * MINUTE).await;
    let third = crm.read(From::Cursor(second.cursor.or(first.cursor).unwrap())).await;
    assert_eq!(third.ids(), ["1"]);
}

/// Pages that are led to by marks.
const MARKED: &str = r#"
[source.crm.list]
path = "/people"
query = { after = "{next}" }
records = "$.people[*]"
[source.crm.pagination]
kind = "cursor"
next = "$.next"
"#;

#[tokio::test(start_paused = true)]
async fn pages_that_go_round_in_a_circle_end_the_read_as_an_error() {
    let turn = Mutex::new(0);
    // the records differ each time, the marks come again
    let crm = Crm::new(MARKED, move |asked| {
        let mut turn = turn.lock().unwrap();
        *turn += 1;
        let mut body = page_with(&[*turn]);
        body["next"] = json!(match asked.parameter("after") {
            Some("A") => "B",
            Some(_) | None => "A",
        });
        ok(&body)
    })
    .await;
    let given = crm.read_all().await;
    let error = given.end.unwrap_err();
    assert!(error.to_string().contains("circle"), "{error}");
    assert!(crm.asked().len() <= 4);
    // the numbers of pages always grow, the pages come again
    let crm = Crm::new(NUMBERED, |asked| {
        let page = asked.number("page").unwrap() % 3;
        ok(&page_with(&[3 * page, 3 * page + 1, 3 * page + 2]))
    })
    .await;
    let error = crm.read_all().await.end.unwrap_err();
    assert!(error.to_string().contains("circle"), "{error}");
    assert_eq!(crm.asked().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_leads_to_the_next_page_may_stand_in_the_records() {
    // the id of the last record, as some APIs go on from; and one that each record repeats
    for next in ["$.people[-1].id", "$.people[*].last", "$.people[0].last", "$..last"] {
        let crm = Crm::new(&MARKED.replace("$.next", next), |asked| {
            let after = asked.number("after").unwrap_or(0);
            let ids: Vec<i64> = (after + 1..=7).take(3).collect();
            let people: Vec<Value> = ids.iter().map(|id| json!({"id": id, "last": ids.last()})).collect();
            ok(&json!({ "people": people }))
        })
        .await;
        let given = crm.read_all().await;
        assert_eq!(given.ids(), ["1", "2", "3", "4", "5", "6", "7"], "{next}");
        assert!(given.end().full, "{next}");
        assert_eq!(crm.asked().len(), 4, "{next}");
    }
    let crm = Crm::new(&format!("{NUMBERED}has_more = \"$.people[-1].more\"\n"), |asked| {
        let page = asked.number("page").unwrap();
        ok(&json!({ "people": [{"id": page, "more": page < 3}] }))
    })
    .await;
    assert_eq!(crm.read_all().await.ids(), ["1", "2", "3"]);
    assert_eq!(crm.asked().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_rule_may_look_into_the_list_of_a_good_answer() {
    let rule = "[source.crm.errors.busy]\nstatus = 200\nbody_path = \"$.people[*].error\"\nbody_equals = \"BUSY\"\n\
                action = \"fail_run\"\n";
    let crm = Crm::new(&format!("{UNPAGED}{rule}"), |_| ok(&json!({"people": [{}, {"error": "BUSY"}]}))).await;
    assert_eq!(
        crm.read_all().await.end.unwrap_err().to_string(),
        "the list was answered with status 200 (errors.busy)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_scroll_may_keep_its_mark_as_long_as_its_pages_differ() {
    let scroll = |pages: &'static [&'static [i64]], more: bool| {
        let description = format!("{MARKED}has_more = \"$.more\"\n");
        let mut turn = 0;
        Crm::new(if more { description.leak() } else { MARKED }, move |_| {
            let mut body = page_with(pages.get(turn).copied().unwrap_or_default());
            turn += 1;
            (body["next"], body["more"]) = (json!("SCROLL"), json!(true));
            ok(&body)
        })
    };
    let crm = scroll(&[&[1, 2], &[3, 4], &[5, 6], &[7]], false).await;
    let given = crm.read_all().await;
    assert_eq!(given.ids(), ["1", "2", "3", "4", "5", "6", "7"]);
    assert!(given.end().full);
    let crm = scroll(&[&[1, 2], &[3, 4], &[1, 2]], false).await;
    let error = crm.read_all().await.end.unwrap_err();
    assert!(error.to_string().contains("circle"), "{error}");
    let crm = scroll(&[&[1, 2], &[3, 4]], true).await;
    let error = crm.read_all().await.end.unwrap_err();
    assert!(error.to_string().contains("gives nothing"), "{error}");
    assert_eq!(crm.asked().len(), 3);
}

fn raw(body: &str) -> Answer {
    http::Response::builder().status(200).body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

const UNPAGED: &str = r#"
[source.crm.list]
path = "/people"
records = "$.people[*]"
[source.crm.pagination]
kind = "none"
"#;

#[tokio::test(start_paused = true)]
async fn what_cannot_be_kept_of_a_page_costs_its_field_and_no_other_record() {
    let crm = Crm::new(UNPAGED, |_| {
        raw("\u{feff}{\"people\": [{\"id\": 1, \"name\": \"Mar \\ud83d\"}, {\"id\": 2, \"score\": NaN}, \
             {\"id\": 3, \"name\": \"a\", \"name\": \"b\"}, {\"id\": 100000000000000000001}]}")
    })
    .await;
    let given = crm.read_all().await;
    assert_eq!(given.ids(), ["1", "2", "3", "\"100000000000000000001\""]);
    assert!(given.end().full);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_no_json_is_told_by_its_place_and_nobody_is_gone() {
    let crm = Crm::new(UNPAGED, |_| raw(r#"{"people": [{"id": 1}, {"id" 2}, {"id": 3}]}"#)).await;
    let given = crm.read_all().await;
    let told: Vec<String> = given
        .items
        .iter()
        .map(|item| match item {
            Item::Malformed { place, reason } => format!("{place}: {reason}"),
            other => format!("{other:?}"),
        })
        .collect();
    assert_eq!(told[1], "item 2 of answer 1: not valid JSON at byte 7");
    assert!(!given.end().full && given.end().records == 2 && given.end().malformed == 1);
}

#[tokio::test(start_paused = true)]
async fn a_great_answer_becomes_pages_of_bounded_length_with_one_cursor() {
    let unpaged = UNPAGED.replace("records =", "query = { since = \"{start}\" }\nrecords =");
    let description = format!("{unpaged}[source.crm.cursor]\npath = \"$.at\"\nformat = \"unix_s\"\n");
    let crm = Crm::new(&description, |_| {
        let people: Vec<String> =
            (0..7000).map(|id| format!(r#"{{"id":{id},"at":{}}}"#, NOW - 10_000 + id / 10)).collect();
        raw(&format!("{{\"people\": [{}]}}", people.join(",")))
    })
    .await;
    let (sender, mut pages) = mpsc::channel::<reteno_sync::source::Page>(1);
    let collect = async {
        let mut seen = Vec::new();
        while let Some(page) = pages.recv().await {
            seen.push((page.items.len(), page.cursor.is_some()));
        }
        seen
    };
    let (end, seen) = tokio::join!(crm.source.read(From::Beginning, sender, CancellationToken::new()), collect);
    assert!(end.unwrap().full);
    assert_eq!(seen[..3], [(3000, false), (3000, false), (1000, true)]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_packed_in_an_unknown_way_is_named() {
    let crm = Crm::new(UNPAGED, |_| {
        let answer = http::Response::builder().header("content-encoding", "compress");
        answer.body(Bytes::from_static(b"\x1f\x9d\x08")).unwrap()
    })
    .await;
    let error = crm.read_all().await.end.unwrap_err();
    assert!(error.to_string().contains("packed in a way that this program does not know (compress)"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_php_wrote_as_an_object_is_the_list() {
    let crm = Crm::new(UNPAGED, |_| raw(r#"{"people": {"0": {"id": 1}, "2": {"id": 3}}}"#)).await;
    assert_eq!(crm.read_all().await.ids(), ["1", "3"]);
    let crm = Crm::new(UNPAGED, |_| raw(r#"{"people": {"code": 5}}"#)).await;
    assert!(crm.read_all().await.end.is_err());
}
