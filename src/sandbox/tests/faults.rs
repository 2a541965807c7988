//! The sandbox's fault switches, hooks, and the same over a real socket.

use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Bench, bulk, person, read};
use crate::http::ExchangeError;
use crate::sandbox::*;

fn one() -> Value {
    bulk(&[person("1", "a@example.com", "Ann")])
}

fn several() -> Value {
    let people: Vec<Value> = (0..10).map(|n| person(&n.to_string(), &format!("a{n}@example.com"), "Ann")).collect();
    bulk(&people)
}

#[tokio::test(start_paused = true)]
async fn fault_strikes_its_kind_as_often_as_told() {
    let bench = Bench::new(SandboxOptions::default());
    let canned = Effect::Answer(Canned::html(StatusCode::BAD_GATEWAY));
    let fault = bench.sandbox.fault(Fault::on(CallKind::SubmitContacts, canned).times(2).after(1));
    let statuses: Vec<u16> = (0..4).map(|_| bench.call("POST", "v1/contacts", &one()).0).collect();
    assert_eq!(statuses, [200, 502, 502, 200]);
    assert_eq!((bench.sandbox.fired(fault), bench.sandbox.tally().imports_accepted), (2, 2));
    bench.sandbox.fault(Fault::on(CallKind::Version, Effect::Answer(Canned::too_many(Some("7")))).always());
    let Outcome::Answer(answer) = bench.send("GET", "v2/version", "") else { panic!("no answer") };
    assert_eq!((answer.status().as_u16(), answer.headers()["Retry-After"].to_str().unwrap()), (429, "7"));
    bench.sandbox.clear_faults();
    assert_eq!(read(bench.send("GET", "v2/version", "")).0, 200);
}

#[tokio::test(start_paused = true)]
async fn loss_before_writes_nothing_and_loss_after_does() {
    let bench = Bench::new(SandboxOptions::default());
    let exchange = bench.sandbox.exchange();
    for effect in [Effect::RefuseConnection, Effect::LoseRequest, Effect::LoseAnswer] {
        bench.sandbox.fault(Fault::on(CallKind::SubmitContacts, effect));
    }
    let send = || exchange.exchange(bench.request("POST", "v1/contacts", &one().to_string()));
    assert!(matches!(send().await, Err(ExchangeError::NotSent { .. })));
    assert!(matches!(send().await, Err(ExchangeError::Lost { .. })));
    assert_eq!(bench.sandbox.tally().imports_accepted, 0);
    assert!(matches!(send().await, Err(ExchangeError::Lost { .. })));
    assert_eq!(bench.sandbox.tally().imports_accepted, 1);
    assert_eq!(send().await.unwrap().status(), 200);
    let seen: Vec<_> = bench.sandbox.calls().iter().map(|call| (call.status, call.delivered, call.contacts)).collect();
    assert_eq!(seen, [(None, false, 1), (None, false, 1), (Some(200), false, 1), (Some(200), true, 1)]);
}

#[tokio::test(start_paused = true)]
async fn answers_can_be_cut_lack_their_session_or_carry_an_error() {
    let bench = Bench::new(SandboxOptions::default());
    let on = |effect| bench.sandbox.fault(Fault::on(CallKind::SubmitContacts, effect));
    on(Effect::CutAnswer);
    let (status, body) = bench.call("POST", "v1/contacts", &one());
    assert_eq!(status, 200);
    assert!(body.is_string(), "half of it is no JSON: {body}");
    on(Effect::OmitSessionId);
    assert_eq!(bench.call("POST", "v1/contacts", &one()), (200, serde_json::json!({})));
    assert_eq!(bench.sandbox.tally().imports_accepted, 2, "both were carried out");
    on(Effect::Answer(Canned::error_message("no")));
    assert_eq!(bench.call("POST", "v1/contacts", &one()).1["errorMessage"], "no");
    assert_eq!(bench.sandbox.tally().imports_accepted, 2);
    on(Effect::ExpireAccessTokens);
    assert_eq!(bench.call("POST", "v1/contacts", &one()).0, 401);
}

