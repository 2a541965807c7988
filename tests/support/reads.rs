//! Reads of the CRM as a cycle makes them: pages, deletion events, the end of the read, the guard.

use std::sync::Arc;
use std::time::Duration;

use reteno_sync::checkpoint::{Hold, Incoming, PageOutcome, ReadContext, ReadProof, RejectionRow, SeenRows};
use reteno_sync::contact::{Contact, Field};
use reteno_sync::plan::Lane;
use reteno_sync::sandbox::{CallKind, CallSeen};

use super::{World, contact};

/// What a read came to.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) page: PageOutcome,
    pub(crate) gone: u64,
    pub(crate) holds: Vec<Hold>,
}

/// One record: the CRM's id and its fields; an external id and an e-mail are added.
pub(crate) type Record<'a> = (&'a str, &'a [(Field, &'a str)]);

impl World {
    /// The whole source, read to its end.
    pub(crate) async fn reads_all(&self, records: &[Record<'_>]) -> Read {
        self.reads(true, Lane::Reconcile, records.iter().map(|(key, fields)| contact(key, fields)), &[]).await
    }

    /// The same, for the first time.
    pub(crate) async fn loads_first(&self, records: &[Record<'_>]) -> Read {
        self.reads(true, Lane::FirstLoad, records.iter().map(|(key, fields)| contact(key, fields)), &[]).await
    }

    /// What changed since the last read: records, and keys that were deleted.
    pub(crate) async fn reads_changes(&self, records: &[Record<'_>], deleted: &[&str]) -> Read {
        self.reads(false, Lane::Live, records.iter().map(|(key, fields)| contact(key, fields)), deleted).await
    }

    /// The contact is missing in two whole reads, in which `others` stand.
    pub(crate) async fn loses(&self, others: &[Record<'_>]) {
        self.reads_all(others).await;
        self.reads_all(others).await;
    }

    pub(crate) async fn reads(
        &self,
        is_whole: bool,
        lane: Lane,
        contacts: impl Iterator<Item = Contact>,
        deleted: &[&str],
    ) -> Read {
        // two reads never begin in the same millisecond
        tokio::time::advance(Duration::from_millis(1)).await;
        let began = self.clock.now();
        let context = ReadContext { lane, ..self.context(began.0, is_whole) };
        let mut items: Vec<Incoming> = contacts.map(Incoming::Contact).collect();
        items.extend(deleted.iter().map(|key| Incoming::Deleted {
            key: (*key).to_owned(),
            is_confirmed: false,
            changed_at: None,
        }));
        let has_values = is_whole && !items.is_empty();
        let proof = ReadProof {
            policy: Arc::clone(&context.policy),
            began,
            from_beginning: is_whole,
            has_values,
            is_full: has_values,
            earlier: None,
        };
        let source = self.source;
        self.store
            .call(move |checkpoint| {
                checkpoint.begin_read(source, is_whole, began)?;
                let mut seen = SeenRows::default();
                let page = checkpoint.record_page(&context, &mut seen, items, None)?;
                let gone = checkpoint.finish_read(source, &proof, &seen, None, began)?;
                let weighed = checkpoint.weigh_changes(source, &context.policy.guard, began.0)?;
                Ok(Read { page, gone, holds: weighed.holds })
            })
            .await
            .unwrap()
    }

    pub(crate) async fn rejections(&self) -> Vec<RejectionRow> {
        self.store.call(|checkpoint| checkpoint.load_rejections()).await.unwrap()
    }

    pub(crate) async fn alerts(&self) -> Vec<String> {
        self.status().await.alerts.into_iter().map(|alert| alert.name).collect()
    }

    /// The calls that change something, after the first `from` of all calls.
    pub(crate) fn calls_since(&self, from: usize) -> Vec<CallSeen> {
        let is_question = |call: &CallSeen| call.kind == CallKind::ImportStatus;
        self.sandbox.calls().into_iter().skip(from).filter(|call| !is_question(call)).collect()
    }

    pub(crate) fn kinds_since(&self, from: usize) -> Vec<CallKind> {
        self.calls_since(from).iter().map(|call| call.kind).collect()
    }

    /// How many calls there were.
    pub(crate) fn call_count(&self) -> usize {
        self.sandbox.calls().len()
    }

    /// The calls after the first `from` whose body holds `text`.
    pub(crate) fn calls_naming(&self, text: &str, from: usize) -> Vec<CallKind> {
        let calls = self.calls_since(from).into_iter().filter(|call| body_of(call).contains(text));
        calls.map(|call| call.kind).collect()
    }

    /// The files of the state directory that hold `text`.
    pub(crate) fn files_holding(&self, text: &str) -> Vec<String> {
        let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part.eq_ignore_ascii_case(text.as_bytes()));
        let files = std::fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap());
        let holding = files.filter(|entry| entry.file_type().unwrap().is_file());
        holding
            .filter(|entry| holds(&std::fs::read(entry.path()).unwrap()))
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    }

    /// Time passes, and the sender works in it.
    pub(crate) async fn hours(&mut self, hours: u32) {
        for _ in 0..hours {
            tokio::time::advance(super::HOUR).await;
            self.send_for(super::HOUR).await;
        }
    }
}

pub(crate) fn body_of(call: &CallSeen) -> String {
    call.body.as_ref().map(|body| String::from_utf8_lossy(body).into_owned()).unwrap_or_default()
}
