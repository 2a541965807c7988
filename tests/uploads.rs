//! First loads as files: who goes in one, what Reteno holds afterwards, and what is left on disk when it goes wrong.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

#[path = "support/program.rs"]
mod program;
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use program::{Installation, happens, watch};
use reteno_sync::checkpoint::{Incoming, ReadContext, SeenRows, Store};
use reteno_sync::contact::{Contact, Field, MEMBER, Personal, Wanted};
use reteno_sync::daemon::exports::open_export;
use reteno_sync::daemon::sender::{Ended, SendSettings, UploadSettings};
use reteno_sync::plan::Lane;
use reteno_sync::plan::policy::Ending;
use reteno_sync::plan::upload::FileBounds;
use reteno_sync::reteno::body::DedupeOn;
use reteno_sync::reteno::wire::{CatalogField, FieldKind};
use reteno_sync::sandbox::{Applied, CallKind, Effect, Fault, Phase, SandboxOptions};
use support::{HOUR, MINUTE, World, settings};

const TIER: Field = Field::Additional(87166);
const COLUMNS: [Field; 4] = [Field::Email, Field::FirstName, Field::Town, TIER];

fn uploading() -> SendSettings {
    SendSettings {
        dedupe_on: DedupeOn::Email,
        upload: Some(UploadSettings {
            bounds: FileBounds { load_min: 1000, contacts_max: 50_000, bytes_max: 100_000_000 },
            link_lifetime: HOUR,
            public_url: "https://crm.example.com/".to_owned(),
            sources: vec![("crm".to_owned(), COLUMNS.len())],
        }),
        ..settings()
    }
}

/// The world, and what Reteno reaches of it: nobody after a crash, until somebody serves again.
struct Stage {
    world: World,
    served: Arc<Mutex<Option<Store>>>,
}

impl Stage {
    async fn begin(settings: SendSettings) -> Self {
        let options = SandboxOptions { access_token_lifetime: 1000 * HOUR, ..SandboxOptions::default() };
        let world = World::with(options, settings).await;
        let catalog = [CatalogField {
            id: 87166,
            profile_key: "PERSONAL".into(),
            field_key: "TIER".into(),
            name: "Tier".into(),
            kind: FieldKind::Text,
            allowed_values: Vec::new(),
            min: None,
            max: None,
            required: false,
            read_only: false,
        }];
        world.store.call(move |checkpoint| checkpoint.store_catalog(&catalog)).await.unwrap();
        let served = Arc::new(Mutex::new(Some(world.store.clone())));
        let (slot, clock) = (Arc::clone(&served), world.clock.clone());
        world.sandbox.set_downloader(Arc::new(move |link| {
            let (store, clock) = (slot.lock().unwrap().clone(), clock.clone());
            async move {
                let file = fetch(&store.ok_or("nobody answers")?, &clock, &link).await;
                file.ok_or_else(|| "status 404".to_owned())
            }
            .boxed()
        }));
        Self { world, served }
    }

    async fn crash(&mut self) {
        *self.served.lock().unwrap() = None;
        self.world.crash().await;
        *self.served.lock().unwrap() = Some(self.world.store.clone());
    }

    /// The CRM's first load, or what it says later.
    async fn says(&self, lane: Lane, people: impl Iterator<Item = (usize, Vec<(Field, String)>)>) {
        let context = self.world.context(self.world.clock.now().0, false);
        self.says_in(ReadContext { lane, ..context }, people).await;
    }

    async fn says_in(&self, context: ReadContext, people: impl Iterator<Item = (usize, Vec<(Field, String)>)>) {
        let items = people
            .map(|(number, fields)| {
                let fields = fields.into_iter().map(|(field, value)| (field, Wanted::Value(Personal::new(value))));
                Incoming::Contact(Contact {
                    key: number.to_string(),
                    fields: fields.collect(),
                    changed_at: None,
                    dropped: Vec::new(),
                    consent: None,
                    unclear_consent: None,
                })
            })
            .collect();
        let recorded = self.world.store.call(move |checkpoint| {
            checkpoint.record_page(&context, &mut SeenRows::default(), items, None)?;
            checkpoint.weigh_changes(context.source, &context.policy.guard, context.now).map(|_| ())
        });
        recorded.await.unwrap();
    }

    async fn loads(&self, count: usize) {
        self.says(Lane::FirstLoad, (0..count).map(|number| (number, person(number)))).await;
    }

