//! Files of contacts behind a link.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Bench, bulk, person, read};
use crate::sandbox::*;

const LINK: &str = "https://crm.example.com/exports/secret.csv";

/// A sandbox that finds `file` behind [`LINK`].
fn bench(file: &str) -> (Bench, Arc<AtomicUsize>) {
    let bench = Bench::new(SandboxOptions::default());
    let file = Bytes::from(file.to_owned());
    let fetched = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetched);
    bench.sandbox.set_downloader(Arc::new(move |link| {
        count.fetch_add(1, Ordering::Relaxed);
        let file = if link == LINK { Ok(file.clone()) } else { Err("status 404".to_owned()) };
        async move { file }.boxed()
    }));
    (bench, fetched)
}

async fn upload(bench: &Bench, body: &Value) -> (u16, Value) {
    let request = bench.request("POST", "v1/contacts/upload", &body.to_string());
    let answer = bench.sandbox.exchange().exchange(request).await.unwrap();
    read(Outcome::Answer(answer))
}

fn request(dedupe_on: &str) -> Value {
    json!({ "link": LINK, "dedupeOn": dedupe_on })
}

/// Uploads and waits until it is applied.
async fn import(bench: &Bench, body: &Value) -> Value {
    let (status, answer) = upload(bench, body).await;
    assert_eq!((status, &answer["valid"]), (200, &json!(true)), "{answer}");
    assert!(answer["fileId"].is_string());
    tokio::time::advance(Duration::from_secs(6)).await;
    bench.status(answer["importId"].as_str().unwrap())
}

