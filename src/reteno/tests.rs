//! The client against scripted answers, and what its answers are read from.
#![expect(clippy::unnecessary_wraps, reason = "the helpers stand for what an exchange or a header gives")]

mod against_sandbox;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::{Request, Response};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;
use url::Url;

use super::lists::{DetachBody, EmailsBody, subscriptions_body};
use super::wire::*;
use super::*;
use crate::clock::{Clock, Timestamp};
use crate::contact::Personal;
use crate::http::{Exchange, ExchangeError};
use crate::plan::answer::{DeedAnswer, ImportAnswer, NotWritten, SingleAnswer, SubmitAnswer, SubscribeAnswer};
use crate::random::Random;

type Answer = Result<Response<Bytes>, ExchangeError>;

/// Answers in order; a request beyond the script is a failure of the test.
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    seen: Mutex<Vec<Request<Bytes>>>,
}

impl Exchange for Script {
    fn exchange(&self, request: Request<Bytes>) -> BoxFuture<'_, Answer> {
        self.seen.lock().expect("no panic").push(request);
        let answer = self.answers.lock().expect("no panic").pop_front().expect("a request beyond the script");
        Box::pin(async move { answer })
    }
}

/// Tokens `t1`, `t2`, …: each refusal gives the next, until the last.
struct Tokens {
    given: Mutex<u32>,
    last: u32,
    without: NoToken,
}

impl Tokens {
    fn give(&self) -> Result<SecretString, NoToken> {
        let given = self.given.lock().expect("no panic");
        if *given > self.last { Err(self.without.clone()) } else { Ok(format!("t{given}").into()) }
    }
}

impl AccessTokens for Tokens {
    fn access_token(&self) -> BoxFuture<'_, Result<SecretString, NoToken>> {
        Box::pin(async { self.give() })
    }

    fn refused<'a>(&'a self, token: &'a SecretString) -> BoxFuture<'a, Result<SecretString, NoToken>> {
        let mut given = self.given.lock().expect("no panic");
        assert_eq!(token.expose_secret(), format!("t{given}"), "the refused token is named");
        *given += 1;
        drop(given);
        Box::pin(async { self.give() })
    }
}

struct Stage {
    client: Client,
    script: Arc<Script>,
}

impl Stage {
    fn new(answers: Vec<Answer>) -> Self {
        Self::with_tokens(answers, 2, NoToken::NeedsAuthorization)
    }

    fn with_tokens(answers: Vec<Answer>, last: u32, without: NoToken) -> Self {
        let script = Arc::new(Script { answers: Mutex::new(answers.into()), seen: Mutex::new(Vec::new()) });
        let tokens = Arc::new(Tokens { given: Mutex::new(1), last, without });
        let api_url = Url::parse("https://reteno.com/api").expect("a url");
        let clock = Clock::simulated(Timestamp(1_700_000_000_000));
        let exchange = Arc::clone(&script) as Arc<dyn Exchange>;
        Self { client: Client::new(exchange, api_url, tokens, clock, Random::seeded(3)), script }
    }

    /// (method, path, token) of each request made.
    fn seen(&self) -> Vec<(String, String, String)> {
        let seen = self.script.seen.lock().expect("no panic");
        let line = |request: &Request<Bytes>| {
            let token = request.headers()[AUTHORIZATION].to_str().expect("text").replace("Bearer ", "");
            (request.method().to_string(), request.uri().path().to_owned(), token)
        };
        seen.iter().map(line).collect()
    }
}

fn answer(status: u16, body: &str) -> Answer {
    Ok(Response::builder().status(status).body(Bytes::from(body.to_owned())).expect("a response"))
}

fn busy(retry_after: &str) -> Answer {
    let response = Response::builder().status(429).header(RETRY_AFTER, retry_after).body(Bytes::new());
    Ok(response.expect("a response"))
}

fn lost() -> Answer {
    Err(ExchangeError::Lost { host: "reteno.com".into(), source: "reset".into() })
}

