//! Mapping whole records, and properties of everything canonical.

mod levels;

use std::borrow::Cow;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::additional::AdditionalRule;
use super::resolved::Rule;

use super::text::{several_lines, single_line};
use super::*;

fn mapping(fields: &[(&str, &str)]) -> Mapping {
    let fields = fields.iter().map(|(name, place)| {
        let field = FieldRef::parse(name).unwrap();
        let on_invalid = match &field {
            FieldRef::Known(field) => OnInvalid::default_for(*field),
            FieldRef::Key(_) => OnInvalid::DropField,
        };
        let selector = Selector::parse(place).unwrap();
        let (region, prefix, write) = (Region::parse("UA"), String::new(), WriteRule::Always);
        FieldMapping { field, selector, on_invalid, region, prefix, write }
    });
    Mapping {
        key: Selector::parse("id").unwrap(),
        fields: fields.collect(),
        changed_at: None,
        filter: None,
        consent: None,
        subscriptions: None,
        null_values: Vec::new(),
        zones: MappedZones::default(),
        segments: Vec::new(),
    }
}

fn usual() -> Mapping {
    mapping(&[("firstName", "name"), ("externalCustomerId", "id"), ("sms", "phone"), ("email", "mail")])
}

fn resolved(mapping: &Mapping) -> ResolvedMapping {
    let (resolved, unknown) = mapping.resolve(&Catalog::empty());
    assert_eq!(unknown, []);
    resolved
}

fn contact(mapping: &Mapping, record: serde_json::Value) -> Contact {
    match resolved(mapping).map(&Record::Json(record)) {
        Ok(Mapped::Contact(contact)) => contact,
        other => panic!("no contact: {other:?}"),
    }
}

fn rejection(mapping: &Mapping, record: serde_json::Value) -> Vec<String> {
    resolved(mapping).map(&Record::Json(record)).unwrap_err().reasons.iter().map(Reason::to_string).collect()
}

fn value(text: &str) -> Wanted {
    Wanted::Value(Personal::new(text))
}

#[test]
fn a_record_becomes_a_contact_in_the_order_of_fields() {
    let record = json!({"id": 7.0, "name": " Олена ", "mail": "Olena@Example.com", "phone": "095 554 77 08"});
    let got = contact(&usual(), record);
    assert_eq!(got.key, "7");
    assert_eq!(
        got.fields,
        [
            (Field::ExternalCustomerId, value("7")),
            (Field::Email, value("olena@example.com")),
            (Field::Sms, value("+380955547708")),
            (Field::FirstName, value("Олена")),
        ]
    );
    assert_eq!((got.changed_at, got.dropped), (None, Vec::new()));
    assert_eq!(resolved(&usual()).fields(), [Field::ExternalCustomerId, Field::Email, Field::Sms, Field::FirstName]);
}

#[test]
fn absent_clear_and_value_are_three_things() {
    let got = contact(&usual(), json!({"id": 7, "name": null, "mail": "a@example.com"}));
    let email = (Field::Email, value("a@example.com"));
    assert_eq!(got.fields, [(Field::ExternalCustomerId, value("7")), email, (Field::FirstName, Wanted::Clear)]);
}

#[test]
fn rows_and_objects_give_the_same_contact() {
    let header = Header::new(["id", "mail", "phone", "name"].map(str::to_owned).to_vec());
    let cells = csv::StringRecord::from(vec!["7", "a@example.com", "", "Ira"]);
    let row = Record::Row(Row { header: Arc::new(header), cells });
    let Ok(Mapped::Contact(from_row)) = resolved(&usual()).map(&row) else { panic!("no contact") };
    let from_json = contact(&usual(), json!({"id": "7", "mail": "a@example.com", "phone": null, "name": "Ira"}));
    assert_eq!(from_row, from_json);
}

