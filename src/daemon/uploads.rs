//! First loads as files that Reteno fetches: when they go so, and what becomes of the files.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::checkpoint::{
    BegunImport, CallKind, CheckpointError, Due, ImportState, Letter, MemberValues, OpenImport, UnknownFate,
};
use crate::clock::Timestamp;
use crate::contact::Field;
use crate::plan::batch::Batch;
use crate::plan::outcome::{Member, outcomes_unknown};
use crate::plan::upload::{FileBounds, FileRules, FirstLoad, keep_files, plan_first_load};
use crate::reteno::body::DedupeOn;
use crate::reteno::file::{FileError, columns, write_rows};
use crate::reteno::start::{FileDedupeOn, UploadRequest, upload_body};
use crate::reteno::wire::CatalogField;

use super::batches::{Sent, Shape};
use super::exports::write_file;
use super::sender::Sender;
use super::sending::UploadSettings;

/// The alert of files that cannot be written or deleted.
const ALERT: &str = "exports";

/// Contacts looked at in one planning round: enough to fill every free slot.
const CANDIDATES_MAX: usize = 24_000;
/// And where they may go as files: enough for a whole one beside.
const FILE_CANDIDATES_MAX: usize = 120_000;

impl Sender {
    /// What is due, as far as one round looks.
    pub(super) async fn load_due(
        &self,
        at_most: BTreeMap<Vec<Field>, usize>,
        now: Timestamp,
    ) -> Result<Due, CheckpointError> {
        let rules = self.rules.clone();
        let limit = if rules.files.is_some() { FILE_CANDIDATES_MAX } else { CANDIDATES_MAX };
        self.store.call(move |checkpoint| checkpoint.load_due(now, limit, &at_most, &rules)).await
    }

    /// Drops the files where too few contacts fit; gives the bounds of files.
    pub(super) fn keep_files(&mut self, due: &mut Due, in_files: u64) -> FileBounds {
        let none = FileBounds { load_min: u64::MAX, contacts_max: 0, bytes_max: 0 };
        let bounds = self.settings.upload.as_ref().map_or(none, |upload| upload.bounds);
        if self.rules.files.is_some() && !keep_files(&mut due.candidates, due.is_more, in_files, bounds) {
            self.rules.files = None;
        }
        bounds
    }

    /// Decides how a first load goes on in this round; says how many of its contacts are in files under way.
    pub(super) async fn plan_files(
        &mut self,
        imports: &[OpenImport],
        is_filling: bool,
    ) -> Result<u64, CheckpointError> {
        self.rules.files = None;
        self.rules.first_load_waits = false;
        let Some(upload) = self.settings.upload.clone().filter(|_| !self.exports.is_broken) else { return Ok(0) };
        let is_open = |import: &&OpenImport| import.call == CallKind::Upload && import.state != ImportState::Ghost;
        let under_way = imports.iter().filter(is_open).map(|import| import.contacts).sum();
        let waiting = self.store.call(|checkpoint| checkpoint.count_first_load()).await?;
        match plan_first_load(waiting, under_way, upload.bounds, is_filling) {
            FirstLoad::Waits => self.rules.first_load_waits = true,
            FirstLoad::ByBulk => {}
            FirstLoad::AsFiles => self.rules.files = self.file_rules(&upload).await?,
        }
        Ok(under_way)
    }

    async fn file_rules(&self, upload: &UploadSettings) -> Result<Option<FileRules>, CheckpointError> {
        let Some(dedupe_on) = file_dedupe_on(self.settings.dedupe_on) else { return Ok(None) };
        let finders = match dedupe_on {
            FileDedupeOn::Email => vec![Field::Email],
            FileDedupeOn::Sms => vec![Field::Sms],
            FileDedupeOn::EmailOrSms => vec![Field::Email, Field::Sms],
            FileDedupeOn::Id => return Ok(None),
        };
        let names = upload.sources.clone();
        self.store
            .call(move |checkpoint| {
                let catalog = checkpoint.load_catalog::<CatalogField>()?.unwrap_or_default();
                let mut sources = BTreeMap::new();
                for (name, mapped) in names {
                    sources.insert(checkpoint.load_source(&name)?.id, mapped);
                }
                Ok(Some(FileRules { sources, columns: columns(&catalog).into_keys().collect(), finders }))
            })
            .await
    }

