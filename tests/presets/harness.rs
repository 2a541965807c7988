//! A preset as an operator configures it, over a CRM that answers by a script.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use reteno_sync::clock::Timestamp;
use reteno_sync::config::{self, Config};
use reteno_sync::contact::{Catalog, Consent, Mapped, Record, ResolvedMapping, Wanted};
use reteno_sync::daemon::compose::{self, Place, Surroundings};
use reteno_sync::daemon::links::CrmLinks;
use reteno_sync::http::{Exchange, ExchangeError};
use reteno_sync::random::Random;
use reteno_sync::source::webhook::{Delivery, Event, EventKind, Head, Refused, Webhook};
use reteno_sync::source::{Cursor, Fetched, From, HttpSource, Item, Page, ReadEnd, SourceError};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::{START, World};

/// What an operator writes at least, without `[source.NAME]` and `kind`.
pub(crate) const MINIMAL: &[(&str, &str)] = &[
    ("amocrm", "vars.subdomain = \"examplecrm\"\nauth.token = \"LONG-LIVED-TOKEN\""),
    (
        "bitrix24",
        "vars.portal = \"examplecrm.bitrix24.eu\"\nvars.user_id = \"1\"\nsecrets.hook_code = \"THE-CODE-OF-THE-WEBHOOK\"",
    ),
    (
        "creatio",
        "vars.host = \"examplecrm.creatio.com\"\nvars.identity_host = \"examplecrm-is.creatio.com\"\n\
         auth.client_id = \"CLIENT-ID\"\nauth.client_secret = \"CLIENT-SECRET\"",
    ),
    ("espocrm", "vars.host = \"crm.example.com\"\nauth.key = \"API-KEY\""),
    ("hubspot", "auth.token = \"SERVICE-KEY\""),
    ("keycrm", "auth.token = \"API-KEY\""),
    ("odoo", "vars.host = \"example.odoo.com\"\nvars.database = \"example\"\nauth.token = \"API-KEY\""),
    (
        "odoo_rpc",
        "vars.host = \"odoo.example.com\"\nvars.database = \"example\"\nvars.uid = \"7\"\nsecrets.api_key = \"API-KEY\"",
    ),
    ("pipedrive", "vars.company = \"examplecrm\"\nauth.key = \"API-TOKEN\""),
    (
        "salesforce",
        "vars.host = \"acme.my.salesforce.com\"\nauth.client_id = \"CONSUMER-KEY\"\nauth.client_secret = \"CONSUMER-SECRET\"",
    ),
    (
        "salesforce_lead",
        "vars.host = \"acme.my.salesforce.com\"\nauth.client_id = \"CONSUMER-KEY\"\nauth.client_secret = \"CONSUMER-SECRET\"",
    ),
    ("wix", "vars.site_id = \"SITE-ID\"\nauth.key = \"API-KEY\""),
    (
        "wix_forms",
        "vars.site_id = \"SITE-ID\"\nvars.form_id = \"FORM-ID\"\nvars.since = \"2026-11-01T00:00:00Z\"\nauth.key = \"API-KEY\"",
    ),
    ("zoho", "vars.region = \"eu\"\nauth.client_id = \"CLIENT-ID\"\nauth.client_secret = \"CLIENT-SECRET\""),
];

/// In place of tokens that would have to be asked for.
pub(crate) const NO_TOKENS: &str =
    "\nbase_url = \"https://crm.example\"\nauth.kind = \"bearer\"\nauth.token = \"TOKEN\"";

pub(crate) fn minimal(preset: &str) -> String {
    MINIMAL.iter().find(|(name, _)| *name == preset).unwrap().1.to_owned()
}

/// Takes the place of the phones of the answers where a record is mapped.
const PHONE: &str = "+380 67 123 45 67";

/// A request as the CRM sees it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) url: url::Url,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn path(&self) -> &str {
        self.url.path()
    }

    pub(crate) fn query(&self, name: &str) -> Option<String> {
        self.url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// What stands in the body, as text; empty where nothing does.
    pub(crate) fn body(&self, pointer: &str) -> String {
        match self.body.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }
}

pub(crate) type Answer = http::Response<Bytes>;
type Script = dyn FnMut(&Asked) -> Answer + Send;

pub(crate) struct Scripted {
    script: Mutex<Box<Script>>,
    asked: Mutex<Vec<Asked>>,
}

