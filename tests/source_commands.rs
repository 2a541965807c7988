//! `source show`, `source test` and `reconcile` as an operator meets them: the real program, a preset, a sandbox CRM.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

#[path = "support/program.rs"]
mod program;

use program::{Installation, PATIENCE, watch};
use reteno_sync::clock::Clock;
use reteno_sync::sandbox::crm_api::{CrmCallKind, CrmListening, CrmOptions, CrmSandbox, HubCall};
use reteno_sync::sandbox::{CallKind, Phase};
use rustix::process::Signal;

const PEOPLE: usize = 250;
const HOOK: &str = "webhook.secret = \"hook-secret\"\n";

/// An installation whose source is the preset `hubspot` over a sandbox CRM.
async fn with_hubspot(more: &str) -> (Installation, CrmSandbox, CrmListening) {
    let installation = Installation::begin().await;
    let crm = CrmSandbox::new(CrmOptions::default(), Clock::system());
    crm.seed(PEOPLE);
    let listening = crm.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let path = installation.path("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (kept, _) = text.split_once("[source.crm]").unwrap();
    let source = format!(
        "[source.crm]\nkind = \"hubspot\"\nbase_url = \"http://{}\"\nauth.token = \"crm-static-token\"\n\
         on_delete = \"delete\"\n{more}",
        listening.address()
    );
    std::fs::write(path, format!("{kept}{source}")).unwrap();
    (installation, crm, listening)
}

#[tokio::test(flavor = "multi_thread")]
async fn source_test_reads_one_page_shows_three_masked_contacts_and_says_what_to_register() {
    let (installation, crm, _listening) = with_hubspot(HOOK).await;
    let person = crm.people().remove(0);
    let tried = installation.run(&["source", "test", "crm"]).await;
    assert_eq!(tried.code, 0, "{tried:?}");
    for words in ["200 records on the first page", "another page follows", "/hooks/crm in the CRM", "--show-values"] {
        assert!(tried.stdout.contains(words), "{words} is not in {tried:?}");
    }
    assert_eq!(tried.stdout.matches("externalCustomerId").count(), 3);
    let everything = format!("{}{}", tried.stdout, tried.stderr);
    assert!(!everything.contains(&person.email) && !everything.contains(&person.last_name), "{everything}");
    assert_eq!(crm.count(CrmCallKind::Hub(HubCall::Search)), 1, "one page, and no more");
    assert_eq!(installation.sandbox.tally().contacts_received, 0);

    let shown = installation.run(&["source", "test", "crm", "--show-values", "--output", "json"]).await;
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["has_next"], true);
    assert_eq!(shown["contacts"].as_array().unwrap().len(), 3);
    assert_eq!(shown["contacts"][0]["fields"]["externalCustomerId"], format!("hubspot-{}", person.id));

    crm.set_options(|options| options.static_token = "another".to_owned());
    let refused = installation.run(&["source", "test", "crm"]).await;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("status 401") && refused.stderr.contains("hint:"), "{refused:?}");
    assert!(!refused.stderr.contains("crm-static-token"), "{refused:?}");
}

/// The CRM would be asked for it as an id, and its log would keep it.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_nobody_has_is_not_asked_for_in_the_crm() {
    let (installation, crm, _listening) = with_hubspot("").await;
    assert_eq!(installation.run(&["plan"]).await.code, 0);
    let before = crm.calls().len();
    let nobody = installation.run(&["explain", "eve@example.com"]).await;
    assert!(nobody.code == 1 && nobody.stderr.contains("no contact with this e-mail is known"), "{nobody:?}");
    assert_eq!(crm.calls().len(), before);
    let by_id = installation.run(&["explain", "77"]).await;
    assert!(crm.calls().len() > before, "an id is asked for: {by_id:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn source_show_prints_preset_and_own_keys_together_and_no_secret() {
    let (installation, _crm, _listening) = with_hubspot(&format!("{HOOK}rate_limit.requests = 3\n")).await;
    let shown = installation.run(&["source", "show", "crm"]).await;
    assert_eq!(shown.code, 0, "{shown:?}");
    let text: toml::Table = shown.stdout.parse().unwrap();
    let source = &text["source"]["crm"];
    assert_eq!(source["rate_limit"]["requests"].as_integer(), Some(3), "the operator's own");
    assert_eq!(source["rate_limit"]["per"].as_str(), Some("1s"), "the preset's");
    assert!(!shown.stdout.contains("crm-static-token") && !shown.stdout.contains("hook-secret"), "{shown:?}");
    // a preset needs no configuration
    std::fs::remove_file(installation.path("config.toml")).unwrap();
    let preset = installation.run(&["source", "show", "amocrm"]).await;
    assert!(preset.code == 0 && preset.stdout.contains("base_url"), "{preset:?}");
    let unknown = installation.run(&["source", "show", "nobody"]).await;
    assert_eq!(unknown.code, 78, "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_finds_who_is_gone_by_itself_and_beside_a_daemon_has_it_read() {
    let (installation, crm, _listening) =
        with_hubspot("schedule = \"0 0 1 1 *\"\nfetch = false\nwebhook = false\n").await;
    installation.authorize().await;
    let first = installation.run(&["sync"]).await;
    assert_eq!(first.code, 0, "{first:?}");
    assert_eq!(installation.held().len(), PEOPLE);
    let gone = crm.people().remove(0).id;
    assert!(crm.delete(gone));
    // gone needs two sightings
    for _ in 0..2 {
        let reconciled = installation.run(&["reconcile"]).await;
        assert_eq!(reconciled.code, 0, "{reconciled:?}");
    }
    let key = format!("hubspot-{gone}");
    assert!(installation.sandbox.contact_by_external_id(&key).unwrap().deleted);

    let mut posted = watch(&installation, CallKind::SubmitContacts, Phase::After);
    let mut daemon = installation.start(&["-v", "run"]);
    daemon.says("is running").await;
    crm.add();
    let asked = installation.run(&["reconcile", "--source", "crm"]).await;
    assert!(asked.code == 0 && asked.stdout.contains("by the running daemon now"), "{asked:?}");
    tokio::time::timeout(PATIENCE, posted.recv()).await.expect("the daemon reads at once").unwrap();
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end().await.code, 0);
}

/// A zone that was set for the schedule also moves birthdays; the account is not asked here, so any field may be one.
#[tokio::test]
async fn check_and_source_test_warn_of_days_on_the_clock_of_utc() {
    let installation = Installation::begin().await;
    let path = installation.path("config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let text = text.replacen("[source.crm]", "[source.crm]\ntime_zone = \"Etc/UTC\"", 1);
    std::fs::write(&path, format!("{text}\n[source.crm.contact.fields]\n1 = \"town\"\n")).unwrap();
    for arguments in [&["check"][..], &["source", "test", "crm"]] {
        let said = installation.run(arguments).await;
        assert!(said.code == 0 && said.stdout.contains("read on the clock of UTC"), "{said:?}");
        let said = installation.run(&[arguments, &["--output", "json"]].concat()).await;
        assert!(said.stdout.contains("read on the clock of UTC"), "{said:?}");
    }
    let kyiv = std::fs::read_to_string(&path).unwrap().replacen("Etc/UTC", "Europe/Kyiv", 1);
    std::fs::write(&path, kyiv).unwrap();
    for arguments in [&["check"][..], &["source", "test", "crm"]] {
        let said = installation.run(arguments).await;
        assert!(said.code == 0 && !said.stdout.contains("clock of UTC"), "{said:?}");
    }
}
