//! Creatio.

use reteno_sync::source::{From, SourceError};

use super::harness::{Answer, Asked, Crm, error, fixture, ok, receives_by_path_token, status};

const EMPTY: &str = r#"{"value": []}"#;

fn site(asked: &Asked) -> Answer {
    match (asked.path(), asked.query("$skip").as_deref()) {
        ("/0/odata/Contact", Some("0")) => ok(fixture!("creatio/odata_contacts.json")),
        ("/0/odata/Contact", _) => ok(EMPTY),
        _ => status(404),
    }
}

/// Without the tokens, which are another test.
fn table() -> String {
    "vars.host = \"crm.example\"\nvars.identity_host = \"is.example\"\nauth.kind = \"bearer\"\nauth.token = \"TOKEN\""
        .to_owned()
}

async fn crm(script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Crm {
    Crm::new("creatio", &table(), script).await
}

#[tokio::test(start_paused = true)]
async fn creatio_list_and_next_page() {
    let crm = crm(site).await;
    let given = crm.read_all().await;
    assert_eq!(given.ids, ["11111111-1111-4111-8111-111111111101", "11111111-1111-4111-8111-111111111102"]);
    let asked = crm.asked();
    assert_eq!((asked[0].query("$filter"), asked[0].query("$top").as_deref()), (None, Some("500")));
    assert_eq!(asked[0].query("$orderby").as_deref(), Some("ModifiedOn asc,Id asc"));
    assert_eq!(asked[1].query("$filter").as_deref(), Some("ModifiedOn ge 2026-11-20T09:00:04Z"));
}

#[tokio::test(start_paused = true)]
async fn creatio_incremental() {
    let crm = crm(site).await;
    let given = crm.read_all().await;
    crm.asked();
    crm.read_after(&given).await;
    assert_eq!(crm.asked()[0].query("$filter").as_deref(), Some("ModifiedOn ge 2026-11-23T11:57:50Z"));
}

#[tokio::test(start_paused = true)]
async fn creatio_empty_page() {
    let crm = crm(|_| ok(EMPTY)).await;
    assert!(crm.read_all().await.ids.is_empty());
}

#[tokio::test(start_paused = true)]
async fn creatio_fetch() {
    let crm = crm(|asked: &Asked| match asked.path() {
        "/0/odata/Contact(11111111-1111-4111-8111-111111111101)" => {
            let page: serde_json::Value = serde_json::from_str(fixture!("creatio/odata_contacts.json")).unwrap();
            ok(&page["value"][0].to_string())
        }
        _ => status(404),
    })
    .await;
    let fetched = crm.fetch(&["11111111-1111-4111-8111-111111111101", "7"]).await.unwrap();
    assert_eq!(fetched, ["11111111-1111-4111-8111-111111111101", "?7"]);
}

#[tokio::test(start_paused = true)]
async fn creatio_mapping_and_opt_out() {
    let table = format!("{}\ncontact.sms.region = \"US\"", table());
    let crm = Crm::new("creatio", &table, site).await;
    let given = crm.read_all().await;
    assert_eq!(
        crm.map(&given.records[0]),
        [
            "externalCustomerId=creatio-11111111-1111-4111-8111-111111111101",
            "email=olena.bondar@example.com",
            "sms=+380671234567",
            "firstName=Olena",
            "lastName=Bondar",
            "address=1 Sample St",
            "postcode=01001",
            "consent=yes",
        ]
    );
    let taras = crm.map(&given.records[1]);
    assert!(taras.contains(&"sms=+12025550142".to_owned()) && taras.contains(&"consent=no".to_owned()), "{taras:?}");
}

#[tokio::test]
async fn creatio_webhook() {
    receives_by_path_token("creatio", &table(), &[(r#"{"Id": "1111-01"}"#, &["1111-01"])]).await;
}

#[tokio::test(start_paused = true)]
async fn creatio_errors() {
    let refused = crm(|_| error(401, "")).await;
    assert!(matches!(refused.read(From::Beginning).await.end, Err(SourceError::Answer { status: 401, .. })));
}
