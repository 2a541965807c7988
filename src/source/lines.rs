//! Splitting bytes that arrive in chunks into lines of bounded length. Pure: the caller reads; a line that is too long
//! is passed over without being held.

/// What came of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fed {
    /// The chunk is used up and the line goes on.
    More,
    /// A whole line stands in [`Lines::line`].
    Line,
    /// A line ended that was longer than the bound; its content is gone.
    TooLong,
}

/// The line that is being put together.
#[derive(Debug)]
pub(super) struct Lines {
    line: Vec<u8>,
    bytes_max: usize,
    number: u64,
    open: bool,
    over: bool,
    done: bool,
}

impl Lines {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { line: Vec::new(), bytes_max, number: 0, open: false, over: false, done: false }
    }

    /// Takes from the chunk up to the end of one line; returns how much it took.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> (usize, Fed) {
        self.begin();
        let newline = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..newline.unwrap_or(chunk.len())];
        self.open |= !part.is_empty();
        if self.over || self.line.len() + part.len() > self.bytes_max {
            self.over = true;
            self.line.clear();
        } else {
            self.line.extend_from_slice(part);
        }
        match newline {
            Some(place) => (place + 1, self.close()),
            None => (chunk.len(), Fed::More),
        }
    }

    /// The input is over: a last line without its newline, or [`Fed::More`] where nothing is left.
    pub(super) fn end(&mut self) -> Fed {
        self.begin();
        if self.open { self.close() } else { Fed::More }
    }

    /// The line, without its newline and a carriage return before it.
    pub(super) fn line(&self) -> &[u8] {
        self.line.strip_suffix(b"\r").unwrap_or(&self.line)
    }

    /// The number of the line that was given last, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    fn begin(&mut self) {
        if self.done {
            self.line.clear();
            (self.open, self.over, self.done) = (false, false, false);
        }
    }

    fn close(&mut self) -> Fed {
        self.number += 1;
        self.done = true;
        if self.over { Fed::TooLong } else { Fed::Line }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(input: &[u8], chunk: usize, bytes_max: usize) -> Vec<(u64, Option<Vec<u8>>)> {
        let (mut lines, mut out) = (Lines::new(bytes_max), Vec::new());
        let mut note = |lines: &Lines, fed: Fed| match fed {
            Fed::More => {}
            Fed::Line => out.push((lines.number(), Some(lines.line().to_vec()))),
            Fed::TooLong => out.push((lines.number(), None)),
        };
        for mut part in input.chunks(chunk) {
            while !part.is_empty() {
                let (took, fed) = lines.feed(part);
                part = &part[took..];
                note(&lines, fed);
            }
        }
        let fed = lines.end();
        note(&lines, fed);
        out
    }

    #[test]
    fn lines_are_the_same_however_the_bytes_arrive() {
        let input = b"one\r\n\nthree is far too long\nfour\nlast";
        let line = |number, text: &str| (number, Some(text.as_bytes().to_vec()));
        let wanted = vec![line(1, "one"), line(2, ""), (3, None), line(4, "four"), line(5, "last")];
        for chunk in 1..=input.len() {
            assert_eq!(split(input, chunk, 8), wanted, "chunks of {chunk}");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_not_held() {
        let mut lines = Lines::new(10);
        for _ in 0..1000 {
            assert_eq!(lines.feed(&[b'x'; 1000]), (1000, Fed::More));
            assert!(lines.line.capacity() <= 1000);
        }
        assert_eq!(lines.feed(b"\n"), (1, Fed::TooLong));
    }
}
