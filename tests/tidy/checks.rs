//! One function a rule: it takes a file as path and text and tells what is wrong, as `path:line: what to change`.
//! The bounds and lists stand in the table in `tests/tidy.rs`, never here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::source::{Function, Source};
use super::{
    FILE_LINES_MAX, FORBIDDEN_MODULES, FORBIDDEN_PATHS, FORBIDDEN_PREFIXES, FORBIDDEN_WORDS, FUNCTION_LINES_MAX,
    GROUPS, IMPURE_NAMES, LAYERS, OWNED_CRATES, PARAMETERS_MAX, PURE, TESTS_MAY_IMPORT,
};

/// All that is wrong with one file, as `path:line: what to change`.
pub(crate) fn check_file(path: &str, text: &str, long_tables: &[(&str, &str, &str)]) -> Vec<String> {
    let mut faults = check_words(path, text);
    if Path::new(path).extension().is_some_and(|extension| extension == "rs") {
        let source = Source::read(path, text);
        faults.extend(check_opening(&source, text));
        faults.extend(check_names(&source));
        faults.extend(check_functions(&source, long_tables));
        if path.starts_with("src/") {
            faults.extend(check_length(&source, text));
            faults.extend(check_test_code(&source));
            faults.extend(check_layers(&source));
            faults.extend(check_purity(&source));
            faults.extend(check_owned_crates(&source));
        }
    }
    faults
}

fn check_words(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let mut words = content.split(|c: char| !c.is_alphanumeric() && c != '_');
        if let Some(word) = words.find(|word| FORBIDDEN_WORDS.contains(word)) {
            faults.push(format!("{path}:{line}: `{word}`: do it now, or name it in an issue"));
        }
        if let Some(place) = FORBIDDEN_PATHS.iter().find(|place| content.contains(**place)) {
            faults.push(format!("{path}:{line}: `{place}` is a folder of one machine: make the path relative"));
        }
    }
    faults
}

fn check_opening(source: &Source, text: &str) -> Vec<String> {
    let opens = text.starts_with("//! ");
    let message = "open the file with `//!`: what it owns, what it must never do";
    if opens { Vec::new() } else { vec![source.fault(1, message)] }
}

fn check_names(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let names = source.path.split('/').map(|name| name.strip_suffix(".rs").unwrap_or(name));
    for name in names.filter(|name| FORBIDDEN_MODULES.contains(name)) {
        faults.push(source.fault(1, format!("`{name}` says nothing: name the module after what it owns")));
    }
    for (at, pair) in source.tokens.windows(2).enumerate() {
        let name = pair[1].text;
        if pair[0].text == "mod" && FORBIDDEN_MODULES.contains(&name) {
            faults.push(source.fault(pair[1].line, format!("module `{name}` says nothing: name what it owns")));
        }
        let prefix = FORBIDDEN_PREFIXES.iter().find(|prefix| name.starts_with(**prefix));
        if let Some(prefix) = prefix.filter(|_| pair[0].text == "fn" && !source.in_tests(at)) {
            let message = format!("`{name}` begins with `{prefix}`: use a verb that tells what it does");
            faults.push(source.fault(pair[1].line, message));
        }
    }
    faults
}

fn check_length(source: &Source, text: &str) -> Vec<String> {
    let lines = source.tests_from.map_or(text.lines().count(), |at| source.tokens[at].line - 1);
    if source.is_test_file || lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    let message = format!("{lines} lines without tests, at most {FILE_LINES_MAX}: divide the file by topic");
    vec![source.fault(FILE_LINES_MAX + 1, message)]
}

fn check_functions(source: &Source, long_tables: &[(&str, &str, &str)]) -> Vec<String> {
    let mut faults = Vec::new();
    for function in source.functions() {
        let Function { name, line, lines, parameters } = function;
        let listed = long_tables.iter().any(|(path, table, _)| *path == source.path && *table == name);
        if lines > FUNCTION_LINES_MAX && !listed {
            let message = format!("`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}: move leaves out of it");
            faults.push(source.fault(line, message));
        }
        if parameters > PARAMETERS_MAX {
            let message =
                format!("`{name}` takes {parameters} parameters, at most {PARAMETERS_MAX}: join them in a type");
            faults.push(source.fault(line, message));
        }
    }
    faults
}

/// An entry of `LONG_TABLES` that nothing needs any more would let the next long function pass.
pub(crate) fn check_long_tables(files: &BTreeMap<String, String>, long_tables: &[(&str, &str, &str)]) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, name, reason) in long_tables {
        let text = files.get(*path).map_or("", String::as_str);
        let mut functions = Source::read(path, text).functions().into_iter();
        if !functions.any(|function| function.name == *name && function.lines > FUNCTION_LINES_MAX) {
            faults.push(format!("{path}:1: LONG_TABLES names `{name}`, which is not too long: remove the entry"));
        }
        if reason.is_empty() {
            faults.push(format!("{path}:1: LONG_TABLES names `{name}` without a reason: add it"));
        }
    }
    faults
}

