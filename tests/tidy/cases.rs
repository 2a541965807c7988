//! The proof that each rule can fail, and that it lets through what it should: small files of invented code.

use std::collections::BTreeMap;

use super::checks::{check_file, check_folders, check_long_tables};
use super::source::lex;
use super::{FILE_LINES_MAX, FORBIDDEN_PATHS, FORBIDDEN_WORDS, FUNCTION_LINES_MAX, IMPURE_NAMES, OWNED_CRATES};

/// The faults of a file that opens as it should, without that first line's number.
fn faults(path: &str, code: &str) -> Vec<String> {
    check_file(path, &format!("//! Words.\n{code}"), &[])
}

#[track_caller]
fn assert_passes(path: &str, code: &str) {
    assert_eq!(faults(path, code), Vec::<String>::new(), "{code}");
}

#[track_caller]
fn assert_fails(path: &str, code: &str, place_and_words: (usize, &str)) {
    let (line, words) = place_and_words;
    let found = faults(path, code);
    assert_eq!(found.len(), 1, "{code}: {found:?}");
    assert!(found[0].starts_with(&format!("{path}:{line}: ")), "{found:?}");
    assert!(found[0].contains(words), "{found:?}");
}

#[test]
fn layers_let_through_only_what_the_table_lists() {
    assert_passes("src/plan/batch.rs", "use crate::contact::Field;\nuse crate::clock::Timestamp;");
    assert_passes("src/plan/batch.rs", "use crate::plan::lane::Lane;\nuse super::lane::Lane;");
    assert_passes("src/source/http.rs", "use crate::{oauth::Token, clock::{self, Clock}, http as seam};");
    assert_passes("src/checkpoint/tokens.rs", "fn f() -> crate::oauth::Pair { crate::plan::decide::<u8>() }");
    assert_passes("src/reteno/client.rs", "use crate::backoff::Backoff;\nuse crate::plan::Batch;");
    assert_passes("src/main.rs", "use reteno_sync::cli;");
    assert_passes("src/sandbox/wire.rs", "use http::Request;\nuse crate::random::Random;");
    assert_passes("src/oauth/mod.rs", "// crate::reteno\nconst A: &str = \"crate::reteno::Client\";");
    assert_passes("src/oauth/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::sandbox::Sandbox;\n}");

    assert_fails("src/contact/name.rs", "use crate::plan::Lane;", (2, "`crate::plan::Lane`"));
    assert_fails("src/plan/batch.rs", "use crate::clock::{Timestamp, Clock};", (2, "`crate::clock::Clock`"));
    assert_fails("src/plan/batch.rs", "use crate::clock;", (2, "`crate::clock`"));
    assert_fails("src/source/http.rs", "use crate::{clock,\n    reteno::Call};", (3, "`crate::reteno::Call`"));
    assert_fails("src/oauth/mod.rs", "fn f() { crate::checkpoint::open(); }", (2, "`crate::checkpoint::open`"));
    assert_fails("src/sandbox/wire.rs", "use crate::contact::Field;", (2, "`crate::contact::Field`"));
    assert_fails("src/daemon/mod.rs", "use crate::cli::Arguments;", (2, "`crate::cli::Arguments`"));
    assert_fails("src/main.rs", "use reteno_sync::checkpoint;", (2, "`crate::checkpoint`"));
    assert_fails("src/reteno/mod.rs", "use crate::*;", (2, "`crate::*`"));
    assert_fails("src/reteno/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::oauth::Pair;\n}", (4, "oauth"));
    assert_fails("src/gadget/mod.rs", "", (1, "`gadget` has no layer"));
}

#[test]
fn layers_cannot_be_passed_by_climbing() {
    assert_passes("src/plan/mod.rs", "pub(super) fn f() {}\n#[cfg(test)]\nmod tests {\n    use super::*;\n}");
    assert_passes("src/plan/batch/split.rs", "use super::super::lane::Lane;");
    assert_fails("src/plan/mod.rs", "use super::reteno::Call;", (2, "`super` reaches"));
    assert_fails("src/plan/batch.rs", "use super::super::reteno::Call;", (2, "`super` reaches"));
    assert_fails("src/plan.rs", "#[cfg(test)]\nmod tests {\n    use super::super::x;\n}", (4, "`super` reaches"));
}

