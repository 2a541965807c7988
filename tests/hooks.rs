//! Webhooks from the wire to Reteno: answered only when kept, acted on in whatever order they come, and never believed
//! over the CRM where it can be asked.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use reteno_sync::checkpoint::{Inbox, InboxError, InboxEvent, Incoming, PageMode, ReadProof, Repairs, SeenRows, Way};
use reteno_sync::clock::Timestamp;
use reteno_sync::config;
use reteno_sync::contact::{Catalog, Contact, Field, Record};
use reteno_sync::daemon::compose::{self, Surroundings};
use reteno_sync::daemon::cycle::{CycleParts, Feed, Reach, read_feed};
use reteno_sync::daemon::hints::{Fetch, HintParts, Hints};
use reteno_sync::daemon::links::CrmLinks;
use reteno_sync::daemon::sender::Line;
use reteno_sync::http::{Exchange, ExchangeError};
use reteno_sync::plan::Lane;
use reteno_sync::plan::guard::Guard;
use reteno_sync::plan::policy::Ending;
use reteno_sync::plan::repair::{Earlier, RepairCause};
use reteno_sync::source::{Fetched, SourceError};
use support::{HOUR, MINUTE, World, contact};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

/// A CRM that can be asked by id: what it holds, what it was asked, and how often it fails.
#[derive(Default)]
struct Crm {
    records: BTreeMap<String, serde_json::Value>,
    asked: Vec<Vec<String>>,
    failures: usize,
    /// Keys with which no request can be made.
    poison: Vec<String>,
}

/// The world, with a source that can be asked, and its inbox.
struct Stage {
    world: World,
    inbox: Inbox,
    crm: Arc<Mutex<Crm>>,
}

impl Stage {
    async fn begin() -> Self {
        let world = World::begin().await;
        let clock = world.clock.clone();
        let inbox = world.store.call(move |checkpoint| checkpoint.open_inbox(&clock)).await.unwrap();
        Self { world, inbox, crm: Arc::default() }
    }

    /// The process dies and a new one takes over.
    async fn crash(&mut self) {
        self.world.crash().await;
        let clock = self.world.clock.clone();
        self.inbox = self.world.store.call(move |checkpoint| checkpoint.open_inbox(&clock)).await.unwrap();
    }

    fn fetch(&self) -> Fetch<'static> {
        let crm = Arc::clone(&self.crm);
        Arc::new(move |keys: Vec<String>| {
            let crm = Arc::clone(&crm);
            Box::pin(async move { crm.lock().unwrap().answer(keys) })
        })
    }

    async fn hints(&self) -> Hints<'static> {
        let parts = HintParts {
            store: self.world.store.clone(),
            inbox: Some(self.inbox.clone()),
            clock: self.world.clock.clone(),
            random: self.world.random.clone(),
            line: self.world.line.clone(),
            fetch: Some(self.fetch()),
            program: "reteno-sync".to_owned(),
        };
        let feed = Feed { policy: Arc::new(self.world.policy.clone()), ..feed(&self.world) };
        Hints::open(&feed, parts).await.unwrap()
    }

    fn set(&self, key: &str, town: &str) {
        let record = serde_json::json!({ "id": key, "mail": format!("{key}@example.com"), "city": town });
        self.crm.lock().unwrap().records.insert(key.to_owned(), record);
    }

    fn remove(&self, key: &str) {
        self.crm.lock().unwrap().records.remove(key);
    }

    async fn announce(&self, key: &str) {
        let event = InboxEvent::Hint { key: key.to_owned(), is_deleted: false };
        self.inbox.store("crm", None, vec![event]).await.unwrap();
    }

    async fn announce_deletion(&self, key: &str) {
        let event = InboxEvent::Hint { key: key.to_owned(), is_deleted: true };
        self.inbox.store("crm", None, vec![event]).await.unwrap();
    }

    async fn push(&self, key: &str, town: &str) {
        let record = serde_json::json!({ "id": key, "mail": format!("{key}@example.com"), "city": town });
        let event = InboxEvent::Whole { key: key.to_owned(), record: record.to_string().into_bytes() };
        self.inbox.store("crm", None, vec![event]).await.unwrap();
    }

    /// Acts on all that is due a second later.
    async fn act(&self) {
        tokio::time::advance(SECOND).await;
        let mut hints = self.hints().await;
        while hints.act().await.unwrap() {}
    }

    fn asked(&self) -> Vec<Vec<String>> {
        self.crm.lock().unwrap().asked.clone()
    }

    async fn rows(&self) -> u64 {
        self.inbox.count().await.unwrap().iter().map(|count| count.rows).sum()
    }

    /// A page of a cycle that was asked for then.
    async fn page(
        &self,
        asked_at: Timestamp,
        lane: Lane,
        contacts: Vec<Contact>,
    ) -> reteno_sync::plan::balance::Balance {
        let mut context = self.world.context(asked_at.0, lane != Lane::Live);
        context.lane = lane;
        let items = contacts.into_iter().map(Incoming::Contact).collect();
        self.world
            .store
            .call(move |checkpoint| checkpoint.record_page(&context, &mut SeenRows::default(), items, None))
            .await
            .unwrap()
            .balance
    }

    async fn sightings_end(&self, key: &'static str) -> bool {
        self.world.status().await.deeds.iter().any(|deed| deed.deeds > 0)
            || self.world.reteno_holds(key, "town").is_none()
    }
}

