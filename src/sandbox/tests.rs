//! The sandbox's contacts calls: what it refuses, what it writes, whom it finds.

mod crm_api;
mod deeds;
mod faults;
mod oauth;
mod upload;

use std::time::Duration;

use serde_json::{Value, json};

use super::*;

/// A sandbox on tokio's paused time, and a token for it.
pub(super) struct Bench {
    pub(super) sandbox: Sandbox,
    token: String,
}

impl Bench {
    pub(super) fn new(options: SandboxOptions) -> Self {
        let sandbox = Sandbox::new(options, Clock::simulated(Timestamp(1_770_000_000_000)));
        let token = sandbox.issue_tokens().access_token;
        Self { sandbox, token }
    }

    pub(super) fn request(&self, method: &str, path: &str, body: &str) -> http::Request<Bytes> {
        http::Request::builder()
            .method(method)
            .uri(format!("https://reteno.com/api/{path}"))
            .header("Authorization", format!("Bearer {}", self.token))
            .header("Content-Type", "application/json")
            .body(Bytes::from(body.to_owned()))
            .unwrap()
    }

    pub(super) fn send(&self, method: &str, path: &str, body: &str) -> Outcome {
        self.sandbox.answer(self.request(method, path, body))
    }

    pub(super) fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        read(self.send(method, path, &body.to_string()))
    }

    pub(super) fn submit(&self, body: &Value) -> String {
        let (status, answer) = self.call("POST", "v1/contacts", body);
        assert_eq!((status, answer.get("failedContacts")), (200, None), "{answer}");
        answer["asyncSessionId"].as_str().unwrap().to_owned()
    }

    pub(super) fn status(&self, session: &str) -> Value {
        let (status, answer) = read(self.send("GET", &format!("v1/importstatus/{session}"), ""));
        assert_eq!(status, 200);
        answer
    }

    /// Submits and waits until it is applied.
    async fn import(&self, body: &Value) -> Value {
        let session = self.submit(body);
        tokio::time::advance(Duration::from_secs(6)).await;
        self.status(&session)
    }

    fn contact(&self, external_id: &str) -> StoredContact {
        self.sandbox.contact_by_external_id(external_id).unwrap()
    }
}

pub(super) fn read(outcome: Outcome) -> (u16, Value) {
    let Outcome::Answer(answer) = outcome else { panic!("{outcome:?}") };
    let body = serde_json::from_slice(answer.body())
        .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(answer.body()).into_owned()));
    (answer.status().as_u16(), body)
}

/// A contact with an e-mail.
pub(super) fn person(id: &str, email: &str, first_name: &str) -> Value {
    json!({ "externalCustomerId": id, "firstName": first_name, "channels": [{ "type": "email", "value": email }] })
}

/// A bulk request that writes first names and e-mails.
pub(super) fn bulk(contacts: &[Value]) -> Value {
    json!({
        "contacts": contacts,
        "dedupeOn": "externalCustomerId",
        "contactFields": ["firstName", "email"],
        "restoreDeleted": false,
    })
}

fn with(mut body: Value, key: &str, value: Value) -> Value {
    body[key] = value;
    body
}