#[tokio::test(start_paused = true)]
async fn failed_import_may_have_written_all_some_or_nothing() {
    for applied in [Applied::All, Applied::Part, Applied::Nothing] {
        let bench = Bench::new(SandboxOptions::default());
        bench.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::FailImport(applied)));
        let session = bench.submit(&several());
        tokio::time::advance(Duration::from_secs(6)).await;
        let status = bench.status(&session);
        assert_eq!((status["status"].as_str(), status.get("mapping")), (Some("ERROR"), None));
        assert!(status["description"].is_string());
        let written = bench.sandbox.contacts().len();
        let right = match applied {
            Applied::All => written == 10,
            Applied::Part => (1..10).contains(&written),
            Applied::Nothing => written == 0,
        };
        assert!(right, "{applied:?}: {written}");
        assert_eq!(bench.sandbox.tally().imports_failed, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn stuck_import_lands_only_when_released() {
    let bench = Bench::new(SandboxOptions::default());
    bench.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::StickImport));
    let stuck = bench.submit(&one());
    tokio::time::advance(Duration::from_hours(24)).await;
    assert_eq!(bench.status(&stuck)["status"], "IMPORTING");
    bench.submit(&bulk(&[person("1", "a@example.com", "Later")]));
    assert!(bench.sandbox.overlaps()[0].earlier_stuck);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(bench.sandbox.contact_by_external_id("1").unwrap().fields["firstName"], "Later");
    assert_eq!((bench.sandbox.release_stuck(), bench.sandbox.release_stuck()), (1, 0));
    assert_eq!(bench.sandbox.contact_by_external_id("1").unwrap().fields["firstName"], "Ann");
    assert_eq!(bench.status(&stuck)["status"], "FINISHED");
    assert_eq!(bench.sandbox.unfinished_imports(), 0);
    let by: Vec<bool> = bench.sandbox.applied_log("1").iter().map(|change| change.by == stuck).collect();
    assert_eq!(by, [false, true]);
}

#[tokio::test(start_paused = true)]
async fn delayed_import_with_a_lost_answer_lands_last() {
    let bench = Bench::new(SandboxOptions::default());
    bench.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::DelayImport(Duration::from_secs(100))));
    bench.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer));
    assert!(matches!(bench.send("POST", "v1/contacts", &one().to_string()), Outcome::LostAfter));
    bench.submit(&bulk(&[person("1", "a@example.com", "Later")]));
    tokio::time::advance(Duration::from_secs(99)).await;
    assert_eq!(bench.sandbox.contact_by_external_id("1").unwrap().fields["firstName"], "Later");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(bench.sandbox.contact_by_external_id("1").unwrap().fields["firstName"], "Ann");
}

#[tokio::test(start_paused = true)]
async fn mapping_and_status_can_mislead() {
    let bench = Bench::new(SandboxOptions::default());
    let on = |effect| bench.sandbox.fault(Fault::on(CallKind::SubmitContacts, effect));
    on(Effect::OmitFromMapping(vec!["3".to_owned()]));
    let session = bench.submit(&several());
    tokio::time::advance(Duration::from_secs(6)).await;
    let mapping = bench.status(&session)["mapping"].clone();
    assert_eq!(mapping.as_array().unwrap().len(), 9);
    assert!(mapping.as_array().unwrap().iter().all(|pair| pair["dedupeValue"] != "3"));
    assert!(bench.sandbox.contact_by_external_id("3").is_some());
    on(Effect::OmitMapping);
    let session = bench.submit(&several());
    tokio::time::advance(Duration::from_secs(6)).await;
    assert_eq!(bench.status(&session).get("mapping"), None);
    bench.sandbox.fault(Fault::on(CallKind::ImportStatus, Effect::UnknownStatus("PAUSED".to_owned())));
    assert_eq!(bench.status(&session)["status"], "PAUSED");
    assert_eq!(bench.status(&session)["status"], "FINISHED");
}

