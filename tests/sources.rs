//! Whole cycles of real sources (files, and small scripts in a tap's place) into the real checkpoint: what each read
//! proves, what is listed, and what the next read makes of it. Sends nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

mod support;

use std::fs;
use std::path::PathBuf;

use reteno_sync::checkpoint::{Incoming, PageMode, ReadProof, RejectionRow, SeenRows, SourceRow};
use reteno_sync::clock::Timestamp;
use reteno_sync::config;
use reteno_sync::contact::{Catalog, Field};
use reteno_sync::daemon::compose;
use reteno_sync::daemon::cycle::{CycleError, CycleParts, CycleReport, Feed, Reach, read_feed};
use reteno_sync::daemon::links::CrmLinks;
use reteno_sync::daemon::sender::Line;
use support::{HOUR, MINUTE, World, contact};
use tokio_util::sync::CancellationToken;

const MAPPING: &str = "externalCustomerId = \"id\"\nemail = \"mail\"\ntown = \"city\"\n";

/// A source in a directory, and the world that reads it.
struct Crm {
    world: World,
    kind: String,
    mapping: String,
}

impl Crm {
    /// A file of this name.
    async fn file(name: &str) -> Self {
        let kind = format!("kind = \"file\"\npath = \"{name}\"\n");
        Self { world: World::begin().await, kind, mapping: MAPPING.to_owned() }
    }

    /// An incremental tap that says what stands in `messages` and exits with what stands in `code`; it notes each STATE
    /// that it is given in `states`, or `none`.
    async fn tap() -> Self {
        const SCRIPT: &str = r#"
            state=none
            while [ $# -gt 0 ]; do case $1 in --state) state=$(cat "$2");; esac; shift; done
            echo "$state" >> states; cat messages; echo "no contact olena@example.com" >&2; exit $(cat code)"#;
        let world = World::begin().await;
        let crm = Self { world, kind: String::new(), mapping: MAPPING.to_owned() };
        let dir = crm.world.dir.path().display();
        let kind = format!(
            "kind = \"singer\"\ncommand = [\"sh\", \"tap.sh\"]\nworking_directory = \"{dir}\"\n\
             config = \"tap.json\"\ncatalog = \"catalog.json\"\nstream = \"contacts\"\n"
        );
        let catalog = r#"{"streams":[{"tap_stream_id":"contacts","stream":"contacts","schema":{},"metadata":[
            {"breadcrumb":[],"metadata":{"selected":true,"replication-method":"INCREMENTAL"}}]}]}"#;
        crm.write("tap.sh", SCRIPT);
        crm.write("tap.json", "{}");
        crm.write("catalog.json", catalog);
        crm.write("code", "0");
        Self { kind, ..crm }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.world.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn feed(&self) -> Feed {
        let (dir, Self { kind, mapping, .. }) = (self.world.dir.path().display(), self);
        self.write(
            "config.toml",
            &format!("state_dir = \"{dir}\"\n[source.crm]\n{kind}\n[source.crm.contact]\n{mapping}"),
        );
        let config = config::load(&self.path("config.toml"), std::iter::empty(), None).unwrap();
        compose::build_feed(
            &config.sources[0],
            config.identity,
            &Catalog::empty(),
            compose::Place { state_dir: &config.state_dir, clock: &self.world.clock, links: &CrmLinks::default() },
        )
        .0
    }

    async fn try_read(&self, mode: PageMode, reach: Reach) -> Result<CycleReport, CycleError> {
        let (line, stop) = (Line::default(), CancellationToken::new());
        let parts = CycleParts {
            store: &self.world.store,
            clock: &self.world.clock,
            line: &line,
            stop: &stop,
            mode,
            on_page: &|_| {},
        };
        let read = read_feed(&self.feed(), reach, &parts).await;
        if let Ok(report) = &read {
            assert!(report.balance.adds_up(), "{}", report.balance);
        }
        read
    }

    async fn read(&self) -> CycleReport {
        self.try_read(PageMode::Apply, Reach::Changes).await.unwrap()
    }

    /// Reads a table that was written a minute later.
    async fn read_file(&self, text: &str) -> CycleReport {
        self.write("contacts", text);
        tokio::time::advance(MINUTE).await;
        self.read().await
    }

    /// As `read`, and Reteno holds it.
    async fn baseline(&self) -> CycleReport {
        self.try_read(PageMode::Baseline, Reach::Changes).await.unwrap()
    }

    async fn source(&self) -> SourceRow {
        self.world.status().await.sources.remove(0)
    }

    async fn rejections(&self) -> Vec<RejectionRow> {
        self.world.store.call(|checkpoint| checkpoint.load_rejections()).await.unwrap()
    }

    /// The list of rejections, each as `contact or place: field: reason`.
    async fn rejected(&self) -> Vec<String> {
        let show = |row: RejectionRow| {
            let at = [row.key, row.place].into_iter().flatten().collect::<Vec<_>>().join(" at ");
            format!("{at}: {}{}", row.field.map_or(String::new(), |field| format!("{field}: ")), row.reason)
        };
        self.rejections().await.into_iter().map(show).collect()
    }

    /// The state of one field of a contact.
    async fn state(&self, key: &str, field: &str) -> Option<&'static str> {
        let (source, key) = (self.source().await, key.to_owned());
        let story = self.world.store.call(move |checkpoint| checkpoint.load_story(&source, &key)).await.unwrap();
        story?.fields.iter().find(|known| known.field == field).map(|known| known.state)
    }

    /// What each run of the tap was given as its STATE.
    fn states(&self) -> Vec<String> {
        fs::read_to_string(self.path("states")).unwrap().lines().map(str::to_owned).collect()
    }
}

