//! The calls that act on contacts which are known, on addresses and on segments.

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};

use super::{Bench, bulk, person, read, with};
use crate::sandbox::*;

/// Three contacts in the segment VIP, 9401.
async fn bench_with(options: SandboxOptions) -> Bench {
    let bench = Bench::new(options);
    let people =
        [person("1", "a@example.com", "Ann"), person("2", "b@example.com", "Bob"), person("3", "c@example.com", "Cyd")];
    bench.import(&with(bulk(&people), "groupNames", json!(["VIP"]))).await;
    bench
}

async fn bench() -> Bench {
    bench_with(SandboxOptions::default()).await
}

fn members(bench: &Bench) -> Vec<String> {
    let contacts = bench.sandbox.contacts().into_iter();
    contacts.filter(|contact| contact.segments.contains("VIP")).filter_map(|contact| contact.external_id).collect()
}

fn emails(list: &[&str]) -> Value {
    json!({ "emails": list })
}

fn log(bench: &Bench) -> Vec<(String, ConsentAction, bool, String)> {
    let changes = bench.sandbox.unsubscribe_log().into_iter();
    changes.map(|change| (change.address, change.action, change.changed, change.by)).collect()
}

#[tokio::test(start_paused = true)]
async fn detach_takes_out_whom_it_names() {
    let bench = bench().await;
    let id = bench.contact("2").id;
    let path = "v1/group/9401/contacts/detach";
    assert_eq!(bench.call("POST", path, &json!({ "externalCustomerIds": ["1", "nobody"] })).0, 200);
    assert_eq!(members(&bench), ["2", "3"]);
    assert_eq!(bench.call("POST", path, &json!({ "contactIds": [id, 7] })).0, 200);
    assert_eq!(members(&bench), ["3"]);
    let tally = bench.sandbox.tally();
    assert_eq!((tally.contacts_detached, tally.segments_emptied.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn detach_that_names_nobody_empties_the_segment() {
    for body in [json!({}), json!({ "contactIds": [] }), json!({ "externalCustomerIds": [] })] {
        let bench = bench().await;
        assert_eq!(bench.call("POST", "v1/group/9401/contacts/detach", &body).0, 200);
        assert!(members(&bench).is_empty(), "{body}");
        assert_eq!(bench.sandbox.tally().segments_emptied.get("VIP"), Some(&1));
    }
}

#[tokio::test(start_paused = true)]
async fn detach_is_refused_for_what_no_reteno_takes() {
    let bench = bench().await;
    let ids: Vec<i64> = (1..=501).collect();
    let cases = [
        ("9401", json!({ "contactIds": ids }), 400),
        ("9401", json!({ "contactIds": ids[1..] }), 200),
        ("9401", json!({ "contactIds": [1], "externalCustomerIds": ["1"] }), 400),
        ("9401", json!({ "contactIds": null }), 400),
        ("9401", json!({ "ids": [1] }), 400),
        ("9999", json!({ "contactIds": [1] }), 404),
        ("VIP", json!({ "contactIds": [1] }), 404),
    ];
    for (group, body, status) in cases {
        assert_eq!(bench.call("POST", &format!("v1/group/{group}/contacts/detach"), &body).0, status, "{group} {body}");
    }
    assert_eq!(members(&bench), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn list_of_unsubscribed_is_of_addresses_and_outlives_contacts() {
    let bench = bench().await;
    let add = |list: &[&str]| bench.call("POST", "v1/emails/unsubscribed/add", &emails(list)).0;
    assert_eq!(add(&["A@Example.com", "nobody@example.com"]), 200);
    let listed = || bench.sandbox.unsubscribed().into_iter().collect::<Vec<_>>();
    assert_eq!(listed(), ["a@example.com", "nobody@example.com"]);
    bench.import(&bulk(&[person("1", "new@example.com", "Ann")])).await;
    assert!(bench.sandbox.erase_contact("1"));
    bench.import(&bulk(&[person("9", "a@example.com", "Ann")])).await;
    assert_eq!(listed(), ["a@example.com", "nobody@example.com"], "also for whoever has the address next");
    bench.sandbox.person_unsubscribes("B@example.com");
    let remove = bench.call("POST", "v1/emails/unsubscribed/delete", &emails(&["a@example.com", "never@example.com"]));
    assert_eq!(remove.0, 200);
    assert_eq!(listed(), ["b@example.com", "nobody@example.com"]);
    let change = |address: &str, action, changed, by: &str| (address.to_owned(), action, changed, by.to_owned());
    let number = bench.sandbox.calls().last().unwrap().number;
    let by = format!("call {number}");
    let log = log(&bench);
    assert_eq!(log[0].0, "a@example.com");
    assert_eq!(
        log[2..],
        [
            change("b@example.com", ConsentAction::Added, true, "person"),
            change("a@example.com", ConsentAction::Removed, true, &by),
            change("never@example.com", ConsentAction::Removed, false, &by),
        ]
    );
    for body in
        [emails(&[]), emails(&["nowhere"]), json!({}), json!({ "emails": null }), json!({ "email": ["a@b.co"] })]
    {
        assert_eq!(bench.call("POST", "v1/emails/unsubscribed/add", &body).0, 400, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn creation_and_new_address_resubscribe_only_by_a_reading() {
    for nasty in [false, true] {
        let readings = Readings { create_resubscribes: nasty, ..Readings::default() };
        let bench = bench_with(SandboxOptions { readings, ..SandboxOptions::default() }).await;
        let list = ["a@example.com", "new@example.com", "moved@example.com", "single@example.com"];
        bench.call("POST", "v1/emails/unsubscribed/add", &emails(&list));
        // The address of Ann stays hers, Bob gets another, Dee and Eve are made.
        let people = [person("1", "a@example.com", "Anna"), person("2", "moved@example.com", "Bob")];
        bench.import(&bulk(&people)).await;
        let made = bench.import(&bulk(&[person("4", "new@example.com", "Dee")])).await;
        assert_eq!(made["status"], "FINISHED");
        assert_eq!(bench.call("POST", "v1/contact", &person("5", "single@example.com", "Eve")).0, 200);
        let left: Vec<String> = bench.sandbox.unsubscribed().into_iter().collect();
        let expected: &[&str] = if nasty {
            &["a@example.com"]
        } else {
            &["a@example.com", "moved@example.com", "new@example.com", "single@example.com"]
        };
        assert_eq!(left, expected, "{nasty}");
        assert_eq!(bench.sandbox.unsubscribe_log().len(), if nasty { 7 } else { 4 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_contact_is_deleted_and_erased_by_its_external_id_too() {
    let bench = bench().await;
    let delete = |query: &str| read(bench.send("DELETE", &format!("v1/contact{query}"), "")).0;
    assert_eq!(delete("?externalCustomerId=1"), 200);
    assert!(bench.contact("1").deleted && !bench.contact("2").deleted);
    assert_eq!(delete("?externalCustomerId=2&erase=true"), 200);
    assert!(bench.sandbox.contact_by_external_id("2").is_none());
    assert_eq!(delete("?externalCustomerId=2&erase=true"), 404);
    assert_eq!(delete("?externalCustomerId=none"), 404);
    assert_eq!([delete(""), delete("?erase=true"), delete("?externalCustomerId=")], [400, 400, 400]);
    assert_eq!(delete("?externalCustomerId=1&erase=yes"), 400);
    let both = read(bench.send("DELETE", &format!("v1/contact/{}?externalCustomerId=1", bench.contact("1").id), "")).0;
    assert_eq!(both, 400);
    let tally = bench.sandbox.tally();
    assert_eq!((tally.contacts_deleted, tally.contacts_erased), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn deleted_contact_can_be_restored_and_erased_one_cannot() {
    let bench = bench().await;
    let (ann, bob) = (bench.contact("1").id, bench.contact("2").id);
    let delete = |id: i64, query: &str| read(bench.send("DELETE", &format!("v1/contact/{id}{query}"), "")).0;
    assert_eq!([delete(ann, ""), delete(ann, ""), delete(ann, "?erase=false")], [200, 200, 200]);
    assert!(bench.contact("1").deleted);
    assert_eq!(bench.sandbox.tally().contacts_deleted, 1);
    assert_eq!([delete(bob, "?erase=true"), delete(bob, "?erase=true"), delete(bob, "")], [200, 404, 404]);
    assert_eq!(delete(7, ""), 404);
    assert_eq!(delete(ann, "?erase=yes"), 400);
    assert_eq!(delete(ann, "?force=true"), 400);
    assert!(bench.sandbox.contact_by_external_id("2").is_none());
    assert!(bench.sandbox.applied_log("2").is_empty());
    let kinds = bench.sandbox.counts();
    assert_eq!(kinds.get(&(CallKind::EraseContact, Some(200))), Some(&1));
    assert_eq!(kinds.get(&(CallKind::DeleteContact, Some(200))), Some(&3));

    // Skipped without restoreDeleted; the erased one's key is free, and makes another contact.
    let both = [person("1", "a@example.com", "Anna"), person("2", "b@example.com", "Bob")];
    let mapping = bench.import(&bulk(&both)).await["mapping"].clone();
    assert!(bench.contact("1").deleted);
    assert!(!mapping.to_string().contains(&ann.to_string()), "{mapping}");
    assert!(bench.contact("2").id > bob, "an id is never given twice");
    bench.import(&with(bulk(&both), "restoreDeleted", json!(true))).await;
    assert!(!bench.contact("1").deleted);
    assert_eq!(bench.contact("1").id, ann);
}

#[tokio::test(start_paused = true)]
async fn last_id_is_not_given_again_after_its_contact_was_erased() {
    let bench = bench().await;
    let last = bench.sandbox.contacts().last().unwrap().clone();
    assert!(bench.sandbox.erase_contact(last.external_id.as_deref().unwrap()));
    bench.import(&bulk(&[person("9", "z@example.com", "Zed")])).await;
    assert!(bench.contact("9").id > last.id);
}

#[tokio::test(start_paused = true)]
async fn import_that_lands_after_an_erasure_brings_the_person_back() {
    let bench = bench().await;
    bench.submit(&bulk(&[person("1", "a@example.com", "Anna")]));
    let before = bench.contact("1").id;
    assert_eq!(read(bench.send("DELETE", &format!("v1/contact/{before}?erase=true"), "")).0, 200);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_ne!(bench.contact("1").id, before);
}

#[tokio::test(start_paused = true)]
async fn subscriptions_are_replaced_whole() {
    let bench = bench().await;
    let id = bench.contact("1").id;
    let path = format!("v1/contact/{id}/subscriptions");
    let put = |keys: Value| bench.call("PUT", &path, &json!({ "subscriptions": keys })).0;
    assert_eq!(put(json!(["news", "offers"])), 200);
    assert_eq!(bench.contact("1").subscriptions.len(), 2);
    assert_eq!([put(json!(["nothing"])), put(json!(null)), put(json!("news"))], [400, 400, 400]);
    assert_eq!(bench.call("PUT", &path, &json!({})).0, 400);
    assert_eq!(bench.contact("1").subscriptions.len(), 2);
    assert_eq!(put(json!(["offers"])), 200);
    assert_eq!(bench.contact("1").subscriptions, BTreeSet::from(["offers".to_owned()]));
    assert_eq!(put(json!([])), 200);
    assert!(bench.contact("1").subscriptions.is_empty());
    assert_eq!(bench.sandbox.tally().subscriptions_replaced, 3);
    assert_eq!(bench.call("PUT", "v1/contact/7/subscriptions", &json!({ "subscriptions": [] })).0, 404);
    assert!(bench.sandbox.delete_contact("1"));
    assert_eq!(put(json!(["news"])), 404);
    assert!(bench.contact("1").deleted);
}

#[tokio::test(start_paused = true)]
async fn subscribing_makes_unconfirmed_contacts_and_starts_a_workflow() {
    let bench = bench().await;
    let body = json!({
        "contact": person("7", "Seven@example.com", "Sev"),
        "groups": ["Form"], "subscriptions": ["news"], "formType": "Footer",
    });
    let (status, answer) = bench.call("POST", "v1/contact/subscribe", &body);
    let made = bench.contact("7");
    assert_eq!((status, &answer), (200, &json!({ "id": made.id, "new": true, "emailStatus": "NEED_CONFIRMATION" })));
    assert_eq!(made.email_status.as_deref(), Some("NEED_CONFIRMATION"));
    assert_eq!((made.segments.len(), made.subscriptions.len()), (1, 1));
    // The same again within the minute is refused, a minute later it writes to the person again.
    assert_eq!(bench.call("POST", "v1/contact/subscribe", &body).0, 409);
    assert_eq!(bench.sandbox.tally().workflows_started, 1);
    tokio::time::advance(Duration::from_mins(1)).await;
    assert_eq!(bench.call("POST", "v1/contact/subscribe", &body).1["new"], false);
    assert_eq!(bench.sandbox.tally().workflows_started, 2);
}

#[tokio::test(start_paused = true)]
async fn subscribing_a_known_contact_updates_it_but_not_its_channels() {
    let bench = bench().await;
    let channels =
        json!([{ "type": "email", "value": "other@example.com" }, { "type": "sms", "value": "+380671234567" }]);
    let contact = json!({ "externalCustomerId": "1", "firstName": "Anna", "channels": channels });
    let (status, answer) = bench.call("POST", "v1/contact/subscribe", &json!({ "contact": contact }));
    assert_eq!((status, &answer["new"], &answer["emailStatus"]), (200, &json!(false), &json!("ALREADY_SUBSCRIBED")));
    let ann = bench.contact("1");
    assert_eq!((ann.email.as_deref(), ann.phone.as_deref()), (Some("a@example.com"), Some("380671234567")));
    assert_eq!((ann.fields["firstName"].as_str(), ann.email_status), ("Anna", None));

    bench.sandbox.person_unsubscribes("b@example.com");
    let (_, answer) =
        bench.call("POST", "v1/contact/subscribe", &json!({ "contact": person("2", "b@example.com", "Bob") }));
    assert_eq!(answer["emailStatus"], "BLACKLISTED");
    assert!(bench.sandbox.unsubscribed().contains("b@example.com"));
    let (_, answer) = bench.call(
        "POST",
        "v1/contact/subscribe",
        &json!({ "contact": { "externalCustomerId": "8", "channels": [{ "type": "sms", "value": "380501234567" }] } }),
    );
    assert_eq!((&answer["new"], answer.get("emailStatus")), (&json!(true), None));
}

#[tokio::test(start_paused = true)]
async fn subscription_is_refused_for_what_no_reteno_takes() {
    let bench = Bench::new(SandboxOptions::default());
    let good = || json!({ "contact": person("1", "a@example.com", "Ann") });
    let cases = [
        person("1", "a@example.com", "Ann"),
        with(good(), "subscriptions", json!(["nothing"])),
        with(good(), "groups", json!([""])),
        with(good(), "groups", Value::Null),
        with(good(), "formType", json!("a|b")),
        with(good(), "eventKey", json!("x")),
        json!({ "contact": person("1", "nowhere", "Ann") }),
        json!({ "contact": { "externalCustomerId": "1" } }),
    ];
    for body in cases {
        assert_eq!(bench.call("POST", "v1/contact/subscribe", &body).0, 400, "{body}");
    }
    assert_eq!((bench.sandbox.tally().workflows_started, bench.sandbox.contacts().len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn event_of_a_new_contact_is_named() {
    let bench = bench().await;
    let people = [person("1", "a@example.com", "Anna"), person("4", "d@example.com", "Dee")];
    bench.import(&with(bulk(&people), "eventKeyForNewContacts", json!("welcome"))).await;
    assert_eq!(bench.sandbox.events_fired(), [("welcome".to_owned(), "4".to_owned())]);
    assert_eq!(bench.sandbox.tally().events.get("welcome"), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn somebody_in_reteno_deletes_and_erases_too() {
    let bench = bench().await;
    assert!(bench.sandbox.delete_contact("1") && bench.contact("1").deleted);
    assert!(bench.sandbox.erase_contact("1") && bench.sandbox.contact_by_external_id("1").is_none());
    assert!(!bench.sandbox.erase_contact("1"));
    assert_eq!(bench.sandbox.tally().contacts_erased, 0, "only calls are counted");
}

#[tokio::test(start_paused = true)]
async fn faults_strike_every_new_call() {
    let bench = bench().await;
    let id = bench.contact("1").id;
    let calls = [
        (
            CallKind::SetSubscriptions,
            "PUT",
            format!("v1/contact/{id}/subscriptions"),
            json!({ "subscriptions": ["news"] }),
        ),
        (
            CallKind::Subscribe,
            "POST",
            "v1/contact/subscribe".into(),
            json!({ "contact": person("1", "a@example.com", "B") }),
        ),
        (CallKind::Unsubscribe, "POST", "v1/emails/unsubscribed/add".into(), emails(&["a@example.com"])),
        (CallKind::Resubscribe, "POST", "v1/emails/unsubscribed/delete".into(), emails(&["a@example.com"])),
        (CallKind::Detach, "POST", "v1/group/9401/contacts/detach".into(), json!({ "contactIds": [id] })),
        (
            CallKind::Upload,
            "POST",
            "v1/contacts/upload".into(),
            json!({ "link": "http://127.0.0.1/x", "dedupeOn": "email" }),
        ),
        (CallKind::DeleteContact, "DELETE", format!("v1/contact/{id}"), Value::Null),
        (CallKind::EraseContact, "DELETE", format!("v1/contact/{id}?erase=true"), Value::Null),
    ];
    for (kind, method, path, body) in &calls {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let send = || bench.send(method, path, &body);
        let before = (bench.sandbox.contacts(), bench.sandbox.unsubscribe_log());
        bench.sandbox.fault(Fault::on(*kind, Effect::Answer(Canned::too_many(Some("3")))));
        bench.sandbox.fault(Fault::on(*kind, Effect::Answer(Canned::html(StatusCode::BAD_GATEWAY))));
        bench.sandbox.fault(Fault::on(*kind, Effect::LoseRequest));
        assert_eq!(read(send()).0, 429, "{kind:?}");
        assert_eq!(read(send()).0, 502, "{kind:?}");
        assert!(matches!(send(), Outcome::LostBefore), "{kind:?}");
        assert_eq!((bench.sandbox.contacts(), bench.sandbox.unsubscribe_log()), before, "{kind:?} did nothing");
        bench.sandbox.fault(Fault::on(*kind, Effect::LoseAnswer));
        assert!(matches!(send(), Outcome::LostAfter), "{kind:?}");
        if *kind != CallKind::Upload {
            assert_ne!((bench.sandbox.contacts(), bench.sandbox.unsubscribe_log()), before, "{kind:?} was carried out");
        }
    }
}
