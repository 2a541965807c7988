//! Phone numbers in canonical form, from what people type.
//!
//! Never guesses: a number that could be read in two ways is refused, since a message to a stranger is worse than none.
//! What stands between the digits counts: two numbers in one field, a range or an extension never become a third number.

use std::borrow::Cow;

use phonenumber::country;

use super::damage::damage_of;
use super::numbering::{self, Invalid, Plan, code_of, is_code, plan_of};
use super::refusal::{Checked, Refusal};
use super::text::has_hidden_characters;

/// Area codes in brackets have at most this many digits, the trunk zero among them.
const BRACKET_DIGITS_MAX: usize = 6;
/// Before an area code in brackets stand a country code or a trunk prefix.
const BEFORE_BRACKET_MAX: usize = 3;
/// What stands before a slash where it parts the area code from the number, the trunk zero among it; of an international
/// number also the country code.
const BEFORE_SLASH_MAX: usize = 6;

const MORE_THAN_ONE: Refusal = Refusal::of("the field holds more than one phone number");
const MORE_THAN_ONE_LINE: Refusal =
    Refusal::of("the phone number is broken by a line break or a tab: it may be two numbers");
const RANGE: Refusal = Refusal::of("the field holds a range of phone numbers, or a number with an extension");
const SLASH: Refusal = Refusal::of("the phone number holds a slash: it may be two numbers, or one with an extension");
const BRACKETS: Refusal =
    Refusal::of("the phone number has brackets elsewhere than around its area code: it may be two numbers");
const CODE_IS_SPLIT: Refusal = Refusal::of("what stands before the brackets of the phone number is no country code");
const OTHER_SIGNS: Refusal = Refusal::of("the phone number holds other signs than digits");
const NOT_OF_REGION: Refusal = Refusal::of("the phone number is not valid in the configured region");
const AMBIGUOUS: Refusal = Refusal::of("the phone number can be read as two numbers of the configured region");
const NO_REGION: Refusal = Refusal::of("the phone number has no country code, and no region is configured");

/// What most countries dial before an area code.
const TRUNK_ZERO: &str = "0";

/// Ukraine's country code, and what its people write of it before the trunk zero: `+38 (067) …`.
const UKRAINE: (&str, &str) = ("380", "38");

/// The country whose national phone numbers are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Region(country::Id);

impl Region {
    /// Reads an ISO 3166 code of two letters, such as `UA`; `None` where the phone library has no such region.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        code.trim().to_ascii_uppercase().parse().ok().map(Self)
    }

    /// The ISO 3166 code.
    #[must_use]
    pub fn code(&self) -> &str {
        self.0.as_ref()
    }
}

/// A phone number in E.164 with its plus. `+…` and `00…` are international; anything else is national and needs a
/// region.
pub fn canonical_phone(text: &str, region: Option<Region>) -> Checked<'_> {
    let text = text.trim();
    if let Some(digits) = text.strip_prefix('+')
        && is_digits(digits)
    {
        return check(digits).map(|()| Cow::Borrowed(text));
    }
    let written = Written::parse(text)?;
    written.check_brackets()?;
    let plan = region.and_then(|region| plan_of(region.0));
    written.check_one_number(plan)?;
    let number = if written.is_international {
        from_international(&written)?
    } else {
        region.ok_or(NO_REGION)?;
        from_national(&written, plan.ok_or(NOT_OF_REGION)?)?
    };
    Ok(Cow::Owned(format!("+{number}")))
}

/// What stands between two groups of digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// A blank, a hyphen or a dot: groups of one number are parted so.
    Usual,
    /// A hyphen between digits, without blanks.
    Hyphen,
    /// A hyphen between blanks, or a dash: it may stand between two numbers.
    Dash,
    Slash,
}

/// What is in brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Outside,
    /// Opened before this group.
    Inside,
}

#[derive(Debug)]
struct Group {
    /// What stands before it; for the first group nothing does.
    gap: Gap,
    bracket: Bracket,
    digits: String,
}

/// A phone number as it was written: groups of digits, and what parts them.
#[derive(Debug)]
struct Written {
    is_international: bool,
    groups: Vec<Group>,
}