/// A last name that stands alone is no first name: the halves of one name fall back together.
#[test]
fn both_halves_of_a_name_come_from_one_place() {
    let places = |texts: [&str; 2]| Selector::parse_first_of(&texts.map(str::to_owned)).unwrap();
    let mut names = mapping(&[("email", "mail"), ("firstName", "-"), ("lastName", "-")]);
    names.fields[1].selector = places(["first", "first_word(name)"]);
    names.fields[2].selector = places(["last", "other_words(name)"]);
    let (clear, absent) = (Some(Wanted::Clear), None);
    let table = [
        (
            json!({"first": "Ольга", "last": "Кобилянська", "name": "О. К."}),
            Some(value("Ольга")),
            Some(value("Кобилянська")),
        ),
        // one of them alone
        (json!({"first": "", "last": "Кобилянська", "name": "Кобилянська"}), clear.clone(), Some(value("Кобилянська"))),
        (json!({"first": "Ольга", "last": null, "name": "Ольга Кобилянська"}), Some(value("Ольга")), clear.clone()),
        // neither: the whole name, in its halves
        (
            json!({"first": "", "last": "", "name": "Ольга Кобилянська"}),
            Some(value("Ольга")),
            Some(value("Кобилянська")),
        ),
        (json!({"name": "Ольга"}), Some(value("Ольга")), clear.clone()),
        (json!({"first": "", "last": "", "name": ""}), clear.clone(), clear),
        (json!({}), absent.clone(), absent),
    ];
    for (mut record, first, last) in table {
        record["id"] = json!(7);
        record["mail"] = json!("olha@example.com");
        let got = contact(&names, record.clone());
        let read = |field| got.fields.iter().find(|(other, _)| *other == field).map(|(_, wanted)| wanted.clone());
        assert_eq!((read(Field::FirstName), read(Field::LastName)), (first, last), "{record}");
    }
}

/// A field with a time, and one of a day.
fn times_and_days() -> Catalog {
    let field = |id, key: &str, kind| AdditionalField {
        id,
        key: key.to_owned(),
        name: key.to_owned(),
        kind,
        min: None,
        max: None,
        readonly: false,
    };
    [field(1, "A.TIME", FieldKind::DateTime), field(2, "A.DAY", FieldKind::Date)].into_iter().collect()
}

/// Reteno takes a time for one in the contact's time zone, and a day for the same everywhere.
#[test]
fn moments_are_written_on_the_clock_of_the_contact() {
    let (kyiv, berlin) = (Some(chrono_tz::Tz::Europe__Kyiv), Some(chrono_tz::Tz::Europe__Berlin));
    let catalog = times_and_days();
    let moment = "2024-05-31T22:30:00Z";
    let (late, later) = (Some("2024-06-01T01:30"), Some("2024-06-01T00:30"));
    let (first, last) = (Some("2024-06-01"), Some("2024-05-31"));
    let map_zone = [("timeZone", "zone"), ("email", "mail"), ("1", "at"), ("2", "at")];
    let table = [
        // (the source's zone, the account's), what the record says of its own, the time and the day
        ((None, None), json!({"zone": "Europe/Kyiv"}), late, first),
        ((None, berlin), json!({"zone": "Europe/Kyiv"}), late, first),
        ((None, berlin), json!({"zone": "America/New_York"}), Some("2024-05-31T18:30"), last),
        // days are the CRM's before they are the contact's
        ((kyiv, berlin), json!({"zone": "America/New_York"}), Some("2024-05-31T18:30"), first),
        ((None, berlin), json!({"zone": null}), later, first),
        ((None, berlin), json!({"zone": "Middle-earth"}), later, first),
        // CRMs leave empty keys out
        ((None, berlin), json!({}), later, first),
        ((kyiv, berlin), json!({}), later, first),
        ((None, None), json!({}), None, None),
        ((kyiv, None), json!({"zone": null}), None, first),
        ((None, None), json!({"zone": null}), None, None),
    ];
    for ((source, account), mut record, time, day) in table {
        record["id"] = json!(7);
        record["mail"] = json!("a@example.com");
        record["at"] = json!(moment);
        let mapping = Mapping { zones: MappedZones { source, account }, ..mapping(&map_zone) };
        let Ok(Mapped::Contact(got)) = mapping.resolve(&catalog).0.map(&Record::Json(record.clone())) else {
            panic!("no contact of {record}")
        };
        for (id, wanted) in [(1, time), (2, day)] {
            let field = Field::Additional(id);
            let sent = got.fields.iter().find(|(other, _)| *other == field).map(|(_, wanted)| wanted.clone());
            assert_eq!(sent, wanted.map(value), "{field} of {record} in {source:?}, {account:?}");
            assert_eq!(got.dropped.iter().any(|dropped| dropped.field == field), wanted.is_none(), "{record}");
        }
    }
}

