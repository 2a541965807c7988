//! The configuration as an operator meets it: files on disk, variables, credentials, and the text of every problem.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on stops")]

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reteno_sync::config::{
    self, Bound, CategoryText, ClientAuth, Config, ConfigProblems, ConsentText, DedupeOn, FieldTarget, FileFormat,
    FormText, Guard, MissingCredentials, OnDelete, OnInvalidText, RestoreDeleted, SegmentText, SelectorText,
    SharedChannel, SourceKind, SubscriptionsText, WriteRule,
};
use reteno_sync::contact::{AdditionalField, Catalog, Field, FieldKind};
use secrecy::ExposeSecret;

const SECRET: &str = "hunter2-very-secret";

/// A directory with a configuration file in it.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn with(text: &str) -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap() };
        place.write("config.toml", text, 0o640);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str, mode: u32) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    fn load(&self, env: &[(&str, &str)], credentials: Option<&Path>) -> Result<Config, ConfigProblems> {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        config::load(&self.path("config.toml"), env, credentials)
    }

    /// The problems as text, without this test's directory.
    fn problems(&self, env: &[(&str, &str)]) -> String {
        let text = self.load(env, None).unwrap_err().to_string();
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

const SOURCE: &str = r#"
[source.crm]
kind = "file"
path = "contacts.csv"
[source.crm.contact]
externalCustomerId = "id"
email = "email"
"#;

fn problems(text: &str) -> String {
    Place::with(text).problems(&[])
}

fn load(text: &str) -> Config {
    Place::with(text).load(&[], None).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = load("");
    assert_eq!(config.state_dir, Path::new("/var/lib/reteno-sync"));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(30));
    let reteno = &config.reteno;
    assert_eq!(reteno.api_url.as_str(), "https://reteno.com/api");
    assert_eq!(reteno.authorize_url.as_str(), "https://uaa.reteno.com/uaa/oauth/authorize");
    assert_eq!(reteno.token_url.as_str(), "https://uaa.reteno.com/uaa/oauth/token");
    assert_eq!(reteno.redirect.text, "http://127.0.0.1:8400/callback");
    assert!(reteno.redirect.is_loopback());
    assert_eq!(reteno.client_auth, ClientAuth::Basic);
    assert_eq!((reteno.requests_per_second, reteno.batch_contacts_max, reteno.posts_in_flight), (100, 3000, 8));
    assert_eq!(reteno.batch_bytes_max, 4 * 1024 * 1024);
    assert_eq!((reteno.dedupe_on, reteno.restore_deleted), (DedupeOn::ExternalCustomerId, RestoreDeleted::Never));
    assert_eq!(reteno.import_age_max, Duration::from_hours(6));
    assert_eq!(reteno.credentials().unwrap_err(), MissingCredentials::Both);
    assert_eq!(config.listen.address, Some("127.0.0.1:8400".parse().unwrap()));
    assert!(config.sources.is_empty());
}

#[test]
fn brand_sets_the_hosts_and_a_url_of_its_own_comes_before_it() {
    let config = load("reteno = { brand = \"yespo\", api_url = \"http://localhost:9/api/\" }");
    assert_eq!(config.reteno.api_url.as_str(), "http://localhost:9/api");
    assert_eq!(config.reteno.token_url.as_str(), "https://uaa.yespo.io/uaa/oauth/token");
    let config = load("reteno.brand = \"esputnik\"");
    assert_eq!(config.reteno.api_url.as_str(), "https://esputnik.com/api");
}

#[test]
fn a_variable_comes_before_the_file_and_the_file_before_the_default() {
    let text = format!("[reteno]\nclient_id = \"file\"\nrequests_per_second = 7\n{SOURCE}");
    let place = Place::with(&text);
    let env = [
        ("RETENO_SYNC_RETENO__CLIENT_ID", "123"),
        ("RETENO_SYNC_RETENO__POSTS_IN_FLIGHT", "3"),
        ("RETENO_SYNC_STATE_DIR", "/somewhere"),
        ("RETENO_SYNC_SOURCE__CRM__PATH", "/data/other.jsonl"),
        ("RETENO_SYNC_SOURCE__CRM__CONTACT__FIRSTNAME", "first"),
        ("RETENO_SYNC_CONFIG", "ignored"),
        ("PATH", "/bin"),
    ];
    let config = place.load(&env, None).unwrap();
    assert_eq!(config.reteno.client_id.as_deref(), Some("123"));
    assert_eq!(config.reteno.requests_per_second, 7);
    assert_eq!(config.reteno.posts_in_flight, 3);
    assert_eq!(config.state_dir, Path::new("/somewhere"));
    let SourceKind::File(file) = &config.sources[0].kind else { panic!("a file") };
    assert_eq!((file.path.as_path(), file.format), (Path::new("/data/other.jsonl"), FileFormat::JsonLines));
    assert!(config.sources[0].field(Field::FirstName).is_some());
}

#[test]
fn a_whole_source_can_come_from_variables() {
    let place = Place::with("");
    let env = [
        ("RETENO_SYNC_SOURCE__TAP__KIND", "singer"),
        ("RETENO_SYNC_SOURCE__TAP__COMMAND", "tap-x --flag"),
        ("RETENO_SYNC_SOURCE__TAP__CONFIG", "/etc/tap.json"),
        ("RETENO_SYNC_SOURCE__TAP__STREAM", "people"),
        ("RETENO_SYNC_SOURCE__TAP__CONTACT__EXTERNALCUSTOMERID__PATH", "id"),
        ("RETENO_SYNC_SOURCE__TAP__CONTACT__SMS", "phone"),
        ("RETENO_SYNC_SOURCE__TAP__CONTACT__FIELDS__87166", "tier"),
    ];
    let config = place.load(&env, None).unwrap();
    let SourceKind::Singer(tap) = &config.sources[0].kind else { panic!("a tap") };
    assert_eq!((tap.program.as_str(), tap.arguments.as_slice()), ("tap-x", ["--flag".to_owned()].as_slice()));
    assert_eq!((tap.idle_timeout, tap.line_bytes_max), (Duration::from_mins(10), 16 << 20));
    assert_eq!(config.sources[0].contact.len(), 3);
}

#[test]
fn state_directory_of_systemd_replaces_the_default_only() {
    let systemd = [("STATE_DIRECTORY", "/var/lib/private/a:/var/lib/b")];
    assert_eq!(Place::with("").load(&systemd, None).unwrap().state_dir, Path::new("/var/lib/private/a"));
    let set = Place::with("state_dir = \"here\"");
    assert_eq!(set.load(&systemd, None).unwrap().state_dir, set.path("here"));
}

