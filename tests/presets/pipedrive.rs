//! Pipedrive.

use std::time::Duration;

use base64::Engine;
use reteno_sync::source::{From, SourceError};

use super::harness::{Answer, Asked, Crm, Hit, error, first, fixture, minimal, ok, status};

fn company(asked: &Asked) -> Answer {
    match asked.query("cursor") {
        None => ok(fixture!("pipedrive/v2_persons_page1.json")),
        Some(_) => ok(fixture!("pipedrive/v2_persons_page2_last.json")),
    }
}

async fn crm(script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Crm {
    Crm::new("pipedrive", &minimal("pipedrive"), script).await
}

#[tokio::test(start_paused = true)]
async fn pipedrive_list_and_next_page() {
    let crm = crm(company).await;
    assert_eq!(crm.read_all().await.ids, ["1001", "1002", "1003"]);
    let asked = crm.asked();
    assert!(asked[0].url.as_str().starts_with("https://examplecrm.pipedrive.com/api/v2/persons?"));
    assert_eq!(asked[0].header("x-api-token"), "API-TOKEN");
    assert_eq!((asked[0].query("limit").as_deref(), asked[0].query("updated_since")), (Some("500"), None));
    assert_eq!(asked[0].query("sort_by").as_deref(), Some("update_time"));
    assert_eq!(asked[1].query("updated_since").as_deref(), Some("2026-11-20T09:00:04Z"));
    // a page of one second only is gone through by its cursor
    assert_eq!(asked[2].query("cursor").as_deref(), Some("eyJmaWVsZCI6InVwZGF0ZV90aW1lIn0-EXAMPLE"));
}

#[tokio::test(start_paused = true)]
async fn pipedrive_incremental() {
    let crm = crm(company).await;
    let given = crm.read_all().await;
    crm.asked();
    crm.read_after(&given).await;
    assert_eq!(crm.asked()[0].query("updated_since").as_deref(), Some("2026-11-23T11:57:30Z"));
}

#[tokio::test(start_paused = true)]
async fn pipedrive_empty_page() {
    let crm = crm(|_| ok(fixture!("pipedrive/v2_persons_empty.json"))).await;
    assert!(crm.read_all().await.ids.is_empty());
}

#[tokio::test(start_paused = true)]
async fn pipedrive_fetch() {
    let crm = crm(company).await;
    assert_eq!(crm.fetch(&["1001", "1002", "990"]).await.unwrap(), ["1001", "1002", "?990"]);
    assert_eq!(crm.asked()[0].query("ids").as_deref(), Some("1001,1002,990"));
}

#[tokio::test(start_paused = true)]
async fn pipedrive_deletion() {
    let deleted =
        fixture!("pipedrive/v2_persons_page2_last.json").replace("\"is_deleted\": false", "\"is_deleted\": true");
    let crm = crm(move |_: &Asked| ok(&deleted)).await;
    assert_eq!(crm.read_all().await.ids, ["-1003"]);
    assert_eq!(crm.fetch(&["1003"]).await.unwrap(), ["-1003"]);
}

#[tokio::test(start_paused = true)]
async fn pipedrive_mapping_and_opt_out() {
    let table = format!("{}\ncontact.sms.region = \"GB\"", minimal("pipedrive"));
    let crm = Crm::new("pipedrive", &table, company).await;
    let given = crm.read_all().await;
    assert_eq!(
        crm.map(&given.records[0]),
        [
            "externalCustomerId=pipedrive-1001",
            "email=olena.bondar@example.com",
            "sms=+380671234567",
            "firstName=Olena",
            "lastName=Bondar",
            "address=1 Sample St, Kyiv 01001, Ukraine",
            "town=Kyiv",
            "region=Kyiv",
            "postcode=01001",
            "consent=yes",
        ]
    );
    assert!(crm.map(&given.records[2]).iter().all(|word| !word.starts_with("consent")), "no_consent says nothing");
}

#[tokio::test]
async fn pipedrive_webhook() {
    let table = format!("{}\nwebhook.password = \"a-password\"", minimal("pipedrive"));
    let crm = Crm::new("pipedrive", &table, |_| status(500)).await;
    let hit = |body: &str, pair: &str| {
        let basic = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        Hit { headers: vec![("authorization", basic)], body: body.to_owned(), ..Hit::default() }
    };
    for (body, expected) in [
        (fixture!("pipedrive/webhook_v2_create.json"), "1003"),
        (fixture!("pipedrive/webhook_v2_change.json"), "1001"),
        (fixture!("pipedrive/webhook_v2_delete.json"), "?990"),
        (fixture!("pipedrive/webhook_v2_delete_merged.json"), "991>1001"),
    ] {
        assert_eq!(crm.deliver(&hit(body, "reteno-sync:a-password")).unwrap(), [expected]);
        assert_eq!(crm.deliver(&hit(body, "reteno-sync:b-password")).unwrap_err().status(), 401);
    }
    let deal = fixture!("pipedrive/webhook_v2_change.json").replace("\"entity\": \"person\"", "\"entity\": \"deal\"");
    assert_eq!(crm.deliver(&hit(&deal, "reteno-sync:a-password")).unwrap_err().status(), 400);
}

#[tokio::test(start_paused = true)]
async fn pipedrive_errors() {
    let mut limited = error(429, fixture!("pipedrive/error_429.json"));
    limited.headers_mut().insert("x-ratelimit-reset", "7".parse().unwrap());
    let slow = crm(first(limited, fixture!("pipedrive/v2_persons_empty.json"))).await;
    slow.read_all().await;
    assert!(slow.elapsed() >= Duration::from_secs(7));
    let blocked = crm(|_| status(403)).await;
    assert!(matches!(blocked.read(From::Beginning).await.end, Err(SourceError::Halted { .. })));
}
