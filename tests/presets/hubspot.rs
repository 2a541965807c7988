//! `HubSpot`.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use reteno_sync::source::{From, SourceError};

use super::harness::{Answer, Asked, Crm, HOOK_TIME, HOOK_URL, Hit, error, first, fixture, minimal, ok, status};

const SEARCH: &str = "/crm/v3/objects/contacts/search";

fn portal(asked: &Asked) -> Answer {
    match (asked.path(), asked.body("/after").as_str()) {
        (SEARCH, "") => ok(fixture!("hubspot/search_page1.json")),
        (SEARCH, "2") => ok(fixture!("hubspot/search_page2_last.json")),
        ("/crm/v3/objects/contacts", _) => ok(fixture!("hubspot/search_empty.json")),
        _ => status(500),
    }
}

async fn crm(script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Crm {
    Crm::new("hubspot", &minimal("hubspot"), script).await
}

/// Rows are sorted by time, and the index gives those from a bound on, so that a query can begin anew.
fn from_bound(asked: &Asked) -> Answer {
    let bound: i64 = asked.body("/filterGroups/0/filters/0/value").parse().unwrap_or(0);
    match asked.path() {
        SEARCH if bound > 1_795_165_300_000 => ok(fixture!("hubspot/search_empty.json")),
        SEARCH if bound > 1_795_165_205_500 => ok(fixture!("hubspot/search_page2_last.json")),
        _ => portal(asked),
    }
}

#[tokio::test(start_paused = true)]
async fn hubspot_list_and_next_page() {
    let crm = crm(from_bound).await;
    let given = crm.read_all().await;
    // the archived list comes first; 152 names two that were merged into it
    assert_eq!(given.ids, ["151", "?148", "?149", "152", "160"]);
    let asked = crm.asked();
    let lists: Vec<&Asked> = asked.iter().filter(|asked| asked.path() == SEARCH).collect();
    assert_eq!(lists[0].header("authorization"), "Bearer SERVICE-KEY");
    assert_eq!(lists[0].body("/limit"), "200");
    assert!(lists[0].body.get("filterGroups").is_none() && lists[0].body.get("after").is_none());
    assert!(lists[0].body("/properties").contains("hs_merged_object_ids"));
    // begun anew at the last seen millisecond and one before it: `after` is an offset
    assert_eq!(lists[1].body("/filterGroups/0/filters/0/value"), "1795165207454");
    assert_eq!(lists[1].body("/filterGroups/0/filters/0/operator"), "GTE");
    assert!(lists[1].body.get("after").is_none());
}

#[tokio::test(start_paused = true)]
async fn hubspot_incremental() {
    let crm = crm(from_bound).await;
    let given = crm.read_all().await;
    crm.asked();
    crm.read_after(&given).await;
    let asked = crm.asked();
    // noon less a minute less five
    assert_eq!(asked[0].body("/filterGroups/0/filters/0/value"), "1795434840000");
    assert!(asked.iter().all(|asked| asked.path() == SEARCH), "the archived are asked for once a day");
}

#[tokio::test(start_paused = true)]
async fn hubspot_empty_page() {
    let crm = crm(|_| ok(fixture!("hubspot/search_empty.json"))).await;
    assert!(crm.read_all().await.ids.is_empty());
}

#[tokio::test(start_paused = true)]
async fn hubspot_fetch() {
    let crm = crm(|asked: &Asked| match asked.path() {
        "/crm/v3/objects/contacts/batch/read" => ok(fixture!("hubspot/list_page.json")),
        _ => status(500),
    })
    .await;
    // asked for the merged 149, HubSpot gives the survivor 152 under its own id: 149 is gone
    assert_eq!(crm.fetch(&["151", "149"]).await.unwrap(), ["151", "152", "?149"]);
    let asked = crm.asked();
    assert_eq!(asked[0].body("/inputs"), r#"[{"id":"151"},{"id":"149"}]"#);
    assert!(asked[0].body("/properties").contains("hs_email_optout"));
}

#[tokio::test(start_paused = true)]
async fn hubspot_deletion_and_merge() {
    let crm = crm(|asked: &Asked| match asked.query("archived").as_deref() {
        Some("true") => ok(fixture!("hubspot/list_archived_page.json")),
        _ => from_bound(asked),
    })
    .await;
    assert_eq!(crm.read_all().await.ids, ["?140", "151", "?148", "?149", "152", "160"]);
}

#[tokio::test(start_paused = true)]
async fn hubspot_mapping_and_opt_out() {
    let table = format!("{}\ncontact.sms.region = \"US\"", minimal("hubspot"));
    let crm = Crm::new("hubspot", &table, from_bound).await;
    let given = crm.read_all().await;
    assert_eq!(
        crm.map(&given.records[0]),
        [
            "externalCustomerId=hubspot-151",
            "email=olena.bondar@example.com",
            "sms=+380671234567",
            "firstName=Olena",
            "lastName=Bondar",
            "address=1 Sample St",
            "town=Kyiv",
            "region=Kyiv",
            "postcode=01001",
            "languageCode=uk",
        ]
    );
    assert!(crm.map(&given.records[1]).contains(&"consent=no".to_owned()));
    // an empty hs_email_optout says nothing
    let ada = crm.map(&given.records[2]);
    assert!(ada.iter().all(|word| !word.starts_with("consent")) && ada.contains(&"email-".to_owned()), "{ada:?}");
}

#[tokio::test]
async fn hubspot_webhook() {
    let table = format!("{}\nwebhook.secret = \"client-secret\"", minimal("hubspot"));
    let crm = Crm::new("hubspot", &table, |_| status(500)).await;
    let body = fixture!("hubspot/webhook_events.json").trim_end().to_owned();
    let signed = format!("POST{HOOK_URL}{body}{}", HOOK_TIME.0);
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"client-secret");
    let signature = base64::engine::general_purpose::STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
    let headers = vec![("x-hubspot-signature-v3", signature), ("x-hubspot-request-timestamp", HOOK_TIME.0.to_string())];
    let hit = Hit { headers, body, ..Hit::default() };
    assert_eq!(crm.deliver(&hit).unwrap(), ["151", "151", "?140", "152", "?133"]);
    let other = Hit { body: hit.body.replace("151", "152"), ..hit };
    assert_eq!(crm.deliver(&other).unwrap_err().status(), 401);
}

#[tokio::test(start_paused = true)]
async fn hubspot_errors() {
    let slow =
        crm(first(error(429, fixture!("hubspot/error_429_ten_secondly.json")), fixture!("hubspot/search_empty.json")))
            .await;
    slow.read_all().await;
    assert!(slow.elapsed() >= Duration::from_secs(10));
    let blocked = crm(|_| error(429, fixture!("hubspot/error_429_daily.json"))).await;
    assert!(matches!(blocked.read(From::Beginning).await.end, Err(SourceError::Halted { .. })));
    let refused = crm(|_| error(401, fixture!("hubspot/error_401.json"))).await;
    assert!(matches!(refused.read(From::Beginning).await.end, Err(SourceError::Answer { status: 401, .. })));
    let locked = crm(first(status(423), fixture!("hubspot/search_empty.json"))).await;
    locked.read_all().await;
    assert!(locked.elapsed() > Duration::ZERO);
}
