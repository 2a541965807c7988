//! The file source over real files in a temporary directory.

use std::fs;
use std::io::Write;
use std::time::Duration;

use encoding_rs::{UTF_8, UTF_16LE, WINDOWS_1251, WINDOWS_1253};
use tempfile::TempDir;

use super::*;
use crate::clock::Timestamp;
use crate::source::{PAGE_BYTES_MAX, PAGE_ITEMS_MAX};

const CSV: Format = Format::Csv { delimiter: b',', encoding: UTF_8 };

struct Got {
    pages: Vec<Page>,
    end: Result<ReadEnd, SourceError>,
}

impl Got {
    /// Each item as one line: `2: a|b` for a record, `2! reason` for what is malformed.
    fn lines(&self) -> Vec<String> {
        let show = |item: &Item| match item {
            Item::Record { record, place: Place::Line(line) } => format!("{line}: {}", text(record)),
            Item::Malformed { place: Place::Line(line), reason } => format!("{line}! {reason}"),
            other => panic!("a file gives no {other:?}"),
        };
        self.pages.iter().flat_map(|page| &page.items).map(show).collect()
    }

    fn end(&self) -> &ReadEnd {
        self.end.as_ref().unwrap()
    }
}

fn rows_of(count: usize, name: &str) -> String {
    let rows: Vec<String> = (0..count).map(|id| format!("{id},{name}\n")).collect();
    rows.concat()
}

fn text(record: &Record) -> String {
    match record {
        Record::Json(value) => value.to_string(),
        Record::Row(row) => row.cells.iter().collect::<Vec<_>>().join("|"),
    }
}

async fn read_path(path: PathBuf, format: Format) -> Got {
    let source = FileSource::new(path, format, Clock::simulated(Timestamp(5000)));
    let (sender, mut receiver) = mpsc::channel(2);
    let drain = async {
        let mut pages = Vec::new();
        while let Some(page) = receiver.recv().await {
            pages.push(page);
        }
        pages
    };
    let (end, pages) = tokio::join!(source.read(sender, CancellationToken::new()), drain);
    Got { pages, end }
}

async fn read(content: &[u8], format: Format) -> Got {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("contacts");
    fs::write(&path, content).unwrap();
    read_path(path, format).await
}

#[tokio::test]
async fn rows_of_a_table() {
    let table: &[(&str, &str, &[&str])] = &[
        ("plain", "id,name\n1,a\n2,b\n", &["2: 1|a", "3: 2|b"]),
        ("no newline at the end", "id,name\n1,a", &["2: 1|a"]),
        ("carriage returns alone", "id,name\r1,a\r2\r3,c\r", &["2: 1|a", "3! 1 cells under a header of 2", "4: 3|c"]),
        ("a line that names the delimiter", "sep=,\r\nid,name\r\n1,a\r\n", &["3: 1|a"]),
        (
            "CRLF keeps the lines right",
            "id,name\r\n1,a\r\n2\r\n3,c\r\n",
            &["2: 1|a", "3! 1 cells under a header of 2", "4: 3|c"],
        ),
        (
            "blank lines are no rows and shift nothing",
            "id,name\n\n\n1,a\n\r\n2\n",
            &["4: 1|a", "6! 1 cells under a header of 2"],
        ),
        (
            "a newline, a delimiter and a quote in quotes",
            "id,name\n1,\"a\n,\"\"b\"\n2,c\n",
            &["2: 1|a\n,\"b", "4: 2|c"],
        ),
        ("cells too many", "id,name\n1,a,x\n2,b\n", &["2! 3 cells under a header of 2", "3: 2|b"]),
        ("empty cells are values", "id,name\n1,\n,\n", &["2: 1|", "3: |"]),
        ("a BOM is no part of the first name", "\u{feff}id,name\n1,a\n", &["2: 1|a"]),
        ("a quote inside an unquoted cell is a letter", "id,name\n1,5\" pipe\n2,b\n", &["2: 1|5\" pipe", "3: 2|b"]),
        (
            "a quote that stays open, with the right number of cells",
            "id,name\n1,a\n2,\"b\n3,c\n",
            &["2: 1|a", "3! a quote is opened and never closed: the rest of the file is lost in this row"],
        ),
        (
            "a quote that stays open, at the very end",
            "id,name\n1,\"",
            &["2! a quote is opened and never closed: the rest of the file is lost in this row"],
        ),
        ("a closed quote at the very end", "id,name\n1,\"a\"", &["2: 1|a"]),
        ("quotes before a delimiter, CRLF and a doubled one", "id,name\r\n\"1\",\"\"\"\"\r\n", &["2: 1|\""]),
        (
            "a stray quote that joins rows until the next quote, with the right number of cells",
            "id,name,mail\n1,\"a,a@x\n2,b,b@x\n3,\"c\",c@x\n4,d,d@x\n",
            &[
                "2! text stands behind a closing quote: a stray quote may have joined several rows into this one",
                "5: 4|d|d@x",
            ],
        ),
        (
            "a blank behind a closing quote",
            "id,name\n1,\"a\" \n2,b\n",
            &[
                "2! text stands behind a closing quote: a stray quote may have joined several rows into this one",
                "3: 2|b",
            ],
        ),
    ];
    for (case, content, wanted) in table {
        let got = read(content.as_bytes(), CSV).await;
        assert_eq!(got.lines(), *wanted, "{case}");
        let malformed = wanted.iter().filter(|line| line.contains("! ")).count() as u64;
        let end = got.end();
        assert_eq!((end.malformed, end.records), (malformed, wanted.len() as u64 - malformed), "{case}");
        assert_eq!(end.full, malformed == 0, "{case}: a malformed row may be anyone");
        assert!(got.pages.iter().all(|page| page.cursor.is_none() && page.asked_at == Timestamp(5000)), "{case}");
    }
}

