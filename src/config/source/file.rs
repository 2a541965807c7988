//! `kind = "file"`: CSV or JSON lines.

use std::path::PathBuf;

use encoding_rs::Encoding;
use serde::Deserialize;

use crate::config::problem::KeyPath;
use crate::config::raw::Leaf;
use crate::config::reader::Reader;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawFile {
    path: Option<Leaf>,
    format: Option<Leaf>,
    delimiter: Option<Leaf>,
    encoding: Option<Leaf>,
}

/// A file that is read whole each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileConfig {
    /// Absolute.
    pub path: PathBuf,
    /// What is in it.
    pub format: FileFormat,
    /// How its bytes become text.
    pub encoding: &'static Encoding,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// A table with a header.
    Csv {
        /// One ASCII character.
        delimiter: u8,
    },
    /// One JSON object a line.
    JsonLines,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Csv,
    JsonLines,
}

const FORMS: [(&str, Form); 2] = [("csv", Form::Csv), ("jsonl", Form::JsonLines)];

pub(super) fn resolve(reader: &mut Reader, section: &KeyPath, raw: &RawFile) -> Option<FileConfig> {
    const PATH: &str = "the path of a file, relative to the configuration file's directory or absolute";
    reader.required(raw.path.as_ref(), &section.child("path"), PATH);
    let path = reader.path(raw.path.as_ref(), PATH);
    let encoding = encoding(reader, raw.encoding.as_ref());
    let delimiter = delimiter(reader, raw.delimiter.as_ref());
    let form = if raw.format.is_some() {
        reader.choice(raw.format.as_ref(), &FORMS, &[])
    } else {
        raw.path.as_ref().zip(path.as_ref()).and_then(|(leaf, path)| by_extension(reader, leaf, path))
    };
    let format = match form? {
        Form::Csv => FileFormat::Csv { delimiter: delimiter? },
        Form::JsonLines => {
            refuse_for_lines(reader, raw.delimiter.as_ref(), "no delimiter");
            refuse_for_lines(reader, raw.encoding.as_ref(), "no encoding: it is always UTF-8");
            FileFormat::JsonLines
        }
    };
    Some(FileConfig { path: path?, format, encoding: encoding? })
}

fn by_extension(reader: &mut Reader, leaf: &Leaf, path: &std::path::Path) -> Option<Form> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("csv") => Some(Form::Csv),
        Some("jsonl" | "ndjson") => Some(Form::JsonLines),
        Some(_) | None => {
            let format = leaf.key.parent().unwrap_or_default().child("format");
            let what = format!("does not tell its format by its name, and {format} is not set");
            reader.refuse(
                leaf,
                what,
                format!("a name that ends in .csv, .jsonl or .ndjson, or {format} = \"csv\" | \"jsonl\""),
            )
        }
    }
}

fn delimiter(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<u8> {
    const ACCEPTED: &str = "one ASCII character such as \",\", \";\" or \"\\t\"";
    let leaf = leaf?;
    // Not read as text: a tab is one that only consists of blanks.
    match leaf.value.as_str().map(str::as_bytes) {
        Some([byte]) if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n' | 0) => Some(*byte),
        Some(_) | None => reader.refuse(leaf, "is not a delimiter", ACCEPTED),
    }
}

/// A key of tables only, unless it is the default.
fn refuse_for_lines(reader: &mut Reader, leaf: Option<&Leaf>, accepted: &str) {
    if let Some(leaf) = leaf.filter(|leaf| reader.is_set(&leaf.key)) {
        reader.refuse::<()>(leaf, "has no meaning for JSON lines", accepted);
    }
}

fn encoding(reader: &mut Reader, leaf: Option<&Leaf>) -> Option<&'static Encoding> {
    const ACCEPTED: &str =
        "a label of the WHATWG Encoding Standard such as \"utf-8\", \"windows-1251\" or \"utf-16le\"";
    let label = reader.text(leaf, ACCEPTED)?;
    match Encoding::for_label(label.as_bytes()) {
        Some(encoding) => Some(encoding),
        None => reader.refuse(leaf?, "is not a known encoding", ACCEPTED),
    }
}