impl Exchange for Scripted {
    fn exchange(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<Answer, ExchangeError>> {
        let asked = Asked {
            url: url::Url::parse(&request.uri().to_string()).unwrap(),
            headers: request.headers().clone(),
            body: serde_json::from_slice(request.body()).unwrap_or(Value::Null),
        };
        self.asked.lock().unwrap().push(asked.clone());
        let answer = (self.script.lock().unwrap())(&asked);
        Box::pin(async move { Ok(answer) })
    }
}

pub(crate) fn ok(body: &str) -> Answer {
    error(200, body)
}

pub(crate) fn error(status: u16, body: &str) -> Answer {
    http::Response::builder().status(status).body(Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

pub(crate) fn status(status: u16) -> Answer {
    error(status, "")
}

/// A file of tests/fixtures/crm.
macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../fixtures/crm/", $name))
    };
}
pub(crate) use fixture;

pub(crate) struct Crm {
    pub(crate) source: HttpSource,
    pub(crate) mapping: Arc<ResolvedMapping>,
    pub(crate) webhook: Option<Arc<Webhook>>,
    pub(crate) config: Config,
    scripted: Arc<Scripted>,
    world: World,
}

/// What a read gave, in words: `id` a record, `-id` a deleted one, `?id` said to be deleted, `!id` to be fetched.
pub(crate) struct Given {
    pub(crate) ids: Vec<String>,
    pub(crate) records: Vec<Record>,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) end: Result<ReadEnd, SourceError>,
}

impl Crm {
    /// The preset with `table`, the lines of `[source.crm]` beside `kind`.
    pub(crate) async fn new(preset: &str, table: &str, script: impl FnMut(&Asked) -> Answer + Send + 'static) -> Self {
        let world = World::begin().await;
        let path = world.dir.path().join("config.toml");
        let state = world.dir.path().display();
        let text = format!("state_dir = \"{state}\"\n[source.crm]\nkind = \"{preset}\"\n{table}\n");
        std::fs::write(&path, text).unwrap();
        let config = match config::load(&path, std::iter::empty(), None) {
            Ok(config) => config,
            Err(problems) => panic!("{preset}: {problems}"),
        };
        let (clock, random) = (world.clock.clone(), Random::seeded(1));
        let around = Surroundings { store: world.store.clone(), clock: clock.clone(), random, crms: Vec::new() };
        let scripted = Arc::new(Scripted { script: Mutex::new(Box::new(script)), asked: Mutex::default() });
        let exchange: Arc<dyn Exchange> = scripted.clone();
        let links = CrmLinks::over(&config, &around, &exchange);
        let place = Place { state_dir: &config.state_dir, clock: &clock, links: &links };
        let feed = compose::build_feed(&config.sources[0], config.identity, &Catalog::default(), place).0;
        let (source, webhook) = (links.find("crm").unwrap().clone(), config.sources[0].webhook.clone());
        Self { source, mapping: feed.mapping, webhook, config, scripted, world }
    }

    pub(crate) async fn read(&self, from: From) -> Given {
        let (sender, mut pages) = mpsc::channel::<Page>(1);
        let collect = async {
            let (mut items, mut cursor) = (Vec::new(), None);
            while let Some(page) = pages.recv().await {
                items.extend(page.items);
                cursor = page.cursor.or(cursor);
            }
            (items, cursor)
        };
        let (end, (items, cursor)) = tokio::join!(self.source.read(from, sender, CancellationToken::new()), collect);
        let id = |item: &Item| match item {
            Item::Record { record, .. } => self.mapping.read_id(record).unwrap(),
            Item::Deleted { record, .. } => format!("-{}", self.mapping.read_id(record).unwrap()),
            Item::Pointed { key, is_deleted, .. } => format!("{}{key}", if *is_deleted { '?' } else { '!' }),
            Item::Malformed { reason, .. } => panic!("{reason}"),
        };
        let ids = items.iter().map(id).collect();
        let records = items.into_iter().filter_map(|item| match item {
            Item::Record { record, .. } => Some(record),
            Item::Deleted { .. } | Item::Pointed { .. } | Item::Malformed { .. } => None,
        });
        Given { ids, records: records.collect(), cursor, end }
    }

    /// Everything, which is proven to be everything; the first request carries no bound but the configured one.
    pub(crate) async fn read_all(&self) -> Given {
        assert_eq!(self.world.clock.now(), START);
        let given = self.read(From::Beginning).await;
        assert!(given.end.as_ref().unwrap().full, "a full read proves that it was one");
        given
    }

    pub(crate) async fn read_after(&self, given: &Given) -> Given {
        let given = self.read(From::Cursor(given.cursor.clone().unwrap())).await;
        assert!(!given.end.as_ref().unwrap().full, "the next read proves nothing about those that it lacks");
        given
    }

