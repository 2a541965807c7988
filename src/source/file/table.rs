//! Rows of a table, by csv-core: the parser under the `csv` crate, used directly because it lets the caller own the
//! buffers. So a row that is too long (a quote that is never closed swallows the rest of a file) is passed over in
//! constant memory, and the line of each row is right also after blank lines and under CRLF.

use std::io::{self, Read};

use csv_core::ReadRecordResult;

use super::decode::Decoded;

/// Longest row in bytes. Above any sane contact, below what would hurt: a single stray quote can make "a row" of
/// gigabytes.
pub(super) const ROW_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most cells in a row, against a file that is no table at all.
const CELLS_MAX: usize = 65_536;

/// Put behind the last byte of the file: a row of its own, of bytes that no UTF-8 text holds. If the last quote is still
/// open it lands inside the last cell instead, which is how an unclosed quote is told from a closed one (the parser
/// itself closes it without a word).
const TAIL: &[u8] = b"\n\xfe\xfe\n";
const TAIL_CELL: &[u8] = b"\xfe\xfe";

/// What stands next in the table.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A row; see [`Table::cells`].
    Row,
    /// A row beyond [`ROW_BYTES_MAX`], passed over.
    TooLong,
    /// The row's quote was still open at the end of the file.
    Unclosed,
    /// Something else than the next cell stands after a closing quote: a stray quote has glued rows together.
    Misquoted,
    /// The end.
    End,
}

/// Where a row stands with its quotes. The parser takes whatever follows a closing quote for more of the cell; so a
/// single stray quote makes one row of several people, which must be known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// At the first byte of a cell.
    Start,
    /// In a cell that did not begin with a quote: quotes are letters there.
    Plain,
    /// Between quotes.
    Inside,
    /// After a quote that closes the cell, or is the first half of a doubled one.
    Closed,
}

impl Quotes {
    /// The state after `byte`, or nothing where the byte may not stand there.
    fn after(self, byte: u8, delimiter: u8) -> Option<Self> {
        let ends = byte == delimiter || matches!(byte, b'\r' | b'\n');
        Some(match self {
            Self::Inside if byte == b'"' => Self::Closed,
            Self::Inside => Self::Inside,
            Self::Start | Self::Closed if byte == b'"' => Self::Inside,
            Self::Start | Self::Plain | Self::Closed if ends => Self::Start,
            Self::Start | Self::Plain => Self::Plain,
            Self::Closed => return None,
        })
    }
}

/// A table that is being read. Blank lines are no rows.
pub(super) struct Table<R> {
    text: Decoded<R>,
    parser: csv_core::Reader,
    bytes: Vec<u8>,
    bytes_len: usize,
    ends: Vec<usize>,
    ends_len: usize,
    bytes_max: usize,
    /// What is left of [`TAIL`] once the text is used up.
    tail: &'static [u8],
    line: u64,
    /// The last byte was a carriage return: a newline behind it is part of the same end of a line.
    after_return: bool,
    row_line: u64,
    delimiter: u8,
    quotes: Quotes,
    misquoted: bool,
}

impl<R: Read> Table<R> {
    pub(super) fn new(text: Decoded<R>, delimiter: u8, bytes_max: usize) -> Self {
        Self {
            text,
            parser: csv_core::ReaderBuilder::new().delimiter(delimiter).build(),
            bytes: vec![0; 1024],
            bytes_len: 0,
            ends: vec![0; 32],
            ends_len: 0,
            bytes_max,
            tail: TAIL,
            line: 1,
            after_return: false,
            row_line: 1,
            delimiter,
            quotes: Quotes::Start,
            misquoted: false,
        }
    }