#[test]
fn a_source_is_resolved_in_full() {
    let place = Place::with(
        r#"
        [source.crm]
        kind = "file"
        path = "data/contacts.csv"
        delimiter = "\t"
        encoding = "windows-1251"
        schedule = "30 3 * * 1-5"
        time_zone = "Europe/Kyiv"
        changed_at = "$.changed"
        [source.crm.contact]
        sms = { path = ["mobile", "phone"], region = "UA", on_invalid = "reject" }
        externalCustomerId = { path = "id", prefix = "crm-" }
        [source.crm.contact.fields]
        87166 = "tier"
        "PERSONAL.BIRTHDAY" = "$.born"
        "#,
    );
    let config = place.load(&[], None).unwrap();
    let source = &config.sources[0];
    let SourceKind::File(file) = &source.kind else { panic!("a file") };
    assert_eq!(file.path, place.path("data/contacts.csv"));
    assert_eq!(file.format, FileFormat::Csv { delimiter: b'\t' });
    assert_eq!(file.encoding.name(), "windows-1251");
    assert_eq!(source.schedule.as_ref().unwrap().zone(), chrono_tz::Europe::Kyiv);
    assert!(source.reconcile.is_none());
    assert_eq!(source.key, SelectorText(vec!["id".to_owned()]));
    let targets: Vec<&FieldTarget> = source.contact.iter().map(|field| &field.target).collect();
    let expected = [
        FieldTarget::Standard(Field::ExternalCustomerId),
        FieldTarget::Standard(Field::Sms),
        FieldTarget::AdditionalId(87166),
        FieldTarget::AdditionalKey("PERSONAL.BIRTHDAY".to_owned()),
    ];
    assert_eq!(targets, expected.iter().collect::<Vec<_>>());
    let sms = source.field(Field::Sms).unwrap();
    assert_eq!(sms.paths, SelectorText(vec!["mobile".to_owned(), "phone".to_owned()]));
    assert_eq!((sms.region.as_deref(), sms.on_invalid), (Some("UA"), Some(OnInvalidText::Reject)));
    assert_eq!(source.field(Field::ExternalCustomerId).unwrap().prefix, "crm-");
}

#[test]
fn what_only_a_table_has_is_refused_for_lines_of_json() {
    let lines = |keys: &str| Place::with(&SOURCE.replace("contacts.csv\"", &format!("contacts.jsonl\"\n{keys}")));
    assert!(lines("").load(&[], None).is_ok(), "the defaults are no mistake");
    let problems = lines("delimiter = \";\"\nencoding = \"windows-1251\"").problems(&[]);
    assert!(problems.contains("source.crm.delimiter has no meaning for JSON lines"), "{problems}");
    assert!(problems.contains("source.crm.encoding has no meaning for JSON lines"), "{problems}");
}

// Secrets.

#[test]
fn the_secret_comes_from_each_of_its_places_and_never_shows() {
    let by_value = Place::with(&format!("[reteno]\nclient_id = \"a\"\nclient_secret = \"{SECRET}\""));
    let by_file = Place::with("[reteno]\nclient_id = \"a\"\nclient_secret_file = \"secret\"");
    by_file.write("secret", &format!("{SECRET}\r\n"), 0o640);
    let by_credential = Place::with("reteno.client_id = \"a\"");
    by_credential.write("credentials/reteno_client_secret", &format!("{SECRET}\n"), 0o400);
    let by_variable = Place::with("reteno.client_id = \"a\"");
    let directory = by_credential.path("credentials");
    let loaded = [
        by_value.load(&[], None),
        by_file.load(&[], None),
        by_credential.load(&[], Some(&directory)),
        by_variable.load(&[("RETENO_SYNC_RETENO__CLIENT_SECRET", SECRET)], Some(&by_variable.path("none"))),
    ];
    for config in loaded {
        let config = config.unwrap();
        assert_eq!(config.reteno.credentials().unwrap().client_secret.expose_secret(), SECRET);
        assert!(!format!("{config:?} {:?}", config.reteno.credentials()).contains(SECRET));
    }
}

#[test]
fn two_secrets_at_once_are_an_error() {
    let place = Place::with(&format!("[reteno]\nclient_secret = \"{SECRET}\"\nclient_secret_file = \"secret\"\n"));
    place.write("secret", SECRET, 0o600);
    place.write("credentials/reteno_client_secret", SECRET, 0o400);
    let text = place.load(&[], Some(&place.path("credentials"))).unwrap_err().to_string();
    let text = text.replace(&format!("{}/", place.directory.path().display()), "");
    insta::assert_snapshot!(text);
    let one = Place::with("");
    one.write("credentials/reteno_client_secret", SECRET, 0o400);
    let env = [("RETENO_SYNC_RETENO__CLIENT_SECRET", SECRET)];
    let text = one.load(&env, Some(&one.path("credentials"))).unwrap_err().to_string();
    assert!(text.contains("RETENO_SYNC_RETENO__CLIENT_SECRET: reteno.client_secret is given more than once"), "{text}");
    assert!(!text.contains(SECRET));
}

#[test]
fn files_that_give_no_secret_say_why() {
    let place = Place::with("[reteno]\nclient_secret_file = \"secret\"\n");
    let missing = place.problems(&[]);
    place.write("secret", "x", 0o644);
    let world = place.problems(&[]);
    place.write("secret", "\n", 0o600);
    let empty = place.problems(&[]);
    place.write("secret", &"x".repeat(20_000), 0o600);
    let long = place.problems(&[]);
    place.write("config.toml", "", 0o600);
    place.write("credentials/reteno_client_secret", "", 0o400);
    let credential = place.load(&[], Some(&place.path("credentials"))).unwrap_err().to_string();
    let directory = format!("{}/", place.directory.path().display());
    insta::assert_snapshot!([missing, world, empty, long, credential].join("\n\n").replace(&directory, ""));
}

// Problems.

#[test]
fn every_problem_of_a_file_is_told_at_once() {
    let place = Place::with(include_str!("config/many_problems.toml"));
    let env = [
        ("RETENO_SYNC_RETENO__CLIENT_IDD", "x"),
        ("RETENO_SYNC_RETENO", "x"),
        ("RETENO_SYNC_LOG__LEVEL", "loud"),
        ("RETENO_SYNC_SOURCE__CRM__SCHEDULE", "* * *"),
    ];
    let text = place.problems(&env);
    insta::assert_snapshot!(text);
    assert!(!text.contains(SECRET), "{text}");
}

