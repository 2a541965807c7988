//! The checkpoint before anything is read: what it refuses to open, what it recognises, what it keeps from others.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reteno_sync::checkpoint::{Checkpoint, CheckpointError, OpenOptions, Opened, Way};
use reteno_sync::clock::Timestamp;
use reteno_sync::random::Random;

const NOW: Timestamp = Timestamp(1_795_435_200_000);

fn options(dir: &Path) -> OpenOptions {
    OpenOptions {
        dir: dir.to_owned(),
        key: None,
        sender: Some("the first".to_owned()),
        create: true,
        now: NOW,
        import_age_max: Duration::from_hours(6),
    }
}

fn open(dir: &Path) -> Result<Opened, CheckpointError> {
    Checkpoint::open(&options(dir), &Random::seeded(1))
}

/// A directory in which a checkpoint has been used before.
fn used() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let mut opened = open(dir.path()).unwrap();
    opened.checkpoint.load_source("crm").unwrap();
    opened.checkpoint.settle_disk().unwrap();
    let database = dir.path().join("reteno-sync.db");
    (dir, database)
}

fn refusal(dir: &Path) -> CheckpointError {
    open(dir).map(|_| ()).unwrap_err()
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let (dir, database) = used();
    let newer = rusqlite::Connection::open(&database).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let before = fs::read(&database).unwrap();
    assert!(matches!(refusal(dir.path()), CheckpointError::Newer { found: 99, known } if known < 99));
    assert!(fs::read(&database).unwrap() == before, "not a byte is changed");
}

#[test]
fn a_damaged_file_is_refused_and_never_deleted() {
    let (dir, database) = used();
    let mut bytes = fs::read(&database).unwrap();
    bytes[..64].fill(b'x');
    fs::write(&database, &bytes).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, CheckpointError::Damaged { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("backup"));
    assert!(fs::read(&database).unwrap() == bytes, "not a byte is changed");
}

#[test]
fn without_its_key_or_with_another_one_it_does_not_open() {
    let (dir, _) = used();
    let key = dir.path().join("key");
    let original = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    assert!(matches!(refusal(dir.path()), CheckpointError::KeyMissing(path) if path == key));
    assert!(!key.exists(), "no other key is made in its place");
    fs::write(&key, [7; 32]).unwrap();
    assert!(matches!(refusal(dir.path()), CheckpointError::KeyChanged(_)));
    fs::write(&key, original).unwrap();
    assert!(open(dir.path()).is_ok(), "with the original one it goes on");
}

#[test]
fn a_key_from_outside_leaves_none_in_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let with = |key| OpenOptions { key: Some(key), ..options(dir.path()) };
    Checkpoint::open(&with([1; 32]), &Random::seeded(1)).unwrap();
    assert!(!dir.path().join("key").exists());
    let other = Checkpoint::open(&with([2; 32]), &Random::seeded(1)).map(|_| ()).unwrap_err();
    assert!(matches!(other, CheckpointError::KeyChanged(_)));
}

#[test]
fn one_process_sends_and_names_itself_to_the_second() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path()).unwrap();
    let second = refusal(dir.path());
    assert!(matches!(&second, CheckpointError::Busy { holder, .. } if holder == "the first"), "{second:?}");
    assert!(second.is_temporary());
    let reader = OpenOptions { sender: None, create: false, ..options(dir.path()) };
    assert!(Checkpoint::open(&reader, &Random::seeded(1)).is_ok(), "who only looks may come in");
    drop(first);
    assert!(open(dir.path()).is_ok());
}

#[test]
fn who_only_looks_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let reader = OpenOptions { sender: None, create: false, ..options(&dir.path().join("state")) };
    let error = Checkpoint::open(&reader, &Random::seeded(1)).map(|_| ()).unwrap_err();
    assert!(matches!(error, CheckpointError::Missing(_)));
    assert!(!dir.path().join("state").exists());
}

#[test]
fn an_older_copy_is_recognised_by_its_generation() {
    let (dir, database) = used();
    let backup = fs::read(&database).unwrap();
    let opened = open(dir.path()).unwrap();
    assert!(!opened.was_restored, "the same database is no older copy");
    drop(opened);
    fs::write(&database, &backup).unwrap();
    let mut restored = open(dir.path()).unwrap();
    assert!(restored.was_restored);
    let status = restored.checkpoint.load_status().unwrap();
    assert_eq!(status.alerts.iter().map(|alert| alert.name.as_str()).collect::<Vec<_>>(), ["restored"]);
    assert!(status.sources[0].full_read_wanted, "everything is read again");
    restored.checkpoint.settle_disk().unwrap();
    drop(restored);
    assert!(!open(dir.path()).unwrap().was_restored, "it is told once");
}

