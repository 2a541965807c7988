//! The file that `POST v1/contacts/upload` has Reteno fetch: Reteno's column names and its kind of CSV. It never decides
//! who is in it.

use std::collections::BTreeMap;
use std::io::Write;

use crate::contact::{Field, Wanted};

use super::wire::CatalogField;

/// The name of each column that a file may have: of the standard fields, and of additional ones `PROFILE.FIELD`. A field
/// without a whole key has none.
#[must_use]
pub fn columns(catalog: &[CatalogField]) -> BTreeMap<Field, String> {
    let standard = Field::STANDARD.into_iter().filter_map(|field| Some((field, standard_column(field)?.to_owned())));
    let is_whole = |field: &&CatalogField| !field.profile_key.is_empty() && !field.field_key.is_empty();
    let additional = catalog.iter().filter(is_whole).map(|field| (Field::Additional(field.id), field.key()));
    // two fields with one key: Reteno could not tell which is meant
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (_, key) in additional.clone() {
        *counts.entry(key).or_default() += 1;
    }
    standard.chain(additional.filter(|(_, key)| counts.get(key) == Some(&1))).collect()
}

/// Reteno's documents name these, and no column for an external id or a contact key.
const fn standard_column(field: Field) -> Option<&'static str> {
    Some(match field {
        Field::Email => "Email",
        Field::Sms => "SMS",
        Field::FirstName => "First name",
        Field::LastName => "Last name",
        Field::Address => "Address",
        Field::Town => "City",
        Field::Region => "Region",
        Field::Postcode => "Postcode",
        Field::LanguageCode => "Language code",
        Field::TimeZone => "Timezone",
        Field::ExternalCustomerId
        | Field::ContactKey
        | Field::Additional(_)
        | Field::Subscriptions
        | Field::Segment(_) => return None,
    })
}

/// Why a file cannot be written. Names fields, no values.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A field has no column.
    #[error("write a file for reteno: it has no column for {0}")]
    NoColumn(Field),
    /// A cell would be empty, and an empty cell may wipe what Reteno holds.
    #[error("write a file for reteno: a contact has no value of {0}")]
    EmptyCell(Field),
    /// The disk refuses.
    #[error("write a file for reteno")]
    Disk(#[from] std::io::Error),
}

/// Writes the head and one row for each contact: UTF-8, commas, quotes as in RFC 4180. `fields` are the columns in order.
pub fn write_rows<'a>(
    to: &mut impl Write,
    fields: &[Field],
    columns: &BTreeMap<Field, String>,
    contacts: impl Iterator<Item = &'a [(Field, Wanted)]>,
) -> Result<(), FileError> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(to);
    let names: Result<Vec<&str>, FileError> =
        fields.iter().map(|field| columns.get(field).map(String::as_str).ok_or(FileError::NoColumn(*field))).collect();
    writer.write_record(names?).map_err(std::io::Error::from)?;
    for contact in contacts {
        for field in fields {
            let wanted = contact.iter().find(|(known, _)| known == field).map(|(_, wanted)| wanted);
            let Some(Wanted::Value(value)) = wanted else { return Err(FileError::EmptyCell(*field)) };
            writer.write_field(value.expose()).map_err(std::io::Error::from)?;
        }
        writer.write_record(None::<&[u8]>).map_err(std::io::Error::from)?;
    }
    writer.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contact::Personal;

    fn field(id: u32, profile: &str, key: &str) -> CatalogField {
        CatalogField {
            id,
            profile_key: profile.into(),
            field_key: key.into(),
            name: String::new(),
            kind: super::super::wire::FieldKind::Text,
            allowed_values: Vec::new(),
            min: None,
            max: None,
            required: false,
            read_only: false,
        }
    }

    #[test]
    fn a_field_without_a_key_of_its_own_has_no_column() {
        let catalog = [
            field(1, "CRM", "TIER"),
            field(2, "", "TIER"),
            field(3, "CRM", ""),
            field(4, "A", "B"),
            field(5, "A", "B"),
        ];
        let columns = columns(&catalog);
        let additional: Vec<_> = columns.iter().filter(|(field, _)| matches!(field, Field::Additional(_))).collect();
        assert_eq!(additional, [(&Field::Additional(1), &"CRM.TIER".to_owned())]);
        assert_eq!(columns.get(&Field::ExternalCustomerId), None);
        assert_eq!(columns.get(&Field::ContactKey), None);
        assert_eq!(columns.len(), 11);
    }

    #[test]
    fn cells_are_quoted_as_in_rfc_4180_and_never_empty() {
        let columns = columns(&[]);
        let fields = [Field::Email, Field::Town];
        let row = |town: Wanted| vec![(Field::Email, Wanted::Value(Personal::new("a@b.c"))), (Field::Town, town)];
        let value = |text: &str| Wanted::Value(Personal::new(text));
        let rows = [row(value("Kyiv, \"UA\"")), row(value("two\nlines"))];
        let mut file = Vec::new();
        write_rows(&mut file, &fields, &columns, rows.iter().map(Vec::as_slice)).expect("it fits");
        let expected = "Email,City\r\na@b.c,\"Kyiv, \"\"UA\"\"\"\r\na@b.c,\"two\nlines\"\r\n";
        assert_eq!(String::from_utf8(file).expect("UTF-8"), expected);
        for empty in [row(Wanted::Clear), rows[0][..1].to_vec()] {
            let refused = write_rows(&mut Vec::new(), &fields, &columns, std::iter::once(empty.as_slice()));
            assert!(matches!(refused, Err(FileError::EmptyCell(Field::Town))), "{refused:?}");
        }
        let unknown = write_rows(&mut Vec::new(), &[Field::ContactKey], &columns, std::iter::empty());
        assert!(matches!(unknown, Err(FileError::NoColumn(Field::ContactKey))), "{unknown:?}");
    }
}
