//! One contact of a request, checked by Reteno's rules and in its stored form. Decides what a bad value costs; touches
//! no stored contact.

use std::collections::{BTreeMap, BTreeSet};

use super::options::{AdditionalField, BadField};
use super::rules;
use super::wire::{Channel, ChannelKind, StandardField, WireContact};

/// A contact that may be imported.
#[derive(Clone, Debug, Default)]
pub(super) struct Incoming {
    pub(super) id: Option<i64>,
    pub(super) external_id: Option<String>,
    pub(super) channels: BTreeMap<ChannelKind, Vec<String>>,
    /// Values of the standard fields that are no channels; an empty one clears.
    pub(super) standard: BTreeMap<StandardField, String>,
    pub(super) additional: BTreeMap<i32, String>,
    /// Bad values that were dropped silently: what the contact holds there stays.
    pub(super) dropped: BTreeSet<StandardField>,
    pub(super) dropped_additional: BTreeSet<i32>,
}

impl Incoming {
    /// The first e-mail address.
    pub(super) fn email(&self) -> Option<&str> {
        self.first(ChannelKind::Email)
    }

    /// The first phone number.
    pub(super) fn phone(&self) -> Option<&str> {
        self.first(ChannelKind::Sms)
    }

    /// The first value of a channel.
    pub(super) fn first(&self, kind: ChannelKind) -> Option<&str> {
        self.channels.get(&kind)?.first().map(String::as_str)
    }

    /// What two imports that hold the same contact have in common: external id, e-mails and phones.
    pub(super) fn keys(&self) -> Vec<String> {
        let all = |kind| self.channels.get(&kind).into_iter().flatten();
        let external = self.external_id.iter().map(|id| format!("external id {id}"));
        let emails = all(ChannelKind::Email).map(|email| format!("email {email}"));
        let phones = all(ChannelKind::Sms).map(|phone| format!("phone {phone}"));
        external.chain(emails).chain(phones).collect()
    }
}

/// The first additional field of `contact` that the catalogue does not have.
pub(super) fn unknown_field(contact: &WireContact, catalogue: &BTreeMap<i32, AdditionalField>) -> Option<i32> {
    contact.fields.iter().flatten().map(|field| field.id).find(|id| !catalogue.contains_key(id))
}

/// Checks a contact whose additional fields are all known. The error is the text of its failure.
pub(super) fn check(
    contact: &WireContact,
    catalogue: &BTreeMap<i32, AdditionalField>,
    bad_field: BadField,
) -> Result<Incoming, String> {
    let mut checking = Checking { bad_field, incoming: Incoming { id: contact.id, ..Incoming::default() } };
    if contact.external_customer_id.as_deref() == Some("") {
        return Err("externalCustomerId is empty".to_owned());
    }
    checking.incoming.external_id.clone_from(&contact.external_customer_id);
    for channel in &contact.channels {
        checking.channel(channel)?;
    }
    if checking.incoming.channels.is_empty() {
        return Err("Contact has no valid channels".to_owned());
    }
    checking.standard_fields(contact)?;
    for field in contact.fields.iter().flatten() {
        let Some(known) = catalogue.get(&field.id) else { continue };
        match rules::additional(known, &field.value) {
            Ok(value) => drop(checking.incoming.additional.insert(field.id, value)),
            Err(reason) => {
                checking.bad(reason)?;
                checking.incoming.dropped_additional.insert(field.id);
            }
        }
    }
    Ok(checking.incoming)
}

struct Checking {
    bad_field: BadField,
    incoming: Incoming,
}

impl Checking {
    /// The cost of one bad value.
    fn bad(&self, reason: String) -> Result<(), String> {
        match self.bad_field {
            BadField::FailsContact => Err(reason),
            BadField::DropsField => Ok(()),
        }
    }

    fn channel(&mut self, channel: &Channel) -> Result<(), String> {
        let stored = match channel.kind {
            ChannelKind::Email => rules::email(&channel.value),
            ChannelKind::Sms | ChannelKind::Viber => rules::phone(&channel.value),
            ChannelKind::Mobilepush
            | ChannelKind::Webpush
            | ChannelKind::Appinbox
            | ChannelKind::Widget
            | ChannelKind::Inapp => token(&channel.value),
        };
        match stored {
            Ok(value) => {
                let of_type = self.incoming.channels.entry(channel.kind).or_default();
                if of_type.len() == 2 {
                    return Err("More than two channels of one type".to_owned());
                }
                of_type.push(value);
                Ok(())
            }
            Err(reason) => {
                self.incoming.dropped.extend(field_of_channel(channel.kind));
                self.bad(reason)
            }
        }
    }

    fn standard_fields(&mut self, contact: &WireContact) -> Result<(), String> {
        let address = contact.address.as_ref();
        self.standard(StandardField::FirstName, contact.first_name.as_deref(), rules::first_name)?;
        self.standard(StandardField::LastName, contact.last_name.as_deref(), rules::last_name)?;
        self.standard(StandardField::Address, address.and_then(|a| a.address.as_deref()), rules::line)?;
        self.standard(StandardField::Town, address.and_then(|a| a.town.as_deref()), rules::line)?;
        self.standard(StandardField::Region, address.and_then(|a| a.region.as_deref()), rules::line)?;
        self.standard(StandardField::Postcode, address.and_then(|a| a.postcode.as_deref()), rules::line)?;
        self.standard(StandardField::LanguageCode, contact.language_code.as_deref(), rules::language)?;
        self.standard(StandardField::TimeZone, contact.time_zone.as_deref(), rules::time_zone)?;
        self.standard(StandardField::ContactKey, contact.contact_key.as_deref(), rules::line)
    }

    fn standard(
        &mut self,
        field: StandardField,
        value: Option<&str>,
        rule: fn(&str) -> Result<String, String>,
    ) -> Result<(), String> {
        match value.map(rule) {
            None => {}
            Some(Ok(value)) => drop(self.incoming.standard.insert(field, value)),
            Some(Err(reason)) => {
                self.incoming.dropped.insert(field);
                self.bad(reason)?;
            }
        }
        Ok(())
    }
}

fn token(value: &str) -> Result<String, String> {
    if value.is_empty() { Err("Empty channel value".to_owned()) } else { Ok(value.to_owned()) }
}

/// The name in `contactFields` that covers a channel; some channels have none.
pub(super) const fn field_of_channel(kind: ChannelKind) -> Option<StandardField> {
    match kind {
        ChannelKind::Email => Some(StandardField::Email),
        ChannelKind::Sms => Some(StandardField::Sms),
        ChannelKind::Mobilepush => Some(StandardField::Mobilepush),
        ChannelKind::Webpush => Some(StandardField::Webpush),
        ChannelKind::Viber | ChannelKind::Appinbox | ChannelKind::Widget | ChannelKind::Inapp => None,
    }
}

/// The channel behind a name in `contactFields`.
pub(super) const fn channel_of_field(field: StandardField) -> Option<ChannelKind> {
    match field {
        StandardField::Email => Some(ChannelKind::Email),
        StandardField::Sms => Some(ChannelKind::Sms),
        StandardField::Mobilepush => Some(ChannelKind::Mobilepush),
        StandardField::Webpush => Some(ChannelKind::Webpush),
        StandardField::FirstName
        | StandardField::LastName
        | StandardField::Address
        | StandardField::Town
        | StandardField::Region
        | StandardField::Postcode
        | StandardField::LanguageCode
        | StandardField::TimeZone
        | StandardField::ContactKey
        | StandardField::ExternalCustomerId
        | StandardField::OrdersInfo => None,
    }
}
