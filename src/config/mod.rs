//! The configuration: read, layered and resolved once, into types that cannot be wrong; every problem is told at once.
//! Knows no other part of the program but contact's fields and the timestamp, and never prints a secret.

mod cron_fields;
mod defaults;
mod effective;
mod env;
mod file;
mod guard;
mod identity;
mod listen;
mod log;
mod problem;
mod raw;
mod reader;
mod reteno;
mod schedule;
mod secret;
mod source;
mod upload;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::Serialized;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Table;

pub use effective::{effective_source, holds_secrets};
pub use guard::{Bound, Guard};
pub use identity::{Identity, SharedChannel};
pub use listen::Listen;
pub use log::{Log, LogFormat, LogLevel};
pub use problem::{ConfigProblems, KeyPath, Place, Problem};
pub use reteno::{ClientAuth, Credentials, DedupeOn, MissingCredentials, Redirect, RestoreDeleted, Reteno};
pub use schedule::{Schedule, ScheduleError};
pub use source::{
    AuthConfig, CatalogArgument, CategoryText, ConsentText, FieldTarget, FieldText, FileConfig, FileFormat, FilledText,
    FormText, OAuthClientAuth, OAuthConfig, OAuthGrant, OnDelete, OnInvalidText, ReplicationMethod, Scope, SegmentText,
    SelectorText, SingerConfig, SourceConfig, SourceKind, SubscriptionsText, TokenBody, WriteRule,
};
pub use upload::Upload;

use guard::RawGuard;
use identity::RawIdentity;
use listen::RawListen;
use log::RawLog;
use raw::Leaf;
use reader::{Origins, Reader};
use reteno::RawReteno;
use source::Account;
use upload::RawUpload;

/// Where the configuration is when nobody says otherwise.
pub const PATH_DEFAULT: &str = "/etc/reteno-sync/config.toml";

/// Where systemd says that the unit's state belongs.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTop {
    state_dir: Option<Leaf>,
    shutdown_timeout: Option<Leaf>,
    reteno: Option<Leaf>,
    guard: Option<Leaf>,
    identity: Option<Leaf>,
    listen: Option<Leaf>,
    upload: Option<Leaf>,
    log: Option<Leaf>,
    source: Option<Leaf>,
}

/// The keys of the top that hold sections.
const SECTIONS: [&str; 7] = ["reteno", "guard", "identity", "listen", "upload", "log", "source"];

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// How this program is called so that it reads this configuration: hints can be copied to a shell.
    pub program: String,
    /// Where the checkpoint lives; absolute.
    pub state_dir: PathBuf,
    /// How long a stop may take.
    pub shutdown_timeout: Duration,
    /// The account.
    pub reteno: Reteno,
    /// The bounds of a source that sets none of its own; those of each source stand there, whole.
    pub guard: Guard,
    /// What happens where contacts share a channel.
    pub identity: Identity,
    /// The listener.
    pub listen: Listen,
    /// First loads as files.
    pub upload: Upload,
    /// The log.
    pub log: Log,
    /// The sources, in the order of their names; there may be none.
    pub sources: Vec<SourceConfig>,
    /// What is right in the file and beside it, and yet worth a word to the operator.
    pub doubts: Vec<String>,
}

/// Reads the file at `path` and the variables in `env`, and resolves them; `credentials_dir` is systemd's
/// `$CREDENTIALS_DIRECTORY`. Of `env` only `RETENO_SYNC_…` and `STATE_DIRECTORY` are looked at. Reads no source's files.
pub fn load(
    path: &Path,
    env: impl Iterator<Item = (String, String)>,
    credentials_dir: Option<&Path>,
) -> Result<Config, ConfigProblems> {
    let file = file::read(path).map_err(ConfigProblems::sorted)?;
    let environment: BTreeMap<String, String> = env.collect();
    let variables = env::layer(&environment, &SECTIONS, &file.table);
    let defaults = defaults::layer(&sources(&file.table, &variables.table));

    let merged = merged(&defaults, &file.table, &variables.table);

    let origins = Origins {
        path: path.to_owned(),
        directory: directory_of(path),
        credentials: credentials_dir.map(Path::to_owned),
        lines: file.lines,
        variables: variables.names,
    };
    let problems = file.problems.into_iter().chain(variables.problems).collect();
    let mut reader = Reader { origins, problems, doubts: Vec::new() };
    let resolved = match merged {
        Ok(table) => resolve(&mut reader, table, environment.get(STATE_DIRECTORY)),
        Err(error) => {
            reader.push(Problem::at(Place::file(path), format!("the layers cannot be merged: {}", error.kind)));
            None
        }
    };
    match resolved {
        Some(config) if reader.problems.is_empty() => Ok(config),
        Some(_) | None => Err(ConfigProblems::sorted(reader.problems)),
    }
}

