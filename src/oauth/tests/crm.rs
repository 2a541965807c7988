//! Tokens of CRMs: each form of request and answer against scripted answers, most of them the vendors' own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::http::Response;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use oauth2::{AuthorizationCode, TokenUrl};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use serde_json_path::JsonPath;
use url::{Url, form_urlencoded};

use super::scripted::{Answer, Script, Seen, app, grant, invalid_grant, lost, status, tokens};
use crate::clock::{Clock, Timestamp};
use crate::oauth::authorize::{Authorizer, Mandate, PendingAuthorization};
use crate::oauth::authorizers::Authorizers;
use crate::oauth::desk::{AuthorizationDesk, Settled};
use crate::oauth::dialect::{AnswerShape, Basis, Dialect, Statement, TokenBody};
use crate::oauth::endpoint::{App, ClientAuth, TokenEndpoint};
use crate::oauth::memory::{MemoryDesk, MemoryVault};
use crate::oauth::party::Party;
use crate::oauth::reaction::{TokenError, react};
use crate::oauth::refresher::Refresher;
use crate::oauth::standing::Standing;
use crate::oauth::token::{Condition, Grant, NoToken};
use crate::oauth::vault::{GrantVault, VaultError};
use crate::random::Random;

const START: Timestamp = Timestamp(1_700_000_000_000);
const HOUR: Duration = Duration::from_hours(1);

/// A CRM's dialect in its plainest form.
fn dialect() -> Dialect {
    Dialect {
        party: Party::Crm("crm".to_owned()),
        basis: Basis::Consent { repeats_code: false },
        body: TokenBody::Form,
        scope: None,
        extra: Vec::new(),
        authorize_extra: Vec::new(),
        answer: AnswerShape { is_crm: true, lifetime_default: HOUR, base_url: None, error: None },
        refresh_token_lifetime: None,
    }
}

fn crm(dialect: Dialect) -> App {
    App { client_auth: ClientAuth::Params, ..app().speaking(dialect) }
}

fn path(text: &str) -> Option<JsonPath> {
    JsonPath::parse(text).ok()
}

fn fixture(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/crm").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn answered(name: &str) -> Answer {
    status(200, &fixture(name))
}

/// A memory vault whose writes can be made to fail.
#[derive(Default)]
struct Vault {
    inner: MemoryVault,
    store_fails: AtomicBool,
}

impl GrantVault for Vault {
    fn load(&self) -> BoxFuture<'_, Result<Option<Grant>, VaultError>> {
        GrantVault::load(&self.inner)
    }

    fn reserve(&self) -> BoxFuture<'_, Result<(), VaultError>> {
        ready(Ok(())).boxed()
    }

    fn store<'a>(&'a self, grant: &'a Grant) -> BoxFuture<'a, Result<(), VaultError>> {
        if self.store_fails.load(Ordering::SeqCst) {
            return ready(Err(VaultError::Store { source: "disk full".into(), hint: None })).boxed();
        }
        self.inner.store(grant)
    }
}

/// One CRM, its tokens and what was asked of it.
struct World {
    app: Arc<App>,
    script: Arc<Script>,
    vault: Arc<Vault>,
    clock: Clock,
    folder: tempfile::TempDir,
    refresher: Refresher,
}

impl World {
    fn empty(app: App, answers: Vec<Answer>) -> Self {
        Self::slow(app, answers, Duration::ZERO)
    }

    fn slow(app: App, answers: Vec<Answer>, delay: Duration) -> Self {
        let (app, script, vault) = (Arc::new(app), Script::slow(answers, delay), Arc::new(Vault::default()));
        let (clock, folder) = (Clock::simulated(START), tempfile::tempdir().unwrap());
        let refresher = build(&app, &script, &vault, (&clock, &folder));
        Self { app, script, vault, clock, folder, refresher }
    }

    /// A grant of an hour that is due for renewal.
    async fn due(app: App, answers: Vec<Answer>) -> Self {
        let world = Self::empty(app, answers);
        world.vault.store(&grant(START, HOUR)).await.unwrap();
        tokio::time::sleep(HOUR / 2).await;
        world
    }

    /// Another process, which knows nothing but the vault.
    fn restarted(&self) -> Refresher {
        build(&self.app, &self.script, &self.vault, (&self.clock, &self.folder))
    }

    async fn token(&self) -> String {
        given(self.refresher.access_token().await)
    }

