//! The wanted values of a contact while they wait to be sent, and their stored form.
//!
//! The only place where values are at rest; the checkpoint drops them as soon as nothing waits.

use super::field::{Field, Personal, Wanted};

/// The first byte of the stored form.
const FORMAT: u8 = 1;
const CLEAR: u8 = 0;
const VALUE: u8 = 1;

/// Why stored values cannot be read: the checkpoint is damaged, or newer than this program. Holds no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValuesError {
    /// Written by a newer version.
    #[error("decode waiting values: format {0} is unknown")]
    Format(u8),
    /// The bytes end too early.
    #[error("decode waiting values: the bytes are cut off")]
    CutOff,
    /// No version of this program up to this one wrote the code.
    #[error("decode waiting values: field code {0} is unknown")]
    Field(u32),
    /// Entries are stored in the order of fields, each once.
    #[error("decode waiting values: field code {0} is out of order")]
    Order(u32),
    /// Neither clear nor a value.
    #[error("decode waiting values: state {0} is unknown")]
    State(u8),
    /// A value is not UTF-8.
    #[error("decode waiting values: the value of field code {0} is not text")]
    Text(u32),
}

impl ValuesError {
    /// How to repair it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        "run `reteno-sync state check`; a backup is restored with `reteno-sync state restore`"
    }
}

/// Wanted values by field, in the order of fields.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Values(Vec<(Field, Wanted)>);

impl Values {
    /// What a field is wanted to be; `None` where the contact does not speak of it.
    #[must_use]
    pub fn get(&self, field: Field) -> Option<&Wanted> {
        self.place(field).ok().map(|place| &self.0[place].1)
    }

    /// The value of a field; `None` where it is absent or to be cleared.
    #[must_use]
    pub fn value(&self, field: Field) -> Option<&Personal> {
        match self.get(field) {
            Some(Wanted::Value(value)) => Some(value),
            Some(Wanted::Clear) | None => None,
        }
    }

    /// Wants a field to be this, in place of what was wanted before.
    pub fn set(&mut self, field: Field, wanted: Wanted) {
        match self.place(field) {
            Ok(place) => self.0[place].1 = wanted,
            Err(place) => self.0.insert(place, (field, wanted)),
        }
    }

    /// Takes over every field that `newer` speaks of; the others stay.
    pub fn merge(&mut self, newer: Self) {
        for (field, wanted) in newer.0 {
            self.set(field, wanted);
        }
    }

    /// Drops all fields but these.
    pub fn retain_fields(&mut self, fields: &[Field]) {
        self.0.retain(|(field, _)| fields.contains(field));
    }

    /// Fields and wanted values in order.
    pub fn iter(&self) -> impl Iterator<Item = (Field, &Wanted)> {
        self.0.iter().map(|(field, wanted)| (*field, wanted))
    }

    /// Fields and wanted values in order, as a slice.
    #[must_use]
    pub fn as_slice(&self) -> &[(Field, Wanted)] {
        &self.0
    }

    /// How many fields are spoken of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no field is spoken of.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The stored form: a format byte, then for each field its code (u32), state (u8) and, for a value, length (u32)
    /// and UTF-8 bytes; numbers little-endian.
    ///
    /// # Panics
    /// For a value of 4 GiB or more: Reteno's rules, which every value has passed, bound it to 5,000 characters.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        for (field, wanted) in &self.0 {
            bytes.extend_from_slice(&field.code().to_le_bytes());
            match wanted {
                Wanted::Clear => bytes.push(CLEAR),
                Wanted::Value(value) => {
                    let text = value.expose().as_bytes();
                    let length =
                        u32::try_from(text.len()).expect("a value has passed Reteno's bound of 5,000 characters");
                    bytes.push(VALUE);
                    bytes.extend_from_slice(&length.to_le_bytes());
                    bytes.extend_from_slice(text);
                }
            }
        }
        bytes
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Self, ValuesError> {
        let mut rest = bytes;
        let [format] = take(&mut rest)?;
        if format != FORMAT {
            return Err(ValuesError::Format(format));
        }
        let mut values: Vec<(Field, Wanted)> = Vec::new();
        while !rest.is_empty() {
            let code = u32::from_le_bytes(take(&mut rest)?);
            let field = Field::from_code(code).ok_or(ValuesError::Field(code))?;
            if values.last().is_some_and(|(last, _)| *last >= field) {
                return Err(ValuesError::Order(code));
            }
            let wanted = match take(&mut rest)? {
                [CLEAR] => Wanted::Clear,
                [VALUE] => Wanted::Value(take_text(&mut rest, code)?),
                [state] => return Err(ValuesError::State(state)),
            };
            values.push((field, wanted));
        }
        Ok(Self(values))
    }

    fn place(&self, field: Field) -> Result<usize, usize> {
        self.0.binary_search_by_key(&field, |(field, _)| *field)
    }
}