#[tokio::test]
async fn bytes_that_mean_nothing_cost_only_their_row() {
    let encoded = |text: &str, encoding: &'static Encoding| match encoding.name() {
        "UTF-16LE" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        _ => encoding.encode(text).0.into_owned(),
    };
    let poisoned = |mut bytes: Vec<u8>, place: usize, with: &[u8]| {
        bytes.splice(place..place + with.len(), with.iter().copied());
        bytes
    };
    let names = "id,name\n1,Олена\n2,Їжак\n";
    let csv = |encoding| Format::Csv { delimiter: b',', encoding };
    let good: &[&str] = &["2: 1|Олена", "3: 2|Їжак"];
    let invalid = "2! bytes that are not valid";
    let table = [
        ("UTF-8", names.as_bytes().to_vec(), csv(UTF_8), good, None),
        ("windows-1251", encoded(names, WINDOWS_1251), csv(WINDOWS_1251), good, None),
        ("UTF-16, no BOM", encoded(names, UTF_16LE), csv(UTF_16LE), good, None),
        (
            "UTF-16 by its BOM, whatever is stated",
            encoded(&format!("\u{feff}{names}"), UTF_16LE),
            csv(UTF_8),
            good,
            Some("UTF-16LE"),
        ),
        ("half a letter in UTF-8", poisoned(names.as_bytes().to_vec(), 10, b"a"), csv(UTF_8), &[], None),
        ("half a pair of UTF-16", poisoned(encoded(names, UTF_16LE), 20, &[0x00, 0xd8]), csv(UTF_16LE), &[], None),
    ];
    for (case, bytes, format, wanted, warning) in table {
        let got = read(&bytes, format).await;
        let lines = got.lines();
        if wanted.is_empty() {
            assert!(lines[0].starts_with(invalid), "{case}: {lines:?}");
            assert_eq!(lines[1..], ["3: 2|Їжак"], "{case}");
            assert!(!got.end().full, "{case}");
        } else {
            assert_eq!(lines, wanted, "{case}");
            assert!(got.end().full, "{case}");
            assert_eq!(got.end().warnings.len(), usize::from(warning.is_some()), "{case}");
        }
        assert!(warning.is_none_or(|word| got.end().warnings[0].contains(word)), "{case}");
    }
}

/// Gives one byte at a time.
struct Slow<'a>(&'a [u8]);
impl std::io::Read for Slow<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let length = to.len().min(1);
        self.0.read(&mut to[..length])
    }
}

#[tokio::test]
async fn a_byte_that_the_stated_encoding_leaves_open_is_not_replaced() {
    let format = Format::Csv { delimiter: b',', encoding: WINDOWS_1253 };
    let got = read(b"id,name\n1,\xc1\n2,\xaa\n3,\xaa\xd2,\n4,b\n", format).await;
    let invalid = "bytes that are not valid windows-1253";
    assert_eq!(
        got.lines(),
        ["2: 1|Α".to_owned(), format!("3! {invalid}"), format!("4! {invalid}"), "5: 4|b".to_owned()]
    );
    // the same where each byte meets the end of a chunk, as with a slow reader
    let mut text = decode::Decoded::open(Slow(b"\xc1\xaa\xc1"), WINDOWS_1253).unwrap();
    let mut out = Vec::new();
    while let chunk @ [_, ..] = text.fill().unwrap() {
        let length = chunk.len();
        out.extend_from_slice(chunk);
        text.consume(length);
    }
    assert_eq!(out, [0xce, 0x91, decode::POISON, 0xce, 0x91]);
}