    async fn stored(&self) -> Grant {
        self.vault.load().await.unwrap().unwrap()
    }

    fn seen(&self) -> Seen {
        self.script.seen().pop().expect("something was asked")
    }
}

fn build(
    app: &Arc<App>,
    script: &Arc<Script>,
    vault: &Arc<Vault>,
    (clock, folder): (&Clock, &tempfile::TempDir),
) -> Refresher {
    let endpoint = TokenEndpoint::new(script.clone(), app.clone(), clock.clone());
    let lock = folder.path().join("refresh-crm.lock");
    Refresher::new(endpoint, vault.clone(), lock, clock.clone(), Random::seeded(1))
}

fn given(outcome: Result<SecretString, NoToken>) -> String {
    match outcome {
        Ok(token) => token.expose_secret().to_owned(),
        Err(NoToken::NeedsAuthorization) => "needs authorization".to_owned(),
        Err(NoToken::Temporarily(why)) => format!("temporarily: {why}"),
    }
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    form_urlencoded::parse(text.as_bytes()).into_owned().collect()
}

// Requests.

#[tokio::test(start_paused = true)]
async fn amocrm_is_asked_with_json_its_redirect_and_no_code_and_its_rotated_pair_is_kept() {
    let expected: BTreeMap<String, String> =
        serde_json::from_str(&fixture("amocrm/oauth_refresh_request.json")).unwrap();
    let mut app = crm(Dialect { body: TokenBody::Json, ..dialect() });
    app.client_id = oauth2::ClientId::new(expected["client_id"].clone());
    app.client_secret = Some(oauth2::ClientSecret::new(expected["client_secret"].clone()));
    app.redirect_uri = oauth2::RedirectUrl::new(expected["redirect_uri"].clone()).unwrap();
    let world = World::empty(app, vec![answered("amocrm/oauth_token_response.json")]);
    let old = SecretString::from(expected["refresh_token"].clone());
    world.vault.store(&Grant { refresh_token: old, ..grant(START, HOUR) }).await.unwrap();
    tokio::time::sleep(HOUR / 2).await;
    assert_eq!(world.token().await, "EXAMPLE_ACCESS_JWT");
    let seen = world.seen();
    assert_eq!(serde_json::from_str::<BTreeMap<String, String>>(&seen.body).unwrap(), expected);
    assert_eq!((seen.method.as_str(), seen.content_type.as_deref()), ("POST", Some("application/json")));
    let stored = world.stored().await;
    assert_eq!(stored.refresh_token.expose_secret(), "EXAMPLE_NEW_REFRESH_TOKEN");
    assert_eq!(stored.expires_in, Duration::from_hours(24));
}

#[tokio::test(start_paused = true)]
async fn bitrix24_is_asked_by_a_query() {
    let app = crm(Dialect { body: TokenBody::Query, ..dialect() });
    let world = World::due(app, vec![answered("bitrix24/oauth_token_response.json")]).await;
    assert_eq!(world.token().await, "EXAMPLE_ACCESS");
    let seen = world.seen();
    assert_eq!((seen.method.as_str(), seen.body.as_str(), seen.content_type), ("GET", "", None));
    let sent = pairs(Url::parse(&seen.uri).unwrap().query().unwrap());
    assert_eq!((sent["grant_type"].as_str(), sent["refresh_token"].as_str()), ("refresh_token", "refresh-0"));
    assert_eq!((sent["client_id"].as_str(), sent["client_secret"].as_str()), ("client-id", "s: cret"));
    assert_eq!(world.stored().await.refresh_token.expose_secret(), "EXAMPLE_NEW_REFRESH");
}

#[tokio::test(start_paused = true)]
async fn pipedrive_is_asked_by_a_form_with_basic_and_names_its_host() {
    let answer = AnswerShape { base_url: path("$.api_domain"), ..dialect().answer };
    let app = App { client_auth: ClientAuth::Basic, ..crm(Dialect { answer, ..dialect() }) };
    let world = World::due(app, vec![answered("pipedrive/oauth_token_response.json"), tokens(2)]).await;
    assert_eq!(world.refresher.base_url(), None);
    assert_eq!(world.token().await, "EXAMPLE_ACCESS_TOKEN");
    let seen = world.seen();
    assert_eq!(seen.authorization.as_deref(), Some("Basic Y2xpZW50LWlkOnMlM0ErY3JldA=="));
    let sent = pairs(&seen.body);
    assert_eq!(sent.keys().map(String::as_str).collect::<Vec<_>>(), ["grant_type", "redirect_uri", "refresh_token"]);
    assert_eq!(world.refresher.base_url().as_deref(), Some("https://examplecrm.pipedrive.com"));
    // an answer that does not name it again leaves it
    tokio::time::sleep(HOUR).await;
    assert_eq!(world.token().await, "access-2");
    assert_eq!(world.refresher.base_url().as_deref(), Some("https://examplecrm.pipedrive.com"));
}