/// The layers as one table. `false` takes a table away that a preset has.
fn merged(defaults: &Table, file: &Table, variables: &Table) -> Result<Table, Box<figment::Error>> {
    let mut table = Figment::from(Serialized::defaults(&defaults))
        .merge(Serialized::defaults(file))
        .merge(Serialized::defaults(variables))
        .extract::<Table>()
        .map_err(Box::new)?;
    defaults::take_away(&mut table, defaults);
    Ok(table)
}

fn resolve(reader: &mut Reader, table: Table, state_directory: Option<&String>) -> Option<Config> {
    let program = program(&reader.origins.path);
    let top = KeyPath::default();
    let raw: RawTop = reader.section(&top, table, &[]);
    let state_dir = state_dir(reader, raw.state_dir.as_ref(), state_directory);
    let shutdown_timeout =
        reader.duration(raw.shutdown_timeout.as_ref(), Duration::from_secs(1)..=Duration::from_mins(10));

    let raw_reteno: Option<RawReteno> = section(reader, "reteno", raw.reteno.as_ref());
    let reteno = raw_reteno.as_ref().and_then(|raw| reteno::resolve(reader, raw));
    let guard: Option<RawGuard> = section(reader, "guard", raw.guard.as_ref());
    let account = Account {
        dedupe_on: raw_reteno.as_ref().and_then(reteno::dedupe_on),
        restore_deleted: raw_reteno.as_ref().and_then(reteno::restore_deleted),
        guard: guard.and_then(|raw| guard::resolve(reader, &raw, None)),
        time_zone: raw_reteno.as_ref().and_then(|raw| source::time_zone(reader, raw.time_zone.as_ref())),
    };
    let identity: Option<RawIdentity> = section(reader, "identity", raw.identity.as_ref());
    let identity = identity.and_then(|raw| identity::resolve(reader, &raw, account.dedupe_on));
    let listen: Option<RawListen> = section(reader, "listen", raw.listen.as_ref());
    let listen = listen.and_then(|raw| listen::resolve(reader, &raw));
    let log: Option<RawLog> = section(reader, "log", raw.log.as_ref());
    let log = log.and_then(|raw| log::resolve(reader, &raw));
    let table = reader.table(raw.source.as_ref());
    let count = table.as_ref().map(Table::len);
    let sources = table.map(|table| source::resolve_all(reader, table, account));
    let raw_upload: Option<RawUpload> = section(reader, "upload", raw.upload.as_ref());
    let upload = raw_upload.and_then(|raw| {
        let all = sources.as_deref().filter(|all| Some(all.len()) == count);
        upload::check(reader, &raw, listen.as_ref(), account.dedupe_on, all);
        upload::resolve(reader, &raw)
    });
    Some(Config {
        program,
        state_dir: state_dir?,
        shutdown_timeout: shutdown_timeout?,
        reteno: reteno?,
        guard: account.guard?,
        identity: identity?,
        listen: listen?,
        upload: upload?,
        log: log?,
        sources: sources?,
        doubts: std::mem::take(&mut reader.doubts),
    })
}

/// A section of the top.
fn section<T: DeserializeOwned>(reader: &mut Reader, name: &str, leaf: Option<&Leaf>) -> Option<T> {
    let table = reader.table(leaf)?;
    Some(reader.section(&KeyPath::of(&[name]), table, &[]))
}

/// The file or the variable, or else systemd's, or else the default.
fn state_dir(reader: &mut Reader, leaf: Option<&Leaf>, systemd: Option<&String>) -> Option<PathBuf> {
    // systemd lists the unit's directories with colons between them; ours is the first.
    let systemd = systemd.and_then(|list| list.split(':').next()).filter(|first| !first.is_empty());
    match (leaf, systemd) {
        (Some(leaf), Some(first)) if !reader.is_set(&leaf.key) => Some(PathBuf::from(first)),
        _ => reader.path(leaf, "the path of a directory"),
    }
}

