//! `[upload]`: first loads as files that Reteno fetches from us; and why a source cannot be loaded so.

use std::time::Duration;

use serde::Deserialize;

use super::raw::Leaf;
use super::reader::Reader;
use super::reteno::DedupeOn;
use super::{Config, Listen, SourceConfig};
use crate::contact::Field;

/// Shorter ones Reteno may find gone; longer ones a leak could use for weeks.
const LINK_LIFETIME: std::ops::RangeInclusive<Duration> = Duration::from_mins(10)..=Duration::from_hours(7 * 24);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpload {
    contacts_min: Option<Leaf>,
    link_lifetime: Option<Leaf>,
}

/// Uploads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upload {
    /// A first load of so many contacts is uploaded; `None`: none is. With a number there are `listen.public_address`
    /// and `listen.public_url`, and `reteno.dedupe_on` is a channel.
    pub contacts_min: Option<u64>,
    /// How long a link can be fetched.
    pub link_lifetime: Duration,
}

pub(super) fn resolve(reader: &mut Reader, raw: &RawUpload) -> Option<Upload> {
    let contacts_min = reader.number(raw.contacts_min.as_ref(), 1..=1_000_000_000);
    let link_lifetime = reader.duration(raw.link_lifetime.as_ref(), LINK_LIFETIME);
    Some(Upload { contacts_min, link_lifetime: link_lifetime? })
}

/// Uploads that are asked for and that no source could ever use are an error: the operator waits for them in vain.
/// `sources` are all, or `None` where one is wrong by itself.
pub(super) fn check(
    reader: &mut Reader,
    raw: &RawUpload,
    listen: Option<&Listen>,
    dedupe_on: Option<DedupeOn>,
    sources: Option<&[SourceConfig]>,
) {
    let Some(leaf) = &raw.contacts_min else { return };
    let mut impossible = |what: &str, accepted: &str| {
        reader.refuse::<()>(leaf, format!("asks for uploads, and {what}"), accepted);
    };
    if listen.is_some_and(|listen| listen.public_url.is_none()) {
        impossible(
            "listen.public_url is missing: Reteno fetches the file from us",
            "listen.public_url = \"https://…\"",
        );
    }
    if listen.is_some_and(|listen| listen.public_address.is_none()) {
        impossible(
            "listen.public_address is off: nobody would hand out the file",
            "listen.public_address = \"IP:PORT\"",
        );
    }
    if dedupe_on == Some(DedupeOn::ExternalCustomerId) {
        impossible(
            "reteno.dedupe_on is externalCustomerId, which a file cannot carry",
            "reteno.dedupe_on = \"email\" | \"sms\" | \"email_or_sms\"",
        );
    } else if let Some(sources) = sources.filter(|sources| sources.iter().all(|source| obstacle(source).is_some()))
        && let Some(first) = sources.first().and_then(obstacle)
    {
        impossible(
            &format!("no source can use them: {first}"),
            "a source that can be uploaded, or to leave the key out",
        );
    }
}

/// Why Reteno could not take this source's contacts as a file.
fn obstacle(source: &SourceConfig) -> Option<String> {
    let name = &source.name;
    if source.field(Field::ExternalCustomerId).is_some() {
        // The columns of a file hold no external id; loaded without it and updated with it, a base would double.
        return Some(format!("source.{name}.contact maps externalCustomerId, which a file cannot carry"));
    }
    source.form.is_some().then(|| format!("source.{name}.form sends its contacts one by one"))
}

impl Config {
    /// The sources whose first load cannot be uploaded, and why; none where uploads are off. No error: other sources may
    /// be uploaded.
    #[must_use]
    pub fn upload_obstacles(&self) -> Vec<(String, String)> {
        if self.upload.contacts_min.is_none() {
            return Vec::new();
        }
        let why = |source: &SourceConfig| Some((source.name.clone(), obstacle(source)?));
        self.sources.iter().filter_map(why).collect()
    }
}