impl Written {
    fn parse(text: &str) -> Result<Self, Refusal> {
        if let Some(damage) = damage_of(text) {
            return Err(damage);
        }
        let text = text.strip_prefix("tel:").unwrap_or(text);
        let text = without_outer_brackets(text);
        let text = spreadsheet_integer(text).unwrap_or(text);
        let mut written = Self { is_international: false, groups: Vec::new() };
        let (mut between, mut bracket) = (String::new(), Bracket::Outside);
        for character in text.chars() {
            match character {
                '0'..='9' => written.add(character, &mut between, bracket)?,
                '+' | '\u{ff0b}' if written.groups.is_empty() && !written.is_international => {
                    written.is_international = true;
                }
                '(' if bracket == Bracket::Outside => {
                    bracket = Bracket::Inside;
                    between.push('|');
                }
                ')' if bracket == Bracket::Inside => {
                    bracket = Bracket::Outside;
                    between.push('|');
                }
                '(' | ')' => return Err(BRACKETS),
                '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\t' => between.push('\n'),
                '-' | '\u{2010}' | '\u{2011}' | '\u{2212}' => between.push('-'),
                '\u{2012}'..='\u{2015}' => between.push('\u{2013}'),
                '.' | '/' => between.push(character),
                space if space.is_whitespace() => between.push(' '),
                hidden if has_hidden_characters(hidden.encode_utf8(&mut [0; 4])) => {}
                ',' | ';' => return Err(MORE_THAN_ONE),
                letter if letter.is_alphabetic() => {
                    return Err(Refusal::of("the phone number holds letters or an extension"));
                }
                _ => return Err(OTHER_SIGNS),
            }
        }
        if written.groups.is_empty() {
            return Err(Refusal::of("the phone number holds no digits"));
        }
        if bracket == Bracket::Inside {
            return Err(BRACKETS);
        }
        written.take_double_zero();
        Ok(written)
    }

    fn add(&mut self, digit: char, between: &mut String, bracket: Bracket) -> Result<(), Refusal> {
        if let Some(group) = self.groups.last_mut().filter(|_| between.is_empty()) {
            group.digits.push(digit);
            return Ok(());
        }
        let gap = if self.groups.is_empty() { Gap::Usual } else { gap_of(between)? };
        self.groups.push(Group { gap, bracket, digits: digit.to_string() });
        between.clear();
        Ok(())
    }

    /// `00` before a number is the plus.
    fn take_double_zero(&mut self) {
        let first = &self.groups[0];
        if self.is_international || first.bracket == Bracket::Inside {
            return;
        }
        let Some(rest) = first.digits.strip_prefix("00").map(str::to_owned) else { return };
        self.is_international = true;
        if rest.is_empty() && self.groups.len() > 1 {
            self.groups.remove(0);
        } else {
            self.groups[0].digits = rest;
        }
    }

    fn joined(groups: &[Group]) -> String {
        groups.iter().map(|group| group.digits.as_str()).collect()
    }

    /// The place of the `(0)` that some write between country code and number.
    fn zero(&self) -> Option<usize> {
        self.groups.iter().position(|group| group.bracket == Bracket::Inside && group.digits == "0")
    }

    /// What stands before brackets that begin with the trunk zero (`380 (067) …`), and what follows that zero.
    fn behind_trunk_zero(&self) -> Option<(String, String)> {
        let place = (1..self.groups.len()).find(|place| self.groups[*place].bracket == Bracket::Inside)?;
        let (head, rest) = self.groups.split_at(place);
        let rest = Self::joined(rest).strip_prefix(TRUNK_ZERO)?.to_owned();
        Some((Self::joined(head), rest))
    }

    /// The brackets of a number stand around its area code, or around the trunk zero: once, with a country code or a
    /// trunk prefix before them and the rest of the number behind them.
    fn check_brackets(&self) -> Result<(), Refusal> {
        let inside: Vec<usize> = (0..self.groups.len())
            .filter(|place| self.groups[*place].bracket == Bracket::Inside && Some(*place) != self.zero())
            .collect();
        let zero = self.zero().map(|place| (place, place));
        let others = inside.first().zip(inside.last()).map(|(first, last)| (*first, *last));
        for (first, last) in [zero, others].into_iter().flatten() {
            let before: usize = self.groups[..first].iter().map(|group| group.digits.len()).sum();
            let within: usize = self.groups[first..=last].iter().map(|group| group.digits.len()).sum();
            let is_one = (first..=last).all(|place| self.groups[place].bracket == Bracket::Inside);
            let has_rest = last + 1 < self.groups.len();
            if before > BEFORE_BRACKET_MAX || within > BRACKET_DIGITS_MAX || !is_one || !has_rest {
                return Err(BRACKETS);
            }
        }
        Ok(())
    }

