//! Keyed hashes of canonical values: what the checkpoint keeps instead of the values.
//!
//! A fingerprint covers the field, the state and the canonical value under the version of our canonical form, never
//! the mapping: a mapping edit that yields the same value sends nothing. Whoever has the database without the key can
//! neither read values out of it nor try guesses against it.

use std::fmt;
use std::hash::Hasher as _;

use hkdf::Hkdf;
use sha2::Sha256;
use siphasher::sip::SipHasher24;

use super::field::{Field, Wanted};
use super::prints::FieldPrints;

/// The version of our canonical form of values. A value that gets another canonical form differs by itself, and is sent
/// once; so this is to be raised only where equal text would mean another thing than before: every such field of every
/// contact is then sent once.
pub const CANONICAL_VERSION: u8 = 1;
/// The version of ids and channels, for ever. What they print to names people where no value is kept: in tombstones, in
/// refused addresses, in the locks of calls under way. Another version would let the erased come back and mail who said
/// no.
const IDENTITY_VERSION: u8 = 1;

const fn version_of(field: Field, of_values: u8) -> u8 {
    match field {
        Field::ExternalCustomerId | Field::Email | Field::Sms | Field::ContactKey => IDENTITY_VERSION,
        Field::FirstName
        | Field::LastName
        | Field::Address
        | Field::Town
        | Field::Region
        | Field::Postcode
        | Field::LanguageCode
        | Field::TimeZone
        | Field::Additional(_)
        | Field::Subscriptions
        | Field::Segment(_) => of_values,
    }
}

/// Separates our derived keys from those of any other program that is given the same key.
const SALT: &[u8] = b"reteno-sync";
/// RFC 5869: HKDF-SHA256 yields at most this many bytes.
const DERIVED_BYTES_MAX: usize = 255 * 32;

/// What is known of a field's value: its keyed hash, or nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Not known what Reteno holds: differs from every wanted value, and is never computed.
    pub const UNKNOWN: Self = Self(0);

    /// The stored number; 0 is unknown.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0
    }

    /// From the stored number.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Whether it says nothing.
    #[must_use]
    pub const fn is_unknown(self) -> bool {
        self.0 == Self::UNKNOWN.0
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_unknown() { f.write_str("unknown") } else { write!(f, "{:016x}", self.0) }
    }
}

/// A key of `N` bytes for one purpose, by HKDF-SHA256 (RFC 5869). Different labels give unrelated keys.
///
/// # Panics
/// Never: a longer key than RFC 5869 can yield does not compile.
#[must_use]
pub fn derive<const N: usize>(key: &[u8; 32], label: &str) -> [u8; N] {
    const { assert!(N <= DERIVED_BYTES_MAX) };
    let mut derived = [0; N];
    Hkdf::<Sha256>::new(Some(SALT), key)
        .expand(label.as_bytes(), &mut derived)
        .expect("the length is within RFC 5869's limit, asserted when this was compiled");
    derived
}

/// Computes fingerprints. Cannot print its keys.
#[derive(Clone)]
pub struct Fingerprinter {
    fields: SipHasher24,
    texts: SipHasher24,
    key_check: u64,
}

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter(****)")
    }
}

impl Fingerprinter {
    /// Derives a key for each purpose, so that a hash of one says nothing about another.
    #[must_use]
    pub fn from_key(key: &[u8; 32]) -> Self {
        let keyed = |label| SipHasher24::new_with_key(&derive(key, label));
        Self {
            fields: keyed("fingerprint of a field"),
            texts: keyed("short hash of a text"),
            key_check: u64::from_le_bytes(derive(key, "check of the key")),
        }
    }

    /// The fingerprint of a wanted value; never [`Fingerprint::UNKNOWN`].
    #[must_use]
    pub fn field(&self, field: Field, wanted: &Wanted) -> Fingerprint {
        self.field_under(CANONICAL_VERSION, field, wanted)
    }

    fn field_under(&self, version: u8, field: Field, wanted: &Wanted) -> Fingerprint {
        let (state, value) = match wanted {
            Wanted::Clear => (0, ""),
            Wanted::Value(value) => (1, value.expose()),
        };
        let mut hasher = self.fields;
        // The parts before the value have fixed lengths, so no two inputs give the same bytes.
        hasher.write(&[version_of(field, version)]);
        hasher.write(&field.code().to_le_bytes());
        hasher.write(&[state]);
        hasher.write(value.as_bytes());
        Fingerprint(hasher.finish().max(1))
    }

