//! `EspoCRM`.

use reteno_sync::source::{From, SourceError};
use serde_json::Value;

use super::harness::{Answer, Asked, Crm, Hit, error, fixture, minimal, ok, status};

fn site(asked: &Asked) -> Answer {
    match (asked.path(), asked.query("offset").as_deref()) {
        ("/api/v1/Contact", Some("0")) => ok(fixture!("espocrm/contacts_page.json")),
        ("/api/v1/Contact", _) => ok(fixture!("espocrm/contacts_empty.json")),
        _ => status(404),
    }
}

async fn crm(script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Crm {
    Crm::new("espocrm", &minimal("espocrm"), script).await
}

#[tokio::test(start_paused = true)]
async fn espocrm_list_and_next_page() {
    let crm = crm(site).await;
    assert_eq!(crm.read_all().await.ids, ["65a000000000000a1", "65a000000000000a2"]);
    let asked = crm.asked();
    assert_eq!(asked[0].url.host_str(), Some("crm.example.com"));
    assert_eq!((asked[0].header("x-api-key"), asked[0].header("x-no-total")), ("API-KEY", "true"));
    assert_eq!(asked[0].query("maxSize").as_deref(), Some("200"));
    // a condition without a value would be an error: the first read has the earliest one
    assert_eq!(asked[0].query("where[0][value]").as_deref(), Some("1990-01-01 00:00:00"));
    assert_eq!(asked[1].query("where[0][value]").as_deref(), Some("2026-11-20 09:00:04"));
    assert!(asked[0].query("select").unwrap().contains("phoneNumberData"));
}

#[tokio::test(start_paused = true)]
async fn espocrm_list_without_total() {
    let crm = crm(|asked: &Asked| match asked.query("offset").as_deref() {
        Some("0") => ok(fixture!("espocrm/contacts_no_total.json")),
        _ => ok(fixture!("espocrm/contacts_empty.json")),
    })
    .await;
    assert_eq!(crm.read_all().await.ids, ["65a000000000000a1"]);
}

#[tokio::test(start_paused = true)]
async fn espocrm_incremental() {
    let crm = crm(site).await;
    let given = crm.read_all().await;
    crm.asked();
    crm.read_after(&given).await;
    assert_eq!(crm.asked()[0].query("where[0][value]").as_deref(), Some("2026-11-23 11:57:55"));
}

#[tokio::test(start_paused = true)]
async fn espocrm_empty_page() {
    let crm = crm(|_| ok(fixture!("espocrm/contacts_empty.json"))).await;
    assert!(crm.read_all().await.ids.is_empty());
}

#[tokio::test(start_paused = true)]
async fn espocrm_fetch_and_deletion() {
    let page: Value = serde_json::from_str(fixture!("espocrm/contacts_page.json")).unwrap();
    let crm = crm(move |asked: &Asked| match asked.path() {
        "/api/v1/Contact/65a000000000000a1" => ok(&page["list"][0].to_string()),
        "/api/v1/Contact/65a000000000000a2" => {
            ok(&page["list"][1].to_string().replace("\"deleted\":false", "\"deleted\":true"))
        }
        _ => status(404),
    })
    .await;
    let fetched = crm.fetch(&["65a000000000000a1", "65a000000000000a2", "65a000000000000a9"]).await.unwrap();
    assert_eq!(fetched, ["65a000000000000a1", "-65a000000000000a2", "?65a000000000000a9"]);
}

#[tokio::test(start_paused = true)]
async fn espocrm_mapping_and_opt_out() {
    let crm = crm(site).await;
    let given = crm.read_all().await;
    assert_eq!(
        crm.map(&given.records[0]),
        [
            "externalCustomerId=espocrm-65a000000000000a1",
            "email=olena.bondar@example.com",
            "sms=+380671234567",
            "firstName=Olena",
            "lastName=Bondar",
            "address=1 Sample St",
            "town=Kyiv",
            "region-",
            "postcode=01001",
            "consent=yes",
        ]
    );
    assert!(crm.map(&given.records[1]).contains(&"consent=no".to_owned()));
}

#[tokio::test]
async fn espocrm_webhook() {
    let vector: Value = serde_json::from_str(fixture!("espocrm/webhook_signature_vector.json")).unwrap();
    let text = |name: &str| vector[name].as_str().unwrap().to_owned();
    // one subscription for each event, each with its own key
    let table = format!(
        "{}\nwebhook.secrets = [\"65b0000000000000f:another\", \"{}:{}\"]",
        minimal("espocrm"),
        text("webhookId"),
        text("secretKey")
    );
    let crm = Crm::new("espocrm", &table, |_| status(500)).await;
    let hit = Hit { headers: vec![("signature", text("Signature"))], body: text("body"), ..Hit::default() };
    assert_eq!(crm.deliver(&hit).unwrap(), ["65a000000000000a1", "65a000000000000a2"]);
    // that of a deletion says no more: its contact is looked for, and not found
    let deletion = Hit { body: fixture!("espocrm/webhook_delete.json").to_owned(), ..hit };
    assert_eq!(crm.deliver(&deletion).unwrap_err().status(), 401, "another body, the same signature");
}

#[tokio::test(start_paused = true)]
async fn espocrm_errors() {
    let refused = crm(|_| error(403, "")).await;
    assert!(matches!(refused.read(From::Beginning).await.end, Err(SourceError::Answer { status: 403, .. })));
}
