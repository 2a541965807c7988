//! The words of sending: what may be set, what is counted, when a run of the sender ends.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::checkpoint::SendRules;
use crate::contact::Field;
use crate::plan::policy::Ending;
use crate::plan::upload::FileBounds;
use crate::reteno::body::DedupeOn;
use crate::reteno::start::SubscribeOptions;

/// What the operator may set about sending.
#[derive(Clone, Debug)]
pub struct SendSettings {
    /// How this program is called with its configuration, for hints.
    pub program: String,
    /// How Reteno finds a contact without an external id.
    pub dedupe_on: DedupeOn,
    /// What happens to contacts that were deleted in Reteno.
    pub restore_deleted: RestoreDeleted,
    /// `always` holds for first loads and full reads too.
    pub restore_in_full_reads: bool,
    /// The key of the event that Reteno makes for each contact that is new to it.
    pub event_key: Option<String>,
    /// Also for those that a first load or a full read brings.
    pub event_in_full_reads: bool,
    /// The names of the segments, by their fields.
    pub segment_names: BTreeMap<Field, String>,
    /// What happens to gone contacts, by the names of the sources: what was decided under another word is off.
    pub endings: Vec<(String, Ending)>,
    /// Sources whose new contacts go through the double opt-in, by their names.
    pub forms: Vec<(String, SubscribeOptions)>,
    /// First loads as files; `None`: all goes by bulk.
    pub upload: Option<UploadSettings>,
    /// Contacts in a call.
    pub batch_contacts_max: usize,
    /// Bytes of a body.
    pub batch_bytes_max: usize,
    /// Posts under way at the same time.
    pub posts_in_flight: usize,
    /// After this long an import is given up, and for as long again it may still be applied.
    pub import_age_max: Duration,
    /// The first wait before an import is asked for.
    pub import_poll_first: Duration,
    /// The longest.
    pub import_poll_max: Duration,
}

/// First loads as files that Reteno fetches from us.
#[derive(Clone, Debug)]
pub struct UploadSettings {
    /// When a load is large enough, and how large a file may be.
    pub bounds: FileBounds,
    /// How long a link can be fetched.
    pub link_lifetime: Duration,
    /// How Reteno reaches the public address.
    pub public_url: String,
    /// The sources that may be loaded so, and how many columns each of them maps.
    pub sources: Vec<(String, usize)>,
}

impl SendSettings {
    /// What of it decides which contacts go together; the sources of forms are known to the checkpoint only.
    #[must_use]
    pub fn rules(&self) -> SendRules {
        let restores = self.restore_deleted == RestoreDeleted::Always;
        SendRules {
            forms: std::collections::BTreeSet::new(),
            restores,
            restores_in_full_reads: restores && self.restore_in_full_reads,
            fires: self.event_key.is_some(),
            fires_in_full_reads: self.event_key.is_some() && self.event_in_full_reads,
            files: None,
            first_load_waits: false,
        }
    }
}

/// Whether contacts that were deleted in Reteno come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreDeleted {
    /// No call restores.
    Never,
    /// Live changes go by single calls, which restore.
    Live,
    /// Every call restores.
    Always,
}

/// What was sent and what came of it, in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SendCounts {
    /// Calls that carried contacts.
    pub posts: u64,
    /// Of them: bodies that went out before.
    pub repeats: u64,
    /// Questions for an import's state.
    pub checks: u64,
    /// Contacts carried by new calls.
    pub sent: u64,
    /// Opt-outs, deletions and the like that were carried out.
    pub deeds: u64,
    /// Contacts acknowledged.
    pub acknowledged: u64,
    /// Contacts rejected by Reteno.
    pub rejected: u64,
}

/// When a sender's run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// When nothing is read, due or under way any more; at the latest so long after the end of all reading.
    Drained(Duration),
    /// When it is stopped.
    Stopped,
}

/// Why a sender's run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything is acknowledged or rejected.
    Drained,
    /// What is left waits for the time of a ghost to be over, or the deadline came.
    StillOpen,
    /// A person has to authorize before it can go on.
    NeedsAuthorization,
    /// It was stopped.
    Stopped,
}