#[tokio::test(start_paused = true)]
async fn file_becomes_an_import_with_its_own_status() {
    let (bench, fetched) = bench(
        "\u{feff}Email,First name,City,SMS,PERSONAL.TIER,NO.SUCH,Language code\r\n\
         A@example.com,Ann,\"Kyiv, old town\",+380671234567,gold,x,uk\r\n\
         b@example.com,Bob,,,,,\r\n\
         nowhere,Cyd,,,,,\r\n",
    );
    let mut body = request("email");
    body["groupNames"] = json!(["Loaded"]);
    body["eventKeyForNewContacts"] = json!("loaded");
    let status = import(&bench, &body).await;
    assert_eq!((status["status"].as_str(), fetched.load(Ordering::Relaxed)), (Some("FINISHED"), 1));
    let contacts = bench.sandbox.contacts();
    assert_eq!(contacts.len(), 2);
    let ann = contacts.iter().find(|contact| contact.email.as_deref() == Some("a@example.com")).unwrap();
    assert_eq!((ann.external_id.as_deref(), ann.phone.as_deref()), (None, Some("380671234567")));
    let fields: Vec<(&str, &str)> = ann.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(fields, [("87166", "gold"), ("firstName", "Ann"), ("languageCode", "uk"), ("town", "Kyiv, old town")]);
    assert!(ann.segments.contains("Loaded"));
    let values: BTreeSet<&str> =
        status["mapping"].as_array().unwrap().iter().map(|pair| pair["dedupeValue"].as_str().unwrap()).collect();
    assert_eq!(values, BTreeSet::from(["a@example.com", "b@example.com"]));
    let tally = bench.sandbox.tally();
    assert_eq!((tally.files_accepted, tally.contacts_received, tally.contacts_failed), (1, 3, 1));
    assert_eq!(bench.sandbox.events_fired().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn empty_cell_clears_and_a_base_loaded_by_file_may_double() {
    let (bench, _) = bench("Email,First name,PERSONAL.TIER\na@example.com,,\n");
    let mut known = bulk(&[person("1", "a@example.com", "Ann")]);
    known["contacts"][0]["lastName"] = json!("Lee");
    known["contacts"][0]["fields"] = json!([{ "id": 87166, "value": "gold" }]);
    known["contactFields"] = json!(["firstName", "lastName", "email"]);
    known["customFieldsIDs"] = json!([87166]);
    bench.import(&known).await;
    assert_eq!(bench.contact("1").fields.len(), 3);
    import(&bench, &request("email")).await;
    assert_eq!(bench.contact("1").fields.keys().collect::<Vec<_>>(), ["lastName"]);
    assert_eq!(bench.sandbox.contacts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn contact_id_finds_the_contact_and_nobody_else() {
    let (first, _) = bench("Email\nx@example.com\n");
    first.import(&bulk(&[person("1", "a@example.com", "Ann")])).await;
    let id = first.contact("1").id;
    let file = Bytes::from(format!("Contact ID,Email,First name\n{id},a@example.com,Anna\n77,z@example.com,Zed\n"));
    first.sandbox.set_downloader(Arc::new(move |_| {
        let file = file.clone();
        async move { Ok(file) }.boxed()
    }));
    import(&first, &request("id")).await;
    assert_eq!(first.contact("1").fields["firstName"], "Anna");
    assert_eq!((first.sandbox.contacts().len(), first.sandbox.tally().contacts_skipped), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn file_that_is_none_is_not_valid_and_writes_nothing() {
    let cases = [
        ("", "email"),
        ("Email,First name\n", "email"),
        ("email\na@example.com\n", "email"),
        ("Email;First name\na@example.com;Ann\n", "email"),
        ("SMS\n+380671234567\n", "email"),
        ("Email\na@example.com\n", "id"),
        ("Email,City\na@example.com\n", "email"),
        ("Email,Email\na@example.com,b@example.com\n", "email"),
    ];
    for (file, dedupe_on) in cases {
        let (bench, _) = bench(file);
        let (status, answer) = upload(&bench, &request(dedupe_on)).await;
        assert_eq!((status, &answer["valid"], answer.get("importId")), (200, &json!(false), None), "{file:?}");
        assert!(answer["message"].is_string(), "{answer}");
    }
    let (bench, _) = bench("");
    bench.sandbox.set_downloader(Arc::new(|_| async { Ok(Bytes::from_static(b"Email\n\xff\n")) }.boxed()));
    assert_eq!(upload(&bench, &request("email")).await.1["message"], "File is not UTF-8");
    let mut elsewhere = request("email");
    elsewhere["link"] = json!("https://crm.example.com/other");
    let (unknown, _) = self::bench("Email\na@example.com\n");
    assert_eq!(upload(&unknown, &elsewhere).await.1["message"], "Cannot download file: status 404");
    assert_eq!(unknown.sandbox.tally().imports_accepted, 0);
    // Without a downloader nothing is ever fetched.
    let bare = Bench::new(SandboxOptions::default());
    assert_eq!(upload(&bare, &request("email")).await.1["valid"], false);
}

#[tokio::test(start_paused = true)]
async fn upload_is_refused_for_what_no_reteno_takes() {
    let (bench, _) = bench("Email\na@example.com\n");
    let changed = |key: &str, value: Value| {
        let mut body = request("email");
        body[key] = value;
        body
    };
    let cases = [
        json!({ "link": LINK }),
        json!({ "dedupeOn": "email" }),
        request("externalCustomerId"),
        request("push"),
        changed("link", json!("ftp://crm.example.com/x.csv")),
        changed("link", Value::Null),
        changed("contactFields", json!(["email"])),
        changed("groupNames", json!([""])),
        changed("eventKeyForNewContacts", json!("a|b")),
    ];
    for body in cases {
        assert_eq!(upload(&bench, &body).await.0, 400, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn faults_of_imports_strike_uploads_and_a_lost_request_fetches_nothing() {
    let (bench, fetched) = bench("Email\na@example.com\nb@example.com\n");
    let on = |effect| bench.sandbox.fault(Fault::on(CallKind::Upload, effect));
    on(Effect::LoseRequest);
    let sent = bench.request("POST", "v1/contacts/upload", &request("email").to_string());
    assert!(bench.sandbox.exchange().exchange(sent).await.is_err());
    assert_eq!(fetched.load(Ordering::Relaxed), 0);
    on(Effect::OmitSessionId);
    let (_, answer) = upload(&bench, &request("email")).await;
    assert_eq!((&answer["valid"], answer.get("importId")), (&json!(true), None));
    on(Effect::FailImport(Applied::Nothing));
    assert_eq!(import(&bench, &request("email")).await["status"], "ERROR");
    on(Effect::OmitMapping);
    let status = import(&bench, &request("email")).await;
    assert_eq!((status["status"].as_str(), status.get("mapping")), (Some("FINISHED"), None));
    on(Effect::StickImport);
    assert_eq!(import(&bench, &request("email")).await["status"], "IMPORTING");
    on(Effect::LoseAnswer);
    let sent = bench.request("POST", "v1/contacts/upload", &request("email").to_string());
    assert!(bench.sandbox.exchange().exchange(sent).await.is_err());
    assert_eq!(bench.sandbox.tally().files_accepted, 5);
}

/// One answer to one request on a port of this machine.
async fn serve_once(answer: &'static str) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = format!("http://{}/x.csv", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 1024];
        let read = stream.read(&mut asked).await.unwrap();
        assert!(asked[..read].starts_with(b"GET /x.csv "));
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    link
}

#[tokio::test]
async fn over_a_socket_the_file_is_fetched_by_http() {
    let sandbox = Sandbox::new(SandboxOptions::default(), Clock::system());
    let token = sandbox.issue_tokens().access_token;
    let listening = sandbox.listen(([127, 0, 0, 1], 0).into()).await.unwrap();
    let client = crate::http::socket::HttpExchange::new(
        crate::http::socket::Timeouts {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(5),
            total: Duration::from_secs(20),
        },
        1 << 20,
    );
    let upload = async |link: &str| {
        let request = http::Request::post(format!("{}/v1/contacts/upload", listening.api_url()))
            .header("Authorization", format!("Bearer {token}"))
            .header("Content-Type", "application/json")
            .body(Bytes::from(json!({ "link": link, "dedupeOn": "email" }).to_string()))
            .unwrap();
        read(Outcome::Answer(client.exchange(request).await.unwrap())).1
    };
    let good =
        serve_once("HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\nEmail\na@example.com\n").await;
    let answer = upload(&good).await;
    assert_eq!((&answer["valid"], answer["importId"].is_string()), (&json!(true), true), "{answer}");
    let gone = serve_once("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
    assert_eq!(upload(&gone).await["message"], "Cannot download file: status 404");
    // In clear only from this machine itself.
    assert_eq!(upload("http://crm.example.com/x.csv").await["valid"], false);
    listening.stop().await;
}