#[tokio::test(start_paused = true)]
async fn whole_request_is_refused_for_what_no_reteno_takes() {
    let bench = Bench::new(SandboxOptions::default());
    let one = || bulk(&[person("1", "a@example.com", "Ann")]);
    let contact =
        |key: &str, value: Value| with(one(), "contacts", json!([with(person("1", "a@example.com", "A"), key, value)]));
    let mut no_dedupe = one();
    no_dedupe.as_object_mut().unwrap().remove("dedupeOn");
    let many: Vec<Value> = (0..3001).map(|n| person(&n.to_string(), &format!("a{n}@example.com"), "Ann")).collect();
    let cases = [
        ("no contacts", with(one(), "contacts", json!([]))),
        ("a contact without channels", with(one(), "contacts", json!([{ "externalCustomerId": "1" }]))),
        ("channels null", contact("channels", Value::Null)),
        ("a null name", contact("firstName", Value::Null)),
        ("a null in the request", with(one(), "groupNames", Value::Null)),
        ("a null in an address", contact("address", json!({ "town": null }))),
        (
            "a null in a device",
            contact("channels", json!([{ "type": "email", "value": "a@b.co", "device": { "os": null } }])),
        ),
        ("an unknown key", with(one(), "contactfields", json!([]))),
        ("an unknown key of a contact", contact("email", json!("a@example.com"))),
        ("a number for a name", contact("firstName", json!(5))),
        ("no dedupeOn", no_dedupe),
        ("an unknown dedupeOn", with(one(), "dedupeOn", json!("phone"))),
        ("fieldId without its id", with(one(), "dedupeOn", json!("fieldId"))),
        ("an unknown contactFields name", with(one(), "contactFields", json!(["city"]))),
        ("an unknown id in customFieldsIDs", with(one(), "customFieldsIDs", json!([87166, 1]))),
        ("an unknown id in fields", contact("fields", json!([{ "id": 1, "value": "x" }]))),
        ("an additional value that is no string", contact("fields", json!([{ "id": 87166, "value": 5 }]))),
        ("an unknown channel type", contact("channels", json!([{ "type": "fax", "value": "1" }]))),
        ("an unknown catalogue", contact("addressBookId", json!(1))),
        ("a bad event key", with(one(), "eventKeyForNewContacts", json!("a|b"))),
        ("3001 contacts", bulk(&many)),
    ];
    for (what, body) in cases {
        assert_eq!(bench.call("POST", "v1/contacts", &body).0, 400, "{what}");
    }
    assert_eq!(bench.call("POST", "v1/contacts", &one()).0, 200);
    assert_eq!(bench.call("POST", "v1/contacts", &bulk(&many[..3000])).0, 200);
    assert_eq!(bench.sandbox.tally().imports_accepted, 2);
}

#[tokio::test(start_paused = true)]
async fn one_failed_contact_is_an_object_and_several_are_an_array() {
    let bench = Bench::new(SandboxOptions::default());
    let bad = |id: &str| person(id, "nowhere", "Ann");
    let (status, one) = bench.call("POST", "v1/contacts", &bulk(&[bad("1"), person("2", "b@example.com", "Bob")]));
    assert_eq!(status, 200);
    assert_eq!(one["failedContacts"]["channels"], json!([{ "type": "email", "value": "nowhere" }]));
    assert_eq!(one["failedContacts"]["error"], "Invalid email");
    assert_eq!(one["failedContacts"].get("externalCustomerId"), None);
    assert!(one["asyncSessionId"].is_string());
    let (_, two) = bench.call("POST", "v1/contacts", &bulk(&[bad("1"), bad("3")]));
    assert_eq!(two["failedContacts"].as_array().unwrap().len(), 2);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(bench.sandbox.contacts().len(), 1);
    let tally = bench.sandbox.tally();
    assert_eq!((tally.contacts_received, tally.contacts_failed, tally.contacts_written), (4, 3, 1));
    assert_eq!(tally.failures.get("Invalid email"), Some(&3));
}

