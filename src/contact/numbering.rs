//! The numbering plans of the countries: which digits are a phone number somewhere. From the phone library's metadata.
//!
//! The library's own patterns keep memory for each thread that ever used them (some 10 MB a thread with the numbers of
//! a few countries), and mapping runs on whichever thread is free. Here each pattern is one automaton that needs no
//! memory while it matches, compiled when it is first asked for and shared by all threads.

use std::sync::OnceLock;

use phonenumber::metadata::DATABASE;
use phonenumber::{Metadata, country};
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

/// E.164: digits of a whole number, without the plus.
const DIGITS_MAX: usize = 15;
/// Country codes have one to three digits.
const CODE_DIGITS_MAX: usize = 3;

/// The plans of each country code. Not state: what the metadata say, remembered.
static PLANS: [OnceLock<Vec<Plan>>; 1000] = [const { OnceLock::new() }; 1000];

type Automaton = dense::DFA<Vec<u32>>;

/// Why digits are no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Invalid {
    TooLong,
    UnknownCode,
    OfItsCountry,
}

/// A country's plan.
pub(super) struct Plan {
    metadata: &'static Metadata,
    leading: Option<Pattern>,
    general: Kind,
    /// Cheapest first: nearly every number of a customer is a mobile one.
    kinds: Vec<Kind>,
    /// What is dialled before a number inside the country, with the groups that `transform` names.
    prefix: OnceLock<Regex>,
    /// What is dialled before a number of another country.
    abroad: OnceLock<Regex>,
}

/// Numbers of one use: their lengths (any where none is listed) and their digits.
struct Kind {
    lengths: &'static [u16],
    pattern: Pattern,
}

struct Pattern {
    source: &'static str,
    is_whole: bool,
    automaton: OnceLock<Automaton>,
}

/// The plans of the countries that share a code; none where it is nobody's.
pub(super) fn plans_of(code: usize) -> &'static [Plan] {
    let Some(plans) = PLANS.get(code) else { return &[] };
    plans.get_or_init(|| {
        let code = u16::try_from(code).expect("less than a thousand");
        DATABASE.by_code(&code).unwrap_or_default().into_iter().map(Plan::of).collect()
    })
}

/// The plan of a country; `None` where the library has none.
pub(super) fn plan_of(country: country::Id) -> Option<&'static Plan> {
    let metadata = DATABASE.by_id(country.as_ref())?;
    plans_of(usize::from(metadata.country_code())).iter().find(|plan| plan.metadata.id() == metadata.id())
}

/// The country code that digits begin with. No code is the beginning of another.
pub(super) fn code_of(digits: &str) -> Option<&str> {
    let codes = (1..=CODE_DIGITS_MAX.min(digits.len())).map(|length| &digits[..length]);
    codes.take_while(|code| !code.starts_with('0')).find(|code| is_code(code))
}

/// Whether digits are a country code.
pub(super) fn is_code(digits: &str) -> bool {
    digits.len() <= CODE_DIGITS_MAX
        && !digits.starts_with('0')
        && digits.parse().is_ok_and(|code| !plans_of(code).is_empty())
}

/// Whether digits, country code first, are a number somewhere.
pub(super) fn check(digits: &str) -> Result<(), Invalid> {
    if digits.len() > DIGITS_MAX {
        return Err(Invalid::TooLong);
    }
    let code = code_of(digits).ok_or(Invalid::UnknownCode)?;
    let plans = code.parse().map_or(&[][..], plans_of);
    let national = &digits[code.len()..];
    if plans.iter().any(|plan| plan.is_valid(national)) { Ok(()) } else { Err(Invalid::OfItsCountry) }
}

impl Plan {
    fn of(metadata: &'static Metadata) -> Self {
        let kinds = metadata.descriptors();
        let described = [
            kinds.mobile(),
            kinds.fixed_line(),
            kinds.voip(),
            kinds.toll_free(),
            kinds.personal_number(),
            kinds.shared_cost(),
            kinds.premium_rate(),
            kinds.pager(),
            kinds.uan(),
            kinds.voicemail(),
        ];
        Self {
            metadata,
            leading: metadata.leading_digits().map(|leading| Pattern::of(leading.as_str(), false)),
            general: Kind::of(kinds.general()),
            kinds: described.into_iter().flatten().map(Kind::of).collect(),
            prefix: OnceLock::new(),
            abroad: OnceLock::new(),
        }
    }

    fn is_valid(&self, national: &str) -> bool {
        self.leading.as_ref().is_none_or(|leading| leading.matches(national))
            && self.general.matches(national)
            && self.kinds.iter().any(|kind| kind.matches(national))
    }

    /// Its country code.
    pub(super) fn code(&self) -> String {
        self.metadata.country_code().to_string()
    }

