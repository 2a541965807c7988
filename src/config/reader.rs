//! Turns leaves into typed values and collects every problem on the way. An absent leaf is `None` without a problem; a
//! wrong one is `None` with a problem, so a caller may use `?` once all leaves of its section were read.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use toml::{Table, Value};
use url::Url;

use super::problem::{KeyPath, Place, Problem};
use super::raw::{self, Leaf};

/// Keys whose value is never shown, wherever they are.
const SECRET_KEYS: [&str; 3] = ["client_secret", "password", "token"];
/// Keys of a source's `auth` whose value is never shown: `key` of a source itself is the name of a column.
const SECRET_KEYS_OF_AUTH: [&str; 2] = ["key", "extra"];

/// Longer values are cut: a problem is a few lines.
const SHOWN_CHARS_MAX: usize = 80;

/// Where each key was set.
#[derive(Default)]
pub(super) struct Origins {
    /// The configuration file as it was named.
    pub(super) path: PathBuf,
    /// Its directory, absolute: what relative paths start from.
    pub(super) directory: PathBuf,
    /// systemd's directory of credentials, where it gave one.
    pub(super) credentials: Option<PathBuf>,
    /// The line of each of its keys.
    pub(super) lines: BTreeMap<KeyPath, usize>,
    /// The variable of each key that one sets.
    pub(super) variables: BTreeMap<KeyPath, String>,
}

impl Origins {
    /// Where `key` was set, or else the nearest section around it.
    fn place(&self, key: &KeyPath) -> Place {
        let is_below = |set: &&KeyPath| set.segments().starts_with(key.segments());
        if let (false, Some(set)) = (self.lines.contains_key(key), self.variables.keys().find(is_below)) {
            return Place::Variable(self.variables[set].clone());
        }
        let mut at = Some(key.clone());
        while let Some(key) = at {
            if let Some(name) = self.variable(&key) {
                return Place::Variable(name.to_owned());
            }
            if let Some(line) = self.lines.get(&key) {
                return Place::File { path: self.path.clone(), line: Some(*line), column: None };
            }
            at = key.parent();
        }
        Place::file(&self.path)
    }

    fn variable(&self, key: &KeyPath) -> Option<&str> {
        self.variables.get(key).map(String::as_str)
    }
}

/// Reads leaves, collects problems.
pub(super) struct Reader {
    pub(super) origins: Origins,
    pub(super) problems: Vec<Problem>,
    /// What is right, and yet worth a word to the operator.
    pub(super) doubts: Vec<String>,
}

impl Reader {
    /// Whether the operator set this key, in the file or by a variable.
    pub(super) fn is_set(&self, key: &KeyPath) -> bool {
        self.origins.lines.contains_key(key) || self.origins.variables.contains_key(key)
    }

    /// Whether the operator set this key or one below it.
    pub(super) fn is_set_below(&self, key: &KeyPath) -> bool {
        let mut set = self.origins.lines.keys().chain(self.origins.variables.keys());
        set.any(|set| set.segments().starts_with(key.segments()))
    }

    /// A problem of `key`, to be completed by the caller and given to [`Self::push`].
    pub(super) fn problem(&self, key: &KeyPath, what: impl Into<String>) -> Problem {
        Problem::at(self.origins.place(key), what).key(key)
    }

    pub(super) fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Records that a value is not what is accepted; always `None`, so that it can end a reading.
    pub(super) fn refuse<T>(&mut self, leaf: &Leaf, what: impl Into<String>, accepted: impl Into<String>) -> Option<T> {
        let problem = self.problem(&leaf.key, what).value(show(leaf)).accepted(accepted);
        self.push(problem);
        None
    }

    fn refuse_type<T>(&mut self, leaf: &Leaf, accepted: impl Into<String>) -> Option<T> {
        self.refuse(leaf, format!("is {}", type_in_words(&leaf.value)), accepted)
    }

