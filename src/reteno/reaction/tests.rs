//! The table, row by row.
#![expect(clippy::unnecessary_wraps, reason = "the helpers stand for what an exchange or a header gives")]

use http::header::RETRY_AFTER;

use super::*;
use crate::contact::Personal;
use crate::plan::answer::{DeedAnswer, FailedContact, SubscribeAnswer};

const NOW: Timestamp = Timestamp(784_111_740_000);
/// As Reteno says that what the path names is not there.
const GONE: &str = r#"{"errorCode":7,"message":"Not found"}"#;
const PAGE: &str = "<!DOCTYPE html><html><body>Sign in, jane@example.com</body></html>";

fn answer(status: u16, body: &str) -> Answer {
    Ok(Response::builder().status(status).body(Bytes::from(body.to_owned())).expect("a response"))
}

fn typed(status: u16, kind: &str, body: &str) -> Answer {
    let response = Response::builder().status(status).header(http::header::CONTENT_TYPE, kind);
    Ok(response.body(Bytes::from(body.to_owned())).expect("a response"))
}

fn waiting(status: u16, retry_after: &str) -> Answer {
    let response = Response::builder().status(status).header(RETRY_AFTER, retry_after).body(Bytes::new());
    Ok(response.expect("a response"))
}

fn not_sent() -> Answer {
    Err(ExchangeError::NotSent { host: "reteno.com:443".into(), source: "connection refused".into() })
}

fn lost() -> Answer {
    Err(ExchangeError::Lost { host: "reteno.com:443".into(), source: "connection reset".into() })
}

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn submit_refused(status: u16, reason: &str) -> SubmitAnswer {
    SubmitAnswer::Refused { status, reason: reason.into() }
}

fn submit_not_written(cause: NotWritten, retry_after: Option<Duration>) -> SubmitAnswer {
    SubmitAnswer::NotWritten { cause, retry_after }
}

fn submit_uncertain(cause: &str, retry_after: Option<Duration>) -> SubmitAnswer {
    SubmitAnswer::Uncertain { cause: cause.into(), retry_after }
}

fn accepted(session: &str, failed: Vec<FailedContact>) -> SubmitAnswer {
    SubmitAnswer::Accepted { session: session.into(), failed }
}

