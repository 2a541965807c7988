//! What each CRM answers where tokens are asked for, over a socket of this machine: the preset says how it is asked, what
//! the answer holds, and how the token is sent.

use std::sync::{Arc, Mutex};

use reteno_sync::source::From;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::harness::{Crm, fixture, ok, status};

/// A token endpoint that always answers this, and what it was asked: each request, head and body.
async fn endpoint(answer: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/token", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = String::new();
            let mut buffer = [0_u8; 4096];
            loop {
                let count = stream.read(&mut buffer).await.unwrap();
                request.push_str(&String::from_utf8_lossy(&buffer[..count]));
                let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
                let length =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if count == 0 || body.len() >= length.unwrap_or(0) {
                    break;
                }
            }
            seen.lock().unwrap().push(request);
            let length = answer.len();
            let reply = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}"
            );
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    (address, asked)
}

/// Of a preset that would ask a person, the same with the app's own credentials: what is asked and answered is alike.
const APP: &str = "auth.kind = \"oauth2\"\nauth.grant = \"client_credentials\"\nauth.client_id = \"CLIENT-ID\"\nauth.client_secret = \"CLIENT-SECRET\"";

struct Row {
    preset: &'static str,
    table: &'static str,
    answer: &'static str,
    empty: &'static str,
    /// What the request for a token holds.
    asked: &'static str,
    /// The first request of the API.
    url: &'static str,
    authorization: &'static str,
}

const ROWS: [Row; 6] = [
    Row {
        preset: "salesforce",
        table: "vars.host = \"acme.my.salesforce.com\"",
        answer: fixture!("salesforce/oauth_token_response.json"),
        empty: fixture!("salesforce/query_empty.json"),
        asked: "client_secret=CLIENT-SECRET",
        url: "https://example-org.my.salesforce.com/services/data/v63.0/queryAll",
        authorization: "Bearer 00D5g00000EXAMPLE!ACCESS",
    },
    Row {
        preset: "zoho",
        table: "vars.region = \"eu\"",
        answer: fixture!("zoho/oauth_token_response.json"),
        empty: r#"{"data": []}"#,
        asked: "client_secret=CLIENT-SECRET",
        url: "https://www.zohoapis.eu/crm/v8/Contacts/deleted",
        authorization: "Zoho-oauthtoken 1000.EXAMPLE.ACCESS",
    },
    Row {
        preset: "creatio",
        table: "vars.host = \"crm.example\"\nvars.identity_host = \"is.example\"",
        answer: fixture!("creatio/oauth_token_response.json"),
        empty: r#"{"value": []}"#,
        asked: "grant_type=client_credentials",
        url: "https://crm.example/0/odata/Contact",
        authorization: "Bearer EXAMPLE_ACCESS",
    },
    Row {
        preset: "amocrm",
        table: "vars.subdomain = \"examplecrm\"\npreflight = false",
        answer: fixture!("amocrm/oauth_token_response.json"),
        empty: r#"{"_embedded": {"contacts": [], "events": []}}"#,
        asked: "\"client_secret\":\"CLIENT-SECRET\"",
        url: "https://examplecrm.amocrm.ru/api/v4/events",
        authorization: "Bearer EXAMPLE_ACCESS_JWT",
    },
    Row {
        preset: "hubspot",
        table: "",
        answer: fixture!("hubspot/oauth_token_response.json"),
        empty: fixture!("hubspot/search_empty.json"),
        asked: "client_id=CLIENT-ID",
        url: "https://api.hubapi.com/crm/v3/objects/contacts",
        authorization: "Bearer EXAMPLE_ACCESS_TOKEN",
    },
    Row {
        preset: "pipedrive",
        table: "vars.company = \"examplecrm\"",
        answer: fixture!("pipedrive/oauth_token_response.json"),
        empty: fixture!("pipedrive/v2_persons_empty.json"),
        // CLIENT-ID:CLIENT-SECRET
        asked: "authorization: Basic Q0xJRU5ULUlEOkNMSUVOVC1TRUNSRVQ=",
        url: "https://examplecrm.pipedrive.com/api/v2/persons",
        authorization: "Bearer EXAMPLE_ACCESS_TOKEN",
    },
];

#[tokio::test]
async fn salesforce_zoho_creatio_amocrm_hubspot_pipedrive_token() {
    for row in ROWS {
        let (address, tokens) = endpoint(row.answer).await;
        let table = format!("{}\n{APP}\nauth.token_url = \"{address}\"", row.table);
        let crm = Crm::new(row.preset, &table, move |_| ok(row.empty)).await;
        let given = crm.read(From::Beginning).await;
        assert!(given.end.is_ok(), "{}: {:?}", row.preset, given.end);
        let asked = crm.asked();
        let mut url = asked[0].url.clone();
        url.set_query(None);
        assert_eq!((url.as_str(), asked[0].header("authorization")), (row.url, row.authorization), "{}", row.preset);
        let tokens = tokens.lock().unwrap();
        assert_eq!(tokens.len(), 1, "{}: one token for all requests", row.preset);
        assert!(tokens[0].contains(row.asked), "{}: {}", row.preset, tokens[0]);
    }
}

#[tokio::test]
async fn zoho_token_error_in_a_200_is_no_token() {
    let (address, _) = endpoint(fixture!("zoho/oauth_token_invalid_code_http200.json")).await;
    let table = format!("vars.region = \"eu\"\n{APP}\nauth.token_url = \"{address}\"");
    let crm = Crm::new("zoho", &table, |_| status(500)).await;
    assert!(crm.read(From::Beginning).await.end.is_err());
    assert!(crm.asked().is_empty(), "nothing is asked without a token");
}