#[tokio::test(start_paused = true)]
async fn further_parameters_are_sent_and_win_over_ours() {
    let extra = |name: &str, value: &str| (name.to_owned(), SecretString::from(value.to_owned()));
    let extra = vec![extra("redirect_uri", "urn:other"), extra("resource", "a&b")];
    let world =
        World::due(crm(Dialect { extra, ..dialect() }), vec![answered("hubspot/oauth_token_response.json")]).await;
    assert_eq!(world.token().await, "EXAMPLE_ACCESS_TOKEN");
    let body = world.seen().body;
    assert_eq!(body.matches("redirect_uri=").count(), 1, "{body}");
    assert_eq!((pairs(&body)["redirect_uri"].as_str(), pairs(&body)["resource"].as_str()), ("urn:other", "a&b"));
}

// Answers.

#[tokio::test(start_paused = true)]
async fn salesforce_says_no_lifetime_and_no_new_refresh_token() {
    let answer = AnswerShape { base_url: path("$.instance_url"), lifetime_default: 2 * HOUR, ..dialect().answer };
    let app = crm(Dialect { answer, ..dialect() });
    let world = World::due(app, vec![answered("salesforce/oauth_token_response.json")]).await;
    assert_eq!(world.token().await, "00D5g00000EXAMPLE!ACCESS");
    let stored = world.stored().await;
    assert_eq!((stored.expires_in, stored.refresh_token.expose_secret()), (2 * HOUR, "refresh-0"));
    assert_eq!(stored.base_url.as_deref(), Some("https://example-org.my.salesforce.com"));
    assert_eq!(world.restarted().access_token().await.unwrap().expose_secret(), "00D5g00000EXAMPLE!ACCESS");
}