/// A pushed record may hold only what has changed: the contact's zone may have come with an earlier one.
#[test]
fn a_time_of_a_partial_record_waits_for_the_zone_of_the_contact() {
    let account = Some(chrono_tz::Tz::Europe__Berlin);
    let zones = MappedZones { source: None, account };
    let map_zone = [("timeZone", "zone"), ("email", "mail"), ("1", "at")];
    let mapping = Mapping { zones, ..mapping(&map_zone) }.resolve(&times_and_days()).0;
    let rows = [
        (json!({}), None),
        (json!({"zone": null}), Some("2024-06-01T00:30")),
        (json!({"zone": "Europe/Kyiv"}), Some("2024-06-01T01:30")),
    ];
    for (mut record, time) in rows {
        record["id"] = json!(7);
        record["at"] = json!("2024-05-31T22:30:00Z");
        let Ok(Mapped::Contact(got)) = mapping.map_partial(&Record::Json(record.clone())) else {
            panic!("no contact of {record}")
        };
        let sent =
            got.fields.iter().find(|(field, _)| *field == Field::Additional(1)).map(|(_, wanted)| wanted.clone());
        assert_eq!(sent, time.map(value), "{record}");
        let reason = "the time is a moment, and the record does not say in which time zone its contact is";
        let dropped: Vec<_> = got.dropped.iter().map(|dropped| dropped.reason.text()).collect();
        assert_eq!(dropped, if time.is_none() { vec![reason] } else { Vec::new() }, "{record}");
    }
}

#[test]
fn a_bad_value_costs_its_field_and_is_listed() {
    let record = json!({"id": 7, "name": "Anna (VIP)", "mail": "anna@", "phone": "+380955547708"});
    let got = contact(&usual(), record);
    assert_eq!(got.fields, [(Field::ExternalCustomerId, value("7")), (Field::Sms, value("+380955547708"))]);
    let listed: Vec<_> = got.dropped.iter().map(|dropped| (dropped.field, dropped.reason.text())).collect();
    assert_eq!(
        listed,
        [
            (Field::Email, "the e-mail address has no domain"),
            (Field::FirstName, "the name holds a sign that names may not hold"),
        ]
    );
}

#[test]
fn a_bad_value_costs_the_contact_where_the_mapping_says_so() {
    let mut strict = usual();
    strict.fields[0].on_invalid = OnInvalid::Reject;
    let reasons = rejection(&strict, json!({"id": 7, "name": {"first": "Anna"}, "mail": "a@example.com"}));
    assert_eq!(reasons, ["firstName: the value is an object, or cannot be read: no text or number"]);
}