#[test]
fn text_that_is_not_toml_is_told_with_line_and_column_and_without_the_line() {
    let text = problems(&format!("[reteno]\nclient_secret = \"{SECRET}\n\nbrand = reteno\n"));
    insta::assert_snapshot!(text);
    assert!(!text.contains(SECRET));
}

#[test]
fn a_file_that_cannot_be_read_says_what_to_do() {
    let place = Place::with("");
    let load = |name: &str| config::load(&place.path(name), std::iter::empty(), None).unwrap_err().to_string();
    place.write("folder/x", "", 0o600);
    std::fs::write(place.path("latin.toml"), b"a = 1\nb = \"\xe9\"\n").unwrap();
    let all = [load("missing.toml"), load("folder"), load("latin.toml")].join("\n\n");
    insta::assert_snapshot!(all.replace(&format!("{}/", place.directory.path().display()), ""));
}

#[test]
fn several_sources_need_distinct_prefixes() {
    let second = |id: &str| SOURCE.replace("source.crm", "source.shop").replace("\"id\"", id);
    let both = |id: &str| format!("{SOURCE}{}", second(id));
    assert!(problems(&both("\"id\"")).contains("source.shop.contact.externalCustomerId has the same prefix"));
    load(&both("{ path = \"id\", prefix = \"shop-\" }"));
    // A prefix that is wrong is told as such, and not as an equal one.
    let wrong = problems(&both("{ path = \"id\", prefix = \"a b\" }"));
    assert!(wrong.starts_with("1 problem") && wrong.contains("is not a prefix"), "{wrong}");
}

#[test]
fn what_dedupe_on_names_must_be_mapped() {
    let cases = [
        ("externalCustomerId", "email = \"e\"\n", "externalCustomerId"),
        ("email", "sms = \"s\"\nexternalCustomerId = \"id\"\n", "email"),
        ("sms", "email = \"e\"\nexternalCustomerId = \"id\"\n", "sms"),
        ("email_or_sms", "externalCustomerId = \"id\"\n", "email or sms"),
        ("email", "email = \"e\"\n", "key"),
    ];
    for (dedupe_on, mapping, missing) in cases {
        let text = format!(
            "reteno.dedupe_on = \"{dedupe_on}\"\n[source.crm]\nkind = \"file\"\npath = \"a.csv\"\n\
             [source.crm.contact]\n{mapping}"
        );
        let text = problems(&text);
        assert!(text.starts_with("1 problem"), "{dedupe_on}: {text}");
        assert!(
            text.contains(&format!("accepted: {missing} =")) || text.contains(&format!("crm.{missing} is")),
            "{text}"
        );
    }
    load(
        "reteno.dedupe_on = \"email\"\n[source.crm]\nkind = \"file\"\nkey = \"no\"\npath = \"a.csv\"\ncontact.email = \"e\"",
    );
}

// What is sent beside the fields of a contact.

/// A source of these keys and tables, and what else stands in the file.
fn source_of(name: &str, keys: &str, contact: &str, tables: &str) -> String {
    let tables = tables.replace("[.", &format!("[source.{name}."));
    format!(
        "[source.{name}]\nkind = \"file\"\npath = \"a.csv\"\n{keys}\n[source.{name}.contact]\n{contact}\n{tables}\n"
    )
}

/// One problem and no other, that holds these words.
fn one_problem(text: &str, words: &[&str]) {
    let found = problems(text);
    assert!(found.starts_with("1 problem "), "{text}\n\n{found}");
    for word in words {
        assert!(found.contains(word), "{word:?} is not in\n{found}");
    }
}

const MAPPED: &str = "externalCustomerId = \"id\"\nemail = \"e\"";

#[test]
fn the_usual_words_of_consent_are_known_in_five_languages() {
    let config = load(&source_of("crm", "", MAPPED, "[.consent]\nemail = \"ok\""));
    let consent = config.sources[0].consent.as_ref().unwrap();
    // each on one side
    let pairs = [
        ("true", "false"),
        ("1", "0"),
        ("yes", "no"),
        ("y", "n"),
        ("on", "off"),
        ("так", "ні"),
        ("да", "нет"),
        ("tak", "nie"),
        ("иә", "жоқ"),
        ("истина", "ложь"),
        ("prawda", "fałsz"),
        ("увімкнено", "вимкнено"),
        ("subscribed", "unsubscribed"),
        ("opt-in", "opt-out"),
        ("włączone", "wyłączone"),
        ("zapisana", "wypisana"),
        ("қосулы", "өшірулі"),
        ("жазылған", "жазылмаған"),
    ];
    for (yes, no) in pairs {
        assert!(consent.yes.iter().any(|word| word == yes) && !consent.no.iter().any(|word| word == yes), "{yes}");
        assert!(consent.no.iter().any(|word| word == no) && !consent.yes.iter().any(|word| word == no), "{no}");
    }
    assert!(consent.yes.iter().all(|word| !consent.no.contains(word) && word.to_lowercase() == *word));
}

