//! What an operator meets who sets the program up: whose the state is, what `check` says, what errors tell to do.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

#[path = "support/program.rs"]
mod program;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use http::StatusCode;
use program::{Installation, PATIENCE};
use reteno_sync::sandbox::{CallKind, Canned, Effect, Fault};
use rustix::process::Signal;

fn edit(installation: &Installation, change: impl Fn(String) -> String) {
    let path = installation.path("config.toml");
    let text = change(std::fs::read_to_string(&path).unwrap());
    std::fs::write(path, text).unwrap();
}

/// Moves the state to a directory of this name.
fn state_in(installation: &Installation, name: &str) -> std::path::PathBuf {
    let path = installation.path(name);
    edit(installation, |text| {
        let rest = text.split_once('\n').unwrap().1;
        format!("state_dir = \"{}\"\n{rest}", path.display())
    });
    path
}

/// Every command that opens the state or would make it.
const WITH_STATE: [&[&str]; 15] = [
    &["plan"],
    &["sync"],
    &["run"],
    &["baseline", "--yes"],
    &["--authorize"],
    &["authorize", "--new-account"],
    &["reconcile"],
    &["source", "test", "crm"],
    &["status"],
    &["explain", "1"],
    &["approve"],
    &["rejected", "list"],
    &["rejected", "export", "-"],
    &["consent", "list"],
    &["erased", "lift", "1"],
];

