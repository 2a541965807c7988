//! Proofs of the sender, by the vectors of the fixtures, and each of them with every single byte changed.

use std::time::Duration;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use proptest::prelude::*;
use serde_json::Value;

use super::super::hmac::{Algorithm, Encoding, HmacScheme, Message, MessageError, TimeHeader};
use super::super::standard::{StandardKey, StandardKeyError};
use super::super::verify::EspoKey;
use super::{Request, Timestamp, Webhook, hook, path};
use crate::source::webhook::{Head, Proof, Refused, Verification};

fn vectors(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn text<'a>(vectors: &'a Value, pointer: &str) -> &'a str {
    vectors.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} is missing"))
}

/// Every request that differs in one byte of what is signed or proves it. The least bit: it never changes the case of a
/// letter only, which is the same digit in hex.
fn changed(request: &Request, parts: &[&str]) -> Vec<Request> {
    let flipped = |text: &str, at: usize| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[at] ^= 1;
        String::from_utf8(bytes).unwrap()
    };
    let mut all = Vec::new();
    for at in 0..request.body.len() {
        let mut other = request.clone();
        other.body[at] ^= 1;
        all.push(other);
    }
    for part in parts {
        let value = match *part {
            "method" => request.method.clone(),
            "url" => request.url.clone(),
            "token" => request.path_token.clone().unwrap(),
            name => request.headers.iter().find(|(known, _)| *known == name).unwrap().1.clone(),
        };
        for at in 0..value.len() {
            let (mut other, value) = (request.clone(), flipped(&value, at));
            match *part {
                "method" => other.method = value,
                "url" => other.url = value,
                "token" => other.path_token = Some(value),
                name => other.headers.iter_mut().find(|(known, _)| *known == name).unwrap().1 = value,
            }
            all.push(other);
        }
        let mut without = request.clone();
        without.headers.retain(|(name, _)| name != part);
        without.path_token = without.path_token.filter(|_| *part != "token");
        if !matches!(*part, "method" | "url") {
            all.push(without);
        }
    }
    all
}

/// It passes, and no change of one byte does; `parts` are what is checked beside the body.
fn passes_only_unchanged(webhook: &Webhook, request: &Request, parts: &[&str]) {
    request.to(webhook).unwrap_or_else(|refused| panic!("{:?}: {refused}", webhook.verification));
    for other in changed(request, parts) {
        let refused = other.to(webhook).expect_err("a changed request must not pass");
        assert_eq!(refused.status(), 401, "{:?}: {refused}", webhook.verification);
    }
}

#[test]
fn a_delivery_of_standard_webhooks_passes_with_any_of_the_keys() {
    let vectors = vectors(include_str!("../../../../tests/fixtures/crm/standard_webhooks/vectors.json"));
    let key = |name: &str| StandardKey::parse(text(&vectors, &format!("/secret_{name}"))).unwrap();
    let request = |headers: &str| {
        let at = |name: &str| text(&vectors, &format!("/{headers}/{name}"));
        Request::of(text(&vectors, "/body"))
            .with("webhook-id", at("webhook-id"))
            .with("webhook-timestamp", at("webhook-timestamp"))
            .with("webhook-signature", at("webhook-signature"))
    };
    let parts = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    passes_only_unchanged(&hook(Verification::Standard(vec![key("new")])), &request("headers_single"), &parts);
    let both = hook(Verification::Standard(vec![key("old"), key("new")]));
    passes_only_unchanged(&both, &request("headers_single"), &parts);
    assert!(request("headers_single").to(&hook(Verification::Standard(vec![key("old")]))).is_err());
    for name in ["old", "new"] {
        let hook = hook(Verification::Standard(vec![key(name)]));
        passes_only_unchanged(&hook, &request("headers_rotation"), &parts[..2]);
    }
    let none = hook(Verification::Standard(Vec::new()));
    assert!(request("headers_single").to(&none).is_err(), "no key is no open door");
    // As Svix names them; a mixture is signed by nobody.
    let mut svix = request("headers_single");
    for (name, _) in &mut svix.headers {
        *name = match *name {
            "webhook-id" => "svix-id",
            "webhook-timestamp" => "svix-timestamp",
            _ => "svix-signature",
        };
    }
    passes_only_unchanged(&both, &svix, &["svix-id", "svix-timestamp", "svix-signature"]);
    svix.headers[0].0 = "webhook-id";
    assert!(svix.to(&both).is_err());
}

