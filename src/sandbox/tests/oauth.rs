//! The sandbox's OAuth server.

use std::time::Duration;

use serde_json::Value;

use super::read;
use crate::sandbox::*;

struct Bench(Sandbox);

impl Bench {
    fn new(options: SandboxOptions) -> Self {
        Self(Sandbox::new(options, Clock::simulated(Timestamp(1_770_000_000_000))))
    }

    fn url(client_id: &str) -> String {
        let redirect = "redirect_uri=http%3A%2F%2F127.0.0.1%3A8400%2Fcallback";
        format!(
            "https://uaa.reteno.com/uaa/oauth/authorize?response_type=code&client_id={client_id}&{redirect}&state=s%26t"
        )
    }

    fn code(&self) -> String {
        let callback = url::Url::parse(&self.0.authorize(&Self::url("sandbox-client"), true).unwrap()).unwrap();
        let pairs: std::collections::BTreeMap<_, _> = callback.query_pairs().into_owned().collect();
        assert_eq!(pairs["state"], "s&t");
        pairs["code"].clone()
    }

    /// A token call with the client in the parameters.
    fn token(&self, parameters: &[(&str, &str)]) -> (u16, Value) {
        read(self.token_outcome(parameters))
    }

    fn token_outcome(&self, parameters: &[(&str, &str)]) -> Outcome {
        let client = [("client_id", "sandbox-client"), ("client_secret", "sandbox-secret")];
        let all = client.iter().chain(parameters);
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(all).finish();
        self.0.answer(post(body, None))
    }

    fn exchange(&self, code: &str) -> (u16, Value) {
        self.token(&[("grant_type", "authorization_code"), ("code", code), REDIRECT])
    }

    fn refresh(&self, code: &str, token: &str) -> (u16, Value) {
        self.token(&[("grant_type", "refresh_token"), ("code", code), ("refresh_token", token)])
    }

    fn version(&self, token: &str) -> u16 {
        let request =
            http::Request::get("https://reteno.com/api/v2/version").header("Authorization", format!("Bearer {token}"));
        read(self.0.answer(request.body(Bytes::new()).unwrap())).0
    }
}

const REDIRECT: (&str, &str) = ("redirect_uri", "http://127.0.0.1:8400/callback");