#[test]
fn pure_core_names_nothing_impure() {
    assert_passes("src/plan/wait.rs", "fn f(instant: u8, rand_: u8, at: Moment::Instant) {} // tokio");
    assert_passes("src/checkpoint/mod.rs", "use std::time::Instant;\nuse tokio::sync;");
    for name in IMPURE_NAMES {
        assert_fails("src/contact/name.rs", &format!("use {name}::x;"), (2, name));
    }
    assert_fails("src/plan/wait.rs", "#[cfg(test)]\nmod tests {\n    use tokio::x;\n}", (4, "tokio"));
}

#[test]
fn some_crates_stand_behind_one_module() {
    for (name, owner) in OWNED_CRATES {
        assert_passes(&format!("src/{owner}/mod.rs"), &format!("use {name}::x;"));
        assert_fails("src/daemon/mod.rs", &format!("use {name}::x;"), (2, owner));
    }
    assert_passes("src/daemon/mod.rs", "fn f(governor: u8) -> u8 { governor + 1 }");
}

#[test]
fn files_are_short_without_their_tests() {
    let lines = |count: usize| "\n".repeat(count - 1);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}", lines(300));
    assert_passes("src/plan/batch.rs", &lines(FILE_LINES_MAX));
    assert_passes("src/plan/batch.rs", &format!("{}{tests}", lines(FILE_LINES_MAX)));
    assert_passes("src/plan/tests.rs", &lines(900));
    assert_fails(
        "src/plan/mod.rs",
        &format!("#[cfg(test)]\nmod tests;\n{}", lines(FILE_LINES_MAX)),
        (FILE_LINES_MAX + 1, "lines without tests"),
    );
    assert_passes("src/plan/tests/random.rs", &lines(900));
    assert_fails("src/plan/batch.rs", &lines(FILE_LINES_MAX + 1), (FILE_LINES_MAX + 1, "401 lines"));
}

#[test]
fn functions_are_short_unless_listed_with_a_reason() {
    let function = |lines: usize| format!("pub fn table<T>() -> [u8; 2] {{{}}}", "\n".repeat(lines - 1));
    assert_passes("src/plan/batch.rs", &function(FUNCTION_LINES_MAX));
    let long = function(FUNCTION_LINES_MAX + 1);
    assert_fails("src/plan/batch.rs", &long, (2, "`table` has 71 lines"));
    assert_fails("tests/balance.rs", &long, (2, "`table` has 71 lines"));

    let listed = [("src/plan/batch.rs", "table", "one row a state")];
    let text = format!("//! Words.\n{long}");
    assert_eq!(check_file("src/plan/batch.rs", &text, &listed), Vec::<String>::new());
    assert_eq!(check_file("src/plan/other.rs", &text, &listed).len(), 1);

    let tree = BTreeMap::from([("src/plan/batch.rs".to_owned(), text)]);
    assert_eq!(check_long_tables(&tree, &listed), Vec::<String>::new());
    assert_eq!(check_long_tables(&tree, &[("src/plan/batch.rs", "table", "")]).len(), 1);
    assert_eq!(check_long_tables(&tree, &[("src/plan/batch.rs", "gone", "was long")]).len(), 1);
}

#[test]
fn functions_take_few_parameters() {
    let pass = [
        "fn f(a: u8, b: u8, c: u8, d: u8, e: u8) {}",
        "fn f(&'a mut self, a: u8, b: u8, c: u8, d: u8, e: u8) {}",
        "fn f<F: Fn(u8, u8) -> u8>(a: BTreeMap<u8, u8>, b: (u8, u8), c: F, d: [u8; 2], e: u8,) where F: Sized {}",
        "type F = fn(u8, u8, u8, u8, u8, u8) -> u8;",
    ];
    for code in pass {
        assert_passes("src/plan/batch.rs", code);
    }
    assert_fails("src/plan/batch.rs", "fn f(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8) {}", (2, "takes 6"));
    let method = "trait T {\n    fn f(self: Box<Self>, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8);\n}";
    assert_fails("src/plan/batch.rs", method, (3, "takes 6"));
}

#[test]
fn every_file_says_what_it_owns() {
    assert_eq!(check_file("src/plan/batch.rs", "use std::fmt;\n", &[]).len(), 1);
    assert_eq!(check_file("tests/balance.rs", "// Words.\n", &[]).len(), 1);
}

