//! The commands of a person who decides: what is held, opted out, erased and rejected; each with and beside a daemon.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

#[path = "support/program.rs"]
mod program;

use std::time::Duration;

use program::{Installation, PATIENCE, Running, watch};
use reteno_sync::sandbox::{CallKind, Phase};
use rustix::process::Signal;

/// The daemon looks each second; well below the ten that an idle sender sleeps, well above what a busy machine adds.
const NOTICED: Duration = Duration::from_secs(8);
/// So many that the guard counts them: it always lets ten through.
const MANY: usize = 12;

async fn authorized() -> Installation {
    let installation = Installation::begin().await;
    installation.authorize().await;
    installation
}

fn edit(installation: &Installation, change: impl Fn(String) -> String) {
    let path = installation.path("config.toml");
    let text = change(std::fs::read_to_string(&path).unwrap());
    std::fs::write(path, text).unwrap();
}

fn append(installation: &Installation, more: &str) {
    edit(installation, |text| format!("{text}\n{more}\n"));
}

/// A key of the source itself.
fn source_key(installation: &Installation, line: &str) {
    edit(installation, |text| text.replace("path = \"contacts.csv\"", &format!("path = \"contacts.csv\"\n{line}")));
}

/// The first `many` contacts, each in this town.
fn all_in(installation: &Installation, many: usize, town: &str) {
    let keys: Vec<String> = (1..=many).map(|number| number.to_string()).collect();
    let rows: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), town)).collect();
    installation.crm_says(&rows);
}

/// Rows with a column of their own for consent.
fn crm_consents(installation: &Installation, rows: &[(usize, &str)]) {
    let rows: Vec<String> = rows.iter().map(|(id, says)| format!("{id},c{id}@example.com,Kyiv,{says}\n")).collect();
    std::fs::write(installation.path("contacts.csv"), format!("id,email,town,news\n{}", rows.concat())).unwrap();
}

/// A daemon that reads nothing by itself before the next January.
async fn idle_daemon(installation: &Installation) -> Running {
    source_key(installation, "schedule = \"0 0 1 1 *\"");
    let mut daemon = installation.start(&["-v", "-v", "run"]);
    daemon.says("is running").await;
    daemon
}

async fn end(daemon: Running) -> String {
    daemon.signal(Signal::TERM);
    let ended = daemon.end().await;
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stderr
}

fn towns(installation: &Installation) -> Vec<String> {
    installation.held().into_iter().map(|(_, town)| town).collect()
}

