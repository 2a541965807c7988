//! Reteno's fields and the values they may hold.

use std::fmt;

/// A field of a Reteno contact. The order is the order of every list and blob that holds fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// The CRM's id for the contact, as Reteno stores it.
    ExternalCustomerId,
    /// The e-mail channel.
    Email,
    /// The phone channel.
    Sms,
    /// First name.
    FirstName,
    /// Last name.
    LastName,
    /// Street address.
    Address,
    /// Town.
    Town,
    /// Region.
    Region,
    /// Postal code.
    Postcode,
    /// RFC 5646 language tag.
    LanguageCode,
    /// tz database name.
    TimeZone,
    /// Reteno's contact key.
    ContactKey,
    /// An additional field by Reteno's numeric id.
    Additional(u32),
    /// The whole set of subscription categories: their keys in order, joined by commas. Not part of a bulk call: it has
    /// a call of its own, which replaces the set.
    Subscriptions,
    /// Membership in a static segment, by the number of its name ([`Field::segment`]): the value is [`MEMBER`], clear
    /// means that the contact is to leave.
    Segment(u32),
}

/// The value of a [`Field::Segment`] whose contact is in it.
pub const MEMBER: &str = "in";
/// Segments have the codes from here on; additional fields end before.
const SEGMENT_CODES: u32 = 0xF000_0000;

impl Field {
    /// Every standard field, in order.
    pub const STANDARD: [Self; 12] = [
        Self::ExternalCustomerId,
        Self::Email,
        Self::Sms,
        Self::FirstName,
        Self::LastName,
        Self::Address,
        Self::Town,
        Self::Region,
        Self::Postcode,
        Self::LanguageCode,
        Self::TimeZone,
        Self::ContactKey,
    ];

    /// The field of a segment's name. Two names may share a number, once in 2^28: the configuration refuses such a pair.
    #[must_use]
    pub fn segment(name: &str) -> Self {
        // FNV-1a: fixed for ever, since the number is stored
        let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self::Segment(hash & !SEGMENT_CODES)
    }

    /// Whether a bulk call writes it: a value of the contact, or its membership in a segment.
    #[must_use]
    pub const fn is_bulk(self) -> bool {
        !matches!(self, Self::Subscriptions)
    }

    /// Whether it is a membership.
    #[must_use]
    pub const fn is_segment(self) -> bool {
        matches!(self, Self::Segment(_))
    }

    /// The name Reteno gives a standard field in `contactFields`; `None` for all others.
    #[must_use]
    pub const fn standard_name(self) -> Option<&'static str> {
        Some(match self {
            Self::ExternalCustomerId => "externalCustomerId",
            Self::Email => "email",
            Self::Sms => "sms",
            Self::FirstName => "firstName",
            Self::LastName => "lastName",
            Self::Address => "address",
            Self::Town => "town",
            Self::Region => "region",
            Self::Postcode => "postcode",
            Self::LanguageCode => "languageCode",
            Self::TimeZone => "timeZone",
            Self::ContactKey => "contactKey",
            Self::Additional(_) | Self::Subscriptions | Self::Segment(_) => return None,
        })
    }

    /// Whether Reteno reaches people by it: a contact needs one of these.
    #[must_use]
    pub const fn is_channel(self) -> bool {
        match self {
            Self::Email | Self::Sms => true,
            Self::ExternalCustomerId
            | Self::FirstName
            | Self::LastName
            | Self::Address
            | Self::Town
            | Self::Region
            | Self::Postcode
            | Self::LanguageCode
            | Self::TimeZone
            | Self::ContactKey
            | Self::Additional(_)
            | Self::Subscriptions
            | Self::Segment(_) => false,
        }
    }

    /// The number under which the checkpoint keeps a field: standard fields and the set of categories 1 to 63, additional
    /// fields id + 64, segments from 2^32 - 2^28 on.
    /// Part of the stored format: never renumber.
    #[must_use]
    pub const fn code(self) -> u32 {
        match self {
            Self::ExternalCustomerId => 1,
            Self::Email => 2,
            Self::Sms => 3,
            Self::FirstName => 4,
            Self::LastName => 5,
            Self::Address => 6,
            Self::Town => 7,
            Self::Region => 8,
            Self::Postcode => 9,
            Self::LanguageCode => 10,
            Self::TimeZone => 11,
            Self::ContactKey => 12,
            Self::Subscriptions => 13,
            Self::Additional(id) => id.saturating_add(64),
            Self::Segment(number) => SEGMENT_CODES | number,
        }
    }

    /// The field of a stored code; `None` for a number that no version of this program wrote.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        if code >= SEGMENT_CODES {
            return Some(Self::Segment(code & !SEGMENT_CODES));
        }
        if code >= 64 {
            return Some(Self::Additional(code - 64));
        }
        if code == Self::Subscriptions.code() {
            return Some(Self::Subscriptions);
        }
        Self::STANDARD.into_iter().find(|field| field.code() == code)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.standard_name(), self) {
            (Some(name), _) => f.write_str(name),
            (None, Self::Additional(id)) => write!(f, "additional field {id}"),
            (None, Self::Subscriptions) => f.write_str("subscription categories"),
            (None, Self::Segment(number)) => write!(f, "segment {number:07x}"),
            (None, _) => f.write_str("field"),
        }
    }
}

/// Personal data: a value that cannot print itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Personal(String);

impl Personal {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself: for the wire, for hashing and for the sealed checkpoint, never for a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Personal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

/// What a CRM wants a field to be. The third state, absent ("leave Reteno alone"), is a field that is not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The CRM holds the field empty.
    Clear,
    /// The canonical value.
    Value(Personal),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These numbers are in every checkpoint.
    #[test]
    fn stored_codes_stay_what_they_are() {
        let rows = [
            (Field::ExternalCustomerId, 1),
            (Field::ContactKey, 12),
            (Field::Subscriptions, 13),
            (Field::Additional(1), 65),
            // the highest id that Reteno can have, far from the segments
            (Field::Additional(2_147_483_647), 2_147_483_711),
            (Field::Segment(0), 0xF000_0000),
            (Field::segment(""), 0xF11C_9DC5),
            (Field::segment("CRM contacts"), 0xFD1D_7220),
            (Field::segment("CRM Contacts"), 0xF0B0_F640),
            (Field::segment("Клієнти"), 0xFFAD_F6A8),
            (Field::Segment(0x0FFF_FFFF), 0xFFFF_FFFF),
        ];
        for (field, code) in rows {
            assert_eq!(field.code(), code, "{field}: {:#x}", field.code());
            assert_eq!(Field::from_code(code), Some(field), "{field}");
        }
        for code in [0, 14, 63] {
            assert_eq!(Field::from_code(code), None, "{code}");
        }
    }
}