#[test]
fn all_that_a_source_drives_is_resolved() {
    let keys = "quiet_for = \"10s\"\non_delete = \"detach\"\nclear_at_first_sight = true";
    let contact = format!("{MAPPED}\ntown = {{ path = \"t\", write = \"at_first_sight\" }}");
    let tables = r#"
        [.consent]
        email = { path = ["mail_ok", "$.ok"], yes = ["Oui "], no = ["NON"], neither = ["Peut-être"] }
        [.subscriptions]
        owned = true
        categories = { offers = { path = "o", yes = ["JA"] }, news = "n" }
        [.segments]
        "From the CRM" = "always"
        VIP = { when = "$[?@.tier == 'gold']", group_id = 3000000000 }
    "#;
    let config = load(&source_of("crm", keys, &contact, tables));
    let source = &config.sources[0];
    let text = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!((source.quiet_for, source.on_delete), (Duration::from_secs(10), OnDelete::Detach));
    assert!(source.clear_at_first_sight && !source.shares_ids);
    assert_eq!(source.field(Field::Town).unwrap().write, WriteRule::AtFirstSight);
    assert_eq!(source.field(Field::Email).unwrap().write, WriteRule::Always);
    let consent = ConsentText {
        paths: SelectorText(text(&["mail_ok", "$.ok"])),
        // Trimmed and in lower case: so a value is compared.
        yes: text(&["oui"]),
        no: text(&["non"]),
        neither: text(&["peut-être"]),
    };
    assert_eq!(source.consent, Some(consent));
    let category = |key: &str, path: &str, yes: &[&str]| CategoryText {
        key: key.to_owned(),
        paths: SelectorText(text(&[path])),
        yes: text(yes),
    };
    let Some(SubscriptionsText::Flags(flags)) = &source.subscriptions else { panic!("no flags") };
    assert_eq!((flags.len(), &flags[1]), (2, &category("offers", "o", &["ja"])));
    assert_eq!((flags[0].key.as_str(), &flags[0].paths), ("news", &SelectorText(text(&["n"]))));
    let segment = |name: &str, condition: Option<&str>, group_id| SegmentText {
        name: name.to_owned(),
        condition: condition.map(str::to_owned),
        group_id,
    };
    let vip = segment("VIP", Some("$[?@.tier == 'gold']"), Some(3_000_000_000));
    assert_eq!(source.segments, [segment("From the CRM", None, None), vip]);
    assert_eq!(source.form, None);

    let tables = "[.subscriptions]\nowned = true\npath = \"topics\"\n[.consent]\nemail = \"ok\"";
    let config = load(&source_of("crm", "", MAPPED, tables));
    let list = SubscriptionsText::List(SelectorText(text(&["topics"])));
    assert_eq!(config.sources[0].subscriptions, Some(list));
    assert_eq!(config.sources[0].consent.as_ref().unwrap().paths, SelectorText(text(&["ok"])));

    let tables = "[.form]\nform_type = \"Site form\"\ngroups = [\"Site\"]\nsubscriptions = [\"news\"]";
    let config = load(&source_of("crm", "", MAPPED, tables));
    let form =
        FormText { form_type: Some("Site form".to_owned()), groups: text(&["Site"]), subscriptions: text(&["news"]) };
    assert_eq!(config.sources[0].form, Some(form));
    assert!(load(&source_of("crm", "", MAPPED, "[.form]")).sources[0].form.is_some(), "the section alone declares it");
}

#[test]
fn keys_of_sections_come_from_variables_too() {
    let place = Place::with(&source_of("my-crm", "", MAPPED, "[.segments]\n\"VIP & Co.\" = { always = true }"));
    let env = [
        ("RETENO_SYNC_GUARD__DELETE__CONTACTS", "7"),
        ("RETENO_SYNC_SOURCE__MY_CRM__GUARD__ENABLED", "false"),
        ("RETENO_SYNC_SOURCE__MY_CRM__GUARD__CLEAR__PERCENT", "9"),
        ("RETENO_SYNC_IDENTITY__UNIQUE", "sms"),
        ("RETENO_SYNC_SOURCE__MY_CRM__CONSENT__EMAIL__PATH", "ok"),
        ("RETENO_SYNC_SOURCE__MY_CRM__CONSENT__EMAIL__YES", "ja, oui"),
        ("RETENO_SYNC_SOURCE__MY_CRM__SUBSCRIPTIONS__OWNED", "true"),
        ("RETENO_SYNC_SOURCE__MY_CRM__SUBSCRIPTIONS__CATEGORIES__NEWS", "n"),
        ("RETENO_SYNC_SOURCE__MY_CRM__SEGMENTS__VIP_CO__GROUP_ID", "5"),
        ("RETENO_SYNC_SOURCE__MY_CRM__CONTACT__FIRSTNAME__PATH", "first"),
        ("RETENO_SYNC_SOURCE__MY_CRM__CONTACT__FIRSTNAME__WRITE", "never_clear"),
        ("RETENO_SYNC_RETENO__RESTORE_DELETED", "always"),
        ("RETENO_SYNC_RETENO__RESTORE_DELETED_IN_FULL_READS", "true"),
    ];
    let config = place.load(&env, None).unwrap_or_else(|problems| panic!("{problems}"));
    let source = &config.sources[0];
    assert_eq!(config.guard.delete, Bound { contacts: 7, percent: 5 });
    assert_eq!(source.guard.delete, config.guard.delete, "what a source does not set is that of all");
    assert_eq!(source.guard.clear, Bound { contacts: 1000, percent: 9 });
    assert!(config.guard.enabled && !source.guard.enabled);
    assert!(!config.identity.unique_email && config.identity.unique_sms);
    assert_eq!(source.consent.as_ref().unwrap().yes, ["ja", "oui"]);
    assert!(source.subscriptions.is_some());
    assert_eq!((source.segments[0].name.as_str(), source.segments[0].group_id), ("VIP & Co.", Some(5)));
    assert_eq!(source.field(Field::FirstName).unwrap().write, WriteRule::NeverClear);
    assert!(config.reteno.restore_in_full_reads);
}

#[test]
fn the_guard_of_a_source_takes_what_it_lacks_from_that_of_all() {
    let text = format!(
        "[guard]\ndelete = {{ contacts = 9 }}\nerase = {{ percent = 0 }}\n{}",
        source_of("crm", "", MAPPED, "[.guard]\ndelete = { percent = 100 }\nerase = { contacts = 3 }")
    );
    let config = load(&text);
    assert_eq!(config.guard.delete, Bound { contacts: 9, percent: 5 });
    assert_eq!(config.guard.erase, Bound { contacts: 500, percent: 0 });
    let (delete, erase) = (Bound { contacts: 9, percent: 100 }, Bound { contacts: 3, percent: 0 });
    let expected = Guard { delete, erase, ..config.guard };
    assert_eq!(config.sources[0].guard, expected);
    one_problem("guard.delete = { percent = 101 }", &["guard.delete.percent is out of range", "from 0 to 100"]);
    one_problem("guard.delet = { percent = 1 }", &["did you mean `guard.delete`?"]);
}

const WITHOUT_EMAIL: &str = "externalCustomerId = \"id\"\nsms = \"s\"";

