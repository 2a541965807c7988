//! Makes the call that an intent stands for, and names what came of it; takes up what another process left under way.

use std::time::Duration;

use crate::checkpoint::{CallKind, Checkpoint, CheckpointError, ImportState};
use crate::clock::Timestamp;
use crate::contact::Personal;
use crate::plan::ImportId;
use crate::plan::answer::{DeedAnswer, ImportAnswer, SingleAnswer, SubmitAnswer, SubscribeAnswer};
use crate::plan::lock::LockSet;
use crate::reteno::Client;
use crate::reteno::lists::{DetachBody, EmailsBody, ListError};

use super::sender::REQUEST_SLACK;

/// What came of a call.
pub(super) enum Done {
    Posted(ImportId, SubmitAnswer),
    Single(ImportId, SingleAnswer),
    Started(ImportId, SubscribeAnswer),
    Deed(ImportId, DeedAnswer),
    Checked(ImportId, ImportAnswer),
}

/// Makes a call with the very bytes that its intent holds.
pub(super) async fn perform(client: &Client, import: ImportId, call: CallKind, body: bytes::Bytes) -> Done {
    let unreadable = |error: ListError| DeedAnswer::Refused { status: 0, reason: error.to_string() };
    match call {
        CallKind::Bulk | CallKind::Learn => Done::Posted(import, client.submit_contacts(body).await),
        CallKind::Upload => Done::Posted(import, client.upload(body).await),
        CallKind::Upsert => Done::Single(import, client.upsert_contact(body).await),
        CallKind::Update(id) => Done::Single(import, client.update_contact(id, body).await),
        CallKind::Categories(id) => Done::Single(import, as_single(id, client.set_subscriptions(id, body).await)),
        CallKind::Subscribe => Done::Started(import, client.subscribe(body).await),
        CallKind::Unsubscribe => Done::Deed(
            import,
            match EmailsBody::from_stored(body) {
                Ok(emails) => client.unsubscribe(emails).await,
                Err(error) => unreadable(error),
            },
        ),
        CallKind::Resubscribe => Done::Deed(
            import,
            match EmailsBody::from_stored(body) {
                Ok(emails) => client.resubscribe(emails).await,
                Err(error) => unreadable(error),
            },
        ),
        CallKind::Detach(group) => Done::Deed(
            import,
            match DetachBody::from_stored(body) {
                Ok(contacts) => client.detach(group.cast_unsigned(), contacts).await,
                Err(error) => unreadable(error),
            },
        ),
        CallKind::Delete(id) => Done::Deed(import, client.delete_contact(id).await),
        CallKind::Erase(id) => Done::Deed(import, client.erase_contact(id).await),
        CallKind::DeleteNamed => Done::Deed(
            import,
            match external_id(&body) {
                Ok(id) => client.delete_named(id).await,
                Err(answer) => answer,
            },
        ),
        CallKind::EraseNamed => Done::Deed(
            import,
            match external_id(&body) {
                Ok(id) => client.erase_named(id).await,
                Err(answer) => answer,
            },
        ),
    }
}

/// The external id that a stored body is.
fn external_id(body: &[u8]) -> Result<Personal, DeedAnswer> {
    match str::from_utf8(body) {
        Ok(id) if !id.is_empty() => Ok(Personal::new(id)),
        Ok(_) | Err(_) => {
            Err(DeedAnswer::Refused { status: 0, reason: "the stored external id cannot be read".to_owned() })
        }
    }
}

/// The set of a contact's categories is a field like others, though it has a call of its own.
fn as_single(id: i64, answer: DeedAnswer) -> SingleAnswer {
    match answer {
        DeedAnswer::Done => SingleAnswer::Written { id },
        DeedAnswer::NotThere => SingleAnswer::Refused {
            status: 404,
            reason: "Reteno does not know the contact; it was deleted there, most likely".to_owned(),
        },
        DeedAnswer::Refused { status, reason } => SingleAnswer::Refused { status, reason },
        DeedAnswer::NotWritten { cause, retry_after } => SingleAnswer::NotWritten { cause, retry_after },
        DeedAnswer::Uncertain { cause, retry_after } => SingleAnswer::Uncertain { cause, retry_after },
    }
}

/// What another process left under way: calls without an answer are doubtful, and all of them keep their locks.
pub(super) fn take_up(
    checkpoint: &mut Checkpoint,
    now: Timestamp,
    age_max: Duration,
) -> Result<LockSet, CheckpointError> {
    let mut locks = LockSet::default();
    for import in checkpoint.load_imports()? {
        if import.state == ImportState::Intent {
            let ghost_until = import.posted_at.plus(age_max + REQUEST_SLACK);
            checkpoint.doubt_import(import.id, now, Some(ghost_until))?;
        }
        if import.state != ImportState::Ghost {
            let members = checkpoint.load_members(import.id)?;
            locks.take(import.id, members.into_iter().flat_map(|member| member.locks));
        }
    }
    Ok(locks)
}
