//! amoCRM's dialect.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::sandbox::crm_api::{AmoCall, CrmCallKind, CrmEffect, CrmFault, Dialect, Ties};
use crate::sandbox::{Canned, Phase};

fn rows(body: &Value) -> Vec<u64> {
    ids(&body["_embedded"]["contacts"])
}

#[tokio::test(start_paused = true)]
async fn answers_have_the_documented_shape() {
    let crm = crm(|_| ());
    crm.seed(30);
    let first = crm.people()[0].id;
    crm.opt_out(first);
    let page = get(&crm, "/api/v4/contacts?limit=20&page=1&order[updated_at]=asc");
    let mut theirs = fixture("amocrm/contacts_page1.json");
    let mut one_of_theirs = fixture("amocrm/contact_by_id.json");
    // The recorded people have no field of plain text; the vendor documents it as this.
    let text = json!({"field_id": 1, "field_name": "Text", "field_code": null, "field_type": "text",
        "values": [{"value": "words"}]});
    theirs["_embedded"]["contacts"][0]["custom_fields_values"].as_array_mut().unwrap().push(text.clone());
    one_of_theirs["custom_fields_values"].as_array_mut().unwrap().push(text);
    same_shape(&theirs, &page);
    let one = get(&crm, &format!("/api/v4/contacts/{first}"));
    same_shape(&one_of_theirs, &one);
    let checkbox = json!({"field_id": 271_005, "field_name": "Не надсилати розсилки", "field_code": null,
        "field_type": "checkbox", "values": [{"value": true}]});
    assert!(one["custom_fields_values"].as_array().unwrap().contains(&checkbox), "{one}");
    let account = get(&crm, "/api/v4/account?with=is_api_filter_enabled");
    same_shape(&fixture("amocrm/account_filter_enabled.json"), &account);
    same_shape(&fixture("amocrm/contact_custom_fields.json"), &get(&crm, "/api/v4/contacts/custom_fields"));
    crm.delete(first);
    crm.merge(first + 1, first + 2);
    let events = get(&crm, "/api/v4/events?limit=100&filter[type]=contact_deleted,contact_restored,entity_merged");
    same_shape(&fixture("amocrm/events_contact_deleted.json"), &events);
    let told: Vec<_> =
        events["_embedded"]["events"].as_array().unwrap().iter().map(|event| &event["entity_id"]).collect();
    assert_eq!(told, [&json!(first + 2), &json!(first)], "the newest first; a merge is told of the survivor");
}