// Keys, mapping, tables: what the one problem says.
const WRONG_SOURCES: &[(&str, &str, &str, &[&str])] = &[
    ("on_delete = \"detach\"", MAPPED, "[.segments]\nVIP = \"always\"", &["crm.on_delete takes", "group_id"]),
    ("on_delete = \"unsubscribe\"", WITHOUT_EMAIL, "", &["crm.on_delete needs the address"]),
    ("on_delete = \"deleet\"", MAPPED, "", &["did you mean \"delete\"?"]),
    ("quiet_for = \"11m\"", MAPPED, "", &["crm.quiet_for is out of range", "from 0s to 10m"]),
    ("", WITHOUT_EMAIL, "[.consent]\nemail = \"c\"", &["crm.consent needs the address"]),
    ("", MAPPED, "[.consent]", &["crm.consent.email is missing"]),
    (
        "",
        MAPPED,
        "[.consent]\nemail = { path = \"c\", yes = [\"No\"] }",
        &["email.yes holds \"no\", which also means no"],
    ),
    ("", MAPPED, "[.consent]\nemail = { path = \"c\", no = [\"1\"] }", &["email.no holds \"1\", which also means yes"]),
    ("", MAPPED, "[.consent]\nemail = { path = \"c\", no = [] }", &["email.no holds no word"]),
    // An empty cell must never unsubscribe.
    ("", MAPPED, "[.consent]\nemail = { path = \"c\", no = [\" \"] }", &["email.no holds an empty text"]),
    ("", MAPPED, "[.subscriptions]\npath = \"p\"", &["subscriptions.owned is missing", "replaces the whole set"]),
    (
        "",
        MAPPED,
        "[.subscriptions]\nowned = false\npath = \"p\"",
        &["subscriptions.owned does not", "replaces the whole set"],
    ),
    ("", MAPPED, "[.subscriptions]\nowned = true", &["does not say where the categories are"]),
    (
        "",
        MAPPED,
        "[.subscriptions]\nowned = true\npath = \"p\"\ncategories.a = \"b\"",
        &["path stands beside source.crm.subscriptions.categories"],
    ),
    ("", MAPPED, "[.subscriptions]\nowned = true\ncategories = {}", &["names no category"]),
    (
        "",
        MAPPED,
        "[.subscriptions]\nowned = true\ncategories = { \"a,b\" = \"p\" }",
        &["is not the key of a subscription category"],
    ),
    ("", MAPPED, "[.segments]\nVIP = \"alwais\"", &["did you mean \"always\"?"]),
    ("", MAPPED, "[.segments]\nVIP = \"$.x\"", &["write { when = "]),
    ("", MAPPED, "[.segments]\nVIP = { when = \"x\" }", &["segments.VIP.when is not a JSONPath"]),
    ("", MAPPED, "[.segments]\nVIP = { when = \"$.x\", always = true }", &["when stands beside always"]),
    ("", MAPPED, "[.segments]\nVIP = { always = false }", &["always is false"]),
    ("", MAPPED, "[.segments]\nVIP = { group_id = 1 }", &["does not say who belongs"]),
    ("", MAPPED, "[.segments]\nVIP = { always = true, group_id = 0 }", &["group_id is out of range"]),
    ("", MAPPED, "[.segments]\n\" VIP\" = \"always\"", &["is not the name of a segment"]),
    ("", MAPPED, "[.form]\nform_type = \"a;b\"", &["form.form_type is not the name of a form"]),
    ("", MAPPED, "[.form]\ngroups = [1]", &["form.groups holds something that is not text"]),
    ("", MAPPED, "[.form]\nsubscriptions = [\"a b\"]", &["form.subscriptions holds"]),
    ("", MAPPED, "[.form]\n[.consent]\nemail = \"c\"", &["crm.consent cannot stand beside source.crm.form"]),
    ("", MAPPED, "[.form]\n[.subscriptions]\nowned = true\npath = \"p\"", &["crm.subscriptions cannot stand beside"]),
    ("on_delete = \"delete\"", MAPPED, "[.form]", &["crm.on_delete cannot stand beside"]),
    ("", "externalCustomerId = { path = \"id\", write = \"always\" }\nemail = \"e\"", "", &["write has no meaning"]),
    (
        "",
        "externalCustomerId = \"id\"\nemail = { path = \"e\", write = \"never\" }",
        "",
        &["email.write is not one of"],
    ),
    ("", MAPPED, "[.contact.fields]\n2147483648 = \"x\"", &["is not the id of an additional field", "1 to 2147483647"]),
];

#[test]
fn what_cannot_work_in_a_source_is_told() {
    let segment = "[.segments]\nVIP = { group_id = 1, when = \"$.x\" }";
    for (keys, contact, tables, words) in WRONG_SOURCES {
        one_problem(&source_of("crm", keys, contact, tables), words);
    }
    load(&source_of("crm", "on_delete = \"detach\"", MAPPED, segment));
    load(&source_of("crm", "on_delete = \"unsubscribe\"", MAPPED, "[.contact.fields]\n2147483647 = \"x\""));
    let live = format!("reteno.restore_deleted = \"live\"\n{}", source_of("crm", "", MAPPED, "[.form]"));
    one_problem(&live, &["source.crm.form cannot stand beside reteno.restore_deleted = \"live\""]);
}

#[test]
fn what_is_asked_for_twice_needs_the_first_asking() {
    let restore = "[reteno]\nrestore_deleted_in_full_reads = true\nrestore_deleted = ";
    one_problem(&format!("{restore}\"never\""), &["restore_deleted_in_full_reads has a meaning with"]);
    one_problem(&format!("{restore}\"live\""), &["restore_deleted_in_full_reads has a meaning with"]);
    assert!(load(&format!("{restore}\"always\"")).reteno.restore_in_full_reads);
    assert!(!load("reteno.restore_deleted = \"always\"").reteno.restore_in_full_reads);

    let event = "[reteno]\nnew_contacts_event_in_full_reads = true\n";
    one_problem(event, &["new_contacts_event_in_full_reads has a meaning with"]);
    let reteno = load(&format!("{event}new_contacts_event = \"crm_new\"")).reteno;
    assert_eq!(
        (reteno.new_contacts_event.as_deref(), reteno.new_contacts_event_in_full_reads),
        (Some("crm_new"), true)
    );
    for wrong in ["", " ", "a b", "a;b", "a?", &"x".repeat(101)] {
        one_problem(&format!("reteno.new_contacts_event = \"{wrong}\""), &["reteno.new_contacts_event is"]);
    }
}

// Several sources.