#[tokio::test]
async fn halves_of_a_letter_in_two_cells_are_no_letter() {
    let got = read(b"id,name\n\xd0,\x9e\n", CSV).await;
    assert_eq!(got.lines(), ["2! bytes that are not valid UTF-8"]);
}

#[tokio::test]
async fn a_header_alone_is_a_full_read_of_nobody() {
    let got = read(b"id,name\n", CSV).await;
    assert!(got.pages.is_empty());
    assert!(got.end().full && got.end().records == 0 && got.end().warnings.is_empty());
}

#[tokio::test]
async fn what_cannot_be_a_table_is_an_error() {
    let table: &[(&str, &[u8], &str)] = &[
        ("nothing", b"", "is empty"),
        ("only a BOM", b"\xef\xbb\xbf", "is empty"),
        ("only newlines", b"\n\r\n\n", "is empty"),
        ("no header but a person", b"1,olena@example.com\n", "looks like a record"),
        ("a header without names", b",,\n1,2,3\n", "names no column"),
        ("another delimiter", b"id;name\n1;a\n", "the delimiter does not occur"),
        ("bytes that mean nothing", b"id,\xff\n", "not valid in the stated encoding"),
        ("a header without an end", b"id,\"name\n1,a\n", "it has no end"),
        ("a line that names another delimiter", b"SEP=;\nid;name\n1;a\n", "sep=, which names another"),
        ("a header with a stray quote", b"id,\"na\"me\n1,a\n", "behind a closing quote"),
    ];
    for (case, content, wanted) in table {
        let error = read(content, CSV).await.end.unwrap_err();
        assert!(error.to_string().contains(wanted), "{case}: {error}");
        assert!(error.hint().is_some(), "{case}");
        assert!(!error.to_string().contains("olena"), "{case}: {error}");
    }
    let error = read(b"id,name\n", Format::Csv { delimiter: b'"', encoding: UTF_8 }).await.end.unwrap_err();
    assert!(matches!(error, SourceError::Delimiter { delimiter: b'"' }), "{error}");
}

#[tokio::test]
async fn doubtful_columns_are_warned_of_by_number() {
    let got = read(b"id,name,name,\n1,a,b,c\n", CSV).await;
    assert_eq!(got.lines(), ["2: 1|a|b|c"]);
    let warnings = &got.end().warnings;
    assert!(warnings[0].contains("columns 2 and 3") && warnings[1].contains("column 4"), "{warnings:?}");
}

#[tokio::test]
async fn columns_that_the_mapping_reads_are_looked_for() {
    let columns = |key: &[&str], mapped: &[(&str, &str)]| Columns {
        key: key.iter().map(|&name| name.to_owned()).collect(),
        mapped: mapped.iter().map(|(field, column)| ((*field).to_owned(), (*column).to_owned())).collect(),
    };
    let read = async |content: &str, columns: Columns| {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("contacts.csv");
        fs::write(&path, content).unwrap();
        let source = FileSource::new(path, CSV, Clock::simulated(Timestamp(0))).expecting(columns);
        let (sender, mut receiver) = mpsc::channel(1);
        let drain = async { while receiver.recv().await.is_some() {} };
        tokio::join!(source.read(sender, CancellationToken::new()), drain).0
    };
    let mail = [("email", "e_mail"), ("town", "city"), ("sms", "phone")];
    let end = read("id, E-Mail ,phone\n1,a,b\n", columns(&["id"], &mail)).await.unwrap();
    let told: Vec<&str> = end.warnings.iter().map(|text| text.split_once(" has no ").unwrap().1).collect();
    // what is like none is not shown: without a header it could be a person
    let wanted = [
        "column \"e_mail\", which is mapped to email; a similar one is \"E-Mail\"",
        "column \"city\", which is mapped to town",
    ];
    assert_eq!(told, wanted);
    assert!(read(" id\n1\n", columns(&["uuid", "id"], &[])).await.unwrap().warnings.is_empty(), "one of them is there");

    let error = read("ID,mail\n1,a\n", columns(&["id"], &[])).await.unwrap_err();
    assert!(
        error.to_string().ends_with("no column \"id\", which holds the record's id; a similar one is \"ID\""),
        "{error}"
    );
    let error = read("1,Olena\n2,Ira\n", columns(&["id"], &[])).await.unwrap_err();
    assert!(matches!(error, SourceError::NoKeyColumn { nearest: None, .. }), "{error}");
    assert!(error.hint().is_some() && !error.is_temporary());
}

