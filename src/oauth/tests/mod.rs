//! Tests of whole runs against a scripted endpoint.

mod authorize;
mod crm;
mod refresher;
pub(super) mod scripted;