    /// The fingerprints of a contact's fields.
    #[must_use]
    pub fn fields(&self, fields: &[(Field, Wanted)]) -> FieldPrints {
        fields.iter().map(|(field, wanted)| (*field, self.field(*field, wanted))).collect()
    }

    /// Whether a print says that a field is to be empty. Such prints are alike in all contacts: they identify nobody.
    #[must_use]
    pub fn is_clear(&self, field: Field, print: Fingerprint) -> bool {
        print == self.field(field, &Wanted::Clear)
    }

    /// A hash that stands for a text in a log or a table; `label` tells its uses apart.
    #[must_use]
    pub fn text(&self, label: &str, text: &str) -> u64 {
        let mut hasher = self.texts;
        hasher.write(&(label.len() as u64).to_le_bytes());
        hasher.write(label.as_bytes());
        hasher.write(text.as_bytes());
        hasher.finish()
    }

    /// A number that only this key gives: stored beside the fingerprints, it tells when the key was exchanged.
    #[must_use]
    pub fn key_check(&self) -> u64 {
        self.key_check
    }
}

#[cfg(test)]
mod tests {
    use super::super::field::Personal;
    use super::*;

    fn printer() -> Fingerprinter {
        Fingerprinter::from_key(&[7; 32])
    }

    fn value(text: &str) -> Wanted {
        Wanted::Value(Personal::new(text))
    }

    /// The numbers were computed by another program from RFC 5869 and the `SipHash` paper. A red row here means that
    /// every stored fingerprint became worthless: raise `CANONICAL_VERSION` on purpose, or take the change back.
    #[test]
    fn stored_fingerprints_stay_valid() {
        let rows = [
            (Field::Email, value("olena@example.com"), 0x683b_257a_c510_a33f),
            (Field::Sms, value("+380955547708"), 0xbc90_3f94_f406_6da4),
            (Field::FirstName, value("Олена"), 0xe0de_ea30_fbae_91b6),
            (Field::FirstName, Wanted::Clear, 0x466e_6fd4_94c7_e6b5),
            (Field::Additional(87_166), value("Gold"), 0x3e55_400a_64f6_ecb1),
        ];
        for (field, wanted, print) in rows {
            assert_eq!(printer().field(field, &wanted).to_u64(), print, "{field}");
        }
        assert_eq!(printer().text("crm id", "7"), 0x92f0_80df_2ec6_6ed1);
        assert_eq!(printer().key_check(), 0x2ca8_5e2f_8021_f835);
        assert_eq!(derive::<4>(&[7; 32], "seal"), [178, 184, 58, 176]);
    }

    /// Tombstones and opt-outs are prints of ids and channels: they outlive every version of the canonical form.
    #[test]
    fn another_version_of_values_voids_no_tombstone_and_no_opt_out() {
        let is_kept = |field| {
            let print = |version| printer().field_under(version, field, &value("a"));
            print(CANONICAL_VERSION) == print(CANONICAL_VERSION + 1)
        };
        for field in Field::STANDARD {
            let names_somebody = field.is_channel() || matches!(field, Field::ExternalCustomerId | Field::ContactKey);
            assert_eq!(is_kept(field), names_somebody, "{field}");
        }
        assert!(!is_kept(Field::Additional(7)) && !is_kept(Field::Subscriptions));
    }

    #[test]
    fn field_state_value_and_key_all_count() {
        let prints = [
            printer().field(Field::Email, &value("a")),
            printer().field(Field::Sms, &value("a")),
            printer().field(Field::Email, &value("b")),
            printer().field(Field::Email, &value("")),
            printer().field(Field::Email, &Wanted::Clear),
            Fingerprinter::from_key(&[8; 32]).field(Field::Email, &value("a")),
        ];
        for (place, print) in prints.iter().enumerate() {
            assert!(!print.is_unknown());
            assert!(!prints[..place].contains(print), "{place}");
        }
    }

    #[test]
    fn hashes_of_one_purpose_say_nothing_about_another() {
        let printer = printer();
        let hashes = [
            printer.text("a", "a"),
            // the border between label and text counts
            printer.text("ab", "c"),
            printer.text("a", "bc"),
        ];
        for (place, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..place].contains(hash), "{place}");
        }
        assert_ne!(derive::<32>(&[7; 32], "a"), derive::<32>(&[7; 32], "b"));
        assert_ne!(printer.key_check(), Fingerprinter::from_key(&[8; 32]).key_check());
    }

    #[test]
    fn keys_cannot_be_printed() {
        assert_eq!(format!("{:?}", printer()), "Fingerprinter(****)");
        assert_eq!(format!("{:?}", Fingerprint::UNKNOWN), "unknown");
    }
}
