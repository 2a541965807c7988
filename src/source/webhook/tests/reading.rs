//! From bodies to events: the fixtures of each CRM, and what is no event.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use http::HeaderMap;

use crate::clock::Timestamp;
use crate::source::webhook::Delivery;

use super::{
    Action, ActionRule, BodyKind, Event, EventKind, Ids, Reading, Refused, Request, Requirement, Verification, Webhook,
    hook, path,
};

fn reading(hook: &mut Webhook, events: &str, ids: Ids) {
    hook.reading = Reading { events: path(events), ids, merged_into: None, record: None };
}

fn told(action: &str, actions: &[(&str, Action)]) -> ActionRule {
    let actions: BTreeMap<String, Action> =
        actions.iter().map(|(word, action)| ((*word).to_owned(), *action)).collect();
    ActionRule::Told { path: path(action), actions }
}

fn changed(key: &str) -> Event {
    Event { key: key.to_owned(), kind: EventKind::Changed }
}

fn deleted(key: &str) -> Event {
    Event { key: key.to_owned(), kind: EventKind::Deleted }
}

fn amocrm() -> Webhook {
    let mut hook = hook(Verification::None);
    hook.body = BodyKind::Form;
    let ids = Ids::ByAction(vec![
        (Action::Delete, path("$.contacts.delete[?@.type=='contact'].id")),
        (Action::Fetch, path("$.contacts['add','update','restore'][?@.type=='contact'].id")),
    ]);
    reading(&mut hook, "$", ids);
    hook.requirements.push(Requirement {
        name: "account".to_owned(),
        path: path("$.account.subdomain"),
        equals: "examplecrm".into(),
        is_secret: false,
    });
    hook
}

macro_rules! wire {
    ($name:literal) => {
        Request::of(include_str!(concat!("../../../../tests/fixtures/crm/", $name)).trim_end())
    };
}

#[test]
fn a_company_among_the_contacts_of_amocrm_is_no_contact() {
    assert_eq!(wire!("amocrm/webhook_add.txt").to(&amocrm()), Ok(vec![changed("7143601")]));
    assert_eq!(wire!("amocrm/webhook_update.txt").to(&amocrm()), Ok(vec![changed("7143601")]));
    assert_eq!(wire!("amocrm/webhook_update_responsible.txt").to(&amocrm()), Ok(vec![changed("7143601")]));
    assert_eq!(wire!("amocrm/webhook_restore.txt").to(&amocrm()), Ok(vec![changed("7143498")]));
    assert_eq!(wire!("amocrm/webhook_delete.txt").to(&amocrm()), Ok(vec![deleted("7143512")]));
    assert_eq!(wire!("amocrm/webhook_update_company.txt").to(&amocrm()), Ok(Vec::new()));
}

#[test]
fn several_contacts_in_one_delivery_are_several_events_also_where_their_keys_make_no_list() {
    let body = "contacts[update][1][id]=11&contacts[update][1][type]=contact&contacts[update][0][id]=10\
        &contacts[update][0][type]=contact&contacts[update][2][id]=12&contacts[update][2][type]=company\
        &contacts[delete][0][id]=9&contacts[delete][0][type]=contact\
        &contacts[update][0][custom_fields][0][values][value]=x&account[subdomain]=examplecrm";
    let events = Request::of(body).to(&amocrm()).unwrap();
    assert_eq!(events, [deleted("9"), changed("10"), changed("11")]);
}

#[test]
fn a_delivery_of_another_account_is_refused() {
    let mut hook = amocrm();
    hook.requirements[0].equals = "another".into();
    let refused = wire!("amocrm/webhook_add.txt").to(&hook).unwrap_err();
    assert_eq!(refused, Refused::Malformed("what require.account asks for is not in it".to_owned()));
    // One that holds a secret says that the sender is a liar.
    hook.requirements[0].is_secret = true;
    assert_eq!(wire!("amocrm/webhook_add.txt").to(&hook).unwrap_err().status(), 401);
    hook.requirements[0].path = path("$.nothing");
    hook.requirements[0].equals = "".into();
    assert_eq!(wire!("amocrm/webhook_add.txt").to(&hook).unwrap_err().status(), 401, "absent is not equal to empty");
}

