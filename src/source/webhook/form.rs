//! `application/x-www-form-urlencoded` with PHP's brackets, as a tree: `contacts[add][0][id]=1` is
//! `{"contacts": {"add": [{"id": "1"}]}}`. It owns the shape only: every value stays text, and nothing it reads is ever
//! part of an error.

use std::collections::BTreeMap;

use serde_json::Value;
use url::form_urlencoded;

/// Brackets of one name. The deepest known name has seven.
const DEPTH_MAX: usize = 24;

/// Fields of one body: a delivery of amoCRM has some dozens for each contact.
const FIELDS_MAX: usize = 20_000;

/// Groups that the brackets of one body make. Each costs memory of its own, so that many fields with deep names could
/// make a small body a large tree.
const GROUPS_MAX: usize = 20_000;

/// Letters of one key. What is longer is content in the wrong place.
const KEY_BYTES_MAX: usize = 256;

/// Why a body is no such form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// More than `FIELDS_MAX`.
    #[error("the form has more than {FIELDS_MAX} fields")]
    TooManyFields,
    /// More than `GROUPS_MAX`.
    #[error("the form has more than {GROUPS_MAX} groups of fields")]
    TooManyGroups,
    /// More than `DEPTH_MAX`.
    #[error("a name in the form has more than {DEPTH_MAX} brackets")]
    TooDeep,
    /// More than `KEY_BYTES_MAX`.
    #[error("a name in the form has a key of more than {KEY_BYTES_MAX} bytes")]
    LongKey,
    /// A bracket that is not closed, or text after one that is.
    #[error("a name in the form has brackets that do not match")]
    Brackets,
    /// A name without text before its brackets.
    #[error("a field in the form has no name")]
    NoName,
}

/// The tree of a body. A list is what PHP would call one: its keys are 0, 1, 2 … in this order; `[]` is the next key.
/// Of two values for one name the later stays. Bytes that are not UTF-8 become the replacement character.
pub fn decode(body: &[u8]) -> Result<Value, FormError> {
    let (mut tree, mut groups) = (Branch::default(), 0);
    for (count, (name, text)) in form_urlencoded::parse(body).enumerate() {
        if count == FIELDS_MAX {
            return Err(FormError::TooManyFields);
        }
        groups += tree.put(&keys_of(&name)?, text.into_owned());
        if groups > GROUPS_MAX {
            return Err(FormError::TooManyGroups);
        }
    }
    Ok(match tree.into_value() {
        // The body itself is no list, whatever its names are.
        Value::Array(items) => items.into_iter().enumerate().map(|(at, item)| (at.to_string(), item)).collect(),
        object => object,
    })
}

/// A step of a name.
enum Key<'a> {
    Named(&'a str),
    /// `[]`.
    Next,
}

fn keys_of(name: &str) -> Result<Vec<Key<'_>>, FormError> {
    let end = name.find('[').unwrap_or(name.len());
    let (first, mut rest) = name.split_at(end);
    if first.is_empty() {
        return Err(FormError::NoName);
    }
    let mut keys = vec![Key::Named(first)];
    while let Some(inner) = rest.strip_prefix('[') {
        let (key, after) = inner.split_once(']').ok_or(FormError::Brackets)?;
        if key.contains('[') {
            return Err(FormError::Brackets);
        }
        if keys.len() > DEPTH_MAX {
            return Err(FormError::TooDeep);
        }
        keys.push(if key.is_empty() { Key::Next } else { Key::Named(key) });
        rest = after;
    }
    let is_long = |key: &Key<'_>| matches!(key, Key::Named(key) if key.len() > KEY_BYTES_MAX);
    if !rest.is_empty() {
        Err(FormError::Brackets)
    } else if keys.iter().any(is_long) {
        Err(FormError::LongKey)
    } else {
        Ok(keys)
    }
}

/// A text, or else what stands below.
#[derive(Default)]
struct Node {
    text: Option<String>,
    branch: Branch,
}

/// An array of PHP's.
struct Branch {
    entries: BTreeMap<String, Node>,
    /// So far each further key was the count of those before it.
    is_list: bool,
    /// What `[]` means: one more than the greatest whole number among the keys.
    next: u64,
}