#[test]
fn values_are_judged_as_the_documents_say() {
    use super::rules::{email, first_name, language, last_name, phone, time_zone};
    type Rule = fn(&str) -> Result<String, String>;
    let table: [(Rule, &[&str], &[&str]); 6] = [
        (
            email,
            &["a@example.com", "o'b+x@mail.example.org", "A@EXAMPLE.COM"],
            &["", "a", "a@b", "a.@b.co", "a b@c.co", "a@-b.co", "a@b..co", "a@b.c", "пошта@example.com"],
        ),
        (
            phone,
            &["+380955547708", "380955547708", "1234567"],
            &["", "+", "123456", "1234567890123456", "+38 095", "0955547708", "(38)0955547"],
        ),
        (
            first_name,
            &[
                "",
                "Ann",
                "О'Коннор",
                "Дар’я",
                "Лук'яненко",
                "Anne-Marie",
                "Jr.",
                "Agent 007",
                "Іван Іванович де ла Крус",
                "ʻIolani",
            ],
            &[
                "123",
                "Ann!",
                "-Ann",
                "Ann-",
                "O'",
                "'Ann",
                "Anna.",
                "A..",
                "R2D2 007",
                "Ann  Bo",
                " Ann",
                "aaaa bbbb cccc dddd",
                "a b c d",
                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                "'",
                "A@b",
            ],
        ),
        (last_name, &["aaaa bbbb cccc dddd", "D'Angelo", "van der Berg Jr."], &["1", "x_y"]),
        (language, &["uk", "en-US", "zh-Hant-TW", ""], &["u", "english", "en_US", "en-", "12"]),
        (time_zone, &["Europe/Kyiv", "UTC", ""], &["Kyiv", "+02:00", "Europe/Nowhere"]),
    ];
    for (place, (rule, good, bad)) in table.iter().enumerate() {
        for value in *good {
            assert!(rule(value).is_ok(), "{place}: {value:?} is good");
        }
        for value in *bad {
            assert!(rule(value).is_err(), "{place}: {value:?} is bad");
        }
    }
    assert_eq!(email("A@EXAMPLE.com").unwrap(), "a@example.com");
    assert_eq!(phone("+380955547708").unwrap(), "380955547708");
}

