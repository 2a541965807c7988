//! What is known of CRMs, as tables of the configuration: the lowest layer below the operator's own keys.
//!
//! A preset is text and nothing else. What is in it and why stands in its own comments.

use include_dir::{Dir, include_dir};

static PRESETS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/source/presets");

/// The names, each a `kind` of source, in their order.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS
        .files()
        .filter(|file| file.path().extension().is_some_and(|end| end == "toml"))
        .filter_map(|file| file.path().file_stem()?.to_str())
}

/// The text of a preset.
#[must_use]
pub fn find(name: &str) -> Option<&'static str> {
    let file = PRESETS.files().find(|file| file.path().file_stem().is_some_and(|stem| stem == name))?;
    file.contents_utf8()
}
