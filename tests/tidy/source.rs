//! Reads Rust as far as the rules need it: words and signs with their lines, without comments and strings. It judges
//! nothing, and it expects text that rustfmt has formatted and rustc accepts.

/// A word or sign of the code; comments and spaces are left out, a string is one token.
pub(crate) struct Token<'a> {
    pub(crate) line: usize,
    pub(crate) text: &'a str,
}

pub(crate) struct Function<'a> {
    pub(crate) name: &'a str,
    pub(crate) line: usize,
    pub(crate) lines: usize,
    pub(crate) parameters: usize,
}

pub(crate) struct Source<'a> {
    pub(crate) path: &'a str,
    /// The first part of the module path: `plan` of `src/plan/batch.rs`.
    pub(crate) module: &'a str,
    pub(crate) tokens: Vec<Token<'a>>,
    pub(crate) is_test_file: bool,
    /// The token where `#[cfg(test)] mod tests {` begins.
    pub(crate) tests_from: Option<usize>,
}

impl<'a> Source<'a> {
    pub(crate) fn read(path: &'a str, text: &'a str) -> Self {
        let tokens = lex(text);
        let mark = ["#", "[", "cfg", "(", "test", ")", "]", "mod", "tests", "{"];
        let is_mark = |window: &[Token]| window.iter().map(|token| token.text).eq(mark);
        let tests_from = tokens.windows(mark.len()).position(is_mark);
        let inside = path.strip_prefix("src/").unwrap_or(path);
        let module = inside.split('/').next().map_or(inside, |name| name.strip_suffix(".rs").unwrap_or(name));
        let is_test_file = !path.starts_with("src/") || inside.ends_with("/tests.rs") || inside.contains("/tests/");
        Self { path, module, tokens, is_test_file, tests_from }
    }

    pub(crate) fn fault(&self, line: usize, message: impl std::fmt::Display) -> String {
        format!("{}:{line}: {message}", self.path)
    }

    pub(crate) fn in_tests(&self, at: usize) -> bool {
        self.is_test_file || self.tests_from.is_some_and(|from| at >= from)
    }

