//! The pages of one query: where each begins, whether another follows, and whether the CRM pays heed to what is asked.
//! Knows no time and no request; shows no record.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;

use super::description::{Pagination, Paging};

/// Pages with nothing on them, one after the other, of a CRM that says there is more: filters may empty some.
const EMPTY_MAX: u32 = 100;

/// What the pages of a query have shown.
#[derive(Debug)]
pub(super) struct Pages {
    /// The largest page that was ever seen: one that is shorter has not been cut by a limit of the CRM.
    largest: u64,
    /// The records before each page.
    starts: Vec<u64>,
    /// The page that was read last, by its number from 0, and a hash of its records.
    last: Option<(u64, u64)>,
    /// Pages without a record, one after the other.
    empty: u32,
    next: Option<Value>,
}

impl Pages {
    /// Of a CRM whose largest page so far had so many records; 0 where nothing is known.
    pub(super) const fn of(largest: u64) -> Self {
        Self { largest, starts: Vec::new(), last: None, empty: 0, next: None }
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

    /// The records before a page: as many as came, not as many as were asked for, since a CRM may give fewer.
    pub(super) fn offset(&self, page: u64) -> u64 {
        usize::try_from(page).ok().and_then(|page| self.starts.get(page)).copied().unwrap_or(0)
    }

    /// Takes in a page of so many items, of which `records` are records, and says whether another follows; an error where that would never end.
    pub(super) fn take(
        &mut self,
        pagination: &Pagination,
        page: u64,
        (body, records, count): (&Value, &[&Value], u64),
    ) -> Result<bool, &'static str> {
        let path = pagination.next.as_ref();
        let next = path.and_then(|path| path.query(body).first()).filter(|next| is_something(next)).cloned();
        let before = std::mem::replace(&mut self.next, next);
        let told = self.next.as_ref().filter(|_| pagination.kind == Paging::Offset).and_then(Value::as_u64);
        self.note_start(page, if count == 0 { pagination.page_size } else { count }, told);
        let has_more = self.says_more(pagination, body, count);
        self.largest = self.largest.max(count);
        let last = self.last.replace((page, hash_of(records)));
        if !has_more {
            return Ok(false);
        }
        match pagination.kind {
            Paging::NextLink if !self.next.as_ref().is_some_and(Value::is_string) => {
                return Err("what leads to its next page is no address");
            }
            // the same request would bring the same nothing
            Paging::Cursor | Paging::NextLink if count == 0 && before == self.next => return Ok(false),
            Paging::None | Paging::Page | Paging::Offset | Paging::Cursor | Paging::NextLink => {}
        }
        self.empty = if count == 0 { self.empty + 1 } else { 0 };
        if self.empty > EMPTY_MAX {
            return Err("it says that there is more, and gives nothing");
        }
        let is_repeated = last.is_some_and(|(number, hash)| number + 1 == page && hash == hash_of(records));
        if !records.is_empty() && is_repeated {
            return Err("it is the page before once more: the CRM pays no heed to what is asked for");
        }
        Ok(true)
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

    /// By the answer's words, else by its length.
    fn says_more(&self, pagination: &Pagination, body: &Value, count: u64) -> bool {
        let said = match pagination.has_more.as_ref().map(|path| path.query(body).first()) {
            Some(Some(said)) => Some(is_something(said)),
            // silence is a no, unless the page is full: a path that never finds anything would leave the rest out
            Some(None) if count < pagination.page_size => Some(false),
            Some(None) | None => None,
        };
        match (pagination.kind, said) {
            (Paging::None, _) => false,
            (Paging::Cursor | Paging::NextLink, said) => self.next.is_some() && said != Some(false),
            (Paging::Page | Paging::Offset, Some(said)) => said,
            (Paging::Page | Paging::Offset, None) => count > 0 && count >= self.largest.min(pagination.page_size),
        }
    }
}

fn hash_of(records: &[&Value]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for record in records {
        record.to_string().hash(&mut hasher);
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