#[test]
fn names_say_something() {
    assert_passes(
        "src/plan/batch.rs",
        "fn new() {}\nfn renew_handle() {}\n#[cfg(test)]\nmod tests {\n    fn new_id() {}\n}",
    );
    assert_passes("tests/balance.rs", "#[test]\nfn new_contact_lists_all_fields() {}");
    assert_fails("src/plan/batch.rs", "fn process_batch() {}", (2, "`process_`"));
    assert_fails("src/plan/batch.rs", "async fn handle_answer() {}", (2, "`handle_`"));
    assert_fails("src/plan/batch.rs", "fn new_batch() {}", (2, "`new_`"));
    assert_fails("src/plan/batch.rs", "mod common {}", (2, "`common`"));
    assert_fails("src/plan/utils.rs", "", (1, "`utils`"));
    assert_fails("src/plan/manager/lane.rs", "", (1, "`manager`"));
}

#[test]
fn nothing_is_left_for_later() {
    for word in FORBIDDEN_WORDS {
        assert_fails("src/plan/batch.rs", &format!("// {word}: later"), (2, word));
        assert_eq!(check_file("README.md", &format!("a\n{word}"), &[]).len(), 1);
    }
}

#[test]
fn no_path_of_one_machine_is_kept() {
    for place in FORBIDDEN_PATHS {
        assert_fails("tests/balance.rs", &format!("const A: &str = \"{place}x\";"), (2, place));
        assert_eq!(check_file("systemd/a.service", &format!("a\nb={place}c"), &[]).len(), 1);
    }
}

#[test]
fn test_code_stays_in_its_module() {
    assert_passes("src/plan/mod.rs", "mod a;\n#[cfg(test)]\nmod tests;\nfn f() {}");
    assert_passes("src/plan/batch.rs", "#[cfg(unix)]\nfn f() {}\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}");
    let outside = "outside `#[cfg(test)] mod tests`";
    assert_fails("src/plan/batch.rs", "#[cfg(test)]\nfn f() {}", (2, outside));
    assert_fails("src/plan/batch.rs", "#[cfg(not(test))]\nfn f() {}", (2, outside));
    assert_fails("src/plan/batch.rs", "fn f() -> bool {\n    cfg!(test)\n}", (3, outside));
    assert_fails("src/plan/batch.rs", "#[cfg(any(test, unix))]\nfn f() {}", (2, outside));
    assert_fails("src/plan/batch.rs", "#[cfg(test)]\nmod samples {}", (2, outside));
    assert_fails("src/plan/batch.rs", "#[cfg(test)]\nmod tests {\n}\nfn f() {}", (5, "tests come last"));
    assert_fails("src/plan/batch.rs", "#[cfg(test)]\nmod tests {\n    #[cfg(test)]\n    fn f() {}\n}", (4, outside));
}

#[test]
fn folders_hold_more_than_one_file() {
    assert!(check_folders(&["src/lib.rs", "src/a/mod.rs", "src/a/b.rs", "tests/tidy.rs"]).is_empty());
    assert!(check_folders(&["src/lib.rs", "src/a.rs", "src/a/tests.rs", "systemd/x.service"]).is_empty());
    assert!(check_folders(&["tests/tidy.rs", "tests/support/mod.rs"]).is_empty());
    assert_eq!(check_folders(&["src/lib.rs", "src/a/mod.rs"]).len(), 1);
    assert_eq!(check_folders(&["src/lib.rs", "src/a/mod.rs", "src/a/b/c.rs"]).len(), 1);
    assert_eq!(check_folders(&["tests/tidy.rs", "tests/real/pg.sh"]).len(), 1);
}

#[test]
fn strings_and_comments_are_not_code() {
    let text = "a /* b /* c */ d */ 'x' '\\'' &'life \"e \\\" f\" r#\"g \" h\"# b\"i\" // j\nk::l";
    let tokens: Vec<(usize, &str)> = lex(text).iter().map(|token| (token.line, token.text)).collect();
    let first = ["a", "'x'", "'\\''", "&", "'", "life", "\"e \\\" f\"", "r#\"g \" h\"#", "b\"i\""];
    let mut expected: Vec<(usize, &str)> = first.into_iter().map(|token| (1, token)).collect();
    expected.extend([(2, "k"), (2, "::"), (2, "l")]);
    assert_eq!(tokens, expected);
}