#[test]
fn bitrix24_tells_the_action_by_a_word() {
    let mut hook = hook(Verification::BodyToken {
        path: path("$.auth.application_token"),
        token: "exampleapplicationtoken000000001".into(),
    });
    hook.body = BodyKind::Form;
    let action = told(
        "$.event",
        &[
            ("ONCRMCONTACTADD", Action::Fetch),
            ("ONCRMCONTACTUPDATE", Action::Fetch),
            ("ONCRMCONTACTDELETE", Action::Delete),
        ],
    );
    reading(&mut hook, "$", Ids::One { id: path("$.data.FIELDS.ID"), action });
    assert_eq!(wire!("bitrix24/event_add.txt").to(&hook), Ok(vec![changed("90")]));
    assert_eq!(wire!("bitrix24/event_update.txt").to(&hook), Ok(vec![changed("82")]));
    assert_eq!(wire!("bitrix24/event_delete.txt").to(&hook), Ok(vec![deleted("71")]));
    let mut deal = wire!("bitrix24/event_add.txt");
    deal.body = String::from_utf8(deal.body).unwrap().replace("ONCRMCONTACTADD", "ONCRMDEALADD").into_bytes();
    assert_eq!(deal.to(&hook), Ok(Vec::new()), "a deal's id is no contact's");
}

#[test]
fn numbers_and_texts_are_the_same_ids_as_in_records() {
    let mut hook = hook(Verification::None);
    let ids = Ids::One { id: path("$.ids[*]"), action: ActionRule::Fixed(Action::Fetch) };
    reading(&mut hook, "$", ids);
    let cases = [
        ("[151, \"151\", 151.0, \" 151 \"]", Some(vec!["151"])),
        ("[18446744073709551615, \"00151\"]", Some(vec!["18446744073709551615", "00151"])),
        ("[null, \"\", \"7\"]", Some(vec!["7"])),
        ("[[1, 2], 3]", Some(vec!["1", "2", "3"])),
        ("[{\"id\": 1}]", None),
        ("[[[1]]]", None),
        ("[]", None),
        ("[null]", None),
    ];
    for (ids, expected) in cases {
        let events = Request::of(&format!("{{\"ids\": {ids}}}")).to(&hook);
        match expected {
            Some(keys) => assert_eq!(events, Ok(keys.into_iter().map(changed).collect()), "{ids}"),
            None => assert_eq!(events.unwrap_err().status(), 400, "{ids}"),
        }
    }
    assert_eq!(wire!("zoho/notification.json").to(&hook).unwrap().len(), 2);
    let long = format!("{{\"ids\": [\"{}\"]}}", "9".repeat(257));
    assert_eq!(Request::of(&long).to(&hook).unwrap_err().status(), 400);
    let many: Vec<u32> = (0..10_001).collect();
    assert_eq!(Request::of(&json!({ "ids": many }).to_string()).to(&hook).unwrap_err().status(), 400);
}

#[test]
fn a_loser_of_a_merge_names_who_took_its_place() {
    let mut hook = hook(Verification::None);
    let action =
        told("$.meta.action", &[("create", Action::Fetch), ("change", Action::Fetch), ("delete", Action::Delete)]);
    reading(&mut hook, "$", Ids::One { id: path("$.meta.entity_id"), action });
    hook.reading.merged_into = Some(path("$.meta.merged_to_id"));
    assert_eq!(wire!("pipedrive/webhook_v2_create.json").to(&hook), Ok(vec![changed("1003")]));
    assert_eq!(wire!("pipedrive/webhook_v2_change.json").to(&hook), Ok(vec![changed("1001")]));
    assert_eq!(wire!("pipedrive/webhook_v2_delete.json").to(&hook), Ok(vec![deleted("990")]));
    let merged = Event { key: "991".to_owned(), kind: EventKind::MergedInto { winner: "1001".to_owned() } };
    assert_eq!(wire!("pipedrive/webhook_v2_delete_merged.json").to(&hook), Ok(vec![merged]));
    let itself = r#"{"meta": {"action": "delete", "entity_id": "7", "merged_to_id": 7}}"#;
    assert_eq!(Request::of(itself).to(&hook), Ok(vec![deleted("7")]));
}