impl Crm {
    fn answer(&mut self, keys: Vec<String>) -> Result<Vec<Fetched>, SourceError> {
        self.asked.push(keys.clone());
        let busy = || SourceError::Busy { name: "crm".to_owned(), reader: "a test".to_owned() };
        if self.failures > 0 {
            self.failures -= 1;
            return Err(busy());
        }
        if keys.iter().any(|key| self.poison.contains(key)) {
            return Err(busy());
        }
        let found = |key: String| match self.records.get(&key) {
            Some(record) => Fetched::Record(Record::Json(record.clone())),
            None => Fetched::Missing { key },
        };
        Ok(keys.into_iter().map(found).collect())
    }
}

fn feed(world: &World) -> Feed {
    let dir = world.dir.path();
    let toml = format!(
        "state_dir = \"{}\"\n[source.crm]\nkind = \"file\"\npath = \"none.csv\"\n[source.crm.contact]\n\
         externalCustomerId = \"id\"\nemail = \"mail\"\ntown = \"city\"\n",
        dir.display()
    );
    std::fs::write(dir.join("config.toml"), toml).unwrap();
    let config = config::load(&dir.join("config.toml"), std::iter::empty(), None).unwrap();
    let links = CrmLinks::default();
    let place = compose::Place { state_dir: dir, clock: &world.clock, links: &links };
    compose::build_feed(&config.sources[0], config.identity, &Catalog::empty(), place).0
}

fn town(key: &str, town: &str) -> Contact {
    contact(key, &[(Field::Town, town)])
}

#[tokio::test(start_paused = true)]
async fn ten_edits_that_are_announced_are_one_fetch_and_one_send() {
    let mut stage = Stage::begin().await;
    for edit in 0..10 {
        stage.set("1", &format!("town {edit}"));
        stage.announce("1").await;
    }
    assert_eq!(stage.rows().await, 1);
    stage.act().await;
    assert_eq!(stage.asked(), [["1"]]);
    assert_eq!(stage.rows().await, 0);
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.writes("1", "town"), ["town 9"]);
}

#[tokio::test(start_paused = true)]
async fn duplicates_disorder_and_replays_change_nothing() {
    let mut stage = Stage::begin().await;
    stage.set("1", "Kyiv");
    stage.announce("1").await;
    stage.act().await;
    stage.world.send_for(HOUR).await;
    let calls = stage.world.sandbox.tally().calls;
    // the same again, a deletion that came first and late, and all of it once more
    for _ in 0..3 {
        stage.announce_deletion("1").await;
        stage.announce("1").await;
        stage.act().await;
        stage.world.send_for(HOUR).await;
    }
    assert_eq!(stage.world.sandbox.tally().calls, calls);
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("Kyiv"));
}

