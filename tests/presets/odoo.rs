//! Odoo: JSON-2, and JSON-RPC for older ones.

use reteno_sync::source::{From, SourceError};

use super::harness::{Answer, Asked, Crm, error, fixture, minimal, ok, receives_by_path_token};

fn is_page(asked: &Asked, pointer: &str) -> bool {
    asked.body(&format!("{pointer}/offset")) == "0"
}

fn json2(asked: &Asked) -> Answer {
    assert_eq!(asked.path(), "/json/2/res.partner/search_read");
    let page = if is_page(asked, "") { fixture!("odoo/json2_search_read_response.json") } else { "[]" };
    ok(page)
}

/// The arguments by name.
const KWARGS: &str = "/params/args/6";

fn rpc(asked: &Asked) -> Answer {
    assert_eq!(asked.path(), "/jsonrpc");
    let empty = r#"{"jsonrpc": "2.0", "id": 1, "result": []}"#;
    ok(if is_page(asked, KWARGS) { fixture!("odoo/jsonrpc_execute_kw_response.json") } else { empty })
}

async fn crm(preset: &str, script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Crm {
    Crm::new(preset, &minimal(preset), script).await
}

#[tokio::test(start_paused = true)]
async fn odoo_list_next_page_and_deletion() {
    let crm = crm("odoo", json2).await;
    // archived is as good as deleted
    assert_eq!(crm.read_all().await.ids, ["41", "-42"]);
    let asked = crm.asked();
    assert_eq!(asked[0].header("authorization"), "bearer API-KEY");
    assert_eq!(asked[0].header("x-odoo-database"), "example");
    assert_eq!(asked[0].body("/domain"), r#"[["is_company","=",false]]"#);
    assert_eq!(asked[0].body("/context/active_test"), "false");
    assert_eq!(asked[0].body("/limit"), "500");
    assert_eq!(asked[1].body("/domain"), r#"[["write_date",">=","2026-11-20 09:00:04"],["is_company","=",false]]"#);
}

#[tokio::test(start_paused = true)]
async fn odoo_incremental() {
    let crm = crm("odoo", json2).await;
    let given = crm.read_all().await;
    crm.asked();
    crm.read_after(&given).await;
    assert_eq!(
        crm.asked()[0].body("/domain"),
        r#"[["write_date",">=","2026-11-23 11:45:00"],["is_company","=",false]]"#
    );
}

#[tokio::test(start_paused = true)]
async fn odoo_empty_page() {
    let crm = crm("odoo", |_| ok(fixture!("odoo/json2_empty_response.json"))).await;
    assert!(crm.read_all().await.ids.is_empty());
}

#[tokio::test(start_paused = true)]
async fn odoo_fetch() {
    let crm = crm("odoo", |_| ok(fixture!("odoo/json2_search_read_response.json"))).await;
    assert_eq!(crm.fetch(&["41", "42", "43"]).await.unwrap(), ["41", "-42", "?43"]);
    assert_eq!(crm.asked()[0].body("/domain"), r#"[["id","in",[41,42,43]],["is_company","=",false]]"#);
}

#[tokio::test(start_paused = true)]
async fn odoo_mapping_and_opt_out() {
    let crm = crm("odoo", |asked: &Asked| {
        let page = fixture!("odoo/json2_search_read_response.json").replace("\"active\": false", "\"active\": true");
        ok(if is_page(asked, "") { &page } else { "[]" })
    })
    .await;
    let given = crm.read_all().await;
    assert_eq!(
        crm.map(&given.records[0]),
        [
            "externalCustomerId=odoo-41",
            "email=olena.bondar@example.com",
            "sms=+380671234567",
            "firstName=Olena",
            "lastName=Bondar",
            "address=1 Sample St",
            "town=Kyiv",
            "region-",
            "postcode=01001",
            "languageCode=uk-UA",
            "timeZone=Europe/Kyiv",
            "consent=yes",
        ]
    );
    // false is nothing in a field, and an answer in consent
    let taras = crm.map(&given.records[1]);
    assert!(taras.contains(&"town-".to_owned()) && taras.contains(&"consent=no".to_owned()), "{taras:?}");
}

#[tokio::test]
async fn odoo_webhook() {
    for preset in ["odoo", "odoo_rpc"] {
        receives_by_path_token(preset, &minimal(preset), &[(fixture!("odoo/webhook_automation.json"), &["41"])]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn odoo_errors() {
    let refused = crm("odoo", |_| error(401, fixture!("odoo/json2_error_401.json"))).await;
    assert!(matches!(refused.read(From::Beginning).await.end, Err(SourceError::Answer { status: 401, .. })));
}

#[tokio::test(start_paused = true)]
async fn odoo_rpc_list_next_page_and_deletion() {
    let crm = crm("odoo_rpc", rpc).await;
    assert_eq!(crm.read_all().await.ids, ["41", "-42"]);
    let asked = crm.asked();
    assert_eq!(asked[0].body("/params/args/0"), "example");
    assert_eq!(asked[0].body("/params/args/2"), "API-KEY");
    assert_eq!(asked[0].body("/params/args/5"), r#"[[["is_company","=",false]]]"#);
    assert_eq!(asked[0].body(&format!("{KWARGS}/limit")), "500");
}

#[tokio::test(start_paused = true)]
async fn odoo_rpc_incremental() {
    let crm = crm("odoo_rpc", rpc).await;
    let given = crm.read_all().await;
    crm.asked();
    crm.read_after(&given).await;
    assert_eq!(crm.asked()[0].body("/params/args/5/0/0"), r#"["write_date",">=","2026-11-23 11:45:00"]"#);
}

#[tokio::test(start_paused = true)]
async fn odoo_rpc_fetch() {
    let crm = crm("odoo_rpc", |_| ok(fixture!("odoo/jsonrpc_execute_kw_response.json"))).await;
    assert_eq!(crm.fetch(&["41", "42", "43"]).await.unwrap(), ["41", "-42", "?43"]);
    assert_eq!(crm.asked()[0].body("/params/args/5/0/0"), r#"["id","in",[41,42,43]]"#);
}

#[tokio::test(start_paused = true)]
async fn odoo_rpc_error_in_a_200_is_no_empty_list() {
    let crm = crm("odoo_rpc", |_| ok(fixture!("odoo/jsonrpc_error_http200.json"))).await;
    assert!(matches!(crm.read(From::Beginning).await.end, Err(SourceError::Answer { .. })));
    assert!(crm.fetch(&["41"]).await.is_err(), "nobody is gone because of an error");
}
