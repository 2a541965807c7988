//! `[identity]`: what happens where several contacts of the CRMs share an e-mail address or a phone number.

use serde::Deserialize;

use super::raw::Leaf;
use super::reader::Reader;
use super::reteno::DedupeOn;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIdentity {
    shared_channel: Option<Leaf>,
    unique: Option<Leaf>,
}

/// Who is sent of those that share a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The rule.
    pub shared_channel: SharedChannel,
    /// An e-mail address belongs to one contact only.
    pub unique_email: bool,
    /// A phone number belongs to one contact only.
    pub unique_sms: bool,
}

/// Which of several contacts with one channel is sent; the others are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedChannel {
    /// The one that was known first.
    Oldest,
    /// The one that was known last.
    Newest,
    /// The one of the source whose name comes first; among its own the oldest.
    FirstSource,
}

impl SharedChannel {
    const WORDS: [(&str, Self); 3] =
        [("oldest", Self::Oldest), ("newest", Self::Newest), ("first_source", Self::FirstSource)];
}

pub(super) fn resolve(reader: &mut Reader, raw: &RawIdentity, dedupe_on: Option<DedupeOn>) -> Option<Identity> {
    let shared_channel = reader.choice(raw.shared_channel.as_ref(), &SharedChannel::WORDS, &[]);
    let unique = unique(reader, raw.unique.as_ref(), dedupe_on);
    let (unique_email, unique_sms) = unique?;
    Some(Identity { shared_channel: shared_channel?, unique_email, unique_sms })
}

/// E-mail, phone.
fn unique(reader: &mut Reader, leaf: Option<&Leaf>, dedupe_on: Option<DedupeOn>) -> Option<(bool, bool)> {
    const ACCEPTED: &str = "a list of \"email\" and \"sms\"";
    let words = reader.list(leaf, ACCEPTED)?;
    if words.iter().any(|word| !["email", "sms"].contains(&word.as_str())) {
        return reader.refuse(leaf?, "holds what is not a channel", ACCEPTED);
    }
    let has = |channel: &str| words.iter().any(|word| word == channel);
    // Reteno would make one contact of both, and each cycle the other half of it.
    let lacks = match dedupe_on {
        Some(DedupeOn::Email) => !has("email"),
        Some(DedupeOn::Sms) => !has("sms"),
        Some(DedupeOn::EmailOrSms) => !has("email") || !has("sms"),
        Some(DedupeOn::ExternalCustomerId) | None => false,
    };
    if lacks {
        return reader.refuse(leaf?, "lacks a channel that reteno.dedupe_on names", ACCEPTED);
    }
    Some((has("email"), has("sms")))
}