    /// The records of these ids, in words: `id` there, `-id` deleted, `?id` missing.
    pub(crate) async fn fetch(&self, ids: &[&str]) -> Result<Vec<String>, SourceError> {
        let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
        let fetched = self.source.fetch(&ids, &CancellationToken::new()).await?;
        let id = |fetched: &Fetched| match fetched {
            Fetched::Record(record) => self.mapping.read_id(record).unwrap(),
            Fetched::Deleted(record) => format!("-{}", self.mapping.read_id(record).unwrap()),
            Fetched::Missing { key } => format!("?{key}"),
        };
        Ok(fetched.iter().map(id).collect())
    }

    /// What a record becomes: `field=value`, `field-` where it is empty, `field!` where it breaks a rule, `consent=…`; all
    /// of it empty where it is left out.
    pub(crate) fn map(&self, record: &Record) -> Vec<String> {
        // numbers that are reserved for drama are no valid ones
        let Record::Json(json) = record else { panic!("a record of an API") };
        let drama = ["+44 7700 900101", "+447700900101", "+447700900123", "07700 900123"];
        let json = drama.iter().fold(json.to_string(), |json, number| json.replace(number, PHONE));
        let record = Record::Json(serde_json::from_str(&json).unwrap());
        let contact = match self.mapping.map(&record).unwrap() {
            Mapped::Contact(contact) => contact,
            Mapped::Filtered { .. } => return Vec::new(),
        };
        let fields = contact.fields.iter().map(|(field, wanted)| match wanted {
            Wanted::Value(value) => format!("{field}={}", value.expose()),
            Wanted::Clear => format!("{field}-"),
        });
        let consent = contact.consent.map(|consent| match consent {
            Consent::Yes => "consent=yes".to_owned(),
            Consent::No => "consent=no".to_owned(),
        });
        let dropped = contact.dropped.iter().map(|dropped| format!("{}!", dropped.field));
        fields.chain(dropped).chain(consent).collect()
    }

    /// The events of a delivery, in words: `id` changed, `?id` deleted, `id>winner` merged.
    pub(crate) fn deliver(&self, hit: &Hit) -> Result<Vec<String>, Refused> {
        let headers = hit
            .headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap()));
        let (headers, body) = (headers.collect(), hit.body.trim_end().as_bytes());
        let head =
            Head { method: "POST", path_token: hit.path_token, url: HOOK_URL, headers: &headers, now: HOOK_TIME };
        let events = self.webhook.as_ref().expect("a webhook").receive(&Delivery { head, body })?;
        let word = |Event { key, kind }: Event| match kind {
            EventKind::Changed => key,
            EventKind::Deleted => format!("?{key}"),
            EventKind::MergedInto { winner } => format!("{key}>{winner}"),
            EventKind::Whole(_) | EventKind::WholeDeleted { .. } => panic!("no preset's payload is whole"),
        };
        Ok(events.events.into_iter().map(word).collect())
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.scripted.asked.lock().unwrap())
    }

    /// How long all of it took.
    pub(crate) fn elapsed(&self) -> Duration {
        self.world.clock.now().since(START)
    }
}

/// A webhook's delivery.
#[derive(Clone, Default)]
pub(crate) struct Hit {
    pub(crate) path_token: Option<&'static str>,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: String,
}

pub(crate) const HOOK_URL: &str = "https://sync.example.com/hooks/crm";
pub(crate) const HOOK_TIME: Timestamp = Timestamp(1_795_165_441_000);
pub(crate) const PATH_TOKEN: &str = "example-unguessable-token";

/// With a token at the end of the path, which is what an unsigned webhook has.
pub(crate) fn with_path_token(body: &str) -> Hit {
    Hit { path_token: Some(PATH_TOKEN), body: body.to_owned(), ..Hit::default() }
}

/// The preset's webhook is received as `events` say, and not by anybody who lacks the token in its path.
pub(crate) async fn receives_by_path_token(preset: &str, table: &str, events: &[(&str, &[&str])]) {
    let table = format!("{table}\nwebhook.token = \"{PATH_TOKEN}\"");
    let crm = Crm::new(preset, &table, |_| status(500)).await;
    for (body, expected) in events {
        assert_eq!(crm.deliver(&with_path_token(body)).unwrap(), *expected, "{body}");
        let unproven = Hit { path_token: None, ..with_path_token(body) };
        assert_eq!(crm.deliver(&unproven).unwrap_err().status(), 401);
    }
}

/// The first answer is `first`, all others are `then`.
pub(crate) fn first(first: Answer, then: &'static str) -> impl FnMut(&Asked) -> Answer + Send + 'static {
    let mut first = Some(first);
    move |_| first.take().unwrap_or_else(|| ok(then))
}
