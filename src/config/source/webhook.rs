//! `[source.NAME.webhook]`: what a CRM posts to us, how it proves that it is the CRM, and what its events mean. Opens
//! nothing and shows no secret.
//!
//! A preset describes the webhook of its CRM; without its secret nothing of that is wrong, there just is no webhook.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::Deserialize;
use serde_json_path::JsonPath;
use toml::{Table, Value};

use super::SourceKind;
use super::contact::json_path;
use super::scope::{FilledText, Scope};
use crate::config::problem::KeyPath;
use crate::config::raw::Leaf;
use crate::config::reader::Reader;
use crate::config::secret::{self, Place};
use crate::source::webhook::{Action, ActionRule, BODY_BYTES_DEFAULT, BodyKind, Ids, Reading, Requirement, Webhook};

mod proof;

pub(in crate::config) use proof::RawHmac;

/// From so few bytes nothing is understood, and more would be held in memory for each delivery at once.
const BODY_BYTES: std::ops::RangeInclusive<usize> = 1024..=64 * 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawWebhook {
    body: Option<Leaf>,
    body_bytes_max: Option<Leaf>,
    events: Option<Leaf>,
    id: Option<Leaf>,
    ids: Option<Leaf>,
    action: Option<Leaf>,
    action_path: Option<Leaf>,
    actions: Option<Leaf>,
    merged_into: Option<Leaf>,
    record: Option<Leaf>,
    require: Option<Leaf>,
    verify: Option<Leaf>,
    token: Option<Leaf>,
    token_file: Option<Leaf>,
    token_path: Option<Leaf>,
    user: Option<Leaf>,
    password: Option<Leaf>,
    password_file: Option<Leaf>,
    secret: Option<Leaf>,
    secret_file: Option<Leaf>,
    secrets: Option<Leaf>,
    hmac: Option<Leaf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawRequirement {
    path: Option<Leaf>,
    equals: Option<Leaf>,
}

const BODIES: [(&str, BodyKind); 2] = [("json", BodyKind::Json), ("form", BodyKind::Form)];

const ACTIONS: [(&str, Action); 4] =
    [("fetch", Action::Fetch), ("upsert", Action::Upsert), ("delete", Action::Delete), ("ignore", Action::Ignore)];

/// The webhook of a source of this kind; one that announces what nobody can ask for is wrong.
pub(super) fn resolve_for(
    reader: &mut Reader,
    section: &KeyPath,
    leaf: Option<&Leaf>,
    (scope, kind): (&Scope, Option<&SourceKind>),
) -> Option<Webhook> {
    // `false` takes that of a preset away
    let leaf = leaf.filter(|leaf| leaf.value != Value::Boolean(false))?;
    let webhook = resolve(reader, &section.child("webhook"), Some(leaf), scope)?;
    let can_fetch = match kind? {
        SourceKind::Http(description) => description.fetch.is_some(),
        SourceKind::File(_) | SourceKind::Singer(_) | SourceKind::Webhook => false,
    };
    if can_fetch || webhook.reading.record.is_some() {
        return Some(webhook);
    }
    let accepted = format!("a source with [{section}.fetch], or {}.record = where the whole record is", leaf.key);
    reader.refuse(leaf, "announces records that this source cannot ask for", accepted)
}

/// `kind = "webhook"` has no keys of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPushed {}

/// A system that only pushes has a webhook, and nothing to be read by schedule.
pub(super) fn check_pushed(
    reader: &mut Reader,
    section: &KeyPath,
    (webhook, schedules): (Option<&Leaf>, [&Option<Leaf>; 2]),
) -> Option<SourceKind> {
    let mut is_right = true;
    if webhook.is_none() {
        let accepted =
            format!("a section [{section}.webhook] that says how the system proves itself, and what it sends");
        let problem =
            reader.problem(&section.child("webhook"), "is missing: the system can only push").accepted(accepted);
        reader.push(problem);
        is_right = false;
    }
    for leaf in schedules.into_iter().flatten() {
        let hint = "remove it: a source of kind \"webhook\" is never read";
        let problem = reader.problem(&leaf.key, "has no meaning where a system only pushes").hint(hint);
        reader.push(problem);
        is_right = false;
    }
    is_right.then_some(SourceKind::Webhook)
}

/// The webhook of a source; `None` where it has none, and where something is wrong, which has been told.
fn resolve(reader: &mut Reader, section: &KeyPath, leaf: Option<&Leaf>, scope: &Scope) -> Option<Webhook> {
    let table = reader.table(leaf)?;
    let raw: RawWebhook = reader.section(section, table, &[]);
    let mut part = Part { reader, scope, section };
    let verification = match proof::resolve(&mut part, &raw) {
        proof::Proof::Of(verification) => Some(verification),
        proof::Proof::Wrong => None,
        proof::Proof::Off => return None,
    };
    let body = match &raw.body {
        Some(_) => part.reader.choice(raw.body.as_ref(), &BODIES, &[]),
        None => Some(BodyKind::Json),
    };
    let body_bytes_max = match &raw.body_bytes_max {
        Some(leaf) => part.reader.bytes(Some(leaf), BODY_BYTES),
        None => Some(BODY_BYTES_DEFAULT),
    };
    let requirements = requirements(&mut part, raw.require.as_ref());
    let reading = reading(&mut part, &raw);
    Some(Webhook {
        body: body?,
        body_bytes_max: body_bytes_max?,
        verification: verification?,
        requirements: requirements?,
        reading: reading?,
    })
}

/// What every part of the section needs.
struct Part<'a> {
    reader: &'a mut Reader,
    scope: &'a Scope,
    section: &'a KeyPath,
}

