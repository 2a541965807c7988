//! What Reteno answered, reduced to what a decision needs. The client builds these values; `plan` decides on them.

use std::time::Duration;

/// The answer to one `POST v1/contacts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitAnswer {
    /// Reteno took the batch and works on it.
    Accepted {
        /// `asyncSessionId`.
        session: String,
        /// `failedContacts`; the rest of the batch is being imported.
        failed: Vec<FailedContact>,
    },
    /// The whole batch was refused because of what it holds; certainly nothing was written (400, 413, 415, or a 200
    /// with no session that has `errorMessage` or names failed contacts).
    Refused {
        /// HTTP status.
        status: u16,
        /// Reteno's words, cut to 300 characters, with everything that looks like a channel or token masked.
        reason: String,
    },
    /// Certainly nothing was written, and it is not the batch's fault.
    NotWritten {
        /// Why.
        cause: NotWritten,
        /// Not before this long, where Reteno said so.
        retry_after: Option<Duration>,
    },
    /// It may or may not have been carried out: the same body is sent again (timeout, lost connection, 5xx, 409, a
    /// body that is not JSON or is cut off, a 200 without `asyncSessionId`, `errorMessage` and `failedContacts`).
    Uncertain {
        /// In words for an operator, without personal data.
        cause: String,
        /// Not before this long; at least a minute after a 409.
        retry_after: Option<Duration>,
    },
}

/// The answer to one `POST v1/contact` or `PUT v1/contact/{id}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SingleAnswer {
    /// Reteno wrote the contact.
    Written {
        /// Reteno's contact id.
        id: i64,
    },
    /// 409: the same body was sent within a minute. Never success: the first may have failed, or be under way.
    RepeatedWithinMinute {
        /// A minute, or longer where Reteno said so.
        retry_after: Duration,
    },
    /// The contact was refused because of what it holds; certainly nothing was written. For an update also a 404:
    /// Reteno does not know the id.
    Refused {
        /// HTTP status.
        status: u16,
        /// Reteno's words, masked and cut.
        reason: String,
    },
    /// Certainly nothing was written, and it is not the contact's fault.
    NotWritten {
        /// Why.
        cause: NotWritten,
        /// Not before this long, where Reteno said so.
        retry_after: Option<Duration>,
    },
    /// It may or may not have been carried out (timeout, lost connection, 5xx, an answer that is not understood).
    Uncertain {
        /// In words for an operator, without personal data.
        cause: String,
        /// Not before this long.
        retry_after: Option<Duration>,
    },
}

/// The answer to a call that does one thing at once and may be repeated: `emails/unsubscribed/add` and `delete`, `DELETE
/// contact/{id}`, `PUT contact/{id}/subscriptions`, `group/{id}/contacts/detach`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeedAnswer {
    /// Reteno did it.
    Done,
    /// 404 where the path names a contact or a segment: Reteno does not know it (any more).
    NotThere,
    /// Refused because of what it holds; certainly nothing was written.
    Refused {
        /// HTTP status.
        status: u16,
        /// Reteno's words, masked and cut.
        reason: String,
    },
    /// Certainly nothing was written, and the call is not at fault.
    NotWritten {
        /// Why.
        cause: NotWritten,
        /// Not before this long, where Reteno said so.
        retry_after: Option<Duration>,
    },
    /// It may or may not have been carried out: the same call is made again.
    Uncertain {
        /// In words for an operator, without personal data.
        cause: String,
        /// Not before this long; at least a minute after a 409.
        retry_after: Option<Duration>,
    },
}

/// The answer to `POST v1/contact/subscribe`, which starts workflows: never repeated by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscribeAnswer {
    /// Reteno took the contact.
    Taken {
        /// Reteno's contact id.
        id: i64,
        /// `emailStatus`, as Reteno words it.
        email_status: Option<String>,
        /// `new`: the contact was not known before.
        is_new: Option<bool>,
    },
    /// 409: the same body was sent within a minute. Never success, and never failure: it may have been sent.
    RepeatedWithinMinute,
    /// Refused because of what it holds; certainly nothing was written.
    Refused {
        /// HTTP status.
        status: u16,
        /// Reteno's words, masked and cut.
        reason: String,
    },
    /// Certainly nothing was written, and the contact is not at fault.
    NotWritten {
        /// Why.
        cause: NotWritten,
        /// Not before this long, where Reteno said so.
        retry_after: Option<Duration>,
    },
    /// It may have been sent.
    Uncertain {
        /// In words for an operator, without personal data.
        cause: String,
    },
}

/// Why a call certainly wrote nothing although the batch is not to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotWritten {
    /// The connection was never made.
    Unreachable(String),
    /// 429.
    RateLimited,
    /// 401 after a refresh, or there are no tokens.
    NeedsAuthorization,
    /// 403: the app's scope does not allow the call.
    Forbidden(String),
    /// 404, 405 on a fixed path: `reteno.api_url` does not lead to Reteno's API.
    WrongAddress(u16),
}

/// One entry of `failedContacts`. Reteno does not repeat the external id, so it is matched by what is here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailedContact {
    /// (type, value) of each channel.
    pub channels: Vec<(String, crate::contact::Personal)>,
    /// Reteno's contact id.
    pub id: Option<i64>,
    /// `contactKey`.
    pub contact_key: Option<crate::contact::Personal>,
    /// `externalCustomerId`: not in the schema, read where it comes all the same.
    pub external_customer_id: Option<crate::contact::Personal>,
    /// First name.
    pub first_name: Option<crate::contact::Personal>,
    /// Last name.
    pub last_name: Option<crate::contact::Personal>,
    /// `error`, masked and cut like every text of Reteno's.
    pub error: String,
}

/// The answer to `GET v1/importstatus/{session}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportAnswer {
    /// STARTED or IMPORTING.
    Running,
    /// A status this program does not know: pending with a warning, never success.
    UnknownStatus(String),
    /// FINISHED. `mapping` is `None` where the answer had no such key or it was empty.
    Finished {
        /// (`dedupeValue`, `contactId`) pairs.
        mapping: Option<Vec<(crate::contact::Personal, i64)>>,
    },
    /// ERROR: what was applied is unknown.
    Failed {
        /// Reteno's `description`, masked and cut.
        description: String,
    },
    /// 404: Reteno does not know the session (yet, or any more).
    Missing,
    /// No usable answer this time; ask again.
    Unreachable {
        /// In words, without personal data.
        cause: String,
        /// Not before this long.
        retry_after: Option<Duration>,
    },
    /// 401 after a refresh, or there are no tokens: asked again once authorized.
    NeedsAuthorization,
}