#[test]
fn sources_that_share_their_ids_own_each_field_once() {
    let keys = "shares_ids = true";
    let shop = |contact: &str, tables: &str| {
        source_of("shop", keys, &format!("externalCustomerId = \"id\"\n{contact}"), tables)
    };
    let crm = |tables: &str| source_of("crm", keys, &format!("{MAPPED}\nfields = {{ 5 = \"x\" }}"), tables);
    let both = |contact: &str, tables: &str| format!("{}{}", crm(tables), shop(contact, tables));
    // The channel of the one is the channel of the other.
    let config = load(&both("town = \"t\"", ""));
    assert!(config.sources.iter().all(|source| source.shares_ids));
    load(&both("sms = \"s\"\nfields = { 6 = \"x\" }", ""));
    one_problem(&both("email = \"e\"", ""), &["shop.contact.email is a second owner of email: source.crm writes"]);
    one_problem(&both("fields = { 5 = \"y\" }", ""), &["second owner of additional field 5"]);
    one_problem(
        &both("", "[.segments]\nVIP = \"always\""),
        &["shop.segments.VIP is a second owner of segment \"VIP\""],
    );
    let owned = "[.subscriptions]\nowned = true\npath = \"p\"";
    one_problem(&both("", owned), &["shop.subscriptions is a second owner of subscription categories"]);
    // Each must say so.
    let one = format!("{}{}", crm(""), source_of("shop", "", MAPPED, ""));
    one_problem(&one, &["source.shop.contact.externalCustomerId has the same prefix as in source.crm", "shares_ids"]);
    let other = format!("{}{}", source_of("crm", "", MAPPED, ""), shop("town = \"t\"", "").replace("town", "email"));
    one_problem(&other, &["source.crm.contact.externalCustomerId has the same prefix as in source.shop"]);
    // A prefix of its own tells it from the others, whatever it says; then it needs a channel of its own.
    let own = shop("town = \"t\"", "").replace("\"id\"", "{ path = \"id\", prefix = \"s-\" }");
    one_problem(&format!("{}{own}", crm("")), &["source.shop.contact maps no channel"]);
}

#[test]
fn segments_that_the_checkpoint_could_not_tell_apart_are_refused() {
    let mut seen = std::collections::HashMap::new();
    let pair = (0..).find_map(|number| {
        let name = format!("s{number}");
        seen.insert(Field::segment(&name), name.clone()).map(|other| (other, name))
    });
    let (one, other) = pair.unwrap();
    let text = |first: &str, second: &str| {
        let shop = MAPPED.replace("\"id\"", "{ path = \"id\", prefix = \"shop-\" }");
        let segments = |name: &str| format!("[.segments]\n{name} = \"always\"");
        let crm = source_of("crm", "", MAPPED, &segments(first));
        format!("{crm}{}", source_of("shop", "", &shop, &segments(second)))
    };
    load(&text(&one, &one));
    one_problem(
        &text(&one, &other),
        &[&format!("segments.{other} cannot be told from the segment {one:?} of source.crm")],
    );
}

#[test]
fn channels_that_dedupe_on_names_stay_unique() {
    assert_eq!(load("identity.shared_channel = \"first_source\"").identity.shared_channel, SharedChannel::FirstSource);
    one_problem("identity.unique = [\"push\"]", &["identity.unique holds what is not a channel"]);
    for (dedupe_on, unique, is_right) in [
        ("externalCustomerId", "[]", true),
        ("email", "[\"sms\"]", false),
        ("email", "[\"email\"]", true),
        ("sms", "[\"email\"]", false),
        ("email_or_sms", "[\"email\"]", false),
        ("email_or_sms", "[\"sms\", \"email\"]", true),
    ] {
        let text = format!("reteno.dedupe_on = \"{dedupe_on}\"\nidentity.unique = {unique}");
        let result = Place::with(&text).load(&[], None);
        assert_eq!(result.is_ok(), is_right, "{dedupe_on} {unique}: {result:?}");
    }
}

// Uploads.

#[test]
fn uploads_that_no_source_could_use_are_an_error_and_for_some_a_statement() {
    let listen = "[listen]\npublic_address = \"127.0.0.1:8401\"\npublic_url = \"https://sync.example.com/\"\n";
    let upload = "[upload]\ncontacts_min = 1000\n";
    let account = "reteno.dedupe_on = \"email\"\n";
    let by_email = source_of("crm", "key = \"id\"", "email = \"e\"", "");
    let config = load(&format!("{account}{listen}{upload}{by_email}"));
    assert_eq!((config.upload.contacts_min, config.upload.link_lifetime), (Some(1000), Duration::from_hours(6)));
    assert_eq!(config.listen.public_address, Some("127.0.0.1:8401".parse().unwrap()));
    assert_eq!(config.upload_obstacles(), []);

    one_problem(
        &format!("{account}listen.public_address = \"127.0.0.1:1\"\n{upload}{by_email}"),
        &["listen.public_url is missing"],
    );
    one_problem(&format!("{account}listen.public_url = \"https://x\"\n{upload}{by_email}"), &["public_address is off"]);
    let by_id = source_of("crm", "", MAPPED, "");
    one_problem(
        &format!("{listen}{upload}{by_id}"),
        &["upload.contacts_min asks", "reteno.dedupe_on is externalCustomerId"],
    );
    one_problem(
        &format!("{account}{listen}{upload}{by_id}"),
        &["upload.contacts_min asks", "no source can use them", "source.crm.contact maps externalCustomerId"],
    );

    let form = source_of("site", "key = \"id\"", "email = \"e\"", "[.form]");
    one_problem(&format!("{account}{listen}{upload}{form}"), &["source.site.form sends its contacts one by one"]);
    // Beside a source that can be uploaded it is a statement.
    let mut mixed = config;
    mixed.sources.extend(load(&by_id.replace("source.crm", "source.old")).sources);
    let obstacles = mixed.upload_obstacles();
    assert_eq!(obstacles.len(), 1);
    assert_eq!(obstacles[0].0, "old");
    assert!(obstacles[0].1.contains("maps externalCustomerId"), "{obstacles:?}");
    // Where uploads are off there is nothing to say.
    assert_eq!(load(&by_id).upload_obstacles(), []);
}

#[test]
fn what_strangers_reach_is_apart_and_encrypted() {
    let listen = |public: &str| format!("[listen]\n{public}");
    one_problem(
        &listen("public_address = \"0.0.0.0:8400\""),
        &["listen.public_address has the port of listen.address"],
    );
    one_problem(&listen("public_address = \"8401\""), &["listen.public_address is not an address with its port"]);
    one_problem(&listen("public_url = \"http://sync.example.com\""), &["listen.public_url would be sent unencrypted"]);
    one_problem(&listen("names = [\"sync.example.com:8400\"]"), &["listen.names holds more than the name of a host"]);
    let config = load(&listen("public_url = \"http://127.0.0.1:8401/sync/\""));
    assert_eq!(config.listen.public_url.unwrap().as_str(), "http://127.0.0.1:8401/sync");
    assert_eq!(load(&listen("public_address = \"off\"")).listen.public_address, None);
}

// The example.

fn example() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml")).unwrap()
}