impl FromIterator<(Field, Wanted)> for Values {
    /// Of two values for one field the later counts.
    fn from_iter<I: IntoIterator<Item = (Field, Wanted)>>(values: I) -> Self {
        let mut collected = Self::default();
        for (field, wanted) in values {
            match collected.0.last() {
                Some((last, _)) if *last >= field => collected.set(field, wanted),
                Some(_) | None => collected.0.push((field, wanted)),
            }
        }
        collected
    }
}

impl From<Vec<(Field, Wanted)>> for Values {
    fn from(values: Vec<(Field, Wanted)>) -> Self {
        if values.is_sorted_by(|(left, _), (right, _)| left < right) {
            Self(values)
        } else {
            values.into_iter().collect()
        }
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ValuesError> {
    let (head, tail) = rest.split_first_chunk().ok_or(ValuesError::CutOff)?;
    *rest = tail;
    Ok(*head)
}

fn take_text(rest: &mut &[u8], code: u32) -> Result<Personal, ValuesError> {
    let length = usize::try_from(u32::from_le_bytes(take(rest)?)).map_err(|_| ValuesError::CutOff)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(ValuesError::CutOff)?;
    *rest = tail;
    std::str::from_utf8(text).map(Personal::new).map_err(|_| ValuesError::Text(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Wanted {
        Wanted::Value(Personal::new(text))
    }

    #[test]
    fn stored_bytes_stay_readable() {
        let values = Values::from(vec![(Field::Town, Wanted::Clear), (Field::Email, value("a@b"))]);
        let bytes = [1, 2, 0, 0, 0, 1, 3, 0, 0, 0, b'a', b'@', b'b', 7, 0, 0, 0, 0];
        assert_eq!(values.encode(), bytes);
        assert_eq!(Values::decode(&bytes), Ok(values));
        assert_eq!(Values::decode(&[1]), Ok(Values::default()));
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let rows: [(&[u8], ValuesError); 9] = [
            (&[], ValuesError::CutOff),
            (&[2], ValuesError::Format(2)),
            (&[1, 2, 0, 0], ValuesError::CutOff),
            (&[1, 2, 0, 0, 0], ValuesError::CutOff),
            (&[1, 63, 0, 0, 0, 0], ValuesError::Field(63)),
            (&[1, 2, 0, 0, 0, 9], ValuesError::State(9)),
            // a length beyond the end
            (&[1, 2, 0, 0, 0, 1, 255, 255, 255, 255, b'a'], ValuesError::CutOff),
            (&[1, 2, 0, 0, 0, 1, 1, 0, 0, 0, 255], ValuesError::Text(2)),
            (&[1, 3, 0, 0, 0, 0, 2, 0, 0, 0, 0], ValuesError::Order(2)),
        ];
        for (bytes, error) in rows {
            assert_eq!(Values::decode(bytes), Err(error), "{bytes:?}");
        }
    }

    #[test]
    fn newer_wins_for_the_fields_it_speaks_of() {
        let mut values = Values::from(vec![(Field::Email, value("old")), (Field::Town, value("Lviv"))]);
        values.merge(Values::from(vec![(Field::Email, value("new")), (Field::FirstName, Wanted::Clear)]));
        assert_eq!(values.value(Field::Email).map(Personal::expose), Some("new"));
        assert_eq!(values.get(Field::FirstName), Some(&Wanted::Clear));
        assert_eq!(values.value(Field::FirstName), None);
        assert_eq!(values.value(Field::Town).map(Personal::expose), Some("Lviv"));
        values.retain_fields(&[Field::Town]);
        assert_eq!((values.len(), values.is_empty()), (1, false));
    }
}
