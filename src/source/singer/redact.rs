//! A tap's log lines made fit for ours: without addresses, numbers of people, secrets, and what looks like one. Pure;
//! takes out too much rather than too little.

/// Longest line that is passed on, in characters.
const CHARS_MAX: usize = 300;
/// A run of letters and digits this long is taken for a token or a hash.
const TOKEN_CHARS: usize = 20;
/// As many digits in a row as the shortest international phone number has.
const PHONE_DIGITS: usize = 9;
/// A value behind one of these is a secret, however short.
const SECRET_KEYS: [&str; 8] = ["token", "secret", "password", "passwd", "key", "authorization", "bearer", "basic"];

/// One line without what must not be logged.
pub(super) fn redact(line: &str) -> String {
    let line = without_phones(&without_queries(&without_quotes(&without_keys(&without_data(line)))));
    let mut out = String::new();
    let mut after_secret_key = false;
    for part in line.split_inclusive(is_border) {
        let word = part.trim_end_matches(is_border);
        let border = &part[word.len()..];
        if !word.is_empty() {
            let hidden = after_secret_key && !is_secret_key(word);
            out.push_str(&if hidden { "****".to_owned() } else { redact_word(word) });
            after_secret_key = is_secret_key(word);
        }
        out.push_str(border);
    }
    let mut short: String = out.chars().take(CHARS_MAX).collect();
    if short.len() < out.len() {
        short.push('…');
    }
    short
}

/// A structure in a log line is a record as likely as not.
fn without_data(line: &str) -> String {
    match (line.find('{'), line.rfind('}')) {
        (Some(start), Some(end)) if start < end => format!("{}{{…}}{}", &line[..start], &line[end + 1..]),
        (Some(start), _) => format!("{}{{…", &line[..start]),
        (None, _) => line.to_owned(),
    }
}

/// `PostgreSQL` names the row that breaks a rule: `Key (email)=(olena@example.com) already exists`.
fn without_keys(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, value)) = rest.split_once("=(") {
        out.push_str(before);
        out.push_str("=(****");
        rest = value.rfind(')').map_or("", |end| &value[end..]);
    }
    out + rest
}

/// What an error quotes is a value as likely as not. A path in quotes is not: a traceback has many.
fn without_quotes(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((place, open, close)) = first_quote(rest, out.chars().next_back()) {
        let (before, from) = rest.split_at(place);
        let quoted = &from[open.len_utf8()..];
        // A quote that is not closed hides the rest.
        let end = quoted.find(close).unwrap_or(quoted.len());
        let (text, after) = quoted.split_at(end);
        out.push_str(before);
        out.push(open);
        out.push_str(if is_path(text) { text } else { "****" });
        if let Some(after) = after.strip_prefix(close) {
            out.push(close);
            rest = after;
        } else {
            rest = "";
        }
    }
    out + rest
}

/// The first opening quote, and the letter that closes it. An apostrophe inside a word opens nothing.
fn first_quote(text: &str, before: Option<char>) -> Option<(usize, char, char)> {
    let mut last = before;
    for (place, letter) in text.char_indices() {
        let close = match letter {
            '"' | '`' => Some(letter),
            '\'' if !last.is_some_and(char::is_alphanumeric) => Some(letter),
            '\u{201c}' => Some('\u{201d}'),
            '\u{2018}' => Some('\u{2019}'),
            '\u{ab}' => Some('\u{bb}'),
            _ => None,
        };
        if let Some(close) = close {
            return Some((place, letter, close));
        }
        last = Some(letter);
    }
    None
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && !text.contains(|letter: char| letter.is_whitespace() || letter == '@')
}

/// Numbers as people write them, in groups with blanks, brackets, dots and hyphens between them. A date is none, so that
/// the time at the start of a line stays.
fn without_phones(line: &str) -> String {
    let letters: Vec<char> = line.chars().collect();
    let mut out = String::new();
    let mut at = 0;
    while at < letters.len() {
        if is_date(&letters[at..]) {
            out.extend(&letters[at..at + DATE_CHARS]);
            at += DATE_CHARS;
            continue;
        }
        let (end, digits) = number_end(&letters[at..]);
        if digits >= PHONE_DIGITS {
            out.push_str("****");
            at += end;
        } else {
            let taken = end.max(1);
            out.extend(&letters[at..at + taken]);
            at += taken;
        }
    }
    out
}

/// `2026-11-20`
const DATE_CHARS: usize = 10;

fn is_date(letters: &[char]) -> bool {
    letters.len() >= DATE_CHARS
        && letters[..DATE_CHARS].iter().enumerate().all(|(place, letter)| match place {
            4 | 7 => *letter == '-',
            _ => letter.is_ascii_digit(),
        })
        && letters.get(DATE_CHARS).is_none_or(|next| !next.is_ascii_digit() && *next != '-')
}