    fn calls(&self, kind: CallKind) -> Vec<Bytes> {
        let calls = self.world.sandbox.calls().into_iter();
        calls.filter(|call| call.kind == kind).map(|call| call.body.clone().unwrap_or_default()).collect()
    }

    /// The links that were given to Reteno.
    fn links(&self) -> Vec<String> {
        let read = |body: &Bytes| serde_json::from_slice::<serde_json::Value>(body).unwrap();
        let mut links: Vec<String> =
            self.calls(CallKind::Upload).iter().map(|body| read(body)["link"].as_str().unwrap().to_owned()).collect();
        links.dedup();
        links
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.world.dir.path().join("exports")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Reteno holds every person, field by field, and nobody twice; nothing waits, and no file is left.
    async fn is_equal(&self, count: usize) {
        let held: BTreeMap<String, BTreeMap<String, String>> = self
            .world
            .sandbox
            .contacts()
            .into_iter()
            .map(|contact| (contact.email.unwrap(), contact.fields.into_iter().collect()))
            .collect();
        let wanted: BTreeMap<String, BTreeMap<String, String>> = (0..count)
            .map(|number| {
                let mut fields: BTreeMap<Field, String> = person(number).into_iter().collect();
                let email = fields.remove(&Field::Email).unwrap();
                let name = |field: Field| field.standard_name().unwrap_or("87166").to_owned();
                (email, fields.into_iter().map(|(field, value)| (name(field), value)).collect())
            })
            .collect();
        assert_eq!(self.world.sandbox.contacts().len(), count);
        assert!(held == wanted, "{:?} is not {:?}", held.iter().next(), wanted.iter().next());
        let status = self.world.status().await;
        assert_eq!((status.acknowledged, status.rejections), (count as u64, 0));
        self.is_gone().await;
    }

    /// No link leads anywhere, and no file is left.
    async fn is_gone(&self) {
        assert_eq!(self.files(), Vec::<std::path::PathBuf>::new());
        for link in self.links() {
            assert_eq!(fetch(&self.world.store, &self.world.clock, &link).await, None);
        }
    }
}

async fn fetch(store: &Store, clock: &reteno_sync::clock::Clock, link: &str) -> Option<Bytes> {
    let token = link.strip_prefix("https://crm.example.com/exports/")?.strip_suffix(".csv")?;
    let mut bytes = Vec::new();
    open_export(store, clock, token).await.unwrap()?.read_to_end(&mut bytes).unwrap();
    Some(bytes.into())
}

fn person(number: usize) -> Vec<(Field, String)> {
    vec![
        (Field::Email, format!("p{number}@example.com")),
        (Field::FirstName, "Ann".to_owned()),
        (Field::Town, format!("Kyiv, \"old\" {number}")),
        (TIER, format!("рівень {}", number % 7)),
    ]
}

/// Whether any file below holds these bytes.
fn holds(dir: &Path, needle: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, needle);
        }
        std::fs::read(path).unwrap().windows(needle.len()).any(|window| window == needle.as_bytes())
    })
}