async fn read_expecting(content: &str, format: Format, columns: Columns) -> Result<ReadEnd, SourceError> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("contacts.csv");
    fs::write(&path, content).unwrap();
    let source = FileSource::new(path, format, Clock::simulated(Timestamp(0))).expecting(columns);
    let (sender, mut receiver) = mpsc::channel(1);
    let drain = async { while receiver.recv().await.is_some() {} };
    tokio::join!(source.read(sender, CancellationToken::new()), drain).0
}

#[tokio::test]
async fn two_columns_of_one_name_are_an_error_where_the_mapping_reads_them() {
    let mapped =
        |column: &str| Columns { key: vec!["id".to_owned()], mapped: vec![("email".to_owned(), column.to_owned())] };
    let table = "id,mail,note,note,mail\n1,,x,y,a@example.com\n";
    let error = read_expecting(table, CSV, mapped("mail")).await.unwrap_err();
    assert!(error.to_string().contains("columns 2 and 5 have one name"), "{error}");
    let end = read_expecting("id,mail,note,note\n1,a@example.com,x,y\n", CSV, mapped("mail")).await.unwrap();
    assert!(end.full && end.warnings[0].contains("columns 3 and 4"), "{:?}", end.warnings);
}

#[tokio::test]
async fn a_table_without_a_header_has_nobody_named() {
    let columns = Columns {
        key: vec!["id".to_owned()],
        mapped: vec![("lastName".to_owned(), "marina".to_owned()), ("town".to_owned(), "town".to_owned())],
    };
    let error = read_expecting("Ida,Marika\nBo,Lana\n", CSV, columns.clone()).await.unwrap_err();
    assert!(!error.to_string().contains("Ida"), "{error}");
    let end = read_expecting("id,Marika\n1,Lana\n", CSV, columns).await.unwrap();
    assert!(end.warnings[0].contains("a similar one is \"Marika\""), "{:?}", end.warnings);
}

#[tokio::test]
async fn utf8_where_an_old_encoding_is_stated_is_not_read() {
    let format = Format::Csv { delimiter: b',', encoding: WINDOWS_1251 };
    let names = "id,name\n1,Олена\n2,Рівне\n";
    let error = read(names.as_bytes(), format).await.end.unwrap_err();
    assert!(matches!(error, SourceError::Encoding { .. }) && error.hint().is_some(), "{error}");
    let (bytes, _, _) = WINDOWS_1251.encode(names);
    assert_eq!(read(&bytes, format).await.lines(), ["2: 1|Олена", "3: 2|Рівне"]);
    let marked = format!("\u{feff}{names}");
    assert_eq!(read(marked.as_bytes(), format).await.lines(), ["2: 1|Олена", "3: 2|Рівне"], "its mark says what it is");
}