impl Part<'_> {
    fn required(&mut self, leaf: Option<&Leaf>, name: &str, accepted: &str) {
        self.reader.required(leaf, &self.section.child(name), accepted);
    }

    /// Of two that exclude each other: what the operator wrote, and not what the preset did.
    fn chosen<'l>(&self, leaf: Option<&'l Leaf>, others: &[Option<&Leaf>]) -> Option<&'l Leaf> {
        let leaf = leaf?;
        let is_other = others.iter().flatten().any(|other| self.reader.is_set(&other.key));
        (self.reader.is_set(&leaf.key) || !is_other).then_some(leaf)
    }

    fn filled(&mut self, leaf: Option<&Leaf>, accepted: &str) -> Option<FilledText> {
        let text = self.reader.text(leaf, accepted)?;
        self.scope.fill(self.reader, leaf?, text)
    }

    /// A path that begins at the body, or at an event.
    fn path(&mut self, leaf: Option<&Leaf>) -> Option<JsonPath> {
        let text = self.reader.text(leaf, "a JSONPath such as \"$.id\"")?;
        json_path(self.reader, leaf?, text)?;
        JsonPath::parse(text).ok()
    }

    /// The same for a key that may be missing: the outer `None` is wrong.
    #[expect(clippy::option_option, reason = "wrong and missing are two things, as everywhere in the configuration")]
    fn optional_path(&mut self, leaf: Option<&Leaf>) -> Option<Option<JsonPath>> {
        match leaf {
            Some(leaf) => self.path(Some(leaf)).map(Some),
            None => Some(None),
        }
    }

    /// A secret in `name`, in `NAME_file`, or in the credential `SOURCE_webhook_NAME`.
    fn secret(&mut self, name: &str, value: Option<&Leaf>, file: Option<&Leaf>) -> Option<SecretString> {
        let (value, file) = (self.chosen(value, &[file]), self.chosen(file, &[value]));
        if let (Some(leaf), None) = (value, file)
            && let Value::String(text) = &leaf.value
            && text.contains("{secret.")
        {
            return self.scope.fill(self.reader, leaf, text).map(FilledText::into_secret);
        }
        let credential = self.credential(name);
        let keys = format!("{name}, {name}_file");
        let place = Place { credential: &credential, keys: &keys, accepted: "text, or \"{secret.NAME}\"" };
        secret::resolve(self.reader, &place, value, file)
    }

    fn credential(&self, name: &str) -> String {
        format!("{}_webhook_{name}", self.section.segments().get(1).map_or("", String::as_str))
    }
}