#[test]
fn a_record_without_any_valid_channel_is_rejected_only_when_it_speaks_of_all() {
    let no_channel = "no valid e-mail address or phone number";
    let bad_mail = "email: the e-mail address has no @ sign";
    let rows: [(serde_json::Value, Option<&[&str]>); 8] = [
        // both empty
        (json!({"id": 7, "mail": "", "phone": null}), Some(&[no_channel])),
        // one bad, one empty; both bad: what is wrong says enough
        (json!({"id": 7, "mail": "x", "phone": ""}), Some(&[bad_mail])),
        (
            json!({"id": 7, "mail": "x", "phone": "1"}),
            Some(&[bad_mail, "sms: the phone number is not valid in the configured region"]),
        ),
        // another valid one remains
        (json!({"id": 7, "mail": "x", "phone": "+380955547708"}), None),
        (json!({"id": 7, "mail": "a@example.com", "phone": ""}), None),
        // a partial record: the other channel may have an older value
        (json!({"id": 7, "name": "Ira"}), None),
        (json!({"id": 7, "mail": ""}), None),
        (json!({"id": 7, "mail": "x"}), None),
    ];
    for (record, wanted) in rows {
        let got = resolved(&usual()).map(&Record::Json(record.clone()));
        let reasons = got.err().map(|rejection| rejection.reasons.iter().map(Reason::to_string).collect::<Vec<_>>());
        let wanted = wanted.map(|reasons| reasons.iter().map(|&text| text.to_owned()).collect());
        assert_eq!(reasons, wanted, "{record}");
    }
}

#[test]
fn a_mapping_without_channels_rejects_nobody_for_them() {
    let got = contact(&mapping(&[("firstName", "name")]), json!({"id": 7, "name": "Ira"}));
    assert_eq!(got.fields, [(Field::FirstName, value("Ira"))]);
}

#[test]
fn a_record_needs_an_id() {
    let rows = [
        (json!({"mail": "a@example.com"}), "the record has no id"),
        (json!({"id": " ", "mail": "a@example.com"}), "the record has no id"),
        (json!({"id": {}, "mail": "a@example.com"}), "the value is an object, or cannot be read: no text or number"),
        (json!({"id": "a\nb", "mail": "a@example.com"}), "the id holds a control character"),
        (json!("7"), "the record has no id"),
    ];
    for (record, reason) in rows {
        let rejection = resolved(&usual()).map(&Record::Json(record)).unwrap_err();
        assert_eq!((rejection.key.as_deref(), rejection.to_string()), (None, format!("map a record: {reason}")));
    }
}

#[test]
fn the_external_id_carries_its_prefix_and_the_key_does_not() {
    let mut prefixed = usual();
    prefixed.fields[1].prefix = "crm-".into();
    let got = contact(&prefixed, json!({"id": 7, "mail": "a@example.com"}));
    assert_eq!((got.key.as_str(), &got.fields[0]), ("7", &(Field::ExternalCustomerId, value("crm-7"))));
}

#[test]
fn an_empty_or_bad_external_id_rejects_and_is_never_cleared() {
    let other_place = mapping(&[("externalCustomerId", "ext"), ("email", "mail")]);
    let mail = "a@example.com";
    let empty = rejection(&other_place, json!({"id": 7, "ext": "", "mail": mail}));
    assert_eq!(empty, ["externalCustomerId: the id is empty"]);
    let long = rejection(&other_place, json!({"id": 7, "ext": "7".repeat(256), "mail": mail}));
    assert_eq!(long, ["externalCustomerId: the id is longer than 255 characters"]);
    // a record that does not speak of it is a partial one
    assert_eq!(contact(&other_place, json!({"id": 7, "mail": mail})).fields, [(Field::Email, value(mail))]);
}

#[test]
fn the_change_time_is_read_where_it_can_be() {
    let mut timed = usual();
    timed.changed_at = Some(Selector::parse("$.meta.changed").unwrap());
    let rows = [
        (json!("2024-05-06T07:08:09Z"), Some(1_714_979_289_000)),
        (json!(1_714_979_289), Some(1_714_979_289_000)),
        (json!(1_714_979_289_123_i64), Some(1_714_979_289_123)),
        (json!(1_714_979_289.25), Some(1_714_979_289_250)),
        (json!("yesterday"), None),
        (json!(null), None),
        (json!({}), None),
    ];
    for (changed, wanted) in rows {
        let record = json!({"id": 7, "mail": "a@example.com", "meta": {"changed": changed}});
        assert_eq!(contact(&timed, record).changed_at, wanted);
    }
}

