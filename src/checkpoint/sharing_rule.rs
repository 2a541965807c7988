//! Which of several contacts with one address is sent, as the configuration has it: kept for what happens outside of a read.

use rusqlite::{OptionalExtension, Transaction, params};

use crate::contact::Field;
use crate::plan::identity::SharedChannel;

use super::duplicates::ADDRESSES;
use super::{Attempt, CheckpointError};

const ACTION: &str = "keep which contact is sent";
/// The setting that keeps the rule for what happens outside of a read.
const RULE: &str = "shared_channel";
/// Stands in it where several contacts may have any address.
const NO_FIELD: &str = "-";

/// Keeps the rule for what happens outside of a read.
pub(super) fn note_rule(
    transaction: &Transaction<'_>,
    rule: SharedChannel,
    unique: &[Field],
) -> Result<(), CheckpointError> {
    let fields: Vec<String> = unique.iter().map(Field::to_string).collect();
    let fields = if fields.is_empty() { NO_FIELD.to_owned() } else { fields.join(" ") };
    transaction
        .prepare_cached(
            "INSERT INTO setting (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value \
             WHERE value <> excluded.value",
        )
        .and_then(|mut insert| insert.execute(params![RULE, format!("{} {fields}", rule.name())]))
        .attempt(ACTION)
        .map(|_| ())
}

/// The rule, and the fields that only one contact may have; before any read the defaults.
pub(super) fn load_rule(transaction: &Transaction<'_>) -> Result<(SharedChannel, Vec<Field>), CheckpointError> {
    let words: Option<String> = transaction
        .prepare_cached("SELECT value FROM setting WHERE name = ?1")
        .and_then(|mut query| query.query_row([RULE], |row| row.get(0)).optional())
        .attempt(ACTION)?;
    let words = words.unwrap_or_default();
    let mut words = words.split(' ');
    let rule = words.next().and_then(SharedChannel::from_name).unwrap_or_default();
    let names: Vec<&str> = words.collect();
    let is_unique = |field: &Field| names.is_empty() || names.contains(&field.to_string().as_str());
    Ok((rule, ADDRESSES.into_iter().filter(is_unique).collect()))
}
