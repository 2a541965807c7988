//! What stands between the merged layers and the typed settings: values that still know their key, and the names of
//! the keys a section has. The names come from the raw structs themselves, so no second list can drift from them.

use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};
use toml::{Table, Value};

use super::problem::KeyPath;

/// A value of any type, and its key. Its type is judged where it is resolved, so that one wrong type hides no other.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct Leaf {
    pub(super) key: KeyPath,
    pub(super) value: Value,
}

impl Leaf {
    pub(super) fn of(key: KeyPath, value: Value) -> Self {
        Self { key, value }
    }

    fn into_value(self) -> Value {
        let key = self.key.segments().iter().cloned().map(Value::String).collect();
        Value::Table(Table::from_iter([("key".to_owned(), Value::Array(key)), ("value".to_owned(), self.value)]))
    }
}

/// A section whose keys are all among `T`'s, as `T`.
pub(super) fn read<T: DeserializeOwned>(key: &KeyPath, table: Table) -> T {
    let leaves = table.into_iter().map(|(name, value)| {
        let leaf = Leaf::of(key.child(&name), value).into_value();
        (name, leaf)
    });
    let section = Value::Table(leaves.collect());
    section.try_into().expect("a raw section has only optional leaves, and the caller kept only its keys")
}

/// The names of the keys of a raw section, in the order of the struct.
pub(super) fn known_keys<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // It always fails, having told the names: there is no value to build.
    let _: Result<T, _> = T::deserialize(FieldNames(&mut names));
    names
}

/// Listens to what a derived `Deserialize` asks for, and gives nothing.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(Self::Error::custom("only the names were asked for"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("not a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The candidate nearest to `given`, if it may have been meant: case, `_` and `-` do not count.
pub(super) fn nearest<'a>(given: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let fold = |text: &str| text.replace(['_', '-'], "").to_lowercase();
    let given = fold(given);
    // A third of the letters wrong is still a slip; more is another word.
    let bound = (given.chars().count() / 3).clamp(1, 3);
    let distance = |candidate: &&str| strsim::damerau_levenshtein(&given, &fold(candidate));
    let best = candidates.into_iter().min_by_key(distance)?;
    (distance(&best) <= bound).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only the names are asked for")]
    struct Sample {
        first: Option<Leaf>,
        #[serde(rename = "Other")]
        second: Option<Leaf>,
    }

    #[test]
    fn known_keys_are_the_names_in_the_struct() {
        assert_eq!(known_keys::<Sample>(), ["first", "Other"]);
    }

    #[test]
    fn nearest_forgives_slips_and_not_other_words() {
        let keys = ["client_id", "client_secret", "firstName", "email"];
        let cases = [
            ("client_idd", Some("client_id")),
            ("clientId", Some("client_id")),
            ("cilent_secret", Some("client_secret")),
            ("first_name", Some("firstName")),
            ("emial", Some("email")),
            ("phone", None),
            ("x", None),
        ];
        for (given, expected) in cases {
            assert_eq!(nearest(given, keys), expected, "{given}");
        }
    }
}