/// The example as it would be with every key in use: `# key = value` and `# [section]` without their `#`.
fn uncommented(text: &str) -> Vec<String> {
    let is_key = |line: &str| {
        let Some((key, value)) = line.split_once(" = ") else { return false };
        let is_name = key.starts_with('"') && key.ends_with('"');
        (is_name || !key.contains(' ')) && format!("x = {value}").parse::<toml::Table>().is_ok()
    };
    let is_section = |line: &str| line.starts_with('[') && line.ends_with(']');
    let used = |line: &str| {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        (is_key(bare) || is_section(bare)).then(|| bare.to_owned())
    };
    text.lines().filter_map(used).collect()
}

#[test]
fn the_example_is_valid_with_a_secret() {
    let place = Place::with(&example());
    let config = place.load(&[("RETENO_SYNC_RETENO__CLIENT_SECRET", SECRET)], None).unwrap_or_else(|p| panic!("{p}"));
    config.reteno.credentials().unwrap();
    assert_eq!(config.sources.len(), 1);
}

#[test]
fn the_example_names_every_key_and_no_other() {
    let mut named = BTreeSet::new();
    let mut section = String::new();
    for line in uncommented(&example()) {
        if let Some(name) = line.strip_prefix('[') {
            section = format!("{}.", name.trim_end_matches(']'));
            for source in ["source.crm.", "source.shop.", "source.landing.", "source.support."] {
                section = section.replace(source, "source.*.");
            }
            continue;
        }
        let (key, value) = line.split_once(" = ").unwrap();
        for named in ["deletes.removed.", "errors.too_many.", "require.account."] {
            section = section.replace(named, &format!("{}.*.", named.split('.').next().unwrap()));
        }
        let yours = [".fields.", ".segments.", ".categories.", ".vars.", ".secrets."];
        let is_yours = yours.iter().any(|end| section.ends_with(end));
        let key = if is_yours { "*" } else { key };
        named.insert(format!("{section}{key}"));
        // what stands in them is the CRM's own
        if ["query", "headers", "body", "actions", "ids", "extra", "authorize_extra"].contains(&key) {
            continue;
        }
        if let Some(toml::Value::Table(options)) = format!("x = {value}").parse::<toml::Table>().unwrap().remove("x") {
            named.extend(options.keys().map(|option| format!("{section}*.{option}")));
        }
    }
    let known = config::known_keys();
    assert_eq!(named.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "keys that do not exist");
    assert_eq!(known.difference(&named).collect::<Vec<_>>(), Vec::<&String>::new(), "keys that are not documented");
}

/// The example with every key in use that can stand beside the others: the three places of the secret exclude each other,
/// and uploads exclude the mapping of the external id.
fn in_use() -> Vec<String> {
    let excluded = |section: &str, line: &str| {
        let key = line.split(' ').next().unwrap_or_default();
        match section {
            "[source.support.auth]" => !["kind", "token", "prefix"].contains(&key),
            "[source.support.deletes.removed]" => ["equals", "merged_into", "separator", "every"].contains(&key),
            "[source.support.webhook]" => {
                key.starts_with("token")
                    || key.starts_with("password")
                    || key.ends_with("_file")
                    || ["user", "ids", "action", "record", "secrets"].contains(&key)
            }
            "[source.support.secrets]" => key == "other",
            _ => key.starts_with("client_secret") || key == "contacts_min",
        }
    };
    let mut section = String::new();
    let mut kept = Vec::new();
    for line in uncommented(&example()) {
        if line.starts_with('[') {
            section.clone_from(&line);
        }
        if line.starts_with('[') || !excluded(&section, &line) {
            kept.push(line);
        }
    }
    kept
}

#[test]
fn the_example_with_every_key_in_use_is_valid() {
    let config = load(&in_use().join("\n"));
    assert_eq!(config.sources.len(), 4);
    assert_eq!(config.upload_obstacles(), []);
}

#[test]
fn commented_defaults_of_the_example_are_the_defaults() {
    let text = uncommented(&example());
    let end = text.iter().position(|line| line == "[source.crm]").unwrap();
    // What has no default is shown as an example.
    let examples =
        ["client_id", "client_secret", "client_secret_file", "new_contacts_event", "public_url", "contacts_min"];
    let shown: Vec<String> =
        text[..end].iter().filter(|line| !examples.contains(&line.split(' ').next().unwrap_or(""))).cloned().collect();
    let (mut shown, default) = (load(&shown.join("\n")), load(""));
    // Each stands in a file of its own.
    shown.program.clone_from(&default.program);
    assert_eq!(format!("{shown:?}"), format!("{default:?}"));
}

/// Where a key of [`config::known_keys`] stands in the example with every key in use.
fn place_in_example(key: &str, source: &str) -> Vec<String> {
    let options = [
        ("guard.*.", "guard.clear"),
        ("source.*.contact.*.prefix", "source.*.contact.externalCustomerId"),
        ("source.*.contact.*.", "source.*.contact.sms"),
        ("source.*.guard.*.", "source.*.guard.clear"),
        ("source.*.consent.*.", "source.*.consent.email"),
        ("source.*.subscriptions.categories.*.", "source.*.subscriptions.categories.offers"),
        ("source.*.segments.*.always", "source.*.segments.Customers"),
        ("source.*.segments.*.", "source.*.segments.VIP"),
        ("source.*.secrets.*.", "source.*.secrets.fresh"),
        ("source.*.preflight.*.", "source.*.preflight.require"),
        ("source.*.webhook.*.", "source.*.webhook.hmac"),
    ];
    let (key, option) = match options.iter().find(|(start, _)| key.starts_with(start)) {
        Some((_, place)) => (*place, key.rsplit('.').next()),
        None => (key, None),
    };
    let key = key.replace("fields.*", "fields.87166").replace("categories.*", "categories.news");
    let key = key.replace("vars.*", "vars.account").replace("secrets.*", "secrets.code");
    let key = key.replace("deletes.*", "deletes.removed").replace("errors.*", "errors.too_many");
    let key = key.replace("require.*", "require.account");
    let segments = key.replace("segments.*", "segments.VIP").replace('*', source);
    segments.split('.').chain(option).map(str::to_owned).collect()
}