#[tokio::test(start_paused = true)]
async fn a_first_load_goes_as_one_file_and_is_equal_afterwards() {
    let mut stage = Stage::begin(uploading()).await;
    stage.loads(5000).await;
    assert_eq!(stage.world.send_for(HOUR).await, Ended::Drained);
    stage.is_equal(5000).await;
    let tally = stage.world.sandbox.tally();
    assert_eq!((tally.files_accepted, tally.imports_accepted, tally.contacts_received), (1, 1, 5000));
    let link = stage.links().pop().unwrap();
    let token = link.strip_prefix("https://crm.example.com/exports/").unwrap().strip_suffix(".csv").unwrap();
    assert!(token.len() >= 43);
    stage.world.store.call(reteno_sync::checkpoint::Checkpoint::settle_disk).await.unwrap();
    for needle in [token, "p4999@example.com", "\"old\""] {
        assert!(!holds(stage.world.dir.path(), needle), "{needle} is still on disk");
    }
    // what the file taught: an edit finds the same contact
    let edited = [(Field::Email, "p7@example.com".to_owned()), (Field::Town, "Lviv".to_owned())];
    stage.says(Lane::Live, std::iter::once((7, edited.to_vec()))).await;
    assert_eq!(stage.world.send_for(HOUR).await, Ended::Drained);
    assert_eq!(stage.world.sandbox.contacts().len(), 5000);
    assert_eq!(stage.calls(CallKind::Upload).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_lacks_a_column_goes_by_bulk_and_nothing_of_it_is_wiped() {
    let mut stage = Stage::begin(uploading()).await;
    let people = (0..1300).map(|number| {
        let lacks = |field: Field| field == Field::Town && number >= 1200;
        (number, person(number).into_iter().filter(|(field, _)| !lacks(*field)).collect())
    });
    stage.says(Lane::FirstLoad, people).await;
    assert_eq!(stage.world.send_for(HOUR).await, Ended::Drained);
    let tally = stage.world.sandbox.tally();
    assert_eq!((tally.files_accepted, tally.imports_accepted, tally.contacts_created), (1, 2, 1300));
    let bulk = stage.calls(CallKind::SubmitContacts).pop().unwrap();
    let bulk: serde_json::Value = serde_json::from_slice(&bulk).unwrap();
    assert_eq!(bulk["contacts"].as_array().unwrap().len(), 100);
    assert!(!bulk["contactFields"].as_array().unwrap().iter().any(|field| field == "town"));
}

#[tokio::test(start_paused = true)]
async fn small_loads_live_changes_and_bases_with_an_external_id_are_never_uploaded() {
    let mut stage = Stage::begin(uploading()).await;
    stage.loads(999).await;
    assert_eq!(stage.world.send_for(HOUR).await, Ended::Drained);
    stage.says(Lane::Live, (1000..2500).map(|number| (number, person(number)))).await;
    stage.says(Lane::Reconcile, (2500..4000).map(|number| (number, person(number)))).await;
    let with_id = |number: usize| {
        let id = (Field::ExternalCustomerId, format!("c-{number}"));
        let fields = person(number).into_iter().filter(|(field, _)| *field != Field::Town);
        std::iter::once(id).chain(fields).collect()
    };
    stage.says(Lane::FirstLoad, (4000..5500).map(|number| (number, with_id(number)))).await;
    assert_eq!(stage.world.send_for(HOUR).await, Ended::Drained);
    assert_eq!((stage.calls(CallKind::Upload).len(), stage.world.sandbox.contacts().len()), (0, 5499));
    assert!(!stage.world.dir.path().join("exports").exists());
}

#[tokio::test(start_paused = true)]
async fn without_the_setting_nothing_is_uploaded() {
    let mut stage = Stage::begin(SendSettings { upload: None, ..uploading() }).await;
    stage.loads(3500).await;
    assert_eq!(stage.world.send_for(HOUR).await, Ended::Drained);
    stage.is_equal(3500).await;
    assert_eq!(stage.calls(CallKind::Upload).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_load_over_the_bound_goes_as_several_files() {
    let mut settings = uploading();
    let upload = settings.upload.as_mut().unwrap();
    upload.bounds = FileBounds { load_min: 4000, contacts_max: 3000, ..upload.bounds };
    let mut stage = Stage::begin(settings.clone()).await;
    stage.loads(5000).await;
    assert_eq!(stage.world.send_for(HOUR).await, Ended::Drained);
    stage.is_equal(5000).await;
    assert_eq!((stage.links().len(), stage.calls(CallKind::SubmitContacts).len()), (2, 0));
    // by bytes
    let upload = settings.upload.as_mut().unwrap();
    upload.bounds = FileBounds { contacts_max: 50_000, bytes_max: 2_000_000, ..upload.bounds };
    let mut stage = Stage::begin(settings).await;
    stage.loads(5000).await;
    assert_eq!(stage.world.send_for(HOUR).await, Ended::Drained);
    stage.is_equal(5000).await;
    assert!(stage.links().len() > 1, "{}", stage.links().len());
    assert_eq!(stage.calls(CallKind::SubmitContacts).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_the_answer_repeats_the_same_body_and_its_file_is_still_there() {
    for effect in [Effect::LoseRequest, Effect::LoseAnswer] {
        let mut stage = Stage::begin(uploading()).await;
        stage.world.sandbox.fault(Fault::on(CallKind::Upload, effect.clone()));
        stage.loads(1500).await;
        assert_eq!(stage.world.send_for(Duration::from_secs(1)).await, Ended::StillOpen);
        let [file] = stage.files().try_into().unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        // its token is only in what was sent
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let link = stage.links().pop();
        if let Some(link) = &link {
            let token = link.rsplit('/').next().unwrap();
            assert_ne!(token, name);
            assert!(!holds(stage.world.dir.path(), token.strip_suffix(".csv").unwrap()), "{effect:?}");
        }
        stage.crash().await;
        assert_eq!(stage.files(), [file]);
        assert_eq!(stage.world.send_for(HOUR).await, Ended::Drained, "{effect:?}");
        stage.is_equal(1500).await;
        assert_eq!((stage.links().len(), stage.calls(CallKind::SubmitContacts).len()), (1, 0), "{effect:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_repeated_while_the_link_lives_and_then_goes_by_bulk() {
    let mut stage = Stage::begin(uploading()).await;
    stage.world.sandbox.fault(Fault::on(CallKind::Upload, Effect::LoseAnswer).always());
    stage.loads(1500).await;
    let _ = stage.world.send_for(30 * MINUTE).await;
    assert_eq!(stage.files().len(), 1);
    assert_eq!(stage.calls(CallKind::SubmitContacts).len(), 0);
    let repeats = stage.calls(CallKind::Upload).len();
    assert!(repeats > 2, "{repeats}");
    let _ = stage.world.send_for(HOUR).await;
    stage.is_gone().await;
    let at_the_end = stage.calls(CallKind::Upload).len();
    assert_eq!(stage.world.send_for(24 * HOUR).await, Ended::Drained);
    stage.is_equal(1500).await;
    assert_eq!((stage.calls(CallKind::Upload).len(), stage.links().len()), (at_the_end, 1));
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_over_leads_nowhere_while_its_import_runs() {
    let mut stage = Stage::begin(uploading()).await;
    stage.world.sandbox.fault(Fault::on(CallKind::Upload, Effect::DelayImport(3 * HOUR)));
    stage.loads(1500).await;
    let _ = stage.world.send_for(59 * MINUTE).await;
    let link = stage.links().pop().unwrap();
    let file = fetch(&stage.world.store, &stage.world.clock, &link).await.unwrap();
    assert!(file.starts_with(b"Email,First name,City,PERSONAL.TIER\r\n"), "{:?}", &file[..60]);
    for wrong in ["https://crm.example.com/exports/.csv", "https://crm.example.com/exports/../key.csv", &link[..60]] {
        assert_eq!(fetch(&stage.world.store, &stage.world.clock, wrong).await, None);
    }
    let _ = stage.world.send_for(2 * MINUTE).await;
    stage.is_gone().await;
    assert_eq!(stage.world.send_for(24 * HOUR).await, Ended::Drained);
    stage.is_equal(1500).await;
    assert_eq!(stage.calls(CallKind::SubmitContacts).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_file_did_not_do_bulk_calls_do_and_never_a_second_file() {
    let effects = [
        Effect::FailImport(Applied::Nothing),
        Effect::FailImport(Applied::Part),
        Effect::FailImport(Applied::All),
        Effect::StickImport,
    ];
    for effect in effects {
        let mut stage = Stage::begin(uploading()).await;
        stage.world.sandbox.fault(Fault::on(CallKind::Upload, effect.clone()));
        stage.loads(3500).await;
        assert_eq!(stage.world.send_for(48 * HOUR).await, Ended::Drained, "{effect:?}");
        stage.is_equal(3500).await;
        assert_eq!((stage.calls(CallKind::Upload).len(), stage.calls(CallKind::SubmitContacts).len()), (1, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_reteno_cannot_fetch_is_given_up_at_once() {
    let mut stage = Stage::begin(uploading()).await;
    stage.world.sandbox.set_downloader(Arc::new(|_| async { Err("no route".to_owned()) }.boxed()));
    stage.loads(1500).await;
    assert_eq!(stage.world.send_for(HOUR).await, Ended::Drained);
    stage.is_equal(1500).await;
    assert_eq!((stage.calls(CallKind::Upload).len(), stage.calls(CallKind::SubmitContacts).len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_arrived_may_be_made_again_with_another_file() {
    let mut stage = Stage::begin(uploading()).await;
    stage.world.sandbox.fault(Fault::on(CallKind::Upload, Effect::RefuseConnection));
    stage.loads(1500).await;
    assert_eq!(stage.world.send_for(HOUR).await, Ended::Drained);
    stage.is_equal(1500).await;
    assert_eq!((stage.world.sandbox.tally().files_accepted, stage.calls(CallKind::SubmitContacts).len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_mapping_a_file_is_acknowledged() {
    let mut stage = Stage::begin(uploading()).await;
    stage.world.sandbox.fault(Fault::on(CallKind::Upload, Effect::OmitMapping));
    stage.loads(1500).await;
    assert_eq!(stage.world.send_for(HOUR).await, Ended::Drained);
    stage.is_equal(1500).await;
    assert_eq!(stage.calls(CallKind::SubmitContacts).len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_edit_made_meanwhile_goes_out_after_the_file() {
    let mut stage = Stage::begin(uploading()).await;
    stage.world.sandbox.fault(Fault::on(CallKind::Upload, Effect::DelayImport(HOUR)));
    stage.loads(1500).await;
    let _ = stage.world.send_for(MINUTE).await;
    let edited = person(3).into_iter().map(|(field, value)| match field {
        Field::Town => (field, "Lviv".to_owned()),
        _ => (field, value),
    });
    stage.says(Lane::Live, std::iter::once((3, edited.collect()))).await;
    assert_eq!(stage.world.send_for(3 * HOUR).await, Ended::Drained);
    let contacts = stage.world.sandbox.contacts();
    let edited = contacts.iter().find(|contact| contact.email.as_deref() == Some("p3@example.com")).unwrap();
    assert_eq!((contacts.len(), edited.fields["town"].as_str()), (1500, "Lviv"));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_no_import_names_is_deleted_at_the_start() {
    let mut stage = Stage::begin(SendSettings { upload: None, ..settings() }).await;
    let dir = stage.world.dir.path().join("exports");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("orphan.csv"), "Email\r\np1@example.com\r\n").unwrap();
    stage.crash().await;
    assert_eq!(stage.files(), Vec::<std::path::PathBuf>::new());
}

/// A base of `count` people without external ids, of an installation that uploads to `public`.
fn configure(installation: &Installation, public: Option<std::net::SocketAddr>, count: usize) {
    installation.configure("dedupe_on = \"email\"");
    let path = installation.path("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text
        .replace("externalCustomerId = \"id\"\n", "")
        .replace("path = \"contacts.csv\"", "path = \"contacts.csv\"\nkey = \"id\"\nschedule = \"* * * * * *\"");
    let text = match public {
        Some(public) => text.replace(
            "[listen]\n",
            &format!(
                "[upload]\ncontacts_min = 1000\n[listen]\npublic_address = \"{public}\"\npublic_url = \"http://{public}\"\n"
            ),
        ),
        None => text,
    };
    std::fs::write(path, text).unwrap();
    let people: Vec<(String, &str)> = (0..count).map(|number| (number.to_string(), "Kyiv")).collect();
    let people: Vec<(&str, &str)> = people.iter().map(|(id, town)| (id.as_str(), *town)).collect();
    installation.crm_says(&people);
}

fn free_address() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn sync_uploads_over_http_and_leaves_nothing() {
    let installation = Installation::begin().await;
    configure(&installation, Some(free_address()), 5000);
    installation.authorize().await;
    let done = installation.run(&["sync"]).await;
    assert_eq!(done.code, 0, "{done:?}");
    let tally = installation.sandbox.tally();
    assert_eq!((tally.files_accepted, tally.imports_accepted, tally.contacts_created), (1, 1, 5000), "{done:?}");
    assert!(installation.held().iter().all(|(_, town)| town == "Kyiv"));
    assert_eq!(std::fs::read_dir(installation.path("state/exports")).unwrap().count(), 0);
    assert!(!holds(&installation.path("state"), "c4999@example.com"));
    assert!(!done.stderr.contains("/exports/") && !done.stderr.contains("@example.com"), "{}", done.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_address_hands_out_the_file_of_an_unfinished_import_and_nothing_else() {
    let installation = Installation::begin().await;
    let public = free_address();
    configure(&installation, Some(public), 1500);
    installation.authorize().await;
    installation.sandbox.fault(Fault::on(CallKind::Upload, Effect::StickImport));
    let uploaded = watch(&installation, CallKind::Upload, Phase::After);
    let daemon = installation.start(&["-v", "-v", "run"]);
    happens(uploaded).await;
    let body = installation.sandbox.calls().into_iter().find(|call| call.kind == CallKind::Upload).unwrap().body;
    let body: serde_json::Value = serde_json::from_slice(&body.unwrap()).unwrap();
    let link = body["link"].as_str().unwrap().to_owned();
    let path = link.strip_prefix(&format!("http://{public}")).unwrap();
    let answer = get(public, path).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{}", &answer[..100]);
    assert!(answer.contains("Email,City\r\n") && answer.contains("c1499@example.com,Kyiv\r\n"));
    let wrong = format!("/exports/{}.csv", "A".repeat(43));
    let without_date =
        |answer: String| answer.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n");
    let not_found = without_date(get(public, &wrong).await);
    assert!(not_found.starts_with("HTTP/1.1 404"), "{not_found}");
    for other in
        ["/exports/x.csv", "/exports/", "/exports/%ff.csv", "/", "/livez", "/callback", &path[..path.len() - 5]]
    {
        assert_eq!(without_date(get(public, other).await), not_found, "{other}");
    }
    let status = installation.run(&["status"]).await;
    assert!(status.stdout.contains("a file in Reteno"), "{status:?}");
    assert_eq!(installation.run(&["--output", "json", "status"]).await.json()["imports"][0]["call"], "upload");
    installation.sandbox.release_stuck();
    let settled = async { while !get(public, path).await.starts_with("HTTP/1.1 404") {} };
    tokio::time::timeout(program::PATIENCE, settled).await.unwrap();
    daemon.signal(rustix::process::Signal::TERM);
    let ended = daemon.end().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(std::fs::read_dir(installation.path("state/exports")).unwrap().count(), 0);
    let token = path.rsplit('/').next().unwrap().strip_suffix(".csv").unwrap();
    assert!(!ended.stderr.contains(token) && !holds(&installation.path("state"), token));
}

#[tokio::test(start_paused = true)]
async fn who_is_erased_is_in_no_file_from_then_on() {
    for effect in [Effect::DelayImport(3 * HOUR), Effect::LoseAnswer] {
        let mut stage = Stage::begin(uploading()).await;
        stage.world.policy.ending = Ending::Erase;
        stage.loads(1500).await;
        let fault = Fault::on(CallKind::Upload, effect.clone());
        stage.world.sandbox.fault(if matches!(effect, Effect::LoseAnswer) { fault.always() } else { fault });
        let _ = stage.world.send_for(MINUTE).await;
        assert_eq!(stage.files().len(), 1);
        for is_full in [false, true] {
            let context = stage.world.context(stage.world.clock.now().0, is_full);
            let gone = vec![Incoming::Deleted { key: "17".to_owned(), is_confirmed: false, changed_at: None }];
            let recorded = stage.world.store.call(move |checkpoint| {
                checkpoint.record_page(&context, &mut SeenRows::default(), gone, None)?;
                checkpoint.weigh_changes(context.source, &context.policy.guard, context.now).map(|_| ())
            });
            recorded.await.unwrap();
        }
        // after a lost answer everything pauses for a while
        let _ = stage.world.send_for(6 * MINUTE).await;
        stage.is_gone().await;
        let uploads = stage.calls(CallKind::Upload).len();
        let _ = stage.world.send_for(48 * HOUR).await;
        assert_eq!(stage.calls(CallKind::Upload).len(), uploads, "{effect:?}");
        let contacts = stage.world.sandbox.contacts();
        assert_eq!(contacts.len(), 1499, "{effect:?}");
        assert!(contacts.iter().all(|contact| contact.email.as_deref() != Some("p17@example.com")));
        stage.world.store.call(reteno_sync::checkpoint::Checkpoint::settle_disk).await.unwrap();
        assert!(!holds(stage.world.dir.path(), "p17@example.com"), "{effect:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn segments_go_with_the_file_and_each_set_of_them_has_its_own() {
    let (vip, loaded) = (Field::segment("VIP"), Field::segment("Loaded"));
    let mut settings = uploading();
    settings.segment_names = BTreeMap::from([(vip, "VIP".to_owned()), (loaded, "Loaded".to_owned())]);
    let mut stage = Stage::begin(settings).await;
    let people = (0..3000).map(|number| {
        let mut fields = person(number);
        fields.push((loaded, MEMBER.to_owned()));
        if number % 2 == 0 {
            fields.push((vip, MEMBER.to_owned()));
        }
        (number, fields.into_iter().collect::<BTreeMap<_, _>>().into_iter().collect())
    });
    let mut context = stage.world.context(stage.world.clock.now().0, false);
    context.mapped.extend([vip, loaded]);
    context.lane = Lane::FirstLoad;
    stage.says_in(context, people).await;
    assert_eq!(stage.world.send_for(HOUR).await, Ended::Drained);
    assert_eq!((stage.links().len(), stage.calls(CallKind::SubmitContacts).len()), (2, 0));
    let contacts = stage.world.sandbox.contacts();
    assert_eq!(contacts.iter().filter(|contact| contact.segments.contains("Loaded")).count(), 3000);
    assert_eq!(contacts.iter().filter(|contact| contact.segments.contains("VIP")).count(), 1500);
    stage.is_gone().await;
}