/// Where a number that begins here ends, and how many digits it has: groups with at most three other signs between.
fn number_end(letters: &[char]) -> (usize, usize) {
    let (mut end, mut digits, mut gap) = (0, 0, 0);
    for (place, letter) in letters.iter().enumerate() {
        if letter.is_ascii_digit() {
            (end, digits, gap) = (place + 1, digits + 1, 0);
        } else if digits > 0 && gap < 3 && is_number_sign(*letter) && !is_date(&letters[place + 1..]) {
            gap += 1;
        } else {
            break;
        }
    }
    (end, digits)
}

fn is_number_sign(letter: char) -> bool {
    matches!(letter, ' ' | '\u{a0}' | '(' | ')' | '[' | ']' | '-' | '.' | '/' | '+' | '\u{2010}'..='\u{2015}')
}

/// Taps put tokens into the queries of their URLs.
fn without_queries(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, query)) = rest.split_once('?') {
        let end = query.find(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | ')' | '>'));
        let (query, after) = query.split_at(end.unwrap_or(query.len()));
        out.push_str(before);
        out.push_str(if query.is_empty() { "?" } else { "?****" });
        rest = after;
    }
    out + rest
}

fn is_border(letter: char) -> bool {
    letter.is_whitespace()
        || matches!(letter, '"' | '\'' | ':' | ',' | ';' | '(' | ')' | '[' | ']' | '<' | '>' | '=' | '`')
}

fn is_secret_key(word: &str) -> bool {
    let word = word.to_lowercase();
    SECRET_KEYS.iter().any(|key| word.ends_with(key))
}

fn redact_word(word: &str) -> String {
    if word.contains('@') {
        return "****".to_owned();
    }
    let mut out = String::new();
    for part in word.split_inclusive(['/', '.']) {
        let core = part.trim_end_matches(['/', '.']);
        out.push_str(if is_token(core) || is_phone(core) { "****" } else { core });
        out.push_str(&part[core.len()..]);
    }
    out
}

fn is_token(word: &str) -> bool {
    word.chars().count() >= TOKEN_CHARS && word.chars().any(|letter| letter.is_ascii_digit())
}

fn is_phone(word: &str) -> bool {
    let mut run = 0;
    word.chars().any(|letter| {
        run = match letter {
            '0'..='9' => run + 1,
            '-' | '+' => run,
            _ => 0,
        };
        run >= PHONE_DIGITS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_be_logged_is_taken_out() {
        let table = [
            // a plain line stays
            ("INFO tap_postgres | Beginning full sync", "INFO tap_postgres | Beginning full sync"),
            // a traceback's path stays readable
            (
                "  File \"/opt/taps/lib/python3.11/tap.py\", line 12, in run",
                "  File \"/opt/taps/lib/python3.11/tap.py\", line 12, in run",
            ),
            // an address
            ("no contact olena.bondar@example.com here", "no contact **** here"),
            // a URL's query, where taps put api keys
            (
                "GET https://api.example.com/v1/persons?api_token=abc&start=0 200",
                "GET https://api.example.com/v1/persons?**** 200",
            ),
            // a URL's user and password
            ("postgresql://sync:hunter2@db/crm refused", "postgresql://sync:**** refused"),
            // a key and its value
            ("refresh_token=abc expired", "refresh_token=**** expired"),
            ("Authorization: Bearer abc", "Authorization: Bearer ****"),
            // a long token without a key
            ("got eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.x", "got ****.****.x"),
            // a phone number
            ("bad phone +380670000001", "bad phone +****"),
            // in groups
            ("bad phone +38 (067) 000-00-01, again", "bad phone +****, again"),
            ("bad phone 067 000 00 01", "bad phone ****"),
            ("bad phone [067].000.00.01!", "bad phone [****!"),
            // a date and a time are none
            ("2026-11-20 10:00:00,123 ERROR 42 rows", "2026-11-20 10:00:00,123 ERROR 42 rows"),
            ("since 2026-11-20 067 000 00 01", "since 2026-11-20 ****"),
            // what a database quotes
            (
                "DETAIL:  Key (email, name)=(olena, Olena (VIP)) already exists.",
                "DETAIL:  Key (****, name)=(****) already exists.",
            ),
            ("invalid input syntax for type integer: \"Olena B\"", "invalid input syntax for type integer: \"****\""),
            ("Duplicate entry 'Olena' for key 'name'", "Duplicate entry '****' for key '****'"),
            ("can't read: \u{ab}Olena\u{bb}", "can't read: \u{ab}****\u{bb}"),
            ("KeyError: 'Olena", "KeyError: '****"),
            ("line '/var/Olena B'", "line '****'"),
            // a record
            ("cannot cast {'id': 1, 'name': 'Olena'} to int", "cannot cast {…} to int"),
        ];
        for (line, wanted) in table {
            assert_eq!(redact(line), wanted);
        }
    }

    #[test]
    fn a_long_line_is_cut() {
        assert_eq!(redact(&"x ".repeat(1000)).chars().count(), CHARS_MAX + 1);
    }
}
