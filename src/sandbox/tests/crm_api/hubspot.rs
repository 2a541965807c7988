//! HubSpot's dialect.

use serde_json::json;

use super::*;
use crate::sandbox::crm_api::{Dialect, Late};

const SEARCH: &str = "/crm/v3/objects/contacts/search";

fn search(crm: &CrmSandbox, change: &Value) -> (u16, Value) {
    let mut body = fixture("hubspot/search_request.json");
    body["filterGroups"] = json!([]);
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    call(crm, "POST", SEARCH, &body.to_string())
}

fn found(crm: &CrmSandbox, change: &Value) -> Vec<u64> {
    let (status, body) = search(crm, change);
    assert_eq!(status, 200, "{body}");
    ids(&body["results"])
}

fn filter(name: &str, operator: &str, value: i64) -> Value {
    json!({"propertyName": name, "operator": operator, "value": value.to_string()})
}

#[tokio::test(start_paused = true)]
async fn answers_have_the_documented_shape() {
    let crm = crm(|_| ());
    crm.seed(5);
    let all: Vec<u64> = crm.people().iter().map(|person| person.id).collect();
    let request = fixture("hubspot/search_request.json");
    let page = |change: Value| {
        // The fixtures of the answers were asked for these, as one sees.
        let mut body = request.clone();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (status, page) = call(&crm, "POST", SEARCH, &body.to_string());
        assert_eq!(status, 200, "{page}");
        page
    };
    let wide = json!([{"filters": [filter("lastmodifieddate", "GTE", 0)]}]);
    same_shape(&fixture("hubspot/search_page1.json"), &page(json!({"filterGroups": wide, "limit": 2})));
    same_shape(&json!({"total": 0, "results": []}), &page(json!({"filterGroups": wide, "after": "4", "limit": 1})));
    let empty = page(json!({"filterGroups": [{"filters": [filter("lastmodifieddate", "GT", NOW.0)]}]}));
    assert_eq!(empty, fixture("hubspot/search_empty.json"));
    let list = fixture("hubspot/list_page.json");
    let names: Vec<&str> = list["results"][0]["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    let listed = get(&crm, &format!("/crm/v3/objects/contacts?limit=2&properties={}", names.join(",")));
    same_shape(&list, &listed);
    assert_eq!(listed["paging"]["next"]["after"], json!(all[2].to_string()), "the next id");
    crm.delete(all[0]);
    same_shape(&fixture("hubspot/list_archived_page.json"), &get(&crm, "/crm/v3/objects/contacts?archived=true"));
    let dated = get(&crm, "/crm/objects/2026-03/contacts?limit=100");
    assert_eq!(ids(&dated["results"]), all[1..]);
}

#[tokio::test(start_paused = true)]
async fn a_search_reaches_ten_thousand_results_and_refuses_the_next_page() {
    let crm = crm(|options| options.search_cap = 4);
    crm.seed(6);
    let all: Vec<u64> = crm.people().iter().map(|person| person.id).collect();
    let (_, first) = search(&crm, &json!({"limit": 3}));
    assert_eq!((&first["total"], ids(&first["results"])), (&json!(6), all[..3].to_vec()));
    let (_, second) = search(&crm, &json!({"limit": 3, "after": first["paging"]["next"]["after"]}));
    assert_eq!(ids(&second["results"]), all[3..4], "cut at the cap");
    let (status, _) = search(&crm, &json!({"limit": 3, "after": second["paging"]["next"]["after"]}));
    assert_eq!(status, 400);
    let at = crm.people()[3].changed.0;
    let rest = json!({"filterGroups": [{"filters": [filter("lastmodifieddate", "GTE", at)]}]});
    assert_eq!(found(&crm, &rest), all[3..]);
}

#[tokio::test(start_paused = true)]
async fn an_import_in_one_millisecond_can_only_be_told_apart_by_id() {
    let crm = crm(|options| options.search_cap = 5);
    let all = crm.import_same_second(9);
    let moment = filter("lastmodifieddate", "EQ", NOW.0);
    let beyond = filter("hs_object_id", "GT", i64::try_from(all[4]).unwrap());
    let by_id = json!([{"propertyName": "hs_object_id", "direction": "ASCENDING"}]);
    let rest = json!({"filterGroups": [{"filters": [moment, beyond]}], "sorts": by_id});
    assert_eq!(found(&crm, &rest), all[5..]);
}

#[tokio::test(start_paused = true)]
async fn operators_do_what_the_vendor_says_and_others_are_refused() {
    let crm = crm(|_| ());
    crm.seed(5);
    let people = crm.people();
    let (id, at) = (|n: usize| i64::try_from(people[n].id).unwrap(), |n: usize| people[n].changed.0);
    let by = |filter: Value| found(&crm, &json!({"filterGroups": [{"filters": [filter]}]}));
    let expected = |range: std::ops::Range<usize>| people[range].iter().map(|person| person.id).collect::<Vec<_>>();
    assert_eq!(by(filter("lastmodifieddate", "GT", at(2))), expected(3..5));
    assert_eq!(by(filter("lastmodifieddate", "LT", at(2))), expected(0..2));
    assert_eq!(by(filter("hs_object_id", "LTE", id(1))), expected(0..2));
    assert_eq!(
        by(json!({"propertyName": "email", "operator": "EQ", "value": people[1].email.to_uppercase()})),
        expected(1..2)
    );
    let values = [id(0).to_string(), id(1).to_string()];
    assert_eq!(by(json!({"propertyName": "hs_object_id", "operator": "IN", "values": values})), expected(0..2));
    let iso = json!({"propertyName": "lastmodifieddate", "operator": "GTE", "value": "2026-11-20T08:59:59.420Z"});
    assert_eq!(by(iso), expected(4..5));
    let groups =
        json!([{"filters": [filter("hs_object_id", "EQ", id(4))]}, {"filters": [filter("hs_object_id", "EQ", id(0))]}]);
    assert_eq!(found(&crm, &json!({ "filterGroups": groups })), [people[0].id, people[4].id]);
    for bad in [
        json!({"limit": 201}),
        json!({"filterGroups": [{"filters": [filter("hs_object_id", "LIKE", 1)]}]}),
        json!({"filterGroups": [{"filters": [filter("no_such", "EQ", 1)]}]}),
        json!({"properties": [format!("{:3000}", "x")]}),
    ] {
        assert_eq!(search(&crm, &bad).0, 400);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_is_seen_late_by_search_and_at_once_by_id() {
    for (late, meanwhile) in [(Late::OldPlace, vec![0, 1, 2]), (Late::Nowhere, vec![1, 2])] {
        let crm = crm(|options| (options.index_lag, options.late) = (Duration::from_secs(20), late));
        crm.seed(3);
        let all: Vec<u64> = crm.people().iter().map(|person| person.id).collect();
        pass(5).await;
        crm.edit(all[0]);
        let expected: Vec<u64> = meanwhile.into_iter().map(|place: usize| all[place]).collect();
        assert_eq!(found(&crm, &json!({})), expected);
        let added = crm.add();
        assert_eq!(
            get(&crm, &format!("/crm/v3/objects/contacts/{}?properties=city", all[0]))["properties"]["city"],
            "Полтава"
        );
        assert_eq!(found(&crm, &json!({})), expected);
        pass(20).await;
        assert_eq!(found(&crm, &json!({})), [all[1], all[2], all[0], added]);
        crm.delete(all[1]);
        pass(20).await;
        assert_eq!(found(&crm, &json!({})), [all[2], all[0], added]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_tells_the_missing_apart_and_a_merged_id_gives_the_survivor() {
    let crm = crm(|_| ());
    crm.seed(4);
    let all: Vec<u64> = crm.people().iter().map(|person| person.id).collect();
    crm.delete(all[0]);
    crm.merge(all[1], all[2]);
    let batch = |wanted: &[u64]| {
        let inputs: Vec<Value> = wanted.iter().map(|id| json!({"id": id.to_string()})).collect();
        let body = json!({"inputs": inputs, "properties": ["hs_merged_object_ids"]});
        call(&crm, "POST", "/crm/v3/objects/contacts/batch/read", &body.to_string())
    };
    let (status, body) = batch(&all);
    assert_eq!((status, ids(&body["results"])), (207, vec![all[2], all[2], all[3]]));
    assert_eq!(body["errors"][0]["context"]["ids"], json!([all[0].to_string()]));
    assert_eq!(body["results"][0]["properties"]["hs_merged_object_ids"], json!(all[1].to_string()));
    crm.set_options(|options| options.merged_ids_resolve = false);
    assert_eq!(ids(&batch(&all).1["results"]), all[2..]);
    assert_eq!(batch(&all[2..]).0, 200);
    let archived = get(&crm, "/crm/v3/objects/contacts?archived=true");
    assert_eq!(ids(&archived["results"]), [all[0]], "a merged one is in no bin");
    pass(91 * 86_400).await;
    assert_eq!(get(&crm, "/crm/v3/objects/contacts?archived=true")["results"], json!([]));
}

#[tokio::test(start_paused = true)]
async fn limits_name_their_policy() {
    let crm = crm(|options| {
        options.rates = Rates { hubspot_per_ten_seconds: 8, hubspot_per_day: 12, ..Rates::default() };
    });
    let policies = |count: usize, searches: bool| -> Vec<Value> {
        let path = if searches { ("POST", SEARCH) } else { ("GET", "/crm/v3/objects/contacts") };
        (0..count).map(|_| call(&crm, path.0, path.1, "{}").1["policyName"].clone()).collect()
    };
    assert_eq!(policies(6, true)[4..], [Value::Null, json!("SECONDLY")]);
    assert_eq!(policies(4, false)[2..], [Value::Null, json!("TEN_SECONDLY_ROLLING")]);
    pass(10).await;
    assert_eq!(policies(5, false)[3..], [Value::Null, json!("DAILY")]);
    let (status, body) = call(&crm, "GET", "/crm/v3/objects/contacts", "");
    assert_eq!(status, 429);
    same_shape(&fixture("hubspot/error_429_daily.json"), &body);
    pass(86_400).await;
    assert_eq!(call(&crm, "GET", "/crm/v3/objects/contacts", "").0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_gives_the_same_refresh_token_unless_told_to_rotate() {
    let crm = crm(|_| ());
    let refused = read(&send(&crm, "GET", "/crm/v3/objects/contacts", "other", ""));
    assert_eq!(refused.0, 401);
    same_shape(&fixture("hubspot/error_401.json"), &refused.1);
    let tokens = crm.issue_tokens(Dialect::HubSpot);
    let refresh = |token: &str| {
        let body =
            format!("grant_type=refresh_token&client_id=crm-client&client_secret=crm-secret&refresh_token={token}");
        call(&crm, "POST", "/oauth/2026-03/token", &body)
    };
    let (status, first) = refresh(&tokens.refresh_token);
    assert_eq!((status, &first["refresh_token"]), (200, &json!(tokens.refresh_token)));
    same_shape(&fixture("hubspot/oauth_token_response.json"), &first);
    assert!(first["access_token"].as_str().unwrap().len() >= 300);
    crm.set_options(|options| options.rotating.push(Dialect::HubSpot));
    let (_, second) = refresh(&tokens.refresh_token);
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    let (status, body) = refresh(&tokens.refresh_token);
    assert_eq!((status, &body["error"], &body["status"]), (400, &json!("invalid_grant"), &json!("BAD_REFRESH_TOKEN")));
    pass(1800).await;
    let old = second["access_token"].as_str().unwrap();
    assert_eq!(send(&crm, "GET", "/crm/v3/objects/contacts", old, "").status().as_u16(), 401);
}
