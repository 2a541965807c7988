//! `KeyCRM`.

use std::time::Duration;

use reteno_sync::source::{From, SourceError};

use super::harness::{Answer, Asked, Crm, error, first, fixture, minimal, ok, receives_by_path_token, status};

fn shop(asked: &Asked) -> Answer {
    match (asked.path(), asked.query("page").as_deref()) {
        ("/v1/buyer", Some("1")) => ok(fixture!("keycrm/buyers_page1.json")),
        ("/v1/buyer", Some("2")) => ok(fixture!("keycrm/buyers_page2_last.json")),
        _ => status(404),
    }
}

async fn crm(script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Crm {
    Crm::new("keycrm", &minimal("keycrm"), script).await
}

#[tokio::test(start_paused = true)]
async fn keycrm_list_and_next_page() {
    let crm = crm(shop).await;
    assert_eq!(crm.read_all().await.ids, ["22", "23", "29"]);
    let asked = crm.asked();
    assert_eq!(asked[0].header("authorization"), "Bearer API-KEY");
    assert_eq!((asked[0].query("filter[updated_between]"), asked[0].query("limit").as_deref()), (None, Some("50")));
    assert_eq!(asked[1].query("page").as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn keycrm_incremental() {
    let crm = crm(shop).await;
    let given = crm.read_all().await;
    crm.asked();
    crm.read_after(&given).await;
    // the whole window, by both of its ends: the list has no order
    let window = crm.asked()[0].query("filter[updated_between]").unwrap();
    assert!(window.starts_with("2026-11-23 11:57:50,2026-11-23 11:59:5"), "{window}");
}

#[tokio::test(start_paused = true)]
async fn keycrm_empty_page() {
    let crm = crm(|_| ok(fixture!("keycrm/buyers_empty.json"))).await;
    assert!(crm.read_all().await.ids.is_empty());
}

#[tokio::test(start_paused = true)]
async fn keycrm_fetch() {
    let crm = crm(|asked: &Asked| match asked.path() {
        "/v1/buyer/22" => {
            let page: serde_json::Value = serde_json::from_str(fixture!("keycrm/buyers_page1.json")).unwrap();
            ok(&page["data"][0].to_string())
        }
        _ => status(404),
    })
    .await;
    assert_eq!(crm.fetch(&["22", "7"]).await.unwrap(), ["22", "?7"]);
}

#[tokio::test(start_paused = true)]
async fn keycrm_mapping_and_opt_out() {
    let table = format!(
        "{}\ncontact.firstName.path = \"other_words($.full_name)\"\ncontact.lastName.path = \"first_word($.full_name)\"\n\
         consent.email = {{ path = \"$.custom_fields[?@.uuid=='CT_1002'].value\", yes = [\"false\"], no = [\"true\"] }}",
        minimal("keycrm")
    );
    let crm = Crm::new("keycrm", &table, shop).await;
    let given = crm.read_all().await;
    assert_eq!(
        crm.map(&given.records[0]),
        [
            "externalCustomerId=keycrm-22",
            "email=olena.bondar@example.com",
            "sms=+380671234567",
            "firstName=Олена",
            "lastName=Бондар",
            "address=1 Sample St",
            "town=Київ",
            "region=Київська",
            "postcode=01001",
        ]
    );
    assert!(crm.map(&given.records[2]).contains(&"consent=no".to_owned()));
}

#[tokio::test]
async fn keycrm_webhook() {
    let body = fixture!("keycrm/webhook_order_status.json");
    receives_by_path_token("keycrm", &minimal("keycrm"), &[(body, &["22"])]).await;
}

#[tokio::test(start_paused = true)]
async fn keycrm_errors() {
    let mut limited = error(429, fixture!("keycrm/error_429.json"));
    limited.headers_mut().insert("retry-after", "45".parse().unwrap());
    let slow = crm(first(limited, fixture!("keycrm/buyers_empty.json"))).await;
    slow.read_all().await;
    assert!(slow.elapsed() >= Duration::from_secs(45));
    let refused = crm(|_| error(401, fixture!("keycrm/error_401.json"))).await;
    assert!(matches!(refused.read(From::Beginning).await.end, Err(SourceError::Answer { status: 401, .. })));
}