    /// The leaf of a key that must be there.
    pub(super) fn required<'a>(&mut self, leaf: Option<&'a Leaf>, key: &KeyPath, accepted: &str) -> Option<&'a Leaf> {
        if leaf.is_none() {
            let problem = self.problem(key, "is missing").accepted(accepted);
            self.push(problem);
        }
        leaf
    }

    /// The raw section in `table`. Keys that it does not have are told and left out; `others` are names that may have
    /// been meant too.
    pub(super) fn section<T: DeserializeOwned>(&mut self, key: &KeyPath, table: Table, others: &[&str]) -> T {
        let known = raw::known_keys::<T>();
        let (kept, unknown): (Table, Table) = table.into_iter().partition(|(name, _)| known.contains(&name.as_str()));
        for name in unknown.keys() {
            self.unknown(&key.child(name), known.iter().chain(others).copied());
        }
        raw::read(key, kept)
    }

    /// Records a key that does not exist. Its value is not shown: it may be a secret under a mistyped name.
    pub(super) fn unknown<'a>(&mut self, key: &KeyPath, known: impl IntoIterator<Item = &'a str>) {
        let mut problem = self.problem(key, "is not a known key");
        if let Some(name) = raw::nearest(key.last(), known) {
            let meant = key.parent().unwrap_or_default().child(name);
            let meant = if self.origins.variable(key).is_some() { meant.variable() } else { meant.to_string() };
            problem = problem.hint(format!("did you mean `{meant}`?"));
        }
        self.push(problem);
    }

    /// Records a key or value that is planned and not there yet.
    pub(super) fn not_yet(&mut self, leaf: &Leaf, accepted: impl Into<String>) {
        self.refuse::<()>(leaf, "is not in this version", accepted);
    }

    /// A section that must be a table.
    pub(super) fn table(&mut self, leaf: Option<&Leaf>) -> Option<Table> {
        let leaf = leaf?;
        match &leaf.value {
            Value::Table(table) => Some(table.clone()),
            other => {
                // The value is not shown: what stands where a section belongs may be anything.
                let what = format!("is {}", type_in_words(other));
                let problem = self.problem(&leaf.key, what).accepted(format!("a table: [{}]", leaf.key));
                self.push(problem);
                None
            }
        }
    }

    /// Text that is not empty.
    pub(super) fn text<'a>(&mut self, leaf: Option<&'a Leaf>, accepted: &str) -> Option<&'a str> {
        let leaf = leaf?;
        match &leaf.value {
            Value::String(text) if text.trim().is_empty() => self.refuse(leaf, "is empty", accepted),
            Value::String(text) => Some(text),
            _ => self.refuse_type(leaf, accepted),
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, leaf: Option<&Leaf>, words: &[(&str, T)], later: &[&str]) -> Option<T> {
        let accepted = words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" | ");
        let text = self.text(leaf, &accepted)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let leaf = leaf?;
        if later.contains(&text) {
            self.not_yet(leaf, accepted);
            return None;
        }
        let mut problem = self.problem(&leaf.key, "is not one of its values").value(show(leaf)).accepted(accepted);
        if let Some(word) = raw::nearest(text, words.iter().map(|(word, _)| *word).chain(later.iter().copied())) {
            problem = problem.hint(format!("did you mean {word:?}?"));
        }
        self.push(problem);
        None
    }

    /// A duration with its unit, within `range`.
    pub(super) fn duration(&mut self, leaf: Option<&Leaf>, range: RangeInclusive<Duration>) -> Option<Duration> {
        let (least, most) = (humantime::format_duration(*range.start()), humantime::format_duration(*range.end()));
        let accepted = format!("a duration with its unit such as \"30s\" or \"6h\", from {least} to {most}");
        let text = self.text(leaf, &accepted)?;
        match humantime::parse_duration(text) {
            Ok(duration) if range.contains(&duration) => Some(duration),
            Ok(_) => self.refuse(leaf?, "is out of range", accepted),
            Err(_) => self.refuse(leaf?, "is not a duration", accepted),
        }
    }

    /// A whole number within `range`; from a variable it is text.
    pub(super) fn whole(&mut self, leaf: Option<&Leaf>, range: RangeInclusive<u32>) -> Option<u32> {
        let number = self.number(leaf, u64::from(*range.start())..=u64::from(*range.end()))?;
        u32::try_from(number).ok()
    }

    /// The same for numbers that 32 bits do not hold.
    pub(super) fn number(&mut self, leaf: Option<&Leaf>, range: RangeInclusive<u64>) -> Option<u64> {
        let leaf = leaf?;
        let accepted = format!("a whole number from {} to {}", range.start(), range.end());
        let number = match &leaf.value {
            Value::Integer(number) => Some(*number),
            Value::String(text) if self.origins.variable(&leaf.key).is_some() => text.trim().parse().ok(),
            _ => return self.refuse_type(leaf, accepted),
        };
        match number.map(u64::try_from) {
            Some(Ok(number)) if range.contains(&number) => Some(number),
            Some(_) => self.refuse(leaf, "is out of range", accepted),
            None => self.refuse(leaf, "is not a whole number", accepted),
        }
    }

    /// `true` or `false`; from a variable it is text.
    pub(super) fn flag(&mut self, leaf: Option<&Leaf>) -> Option<bool> {
        const ACCEPTED: &str = "true or false";
        let leaf = leaf?;
        match &leaf.value {
            Value::Boolean(flag) => Some(*flag),
            Value::String(text) if self.origins.variable(&leaf.key).is_some() => match text.trim().parse() {
                Ok(flag) => Some(flag),
                Err(_) => self.refuse(leaf, "is neither true nor false", ACCEPTED),
            },
            _ => self.refuse_type(leaf, ACCEPTED),
        }
    }

    /// A list of texts, none empty, trimmed; it may be empty itself. From a variable they stand between commas.
    pub(super) fn list(&mut self, leaf: Option<&Leaf>, accepted: &str) -> Option<Vec<String>> {
        let leaf = leaf?;
        let items: Option<Vec<&str>> = match &leaf.value {
            Value::Array(items) => items.iter().map(Value::as_str).collect(),
            Value::String(text) if self.origins.variable(&leaf.key).is_some() => Some(text.split(',').collect()),
            _ => return self.refuse_type(leaf, accepted),
        };
        let Some(items) = items else { return self.refuse(leaf, "holds something that is not text", accepted) };
        if items.iter().any(|item| item.trim().is_empty()) {
            return self.refuse(leaf, "holds an empty text", accepted);
        }
        Some(items.into_iter().map(|item| item.trim().to_owned()).collect())
    }

    /// A count of bytes: a whole number, or text with a unit.
    pub(super) fn bytes(&mut self, leaf: Option<&Leaf>, range: RangeInclusive<usize>) -> Option<usize> {
        let leaf = leaf?;
        let (least, most) = (bytes_in_words(*range.start()), bytes_in_words(*range.end()));
        let accepted = format!("bytes, as a whole number or such as \"4MiB\", from {least} to {most}");
        let count = match &leaf.value {
            Value::Integer(number) => usize::try_from(*number).ok(),
            Value::String(text) => match byte_count(text) {
                Some(count) => Some(count),
                None => return self.refuse(leaf, "is not a count of bytes", accepted),
            },
            _ => return self.refuse_type(leaf, accepted),
        };
        match count {
            Some(count) if range.contains(&count) => Some(count),
            Some(_) | None => self.refuse(leaf, "is out of range", accepted),
        }
    }

    /// A URL that is safe to send a token to: https, or http to this machine; without user, query and fragment.
    pub(super) fn url(&mut self, leaf: Option<&Leaf>) -> Option<Url> {
        const ACCEPTED: &str = "https://HOST/PATH, or http:// to this machine (127.0.0.1, [::1], localhost)";
        let text = self.text(leaf, ACCEPTED)?;
        let leaf = leaf?;
        let veiled = Leaf::of(leaf.key.clone(), Value::String(veil_url(text)));
        let leaf = &veiled;
        let Ok(url) = Url::parse(text) else { return self.refuse(leaf, "is not a URL", ACCEPTED) };
        if !url.username().is_empty() || url.password().is_some() {
            return self.refuse(leaf, "carries a user name or password", ACCEPTED);
        }
        let local = is_loopback(&url);
        match url.scheme() {
            "https" | "http" if url.query().is_some() || url.fragment().is_some() => {
                self.refuse(leaf, "carries a query or a fragment", ACCEPTED)
            }
            "https" => Some(url),
            "http" if local => Some(url),
            "http" => self.refuse(leaf, "would be sent unencrypted", ACCEPTED),
            _ => self.refuse(leaf, "is not an https URL", ACCEPTED),
        }
    }

    /// A path; a relative one starts at the configuration file's directory.
    pub(super) fn path(&mut self, leaf: Option<&Leaf>, accepted: &str) -> Option<PathBuf> {
        let text = self.text(leaf, accepted)?;
        Some(self.origins.directory.join(Path::new(text)))
    }
}

