//! Deliveries of webhooks over real sockets: every status, and never a 2xx for what is not on disk.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use reteno_sync::checkpoint::{Inbox, InboxEvent, PageMode};
use reteno_sync::config::{self, Config};
use reteno_sync::contact::{Catalog, Field};
use reteno_sync::daemon::alarm::Alarm;
use reteno_sync::daemon::compose;
use reteno_sync::daemon::cycle::{CycleParts, Feed, Reach, read_feed};
use reteno_sync::daemon::hints::{HintParts, Hints};
use reteno_sync::daemon::hooks::{HookDesk, Reason};
use reteno_sync::daemon::links::CrmLinks;
use reteno_sync::daemon::metrics::render;
use reteno_sync::daemon::sender::Line;
use reteno_sync::listener::{self, Admitted, Exports, PostedHead, PublicServices, Reception};
use reteno_sync::plan::policy::Ending;
use reteno_sync::sandbox::SandboxOptions;
use support::{HOUR, MINUTE, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A system that only pushes, and proves itself by its path.
const PUSHED: &str = r#"kind = "webhook"
on_delete = "delete"
changed_at = "at"
[source.shop.webhook]
verify = "path_token"
token = "0123456789abcdef0123456789abcdef"
events = "$.events[*]"
id = "$.id"
record = "$.record"
action_path = "$.what"
actions = { saved = "upsert", removed = "delete" }
body_bytes_max = "4KiB"
"#;

/// A world with a public listener.
struct Stage {
    world: World,
    config: Config,
    inbox: Inbox,
    desk: Arc<HookDesk>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Stage {
    async fn begin(source: &str) -> Self {
        Self::with(source, "").await
    }

    async fn with(source: &str, top: &str) -> Self {
        let mut settings = support::settings();
        settings.segment_names.insert(Field::segment("VIP"), "VIP".to_owned());
        let options = SandboxOptions { access_token_lifetime: 1000 * HOUR, ..SandboxOptions::default() };
        let world = World::with(options, settings).await;
        let dir = world.dir.path();
        let toml = format!(
            "state_dir = \"{}\"\n{top}\n[source.shop]\n{source}\n[source.shop.contact]\nexternalCustomerId = \"id\"\n\
             email = \"mail\"\ntown = \"city\"\n",
            dir.display()
        );
        std::fs::write(dir.join("config.toml"), toml).unwrap();
        let config = config::load(&dir.join("config.toml"), std::iter::empty(), None).unwrap();
        let clock = world.clock.clone();
        let inbox = world.store.call(move |checkpoint| checkpoint.open_inbox(&clock)).await.unwrap();
        let webhook = config.sources[0].webhook.clone().unwrap();
        let hooks = vec![("shop".to_owned(), webhook)];
        let public_url = config.listen.public_url.clone();
        let desk = HookDesk::open(hooks, world.clock.clone(), public_url);
        desk.fill(inbox.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let exports: Exports = Arc::new(|_| Box::pin(async { None }));
        let services = PublicServices { exports, hooks: Some(desk.listen()) };
        tokio::spawn(listener::serve_public(listener, services, stop.clone()));
        Self { world, config, inbox, desk, address, stop }
    }

    /// Sends bytes, and gives the answer whole.
    async fn send(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn post(&self, target: &str, headers: &str, body: &str) -> String {
        let length = body.len();
        let head =
            format!("POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}");
        self.send(&format!("{head}\r\n\r\n{body}")).await
    }

    async fn push(&self, events: &str) -> String {
        self.post(&format!("/hooks/shop/{TOKEN}"), "", &format!("{{\"events\":[{events}]}}")).await
    }

    async fn rows(&self) -> u64 {
        self.inbox.count().await.unwrap().iter().map(|count| count.rows).sum()
    }

    fn feed(&self) -> Feed {
        let links = CrmLinks::default();
        let place = compose::Place { state_dir: &self.config.state_dir, clock: &self.world.clock, links: &links };
        compose::build_feed(&self.config.sources[0], self.config.identity, &Catalog::empty(), place).0
    }

    /// Acts on all that is due a second later.
    async fn act(&self) {
        tokio::time::advance(Duration::from_secs(1)).await;
        let parts = HintParts {
            store: self.world.store.clone(),
            inbox: Some(self.inbox.clone()),
            clock: self.world.clock.clone(),
            random: self.world.random.clone(),
            line: self.world.line.clone(),
            fetch: None,
            program: "reteno-sync".to_owned(),
        };
        let mut hints = Hints::open(&self.feed(), parts).await.unwrap();
        while hints.act().await.unwrap() {}
    }
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn saved(id: &str, city: &str, at: &str) -> String {
    format!(
        "{{\"what\":\"saved\",\"id\":\"{id}\",\"record\":{{\"id\":\"{id}\",\"mail\":\"{id}@example.com\",\"city\":\"{city}\",\
         \"at\":\"{at}\"}}}}"
    )
}

fn removed(id: &str) -> String {
    format!("{{\"what\":\"removed\",\"id\":\"{id}\"}}")
}

#[tokio::test]
async fn every_delivery_gets_the_status_that_it_deserves() {
    let stage = Stage::begin(PUSHED).await;
    let good = format!("/hooks/shop/{TOKEN}");
    let body = format!("{{\"events\":[{}]}}", saved("1", "Kyiv", "2026-11-23T12:00:00Z"));
    let cases = [
        ("an unknown source", stage.post("/hooks/other", "", &body).await, "401"),
        ("no token", stage.post("/hooks/shop", "", &body).await, "401"),
        ("another token", stage.post(&format!("{good}0"), "", &body).await, "401"),
        ("no JSON", stage.post(&good, "", "{\"events\":").await, "400"),
        ("an event without an id", stage.post(&good, "", "{\"events\":[{\"what\":\"saved\"}]}").await, "400"),
        ("more than it may have", stage.post(&good, "", &" ".repeat(5000)).await, "413"),
        ("nothing of ours", stage.post(&good, "", "{\"events\":[{\"what\":\"seen\",\"id\":\"1\"}]}").await, "200"),
    ];
    for (what, answer, expected) in cases {
        assert_eq!(status(&answer), expected, "{what}: {answer}");
    }
    assert_eq!(stage.rows().await, 0, "nothing was kept");
    let get = stage.send(&format!("GET {good} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
    assert_eq!(status(&get), "405", "{get}");
    let taken = stage.post(&good, "", &body).await;
    assert!(taken.starts_with("HTTP/1.1 200 ") && taken.ends_with("\r\n\r\n"), "an empty body: {taken}");
    assert_eq!(stage.rows().await, 1);
    let counts = stage.desk.count().remove(0);
    assert_eq!(counts.accepted, 2);
    let by_reason = |reason| counts.refused.iter().find(|(other, _)| *other == reason).unwrap().1;
    assert_eq!((by_reason(Reason::Unverified), by_reason(Reason::Malformed), by_reason(Reason::TooLarge)), (2, 2, 1));
}

#[tokio::test]
async fn a_body_that_is_announced_too_long_is_refused_unread_and_an_unannounced_one_as_it_grows() {
    let stage = Stage::begin(PUSHED).await;
    let head = format!("POST /hooks/shop/{TOKEN} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    // not a byte of the body is there
    let announced = stage.send(&format!("{head}content-length: 1000000\r\n\r\n")).await;
    assert_eq!(status(&announced), "413", "{announced}");
    let chunk = format!("fff\r\n{}\r\n", "x".repeat(0xfff));
    let grown = stage.send(&format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n")).await;
    assert_eq!(status(&grown), "413", "{grown}");
}

/// The clock moves by itself whenever everything waits, so that waits of ours are over at once.
#[tokio::test(start_paused = true)]
async fn a_slow_sender_is_cut_off_in_the_body_and_in_the_head() {
    let stage = Stage::begin(PUSHED).await;
    let head = format!("POST /hooks/shop/{TOKEN} HTTP/1.1\r\nhost: x\r\n");
    let slow = stage.send(&format!("{head}content-length: 100\r\n\r\n{{")).await;
    assert_eq!(status(&slow), "408", "{slow}");
    let silent = stage.send(&head).await;
    assert_eq!(silent, "", "the connection ends");
}

#[tokio::test]
async fn what_cannot_be_kept_is_never_answered_with_a_2xx() {
    let stage = Stage::begin(PUSHED).await;
    let other = rusqlite::Connection::open(stage.world.dir.path().join("inbox.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let event = saved("1", "Kyiv", "2026-11-23T12:00:00Z");
    let busy = stage.push(&event).await;
    assert_eq!(status(&busy), "503", "{busy}");
    assert!(busy.contains("retry-after: "), "{busy}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(stage.rows().await, 0);
    // a full disk, as the database sees it
    other.execute_batch("CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT raise(ABORT, 'full'); END").unwrap();
    assert_eq!(status(&stage.push(&event).await), "503");
    other.execute_batch("DROP TRIGGER full").unwrap();
    assert_eq!(status(&stage.push(&event).await), "200");
    // seen by another connection: it is committed
    assert_eq!(other.query_row("SELECT count(*) FROM event", [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}

#[tokio::test]
async fn a_signed_address_is_the_one_that_the_world_sees() {
    const SECRET: &str = "hubspot-client-secret";
    let webhook = format!(
        "kind = \"webhook\"\n[source.shop.webhook]\nverify = \"hubspot-v3\"\nsecret = \"{SECRET}\"\nevents = \"$[*]\"\n\
         id = \"$.objectId\"\nrecord = \"$.record\"\n"
    );
    let listen = "[listen]\npublic_address = \"127.0.0.1:1\"\npublic_url = \"https://hooks.example.com/in\"\n";
    let stage = Stage::with(&webhook, listen).await;
    let body = "[]";
    let sign = |url: &str, at: i64| {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, SECRET.as_bytes());
        let tag = aws_lc_rs::hmac::sign(&key, format!("POST{url}{body}{at}").as_bytes());
        let tag = base64::engine::general_purpose::STANDARD.encode(tag);
        format!("x-hubspot-signature-v3: {tag}\r\nx-hubspot-request-timestamp: {at}\r\n")
    };
    let at = stage.world.clock.now().0;
    let signed = sign("https://hooks.example.com/in/hooks/shop?portal=1", at);
    assert_eq!(status(&stage.post("/hooks/shop?portal=1", &signed, body).await), "200");
    // another query, and the address as it is behind the proxy
    assert_eq!(status(&stage.post("/hooks/shop?portal=2", &signed, body).await), "401");
    let inside = sign("https://x/hooks/shop?portal=1", at);
    assert_eq!(status(&stage.post("/hooks/shop?portal=1", &inside, body).await), "401");
}

#[tokio::test(start_paused = true)]
async fn a_person_is_told_when_only_refused_deliveries_come() {
    let stage = Stage::begin(PUSHED).await;
    let alarm = Alarm::open(stage.world.store.clone(), stage.world.clock.clone());
    for _ in 0..5 {
        assert_eq!(status(&stage.post("/hooks/shop", "", "{}").await), "401");
        stage.desk.tell(&alarm).await.unwrap();
        assert!(stage.world.alerts().await.is_empty(), "it may be a stranger");
    }
    tokio::time::advance(16 * MINUTE).await;
    stage.desk.tell(&alarm).await.unwrap();
    assert_eq!(stage.world.alerts().await, ["hooks-shop"]);
    assert_eq!(status(&stage.push("").await), "200");
    stage.desk.tell(&alarm).await.unwrap();
    assert!(stage.world.alerts().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_system_that_only_pushes_is_kept_equal() {
    let mut stage = Stage::begin(PUSHED).await;
    stage.world.policy.ending = Ending::Delete;
    let events = [saved("1", "Kyiv", "2026-11-23T12:00:00Z"), saved("2", "Lviv", "2026-11-23T12:00:00Z")].join(",");
    assert_eq!(status(&stage.push(&events).await), "200");
    assert_eq!(status(&stage.push(&saved("1", "Odesa", "2026-11-23T12:05:00Z")).await), "200");
    // a retry of the first that comes last: the record itself says that it is older
    assert_eq!(status(&stage.push(&saved("1", "Kyiv", "2026-11-23T12:00:00Z")).await), "200");
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("Odesa"));
    assert_eq!(stage.world.reteno_holds("2", "town").as_deref(), Some("Lviv"));
    assert_eq!(status(&stage.push(&removed("2")).await), "200");
    stage.act().await;
    stage.world.send_for(HOUR).await;
    let deleted: Vec<_> = stage.world.sandbox.contacts().into_iter().filter(|contact| contact.deleted).collect();
    assert_eq!(deleted.len(), 1);
    // nothing to read, whoever asks, and nobody is gone because of it
    let feed = stage.feed();
    let (line, stop) = (Line::default(), CancellationToken::new());
    for (mode, reach) in
        [(PageMode::Apply, Reach::Changes), (PageMode::Apply, Reach::Full), (PageMode::Apply, Reach::Full)]
    {
        let (store, clock) = (&stage.world.store, &stage.world.clock);
        let parts = CycleParts { store, clock, line: &line, stop: &stop, mode, on_page: &|_| {} };
        let report = read_feed(&feed, reach, &parts).await.unwrap();
        assert_eq!((report.balance.read, report.balance.gone), (0, 0));
        assert!(report.warnings[0].contains("only pushes"), "{:?}", report.warnings);
    }
    // nor is a read asked for that could never come
    let shop = stage.world.store.call(|checkpoint| checkpoint.load_source("shop")).await.unwrap().id;
    stage.world.store.call(move |checkpoint| checkpoint.ask_for_full_read(shop)).await.unwrap();
    let status = stage.world.status().await;
    let source = status.sources.iter().find(|source| source.name == "shop").unwrap();
    assert!(!source.full_read_wanted, "{source:?}");
}

#[test]
fn a_system_that_only_pushes_needs_its_webhook_and_has_no_schedule() {
    let dir = tempfile::tempdir().unwrap();
    let problems = |source: &str| {
        let toml = format!(
            "state_dir = \"{}\"\n[source.shop]\n{source}\n[source.shop.contact]\nexternalCustomerId = \"id\"\nemail = \"mail\"\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("config.toml"), toml).unwrap();
        config::load(&dir.path().join("config.toml"), std::iter::empty(), None).unwrap_err().to_string()
    };
    let bare = problems("kind = \"webhook\"\nschedule = \"* * * * *\"");
    assert!(bare.contains("source.shop.webhook is missing"), "{bare}");
    assert!(bare.contains("source.shop.schedule has no meaning"), "{bare}");
    let hint = problems("kind = \"webhook\"\n[source.shop.webhook]\nverify = \"none\"\nid = \"$.id\"");
    assert!(hint.contains("announces records that this source cannot ask for"), "{hint}");
    let file = problems("kind = \"file\"\npath = \"x.csv\"\n[source.shop.webhook]\nverify = \"none\"\nid = \"$.id\"");
    assert!(file.contains("announces records that this source cannot ask for"), "{file}");
}

#[tokio::test(start_paused = true)]
async fn metrics_name_sources_and_reasons_and_nobody() {
    let stage = Stage::begin(PUSHED).await;
    let event = InboxEvent::WholeDeleted { key: "ann@example.com".to_owned(), record: None };
    stage.inbox.store("shop", None, vec![event]).await.unwrap();
    assert_eq!(status(&stage.post("/hooks/shop", "", "{}").await), "401");
    tokio::time::advance(MINUTE).await;
    let waiting = stage.inbox.count().await.unwrap();
    let text = render(&stage.desk.count(), &waiting, &[], stage.world.clock.now());
    assert!(text.contains(
        "# TYPE reteno_sync_hook_deliveries_total counter\nreteno_sync_hook_deliveries_total{source=\"shop\"} 0\n"
    ));
    assert!(text.contains("reteno_sync_hook_refusals_total{source=\"shop\",reason=\"unverified\"} 1\n"), "{text}");
    assert!(text.contains("reteno_sync_inbox_events{source=\"shop\"} 1\n"), "{text}");
    assert!(text.contains("reteno_sync_inbox_oldest_seconds{source=\"shop\"} 60\n"), "{text}");
    assert!(!text.contains("ann"), "{text}");
}

/// Of what is answered only the moment may differ.
#[tokio::test]
async fn an_unknown_hook_and_one_that_is_not_proven_are_answered_alike_and_before_the_body() {
    let stage = Stage::begin(PUSHED).await;
    let mut answers = Vec::new();
    for target in
        ["/hooks/other".to_owned(), "/hooks/shop".to_owned(), format!("/hooks/shop/{TOKEN}0"), "/hooks/x/y".to_owned()]
    {
        // not a byte of the body is there, and it never comes
        let head = format!("POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: 3000\r\n\r\n");
        let answer = stage.send(&head).await;
        answers.push(answer.lines().filter(|line| !line.starts_with("date: ")).collect::<Vec<_>>().join("\n"));
    }
    assert!(answers[0].starts_with("HTTP/1.1 401 "), "{}", answers[0]);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    // none of it was admitted, so that nothing waited for a body
    let hooks = stage.desk.listen();
    let admit = |source: &str, token: Option<&str>| {
        let (source, token) = (source.to_owned(), token.map(str::to_owned));
        (hooks.admit)(&PostedHead { source, token, target: "/".to_owned(), headers: http::HeaderMap::new() })
    };
    for (source, token) in [("other", Some(TOKEN)), ("shop", None), ("shop", Some("x"))] {
        assert_eq!(admit(source, token), Err(Reception::Forged), "{source}");
    }
    assert_eq!(admit("shop", Some(TOKEN)), Ok(Admitted { bytes_max: 4096, is_proven: true }));
    // whatever else was sent on that connection is not looked at
    let one = format!("POST /hooks/shop/{TOKEN}0 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{{}}");
    let answer = stage.send(&one.repeat(50)).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

#[tokio::test]
async fn a_proven_sender_is_told_what_is_wrong_and_nothing_of_a_person() {
    let stage = Stage::begin(PUSHED).await;
    let good = format!("/hooks/shop/{TOKEN}");
    let cases = [
        ("{\"events\":[{\"what\":\"saved\",\"record\":{\"mail\":\"ann@example.com\"}}]}", "an event has no id\n"),
        ("{\"ann@example.com\"", "JSON that is cut off at byte 19\n"),
    ];
    for (body, expected) in cases {
        let answer = stage.post(&good, "", body).await;
        assert_eq!(status(&answer), "400");
        assert!(answer.ends_with(expected) && !answer.contains("ann"), "{answer}");
    }
    // sound events beside one that is not, and a word of another version, are counted
    let events = [
        saved("1", "Kyiv", "2026-11-23T12:00:00Z"),
        "{\"what\":\"saved\"}".to_owned(),
        "{\"what\":\"seen\"}".to_owned(),
    ];
    assert_eq!(status(&stage.push(&events.join(",")).await), "200");
    assert_eq!(stage.rows().await, 1);
    let count = stage.desk.count().remove(0);
    assert_eq!((count.left_out, count.unknown), (1, 1));
    let text = render(&[count], &[], &[], stage.world.clock.now());
    assert!(text.contains("reteno_sync_hook_unknown_events_total{source=\"shop\"} 1\n"), "{text}");
    assert!(text.contains("reteno_sync_hook_left_out_events_total{source=\"shop\"} 1\n"), "{text}");
}

/// Connections that say nothing, or begin a head and stay there: more than four times the places.
#[tokio::test]
async fn strangers_without_number_keep_no_good_sender_out() {
    let stage = Stage::begin(PUSHED).await;
    let body = format!("{{\"events\":[{}]}}", removed("1"));
    let good = format!("POST /hooks/shop/{TOKEN} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut kept = TcpStream::connect(stage.address).await.unwrap();
    let mut again = async || {
        kept.write_all(good.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        kept.read_exact(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer.to_vec()).unwrap();
        let mut rest = vec![0; 4096];
        // one packet: the answer has no body
        assert!(kept.read(&mut rest).await.unwrap() > 0);
        answer
    };
    assert_eq!(again().await, "HTTP/1.1 200");
    let mut strangers = Vec::new();
    for number in 0..1200 {
        let mut stranger = TcpStream::connect(stage.address).await.unwrap();
        if number % 2 == 0 {
            // it may have been told to leave by now
            let _ = stranger.write_all(b"POST /hooks/shop/x HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
        }
        strangers.push(stranger);
        if number % 50 == 0 {
            assert_eq!(status(&stage.push(&removed("2")).await), "200", "{number}");
        }
    }
    assert_eq!(again().await, "HTTP/1.1 200", "a connection that has proven itself stays");
    assert_eq!(stage.desk.count()[0].accepted, 26);
    drop(strangers);
    stage.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_deletion_behind_its_record_in_one_batch_counts() {
    let mut stage = Stage::begin(PUSHED).await;
    stage.world.policy.ending = Ending::Delete;
    assert_eq!(status(&stage.push(&saved("1", "Kyiv", "2026-11-23T12:00:00Z")).await), "200");
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("Kyiv"));
    // an edit and a deletion in one go, and one who is made and deleted
    let events = [
        saved("1", "Lviv", "2026-11-23T12:05:00Z"),
        removed("1"),
        saved("2", "Odesa", "2026-11-23T12:05:00Z"),
        removed("2"),
    ];
    assert_eq!(status(&stage.push(&events.join(",")).await), "200");
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert!(stage.world.sandbox.contacts().iter().all(|contact| contact.deleted));
    // one who is deleted and made anew lives
    let events = [removed("1"), saved("1", "Rivne", "2026-11-23T12:10:00Z")];
    assert_eq!(status(&stage.push(&events.join(",")).await), "200");
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("Rivne"));
}

#[tokio::test(start_paused = true)]
async fn a_replay_days_later_revives_nobody() {
    let mut stage = Stage::begin(PUSHED).await;
    stage.world.policy.ending = Ending::Delete;
    let (first, second) = (saved("1", "Kyiv", "2026-11-23T12:00:00Z"), saved("1", "Lviv", "2026-11-23T12:05:00Z"));
    assert_eq!(status(&stage.push(&[first.clone(), second.clone()].join(",")).await), "200");
    stage.act().await;
    stage.world.send_for(HOUR).await;
    // before the deletion has gone out
    assert_eq!(status(&stage.push(&removed("1")).await), "200");
    stage.act().await;
    assert_eq!(status(&stage.push(&first).await), "200");
    stage.act().await;
    stage.world.send_for(HOUR).await;
    let is_deleted = |stage: &Stage| stage.world.sandbox.contacts().iter().all(|contact| contact.deleted);
    assert!(is_deleted(&stage));
    tokio::time::advance(72 * HOUR).await;
    for replay in [&first, &second] {
        assert_eq!(status(&stage.push(replay).await), "200");
        stage.act().await;
        stage.world.send_for(HOUR).await;
        assert!(is_deleted(&stage), "{replay}");
    }
    // typed in again
    assert_eq!(status(&stage.push(&saved("1", "Rivne", "2026-11-27T12:00:00Z")).await), "200");
    stage.act().await;
    stage.world.send_for(HOUR).await;
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("Rivne"));
}

#[tokio::test(start_paused = true)]
async fn what_a_pushed_record_lacks_takes_nobody_out_of_a_segment_and_ends_no_opt_out() {
    let levels = "[source.shop.consent]\nemail = { path = \"news\", yes = [\"yes\"], no = [\"no\"] }\n\
                  [source.shop.segments]\nVIP = { when = \"$[?@.tier == 'gold']\" }\n";
    let source = PUSHED.replacen("[source.shop.webhook]", &format!("{levels}[source.shop.webhook]"), 1);
    let mut stage = Stage::begin(&source).await;
    let push = async |stage: &mut Stage, record: &str| {
        let event = format!("{{\"what\":\"saved\",\"id\":\"1\",\"record\":{{\"id\":\"1\",{record}}}}}");
        assert_eq!(status(&stage.push(&event).await), "200");
        stage.act().await;
        stage.world.send_for(HOUR).await;
    };
    let is_vip = |stage: &Stage| !stage.world.sandbox.contact_by_external_id("1").unwrap().segments.is_empty();
    push(&mut stage, "\"mail\":\"ann@example.com\",\"city\":\"Kyiv\",\"tier\":\"gold\",\"news\":\"no\"").await;
    assert!(is_vip(&stage) && stage.world.is_unsubscribed("ann@example.com"));
    // neither tier nor news
    push(&mut stage, "\"mail\":\"ann@example.com\",\"city\":\"Lviv\"").await;
    assert_eq!(stage.world.reteno_holds("1", "town").as_deref(), Some("Lviv"));
    assert!(is_vip(&stage));
    push(&mut stage, "\"mail\":\"new@example.com\"").await;
    assert!(stage.world.is_unsubscribed("new@example.com"), "the no was of the person");
    // what the record says is followed
    push(&mut stage, "\"mail\":\"new@example.com\",\"tier\":null,\"news\":\"yes\"").await;
    assert!(!is_vip(&stage) && !stage.world.is_unsubscribed("new@example.com"));
}
