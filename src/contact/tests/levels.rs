//! Mapping consent, subscription categories and segments beside the values of a record.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::*;

fn selector(place: &str) -> Selector {
    Selector::parse(place).unwrap()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn flag(key: &str, place: &str) -> CategoryFlag {
    CategoryFlag { key: key.to_owned(), selector: selector(place), yes: words(&["yes"]) }
}

fn segment(name: &str, condition: Option<&str>) -> SegmentMapping {
    SegmentMapping { name: name.to_owned(), condition: condition.map(|text| Filter::parse(text).unwrap()) }
}

/// Everything that a mapping may have.
fn full() -> Mapping {
    let field = |name: &str, place: &str, write| FieldMapping {
        field: FieldRef::parse(name).unwrap(),
        selector: selector(place),
        on_invalid: OnInvalid::DropField,
        region: None,
        prefix: String::new(),
        write,
    };
    Mapping {
        zones: MappedZones::default(),
        null_values: Vec::new(),
        key: selector("id"),
        fields: vec![
            field("87166", "tier", WriteRule::NeverClear),
            field("email", "mail", WriteRule::Always),
            field("firstName", "name", WriteRule::AtFirstSight),
        ],
        changed_at: None,
        filter: None,
        consent: Some(ConsentMapping {
            selector: selector("agreed"),
            yes: words(&["yes"]),
            no: words(&["no"]),
            neither: Vec::new(),
        }),
        subscriptions: Some(SubscriptionsMapping::List(selector("cats"))),
        segments: vec![segment("Gold", Some("$[?@.tier == 'gold']")), segment("CRM contacts", None)],
    }
}

fn gold() -> Field {
    Field::segment("Gold")
}

fn all() -> Field {
    Field::segment("CRM contacts")
}

fn map(mapping: &Mapping, record: &Record) -> Contact {
    match mapping.resolve(&Catalog::empty()).0.map(record) {
        Ok(Mapped::Contact(contact)) => contact,
        other => panic!("no contact: {other:?}"),
    }
}

fn value(text: &str) -> Wanted {
    Wanted::Value(Personal::new(text))
}

fn wanted(contact: &Contact, field: Field) -> Option<Wanted> {
    Values::from(contact.fields.clone()).get(field).cloned()
}

#[test]
fn levels_stand_behind_the_values_in_the_order_of_fields() {
    let record = json!({"id": 7, "mail": "a@example.com", "tier": "gold", "cats": "b,a", "agreed": "YES"});
    let got = map(&full(), &Record::Json(record));
    let mut segments = [all(), gold()];
    segments.sort_unstable();
    assert_eq!(
        got.fields,
        [
            (Field::Email, value("a@example.com")),
            (Field::Additional(87_166), value("gold")),
            (Field::Subscriptions, value("a,b")),
            (segments[0], value(MEMBER)),
            (segments[1], value(MEMBER)),
        ]
    );
    assert_eq!((got.consent, got.dropped), (Some(Consent::Yes), Vec::new()));
    let (resolved, unknown) = full().resolve(&Catalog::empty());
    assert_eq!(
        resolved.fields(),
        [Field::Email, Field::FirstName, Field::Additional(87_166), Field::Subscriptions, segments[0], segments[1]]
    );
    assert_eq!(unknown.len(), 1, "{unknown:?}"); // the additional field, of which the empty catalog knows nothing
}

#[test]
fn a_record_speaks_of_each_level_by_its_own_place() {
    type Row = (Value, Option<Wanted>, Option<Wanted>, Option<Consent>);
    let clear = Some(Wanted::Clear);
    let rows: [Row; 6] = [
        // a partial record: memberships are judged on what is there, the rest is not spoken of
        (json!({"id": 7, "name": "Ira"}), None, clear.clone(), None),
        (json!({"id": 7, "tier": "gold"}), None, Some(value(MEMBER)), None),
        (json!({"id": 7, "tier": "silver", "agreed": "no"}), None, clear.clone(), Some(Consent::No)),
        (json!({"id": 7, "cats": []}), clear.clone(), clear.clone(), None),
        (json!({"id": 7, "agreed": null, "cats": ["a"]}), Some(value("a")), clear.clone(), None),
        // an address alone says nothing of consent
        (json!({"id": 7, "mail": "a@example.com"}), None, clear, None),
    ];
    for (record, categories, in_gold, consent) in rows {
        let got = map(&full(), &Record::Json(record.clone()));
        assert_eq!(wanted(&got, Field::Subscriptions), categories, "{record}");
        assert_eq!(wanted(&got, gold()), in_gold, "{record}");
        assert_eq!(wanted(&got, all()), Some(value(MEMBER)), "{record}");
        assert_eq!(got.consent, consent, "{record}");
    }
}

#[test]
fn a_row_and_an_object_give_the_same_levels() {
    let header = Header::new(words(&["id", "mail", "tier", "cats", "agreed"]));
    let cells = csv::StringRecord::from(vec!["7", "a@example.com", "gold", "b;a", " No "]);
    let row = Record::Row(Row { header: Arc::new(header), cells });
    let object = json!({"id": "7", "mail": "a@example.com", "tier": "gold", "cats": ["a", "b"], "agreed": "no"});
    let from_row = map(&full(), &row);
    assert_eq!(from_row, map(&full(), &Record::Json(object)));
    assert_eq!(wanted(&from_row, gold()), Some(value(MEMBER)));
    assert_eq!(from_row.consent, Some(Consent::No));
}

#[test]
fn a_set_that_cannot_be_told_is_dropped_and_listed() {
    let mut flags = full();
    flags.subscriptions = Some(SubscriptionsMapping::Flags(vec![flag("news", "news"), flag("deals", "deals")]));
    let got = map(&flags, &Record::Json(json!({"id": 7, "news": "yes"})));
    assert_eq!(wanted(&got, Field::Subscriptions), None);
    let listed: Vec<_> = got.dropped.iter().map(|dropped| (dropped.field, dropped.reason.text())).collect();
    let reason = "the record does not speak of every category: the whole set cannot be told";
    assert_eq!(listed, [(Field::Subscriptions, reason)]);
    // it costs nothing else
    assert_eq!(wanted(&got, all()), Some(value(MEMBER)));
    let whole = map(&flags, &Record::Json(json!({"id": 7, "news": "yes", "deals": ""})));
    assert_eq!((wanted(&whole, Field::Subscriptions), whole.dropped), (Some(value("news")), Vec::new()));
}

#[test]
fn levels_are_no_channel() {
    let record = json!({"id": 7, "mail": "", "cats": "a", "agreed": "yes"});
    let rejection = full().resolve(&Catalog::empty()).0.map(&Record::Json(record)).unwrap_err();
    assert_eq!(rejection.to_string(), "map a record: no valid e-mail address or phone number");
    // nor does a set that cannot be told cost the contact
    let got = map(&full(), &Record::Json(json!({"id": 7, "mail": "a@example.com", "cats": {}})));
    assert_eq!((got.dropped.len(), wanted(&got, Field::Subscriptions)), (1, None));
}

#[test]
fn what_the_account_lacks_and_what_is_said_twice_is_reported() {
    let mut mapping = full();
    mapping.fields.remove(0);
    mapping.fields.push(FieldMapping { field: FieldRef::Known(Field::Subscriptions), ..mapping.fields[0].clone() });
    mapping.fields.push(FieldMapping { field: FieldRef::Known(gold()), ..mapping.fields[0].clone() });
    mapping.subscriptions = Some(SubscriptionsMapping::Flags(vec![flag("news", "news"), flag(" deals ", "deals")]));
    mapping.segments.push(segment("Gold", None));
    let catalog = Catalog::empty().with_categories(words(&["news", "tips"]).into_iter().collect());
    let (resolved, unknown) = mapping.resolve(&catalog);
    let unknown: Vec<_> = unknown.iter().map(|unknown| (unknown.name.as_str(), unknown.problem)).collect();
    let segment_twice = gold().to_string();
    assert_eq!(
        unknown,
        [
            ("subscription categories", FieldProblem::UnknownKey),
            (segment_twice.as_str(), FieldProblem::UnknownKey),
            ("Gold", FieldProblem::MappedTwice),
            ("deals", FieldProblem::UnknownCategory),
        ]
    );
    assert!(FieldProblem::UnknownCategory.hint().contains("subscription categories"));
    // of two segments the first counts: with its condition
    let Ok(Mapped::Contact(got)) = resolved.map(&Record::Json(json!({"id": 7}))) else { panic!("no contact") };
    assert_eq!(wanted(&got, gold()), Some(Wanted::Clear));
    assert_eq!(resolved.segment_names().len(), 2);
}

#[test]
fn a_mapping_tells_its_columns_names_and_rules() {
    let mut mapping = full();
    mapping.subscriptions = Some(SubscriptionsMapping::Flags(vec![flag("news", "news"), flag("deals", "$.deals")]));
    let (resolved, _) = mapping.resolve(&Catalog::empty());
    let columns = resolved.columns().mapped;
    let columns: Vec<_> = columns.iter().map(|(what, column)| (what.as_str(), column.as_str())).collect();
    assert_eq!(
        columns,
        [
            ("email", "mail"),
            ("firstName", "name"),
            ("additional field 87166", "tier"),
            ("consent", "agreed"),
            ("subscription categories", "news"),
            ("subscription categories", "deals"),
            ("segment \"Gold\"", "tier"),
        ]
    );
    let mut names = [(all(), "CRM contacts".to_owned()), (gold(), "Gold".to_owned())];
    names.sort_unstable();
    assert_eq!(resolved.segment_names(), names);
    let rules = [
        (Field::Email, WriteRule::Always),
        (Field::FirstName, WriteRule::AtFirstSight),
        (Field::Additional(87_166), WriteRule::NeverClear),
        (Field::Subscriptions, WriteRule::Always),
        (gold(), WriteRule::Always),
        // not mapped
        (Field::Town, WriteRule::Always),
    ];
    for (field, rule) in rules {
        assert_eq!(resolved.write_rule(field), rule, "{field}");
    }
    assert!(resolved.has_consent());
    mapping.consent = None;
    assert!(!mapping.resolve(&Catalog::empty()).0.has_consent());
}

#[test]
fn every_change_of_a_level_is_another_shape() {
    let shape = |mapping: &Mapping| mapping.resolve(&Catalog::empty()).0.shape();
    let edits: [fn(&mut Mapping); 11] = [
        |mapping| mapping.consent = None,
        |mapping| mapping.consent.as_mut().unwrap().yes.push("1".into()),
        |mapping| mapping.consent.as_mut().unwrap().no.push("0".into()),
        |mapping| mapping.consent.as_mut().unwrap().neither.push("later".into()),
        |mapping| mapping.zones.account = Some(chrono_tz::Tz::UTC),
        |mapping| mapping.subscriptions = None,
        |mapping| mapping.subscriptions = Some(SubscriptionsMapping::List(selector("others"))),
        |mapping| mapping.segments.truncate(1),
        |mapping| mapping.segments[0].condition = None,
        |mapping| mapping.segments[1].name = "CRM".into(),
        |mapping| mapping.fields[0].write = WriteRule::Always,
    ];
    assert_eq!(shape(&full()), shape(&full()));
    for (place, edit) in edits.iter().enumerate() {
        let mut edited = full();
        edit(&mut edited);
        assert_ne!(shape(&edited), shape(&full()), "edit {place}");
    }
    let known = Catalog::empty().with_categories(words(&["a"]).into_iter().collect());
    assert_ne!(full().resolve(&known).0.shape(), shape(&full()));
}

fn any_part() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop::sample::select(vec!["", "yes", "no", "gold", "a", "b;a", "a@example.com"]).prop_map(Value::from),
        prop::collection::vec("[ab]{0,2}", 0..3).prop_map(Value::from),
        Just(json!({"yes": "yes"})),
    ]
}

