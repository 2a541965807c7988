//! Salesforce: contacts and leads.

use reteno_sync::source::{From, SourceError};

use super::harness::{Answer, Asked, Crm, NO_TOKENS, error, fixture, minimal, ok, receives_by_path_token, status};

const QUERY: &str = "/services/data/v63.0/queryAll";

fn org(asked: &Asked) -> Answer {
    match asked.path() {
        QUERY => ok(fixture!("salesforce/queryall_contact_page1.json")),
        "/services/data/v63.0/query/01g5g00000EXAMPLEAA-2" => {
            ok(fixture!("salesforce/queryall_contact_page2_last.json"))
        }
        _ => status(404),
    }
}

async fn crm(preset: &str, script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Crm {
    Crm::new(preset, &table(preset), script).await
}

/// Without the tokens, which are another test.
fn table(preset: &str) -> String {
    assert!(minimal(preset).starts_with("vars.host"));
    format!("vars.host = \"acme.my.salesforce.com\"{NO_TOKENS}")
}

#[tokio::test(start_paused = true)]
async fn salesforce_list_and_next_page() {
    let crm = crm("salesforce", org).await;
    let given = crm.read_all().await;
    // the third is deleted, merged into the first, which is looked at
    assert_eq!(given.ids, ["0035g00000AAAAAAA1", "0035g00000AAAAAAA2", "!0035g00000AAAAAAA1", "-0035g00000AAAAAAA3"]);
    let asked = crm.asked();
    let soql = asked[0].query("q").unwrap();
    assert!(soql.starts_with("SELECT Id,FirstName,") && soql.contains(" FROM Contact WHERE "), "{soql}");
    assert!(soql.ends_with("SystemModstamp >= 1999-01-01T00:00:00Z ORDER BY SystemModstamp ASC, Id ASC"), "{soql}");
    // the relative link, on the same host
    assert_eq!(asked[1].url.as_str(), "https://crm.example/services/data/v63.0/query/01g5g00000EXAMPLEAA-2");
}

#[tokio::test(start_paused = true)]
async fn salesforce_incremental() {
    let crm = crm("salesforce", org).await;
    let given = crm.read_all().await;
    crm.asked();
    crm.read_after(&given).await;
    assert!(crm.asked()[0].query("q").unwrap().contains("SystemModstamp >= 2026-11-23T11:54:00Z ORDER"));
}

#[tokio::test(start_paused = true)]
async fn salesforce_empty_page() {
    let crm = crm("salesforce", |_| ok(fixture!("salesforce/query_empty.json"))).await;
    assert!(crm.read_all().await.ids.is_empty());
}

#[tokio::test(start_paused = true)]
async fn salesforce_fetch_and_deletion() {
    let crm = crm("salesforce", |asked: &Asked| {
        assert_eq!(asked.path(), "/services/data/v63.0/composite/sobjects/Contact");
        assert!(asked.body("/fields").contains("HasOptedOutOfEmail"));
        if asked.body("/ids") == r#"["0035g00000AAAAAAA9"]"# {
            // who is missing is asked for once more
            return ok("[null]");
        }
        assert_eq!(asked.body("/ids"), r#"["0035g00000AAAAAAA1","0035g00000AAAAAAA9"]"#);
        // what is not there, or in the recycle bin, is null at its place
        ok(r#"[{"attributes": {"type": "Contact"}, "Id": "0035g00000AAAAAAA1", "LastName": "Bondar"}, null]"#)
    })
    .await;
    let fetched = crm.fetch(&["0035g00000AAAAAAA1", "0035g00000AAAAAAA9"]).await.unwrap();
    assert_eq!(fetched, ["0035g00000AAAAAAA1", "?0035g00000AAAAAAA9"]);
}

#[tokio::test(start_paused = true)]
async fn salesforce_mapping_and_opt_out() {
    let table = format!("{}\ncontact.sms.region = \"US\"", table("salesforce"));
    let crm = Crm::new("salesforce", &table, org).await;
    let given = crm.read_all().await;
    let olena = crm.map(&given.records[0]);
    assert_eq!(
        olena[..5],
        [
            "externalCustomerId=salesforce-0035g00000AAAAAAA1",
            "email=olena.bondar@example.com",
            "sms=+380671234567",
            "firstName=Olena",
            "lastName=Bondar"
        ]
    );
    assert!(olena.contains(&"town=Kyiv".to_owned()) && olena.contains(&"consent=yes".to_owned()), "{olena:?}");
    assert!(crm.map(&given.records[1]).contains(&"consent=no".to_owned()));
}

#[tokio::test]
async fn salesforce_webhook() {
    let table = table("salesforce");
    receives_by_path_token("salesforce", &table, &[(r#"{"Id": "0035g00000AAAAAAA1"}"#, &["0035g00000AAAAAAA1"])]).await;
}

#[tokio::test(start_paused = true)]
async fn salesforce_errors() {
    let limited = crm("salesforce", |_| error(403, fixture!("salesforce/error_403_limit.json"))).await;
    assert!(matches!(limited.read(From::Beginning).await.end, Err(SourceError::Limited { .. })), "an hour");
    let hidden = crm("salesforce", |_| error(400, fixture!("salesforce/error_400_invalid_field.json"))).await;
    assert!(matches!(hidden.read(From::Beginning).await.end, Err(SourceError::Answer { status: 400, .. })));
    // a fetch is answered with a list, and so is its error
    for preset in ["salesforce", "salesforce_lead"] {
        let limited = crm(preset, |_| error(403, fixture!("salesforce/error_403_limit.json"))).await;
        let fetched = limited.fetch(&["0035g00000AAAAAAA1"]).await;
        assert!(matches!(fetched, Err(SourceError::Limited { .. })), "{preset}: {fetched:?}");
        let dead = crm(preset, |_| error(401, fixture!("salesforce/error_401_session.json"))).await;
        let fetched = dead.fetch(&["0035g00000AAAAAAA1"]).await;
        assert!(
            matches!(&fetched, Err(SourceError::Answer { rule: Some(rule), .. }) if rule == "session"),
            "{fetched:?}"
        );
    }
    let dead = crm("salesforce", |_| error(401, fixture!("salesforce/error_401_session.json"))).await;
    assert!(dead.read(From::Beginning).await.end.is_err());
    // the place of a query lapses: it goes on at the last seen moment
    let mut lapsed = true;
    let crm = crm("salesforce", move |asked: &Asked| match asked.path() {
        QUERY if asked.query("q").unwrap().contains(">= 2026-11-20T09:00:04Z") => {
            ok(fixture!("salesforce/queryall_contact_page2_last.json"))
        }
        QUERY => org(asked),
        _ if std::mem::take(&mut lapsed) => error(400, r#"[{"errorCode": "INVALID_QUERY_LOCATOR"}]"#),
        _ => status(500),
    })
    .await;
    assert_eq!(crm.read_all().await.ids.last().unwrap(), "-0035g00000AAAAAAA3");
}

#[tokio::test(start_paused = true)]
async fn salesforce_lead_list_mapping_and_conversion() {
    let converted = fixture!("salesforce/query_lead.json").replace("\"IsConverted\": false", "\"IsConverted\": true");
    let mut answers = vec![converted, fixture!("salesforce/query_lead.json").to_owned()];
    let crm = crm("salesforce_lead", move |_: &Asked| ok(&answers.pop().unwrap())).await;
    let given = crm.read_all().await;
    assert_eq!(given.ids, ["00Q5g00000BBBBBBB1"]);
    assert!(crm.asked()[0].query("q").unwrap().contains("IsConverted FROM Lead WHERE"));
    let lead = crm.map(&given.records[0]);
    assert_eq!(lead[..2], ["externalCustomerId=salesforce-lead-00Q5g00000BBBBBBB1", "email=ada.quill@example.com"]);
    assert!(lead.contains(&"town=Lviv".to_owned()), "{lead:?}");
    // converted, it is left out: a contact has taken its place, so it is no deletion
    let given = crm.read_after(&given).await;
    assert_eq!(given.ids, ["00Q5g00000BBBBBBB1"]);
    assert!(crm.map(&given.records[0]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn salesforce_lead_fetch_and_webhook() {
    let crm = crm("salesforce_lead", |asked: &Asked| {
        assert_eq!(asked.path(), "/services/data/v63.0/composite/sobjects/Lead");
        assert!(asked.body("/fields").contains("IsConverted"));
        ok("[null]")
    })
    .await;
    assert_eq!(crm.fetch(&["00Q5g00000BBBBBBB1"]).await.unwrap(), ["?00Q5g00000BBBBBBB1"]);
    let table = table("salesforce_lead");
    receives_by_path_token("salesforce_lead", &table, &[(r#"{"Id": "00Q5"}"#, &["00Q5"])]).await;
}
