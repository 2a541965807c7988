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
}

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

    /// The name Reteno gives a standard field in `contactFields`; `None` for additional fields.
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
            Self::Additional(_) => return None,
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
            | Self::Additional(_) => false,
        }
    }

    /// The number under which the checkpoint keeps a field: standard fields 1 to 63, additional fields id + 64.
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
            Self::Additional(id) => id.saturating_add(64),
        }
    }

    /// The field of a stored code; `None` for a number that no version of this program wrote.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        if code >= 64 {
            return Some(Self::Additional(code - 64));
        }
        Self::STANDARD.into_iter().find(|field| field.code() == code)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.standard_name(), self) {
            (Some(name), _) => f.write_str(name),
            (None, Self::Additional(id)) => write!(f, "additional field {id}"),
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