#[test]
fn a_list_of_events_is_read_to_its_end_or_refused_where_none_is_understood() {
    let mut hook = hook(Verification::None);
    let action = told(
        "$.subscriptionType",
        &[
            ("contact.creation", Action::Fetch),
            ("contact.propertyChange", Action::Fetch),
            ("contact.merge", Action::Fetch),
            ("contact.deletion", Action::Delete),
            ("contact.privacyDeletion", Action::Delete),
            ("contact.associationChange", Action::Ignore),
        ],
    );
    reading(&mut hook, "$[*]", Ids::One { id: path("$.objectId"), action });
    let events = wire!("hubspot/webhook_events.json").to(&hook).unwrap();
    assert_eq!(events, [changed("151"), changed("151"), deleted("140"), changed("152"), deleted("133")]);
    let cases = [
        (r#"[{"subscriptionType": "contact.associationChange"}]"#, Ok(0)),
        (r#"[{"subscriptionType": "company.creation", "objectId": 5}]"#, Ok(0)),
        ("[]", Ok(0)),
        (
            r#"[{"subscriptionType": "contact.creation", "objectId": 5}, {"subscriptionType": "contact.creation"}]"#,
            Ok(1),
        ),
        (r#"[{"objectId": 5}]"#, Err(400)),
        (r#"[{"subscriptionType": "contact.creation", "objectId": 5}"#, Err(400)),
        ("", Err(400)),
    ];
    for (body, expected) in cases {
        let got = Request::of(body).to(&hook).map(|events| events.len()).map_err(|refused| refused.status());
        assert_eq!(got, expected, "{body}");
    }
}

#[test]
fn a_whole_payload_is_the_record_and_its_deletion_needs_no_look() {
    let mut hook = hook(Verification::None);
    let action = told(
        "$.type",
        &[("contact.updated", Action::Upsert), ("contact.deleted", Action::Delete), ("contact.touched", Action::Fetch)],
    );
    reading(&mut hook, "$", Ids::One { id: path("$.data.id"), action });
    hook.reading.record = Some(path("$.data"));
    let events = wire!("standard_webhooks/payload.json").to(&hook).unwrap();
    let record = json!({"id": "151", "email": "olena.bondar@example.com", "phone": "+447700900101"});
    assert_eq!(events, [Event { key: "151".to_owned(), kind: EventKind::Whole(record) }]);
    assert!(!format!("{events:?}").contains("olena"), "a record is never shown");
    let sent = |body: &Value| Request::of(&body.to_string()).to(&hook);
    let gone = sent(&json!({"type": "contact.deleted", "data": {"id": 151}})).unwrap();
    assert_eq!(
        gone,
        [Event { key: "151".to_owned(), kind: EventKind::WholeDeleted { record: Some(json!({"id": 151})) } }]
    );
    assert_eq!(sent(&json!({"type": "contact.touched", "data": {"id": 151}})), Ok(vec![changed("151")]));
    for data in [json!("text"), json!([{"id": 1}]), json!({"id": [1, 2], "x": 1}), json!(null)] {
        assert!(sent(&json!({"type": "contact.updated", "data": data})).is_err(), "{data}");
    }
}

#[test]
fn a_body_that_is_another_kind_is_malformed() {
    let mut form = amocrm();
    assert_eq!(Request::of("{\"a[\": 1}").to(&form).unwrap_err().status(), 400);
    form.body = BodyKind::Json;
    let refused = wire!("amocrm/webhook_add.txt").to(&form).unwrap_err();
    assert_eq!(refused, Refused::Malformed("not valid JSON at byte 1".to_owned()));
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(Request::of(&deep).to(&form).unwrap_err().status(), 400);
}

#[test]
fn an_event_that_cannot_be_understood_costs_itself_alone() {
    let mut hook = hook(Verification::None);
    let action = told("$.what", &[("changed", Action::Fetch)]);
    reading(&mut hook, "$[*]", Ids::One { id: path("$.id"), action });
    let take = |body: &Value| {
        let (headers, body) = (HeaderMap::new(), body.to_string());
        let now = Timestamp(0);
        let head = super::Head { method: "POST", path_token: None, url: "", headers: &headers, now };
        hook.receive(&Delivery { head, body: body.as_bytes() })
    };
    let taken = take(&json!([{"what": "changed"}, {"what": "changed", "id": 2}, {"id": 3}])).unwrap();
    assert_eq!((taken.events, taken.refused.0, taken.unknown_word), (vec![changed("2")], 2, None));
    assert!(take(&json!([{"what": "changed"}])).is_err(), "nothing of it is understood");
    let taken = take(&json!([{"what": "object.change", "id": 2}])).unwrap();
    assert_eq!((taken.events.len(), taken.unknown_word.as_deref()), (0, Some("object.change")));
    let taken = take(&json!([{"what": "ann@example.com", "id": 2}])).unwrap();
    assert_eq!(taken.unknown_word, None, "nobody is named");
    let taken = take(&json!([{"what": "object.change", "id": 2}, {"what": "changed", "id": 4}])).unwrap();
    assert_eq!((taken.events, taken.unknown_word, taken.unknown), (vec![changed("4")], None, 1));
}

#[test]
fn a_body_in_the_charset_of_its_header_is_read_in_it() {
    let webhook = hook(Verification::None);
    let mut request = Request::of("").with("content-type", "application/json; charset=windows-1251");
    request.body = b"{\"id\":\"\xb2\xe2\xe0\xed\"}".to_vec();
    assert_eq!(request.to(&webhook).unwrap(), [changed("Іван")]);
}