fn requirements(part: &mut Part<'_>, leaf: Option<&Leaf>) -> Option<Vec<Requirement>> {
    let Some(leaf) = leaf else { return Some(Vec::new()) };
    let table = part.reader.table(Some(leaf))?;
    let (count, mut all) = (table.len(), Vec::new());
    for (name, value) in table {
        all.extend(requirement(part, &Leaf::of(leaf.key.child(&name), value)));
    }
    (all.len() == count).then_some(all)
}

fn requirement(part: &mut Part<'_>, leaf: &Leaf) -> Option<Requirement> {
    let table = part.reader.table(Some(leaf))?;
    let raw: RawRequirement = part.reader.section(&leaf.key, table, &[]);
    part.reader.required(raw.path.as_ref(), &leaf.key.child("path"), "a JSONPath of the body");
    part.reader.required(raw.equals.as_ref(), &leaf.key.child("equals"), "the text that must stand there");
    let path = part.path(raw.path.as_ref());
    let equals = match raw.equals.as_ref().map(|leaf| &leaf.value) {
        // As a JSON body may have them; they are compared as text.
        Some(value @ (Value::Integer(_) | Value::Boolean(_))) => Some(FilledText::Plain(value.to_string())),
        _ => part.filled(raw.equals.as_ref(), "text, a whole number, true or false"),
    };
    let equals = equals?;
    let is_secret = equals.is_secret();
    Some(Requirement { name: leaf.key.last().to_owned(), path: path?, equals: equals.into_secret(), is_secret })
}

fn reading(part: &mut Part<'_>, raw: &RawWebhook) -> Option<Reading> {
    let events = match &raw.events {
        Some(leaf) => part.path(Some(leaf)),
        None => JsonPath::parse("$").ok(),
    };
    let merged_into = part.optional_path(raw.merged_into.as_ref());
    let record = part.optional_path(raw.record.as_ref());
    let is_whole = raw.record.is_some();
    let by_action = part.chosen(raw.ids.as_ref(), &[raw.id.as_ref()]);
    let ids = match by_action {
        Some(leaf) => by_place(part, leaf, is_whole),
        None => one_place(part, raw, is_whole),
    };
    Some(Reading { events: events?, ids: ids?, merged_into: merged_into?, record: record? })
}

/// `ids = { delete = "…", fetch = "…" }`.
fn by_place(part: &mut Part<'_>, leaf: &Leaf, is_whole: bool) -> Option<Ids> {
    let table = part.reader.table(Some(leaf))?;
    let (count, mut all) = (table.len(), Vec::new());
    for (word, value) in table {
        let path = Leaf::of(leaf.key.child(&word), value);
        let action = action(part, &Leaf::of(path.key.clone(), Value::String(word)), is_whole);
        let path = part.path(Some(&path));
        all.extend(action.zip(path));
    }
    if count == 0 {
        return part.reader.refuse(leaf, "names no action", "{ fetch = \"…\", delete = \"…\" }");
    }
    (all.len() == count).then_some(Ids::ByAction(all))
}

/// `id`, and the action of the whole hook or of the event.
fn one_place(part: &mut Part<'_>, raw: &RawWebhook, is_whole: bool) -> Option<Ids> {
    part.required(raw.id.as_ref(), "id", "the JSONPath of the contact's id in an event, or ids = { fetch = \"…\" }");
    let id = part.path(raw.id.as_ref());
    let told = [raw.action_path.as_ref(), raw.actions.as_ref()];
    let fixed = part.chosen(raw.action.as_ref(), &told);
    let rule = match (fixed, raw.action_path.as_ref()) {
        (Some(leaf), _) => action(part, leaf, is_whole).map(ActionRule::Fixed),
        (None, Some(path)) => {
            part.required(
                raw.actions.as_ref(),
                "actions",
                "{ word = \"fetch\" | \"upsert\" | \"delete\" | \"ignore\" }",
            );
            let path = part.path(Some(path));
            let actions = actions(part, raw.actions.as_ref(), is_whole);
            path.zip(actions).map(|(path, actions)| ActionRule::Told { path, actions })
        }
        (None, None) => Some(ActionRule::Fixed(if is_whole { Action::Upsert } else { Action::Fetch })),
    };
    if let (None, None, Some(leaf)) = (fixed, &raw.action_path, &raw.actions) {
        part.required(None, "action_path", "the JSONPath of the word in an event");
        let _: Option<Table> = part.reader.table(Some(leaf));
        return None;
    }
    Some(Ids::One { id: id?, action: rule? })
}