#[test]
fn a_filter_keeps_records_for_which_its_path_finds_something() {
    let rows = [
        ("$[?@.active == true]", true),
        ("$[?@.active == false]", false),
        ("$[?@.stage.name == 'won' && @.score > 5]", true),
        ("$[?@.deleted]", false),
        ("$[0].stage.name", true),
    ];
    let record = || json!({"id": 7, "mail": "a@example.com", "active": true, "stage": {"name": "won"}, "score": 6});
    for (filter, kept) in rows {
        let mut filtered = usual();
        filtered.filter = Some(Filter::parse(filter).unwrap());
        let got = resolved(&filtered).map(&Record::Json(record())).unwrap();
        assert_eq!(matches!(got, Mapped::Contact(_)), kept, "{filter}");
        assert!(kept || matches!(&got, Mapped::Filtered { key, .. } if key == "7"));
    }
    assert!(Filter::parse("active == true").is_err());
}

fn catalog() -> Catalog {
    let field = |id, key: &str, kind, readonly| AdditionalField {
        id,
        key: key.into(),
        name: key.into(),
        kind,
        min: None,
        max: None,
        readonly,
    };
    [
        field(10, "SHOP.TIER", FieldKind::Combobox(vec!["Gold".into(), "Silver".into()]), false),
        field(11, "SHOP.BORN", FieldKind::Date, false),
        field(12, "SHOP.SUM", FieldKind::Decimal, true),
    ]
    .into_iter()
    .collect()
}

#[test]
fn additional_fields_are_looked_up_by_id_and_by_key() {
    let mapping = mapping(&[
        ("email", "mail"),
        ("shop.born", "born"),
        ("10", "tier"),
        ("99", "other"),
        ("SHOP.NONE", "none"),
        ("12", "sum"),
        ("SHOP.TIER", "tier"),
    ]);
    let (resolved, unknown) = mapping.resolve(&catalog());
    let unknown: Vec<_> = unknown.iter().map(|unknown| (unknown.name.as_str(), unknown.problem)).collect();
    assert_eq!(
        unknown,
        [
            ("99", FieldProblem::UnknownId),
            ("SHOP.NONE", FieldProblem::UnknownKey),
            ("12", FieldProblem::ReadOnly),
            ("SHOP.TIER", FieldProblem::MappedTwice),
        ]
    );
    let fields = [Field::Email, Field::Additional(10), Field::Additional(11), Field::Additional(99)];
    assert_eq!(resolved.fields(), fields);
    let record = json!({"id": 7, "mail": "a@example.com", "born": "01.05.1990", "tier": "gold", "other": 5.0});
    let Ok(Mapped::Contact(contact)) = resolved.map(&Record::Json(record)) else { panic!("no contact") };
    let values = ["a@example.com", "Gold", "1990-05-01", "5"].map(value);
    assert_eq!(contact.fields, fields.into_iter().zip(values).collect::<Vec<_>>());
}

#[test]
fn fields_are_named_as_reteno_names_them() {
    let rows = [
        ("firstName", Some(FieldRef::Known(Field::FirstName))),
        ("87166", Some(FieldRef::Known(Field::Additional(87_166)))),
        ("2147483647", Some(FieldRef::Known(Field::Additional(2_147_483_647)))),
        ("SHOP.TIER", Some(FieldRef::Key("SHOP.TIER".into()))),
        // mistyped names, and ids that Reteno cannot have
        ("firstname", None),
        ("0", None),
        ("2147483648", None),
        (".TIER", None),
        ("SHOP.", None),
    ];
    for (name, wanted) in rows {
        assert_eq!(FieldRef::parse(name), wanted, "{name}");
    }
}

