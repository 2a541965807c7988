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
    let line = without_queries(&without_data(line));
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
            ("bad phone +380670000001", "bad phone ****"),
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
