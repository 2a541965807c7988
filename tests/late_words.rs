//! Words of a CRM that come late: deletions of an older version, and records that are wanted while it announces others.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, missing_docs, reason = "tests")]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use reteno_sync::checkpoint::{InboxEvent, Incoming, PageMode, Rereading, SeenRows};
use reteno_sync::config;
use reteno_sync::contact::{Catalog, Contact, Field, Record};
use reteno_sync::daemon::compose::{self, Surroundings};
use reteno_sync::daemon::cycle::{CycleParts, Feed, Reach, read_feed};
use reteno_sync::daemon::hints::{Fetch, HintParts, Hints};
use reteno_sync::daemon::links::CrmLinks;
use reteno_sync::http::{Exchange, ExchangeError};
use reteno_sync::plan::policy::Ending;
use reteno_sync::source::{Fetched, SourceError};
use serde_json::json;
use support::{HOUR, World, contact};
use tokio_util::sync::CancellationToken;

type Answer = http::Response<Bytes>;

/// 2026-11-23, 11:00 UTC.
const ELEVEN: i64 = 1_795_431_600_000;

/// A CRM that answers every request with this.
struct Says(Arc<Mutex<serde_json::Value>>);

impl Exchange for Says {
    fn exchange(&self, _: http::Request<Bytes>) -> BoxFuture<'_, Result<Answer, ExchangeError>> {
        let body = Bytes::from(self.0.lock().unwrap().to_string());
        Box::pin(async move { Ok(http::Response::builder().status(200).body(body).unwrap()) })
    }
}

const LISTED: &str = r#"
kind = "http"
base_url = "https://crm.example/api"
key = "$.id"
changed_at = "$.updated"
on_delete = "erase"
[source.crm.contact]
externalCustomerId = "$.id"
email = "$.email"
[source.crm.list]
path = "/people"
records = "$.people[*]"
[source.crm.pagination]
kind = "none"
[source.crm.deletes.archived]
kind = "flag"
path = "$.archived"
equals = true
"#;

const PUSHED: &str = r#"
kind = "webhook"
key = "id"
changed_at = "updated"
on_delete = "erase"
webhook.verify = "path_token"
webhook.token = "a-long-token-of-24-letters"
webhook.record = "$"
webhook.id = "$.id"
webhook.action = "upsert"
[source.crm.contact]
externalCustomerId = "id"
email = "email"
"#;

const FILED: &str = r#"
kind = "file"
path = "none.csv"
[source.crm.contact]
externalCustomerId = "id"
email = "mail"
town = "city"
"#;

/// The feed of a source as it is configured, over a CRM that answers with what is in the returned place.
fn feed_of(world: &World, source: &str) -> (Feed, Arc<Mutex<serde_json::Value>>) {
    let path = world.dir.path().join("config.toml");
    let text = format!("state_dir = \"{}\"\n[source.crm]{source}", world.dir.path().display());
    std::fs::write(&path, text).unwrap();
    let config = config::load(&path, std::iter::empty(), None).unwrap_or_else(|problems| panic!("{problems}"));
    let says = Arc::new(Mutex::new(json!({})));
    let exchange: Arc<dyn Exchange> = Arc::new(Says(Arc::clone(&says)));
    let around = Surroundings {
        store: world.store.clone(),
        clock: world.clock.clone(),
        random: world.random.clone(),
        crms: Vec::new(),
    };
    let links = CrmLinks::over(&config, &around, &exchange);
    let place = compose::Place { state_dir: &config.state_dir, clock: &around.clock, links: &links };
    (compose::build_feed(&config.sources[0], config.identity, &Catalog::empty(), place).0, says)
}

/// Archived at 10:00, restored at 11:00. A webhook brings the restored record. The list reads an index that is late: it
/// still shows the record as it was at 10:00.
#[tokio::test(start_paused = true)]
async fn an_archived_version_that_is_older_than_the_believed_one_erases_nobody() {
    let mut world = World::begin().await;
    let (feed, says) = feed_of(&world, LISTED);
    let read = async |world: &World| {
        tokio::time::advance(Duration::from_secs(1)).await;
        let (line, stop) = (reteno_sync::daemon::sender::Line::default(), CancellationToken::new());
        let (store, clock) = (&world.store, &world.clock);
        let parts = CycleParts { store, clock, line: &line, stop: &stop, mode: PageMode::Apply, on_page: &|_| {} };
        read_feed(&feed, Reach::Changes, &parts).await.unwrap()
    };
    let ann = |hour: u32, archived: bool| {
        let updated = format!("2026-11-23T{hour:02}:00:00Z");
        json!({"people": [{"id": "ann", "email": "ann@example.com", "updated": updated, "archived": archived}]})
    };
    *says.lock().unwrap() = ann(9, false);
    read(&world).await;
    world.send_for(HOUR).await;
    assert!(world.sandbox.contact_by_external_id("ann").is_some());
    world.policy.ending = Ending::Erase;
    tokio::time::advance(Duration::from_secs(1)).await;
    world.crm_tells(vec![Contact { changed_at: Some(ELEVEN), ..contact("ann", &[]) }]).await;
    *says.lock().unwrap() = ann(10, true);
    read(&world).await;
    world.send_for(HOUR).await;
    *says.lock().unwrap() = ann(11, false);
    for _ in 0..3 {
        read(&world).await;
        world.send_for(HOUR).await;
    }
    assert_eq!(world.sandbox.tally().contacts_erased, 0, "her newest version, which was known, is not archived");
    assert!(world.sandbox.contact_by_external_id("ann").is_some());
    // the same word about the version that is believed, or a later one, counts
    *says.lock().unwrap() = ann(12, true);
    read(&world).await;
    world.send_for(HOUR).await;
    assert_eq!(world.sandbox.tally().contacts_erased, 1);
}