proptest! {
    #[test]
    fn fields_are_in_order_each_once_and_come_back(
        parts in prop::collection::btree_map(
            prop::sample::select(vec!["mail", "name", "tier", "cats", "agreed", "news"]), any_part(), 0..6
        ),
        names in prop::collection::vec("[a-z]{1,3}", 0..5),
        by_flags in any::<bool>(),
    ) {
        let mut mapping = full();
        mapping.segments.extend(names.iter().map(|name| segment(name, Some("$[?@.news]"))));
        if by_flags {
            mapping.subscriptions = Some(SubscriptionsMapping::Flags(vec![flag("n", "news"), flag("c", "cats")]));
        }
        let (resolved, _) = mapping.resolve(&Catalog::empty());
        prop_assert!(resolved.fields().is_sorted_by(|left, right| left < right));
        let mut record = json!({"id": 7});
        for (key, part) in parts {
            record[key] = part;
        }
        if let Ok(Mapped::Contact(contact)) = resolved.map(&Record::Json(record)) {
            prop_assert!(contact.fields.is_sorted_by(|(left, _), (right, _)| left < right));
            prop_assert!(contact.fields.iter().all(|(field, _)| resolved.fields().contains(field)));
            for (field, _) in resolved.segment_names() {
                prop_assert!(contact.fields.iter().any(|(known, _)| known == field), "{field} is not spoken of");
            }
            let values = Values::from(contact.fields.clone());
            prop_assert_eq!(values.as_slice(), contact.fields.as_slice());
            prop_assert_eq!(Values::decode(&values.encode()), Ok(values.clone()));
            let prints = Fingerprinter::from_key(&[3; 32]).fields(&contact.fields);
            prop_assert_eq!(prints.len(), contact.fields.len());
            prop_assert_eq!(FieldPrints::decode(&prints.encode()), Ok(prints));
        }
    }
}