#[test]
fn submit_accepted() {
    let jane = FailedContact {
        channels: vec![("email".into(), Personal::new("jane@"))],
        id: Some(5),
        first_name: Some(Personal::new("Jane7")),
        error: "bad name <value>, bad e-mail <value>".into(),
        ..FailedContact::default()
    };
    let one = r#"{"firstName":"Jane7","channels":{"type":"email","value":"jane@"},"id":"5","error":"bad name Jane7, bad e-mail jane@"}"#;
    let two = r#"{"contactKey":"k","externalCustomerId":17,"lastName":"Doe","channels":[{"type":"sms","value":380},{"type":"push"}]}"#;
    let other = FailedContact {
        channels: vec![("sms".into(), Personal::new("380"))],
        contact_key: Some(Personal::new("k")),
        external_customer_id: Some(Personal::new("17")),
        last_name: Some(Personal::new("Doe")),
        ..FailedContact::default()
    };
    let with = |failed: &str| answer(200, &format!(r#"{{"asyncSessionId":"s1","failedContacts":{failed}}}"#));
    let cases = [
        // failedContacts as an object: one.
        (with(one), accepted("s1", vec![jane.clone()])),
        // As an array, with numbers as text and the other way round.
        (with(&format!("[{one},{two}]")), accepted("s1", vec![jane, other])),
        // Nothing failed, in every way of saying so.
        (with("[]"), accepted("s1", vec![])),
        (with("null"), accepted("s1", vec![])),
        (with("\"\""), accepted("s1", vec![])),
        (answer(200, r#"{"asyncSessionId":"s1","somethingNew":{"a":1}}"#), accepted("s1", vec![])),
        (answer(202, r#"{"asyncSessionId":42}"#), accepted("42", vec![])),
        // What cannot be kept is none of what is asked for.
        (answer(200, r#"{"asyncSessionId":"s1","time":NaN,"note":"\ud83d","n":1,"n":2}"#), accepted("s1", vec![])),
        // A failure that cannot be read is still a failure.
        (with("[7]"), accepted("s1", vec![FailedContact::default()])),
        // An errorMessage beside a session: the import tells how it ends.
        (answer(200, r#"{"asyncSessionId":"s1","errorMessage":"partly"}"#), accepted("s1", vec![])),
    ];
    for (given, expected) in cases {
        assert_eq!(react_submit(&given, NOW), expected, "{given:?}");
    }
}

#[test]
fn submit_refused_for_what_it_holds() {
    let cases = [
        // 200 with errorMessage and no session, masked.
        (answer(200, r#"{"errorMessage":"jane@example.com is bad"}"#), submit_refused(200, "<e-mail> is bad")),
        (answer(200, r#"{"asyncSessionId":"","errorMessage":"no"}"#), submit_refused(200, "no")),
        // No session, no errorMessage, but refused contacts.
        (answer(200, r#"{"asyncSessionId":null,"failedContacts":{"error":"bad"}}"#), submit_refused(200, "bad")),
        // The whole batch.
        (answer(400, r#"{"errorMessage":"null value"}"#), submit_refused(400, "null value")),
        (answer(400, "Bad request"), submit_refused(400, "Bad request")),
        // Whoever says it, a smaller body is the remedy.
        (answer(413, PAGE), submit_refused(413, "a page of markup instead of JSON")),
        (answer(413, ""), submit_refused(413, "no reason given")),
        (answer(415, ""), submit_refused(415, "no reason given")),
        (answer(422, ""), submit_refused(422, "no reason given")),
        (answer(418, ""), submit_refused(418, "no reason given")),
    ];
    for (given, expected) in cases {
        assert_eq!(react_submit(&given, NOW), expected, "{given:?}");
    }
}

#[test]
fn submit_wrote_nothing_and_the_batch_is_not_to_blame() {
    let unreachable = "cannot reach reteno.com:443: connection refused".to_owned();
    let forbidden = NotWritten::Forbidden("scope".into());
    let cases = [
        (not_sent(), submit_not_written(NotWritten::Unreachable(unreachable), None)),
        (answer(401, ""), submit_not_written(NotWritten::NeedsAuthorization, None)),
        (answer(403, r#"{"error":"scope"}"#), submit_not_written(forbidden.clone(), None)),
        (answer(402, "scope"), submit_not_written(forbidden, None)),
        (answer(404, PAGE), submit_not_written(NotWritten::WrongAddress(404), None)),
        (answer(405, ""), submit_not_written(NotWritten::WrongAddress(405), None)),
        (answer(410, ""), submit_not_written(NotWritten::WrongAddress(410), None)),
        (answer(301, ""), submit_not_written(NotWritten::WrongAddress(301), None)),
        (answer(307, ""), submit_not_written(NotWritten::WrongAddress(307), None)),
        (answer(429, PAGE), submit_not_written(NotWritten::RateLimited, None)),
        (waiting(429, "3"), submit_not_written(NotWritten::RateLimited, seconds(3))),
        (waiting(429, "Sun, 06 Nov 1994 08:49:37 GMT"), submit_not_written(NotWritten::RateLimited, seconds(37))),
        (waiting(429, "soon"), submit_not_written(NotWritten::RateLimited, None)),
    ];
    for (given, expected) in cases {
        assert_eq!(react_submit(&given, NOW), expected, "{given:?}");
    }
    let proxy = react_submit(&answer(407, ""), NOW);
    assert!(matches!(proxy, SubmitAnswer::NotWritten { cause: NotWritten::Unreachable(_), .. }));
}

#[test]
fn submit_may_have_been_carried_out() {
    let repeated = "the same request was made within a minute (409)";
    let cases = [
        (lost(), submit_uncertain("no answer from reteno.com:443: connection reset", None)),
        // 409: at least a minute, longer where Reteno says so.
        (answer(409, ""), submit_uncertain(repeated, seconds(60))),
        (waiting(409, "5"), submit_uncertain(repeated, seconds(60))),
        (waiting(409, "90"), submit_uncertain(repeated, seconds(90))),
        (answer(408, ""), submit_uncertain("status 408: no reason given", None)),
        (answer(500, "boom"), submit_uncertain("status 500: boom", None)),
        (answer(502, PAGE), submit_uncertain("status 502: a page of markup instead of JSON", None)),
        (waiting(503, "9"), submit_uncertain("status 503: no reason given", seconds(9))),
        // A gateway's page refuses nothing in Reteno's name.
        (answer(400, PAGE), submit_uncertain("status 400: a page of markup instead of JSON", None)),
        (answer(403, PAGE), submit_uncertain("status 403: a page of markup instead of JSON", None)),
        (typed(422, "text/html", "no"), submit_uncertain("status 422: a page of markup instead of JSON", None)),
        (answer(504, ""), submit_uncertain("status 504: no reason given", None)),
        // 200 with a body that tells nothing.
        (answer(200, PAGE), submit_uncertain("status 200 with a page of markup instead of JSON", None)),
        (answer(200, r#"{"asyncSessionId":"abc"#), submit_uncertain("status 200 with JSON that is cut off", None)),
        (answer(200, "ok"), submit_uncertain("status 200 with text that is not JSON", None)),
        (answer(200, "[]"), submit_uncertain("status 200 with JSON that is not an object", None)),
        (answer(204, ""), submit_uncertain("status 204 with an empty body", None)),
        (answer(200, "{}"), submit_uncertain("status 200 without asyncSessionId and errorMessage", None)),
        // A session that no address can hold.
        (
            answer(200, r#"{"asyncSessionId":".."}"#),
            submit_uncertain("status 200 without asyncSessionId and errorMessage", None),
        ),
    ];
    for (given, expected) in cases {
        assert_eq!(react_submit(&given, NOW), expected, "{given:?}");
    }
}

#[test]
fn imports_by_status_and_mapping() {
    let pair = |value: &str, id| (Personal::new(value), id);
    let finished = |mapping| ImportAnswer::Finished { mapping };
    let body = |text: &str| answer(200, text);
    let cases = [
        (body(r#"{"status":"STARTED"}"#), ImportAnswer::Running),
        // However long: it is the planner that gives up on an import.
        (body(r#"{"status":"IMPORTING","timestamp":"2001-01-01T00:00:00Z"}"#), ImportAnswer::Running),
        (body(r#"{"status":"importing "}"#), ImportAnswer::Running),
        // A mapping without list, with the id as number or text, and the value as number.
        (
            body(r#"{"status":"FINISHED","mapping":{"dedupeValue":"c-1","contactId":5}}"#),
            finished(Some(vec![pair("c-1", 5)])),
        ),
        (
            body(
                r#"{"status":"FINISHED","mapping":[{"dedupeValue":17,"contactId":"6"},{"dedupeValue":"b","contactId":7}]}"#,
            ),
            finished(Some(vec![pair("17", 6), pair("b", 7)])),
        ),
        // No mapping, in every way of having none.
        (body(r#"{"status":"FINISHED"}"#), finished(None)),
        // An empty list names nobody, which is an answer.
        (body(r#"{"status":"FINISHED","mapping":[]}"#), finished(Some(vec![]))),
        (body(r#"{"status":"FINISHED","mapping":null}"#), finished(None)),
        (body(r#"{"status":"FINISHED","mapping":""}"#), finished(None)),
        // One that cannot be read tells nothing, and never that a contact is not there.
        (body(r#"{"status":"FINISHED","mapping":[{"key":"c-1","value":5}]}"#), finished(None)),
        (
            body(r#"{"status":"ERROR","description":"bad: jane@example.com"}"#),
            ImportAnswer::Failed { description: "bad: <e-mail>".into() },
        ),
        (body(r#"{"status":"ERROR"}"#), ImportAnswer::Failed { description: "no reason given".into() }),
        (body(r#"{"status":"PAUSED"}"#), ImportAnswer::UnknownStatus("PAUSED".into())),
        (answer(404, GONE), ImportAnswer::Missing),
        (answer(410, GONE), ImportAnswer::Missing),
        (answer(401, ""), ImportAnswer::NeedsAuthorization),
    ];
    for (given, expected) in cases {
        assert_eq!(react_import(&given, NOW), expected, "{given:?}");
    }
}

#[test]
fn an_import_without_a_usable_answer_is_asked_about_again() {
    let cases = [
        (not_sent(), "cannot reach reteno.com:443: connection refused", None),
        (lost(), "no answer from reteno.com:443: connection reset", None),
        (answer(200, PAGE), "status 200 with a page of markup instead of JSON", None),
        (answer(200, r#"{"status":"FINI"#), "status 200 with JSON that is cut off", None),
        (answer(200, "{}"), "status 200 with JSON without an import status", None),
        (answer(404, PAGE), "status 404 in another form than Reteno's", None),
        (answer(404, ""), "status 404 in another form than Reteno's", None),
        (answer(400, PAGE), "status 400: a page of markup instead of JSON", None),
        (answer(400, "bad id"), "refused with status 400: bad id", None),
        (answer(403, "scope"), "not allowed: scope", None),
        (answer(405, ""), "reteno.api_url answered with status 405", None),
        (answer(302, ""), "reteno.api_url answered with status 302", None),
        (answer(409, ""), "refused as repeated (409)", seconds(60)),
        (answer(429, ""), "too many requests (429)", None),
        (waiting(429, "4"), "too many requests (429)", seconds(4)),
        (waiting(503, "4"), "status 503: no reason given", seconds(4)),
    ];
    for (given, cause, retry_after) in cases {
        let expected = ImportAnswer::Unreachable { cause: cause.into(), retry_after };
        assert_eq!(react_import(&given, NOW), expected, "{given:?}");
    }
}

#[test]
fn single_calls_row_by_row() {
    let refused = |status, reason: &str| SingleAnswer::Refused { status, reason: reason.into() };
    let not_written = |cause, retry_after| SingleAnswer::NotWritten { cause, retry_after };
    let uncertain = |cause: &str| SingleAnswer::Uncertain { cause: cause.into(), retry_after: None };
    let repeated = |wait: u64| SingleAnswer::RepeatedWithinMinute { retry_after: Duration::from_secs(wait) };
    let unknown_id = refused(404, "reteno does not know the contact's id");
    let address = not_written(NotWritten::WrongAddress(404), None);
    let lost_words = uncertain("no answer from reteno.com:443: connection reset");
    // (answer, POST contact, PUT contact/7)
    let cases = [
        (answer(200, r#"{"id":5}"#), SingleAnswer::Written { id: 5 }, SingleAnswer::Written { id: 7 }),
        (answer(200, r#"{"id":"5"}"#), SingleAnswer::Written { id: 5 }, SingleAnswer::Written { id: 7 }),
        (answer(200, "{}"), uncertain("status 200 with JSON without an id"), SingleAnswer::Written { id: 7 }),
        (answer(200, ""), uncertain("status 200 with an empty body"), SingleAnswer::Written { id: 7 }),
        (answer(200, "OK"), uncertain("status 200 with text that is not JSON"), SingleAnswer::Written { id: 7 }),
        (
            answer(200, PAGE),
            uncertain("status 200 with a page of markup instead of JSON"),
            uncertain("status 200 with a page of markup instead of JSON"),
        ),
        (answer(200, r#"{"errorMessage":"no"}"#), refused(200, "no"), refused(200, "no")),
        // 409 is never success.
        (answer(409, r#"{"id":5}"#), repeated(60), repeated(60)),
        (waiting(409, "75"), repeated(75), repeated(75)),
        (answer(400, "bad"), refused(400, "bad"), refused(400, "bad")),
        (answer(415, "bad"), refused(415, "bad"), refused(415, "bad")),
        (answer(404, GONE), address.clone(), unknown_id),
        (answer(404, ""), address.clone(), uncertain("status 404 in another form than Reteno's")),
        (answer(404, PAGE), address, uncertain("status 404 in another form than Reteno's")),
        // What is cut off may have been an error.
        (
            answer(200, r#"{"errorMess"#),
            uncertain("status 200 with JSON that is cut off"),
            uncertain("status 200 with JSON that is cut off"),
        ),
        (answer(200, r#"{"errors":["no"]}"#), refused(200, "no"), refused(200, "no")),
        (
            answer(400, PAGE),
            uncertain("status 400: a page of markup instead of JSON"),
            uncertain("status 400: a page of markup instead of JSON"),
        ),
        (
            answer(405, ""),
            not_written(NotWritten::WrongAddress(405), None),
            not_written(NotWritten::WrongAddress(405), None),
        ),
        (
            answer(401, ""),
            not_written(NotWritten::NeedsAuthorization, None),
            not_written(NotWritten::NeedsAuthorization, None),
        ),
        (
            answer(403, "no"),
            not_written(NotWritten::Forbidden("no".into()), None),
            not_written(NotWritten::Forbidden("no".into()), None),
        ),
        (
            waiting(429, "2"),
            not_written(NotWritten::RateLimited, seconds(2)),
            not_written(NotWritten::RateLimited, seconds(2)),
        ),
        (answer(500, "boom"), uncertain("status 500: boom"), uncertain("status 500: boom")),
        (lost(), lost_words.clone(), lost_words),
    ];
    for (given, upserted, updated) in cases {
        assert_eq!(react_upsert(&given, NOW), upserted, "POST {given:?}");
        assert_eq!(react_update(&given, NOW, 7), updated, "PUT {given:?}");
    }
}

#[test]
fn deeds_row_by_row() {
    let refused = |status, reason: &str| DeedAnswer::Refused { status, reason: reason.into() };
    let not_written = |cause, retry_after| DeedAnswer::NotWritten { cause, retry_after };
    let uncertain = |cause: &str, retry_after| DeedAnswer::Uncertain { cause: cause.into(), retry_after };
    let repeated = |wait| uncertain("the same request was made within a minute (409)", seconds(wait));
    // Alike for every deed.
    let cases = [
        // A 200 is any text, or none.
        (answer(200, ""), DeedAnswer::Done),
        (answer(204, ""), DeedAnswer::Done),
        (answer(200, "OK"), DeedAnswer::Done),
        (answer(200, r#""deleted""#), DeedAnswer::Done),
        (answer(200, r#"{"message":"2 contacts"}"#), DeedAnswer::Done),
        (answer(200, r#"{"errorMessage":"","errors":[]}"#), DeedAnswer::Done),
        (answer(200, "[]"), DeedAnswer::Done),
        // One that contradicts itself is not done.
        (answer(200, r#"{"errorMessage":"jane@example.com is bad"}"#), refused(200, "<e-mail> is bad")),
        (answer(200, r#"{"error":"no"}"#), refused(200, "no")),
        (answer(200, r#"{"errors":["one","two"]}"#), refused(200, "one")),
        (answer(200, r#"{"errors":{"message":"one"}}"#), refused(200, "one")),
        (answer(200, r#"{"errors":[{"code":3}]}"#), refused(200, "errors without a message")),
        (answer(200, PAGE), uncertain("status 200 with a page of markup instead of JSON", None)),
        (answer(200, r#"{"errorMess"#), uncertain("status 200 with JSON that is cut off", None)),
        (answer(400, r#"{"message":"bad"}"#), refused(400, "bad")),
        (answer(413, ""), refused(413, "no reason given")),
        (answer(415, "bad"), refused(415, "bad")),
        (answer(405, ""), not_written(NotWritten::WrongAddress(405), None)),
        (answer(302, ""), not_written(NotWritten::WrongAddress(302), None)),
        (answer(409, ""), repeated(60)),
        (waiting(409, "75"), repeated(75)),
        (answer(401, ""), not_written(NotWritten::NeedsAuthorization, None)),
        (answer(403, "no"), not_written(NotWritten::Forbidden("no".into()), None)),
        (answer(429, ""), not_written(NotWritten::RateLimited, None)),
        (waiting(429, "2"), not_written(NotWritten::RateLimited, seconds(2))),
        (answer(500, "boom"), uncertain("status 500: boom", None)),
        (waiting(503, "4"), uncertain("status 503: no reason given", seconds(4))),
        (lost(), uncertain("no answer from reteno.com:443: connection reset", None)),
        (
            not_sent(),
            not_written(NotWritten::Unreachable("cannot reach reteno.com:443: connection refused".into()), None),
        ),
    ];
    for (given, expected) in cases {
        for path in [DeedPath::Named, DeedPath::Fixed] {
            assert_eq!(react_deed(&given, NOW, path), expected, "{path:?} {given:?}");
        }
    }
    // Markup, by its body or by its header, is nobody's word, whatever the status.
    for given in [answer(400, PAGE), answer(403, PAGE), typed(200, "text/html; charset=utf-8", "")] {
        for path in [DeedPath::Named, DeedPath::Fixed] {
            assert!(matches!(react_deed(&given, NOW, path), DeedAnswer::Uncertain { .. }), "{given:?}");
        }
    }
}

#[test]
fn only_reteno_itself_can_say_that_a_contact_is_not_there() {
    for status in [404, 410] {
        let wrong = DeedAnswer::NotWritten { cause: NotWritten::WrongAddress(status), retry_after: None };
        let cases = [
            (answer(status, GONE), true),
            (answer(status, r#""no such contact""#), true),
            (typed(status, "application/json; charset=UTF-8", ""), true),
            (typed(status, "application/json", PAGE), false),
            (typed(status, "text/html", GONE), false),
            (answer(status, PAGE), false),
            // As gateways say it without a page.
            (answer(status, ""), false),
            (answer(status, "404"), false),
            (typed(status, "text/plain; charset=utf-8", "404 page not found"), false),
            (answer(status, r#"{"mess"#), false),
        ];
        for (given, is_own) in cases {
            let told = react_deed(&given, NOW, DeedPath::Named);
            assert_eq!(told == DeedAnswer::NotThere, is_own, "{given:?}");
            assert_eq!(matches!(told, DeedAnswer::Uncertain { .. }), !is_own, "{given:?}");
            assert_eq!(react_deed(&given, NOW, DeedPath::Fixed), wrong);
        }
    }
}

#[test]
fn subscriptions_row_by_row() {
    let taken = |email_status: Option<&str>, is_new| SubscribeAnswer::Taken {
        id: 5,
        email_status: email_status.map(str::to_owned),
        is_new,
    };
    let refused = |status, reason: &str| SubscribeAnswer::Refused { status, reason: reason.into() };
    let not_written = |cause, retry_after| SubscribeAnswer::NotWritten { cause, retry_after };
    let uncertain = |cause: &str| SubscribeAnswer::Uncertain { cause: cause.into() };
    let full = r#"{"id":5,"emailStatus":"NEED_CONFIRMATION","new":true}"#;
    let cases = [
        (answer(200, full), taken(Some("NEED_CONFIRMATION"), Some(true))),
        (answer(200, r#"{"id":"5","emailStatus":"A_NEW_WORD","new":"false"}"#), taken(Some("A_NEW_WORD"), Some(false))),
        (answer(200, r#"{"id":5}"#), taken(None, None)),
        // Without its id it may have been sent.
        (answer(200, "{}"), uncertain("status 200 with JSON without an id")),
        (answer(200, ""), uncertain("status 200 with an empty body")),
        (answer(200, "OK"), uncertain("status 200 with text that is not JSON")),
        (answer(200, &full[..20]), uncertain("status 200 with JSON that is cut off")),
        (answer(200, PAGE), uncertain("status 200 with a page of markup instead of JSON")),
        (answer(200, r#"{"errorMessage":"no"}"#), refused(200, "no")),
        // 409 is never success, and never failure.
        (answer(409, full), SubscribeAnswer::RepeatedWithinMinute),
        (answer(400, "bad"), refused(400, "bad")),
        (answer(415, "bad"), refused(415, "bad")),
        (answer(404, ""), not_written(NotWritten::WrongAddress(404), None)),
        (answer(405, ""), not_written(NotWritten::WrongAddress(405), None)),
        (answer(401, ""), not_written(NotWritten::NeedsAuthorization, None)),
        (answer(403, "no"), not_written(NotWritten::Forbidden("no".into()), None)),
        (waiting(429, "2"), not_written(NotWritten::RateLimited, seconds(2))),
        (waiting(500, "2"), uncertain("status 500: no reason given")),
        (lost(), uncertain("no answer from reteno.com:443: connection reset")),
    ];
    for (given, expected) in cases {
        assert_eq!(react_subscribe(&given, NOW), expected, "{given:?}");
    }
}

#[test]
fn uploads_row_by_row() {
    let cases = [
        (answer(200, r#"{"importId":"i-1","fileId":"f","valid":true}"#), accepted("i-1", vec![])),
        (answer(200, r#"{"importId":42}"#), accepted("42", vec![])),
        // An import that has begun tells itself how it ends.
        (answer(200, r#"{"importId":"i-1","valid":false,"message":"row 3"}"#), accepted("i-1", vec![])),
        (answer(200, r#"{"valid":false,"message":"empty file"}"#), submit_refused(200, "empty file")),
        (answer(200, r#"{"importId":null,"valid":"false"}"#), submit_refused(200, "the file is not valid")),
        (answer(200, r#"{"errorMessage":"no"}"#), submit_refused(200, "no")),
        (answer(200, r#"{"valid":true}"#), submit_uncertain("status 200 with JSON without importId", None)),
        (
            answer(200, r#"{"importId":"..","valid":true}"#),
            submit_uncertain("status 200 with JSON without importId", None),
        ),
        (answer(200, ""), submit_uncertain("status 200 with an empty body", None)),
        (answer(200, r#"{"importId":"i"#), submit_uncertain("status 200 with JSON that is cut off", None)),
        (answer(200, PAGE), submit_uncertain("status 200 with a page of markup instead of JSON", None)),
        (answer(400, "bad"), submit_refused(400, "bad")),
        (answer(415, "bad"), submit_refused(415, "bad")),
        (answer(404, ""), submit_not_written(NotWritten::WrongAddress(404), None)),
        (answer(405, ""), submit_not_written(NotWritten::WrongAddress(405), None)),
        (answer(401, ""), submit_not_written(NotWritten::NeedsAuthorization, None)),
        (answer(403, "no"), submit_not_written(NotWritten::Forbidden("no".into()), None)),
        (waiting(429, "2"), submit_not_written(NotWritten::RateLimited, seconds(2))),
        (answer(409, ""), submit_uncertain("the same request was made within a minute (409)", seconds(60))),
        (answer(502, "boom"), submit_uncertain("status 502: boom", None)),
        (lost(), submit_uncertain("no answer from reteno.com:443: connection reset", None)),
    ];
    for (given, expected) in cases {
        assert_eq!(react_upload(&given, NOW), expected, "{given:?}");
    }
}

#[test]
fn every_status_has_a_reaction_and_none_but_2xx_is_success() {
    for status in 100..=999 {
        let given = answer(status, r#"{"asyncSessionId":"s","importId":"s","status":"FINISHED","id":1}"#);
        let success = (200..=299).contains(&status);
        assert_eq!(matches!(react_submit(&given, NOW), SubmitAnswer::Accepted { .. }), success, "{status}");
        assert_eq!(matches!(react_import(&given, NOW), ImportAnswer::Finished { .. }), success, "{status}");
        assert_eq!(matches!(react_upsert(&given, NOW), SingleAnswer::Written { .. }), success, "{status}");
        assert_eq!(matches!(react_update(&given, NOW, 1), SingleAnswer::Written { .. }), success, "{status}");
        for path in [DeedPath::Named, DeedPath::Fixed] {
            assert_eq!(matches!(react_deed(&given, NOW, path), DeedAnswer::Done), success, "{status}");
        }
        assert_eq!(matches!(react_subscribe(&given, NOW), SubscribeAnswer::Taken { .. }), success, "{status}");
        assert_eq!(matches!(react_upload(&given, NOW), SubmitAnswer::Accepted { .. }), success, "{status}");
        assert_eq!(react_read(&given, NOW, "GET x", |_| Ok(())).is_ok(), success, "{status}");
    }
}

/// A first load goes as files of at most 50,000 contacts; each may be in the mapping, or refused with its channels.
#[test]
fn an_answer_about_the_largest_file_is_read() {
    let of = |one: &dyn Fn(usize) -> String| (0..50_000).map(one).collect::<Vec<_>>().join(",");
    let mapping = of(&|n| format!(r#"{{"contactId":{n},"externalCustomerId":"c{n}"}}"#));
    let failed = of(&|n| {
        format!(
            r#"{{"error":"bad","externalCustomerId":"c{n}","firstName":"A","channels":[{{"type":"email","value":"c{n}@example.com"}}]}}"#
        )
    });
    for body in [
        format!(r#"{{"status":"FINISHED","mapping":[{mapping}]}}"#),
        format!(r#"{{"status":"FINISHED","failedContacts":[{failed}]}}"#),
    ] {
        let read = ImportStatus::read(body.as_bytes()).map(|status| status.status);
        assert_eq!(read.as_deref(), Ok("FINISHED"));
    }
    let hostile = format!(r#"{{"status":"FINISHED","mapping":[{}]}}"#, "{},".repeat(800_000) + "{}");
    assert_eq!(ImportStatus::read(hostile.as_bytes()).unwrap_err(), "JSON with too many values");
}