    /// Reads one row. `go_on` is asked before each chunk; on `false` the table counts as ended.
    pub(super) fn advance(&mut self, go_on: &dyn Fn() -> bool) -> io::Result<Next> {
        self.skip_newlines()?;
        self.row_line = self.line;
        (self.bytes_len, self.ends_len) = (0, 0);
        (self.quotes, self.misquoted) = (Quotes::Start, false);
        let mut over = false;
        loop {
            match self.step()? {
                ReadRecordResult::InputEmpty if go_on() => {}
                ReadRecordResult::InputEmpty | ReadRecordResult::End => return Ok(Next::End),
                ReadRecordResult::OutputFull => over |= !grow(&mut self.bytes, &mut self.bytes_len, self.bytes_max),
                ReadRecordResult::OutputEndsFull => over |= !grow(&mut self.ends, &mut self.ends_len, CELLS_MAX),
                ReadRecordResult::Record if over => return Ok(Next::TooLong),
                ReadRecordResult::Record => return Ok(self.classify()),
            }
        }
    }

    /// The cells of the row, one after the other, and where each ends.
    pub(super) fn cells(&self) -> (&[u8], &[usize]) {
        (&self.bytes[..self.bytes_len], &self.ends[..self.ends_len])
    }

    /// The line on which the row began, from 1.
    pub(super) fn row_line(&self) -> u64 {
        self.row_line
    }

    fn classify(&self) -> Next {
        let (bytes, ends) = self.cells();
        match (bytes == TAIL_CELL && ends.len() == 1, self.tail.is_empty()) {
            (true, true) => Next::End,
            (false, true) if contains(bytes, TAIL_CELL) => Next::Unclosed,
            (true | false, true | false) if self.misquoted => Next::Misquoted,
            (true | false, true | false) => Next::Row,
        }
    }

    fn step(&mut self) -> io::Result<ReadRecordResult> {
        let Self { text, parser, bytes, bytes_len, ends, ends_len, tail, quotes, misquoted, delimiter, .. } = self;
        let (line, after_return) = (&mut self.line, &mut self.after_return);
        // Once the tail has begun, the text is over, even if someone is still writing to the file.
        let chunk = if tail.len() == TAIL.len() { text.fill()? } else { &[] };
        let in_text = !chunk.is_empty();
        let input = if in_text { chunk } else { *tail };
        let (result, taken, cell_bytes, cells) =
            parser.read_record(input, &mut bytes[*bytes_len..], &mut ends[*ends_len..]);
        for byte in &input[..taken] {
            *line += ends_line(*byte, after_return);
            // like the parser: what follows a misplaced quote is more of its cell
            *quotes = quotes.after(*byte, *delimiter).unwrap_or_else(|| {
                *misquoted = true;
                Quotes::Plain
            });
        }
        *bytes_len += cell_bytes;
        *ends_len += cells;
        if in_text {
            text.consume(taken);
        } else {
            *tail = &tail[taken..];
        }
        Ok(result)
    }

    /// Newlines between rows mean nothing to the parser; taken here, they do not shift the row's line.
    fn skip_newlines(&mut self) -> io::Result<()> {
        loop {
            let chunk = self.text.fill()?;
            if chunk.is_empty() {
                return Ok(());
            }
            let count = chunk.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
            let ended = count < chunk.len();
            for byte in &chunk[..count] {
                self.line += ends_line(*byte, &mut self.after_return);
            }
            self.text.consume(count);
            if ended {
                return Ok(());
            }
        }
    }
}

/// One where the byte ends a line: a newline, a carriage return, or the first of the two together.
fn ends_line(byte: u8, after_return: &mut bool) -> u64 {
    let is_second = std::mem::replace(after_return, byte == b'\r');
    u64::from(byte == b'\r' || byte == b'\n' && !is_second)
}

/// Makes room for more; at the bound it forgets what is there instead and says `false`.
fn grow<T: Clone + Default>(buffer: &mut Vec<T>, used: &mut usize, most: usize) -> bool {
    if buffer.len() >= most {
        *used = 0;
        return false;
    }
    buffer.resize((buffer.len() * 2).min(most), T::default());
    true
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