fn post(body: String, basic: Option<&str>) -> http::Request<Bytes> {
    let mut request = http::Request::post("https://uaa.reteno.com/uaa/oauth/token")
        .header("Content-Type", "application/x-www-form-urlencoded");
    if let Some(basic) = basic {
        request = request.header("Authorization", format!("Basic {basic}"));
    }
    request.body(Bytes::from(body)).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn code_works_once_for_ten_minutes_and_for_its_client() {
    let bench = Bench::new(SandboxOptions::default());
    let code = bench.code();
    let (status, answer) = bench.exchange(&code);
    assert_eq!((status, &answer["token_type"], &answer["expires_in"]), (200, &"bearer".into(), &172_800.into()));
    assert_eq!(answer["scope"], "UseRestApi");
    assert_eq!(bench.version(&text(&answer["access_token"])), 200);
    let (status, again) = bench.exchange(&code);
    assert_eq!((status, &again["error"]), (400, &"invalid_grant".into()), "used");

    let late = bench.code();
    tokio::time::advance(Duration::from_mins(10)).await;
    assert_eq!(bench.exchange(&late).1["error"], "invalid_grant", "expired");
    let code = bench.code();
    let elsewhere = [("grant_type", "authorization_code"), ("code", code.as_str()), ("redirect_uri", "http://x/")];
    assert_eq!(bench.token(&elsewhere).0, 400);
    assert_eq!(bench.token(&elsewhere[..2]).1["error"], "invalid_request");
    assert_eq!(bench.exchange(&code).0, 200, "refused calls use nothing up");
    tokio::time::advance(Duration::from_hours(48)).await;
    assert_eq!(bench.version(&text(&answer["access_token"])), 401);
}

#[tokio::test(start_paused = true)]
async fn authorization_page_refuses_strangers_and_reports_a_refusal() {
    let bench = Bench::new(SandboxOptions::default());
    assert!(bench.0.authorize(&Bench::url("other"), true).is_err());
    assert!(bench.0.authorize(&Bench::url("sandbox-client").replace("8400", "8401"), true).is_err());
    let refused = bench.0.authorize(&Bench::url("sandbox-client"), false).unwrap();
    assert!(refused.starts_with("http://127.0.0.1:8400/callback?error=access_denied"), "{refused}");
    assert!(refused.ends_with("&state=s%26t"));
    let page = http::Request::get(Bench::url("sandbox-client")).body(Bytes::new()).unwrap();
    let (status, html) = read(bench.0.answer(page));
    assert_eq!(status, 200);
    assert!(html.as_str().unwrap().contains("&amp;auto=allow\""));
}

#[tokio::test(start_paused = true)]
async fn client_is_known_by_basic_or_by_parameters() {
    let bench = Bench::new(SandboxOptions::default());
    let form = |code: &str| {
        format!("grant_type=authorization_code&code={code}&redirect_uri=http%3A%2F%2F127.0.0.1%3A8400%2Fcallback")
    };
    let basic = "c2FuZGJveC1jbGllbnQ6c2FuZGJveC1zZWNyZXQ="; // sandbox-client:sandbox-secret
    let (status, _) = read(bench.0.answer(post(form(&bench.code()), Some(basic))));
    assert_eq!(status, 200);
    let (status, answer) = read(bench.0.answer(post(form(&bench.code()), Some("c2FuZGJveC1jbGllbnQ6b3RoZXI="))));
    assert_eq!((status, &answer["error"]), (401, &"invalid_client".into()));
    assert_eq!(read(bench.0.answer(post(form(&bench.code()), None))).0, 401);
    let both = format!("{}&client_secret=sandbox-secret", form(&bench.code()));
    assert_eq!(read(bench.0.answer(post(both, Some(basic)))).1["error"], "invalid_request");
    let twice = format!("{}&code=x", form(&bench.code()));
    assert_eq!(read(bench.0.answer(post(twice, Some(basic)))).0, 400);
}

#[tokio::test(start_paused = true)]
async fn refresh_insists_on_code_and_last_token() {
    let bench = Bench::new(SandboxOptions::default());
    let code = bench.code();
    let first = bench.exchange(&code).1;
    let old = text(&first["refresh_token"]);
    let without_code = [("grant_type", "refresh_token"), ("refresh_token", old.as_str())];
    assert_eq!(bench.token(&without_code).0, 400);
    assert_eq!(bench.refresh(&bench.code(), &old).1["error"], "invalid_grant", "another code");
    let (status, second) = bench.refresh(&code, &old);
    assert_eq!(status, 200);
    assert_ne!(second["refresh_token"], first["refresh_token"]);
    assert_ne!(second["access_token"], first["access_token"]);
    assert_eq!(bench.version(&text(&first["access_token"])), 200, "the old access token lives on");
    assert_eq!(bench.refresh(&code, &old).1["error"], "invalid_grant", "replaced");
    tokio::time::advance(Duration::from_hours(720)).await;
    assert_eq!(bench.refresh(&code, &text(&second["refresh_token"])).0, 400, "died unused");
}

#[tokio::test(start_paused = true)]
async fn lost_refresh_answer_leaves_the_old_token_until_the_new_one_is_used() {
    for (grace, works) in [(RefreshGrace::WhenLost, true), (RefreshGrace::Never, false)] {
        let bench = Bench::new(SandboxOptions { refresh_grace: grace, ..SandboxOptions::default() });
        let held = bench.0.issue_tokens();
        bench.0.fault(Fault::on(CallKind::TokenRefresh, Effect::LoseAnswer));
        let parameters =
            [("grant_type", "refresh_token"), ("code", &held.code), ("refresh_token", &held.refresh_token)];
        assert!(matches!(bench.token_outcome(&parameters), Outcome::LostAfter));
        assert_eq!(bench.refresh(&held.code, &held.refresh_token).0 == 200, works);
    }
    let bench = Bench::new(SandboxOptions { refresh_grace: RefreshGrace::UntilUsed, ..SandboxOptions::default() });
    let held = bench.0.issue_tokens();
    let next = bench.refresh(&held.code, &held.refresh_token).1;
    let again = bench.refresh(&held.code, &held.refresh_token);
    assert_eq!(again.0, 200);
    assert_eq!(bench.refresh(&held.code, &text(&next["refresh_token"])).0, 400, "its successor was replaced");
    assert_eq!(bench.version(&text(&again.1["access_token"])), 200);
    assert_eq!(bench.refresh(&held.code, &held.refresh_token).0, 400, "the new access token was used");
}

#[tokio::test(start_paused = true)]
async fn tokens_can_expire_be_revoked_or_be_handed_out_again() {
    let bench = Bench::new(SandboxOptions { reuse_living_token: true, ..SandboxOptions::default() });
    let held = bench.0.issue_tokens();
    tokio::time::advance(Duration::from_secs(259)).await;
    let (_, again) = bench.refresh(&held.code, &held.refresh_token);
    assert_eq!((&again["access_token"], &again["expires_in"]), (&held.access_token.as_str().into(), &172_541.into()));
    bench.0.expire_access_tokens();
    assert_eq!(bench.version(&held.access_token), 401);
    let (_, fresh) = bench.refresh(&held.code, &text(&again["refresh_token"]));
    assert_eq!(bench.version(&text(&fresh["access_token"])), 200);
    bench.0.revoke_authorization();
    assert_eq!(bench.version(&text(&fresh["access_token"])), 401);
    assert_eq!(bench.refresh(&held.code, &text(&fresh["refresh_token"])).1["error"], "invalid_grant");

    let bench = Bench::new(SandboxOptions { revoke_on_refresh: true, ..SandboxOptions::default() });
    let held = bench.0.issue_tokens();
    assert_eq!(bench.refresh(&held.code, &held.refresh_token).0, 200);
    assert_eq!(bench.version(&held.access_token), 401);
}

#[tokio::test(start_paused = true)]
async fn token_bodies_are_not_kept() {
    let bench = Bench::new(SandboxOptions::default());
    bench.exchange(&bench.code());
    let calls = bench.0.calls();
    let call = calls.iter().find(|call| call.kind == CallKind::TokenExchange).unwrap();
    assert_eq!((call.status, &call.body), (Some(200), &None));
}