#[tokio::test(start_paused = true)]
async fn what_is_announced_while_it_is_fetched_is_fetched_again() {
    let mut stage = Stage::begin().await;
    stage.set("1", "before");
    stage.announce("1").await;
    tokio::time::advance(SECOND).await;
    // the fetch answers with what is there, and the next edit is announced before its row is cleared
    let due = stage.inbox.due("crm", 10).await.unwrap();
    stage.act().await;
    stage.set("1", "after");
    stage.announce("1").await;
    stage.inbox.done(due.iter().map(|row| (row.id, row.seq)).collect()).await.unwrap();
    assert_eq!(stage.rows().await, 1, "the later hint stays");
    stage.announce("1").await;
    let old = stage.inbox.due("crm", 10).await.unwrap();
    assert!(old.is_empty(), "it waits for more of them");
    tokio::time::advance(SECOND).await;
    let seen = stage.inbox.due("crm", 10).await.unwrap();
    stage.announce("1").await;
    stage.inbox.done(seen.iter().map(|row| (row.id, row.seq)).collect()).await.unwrap();
    assert_eq!(stage.rows().await, 1, "one that came after the look stays");
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("after"));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_the_fetch_does_not_find_is_none() {
    let mut stage = Stage::begin().await;
    stage.world.policy.ending = Ending::Delete;
    stage.set("1", "Kyiv");
    stage.announce("1").await;
    stage.act().await;
    stage.world.send_for(HOUR).await;
    stage.announce_deletion("1").await;
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert!(!stage.sightings_end("1").await);
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("Kyiv"));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_the_fetch_confirms_is_one_at_once() {
    let mut stage = Stage::begin().await;
    stage.world.policy.ending = Ending::Delete;
    stage.set("1", "Kyiv");
    stage.set("2", "Lviv");
    stage.announce("1").await;
    stage.announce("2").await;
    stage.act().await;
    stage.world.send_for(HOUR).await;
    stage.remove("1");
    stage.remove("2");
    stage.announce_deletion("1").await;
    // it only changed, they say, and it is not there: that is one sighting
    stage.announce("2").await;
    stage.act().await;
    stage.world.send_for(HOUR).await;
    let living: Vec<_> = stage.world.sandbox.contacts().into_iter().filter(|contact| !contact.deleted).collect();
    assert_eq!(living.len(), 1);
    assert_eq!(living[0].external_id.as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_older_than_a_confirmed_deletion_does_not_bring_the_contact_back() {
    let mut stage = Stage::begin().await;
    stage.world.policy.ending = Ending::Delete;
    stage.page(stage.world.clock.now(), Lane::FirstLoad, vec![town("1", "Kyiv"), town("2", "Lviv")]).await;
    stage.world.send_for(HOUR).await;
    tokio::time::advance(SECOND).await;
    let page_asked = stage.world.clock.now();
    stage.announce_deletion("1").await;
    stage.act().await;
    // before it is carried out, and after it was
    stage.page(page_asked, Lane::Reconcile, vec![town("1", "Kyiv")]).await;
    stage.world.send_for(HOUR).await;
    stage.page(page_asked, Lane::Reconcile, vec![town("1", "Kyiv")]).await;
    stage.act().await;
    stage.world.send_for(HOUR).await;
    let deleted = |stage: &Stage| stage.world.sandbox.contacts().into_iter().filter(|contact| contact.deleted).count();
    assert_eq!(deleted(&stage), 1);
    // one that was asked for later does
    tokio::time::advance(SECOND).await;
    stage.page(stage.world.clock.now(), Lane::Live, vec![town("1", "Kyiv")]).await;
    let guard = Guard { is_on: false, ..Guard::default() };
    let (source, now) = (stage.world.source, stage.world.clock.now().0);
    stage.world.store.call(move |checkpoint| checkpoint.weigh_changes(source, &guard, now)).await.unwrap();
    stage.world.send_for(HOUR).await;
    assert_eq!(deleted(&stage), 0);
}

/// The pages of a first load take minutes; what webhooks bring meanwhile is newer than all of them.
#[tokio::test(start_paused = true)]
async fn a_slow_first_load_never_moves_back_what_webhooks_brought() {
    let mut stage = Stage::begin().await;
    let keys: Vec<String> = (0..40).map(|key| key.to_string()).collect();
    for key in &keys {
        stage.set(key, "old");
    }
    // each page is asked for, and arrives after edits of its contacts were announced and fetched
    for page in keys.chunks(10) {
        let asked_at = stage.world.clock.now();
        let records: Vec<Contact> = page.iter().map(|key| town(key, "old")).collect();
        tokio::time::advance(SECOND).await;
        for key in &page[..5] {
            stage.set(key, "new");
            stage.announce(key).await;
        }
        stage.act().await;
        let balance = stage.page(asked_at, Lane::FirstLoad, records).await;
        assert_eq!(balance.stale, 5);
        stage.world.send_for(MINUTE).await;
    }
    stage.act().await;
    stage.world.send_for(HOUR).await;
    for (place, key) in keys.iter().enumerate() {
        let expected = if place % 10 < 5 { "new" } else { "old" };
        assert_eq!(stage.world.reteno_holds(key, "town").as_deref(), Some(expected), "{key}");
        assert_eq!(stage.world.writes(key, "town"), [expected], "{key}");
    }
    assert!(!stage.world.status().await.sources[0].full_read_wanted, "doubts are settled by fetches alone");
}

#[tokio::test(start_paused = true)]
async fn a_first_loads_webhooks_are_not_held_as_creations() {
    let mut stage = Stage::begin().await;
    stage.world.policy.guard = Guard::default();
    for key in 0..50 {
        stage.set(&key.to_string(), "Kyiv");
        stage.announce(&key.to_string()).await;
    }
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.status().await.holds.len(), 0);
    assert_eq!(stage.world.sandbox.contacts().len(), 50);
}

/// What a read has changed is weighed at its end, also where webhooks are weighed meanwhile.
#[tokio::test(start_paused = true)]
async fn a_read_under_way_is_weighed_whole_although_webhooks_are_weighed_at_once() {
    let mut stage = Stage::begin().await;
    stage.world.policy.guard = Guard::default();
    let all = |town_of: &str| (0..200).map(|key| town(&key.to_string(), town_of)).collect::<Vec<_>>();
    stage.page(stage.world.clock.now(), Lane::FirstLoad, all("Kyiv")).await;
    let source = stage.world.source;
    let proof = ReadProof {
        policy: Arc::new(stage.world.policy.clone()),
        began: stage.world.clock.now(),
        from_beginning: true,
        has_values: true,
        is_full: false,
        earlier: None,
    };
    let now = stage.world.clock.now();
    stage
        .world
        .store
        .call(move |checkpoint| checkpoint.finish_read(source, &proof, &SeenRows::default(), None, now))
        .await
        .unwrap();
    stage.world.send_for(HOUR).await;
    tokio::time::advance(SECOND).await;
    // a reconcile writes one town over all of them; one webhook comes between its pages
    stage.page(stage.world.clock.now(), Lane::Reconcile, all("Nowhere")[..100].to_vec()).await;
    stage.set("150", "Lviv");
    stage.announce("150").await;
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.reteno_holds("150", "town").as_deref(), Some("Lviv"), "the webhook's goes at once");
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("Kyiv"), "the read's waits for its end");
    stage.page(stage.world.clock.now(), Lane::Reconcile, all("Nowhere")[100..].to_vec()).await;
    let (guard, now) = (Guard::default(), stage.world.clock.now().0);
    let weighed =
        stage.world.store.call(move |checkpoint| checkpoint.weigh_changes(source, &guard, now)).await.unwrap();
    assert_eq!(weighed.holds.len(), 1);
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("Kyiv"));
}

