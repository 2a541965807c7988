//! Wix: contacts, and the submissions of a form. The answers are written after the public reference.

use std::time::Duration;

use super::harness::{Answer, Asked, Crm, first, fixture, minimal, ok, receives_by_path_token, status};

fn site(asked: &Asked) -> Answer {
    assert_eq!((asked.header("authorization"), asked.header("wix-site-id")), ("API-KEY", "SITE-ID"));
    match (asked.path(), asked.body("/query/paging/offset").as_str()) {
        ("/contacts/v4/contacts/query", "0") => ok(fixture!("wix/contacts_page1.json")),
        ("/contacts/v4/contacts/query", "2") => ok(fixture!("wix/contacts_page2_last.json")),
        ("/contacts/v4/contacts/query", _) => ok(fixture!("wix/contacts_empty.json")),
        _ => status(404),
    }
}

async fn crm(script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Crm {
    // as small as the pages of the answers
    let table = format!("{}\npagination.page_size = 2", minimal("wix"));
    Crm::new("wix", &table, script).await
}

const OLENA: &str = "11111111-2222-4333-8444-000000000151";
const TARAS: &str = "11111111-2222-4333-8444-000000000152";
const ADA: &str = "11111111-2222-4333-8444-000000000160";

#[tokio::test(start_paused = true)]
async fn wix_list_and_next_page() {
    let crm = crm(site).await;
    assert_eq!(crm.read_all().await.ids, [OLENA, TARAS, ADA]);
    let asked = crm.asked();
    assert!(asked[0].body.pointer("/query/filter").is_none(), "everything");
    assert_eq!(asked[0].body("/query/sort/0/fieldName"), "createdDate");
    assert_eq!(asked[1].body("/query/paging/offset"), "2");
}

#[tokio::test(start_paused = true)]
async fn wix_incremental() {
    let crm = crm(site).await;
    let given = crm.read_all().await;
    crm.asked();
    crm.read_after(&given).await;
    let asked = crm.asked();
    assert_eq!(asked[0].body("/query/filter/updatedDate/$gte"), "2026-11-23T11:54:00Z");
    assert_eq!(asked[0].body("/query/filter/updatedDate/$lt"), "2026-11-23T11:59:00Z");
}

#[tokio::test(start_paused = true)]
async fn wix_empty_page() {
    let crm = crm(|_| ok(fixture!("wix/contacts_empty.json"))).await;
    assert!(crm.read_all().await.ids.is_empty());
}

#[tokio::test(start_paused = true)]
async fn wix_fetch() {
    let crm = crm(|_| ok(fixture!("wix/contacts_page1.json"))).await;
    assert_eq!(crm.fetch(&[OLENA, TARAS, "7"]).await.unwrap(), [OLENA, TARAS, "?7"]);
    assert_eq!(crm.asked()[0].body("/query/filter/id/$in"), format!(r#"["{OLENA}","{TARAS}","7"]"#));
}

#[tokio::test(start_paused = true)]
async fn wix_mapping_and_opt_out() {
    let crm = crm(site).await;
    let given = crm.read_all().await;
    assert_eq!(
        crm.map(&given.records[0]),
        [
            format!("externalCustomerId=wix-{OLENA}").as_str(),
            "email=olena.bondar@example.com",
            "sms=+380671234567",
            "firstName=Olena",
            "lastName=Bondar",
            "town=Kyiv",
            "postcode=01001",
            "languageCode=uk",
            "consent=yes",
        ]
    );
    assert!(crm.map(&given.records[1]).contains(&"consent=no".to_owned()));
}

#[tokio::test]
async fn wix_webhook() {
    receives_by_path_token("wix", &minimal("wix"), &[(fixture!("wix/automation.json"), &[OLENA])]).await;
}

#[tokio::test(start_paused = true)]
async fn wix_errors() {
    let slow = crm(first(status(429), fixture!("wix/contacts_empty.json"))).await;
    slow.read_all().await;
    assert!(slow.elapsed() >= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn wix_forms_list_next_page_and_mapping() {
    let crm = Crm::new("wix_forms", &minimal("wix_forms"), |asked: &Asked| {
        assert_eq!(asked.body("/query/filter/formId"), "FORM-ID");
        let since = asked.body("/query/filter/createdDate/$gte");
        if since.as_str() < "2026-11-20T09:00:00Z" {
            return ok(fixture!("wix/submissions_page1.json"));
        }
        ok(fixture!("wix/submissions_page2_last.json"))
    })
    .await;
    assert!(crm.config.sources[0].form.is_some(), "each of them is asked to confirm");
    let given = crm.read_all().await;
    let asked = crm.asked();
    assert_eq!(asked[0].body("/query/filter/createdDate/$gte"), "2026-11-01T00:00:00Z", "nobody before the bound");
    assert_eq!(asked[1].body("/query/filter/createdDate/$gte"), "2026-11-20T09:00:08Z");
    let mapped: Vec<Vec<String>> = given.records.iter().map(|record| crm.map(record)).collect();
    assert_eq!(
        mapped[0],
        [
            "externalCustomerId=wix-form-22222222-2222-4333-8444-000000000001",
            "email=olena.bondar@example.com",
            "firstName=Olena",
            "lastName=Bondar"
        ]
    );
    assert!(mapped[1].is_empty(), "one that is not confirmed is left out");
    assert_eq!(mapped[2][1], "email=ada.quill@example.com");
}

#[tokio::test(start_paused = true)]
async fn wix_forms_incremental_and_empty_page() {
    let crm = Crm::new("wix_forms", &minimal("wix_forms"), |_| {
        ok(r#"{"submissions": [], "metadata": {"count": 0, "cursors": {}, "hasNext": false}}"#)
    })
    .await;
    let given = crm.read_all().await;
    assert!(given.ids.is_empty());
    crm.asked();
    crm.read_after(&given).await;
    assert_eq!(crm.asked()[0].body("/query/filter/createdDate/$gte"), "2026-11-23T11:54:50Z");
}
