//! A contact's fingerprints by field, and their stored form. Computes none of them.

use super::field::Field;
use super::fingerprint::Fingerprint;

/// Bytes of one stored entry: the field's code (u32) and the fingerprint (u64), little-endian.
const ENTRY_BYTES: usize = 12;

/// Why stored fingerprints cannot be read: the checkpoint is damaged, or newer than this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrintsError {
    /// Not a whole number of entries.
    #[error("decode fingerprints: {0} bytes are no whole number of entries")]
    Length(usize),
    /// No version of this program up to this one wrote the code.
    #[error("decode fingerprints: field code {0} is unknown")]
    Field(u32),
    /// Entries are stored in the order of fields, each once.
    #[error("decode fingerprints: field code {0} is out of order")]
    Order(u32),
}

impl PrintsError {
    /// How to repair it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        "run `reteno-sync state check`; a backup is restored with `reteno-sync state restore`"
    }
}

/// Fingerprints by field, in the order of fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldPrints(Vec<(Field, Fingerprint)>);

impl FieldPrints {
    /// The fingerprint of a field; `None` where none is kept.
    #[must_use]
    pub fn get(&self, field: Field) -> Option<Fingerprint> {
        self.place(field).ok().map(|place| self.0[place].1)
    }

    /// Keeps a fingerprint for a field in place of an earlier one.
    pub fn set(&mut self, field: Field, print: Fingerprint) {
        match self.place(field) {
            Ok(place) => self.0[place].1 = print,
            Err(place) => self.0.insert(place, (field, print)),
        }
    }

    /// Keeps none for a field: it is unknown from now on.
    pub fn remove(&mut self, field: Field) {
        if let Ok(place) = self.place(field) {
            self.0.remove(place);
        }
    }

    /// Takes over every field that `newer` holds.
    pub fn merge(&mut self, newer: &Self) {
        for (field, print) in newer.iter() {
            self.set(field, print);
        }
    }

    /// Drops all fields but these.
    pub fn retain_fields(&mut self, fields: &[Field]) {
        self.0.retain(|(field, _)| fields.contains(field));
    }

    /// Fields and fingerprints in order.
    pub fn iter(&self) -> impl Iterator<Item = (Field, Fingerprint)> + '_ {
        self.0.iter().copied()
    }

    /// How many fields are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no field is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The stored form: 12 bytes a field.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * ENTRY_BYTES);
        for (field, print) in &self.0 {
            bytes.extend_from_slice(&field.code().to_le_bytes());
            bytes.extend_from_slice(&print.to_u64().to_le_bytes());
        }
        bytes
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, PrintsError> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Err(PrintsError::Length(bytes.len()));
        }
        let mut prints: Vec<(Field, Fingerprint)> = Vec::with_capacity(entries.len());
        for [c0, c1, c2, c3, print @ ..] in entries {
            let code = u32::from_le_bytes([*c0, *c1, *c2, *c3]);
            let field = Field::from_code(code).ok_or(PrintsError::Field(code))?;
            if prints.last().is_some_and(|(last, _)| *last >= field) {
                return Err(PrintsError::Order(code));
            }
            prints.push((field, Fingerprint::from_u64(u64::from_le_bytes(*print))));
        }
        Ok(Self(prints))
    }

    fn place(&self, field: Field) -> Result<usize, usize> {
        self.0.binary_search_by_key(&field, |(field, _)| *field)
    }
}

impl FromIterator<(Field, Fingerprint)> for FieldPrints {
    /// Of two fingerprints for one field the later counts.
    fn from_iter<I: IntoIterator<Item = (Field, Fingerprint)>>(prints: I) -> Self {
        let mut collected = Self::default();
        for (field, print) in prints {
            match collected.0.last() {
                Some((last, _)) if *last >= field => collected.set(field, print),
                Some(_) | None => collected.0.push((field, print)),
            }
        }
        collected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prints(entries: &[(Field, u64)]) -> FieldPrints {
        entries.iter().map(|(field, print)| (*field, Fingerprint::from_u64(*print))).collect()
    }

    #[test]
    fn stored_bytes_stay_readable() {
        let stored = prints(&[(Field::Additional(1), 3), (Field::Email, 0x0102)]);
        let bytes = [2, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 65, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(stored.encode(), bytes);
        assert_eq!(FieldPrints::decode(&bytes), Ok(stored));
        assert_eq!(FieldPrints::decode(&[]), Ok(FieldPrints::default()));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let email = [2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let sms = [3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let unknown = [63, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(FieldPrints::decode(&email[..11]), Err(PrintsError::Length(11)));
        assert_eq!(FieldPrints::decode(&unknown), Err(PrintsError::Field(63)));
        assert_eq!(FieldPrints::decode(&[sms, email].concat()), Err(PrintsError::Order(2)));
        assert_eq!(FieldPrints::decode(&[sms, sms].concat()), Err(PrintsError::Order(3)));
    }

    #[test]
    fn set_get_merge_and_retain() {
        let mut held = prints(&[(Field::Sms, 3), (Field::Email, 2), (Field::Sms, 4)]);
        assert_eq!(held, prints(&[(Field::Email, 2), (Field::Sms, 4)]));
        held.set(Field::Town, Fingerprint::UNKNOWN);
        held.merge(&prints(&[(Field::Email, 9), (Field::FirstName, 5)]));
        assert_eq!(held, prints(&[(Field::Email, 9), (Field::Sms, 4), (Field::FirstName, 5), (Field::Town, 0)]));
        assert_eq!(held.get(Field::Email), Some(Fingerprint::from_u64(9)));
        assert_eq!(held.get(Field::LastName), None);
        held.retain_fields(&[Field::Town, Field::LastName]);
        assert_eq!(held, prints(&[(Field::Town, 0)]));
        assert_eq!((held.len(), held.is_empty()), (1, false));
    }
}
