//! Conditions on a record: which records are wanted, and who belongs to a segment.
//!
//! A condition is judged on the record as it comes. What it tests and the record lacks does not hold, whether the CRM
//! has none or a partial record leaves it out: whoever takes records that may be partial asks which keys are tested.

use serde_json_path::JsonPath;

use super::selector::{View, quoted_key};

/// A condition: a `JSONPath` that is applied to a list holding the record alone, and holds when it finds anything. So a
/// condition is written `$[?@.active == true]`, and `$[?@.email]` asks whether a key is there. A table row is an object
/// of texts: `$[?@.active == '1']`.
#[derive(Debug, Clone)]
pub struct Filter {
    path: JsonPath,
    columns: Vec<String>,
}

impl Filter {
    /// Reads a condition. The error tells where the path is wrong.
    pub fn parse(text: &str) -> Result<Self, serde_json_path::ParseError> {
        let text = text.trim();
        Ok(Self { path: JsonPath::parse(text)?, columns: tested_keys(text) })
    }

    /// Whether it holds for the record, of which the view makes one copy for all conditions.
    pub(super) fn keeps(&self, view: &View<'_>) -> bool {
        !self.path.query(view.in_list()).is_empty()
    }

    /// The columns of a table, or keys of the top object, that it tests, as far as its text tells.
    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }
}

/// The keys of the record in a condition: `@.name` and `@['name']` in the outer brackets. Deeper ones belong to what
/// stands in the record.
fn tested_keys(path: &str) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    let (mut depth, mut quote, mut is_escaped) = (0_usize, None, false);
    for (place, letter) in path.char_indices() {
        if let Some(open) = quote {
            quote = quote.filter(|_| letter != open || is_escaped);
            is_escaped = letter == '\\' && !is_escaped;
            continue;
        }
        match letter {
            '\'' | '"' => quote = Some(letter),
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            '@' if depth == 1 => {
                let key = key_at(&path[place + 1..]);
                keys.extend(key.filter(|key| !keys.iter().any(|known| known == key)).map(str::to_owned));
            }
            _ => {}
        }
    }
    keys
}

fn key_at(rest: &str) -> Option<&str> {
    let Some(name) = rest.strip_prefix('.') else { return quoted_key(rest) };
    let is_sign = |letter: char| letter.is_ascii() && !letter.is_ascii_alphanumeric() && letter != '_';
    Some(&name[..name.find(is_sign).unwrap_or(name.len())]).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_tells_which_columns_it_tests() {
        let rows: [(&str, &[&str]); 12] = [
            ("$[?@.active == true]", &["active"]),
            ("$[?@.active==true && !@.gone]", &["active", "gone"]),
            ("$[?@['Customer tier'] == 'gold']", &["Customer tier"]),
            ("$[?@[\"tier\"]=='gold' || @.tier == 'silver']", &["tier"]),
            ("$[?@.stage.name == 'won']", &["stage"]),
            ("$[?count(@.orders[*]) > 2]", &["orders"]),
            ("$[?@.місто == 'Львів']", &["місто"]),
            // texts are no keys, whatever they hold
            ("$[?@.mail == 'a@.example' || @.note == 'it\\'s @.x']", &["mail", "note"]),
            // what stands in the record
            ("$[?@.mails[?@.kind == 'work']]", &["mails"]),
            // keys that the text does not tell
            ("$[?@..city]", &[]),
            ("$[?@.*]", &[]),
            ("$[0].active", &[]),
        ];
        for (text, wanted) in rows {
            assert_eq!(Filter::parse(text).unwrap().columns(), wanted, "{text}");
        }
    }
}