#[tokio::test(start_paused = true)]
async fn zohos_error_in_a_200_ends_the_grant_and_its_access_token_serves_until_its_end() {
    let answer = AnswerShape { base_url: path("$.api_domain"), error: path("$.error"), ..dialect().answer };
    let app = crm(Dialect { answer, ..dialect() });
    let answers =
        vec![answered("zoho/oauth_token_response.json"), answered("zoho/oauth_token_invalid_code_http200.json")];
    let world = World::due(app, answers).await;
    assert_eq!(world.token().await, "1000.EXAMPLE.ACCESS");
    assert_eq!(world.stored().await.refresh_token.expose_secret(), "refresh-0");
    tokio::time::sleep(HOUR / 2).await;
    assert_eq!(world.token().await, "1000.EXAMPLE.ACCESS");
    let Standing::Granted { condition: Condition::NeedsAuthorization { reason, .. }, .. } =
        world.refresher.condition().await
    else {
        panic!("a person is needed")
    };
    assert!(reason.contains("the CRM of source crm refused") && !reason.contains("reteno"), "{reason}");
    tokio::time::sleep(HOUR / 2).await;
    assert_eq!(world.token().await, "needs authorization");
    assert_eq!(world.script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn words_of_crms_for_a_dead_token_and_a_wrong_client() {
    #[rustfmt::skip]
    let rows = [
        // status, body, path of the error, what it means
        (400, r#"{"error":"invalid_grant","status":"BAD_REFRESH_TOKEN"}"#, None, "dead"),
        (400, r#"{"status":"BAD_REFRESH_TOKEN","message":"secret"}"#, Some("$.status"), "dead"),
        (401, r#"{"hint":"Token has been revoked","title":"x","status":401}"#, Some("$.hint"), "dead"),
        (200, r#"{"error":"invalid_client"}"#, Some("$.error"), "client"),
        (400, r#"{"error":"invalid_client_id"}"#, None, "client"),
        (400, r#"{"error":"wrong_client"}"#, None, "client"),
        (400, r#"{"error":"Access Denied"}"#, Some("$.error"), "other AccessDenied"),
        // an error wins over tokens that stand beside it
        (200, r#"{"access_token":"A","error":"scope_mismatch"}"#, Some("$.error"), "other scope_mismatch"),
        (200, r#"{"access_token":"A","error":null}"#, Some("$.error"), "tokens"),
        (200, r#"{"access_token":"A","token_type":"Zoho-oauthtoken"}"#, None, "tokens"),
        (200, "<html>sign in</html>", Some("$.error"), "other"),
        (500, r#"{"error":"invalid_code"}"#, Some("$.error"), "temporary"),
    ];
    for (code, body, place, expected) in rows {
        let answer = AnswerShape { error: place.and_then(path), ..dialect().answer };
        let endpoint = TokenEndpoint::new(
            Script::of(vec![status(code, body)]),
            Arc::new(crm(Dialect { answer, ..dialect() })),
            Clock::simulated(START),
        );
        let meant = match endpoint.refresh(&grant(START, HOUR)).await {
            Ok(_) => "tokens".to_owned(),
            Err(TokenError::InvalidGrant) => "dead".to_owned(),
            Err(TokenError::InvalidClient) => "client".to_owned(),
            Err(TokenError::OtherRefusal { code }) => format!("other {code}"),
            Err(TokenError::Temporary { .. }) => "temporary".to_owned(),
            Err(TokenError::Uncertain { .. } | TokenError::NotUnderstood { .. }) => "other".to_owned(),
        };
        assert_eq!(meant, expected, "{code} {body}");
    }
}

/// Every refused answer costs the grant: the refresh token that it brought is the only one that still works.
#[test]
fn what_cannot_be_kept_of_a_token_answer_costs_no_token() {
    let bodies: [&[u8]; 6] = [
        b"\xef\xbb\xbf{\"access_token\":\"A\",\"refresh_token\":\"R\"}",
        b"{\"access_token\":\"A\",\"refresh_token\":\"R\",\"expires_in\":NaN}",
        b"{\"access_token\":\"A\",\"refresh_token\":\"R\",\"user\":{\"name\":\"\\ud83d\"}}",
        b"{\"access_token\":\"A\",\"refresh_token\":\"R\",\"scope\":\"\xff\",\"token_type\":7}",
        b"{\"access_token\":\"A\",\"refresh_token\":\"R\",\"id\":1,\"id\":2}",
        b"{\"access_token\":\"A\",\"refresh_token\":\"R\",\"account\":123456789012345678901234567890}",
    ];
    for body in bodies {
        let answer = Response::new(Bytes::from_static(body));
        let given = react(Ok(answer), &AnswerShape::reteno()).expect("tokens");
        let refresh_token = given.refresh_token.expect("a refresh token");
        assert_eq!((given.access_token.expose_secret(), refresh_token.expose_secret()), ("A", "R"));
    }
    for body in ["{\"access_token\":\"A\",\"refr", "{\"access_token\":\"A\"", ""] {
        let cut = react(Ok(Response::new(Bytes::from(body))), &AnswerShape::reteno());
        assert!(matches!(cut, Err(TokenError::Uncertain { .. })), "{body}: asked for again with the old token");
    }
    let many = format!("{{\"access_token\":\"A\",\"x\":[{}0]}}", "{},".repeat(100_000));
    let refused = react(Ok(Response::new(Bytes::from(many))), &AnswerShape::reteno());
    assert!(matches!(refused, Err(TokenError::NotUnderstood { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_host_to_which_no_token_may_be_sent_counts_as_none() {
    #[rustfmt::skip]
    let rows = [
        ("https://a.example/", Some("https://a.example")),
        ("http://127.0.0.1:8400", None),
        ("https://127.0.0.1:9200", None),
        ("https://localhost", None),
        ("https://x.localhost.", None),
        ("https://[::1]", None),
        ("https://[::ffff:127.0.0.1]", None),
        ("https://0.0.0.0", None),
        ("https://169.254.169.254", None),
        ("http://a.example", None),
        ("https://user:pw@a.example", None),
        ("https://a.example/?x=1", None),
        ("a.example", None),
        ("", None),
    ];
    for (told, expected) in rows {
        let answer = AnswerShape { base_url: path("$.host"), ..dialect().answer };
        let body = serde_json::json!({ "access_token": "A", "host": told }).to_string();
        let world = World::due(crm(Dialect { answer, ..dialect() }), vec![status(200, &body)]).await;
        assert_eq!(world.token().await, "A");
        assert_eq!(world.refresher.base_url().as_deref(), expected, "{told}");
    }
}

/// A CRM on this machine, as in a rehearsal.
#[test]
fn a_service_of_this_machine_is_named_only_by_itself() {
    let token_url = TokenUrl::new("http://127.0.0.1:8400/token".to_owned()).unwrap();
    let app = App { token_url, ..crm(dialect()) };
    for (told, is_right) in [
        ("http://127.0.0.1:8400", true),
        ("http://127.0.0.1:8400/api", true),
        ("http://127.0.0.1:9200", false),
        ("https://127.0.0.1:8400", false),
        ("http://localhost:8400", false),
        ("https://a.example", true),
    ] {
        assert_eq!(app.may_name(told), is_right, "{told}");
    }
}

// What rotates is safe.

#[tokio::test(start_paused = true)]
async fn a_rotated_pair_is_durable_before_it_is_used() {
    let world = World::due(crm(dialect()), vec![tokens(1)]).await;
    world.vault.store_fails.store(true, Ordering::SeqCst);
    assert_eq!(world.token().await, "access-0", "the new one is not on disk");
    world.vault.store_fails.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(world.token().await, "access-1");
    assert_eq!(world.script.count(), 1, "what was received is stored, not asked for again");
    assert_eq!(world.stored().await.refresh_token.expose_secret(), "refresh-1");
}

#[tokio::test(start_paused = true)]
async fn a_process_killed_between_answer_and_store_leaves_the_old_token_to_be_tried_again() {
    let world = World::due(crm(dialect()), vec![Err(lost()), tokens(1)]).await;
    assert_eq!(world.token().await, "access-0");
    let next = world.restarted();
    assert_eq!(given(next.access_token().await), "access-1");
    for seen in world.script.seen() {
        assert_eq!(pairs(&seen.body)["refresh_token"], "refresh-0");
    }
}

#[tokio::test(start_paused = true)]
async fn two_processes_and_many_callers_renew_once() {
    let world = World::slow(crm(dialect()), vec![tokens(1)], Duration::from_secs(3));
    world.vault.store(&grant(START, HOUR)).await.unwrap();
    let other = world.restarted();
    given(other.access_token().await);
    tokio::time::sleep(HOUR).await;
    let ours = (0..10).map(|_| world.refresher.access_token());
    let theirs = (0..10).map(|_| other.access_token());
    let all = futures_util::future::join_all(ours.chain(theirs)).await;
    assert!(all.into_iter().map(given).all(|token| token == "access-1"));
    assert_eq!(world.script.count(), 1);
}

// Without any person.

#[tokio::test(start_paused = true)]
async fn client_credentials_give_the_first_token_and_each_further_one() {
    let dialect = Dialect { basis: Basis::ClientCredentials, scope: Some("a b".to_owned()), ..dialect() };
    let answers = vec![answered("creatio/oauth_token_response.json"), tokens(2)];
    let world = World::slow(crm(dialect), answers, Duration::from_secs(1));
    let all = futures_util::future::join_all((0..5).map(|_| world.refresher.access_token())).await;
    assert!(all.into_iter().map(given).all(|token| token == "EXAMPLE_ACCESS"));
    assert_eq!(world.script.count(), 1);
    let form = "grant_type=client_credentials&scope=a+b&client_id=client-id&client_secret=s%3A+cret";
    assert_eq!(world.seen().body, form);
    assert_eq!(given(world.restarted().access_token().await), "EXAMPLE_ACCESS", "it is kept across restarts");
    tokio::time::sleep(HOUR / 2).await;
    assert_eq!(world.token().await, "access-2");
    assert_eq!(world.seen().body, form, "no refresh token is used, even where one was given");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_credentials_asks_no_person_and_is_tried_again_ever_more_rarely() {
    let dialect = Dialect { basis: Basis::ClientCredentials, ..dialect() };
    let answers = vec![invalid_grant(), status(401, r#"{"error":"invalid_client"}"#), tokens(1)];
    let world = World::empty(crm(dialect), answers);
    assert!(world.token().await.starts_with("temporarily: the CRM of source crm refused"), "{}", world.token().await);
    assert_eq!(world.script.count(), 1, "within the wait nothing is asked");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(world.token().await.contains("refused the client id or secret"));
    let next = world.refresher.tick().await;
    assert!(next.since(world.clock.now()) >= Duration::from_secs(1), "a tick that spins");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert_eq!(world.token().await, "access-1");
    assert_eq!(world.script.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_credentials_that_is_refused_is_replaced_once() {
    let dialect = Dialect { basis: Basis::ClientCredentials, ..dialect() };
    let world = World::empty(crm(dialect), vec![tokens(1), tokens(2)]);
    assert_eq!(world.token().await, "access-1");
    let refused = SecretString::from("access-1".to_owned());
    assert_eq!(given(world.refresher.refused(&refused).await), "access-2");
    assert_eq!(given(world.refresher.refused(&refused).await), "access-2");
    assert_eq!(world.script.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_statement_is_signed_for_its_reader_and_lives_for_minutes() {
    let key = Arc::new(KeyPair::generate(KeySize::Rsa2048).unwrap());
    let statement = Statement {
        issuer: "client-id".to_owned(),
        subject: "sync@example.com".to_owned(),
        audience: "https://login.example".to_owned(),
        key: key.clone(),
    };
    let dialect = Dialect { basis: Basis::Statement(statement), ..dialect() };
    let app = App { client_secret: None, ..crm(dialect) };
    assert!(!format!("{app:?}").contains("PRIVATE"));
    let world = World::empty(app, vec![answered("salesforce/oauth_token_response.json")]);
    assert_eq!(world.token().await, "00D5g00000EXAMPLE!ACCESS");
    let seen = world.seen();
    let sent = pairs(&seen.body);
    assert_eq!(sent.keys().map(String::as_str).collect::<Vec<_>>(), ["assertion", "grant_type"]);
    assert_eq!(sent["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert_eq!(seen.authorization, None);

    let (signed, signature) = sent["assertion"].rsplit_once('.').unwrap();
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref());
    public.verify(signed.as_bytes(), &decode(signature)).unwrap();
    assert!(public.verify(b"another", &decode(signature)).is_err());

    let (header, claims) = signed.split_once('.').unwrap();
    let read = |text: &str| serde_json::from_slice::<Value>(&decode(text)).unwrap();
    assert_eq!(read(header), serde_json::json!({ "alg": "RS256", "typ": "JWT" }));
    let claims = read(claims);
    assert_eq!(
        (claims["iss"].as_str(), claims["sub"].as_str(), claims["aud"].as_str()),
        (Some("client-id"), Some("sync@example.com"), Some("https://login.example"))
    );
    let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert!((60..=300).contains(&life) && claims["iat"] == START.0 / 1000, "{claims}");
}

// The authorization run.

fn authorizer(app: App, answers: Vec<Answer>, source: &str) -> (Arc<Authorizer>, Arc<MemoryVault>, tempfile::TempDir) {
    let (vault, folder) = (Arc::new(MemoryVault::default()), tempfile::tempdir().unwrap());
    let clock = Clock::simulated(START);
    let endpoint = TokenEndpoint::new(Script::of(answers), Arc::new(app), clock.clone());
    let mandate = Mandate { source: source.to_owned(), allows_new_account: false, program: "prog".to_owned() };
    let lock = folder.path().join(format!("refresh-{source}.lock"));
    (Arc::new(Authorizer::new(endpoint, vault.clone(), lock, clock, mandate)), vault, folder)
}

#[test]
fn the_page_is_opened_with_the_scope_and_the_crms_own_parameters() {
    let authorize_extra = vec![("access_type".to_owned(), "offline".to_owned())];
    let app = crm(Dialect { scope: Some("contacts.read".to_owned()), authorize_extra, ..dialect() });
    let pending = PendingAuthorization::begin(&app, &Random::seeded(7));
    let sent: BTreeMap<String, String> = pending.url.query_pairs().into_owned().collect();
    assert_eq!((sent["scope"].as_str(), sent["access_type"].as_str()), ("contacts.read", "offline"));
    assert_eq!((sent["state"].as_str(), sent["client_id"].as_str()), (pending.state.secret().as_str(), "client-id"));
}

#[tokio::test(start_paused = true)]
async fn a_callback_is_completed_by_the_one_that_is_pending() {
    let (reteno, of_reteno, _first) = authorizer(app(), vec![tokens(1)], "reteno");
    let (crm, of_crm, _second) = authorizer(crm(dialect()), vec![tokens(2)], "crm");
    let (all, desk) = (Authorizers::of(reteno.clone(), [crm.clone()]), MemoryDesk::default());

    let (pending, _) = crm.begin(&desk, &Random::seeded(7)).await.unwrap();
    // amoCRM adds whose account it was
    let query = format!("code=C1&state={}&referer=example.amocrm.ru&client_id=x", pending.state.secret());
    let (page, source) = all.complete_callback(&desk, &query).await;
    assert_eq!((page.status, source.as_deref()), (200, Some("crm")), "{page:?}");
    assert_eq!(page.message, "reteno-sync may now read the CRM of source crm.");
    assert!(GrantVault::load(&*of_reteno).await.unwrap().is_none());
    let granted = GrantVault::load(&*of_crm).await.unwrap().unwrap();
    assert_eq!((granted.access_token.expose_secret(), granted.code.expose_secret()), ("access-2", "C1"));

    let (pending, _) = reteno.begin(&desk, &Random::seeded(8)).await.unwrap();
    let query = format!("code=C2&state={}", pending.state.secret());
    let (page, source) = all.complete_callback(&desk, &query).await;
    assert_eq!((page.status, source), (200, None), "{page:?}");
    assert_eq!(GrantVault::load(&*of_reteno).await.unwrap().unwrap().access_token.expose_secret(), "access-1");
}

#[tokio::test(start_paused = true)]
async fn what_a_crm_refuses_is_told_with_its_source_and_its_command() {
    let (crm, vault, _folder) = authorizer(crm(dialect()), vec![invalid_grant()], "crm");
    let (reteno, _, _other) = authorizer(app(), Vec::new(), "reteno");
    let (all, desk) = (Authorizers::of(reteno, [crm.clone()]), MemoryDesk::default());
    let (pending, _) = crm.begin(&desk, &Random::seeded(7)).await.unwrap();
    let (page, _) = all.complete_callback(&desk, &format!("code=C1&state={}", pending.state.secret())).await;
    assert_eq!(page.status, 400);
    assert!(page.message.starts_with("the CRM of source crm refused the authorization code"), "{page:?}");
    assert!(page.hint.unwrap().contains("`prog --authorize --source crm`"));
    let Some((_, Some(Settled::Failed { message, .. }))) = desk.pending().await.unwrap() else {
        panic!("it is settled")
    };
    assert_eq!(message, page.message);
    assert!(GrantVault::load(&*vault).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_needs_what_only_a_first_answer_gives() {
    let body = fixture("zoho/oauth_token_response.json");
    let (crm, _, _folder) = authorizer(crm(dialect()), vec![status(200, &body)], "crm");
    let (reteno, _, _other) = authorizer(app(), Vec::new(), "reteno");
    let (all, desk) = (Authorizers::of(reteno, [crm.clone()]), MemoryDesk::default());
    let (pending, _) = crm.begin(&desk, &Random::seeded(7)).await.unwrap();
    let (page, _) = all.complete_callback(&desk, &format!("code=C1&state={}", pending.state.secret())).await;
    assert!(page.message.contains("gave no refresh token") && page.hint.unwrap().contains("authorize_extra"));
}

#[tokio::test(start_paused = true)]
async fn a_grant_kept_by_an_older_version_is_read() {
    let form = r#"{"access_token":"A","refresh_token":"R","code":"C","requested_at":1,"expires_in_ms":2,"scope":null,"authorized_at":1,"condition":"active","serial":3}"#;
    let grant = Grant::from_sealed_form(form).unwrap();
    assert_eq!((grant.serial, grant.base_url.as_deref()), (3, None));
    assert_eq!(grant.to_sealed_form().expose_secret(), form);
}

#[tokio::test(start_paused = true)]
async fn nobody_has_granted_anything_before_a_person_did() {
    let endpoint = TokenEndpoint::new(Script::of(Vec::new()), Arc::new(crm(dialect())), Clock::simulated(START));
    assert!(matches!(endpoint.obtain().await, Err(TokenError::InvalidGrant)));
    let world = World::empty(crm(dialect()), Vec::new());
    assert_eq!(world.token().await, "needs authorization");
    // a code is exchanged with its redirect, as at Reteno
    let script = Script::of(vec![tokens(1)]);
    let endpoint = TokenEndpoint::new(script.clone(), Arc::new(crm(dialect())), Clock::simulated(START));
    endpoint.exchange_code(&AuthorizationCode::new("C".to_owned())).await.unwrap();
    assert!(script.seen()[0].body.starts_with("grant_type=authorization_code&code=C&redirect_uri=http"));
}
