//! The pages of one query: where each begins, whether another follows, and whether the CRM pays heed to what is asked.
//! Knows no time and no request; shows no record.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use bytes::Bytes;
use serde_json::Value;

use super::description::{Pagination, Paging};

/// Pages with nothing on them, one after the other, of a CRM that says there is more: filters may empty some.
const EMPTY_MAX: u32 = 100;
const GIVES_NOTHING: &str = "it says that there is more, and gives nothing";

/// Whether another page follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum More {
    /// The CRM says that none follows, or gave an empty page.
    No,
    /// One follows.
    Yes,
    /// The page is shorter than others were. That proves nothing: a CRM may leave out of a page what the token may not
    /// see. The next page tells.
    Unproven,
    /// None: the short page before came once more, as of a CRM that takes the number of a page beyond its last for the last.
    Again {
        /// It was shorter than others. A page of unknown rank that comes again may be all that a CRM gives which pays no heed
        /// to the number.
        is_proven: bool,
    },
}

/// A page shorter than was asked for, of which the CRM did not say whether another follows. Behind it a 404, or the same page
/// once more, is no error: the CRM itself says so that there is no further page.
#[derive(Clone, Copy, Debug)]
struct Short {
    page: u64,
    /// Shorter than other pages of this CRM, too: the limit of its pages is not what cut it.
    is_shorter: bool,
}

/// What the pages of a query have shown.
#[derive(Debug)]
pub(super) struct Pages {
    /// The largest page that was ever seen: one that is shorter has not been cut by a limit of the CRM.
    largest: u64,
    /// The records before each page.
    starts: Vec<u64>,
    /// The page that was read last, by its number from 0, and a hash of its records.
    last: Option<(u64, u64)>,
    /// That page, if it was short.
    short: Option<Short>,
    /// Hashes of all pages with records and of all marks of a next page so far. A page that comes again means a circle, and so
    /// does a mark, unless it is the one before: a scroll keeps its mark for all of its pages. 100,000 pages take about 4 MB.
    contents: BTreeSet<u64>,
    marks: BTreeSet<u64>,
    /// The answers have said in so many words, true or false, whether there is more: then silence says nothing.
    says_plainly: bool,
    /// Pages without a record, one after the other.
    empty: u32,
    next: Option<Value>,
}

impl Pages {
    /// Of a CRM whose largest page so far had so many records; 0 where nothing is known.
    pub(super) const fn of(largest: u64) -> Self {
        Self {
            largest,
            starts: Vec::new(),
            last: None,
            short: None,
            contents: BTreeSet::new(),
            marks: BTreeSet::new(),
            says_plainly: false,
            empty: 0,
            next: None,
        }
    }

    /// Another query.
    pub(super) fn begin(&mut self) {
        *self = Self::of(self.largest);
    }

    pub(super) const fn largest(&self) -> u64 {
        self.largest
    }

    /// What the last answer gave for the next page.
    pub(super) const fn next(&self) -> Option<&Value> {
        self.next.as_ref()
    }

    /// Where a page is asked for that the CRM says does not exist: whether that proves the end of the list; `None` where it is
    /// an error, since the page before was as long as was asked for.
    pub(super) fn missing_behind(&self, page: u64) -> Option<bool> {
        let short = self.short.filter(|short| short.page + 1 == page)?;
        // a page in the middle that is as long as all others may be followed by one that stumbles
        Some(short.is_shorter || short.page == 0)
    }

    /// The records before a page: as many as came, not as many as were asked for, since a CRM may give fewer.
    pub(super) fn offset(&self, page: u64) -> u64 {
        usize::try_from(page).ok().and_then(|page| self.starts.get(page)).copied().unwrap_or(0)
    }