/// Waits until `is_so`, judged after each call of a kind; says how long it took.
async fn comes_about(installation: &Installation, kind: CallKind, is_so: impl Fn() -> bool) -> Duration {
    let began = tokio::time::Instant::now();
    let mut seen = watch(installation, kind, Phase::After);
    while !is_so() {
        tokio::time::timeout(PATIENCE, seen.recv()).await.expect("it comes about").unwrap();
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_listed_shown_and_released_and_is_code_4_until_then() {
    let installation = authorized().await;
    all_in(&installation, MANY, "Kyiv");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert!(installation.run(&["approve"]).await.stdout.contains("nothing is held"));
    all_in(&installation, MANY, "");
    let plan = installation.run(&["plan", "--detailed-exitcode"]).await;
    assert_eq!(plan.code, 10, "{plan:?}");
    assert!(plan.stdout.contains("would hold it"), "{plan:?}");
    let plan = installation.run(&["plan", "--output", "json"]).await.json();
    let verdict = &plan["guard"][0];
    assert_eq!(
        (&verdict["what"], &verdict["contacts"], &verdict["would_hold"]),
        (&"clear".into(), &12.into(), &true.into())
    );
    for _ in 0..2 {
        let held = installation.run(&["sync"]).await;
        assert_eq!(held.code, 4, "{held:?}");
        assert!(held.stderr.contains("12 contacts are held by the guard"), "{held:?}");
        assert!(held.stderr.contains("approve 1 --yes"), "{held:?}");
        assert!(held.stdout.contains("open 0; held 12"), "{held:?}");
    }
    assert_eq!(towns(&installation), ["Kyiv"; MANY], "nothing of it has gone out");
    let status = installation.run(&["status", "--output", "json"]).await.json();
    assert_eq!((&status["held"], &status["open"]), (&12.into(), &0.into()));
    assert_eq!((&status["holds"][0]["verb"], status["lanes"].as_array().map(Vec::len)), (&"clear".into(), Some(0)));
    assert!(installation.run(&["status"]).await.stdout.contains("empty fields of 12 of 12 contacts"));
    let list = installation.run(&["approve"]).await;
    assert_eq!(list.code, 0);
    assert!(list.stdout.contains("crm") && list.stdout.contains("empty fields of 12 of 12"), "{list:?}");
    let one = installation.run(&["approve", "1"]).await;
    assert_eq!(one.code, 0);
    assert!(one.stdout.contains("town") && one.stdout.contains("approve 1 --yes"), "{one:?}");
    assert_eq!(towns(&installation)[0], "Kyiv", "looking releases nothing");
    let story = installation.run(&["explain", "3", "--offline"]).await.stdout;
    assert!(story.contains("held: town, by hold 1 (clear)") && story.contains("it waits for a person"), "{story}");
    // one changes back meanwhile: that entry is off, and nothing else is
    let keys: Vec<String> = (1..=MANY).map(|number| number.to_string()).collect();
    let back: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), if key == "5" { "Kyiv" } else { "" })).collect();
    installation.crm_says(&back);
    assert_eq!(installation.run(&["sync"]).await.code, 4);
    let released = installation.run(&["approve", "1", "--yes", "--output", "json"]).await.json();
    assert_eq!(released["released"], 11, "{released}");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!(towns(&installation).iter().filter(|town| town.as_str() == "Kyiv").count(), 1);
    let status = installation.run(&["status", "--output", "json"]).await.json();
    assert_eq!((&status["held"], status["alerts"].as_array().map(Vec::len)), (&0.into(), Some(0)), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_approved_is_said() {
    let installation = Installation::begin().await;
    assert_eq!(installation.run(&["approve"]).await.code, 1, "there is no checkpoint to look at yet");
    installation.authorize().await;
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    let unknown = installation.run(&["approve", "7", "--yes"]).await;
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("there is no hold 7"), "{unknown:?}");
    for words in
        [&["approve", "--yes"][..], &["approve", "x"], &["rejected", "ignore"], &["erased"], &["consent", "undo"]]
    {
        assert_eq!(installation.run(words).await.code, 2, "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_shows_its_beginning_to_a_person_and_all_to_a_program() {
    let installation = authorized().await;
    all_in(&installation, 130, "Kyiv");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    all_in(&installation, 130, "");
    assert_eq!(installation.run(&["sync"]).await.code, 4);
    let shown = installation.run(&["approve", "1"]).await.stdout;
    assert!(shown.contains("the first 100 of 130"), "{shown}");
    let entries = shown.lines().filter(|line| line.trim_end().ends_with("town")).count();
    assert_eq!(entries, 100, "{shown}");
    let document = installation.run(&["approve", "1", "--output", "json"]).await.json();
    assert_eq!((document["items"].as_array().map(Vec::len), &document["count"]), (Some(130), &130.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn held_comes_before_rejected() {
    let installation = authorized().await;
    all_in(&installation, MANY, "Kyiv");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    all_in(&installation, MANY, "");
    let file = std::fs::read_to_string(installation.path("contacts.csv")).unwrap();
    std::fs::write(installation.path("contacts.csv"), format!("{file}13,nobody,Kyiv\n")).unwrap();
    assert_eq!(installation.run(&["sync"]).await.code, 4);
    assert_eq!(installation.run(&["approve", "1", "--yes"]).await.code, 0);
    assert_eq!(installation.run(&["sync"]).await.code, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_sends_at_once_what_is_approved_beside_it() {
    let installation = authorized().await;
    all_in(&installation, MANY, "Kyiv");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    all_in(&installation, MANY, "");
    assert_eq!(installation.run(&["sync"]).await.code, 4);
    let daemon = idle_daemon(&installation).await;
    assert_eq!(installation.run(&["approve", "1", "--yes"]).await.code, 0);
    let took = comes_about(&installation, CallKind::ImportStatus, || towns(&installation) == [""; MANY]).await;
    assert!(took < NOTICED, "{took:?}");
    end(daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_retried_is_read_anew_and_sent_as_the_crm_says_now() {
    let installation = authorized().await;
    installation.sandbox.poison(["2".to_owned()]);
    assert_eq!(installation.run(&["sync"]).await.code, 3);
    assert_eq!(installation.run(&["rejected", "retry", "9"]).await.code, 1);
    installation.sandbox.poison([]);
    assert_eq!(installation.run(&["sync"]).await.code, 3, "by itself it is not tried again");
    let daemon = idle_daemon(&installation).await;
    // the change has not been read by anybody
    installation.crm_says(&[("1", "Kyiv"), ("2", "Odesa")]);
    let retried = installation.run(&["rejected", "retry", "--output", "json"]).await.json();
    assert_eq!((&retried["contacts"], &retried["sources"][0]), (&1.into(), &"crm".into()));
    let arrived = || installation.held().iter().any(|(id, town)| id == "2" && town == "Odesa");
    let took = comes_about(&installation, CallKind::ImportStatus, arrived).await;
    assert!(took < NOTICED, "{took:?}");
    assert!(
        installation
            .sandbox
            .applied_log("2")
            .iter()
            .all(|change| { change.values.get("town").is_none_or(|town| town.as_deref() == Some("Odesa")) })
    );
    let log = end(daemon).await;
    assert_eq!(log.matches("a full read was asked for").count(), 1, "{log}");
    assert!(installation.run(&["rejected", "list"]).await.stdout.contains("nothing is rejected"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_without_a_daemon_is_done_by_the_next_sync() {
    let installation = authorized().await;
    installation.sandbox.poison(["2".to_owned()]);
    assert_eq!(installation.run(&["sync"]).await.code, 3);
    installation.sandbox.poison([]);
    let retried = installation.run(&["rejected", "retry", "crm:2"]).await;
    assert_eq!(retried.code, 0);
    assert!(retried.stdout.contains("contacts to be read anew: 1") && retried.stdout.contains("sync"), "{retried:?}");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!(installation.held().len(), 2);
    // what was asked for is done: a daemon does not read once more
    let daemon = idle_daemon(&installation).await;
    let log = end(daemon).await;
    assert!(!log.contains("asked for"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_was_asked_for_and_fails_waits_for_the_schedule() {
    let installation = authorized().await;
    installation.sandbox.poison(["2".to_owned()]);
    assert_eq!(installation.run(&["sync"]).await.code, 3);
    installation.sandbox.poison([]);
    let file = std::fs::read(installation.path("contacts.csv")).unwrap();
    std::fs::remove_file(installation.path("contacts.csv")).unwrap();
    let mut daemon = idle_daemon(&installation).await;
    assert_eq!(installation.run(&["rejected", "retry"]).await.code, 0);
    daemon.says("a full read was asked for").await;
    daemon.says("cannot read source crm").await;
    std::fs::write(installation.path("contacts.csv"), file).unwrap();
    // the next thing that a command writes wakes the daemon, and it does not read for that
    assert_eq!(installation.run(&["rejected", "ignore", "--reason", "x"]).await.code, 1);
    assert_eq!(installation.run(&["rejected", "retry"]).await.code, 0);
    let log = end(daemon).await;
    assert_eq!(log.matches("asked for").count(), 0, "{log}");
    assert_eq!(installation.run(&["sync"]).await.code, 0, "it was still wanted");
    assert_eq!(installation.held().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ignored_is_hidden_until_its_reason_changes() {
    let installation = authorized().await;
    let rows = |third: &str| format!("id,email,town\n1,c1@example.com,Kyiv\n2,c2@example.com,Lviv\n3,{third},Odesa\n");
    let write = |text: String| std::fs::write(installation.path("contacts.csv"), text).unwrap();
    write(rows("nobody"));
    assert_eq!(installation.run(&["sync"]).await.code, 3);
    assert_eq!(installation.run(&["rejected", "ignore", "crm:3"]).await.code, 0);
    assert_eq!(installation.run(&["sync"]).await.code, 0, "ignored ones are no rejections for a script");
    let list = installation.run(&["rejected", "list"]).await.stdout;
    assert!(list.contains("nothing is rejected") && list.contains("are ignored: --all"), "{list}");
    let all = installation.run(&["rejected", "list", "--all", "--output", "json"]).await.json();
    assert!(all["rejections"].as_array().unwrap().iter().all(|row| row["ignored"] == true), "{all}");
    // the same reason at another read is no news
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    let retried = installation.run(&["rejected", "retry", "--output", "json"]).await.json();
    assert_eq!(retried["records"], 0, "what an operator lets be is not tried again with the others: {retried}");
    write(rows("a b@example.com"));
    assert_eq!(installation.run(&["sync"]).await.code, 3, "another reason is shown again");
    let reason = installation.run(&["rejected", "list", "--output", "json"]).await.json();
    let reasons: Vec<_> = reason["rejections"].as_array().unwrap().iter().map(|row| row["reason"].clone()).collect();
    for reason in &reasons {
        assert_eq!(installation.run(&["rejected", "ignore", "--reason", reason.as_str().unwrap()]).await.code, 0);
    }
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    let unknown = installation.run(&["rejected", "ignore", "77"]).await;
    assert_eq!(unknown.code, 1);
    assert!(unknown.stderr.contains("--all"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_csv_without_values() {
    let installation = authorized().await;
    let formulas = ["+1+1", "-2+3", "@SUM(1)", "\u{202e}4"];
    let rows: String = formulas.map(|id| format!("{id},nobody,Lviv\n")).concat();
    let text = format!("id,email,town\n1,c1@example.com,Kyiv\n\"a,b\",nobody,Lviv\n{rows}");
    std::fs::write(installation.path("contacts.csv"), text).unwrap();
    assert_eq!(installation.run(&["sync"]).await.code, 3);
    let out = installation.run(&["rejected", "export", "-"]).await;
    assert_eq!(out.code, 0);
    let path = installation.path("rejected.csv");
    let written = installation.run(&["rejected", "export", path.to_str().unwrap()]).await;
    assert_eq!(written.code, 0);
    let file = std::fs::read_to_string(&path).unwrap();
    assert_eq!(file.trim_end(), out.stdout.trim_end());
    let mut lines = file.lines();
    assert_eq!(lines.next(), Some("source,contact,place,kind,field,reason,since,ignored"));
    assert!(lines.any(|line| line.starts_with("crm,\"a,b\",,record,") && line.ends_with(",false")), "{file}");
    assert!(!file.contains("nobody"), "{file}");
    // an id that a spreadsheet would run, or that turns the writing round
    for cell in ["crm,'+1+1,", "crm,'-2+3,", "crm,'@SUM(1),", "crm,\u{fffd}4,"] {
        assert!(file.contains(cell), "{cell}: {file}");
    }
    let nowhere = installation.run(&["rejected", "export", "/nowhere/x.csv"]).await;
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.stderr.contains("/nowhere/x.csv"), "{nowhere:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_the_wrong_way_round_can_be_cured() {
    let installation = authorized().await;
    append(&installation, "[source.crm.consent]\nemail = { path = \"news\", yes = [\"0\"], no = [\"1\"] }");
    let everyone: Vec<(usize, &str)> = (1..=5).map(|id| (id, if id == 5 { "0" } else { "1" })).collect();
    crm_consents(&installation, &everyone);
    let plan = installation.run(&["plan", "--output", "json"]).await.json();
    assert_eq!(plan["deeds"]["unsubscribe"], 4, "{plan}");
    assert!(installation.run(&["sync"]).await.code == 0);
    assert_eq!(installation.sandbox.unsubscribed().len(), 4);
    let story = installation.run(&["explain", "1", "--offline"]).await.stdout;
    assert!(story.contains("its record said no to e-mail; Reteno was told of the no at"), "{story}");
    let list = installation.run(&["consent", "list", "--output", "json"]).await.json();
    let cycle = list["cycles"][0]["id"].to_string();
    assert_eq!(list["cycles"][0]["opt_outs"], 4);
    let words = installation.run(&["consent"]).await.stdout;
    assert!(words.contains("mend it") && words.contains("consent undo"), "{words}");
    // before the mapping is mended the records say no
    let early = installation.run(&["consent", "undo", "--cycle", &cycle, "--yes", "--output", "json"]).await.json();
    assert_eq!((&early["raised"], &early["kept_because"]["a_record_says_no"]), (&0.into(), &4.into()));
    let words = installation.run(&["consent", "undo", "--cycle", &cycle, "--yes"]).await.stdout;
    assert!(words.contains("0 addresses get mail again, 4 stay") && words.contains("mend it"), "{words}");
    edit(&installation, |text| text.replace("yes = [\"0\"], no = [\"1\"]", "yes = [\"1\"], no = [\"0\"]"));
    // one of them has really said no since, and the fifth does in truth
    let now: Vec<(usize, &str)> = (1..=5).map(|id| (id, if id >= 4 { "0" } else { "1" })).collect();
    crm_consents(&installation, &now);
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!(installation.sandbox.unsubscribed().len(), 5, "a mended mapping alone raises nobody");
    let asked = installation.run(&["consent", "undo", "--cycle", &cycle]).await;
    assert_eq!(asked.code, 1);
    assert!(asked.stderr.contains("0 of 4 addresses"), "no record had said yes before: {asked:?}");
    let asked = installation.run(&["consent", "undo", "--cycle", &cycle, "--also-unknown"]).await;
    assert!(asked.stderr.contains("3 of 4 addresses") && asked.stderr.contains("Reteno's own link"), "{asked:?}");
    let daemon = idle_daemon(&installation).await;
    let undone = installation.run(&["consent", "undo", "--cycle", &cycle, "--also-unknown", "--yes"]).await;
    assert_eq!(undone.code, 0);
    assert!(undone.stdout.contains("3 addresses get mail again, 1 stay"), "{undone:?}");
    let took = comes_about(&installation, CallKind::Resubscribe, || installation.sandbox.unsubscribed().len() == 2);
    let took = took.await;
    assert!(took < NOTICED, "{took:?}");
    end(daemon).await;
    assert_eq!(installation.run(&["consent", "undo", "--cycle", "999", "--yes"]).await.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_contact_stays_away_until_it_is_lifted() {
    let installation = authorized().await;
    source_key(&installation, "on_delete = \"erase\"");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    installation.crm_says(&[("1", "Kyiv")]);
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    let plan = installation.run(&["plan", "--output", "json"]).await.json();
    assert_eq!((&plan["gone"], &plan["deeds"]["erase"]), (&1.into(), &1.into()), "gone for the second time: {plan}");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!(installation.held().len(), 1);
    let story = installation.run(&["explain", "crm:2"]).await;
    assert_eq!(story.code, 0, "{story:?}");
    assert!(story.stdout.contains("it was erased at") && story.stdout.contains("erased lift crm:2"), "{story:?}");
    installation.crm_says(&[("1", "Kyiv"), ("2", "Lviv")]);
    assert_eq!(installation.run(&["sync"]).await.code, 3);
    assert_eq!(installation.held().len(), 1);
    assert_eq!(installation.run(&["erased", "lift", "1"]).await.code, 1);
    let lifted = installation.run(&["erased", "lift", "crm:2"]).await;
    assert_eq!(lifted.code, 0, "{lifted:?}");
    assert_eq!(installation.run(&["erased", "lift", "crm:2"]).await.code, 1, "only once");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!(installation.held().len(), 2);
}

/// Nobody knows the old id any more: the record of the one that came back tells by what it is known.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_comes_back_under_another_id_can_be_lifted_by_that() {
    let installation = authorized().await;
    source_key(&installation, "on_delete = \"erase\"");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    installation.crm_says(&[("1", "Kyiv")]);
    for _ in 0..2 {
        assert_eq!(installation.run(&["sync"]).await.code, 0);
    }
    let text = "id,email,town\n1,c1@example.com,Kyiv\n22,c2@example.com,Lviv\n";
    std::fs::write(installation.path("contacts.csv"), text).unwrap();
    assert_eq!(installation.run(&["sync"]).await.code, 3);
    let daemon = idle_daemon(&installation).await;
    let lifted = installation.run(&["erased", "lift", "22"]).await;
    assert_eq!(lifted.code, 0, "{lifted:?}");
    let back = || installation.held().iter().any(|(id, _)| id == "22");
    assert!(comes_about(&installation, CallKind::ImportStatus, back).await < NOTICED);
    end(daemon).await;
    assert!(installation.run(&["rejected", "list"]).await.stdout.contains("nothing is rejected"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_a_changed_mapping_and_new_contacts_come_to() {
    let installation = authorized().await;
    installation.configure("new_contacts_event = \"crm_new\"\nbatch_contacts_max = 5");
    all_in(&installation, MANY, "Kyiv");
    let first = installation.run(&["plan", "--output", "json"]).await.json();
    assert_eq!((&first["create"], &first["events"]), (&12.into(), &0.into()), "a first load fires none: {first}");
    assert_eq!(first["guard"].as_array().map(Vec::len), Some(0), "nor is it counted: {first}");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    all_in(&installation, MANY + 3, "Kyiv");
    edit(&installation, |text| format!("{text}languageCode = \"lang\"\n"));
    let text = std::fs::read_to_string(installation.path("contacts.csv")).unwrap();
    let text = text.replacen("town", "town,lang", 1).replace("Kyiv", "Kyiv,uk");
    std::fs::write(installation.path("contacts.csv"), text).unwrap();
    let plan = installation.run(&["plan", "--output", "json"]).await.json();
    let change = &plan["mapping_changes"][0];
    assert_eq!(
        (&change["source"], &change["contacts"], &change["fields"]["languageCode"]),
        (&"crm".into(), &12.into(), &12.into())
    );
    assert_eq!((&plan["events"], &plan["by_field"]["languageCode"]["calls"]), (&3.into(), &4.into()), "{plan}");
    let words = installation.run(&["plan"]).await.stdout;
    assert!(words.contains("has changed: 12 contacts become due (languageCode of 12)"), "{words}");
    assert!(words.contains("events for new contacts"), "{words}");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!(installation.sandbox.events_fired().len(), 3);
    let after = installation.run(&["plan", "--detailed-exitcode"]).await;
    assert_eq!(after.code, 0, "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_tells_lanes_with_their_time_and_what_is_to_be_done() {
    let installation = authorized().await;
    append(&installation, "[source.crm.consent]\nemail = \"news\"");
    let rows: Vec<(usize, &str)> = (1..=MANY).map(|id| (id, "no")).collect();
    crm_consents(&installation, &rows);
    // all their opt-outs come from first sight: too many, so they and their contacts are held
    assert_eq!(installation.run(&["sync"]).await.code, 4);
    assert!(installation.held().is_empty(), "nobody is made who wants no mail and is not unsubscribed");
    let status = installation.run(&["status", "--output", "json"]).await.json();
    assert_eq!((&status["held"], &status["deeds"][0]["state"]), (&12.into(), &"held".into()), "{status}");
    assert_eq!(installation.run(&["approve", "1", "--yes"]).await.code, 0);
    let status = installation.run(&["status", "--output", "json"]).await.json();
    let lanes = &status["lanes"];
    assert_eq!((&lanes[0]["lane"], &lanes[0]["deeds"]), (&"opt-out and erase".into(), &12.into()), "{status}");
    // the lanes are what waits
    assert_eq!((&lanes[0]["contacts"], &status["open"]), (&0.into(), &12.into()), "{status}");
    assert_eq!((&lanes[1]["contacts"], &lanes[1]["estimated_seconds_to_empty"]), (&12.into(), &30.into()), "{status}");
    let words = installation.run(&["status"]).await.stdout;
    assert!(words.contains("about 30.0 s") && words.contains("unsubscribe"), "{words}");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!((installation.held().len(), installation.sandbox.unsubscribed().len()), (MANY, MANY));
}

/// The sender looks while pages are recorded: moments between two clocks make nobody late.
#[tokio::test(flavor = "multi_thread")]
async fn a_witnessed_yes_is_told_by_a_sync() {
    let installation = authorized().await;
    append(&installation, "[source.crm.consent]\nemail = \"news\"");
    crm_consents(&installation, &[(1, "no"), (2, "yes")]);
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    for round in 0..5 {
        crm_consents(&installation, &[(1, "yes"), (2, "yes")]);
        let ran = installation.run(&["sync"]).await;
        assert_eq!((ran.code, installation.sandbox.unsubscribed().len()), (0, 0), "round {round}: {ran:?}");
        crm_consents(&installation, &[(1, "no"), (2, "yes")]);
        let ran = installation.run(&["sync"]).await;
        assert_eq!((ran.code, installation.sandbox.unsubscribed().len()), (0, 1), "round {round}: {ran:?}");
    }
}

/// One no is enough for an address: whoever asks about the other contact is told.
#[tokio::test(flavor = "multi_thread")]
async fn who_gets_no_mail_because_of_another_contact_is_explained() {
    let installation = authorized().await;
    append(&installation, "[identity]\nunique = []\n\n[source.crm.consent]\nemail = \"news\"");
    let rows = "id,email,town,news\n1,ann@example.com,Kyiv,yes\n2,ann@example.com,Lviv,no\n";
    std::fs::write(installation.path("contacts.csv"), rows).unwrap();
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    let story = installation.run(&["explain", "1", "--offline"]).await.stdout;
    assert!(story.contains("its address gets no mail all the same: contact crm:2 has it, and says no"), "{story}");
    let story = installation.run(&["explain", "2", "--offline"]).await.stdout;
    assert!(!story.contains("all the same"), "{story}");
}