#[tokio::test]
async fn lines_of_json() {
    let table: &[(&str, &str, &[&str])] = &[
        ("plain", "{\"id\":1}\n{\"id\":2}\n", &["1: {\"id\":1}", "2: {\"id\":2}"]),
        (
            "no newline at the end, CRLF, blank lines",
            "{\"id\":1}\r\n\r\n {\"id\":2}",
            &["1: {\"id\":1}", "3: {\"id\":2}"],
        ),
        (
            "cut off, then whole",
            "{\"id\":\n{\"id\":2}\n",
            &["1! JSON that is cut off at byte 7 of the line", "2: {\"id\":2}"],
        ),
        (
            "not an object",
            "[1]\n\"olena@example.com\"\n{}\n",
            &["1! JSON, but not an object", "2! JSON, but not an object", "3: {}"],
        ),
        ("a BOM", "\u{feff}{\"id\":1}\n", &["1: {\"id\":1}"]),
    ];
    for (case, content, wanted) in table {
        let got = read(content.as_bytes(), Format::JsonLines).await;
        assert_eq!(got.lines(), *wanted, "{case}");
        assert_eq!(got.end().full, got.end().malformed == 0, "{case}");
    }
    for empty in ["", "\n\n"] {
        let error = read(empty.as_bytes(), Format::JsonLines).await.end.unwrap_err();
        assert!(matches!(error, SourceError::Empty { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_row_that_is_too_long_is_passed_over() {
    let long = "x".repeat(table::ROW_BYTES_MAX + 1);
    let csv = read(format!("id,name\n1,\"{long}\n,\"\n2,b\n").as_bytes(), CSV).await;
    assert_eq!(csv.lines()[1], "4: 2|b");
    assert!(csv.lines()[0].starts_with("2! a row of more than"));
    let json = read(format!("{{\"id\":\"{long}\"}}\n{{\"id\":2}}\n").as_bytes(), Format::JsonLines).await;
    assert_eq!(json.lines()[1], "2: {\"id\":2}");
    assert!(json.lines()[0].starts_with("1! a line of more than"));
}

#[test]
fn an_endless_row_takes_no_more_memory_than_the_bound() {
    let endless = std::io::Read::chain(&b"id,name\n1,\"a\n"[..], std::io::Read::take(std::io::repeat(b'x'), 5_000_000));
    let text = decode::Decoded::open(endless, UTF_8).unwrap();
    let mut table = table::Table::new(text, b',', 4096);
    assert_eq!(table.advance(&|| true).unwrap(), table::Next::Row);
    assert_eq!(table.advance(&|| true).unwrap(), table::Next::TooLong);
    assert!(table.cells().0.len() <= 4096);
    assert_eq!(table.advance(&|| true).unwrap(), table::Next::End);
}

#[tokio::test]
async fn pages_are_bounded_by_items_and_by_bytes() {
    let many = PAGE_ITEMS_MAX * 2 + 1;
    let rows: String = rows_of(many, "a");
    let got = read(format!("id,name\n{rows}").as_bytes(), CSV).await;
    let sizes: Vec<usize> = got.pages.iter().map(|page| page.items.len()).collect();
    assert_eq!(sizes, [PAGE_ITEMS_MAX, PAGE_ITEMS_MAX, 1]);
    assert!(got.end().full && got.end().records == many as u64);

    let large = "x".repeat(PAGE_BYTES_MAX / 4);
    let rows: String = rows_of(5, &large);
    let got = read(format!("id,name\n{rows}").as_bytes(), CSV).await;
    let sizes: Vec<usize> = got.pages.iter().map(|page| page.items.len()).collect();
    assert_eq!(sizes, [4, 1]);
}

#[tokio::test]
async fn a_file_that_changes_under_the_reader_is_no_full_read() {
    type Change = fn(&Path);
    let table: [(&str, Change); 3] = [
        ("appended to", |path| {
            fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"9,z\n").unwrap();
        }),
        ("replaced by a file of equal length", |path| {
            let new = path.with_extension("new");
            fs::copy(path, &new).unwrap();
            fs::rename(new, path).unwrap();
        }),
        ("removed", |path| fs::remove_file(path).unwrap()),
    ];
    for (case, change) in table {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("contacts.csv");
        let rows: String = rows_of(PAGE_ITEMS_MAX * 12, "a");
        fs::write(&path, format!("id,name\n{rows}")).unwrap();
        let source = FileSource::new(path.clone(), CSV, Clock::simulated(Timestamp(0)));
        // One page fits; the others wait, so the reader is in the middle when the first one is here.
        let (sender, mut receiver) = mpsc::channel(1);
        let drain = async {
            receiver.recv().await.unwrap();
            change(&path);
            while receiver.recv().await.is_some() {}
        };
        let (end, ()) = tokio::join!(source.read(sender, CancellationToken::new()), drain);
        let end = end.unwrap();
        assert!(!end.full, "{case}");
        assert!(end.warnings[0].contains("changed or replaced"), "{case}: {:?}", end.warnings);
    }
}

#[tokio::test]
async fn what_is_no_file_is_an_error_at_once() {
    let dir = TempDir::new().unwrap();
    let error = read_path(dir.path().to_owned(), CSV).await.end.unwrap_err();
    assert!(matches!(error, SourceError::NotAFile { .. }), "{error}");
    let error = read_path(dir.path().join("none"), CSV).await.end.unwrap_err();
    assert!(matches!(error, SourceError::Unreadable { action: "open", .. }), "{error}");
    let pipe = dir.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let got = tokio::time::timeout(Duration::from_secs(10), read_path(pipe, CSV)).await.expect("a pipe is not opened");
    assert!(matches!(got.end.unwrap_err(), SourceError::NotAFile { .. }));
}

#[tokio::test]
async fn a_stop_or_a_lost_receiver_ends_a_reader_that_waits() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("contacts.csv");
    let rows: String = rows_of(PAGE_ITEMS_MAX * 8, "a");
    fs::write(&path, format!("id,name\n{rows}")).unwrap();
    let source = FileSource::new(path, CSV, Clock::simulated(Timestamp(0)));
    for lose_receiver in [false, true] {
        let (sender, mut receiver) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let cut = async {
            receiver.recv().await.unwrap();
            if lose_receiver {
                receiver.close();
            } else {
                stop.cancel();
            }
        };
        let (end, ()) = tokio::join!(source.read(sender, stop.clone()), cut);
        assert!(matches!(end, Err(SourceError::Stopped)), "{end:?}");
    }
}
