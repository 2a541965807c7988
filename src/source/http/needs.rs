//! What a path that is asked of a whole answer needs of its records, which are not kept in it. Pure.

use serde_json_path::JsonPath;

use crate::json::Kept;

/// Which records have to stay in an answer so that a path finds in it what it finds in the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// The first and the last of them, or none.
    Ends(Kept),
    /// All: the path looks through the records, or nothing proves that it does not.
    All,
}

/// What a path begins with, as far as it is plain.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Names(Vec<String>),
    Index(i64),
}

/// What these paths need of the records that stand behind the keys.
pub(super) fn needs<'a>(paths: impl Iterator<Item = &'a JsonPath>, keys: &[String]) -> Needs {
    let mut kept = Kept::default();
    for path in paths {
        match needs_of(&path.to_string(), keys) {
            Needs::All => return Needs::All,
            Needs::Ends(ends) => kept = Kept { first: kept.first || ends.first, last: kept.last || ends.last },
        }
    }
    Needs::Ends(kept)
}

fn needs_of(path: &str, keys: &[String]) -> Needs {
    // a filter may look at the whole answer from wherever it stands
    if path.matches('$').count() > 1 {
        return Needs::All;
    }
    let nothing = Needs::Ends(Kept::default());
    let mut steps = steps_of(path).into_iter();
    for key in keys {
        match steps.next() {
            Some(Step::Names(names)) if !names.contains(key) => return nothing,
            Some(Step::Names(names)) if names.len() == 1 => {}
            // what holds the records is an object
            Some(Step::Index(_)) => return nothing,
            Some(Step::Names(_)) | None => return Needs::All,
        }
    }
    let is_number = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    match steps.next() {
        Some(Step::Index(0)) => Needs::Ends(Kept { first: true, last: false }),
        Some(Step::Index(-1)) => Needs::Ends(Kept { first: false, last: true }),
        // a list has no names, and one that PHP wrote as an object has numbers for them
        Some(Step::Names(names)) if !names.iter().any(is_number) => nothing,
        Some(Step::Index(_) | Step::Names(_)) | None => Needs::All,
    }
}

/// The steps of a path up to the first that is not plain.
fn steps_of(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path.strip_prefix('$').unwrap_or_default();
    while let Some((step, after)) = first_step(rest) {
        steps.push(step);
        rest = after;
    }
    steps
}

fn first_step(rest: &str) -> Option<(Step, &str)> {
    if let Some(name) = rest.strip_prefix('.') {
        let (name, after) = name.split_at(name.find(['.', '[']).unwrap_or(name.len()));
        return (!name.is_empty() && name != "*").then(|| (Step::Names(vec![name.to_owned()]), after));
    }
    let mut inner = rest.strip_prefix('[')?;
    if !inner.starts_with('\'') {
        let (index, after) = inner.split_once(']')?;
        return Some((Step::Index(index.parse().ok()?), after));
    }
    let mut names = Vec::new();
    loop {
        let (name, after) = inner.strip_prefix('\'')?.split_once('\'')?;
        names.push(name.to_owned());
        if let Some(after) = after.strip_prefix(']') {
            return Some((Step::Names(names), after));
        }
        inner = after.strip_prefix(',')?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_needs_the_records_unless_it_provably_looks_elsewhere() {
        let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
        let ends = |first, last| Needs::Ends(Kept { first, last });
        let rows = [
            ("$.next", ends(false, false)),
            ("$.d.total", ends(false, false)),
            ("$['paging', 'meta'].next", ends(false, false)),
            ("$.d.items.next", ends(false, false)),
            ("$.d.items[-1].id", ends(false, true)),
            ("$['d'][\"items\"][0]", ends(true, false)),
            ("$.d.items[-1].tags[?@.a == 1]", ends(false, true)),
            ("$.d.items[-2].id", Needs::All),
            ("$.d.items[*].id", Needs::All),
            ("$.d.items['7']", Needs::All),
            ("$.d.items", Needs::All),
            ("$.d", Needs::All),
            ("$.d.*", Needs::All),
            ("$['d', 'e'].items", Needs::All),
            ("$..id", Needs::All),
            ("$.x[?@.id == $.d.items[3].id]", Needs::All),
        ];
        for (path, wanted) in rows {
            let parsed = JsonPath::parse(path).unwrap();
            assert_eq!(needs(std::iter::once(&parsed), &keys(&["d", "items"])), wanted, "{path}");
        }
        let rows = [("$.error", ends(false, false)), ("$[0].errorCode", ends(true, false)), ("$[*].id", Needs::All)];
        for (path, wanted) in rows {
            assert_eq!(needs(std::iter::once(&JsonPath::parse(path).unwrap()), &[]), wanted, "{path}");
        }
    }
}