    pub(crate) fn text(&self, at: usize) -> &'a str {
        self.tokens.get(at).map_or("", |token| token.text)
    }

    /// The token that closes what opens at or after `at`: a bracket's partner, or a `;` before any bracket.
    pub(crate) fn close(&self, at: usize) -> usize {
        let mut depth = 0_usize;
        for (index, token) in self.tokens.iter().enumerate().skip(at) {
            match token.text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" if depth <= 1 => return index,
                ")" | "]" | "}" => depth -= 1,
                ";" if depth == 0 => return index,
                _ => {}
            }
        }
        self.tokens.len()
    }

    /// Where something of this crate is named, and its path below `crate`.
    pub(crate) fn imports(&self) -> Vec<(usize, String)> {
        let mut paths = Vec::new();
        for at in 0..self.tokens.len() {
            if matches!(self.text(at), "crate" | "reteno_sync") && self.text(at + 1) == "::" {
                self.expand(at + 2, "", &mut paths);
            }
        }
        paths
    }

    /// Adds every path of the use tree at `at`, and tells the token after it.
    fn expand(&self, at: usize, prefix: &str, paths: &mut Vec<(usize, String)>) -> usize {
        if self.text(at) == "{" {
            let mut next = at + 1;
            while !matches!(self.text(next), "}" | "") {
                next = if self.text(next) == "," { next + 1 } else { self.expand(next, prefix, paths) };
            }
            return next + 1;
        }
        let path = match (prefix, self.text(at)) {
            ("", name) => name.to_owned(),
            (_, "self") => prefix.to_owned(),
            (_, name) => format!("{prefix}::{name}"),
        };
        let goes_on =
            |text: &str| text == "{" || text == "*" || text.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if self.text(at + 1) == "::" && goes_on(self.text(at + 2)) {
            return self.expand(at + 2, &path, paths);
        }
        paths.push((at, path));
        if self.text(at + 1) == "as" { at + 3 } else { at + 1 }
    }

    /// Where a chain of `super::` ends at the crate's root.
    pub(crate) fn climbs_to_root(&self) -> Vec<usize> {
        let inside = self.path.strip_prefix("src/").unwrap_or(self.path);
        let own = inside.trim_end_matches("/mod.rs").split('/').count();
        let mut climbs = Vec::new();
        for at in 0..self.tokens.len() {
            if self.text(at) != "super" || (at > 0 && self.text(at - 1) == "::") {
                continue;
            }
            let chain =
                (0..).take_while(|step| self.text(at + 2 * step) == "super" && self.text(at + 2 * step + 1) == "::");
            let depth = own + usize::from(self.tests_from.is_some_and(|from| at >= from));
            if chain.count() >= depth {
                climbs.push(at);
            }
        }
        climbs
    }

    pub(crate) fn functions(&self) -> Vec<Function<'a>> {
        let mut functions = Vec::new();
        for at in 0..self.tokens.len() {
            let name = self.text(at + 1);
            if self.text(at) != "fn" || !name.starts_with(|c: char| c.is_alphabetic() || c == '_') {
                continue;
            }
            let mut open = at + 2;
            let mut angles = 0_i32;
            while open < self.tokens.len() && (self.text(open) != "(" || angles > 0) {
                angles += i32::from(self.text(open) == "<") - i32::from(self.text(open) == ">");
                open += 1;
            }
            let parameters_end = self.close(open);
            let mut body = parameters_end + 1;
            while body < self.tokens.len() && !matches!(self.text(body), "{" | ";") {
                body = if matches!(self.text(body), "(" | "[") { self.close(body) + 1 } else { body + 1 };
            }
            let line = self.tokens[at].line;
            let end = self.tokens.get(self.close(body)).map_or(line, |token| token.line);
            let parameters = self.count_parameters(open, parameters_end);
            functions.push(Function { name, line, lines: end + 1 - line, parameters });
        }
        functions
    }

    /// Commas that divide parameters, between the brackets `open` and `end`; the receiver is left out.
    fn count_parameters(&self, open: usize, end: usize) -> usize {
        let mut parameters: Vec<Vec<&str>> = vec![Vec::new()];
        let mut depth = 0_i32;
        for at in open + 1..end {
            match self.text(at) {
                "(" | "[" | "{" | "<" => depth += 1,
                ")" | "]" | "}" | ">" => depth -= 1,
                _ => {}
            }
            match parameters.last_mut() {
                Some(last) if self.text(at) != "," || depth > 0 => last.push(self.text(at)),
                _ => parameters.push(Vec::new()),
            }
        }
        parameters.iter().filter(|words| !words.is_empty() && !words.contains(&"self")).count()
    }
}

pub(crate) fn lex(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while !rest.is_empty() {
        let (is_code, length) = measure(rest);
        let (piece, after) = rest.split_at(length);
        if is_code {
            tokens.push(Token { line, text: piece });
        }
        line += piece.matches('\n').count();
        rest = after;
    }
    tokens
}

/// Whether the next piece is code, and its length in bytes.
fn measure(rest: &str) -> (bool, usize) {
    let first = rest.chars().next().map_or(1, char::len_utf8);
    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let (prefix, quoted) = rest.split_at(word);
    let hashes = quoted.len() - quoted.trim_start_matches('#').len();
    if rest.starts_with("//") {
        (false, rest.find('\n').unwrap_or(rest.len()))
    } else if rest.starts_with("/*") {
        (false, measure_block_comment(rest))
    } else if matches!(prefix, "r" | "br" | "cr") && quoted[hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let open = word + hashes + 1;
        (true, rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len()))
    } else if matches!(prefix, "" | "b" | "c") && quoted.starts_with('"') {
        (true, word + measure_quoted(quoted, '"'))
    } else if matches!(prefix, "" | "b") && quoted.starts_with('\'') {
        let mut after = quoted.chars().skip(1);
        let is_char = after.next() == Some('\\') || after.next() == Some('\'');
        (true, word + if is_char { measure_quoted(quoted, '\'') } else { 1 })
    } else if word > 0 {
        (true, word)
    } else if rest.starts_with("::") || rest.starts_with("->") || rest.starts_with("=>") {
        (true, 2)
    } else {
        (!rest.starts_with(char::is_whitespace), first)
    }
}

fn measure_quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}

fn measure_block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        let opens = rest.starts_with("/*");
        let closes = rest.starts_with("*/");
        depth = depth + usize::from(opens) - usize::from(closes);
        at += if opens || closes { 2 } else { rest.chars().next().map_or(1, char::len_utf8) };
        if depth == 0 {
            break;
        }
    }
    at
}