#[test]
fn a_database_that_was_put_back_without_its_counter_counts_as_an_older_copy() {
    let (dir, _) = used();
    fs::remove_file(dir.path().join("generation")).unwrap();
    assert!(open(dir.path()).unwrap().was_restored);
    fs::write(dir.path().join("generation"), "no number").unwrap();
    assert!(open(dir.path()).unwrap().was_restored);
}

/// A copy that is older than a day is recognised although the process was never started again.
#[test]
fn a_day_counts_like_a_start() {
    let (dir, database) = used();
    let mut opened = open(dir.path()).unwrap();
    opened.checkpoint.settle_disk().unwrap();
    let backup = fs::read(&database).unwrap();
    opened.checkpoint.count_generation().unwrap();
    drop(opened);
    fs::write(&database, &backup).unwrap();
    assert!(open(dir.path()).unwrap().was_restored);
}

/// `status` beside a daemon in a long transaction, or beside a backup.
#[test]
fn who_only_looks_waits_for_no_writer() {
    let (dir, database) = used();
    let writer = rusqlite::Connection::open(&database).unwrap();
    writer.execute_batch("BEGIN IMMEDIATE; UPDATE setting SET value = value").unwrap();
    let reader = OpenOptions { sender: None, create: false, ..options(dir.path()) };
    let opened = Checkpoint::open(&reader, &Random::seeded(1)).unwrap();
    opened.checkpoint.load_status().unwrap();
}

#[test]
fn nobody_else_may_read_what_it_keeps() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("state");
    let _opened = open(&dir).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
}

/// The operator moved it to another disk, or keeps a second name of it as a backup.
#[test]
fn a_database_or_key_behind_a_link_opens_as_before() {
    for name in ["reteno-sync.db", "key", "inbox.db"] {
        for is_symbolic in [true, false] {
            let (dir, _) = used();
            let clock = reteno_sync::clock::Clock::system();
            drop(open(dir.path()).unwrap().checkpoint.open_inbox(&clock).unwrap());
            let elsewhere = tempfile::tempdir_in(dir.path()).unwrap();
            let (path, other) = (dir.path().join(name), elsewhere.path().join(name));
            if is_symbolic {
                fs::rename(&path, &other).unwrap();
                std::os::unix::fs::symlink(&other, &path).unwrap();
            } else {
                fs::hard_link(&path, &other).unwrap();
            }
            let mut opened = open(dir.path()).unwrap();
            assert!(!opened.was_restored, "{name}, {is_symbolic}");
            drop(opened.checkpoint.open_inbox(&clock).unwrap());
            assert_eq!(opened.checkpoint.load_status().unwrap().sources.len(), 1, "{name}, {is_symbolic}");
        }
    }
}

/// What a first load took of the disk goes back when it is done.
#[test]
fn the_file_shrinks_with_what_it_holds() {
    use reteno_sync::checkpoint::{Incoming, PageMode, ReadContext, SeenRows};
    use reteno_sync::contact::{Contact, Field, Personal, Wanted};
    use reteno_sync::plan::Lane;
    let (dir, database) = used();
    let mut opened = open(dir.path()).unwrap();
    let source = opened.checkpoint.load_source("crm").unwrap().id;
    let mut page = |town: &str, mode| {
        let value = |text: String| Wanted::Value(Personal::new(text));
        let contacts = (0..2_000).map(|id| {
            let fields =
                vec![(Field::Email, value(format!("c{id}@example.com"))), (Field::Town, value(town.repeat(100)))];
            Incoming::Contact(Contact {
                key: id.to_string(),
                fields,
                changed_at: None,
                dropped: Vec::new(),
                consent: None,
                unclear_consent: None,
            })
        });
        let mapped = vec![Field::Email, Field::Town];
        let (asked_at, now, lane) = (NOW.0, NOW.0, Lane::FirstLoad);
        let (source_name, policy) = ("crm".to_owned(), std::sync::Arc::default());
        let context = ReadContext {
            source,
            source_name,
            began: asked_at,
            asked_at,
            now,
            mapped,
            lane,
            is_full: true,
            stores_cursor: false,
            mode,
            policy,
            way: Way::Cycle(None),
        };
        opened.checkpoint.record_page(&context, &mut SeenRows::default(), contacts.collect(), None).unwrap();
        opened.checkpoint.settle_disk().unwrap();
        fs::metadata(&database).unwrap().len()
    };
    let full = page("Kyiv", PageMode::Apply);
    let settled = page("Kyiv", PageMode::Baseline);
    assert!(settled * 3 < full, "{full} bytes with waiting values, {settled} without");
}