#[tokio::test(start_paused = true)]
async fn errors_and_registrations_have_the_documented_shape() {
    let crm = crm(|options| options.rates.amocrm_per_second = 4);
    let refused = read(&send(&crm, "GET", "/api/v4/contacts", "other", ""));
    same_shape(&fixture("amocrm/error_401.json"), &refused.1);
    let (status, body) = call(&crm, "GET", "/api/v4/contacts?filter[updated_at][from]=today", "");
    assert_eq!((status, &body["validation-errors"][0]["errors"][0]["path"]), (400, &json!("filter.updated_at.from")));
    same_shape(&fixture("amocrm/error_400_validation.json"), &body);
    assert_eq!(call(&crm, "GET", "/api/v4/contacts?limit=251", "").0, 400);
    let request = fixture("amocrm/webhook_subscribe_request.json");
    let (status, hook) = call(&crm, "POST", "/api/v4/webhooks", &request.to_string());
    assert_eq!(status, 201);
    same_shape(&fixture("amocrm/webhook_subscribe_response.json"), &hook);
    let (status, body) = call(&crm, "GET", "/api/v4/contacts", "");
    assert_eq!(status, 429);
    same_shape(&fixture("amocrm/error_429.json"), &body);
    pass(1).await;
    let url = "/api/v4/webhooks?filter[destination]=https://sync.example.com/hooks/amocrm/EXAMPLE-UNGUESSABLE-TOKEN";
    assert_eq!(get(&crm, url)["_embedded"]["webhooks"].as_array().unwrap().len(), 1);
    assert_eq!(call(&crm, "DELETE", "/api/v4/webhooks", &request.to_string()).0, 204);
    assert_eq!(get(&crm, url)["_embedded"]["webhooks"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_204_without_a_body() {
    let crm = crm(|_| ());
    crm.seed(4);
    for path in [
        "/api/v4/contacts?limit=2&page=3",
        "/api/v4/contacts/1",
        "/api/v4/contacts?filter[updated_at][from]=1900000000",
        "/api/v4/events?filter[type]=contact_deleted",
    ] {
        let answer = send(&crm, "GET", path, "crm-static-token", "");
        assert_eq!((answer.status().as_u16(), answer.body().len()), (204, 0), "{path}");
    }
    let last = get(&crm, "/api/v4/contacts?limit=2&page=2");
    assert!(last["_links"]["next"].is_object(), "a full page links on, although nothing follows");
}

#[tokio::test(start_paused = true)]
async fn an_edit_during_a_scan_hides_a_row_that_was_not_edited() {
    let crm = crm(|_| ());
    crm.seed(8);
    let all: Vec<u64> = crm.people().iter().map(|person| person.id).collect();
    let (handle, edited) = (crm.clone(), all[0]);
    crm.on_request(move |seen| {
        if seen.phase == Phase::After && seen.number == 1 {
            handle.edit(edited);
        }
    });
    let mut seen = BTreeSet::new();
    for page in 1..=5 {
        let path = format!("/api/v4/contacts?limit=2&page={page}&order[updated_at]=asc");
        let (status, body) = call(&crm, "GET", &path, "");
        if status == 200 {
            seen.extend(rows(&body));
        }
    }
    let missed: Vec<u64> = all.iter().copied().filter(|id| !seen.contains(id)).collect();
    assert_eq!(missed, [all[2]], "who stood right behind the first page has moved onto it");
}

#[tokio::test(start_paused = true)]
async fn filters_hold_from_both_ends_and_are_ignored_where_the_plan_lacks_them() {
    let crm = crm(|_| ());
    crm.seed(8);
    let people = crm.people();
    let (from, to) = (people[2].changed.0 / 1000, people[5].changed.0 / 1000);
    let path =
        format!("/api/v4/contacts?order[updated_at]=asc&filter[updated_at][from]={from}&filter[updated_at][to]={to}");
    let between = rows(&get(&crm, &path));
    let within = people.iter().filter(|person| (from..=to).contains(&(person.changed.0 / 1000)));
    assert_eq!(between, within.map(|person| person.id).collect::<Vec<_>>());
    let some = [people[1].id, people[6].id];
    for form in
        [format!("filter[id][]={}&filter[id][]={}", some[0], some[1]), format!("filter[id]={},{}", some[0], some[1])]
    {
        assert_eq!(rows(&get(&crm, &format!("/api/v4/contacts?{form}"))), some);
    }
    let down = rows(&get(&crm, "/api/v4/contacts?order[id]=desc"));
    assert_eq!(down, people.iter().rev().map(|person| person.id).collect::<Vec<_>>());
    crm.set_options(|options| options.exclusive_bounds = true);
    let inside = people.iter().filter(|person| (from + 1..to).contains(&(person.changed.0 / 1000)));
    assert_eq!(rows(&get(&crm, &path)), inside.map(|person| person.id).collect::<Vec<_>>());
    crm.set_options(|options| options.api_filter = false);
    assert_eq!(rows(&get(&crm, &path)).len(), 8);
    assert_eq!(get(&crm, "/api/v4/account?with=is_api_filter_enabled")["is_api_filter_enabled"], json!(false));
}

#[tokio::test(start_paused = true)]
async fn equal_seconds_may_come_in_another_order_each_time() {
    let crm = crm(|options| options.ties = Ties::Drawn);
    crm.import_same_second(40);
    let page = || rows(&get(&crm, "/api/v4/contacts?limit=40&order[updated_at]=asc"));
    let (one, other) = (page(), page());
    assert_ne!(one, other);
    assert_eq!(one.into_iter().collect::<BTreeSet<_>>(), other.into_iter().collect());
}

#[tokio::test(start_paused = true)]
async fn the_eighth_request_of_a_second_is_refused_and_abuse_blocks_everything() {
    let crm = crm(|options| options.rates = Rates { amocrm_abuse: Some(2), ..Rates::default() });
    crm.seed(1);
    let status = || call(&crm, "GET", "/api/v4/contacts", "").0;
    let in_a_second: Vec<u16> = (0..8).map(|_| status()).collect();
    assert_eq!(in_a_second, [200, 200, 200, 200, 200, 200, 200, 429]);
    pass(1).await;
    assert_eq!(status(), 200);
    let more: Vec<u16> = (0..8).map(|_| status()).collect();
    assert_eq!(more[6..], [429, 403]);
    pass(3600).await;
    assert_eq!((status(), call(&crm, "GET", "/crm/v3/objects/contacts", "").0), (403, 200));
    crm.lift_block();
    assert_eq!(status(), 200);
    assert_eq!(crm.counts()[&(CrmCallKind::Amo(AmoCall::Contacts), Some(403))], 2);
}

#[tokio::test(start_paused = true)]
async fn each_refresh_kills_the_old_refresh_token() {
    let crm = crm(|_| ());
    crm.seed(1);
    let ask = |change: Value| {
        let mut body = json!({"client_id": "crm-client", "client_secret": "crm-secret", "grant_type": "refresh_token",
            "redirect_uri": "http://127.0.0.1:8400/callback"});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        call(&crm, "POST", "/oauth2/access_token", &body.to_string())
    };
    let back = send(&crm, "GET", "/oauth?client_id=crm-client&state=s1&mode=popup", "", "");
    let back = back.headers()["location"].to_str().unwrap().to_owned();
    let back = url::Url::parse(&back).unwrap();
    let of = |name: &str| back.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    assert_eq!((of("state"), of("referer")), ("s1".to_owned(), "crm.example.com".to_owned()));
    let (status, first) = ask(json!({"grant_type": "authorization_code", "code": of("code")}));
    assert_eq!(status, 200);
    same_shape(&fixture("amocrm/oauth_token_response.json"), &first);
    let refresh = |tokens: &Value| ask(json!({"refresh_token": tokens["refresh_token"]}));
    let (status, second) = refresh(&first);
    assert_eq!(status, 200);
    assert_eq!((refresh(&first).0, crm.refreshes_reused()), (401, 1));
    let with = |tokens: &Value| {
        send(&crm, "GET", "/api/v4/contacts", tokens["access_token"].as_str().unwrap(), "").status().as_u16()
    };
    assert_eq!((with(&first), with(&second)), (200, 200));
    assert_eq!(ask(json!({"refresh_token": second["refresh_token"], "redirect_uri": "https://other"})).0, 400);
    crm.set_options(|options| options.refresh_kills_access = true);
    let (_, third) = refresh(&second);
    assert_eq!((with(&second), with(&third)), (401, 200));
    pass(86_400).await;
    assert_eq!(with(&third), 401, "a day is over");
    assert!(crm.calls().iter().all(|call| call.kind != CrmCallKind::Amo(AmoCall::Token) || call.body.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn whom_a_merge_ends_is_only_not_there_any_more() {
    let crm = crm(|_| ());
    crm.seed(3);
    let all = rows(&get(&crm, "/api/v4/contacts"));
    assert!(crm.merge(all[0], all[1]));
    assert!(!crm.merge(all[0], all[2]), "it is gone");
    assert_eq!(rows(&get(&crm, "/api/v4/contacts")), all[1..]);
    assert_eq!(call(&crm, "GET", &format!("/api/v4/contacts/{}", all[0]), "").0, 204);
    let events = get(&crm, "/api/v4/events");
    assert_eq!(events["_embedded"]["events"].as_array().unwrap().len(), 1);
    assert!(!crm.restore(all[0]), "a merge cannot be undone");
    crm.delete(all[2]);
    assert!(crm.restore(all[2]));
    assert_eq!(rows(&get(&crm, "/api/v4/contacts")), all[1..]);
    let changed = crm.person(all[2]).unwrap().changed;
    crm.set_options(|options| options.restore_moves_time = false);
    pass(9).await;
    crm.delete(all[2]);
    crm.restore(all[2]);
    assert_eq!(crm.person(all[2]).unwrap().changed, changed, "only the event tells");
    crm.erase(all[2]);
    assert_eq!((crm.person(all[2]), crm.add()), (None, all[2] + 1), "no id is given twice");
}

#[tokio::test(start_paused = true)]
async fn a_fault_strikes_as_often_as_it_is_told() {
    let crm = crm(|_| ());
    crm.seed(1);
    let kind = CrmCallKind::Amo(AmoCall::Contacts);
    crm.fault(CrmFault { kind, times: 1, effect: CrmEffect::Answer(Canned::too_many(Some("7"))) });
    crm.fault(CrmFault { kind, times: 1, effect: CrmEffect::LoseRequest });
    let status = || {
        let request = http::Request::get("/api/v4/contacts").header("Authorization", "Bearer crm-static-token");
        match crm.answer(request.body(Bytes::new()).unwrap()) {
            CrmOutcome::Answer(answer) => Some(answer.status().as_u16()),
            CrmOutcome::LostBefore | CrmOutcome::LostAfter => None,
        }
    };
    assert_eq!([status(), status(), status()], [Some(429), None, Some(200)]);
    assert_eq!(crm.count(kind), 3);
    crm.fault(CrmFault { kind, times: 1, effect: CrmEffect::CutAnswer });
    let cut = send(&crm, "GET", "/api/v4/contacts", "crm-static-token", "");
    assert_eq!(read(&cut), (200, Value::Null), "no JSON any more");
    let code = crm.issue_tokens(Dialect::AmoCrm).access_token;
    crm.expire_access_tokens();
    assert_eq!(send(&crm, "GET", "/api/v4/contacts", &code, "").status().as_u16(), 401);
}