fn set(table: &mut toml::Table, segments: &[String], value: toml::Value) {
    let (first, rest) = segments.split_first().unwrap();
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let inner = table.entry(first.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
    set(inner.as_table_mut().unwrap(), rest, value);
}

#[test]
fn a_value_of_the_wrong_type_is_told_for_every_key_and_hides_nothing() {
    let base: toml::Table = in_use().join("\n").parse().unwrap();
    let table_of = |name: &str| base["source"][name].as_table().unwrap().clone();
    let (singer, support, crm) = (table_of("shop"), table_of("support"), table_of("crm"));
    // What is right for some keys.
    let is_right = |key: &str, wrong: &str| match wrong {
        "true" => [
            "enabled",
            "shares_ids",
            "clear_at_first_sight",
            "owned",
            "always",
            "event_in_full_reads",
            "ordered",
            "follows_merges",
        ]
        .iter()
        .any(|end| key.ends_with(end)),
        "[]" => [
            "listen.names",
            "identity.unique",
            "form.groups",
            "form.subscriptions",
            "empty_statuses",
            "webhook.secrets",
            "pass_environment",
        ]
        .iter()
        .any(|end| key.ends_with(end)),
        "\"\"" => key == "source.*.webhook.*.prefix",
        _ => false,
    };
    // What stands in these is the CRM's own, of whatever type.
    let is_free = |key: &str| {
        let free =
            [".body", ".query", ".headers", ".equals", ".body_equals", ".actions", ".ids", ".extra", ".null_values"];
        !key.ends_with("webhook.body")
            && (free.iter().any(|end| key.ends_with(end)) || key.ends_with(".authorize_extra"))
    };
    for key in config::known_keys().into_iter().filter(|key| !is_free(key)) {
        let own = key.strip_prefix("source.*.").filter(|name| singer.contains_key(*name) && *name != "kind");
        let first = key.strip_prefix("source.*.").and_then(|rest| rest.split('.').next()).unwrap_or_default();
        let of_http = ["auth", "vars", "secrets", "webhook", "base_url", "null_values"];
        let source = if of_http.contains(&first) || (support.contains_key(first) && !crm.contains_key(first)) {
            "support"
        } else if key.contains(".form.") {
            "landing"
        } else if key.contains("categories") || own.is_some() {
            "shop"
        } else {
            "crm"
        };
        let segments = place_in_example(&key, source);
        for wrong in ["1.5", "1979-05-27", "[[1]]", "true", "{ a = 1 }", "[]", "\"\""] {
            if is_right(&key, wrong) {
                continue;
            }
            let mut table = base.clone();
            let value: toml::Table = format!("x = {wrong}").parse().unwrap();
            set(&mut table, &segments, value["x"].clone());
            // A second problem, which must not be hidden by the first, nor hide it.
            set(&mut table, &["unheard_of".to_owned()], toml::Value::Boolean(true));
            let text = problems(&toml::to_string(&table).unwrap());
            assert!(text.contains(&segments.join(".")), "{segments:?} = {wrong}: {text}");
            assert!(text.contains("unheard_of is not a known key"), "{segments:?} = {wrong}: {text}");
        }
    }
}

#[test]
fn pushed_records_without_a_change_time_are_right_and_worth_a_word() {
    let pushed = |more: &str, verify: &str| {
        let text = format!(
            "[source.shop]\nkind = \"webhook\"\n{more}\n[source.shop.contact]\nexternalCustomerId = \"id\"\nemail = \"email\"\n\
             [source.shop.webhook]\nverify = \"{verify}\"\nid = \"$.id\"\naction = \"upsert\"\nrecord = \"$\"\n\
             secret = \"whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\"\n"
        );
        load(&text).sources[0].doubt()
    };
    assert!(pushed("", "hubspot-v1").unwrap().contains("without changed_at"));
    assert_eq!(pushed("changed_at = \"updated\"", "hubspot-v1"), None);
    // a repeated delivery is known by its id
    assert_eq!(pushed("", "standard-webhooks"), None);
}

#[test]
fn an_address_as_the_id_of_a_record_is_worth_a_word() {
    let said = |key: &str, id: &str| {
        let keys = if key.is_empty() { String::new() } else { format!("key = \"{key}\"") };
        let contact = format!("externalCustomerId = \"{id}\"\nemail = [\"mail\", \"other\"]\nsms = \"phone\"");
        load(&source_of("shop", &keys, &contact, "")).sources[0].id_doubt()
    };
    for (key, id) in [("mail", "id"), ("other", "id"), ("phone", "id"), ("", "mail")] {
        assert!(said(key, id).unwrap().contains("set source.shop.key"), "{key} {id}");
    }
    for (key, id) in [("", "id"), ("id", "mail")] {
        assert_eq!(said(key, id), None, "{key} {id}");
    }
}

#[test]
fn days_on_the_clock_of_utc_are_worth_a_word() {
    let field = |id, kind| AdditionalField {
        id,
        key: format!("PERSONAL.F{id}"),
        name: String::new(),
        kind,
        min: None,
        max: None,
        readonly: false,
    };
    let kinds = [(1, FieldKind::Date), (2, FieldKind::DateTime), (3, FieldKind::Text)];
    let known: Catalog = kinds.into_iter().map(|(id, kind)| field(id, kind)).collect();
    let said = |zone: &str, fields: &str, catalog: &Catalog| {
        let text = format!(
            "[source.shop]\nkind = \"file\"\npath = \"c.csv\"\n{zone}\n[source.shop.contact]\n\
             externalCustomerId = \"id\"\nemail = \"email\"\nfields = {{ {fields} }}\n"
        );
        load(&text).sources[0].clock_doubt(catalog)
    };
    let utc = "time_zone = \"UTC\"";
    let plain = "moments of source shop are read on the clock of UTC: birthdays may move by a day; set time_zone to where the \
                 CRM's people write";
    assert_eq!(said(utc, "1 = \"born\"", &known).as_deref(), Some(plain));
    let by_key = "\"personal.f1\" = \"born\"";
    for alias in ["Etc/UTC", "Etc/UCT", "Zulu", "Etc/GMT", "GMT", "Etc/GMT+0", "Greenwich", "Universal"] {
        assert_eq!(said(&format!("time_zone = {alias:?}"), by_key, &known).as_deref(), Some(plain), "{alias}");
    }
    // a time is kept on the contact's clock, and a text on none; another zone was meant
    for (zone, fields) in [(utc, "2 = \"seen\", 3 = \"tier\""), (utc, ""), ("", "1 = \"born\"")] {
        assert_eq!(said(zone, fields, &known), None, "{zone} {fields}");
    }
    for zone in ["Europe/Kyiv", "Etc/GMT+3", "Europe/London"] {
        assert_eq!(said(&format!("time_zone = {zone:?}"), by_key, &known), None, "{zone}");
    }
    // nobody knows what the field is
    let unsure = said(utc, "1 = \"born\"", &Catalog::empty()).unwrap();
    assert!(unsure.contains("if one of its additional fields is a date; set time_zone"), "{unsure}");
}
