//! Webhooks: bodies, signatures, ladders, and the ways in which they go wrong.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::json;

use super::*;
use crate::http::{Exchange, ExchangeError};
use crate::sandbox::crm_api::{CrmWebhook, Dialect};

const URL: &str = "http://127.0.0.1:8400/hooks/crm/path-token";

/// Somebody who listens: gives the set statuses in order (0: none at all), then 200.
#[derive(Default)]
struct Receiver {
    statuses: Mutex<VecDeque<u16>>,
    got: Mutex<Vec<http::Request<Bytes>>>,
}

impl Receiver {
    fn answering(statuses: impl IntoIterator<Item = u16>) -> Arc<Self> {
        let statuses = Mutex::new(statuses.into_iter().collect());
        Arc::new(Self { statuses, ..Self::default() })
    }

    fn bodies(&self) -> Vec<String> {
        self.got.lock().unwrap().iter().map(|request| String::from_utf8(request.body().to_vec()).unwrap()).collect()
    }

    fn json(&self) -> Vec<Value> {
        self.bodies().iter().map(|body| serde_json::from_str(body).unwrap()).collect()
    }
}

impl Exchange for Receiver {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, ExchangeError>> {
        async move {
            self.got.lock().unwrap().push(request);
            let status = self.statuses.lock().unwrap().pop_front().unwrap_or(200);
            if status == 0 {
                return Err(ExchangeError::NotSent { host: "receiver".into(), source: "refused".into() });
            }
            Ok(http::Response::builder().status(status).body(Bytes::new()).unwrap())
        }
        .boxed()
    }
}

fn listened(dialect: Dialect, change: impl FnOnce(&mut CrmOptions)) -> (CrmSandbox, Vec<u64>) {
    let crm = crm(|options| {
        options.webhooks = vec![CrmWebhook { dialect, url: URL.into(), basic: None }];
        change(options);
    });
    crm.seed(40);
    let ids = crm.people().iter().map(|person| person.id).collect();
    (crm, ids)
}

