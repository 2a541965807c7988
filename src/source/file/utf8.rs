//! Whether a file that is said to be in an old encoding is UTF-8. Any bytes are letters of windows-1251, so that nothing
//! would fail, and everybody's name would be overwritten. Pure but for reading.

use std::io::{self, Read};

/// So many letters of UTF-8 for one byte that is none: a file with a few spoilt rows is still UTF-8. In true text of an old
/// encoding nearly no letters of UTF-8 come about.
const LETTERS_FOR_ONE: u64 = 20;

/// Counts of UTF-8 letters and of bytes that are not UTF-8.
#[derive(Default)]
struct Count {
    letters: u64,
    others: u64,
    /// Bytes that the present letter still needs.
    wanting: u8,
}

impl Count {
    fn add(&mut self, byte: u8) {
        if self.wanting > 0 {
            if byte & 0xc0 == 0x80 {
                self.wanting -= 1;
                self.letters += u64::from(self.wanting == 0);
                return;
            }
            self.wanting = 0;
            self.others += 1;
        }
        match byte {
            0..0x80 => {}
            0xc2..0xe0 => self.wanting = 1,
            0xe0..0xf0 => self.wanting = 2,
            0xf0..0xf5 => self.wanting = 3,
            0x80..0xc2 | 0xf5.. => self.others += 1,
        }
    }

    const fn is_utf8(&self) -> bool {
        self.letters > 0 && self.letters >= self.others.saturating_mul(LETTERS_FOR_ONE)
    }
}

/// Reads to the end. A text of ASCII alone is the same in both, and is none.
pub(super) fn is_utf8(mut file: impl Read) -> io::Result<bool> {
    let (mut count, mut chunk) = (Count::default(), vec![0; 128 * 1024]);
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(count.is_utf8()),
            Ok(length) => chunk[..length].iter().for_each(|byte| count.add(*byte)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use encoding_rs::{Encoding, ISO_8859_2, KOI8_R, WINDOWS_1251, WINDOWS_1252};

    use super::*;

    #[test]
    fn utf8_is_told_from_old_encodings() {
        let text = "id,name,town\n1,Рівне,Львів\n2,Їжак,Суми\n3,Рік,Рівне\n";
        assert!(is_utf8(text.as_bytes()).unwrap());
        let spoilt = [text.repeat(9).as_bytes(), b"4,\xd0,\n"].concat();
        assert!(is_utf8(&*spoilt).unwrap(), "one spoilt row");
        let cyrillic: [&'static Encoding; 2] = [WINDOWS_1251, KOI8_R];
        for encoding in cyrillic {
            assert!(!is_utf8(&*encoding.encode(text).0).unwrap(), "{}", encoding.name());
        }
        let text = "1,Müller,Köln\n2,José,Málaga\n3,Łódź,Škoda\n";
        assert!(is_utf8(text.as_bytes()).unwrap());
        let western: [&'static Encoding; 2] = [WINDOWS_1252, ISO_8859_2];
        for encoding in western {
            assert!(!is_utf8(&*encoding.encode(text).0).unwrap(), "{}", encoding.name());
        }
        assert!(!is_utf8(&b"id,name\n1,Ann\n"[..]).unwrap());
    }
}
