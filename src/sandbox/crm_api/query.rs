//! A query string as vendors read it: names once or often, PHP's brackets, numbers that must be numbers.

/// Decoded pairs, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

/// A parameter that should be a whole number and is none: its name.
pub(super) struct NotANumber(pub(super) String);

impl Query {
    /// Reads a query or a form body.
    pub(super) fn parse(text: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(text).into_owned().collect())
    }

    /// The last value, as PHP and Java alike take it; an empty one counts as none.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let values = self.0.iter().rev();
        values.filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).find(|value| !value.is_empty())
    }

    /// All values of `name`, `name[]` and `name[0]`, each divided at its commas.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let named = |key: &str| {
            key.strip_prefix(name).is_some_and(|rest| {
                rest.is_empty()
                    || rest
                        .strip_prefix('[')
                        .and_then(|rest| rest.strip_suffix(']'))
                        .is_some_and(|index| index.chars().all(|c| c.is_ascii_digit()))
            })
        };
        let values = self.0.iter().filter(|(key, _)| named(key));
        values.flat_map(|(_, value)| value.split(',')).map(str::trim).filter(|value| !value.is_empty()).collect()
    }

    /// The value as a whole number, where there is one.
    pub(super) fn number(&self, name: &str) -> Result<Option<i64>, NotANumber> {
        let parsed = self.get(name).map(str::parse);
        parsed.transpose().map_err(|_| NotANumber(name.to_owned()))
    }

    /// The pairs again, with `name` set to `value`.
    pub(super) fn with(&self, name: &str, value: &str) -> String {
        let mut out = url::form_urlencoded::Serializer::new(String::new());
        out.append_pair(name, value);
        out.extend_pairs(self.0.iter().filter(|(key, _)| key != name));
        out.finish()
    }
}