async fn csv() -> Crm {
    let mut crm = Crm::file("contacts").await;
    crm.kind.push_str("format = \"csv\"\n");
    crm
}

async fn json_lines() -> Crm {
    let mut crm = Crm::file("contacts").await;
    crm.kind.push_str("format = \"jsonl\"\n");
    crm
}

const TABLE: &str = "id,mail,city\n1,a@example.com,Kyiv\n2,b@example.com,Lviv\n3,c@example.com,Odesa\n";

#[tokio::test(start_paused = true)]
async fn a_file_that_is_read_again_changes_nothing_and_tells_who_is_gone() {
    let crm = csv().await;
    crm.write("contacts", TABLE);
    let first = crm.baseline().await;
    assert_eq!((first.balance.read, first.balance.created, first.is_full), (3, 3, true));
    let again = crm.read_file(TABLE).await;
    assert_eq!((again.balance.read, again.balance.unchanged, again.balance.gone), (3, 3, 0));
    assert!(again.warnings.is_empty(), "{:?}", again.warnings);
    assert_eq!(crm.world.status().await.acknowledged, 3);

    let without = crm.read_file(&TABLE.replace("2,b@example.com,Lviv\n", "")).await;
    assert_eq!((without.balance.unchanged, without.balance.gone), (2, 1));
    let source = crm.source().await;
    let story = crm.world.store.call(move |checkpoint| checkpoint.load_story(&source, "2")).await.unwrap().unwrap();
    assert_eq!(story.missing_reads, 1);
    assert_eq!(crm.read_file(TABLE).await.balance.gone, 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_gone_by_a_read_that_proves_nothing() {
    let crm = csv().await;
    crm.write("contacts", TABLE);
    crm.baseline().await;
    let table = [
        ("a table of nobody", "id,mail,city\n", 0, Some("no record at all, and 3 contacts are known")),
        ("a row that anyone may be in", "id,mail,city\n1,a@example.com,Kyiv\n2,b\n", 1, Some("malformed")),
        (
            "a record without an id",
            "id,mail,city\n1,a@example.com,Kyiv\n,b@example.com,Lviv\n",
            1,
            Some("no usable id"),
        ),
        (
            "rows that a stray quote joined",
            "id,mail,city\n1,\"a@example.com,Kyiv\n2,b@example.com,Lviv\n3,\"c@example.com\",Odesa\n",
            1,
            Some("malformed"),
        ),
    ];
    let damaged = [
        ("ids that a spreadsheet shortened", "3.80501E+11"),
        ("with a decimal comma", "\"3,8E+11\""),
        ("ids that are a spreadsheet's error", "#N/A"),
        ("ids that are a formula", "=A7"),
        ("ids that a data frame took for fractions", "2.0"),
    ];
    let tables =
        damaged.map(|(case, id)| (case, format!("id,mail,city\n1,a@example.com,Kyiv\n{id},b@example.com,Lviv\n")));
    let damaged = tables.iter().map(|(case, text)| (*case, text.as_str(), 1, Some("no usable id")));
    for (case, text, rejected, warning) in table.into_iter().chain(damaged) {
        let report = crm.read_file(text).await;
        assert_eq!((report.balance.gone, report.is_full, report.balance.rejected), (0, false, rejected), "{case}");
        let warned = report.warnings.iter().any(|told| warning.is_some_and(|wanted| told.contains(wanted)));
        assert!(warned, "{case}: {:?}", report.warnings);
    }
    // the column of the id is not there at all
    crm.write("contacts", "ident,mail,city\n1,a@example.com,Kyiv\n");
    let error = crm.try_read(PageMode::Apply, Reach::Changes).await.unwrap_err();
    assert!(matches!(&error, CycleError::Source { balance, .. } if balance.read == 0 && balance.gone == 0), "{error}");
    assert!(crm.source().await.last_error.unwrap().contains("no column \"id\""));
    assert_eq!(crm.read_file(TABLE).await.balance.unchanged, 3);
}

/// An opt-out in a word that nobody configured is never silence: it is counted by its class, in a plan too, and listed
/// until the record is understood. The words themselves are not shown.
#[tokio::test(start_paused = true)]
async fn a_consent_that_is_not_understood_is_told_and_listed() {
    let mut crm = csv().await;
    crm.mapping.push_str("[source.crm.consent]\nemail = { path = \"news\", neither = [\"later\"] }\n");
    let told = |report: &CycleReport| -> Vec<String> {
        let about = report.warnings.iter().filter(|warning| warning.starts_with("the consent of "));
        about.map(|warning| warning.split(": nothing was done").next().unwrap().to_owned()).collect()
    };
    let table = "id,mail,city,news\n1,a@example.com,Kyiv,Ні\n2,b@example.com,Lviv,stopped\n3,c@example.com,Odesa,halted.\n\
                 4,d@example.com,Sumy,2\n5,e@example.com,Rivne,Later\n6,f@example.com,Lutsk,\n";
    crm.write("contacts", table);
    let wanted = [
        "the consent of 1 records is neither a yes nor a no: a number",
        "the consent of 2 records is neither a yes nor a no: a word of 7 to 10 letters",
    ];
    let first = crm.baseline().await;
    assert_eq!((told(&first), first.balance.created), (wanted.map(str::to_owned).to_vec(), 6));
    let entries = [
        "2: consent: neither a yes nor a no: a word of 7 to 10 letters",
        "3: consent: neither a yes nor a no: a word of 7 to 10 letters",
        "4: consent: neither a yes nor a no: a number",
    ];
    let mut rejected = crm.rejected().await;
    rejected.sort();
    assert_eq!(rejected, entries);
    let counted = |status: reteno_sync::checkpoint::StatusReport| -> Vec<(String, u64)> {
        status.unclear_consents.into_iter().map(|row| (row.class, row.contacts)).collect()
    };
    let status = crm.world.status().await;
    let classes = [("neither a yes nor a no: a word of 7 to 10 letters", 2), ("neither a yes nor a no: a number", 1)];
    assert_eq!(status.rejections, 0, "the contacts themselves are sent");
    assert_eq!(counted(status), classes.map(|(class, contacts)| (class.to_owned(), contacts)));

    let mended = crm.read_file(&table.replace("stopped", "no").replace("halted.", "no").replace(",2\n", ",1\n")).await;
    assert_eq!((told(&mended), crm.rejected().await), (Vec::new(), Vec::new()));
    assert_eq!(counted(crm.world.status().await), []);
}

/// Whole numbers are exact in JSON, however long; one that a float rounds is refused, and may be anyone's.
#[tokio::test(start_paused = true)]
async fn numbers_as_ids_are_exact_or_refused() {
    let crm = json_lines().await;
    let line = |id: &str| {
        let name = id.replace(['-', '.', '+'], "x");
        format!("{{\"id\": {id}, \"mail\": \"m{name}@example.com\"}}\n")
    };
    let exact = ["9007199254740993", "18446744073709551615", "-900719925474099", "100000000000000000001"];
    let report = crm.read_file(&exact.map(line).concat()).await;
    assert_eq!((report.balance.created, report.is_full), (4, true), "{}", report.balance);
    for id in exact {
        assert!(crm.state(id, "email").await.is_some(), "{id}");
    }
    let refused = [
        ("1e21", "the number has too many digits to be exact: the source has to write it as text, in quotes"),
        ("9007199254740993.0", "ends in .0, as spreadsheets and data frames write a number"),
    ];
    for (great, reason) in refused {
        let report = crm.read_file(&line(great)).await;
        assert_eq!((report.balance.rejected, report.balance.gone, report.is_full), (1, 0, false), "{great}");
        let listed = crm.rejected().await;
        assert!(listed.len() == 1 && listed[0].starts_with(&format!("line 1: {reason}")), "{great}: {listed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_column_that_is_not_there_is_told_and_clears_nothing() {
    let crm = csv().await;
    crm.write("contacts", TABLE);
    crm.baseline().await;
    let report = crm.read_file("id,mail, City\n1,a@example.com,Kyiv\n2,b@example.com,\n").await;
    assert_eq!(report.balance.unchanged, 2);
    assert!(report.warnings[0].contains("no column \"city\", which is mapped to town; a similar one is \"City\""));
    // a blank around the name is no other name
    let report = crm.read_file("id, mail ,city \n1,a@example.com,\n").await;
    assert_eq!((report.balance.changed, report.warnings), (1, Vec::new()));
    assert_eq!(crm.state("1", "town").await, Some("due"), "an empty cell clears");
}

#[tokio::test(start_paused = true)]
async fn a_malformed_row_is_listed_with_its_line_until_it_is_mended() {
    let crm = csv().await;
    let report = crm.read_file("id,mail,city\n1,a@example.com,Kyiv\n\n2,b@example.com\n3,c@example.com,Odesa\n").await;
    assert_eq!((report.balance.changed, report.balance.rejected), (2, 1));
    assert_eq!(crm.rejected().await, ["line 4: 2 cells under a header of 3"]);
    // it moved: the list is of the last read
    crm.read_file("id,mail,city\n2,b@example.com\n1,a@example.com,Kyiv\n").await;
    assert_eq!(crm.rejected().await, ["line 2: 2 cells under a header of 3"]);
    crm.read_file(TABLE).await;
    assert_eq!(crm.rejected().await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_left_out_is_listed_until_it_is_mended() {
    let mut crm = csv().await;
    crm.mapping.push_str("languageCode = \"lang\"\n");
    let report = crm.read_file("id,mail,city,lang\n1,a@example.com,Kyiv,ua\n2,b@example.com,Lviv,uk\n").await;
    assert_eq!((report.balance.changed, report.balance.rejected, report.balance.dropped_fields), (2, 0, 1));
    assert!(report.balance.to_string().ends_with("; gone 0, fields left out 1"), "{}", report.balance);
    let listed = crm.rejected().await;
    assert_eq!(listed.len(), 1);
    assert!(listed[0].starts_with("1: languageCode: the language is no code of ISO 639"), "{listed:?}");
    assert_eq!(crm.state("1", "languageCode").await, None);
    assert_eq!(crm.state("1", "town").await, Some("unknown"), "the rest is sent");
    crm.read_file("id,mail,city,lang\n1,a@example.com,Kyiv,uk\n2,b@example.com,Lviv,uk\n").await;
    assert_eq!(crm.rejected().await, [""; 0]);
    assert_eq!(crm.state("1", "languageCode").await, Some("unknown"));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_sent_is_listed_until_it_is_mended() {
    let crm = csv().await;
    let bad = TABLE.replace("b@example.com", "b");
    let report = crm.read_file(&bad).await;
    assert_eq!((report.balance.changed, report.balance.rejected), (2, 1));
    assert_eq!(crm.rejected().await, ["2: email: the e-mail address has no @ sign"]);
    assert_eq!(crm.world.status().await.contacts, 2);
    // still so: one entry, since when it was first seen
    let since = crm.rejections().await[0].seen_at;
    crm.read_file(&bad).await;
    assert_eq!(crm.rejections().await.iter().map(|row| row.seen_at).collect::<Vec<_>>(), [since]);
    crm.read_file(TABLE).await;
    assert_eq!(crm.rejected().await, [""; 0]);
    assert_eq!(crm.world.status().await.contacts, 3);
    // known now: it is not gone when its record cannot be used, and what is known of it stays
    let report = crm.read_file(&bad).await;
    assert_eq!((report.balance.rejected, report.balance.gone), (1, 0));
    // one that is gone is no longer listed
    let report = crm.read_file(&TABLE.replace("2,b@example.com,Lviv\n", "")).await;
    assert_eq!((report.balance.gone, crm.rejected().await), (1, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_new_contact_needs_a_channel_and_a_known_one_may_be_spoken_of_in_part() {
    let mut crm = json_lines().await;
    crm.mapping.push_str("sms = \"phone\"\n");
    let part = "{\"id\":1,\"city\":\"Kyiv\"}\n{\"id\":2,\"mail\":\"b\"}\n{\"id\":3,\"mail\":\"\"}\n";
    let report = crm.read_file(part).await;
    assert_eq!((report.balance.rejected, report.balance.created), (3, 0));
    let none = "no valid e-mail address or phone number";
    let wanted = [format!("1: {none}"), "2: email: the e-mail address has no @ sign".to_owned(), format!("3: {none}")];
    assert_eq!(crm.rejected().await, wanted);
    crm.read_file("{\"id\":1,\"city\":\"Kyiv\",\"phone\":\"+380671234567\"}\n").await;
    let report = crm.read_file("{\"id\":1,\"city\":\"Lviv\"}\n").await;
    assert_eq!((report.balance.changed, report.balance.rejected, crm.rejected().await.len()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_filter_leaves_records_out_that_are_not_gone() {
    let mut crm = csv().await;
    crm.write("contacts", TABLE);
    crm.baseline().await;
    crm.kind.push_str("filter = \"$[?@.city != 'Lviv']\"\n");
    let report = crm.read_file(&(TABLE.to_owned() + "4,d@example.com,Lviv\n")).await;
    let balance = report.balance;
    assert_eq!((balance.read, balance.filtered, balance.unchanged, balance.gone), (4, 2, 2, 0));
    assert_eq!(crm.world.status().await.contacts, 3);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_stands_twice_does_not_alternate() {
    let mut crm = csv().await;
    let twice = TABLE.to_owned() + "1,z@example.com,Poltava\n1,a@example.com,Kyiv\n";
    crm.write("contacts", &twice);
    let report = crm.baseline().await;
    let balance = report.balance;
    assert_eq!((balance.read, balance.changed, balance.rejected, balance.repeated), (5, 3, 1, 1));
    let listed = ["1 at line 5: the id stands twice in the file; this row is left out"];
    assert_eq!(crm.rejected().await, listed);
    let since = crm.rejections().await[0].seen_at;
    for _ in 0..3 {
        let balance = crm.read_file(&twice).await.balance;
        assert_eq!((balance.changed, balance.unchanged, balance.rejected, balance.repeated), (0, 3, 1, 1));
        assert_eq!(balance.gone, 0);
        assert_eq!(crm.rejected().await, listed);
        assert_eq!(crm.rejections().await[0].seen_at, since);
    }
    crm.read_file(TABLE).await;
    assert_eq!(crm.rejected().await, [""; 0]);

    // the second may lack a field as invalid: that is no news of the first
    crm.mapping.push_str("languageCode = \"lang\"\n");
    let text = "id,mail,city,lang\n1,a@example.com,Kyiv,uk\n1,a@example.com,Kyiv,ua\n";
    for _ in 0..2 {
        assert_eq!(crm.read_file(text).await.balance.dropped_fields, 0);
        assert_eq!(crm.rejected().await, [""; 0]);
    }

    // the CRM's own word on which is newer decides, wherever it stands
    crm.kind.push_str("changed_at = \"at\"\n");
    let rows = ["1,a@example.com,Kyiv,2026-01-01\n", "1,a@example.com,Poltava,2026-02-01\n"];
    for order in [[0, 1], [1, 0]] {
        let text = format!("id,mail,city,at\n{}{}", rows[order[0]], rows[order[1]]);
        crm.read_file(&text).await;
        let balance = crm.read_file(&text).await.balance;
        assert_eq!((balance.changed, balance.rejected, balance.stale), (0, 0, 1), "{order:?}");
        assert_eq!(crm.state("1", "town").await, Some("due"), "{order:?}: Poltava");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_value_is_cleared_and_an_unspoken_one_is_kept() {
    let mut crm = json_lines().await;
    crm.mapping = "externalCustomerId = \"id\"\nemail = \"$.emails[0].value\"\nsms = \"phone\"\n\
                   town = \"address.city\"\nregion = \"$.custom[?@.code == 'REGION'].values[0].value\"\n"
        .to_owned();
    let rest = "\"id\":1,\"phone\":\"+380671234567\"";
    let full = "\"emails\":[{\"value\":\"a@example.com\"}],\"address\":{\"city\":\"Kyiv\"},\
                \"custom\":[{\"code\":\"REGION\",\"values\":[{\"value\":\"North\"}]}]";
    crm.write("contacts", &format!("{{{rest},{full}}}\n"));
    crm.baseline().await;
    let unspoken = crm.read_file(&format!("{{{rest}}}\n")).await;
    assert_eq!(unspoken.balance.unchanged, 1);
    let removed = crm.read_file(&format!("{{{rest},\"emails\":[],\"address\":null,\"custom\":null}}\n")).await;
    assert_eq!(removed.balance.changed, 1);
    for field in ["email", "town", "region"] {
        assert_eq!(crm.state("1", field).await, Some("due"), "{field}");
    }
    assert_eq!(crm.state("1", "sms").await, Some("acknowledged"));
}

#[tokio::test(start_paused = true)]
async fn a_mapping_that_yields_the_same_changes_nothing() {
    let mut crm = csv().await;
    crm.write("contacts", TABLE);
    crm.baseline().await;
    crm.mapping = crm.mapping.replace("\"city\"", "[\"city\", \"mail\"]");
    let balance = crm.read_file(TABLE).await.balance;
    assert_eq!((balance.unchanged, balance.read), (3, 3));
    // and one that does not does
    crm.mapping = crm.mapping.replace("[\"city\", \"mail\"]", "\"id\"");
    assert_eq!(crm.read_file(TABLE).await.balance.changed, 3);
}

#[tokio::test(start_paused = true)]
async fn who_was_seen_by_another_path_after_a_full_read_began_is_not_gone() {
    let crm = csv().await;
    crm.write("contacts", &(TABLE.to_owned() + "4,d@example.com,Lviv\n"));
    crm.baseline().await;
    tokio::time::advance(MINUTE).await;
    let (source, began) = (crm.world.source, crm.world.clock.now());
    // a full read of a CRM that has 1 only, while a webhook tells of 2, which was there, and of 5, which is new
    tokio::time::advance(MINUTE).await;
    crm.world.crm_says(&[("2", &[(Field::Town, "Lviv")]), ("5", &[])]).await;
    let context = crm.world.context(began.0, true);
    let gone = crm.world.store.call(move |checkpoint| {
        let mut seen = SeenRows::default();
        let items = vec![Incoming::Contact(contact("1", &[(Field::Town, "Kyiv")]))];
        checkpoint.record_page(&context, &mut seen, items, None)?;
        let proof = ReadProof {
            policy: std::sync::Arc::default(),
            began,
            from_beginning: true,
            has_values: true,
            is_full: true,
            earlier: None,
        };
        checkpoint.finish_read(source, &proof, &seen, None, began.plus(HOUR))
    });
    assert_eq!(gone.await.unwrap(), 2, "3 and 4");
}

/// A rejection without an id stands for a record that nobody can find again by it.
#[tokio::test(start_paused = true)]
async fn places_are_forgotten_by_the_next_read_of_everything_or_after_a_day() {
    let crm = csv().await;
    let source = crm.world.source;
    let read = async |at: Timestamp, place: Option<&str>, from_beginning: bool| {
        let context = crm.world.context(at.0, from_beginning);
        let reasons = vec![(None, "the record has no id".to_owned())];
        let items: Vec<Incoming> =
            place.map(|place| Incoming::Rejected { key: None, place: place.to_owned(), reasons }).into_iter().collect();
        let ended = crm.world.store.call(move |checkpoint| {
            let mut seen = SeenRows::default();
            checkpoint.record_page(&context, &mut seen, items, None)?;
            let proof = ReadProof {
                policy: std::sync::Arc::default(),
                began: at,
                from_beginning,
                has_values: false,
                is_full: false,
                earlier: None,
            };
            checkpoint.finish_read(source, &proof, &seen, None, at)
        });
        ended.await.unwrap();
        crm.rejected().await.len()
    };
    let hour = |hours: u32| support::START.plus(HOUR * hours);
    assert_eq!(read(hour(0), Some("message 12"), false).await, 1);
    assert_eq!(read(hour(1), Some("message 7"), false).await, 2, "who looks once a day must see it");
    assert_eq!(read(hour(25), None, false).await, 1, "the first is older than a day");
    assert_eq!(read(hour(26), Some("message 9"), true).await, 1, "everything was read: only what it found");
    assert_eq!(read(hour(27), None, true).await, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_contact_is_listed_for_is_forgotten_by_what_counts() {
    let crm = csv().await;
    let rejected = |key: &str| Incoming::Rejected {
        key: Some(key.to_owned()),
        place: String::new(),
        reasons: vec![(None, "bad".to_owned())],
    };
    let page = async |at: i64, items: Vec<Incoming>| {
        let context = crm.world.context(at, false);
        let recorded = crm
            .world
            .store
            .call(move |checkpoint| checkpoint.record_page(&context, &mut SeenRows::default(), items, None));
        recorded.await.unwrap();
        crm.rejected().await
    };
    let town = |town: &str| Incoming::Contact(contact("1", &[(Field::Town, town)]));
    assert_eq!(page(1_000, vec![rejected("1"), town("Kyiv")]).await, [""; 0], "invalid, then valid, in one page");
    assert_eq!(page(2_000, vec![town("Lviv"), rejected("1")]).await, ["1: bad"]);
    assert_eq!(page(1_500, vec![town("Odesa")]).await, ["1: bad"], "an older record says nothing");
    assert_eq!(page(2_500, vec![town("Lviv")]).await, [""; 0]);
}

// Taps. Their processes live in real time, so the clock of these worlds is not stopped.

const SCHEMA: &str = r#"{"type":"SCHEMA","stream":"contacts","key_properties":["id"],"schema":{}}"#;

fn row(id: u32, town: &str) -> String {
    let record = format!(r#"{{"id":{id},"mail":"{id}@example.com","city":"{town}","lang":"uk"}}"#);
    format!(r#"{{"type":"RECORD","stream":"contacts","record":{record}}}"#)
}

fn state(value: u32) -> String {
    format!(r#"{{"type":"STATE","value":{{"at":{value}}}}}"#)
}

fn say(crm: &Crm, messages: &[String]) {
    crm.write("messages", &format!("{SCHEMA}\n{}\n", messages.join("\n")));
}

#[tokio::test]
async fn a_first_load_that_dies_goes_on_from_its_state() {
    let crm = Crm::tap().await;
    crm.write("code", "3");
    say(&crm, &[row(1, "Kyiv"), state(1), row(2, "Lviv")]);
    let error = crm.try_read(PageMode::Apply, Reach::Changes).await.unwrap_err();
    assert!(matches!(&error, CycleError::Source { balance, .. } if balance.changed == 2), "{error}");
    let source = crm.source().await;
    assert_eq!(source.cursor.as_deref(), Some(r#"{"at":1}"#), "committed with the rows before it");
    assert_eq!((source.full_read_wanted, source.last_ended_at), (false, None));
    // what a tap writes to its log stays out of the database
    assert_eq!(source.last_error.as_deref(), Some("the tap sh failed (exit code 3)"));

    crm.write("code", "0");
    say(&crm, &[row(2, "Lviv"), row(3, "Odesa"), state(3)]);
    let report = crm.read().await;
    assert_eq!((report.balance.created, report.balance.waiting, report.balance.gone), (1, 1, 0));
    assert_eq!(crm.states(), ["none", r#"{"at":1}"#]);
    assert_eq!(crm.source().await.cursor.as_deref(), Some(r#"{"at":3}"#));
}

#[tokio::test]
async fn a_full_read_sets_the_cursor_aside_until_it_has_brought_everything() {
    let mut crm = Crm::tap().await;
    say(&crm, &[row(1, "Kyiv"), row(2, "Lviv"), state(2)]);
    crm.baseline().await;
    // a scheduled one dies behind a STATE of its own: changes are read on from the cursor that was set aside
    crm.write("code", "1");
    say(&crm, &[row(1, "Kyiv"), state(1)]);
    crm.try_read(PageMode::Apply, Reach::Full).await.unwrap_err();
    let source = crm.source().await;
    assert_eq!((source.cursor.as_deref(), source.full_read_wanted), (Some(r#"{"at":2}"#), false));
    // one that is needed, since the mapping is another, dies too: it is still wanted
    crm.mapping.push_str("postcode = \"code\"\n");
    crm.try_read(PageMode::Apply, Reach::Changes).await.unwrap_err();
    let source = crm.source().await;
    assert_eq!((source.cursor.as_deref(), source.full_read_wanted), (Some(r#"{"at":2}"#), true));
    // it ends well with nothing: still wanted
    crm.write("code", "0");
    say(&crm, &[]);
    let report = crm.read().await;
    assert!(report.warnings.iter().any(|told| told.contains("2 contacts are known")), "{:?}", report.warnings);
    assert!(crm.source().await.full_read_wanted);
    // a line that is no message will be there the next time, too: it does not make every cycle a full one
    say(&crm, &[row(1, "Kyiv"), "INFO no message".to_owned(), row(2, "Odesa"), state(9)]);
    let report = crm.read().await;
    assert_eq!((report.balance.unchanged, report.balance.changed, report.balance.gone), (1, 1, 0));
    let source = crm.source().await;
    assert_eq!((source.cursor.as_deref(), source.full_read_wanted), (Some(r#"{"at":9}"#), false));
    say(&crm, &[state(9)]);
    let report = crm.read().await;
    assert!(report.warnings.is_empty(), "nothing new is no reason for a word: {:?}", report.warnings);
    let states = crm.states();
    assert_eq!(states[..5], ["none"; 5]);
    assert_eq!(states[5..], [r#"{"at":9}"#]);
}

#[tokio::test]
async fn a_field_that_is_added_to_the_mapping_is_read_of_every_record_once() {
    let mut crm = Crm::tap().await;
    say(&crm, &[row(1, "Kyiv"), row(2, "Lviv"), state(2)]);
    crm.baseline().await;
    say(&crm, &[state(2)]);
    assert_eq!(crm.read().await.balance.read, 0);

    crm.mapping.push_str("languageCode = \"lang\"\n");
    // also where the first attempt dies
    crm.write("code", "1");
    say(&crm, &[row(1, "Kyiv"), state(3)]);
    crm.try_read(PageMode::Apply, Reach::Changes).await.unwrap_err();
    assert_eq!(crm.state("2", "languageCode").await, None);
    crm.write("code", "0");
    say(&crm, &[row(1, "Kyiv"), row(2, "Lviv"), state(3)]);
    let balance = crm.read().await.balance;
    assert_eq!((balance.read, balance.waiting, balance.changed), (2, 1, 1));
    assert_eq!(crm.state("1", "languageCode").await, Some("unknown"));
    assert_eq!(crm.state("1", "town").await, Some("acknowledged"));
    say(&crm, &[state(3)]);
    crm.read().await;
    assert_eq!(crm.states(), ["none", r#"{"at":2}"#, "none", "none", r#"{"at":3}"#]);
}

#[tokio::test]
async fn a_deletion_that_a_tap_tells_is_counted_once() {
    let crm = Crm::tap().await;
    crm.write(
        "catalog.json",
        &fs::read_to_string(crm.path("catalog.json")).unwrap().replace("INCREMENTAL", "FULL_TABLE"),
    );
    say(&crm, &[row(1, "Kyiv"), row(2, "Lviv"), row(3, "Odesa")]);
    crm.baseline().await;
    let deleted = |id: u32| row(id, "Lviv").replace("\"id\"", "\"_sdc_deleted_at\":\"2026-11-20T10:00:00Z\",\"id\"");
    // 2 is told to be deleted, 3 is lacking, 9 was never known
    say(&crm, &[row(1, "Kyiv"), deleted(2), deleted(9)]);
    let report = crm.read().await;
    assert_eq!((report.is_full, report.balance.read, report.balance.gone), (true, 1, 2));
}

#[tokio::test]
async fn the_second_of_two_records_of_a_tap_is_its_news() {
    let crm = Crm::tap().await;
    say(&crm, &[row(1, "Kyiv")]);
    crm.baseline().await;
    say(&crm, &[row(1, "Kyiv"), row(1, "Lviv"), row(1, "Lviv")]);
    let balance = crm.read().await.balance;
    assert_eq!((balance.unchanged, balance.changed, balance.repeated, balance.rejected), (1, 1, 1, 0));
    assert_eq!(crm.state("1", "town").await, Some("due"));
}
