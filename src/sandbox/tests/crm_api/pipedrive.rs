//! Pipedrive's dialect.

use serde_json::json;

use super::*;
use crate::sandbox::crm_api::Dialect;

#[tokio::test(start_paused = true)]
async fn answers_have_the_documented_shape() {
    let crm = crm(|_| ());
    crm.seed(12);
    let theirs = fixture("pipedrive/v2_persons_page1.json");
    let page = get(&crm, "/api/v2/persons?limit=10&sort_by=update_time&include_fields=marketing_status");
    same_shape(&theirs, &page);
    same_shape(&fixture("pipedrive/v2_persons_empty.json"), &get(&crm, "/api/v2/persons?ids=1"));
    let recents = get(&crm, "/v1/recents?since_timestamp=2026-11-20%2008:00:00&items=person&limit=20");
    same_shape(&fixture("pipedrive/v1_recents_page.json"), &recents);
    let request = http::Request::get("/api/v2/persons?api_token=crm-static-token").body(Bytes::new()).unwrap();
    let CrmOutcome::Answer(answer) = crm.answer(request) else { panic!("lost") };
    assert_eq!(answer.status().as_u16(), 200, "the token may stand in the query");
    assert!(answer.headers().contains_key("x-ratelimit-remaining"));
    crm.set_options(|options| options.rates.pipedrive_per_two_seconds = 0);
    let (status, body) = call(&crm, "GET", "/api/v2/persons", "");
    assert_eq!(status, 429);
    same_shape(&fixture("pipedrive/error_429.json"), &body);
}

#[tokio::test(start_paused = true)]
async fn a_cursor_goes_on_behind_the_last_row_so_edits_are_seen_again_and_nobody_is_lost() {
    let crm = crm(|options| options.page_cap = Some(3));
    crm.seed(8);
    let all: Vec<u64> = crm.people().iter().map(|person| person.id).collect();
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(&crm, &format!("/api/v2/persons?sort_by=update_time&limit=500{cursor}"));
        seen.extend(ids(&page["data"]));
        crm.edit(all[0]);
        let Some(next) = page["additional_data"]["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, [&all[..], &all[..1]].concat());
    assert_eq!(call(&crm, "GET", "/api/v2/persons?cursor=other", "").0, 400);
}

#[tokio::test(start_paused = true)]
async fn since_is_inclusive_until_is_not_and_deleted_ones_show_where_the_reading_says_so() {
    let crm = crm(|_| ());
    crm.seed(6);
    let people = crm.people();
    let moment = |n: usize| {
        chrono::DateTime::from_timestamp_millis(people[n].changed.0).unwrap().format("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    let second = |n: usize| people[n].changed.0 / 1000;
    let path = format!("/api/v2/persons?updated_since={}&updated_until={}", moment(1), moment(4));
    let within = people.iter().filter(|person| (second(1)..second(4)).contains(&(person.changed.0 / 1000)));
    assert_eq!(ids(&get(&crm, &path)["data"]), within.map(|person| person.id).collect::<Vec<_>>());
    let down = get(&crm, "/api/v2/persons?sort_by=update_time&sort_direction=desc&limit=1");
    assert_eq!(ids(&down["data"]), [people[5].id]);
    crm.delete(people[0].id);
    let path = format!("/api/v2/persons?ids={},{}", people[0].id, people[1].id);
    assert_eq!(ids(&get(&crm, &path)["data"]), [people[1].id]);
    crm.set_options(|options| options.lists_deleted = true);
    assert_eq!(get(&crm, &path)["data"][0]["is_deleted"], json!(true));
    assert_eq!(call(&crm, "GET", &format!("/api/v2/persons/{}", people[0].id), "").0, 404);
}

#[tokio::test(start_paused = true)]
async fn consent_is_told_as_marketing_status_where_asked_for() {
    let crm = crm(|_| ());
    crm.seed(3);
    let all: Vec<u64> = crm.people().iter().map(|person| person.id).collect();
    crm.opt_out(all[0]);
    crm.opt_in(all[1]);
    let page = get(&crm, "/api/v2/persons?include_fields=marketing_status");
    let told: Vec<&Value> = page["data"].as_array().unwrap().iter().map(|person| &person["marketing_status"]).collect();
    assert_eq!(told, ["unsubscribed", "subscribed", "no_consent"]);
    assert_eq!(get(&crm, "/api/v2/persons")["data"][0].get("marketing_status"), None);
}

#[tokio::test(start_paused = true)]
async fn tokens_want_basic_and_a_form() {
    let crm = crm(|_| ());
    let tokens = crm.issue_tokens(Dialect::Pipedrive);
    let ask = |secret: &str| {
        use base64::Engine as _;
        let basic = base64::engine::general_purpose::STANDARD.encode(format!("crm-client:{secret}"));
        let request = http::Request::post("https://oauth.pipedrive.com/oauth/token")
            .header("Authorization", format!("Basic {basic}"))
            .body(Bytes::from(format!("grant_type=refresh_token&refresh_token={}", tokens.refresh_token)))
            .unwrap();
        let CrmOutcome::Answer(answer) = crm.answer(request) else { panic!("lost") };
        read(&answer)
    };
    let (status, answer) = ask("crm-secret");
    assert_eq!(status, 200);
    same_shape(&fixture("pipedrive/oauth_token_response.json"), &answer);
    assert_eq!(ask("other").0, 401);
}