    /// Takes in a page of these items and says whether another follows; an error where
    /// that would never end.
    pub(super) fn take(
        &mut self,
        pagination: &Pagination,
        page: u64,
        (body, items): (&Value, &[Bytes]),
    ) -> Result<More, &'static str> {
        let count = items.len() as u64;
        let path = pagination.next.as_ref();
        let next = path.and_then(|path| path.query(body).first()).filter(|next| is_something(next)).cloned();
        let before = std::mem::replace(&mut self.next, next);
        let told = self.next.as_ref().filter(|_| pagination.kind == Paging::Offset).and_then(Value::as_u64);
        self.note_start(page, if count == 0 { pagination.page_size } else { count }, told);
        let short = self.short.take();
        let more = self.says_more(pagination, page, (body, count));
        let hash = (count > 0).then(|| hash_of(items));
        if let (Some(short), Some(_), Some(hash)) = (short, self.short, hash)
            && short.page + 1 == page
            && self.last == Some((short.page, hash))
        {
            return Ok(More::Again { is_proven: short.is_shorter });
        }
        self.largest = self.largest.max(count);
        if more == More::No {
            return Ok(More::No);
        }
        let goes_by_marks = match pagination.kind {
            Paging::Cursor | Paging::NextLink => true,
            Paging::Page | Paging::Offset => false,
            Paging::None => return Err("it says that there is more, and pagination.kind = \"none\" cannot ask for it"),
        };
        if pagination.kind == Paging::NextLink && !self.next.as_ref().is_some_and(Value::is_string) {
            return Err("what leads to its next page is no address");
        }
        let is_same_mark = goes_by_marks && before == self.next;
        if is_same_mark && count == 0 {
            // the same request would bring the same nothing
            let is_said =
                pagination.has_more.as_ref().is_some_and(|path| path.query(body).iter().any(|said| is_something(said)));
            return if is_said { Err(GIVES_NOTHING) } else { Ok(More::No) };
        }
        self.empty = if count == 0 { self.empty + 1 } else { 0 };
        if self.empty > EMPTY_MAX {
            return Err(GIVES_NOTHING);
        }
        if let Some(hash) = hash {
            self.note_content(page, hash)?;
        }
        let mark =
            self.next.as_ref().filter(|_| goes_by_marks && !is_same_mark).map(|next| hash_of(&[next.to_string()]));
        if mark.is_some_and(|mark| !self.marks.insert(mark)) {
            return Err("it leads to a page that it has led to before: its pages go round in a circle");
        }
        Ok(more)
    }

    /// Pages that are read again on a way back are no circle.
    fn note_content(&mut self, page: u64, hash: u64) -> Result<(), &'static str> {
        let last = self.last;
        if last.is_some_and(|(number, _)| page <= number) {
            return Ok(());
        }
        self.last = Some((page, hash));
        if last.is_some_and(|(number, before)| number + 1 == page && before == hash) {
            return Err("it is the page before once more: the CRM pays no heed to what is asked for");
        }
        if self.contents.insert(hash) {
            Ok(())
        } else {
            Err("a page comes that has come before: its pages go round in a circle")
        }
    }

    /// Where the next page begins: where the answer says it, else behind the records that came.
    fn note_start(&mut self, page: u64, step: u64, told: Option<u64>) {
        let Ok(page) = usize::try_from(page) else { return };
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        self.starts.truncate(page + 1);
        if let Some(start) = self.starts.get(page).copied() {
            self.starts.push(told.filter(|told| *told > start).unwrap_or(start + step));
        }
    }

    /// By the answer's words, else by an empty page. A short page alone is no end.
    fn says_more(&mut self, pagination: &Pagination, page: u64, (body, count): (&Value, u64)) -> More {
        let found = pagination.has_more.as_ref().map(|path| path.query(body).first());
        self.says_plainly |= matches!(found, Some(Some(Value::Bool(_))));
        let said = match found {
            Some(Some(said)) => Some(is_something(said)),
            // a link to the next page that is not there says that there is none, unless the page is full: a path that never
            // finds anything would leave the rest out
            Some(None) if count < pagination.page_size && !self.says_plainly => Some(false),
            Some(None) | None => None,
        };
        let by_word = |says: bool| if says { More::Yes } else { More::No };
        match pagination.kind {
            Paging::None => by_word(said == Some(true) || self.next.is_some()),
            Paging::Cursor | Paging::NextLink => {
                let is_denied = found.flatten().is_some_and(|found| !is_something(found));
                // nothing on the page, and nothing said of more
                let is_silent_end = count == 0 && found == Some(None);
                by_word(self.next.is_some() && !is_denied && !is_silent_end)
            }
            Paging::Page | Paging::Offset => {
                let is_shorter = count < self.largest.min(pagination.page_size);
                let is_short = said.is_none() && count > 0 && count < pagination.page_size;
                self.short = is_short.then_some(Short { page, is_shorter });
                match said {
                    Some(said) => by_word(said),
                    None if count > 0 && is_shorter => More::Unproven,
                    None => by_word(count > 0),
                }
            }
        }
    }
}

fn hash_of(texts: &[impl AsRef<[u8]>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for text in texts {
        text.as_ref().hash(&mut hasher);
    }
    hasher.finish()
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(said) => *said,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}