/// The path absolute, since an alert is read from another directory than the one it was raised in; quoted where a shell
/// would take it for more than one word.
fn program(path: &Path) -> String {
    if path == Path::new(PATH_DEFAULT) {
        return "reteno-sync".to_owned();
    }
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let text = path.to_string_lossy();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+@:,%=".contains(&byte));
    let word = if is_plain { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) };
    format!("reteno-sync --config {word}")
}

fn directory_of(path: &Path) -> PathBuf {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // It fails only where the working directory is gone; then what was given is the best there is.
    std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned())
}

fn source_names(table: &Table) -> Vec<String> {
    let sources = table.get("source").and_then(toml::Value::as_table);
    sources.map(|sources| sources.keys().cloned().collect()).unwrap_or_default()
}

/// The sources of all layers with their kinds, which decide their defaults.
fn sources(file: &Table, variables: &Table) -> Vec<(String, Option<String>)> {
    let kind = |layer: &Table, name: &str| {
        let kind = layer.get("source")?.get(name)?.get("kind")?.as_str()?;
        Some(kind.to_owned())
    };
    let names: BTreeSet<String> = source_names(file).into_iter().chain(source_names(variables)).collect();
    names
        .into_iter()
        .map(|name| {
            let kind = kind(variables, &name).or_else(|| kind(file, &name));
            (name, kind)
        })
        .collect()
}

/// Every key that a configuration may have, with `*` for a name that is the operator's, and for the key of what is written
/// as a table of options. It comes from
/// the types themselves: what `config.example.toml` documents is compared with it.
#[must_use]
pub fn known_keys() -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut add = |section: &str, keys: &[&str]| all.extend(keys.iter().map(|key| format!("{section}{key}")));
    let plain = |keys: &[&'static str], but: &[&str]| -> Vec<&'static str> {
        keys.iter().copied().filter(|key| !but.contains(key)).collect()
    };
    add("", &plain(raw::known_keys::<RawTop>(), &SECTIONS));
    add("reteno.", raw::known_keys::<RawReteno>());
    add("guard.", raw::known_keys::<RawGuard>());
    add("guard.*.", raw::known_keys::<guard::RawBound>());
    add("identity.", raw::known_keys::<RawIdentity>());
    add("listen.", raw::known_keys::<RawListen>());
    add("upload.", raw::known_keys::<RawUpload>());
    add("log.", raw::known_keys::<RawLog>());
    add("source.*.", &plain(raw::known_keys::<source::RawSource>(), &source::SECTIONS));
    add("source.*.", raw::known_keys::<source::RawFile>());
    add("source.*.", raw::known_keys::<source::RawSinger>());
    add("source.*.vars.", &["*"]);
    add("source.*.secrets.", &["*"]);
    add("source.*.secrets.*.", &["file"]);
    add("source.*.auth.", raw::known_keys::<source::RawAuth>());
    add("source.*.webhook.", &plain(raw::known_keys::<source::RawWebhook>(), &["require"]));
    add("source.*.webhook.*.", raw::known_keys::<source::RawHmac>());
    add("source.*.webhook.require.*.", raw::known_keys::<source::RawRequirement>());
    for (section, keys) in source::http::known_keys() {
        add(&format!("source.*.{section}"), &keys);
    }
    add("source.*.contact.", &plain(&source::contact_keys(), &["fields"]));
    add("source.*.contact.", &["fields.*"]);
    add("source.*.contact.*.", source::field_keys());
    add("source.*.guard.", raw::known_keys::<RawGuard>());
    add("source.*.guard.*.", raw::known_keys::<guard::RawBound>());
    add("source.*.consent.", raw::known_keys::<source::RawConsent>());
    add("source.*.consent.*.", raw::known_keys::<source::RawAnswer>());
    add("source.*.subscriptions.", &plain(raw::known_keys::<source::RawSubscriptions>(), &["categories"]));
    add("source.*.subscriptions.categories.", &["*"]);
    add("source.*.subscriptions.categories.*.", raw::known_keys::<source::RawCategory>());
    add("source.*.segments.", &["*"]);
    add("source.*.segments.*.", raw::known_keys::<source::RawSegment>());
    add("source.*.form.", raw::known_keys::<source::RawForm>());
    all
}