/// `#[cfg(test)]` may stand before `mod tests`, the last item of its file or a file of its own, and nowhere else.
fn check_test_code(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    let texts: Vec<&str> = source.tokens.iter().map(|token| token.text).collect();
    for at in 0..texts.len() {
        let cfg = matches!(texts[at], "cfg" | "cfg_attr") && matches!(texts.get(at + 1), Some(&"(" | &"!"));
        if !cfg || !texts[at..source.close(at + 1)].contains(&"test") {
            continue;
        }
        let item = at.checked_sub(2).map_or(&texts[..0], |from| &texts[from..]);
        if item.starts_with(&["#", "[", "cfg", "(", "test", ")", "]", "mod", "tests", "{"]) {
            if let Some(after) = source.tokens.get(source.close(at + 7) + 1) {
                faults.push(source.fault(after.line, "code after `mod tests`: tests come last"));
            }
        } else if !item.starts_with(&["#", "[", "cfg", "(", "test", ")", "]", "mod", "tests", ";"]) {
            let message = "test code outside `#[cfg(test)] mod tests`: hand the difference in as an argument";
            faults.push(source.fault(source.tokens[at].line, message));
        }
    }
    faults
}

fn check_layers(source: &Source) -> Vec<String> {
    let module = source.module;
    let Some((_, entries)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        return vec![source.fault(1, format!("`{module}` has no layer: add it to LAYERS in tests/tidy.rs"))];
    };
    let group = |entry: &&'static str| GROUPS.iter().find(|(name, _)| name == entry).map(|(_, members)| *members);
    let single = |entry: &&'static str| vec![*entry];
    let allowed: BTreeSet<&str> =
        entries.iter().flat_map(|entry| group(entry).map_or_else(|| single(entry), <[&str]>::to_vec)).collect();
    let mut faults = Vec::new();
    for (at, path) in source.imports() {
        let under = |entry: &str| path == entry || path.strip_prefix(entry).is_some_and(|rest| rest.starts_with("::"));
        let by_tests = source.in_tests(at) && TESTS_MAY_IMPORT.iter().any(|entry| under(entry));
        if !under(module) && !by_tests && !allowed.iter().any(|entry| under(entry)) {
            let message = format!("`{module}` may not import `crate::{path}`: see LAYERS in tests/tidy.rs");
            faults.push(source.fault(source.tokens[at].line, message));
        }
    }
    for at in source.climbs_to_root() {
        let message = "`super` reaches the crate's root: write `crate::`, so that the layer can be seen";
        faults.push(source.fault(source.tokens[at].line, message));
    }
    faults
}

fn check_purity(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    if !PURE.contains(&source.module) {
        return faults;
    }
    let texts: Vec<&str> = source.tokens.iter().map(|token| token.text).collect();
    for (at, token) in source.tokens.iter().enumerate() {
        let named = |name: &&&str| {
            let parts: Vec<&str> = name.split("::").collect();
            let path: Vec<&str> = texts[at..].iter().step_by(2).take(parts.len()).copied().collect();
            path == parts && (parts.len() == 1 || texts.get(at + 1) == Some(&"::"))
        };
        if let Some(name) = IMPURE_NAMES.iter().find(named) {
            let message =
                format!("`{}` is pure and may not name `{name}`: take the value as an argument", source.module);
            faults.push(source.fault(token.line, message));
        }
    }
    faults
}

fn check_owned_crates(source: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    if PURE.contains(&source.module) {
        return faults; // told by check_purity
    }
    for (at, token) in source.tokens.iter().enumerate() {
        let owner = OWNED_CRATES.iter().find(|(name, owner)| *name == token.text && *owner != source.module);
        // Followed by `::` or `;` it is the crate, not a word of ours.
        if let Some((name, owner)) = owner.filter(|_| matches!(source.text(at + 1), "::" | ";")) {
            let message = format!("only `{owner}` may name `{name}`: ask it, or hand the value in");
            faults.push(source.fault(token.line, message));
        }
    }
    faults
}

/// A folder of sources with one file is a file. `x.rs` beside `x/` counts as one of its files; `tests/x/mod.rs` is how
/// cargo is told that a file is no test of its own.
pub(crate) fn check_folders(paths: &[&str]) -> Vec<String> {
    let mut members: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for path in paths.iter().filter(|path| path.starts_with("src/") || path.starts_with("tests/")) {
        let mut place = *path;
        while let Some((folder, _)) = place.rsplit_once('/') {
            members.entry(folder).or_default().insert(place);
            place = folder;
        }
    }
    let alone = |(folder, members): &(&&str, &BTreeSet<&str>)| {
        let file = members.len() == 1 && members.iter().all(|member| paths.contains(member));
        let shared = folder.starts_with("tests/") && members.iter().all(|member| member.ends_with("/mod.rs"));
        file && !shared && **folder != "tests" && !paths.contains(&format!("{folder}.rs").as_str())
    };
    let fault =
        |(folder, _): (&&str, &BTreeSet<&str>)| format!("{folder}:1: a folder with one file: make it {folder}.rs");
    members.iter().filter(alone).map(fault).collect()
}