#[tokio::test(start_paused = true)]
async fn poisoned_contact_fails_every_batch_that_holds_it() {
    let bench = Bench::new(SandboxOptions::default());
    bench.sandbox.poison(["3".to_owned()]);
    assert_eq!(bench.call("POST", "v1/contacts", &several()).0, 400);
    assert_eq!(bench.call("POST", "v1/contacts", &one()).0, 200);
}

#[tokio::test(start_paused = true)]
async fn hooks_stand_on_both_sides_of_a_call_and_may_look() {
    let bench = Bench::new(SandboxOptions::default());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (notes, sandbox) = (Arc::clone(&seen), bench.sandbox.clone());
    bench.sandbox.on_request(move |request| {
        let accepted = sandbox.tally().imports_accepted;
        notes.lock().unwrap().push((request.phase, request.kind, request.status, accepted));
    });
    bench.submit(&one());
    bench.sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer));
    bench.send("POST", "v1/contacts", &one().to_string());
    let submit = CallKind::SubmitContacts;
    let expected = [
        (Phase::Before, submit, None, 0),
        (Phase::After, submit, Some(200), 1),
        (Phase::Before, submit, None, 1),
        (Phase::After, submit, None, 2),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

/// Sends one request over a socket and reads until the sandbox closes.
async fn over_http(listening: &Listening, token: &str, body: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(listening.address()).await.unwrap();
    let head = format!(
        "POST /api/v1/contacts HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A reset is as good a cut as an end.
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn lost_answer_cuts_a_real_connection_without_a_byte() {
    let sandbox = Sandbox::new(SandboxOptions::default(), Clock::system());
    let listening = sandbox.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let token = sandbox.issue_tokens().access_token;
    let body = one().to_string();
    sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseRequest));
    assert_eq!(over_http(&listening, &token, &body).await, b"");
    assert_eq!(sandbox.tally().imports_accepted, 0);
    sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::LoseAnswer));
    assert_eq!(over_http(&listening, &token, &body).await, b"");
    assert_eq!(sandbox.tally().imports_accepted, 1);
    let answer = String::from_utf8(over_http(&listening, &token, &body).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("asyncSessionId"), "{answer}");
    let address = listening.address();
    listening.stop().await;
    assert!(TcpStream::connect(address).await.is_err(), "the port is free again");
}

#[tokio::test]
async fn held_answer_waits_for_its_release() {
    let sandbox = Sandbox::new(SandboxOptions::default(), Clock::system());
    let listening = sandbox.listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let token = sandbox.issue_tokens().access_token;
    sandbox.fault(Fault::on(CallKind::SubmitContacts, Effect::HoldAnswer));
    let (told, carried_out) = watch::channel(false);
    sandbox.on_request(move |request| {
        told.send_replace(request.phase == Phase::After);
    });
    let body = one().to_string();
    let mut waiting = carried_out.clone();
    let release = async {
        waiting.wait_for(|done| *done).await.unwrap();
        assert_eq!(sandbox.calls().last().map(|call| call.delivered), Some(false));
        sandbox.release();
    };
    let (answer, ()) = tokio::join!(over_http(&listening, &token, &body), release);
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(sandbox.calls().last().map(|call| (call.status, call.delivered)), Some((Some(200), true)));
    assert!(sandbox.listen("0.0.0.0:0".parse().unwrap()).await.is_err(), "loopback only");
}

#[tokio::test]
async fn crm_is_served_beside_it() {
    let sandbox = Sandbox::new(SandboxOptions::default(), Clock::system());
    sandbox.serve_crm(crm::invented_contacts(1, 3));
    let get = |path: &str| http::Request::get(format!("http://sandbox{path}")).body(Bytes::new()).unwrap();
    let Outcome::Answer(lines) = sandbox.answer(get("/crm/contacts.jsonl")) else { panic!("no answer") };
    assert_eq!(lines.body().split(|byte| *byte == b'\n').count(), 4);
    let Outcome::Answer(table) = sandbox.answer(get("/crm/contacts.csv")) else { panic!("no answer") };
    assert!(table.body().starts_with(b"id,first_name,"));
}