#[tokio::test(start_paused = true)]
async fn a_full_read_that_began_before_a_webhook_made_a_contact_does_not_count_it_as_gone() {
    let mut stage = Stage::begin().await;
    stage.world.policy.ending = Ending::Delete;
    for round in 0..3 {
        tokio::time::advance(SECOND).await;
        let began = stage.world.clock.now();
        let context = stage.world.context(began.0, true);
        let page = vec![Incoming::Contact(town("1", "Kyiv"))];
        // the second contact is made, or confirmed, after the read has passed its place
        stage.set("2", &format!("Lviv {round}"));
        tokio::time::advance(SECOND).await;
        stage.announce("2").await;
        stage.act().await;
        let policy = Arc::clone(&context.policy);
        let proof = ReadProof { policy, began, from_beginning: true, has_values: true, is_full: true, earlier: None };
        let now = stage.world.clock.now();
        let gone = stage.world.store.call(move |checkpoint| {
            checkpoint.begin_read(context.source, true, began)?;
            let mut seen = SeenRows::default();
            checkpoint.record_page(&context, &mut seen, page, None)?;
            let gone = checkpoint.finish_read(context.source, &proof, &seen, None, now)?;
            checkpoint.weigh_changes(context.source, &context.policy.guard, now.0)?;
            Ok(gone)
        });
        assert_eq!(gone.await.unwrap(), 0);
        stage.world.send_for(HOUR).await;
    }
    assert_eq!(stage.world.sandbox.contacts().iter().filter(|contact| !contact.deleted).count(), 2);
}

