//! A file's bytes as UTF-8, chunk by chunk, in constant memory.
//!
//! Bytes that mean nothing in the stated encoding are never replaced in silence: each becomes [`POISON`], a byte that no
//! UTF-8 text holds, so that the row around it, and only that row, fails its check.

use std::io::{self, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_8};

/// Stands for what could not be decoded.
pub(super) const POISON: u8 = 0xff;

/// Bytes read at once: the cost of a system call is spread thin, and the buffers stay in a core's second-level cache.
const CHUNK_BYTES: usize = 128 * 1024;

/// A reader whose chunks are UTF-8, but for invalid parts. Removes a byte order mark.
pub(super) struct Decoded<R> {
    inner: R,
    /// Absent for UTF-8, which passes through as it is and is checked row by row.
    decoder: Option<Decoder>,
    encoding: &'static Encoding,
    raw: Vec<u8>,
    raw_at: usize,
    raw_end: usize,
    out: Vec<u8>,
    at: usize,
    end: usize,
    ended: bool,
}

impl<R: Read> Decoded<R> {
    /// Looks at the first bytes: a byte order mark is certain, so it wins over the stated encoding.
    pub(super) fn open(inner: R, stated: &'static Encoding) -> io::Result<Self> {
        let mut this = Self {
            inner,
            decoder: None,
            encoding: stated,
            raw: vec![0; CHUNK_BYTES],
            raw_at: 0,
            raw_end: 0,
            out: Vec::new(),
            at: 0,
            end: 0,
            ended: false,
        };
        while this.raw_end < 3 && this.read_more()? > 0 {}
        if let Some((encoding, length)) = Encoding::for_bom(&this.raw[..this.raw_end]) {
            (this.encoding, this.raw_at) = (encoding, length);
        }
        if this.encoding != UTF_8 {
            let decoder = this.encoding.new_decoder_without_bom_handling();
            // A megabyte at most; the length is unknown only for inputs near the address space.
            this.out =
                vec![0; decoder.max_utf8_buffer_length_without_replacement(CHUNK_BYTES).unwrap_or(4 * CHUNK_BYTES)];
            this.decoder = Some(decoder);
        }
        Ok(this)
    }

    /// The encoding that is really used.
    pub(super) fn encoding(&self) -> &'static Encoding {
        self.encoding
    }

    /// What is decoded and not yet consumed, reading on where that is nothing; empty only at the end.
    pub(super) fn fill(&mut self) -> io::Result<&[u8]> {
        if self.decoder.is_none() {
            if self.raw_at == self.raw_end {
                (self.raw_at, self.raw_end) = (0, 0);
                self.read_more()?;
            }
            return Ok(&self.raw[self.raw_at..self.raw_end]);
        }
        while self.at == self.end && !self.ended {
            self.decode()?;
        }
        Ok(&self.out[self.at..self.end])
    }

    /// Marks bytes of the last [`Decoded::fill`] as used.
    pub(super) fn consume(&mut self, bytes: usize) {
        if self.decoder.is_some() { self.at += bytes } else { self.raw_at += bytes }
    }

    fn read_more(&mut self) -> io::Result<usize> {
        loop {
            match self.inner.read(&mut self.raw[self.raw_end..]) {
                Ok(length) => {
                    self.raw_end += length;
                    return Ok(length);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn decode(&mut self) -> io::Result<()> {
        let mut last = false;
        if self.raw_at == self.raw_end {
            (self.raw_at, self.raw_end) = (0, 0);
            last = self.read_more()? == 0;
        }
        let Some(decoder) = self.decoder.as_mut() else { return Ok(()) };
        let input = &self.raw[self.raw_at..self.raw_end];
        let (result, read, written) = decoder.decode_to_utf8_without_replacement(input, &mut self.out, last);
        self.raw_at += read;
        (self.at, self.end) = (0, written);
        match result {
            DecoderResult::InputEmpty => self.ended = last,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(_, _) => {
                // The output has room for the whole chunk, so for one byte in place of several as well.
                if self.end == self.out.len() {
                    self.out.push(0);
                }
                self.out[self.end] = POISON;
                self.end += 1;
            }
        }
        Ok(())
    }
}