    /// Refuses what may be two numbers, a range, or a number with an extension.
    fn check_one_number(&self, plan: Option<&Plan>) -> Result<(), Refusal> {
        let is_number = |groups: &[Group], is_international: bool| {
            let digits = Self::joined(groups);
            if is_international { check(&digits).is_ok() } else { plan.is_some_and(|plan| is_of(plan, &digits)) }
        };
        let slashes = self.groups.iter().filter(|group| group.gap == Gap::Slash).count();
        for place in 1..self.groups.len() {
            let (before, after) = self.groups.split_at(place);
            let begins_anew = || after[0].digits.starts_with('0') && after[0].bracket == Bracket::Outside;
            let is_whole = || is_number(before, self.is_international);
            match after[0].gap {
                Gap::Slash => {
                    let head = Self::joined(before);
                    let length_max = if self.is_international { BEFORE_SLASH_MAX + 3 } else { BEFORE_SLASH_MAX };
                    let has_trunk = self.is_international || head.starts_with('0');
                    let is_area = has_trunk || plan.is_some_and(|plan| self.is_one_without_trunk(plan));
                    if slashes > 1 || head.len() > length_max || !is_area || begins_anew() || is_whole() {
                        return Err(SLASH);
                    }
                }
                Gap::Dash if is_whole() => return Err(RANGE),
                Gap::Hyphen if is_range(before, after) && is_whole() => return Err(RANGE),
                Gap::Usual | Gap::Hyphen | Gap::Dash => {
                    if begins_anew() && is_whole() && is_number(after, false) {
                        return Err(MORE_THAN_ONE);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether all of it is one number of a country whose area codes have no zero before them (`22/123 45 67` in Poland).
    fn is_one_without_trunk(&self, plan: &Plan) -> bool {
        plan.trunk() != TRUNK_ZERO && matches!(plain_reading(plan, &Self::joined(&self.groups)), Ok(Some(_)))
    }
}

/// `4567-4571`: two groups of one length that begin alike, the second the greater one.
fn is_range(before: &[Group], after: &[Group]) -> bool {
    let (Some(from), [to]) = (before.last(), after) else { return false };
    let (from, to) = (from.digits.as_str(), to.digits.as_str());
    from.len() >= 2 && from.len() == to.len() && from[..1] == to[..1] && from < to
}

/// What the signs between two digits say. A bracket parts like a blank; whether it may stand there is judged elsewhere.
fn gap_of(between: &str) -> Result<Gap, Refusal> {
    if between.contains('\n') {
        return Err(MORE_THAN_ONE_LINE);
    }
    let between = between.replace('|', "");
    let is_of_hyphens = between.contains('-') && between.chars().all(|sign| sign == '-' || sign == ' ');
    Ok(if between.contains('/') {
        Gap::Slash
    } else if between == "-" {
        Gap::Hyphen
    } else if between.contains('\u{2013}') || is_of_hyphens {
        Gap::Dash
    } else {
        Gap::Usual
    })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A number that is wholly in one pair of brackets, without them.
fn without_outer_brackets(text: &str) -> &str {
    let is_outside = |sign: char| sign.is_whitespace() || has_hidden_characters(sign.encode_utf8(&mut [0; 4]));
    let within = text.trim_matches(is_outside).strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    within.filter(|within| !within.contains(['(', ')'])).map_or(text, str::trim)
}

/// Spreadsheets and data frames write a long whole number as `380955547708.0`.
fn spreadsheet_integer(text: &str) -> Option<&str> {
    text.strip_suffix(".0").filter(|whole| is_digits(whole))
}

fn check(digits: &str) -> Result<(), Refusal> {
    numbering::check(digits).map_err(|invalid| {
        Refusal::of(match invalid {
            Invalid::TooLong => "the phone number has more than 15 digits",
            Invalid::UnknownCode => "the phone number has no known country code",
            Invalid::OfItsCountry => "the phone number is not valid in its country",
        })
    })
}

/// Digits with the country code first. What stands before brackets is the country code; `+38 (067) …` and `+38 67 …` are
/// Ukraine's, where `38` is written before the trunk prefix: together with the next digit they may be another country's
/// code (`+386` is Slovenia).
fn from_international(written: &Written) -> Result<String, Refusal> {
    let groups = &written.groups;
    let bracket = (1..groups.len()).find(|place| groups[*place].bracket == Bracket::Inside);
    let head = Written::joined(&groups[..bracket.unwrap_or(1)]);
    let rest = Written::joined(&groups[bracket.unwrap_or(1)..]);
    let (code, written_code) = UKRAINE;
    if head == written_code && !rest.is_empty() {
        let number = format!("{code}{}", rest.strip_prefix('0').unwrap_or(&rest));
        return check(&number).map(|()| number);
    }
    if bracket.is_some() && !is_code(&head) {
        return Err(CODE_IS_SPLIT);
    }
    let whole = Written::joined(groups);
    let Some((_, rest)) = written.behind_trunk_zero() else { return check(&whole).map(|()| whole) };
    let without = head + &rest;
    // the zero is dialled only inside the country; where the number is valid only with it (Italy), it stays
    let (first, second) = if written.zero().is_some() { (without, whole) } else { (whole, without) };
    match check(&first) {
        Ok(()) => Ok(first),
        Err(_) if check(&second).is_ok() => Ok(second),
        Err(invalid) => Err(invalid),
    }
}

/// Digits as dialled inside a country may be with the trunk prefix, without it, or with the country code and no plus.
/// The plain readings are tried first, and the country's odd forms, or what it dials before a foreign number, only
/// where none of them is valid.
fn from_national(written: &Written, plan: &Plan) -> Result<String, Refusal> {
    let digits = Written::joined(&written.groups);
    if let Some(found) = plain_reading(plan, &digits)? {
        return Ok(found);
    }
    // `380 (067) …`: the trunk zero behind the country code
    let with_both = written.behind_trunk_zero().filter(|(head, _)| *head == plan.code());
    let with_both = with_both.map(|(code, rest)| code + &rest);
    let odd = plan.without_prefix(&digits).map(|national| format!("{}{national}", plan.code()));
    let foreign = plan.dialled_abroad(&digits).filter(|digits| code_of(digits).is_some()).map(str::to_owned);
    [with_both, odd, foreign].into_iter().flatten().find(|number| check(number).is_ok()).ok_or(NOT_OF_REGION)
}

/// The one plain reading of digits that is a number.
fn plain_reading(plan: &Plan, digits: &str) -> Result<Option<String>, Refusal> {
    let (code, trunk) = (plan.code(), plan.trunk());
    let readings =
        [digits.strip_prefix(trunk).filter(|_| !trunk.is_empty()), Some(digits), digits.strip_prefix(code.as_str())];
    let mut found: Option<String> = None;
    for reading in readings.into_iter().flatten().map(|national| format!("{code}{national}")) {
        if check(&reading).is_err() {
            continue;
        }
        // where trunk prefix and country code are one (North America), two readings are one number
        if found.as_ref().is_some_and(|found| *found != reading) {
            return Err(AMBIGUOUS);
        }
        found = Some(reading);
    }
    Ok(found)
}

/// Whether digits alone are a number of the country, in whatever plain reading.
fn is_of(plan: &Plan, digits: &str) -> bool {
    plain_reading(plan, digits).is_ok_and(|found| found.is_some()) || plain_reading(plan, digits) == Err(AMBIGUOUS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_in_canonical_form() {
        let ukraine = Region::parse("ua");
        let rows = [
            // international forms need no region
            ("+380955547708", None, "+380955547708"),
            ("+380 (95) 554-77-08", None, "+380955547708"),
            ("00380955547708", None, "+380955547708"),
            ("tel:+380-95-554-77-08", None, "+380955547708"),
            ("\u{202a}+380\u{a0}95\u{2011}554\u{2011}77\u{2011}08\u{202c}", None, "+380955547708"),
            // the trunk zero in brackets goes, in Italy it stays
            ("+380 (0)95 554 77 08", None, "+380955547708"),
            ("+39 (0)2 3661 8300", None, "+390236618300"),
            // national forms of the region
            ("0955547708", ukraine, "+380955547708"),
            ("(095) 554-77-08", ukraine, "+380955547708"),
            ("955547708", ukraine, "+380955547708"),
            ("(0)95 554 77 08", ukraine, "+380955547708"),
            // Reteno's own form, and a spreadsheet's
            ("380955547708", ukraine, "+380955547708"),
            ("380955547708.0", ukraine, "+380955547708"),
            // the region does not bend foreign numbers
            ("+48501234567", ukraine, "+48501234567"),
            ("+1 202-555-0123", ukraine, "+12025550123"),
            ("+1 242 365 1234", ukraine, "+12423651234"),
            ("202-555-0123", Region::parse("US"), "+12025550123"),
            ("8 (800) 555-35-35", Region::parse("RU"), "+78005553535"),
            ("8005553535", Region::parse("RU"), "+78005553535"),
            ("78005553535", Region::parse("RU"), "+78005553535"),
            ("+78005553535", Region::parse("RU"), "+78005553535"),
            // a zero that belongs to the number, and a national form that only the library's parser knows
            ("02 3661 8300", Region::parse("IT"), "+390236618300"),
            ("011 15-2345-6789", Region::parse("AR"), "+5491123456789"),
            // trunk prefix and country code of North America are one digit, so two readings are one number
            ("1-202-555-0122", Region::parse("US"), "+12025550122"),
            ("12025550122", Region::parse("US"), "+12025550122"),
            ("1 (416) 555-0126", Region::parse("CA"), "+14165550126"),
            ("1.416.555.0127", Region::parse("CA"), "+14165550127"),
            // as dialled from there
            ("011 380 95 554 77 08", Region::parse("US"), "+380955547708"),
            // Ukrainians write the trunk zero with +38; +386 is Slovenia, +380 (0) Ukraine once more
            ("+38 (067) 412-34-56", None, "+380674123456"),
            ("+38(67)412-34-56", None, "+380674123456"),
            ("+38(674)12-34-56", None, "+380674123456"),
            ("+38 (0)67 412 34 56", None, "+380674123456"),
            ("+38-067-412-34-56", None, "+380674123456"),
            ("0038 (067) 412 34 56", None, "+380674123456"),
            ("00 380 67 412 34 56", None, "+380674123456"),
            ("+386 (74) 12 34 56", None, "+38674123456"),
            ("(+380) 67 412 34 56", None, "+380674123456"),
            // hyphens between blanks, where no part of it is a number
            ("067 - 412 - 34 - 56", ukraine, "+380674123456"),
            ("067–412–34–56", ukraine, "+380674123456"),
        ];
        for (given, region, wanted) in rows {
            assert_eq!(canonical_phone(given, region).as_deref(), Ok(wanted), "{given}");
        }
    }

    #[test]
    fn an_area_code_before_a_slash_or_in_brackets() {
        let ukraine = Region::parse("UA");
        let rows = [
            // an area code before a slash, as Germans write it, and the number of an extension
            ("030/1234567", Region::parse("DE"), "+49301234567"),
            ("+49 6221/123456", None, "+496221123456"),
            ("030 12345-67", Region::parse("DE"), "+49301234567"),
            // with the country code and no plus: no area code of Germany begins so
            ("4930123456", Region::parse("DE"), "+4930123456"),
            // a slash behind the area code, where numbers have no trunk zero
            ("22/123 45 67", Region::parse("PL"), "+48221234567"),
            ("22 / 123-45-67", Region::parse("PL"), "+48221234567"),
            ("48 22/123 45 67", Region::parse("PL"), "+48221234567"),
            ("202/555-0122", Region::parse("US"), "+12025550122"),
            ("1-202/555-0122", Region::parse("US"), "+12025550122"),
            ("345/1234567", Region::parse("IT"), "+393451234567"),
            // the trunk zero with the area code in brackets behind the country code; in Italy it stays
            ("+380 (067) 412-34-56", None, "+380674123456"),
            ("00380 (067) 412-34-56", None, "+380674123456"),
            ("380 (067) 412-34-56", ukraine, "+380674123456"),
            ("+49 (030) 123456", None, "+4930123456"),
            ("+39 (0321) 123456", None, "+390321123456"),
            // wholly in brackets
            ("(067 412 34 56)", ukraine, "+380674123456"),
            ("\u{202a}(+380 67 412 34 56)\u{202c}", None, "+380674123456"),
            ("(00380674123456)", None, "+380674123456"),
        ];
        for (given, region, wanted) in rows {
            assert_eq!(canonical_phone(given, region).as_deref(), Ok(wanted), "{given}");
        }
    }

    #[test]
    fn phones_that_are_not_sent() {
        let ukraine = Region::parse("UA");
        let no_country = "the phone number has no country code, and no region is configured";
        let rows = [
            // 20 would be Egypt, 2025550123 is Washington: not guessed
            ("2025550123", None, no_country),
            ("0955547708", None, no_country),
            ("380955547708", None, no_country),
            ("+380", None, "the phone number is not valid in its country"),
            ("+38095554770", None, "the phone number is not valid in its country"),
            ("+3809555477081", None, "the phone number is not valid in its country"),
            ("+0955547708", ukraine, "the phone number has no known country code"),
            ("+9990955547708", None, "the phone number has no known country code"),
            ("+3809555477080000000", None, "the phone number has more than 15 digits"),
            ("80955547708", ukraine, "the phone number is not valid in the configured region"),
            ("48501234567", ukraine, "the phone number is not valid in the configured region"),
            // with and without the country code it is a number of Germany
            ("4921123456", Region::parse("DE"), "the phone number can be read as two numbers of the configured region"),
            ("112", ukraine, "the phone number is not valid in the configured region"),
            ("+380955547708 ext. 12", None, "the phone number holds letters or an extension"),
            (
                "3.80956E+11",
                ukraine,
                "a spreadsheet has shortened the number (as in 3.8E+11): its digits are lost; export it as text",
            ),
            ("#N/A", ukraine, "holds a spreadsheet's error (such as #N/A or #REF!), not a value"),
            ("67 (12) 34", ukraine, "the phone number is not valid in the configured region"),
            ("0955547708, 0671234567", ukraine, "the field holds more than one phone number"),
            ("+380#955547708", None, "the phone number holds other signs than digits"),
            ("38+0955547708", None, "the phone number holds other signs than digits"),
            ("-", ukraine, "the phone number holds no digits"),
        ];
        for (given, region, wanted) in rows {
            assert_eq!(canonical_phone(given, region), Err(Refusal::of(wanted)), "{given}");
        }
    }

    /// Where numbers have no fixed length, digits that are joined over a sign are a stranger's number.
    #[test]
    fn two_numbers_a_range_and_an_extension_never_become_a_third_number() {
        let (germany, ukraine) = (Region::parse("DE"), Region::parse("UA"));
        let rows = [
            ("030 1234 / 030 5678", germany, SLASH),
            ("030 123456/7", germany, SLASH),
            ("030/12345-67/68", germany, SLASH),
            ("2345/6789", germany, SLASH),
            ("554-77-08/095 554 77 09", ukraine, SLASH),
            ("+43 1 58858 / 01 58859", None, SLASH),
            ("+43 1 58858/59", None, SLASH),
            // what follows the slash is an extension, or a second number; what comes before it is no area code
            ("22 123 45 67/68", Region::parse("PL"), SLASH),
            ("202-555-0122/23", Region::parse("US"), SLASH),
            ("202-555-0122 / 202-555-0123", Region::parse("US"), SLASH),
            ("202/555-012", Region::parse("US"), SLASH),
            ("2345/6789", None, SLASH),
            ("(030 1234) (030 5678)", germany, BRACKETS),
            ("(030 4567 - 4571)", germany, RANGE),
            ("(030 12345 030 67890)", germany, MORE_THAN_ONE),
            ("030 2345\n030 6789", germany, MORE_THAN_ONE_LINE),
            ("0955547708\r\n0671234567", ukraine, MORE_THAN_ONE_LINE),
            ("030 2345\t030 6789", germany, MORE_THAN_ONE_LINE),
            ("0301234(56)", germany, BRACKETS),
            ("030 3456 (030 7891)", germany, BRACKETS),
            ("(030) 1234 (56) 78", germany, BRACKETS),
            ("030 1234)", germany, BRACKETS),
            ("(030 1234", germany, BRACKETS),
            ("((030 1234))", germany, BRACKETS),
            ("030 4567 - 4571", germany, RANGE),
            ("030 4567–4571", germany, RANGE),
            ("030 4567-4571", germany, RANGE),
            ("030 12345 - 67", germany, RANGE),
            ("030 12345 030 67890", germany, MORE_THAN_ONE),
            ("0301234567; 0301234568", germany, MORE_THAN_ONE),
            ("+8 (861) 123 45 67", None, CODE_IS_SPLIT),
        ];
        for (given, region, wanted) in rows {
            assert_eq!(canonical_phone(given, region), Err(wanted), "{given}");
        }
    }

    #[test]
    fn regions_are_iso_codes() {
        assert_eq!(Region::parse(" ua ").as_ref().map(Region::code), Some("UA"));
        assert_eq!(Region::parse("Ukraine"), None);
        assert_eq!(Region::parse("ZZ"), None);
        for first in 'A'..='Z' {
            for region in ('A'..='Z').filter_map(|second| Region::parse(&format!("{first}{second}"))) {
                assert!(plan_of(region.0).is_some(), "{}", region.code());
            }
        }
    }
}