#[test]
fn no_printed_form_of_a_contact_or_rejection_holds_a_value() {
    let record = json!({"id": 7, "name": "Secretname!", "mail": "secret@example.com", "phone": "0955547708"});
    let printed = format!("{:?}", contact(&usual(), record));
    let record = json!({"id": 7, "name": "Secretname!", "mail": "secret@", "phone": "095554770"});
    let rejection = resolved(&usual()).map(&Record::Json(record)).unwrap_err();
    let printed = format!("{printed}{rejection}{rejection:?}");
    for secret in ["Secretname", "secret", "95554770", "example.com"] {
        assert!(!printed.contains(secret), "{printed}");
    }
}

fn rules() -> Vec<Rule> {
    let kinds = [
        FieldKind::Text,
        FieldKind::TextArea,
        FieldKind::Number,
        FieldKind::Decimal,
        FieldKind::Date,
        FieldKind::DateTime,
        FieldKind::Combobox(vec!["Gold".into(), "gold".into(), "A, b".into()]),
        FieldKind::CheckboxList(vec!["b".into(), "a".into(), "b,a".into()]),
        FieldKind::CheckboxList(Vec::new()),
        FieldKind::Tags,
    ];
    let additional = kinds.into_iter().map(|kind| {
        let field = AdditionalField {
            id: 1,
            key: String::new(),
            name: String::new(),
            kind,
            min: None,
            max: None,
            readonly: false,
        };
        Rule::Additional(AdditionalRule::of(&field))
    });
    let standard = [
        Rule::Id { prefix: String::new() },
        Rule::Email,
        Rule::Phone(Region::parse("UA")),
        Rule::Phone(Region::parse("IT")),
        Rule::Phone(None),
        Rule::FirstName,
        Rule::LastName,
        Rule::Line(60),
        Rule::Language,
        Rule::TimeZone,
    ];
    standard.into_iter().chain(additional).collect()
}

/// Texts that come near every rule, and any text at all.
fn near_values() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[ \\p{L}\\p{M}'.\u{2019}\u{200b}0-9-]{0,24}",
        "[a-zA-Z.+]{1,8}@[a-zA-Zіїє.-]{1,12}\\.[a-zA-Z]{2,3}",
        "(\\+|00|0)?[0-9() -]{5,16}",
        "(\\+380|0|380|)(39|50|67|95)[0-9]{7}",
        "[+-]?[0-9]{1,12}([.,][0-9]{1,4})?",
        "[0-9]{4}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,6})?)?(Z|[+-]0[0-9]:?00)?)?",
        "[abGold, ]{1,12}",
        "[a-zA-Z]{2,3}([-_][a-zA-Z]{2,4})?",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_canonical_form_is_its_own(text in near_values()) {
        for rule in rules() {
            let canonical = |text: &str| rule.canonical(text, Zones::default()).map(|text| Cow::<str>::Owned(text.into_owned()));
            if let Ok(once) = canonical(&text) {
                prop_assert_eq!(canonical(&once), Ok(Cow::Borrowed(&*once)), "{:?}", rule);
                prop_assert!(!once.trim().is_empty(), "{:?}", rule);
            }
        }
        let (line, lines) = (single_line(&text), several_lines(&text));
        prop_assert_eq!(single_line(&line), line.clone());
        prop_assert_eq!(several_lines(&lines), lines.clone());
    }

    #[test]
    fn white_space_around_a_value_never_counts(text in near_values()) {
        let wrapped = format!(" \t{text}\u{a0}\n");
        for rule in rules() {
            let zones = Zones::default();
            prop_assert_eq!(rule.canonical(&wrapped, zones), rule.canonical(text.trim(), zones), "{:?}", rule);
        }
    }

    #[test]
    fn a_phone_is_read_the_same_with_and_without_region(digits in "[1-9][0-9]{6,14}") {
        let number = format!("+{digits}");
        prop_assert_eq!(canonical_phone(&number, None), canonical_phone(&number, Region::parse("UA")));
        if let Ok(canonical) = canonical_phone(&number, None) {
            prop_assert_eq!(&*canonical, &*number);
        }
    }

    #[test]
    fn fingerprints_are_equal_only_for_equal_values(
        (left, right) in (wanted_field(), wanted_field())
    ) {
        let printer = Fingerprinter::from_key(&[3; 32]);
        let (a, b) = (printer.field(left.0, &left.1), printer.field(right.0, &right.1));
        prop_assert_eq!(a == b, left == right);
        prop_assert_eq!(a, printer.field(left.0, &left.1.clone()));
        prop_assert!(!a.is_unknown());
    }

    #[test]
    fn stored_values_and_fingerprints_come_back(fields in prop::collection::vec(wanted_field(), 0..20)) {
        let values = Values::from(fields.clone());
        prop_assert_eq!(Values::decode(&values.encode()), Ok(values.clone()));
        for (place, (field, _)) in fields.iter().enumerate() {
            let last = fields[place..].iter().rfind(|(other, _)| other == field).map(|(_, wanted)| wanted);
            prop_assert_eq!(values.get(*field), last);
        }
        let prints = Fingerprinter::from_key(&[3; 32]).fields(values.as_slice());
        prop_assert_eq!(FieldPrints::decode(&prints.encode()), Ok(prints.clone()));
        prop_assert_eq!(prints.len(), values.len());
    }

    #[test]
    fn damaged_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(values) = Values::decode(&bytes) {
            prop_assert_eq!(values.encode(), bytes.clone());
        }
        if let Ok(prints) = FieldPrints::decode(&bytes) {
            prop_assert_eq!(prints.encode(), bytes);
        }
    }
}