#[test]
fn a_public_key_of_standard_webhooks_proves_its_private_one() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let public = format!("whpk_{}", STANDARD.encode(pair.public_key().as_ref()));
    let signature = STANDARD.encode(pair.sign(b"msg_1.1795165206.{\"id\":1}").as_ref());
    let request = Request::of("{\"id\":1}")
        .with("webhook-id", "msg_1")
        .with("webhook-timestamp", "1795165206")
        .with("webhook-signature", &format!("v1a,{signature}"));
    let parts = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    passes_only_unchanged(&hook(Verification::Standard(vec![StandardKey::parse(&public).unwrap()])), &request, &parts);
    // The public key is no secret: an HMAC under it proves nothing.
    let forged = super::super::hmac::tag(
        aws_lc_rs::hmac::HMAC_SHA256,
        pair.public_key().as_ref(),
        [b"msg_1.1795165206.{\"id\":1}".as_slice()],
    );
    let mut other = request.clone();
    other.headers[2].1 = format!("v1,{}", STANDARD.encode(forged.as_ref()));
    assert!(other.to(&hook(Verification::Standard(vec![StandardKey::parse(&public).unwrap()]))).is_err());
}

#[test]
fn keys_of_standard_webhooks_are_read_as_they_are_shown() {
    let parse = |text: &str| StandardKey::parse(text).err();
    let secret = STANDARD.encode([7; 24]);
    assert_eq!(parse(&secret), None);
    assert_eq!(parse(&format!("whsec_{secret}")), None);
    assert_eq!(parse("whsec_not base64!"), Some(StandardKeyError::NotBase64));
    assert_eq!(parse("whsec_AAAA"), Some(StandardKeyError::TooShort));
    assert_eq!(parse(""), Some(StandardKeyError::TooShort));
    assert_eq!(parse(&format!("whpk_{secret}")), Some(StandardKeyError::NotPublic));
    assert_eq!(parse(&format!("whsk_{secret}")), Some(StandardKeyError::Private));
}

