//! Every command as its user runs it: what it prints, what it leaves alone, and the code it ends with.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

#[path = "support/program.rs"]
mod program;

use std::collections::BTreeSet;
use std::process::Stdio;

use http::StatusCode;
use program::{Installation, PATIENCE, happens, watch};
use reteno_sync::sandbox::{CallKind, Canned, Effect, Fault, Phase};
use rustix::process::Signal;

async fn authorized() -> Installation {
    let installation = Installation::begin().await;
    installation.authorize().await;
    installation
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_brings_everything_over_and_a_second_one_only_what_changed() {
    let installation = authorized().await;
    let first = installation.run(&["sync", "--output", "json"]).await;
    assert_eq!(first.code, 0, "{first:?}");
    let document = first.json();
    assert_eq!(document["sources"][0]["balance"]["read"], 2);
    assert_eq!((&document["sent"]["sent"], &document["open"]), (&2.into(), &0.into()));
    assert_eq!(installation.held(), [("1".into(), "Kyiv".into()), ("2".into(), "Lviv".into())]);
    installation.crm_says(&[("1", "Kyiv"), ("2", "Odesa")]);
    let second = installation.run(&["sync"]).await;
    assert_eq!(second.code, 0);
    assert!(second.stdout.contains("sent 1 contacts in 1 calls: acknowledged 1, rejected 0; open 0"), "{second:?}");
    assert_eq!(installation.sandbox.tally().contacts_received, 3);
    assert_eq!(installation.held()[1].1, "Odesa");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_contact_is_code_3_and_stands_in_the_list_with_its_reason() {
    let installation = authorized().await;
    installation.crm_says(&[("1", "Kyiv"), ("2", "Lviv"), ("3", "Odesa")]);
    let file = std::fs::read_to_string(installation.path("contacts.csv")).unwrap();
    std::fs::write(installation.path("contacts.csv"), file.replace("c3@example.com", "nobody")).unwrap();
    assert_eq!(installation.run(&["sync"]).await.code, 3);
    let list = installation.run(&["rejected", "list"]).await;
    assert_eq!(list.code, 0);
    assert!(list.stdout.contains("the e-mail address has no @ sign"), "{list:?}");
    assert!(!list.stdout.contains("nobody"), "the value is not shown: {list:?}");
    let document = installation.run(&["rejected", "list", "--output", "json"]).await.json();
    assert_eq!(
        (&document["rejections"][0]["key"], &document["rejections"][0]["kind"]),
        (&"3".into(), &"record".into())
    );
    // mended in the CRM it leaves the list
    std::fs::write(installation.path("contacts.csv"), file).unwrap();
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert!(installation.run(&["rejected", "list"]).await.stdout.contains("nothing is rejected"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_shows_what_a_sync_would_do_and_does_nothing() {
    let installation = authorized().await;
    let calls = installation.sandbox.tally().imports_accepted;
    for _ in 0..2 {
        let plan = installation.run(&["plan", "--detailed-exitcode", "--output", "json"]).await;
        assert_eq!(plan.code, 10, "{plan:?}");
        let document = plan.json();
        assert_eq!((&document["create"], &document["update"], &document["calls"]), (&2.into(), &0.into(), &1.into()));
        assert_eq!(document["samples"][0]["key"], "1");
    }
    assert_eq!(installation.run(&["plan"]).await.code, 0, "only on demand is that a code of its own");
    assert_eq!(installation.sandbox.tally().imports_accepted, calls);
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    let plan = installation.run(&["plan", "--detailed-exitcode"]).await;
    assert_eq!(plan.code, 0, "{plan:?}");
}

/// The same records, decided by the same code: repeated ids, shared addresses, unusable fields and records, opt-outs that
/// go out before their contact.
#[tokio::test(flavor = "multi_thread")]
async fn a_plan_counts_as_the_sync_after_it() {
    let installation = authorized().await;
    let config = installation.path("config.toml");
    let text = std::fs::read_to_string(&config).unwrap() + "[source.crm.consent]\nemail = \"news\"\n";
    std::fs::write(&config, text).unwrap();
    let mut rows = String::from("id,email,town,news\n");
    for id in 1..=40 {
        // two share each address of the first ten
        let address = if id <= 10 { id / 2 } else { id };
        let news = if id % 9 == 0 { "no" } else { "" };
        rows.extend([format!("{id},c{address}@example.com,Kyiv,{news}\n")]);
    }
    rows += "7,other@example.com,Lviv,\n41,not an address,Lviv,\n,nobody@example.com,Lviv,\n";
    std::fs::write(installation.path("contacts.csv"), rows).unwrap();
    // what a command that was killed has left
    std::fs::create_dir(installation.path("state/plan-killed")).unwrap();
    std::fs::write(installation.path("state/plan-killed/owner"), "").unwrap();
    for _ in 0..2 {
        let plan = installation.run(&["plan", "--output", "json"]).await.json();
        let words = installation.run(&["plan"]).await.stdout;
        let before = installation.sandbox.tally();
        let sync = installation.run(&["sync", "--output", "json"]).await.json();
        let after = installation.sandbox.tally();
        assert_eq!(plan["sources"][0]["balance"], sync["sources"][0]["balance"]);
        let sent = after.contacts_received - before.contacts_received;
        assert_eq!(plan["create"].as_u64().unwrap() + plan["update"].as_u64().unwrap(), sent, "{plan}");
        let told: u64 =
            plan["rejections"].as_array().unwrap().iter().map(|row| row["contacts"].as_u64().unwrap()).sum();
        assert_eq!(told, sync["rejections"].as_u64().unwrap(), "{plan}");
        assert!(words.contains("cannot be sent, because") && words.contains("the e-mail"), "{words}");
        // some move, one leaves, one address is free again
        let file = std::fs::read_to_string(installation.path("contacts.csv")).unwrap();
        let file =
            file.replace("20,c20@example.com,Kyiv,\n", "").replace("3,c1@example.com,Kyiv", "3,c1@example.com,Lviv");
        let file = file
            .replace("5,c2@example.com", "5,c222@example.com")
            .replace("38,c38@example.com,Kyiv,", "38,c38@example.com,Kyiv,no");
        std::fs::write(installation.path("contacts.csv"), file).unwrap();
    }
    let left: Vec<_> = std::fs::read_dir(installation.path("state"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("plan-"))
        .collect();
    assert!(left.is_empty(), "the copy is gone: {left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_who_would_get_the_double_opt_in() {
    let installation = authorized().await;
    let config = installation.path("config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + "[source.crm.form]\n").unwrap();
    let plan = installation.run(&["plan", "--output", "json"]).await.json();
    assert_eq!((&plan["double_opt_ins"], &plan["calls"]), (&2.into(), &2.into()), "{plan}");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    let after = installation.run(&["plan", "--detailed-exitcode"]).await;
    assert_eq!(after.code, 0, "{after:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_a_restored_database_says_that_everything_is_due() {
    let installation = authorized().await;
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    std::fs::remove_file(installation.path("state/generation")).unwrap();
    let plan = installation.run(&["plan", "--detailed-exitcode"]).await;
    assert_eq!(plan.code, 10, "{plan:?}");
    assert!(plan.stderr.contains("older copy"), "{plan:?}");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!(installation.sandbox.tally().contacts_received, 4);
    let status = installation.run(&["status", "--output", "json"]).await.json();
    assert_eq!(status["alerts"].as_array().map(Vec::len), Some(0), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_baseline_sends_nothing_and_later_changes_are_sent() {
    let installation = authorized().await;
    let asked = installation.run(&["baseline"]).await;
    assert_eq!(asked.code, 1);
    assert!(asked.stderr.contains("--yes"), "{asked:?}");
    assert_eq!(installation.run(&["baseline", "--yes"]).await.code, 0);
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!(installation.sandbox.tally().contacts_received, 0);
    installation.crm_says(&[("1", "Kyiv"), ("2", "Odesa")]);
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!(installation.sandbox.tally().contacts_received, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_contact_is_explained_from_the_record_to_the_acknowledgement() {
    let installation = authorized().await;
    let unknown = installation.run(&["explain", "77"]).await;
    assert_eq!(unknown.code, 1, "no checkpoint knows it, no source has it: {unknown:?}");
    let before = installation.run(&["explain", "2"]).await;
    assert!(before.stdout.contains("the checkpoint does not know it"), "{before:?}");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    let story = installation.run(&["explain", "crm:2", "--output", "json"]).await.json();
    assert_eq!(story["record"]["fields"]["town"], "Lviv");
    assert_eq!(story["checkpoint"]["waits_for"], "nothing: Reteno holds what the CRM wants");
    assert!(story["checkpoint"]["reteno_id"].is_i64(), "{story}");
    let offline = installation.run(&["explain", "2", "--offline"]).await;
    assert!(offline.stdout.contains("--offline") && !offline.stdout.contains("Lviv"), "{offline:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_tells_sources_contacts_and_tokens() {
    let installation = authorized().await;
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    let status = installation.run(&["status"]).await;
    assert_eq!(status.code, 0);
    for words in ["crm", "Sandbox Ltd", "access token ends in"] {
        assert!(status.stdout.contains(words), "{words}: {status:?}");
    }
    let document = installation.run(&["status", "--output", "json"]).await.json();
    assert_eq!((&document["contacts"], &document["acknowledged"]), (&2.into(), &2.into()));
    assert_eq!(document["sources"][0]["name"], "crm");
    assert!(
        document["tokens"]["access_token_expires_at"]
            .as_str()
            .is_some_and(|at| at.starts_with("20") && at.ends_with('Z')),
        "{document}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sender_is_temporary_and_names_the_first() {
    let installation = authorized().await;
    installation.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::HoldAnswer));
    let posted = watch(&installation, CallKind::SubmitContacts, Phase::After);
    let first = installation.start(&["sync"]);
    happens(posted).await;
    let second = installation.run(&["sync"]).await;
    assert_eq!(second.code, 75);
    assert!(second.stderr.contains("`reteno-sync sync` (process"), "{second:?}");
    // who only looks may look
    assert_eq!(installation.run(&["status"]).await.code, 0);
    installation.sandbox.release();
    first.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_open_at_the_end_of_the_wait_is_temporary() {
    let installation = authorized().await;
    installation.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport));
    let open = installation.run(&["sync", "--wait", "1s"]).await;
    assert_eq!(open.code, 75, "{open:?}");
    assert!(open.stderr.contains("2 contacts are not acknowledged yet"), "{open:?}");
    installation.sandbox.release_stuck();
    assert_eq!(installation.run(&["sync"]).await.code, 0, "the next run goes on");
    assert_eq!(installation.sandbox.tally().imports_accepted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_cannot_be_read_is_a_failure_with_its_cause() {
    let installation = authorized().await;
    std::fs::remove_file(installation.path("contacts.csv")).unwrap();
    let failed = installation.run(&["sync", "--output", "json"]).await;
    assert_eq!(failed.code, 1);
    let told = failed.json()["sources"][0]["error"].as_str().unwrap().to_owned();
    assert!(told.contains("contacts.csv") && told.contains("No such file"), "{told}");
    // the next good read ends what `status` shows
    installation.crm_says(&[("1", "Kyiv")]);
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    let status = installation.run(&["status", "--output", "json"]).await.json();
    assert!(
        status["alerts"].as_array().unwrap().is_empty() && status["sources"][0]["last_error"].is_null(),
        "{status}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_tokens_a_sync_ends_with_77_and_says_how_to_get_them() {
    let installation = Installation::begin().await;
    let refused = installation.run(&["sync"]).await;
    assert_eq!(refused.code, 77);
    assert!(refused.stderr.contains("--authorize"), "{refused:?}");
    assert_eq!(installation.run(&["plan"]).await.code, 0, "planning does without");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_78_for_every_command_that_reads_it() {
    let installation = Installation::begin().await;
    let text = std::fs::read_to_string(installation.path("config.toml")).unwrap();
    std::fs::write(installation.path("config.toml"), text.replace("town = ", "twon = ")).unwrap();
    for command in [
        "check",
        "run",
        "sync",
        "plan",
        "status",
        "rejected",
        "baseline",
        "authorize",
        "approve",
        "consent",
        "erased lift 1",
        "rejected retry",
        "rejected ignore 1",
        "rejected export -",
        "consent undo --cycle 1",
    ] {
        let refused = installation.run(&command.split(' ').collect::<Vec<_>>()).await;
        assert_eq!(refused.code, 78, "{command}: {refused:?}");
        assert!(refused.stderr.contains("twon") && refused.stderr.contains("town"), "{refused:?}");
    }
    std::fs::write(installation.path("config.toml"), text).unwrap();
    let checked = installation.run(&["check"]).await;
    assert_eq!((checked.code, checked.stdout.as_str()), (0, "ok\n"));
    assert_eq!(installation.run(&["check", "--output", "json"]).await.json()["ok"], true);
    assert!(installation.run(&["check", "--output", "json"]).await.json()["upload_obstacles"].is_array());
    std::fs::remove_file(installation.path("config.toml")).unwrap();
    let absent = installation.run(&["check"]).await;
    assert_eq!(absent.code, 78, "{absent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_a_start_would_miss() {
    let installation = Installation::begin().await;
    let text = std::fs::read_to_string(installation.path("config.toml")).unwrap();
    let without = |key: &str| text.lines().filter(|line| !line.starts_with(key)).collect::<Vec<_>>().join("\n");
    std::fs::write(installation.path("config.toml"), without("client_id")).unwrap();
    assert_eq!(installation.run(&["check"]).await.code, 78);
    std::fs::write(installation.path("config.toml"), without("client_secret")).unwrap();
    let checked = installation.run(&["check"]).await;
    assert_eq!(checked.code, 0);
    assert!(checked.stderr.contains("no client secret"), "{checked:?}");
    // the file that the unit's credential comes from is found in a shell, too
    std::fs::write(installation.path("reteno_client_secret"), "sandbox-secret\n").unwrap();
    std::fs::set_permissions(
        installation.path("reteno_client_secret"),
        std::os::unix::fs::PermissionsExt::from_mode(0o640),
    )
    .unwrap();
    let checked = installation.run(&["check"]).await;
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""));
    installation.authorize().await;
    assert_eq!(installation.run(&["sync"]).await.code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_is_2() {
    let installation = Installation::begin().await;
    for arguments in [["synk", "-q"], ["sync", "--wait=soon"], ["--authorize", "sync"], ["rejected", "forget"]] {
        assert_eq!(installation.run(&arguments).await.code, 2, "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_of_other_programs_need_not_be_text() {
    let installation = Installation::begin().await;
    let mut command = installation.command(&["check"]);
    let odd: std::ffi::OsString = std::os::unix::ffi::OsStringExt::from_vec(vec![0xff]);
    let output = command.env("OTHER", odd).output().await.unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_cannot_be_written_is_a_failure() {
    let installation = Installation::begin().await;
    for command in [["check", "-q"], ["man", "-q"], ["completions", "bash"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let status = installation.command(&command).stdout(Stdio::from(full)).status().await.unwrap();
        assert_eq!(status.code(), Some(1), "{command:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manual_and_the_completions_know_every_command() {
    let installation = Installation::begin().await;
    let manual = installation.run(&["man"]).await.stdout;
    let script = installation.run(&["completions", "bash"]).await.stdout;
    for command in [
        "run",
        "sync",
        "plan",
        "approve",
        "status",
        "explain",
        "rejected",
        "rejected list",
        "rejected ignore",
        "rejected retry",
        "rejected export",
        "consent",
        "consent list",
        "consent undo",
        "erased",
        "erased lift",
        "baseline",
        "check",
        "authorize",
        "demo",
    ] {
        assert!(manual.contains(&format!(".SH \"reteno-sync {command}\"")), "{command} in the manual");
        let in_script = format!("reteno__sync__subcmd__{}", command.replace(' ', "__subcmd__"));
        assert!(script.contains(&in_script), "{command} in the script");
    }
    for words in ["detailed", "EXIT STATUS", "77"] {
        assert!(manual.contains(words), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn for_programs_a_failure_is_a_line_of_the_log() {
    let installation = Installation::begin().await;
    let failed = installation.run(&["--log-format", "json", "sync"]).await;
    assert_eq!(failed.code, 77);
    let line: serde_json::Value = serde_json::from_str(failed.stderr.lines().last().unwrap()).unwrap();
    assert_eq!((&line["level"], line["hint"].is_string()), (&"ERROR".into(), true), "{line}");
}

/// At rest nothing names a person or opens a door: neither the checkpoint nor what was printed.
#[tokio::test(flavor = "multi_thread")]
async fn at_rest_no_file_and_no_log_holds_a_person_or_a_secret() {
    let installation = authorized().await;
    installation.sandbox.expire_access_tokens();
    let refused = Effect::Answer(Canned::json(StatusCode::BAD_REQUEST, r#"{"message":"c1@example.com is odd"}"#));
    installation.sandbox.fault(Fault::on(CallKind::SubmitContacts, refused));
    let ran = installation.run(&["-v", "-v", "sync"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let mut sought = installation.sandbox.secrets();
    assert!(sought.len() >= 4, "a code, two access tokens, a refresh token");
    sought.extend(["c1@example.com", "c2@example.com", "Kyiv", "Lviv", "sandbox-secret"].map(str::to_owned));
    let log = ran.stdout + &ran.stderr;
    let mut files = 0;
    for entry in std::fs::read_dir(installation.path("state")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        files += 1;
        for text in &sought {
            let found = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!found, "{text} in {}", path.display());
        }
    }
    assert!(files >= 4, "database, key, generation, lock");
    for text in &sought {
        assert!(!log.contains(text.as_str()), "{text} in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_well_and_its_checkpoint_names_nobody() {
    let installation = Installation::begin().await;
    let kept = installation.path("demo");
    let ran = installation.run(&["demo", "--output", "json", "--keep", kept.to_str().unwrap()]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let figures = ran.json()["counted_by_the_sandbox"].clone();
    assert_eq!((&figures["contacts wrong"], &figures["imports that ended in ERROR"]), (&0.into(), &1.into()));
    assert_eq!((&figures["identical bodies repeated"], &figures["pairs of tokens given"]), (&1.into(), &2.into()));
    assert_eq!(figures["imports of one contact at the same time"], 0);
    let people = std::fs::read_to_string(kept.join("contacts.csv")).unwrap();
    let cells = people.lines().skip(1).flat_map(|line| line.split(','));
    let personal = |cell: &&str| cell.contains('@') || cell.trim_start_matches('+').len() > 8;
    let digits = |cell: &str| cell.chars().filter(char::is_ascii_digit).collect::<String>();
    let sought: BTreeSet<String> = cells
        .filter(personal)
        .flat_map(|cell| [cell.to_lowercase(), digits(cell)])
        .filter(|cell| cell.len() > 8)
        .collect();
    assert!(sought.len() > 9_000, "{}", sought.len());
    let database = std::fs::read(kept.join("state/reteno-sync.db")).unwrap();
    let text = String::from_utf8_lossy(&database).to_lowercase();
    let is_end = |char: char| !(char.is_ascii_alphanumeric() || "@._-".contains(char));
    let found: Vec<_> = text.split(is_end).filter(|word| sought.contains(*word)).collect();
    assert!(found.is_empty(), "{found:?}");
    assert!(!text.contains("@example") && !text.contains("sandbox-secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_is_stopped_leaves_nothing_behind() {
    let installation = Installation::begin().await;
    let mut command = installation.command(&["demo"]);
    command.env("TMPDIR", installation.dir.path()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let directory = || {
        let names = std::fs::read_dir(installation.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("reteno-sync-demo-")).count()
    };
    let mut first_line = String::new();
    let mut output = tokio::io::BufReader::new(child.stdout.take().unwrap());
    tokio::io::AsyncBufReadExt::read_line(&mut output, &mut first_line).await.unwrap();
    assert_eq!(directory(), 1, "{first_line}");
    let id = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(id, Signal::INT).unwrap();
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!((status.code(), directory()), (Some(1), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_reteno_is_temporary() {
    let installation = authorized().await;
    installation.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::RefuseConnection).always());
    let open = installation.run(&["sync", "--wait", "1s"]).await;
    assert_eq!(open.code, 75, "{open:?}");
    assert!(open.stderr.contains("alert=\"outage\"") && open.stderr.contains("no answer from"), "{open:?}");
    let status = installation.run(&["status", "--output", "json"]).await.json();
    assert_eq!(status["alerts"][0]["name"], "outage", "{status}");
    // who starts it again is told what stands, and when it has ended
    installation.sandbox.clear_faults();
    let next = installation.run(&["sync"]).await;
    assert_eq!(next.code, 0, "{next:?}");
    let (told, ended) = next.stderr.split_once("the alert has ended").expect("it ends");
    assert!(told.contains("alert=\"outage\"") && !ended.contains("ERROR"), "{next:?}");
}

/// A tap that speaks of a town alone: the change cannot be sent before its source was read in full, and `sync` says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_waits_for_a_full_read_is_temporary() {
    let installation = authorized().await;
    let text = std::fs::read_to_string(installation.path("config.toml")).unwrap();
    let tap = installation.path("tap.sh");
    let singer = format!(
        "kind = \"singer\"\ncommand = [\"sh\", \"{}\"]\nconfig = \"tap.json\"\ncatalog = \"catalog.json\"\nstream = \"c\"",
        tap.display()
    );
    std::fs::write(installation.path("config.toml"), text.replace("kind = \"file\"\npath = \"contacts.csv\"", &singer))
        .unwrap();
    std::fs::write(installation.path("tap.json"), "{}").unwrap();
    let catalog = r#"{"streams":[{"tap_stream_id":"c","stream":"c","schema":{},"metadata":[
        {"breadcrumb":[],"metadata":{"selected":true,"replication-method":"INCREMENTAL"}}]}]}"#;
    std::fs::write(installation.path("catalog.json"), catalog).unwrap();
    let says = |record: &str| {
        let schema = r#"{"type":"SCHEMA","stream":"c","schema":{"properties":{}},"key_properties":["id"]}"#;
        let record = format!(r#"{{"type":"RECORD","stream":"c","record":{record}}}"#);
        let state = r#"{"type":"STATE","value":{"at":1}}"#;
        std::fs::write(&tap, format!("echo '{schema}'\necho '{record}'\necho '{state}'\n")).unwrap();
    };
    says(r#"{"id":"1","email":"c1@example.com","town":"Kyiv"}"#);
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    says(r#"{"id":"1","town":"Lviv"}"#);
    let waits = installation.run(&["sync"]).await;
    assert_eq!(waits.code, 75, "{waits:?}");
    assert!(waits.stderr.contains("1 contacts wait for a full read"), "{waits:?}");
    says(r#"{"id":"1","email":"c1@example.com","town":"Lviv"}"#);
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    assert_eq!(installation.held(), [("1".into(), "Lviv".into())]);
}
