//! Zoho.

use std::time::Duration;

use reteno_sync::source::{From, SourceError};

use super::harness::{Answer, Asked, Crm, Hit, NO_TOKENS, error, first, fixture, ok, status};

fn org(asked: &Asked) -> Answer {
    match (asked.path(), asked.query("page_token")) {
        ("/crm/v8/Contacts/deleted", _) => status(204),
        (_, None) => ok(fixture!("zoho/contacts_page1.json")),
        (_, Some(_)) => ok(fixture!("zoho/contacts_page2_last.json")),
    }
}

/// Without the tokens, which are another test.
fn table() -> String {
    format!("vars.region = \"eu\"{NO_TOKENS}")
}

async fn crm(script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Crm {
    Crm::new("zoho", &table(), script).await
}

fn lists(crm: &Crm) -> Vec<Asked> {
    crm.asked().into_iter().filter(|asked| asked.path() == "/crm/v8/Contacts").collect()
}

#[tokio::test(start_paused = true)]
async fn zoho_list_and_next_page() {
    let crm = crm(org).await;
    assert_eq!(crm.read_all().await.ids, ["5000000000100001", "5000000000100002", "5000000000100009"]);
    let lists = lists(&crm);
    assert_eq!(lists[0].header("authorization"), "Zoho-oauthtoken TOKEN");
    assert_eq!(lists[0].header("if-modified-since"), "");
    assert_eq!(lists[0].query("sort_by").as_deref(), Some("Modified_Time"));
    assert!(lists[0].query("fields").unwrap().contains("Email_Opt_Out"));
    assert_eq!(lists[1].header("if-modified-since"), "2026-11-20T09:00:04+00:00");
    assert_eq!(lists[2].query("page_token").as_deref(), Some("EXAMPLE_NEXT_PAGE_TOKEN"));
    assert_eq!(
        lists[2].header("if-modified-since"),
        "2026-11-20T09:00:04+00:00",
        "a page token needs the same request"
    );
}

#[tokio::test(start_paused = true)]
async fn zoho_incremental() {
    let crm = crm(org).await;
    let given = crm.read_all().await;
    crm.asked();
    crm.read_after(&given).await;
    assert_eq!(lists(&crm)[0].header("if-modified-since"), "2026-11-23T11:54:30+00:00");
}

#[tokio::test(start_paused = true)]
async fn zoho_empty_page() {
    for nothing in [204, 304] {
        let crm = crm(move |_: &Asked| status(nothing)).await;
        assert!(crm.read_all().await.ids.is_empty(), "{nothing}");
    }
}

#[tokio::test(start_paused = true)]
async fn zoho_fetch() {
    let crm = crm(org).await;
    let fetched = crm.fetch(&["5000000000100001", "5000000000100002", "7"]).await.unwrap();
    assert_eq!(fetched, ["5000000000100001", "5000000000100002", "?7"]);
    assert_eq!(crm.asked()[0].query("ids").as_deref(), Some("5000000000100001,5000000000100002,7"));
}

#[tokio::test(start_paused = true)]
async fn zoho_deletion() {
    let crm = crm(|asked: &Asked| match asked.path() {
        "/crm/v8/Contacts/deleted" => {
            assert_eq!(asked.query("type").as_deref(), Some("all"));
            ok(fixture!("zoho/deleted_page.json"))
        }
        _ => status(204),
    })
    .await;
    assert_eq!(crm.read_all().await.ids, ["?5000000000099001", "?5000000000099002"]);
}

#[tokio::test(start_paused = true)]
async fn zoho_mapping_and_opt_out() {
    let table = format!("{}\ncontact.sms.region = \"GB\"", table());
    let crm = Crm::new("zoho", &table, org).await;
    let given = crm.read_all().await;
    let olena = crm.map(&given.records[0]);
    assert_eq!(
        olena[..5],
        [
            "externalCustomerId=zoho-5000000000100001",
            "email=olena.bondar@example.com",
            "sms=+380671234567",
            "firstName=Olena",
            "lastName=Bondar"
        ]
    );
    assert!(olena.contains(&"postcode=01001".to_owned()) && olena.contains(&"consent=yes".to_owned()), "{olena:?}");
    assert!(crm.map(&given.records[1]).contains(&"consent=no".to_owned()));
}

#[tokio::test]
async fn zoho_webhook() {
    let table = format!("{}\nwebhook.token = \"EXAMPLE_TOKEN_MAX_50_CHARS\"", table());
    let crm = Crm::new("zoho", &table, |_| status(500)).await;
    let hit = |body: String| Hit { body, ..Hit::default() };
    let notification = fixture!("zoho/notification.json");
    assert_eq!(crm.deliver(&hit(notification.to_owned())).unwrap(), ["5000000000100001", "5000000000100002"]);
    let deleted = notification.replace("\"operation\": \"update\"", "\"operation\": \"delete\"");
    assert_eq!(crm.deliver(&hit(deleted)).unwrap(), ["?5000000000100001", "?5000000000100002"]);
    let forged = notification.replace("EXAMPLE_TOKEN", "OTHER_TOKEN");
    assert_eq!(crm.deliver(&hit(forged)).unwrap_err().status(), 401);
    let leads = notification.replace("\"module\": \"Contacts\"", "\"module\": \"Leads\"");
    assert_eq!(crm.deliver(&hit(leads)).unwrap_err().status(), 400);
}

#[tokio::test(start_paused = true)]
async fn zoho_errors() {
    let refused = crm(|_| error(401, fixture!("zoho/error_401.json"))).await;
    assert!(matches!(refused.read(From::Beginning).await.end, Err(SourceError::Answer { status: 401, .. })));
    let wrong = crm(|_| error(400, fixture!("zoho/error_400_discrete_pagination.json"))).await;
    assert!(matches!(wrong.read(From::Beginning).await.end, Err(SourceError::Answer { status: 400, .. })));
    let slow = crm(first(status(429), r#"{"data": [], "info": {"more_records": false}}"#)).await;
    slow.read_all().await;
    assert!(slow.elapsed() >= Duration::from_mins(1));
    // page tokens are used among records of one second only; one that lapsed there ends the read, and the next one goes on
    let mut lapsed = true;
    let crm = crm(move |asked: &Asked| {
        if asked.query("page_token").is_some() && std::mem::take(&mut lapsed) {
            return error(400, r#"{"code": "EXPIRED_VALUE", "status": "error"}"#);
        }
        org(asked)
    })
    .await;
    assert!(matches!(crm.read(From::Beginning).await.end, Err(SourceError::Stuck { .. })));
    assert_eq!(crm.read(From::Beginning).await.ids.len(), 3);
}