#[test]
fn the_signatures_of_hubspot_pass() {
    let vectors = vectors(include_str!("../../../../tests/fixtures/crm/hubspot/webhook_signature_vectors.json"));
    let secrets = || vec!["another".to_owned().into(), text(&vectors, "/client_secret").to_owned().into()];
    let request = |url: &str, headers: &[(&'static str, &str)]| {
        let mut request = Request::of(text(&vectors, "/body"));
        request.url = url.to_owned();
        request.now = Timestamp(text(&vectors, "/timestamp_ms").parse().unwrap());
        headers.iter().fold(request, |request, (name, value)| request.with(name, value))
    };
    let hook = |verification| {
        let mut hook = hook(verification);
        hook.reading.ids =
            super::Ids::One { id: path("$[*].objectId"), action: super::ActionRule::Fixed(super::Action::Fetch) };
        hook
    };
    let time = ("x-hubspot-request-timestamp", text(&vectors, "/timestamp_ms"));
    let v3 = hook(Verification::HubspotV3(secrets()));
    let plain = request(
        text(&vectors, "/v3/0/uri"),
        &[time, ("x-hubspot-signature-v3", text(&vectors, "/v3/0/X-HubSpot-Signature-v3"))],
    );
    let escaped = request(
        text(&vectors, "/v3/1/uri_on_wire"),
        &[time, ("x-hubspot-signature-v3", text(&vectors, "/v3/1/X-HubSpot-Signature-v3"))],
    );
    for request in [plain, escaped] {
        passes_only_unchanged(&v3, &request, &["method", "url", time.0, "x-hubspot-signature-v3"]);
    }
    let parts = ["x-hubspot-signature-version", "x-hubspot-signature"];
    let v1 = request(
        text(&vectors, "/v3/0/uri"),
        &[(parts[0], "v1"), (parts[1], text(&vectors, "/v1/X-HubSpot-Signature"))],
    );
    passes_only_unchanged(&hook(Verification::HubspotV1(secrets())), &v1, &parts);
    let v2 =
        request(text(&vectors, "/v2/uri"), &[(parts[0], "v2"), (parts[1], text(&vectors, "/v2/X-HubSpot-Signature"))]);
    passes_only_unchanged(&hook(Verification::HubspotV2(secrets())), &v2, &["method", "url", parts[0], parts[1]]);
}

#[test]
fn the_signature_of_espocrm_passes_with_its_subscriptions_key() {
    let vector = vectors(include_str!("../../../../tests/fixtures/crm/espocrm/webhook_signature_vector.json"));
    let (id, secret) = (text(&vector, "/webhookId"), text(&vector, "/secretKey"));
    let request = Request::of(text(&vector, "/body")).with("signature", text(&vector, "/Signature"));
    let hook = |keys: &[String]| hook(Verification::Espocrm(keys.iter().map(|key| EspoKey::of(key)).collect()));
    // Each event there has a subscription, and a key, of its own.
    let keys = [format!("another:{secret}"), format!("{id}:{secret}")];
    passes_only_unchanged(&hook(&keys), &request, &["signature"]);
    assert!(request.to(&hook(&[secret.to_owned()])).is_ok(), "without its id any subscription of this key passes");
    assert!(request.to(&hook(&keys[..1])).is_err());
    assert!(request.to(&hook(&[])).is_err());
}

#[test]
fn tokens_and_passwords_pass_only_whole() {
    let mut in_path = Request::of("{\"id\": 1}");
    in_path.path_token = Some("0123456789abcdef-example".to_owned());
    let hook_of_path = hook(Verification::PathToken("0123456789abcdef-example".into()));
    in_path.to(&hook_of_path).unwrap();
    for other in [None, Some(""), Some("0123456789abcdef-exampl"), Some("0123456789abcdef-example/"), Some("1")] {
        let mut request = in_path.clone();
        request.path_token = other.map(str::to_owned);
        assert_eq!(request.to(&hook_of_path).unwrap_err().status(), 401, "{other:?}");
    }
    let hook_of_basic = hook(Verification::Basic { user: "pipe".to_owned(), password: "p:w".into() });
    let request =
        |header: &str| Request::of("{\"id\": 1}").with("authorization", header).to(&hook_of_basic).map(|_| ());
    let of = |text: &str| format!("Basic {}", STANDARD.encode(text));
    assert_eq!(request(&of("pipe:p:w")), Ok(()));
    assert_eq!(request(&of("pipe:p:w").replace("Basic", "basic")), Ok(()));
    for other in [of("pipe:p"), of("pipe:"), of("pip:ep:w"), of(""), "Basic".to_owned(), "Basic ?".to_owned()] {
        assert!(request(&other).is_err(), "{other}");
    }
    assert!(request(&of("pipe:p:w").replace("Basic", "Bearer")).is_err());
}

#[test]
fn a_token_in_the_body_is_compared_before_anything_is_believed() {
    let hook = hook(Verification::BodyToken { path: path("$.auth.token"), token: "example-token".into() });
    let sent = |body: &str| Request::of(body).to(&hook);
    assert_eq!(sent(r#"{"id": 1, "auth": {"token": "example-token"}}"#).unwrap().len(), 1);
    let cases = [
        r#"{"id": 1, "auth": {"token": "example-tokem"}}"#,
        r#"{"id": 1, "auth": {"token": ["example-token"]}}"#,
        r#"{"id": 1, "auth": {"token": null}}"#,
        r#"{"id": 1, "auth": {}}"#,
        r#"{"id": 1}"#,
        "[]",
    ];
    for body in cases {
        assert_eq!(sent(body).unwrap_err().status(), 401, "{body}");
    }
}

/// A CRM's own delivery is whole; what a stranger writes around a guess must not cost more than a glance.
#[test]
fn a_body_whose_token_cannot_be_found_proves_nothing_and_costs_few_values() {
    let many = |count: usize| format!("{{\"token\":\"example-token\",\"id\":1,\"x\":[{}0]}}", "0,".repeat(count));
    let in_body = hook(Verification::BodyToken { path: path("$.token"), token: "example-token".into() });
    assert!(Request::of(&many(1_000)).to(&in_body).is_ok());
    assert_eq!(Request::of(&many(20_000)).to(&in_body).unwrap_err().status(), 401);
    assert_eq!(Request::of("{\"token\":\"example-token\"").to(&in_body).unwrap_err().status(), 401);
    // whoever has proven itself may say more
    let hook = hook(Verification::PathToken("token".into()));
    let mut proven = Request::of(&many(20_000));
    proven.path_token = Some("token".to_owned());
    assert!(proven.to(&hook).is_ok());
    proven.body = many(100_000).into_bytes();
    assert_eq!(proven.to(&hook).unwrap_err().status(), 400);
}

/// The head is enough to refuse what cannot be a signature, or is not of now.
#[test]
fn what_the_head_disproves_is_refused_without_the_body() {
    let hmac = hook(Verification::Hmac(scheme(Algorithm::Sha256, Encoding::Hex, "{timestamp}{body}")));
    let v3 = hook(Verification::HubspotV3(vec!["s".into()]));
    let espo = hook(Verification::Espocrm(vec![EspoKey::of("1:s")]));
    let standard = hook(Verification::Standard(vec![StandardKey::parse(&STANDARD.encode([7; 24])).unwrap()]));
    let (hex, now) = ("ab".repeat(32), "1795165206");
    let base = STANDARD.encode([7; 32]);
    let espo_of = |id: &str, hex: &str| STANDARD.encode(format!("{id}:{hex}"));
    let short = |text: &str| text[4..].to_owned();
    let rows: Vec<(&Webhook, Headers, bool)> = vec![
        (&hmac, vec![("x-time", now.into()), ("x-signature", format!("sig={hex}"))], true),
        (&hmac, vec![("x-time", now.into()), ("x-signature", format!("sig={}", short(&hex)))], false),
        (&hmac, vec![("x-time", "1795160000".into()), ("x-signature", format!("sig={hex}"))], false),
        (&hmac, vec![("x-time", now.into())], false),
        (
            &v3,
            vec![("x-hubspot-request-timestamp", format!("{now}000")), ("x-hubspot-signature-v3", base.clone())],
            true,
        ),
        (
            &v3,
            vec![("x-hubspot-request-timestamp", format!("{now}000")), ("x-hubspot-signature-v3", short(&base))],
            false,
        ),
        (&espo, vec![("signature", espo_of("1", &hex))], true),
        (&espo, vec![("signature", espo_of("2", &hex))], false),
        (&espo, vec![("signature", espo_of("1", &short(&hex)))], false),
        (&standard, standard_head(now, &format!("v1,{base}")), true),
        (&standard, standard_head(now, &format!("v1a,{base}")), false),
        (&standard, standard_head("1795160000", &format!("v1,{base}")), false),
    ];
    for (hook, headers, is_open) in rows {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        let url = "https://sync.example.com/hooks/crm";
        let head = Head { method: "POST", path_token: None, url, headers: &headers, now: Timestamp(1_795_165_206_000) };
        let expected = if is_open { Ok(Proof::Open) } else { Err(401) };
        assert_eq!(hook.prove_head(&head).map_err(|refused| refused.status()), expected, "{headers:?}");
    }
}

type Headers = Vec<(&'static str, String)>;

fn standard_head(time: &str, signature: &str) -> Headers {
    vec![("webhook-id", "1".into()), ("webhook-timestamp", time.into()), ("webhook-signature", signature.into())]
}

fn scheme(algorithm: Algorithm, encoding: Encoding, message: &str) -> HmacScheme {
    let message = Message::parse(message).unwrap();
    let timestamp = message.has_time().then(|| TimeHeader {
        header: HeaderName::from_static("x-time"),
        millis_each: 1000,
        tolerance: Duration::from_mins(5),
    });
    HmacScheme {
        secrets: vec!["old".into(), "key".into()],
        header: HeaderName::from_static("x-signature"),
        algorithm,
        encoding,
        prefix: "sig=".to_owned(),
        message,
        timestamp,
    }
}

#[test]
fn an_hmac_passes_as_it_is_configured() {
    // Computed with another program: openssl dgst -HASH -hmac key.
    let body = "{\"id\":\"151\"}";
    let cases = [
        (Algorithm::Sha1, Encoding::Hex, "{body}", "70cae8616e8f46b85405c630b3324e72202f4b16"),
        (
            Algorithm::Sha256,
            Encoding::Hex,
            "{body}",
            "172ff72c9a2a8cb7e7459cb38bf8929fc74251753cf7d295acf3aed9b48f512b",
        ),
        (Algorithm::Sha256, Encoding::Base64, "v0:{timestamp}:{body}", "/IZCEVDxUAezPV+OgFd9DUMmvzN6RwRJko3fUB76uAk="),
        (
            Algorithm::Sha512,
            Encoding::Base64,
            "{method} {url}\n{body}",
            "fwYqb50jSaC9N4uRzib9mxlI3XqsFct36sDBWNPrqg4wAMsBvRAKTySFz/w5B2eEjNrPK5XZUWDvPyc+IBIh4Q==",
        ),
    ];
    for (algorithm, encoding, message, signature) in cases {
        let request = Request::of(body).with("x-time", "1795165206").with("x-signature", &format!("sig={signature}"));
        let parts: &[&str] = match message {
            "{body}" => &["x-signature"],
            "v0:{timestamp}:{body}" => &["x-signature", "x-time"],
            _ => &["x-signature", "method", "url"],
        };
        passes_only_unchanged(&hook(Verification::Hmac(scheme(algorithm, encoding, message))), &request, parts);
    }
}

#[test]
fn a_message_that_could_not_be_signed_is_no_message() {
    assert_eq!(Message::parse("{timestamp}"), Err(MessageError::NoBody));
    assert_eq!(Message::parse(""), Err(MessageError::NoBody));
    assert_eq!(Message::parse("{body"), Err(MessageError::Open));
    assert_eq!(Message::parse("{body}{secret}"), Err(MessageError::Unknown("secret".to_owned())));
    assert!(!Message::parse("a{body}b}").unwrap().has_time());
}

#[test]
fn a_delivery_that_is_too_old_or_of_tomorrow_is_refused() {
    let vectors = vectors(include_str!("../../../../tests/fixtures/crm/standard_webhooks/vectors.json"));
    let hook = hook(Verification::Standard(vec![StandardKey::parse(text(&vectors, "/secret_new")).unwrap()]));
    let at = |name: &str| text(&vectors, &format!("/headers_single/{name}"));
    let mut request = Request::of(text(&vectors, "/body"))
        .with("webhook-id", at("webhook-id"))
        .with("webhook-timestamp", at("webhook-timestamp"))
        .with("webhook-signature", at("webhook-signature"));
    let sent = request.now;
    let five = Duration::from_mins(5);
    for (now, good) in [
        (sent.plus(five), true),
        (sent.minus(five), true),
        (sent.plus(five + Duration::from_millis(1)), false),
        (sent.minus(five + Duration::from_millis(1)), false),
        (Timestamp(i64::MIN), false),
        (Timestamp(i64::MAX), false),
    ] {
        request.now = now;
        assert_eq!(request.to(&hook).is_ok(), good, "{now:?}");
    }
    for time in ["", "now", "1795165206.5", "99999999999999999999", "9223372036854775807", "-9223372036854775808"] {
        request.headers[1].1 = time.to_owned();
        assert_eq!(request.to(&hook).unwrap_err().status(), 401, "{time}");
    }
}

#[test]
fn what_is_too_long_is_not_looked_at() {
    let mut hook = hook(Verification::PathToken("token".into()));
    hook.body_bytes_max = 9;
    let mut request = Request::of("{\"id\":  1}");
    assert_eq!(request.to(&hook).unwrap_err().status(), 401, "what lacks its proof is told nothing more");
    request.path_token = Some("token".to_owned());
    assert_eq!(request.to(&hook).unwrap_err(), Refused::TooLarge { bytes_max: 9 });
    request.body.pop();
    assert_eq!(request.to(&hook).unwrap_err().status(), 400);
}

#[test]
fn no_secret_and_no_body_is_shown() {
    let hooks = [
        Verification::PathToken("hunter2-hunter2".into()),
        Verification::Basic { user: "hunter2".to_owned(), password: "hunter2".into() },
        Verification::BodyToken { path: path("$.hunter1"), token: "hunter2".into() },
        Verification::Standard(vec![StandardKey::parse(&STANDARD.encode("hunter2-hunter2-hunter2")).unwrap()]),
        Verification::HubspotV3(vec!["hunter2".into()]),
        Verification::Espocrm(vec![EspoKey::of("id:hunter2")]),
        Verification::Hmac(HmacScheme {
            secrets: vec!["hunter2".into()],
            ..scheme(Algorithm::Sha256, Encoding::Hex, "{body}")
        }),
        Verification::None,
    ];
    for verification in hooks {
        let hook = hook(verification);
        assert!(!format!("{hook:?}").contains("hunter2"), "{hook:?}");
        let body = "{\"id\": {\"hunter3\": 1}, hunter3";
        let refused = Request::of(body).with("x-signature", "hunter3").to(&hook).unwrap_err();
        assert!(!format!("{refused:?} {refused}").contains("hunter"), "{refused:?}");
    }
}

proptest! {
    #[test]
    fn anything_at_all_is_refused_or_read_but_never_breaks(
        body in prop::collection::vec(any::<u8>(), 0..200),
        header in "[ -~]{0,80}",
        token in prop::option::of(".{0,20}"),
        kind in 0_usize..8,
    ) {
        let verification = match kind {
            0 => Verification::PathToken("token".into()),
            1 => Verification::Basic { user: "u".to_owned(), password: "p".into() },
            2 => Verification::Standard(vec![StandardKey::parse(&STANDARD.encode([7; 24])).unwrap()]),
            3 => Verification::HubspotV3(vec!["s".into()]),
            4 => Verification::HubspotV1(vec!["s".into()]),
            5 => Verification::Espocrm(vec![EspoKey::of("s")]),
            6 => Verification::Hmac(scheme(Algorithm::Sha256, Encoding::Base64, "{timestamp}{body}")),
            _ => Verification::BodyToken { path: path("$.t"), token: "t".into() },
        };
        let mut request = Request::of("");
        request.body = body;
        request.path_token = token;
        for name in [
            "authorization", "webhook-id", "webhook-timestamp", "webhook-signature", "x-hubspot-signature",
            "x-hubspot-signature-v3", "x-hubspot-request-timestamp", "signature", "x-signature", "x-time",
        ] {
            request = request.with(name, &header);
        }
        let mut hook = hook(verification);
        prop_assert!(request.to(&hook).is_err(), "nothing of this proves anything");
        hook.verification = Verification::None;
        let _ = request.to(&hook);
        hook.body = super::BodyKind::Form;
        let _ = request.to(&hook);
    }
}
