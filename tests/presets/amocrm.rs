//! amoCRM and Kommo.

use std::time::Duration;

use reteno_sync::source::SourceError;

use super::harness::{Answer, Asked, Crm, PATH_TOKEN, error, fixture, minimal, ok, receives_by_path_token, status};

/// An account with three contacts, on two pages.
fn account(asked: &Asked) -> Answer {
    let page = asked.query("page");
    match (asked.path(), page.as_deref()) {
        ("/api/v4/account", _) => ok(fixture!("amocrm/account_filter_enabled.json")),
        ("/api/v4/contacts", Some("1")) => ok(fixture!("amocrm/contacts_page1.json")),
        ("/api/v4/contacts", Some("2")) => ok(fixture!("amocrm/contacts_page2_last.json")),
        _ => status(204),
    }
}

async fn crm(script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Crm {
    Crm::new("amocrm", &minimal("amocrm"), script).await
}

#[tokio::test(start_paused = true)]
async fn amocrm_list_and_next_page() {
    let crm = crm(account).await;
    let given = crm.read_all().await;
    assert_eq!(given.ids, ["7143601", "7143603", "7143609"]);
    let asked = crm.asked();
    assert_eq!(asked[0].query("with").as_deref(), Some("is_api_filter_enabled"));
    assert_eq!(asked[0].header("authorization"), "Bearer LONG-LIVED-TOKEN");
    let lists: Vec<&Asked> = asked.iter().filter(|asked| asked.path() == "/api/v4/contacts").collect();
    assert!(lists[0].url.as_str().starts_with("https://examplecrm.amocrm.ru/api/v4/contacts?"));
    assert_eq!((lists[0].query("filter[updated_at][from]"), lists[0].query("limit").as_deref()), (None, Some("250")));
    assert_eq!(lists[0].query("order[updated_at]").as_deref(), Some("asc"));
    // from the last seen moment on, and one second before it, not from page 2
    assert_eq!(lists[1].query("filter[updated_at][from]").as_deref(), Some("1795165204"));
    assert_eq!(lists[1].query("page").as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn amocrm_kommo_is_the_same_at_another_domain() {
    let table = format!("{}\nvars.domain = \"kommo.com\"", minimal("amocrm"));
    let crm = Crm::new("amocrm", &table, account).await;
    crm.read_all().await;
    assert!(crm.asked().iter().all(|asked| asked.url.host_str() == Some("examplecrm.kommo.com")));
}

#[tokio::test(start_paused = true)]
async fn amocrm_incremental() {
    let crm = crm(account).await;
    let given = crm.read_all().await;
    crm.asked();
    crm.read_after(&given).await;
    let asked = crm.asked();
    let list = asked.iter().find(|asked| asked.path() == "/api/v4/contacts").unwrap();
    // noon less 30 s less 10 min
    assert_eq!(list.query("filter[updated_at][from]").as_deref(), Some("1795434570"));
    let events = asked.iter().find(|asked| asked.path() == "/api/v4/events").unwrap();
    assert_eq!(events.query("filter[created_at][from]").as_deref(), Some("1795434570"));
    assert_eq!(events.query("limit").as_deref(), Some("100"));
}

#[tokio::test(start_paused = true)]
async fn amocrm_empty_page() {
    let crm = crm(|asked: &Asked| match asked.path() {
        "/api/v4/account" => ok(fixture!("amocrm/account_filter_enabled.json")),
        _ => status(204),
    })
    .await;
    assert!(crm.read_all().await.ids.is_empty());
}

#[tokio::test(start_paused = true)]
async fn amocrm_filter_that_is_off_is_told_and_everything_is_read() {
    let off = fixture!("amocrm/account_filter_enabled.json")
        .replace("\"is_api_filter_enabled\": true", "\"is_api_filter_enabled\": false");
    let crm = crm(move |asked: &Asked| if asked.path() == "/api/v4/account" { ok(&off) } else { account(asked) }).await;
    let given = crm.read_all().await;
    assert_eq!(given.ids, ["7143601", "7143603", "7143609"]);
    assert!(given.end.unwrap().warnings[0].contains("ignores the filter"));
}

#[tokio::test(start_paused = true)]
async fn amocrm_fetch() {
    let crm = crm(|asked: &Asked| match asked.query("filter[id][]").as_deref() {
        Some("7143601") => ok(fixture!("amocrm/contacts_page1.json")),
        Some("5" | "7") => status(204),
        _ => status(500),
    })
    .await;
    assert_eq!(crm.fetch(&["7143601", "7143603", "7"]).await.unwrap(), ["7143601", "7143603", "?7"]);
    let asked = crm.asked();
    let ids: Vec<_> = asked[0].url.query_pairs().filter(|(name, _)| name == "filter[id][]").collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(crm.fetch(&["5"]).await.unwrap(), ["?5"]);
    // an account whose filter is off brings others: then nothing is said of those that are not among them
    assert!(matches!(crm.fetch(&["7143601"]).await, Err(SourceError::NotUnderstood { .. })));
}

#[tokio::test(start_paused = true)]
async fn amocrm_deletion() {
    let crm = crm(|asked: &Asked| match asked.path() {
        "/api/v4/events" => ok(fixture!("amocrm/events_contact_deleted.json")),
        _ => account(asked),
    })
    .await;
    let given = crm.read_all().await;
    assert_eq!(given.ids, ["?7143512", "!7143498", "!7143601", "7143601", "7143603", "7143609"]);
}

#[tokio::test(start_paused = true)]
async fn amocrm_mapping_and_opt_out() {
    let table = format!(
        "{}\ncontact.sms.region = \"US\"\nconsent.email = {{ path = \"$.custom_fields_values[?@.field_id==271005].values[0].value\", \
         yes = [\"false\"], no = [\"true\"] }}",
        minimal("amocrm")
    );
    let crm = Crm::new("amocrm", &table, account).await;
    let given = crm.read_all().await;
    assert_eq!(
        crm.map(&given.records[0]),
        [
            "externalCustomerId=amocrm-7143601",
            "email=olena.bondar@example.com",
            "sms=+380671234567",
            "firstName=Olena",
            "lastName=Bondar",
            "consent=yes"
        ]
    );
    // all of the name stands in one field, and there is no e-mail
    assert_eq!(
        crm.map(&given.records[1]),
        [
            "externalCustomerId=amocrm-7143603",
            "email-",
            "sms=+12025550142",
            "firstName=Тарас",
            "lastName=Мельник",
            "consent=no"
        ]
    );
}

#[tokio::test]
async fn amocrm_webhook() {
    receives_by_path_token(
        "amocrm",
        &minimal("amocrm"),
        &[
            (fixture!("amocrm/webhook_add.txt"), &["7143601"]),
            (fixture!("amocrm/webhook_update.txt"), &["7143601"]),
            (fixture!("amocrm/webhook_update_responsible.txt"), &["7143601"]),
            (fixture!("amocrm/webhook_restore.txt"), &["7143498"]),
            (fixture!("amocrm/webhook_delete.txt"), &["?7143512"]),
            // a company among the contacts is no contact
            (fixture!("amocrm/webhook_update_company.txt"), &[]),
        ],
    )
    .await;
    let table = format!("vars.subdomain = \"other\"\nauth.token = \"T\"\nwebhook.token = \"{PATH_TOKEN}\"");
    let crm = Crm::new("amocrm", &table, |_| status(500)).await;
    let refused = crm.deliver(&super::harness::with_path_token(fixture!("amocrm/webhook_add.txt"))).unwrap_err();
    assert_eq!(refused.status(), 400, "of another account");
}

#[tokio::test(start_paused = true)]
async fn amocrm_errors() {
    let mut limited = true;
    let slow = crm(move |asked: &Asked| {
        if asked.path() == "/api/v4/contacts" && std::mem::take(&mut limited) {
            return error(429, fixture!("amocrm/error_429.json"));
        }
        account(asked)
    })
    .await;
    assert_eq!(slow.read_all().await.ids.len(), 3);
    assert!(slow.elapsed() >= Duration::from_mins(5), "the body says how long to wait");
    for (status, body) in [(403, ""), (402, "")] {
        let crm = crm(move |_: &Asked| error(status, body)).await;
        let given = crm.read(reteno_sync::source::From::Beginning).await;
        assert!(matches!(given.end, Err(SourceError::Halted { .. })), "{status}");
        assert_eq!(crm.asked().len(), 1, "a blocked account is not asked again");
    }
    for (status, body) in
        [(401, fixture!("amocrm/error_401.json")), (400, fixture!("amocrm/error_400_validation.json"))]
    {
        let crm = crm(move |_: &Asked| error(status, body)).await;
        let given = crm.read(reteno_sync::source::From::Beginning).await;
        assert!(matches!(given.end, Err(SourceError::Answer { .. })), "{status}");
    }
}