#[tokio::test(start_paused = true)]
async fn rows_wait_over_a_restart() {
    let mut stage = Stage::begin().await;
    stage.set("1", "Kyiv");
    stage.announce("1").await;
    stage.push("2", "Lviv").await;
    assert!(stage.world.files_holding("Lviv").is_empty(), "a whole record is sealed");
    stage.crash().await;
    assert_eq!(stage.rows().await, 2);
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("Kyiv"));
    assert_eq!(stage.world.reteno_holds("2", "town").as_deref(), Some("Lviv"));
    assert_eq!(stage.rows().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_recording_and_clearing_repeats_harmlessly() {
    let mut stage = Stage::begin().await;
    stage.set("1", "Kyiv");
    stage.announce("1").await;
    tokio::time::advance(SECOND).await;
    // as far as the record, without clearing its row
    stage.page(stage.world.clock.now(), Lane::Live, vec![town("1", "Kyiv")]).await;
    stage.crash().await;
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.writes("1", "town"), ["Kyiv"]);
    assert_eq!(stage.rows().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_does_not_answer_loses_nothing_and_is_told_once() {
    let mut stage = Stage::begin().await;
    stage.set("1", "Kyiv");
    stage.announce("1").await;
    stage.crm.lock().unwrap().failures = 4;
    tokio::time::advance(SECOND).await;
    let mut hints = stage.hints().await;
    for failures in 1..=4 {
        assert!(hints.act().await.unwrap(), "failure {failures}");
        assert!(!hints.act().await.unwrap(), "it rests");
        let rest = hints.rest().await.unwrap().unwrap();
        assert!(rest > Duration::ZERO && rest <= MINUTE, "{rest:?}");
        tokio::time::advance(rest).await;
    }
    assert_eq!(stage.world.alerts().await, ["fetch-crm"]);
    assert!(hints.act().await.unwrap());
    assert_eq!(stage.rows().await, 0);
    assert!(stage.world.alerts().await.is_empty());
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("Kyiv"));
}

#[tokio::test(start_paused = true)]
async fn one_record_that_cannot_be_asked_for_does_not_hold_up_the_others() {
    let stage = Stage::begin().await;
    stage.crm.lock().unwrap().poison = vec!["bad".to_owned()];
    for key in ["1", "2", "bad", "3"] {
        stage.set(key, "Kyiv");
        stage.announce(key).await;
    }
    let mut hints = stage.hints().await;
    for _ in 0..40 {
        tokio::time::advance(MINUTE).await;
        while hints.act().await.unwrap() {}
    }
    assert_eq!(stage.rows().await, 1, "it alone waits");
    assert_eq!(stage.world.status().await.contacts, 3);
}

/// A CRM that announces ids which it cannot be asked for, before everything else.
#[tokio::test(start_paused = true)]
async fn many_records_that_cannot_be_asked_for_do_not_hide_what_is_new() {
    let stage = Stage::begin().await;
    let bad: Vec<String> = (0..300).map(|number| format!("bad-{number}")).collect();
    stage.crm.lock().unwrap().poison.clone_from(&bad);
    let events = bad.iter().map(|key| InboxEvent::Hint { key: key.clone(), is_deleted: false }).collect();
    stage.inbox.store("crm", None, events).await.unwrap();
    let mut hints = stage.hints().await;
    for _ in 0..20 {
        tokio::time::advance(MINUTE).await;
        while hints.act().await.unwrap() {}
    }
    tokio::time::advance(HOUR).await;
    stage.set("1", "Kyiv");
    stage.announce("1").await;
    tokio::time::advance(SECOND).await;
    stage.crm.lock().unwrap().asked.clear();
    assert!(hints.act().await.unwrap());
    assert_eq!(stage.asked(), [["1"]]);
}

/// Ids that the checkpoint itself wants, one of which the CRM refuses, while its webhook goes on.
#[tokio::test(start_paused = true)]
async fn one_wanted_record_that_cannot_be_asked_for_does_not_hold_up_the_others() {
    let stage = Stage::begin().await;
    let mut hints = stage.hints().await;
    stage.crm.lock().unwrap().poison = vec!["bad".to_owned()];
    let context = stage.world.context(stage.world.clock.now().0, false);
    let keys = ["1", "2", "bad", "x"];
    let pointed = keys.map(|key| Incoming::Pointed { key: key.to_owned() }).into_iter().collect();
    for key in keys {
        stage.set(key, "Kyiv");
    }
    let record = move |checkpoint: &mut reteno_sync::checkpoint::Checkpoint| {
        checkpoint.record_page(&context, &mut SeenRows::default(), pointed, None)
    };
    stage.world.store.call(record).await.unwrap();
    for number in 0..40 {
        stage.set(&format!("new-{number}"), "Lviv");
        stage.announce(&format!("new-{number}")).await;
        tokio::time::advance(MINUTE).await;
        while hints.act().await.unwrap() {}
        assert_eq!(stage.rows().await, 0, "what is announced never waits for it");
    }
    assert_eq!(stage.world.status().await.contacts, 43);
    assert_eq!(stage.world.status().await.wanted, 1, "it alone");
}

#[tokio::test(start_paused = true)]
async fn a_merged_contact_gives_way_to_its_winner() {
    let mut stage = Stage::begin().await;
    stage.world.policy.ending = Ending::Delete;
    for key in ["loser", "winner"] {
        stage.set(key, "Kyiv");
        stage.announce(key).await;
    }
    stage.act().await;
    stage.world.send_for(HOUR).await;
    stage.remove("loser");
    stage.set("winner", "Lviv");
    let events = vec![
        InboxEvent::Hint { key: "loser".to_owned(), is_deleted: true },
        InboxEvent::Hint { key: "winner".to_owned(), is_deleted: false },
    ];
    stage.inbox.store("crm", None, events).await.unwrap();
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.reteno_holds("winner", "town").as_deref(), Some("Lviv"));
    let deleted: Vec<_> = stage.world.sandbox.contacts().into_iter().filter(|contact| contact.deleted).collect();
    assert_eq!(deleted.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn whole_records_are_applied_in_their_order_and_a_repeated_delivery_is_not_applied_twice() {
    let mut stage = Stage::begin().await;
    let whole = |town: &str| {
        let record = serde_json::json!({ "id": "1", "mail": "1@example.com", "city": town });
        vec![InboxEvent::Whole { key: "1".to_owned(), record: record.to_string().into_bytes() }]
    };
    stage.inbox.store("crm", Some("msg_1"), whole("first")).await.unwrap();
    stage.inbox.store("crm", Some("msg_2"), whole("second")).await.unwrap();
    stage.inbox.store("crm", Some("msg_1"), whole("first")).await.unwrap();
    assert_eq!(stage.rows().await, 2);
    stage.act().await;
    stage.inbox.store("crm", Some("msg_1"), whole("first")).await.unwrap();
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("second"));
    assert!(stage.asked().is_empty(), "nothing is fetched");
    // the CRM's only word
    stage.world.policy.ending = Ending::Delete;
    stage.inbox.store("crm", None, vec![InboxEvent::WholeDeleted { key: "1".to_owned(), record: None }]).await.unwrap();
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert!(stage.world.sandbox.contacts()[0].deleted);
}

/// An inbox that was left beside a checkpoint that was made anew.
#[tokio::test(start_paused = true)]
async fn a_record_that_another_key_sealed_is_listed_and_stops_nobody() {
    let mut stage = Stage::begin().await;
    stage.push("lost", "Kyiv").await;
    let other = rusqlite::Connection::open(stage.world.dir.path().join("inbox.db")).unwrap();
    other.execute("UPDATE event SET payload = zeroblob(length(payload))", []).unwrap();
    stage.push("1", "Lviv").await;
    stage.act().await;
    assert_eq!(stage.rows().await, 0);
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("Lviv"));
    let rejections = stage.world.store.call(|checkpoint| checkpoint.load_rejections()).await.unwrap();
    assert_eq!(rejections.len(), 1);
    assert!(rejections[0].place.as_ref().unwrap().contains("lost"), "{rejections:?}");
}

