//! Bitrix24.

use std::time::Duration;

use reteno_sync::source::{From, SourceError};

use super::harness::{Answer, Asked, Crm, Hit, error, first, fixture, minimal, ok, status};

fn portal(asked: &Asked) -> Answer {
    assert_eq!(asked.path(), "/rest/1/THE-CODE-OF-THE-WEBHOOK/crm.contact.list.json");
    match asked.body("/start").as_str() {
        "0" => ok(fixture!("bitrix24/contact_list_page1.json")),
        _ => ok(fixture!("bitrix24/contact_list_last.json")),
    }
}

async fn crm(script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Crm {
    Crm::new("bitrix24", &minimal("bitrix24"), script).await
}

#[tokio::test(start_paused = true)]
async fn bitrix24_list_and_next_page() {
    let crm = crm(portal).await;
    assert_eq!(crm.read_all().await.ids, ["82", "83", "90"]);
    let asked = crm.asked();
    assert_eq!(asked[0].url.host_str(), Some("examplecrm.bitrix24.eu"));
    assert!(asked[0].body.get("filter").is_none(), "the first read has no bound, and no empty filter");
    assert_eq!(asked[0].body("/order"), r#"{"DATE_MODIFY":"ASC","ID":"ASC"}"#);
    // begun anew one second before the last seen moment
    assert_eq!(asked[1].body("/filter/>=DATE_MODIFY"), "2026-11-20T09:00:04+00:00");
    assert_eq!((asked[1].body("/start"), asked[2].body("/start")), ("0".to_owned(), "50".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn bitrix24_incremental() {
    let crm = crm(portal).await;
    let given = crm.read_all().await;
    crm.asked();
    crm.read_after(&given).await;
    assert_eq!(crm.asked()[0].body("/filter/>=DATE_MODIFY"), "2026-11-23T11:57:50+00:00");
}

#[tokio::test(start_paused = true)]
async fn bitrix24_empty_page() {
    let crm = crm(|_| ok(fixture!("bitrix24/contact_list_empty.json"))).await;
    assert!(crm.read_all().await.ids.is_empty());
}

#[tokio::test(start_paused = true)]
async fn bitrix24_fetch() {
    let crm = crm(|asked: &Asked| {
        assert_eq!(asked.body("/start"), "-1");
        ok(fixture!("bitrix24/contact_list_page1.json"))
    })
    .await;
    assert_eq!(crm.fetch(&["82", "83", "71"]).await.unwrap(), ["82", "83", "?71"]);
    assert_eq!(crm.asked()[0].body("/filter/@ID"), r#"["82","83","71"]"#);
}

#[tokio::test(start_paused = true)]
async fn bitrix24_mapping_and_opt_out() {
    let table = format!(
        "{}\ncontact.sms.region = \"US\"\nconsent.email = {{ path = \"$.UF_CRM_1700000002\", yes = [\"0\", \"n\", \"false\"], no = [\"1\", \"y\", \"true\"] }}",
        minimal("bitrix24")
    );
    let crm = Crm::new("bitrix24", &table, portal).await;
    let given = crm.read_all().await;
    assert_eq!(
        crm.map(&given.records[0]),
        [
            "externalCustomerId=bitrix24-82",
            "email=olena.bondar@example.com",
            "sms=+380671234567",
            "firstName=Olena",
            "lastName=Bondar",
            "consent=yes"
        ]
    );
    let taras = crm.map(&given.records[1]);
    assert!(taras.contains(&"sms=+12025550142".to_owned()) && taras.contains(&"consent=no".to_owned()), "{taras:?}");
    assert!(taras.iter().all(|word| !word.starts_with("email")), "a field that is not there says nothing");
}

#[tokio::test]
async fn bitrix24_webhook_and_deletion() {
    let table = format!("{}\nwebhook.token = \"exampleapplicationtoken000000001\"", minimal("bitrix24"));
    let crm = Crm::new("bitrix24", &table, |_| status(500)).await;
    for (body, expected) in [
        (fixture!("bitrix24/event_add.txt"), "90"),
        (fixture!("bitrix24/event_update.txt"), "82"),
        (fixture!("bitrix24/event_delete.txt"), "?71"),
    ] {
        assert_eq!(crm.deliver(&Hit { body: body.to_owned(), ..Hit::default() }).unwrap(), [expected]);
        let other = Hit { body: body.replace("exampleapplicationtoken", "another"), ..Hit::default() };
        assert_eq!(crm.deliver(&other).unwrap_err().status(), 401);
    }
}

#[tokio::test(start_paused = true)]
async fn bitrix24_errors() {
    let empty = fixture!("bitrix24/contact_list_empty.json");
    let slow = crm(first(error(503, fixture!("bitrix24/error_503_query_limit.json")), empty)).await;
    slow.read_all().await;
    assert!(slow.elapsed() >= Duration::from_secs(2) && slow.elapsed() < Duration::from_secs(10));
    let busy = crm(|_| error(429, fixture!("bitrix24/error_429_operation_time.json"))).await;
    assert!(matches!(busy.read(From::Beginning).await.end, Err(SourceError::Limited { .. })), "ten minutes");
    let blocked = crm(|_| error(503, r#"{"error": "OVERLOAD_LIMIT"}"#)).await;
    assert!(matches!(blocked.read(From::Beginning).await.end, Err(SourceError::Halted { .. })));
    let refused = crm(|_| error(401, fixture!("bitrix24/error_401_expired.json"))).await;
    let refused = refused.read(From::Beginning).await.end.unwrap_err();
    assert!(matches!(refused, SourceError::Answer { status: 401, .. }));
    assert!(!format!("{refused} {refused:?}").contains("THE-CODE"), "the address holds a secret");
}
