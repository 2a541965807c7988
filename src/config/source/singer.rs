//! `kind = "singer"`: any tap that speaks the Singer specification.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Value;

use crate::config::problem::KeyPath;
use crate::config::raw::Leaf;
use crate::config::reader::Reader;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawSinger {
    command: Option<Leaf>,
    config: Option<Leaf>,
    catalog: Option<Leaf>,
    stream: Option<Leaf>,
    replication_key: Option<Leaf>,
    replication_method: Option<Leaf>,
    catalog_argument: Option<Leaf>,
    idle_timeout: Option<Leaf>,
    line_bytes_max: Option<Leaf>,
    working_directory: Option<Leaf>,
    pass_environment: Option<Leaf>,
}

/// A tap and the stream that is read from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingerConfig {
    /// The program, looked up in PATH where it has no slash.
    pub program: String,
    /// Its arguments before ours.
    pub arguments: Vec<String>,
    /// The tap's own configuration file, absolute; some taps rewrite it.
    pub config: PathBuf,
    /// A catalog with the stream selected; discovered where there is none.
    pub catalog: Option<PathBuf>,
    /// `tap_stream_id`, or the stream's name.
    pub stream: String,
    /// For a discovered catalog: the column that grows with each change.
    pub replication_key: Option<String>,
    /// For a discovered catalog: how the stream is replicated; the tap's own choice where it is not set.
    pub replication_method: Option<ReplicationMethod>,
    /// The option that takes the catalog.
    pub catalog_argument: CatalogArgument,
    /// A tap that says nothing for longer is taken as hung.
    pub idle_timeout: Duration,
    /// A longer line is an error of the tap.
    pub line_bytes_max: usize,
    /// Where the tap runs; the daemon's own directory where it is not set.
    pub working_directory: Option<PathBuf>,
    /// Variables of our environment that the tap gets beside the usual ones.
    pub pass_environment: Vec<String>,
}

/// Singer's `replication-method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationMethod {
    /// Only what changed since the last state.
    Incremental,
    /// Everything, each time.
    FullTable,
}

impl ReplicationMethod {
    const WORDS: [(&str, Self); 2] = [("INCREMENTAL", Self::Incremental), ("FULL_TABLE", Self::FullTable)];

    /// Singer's word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Incremental => "INCREMENTAL",
            Self::FullTable => "FULL_TABLE",
        }
    }
}

/// The option by which a tap takes its catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatalogArgument {
    /// Today's taps.
    Catalog,
    /// Old taps.
    Properties,
}

impl CatalogArgument {
    const WORDS: [(&str, Self); 2] = [("--catalog", Self::Catalog), ("--properties", Self::Properties)];

    /// The option itself.
    #[must_use]
    pub const fn option(self) -> &'static str {
        match self {
            Self::Catalog => "--catalog",
            Self::Properties => "--properties",
        }
    }
}

pub(super) fn resolve(reader: &mut Reader, section: &KeyPath, raw: &RawSinger) -> Option<SingerConfig> {
    const CONFIG: &str = "the path of the tap's JSON configuration file";
    const STREAM: &str = "the id of one stream of the tap";
    let command = command(reader, section, raw.command.as_ref());
    reader.required(raw.config.as_ref(), &section.child("config"), CONFIG);
    let config = reader.path(raw.config.as_ref(), CONFIG);
    let catalog = reader.path(raw.catalog.as_ref(), "the path of a Singer catalog");
    reader.required(raw.stream.as_ref(), &section.child("stream"), STREAM);
    let stream = reader.text(raw.stream.as_ref(), STREAM).map(str::to_owned);
    let replication_key = reader.text(raw.replication_key.as_ref(), "the name of a column").map(str::to_owned);
    let replication_method = reader.choice(raw.replication_method.as_ref(), &ReplicationMethod::WORDS, &[]);
    let catalog_argument = reader.choice(raw.catalog_argument.as_ref(), &CatalogArgument::WORDS, &[]);
    let idle_timeout = reader.duration(raw.idle_timeout.as_ref(), Duration::from_secs(1)..=Duration::from_hours(24));
    let line_bytes_max = reader.bytes(raw.line_bytes_max.as_ref(), 64 * 1024..=1024 * 1024 * 1024);
    let working_directory = reader.path(raw.working_directory.as_ref(), "the path of a directory");
    let pass_environment = pass_environment(reader, raw.pass_environment.as_ref());
    let (program, arguments) = command?;
    Some(SingerConfig {
        program,
        arguments,
        config: config?,
        catalog,
        stream: stream?,
        replication_key,
        replication_method,
        catalog_argument: catalog_argument?,
        idle_timeout: idle_timeout?,
        line_bytes_max: line_bytes_max?,
        working_directory,
        pass_environment: pass_environment?,
    })
}

/// Our own secrets are no tap's business, whoever asks for it.
fn pass_environment(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<Vec<String>> {
    const ACCEPTED: &str = "a list of the names of environment variables, such as [\"PGPASSFILE\"]";
    if leaf.is_none() {
        return Some(Vec::new());
    }
    let names = reader.list(leaf, ACCEPTED)?;
    let is_name = |name: &String| !name.is_empty() && !name.contains(['=', '\0']) && !name.starts_with("RETENO_SYNC_");
    if names.iter().all(is_name) {
        return Some(names);
    }
    reader.refuse(leaf?, "holds what is no name of a variable for a tap", ACCEPTED)
}

/// A list is taken as it is; one text is split at blanks. There is no shell, so nothing is quoted or expanded.
fn command(reader: &mut Reader, section: &KeyPath, leaf: Option<&Leaf>) -> Option<(String, Vec<String>)> {
    const ACCEPTED: &str = "the program and its arguments, such as [\"tap-postgres\"]";
    let leaf = reader.required(leaf, &section.child("command"), ACCEPTED)?;
    let words: Option<Vec<String>> = match &leaf.value {
        Value::String(text) => Some(text.split_whitespace().map(str::to_owned).collect()),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    match words.as_deref() {
        Some([program, arguments @ ..]) if !program.is_empty() => Some((program.clone(), arguments.to_vec())),
        // The value is not shown: arguments may carry a password.
        Some(_) | None => {
            let problem = reader.problem(&leaf.key, "is not a command").accepted(ACCEPTED);
            reader.push(problem);
            None
        }
    }
}