fn not_sent() -> Answer {
    Err(ExchangeError::NotSent { host: "reteno.com".into(), source: "refused".into() })
}

#[tokio::test(start_paused = true)]
async fn a_submit_carries_its_body_byte_for_byte_and_its_session_comes_back() {
    let stage = Stage::new(vec![answer(200, r#"{"asyncSessionId":"s1"}"#)]);
    let body = Bytes::from_static(b"{\"contacts\":[]}");
    let told = stage.client.submit_contacts(body.clone()).await;
    assert_eq!(told, SubmitAnswer::Accepted { session: "s1".into(), failed: vec![] });
    assert_eq!(stage.seen(), [("POST".into(), "/api/v1/contacts".into(), "t1".into())]);
    assert_eq!(stage.script.seen.lock().expect("no panic")[0].body(), &body);
}

#[tokio::test(start_paused = true)]
async fn calls_that_write_and_polls_are_attempted_once() {
    for failure in [lost, not_sent, || answer(503, ""), || busy("1")] {
        // One answer in each script: a second request would fail the test.
        Stage::new(vec![failure()]).client.submit_contacts(Bytes::new()).await;
        Stage::new(vec![failure()]).client.upsert_contact(Bytes::new()).await;
        Stage::new(vec![failure()]).client.update_contact(7, Bytes::new()).await;
        Stage::new(vec![failure()]).client.import_status("s").await;
        for deed in Deed::ALL {
            assert_ne!(deed.make(&Stage::new(vec![failure()]).client).await, DeedAnswer::Done);
        }
        Stage::new(vec![failure()]).client.subscribe(Bytes::new()).await;
        Stage::new(vec![failure()]).client.upload(Bytes::new()).await;
    }
}

/// The deeds, with something in each.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Unsubscribe,
    Resubscribe,
    Detach,
    Delete,
    Erase,
    SetSubscriptions,
}

impl Deed {
    const ALL: [Self; 6] =
        [Self::Unsubscribe, Self::Resubscribe, Self::Detach, Self::Delete, Self::Erase, Self::SetSubscriptions];

    async fn make(self, client: &Client) -> DeedAnswer {
        let emails = || EmailsBody::of(&Personal::new("jane@example.com"), &[]);
        match self {
            Self::Unsubscribe => client.unsubscribe(emails()).await,
            Self::Resubscribe => client.resubscribe(emails()).await,
            Self::Detach => {
                let body = DetachBody::of_external_ids(&Personal::new("Customer Jane"), &[]).expect("a body");
                client.detach(9, body).await
            }
            Self::Delete => client.delete_contact(7).await,
            Self::Erase => client.erase_contact(7).await,
            Self::SetSubscriptions => client.set_subscriptions(7, subscriptions_body(&["news"])).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn deeds_are_done_by_the_call_that_they_are_named_after() {
    let expected = [
        ("POST", "/api/v1/emails/unsubscribed/add", r#"{"emails":["jane@example.com"]}"#),
        ("POST", "/api/v1/emails/unsubscribed/delete", r#"{"emails":["jane@example.com"]}"#),
        ("POST", "/api/v1/group/9/contacts/detach", r#"{"externalCustomerIds":["Customer Jane"]}"#),
        ("DELETE", "/api/v1/contact/7", ""),
        ("DELETE", "/api/v1/contact/7?erase=true", ""),
        ("PUT", "/api/v1/contact/7/subscriptions", r#"{"subscriptions":["news"]}"#),
    ];
    for (deed, (method, path, body)) in Deed::ALL.into_iter().zip(expected) {
        // The first token is refused: once more with the next, and the same body.
        let stage = Stage::new(vec![answer(401, ""), answer(200, "")]);
        assert_eq!(deed.make(&stage.client).await, DeedAnswer::Done);
        let seen = stage.script.seen.lock().expect("no panic");
        assert_eq!(seen.len(), 2);
        for request in seen.iter() {
            let target = request.uri().path_and_query().expect("a path").as_str();
            assert_eq!((request.method().as_str(), target, &request.body()[..]), (method, path, body.as_bytes()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_contact_or_segment_is_told_from_a_wrong_address() {
    let wrong = DeedAnswer::NotWritten { cause: NotWritten::WrongAddress(404), retry_after: None };
    for deed in Deed::ALL {
        let told = deed.make(&Stage::new(vec![answer(404, r#"{"message":"Not found"}"#)]).client).await;
        let expected = match deed {
            Deed::Unsubscribe | Deed::Resubscribe => wrong.clone(),
            Deed::Detach | Deed::Delete | Deed::Erase | Deed::SetSubscriptions => DeedAnswer::NotThere,
        };
        assert_eq!(told, expected, "{deed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_deed_repeats_nothing_that_it_carried_but_names_a_category() {
    let reason = |told: DeedAnswer| match told {
        DeedAnswer::Refused { reason, .. } => reason,
        other => panic!("{other:?}"),
    };
    let refusal = || vec![answer(400, "unknown: Customer Jane, news, jane@example.com")];
    let told = reason(Deed::Detach.make(&Stage::new(refusal()).client).await);
    assert_eq!(told, "unknown: <value>, news, <e-mail>");
    let told = reason(Deed::Unsubscribe.make(&Stage::new(refusal()).client).await);
    assert_eq!(told, "unknown: Customer Jane, news, <e-mail>");
    let told =
        reason(Deed::SetSubscriptions.make(&Stage::new(vec![answer(400, "unknown category news")]).client).await);
    assert_eq!(told, "unknown category news");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_and_an_upload_tell_what_came_back_without_what_went_out() {
    let stage = Stage::new(vec![answer(200, r#"{"id":5,"emailStatus":"NEED_CONFIRMATION","new":true}"#)]);
    let body =
        Bytes::from_static(br#"{"contact":{"firstName":"Jane Unusual","channels":[]},"subscriptions":["news"]}"#);
    let taken = SubscribeAnswer::Taken { id: 5, email_status: Some("NEED_CONFIRMATION".into()), is_new: Some(true) };
    assert_eq!(stage.client.subscribe(body.clone()).await, taken);
    assert_eq!(stage.seen(), [("POST".into(), "/api/v1/contact/subscribe".into(), "t1".into())]);
    let stage = Stage::new(vec![answer(400, "bad name Jane Unusual, bad category news")]);
    let refused = SubscribeAnswer::Refused { status: 400, reason: "bad name <value>, bad category news".into() };
    assert_eq!(stage.client.subscribe(body).await, refused);

    let stage = Stage::new(vec![answer(200, r#"{"importId":7,"valid":true}"#)]);
    let link = "https://crm.example.com/exports/a-b-c.csv";
    let body = Bytes::from(format!(r#"{{"link":"{link}","dedupeOn":"email"}}"#));
    assert_eq!(stage.client.upload(body.clone()).await, SubmitAnswer::Accepted { session: "7".into(), failed: vec![] });
    assert_eq!(stage.seen(), [("POST".into(), "/api/v1/contacts/upload".into(), "t1".into())]);
    let stage = Stage::new(vec![answer(200, &format!(r#"{{"valid":false,"message":"nothing at {link}"}}"#))]);
    let refused = SubmitAnswer::Refused { status: 200, reason: "nothing at <value>".into() };
    assert_eq!(stage.client.upload(body).await, refused);
}

#[tokio::test(start_paused = true)]
async fn a_401_refreshes_once_and_repeats_the_call_once() {
    let stage = Stage::new(vec![answer(401, ""), answer(200, r#"{"asyncSessionId":"s1"}"#)]);
    let told = stage.client.submit_contacts(Bytes::from_static(b"b")).await;
    assert_eq!(told, SubmitAnswer::Accepted { session: "s1".into(), failed: vec![] });
    let line = |token: &str| ("POST".to_owned(), "/api/v1/contacts".to_owned(), token.to_owned());
    assert_eq!(stage.seen(), [line("t1"), line("t2")]);
    let seen = stage.script.seen.lock().expect("no panic");
    assert_eq!(seen[0].body(), seen[1].body());
}

#[tokio::test(start_paused = true)]
async fn a_second_401_needs_authorization() {
    let needed = SubmitAnswer::NotWritten { cause: NotWritten::NeedsAuthorization, retry_after: None };
    let stage = Stage::new(vec![answer(401, ""), answer(401, "")]);
    assert_eq!(stage.client.submit_contacts(Bytes::new()).await, needed);
    let stage = Stage::new(vec![answer(401, ""), answer(401, "")]);
    assert_eq!(stage.client.import_status("s").await, ImportAnswer::NeedsAuthorization);
    let stage = Stage::new(vec![answer(401, ""), answer(401, "")]);
    let told = stage.client.account_info().await;
    assert_eq!(told, Err(RetenoError::NeedsAuthorization { call: "GET v1/account/info" }));
    assert_eq!(stage.seen().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_repeat_after_a_401_is_judged_by_itself() {
    let stage = Stage::new(vec![answer(401, ""), lost()]);
    assert!(matches!(stage.client.submit_contacts(Bytes::new()).await, SubmitAnswer::Uncertain { .. }));
}

#[tokio::test(start_paused = true)]
async fn without_a_token_nothing_is_sent() {
    let stage = Stage::with_tokens(vec![], 0, NoToken::NeedsAuthorization);
    let needed = NotWritten::NeedsAuthorization;
    let told = stage.client.submit_contacts(Bytes::new()).await;
    assert_eq!(told, SubmitAnswer::NotWritten { cause: needed.clone(), retry_after: None });
    let told = stage.client.upsert_contact(Bytes::new()).await;
    assert_eq!(told, SingleAnswer::NotWritten { cause: needed, retry_after: None });
    assert_eq!(stage.client.import_status("s").await, ImportAnswer::NeedsAuthorization);
    for deed in Deed::ALL {
        let needed = DeedAnswer::NotWritten { cause: NotWritten::NeedsAuthorization, retry_after: None };
        assert_eq!(deed.make(&stage.client).await, needed);
    }
    let needed = SubscribeAnswer::NotWritten { cause: NotWritten::NeedsAuthorization, retry_after: None };
    assert_eq!(stage.client.subscribe(Bytes::new()).await, needed);
    let needed = SubmitAnswer::NotWritten { cause: NotWritten::NeedsAuthorization, retry_after: None };
    assert_eq!(stage.client.upload(Bytes::new()).await, needed);
    assert!(matches!(stage.client.version().await, Err(RetenoError::NeedsAuthorization { .. })));

    let stage = Stage::with_tokens(vec![], 0, NoToken::Temporarily("the token host is down".into()));
    let words = "no access token for now: the token host is down".to_owned();
    let told = stage.client.update_contact(7, Bytes::new()).await;
    assert_eq!(told, SingleAnswer::NotWritten { cause: NotWritten::Unreachable(words.clone()), retry_after: None });
    let told = stage.client.import_status("s").await;
    assert_eq!(told, ImportAnswer::Unreachable { cause: words, retry_after: None });
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_for_now_after_a_401_wrote_nothing() {
    let stage = Stage::with_tokens(vec![answer(401, "")], 1, NoToken::Temporarily("down".into()));
    let told = stage.client.submit_contacts(Bytes::new()).await;
    let cause = NotWritten::Unreachable("no access token for now: down".into());
    assert_eq!(told, SubmitAnswer::NotWritten { cause, retry_after: None });
}

#[tokio::test(start_paused = true)]
async fn reads_are_repeated_after_passing_failures() {
    let answers = vec![lost(), answer(502, "<html>"), not_sent(), answer(200, r#"{"organisationName":"Acme"}"#)];
    let stage = Stage::new(answers);
    let start = Instant::now();
    let told = stage.client.account_info().await.expect("the account");
    assert_eq!(told.organisation_name.as_deref(), Some("Acme"));
    // 0.25 to 0.5 s, then 0.5 to 1 s, then 1 to 2 s.
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1750) && took <= Duration::from_millis(3510), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn reads_give_up_after_a_few_attempts() {
    let stage = Stage::new((0..4).map(|_| answer(503, "maintenance")).collect());
    let told = stage.client.subscriptions().await;
    let cause = "status 503: maintenance".to_owned();
    assert_eq!(told, Err(RetenoError::Temporary { call: "GET v1/subscriptions", cause, retry_after: None }));
    assert_eq!(stage.seen().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn retry_after_wins_over_our_own_wait_and_a_long_one_is_handed_on() {
    let stage = Stage::new(vec![busy("30"), answer(200, "[]")]);
    let start = Instant::now();
    assert_eq!(stage.client.subscriptions().await, Ok(vec![]));
    assert_eq!(start.elapsed().as_secs(), 30);

    let stage = Stage::new(vec![busy("61")]);
    let start = Instant::now();
    let told = stage.client.subscriptions().await;
    let retry_after = Some(Duration::from_secs(61));
    let cause = "too many requests (429)".to_owned();
    assert_eq!(told, Err(RetenoError::Temporary { call: "GET v1/subscriptions", cause, retry_after }));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn reads_are_not_repeated_where_asking_again_changes_nothing() {
    let call = "GET v1/addressbooks";
    let page = "<html><h1>login</h1></html>";
    let cases = [
        (answer(403, r#"{"message":"scope"}"#), RetenoError::Forbidden { call, reason: "scope".into() }),
        (answer(404, page), RetenoError::WrongAddress { call, status: 404 }),
        (answer(302, ""), RetenoError::WrongAddress { call, status: 302 }),
        (answer(400, "no"), RetenoError::Refused { call, status: 400, reason: "no".into() }),
        (answer(200, page), RetenoError::NotUnderstood { call, cause: "a page of markup instead of JSON".into() }),
        (answer(200, "{\"addr"), RetenoError::NotUnderstood { call, cause: "JSON that is cut off".into() }),
        (answer(200, "{}"), RetenoError::NotUnderstood { call, cause: "JSON without address books".into() }),
    ];
    for (given, expected) in cases {
        let stage = Stage::new(vec![given]);
        assert_eq!(stage.client.address_books().await, Err(expected));
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_version_is_asked_where_the_second_is_not_there() {
    let stage = Stage::new(vec![answer(404, ""), answer(200, r#"{"version":"1.0","protocol":7}"#)]);
    let told = stage.client.version().await.expect("a version");
    assert_eq!(told.to_string(), "protocol 7, version 1.0");
    let paths: Vec<_> = stage.seen().into_iter().map(|(_, path, _)| path).collect();
    assert_eq!(paths, ["/api/v2/version", "/api/v1/version"]);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_asked_about_by_its_id() {
    let stage = Stage::new(vec![answer(200, r#"{"status":"IMPORTING"}"#)]);
    assert_eq!(stage.client.import_status("a/b").await, ImportAnswer::Running);
    assert_eq!(stage.seen(), [("GET".into(), "/api/v1/importstatus/a%2Fb".into(), "t1".into())]);
}

#[tokio::test(start_paused = true)]
async fn single_calls_answer_with_the_id() {
    let stage = Stage::new(vec![answer(200, r#"{"id":5}"#)]);
    assert_eq!(stage.client.upsert_contact(Bytes::new()).await, SingleAnswer::Written { id: 5 });
    let stage = Stage::new(vec![answer(200, "")]);
    assert_eq!(stage.client.update_contact(7, Bytes::new()).await, SingleAnswer::Written { id: 7 });
    assert_eq!(stage.seen(), [("PUT".into(), "/api/v1/contact/7".into(), "t1".into())]);
}

#[test]
fn versions_are_shown_as_they_come() {
    let cases = [
        (r#"{"b":"2","a":1,"c":{"d":1}}"#, "a 1, b 2"), // what nests has no one-line form
        (r#""2.1""#, "version 2.1"),
        ("2.1", "version 2.1"),
        ("v2 build 7", "version v2 build 7"),
        ("{}", ""),
    ];
    for (body, shown) in cases {
        assert_eq!(ApiVersion::read(body.as_bytes()).map(|version| version.to_string()), Ok(shown.to_owned()));
    }
    for body in ["<html></html>", "", "{\"a\""] {
        assert!(ApiVersion::read(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn an_account_is_named_by_either_of_its_names() {
    let told = AccountInfo::read(br#"{"userEmail":"boss@example.com","organisationName":"Acme"}"#).expect("an account");
    assert_eq!(told.user_email, Some(Personal::new("boss@example.com")));
    assert!(!format!("{told:?}").contains("boss"));
    assert!(AccountInfo::read(br#"{"userEmail":"boss@example.com"}"#).is_ok());
    assert!(AccountInfo::read(b"{}").is_err());
    assert!(AccountInfo::read(b"[]").is_err());
}

#[test]
fn additional_fields_are_read_whether_lists_are_lists_or_not() {
    let single = r#"{"addressBook":{"addressBookId":1,"name":"All","fieldGroups":{"name":"Personal","profileKey":"PERSONAL",
        "fields":{"id":"87166","name":"Tier","fieldKey":"TIER","description":{"type":"COMBOBOX","required":"true",
        "readonly":false,"allowedValues":{"possibleValues":"gold"}}}}}}"#;
    let fields = CatalogField::read_all(single.as_bytes()).expect("fields");
    let expected = CatalogField {
        id: 87166,
        profile_key: "PERSONAL".into(),
        field_key: "TIER".into(),
        name: "Tier".into(),
        kind: FieldKind::Choice,
        allowed_values: vec!["gold".into()],
        min: None,
        max: None,
        required: true,
        read_only: false,
    };
    assert_eq!(fields, [expected]);
    assert_eq!(fields[0].key(), "PERSONAL.TIER");

    let many = r#"{"addressBook":[{"fieldGroups":[{"profileKey":"A","fields":[
        {"id":1,"fieldKey":"X","description":{"type":"NUMBER","allowedValues":{"minValue":"-5","maxValue":9}}},
        {"id":2,"fieldKey":"Y","description":{"type":"CHECKBOXLIST","allowedValues":{"possibleValues":["a","b"]}}}]},
        {"profileKey":"B","fields":[]}]},
        {"fieldGroups":[{"profileKey":"C","fields":[{"id":3,"fieldKey":"Z"},{"fieldKey":"no id"},{"id":-1},
        {"id":4,"description":{"type":"COLOUR"}}]}]},{}]}"#;
    let fields = CatalogField::read_all(many.as_bytes()).expect("fields");
    let seen: Vec<_> = fields.iter().map(|field| (field.id, field.key())).collect();
    let key = str::to_owned;
    assert_eq!(seen, [(1, key("A.X")), (2, key("A.Y")), (3, key("C.Z")), (4, key("C."))]);
    assert_eq!((fields[0].min, fields[0].max), (Some(-5), Some(9)));
    assert_eq!(fields[1].allowed_values, ["a", "b"]);
    assert_eq!(fields[3].kind, FieldKind::Unknown("COLOUR".into()));
}

#[test]
fn subscription_categories_are_read_as_a_list_or_as_the_only_one() {
    let news = SubscriptionCategory { key: "news".into(), name: "News".into(), group_id: Some(8) };
    let one = r#"{"id":1,"key":"news","name":"News","groupId":"8"}"#;
    assert_eq!(SubscriptionCategory::read_all(one.as_bytes()), Ok(vec![news.clone()]));
    let many = format!(r#"[{one},{{"id":2,"key":"promo"}},{{"id":3}}]"#);
    let promo = SubscriptionCategory { key: "promo".into(), name: String::new(), group_id: None };
    assert_eq!(SubscriptionCategory::read_all(many.as_bytes()), Ok(vec![news, promo]));
    assert!(SubscriptionCategory::read_all(b"<html>").is_err());
}