/// Whether a URL leads to this machine only, so that it needs no TLS.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Whether a value is a secret by its place. One that only names secrets, as `{secret.x}`, may be shown.
fn is_secret(key: &KeyPath) -> bool {
    let segments: Vec<&str> = key.segments().iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["source", _, "secrets", ..] | ["source", _, "webhook", "secret" | "secrets", ..] => true,
        ["source", _, "auth", name, ..] if SECRET_KEYS_OF_AUTH.contains(name) => true,
        _ => SECRET_KEYS.contains(&key.last()),
    }
}

fn show(leaf: &Leaf) -> String {
    if is_secret(&leaf.key) {
        return "****".to_owned();
    }
    let text = veil_urls(&leaf.value).to_string();
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text;
    }
    text.chars().take(SHOWN_CHARS_MAX).chain("…".chars()).collect()
}

/// A value without what URLs in it may tell of secrets.
fn veil_urls(value: &Value) -> Value {
    match value {
        Value::String(text) if text.contains("://") => Value::String(veil_url(text)),
        Value::Array(items) => Value::Array(items.iter().map(veil_urls).collect()),
        Value::Table(table) => {
            Value::Table(table.iter().map(|(name, value)| (name.clone(), veil_urls(value))).collect())
        }
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {
            value.clone()
        }
    }
}

