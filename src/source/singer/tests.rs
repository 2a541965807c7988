//! The Singer source against small shell scripts in a tap's place: they replay streams of real taps and misbehave.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::clock::Timestamp;
use crate::contact::Record;
use crate::source::{Item, PAGE_ITEMS_MAX, Place, Source};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/singer");
const SCHEMA: &str = r#"{"type":"SCHEMA","stream":"contacts","key_properties":["id"],"schema":{}}"#;

/// A tap made of a script; `$dir` in it is the test's directory, `$config`, `$catalog` and `$state` its arguments.
struct Fake {
    dir: TempDir,
    options: SingerOptions,
}

struct Got {
    pages: Vec<Page>,
    end: Result<ReadEnd, SourceError>,
}

impl Fake {
    fn new(script: &str) -> Self {
        Self::with_method(script, "contacts", "INCREMENTAL")
    }

    /// With a given catalog that has this one stream.
    fn with_method(script: &str, stream: &str, method: &str) -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("config.json"), "{}").unwrap();
        let catalog = serde_json::json!({"streams": [{
            "tap_stream_id": stream, "stream": stream, "schema": {},
            "metadata": [{"breadcrumb": [], "metadata": {"selected": true, "replication-method": method}}],
        }]});
        fs::write(dir.path().join("given.json"), catalog.to_string()).unwrap();
        let prologue = format!(
            "dir='{}'; fixtures='{FIXTURES}'; mode=; state=
            while [ $# -gt 0 ]; do case $1 in
                --config) config=$2; shift;; --catalog|--properties) argument=$1; catalog=$2; shift;;
                --state) state=$2; shift;; --discover) mode=discover;; *) exit 64;; esac; shift; done\n",
            dir.path().display()
        );
        let options = SingerOptions {
            source_name: "crm".to_owned(),
            command: ["sh", "-c", &(prologue + script), "tap"].map(str::to_owned).to_vec(),
            config: dir.path().join("config.json"),
            catalog: Some(dir.path().join("given.json")),
            stream: stream.to_owned(),
            replication_key: None,
            replication_method: None,
            catalog_argument: CatalogArgument::Catalog,
            // Long beyond any load of the machine; only the tests of a hang shorten it.
            idle_timeout: Duration::from_mins(1),
            term_grace: Duration::from_mins(1),
            line_bytes_max: 16 * 1024 * 1024,
            work_dir: dir.path().join("work"),
            working_directory: None,
            pass_environment: Vec::new(),
        };
        Self { dir, options }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn source(&self) -> Source {
        Source::Singer(Box::new(SingerSource::new(self.options.clone(), Clock::simulated(Timestamp(5000)))))
    }

    async fn read(&self, from: From) -> Got {
        let (sender, mut receiver) = mpsc::channel(1);
        let drain = async {
            let mut pages = Vec::new();
            while let Some(page) = receiver.recv().await {
                pages.push(page);
            }
            pages
        };
        let source = self.source();
        let (end, pages) = tokio::join!(source.read(from, sender, CancellationToken::new()), drain);
        let got = Got { pages, end };
        assert!(got.pages.iter().all(|page| page.items.len() <= PAGE_ITEMS_MAX && page.asked_at == Timestamp(5000)));
        assert!(!self.path("work/state.json").exists(), "a state may hold secrets: it does not outlive the run");
        got
    }

    async fn read_all(&self) -> Got {
        self.read(From::Beginning).await
    }
}

impl Got {
    /// Each item as one line: `3: id` for a record, `3- id` for a deletion, `3! reason` for what is malformed.
    fn lines(&self) -> Vec<String> {
        let id = |record: &Record| match record {
            Record::Json(value) => value["id"].to_string(),
            Record::Row(_) => panic!("a tap gives no rows"),
        };
        let number = |place: &Place| match place {
            Place::Message(number) => *number,
            Place::Line(_) | Place::Answer { .. } => panic!("a tap has no lines of a file and no answers"),
        };
        let show = |item: &Item| match item {
            Item::Record { record, place } => format!("{}: {}", number(place), id(record)),
            Item::Deleted { record, place, .. } => format!("{}- {}", number(place), id(record)),
            Item::Malformed { place, reason } => format!("{}! {reason}", number(place)),
            Item::Pointed { .. } => panic!("a tap gives records"),
        };
        self.pages.iter().flat_map(|page| &page.items).map(show).collect()
    }

    fn cursor(&self) -> Option<&str> {
        self.pages.iter().filter_map(|page| page.cursor.as_ref()).next_back().map(Cursor::as_text)
    }

    fn end(&self) -> &ReadEnd {
        self.end.as_ref().unwrap()
    }

    fn error(&self) -> &SourceError {
        self.end.as_ref().unwrap_err()
    }
}

fn cursor(text: &str) -> From {
    From::Cursor(Cursor::from_text(text.to_owned()))
}

/// The value of the last STATE of a fixture, cut out of its text.
fn last_state(fixture: &str) -> Option<String> {
    let text = fs::read_to_string(format!("{FIXTURES}/{fixture}")).unwrap();
    let line = text.lines().rfind(|line| line.contains("\"STATE\""))?;
    let (_, value) = line.split_once("\"value\":").unwrap();
    Some(value.trim_end().strip_suffix('}').unwrap().trim().to_owned())
}