/// The names of a form, in order.
fn names(form: &str) -> Vec<String> {
    url::form_urlencoded::parse(form.as_bytes()).map(|(name, _)| name.into_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn amocrm_sends_forms_with_the_documented_names_in_the_documented_order() {
    let (crm, all) = listened(Dialect::AmoCrm, |_| ());
    let receiver = Receiver::default();
    crm.delete(all[0]);
    crm.change(all[1], |person| (person.email, person.phone) = (String::new(), String::new()));
    crm.delete(all[1]);
    crm.restore(all[1]);
    crm.edit_company(7_143_777);
    let id = loop {
        let id = crm.add();
        if !crm.person(id).unwrap().phone.is_empty() {
            break id;
        }
    };
    crm.merge(all[2], id);
    crm.deliver_due(&receiver).await;
    let bodies = receiver.bodies();
    let theirs = |name: &str| names(&fixture_text(&format!("amocrm/webhook_{name}.txt")));
    assert_eq!(names(&bodies[0]), theirs("delete"));
    assert_eq!(bodies[0], fixture_text("amocrm/webhook_delete.txt").replace("7143512", &all[0].to_string()));
    assert_eq!(names(&bodies[3]), theirs("restore"));
    assert_eq!(names(&bodies[4]), theirs("update_company"));
    let without_a_date = theirs("add").into_iter().filter(|name| !name.contains("[custom_fields][2]"));
    assert_eq!(names(&bodies[bodies.len() - 2]), without_a_date.collect::<Vec<_>>());
    assert!(bodies[bodies.len() - 1].starts_with("contacts%5Bupdate%5D%5B0%5D%5Bid%5D="), "of the survivor alone");
    assert_eq!(receiver.got.lock().unwrap()[0].headers()["content-type"], "application/x-www-form-urlencoded");
}

#[tokio::test(start_paused = true)]
async fn hubspot_sends_signed_arrays() {
    let (crm, all) = listened(Dialect::HubSpot, |_| ());
    let receiver = Receiver::default();
    crm.add();
    crm.change(all[0], |person| "new@example.com".clone_into(&mut person.email));
    crm.delete(all[1]);
    crm.merge(all[2], all[3]);
    crm.erase(all[4]);
    assert_eq!(crm.deliver_due(&receiver).await, 1, "all in one array");
    let events = receiver.json().remove(0);
    let of = |events: &Value, kind: &str| {
        events.as_array().unwrap().iter().find(|event| event["subscriptionType"] == kind).unwrap().clone()
    };
    let theirs = fixture("hubspot/webhook_events.json");
    for kind in ["creation", "propertyChange", "deletion", "merge", "privacyDeletion"] {
        let kind = format!("contact.{kind}");
        same_shape(&of(&theirs, &kind), &of(&events, &kind));
    }
    let edit = of(&events, "contact.propertyChange");
    assert_eq!((&edit["propertyName"], &edit["propertyValue"]), (&json!("email"), &json!("new@example.com")));
    assert_eq!(of(&events, "contact.merge")["mergedObjectIds"], json!([all[2]]));
    let got = receiver.got.lock().unwrap();
    assert_eq!(got[0].headers()["x-hubspot-request-timestamp"], NOW.0.to_string());
    assert_eq!(got[0].headers()["x-hubspot-signature-version"], "v1");
    assert_eq!(got[0].headers()["x-hubspot-signature-v3"].len(), 44);
}

#[tokio::test(start_paused = true)]
async fn pipedrive_sends_its_second_version_with_basic() {
    let (crm, all) = listened(Dialect::AmoCrm, |_| ());
    let mut body = fixture("pipedrive/webhook_subscribe_request.json");
    body["subscription_url"] = json!(URL);
    assert_eq!(call(&crm, "POST", "/api/v1/webhooks", &body.to_string()).0, 201);
    crm.set_options(|options| options.habits.lose_one_in = 0);
    let receiver = Receiver::default();
    let added = crm.add();
    crm.change(all[0], |person| "+380671112233".clone_into(&mut person.phone));
    crm.delete(all[1]);
    crm.merge(all[2], all[3]);
    crm.deliver_due(&receiver).await;
    let events: Vec<Value> = receiver.bodies().iter().filter_map(|body| serde_json::from_str(body).ok()).collect();
    let theirs = |name: &str| {
        let mut theirs = fixture(&format!("pipedrive/webhook_v2_{name}.json"));
        for part in ["data", "previous"] {
            theirs[part] = json!(null); // the persons are compared with the API's
        }
        theirs
    };
    let ours = |n: usize| {
        let mut ours: Value = events[n].clone();
        (ours["data"], ours["previous"]) = (json!(null), json!(null));
        ours
    };
    for (n, name) in ["create", "change", "delete", "delete_merged"].iter().enumerate() {
        same_shape(&theirs(name), &ours(n));
        assert_eq!(ours(n)["meta"]["action"], name.trim_end_matches("_merged"));
    }
    assert_eq!((&events[0]["data"]["id"], &events[0]["previous"]), (&json!(added), &json!(null)));
    assert!(events[1]["previous"].get("phones").is_some() && events[1]["previous"].get("name").is_none());
    assert_eq!((&events[2]["data"], &events[2]["meta"]["entity_id"]), (&json!(null), &json!(all[1].to_string())));
    assert_eq!(events[3]["meta"]["merged_to_id"], json!(all[3].to_string()));
    assert_eq!(events[4]["meta"]["merged_from_id"], json!(all[2].to_string()));
    let got = receiver.got.lock().unwrap();
    let basic: Vec<&str> =
        got.iter().filter_map(|request| request.headers().get("authorization")?.to_str().ok()).collect();
    assert_eq!(basic, ["Basic cGlwZWRyaXZlOkVYQU1QTEVfUEFTU1dPUkQ="; 5]);
}

/// The moments of the attempts for one event, in seconds after the first.
async fn attempts(dialect: Dialect, status: u16) -> Vec<i64> {
    let (crm, all) = listened(dialect, |_| ());
    let receiver = Receiver::answering([status; 40]);
    crm.opt_out(all[0]);
    while let Some(due) = crm.next_due() {
        let last = crm.attempts().last().map_or(NOW, |attempt| attempt.at);
        tokio::time::advance(due.since(last)).await;
        crm.deliver_due(&*receiver).await;
    }
    assert_eq!(crm.deliveries().given_up, 1);
    crm.attempts().iter().map(|attempt| (attempt.at.0 - NOW.0) / 1000).collect()
}

#[tokio::test(start_paused = true)]
async fn each_vendor_tries_again_by_its_own_ladder() {
    assert_eq!(attempts(Dialect::AmoCrm, 503).await, [0, 300, 1200, 2100, 5700]);
    assert_eq!(attempts(Dialect::AmoCrm, 404).await, [0, 300, 1200, 2100], "the fifth is for its own errors only");
    assert_eq!(attempts(Dialect::AmoCrm, 0).await.len(), 5);
    assert_eq!(attempts(Dialect::Pipedrive, 500).await, [0, 3, 33, 183]);
    let hubspot = attempts(Dialect::HubSpot, 500).await;
    assert!(hubspot.len() == 11 && hubspot[10] < 86_400, "{hubspot:?}");
}

#[tokio::test(start_paused = true)]
async fn on_a_real_clock_the_ladder_can_be_shortened() {
    let (crm, all) = listened(Dialect::AmoCrm, |options| options.habits.retry_after = Some(Duration::from_secs(1)));
    let receiver = Receiver::answering([0, 500]);
    crm.edit(all[0]);
    for _ in 0..3 {
        crm.deliver_due(&*receiver).await;
        pass(1).await;
    }
    assert_eq!((crm.deliveries().attempts, crm.deliveries().accepted), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_says_which_it_is() {
    let (crm, all) = listened(Dialect::HubSpot, |_| ());
    let receiver = Receiver::answering([500]);
    crm.delete(all[0]);
    crm.deliver_due(&*receiver).await;
    pass(60).await;
    crm.deliver_due(&*receiver).await;
    let numbers: Vec<Value> = receiver.json().iter().map(|body| body[0]["attemptNumber"].clone()).collect();
    assert_eq!(numbers, [0, 1]);
    assert_eq!((crm.deliveries().accepted, crm.undelivered()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn amocrm_disables_a_webhook_after_a_hundred_bad_answers() {
    let (crm, all) = listened(Dialect::AmoCrm, |_| ());
    let receiver = Receiver::answering([500; 101]);
    for _ in 0..100 {
        crm.edit(all[0]);
    }
    crm.deliver_due(&*receiver).await;
    assert!(crm.is_hook_enabled(Dialect::AmoCrm, URL));
    crm.edit(all[0]);
    crm.deliver_due(&*receiver).await;
    assert!(!crm.is_hook_enabled(Dialect::AmoCrm, URL));
    crm.edit(all[0]);
    assert_eq!((crm.deliveries().queued, crm.deliveries().unheard), (101, 1));
}

#[tokio::test(start_paused = true)]
async fn pipedrive_bans_a_receiver_and_what_happens_meanwhile_is_lost() {
    let (crm, all) = listened(Dialect::Pipedrive, |_| ());
    let receiver = Receiver::answering([500; 10]);
    for id in &all[..10] {
        crm.edit(*id);
    }
    crm.deliver_due(&*receiver).await;
    crm.edit(all[11]);
    assert_eq!(crm.deliveries().unheard, 1);
    pass(1800).await;
    crm.edit(all[12]);
    assert_eq!(crm.deliveries().queued, 11);
}

#[tokio::test(start_paused = true)]
async fn habits_double_lose_and_disorder_by_the_seed() {
    let run = |disorder: bool| async move {
        let (crm, all) = listened(Dialect::AmoCrm, |options| {
            options.habits.duplicate_one_in = 4;
            options.habits.lose_one_in = 5;
            options.habits.disorder = disorder;
        });
        for id in &all {
            crm.opt_out(*id);
        }
        crm.deliver_due(&Receiver::default()).await;
        let order: Vec<u64> = crm.attempts().iter().map(|attempt| attempt.person).collect();
        (crm.deliveries(), order)
    };
    let (totals, order) = run(false).await;
    assert!(totals.lost > 0 && totals.doubled > 0, "{totals:?}");
    assert_eq!(totals.attempts, totals.queued - totals.lost + totals.doubled);
    assert!(order.is_sorted());
    let (_, mixed) = run(true).await;
    assert!(!mixed.is_sorted());
    assert_eq!(run(true).await.1, mixed, "the same seed, the same disorder");
}

#[tokio::test(start_paused = true)]
async fn events_come_when_their_delay_is_over() {
    let (crm, all) = listened(Dialect::AmoCrm, |options| {
        options.habits.delay = Duration::from_secs(2)..=Duration::from_secs(9);
    });
    let receiver = Receiver::default();
    for id in &all[..20] {
        crm.edit(*id);
    }
    assert_eq!(crm.deliver_due_by(&receiver, 8).await, 0);
    pass(5).await;
    let some = crm.deliver_due_by(&receiver, 8).await;
    pass(5).await;
    assert_eq!(some + crm.deliver_due_by(&receiver, 8).await, 20);
    let order: Vec<u64> = crm.attempts().iter().map(|attempt| attempt.person).collect();
    assert!(some > 0 && !order.is_sorted());
}