fn wanted_field() -> impl Strategy<Value = (Field, Wanted)> {
    let field = prop_oneof![
        prop::sample::select(Field::STANDARD.to_vec()),
        (0_u32..4).prop_map(Field::Additional),
        (0_u32..1_000_000).prop_map(Field::Additional),
        (i32::MAX.cast_unsigned() - 4..=i32::MAX.cast_unsigned()).prop_map(Field::Additional),
        Just(Field::Subscriptions),
        "[ab]{0,2}".prop_map(|name| Field::segment(&name)),
        any::<u32>().prop_map(|number| Field::Segment(number & 0x0FFF_FFFF)),
    ];
    let wanted = prop_oneof![
        Just(Wanted::Clear),
        "[ab]{0,2}".prop_map(|text| Wanted::Value(Personal::new(text))),
        any::<String>().prop_map(|text| Wanted::Value(Personal::new(text))),
    ];
    (field, wanted)
}

#[test]
fn what_cannot_be_read_costs_its_field_or_the_record_and_wipes_nothing() {
    let unreadable = || unreadable_value("it is no number");
    let twice = unreadable_value(KEY_TWICE);
    let mut mapping = mapping(&[("email", "mail"), ("town", "$.address.city"), ("firstName", "name")]);
    mapping.filter = Some(Filter::parse("$[?@.status != 'left']").unwrap());
    let (mapping, _) = mapping.resolve(&Catalog::empty());
    let map = |record: serde_json::Value| mapping.map(&Record::Json(record));
    let sound =
        json!({"id": 1, "mail": "a@example.com", "status": "in", "name": unreadable(), "address": unreadable()});
    let Ok(Mapped::Contact(contact)) = map(sound) else { panic!("the person is sent") };
    let fields: Vec<Field> = contact.fields.iter().map(|(field, _)| *field).collect();
    assert_eq!(fields, [Field::Email], "an address that cannot be read clears no town");
    assert_eq!(contact.dropped.iter().map(|dropped| dropped.field).collect::<Vec<_>>(), [Field::FirstName]);
    // who is left out by the filter may be unsubscribed: it is not decided by what nobody can read
    for record in [
        json!({"id": 1, "mail": "a@example.com", "status": unreadable()}),
        json!({"id": 1, "mail": "a@example.com", "status": "in", "other": twice}),
    ] {
        let rejection = map(record).unwrap_err();
        assert_eq!((rejection.key.as_deref(), rejection.reasons.len()), (Some("1"), 1));
    }
}