    /// What is dialled before an area code inside the country; empty for none.
    pub(super) fn trunk(&self) -> &'static str {
        self.metadata.national_prefix().unwrap_or_default()
    }

    /// The number that the country's odd forms stand for (Argentina's `011 15 …`): its national digits.
    pub(super) fn without_prefix(&self, digits: &str) -> Option<String> {
        let pattern = self.metadata.national_prefix_for_parsing()?;
        let prefix = self.prefix.get_or_init(|| compile_with_groups(pattern.as_str()));
        let mut captures = prefix.create_captures();
        prefix.search_captures_with(&mut prefix.create_cache(), &at_start(digits), &mut captures);
        let rest = &digits[captures.get_match()?.end()..];
        let last = captures.get_group(captures.group_len().saturating_sub(1));
        match (self.metadata.national_prefix_transform_rule(), last) {
            (Some(rule), Some(_)) => Some(captures.interpolate_string(digits, rule) + rest),
            (Some(_) | None, _) => Some(rest.to_owned()),
        }
    }

    /// What follows the digits that are dialled before a number of another country (`011` in North America).
    pub(super) fn dialled_abroad<'a>(&self, digits: &'a str) -> Option<&'a str> {
        let pattern = self.metadata.international_prefix()?;
        let abroad = self.abroad.get_or_init(|| compile_with_groups(pattern.as_str()));
        let found = abroad.search_with(&mut abroad.create_cache(), &at_start(digits))?;
        Some(&digits[found.end()..])
    }
}

impl Kind {
    fn of(described: &'static phonenumber::metadata::Descriptor) -> Self {
        let pattern = Pattern::of(described.national_number().as_str(), true);
        Self { lengths: described.possible_length(), pattern }
    }

    fn matches(&self, national: &str) -> bool {
        let is_length =
            self.lengths.is_empty() || self.lengths.iter().any(|&length| usize::from(length) == national.len());
        is_length && self.pattern.matches(national)
    }
}

impl Pattern {
    const fn of(source: &'static str, is_whole: bool) -> Self {
        Self { source, is_whole, automaton: OnceLock::new() }
    }

    /// Whether it describes the digits, as a whole or their beginning.
    fn matches(&self, digits: &str) -> bool {
        let automaton = self.automaton.get_or_init(|| compile(self.source, self.is_whole));
        automaton.try_search_fwd(&at_start(digits)).is_ok_and(|found| found.is_some())
    }
}

fn at_start(digits: &str) -> Input<'_> {
    Input::new(digits).anchored(Anchored::Yes)
}

fn syntax_of_digits() -> syntax::Config {
    // ten digits, not the hundreds of Unicode; the metadata break long patterns into lines
    syntax::Config::new().unicode(false).utf8(false).ignore_whitespace(true)
}

fn compile(pattern: &str, is_whole: bool) -> Automaton {
    let end = if is_whole { "\\z" } else { "" };
    dense::Builder::new()
        .configure(dense::Config::new().start_kind(StartKind::Anchored))
        .syntax(syntax_of_digits())
        .build(&format!("(?:{pattern}){end}"))
        .expect("the metadata's patterns compile: a test compiles them all")
}

fn compile_with_groups(pattern: &str) -> Regex {
    Regex::builder()
        .syntax(syntax_of_digits())
        .build(pattern)
        .expect("the metadata's patterns compile: a test compiles them all")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every pattern compiles, every country's example is a number, and all of it together stays small.
    #[test]
    fn all_of_the_metadata_is_understood() {
        let mut bytes = 0;
        for metadata in DATABASE.iter() {
            let plan = plans_of(metadata.country_code().into()).iter().find(|plan| plan.metadata.id() == metadata.id());
            let plan = plan.unwrap();
            plan.without_prefix("0");
            plan.dialled_abroad("0");
            for kind in &plan.kinds {
                kind.pattern.matches("0");
                bytes += kind.pattern.automaton.get().unwrap().memory_usage();
            }
            plan.general.pattern.matches("0");
            bytes += plan.general.pattern.automaton.get().unwrap().memory_usage();
            let examples = [metadata.descriptors().mobile(), metadata.descriptors().fixed_line()];
            for example in examples.into_iter().flatten().filter_map(phonenumber::metadata::Descriptor::example) {
                assert_eq!(check(&format!("{}{example}", metadata.country_code())), Ok(()), "{example}");
            }
        }
        assert!(bytes < 24_000_000, "{bytes} bytes of automata");
    }

    #[test]
    fn digits_are_a_number_as_a_whole_or_not_at_all() {
        assert_eq!(check("380955547708"), Ok(()));
        assert_eq!(check("3809555477081"), Err(Invalid::OfItsCountry));
        assert_eq!(check("38095554770"), Err(Invalid::OfItsCountry));
        assert_eq!(check("9990955547708"), Err(Invalid::UnknownCode));
        assert_eq!(check("0955547708"), Err(Invalid::UnknownCode));
        assert_eq!(check(""), Err(Invalid::UnknownCode));
        assert_eq!(check("3809555477080000"), Err(Invalid::TooLong));
        assert_eq!((code_of("380955547708"), code_of("12025550122"), code_of("38")), (Some("380"), Some("1"), None));
    }
}