fn actions(part: &mut Part<'_>, leaf: Option<&Leaf>, is_whole: bool) -> Option<BTreeMap<String, Action>> {
    let table = part.reader.table(leaf)?;
    let (count, mut all, leaf) = (table.len(), BTreeMap::new(), leaf?);
    for (word, value) in table {
        let action = action(part, &Leaf::of(leaf.key.child(&word), value), is_whole);
        all.extend(action.map(|action| (word, action)));
    }
    (all.len() == count).then_some(all)
}

fn action(part: &mut Part<'_>, leaf: &Leaf, is_whole: bool) -> Option<Action> {
    let action = part.reader.choice(Some(leaf), &ACTIONS, &[])?;
    if action == Action::Upsert && !is_whole {
        let accepted = format!("\"fetch\", or {} = the JSONPath of the whole record in an event", "record");
        return part.reader.refuse(leaf, "takes the record from the event, and nothing says where it is", accepted);
    }
    Some(action)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::config::reader::Origins;

    /// A reader to whom the operator has set `keys` of `[source.crm.webhook]`.
    fn reader(directory: &Path, keys: &[&str]) -> Reader {
        let section = KeyPath::of(&["source", "crm", "webhook"]);
        let lines = (1..).zip(keys).map(|(line, key)| (section.child(key), line));
        let origins = Origins {
            path: directory.join("config.toml"),
            directory: directory.to_owned(),
            lines: lines.collect(),
            ..Origins::default()
        };
        Reader { origins, problems: Vec::new(), doubts: Vec::new() }
    }

    /// What `text`, of which the operator has set all, means, and what is wrong with it.
    fn resolved(text: &str) -> (Option<Webhook>, String) {
        let table: Table = text.parse().unwrap();
        let keys: Vec<&str> = table.keys().map(String::as_str).collect();
        let folder = tempfile::tempdir().unwrap();
        resolved_in(&mut reader(folder.path(), &keys), &table)
    }

    fn resolved_in(reader: &mut Reader, table: &Table) -> (Option<Webhook>, String) {
        let secrets: Table = "hook = \"hunter2-hunter2-hunter2\"\nother = \"hunter3-hunter3-hunter3\"".parse().unwrap();
        let vars: Table = "subdomain = \"examplecrm\"".parse().unwrap();
        let at = |name: &str, table: Table| Leaf::of(KeyPath::of(&["source", "crm", name]), Value::Table(table));
        let scope = super::super::scope::resolve(reader, "crm", Some(&at("vars", vars)), Some(&at("secrets", secrets)));
        let leaf = at("webhook", table.clone());
        let webhook = resolve(reader, &leaf.key, Some(&leaf), &scope);
        (webhook, reader.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn every_kind_of_proof_can_be_described() {
        let cases = [
            ("verify = \"none\"", "None"),
            ("verify = \"path_token\"\ntoken = \"0123456789abcdef\"", "PathToken(****)"),
            ("verify = \"path_token\"\ntoken = \"{secret.hook}\"", "PathToken(****)"),
            ("verify = \"basic\"\nuser = \"{var.subdomain}\"\npassword = \"hunter2\"", "Basic(****)"),
            ("verify = \"body_token\"\ntoken = \"x\"\ntoken_path = \"$.auth.token\"", "BodyToken(****)"),
            ("verify = \"standard-webhooks\"\nsecret = \"whsec_aHVudGVyMi1odW50ZXIyLWh1bnRlcjI=\"", "Standard(****)"),
            ("verify = \"hubspot-v1\"\nsecret = \"{secret.hook}\"", "HubspotV1(****)"),
            ("verify = \"hubspot-v2\"\nsecrets = [\"{secret.hook}\", \"{secret.other}\"]", "HubspotV2(****)"),
            ("verify = \"hubspot-v3\"\nsecret = \"a\"\nsecrets = [\"b\"]", "HubspotV3(****)"),
            ("verify = \"espocrm\"\nsecrets = [\"id1:key1\", \"id2:key2\"]", "Espocrm(****)"),
            ("verify = \"hmac\"\nsecret = \"x\"\nhmac = { header = \"X-Signature\" }", "Hmac(****)"),
            (
                "verify = \"hmac\"\nsecret = \"x\"\nhmac = { header = \"X-S\", algo = \"sha512\", encoding = \"base64\", \
                 prefix = \"sha512=\", message = \"{timestamp}.{body}\", timestamp_header = \"X-T\", \
                 timestamp_unit = \"ms\", tolerance = \"1m\" }",
                "Hmac(****)",
            ),
        ];
        for (text, shown) in cases {
            let (webhook, problems) = resolved(&format!("id = \"$.id\"\n{text}"));
            assert_eq!(problems, "", "{text}");
            let webhook = webhook.unwrap();
            assert_eq!(format!("{:?}", webhook.verification), shown, "{text}");
            assert!(!format!("{webhook:?}").contains("hunter"), "{webhook:?}");
            assert_eq!((webhook.body, webhook.body_bytes_max()), (BodyKind::Json, 1024 * 1024));
        }
    }

    #[test]
    fn what_could_protect_nothing_is_told_and_no_secret_is_shown() {
        let cases = [
            ("token = \"hunter2-hunter2-hunter2\"", "source.crm.webhook.verify is missing"),
            ("verify = \"path_token\"\ntoken = \"hunter2\"", "webhook.token cannot protect an address"),
            ("verify = \"path_token\"\ntoken = \"hunter2/hunter2/hunter2\"", "webhook.token cannot protect an address"),
            ("verify = \"path_token\"\ntoken = 4711471", "webhook.token is a whole number"),
            ("verify = \"path_token\"", "webhook.token is missing"),
            ("verify = \"hubspot-v3\"", "the credential crm_webhook_secret"),
            ("verify = \"hubspot-v3\"\nsecret = \"hunter2\"\nsecret_file = \"x\"", "is given more than once"),
            ("verify = \"hubspot-v3\"\nsecrets = [\"hunter2\", \"\"]", "webhook.secrets holds an empty text"),
            ("verify = \"hubspot-v3\"\nsecrets = \"hunter2\"", "webhook.secrets is text"),
            ("verify = \"hubspot-v3\"\nsecret = \"{secret.hok}\"", "did you mean {secret.hook}?"),
            ("verify = \"standard-webhooks\"\nsecret = \"whsec_hunter2!\"", "webhook.secret is not base64"),
            ("verify = \"standard-webhooks\"\nsecret = \"whsk_hunter2\"", "private key"),
            ("verify = \"basic\"\npassword = \"hunter2\"", "webhook.user is missing"),
            ("verify = \"body_token\"\ntoken = \"hunter2\"", "webhook.token_path is missing"),
            ("verify = \"hmac\"\nsecret = \"hunter2\"", "webhook.hmac is missing"),
            ("verify = \"hmac\"\nsecret = \"hunter2\"\nhmac = { algo = \"md5\" }", "webhook.hmac.header is missing"),
            (
                "verify = \"hmac\"\nsecret = \"hunter2\"\nhmac = { header = \"X-S\", message = \"{timestamp}\" }",
                "a signature that does not cover the body proves nothing",
            ),
            (
                "verify = \"hmac\"\nsecret = \"hunter2\"\nhmac = { header = \"X-S\", timestamp_header = \"X-T\" }",
                "is not signed",
            ),
            (
                "verify = \"hmac\"\nsecret = \"hunter2\"\nhmac = { header = \"X-S\", message = \"{timestamp}{body}\" }",
                "hmac.timestamp_header is missing",
            ),
            ("verify = \"standard_webhooks\"\nsecret = \"hunter2\"", "did you mean \"standard-webhooks\"?"),
        ];
        for (text, told) in cases {
            let (webhook, problems) = resolved(&format!("id = \"$.id\"\n{text}"));
            assert!(webhook.is_none() && problems.contains(told), "{text}: {problems}");
            assert!(!problems.contains("hunter2") && !problems.contains("4711471"), "{problems}");
        }
    }

    #[test]
    fn a_presets_webhook_is_there_once_its_secret_is() {
        let preset: Table = "id = \"$.id\"\nverify = \"path_token\"".parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (webhook, problems) = resolved_in(&mut reader(folder.path(), &[]), &preset);
        assert!(webhook.is_none() && problems.is_empty(), "{problems}");
        // A credential is enough.
        let path = folder.path().join("crm_webhook_token");
        std::fs::write(&path, "0123456789abcdef-of-systemd\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let (webhook, problems) = resolved_in(&mut reader(folder.path(), &[]), &preset);
        assert!(webhook.is_some(), "{problems}");
        // A preset never opens a door without a lock.
        let open: Table = "id = \"$.id\"\nverify = \"none\"".parse().unwrap();
        assert!(resolved_in(&mut reader(folder.path(), &[]), &open).0.is_none());
    }

    #[test]
    fn what_the_operator_writes_goes_before_what_excludes_it_in_the_preset() {
        let table: Table = "verify = \"none\"\nid = \"$.id\"\naction = \"fetch\"\naction_path = \"$.t\"\n\
            actions = { x = \"delete\" }\nids = { fetch = \"$.a\" }"
            .parse()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ids = |keys: &[&str]| resolved_in(&mut reader(folder.path(), keys), &table).0.unwrap().reading.ids;
        assert!(matches!(ids(&["verify", "ids"]), Ids::ByAction(_)));
        assert!(matches!(ids(&["verify", "id", "action"]), Ids::One { action: ActionRule::Fixed(Action::Fetch), .. }));
        let told = ids(&["verify", "id", "actions"]);
        assert!(matches!(told, Ids::One { action: ActionRule::Told { .. }, .. }));
    }

    #[test]
    fn events_are_described_and_mistakes_in_them_are_told() {
        let good = "verify = \"none\"\nbody = \"form\"\nbody_bytes_max = \"64KiB\"\nid = \"$.id\"\n\
            action_path = \"$.t\"\nactions = { a = \"upsert\", b = \"delete\", c = \"ignore\" }\nrecord = \"$\"\n\
            merged_into = \"$.winner\"\nrequire = { account = { path = \"$.a\", equals = \"{var.subdomain}\" }, \
            number = { path = \"$.n\", equals = 7 }, secret = { path = \"$.s\", equals = \"{secret.hook}\" } }";
        let (webhook, problems) = resolved(good);
        let webhook = webhook.unwrap_or_else(|| panic!("{problems}"));
        assert_eq!((webhook.body, webhook.body_bytes_max()), (BodyKind::Form, 64 * 1024));
        let are_secret: Vec<bool> = webhook.requirements.iter().map(|required| required.is_secret).collect();
        assert_eq!(are_secret, [false, false, true]);
        assert!(webhook.reading.record.is_some() && webhook.reading.merged_into.is_some());
        let cases = [
            ("", "webhook.id is missing"),
            ("id = \"$.[\"", "webhook.id is not a JSONPath"),
            ("id = \"$.id\"\naction = \"upsert\"", "takes the record from the event"),
            ("id = \"$.id\"\naction = \"fech\"", "did you mean \"fetch\"?"),
            ("id = \"$.id\"\naction_path = \"$.t\"", "webhook.actions is missing"),
            ("id = \"$.id\"\nactions = { a = \"delete\" }", "webhook.action_path is missing"),
            ("ids = {}", "webhook.ids names no action"),
            ("ids = { fetch = \"$.a\", remove = \"$.b\" }", "webhook.ids.remove is not one of its values"),
            ("id = \"$.id\"\nrequire = { a = {} }", "webhook.require.a.equals is missing"),
            ("id = \"$.id\"\nrequire = { a = { path = \"$.a\", equals = \"{var.x}\" } }", "names {var.x}"),
            ("id = \"$.id\"\nbody_bytes_max = 10", "webhook.body_bytes_max is out of range"),
            ("id = \"$.id\"\nidd = \"$.id\"", "did you mean `source.crm.webhook.id`?"),
        ];
        for (text, told) in cases {
            let (webhook, problems) = resolved(&format!("verify = \"none\"\n{text}"));
            assert!(problems.contains(told), "{text}: {problems}");
            assert_eq!(webhook.is_some(), text.contains("idd"), "{text}");
        }
    }
}