#[tokio::test]
async fn streams_of_real_taps() {
    // fixture, stream, method, records, full, warnings
    let table = [
        // the closing ACTIVATE_VERSION proves it
        ("captured/pipelinewise-tap-postgres-fulltable.jsonl", "public-contact", "FULL_TABLE", 5, true, 0),
        // only an early ACTIVATE_VERSION: it proves nothing
        ("captured/pipelinewise-tap-postgres-incremental.jsonl", "public-contact", "INCREMENTAL", 5, false, 0),
        ("captured/sdk-tap-postgres-fulltable.jsonl", "public-contact", "FULL_TABLE", 5, true, 0),
        ("captured/sdk-tap-postgres-incremental-run1.jsonl", "public-contact", "INCREMENTAL", 5, false, 0),
        // an inclusive bookmark: the last row comes again
        ("captured/sdk-tap-postgres-incremental-run2-nochange.jsonl", "public-contact", "INCREMENTAL", 1, false, 0),
        // STATE before SCHEMA
        ("captured/sdk-tap-postgres-incremental-run3-changes.jsonl", "public-contact", "INCREMENTAL", 3, false, 0),
        // nothing but STATE: from the beginning that deserves a word
        ("captured/sdk-tap-postgres-25k-states-only.jsonl", "public-contact", "INCREMENTAL", 0, false, 1),
        ("captured/sdk-tap-spreadsheets-csv.jsonl", "people", "INCREMENTAL", 2, false, 0),
        ("captured/sdk-tap-spreadsheets-csv-nocatalog.jsonl", "people", "INCREMENTAL", 2, false, 0),
        ("captured/tap-hubspot-contacts-run1.jsonl", "contacts", "INCREMENTAL", 5, false, 0),
        ("captured/tap-hubspot-contacts-run2.jsonl", "contacts", "INCREMENTAL", 1, false, 0),
        ("captured/tap-pipedrive-persons-run1.jsonl", "persons", "INCREMENTAL", 5, false, 0),
        ("captured/tap-pipedrive-persons-run2.jsonl", "persons", "INCREMENTAL", 0, false, 1),
        ("tap_output_full_table_activate_version.jsonl", "contacts", "", 2, true, 0),
    ];
    for (fixture, stream, method, records, full, warnings) in table {
        let got = Fake::with_method(&format!("cat \"$fixtures/{fixture}\""), stream, method).read_all().await;
        let end = got.end();
        assert_eq!((end.records, end.full, end.malformed), (records, full, 0), "{fixture}");
        assert_eq!(got.lines().len() as u64, records, "{fixture}");
        assert_eq!(end.warnings.len(), warnings, "{fixture}: {:?}", end.warnings);
        assert_eq!(got.cursor().map(str::to_owned), last_state(fixture), "{fixture}: byte for byte");
        if records > 0 && !fixture.contains("spreadsheets") {
            assert_eq!(end.key_properties, ["id"], "{fixture}");
        }
    }
}

/// Other programs' secrets stand in an environment as often as not. Cargo gives its own variables to every test.
#[tokio::test]
async fn a_tap_gets_of_our_environment_what_it_needs_and_what_is_named() {
    let script = format!("env > \"$dir/environment\"; echo '{SCHEMA}'");
    let mut tap = Fake::with_method(&script, "contacts", "FULL_TABLE");
    let names = |tap: &Fake| -> Vec<String> {
        let text = tap.text("environment");
        text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.to_owned()).collect()
    };
    tap.read_all().await;
    let seen = names(&tap);
    assert!(seen.iter().any(|name| name == "PATH") && !seen.iter().any(|name| name.starts_with("CARGO")), "{seen:?}");
    tap.options.pass_environment = vec!["CARGO_PKG_NAME".to_owned()];
    tap.read_all().await;
    let seen = names(&tap);
    let of_cargo: Vec<_> = seen.iter().filter(|name| name.starts_with("CARGO")).collect();
    assert_eq!(of_cargo, ["CARGO_PKG_NAME"]);
}

#[tokio::test]
async fn a_tap_with_very_many_keys_is_told_of_in_one_short_line() {
    let long = "k".repeat(200);
    let keys: Vec<String> = (0..500).map(|n| format!("\"{long}{n}\"")).collect();
    let keys = keys.join(",");
    let script = format!(
        "echo '{SCHEMA}'\necho '{{\"type\":\"SCHEMA\",\"stream\":\"contacts\",\"key_properties\":[{keys}],\"schema\":{{}}}}'"
    );
    let got = Fake::with_method(&script, "contacts", "FULL_TABLE").read_all().await;
    let warning = got.end().warnings.iter().find(|warning| warning.contains("changed the key")).unwrap();
    assert!(warning.ends_with(", 495 more") && warning.len() < 500, "{warning}");
}

