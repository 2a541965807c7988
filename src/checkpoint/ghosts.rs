//! Ghosts: copies of calls that nobody watches any more and that Reteno may still apply.

use std::collections::BTreeMap;

use rusqlite::{Transaction, params};

use crate::clock::Timestamp;
use crate::contact::{Field, FieldPrints};
use crate::plan::ImportId;
use crate::plan::change::doubtful_fields;
use crate::plan::lock::{Lock, decode_locks};

use super::due::WAIT_MAX;
use super::renewal::{forget_told, renew_opt_outs};
use super::{Attempt, Checkpoint, CheckpointError, unreadable};

/// What other copies that nobody watches may still write.
pub(super) struct Ghosts(BTreeMap<Lock, Vec<Ghost>>);

struct Ghost {
    carried: FieldPrints,
    /// It deletes the contact: nothing of it is there when it lands.
    removes: bool,
    until: Timestamp,
}

/// What late copies of other calls may do to a contact that a call has just written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Doubt {
    /// The fields on which one would put another value.
    pub(super) fields: Vec<Field>,
    /// When the last of these copies cannot land any more.
    pub(super) until: Option<Timestamp>,
    /// One of them deletes the contact: it is restored then.
    pub(super) removes: bool,
}

impl Checkpoint {
    /// Forgets the ghosts whose time is over, once no call that went out in their time is unfinished.
    pub fn forget_ghosts(&mut self, now: Timestamp) -> Result<(), CheckpointError> {
        const ACTION: &str = "forget ghosts";
        // one that lies further ahead than any wait was noted before the clock was set back
        let over: Vec<i64> = self
            .connection
            .prepare_cached(
                "SELECT id FROM import WHERE state = 'ghost' AND (ghost_until > ?2 OR ghost_until <= ?1 AND ghost_until <= \
                 (SELECT coalesce(min(posted_at), ?1) FROM import WHERE state <> 'ghost'))",
            )
            .and_then(|mut query| {
                query.query_map([now.0, now.plus(WAIT_MAX).0], |row| row.get(0)).and_then(Iterator::collect)
            })
            .attempt(ACTION)?;
        if over.is_empty() {
            return Ok(());
        }
        let transaction = self.connection.transaction().attempt(ACTION)?;
        for id in over {
            renew_opt_outs(&transaction, ImportId(id))?;
            transaction
                .execute("DELETE FROM alert WHERE name = 'import-' || ?1", [id])
                .and_then(|_| transaction.execute("DELETE FROM member WHERE import = ?1", [id]))
                .and_then(|_| transaction.execute("DELETE FROM import WHERE id = ?1", [id]))
                .attempt(ACTION)?;
        }
        forget_told(&transaction).attempt(ACTION)?;
        transaction.commit().attempt(ACTION)
    }
}

impl Ghosts {
    /// Those that may have landed after `since`, or may still.
    pub(super) fn load(
        transaction: &Transaction<'_>,
        besides: ImportId,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Self, CheckpointError> {
        let mut query = transaction
            .prepare_cached(
                "SELECT m.locks, m.carried, i.ghost_until, i.call = 'delete' FROM import i CROSS JOIN member m ON m.import = i.id \
                 WHERE i.ghost_until > ?2 AND i.ghost_until <= ?3 AND i.id <> ?1",
            )
            .attempt("read ghosts")?;
        let mut rows = query.query(params![besides.0, since.0, now.plus(WAIT_MAX).0]).attempt("read ghosts")?;
        let mut ghosts: BTreeMap<Lock, Vec<_>> = BTreeMap::new();
        while let Some(row) = rows.next().attempt("read ghosts")? {
            let locks: Vec<u8> = row.get(0).attempt("read a ghost")?;
            let carried: Vec<u8> = row.get(1).attempt("read a ghost")?;
            let carried = FieldPrints::decode(&carried).map_err(unreadable("list of prints"))?;
            let until = Timestamp(row.get(2).attempt("read a ghost")?);
            let removes: bool = row.get(3).attempt("read a ghost")?;
            for lock in decode_locks(&locks) {
                ghosts.entry(lock).or_default().push(Ghost { carried: carried.clone(), removes, until });
            }
        }
        Ok(Self(ghosts))
    }

    /// What they may still do to a contact with these locks whose call carried `wanted`.
    pub(super) fn over(&self, locks: &[Lock], wanted: &FieldPrints) -> Doubt {
        let mut doubt = Doubt::default();
        for ghost in locks.iter().filter_map(|lock| self.0.get(lock)).flatten() {
            let doubtful = if ghost.removes {
                wanted.iter().map(|(field, _)| field).collect()
            } else {
                doubtful_fields(wanted, &ghost.carried)
            };
            if !doubtful.is_empty() {
                doubt.until = doubt.until.max(Some(ghost.until));
                doubt.fields.extend(doubtful);
                doubt.removes |= ghost.removes;
            }
        }
        doubt
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::checkpoint::OpenOptions;
    use crate::contact::{Personal, Wanted};
    use crate::plan::lock::{LockKind, encode_locks};
    use crate::random::Random;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn a_ghost_is_in_doubt_where_it_may_have_landed_after_the_call_was_posted() {
        let dir = tempfile::tempdir().unwrap();
        let posted = Timestamp(1_795_435_200_000);
        let now = posted.plus(Duration::from_hours(1));
        let options = OpenOptions {
            dir: dir.path().to_owned(),
            key: None,
            sender: None,
            create: true,
            now,
            import_age_max: Duration::from_hours(6),
        };
        let mut checkpoint = Checkpoint::open(&options, &Random::seeded(1)).unwrap().checkpoint;
        let print = |town: &str| checkpoint.hash().field(Field::Town, &Wanted::Value(Personal::new(town)));
        let prints = |town: &str| -> FieldPrints { [(Field::Town, print(town))].into_iter().collect() };
        let (wanted, carried) = (prints("Lviv"), prints("Kyiv"));
        let lock = Lock { kind: LockKind::ExternalId, hash: 7 };
        // (end of the ghost, whether it is in doubt)
        let cases = [
            (posted, false),
            (posted.plus(MOMENT), true),
            (now.plus(WAIT_MAX), true),
            (now.plus(WAIT_MAX).plus(MOMENT), false),
        ];
        for (until, is_doubtful) in cases {
            let transaction = checkpoint.connection.transaction().unwrap();
            transaction
                .execute(
                    "INSERT INTO import (id, state, call, mask, contacts, created_at, posts, posted_at, ghost_until) \
                     VALUES (5, 'ghost', 'bulk', x'', 1, 0, 1, 0, ?1)",
                    [until.0],
                )
                .unwrap();
            transaction
                .execute(
                    "INSERT INTO member (import, contact, carried, prior, locks) VALUES (5, 1, ?1, x'', ?2)",
                    params![carried.encode(), encode_locks(&[lock])],
                )
                .unwrap();
            let over =
                |besides| Ghosts::load(&transaction, ImportId(besides), posted, now).unwrap().over(&[lock], &wanted);
            assert_eq!(!over(1).fields.is_empty(), is_doubtful, "{until}");
            assert_eq!(over(1).until, is_doubtful.then_some(until));
            assert!(over(5).fields.is_empty(), "an import is no ghost of its own");
        }
    }
}