impl Default for Branch {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), is_list: true, next: 0 }
    }
}

impl Branch {
    /// Returns how many groups were made for it.
    fn put(&mut self, keys: &[Key<'_>], text: String) -> usize {
        let (mut branch, mut made) = (self, 0);
        let Some((last, before)) = keys.split_last() else { return made };
        for key in before {
            let key = branch.claim(key);
            let node = branch.entries.entry(key).or_insert_with(|| {
                made += 1;
                Node::default()
            });
            // As in PHP, a text gives way to brackets that come later.
            node.text = None;
            branch = &mut node.branch;
        }
        let key = branch.claim(last);
        branch.entries.insert(key, Node { text: Some(text), branch: Self::default() });
        made
    }

    /// The key as text; keeps count of what makes a list.
    fn claim(&mut self, key: &Key<'_>) -> String {
        let key = match key {
            Key::Named(name) => (*name).to_owned(),
            Key::Next => self.next.to_string(),
        };
        if !self.entries.contains_key(&key) {
            let number = whole(&key);
            self.is_list &= number.is_some_and(|number| usize::try_from(number) == Ok(self.entries.len()));
            if let Some(number) = number {
                self.next = self.next.max(number.saturating_add(1));
            }
        }
        key
    }

    fn into_value(self) -> Value {
        let Self { mut entries, is_list, .. } = self;
        if is_list && !entries.is_empty() {
            let keys = (0..entries.len()).map(|at| at.to_string());
            return keys.filter_map(|key| entries.remove(&key)).map(Node::into_value).collect();
        }
        entries.into_iter().map(|(key, node)| (key, node.into_value())).collect()
    }
}

impl Node {
    fn into_value(self) -> Value {
        match self.text {
            Some(text) => Value::String(text),
            None => self.branch.into_value(),
        }
    }
}

/// The number of a key that PHP takes for one: no sign, no leading zero.
fn whole(key: &str) -> Option<u64> {
    let is_plain = key == "0" || (!key.starts_with('0') && key.bytes().all(|byte| byte.is_ascii_digit()));
    if is_plain { key.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn decoded(text: &str) -> Value {
        decode(text.as_bytes()).unwrap()
    }

    macro_rules! fixture {
        ($name:literal) => {
            (
                $name,
                include_str!(concat!("../../../tests/fixtures/crm/", $name, ".txt")),
                include_str!(concat!("../../../tests/fixtures/crm/", $name, ".decoded.json")),
            )
        };
    }

    #[test]
    fn bodies_of_amocrm_and_bitrix24_become_the_trees_that_they_mean() {
        let fixtures = [
            fixture!("amocrm/webhook_add"),
            fixture!("amocrm/webhook_update"),
            fixture!("amocrm/webhook_update_responsible"),
            fixture!("amocrm/webhook_update_company"),
            fixture!("amocrm/webhook_delete"),
            fixture!("amocrm/webhook_restore"),
            fixture!("bitrix24/event_add"),
            fixture!("bitrix24/event_update"),
            fixture!("bitrix24/event_delete"),
        ];
        for (name, wire, tree) in fixtures {
            let expected: Value = serde_json::from_str(tree).unwrap();
            assert_eq!(decoded(wire.trim_end()), expected, "{name}");
        }
    }

    #[test]
    fn keys_make_lists_where_php_would_make_them() {
        let cases = [
            ("a[]=1&a[]=2", json!({"a": ["1", "2"]})),
            ("a[0]=1&a[1]=2", json!({"a": ["1", "2"]})),
            // the order counts, not the numbers alone
            ("a[1]=1&a[0]=2", json!({"a": {"1": "1", "0": "2"}})),
            // ids as keys, as in linked_leads_id
            ("a[8801][ID]=8801", json!({"a": {"8801": {"ID": "8801"}}})),
            ("a[1]=x", json!({"a": {"1": "x"}})),
            ("a[00]=x", json!({"a": {"00": "x"}})),
            ("a[-0]=x", json!({"a": {"-0": "x"}})),
            ("a[0]=x&a[k]=y", json!({"a": {"0": "x", "k": "y"}})),
            // `[]` goes on after the greatest number
            ("a[5]=x&a[]=y", json!({"a": {"5": "x", "6": "y"}})),
            ("a[k]=x&a[]=y", json!({"a": {"k": "x", "0": "y"}})),
            ("a[][v]=1&a[][v]=2", json!({"a": [{"v": "1"}, {"v": "2"}]})),
            // a map where a list is usual, as amoCRM sends it for radio buttons
            ("values[value]=x", json!({"values": {"value": "x"}})),
            // the later wins, whatever it is
            ("a=1&a=2", json!({"a": "2"})),
            ("a=1&a[b]=2", json!({"a": {"b": "2"}})),
            ("a[b]=2&a=1", json!({"a": "1"})),
            // a body is never a list
            ("0=x&1=y", json!({"0": "x", "1": "y"})),
            ("", json!({})),
            ("&&", json!({})),
            ("a", json!({"a": ""})),
            ("a=b=c&d=%26+%2B%5B", json!({"a": "b=c", "d": "& +["})),
            ("a=%FF", json!({"a": "\u{fffd}"})),
            ("a=%zz", json!({"a": "%zz"})),
        ];
        for (text, expected) in cases {
            assert_eq!(decoded(text), expected, "{text}");
        }
    }

    #[test]
    fn hostile_forms_are_refused() {
        let deep = format!("a{}=1", "[b]".repeat(DEPTH_MAX));
        assert!(decode(deep.as_bytes()).is_ok());
        let cases = [
            (format!("a{}=1", "[b]".repeat(DEPTH_MAX + 1)), FormError::TooDeep),
            (format!("a{}=1", "[]".repeat(100_000)), FormError::TooDeep),
            ("a=1&".repeat(FIELDS_MAX + 1), FormError::TooManyFields),
            ("a[][v]=1&".repeat(GROUPS_MAX), FormError::TooManyGroups),
            (format!("a[{}]=1", "k".repeat(KEY_BYTES_MAX + 1)), FormError::LongKey),
            ("a[b=1".to_owned(), FormError::Brackets),
            ("a[b]c=1".to_owned(), FormError::Brackets),
            ("a[b[c]]=1".to_owned(), FormError::Brackets),
            ("[b]=1".to_owned(), FormError::NoName),
            ("=1".to_owned(), FormError::NoName),
        ];
        for (text, expected) in cases {
            assert_eq!(decode(text.as_bytes()).unwrap_err(), expected, "{}", &text[..text.len().min(40)]);
        }
        // A number that no list could have makes no list of its length, and does not overflow.
        assert_eq!(
            decoded("a[18446744073709551615]=x&a[]=y"),
            json!({"a": {"18446744073709551615": "y"}}),
            "the next key of the greatest number is that number again"
        );
    }

    /// Trees as PHP could have written them: texts at the ends, no empty list or map.
    fn tree() -> impl Strategy<Value = Value> {
        let leaf = "[^\u{0}]{0,8}".prop_map(Value::String);
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..5).prop_map(Value::Array),
                prop::collection::btree_map("[a-z&=+% é]{1,6}", inner, 1..5).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    fn encode(name: &str, value: &Value, form: &mut form_urlencoded::Serializer<'_, String>) {
        match value {
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    encode(&format!("{name}[{at}]"), item, form);
                }
            }
            Value::Object(map) => {
                for (key, item) in map {
                    encode(&format!("{name}[{key}]"), item, form);
                }
            }
            text => {
                form.append_pair(name, text.as_str().unwrap());
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_tree_or_an_error(body in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&body);
        }

        #[test]
        fn any_brackets_are_a_tree_or_an_error(body in "[a0-2\\[\\]=&%]{0,80}") {
            let _ = decode(body.as_bytes());
        }

        #[test]
        fn what_is_written_is_read_again(tree in tree()) {
            let mut form = form_urlencoded::Serializer::new(String::new());
            encode("root", &tree, &mut form);
            prop_assert_eq!(decode(form.finish().as_bytes()).unwrap(), json!({ "root": tree }));
        }
    }
}