#[test]
fn additional_values_are_judged_by_type() {
    let words = || vec!["gold".to_owned(), "silver".to_owned()];
    let long = "x".repeat(1001);
    let longer = "x".repeat(5001);
    let cases: [(FieldKind, &[&str], &[&str]); 9] = [
        (FieldKind::TextField, &["", &long[1..]], &[&long]),
        (FieldKind::TextArea, &[&long], &[&longer]),
        (FieldKind::Number { bounds: None }, &["-5", "2147483647"], &["2147483648", "1.0", "+1", "five"]),
        (FieldKind::Number { bounds: Some((1, 5)) }, &["1", "5"], &["0", "6"]),
        (FieldKind::Decimal, &["1", "-1.50"], &["1,5", "1.", ".5", "1e3"]),
        (FieldKind::Date, &["2026-02-28"], &["2026-02-29", "28.02.2026", "2026-2-28"]),
        (FieldKind::DateTime, &["2026-02-28T23:59"], &["2026-02-28 23:59", "2026-02-28T23:59:00", "2026-02-28T24:00"]),
        (FieldKind::ComboBox(words()), &["gold", ""], &["Gold", "gold,silver"]),
        (
            FieldKind::CheckBoxList(words()),
            &["gold", "gold,silver", "gold, silver"],
            &["gold;silver", "gold,lead", "gold,"],
        ),
    ];
    for (kind, good, bad) in cases {
        let field = AdditionalField::new(1, "P", "F", kind);
        for value in good {
            assert!(rules::additional(&field, value).is_ok(), "{field:?} takes {value}");
        }
        for value in bad {
            assert!(rules::additional(&field, value).is_err(), "{field:?} refuses {value}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn import_is_applied_late_and_its_status_follows() {
    let delay = Duration::from_secs(10);
    let bench = Bench::new(SandboxOptions { import_delay: delay..=delay, ..SandboxOptions::default() });
    let session = bench.submit(&bulk(&[person("1", "A@Example.com", "Ann"), person("2", "b@example.com", "Bob")]));
    assert_eq!(bench.status(&session)["status"], "STARTED");
    assert!(bench.sandbox.contacts().is_empty());
    let mut seen = Vec::new();
    for _ in 0..110 {
        tokio::time::advance(Duration::from_millis(100)).await;
        seen.push(bench.status(&session)["status"].as_str().unwrap().to_owned());
    }
    seen.dedup();
    assert_eq!(seen.last().unwrap(), "FINISHED");
    assert!(seen.contains(&"IMPORTING".to_owned()), "{seen:?}");
    let mapping = bench.status(&session)["mapping"].clone();
    let values: BTreeSet<&str> =
        mapping.as_array().unwrap().iter().map(|p| p["dedupeValue"].as_str().unwrap()).collect();
    assert_eq!(values, BTreeSet::from(["1", "2"]));
    let ann = bench.contact("1");
    assert_eq!(ann.email.as_deref(), Some("a@example.com"), "stored in lower case");
    assert!(mapping.as_array().unwrap().iter().any(|pair| pair["contactId"] == ann.id));
    assert!(ann.id > i64::from(u32::MAX), "ids need 64 bits");
    assert_eq!(read(bench.send("GET", "v1/importstatus/none", "")).0, 404);
}

#[tokio::test(start_paused = true)]
async fn mapping_holds_stored_values_and_may_be_one_object() {
    let readings = Readings { mapping_value: MappingValue::DedupeOn, ..Readings::default() };
    let bench = Bench::new(SandboxOptions { readings, ..SandboxOptions::default() });
    let (mut objects, mut arrays) = (0, 0);
    for n in 0..20 {
        let channels = json!([{ "type": "sms", "value": format!("+38067{:07}", 1_000_000 + n) }]);
        let body = json!({ "contacts": [{ "channels": channels }], "dedupeOn": "sms" });
        let mapping = bench.import(&body).await["mapping"].clone();
        let pair = mapping.get(0).unwrap_or(&mapping);
        assert_eq!(pair["dedupeValue"], format!("38067{:07}", 1_000_000 + n));
        if mapping.is_array() { arrays += 1 } else { objects += 1 }
    }
    assert!(objects > 3 && arrays > 3, "{objects} objects, {arrays} arrays");
}

#[tokio::test(start_paused = true)]
async fn listed_fields_without_a_value_are_wiped_and_others_stay() {
    let bench = Bench::new(SandboxOptions::default());
    let full = json!({
        "contacts": [{
            "externalCustomerId": "1", "firstName": "Ann", "lastName": "Lee", "languageCode": "uk",
            "channels": [{ "type": "email", "value": "a@example.com" }, { "type": "sms", "value": "+380671234567" }],
            "address": { "town": "Kyiv" },
            "fields": [{ "id": 87166, "value": "gold" }, { "id": 87171, "value": "5" }],
        }],
        "dedupeOn": "externalCustomerId",
        "customFieldsIDs": [87166],
        "groupNames": ["A", "B"],
    });
    bench.import(&full).await;
    let ann = bench.contact("1");
    assert_eq!(ann.fields.get("87166").map(String::as_str), Some("gold"));
    assert_eq!(ann.fields.get("87171"), None, "not listed in customFieldsIDs");
    assert_eq!(ann.phone.as_deref(), Some("380671234567"));

    let mut some = bulk(&[person("1", "new@example.com", "")]);
    some["contactFields"] = json!(["firstName", "town"]);
    some["groupNamesExclude"] = json!(["B"]);
    bench.import(&some).await;
    let ann = bench.contact("1");
    assert_eq!(ann.email.as_deref(), Some("a@example.com"), "e-mail is not listed");
    assert_eq!(ann.fields.keys().collect::<Vec<_>>(), ["87166", "languageCode", "lastName"]);
    assert_eq!(ann.segments, BTreeSet::from(["A".to_owned()]));

    let mut rest = bulk(&[person("1", "a@example.com", "Ann")]);
    rest.as_object_mut().unwrap().remove("contactFields");
    rest["customFieldsIDs"] = json!([87166]);
    bench.import(&rest).await;
    let ann = bench.contact("1");
    assert_eq!(ann.fields.keys().collect::<Vec<_>>(), ["firstName"], "without contactFields every field is written");
    assert_eq!(ann.phone, None);
    let log = bench.sandbox.applied_log("1");
    assert_eq!(log.len(), 3);
    assert_eq!(log[2].values.get("lastName"), Some(&None));
}

#[tokio::test(start_paused = true)]
async fn unknown_external_id_joins_only_a_contact_without_one() {
    let bench = Bench::new(SandboxOptions::default());
    let nameless = |email: &str| json!({ "contacts": [{ "channels": [{ "type": "email", "value": email }] }], "dedupeOn": "email" });
    bench.import(&nameless("a@example.com")).await;
    let first = bench.sandbox.contacts()[0].id;
    bench.import(&bulk(&[person("1", "A@example.com", "Ann")])).await;
    assert_eq!(bench.contact("1").id, first, "joined by e-mail");
    bench.import(&bulk(&[person("2", "a@example.com", "Bob")])).await;
    assert_ne!(bench.contact("2").id, first, "the e-mail's bearer has another external id");
    bench.import(&bulk(&[person("1", "moved@example.com", "Ann")])).await;
    assert_eq!(bench.contact("1").email.as_deref(), Some("moved@example.com"));
    assert_eq!(bench.sandbox.contacts().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn deleted_contact_is_skipped_unless_restored() {
    let bench = Bench::new(SandboxOptions::default());
    bench.import(&bulk(&[person("1", "a@example.com", "Ann")])).await;
    assert!(bench.sandbox.delete_contact("1"));
    let status = bench.import(&bulk(&[person("1", "a@example.com", "Anna")])).await;
    assert_eq!((status["status"].as_str(), &status["mapping"]), (Some("FINISHED"), &json!([])));
    assert!(bench.contact("1").deleted);
    bench.import(&with(bulk(&[person("1", "a@example.com", "Anna")]), "restoreDeleted", json!(true))).await;
    assert!(!bench.contact("1").deleted);
    assert_eq!(bench.contact("1").fields["firstName"], "Anna");
}

#[tokio::test(start_paused = true)]
async fn imports_are_applied_in_any_order() {
    let (mut first_wins, mut second_wins) = (0, 0);
    for seed in 0..20 {
        let bench = Bench::new(SandboxOptions { seed, ..SandboxOptions::default() });
        bench.submit(&bulk(&[person("1", "a@example.com", "First")]));
        bench.submit(&bulk(&[person("1", "a@example.com", "Second")]));
        tokio::time::advance(Duration::from_secs(6)).await;
        if bench.contact("1").fields["firstName"] == "First" {
            first_wins += 1;
        } else {
            second_wins += 1;
        }
        let overlaps = bench.sandbox.overlaps();
        assert_eq!(overlaps.len(), 1);
        assert!(!overlaps[0].identical);
    }
    assert!(first_wins > 3 && second_wins > 3, "{first_wins} to {second_wins}");
}

#[tokio::test(start_paused = true)]
async fn overlap_is_told_apart_from_a_repeat_and_ends_with_the_import() {
    let bench = Bench::new(SandboxOptions::default());
    let body = bulk(&[person("1", "a@example.com", "Ann"), person("2", "b@example.com", "Bob")]);
    let first = bench.submit(&body);
    let second = bench.submit(&body);
    let overlaps = bench.sandbox.overlaps();
    assert_eq!(overlaps.len(), 2, "one a contact");
    assert!(overlaps.iter().all(|o| o.identical && o.earlier == first && o.later == second));
    bench.submit(&bulk(&[person("9", "b@example.com", "Other")]));
    let shared: Vec<String> = bench.sandbox.overlaps().split_off(2).into_iter().map(|o| o.shared).collect();
    assert_eq!(shared, ["email b@example.com", "email b@example.com"], "by e-mail, with both");
    tokio::time::advance(Duration::from_secs(6)).await;
    bench.submit(&bulk(&[person("1", "a@example.com", "Anna")]));
    assert_eq!(bench.sandbox.overlaps().len(), 4, "nothing is under way any more");
    assert_eq!(bench.sandbox.tally().bodies_repeated, 1);
}

#[tokio::test(start_paused = true)]
async fn single_calls_act_at_once_restore_and_refuse_repeats() {
    let bench = Bench::new(SandboxOptions::default());
    let ann = person("1", "a@example.com", "Ann");
    let (status, answer) = bench.call("POST", "v1/contact", &ann);
    assert_eq!(status, 200);
    let id = answer["id"].as_i64().unwrap();
    assert_eq!(bench.contact("1").id, id);
    assert_eq!(bench.call("POST", "v1/contact", &ann).0, 409);
    tokio::time::advance(Duration::from_mins(1)).await;
    bench.sandbox.delete_contact("1");
    assert_eq!(bench.call("POST", "v1/contact", &ann).0, 200);
    assert!(!bench.contact("1").deleted, "a single call restores");

    let path = format!("v1/contact/{id}");
    assert_eq!(bench.call("PUT", &path, &json!({ "firstName": "Anna", "channels": [] })).0, 400, "no channel");
    assert_eq!(bench.call("PUT", &path, &json!({ "firstName": "Anna" })).0, 400, "no channels");
    bench.call("POST", "v1/contact", &person("2", "b@example.com", "Bob"));
    assert_eq!(bench.call("PUT", &path, &person("2", "a@example.com", "Ann")).0, 400, "another's external id");
    let renamed = person("3", "a@example.com", "");
    assert_eq!(bench.call("PUT", &path, &renamed).0, 200);
    assert_eq!(bench.call("PUT", &path, &renamed).0, 409);
    assert_eq!(bench.contact("3").id, id);
    assert_eq!(bench.contact("3").fields.get("firstName"), None, "an empty string clears");
    assert_eq!(bench.call("PUT", "v1/contact/77", &renamed).0, 404);
    let refused = person("4", "nowhere", "Ann");
    assert_eq!(bench.call("POST", "v1/contact", &refused).0, 400);
    assert_eq!(bench.call("POST", "v1/contact", &refused).0, 400, "a refused call is no repeat");
}

#[tokio::test(start_paused = true)]
async fn other_readings_of_the_documents_can_be_chosen() {
    let readings = Readings { bad_field: BadField::DropsField, session_when_all_fail: false, ..Readings::default() };
    let bench = Bench::new(SandboxOptions { readings, ..SandboxOptions::default() });
    bench.import(&bulk(&[person("1", "a@example.com", "Ann")])).await;
    bench.import(&bulk(&[person("1", "a@example.com", "123")])).await;
    assert_eq!(bench.contact("1").fields["firstName"], "Ann", "the bad name was dropped, not wiped");
    let (status, answer) = bench.call("POST", "v1/contacts", &bulk(&[person("1", "nowhere", "Ann")]));
    assert_eq!((status, answer.get("asyncSessionId")), (200, None), "no valid channel is left");

    let rename = |readings| {
        let bench = Bench::new(SandboxOptions { readings, ..SandboxOptions::default() });
        async move {
            bench.import(&bulk(&[person("1", "a@example.com", "Ann")])).await;
            let id = bench.contact("1").id;
            let moved = with(person("2", "a@example.com", "Ann"), "id", json!(id));
            bench.import(&with(bulk(&[moved]), "dedupeOn", json!("id"))).await;
            bench.contact("2").id == id
        }
    };
    assert!(!rename(Readings::default()).await);
    assert!(rename(Readings { rename_by_id: true, ..Readings::default() }).await);
}

#[tokio::test(start_paused = true)]
async fn gates_stand_before_the_calls() {
    let bench = Bench::new(SandboxOptions { requests_per_second: 6, ..SandboxOptions::default() });
    assert_eq!(read(bench.send("GET", "v1/contacts", "")).0, 405);
    assert_eq!(read(bench.send("GET", "v1/groups", "")).0, 404, "reading segments is not served");
    assert_eq!(read(bench.send("POST", "v1/contacts", "{\"contacts\"")).0, 400);
    let mut text = bench.request("POST", "v1/contacts", "{}");
    text.headers_mut().insert("Content-Type", "text/plain".parse().unwrap());
    assert_eq!(read(bench.sandbox.answer(text)).0, 415);
    let mut stranger = bench.request("GET", "v2/version", "");
    stranger.headers_mut().insert("Authorization", "Bearer other".parse().unwrap());
    assert_eq!(read(bench.sandbox.answer(stranger)).0, 401);
    let charset = "application/json; charset=utf-8";
    let mut json = bench.request("POST", "v1/contacts", "{}");
    json.headers_mut().insert("Content-Type", charset.parse().unwrap());
    assert_eq!(read(bench.sandbox.answer(json)).0, 400);
    assert_eq!(read(bench.send("GET", "v2/version", "")).0, 200);
    let Outcome::Answer(over) = bench.send("GET", "v2/version", "") else { panic!("no answer") };
    assert_eq!((over.status().as_u16(), over.headers()["Retry-After"].to_str().unwrap()), (429, "1"));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(read(bench.send("GET", "v2/version", "")).0, 200);
    assert_eq!(bench.sandbox.counts()[&(CallKind::Version, Some(429))], 1);
}

#[tokio::test(start_paused = true)]
async fn facts_have_their_one_or_many_quirk() {
    let bench = Bench::new(SandboxOptions::default());
    let (_, books) = read(bench.send("GET", "v1/addressbooks", ""));
    let groups = books["addressBook"]["fieldGroups"].as_array().unwrap();
    let group = |key: &str| groups.iter().find(|group| group["profileKey"] == key).unwrap();
    let tier =
        group("PERSONAL")["fields"].as_array().unwrap().iter().find(|field| field["fieldKey"] == "TIER").unwrap();
    assert_eq!((&tier["id"], &tier["description"]["type"]), (&json!(87166), &json!("TEXTFIELD")));
    assert_eq!(group("LABELS")["fields"]["fieldKey"], "TAGS", "one field stands alone");
    let (_, account) = read(bench.send("GET", "v1/account/info", ""));
    assert_eq!(account["organisationName"], "Sandbox Ltd");
    let (_, categories) = read(bench.send("GET", "v1/subscriptions", ""));
    assert_eq!(categories[0]["key"], "news");
}

#[tokio::test(start_paused = true)]
async fn events_are_made_for_new_contacts_only() {
    let bench = Bench::new(SandboxOptions::default());
    let body = with(bulk(&[person("1", "a@example.com", "Ann")]), "eventKeyForNewContacts", json!("welcome"));
    bench.import(&body).await;
    bench.import(&body).await;
    assert_eq!(bench.sandbox.tally().events["welcome"], 1);
}

#[test]
fn invented_contacts_are_repeatable_apart_and_partly_bad() {
    use super::crm::{Flaw, edit_contacts, invented_contacts, write_csv, write_json_lines};
    let mut rows = invented_contacts(7, 5000);
    assert_eq!(rows[..100], invented_contacts(7, 100));
    assert_ne!(rows[..100], invented_contacts(8, 100));
    let distinct = |of: fn(&crm::CrmRow) -> &String| {
        let all: Vec<&String> = rows.iter().map(of).filter(|value| !value.is_empty()).collect();
        (all.iter().collect::<BTreeSet<_>>().len(), all.len())
    };
    let (emails, filled) = distinct(|row| &row.email);
    assert_eq!(emails, filled);
    let flaws: BTreeSet<Flaw> = rows.iter().filter_map(|row| row.flaw).collect();
    assert_eq!(flaws.len(), 4);
    for row in &rows {
        let bare = row.phone.replace(' ', "");
        let valid = phonenumber::parse(None, &bare).is_ok_and(|number| phonenumber::is_valid(&number));
        assert!(valid || row.phone.is_empty() || row.flaw == Some(Flaw::InvalidPhone), "{}", row.phone);
        assert_eq!(rules::first_name(&row.first_name).is_err(), row.flaw == Some(Flaw::NameOfDigits));
        assert!(rules::last_name(&row.last_name).is_ok());
    }
    let before = rows.clone();
    let edited = edit_contacts(&mut rows, 50, 3, Timestamp(1_770_000_000_000));
    let changed: Vec<&str> = rows.iter().zip(&before).filter(|(a, b)| a != b).map(|(a, _)| a.id.as_str()).collect();
    assert_eq!((edited.len(), changed), (50, edited.iter().map(String::as_str).collect()));
    let (mut csv, mut lines) = (Vec::new(), Vec::new());
    write_csv(&rows, &mut csv).unwrap();
    write_json_lines(&rows, &mut lines).unwrap();
    assert!(csv.starts_with(b"id,first_name,last_name,email,phone,city,lang,tier,updated_at\n"));
    assert_eq!(lines.split(|byte| *byte == b'\n').count(), 5001);
}