#[tokio::test(flavor = "multi_thread")]
async fn root_makes_no_state_in_a_directory_that_is_the_services() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // both units name the state after their user; before the first start nobody owns it
    let installation = Installation::begin().await;
    let state = state_in(&installation, "nobody");
    for command in WITH_STATE {
        let refused = installation.run(command).await;
        assert_eq!(refused.code, 1, "{command:?}: {refused:?}");
        assert!(!state.exists(), "{command:?}");
    }
    let refused = installation.run(&["plan"]).await;
    assert!(refused.stderr.contains("belongs to user nobody"), "{refused:?}");
    assert!(refused.stderr.contains("hint: run the command as that user: sudo -u nobody reteno-sync"), "{refused:?}");
    // the same where root made the directory, or the service owns it
    std::fs::create_dir(&state).unwrap();
    for owner in [0, 65534] {
        std::os::unix::fs::chown(&state, Some(owner), Some(owner)).unwrap();
        for command in WITH_STATE {
            let refused = installation.run(command).await;
            assert_eq!(refused.code, 1, "{command:?}: {refused:?}");
            assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "{command:?}");
        }
    }
    let refused = installation.run(&["plan"]).await;
    assert!(refused.stderr.contains("sudo -u nobody"), "{refused:?}");
    // a user that no list knows is named by the number
    std::os::unix::fs::chown(&state, Some(54321), Some(54321)).unwrap();
    let refused = installation.run(&["plan"]).await;
    assert!(refused.stderr.contains("sudo -u '#54321' reteno-sync"), "{refused:?}");
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Waits until so many alerts stand.
async fn alerts_become(installation: &Installation, count: usize) -> Vec<serde_json::Value> {
    let look = async {
        loop {
            let status = installation.run(&["status", "--output", "json"]).await.json();
            let alerts = status["alerts"].as_array().unwrap().clone();
            if alerts.len() == count {
                return alerts;
            }
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("so many alerts stand")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_of_a_bad_file_is_an_alert_until_a_good_one_is_loaded() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    let good = std::fs::read_to_string(installation.path("config.toml")).unwrap();
    let mut daemon = installation.start(&["run"]);
    daemon.says("is running").await;
    std::fs::write(installation.path("config.toml"), good.replace("client_secret =", "client_sekret =")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.says("the old configuration stays").await;
    std::fs::write(installation.path("config.toml"), &good).unwrap();
    let alert = alerts_become(&installation, 1).await.remove(0);
    let text = alert["text"].as_str().unwrap();
    assert!(text.contains("was not reloaded") && text.contains("client_sekret is not a known key"), "{alert}");
    assert!(!text.contains("sandbox-secret") && !text.contains('\n'), "{alert}");
    daemon.signal(Signal::HUP);
    daemon.says("is running").await;
    alerts_become(&installation, 0).await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
}

/// What `check` says of this configuration, which is right.
async fn doubts(installation: &Installation) -> Vec<String> {
    let checked = installation.run(&["check", "--output", "json"]).await;
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(!format!("{checked:?}").contains("sandbox-secret"), "{checked:?}");
    let document = checked.json();
    document["doubts"].as_array().unwrap().iter().map(|doubt| doubt.as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_who_else_may_read_or_write() {
    let installation = Installation::begin().await;
    let (config, state) = (installation.path("config.toml"), installation.path("state"));
    let one = |doubts: Vec<String>, words: &str| {
        assert!(doubts.len() == 1 && doubts[0].contains(words), "{words}: {doubts:?}");
    };
    for (bits, words) in
        [(0o640, ""), (0o644, "holds a secret and can be read by every user"), (0o642, "can be changed")]
    {
        mode(&config, bits);
        let said = doubts(&installation).await;
        if words.is_empty() { assert_eq!(said, [""; 0]) } else { one(said, words) }
    }
    mode(&config, 0o640);
    std::fs::create_dir(&state).unwrap();
    for (bits, words) in [(0o700, ""), (0o755, ""), (0o777, "can be written to"), (0o770, "can be written to")] {
        mode(&state, bits);
        let said = doubts(&installation).await;
        if words.is_empty() { assert_eq!(said, [""; 0]) } else { one(said, words) }
    }
    mode(&state, 0o700);
    // the file that the unit hands over beside a secret that stands in the configuration
    std::fs::write(installation.path("reteno_client_secret"), "other\n").unwrap();
    mode(&installation.path("reteno_client_secret"), 0o600);
    one(doubts(&installation).await, "reteno.client_secret is set, and");
    // a file with the secret that everybody may read is an error
    edit(&installation, |text| {
        text.replace("client_secret = \"sandbox-secret\"", "client_secret_file = \"reteno_client_secret\"")
    });
    mode(&installation.path("reteno_client_secret"), 0o604);
    let checked = installation.run(&["check"]).await;
    assert!(checked.code == 78 && checked.stderr.contains("is open to every user"), "{checked:?}");
    // then it is no matter who reads the configuration
    mode(&installation.path("reteno_client_secret"), 0o600);
    mode(&config, 0o644);
    one(doubts(&installation).await, "reteno.client_secret_file is set, and");
    // what a tap reads
    std::fs::remove_file(installation.path("reteno_client_secret")).unwrap();
    edit(&installation, |text| {
        text.replace("client_secret_file = \"reteno_client_secret\"", "").replace(
            "kind = \"file\"\npath = \"contacts.csv\"",
            "kind = \"singer\"\ncommand = [\"tap-x\"]\nconfig = \"tap.json\"\nstream = \"x\"",
        )
    });
    std::fs::write(installation.path("tap.json"), "{}").unwrap();
    mode(&installation.path("tap.json"), 0o644);
    one(doubts(&installation).await, "the tap's configuration");
    mode(&installation.path("tap.json"), 0o600);
    assert_eq!(doubts(&installation).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_where_nothing_is_read_and_where_the_browsers_answer_is_lost() {
    let installation = Installation::begin().await;
    mode(&installation.path("config.toml"), 0o600);
    let good = std::fs::read_to_string(installation.path("config.toml")).unwrap();
    let with =
        |redirect: &str, listen: &str| good.replace(program::REDIRECT, redirect).replace("address = \"off\"", listen);
    let cases = [
        (with("http://127.0.0.1:8400/callback", "address = \"127.0.0.1:8400\""), ""),
        (with("http://127.0.0.1:8400/callback", "address = \"0.0.0.0:8400\""), ""),
        (with("http://localhost:8400/callback", "address = \"127.0.0.1:8400\""), ""),
        (with("http://127.0.0.1:8400/callback", "address = \"off\""), ""),
        (with("https://ops.example.com/cb", "address = \"127.0.0.1:8400\""), ""),
        (with("http://127.0.0.1:8400/callback", "address = \"127.0.0.1:8500\""), "listen.address is 127.0.0.1:8500"),
        (with("http://127.0.0.1:8400/callback", "address = \"192.0.2.1:8400\""), "listen.address is 192.0.2.1:8400"),
        (
            with("http://127.0.0.1:8400/callback", "address = \"off\"\npublic_address = \"0.0.0.0:8400\""),
            "have the same port 8400",
        ),
        (with("http://127.0.0.1:8400/back", "address = \"127.0.0.1:8400\""), "only http://127.0.0.1:PORT/callback"),
        (good.split("[source.crm]").next().unwrap().to_owned(), "no source is configured"),
    ];
    for (text, words) in cases {
        std::fs::write(installation.path("config.toml"), &text).unwrap();
        let said = doubts(&installation).await;
        let is_right = if words.is_empty() { said.is_empty() } else { said.len() == 1 && said[0].contains(words) };
        assert!(is_right, "{words}: {said:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blank_credential_is_none() {
    // the units hand one over where its file is not there
    let installation = Installation::begin().await;
    let credentials = installation.path("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("reteno_client_secret"), "\n").unwrap();
    mode(&credentials.join("reteno_client_secret"), 0o400);
    let check = || async {
        let mut command = installation.command(&["check"]);
        command.env("CREDENTIALS_DIRECTORY", &credentials);
        command.output().await.unwrap()
    };
    let with_secret = check().await;
    assert!(with_secret.status.success() && with_secret.stderr.is_empty(), "{with_secret:?}");
    edit(&installation, |text| text.replace("client_secret = \"sandbox-secret\"", ""));
    let without = check().await;
    assert!(String::from_utf8_lossy(&without.stderr).contains("no client secret"), "{without:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_names_the_cause_and_not_a_question_of_rights() {
    let installation = Installation::begin().await;
    // what is missing
    std::fs::remove_file(installation.path("contacts.csv")).unwrap();
    let missing = installation.run(&["plan"]).await;
    assert!(missing.code == 1 && missing.stderr.contains("hint: it is missing: correct the path"), "{missing:?}");
    assert!(!missing.stderr.contains("access"), "{missing:?}");
    // what is written in another encoding than is configured
    let rows: Vec<u8> = (1..=50)
        .flat_map(|id| [format!("{id},c{id}@example.com,").as_bytes(), b"\xca\xe8\xbf\xe2\n"].concat())
        .collect();
    std::fs::write(installation.path("contacts.csv"), [b"id,email,town\n".as_slice(), &rows].concat()).unwrap();
    let garbled = installation.run(&["plan"]).await;
    assert!(
        garbled.stderr.contains("50 rows with bytes that are not valid UTF-8: set encoding of this source"),
        "{garbled:?}"
    );
    source_key(&installation, "encoding = \"windows-1251\"");
    let read = installation.run(&["plan"]).await;
    assert!(
        !read.stderr.contains("not valid")
            && read.stdout.lines().any(|line| line.split_whitespace().eq(["create", "contacts", "50"])),
        "{read:?}"
    );
}

/// A key of the source itself.
fn source_key(installation: &Installation, line: &str) {
    edit(installation, |text| text.replace("path = \"contacts.csv\"", &format!("path = \"contacts.csv\"\n{line}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_of_a_narrow_scope_is_told_of_full_access() {
    let installation = Installation::begin().await;
    let begun = installation.run(&["--authorize"]).await;
    assert!(begun.stdout.contains("needs the scope \"Full access to API\""), "{begun:?}");
    installation.authorize().await;
    let refused = Effect::Answer(Canned::json(StatusCode::FORBIDDEN, r#"{"message":"no rights"}"#));
    installation.sandbox.fault(Fault::on(CallKind::SubmitContacts, refused).always());
    assert_eq!(installation.run(&["sync", "--wait", "2s"]).await.code, 75);
    let status = installation.run(&["status"]).await;
    assert!(status.stdout.contains("give the app the scope \"Full access to API\""), "{status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_rejections_has_one_entry_a_reason() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    let bad = (1..=12).map(|id| format!("k{id},nobody,Lviv\n")).collect::<Vec<_>>().concat();
    // one address of three contacts, of whom one is sent; an id that speaks to the terminal
    let shared = "s1,s@example.com,a\ns2,s@example.com,b\ns3,s@example.com,c\n\u{202e}9,nobody,d\n";
    std::fs::write(installation.path("contacts.csv"), format!("id,email,town\n{bad}{shared}")).unwrap();
    assert_eq!(installation.run(&["sync"]).await.code, 3);
    let list = installation.run(&["rejected", "list"]).await.stdout;
    assert_eq!(list.matches("the e-mail address has no @ sign").count(), 1, "{list}");
    assert!(list.contains("13 contacts of crm: record not usable"), "{list}");
    assert!(list.contains("k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12"), "{list}");
    assert!(list.contains("2 contacts of crm: another is sent"), "{list}");
    assert!(list.ends_with("15 in all\n") && !list.contains('\u{202e}'), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_who_runs_when_each_source_is_read_and_what_adds_up() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    source_key(&installation, "schedule = \"0 0 1 1 *\"\nreconcile = \"0 0 1 6 *\"");
    assert_eq!(installation.run(&["sync"]).await.code, 0);
    let status = installation.run(&["status", "--output", "json"]).await.json();
    assert_eq!((&status["daemon"]["runs"], &status["daemon"]["sender"]), (&false.into(), &serde_json::Value::Null));
    assert_eq!(status["sources"][0]["next_read_at"], serde_json::Value::Null, "nobody reads");
    let words = installation.run(&["status"]).await.stdout;
    assert!(words.contains("does not run") && words.contains("not planned"), "{words}");
    // an answer that does not come keeps a call under way
    installation.crm_says(&[("1", "Odesa"), ("2", "Lviv")]);
    installation.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseRequest).always());
    assert_eq!(installation.run(&["sync", "--wait", "1s"]).await.code, 75);
    let mut daemon = installation.start(&["run"]);
    daemon.says("is running").await;
    let status = installation.run(&["status", "--output", "json"]).await.json();
    assert_eq!(status["daemon"]["runs"], true, "{status}");
    let version = format!("version {})", env!("CARGO_PKG_VERSION"));
    assert!(status["daemon"]["sender"].as_str().unwrap().ends_with(&version), "{status}");
    let source = &status["sources"][0];
    for key in ["last_started_at", "last_ended_at", "full_read_at", "next_read_at", "has_all_until"] {
        let is_time =
            source[key].as_str().is_some_and(|at| at.len() == "2026-11-30T10:00:00.000Z".len() && at.ends_with('Z'));
        assert!(is_time, "{key}: {source}");
    }
    assert!(source["next_read_at"].as_str() > source["last_ended_at"].as_str(), "{source}");
    let lanes = status["lanes"].as_array().unwrap().iter().map(|lane| lane["contacts"].as_u64().unwrap()).sum::<u64>();
    let rest = status["in_calls"].as_u64().unwrap() + status["not_weighed_yet"].as_u64().unwrap();
    assert_eq!(status["open"], lanes + rest, "{status}");
    assert_eq!(status["open"], 1, "{status}");
    let words = installation.run(&["status"]).await.stdout;
    assert!(words.contains("runs: `reteno-sync run` (process"), "{words}");
    assert!(words.lines().any(|line| line.split_whitespace().eq(["all", "that", "waits", "1"])), "{words}");
    // and what was sent of the one that waits
    let story = installation.run(&["explain", "1", "--offline", "--output", "json"]).await.json();
    let call = &story["checkpoint"]["calls"][0];
    assert_eq!((&call["call"], &call["answer"]), (&"bulk".into(), &"no answer yet".into()), "{story}");
    assert!(call["posted_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{story}");
    daemon.signal(Signal::TERM);
    daemon.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_is_explained_by_its_address_which_no_message_repeats() {
    let installation = Installation::begin().await;
    installation.authorize().await;
    edit(&installation, |text| {
        text.replace("town = \"town\"", "town = \"town\"\nsms = { path = \"phone\", region = \"UA\" }")
    });
    let rows = "1,ann@example.com,Kyiv,0671112233\n2,bob@example.com,Lviv,\n3,bob@example.com,Odesa,\n";
    std::fs::write(installation.path("contacts.csv"), format!("id,email,town,phone\n{rows}")).unwrap();
    assert_eq!(installation.run(&["sync"]).await.code, 3);
    for address in ["ann@example.com", "Ann@Example.com", "crm:ann@example.com", "+380671112233", "067 111-22-33"] {
        let story = installation.run(&["explain", address, "--offline"]).await;
        assert!(story.code == 0 && story.stdout.contains("contact 1 of source crm"), "{address}: {story:?}");
        assert!(!format!("{story:?}").contains(address), "{address}: {story:?}");
    }
    let several = installation.run(&["explain", "bob@example.com"]).await;
    assert!(several.code == 1 && several.stderr.contains("say which: crm:2, crm:3"), "{several:?}");
    let nobody = installation.run(&["explain", "eve@example.com"]).await;
    assert!(nobody.code == 1 && nobody.stderr.contains("no contact with this e-mail is known"), "{nobody:?}");
    for said in [several, nobody] {
        assert!(!format!("{said:?}").contains("@example.com"), "{said:?}");
    }
    // figures that are an id stay one
    assert_eq!(installation.run(&["explain", "1", "--offline"]).await.code, 0);
}
