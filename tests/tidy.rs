//! The house rules that a machine can check: who may import whom, how long things may grow, which words may not be
//! used. Every rule is in the table below and nowhere else; a failure names the line and what to change. It reads
//! files and knows nothing of the program; it never rewrites anything.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

#[path = "tidy/cases.rs"]
mod cases;
#[path = "tidy/checks.rs"]
mod checks;
#[path = "tidy/source.rs"]
mod source;

use checks::{check_file, check_folders, check_long_tables};

/// Who may import whom: a module, and what of `crate` it may name. An entry allows itself and everything below it.
/// The order is the order of the layers: main → cli, daemon → adapters → plan → contact.
const LAYERS: &[(&str, &[&str])] = &[
    ("main", &["cli", "daemon", "logging", "report"]),
    ("lib", &[]),
    ("cli", &["daemon", "report", "logging", "sandbox", ADAPTERS, CORE, SEAM]),
    ("daemon", &["report", "logging", ADAPTERS, CORE, SEAM, "backoff"]),
    ("report", &[ADAPTERS, CORE, SEAM]),
    ("logging", &["config", "clock", "report::visible"]),
    ("source", &["oauth", CORE, SEAM, "backoff", "json"]),
    ("reteno", &[CORE, SEAM, "backoff", "json"]),
    ("oauth", &[CORE, SEAM, "backoff", "json"]),
    ("checkpoint", &["oauth", CORE, SEAM]), // it implements the vault that oauth keeps its tokens in
    ("listener", &[CORE, SEAM]),
    // a description is resolved into what reads by it
    ("config", &["contact", "source", SEAM]),
    ("plan", &["contact", "clock::Timestamp"]),
    ("contact", &["clock::Timestamp"]),
    ("sandbox", &[SEAM]), // it shares no type or rule with what it is there to judge
    ("http", &["clock", "random"]),
    ("backoff", &["random", "clock::Timestamp"]),
    ("json", &["contact"]), // a value that cannot be kept is one that a mapping knows
    ("clock", &[]),
    ("disk", &[]),
    ("random", &[]),
];
/// Groups of modules, written in `LAYERS` by name.
const ADAPTERS: &str = "adapters";
const CORE: &str = "core";
const SEAM: &str = "seam";
const GROUPS: &[(&str, &[&str])] = &[
    (ADAPTERS, &["source", "reteno", "oauth", "checkpoint", "listener", "config"]),
    (CORE, &["plan", "contact"]),
    (SEAM, &["clock", "random", "http", "disk"]),
];
/// What the tests inside `src` may import beside what their module may: the stage, never another adapter.
const TESTS_MAY_IMPORT: &[&str] = &["sandbox", "clock", "random", "http"];

/// Modules that only compute, and what they may not name.
const PURE: &[&str] = &["plan", "contact"];
const IMPURE_NAMES: &[&str] = &[
    "tokio",
    "reqwest",
    "rusqlite",
    "figment",
    "tracing",
    "SystemTime",
    "Instant::now",
    "time::Instant",
    "rand",
    "getrandom",
    "fastrand",
    "thread_rng",
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "std::thread",
];

/// Crates that one module hides from all others, so that it can be exchanged or watched at one place.
const OWNED_CRATES: &[(&str, &str)] = &[
    ("reqwest", "http"),
    ("governor", "http"),
    ("rusqlite", "checkpoint"),
    ("rusqlite_migration", "checkpoint"),
    ("chacha20poly1305", "checkpoint"),
    ("getrandom", "random"),
    ("figment", "config"),
    ("oauth2", "oauth"),
];

/// Lines of a file, its tests not counted.
const FILE_LINES_MAX: usize = 400;
/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Parameters of a function, `self` not counted.
const PARAMETERS_MAX: usize = 5;
/// Exhaustive decision tables that may be longer: file, function, why it cannot be divided.
const LONG_TABLES: &[(&str, &str, &str)] = &[];

/// Names of modules and files that say nothing.
const FORBIDDEN_MODULES: &[&str] = &["util", "utils", "common", "manager"];
/// Beginnings of function names that say nothing. A test is named after a policy, so it may begin with any word.
const FORBIDDEN_PREFIXES: &[&str] = &["process_", "handle_", "new_"];
/// Words that stand for work left undone (in two halves, so that this file passes its own rule).
const FORBIDDEN_WORDS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME")];
/// Folders of a machine that built or wrote this, which no other machine has.
const FORBIDDEN_PATHS: &[&str] = &[concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// Folders that are not ours to check, by name.
const SKIPPED_FOLDERS: &[&str] = &[".git", "target"];

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    read_tree(root, root, &mut files);
    let paths: Vec<&str> = files.keys().map(String::as_str).collect();
    let mut faults = check_folders(&paths);
    for (path, text) in &files {
        faults.extend(check_file(path, text, LONG_TABLES));
    }
    faults.extend(check_long_tables(&files, LONG_TABLES));
    assert!(files.keys().any(|path| path == "src/lib.rs"), "no sources found below {}", root.display());
    assert!(faults.is_empty(), "{} to mend (tests/tidy.rs):\n{}", faults.len(), faults.join("\n"));
}

/// Every text file below `folder`, by its path relative to `root` with `/`.
fn read_tree(root: &Path, folder: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).expect("a folder of the tree can be listed") {
        let path = entry.expect("an entry of the tree can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("names of the tree are UTF-8");
        if path.is_dir() {
            if !SKIPPED_FOLDERS.contains(&name) {
                read_tree(root, &path, files);
            }
        } else if let Ok(text) = fs::read_to_string(&path) {
            let relative = path.strip_prefix(root).expect("the path was found below the root");
            files.insert(relative.to_string_lossy().replace('\\', "/"), text);
        }
    }
}
