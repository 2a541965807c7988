//! A source's mapping and policy, from the words of the configuration.

use crate::checkpoint::Configured;
use crate::config::{self, FieldTarget, SourceConfig};
use crate::contact::{
    CategoryFlag, ConsentMapping, Field, FieldMapping, FieldRef, Filter, Mapping, OnInvalid, Region, ResolvedMapping,
    SegmentMapping, Selector, SubscriptionsMapping, WriteRule,
};
use crate::plan::guard::{Bound, Guard};
use crate::plan::identity::SharedChannel;
use crate::plan::policy::{Ending, Policy};

/// How the records of a source become contacts.
pub(super) fn build_mapping(source: &SourceConfig) -> Mapping {
    Mapping {
        key: selector(&source.key),
        fields: source.contact.iter().map(field_mapping).collect(),
        changed_at: source.changed_at.as_ref().map(selector),
        filter: source.filter.as_deref().map(filter),
        null_values: source.null_values.clone(),
        zones: source.zones,
        consent: source.consent.as_ref().map(|consent| ConsentMapping {
            selector: selector(&consent.paths),
            yes: consent.yes.clone(),
            no: consent.no.clone(),
            neither: consent.neither.clone(),
        }),
        subscriptions: source.subscriptions.as_ref().map(|subscriptions| match subscriptions {
            config::SubscriptionsText::List(paths) => SubscriptionsMapping::List(selector(paths)),
            config::SubscriptionsText::Flags(flags) => SubscriptionsMapping::Flags(
                flags
                    .iter()
                    .map(|flag| CategoryFlag {
                        key: flag.key.clone(),
                        selector: selector(&flag.paths),
                        yes: flag.yes.clone(),
                    })
                    .collect(),
            ),
        }),
        segments: source
            .segments
            .iter()
            .map(|segment| SegmentMapping {
                name: segment.name.clone(),
                condition: segment.condition.as_deref().map(filter),
            })
            .collect(),
    }
}

fn field_mapping(field: &config::FieldText) -> FieldMapping {
    let target = match &field.target {
        FieldTarget::Standard(standard) => FieldRef::Known(*standard),
        FieldTarget::AdditionalId(id) => FieldRef::Known(Field::Additional(*id)),
        FieldTarget::AdditionalKey(key) => FieldRef::Key(key.clone()),
    };
    let usual = match &target {
        FieldRef::Known(known) => OnInvalid::default_for(*known),
        FieldRef::Key(_) => OnInvalid::DropField,
    };
    FieldMapping {
        selector: selector(&field.paths),
        on_invalid: match field.on_invalid {
            Some(config::OnInvalidText::DropField) => OnInvalid::DropField,
            Some(config::OnInvalidText::Reject) => OnInvalid::Reject,
            None => usual,
        },
        region: field.region.as_deref().and_then(Region::parse),
        prefix: field.prefix.clone(),
        write: match field.write {
            config::WriteRule::Always => WriteRule::Always,
            config::WriteRule::AtFirstSight => WriteRule::AtFirstSight,
            config::WriteRule::NeverClear => WriteRule::NeverClear,
        },
        field: target,
    }
}

/// What the records of a source may do.
pub(super) fn build_policy(source: &SourceConfig, identity: config::Identity, mapping: &ResolvedMapping) -> Policy {
    let ruled = mapping.fields().iter().map(|field| (*field, mapping.write_rule(*field)));
    Policy {
        guard: build_guard(&source.guard),
        ending: build_ending(source.on_delete),
        groups: source.segments.iter().filter_map(|segment| segment.group_id).collect(),
        has_consent: source.consent.is_some(),
        forgets_consent: false,
        write_rules: ruled.filter(|(_, rule)| *rule != WriteRule::Always).collect(),
        clear_at_first_sight: source.clear_at_first_sight,
        quiet_for: source.quiet_for,
        shared_channel: build_rule(identity),
        unique: build_unique(identity),
        shares_ids: source.shares_ids,
        is_form: source.form.is_some(),
    }
}

const fn build_rule(identity: config::Identity) -> SharedChannel {
    match identity.shared_channel {
        config::SharedChannel::Oldest => SharedChannel::Oldest,
        config::SharedChannel::Newest => SharedChannel::Newest,
        config::SharedChannel::FirstSource => SharedChannel::FirstSource,
    }
}

fn build_unique(identity: config::Identity) -> Vec<Field> {
    let unique = [(identity.unique_email, Field::Email), (identity.unique_sms, Field::Sms)];
    unique.into_iter().filter(|(is_unique, _)| *is_unique).map(|(_, field)| field).collect()
}

/// Which sources there are, as far as it matters for contacts that share an address.
pub(super) fn build_configured(sources: &[SourceConfig], identity: config::Identity) -> Configured {
    Configured {
        sources: sources.iter().map(|source| (source.name.clone(), source.shares_ids)).collect(),
        rule: build_rule(identity),
        unique: build_unique(identity),
    }
}

/// What happens to a contact that is gone.
pub(super) const fn build_ending(on_delete: config::OnDelete) -> Ending {
    match on_delete {
        config::OnDelete::Keep => Ending::Keep,
        config::OnDelete::Detach => Ending::Detach,
        config::OnDelete::Unsubscribe => Ending::Unsubscribe,
        config::OnDelete::Delete => Ending::Delete,
        config::OnDelete::Erase => Ending::Erase,
    }
}

fn build_guard(guard: &config::Guard) -> Guard {
    let config::Guard {
        enabled,
        delete,
        erase,
        unsubscribe,
        detach,
        clear,
        overwrite,
        create,
        mapping,
        resubscribe,
        rename,
    } = *guard;
    let bound = |bound: config::Bound| Bound { contacts: bound.contacts, percent: bound.percent };
    Guard {
        is_on: enabled,
        holds_all: false,
        bounds: [delete, erase, unsubscribe, detach, clear, overwrite, create, mapping, resubscribe, rename].map(bound),
    }
}

fn filter(text: &str) -> Filter {
    Filter::parse(text).expect("the configuration has parsed the same path")
}

fn selector(text: &config::SelectorText) -> Selector {
    Selector::parse_first_of(&text.0).expect("the configuration has parsed the same paths")
}