/// A URL, also one that is not well formed, without its query and fragment; and of one with a user nothing but the
/// scheme, since a password may hold any sign.
fn veil_url(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    if rest.contains('@') {
        return format!("{scheme}****");
    }
    match rest.find(['?', '#']) {
        Some(end) => format!("{scheme}{}****", &rest[..=end]),
        None => format!("{scheme}{rest}"),
    }
}

fn type_in_words(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a decimal number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

/// In the largest unit that needs no fraction.
fn bytes_in_words(bytes: usize) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(size, _)| bytes.is_multiple_of(*size) && bytes > 0) {
        Some((size, unit)) => format!("{}{unit}", bytes / size),
        None => bytes.to_string(),
    }
}

/// `65536`, `64KiB`, `4 MiB`, `1GiB`; `KB` and `MB` count in thousands.
fn byte_count(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: usize = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1000,
        "kib" => 1 << 10,
        "mb" => 1_000_000,
        "mib" => 1 << 20,
        "gb" => 1_000_000_000,
        "gib" => 1 << 30,
        _ => return None,
    };
    number.parse::<usize>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(value: impl Into<Value>) -> Leaf {
        Leaf::of(KeyPath::of(&["reteno", "x"]), value.into())
    }

    fn reader() -> Reader {
        Reader { origins: Origins::default(), problems: Vec::new(), doubts: Vec::new() }
    }

    #[test]
    fn byte_counts() {
        let cases = [
            ("65536", Some(65_536)),
            ("4MiB", Some(4 << 20)),
            ("4 mib", Some(4 << 20)),
            ("64KB", Some(64_000)),
            ("1GiB", Some(1 << 30)),
            ("", None),
            ("MiB", None),
            ("-1", None),
            ("4.5MiB", None),
            ("99999999999999999999", None),
            ("99999999999GiB", None),
        ];
        for (text, expected) in cases {
            assert_eq!(byte_count(text), expected, "{text}");
        }
    }

    #[test]
    fn urls_that_could_leak_a_token_are_refused() {
        let cases = [
            ("https://reteno.com/api", true),
            ("http://127.0.0.1:8400/callback", true),
            ("http://127.9.9.9/", true),
            ("http://[::1]:1/", true),
            ("http://localhost/x", true),
            // Not loopback, whatever it looks like.
            ("http://localhost.example.com/", false),
            ("http://127.0.0.1.example.com/", false),
            ("http://0.0.0.0/", false),
            ("http://reteno.com/api", false),
            ("https://user:hunter2@reteno.com/api", false),
            ("https://reteno.com/api?x=1", false),
            ("https://reteno.com/api#x", false),
            ("ftp://reteno.com/", false),
            ("reteno.com/api", false),
            ("", false),
        ];
        for (text, good) in cases {
            let mut reader = reader();
            assert_eq!(reader.url(Some(&leaf(text))).is_some(), good, "{text}");
            assert_eq!(reader.problems.is_empty(), good, "{text}");
            assert!(!format!("{:?}", reader.problems).contains("hunter2"));
        }
    }

    #[test]
    fn what_a_url_may_hold_of_a_secret_is_not_shown() {
        let cases = [
            ("https://user:hunter2@reteno.com/api", "\"https://****\""),
            ("http://us/er:hunter2@reteno.com", "\"http://****\""),
            ("https://user:hun#ter2@reteno.com", "\"https://****\""),
            ("https://reteno.com:hunter2@x y/", "\"https://****\""),
            ("user:hunter2@reteno.com", "\"****\""),
            ("https://reteno.com/api?key=hunter2", "\"https://reteno.com/api?****\""),
            ("https://reteno.com/api#hunter2", "\"https://reteno.com/api#****\""),
            ("reteno.com/api?key=hunter2", "\"reteno.com/api?****\""),
            ("http://reteno.com/api", "\"http://reteno.com/api\""),
        ];
        for (text, shown) in cases {
            let mut reader = reader();
            assert_eq!(reader.url(Some(&leaf(text))), None, "{text}");
            assert_eq!(reader.problems[0].value.as_deref(), Some(shown), "{text}");
        }
        // also where another type was asked for, and within lists
        let mut reader = reader();
        let list = Value::Array(vec![Value::String("https://u:hunter2@x/".to_owned())]);
        assert_eq!(reader.whole(Some(&leaf(list)), 1..=9), None);
        assert_eq!(reader.whole(Some(&leaf("https://reteno.com?hunter2")), 1..=9), None);
        assert!(!format!("{:?}", reader.problems).contains("hunter2"), "{:?}", reader.problems);
    }

    #[test]
    fn numbers_are_text_only_in_a_variable() {
        let mut reader = reader();
        assert_eq!(reader.whole(Some(&leaf("5")), 1..=9), None);
        reader.problems.clear();
        reader.origins.variables.insert(KeyPath::of(&["reteno", "x"]), "X".to_owned());
        assert_eq!(reader.whole(Some(&leaf("5")), 1..=9), Some(5));
        for wrong in ["10", "-1", "five", "5000000000"] {
            assert_eq!(reader.whole(Some(&leaf(wrong)), 1..=9), None, "{wrong}");
        }
        assert_eq!(reader.problems.len(), 4);
    }

    #[test]
    fn durations_need_a_unit_and_a_range() {
        let range = Duration::from_secs(1)..=Duration::from_mins(1);
        for (value, expected) in [("1s", Some(1)), ("1m", Some(60)), ("0s", None), ("2m", None), ("30", None)] {
            assert_eq!(
                reader().duration(Some(&leaf(value)), range.clone()),
                expected.map(Duration::from_secs),
                "{value}"
            );
        }
        assert_eq!(reader().duration(Some(&leaf(30)), range), None);
    }

    #[test]
    fn a_secret_is_not_shown_even_when_its_type_is_wrong() {
        let mut reader = reader();
        let leaf = Some(Leaf::of(KeyPath::of(&["reteno", "client_secret"]), Value::Integer(4_711_471)));
        assert_eq!(reader.text(leaf.as_ref(), "text"), None);
        let shown = reader.problems[0].to_string();
        assert!(shown.contains("****") && !shown.contains("4711471"), "{shown}");
    }
}