#[tokio::test]
async fn a_tap_that_changes_its_key_at_each_record_is_told_of_once() {
    let schemas = r#"for key in a b c d e f; do
echo '{"type":"SCHEMA","stream":"contacts","key_properties":["'$key'"],"schema":{}}'
echo '{"type":"RECORD","stream":"contacts","record":{"id":1}}'
done
"#;
    let got = Fake::with_method(schemas, "contacts", "FULL_TABLE").read_all().await;
    let told = got.end().warnings.iter().filter(|warning| warning.contains("changed the key")).count();
    assert_eq!((got.end().records, told), (6, 1), "{:?}", got.end().warnings);
}

#[tokio::test]
async fn oddities_of_the_specification_are_followed() {
    let got = Fake::new("cat \"$fixtures/tap_output_edge_cases.jsonl\"").read_all().await;
    // a lower-case type, a key that is not known, no key_properties
    assert_eq!(got.lines(), ["2: 1"]);
    assert!(got.end().key_properties.is_empty());
    assert_eq!(got.end().warnings.len(), 1, "one word about all unknown types");
    assert!(got.end().warnings[0].contains("X_VENDOR_NOTE"));
    assert!(got.cursor().unwrap().contains("progress_markers"), "a state is never cleaned by us");

    let stream = r#"cat <<'EOF'
{"type":"SCHEMA","stream":"other","key_properties":[]}
{"type":"RECORD","stream":"other","record":{"id":99}}
{"type":"RECORD","stream":"never announced","record":{"id":98}}
{"type":"SCHEMA","stream":"contacts","key_properties":["id"],"schema":{"properties":{"id":{"type":"integer"}}}}

{"type":"RECORD","stream":"contacts","record":{"id":1.0,"_sdc_deleted_at":null}}
{"type":"RECORD","stream":"contacts","record":{"id":2,"_sdc_deleted_at":"2026-11-20T10:00:00Z"}}
{"type":"RECORD","stream":"contacts","record":[3]}
{"type":"RECORD","stream":"contacts"}
INFO a log line in the wrong place
{"type":"RECORD","stream":"contacts","record":{"id":11,"score":NaN,"note":"half a letter \ud83d","x":[Infinity]}}
{"type":"STATE"}
{"type":"STATE","value":null}
{"type":"STATE", "value" : { "b":2,  "a":1 } }
EOF
"#;
    let got = Fake::with_method(stream, "contacts", "FULL_TABLE").read_all().await;
    let wanted = [
        "6: 1.0",
        "7- 2",
        "8! a record that is not an object",
        "9! a RECORD without its record",
        "10! not a Singer message: not valid JSON at byte 1",
        "11: 11",
    ];
    assert_eq!(got.lines(), wanted);
    assert_eq!(got.cursor(), Some(r#"{ "b":2,  "a":1 }"#));
    assert_eq!((got.end().records, got.end().malformed), (3, 3));
    assert!(!got.end().full, "what is malformed may be anyone");
}

#[tokio::test]
async fn full_is_only_what_is_proven() {
    let stream = |messages: &str| format!("cat <<'EOF'\n{SCHEMA}\n{messages}\nEOF\n");
    let record =
        |id: u32, version: &str| format!(r#"{{"type":"RECORD","stream":"contacts","record":{{"id":{id}}}{version}}}"#);
    let activate = |version: u32| format!(r#"{{"type":"ACTIVATE_VERSION","stream":"contacts","version":{version}}}"#);
    let (v7, v8) = (r#","version":7"#, r#","version":8"#);
    let join = |messages: &[String]| stream(&messages.join("\n"));
    let (full, incremental) = ("FULL_TABLE", "INCREMENTAL");
    let known = || cursor(r#"{"version":7}"#);
    let table = [
        ("a full table without versions", full, stream(&record(1, "")), From::Beginning, true),
        ("an empty full table", full, stream(""), From::Beginning, true),
        ("a full table that was resumed", full, stream(&record(1, "")), cursor("{}"), false),
        ("incremental from the beginning", incremental, stream(&record(1, "")), From::Beginning, false),
        ("nothing at all", full, String::new(), From::Beginning, false),
        ("activated at the end", incremental, join(&[record(1, v7), activate(7)]), From::Beginning, true),
        ("activated early only", full, join(&[activate(7), record(1, v7)]), From::Beginning, false),
        ("another version activated", full, join(&[record(1, v7), activate(8)]), From::Beginning, false),
        ("two versions", full, join(&[record(1, v7), record(2, v8), activate(8)]), From::Beginning, false),
        ("a record without version", full, join(&[record(1, v7), record(2, ""), activate(7)]), From::Beginning, false),
        ("a version begun in this run", "", join(&[record(1, v8), activate(8)]), known(), true),
        ("a version that is resumed", "", join(&[record(1, v7), activate(7)]), known(), false),
    ];
    for (case, method, script, from, full) in table {
        let got = Fake::with_method(&script, "contacts", method).read(from).await;
        assert_eq!(got.end().full, full, "{case}");
    }
}

#[tokio::test]
async fn the_cursor_goes_in_byte_for_byte_and_no_state_is_no_argument() {
    let fake =
        Fake::new(&format!("cat \"$state\" > \"$dir/seen\"; stat -c %a \"$state\" > \"$dir/mode\"; echo '{SCHEMA}'"));
    let text = "{ \"bookmarks\" : {\"contacts\":{\"k\":\"\\u0406\"}},\"z\":1.0 }";
    let got = fake.read(cursor(text)).await;
    assert_eq!(fake.text("seen"), text);
    assert_eq!(fake.text("mode").trim(), "600");
    assert!(got.pages.is_empty() && got.end().warnings.is_empty(), "nothing new is no reason for a word");
    let fake = Fake::new(&format!("test -z \"$state\" || exit 1; echo '{SCHEMA}'"));
    assert!(fake.read_all().await.end.is_ok());
}

#[tokio::test]
async fn a_tap_runs_where_the_operator_says() {
    let mut fake = Fake::new(&format!("pwd > \"$dir/where\"; echo '{SCHEMA}'"));
    let place = fake.dir.path().join("elsewhere");
    fs::create_dir(&place).unwrap();
    fake.options.working_directory = Some(place.clone());
    assert!(fake.read_all().await.end.is_ok());
    assert_eq!(Path::new(fake.text("where").trim()).canonicalize().unwrap(), place.canonicalize().unwrap());
}

/// Shell for `count` records of the stream, with a STATE of the running number after each `state_every`.
fn rows(count: usize, state_every: usize) -> String {
    format!(
        r#"echo '{SCHEMA}'; awk 'BEGIN {{ for (i = 1; i <= {count}; i++) {{
            printf "{{\"type\":\"RECORD\",\"stream\":\"contacts\",\"record\":{{\"id\":%d}}}}\n", i;
            if (i % {state_every} == 0) printf "{{\"type\":\"STATE\",\"value\":%d}}\n", i }} }}'
        "#
    )
}

#[tokio::test]
async fn each_cursor_covers_only_what_is_before_it() {
    let got = Fake::new(&rows(7000, 130)).read_all().await;
    assert_eq!(got.end().records, 7000);
    let mut sent = 0;
    for page in &got.pages {
        sent += page.items.len();
        let state: usize = page.cursor.as_ref().map_or(0, |cursor| cursor.as_text().parse().unwrap());
        assert!(state <= sent, "state {state} after {sent} rows");
    }
    assert_eq!(got.cursor(), Some("6890"));
    assert!(got.pages.len() >= 7000 / (PAGE_ITEMS_AT_STATE + 130), "{} pages", got.pages.len());

    let got = Fake::new(&rows(PAGE_ITEMS_MAX + 1, 1_000_000)).read_all().await;
    assert!(got.pages.len() >= 2, "without any STATE the bound cuts");
    assert_eq!((got.end().records, got.cursor()), (PAGE_ITEMS_MAX as u64 + 1, None));
}

#[tokio::test]
async fn a_tap_that_dies_midway_leaves_its_rows_and_its_last_state() {
    let script = format!(
        r#"echo '{SCHEMA}'
        echo '{{"type":"RECORD","stream":"contacts","record":{{"id":1}}}}'
        echo '{{"type":"STATE","value":"one"}}'
        echo '{{"type":"RECORD","stream":"contacts","record":{{"id":2}}}}'
        printf '{{"type":"RECORD","stream":"cont'
        echo 'INFO METRIC: {{"value": 1}}' >&2
        echo 'CRITICAL 401 for olena@example.com at https://api.example.com/p?api_token=abc' >&2
        exit 3"#
    );
    let got = Fake::new(&script).read_all().await;
    assert_eq!(got.lines(), ["2: 1", "4: 2"], "half a line is no malformed record of a tap that died");
    assert_eq!(got.cursor(), Some("\"one\""));
    let SourceError::TapFailed { code: Some(3), stderr, .. } = got.error() else { panic!("{:?}", got.end) };
    assert_eq!(stderr, &["CRITICAL 401 for **** at https://api.example.com/p?****"]);
    // the text goes into the database and alerts: the words do not
    assert_eq!(got.error().to_string(), "the tap sh failed (exit code 3)");
    assert_eq!(got.error().last_words(), stderr);

    let got = Fake::new(&format!("echo '{SCHEMA}'; kill -KILL $$")).read_all().await;
    assert!(got.error().to_string().contains("killed by signal 9"), "{}", got.error());
    let fixture = "captured/sdk-tap-postgres-connect-failure-exit1.jsonl";
    let got = Fake::with_method(&format!("cat \"$fixtures/{fixture}\"; exit 1"), "public-contact", "").read_all().await;
    assert!(matches!(got.error(), SourceError::TapFailed { code: Some(1), .. }));
}

#[tokio::test]
async fn the_last_line_may_lack_its_newline() {
    let script =
        format!(r#"echo '{SCHEMA}'; printf '%s' '{{"type":"RECORD","stream":"contacts","record":{{"id":1}}}}'"#);
    assert_eq!(Fake::new(&script).read_all().await.lines(), ["2: 1"]);
    let got = Fake::new(&format!("echo '{SCHEMA}'; printf '{{\"type\":\"REC'")).read_all().await;
    assert_eq!(got.end().malformed, 1, "cut off by a tap that says all is well");
}

#[tokio::test]
async fn a_line_that_is_too_long_is_passed_over() {
    let script = format!(
        r#"echo '{SCHEMA}'
        printf '{{"type":"RECORD","stream":"contacts","record":{{"id":1,"note":"'
        head -c 300000 /dev/zero | tr '\0' x
        echo '"}}}}'
        echo '{{"type":"RECORD","stream":"contacts","record":{{"id":2}}}}'"#
    );
    let mut fake = Fake::with_method(&script, "contacts", "FULL_TABLE");
    fake.options.line_bytes_max = 200_000;
    let got = fake.read_all().await;
    assert_eq!(got.lines(), ["2! a line of more than 200000 bytes", "3: 2"]);
    assert!(!got.end().full);
}

/// Whether a process whose id a script wrote into a file is still there (a zombie is not).
fn is_alive(fake: &Fake, name: &str) -> bool {
    let pid = fake.text(name).trim().to_owned();
    assert!(!pid.is_empty(), "the script wrote {name}");
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// A process that was sent KILL still takes the kernel a moment.
async fn assert_gone(fake: &Fake, name: &str) {
    for _ in 0..1_000_000 {
        if !is_alive(fake, name) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{name} outlived its read");
}

#[tokio::test]
async fn a_tap_that_hangs_is_killed_with_all_that_it_started() {
    let script = format!(
        r#"echo '{SCHEMA}'
        echo '{{"type":"RECORD","stream":"contacts","record":{{"id":1}}}}'
        echo 'waiting for the lock' >&2
        sleep 600 & echo $! > "$dir/child"; echo $$ > "$dir/tap"; wait"#
    );
    let mut fake = Fake::new(&script);
    fake.options.idle_timeout = Duration::from_secs(1);
    let got = fake.read_all().await;
    assert_eq!(got.lines(), ["2: 1"], "what came before stands");
    let SourceError::Hung { stderr, .. } = got.error() else { panic!("{:?}", got.end) };
    assert_eq!(stderr, &["waiting for the lock"]);
    assert_gone(&fake, "child").await;
    assert_gone(&fake, "tap").await;

    // one that closes its output and stays
    let mut fake = Fake::new(&format!("echo '{SCHEMA}'; exec >&-; sleep 600"));
    fake.options.idle_timeout = Duration::from_millis(200);
    assert!(matches!(fake.read_all().await.error(), SourceError::Hung { .. }));
    // one that hangs in discovery
    let mut fake = Fake::new("sleep 600");
    fake.options.catalog = None;
    fake.options.idle_timeout = Duration::from_millis(200);
    assert!(matches!(fake.read_all().await.error(), SourceError::Hung { .. }));
}

#[tokio::test]
async fn a_tap_that_ended_well_is_not_held_up_by_what_it_left_behind() {
    let row = r#"echo '{"type":"RECORD","stream":"contacts","record":{"id":1}}'"#;
    // a child in the tap's group, which is killed, and one that has left it, which is let go
    for (start, is_killed) in [("sleep 600", true), ("setsid sleep 600", false)] {
        let script = format!("{start} & echo $! > \"$dir/child\"; echo '{SCHEMA}'; {row}");
        let fake = Fake::new(&script);
        let got =
            tokio::time::timeout(Duration::from_secs(30), fake.read_all()).await.expect("within its idle_timeout");
        assert_eq!((got.lines(), got.end().records), (vec!["2: 1".to_owned()], 1), "{start}");
        if is_killed {
            assert_gone(&fake, "child").await;
        } else {
            let kill = format!("kill -KILL {}", fake.text("child").trim());
            assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        }
    }
    // one that failed is told as that
    let got = Fake::new(&format!("sleep 600 & echo '{SCHEMA}'; exit 3")).read_all().await;
    assert!(matches!(got.error(), SourceError::TapFailed { code: Some(3), .. }), "{:?}", got.end);
}

#[tokio::test]
async fn a_tap_is_read_by_one_at_a_time() {
    let fake = stoppable("exit 0");
    let (sender, mut receiver) = mpsc::channel(1);
    let (source, stop) = (fake.source(), CancellationToken::new());
    let second = async {
        receiver.recv().await.unwrap();
        fs::write(fake.path("work/state.json"), "of the first").unwrap();
        let got = fake.source().read(From::Beginning, mpsc::channel(1).0, CancellationToken::new()).await;
        let state = fs::read_to_string(fake.path("work/state.json")).unwrap_or_default();
        stop.cancel();
        (got.unwrap_err(), state)
    };
    let (_, (error, state)) = tokio::join!(source.read(From::Beginning, sender, stop.clone()), second);
    let reader = format!("source crm is being read by process {}", std::process::id());
    assert_eq!((error.to_string(), error.is_temporary()), (reader, true));
    assert_eq!(state, "of the first", "the second one touches nothing");
    // it ends with its holder
    fs::write(fake.path("config.json"), "{}").unwrap();
    assert!(WorkDir::open(&fake.options).is_ok());
}

#[tokio::test]
async fn a_key_that_the_mapping_does_not_cover_deserves_a_word() {
    let schema = |key: &str| SCHEMA.replace(r#"["id"]"#, key);
    let one = format!("echo '{SCHEMA}'");
    let two = format!("echo '{}'", schema(r#"["org","id"]"#));
    let table = [
        (one.clone(), vec!["id"], None),
        (one.clone(), vec!["uuid", "id"], None),
        (one.clone(), vec!["uuid"], Some("by id, the mapping by uuid")),
        // the path of the mapping does not tell its column, or the tap has no key
        (one.clone(), vec![], None),
        (format!("echo '{}'", schema("[]")), vec!["id"], None),
        // one column never tells apart what takes two
        (two.clone(), vec!["id"], Some("by org, id, the mapping by id")),
        (two.clone(), vec!["org", "id"], Some("by org, id, the mapping by org, id")),
        // said once more and the same; changed
        (format!("{one}; {one}"), vec!["id"], None),
        (format!("{one}; {two}"), vec!["id"], Some("changed the key of its records within a run, from id to org, id")),
    ];
    for (script, key, wanted) in table {
        let row = r#"echo '{"type":"RECORD","stream":"contacts","record":{"id":1}}'"#;
        let fake = Fake::new(&format!("{script}; {row}"));
        let columns = Columns { key: key.iter().map(|&name| name.to_owned()).collect(), mapped: Vec::new() };
        let (sender, mut receiver) = mpsc::channel(1);
        let source = fake.source().expecting(columns);
        let drain = async { while receiver.recv().await.is_some() {} };
        let (end, ()) = tokio::join!(source.read(From::Beginning, sender, CancellationToken::new()), drain);
        let warnings = end.unwrap().warnings;
        assert_eq!(warnings.len(), usize::from(wanted.is_some()), "{key:?}: {warnings:?}");
        assert!(wanted.is_none_or(|wanted| warnings[0].contains(wanted)), "{key:?}: {warnings:?}");
    }
}

#[tokio::test]
async fn a_tap_that_talks_on_stderr_alone_is_alive() {
    let mut fake = Fake::new(&format!("for i in 1 2 3 4 5 6 7 8; do sleep 0.2; echo wait >&2; done; echo '{SCHEMA}'"));
    fake.options.idle_timeout = Duration::from_millis(1200);
    assert!(fake.read_all().await.end.is_ok());
}

#[tokio::test]
async fn a_flood_on_stderr_stops_nothing() {
    let script = format!("yes 'INFO noise' | head -n 200000 >&2; echo '{SCHEMA}'; echo last >&2; exit 1");
    let got = Fake::new(&script).read_all().await;
    let SourceError::TapFailed { stderr, .. } = got.error() else { panic!("{:?}", got.end) };
    assert_eq!(stderr.len(), 20);
    assert_eq!(stderr.last().map(String::as_str), Some("last"));
}

/// A tap that gives a page's worth of rows with their state, and then waits to be stopped.
fn stoppable(on_term: &str) -> Fake {
    let rows = rows(PAGE_ITEMS_AT_STATE, PAGE_ITEMS_AT_STATE);
    Fake::new(&format!("trap '{on_term}' TERM; echo $$ > \"$dir/tap\"; {rows}\nwhile :; do sleep 0.05; done"))
}

#[tokio::test]
async fn after_a_stop_nothing_more_is_taken() {
    // As SDK taps do: a partial STATE and exit code 0. The second one will not go and must be killed.
    let partial = r#"echo "{\"type\":\"STATE\",\"value\":\"partial\"}"; echo yes > "$dir/asked"; exit 0"#;
    for (on_term, grace) in [(partial, 60_000), (r#"echo yes > "$dir/asked""#, 300)] {
        let mut fake = stoppable(on_term);
        fake.options.term_grace = Duration::from_millis(grace);
        let (sender, mut receiver) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let drain = async {
            let first = receiver.recv().await.unwrap();
            stop.cancel();
            (first, receiver.recv().await)
        };
        let source = fake.source();
        let (end, (first, rest)) = tokio::join!(source.read(From::Beginning, sender, stop.clone()), drain);
        assert!(matches!(end, Err(SourceError::Stopped)), "{end:?}");
        assert_eq!(first.cursor.unwrap().as_text(), PAGE_ITEMS_AT_STATE.to_string());
        assert!(rest.is_none(), "{rest:?}");
        assert!(fake.text("asked").starts_with("yes"), "asked before it is killed");
        assert_gone(&fake, "tap").await;
    }
}

#[tokio::test]
async fn a_lost_receiver_and_a_dropped_read_leave_no_tap_behind() {
    let fake = stoppable("exit 0");
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);
    let end = fake.source().read(From::Beginning, sender, CancellationToken::new()).await;
    assert!(matches!(end, Err(SourceError::Stopped)), "{end:?}");
    assert_gone(&fake, "tap").await;

    let fake = stoppable("");
    let (sender, mut receiver) = mpsc::channel(1);
    let source = fake.source();
    tokio::select! {
        end = source.read(From::Beginning, sender, CancellationToken::new()) => panic!("{end:?}"),
        page = receiver.recv() => assert!(page.is_some()),
    }
    assert_gone(&fake, "tap").await;
}

#[tokio::test]
async fn a_config_that_the_tap_rewrites_is_there_at_the_next_run() {
    let script =
        format!("cat \"$config\" >> \"$dir/seen\"; echo '{{\"token\":\"new\"}}' > \"$config\"; echo '{SCHEMA}'");
    let fake = Fake::new(&script);
    fs::write(fake.path("config.json"), "{\"token\":\"old\"}\n").unwrap();
    fake.read_all().await.end.unwrap();
    fake.read_all().await.end.unwrap();
    assert_eq!(fake.text("seen"), "{\"token\":\"old\"}\n{\"token\":\"new\"}\n");
}

#[test]
fn a_config_that_cannot_be_written_is_copied_until_it_changes() {
    let dir = TempDir::new().unwrap();
    let given = dir.path().join("credential");
    fs::write(&given, "first").unwrap();
    let settle = || work::settle_config(&given, false, dir.path()).unwrap();
    let copy = settle();
    assert_eq!(fs::read_to_string(&copy).unwrap(), "first");
    // the tap rotates its token: kept
    fs::write(&copy, "rotated").unwrap();
    assert_eq!(fs::read_to_string(settle()).unwrap(), "rotated");
    // the operator writes a new one: that one counts
    fs::write(&given, "second").unwrap();
    assert_eq!(fs::read_to_string(settle()).unwrap(), "second");
    assert_eq!(work::settle_config(&given, true, dir.path()).unwrap(), given);
}

#[tokio::test]
async fn batch_files_are_read_and_removed_or_refused_by_their_setting() {
    let script = format!(
        r#"echo '{SCHEMA}'; printf '{{"id":1}}\n{{"id":2}}' > "$dir/b 1.jsonl"
        printf '{{"type":"BATCH","stream":"contacts","encoding":{{"format":"jsonl","compression":null}},"manifest":["file://%s/b%%201.jsonl"]}}\n' "$dir"
        echo '{{"type":"STATE","value":1}}'"#
    );
    let fake = Fake::new(&script);
    let got = fake.read_all().await;
    assert_eq!(got.lines(), ["2: 1", "2: 2"], "{:?}", got.end);
    assert!(!fake.path("b 1.jsonl").exists());
    for (fixture, stream) in
        [("tap_output_batch.jsonl", "contacts"), ("captured/sdk-tap-postgres-batch.jsonl", "public-contact")]
    {
        let got = Fake::with_method(&format!("cat \"$fixtures/{fixture}\""), stream, "").read_all().await;
        assert!(matches!(got.error(), SourceError::BatchForm { message: 2, form } if form == "jsonl+gzip"));
        assert!(got.error().hint().unwrap().contains("batch_config"));
        assert!(got.cursor().is_none(), "the STATE behind a batch that was not read");
    }
}

#[tokio::test]
async fn records_before_their_schema_are_refused() {
    let fixture = "captured/sdk-tap-postgres-sigterm-tail-exit0.jsonl";
    let got = Fake::with_method(&format!("cat \"$fixtures/{fixture}\""), "public-contact", "").read_all().await;
    assert!(matches!(got.error(), SourceError::Protocol { message: 1, .. }), "{}", got.error());
    assert!(got.pages.is_empty());
}

#[tokio::test]
async fn an_empty_first_read_deserves_a_word() {
    // tap-hubspot under --catalog: prints nothing and exits 0
    let fixture = "captured/tap-hubspot-contacts-run1.jsonl";
    let mut fake = Fake::new(&format!("test $argument = --properties && cat \"$fixtures/{fixture}\"; exit 0"));
    let got = fake.read_all().await;
    assert!(got.end().warnings[0].contains("catalog_argument"), "{:?}", got.end().warnings);
    assert!(fake.read(cursor("{}")).await.end().warnings.is_empty());
    fake.options.catalog_argument = CatalogArgument::Properties;
    assert_eq!(fake.read_all().await.end().records, 5);
}

#[tokio::test]
async fn a_tap_that_cannot_be_started_is_named_without_its_arguments() {
    let mut fake = Fake::new("");
    fake.options.command = ["/nowhere/tap-crm", "--password=hunter2"].map(str::to_owned).to_vec();
    let got = fake.read_all().await;
    assert_eq!(got.error().to_string(), "cannot start the tap tap-crm");
    assert!(!format!("{:?} {:?}", got.error(), fake.options).contains("hunter2"));
}

/// A catalog as databases give it: two streams, fields of each inclusion.
const DISCOVERED: &str = r#"{"streams":[
    {"tap_stream_id":"public-orders","stream":"orders","schema":{"properties":{"id":{}}},
     "metadata":[{"breadcrumb":[],"metadata":{"selected":true}}]},
    {"tap_stream_id":"public-contact","stream":"contact","key_properties":["id"],
     "schema":{"type":"object","properties":{"id":{},"email":{},"blob":{},"unmentioned":{}}},
     "metadata":[
        {"breadcrumb":["properties","id"],"metadata":{"inclusion":"automatic"}},
        {"breadcrumb":["properties","email"],"metadata":{"inclusion":"available","selected":false}},
        {"breadcrumb":["properties","blob"],"metadata":{"inclusion":"unsupported"}},
        {"breadcrumb":[],"metadata":{"inclusion":"available"}}]}]}"#;

#[tokio::test]
async fn without_a_catalog_the_stream_is_discovered_and_selected() {
    let mut fake = Fake::new(&format!(
        "if [ \"$mode\" = discover ]; then cat <<'EOF'\n{DISCOVERED}\nEOF\nexit; fi
        cp \"$catalog\" \"$dir/seen\"; echo '{}'
        echo '{{\"type\":\"RECORD\",\"stream\":\"contact\",\"record\":{{\"id\":1}}}}'",
        SCHEMA.replace("contacts", "public-contact")
    ));
    fake.options.catalog = None;
    fake.options.stream = "public-contact".to_owned();
    fake.options.replication_key = Some("updated_at".to_owned());
    let got = fake.read_all().await;
    assert_eq!(got.lines(), ["2: 1"], "both names are ours");
    let seen: serde_json::Value = serde_json::from_str(&fake.text("seen")).unwrap();
    let wanted = serde_json::json!({"streams": [
        {"tap_stream_id": "public-orders", "stream": "orders", "selected": false,
         "schema": {"selected": false, "properties": {"id": {}}},
         "metadata": [{"breadcrumb": [], "metadata": {"selected": false}}]},
        {"tap_stream_id": "public-contact", "stream": "contact", "key_properties": ["id"], "selected": true,
         "replication_method": "INCREMENTAL", "replication_key": "updated_at",
         "schema": {"type": "object", "selected": true,
            "properties": {"id": {}, "email": {}, "blob": {}, "unmentioned": {}}},
         "metadata": [
            {"breadcrumb": ["properties", "id"], "metadata": {"inclusion": "automatic"}},
            {"breadcrumb": ["properties", "email"], "metadata": {"inclusion": "available", "selected": true}},
            {"breadcrumb": ["properties", "blob"], "metadata": {"inclusion": "unsupported"}},
            {"breadcrumb": [], "metadata": {"inclusion": "available", "selected": true,
                "replication-method": "INCREMENTAL", "replication-key": "updated_at"}},
            {"breadcrumb": ["properties", "unmentioned"], "metadata": {"selected": true}}]}]});
    assert_eq!(seen, wanted);
}

#[test]
fn the_method_is_what_was_asked_or_what_the_tap_says() {
    use ReplicationMethod::{FullTable, Incremental, LogBased};
    let offer = |metadata: &str, legacy: &str| {
        let metadata = format!(r#"[{{"breadcrumb":[],"metadata":{metadata}}}]"#);
        format!(r#"{{"streams":[{{"tap_stream_id":"c"{legacy},"metadata":{metadata}}}]}}"#)
    };
    let forced = r#"{"forced-replication-method":"INCREMENTAL"}"#;
    // what the tap offers, key, method asked for, what it will be, warnings
    let table = [
        (offer("{}", ""), None, None, FullTable, 0),
        (offer("{}", ""), Some("k"), None, Incremental, 0),
        (offer("{}", ""), Some("k"), Some(LogBased), LogBased, 0),
        (offer(r#"{"replication-method":"LOG_BASED"}"#, ""), None, None, LogBased, 0),
        (offer("{}", r#","replication_method":"INCREMENTAL""#), None, None, Incremental, 0),
        (offer(forced, ""), None, None, Incremental, 0),
        (offer(r#"{"forced-replication-method":""}"#, ""), Some("k"), None, Incremental, 0),
        // the tap reads incrementally whatever is asked: this must never pass as a full table
        (offer(forced, ""), None, Some(FullTable), Incremental, 1),
    ];
    for (offer, key, asked, wanted, warnings) in table {
        let mut options = Fake::new("").options;
        options.stream = "c".to_owned();
        options.replication_key = key.map(str::to_owned);
        options.replication_method = asked;
        let (selection, _) = catalog::select(offer.as_bytes(), &options).unwrap();
        assert_eq!((selection.method, selection.warnings.len()), (Some(wanted), warnings), "{offer} {key:?} {asked:?}");
    }
}

#[test]
fn a_legacy_catalog_without_metadata_is_selected_in_its_schema() {
    let mut options = Fake::new("").options;
    options.stream = "c".to_owned();
    let offer = r#"{"streams":[{"stream":"c","schema":{"properties":{"id":{}}}}]}"#;
    let (selection, text) = catalog::select(offer.as_bytes(), &options).unwrap();
    let catalog: serde_json::Value = serde_json::from_str(&text).unwrap();
    let stream = &catalog["streams"][0];
    assert_eq!((selection.stream.as_str(), selection.tap_stream_id.as_str()), ("c", "c"));
    assert_eq!(stream["schema"], serde_json::json!({"selected": true, "properties": {"id": {"selected": true}}}));
    assert_eq!(stream["metadata"][0]["metadata"]["selected"], true);
}

#[test]
fn a_stream_that_is_not_there_is_answered_with_those_that_are() {
    let mut options = Fake::new("").options;
    options.stream = "public-contacts".to_owned();
    let error = catalog::select(DISCOVERED.as_bytes(), &options).unwrap_err();
    assert_eq!(error.to_string(), "the tap has no stream \"public-contacts\"; it offers public-contact, public-orders");
    let table = [("Usage: tap", "not JSON"), ("[]", "no list of streams"), (r#"{"streams":[1]}"#, "not an object")];
    for (text, wanted) in table {
        let error = catalog::select(text.as_bytes(), &options).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[test]
fn a_cursor_does_not_print() {
    assert_eq!(format!("{:?}", Cursor::from_text("{\"token\":\"abc\"}".to_owned())), "Cursor(15 bytes)");
}