    /// The file is on disk before the intent that names it, and the intent before the call. One that is taken back is begun
    /// anew without those that stand in its way.
    pub(super) async fn begin_upload(&mut self, mut batch: Batch, now: Timestamp) -> Result<bool, CheckpointError> {
        loop {
            match self.begin_file(batch.clone(), now).await? {
                Ok(None) => return Ok(false),
                Ok(Some(begun)) => match self.send(CallKind::Upload, begun, now).await? {
                    Sent::Posted => return Ok(true),
                    Sent::TakenBack { others } => batch.contacts = others,
                },
                Err(error) => {
                    self.exports.is_broken = true;
                    let text = format!("first loads go by bulk: cannot {}", crate::report::chain(&error));
                    let hint = "make room and give rights to exports/ in the state directory";
                    self.alarm.raise(ALERT, &text, hint).await?;
                    return Ok(true);
                }
            }
        }
    }

    async fn begin_file(
        &mut self,
        batch: Batch,
        now: Timestamp,
    ) -> Result<Result<Option<BegunImport>, FileError>, CheckpointError> {
        let (Some(upload), Some(dedupe_on)) = (&self.settings.upload, file_dedupe_on(self.settings.dedupe_on)) else {
            return Ok(Ok(None));
        };
        if batch.contacts.is_empty() {
            return Ok(Ok(None));
        }
        let (token, link) = self.exports.draw(now.plus(upload.link_lifetime));
        let url = format!("{}/exports/{token}.csv", upload.public_url.trim_end_matches('/'));
        let path = self.exports.claim(&link);
        let shape = Shape::of(&batch, &self.settings);
        let rules = self.rules.clone();
        self.store
            .call(move |checkpoint| {
                let names = columns(&checkpoint.load_catalog::<CatalogField>()?.unwrap_or_default());
                checkpoint.begin_import(CallKind::Upload, &batch, &rules, now, |members: &[MemberValues]| {
                    write_file(&path, |file| {
                        write_rows(file, &shape.mask, &names, members.iter().map(|member| member.values.as_slice()))
                    })?;
                    Ok::<_, FileError>(Letter { body: shape.upload(&url, dedupe_on), link: Some(link) })
                })
            })
            .await
    }

    /// A file was refused, or its import failed: nobody in it is to blame yet, and bulk calls tell who is.
    pub(super) async fn end_upload(
        &mut self,
        import: &OpenImport,
        members: &[Member],
        reason: &str,
    ) -> Result<(), CheckpointError> {
        tracing::warn!(import = import.id.0, contacts = members.len(), "a file is sent again by bulk calls: {reason}");
        self.settle(import.id, outcomes_unknown(members).members, UnknownFate::Release, false).await
    }

    /// What an earlier process left is deleted, unless its import is unfinished.
    pub(super) async fn adopt_exports(&mut self) -> Result<(), CheckpointError> {
        if let Err(error) = self.exports.adopt() {
            return self.tell_undeleted(&error).await;
        }
        self.sweep_now().await
    }

    /// Deletes what is needed no more by what stands in the checkpoint now.
    pub(super) async fn sweep_now(&mut self) -> Result<(), CheckpointError> {
        let now = self.clock.now();
        let imports = self.store.call(|checkpoint| checkpoint.load_imports()).await?;
        self.sweep_exports(&imports, now).await
    }

    /// Deletes the files whose imports have ended, or whose links are over.
    pub(super) async fn sweep_exports(
        &mut self,
        imports: &[OpenImport],
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        match self.exports.sweep(imports, now) {
            Ok(()) => Ok(()),
            Err(error) => self.tell_undeleted(&error).await,
        }
    }

    async fn tell_undeleted(&self, error: &std::io::Error) -> Result<(), CheckpointError> {
        let text = format!("a file of contacts cannot be deleted: {error}");
        self.alarm.raise(ALERT, &text, "delete the files in exports/ of the state directory").await
    }
}

/// An external id has no column: then there are no files.
const fn file_dedupe_on(dedupe_on: DedupeOn) -> Option<FileDedupeOn> {
    match dedupe_on {
        DedupeOn::Email => Some(FileDedupeOn::Email),
        DedupeOn::Sms => Some(FileDedupeOn::Sms),
        DedupeOn::EmailOrSms => Some(FileDedupeOn::EmailOrSms),
        DedupeOn::Id | DedupeOn::ExternalCustomerId => None,
    }
}

impl Shape {
    fn upload(&self, link: &str, dedupe_on: FileDedupeOn) -> Bytes {
        upload_body(&UploadRequest {
            link,
            dedupe_on,
            group_names: &self.enters,
            group_names_exclude: &self.leaves,
            restore_deleted: self.restores,
            event_key_for_new_contacts: self.event_key.as_deref(),
        })
    }
}