/// A delivery that comes again hours later says that an older version is deleted. There is nobody to ask.
#[tokio::test(start_paused = true)]
async fn a_pushed_deletion_of_an_older_version_erases_nobody() {
    let mut world = World::begin().await;
    let (feed, _) = feed_of(&world, PUSHED);
    let clock = world.clock.clone();
    let inbox = world.store.call(move |checkpoint| checkpoint.open_inbox(&clock)).await.unwrap();
    let parts = HintParts {
        store: world.store.clone(),
        inbox: Some(inbox.clone()),
        clock: world.clock.clone(),
        random: world.random.clone(),
        line: world.line.clone(),
        fetch: None,
        program: "reteno-sync".to_owned(),
    };
    let mut hints = Hints::open(&feed, parts).await.unwrap();
    let record = |hour: u32| {
        json!({"id": "ann", "email": "ann@example.com", "updated": format!("2026-11-23T{hour:02}:00:00Z")})
            .to_string()
            .into_bytes()
    };
    let key = "ann".to_owned();
    let told = [
        (InboxEvent::Whole { key: key.clone(), record: record(11) }, 0),
        (InboxEvent::WholeDeleted { key: key.clone(), record: Some(record(10)) }, 0),
        (InboxEvent::WholeDeleted { key, record: Some(record(12)) }, 1),
    ];
    for (event, erased) in told {
        inbox.store("crm", None, vec![event]).await.unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(hints.act().await.unwrap());
        world.send_for(HOUR).await;
        assert_eq!(world.sandbox.tally().contacts_erased, erased);
    }
}

/// Where the record can be fetched, the old word is a reason to look.
#[tokio::test(start_paused = true)]
async fn a_deletion_of_an_older_version_has_the_record_fetched() {
    let world = World::begin().await;
    let source = world.source;
    world.store.call(move |checkpoint| checkpoint.note_rereading(source, Rereading::ById)).await.unwrap();
    world.crm_tells(vec![Contact { changed_at: Some(ELEVEN), ..contact("ann", &[]) }]).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    let context = world.context(world.clock.now().0, false);
    let page = world.store.call(move |checkpoint| {
        let gone = Incoming::Deleted { key: "ann".to_owned(), is_confirmed: true, changed_at: Some(ELEVEN - 1) };
        checkpoint.record_page(&context, &mut SeenRows::default(), vec![gone], None)
    });
    assert_eq!(page.await.unwrap().balance.gone, 0);
    let wanted = world.store.call(move |checkpoint| checkpoint.load_wanted(source, "", 9)).await.unwrap();
    assert_eq!(wanted.iter().map(|wanted| wanted.key.as_str()).collect::<Vec<_>>(), ["ann"]);
}

/// A CRM that announces twenty changes a second and answers within 0.7 s; a record of another contact is wanted.
#[tokio::test(start_paused = true)]
async fn a_wanted_record_is_fetched_while_announcements_never_end() {
    let world = World::begin().await;
    let clock = world.clock.clone();
    let inbox = world.store.call(move |checkpoint| checkpoint.open_inbox(&clock)).await.unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    let fetch: Fetch<'static> = Arc::new(move |keys: Vec<String>| {
        seen.lock().unwrap().extend(keys.clone());
        let records = keys.into_iter().map(|key| {
            Fetched::Record(Record::Json(json!({"id": key, "mail": format!("{key}@example.com"), "city": "Kyiv"})))
        });
        let records: Vec<Fetched> = records.collect();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(700)).await;
            Ok::<_, SourceError>(records)
        })
    });
    let parts = HintParts {
        store: world.store.clone(),
        inbox: Some(inbox.clone()),
        clock: world.clock.clone(),
        random: world.random.clone(),
        line: world.line.clone(),
        fetch: Some(fetch),
        program: "reteno-sync".to_owned(),
    };
    let mut hints = Hints::open(&feed_of(&world, FILED).0, parts).await.unwrap();
    let announcing = inbox.clone();
    tokio::spawn(async move {
        for round in 0_u64.. {
            let event = InboxEvent::Hint { key: format!("k{}", round % 50), is_deleted: false };
            announcing.store("crm", None, vec![event]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    // as the daemon does
    let acts = async |hints: &mut Hints<'_>, time: Duration| {
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end {
            if !hints.act().await.unwrap() {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    };
    acts(&mut hints, Duration::from_secs(10)).await;
    // two reads disagree about "wanted": it has to be read once more
    let now = world.clock.now().0;
    world.crm_said(now, None, &[("wanted", &[(Field::Town, "A")])]).await;
    world.crm_said(now - 1000, None, &[("wanted", &[(Field::Town, "B")])]).await;
    assert_eq!(world.status().await.wanted, 1);
    acts(&mut hints, Duration::from_secs(10)).await;
    assert!(asked.lock().unwrap().contains(&"wanted".to_owned()));
}