#[tokio::test]
async fn a_locked_inbox_refuses_and_keeps_nothing_and_a_commit_answers_all_that_waited() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, random) = (reteno_sync::clock::Clock::system(), reteno_sync::random::Random::seeded(1));
    let store = support::open(&dir, &clock, &random);
    let inbox = store.call(move |checkpoint| checkpoint.open_inbox(&clock)).await.unwrap();
    let hint = |key: usize| vec![InboxEvent::Hint { key: key.to_string(), is_deleted: false }];
    let other = rusqlite::Connection::open(dir.path().join("inbox.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(inbox.store("crm", None, hint(0)).await, Err(InboxError::Busy)));
    other.execute_batch("ROLLBACK").unwrap();
    let all = (0..200).map(|key| inbox.store("crm", None, hint(key)));
    assert!(futures_util::future::join_all(all).await.into_iter().all(|stored| stored.is_ok()));
    // another connection sees them: they are committed, not only accepted
    let rows: i64 = other.query_row("SELECT count(*) FROM event", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 200);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(dir.path().join("inbox.db")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_strands_nothing() {
    let stage = Stage::begin().await;
    stage.announce("1").await;
    let due = |clock| {
        let store = stage.world.store.clone();
        async move {
            let inbox = store.call(move |checkpoint| checkpoint.open_inbox(&clock)).await.unwrap();
            (inbox.due("crm", 10).await.unwrap().len(), inbox.next_due("crm").await.unwrap().unwrap())
        }
    };
    let earlier = Timestamp(stage.world.clock.now().0 - 86_400_000);
    let (rows, next) = due(reteno_sync::clock::Clock::simulated(earlier)).await;
    assert_eq!((rows, next), (1, earlier));
    let (rows, _) = due(reteno_sync::clock::Clock::simulated(stage.world.clock.now())).await;
    assert_eq!(rows, 0, "while the clock is right it waits for more");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_in_doubt_is_fetched_and_no_full_read_is_asked_for() {
    let stage = Stage::begin().await;
    stage.set("1", "newest");
    drop(stage.hints().await);
    let asked_at = stage.world.clock.now();
    tokio::time::advance(SECOND).await;
    stage.page(stage.world.clock.now(), Lane::Live, vec![town("1", "newer")]).await;
    stage.page(asked_at, Lane::Live, vec![town("1", "older")]).await;
    assert!(!stage.world.status().await.sources[0].full_read_wanted);
    stage.act().await;
    assert_eq!(stage.asked(), [["1"]]);
    let balance = stage.page(stage.world.clock.now(), Lane::Live, vec![town("1", "newest")]).await;
    assert_eq!(balance.changed, 0, "the fetch has brought it");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_a_read_tells_is_confirmed_by_a_fetch() {
    let mut stage = Stage::begin().await;
    stage.world.policy.ending = Ending::Delete;
    for key in ["1", "2"] {
        stage.set(key, "Kyiv");
        stage.announce(key).await;
    }
    stage.act().await;
    stage.world.send_for(HOUR).await;
    // both are said to be deleted, and one of them still is there
    stage.remove("1");
    tokio::time::advance(SECOND).await;
    let context = stage.world.context(stage.world.clock.now().0, false);
    let said = ["1", "2"].map(|key| Incoming::Deleted { key: key.to_owned(), is_confirmed: false, changed_at: None });
    stage
        .world
        .store
        .call(move |checkpoint| checkpoint.record_page(&context, &mut SeenRows::default(), said.into(), None))
        .await
        .unwrap();
    stage.act().await;
    stage.world.send_for(HOUR).await;
    let deleted: Vec<_> = stage.world.sandbox.contacts().into_iter().filter(|contact| contact.deleted).collect();
    assert_eq!(deleted.len(), 1);
}

/// What was repaired, by cause.
async fn repaired(stage: &Stage) -> Vec<(RepairCause, u64)> {
    let all = stage.world.store.call(|checkpoint| checkpoint.load_repaired()).await.unwrap();
    all.into_iter().map(|row| (row.cause, row.contacts)).collect()
}

/// A page of a cycle behind an earlier way of reading.
async fn cycle_page(stage: &Stage, earlier: Earlier, contacts: Vec<Contact>) {
    let mut context = stage.world.context(stage.world.clock.now().0, false);
    let announced = Arc::new(stage.inbox.announced("crm", 100).await.unwrap());
    context.way = Way::Cycle(Some(Repairs { earlier, announced }));
    let items = contacts.into_iter().map(Incoming::Contact).collect();
    stage
        .world
        .store
        .call(move |checkpoint| checkpoint.record_page(&context, &mut SeenRows::default(), items, None))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_webhook_should_have_announced_is_counted_as_lost() {
    let stage = Stage::begin().await;
    let webhook = Earlier::Webhook { covered_at: Some(stage.world.clock.now().0) };
    let dated = |key: &str, town_of: &str, minutes_ago: i64| {
        let changed_at = Some(stage.world.clock.now().0 - minutes_ago * 60_000);
        Contact { changed_at, ..town(key, town_of) }
    };
    // announced, and not acted on yet
    stage.announce("1").await;
    cycle_page(&stage, webhook, vec![dated("1", "Kyiv", 60)]).await;
    assert_eq!(repaired(&stage).await, []);
    // never announced; one that changed a moment ago may still be
    cycle_page(&stage, webhook, vec![dated("2", "Kyiv", 60), dated("3", "Kyiv", 1)]).await;
    assert_eq!(repaired(&stage).await, [(RepairCause::WebhookLost, 1)]);
    // the same records again change nothing, and repair nothing
    cycle_page(&stage, webhook, vec![dated("2", "Kyiv", 60), dated("3", "Kyiv", 1)]).await;
    assert_eq!(repaired(&stage).await, [(RepairCause::WebhookLost, 1)]);
    // what the webhook's own fetch brings is no repair
    stage.set("4", "Kyiv");
    stage.announce("4").await;
    stage.act().await;
    assert_eq!(repaired(&stage).await, [(RepairCause::WebhookLost, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_reconcile_counts_what_polling_missed_by_cause() {
    let stage = Stage::begin().await;
    let covered = stage.world.clock.now();
    tokio::time::advance(MINUTE).await;
    let polls = Earlier::Polls { covered_at: Some(covered.0) };
    let dated = |key: &str, town_of: &str, at: i64| Contact { changed_at: Some(at), ..town(key, town_of) };
    let old = covered.0 - 3_600_000;
    stage.page(stage.world.clock.now(), Lane::Live, vec![dated("1", "Kyiv", old), dated("2", "Kyiv", old)]).await;
    tokio::time::advance(MINUTE).await;
    // one with a time that a poll covered, one whose time did not move, one that the next poll would bring
    let found = vec![dated("1", "Lviv", old + 1000), dated("2", "Lviv", old), dated("3", "Lviv", covered.0 + 30_000)];
    cycle_page(&stage, polls, found).await;
    assert_eq!(repaired(&stage).await, [(RepairCause::PollMissed, 1), (RepairCause::Undated, 1)]);
    // a contact that two whole reads lack, and nothing else told of
    for round in 0..2 {
        tokio::time::advance(MINUTE).await;
        let began = stage.world.clock.now();
        let context = stage.world.context(began.0, true);
        let policy = Arc::clone(&context.policy);
        let earlier = Some(polls);
        let proof = ReadProof { policy, began, from_beginning: true, has_values: true, is_full: true, earlier };
        let here = vec![Incoming::Contact(dated("1", "Lviv", old + 1000)), Incoming::Contact(dated("2", "Lviv", old))];
        let gone = stage.world.store.call(move |checkpoint| {
            let mut seen = SeenRows::default();
            checkpoint.record_page(&context, &mut seen, here, None)?;
            checkpoint.finish_read(context.source, &proof, &seen, None, began)
        });
        assert_eq!(gone.await.unwrap(), 1, "round {round}");
    }
    let all = repaired(&stage).await;
    assert!(all.contains(&(RepairCause::DeletionUnseen, 1)), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn a_retried_rejection_is_fetched_alone() {
    let mut stage = Stage::begin().await;
    stage.world.sandbox.poison(["bad".to_owned()]);
    for key in ["good", "bad"] {
        stage.set(key, "Kyiv");
        stage.announce(key).await;
    }
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.status().await.rejected, 1);
    stage.world.sandbox.poison([]);
    let asked = stage.asked().len();
    let retried = stage.world.store.call(|checkpoint| checkpoint.retry_rejected(Some("bad"))).await.unwrap();
    assert_eq!((retried.contacts, retried.fetched, retried.sources.len()), (1, 1, 0));
    stage.act().await;
    assert_eq!(stage.asked()[asked..], [["bad"]]);
    stage.world.send_for(HOUR).await;
    let status = stage.world.status().await;
    assert_eq!((status.rejected, status.starved, status.acknowledged), (0, 0, 2));
    assert!(!status.sources[0].full_read_wanted);
}

/// As `a_partial_record_waits_for_the_address_that_it_lacks` of the histories, where the source can be asked.
#[tokio::test(start_paused = true)]
async fn a_contact_whose_values_are_missing_is_fetched_alone() {
    let mut stage = Stage::begin().await;
    stage.set("1", "Kyiv");
    stage.announce("1").await;
    stage.act().await;
    stage.world.send_for(HOUR).await;
    let mut partial = town("1", "Lviv");
    partial.fields.retain(|(field, _)| *field != Field::Email);
    stage.set("1", "Lviv");
    tokio::time::advance(MINUTE).await;
    stage.page(stage.world.clock.now(), Lane::Live, vec![partial]).await;
    let status = stage.world.status().await;
    assert_eq!((status.starved, status.wanted, status.sources[0].full_read_wanted), (1, 1, false));
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("Lviv"));
    assert_eq!(stage.world.status().await.wanted, 0);
}

/// A CRM over the request → response seam: its people, filtered by their change time.
struct ListedCrm(Mutex<Vec<(String, String, Timestamp)>>);

impl Exchange for ListedCrm {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, ExchangeError>> {
        let url = url::Url::parse(&request.uri().to_string()).unwrap();
        let since = url.query_pairs().find(|(name, _)| name == "since").map(|(_, value)| value.into_owned());
        let moment = |at: Timestamp| chrono::DateTime::from_timestamp_millis(at.0).unwrap().to_rfc3339();
        let since = since.map(|text| chrono::DateTime::parse_from_rfc3339(&text).unwrap().timestamp_millis());
        let people: Vec<_> = self
            .0
            .lock()
            .unwrap()
            .iter()
            .filter(|(_, _, at)| since.is_none_or(|since| at.0 >= since))
            .map(|(id, town, at)| {
                serde_json::json!({ "id": id, "mail": format!("{id}@example.com"), "city": town, "at": moment(*at) })
            })
            .collect();
        let body = Bytes::from(serde_json::json!({ "people": people }).to_string());
        Box::pin(async move { Ok(http::Response::new(body)) })
    }
}

/// The counts as whole cycles make them: a first load repairs nothing, polls that a webhook should have announced do, and a
/// reconcile by what had missed it.
#[tokio::test(start_paused = true)]
async fn cycles_count_their_repairs() {
    let stage = Stage::begin().await;
    let clock = stage.world.clock.clone();
    let begun = clock.now();
    let people = [("1", begun), ("2", begun)].map(|(id, at)| (id.to_owned(), "Kyiv".to_owned(), at));
    let crm = Arc::new(ListedCrm(Mutex::new(people.into())));
    let toml = format!(
        "state_dir = \"{}\"\n[source.crm]\nkind = \"http\"\nbase_url = \"https://crm.example\"\nkey = \"$.id\"\n\
         changed_at = \"$.at\"\n[source.crm.list]\npath = \"/people\"\nquery = {{ since = \"{{start}}\" }}\n\
         records = \"$.people[*]\"\n[source.crm.cursor]\npath = \"$.at\"\nformat = \"rfc3339\"\n\
         [source.crm.pagination]\nkind = \"none\"\n[source.crm.contact]\nexternalCustomerId = \"$.id\"\n\
         email = \"$.mail\"\ntown = \"$.city\"\n",
        stage.world.dir.path().display()
    );
    std::fs::write(stage.world.dir.path().join("crm.toml"), toml).unwrap();
    let config = config::load(&stage.world.dir.path().join("crm.toml"), std::iter::empty(), None).unwrap();
    let around = Surroundings {
        store: stage.world.store.clone(),
        clock: clock.clone(),
        random: stage.world.random.clone(),
        crms: Vec::new(),
    };
    let exchange: Arc<dyn Exchange> = crm.clone();
    let links = CrmLinks::over(&config, &around, &exchange);
    let place = compose::Place { state_dir: stage.world.dir.path(), clock: &clock, links: &links };
    let mut feed = compose::build_feed(&config.sources[0], config.identity, &Catalog::empty(), place).0;
    let (line, stop) = (Line::default(), CancellationToken::new());
    let parts = CycleParts {
        store: &stage.world.store,
        clock: &clock,
        line: &line,
        stop: &stop,
        mode: PageMode::Apply,
        on_page: &|_| {},
    };
    let edit = |place: usize, town: &str, at: Timestamp| {
        let mut people = crm.0.lock().unwrap();
        town.clone_into(&mut people[place].1);
        people[place].2 = at;
    };
    // the first load, and a poll that finds an edit: nothing was missed
    read_feed(&feed, Reach::Changes, &parts).await.unwrap();
    tokio::time::advance(HOUR).await;
    edit(0, "Lviv", clock.now().minus(10 * MINUTE));
    read_feed(&feed, Reach::Changes, &parts).await.unwrap();
    assert_eq!(repaired(&stage).await, []);
    // an edit with a time that the poll has covered, and one without a time of its own
    tokio::time::advance(HOUR).await;
    edit(0, "Odesa", clock.now().minus(66 * MINUTE));
    edit(1, "Odesa", begun);
    let report = read_feed(&feed, Reach::Full, &parts).await.unwrap();
    assert_eq!(report.balance.changed, 2, "{}", report.balance);
    assert_eq!(repaired(&stage).await, [(RepairCause::PollMissed, 1), (RepairCause::Undated, 1)]);
    // with a webhook the same poll finds what was not announced
    feed.inbox = Some(stage.inbox.clone());
    tokio::time::advance(HOUR).await;
    edit(0, "Poltava", clock.now().minus(10 * MINUTE));
    read_feed(&feed, Reach::Changes, &parts).await.unwrap();
    assert!(repaired(&stage).await.contains(&(RepairCause::WebhookLost, 1)));
}

/// The disk of the inbox fails: what cannot be cleared is acted on again, and nothing ends.
#[tokio::test(start_paused = true)]
async fn an_inbox_that_cannot_be_written_ends_nothing_and_is_told() {
    let mut stage = Stage::begin().await;
    let other = rusqlite::Connection::open(stage.world.dir.path().join("inbox.db")).unwrap();
    other
        .execute_batch("CREATE TRIGGER broken BEFORE DELETE ON event BEGIN SELECT raise(ABORT, 'broken'); END")
        .unwrap();
    stage.set("1", "Kyiv");
    stage.announce("1").await;
    tokio::time::advance(SECOND).await;
    let mut hints = stage.hints().await;
    assert!(hints.act().await.unwrap());
    assert_eq!(stage.world.alerts().await, ["inbox"]);
    assert!(!hints.act().await.unwrap(), "it rests");
    assert!(hints.rest().await.unwrap().is_some_and(|rest| rest > Duration::ZERO));
    assert_eq!(stage.rows().await, 1);
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.writes("1", "town"), ["Kyiv"]);
    other.execute_batch("DROP TRIGGER broken").unwrap();
    assert!(hints.act().await.unwrap());
    assert_eq!(stage.rows().await, 0);
    assert!(stage.world.alerts().await.is_empty());
    // nor does one that cannot be read
    other.execute_batch("ALTER TABLE event RENAME TO elsewhere").unwrap();
    assert!(!hints.act().await.unwrap());
    assert_eq!(stage.world.alerts().await, ["inbox"]);
    hints.rest().await.unwrap();
    hints.settle_disk().await.unwrap();
    other.execute_batch("ALTER TABLE elsewhere RENAME TO event").unwrap();
    stage.announce("1").await;
    tokio::time::advance(MINUTE).await;
    assert!(hints.act().await.unwrap());
    assert_eq!(stage.rows().await, 0);
}
