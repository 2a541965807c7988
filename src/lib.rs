//! `reteno-sync` keeps the contacts of one Reteno account equal to a company's CRM.
//!
//! The library owns everything but the process: `main.rs` only parses the command line and exits. Data flows
//! source → mapping → checkpoint (desired) → plan → submit → import status → checkpoint (acknowledged);
//! `tests/tidy.rs` holds who may import whom.

pub mod backoff;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod config;
pub mod contact;
pub mod daemon;
pub mod disk;
pub mod http;
pub(crate) mod json;
pub mod listener;
pub mod logging;
pub mod oauth;
pub mod plan;
pub mod random;
pub mod report;
pub mod reteno;
pub mod sandbox;
pub mod source;
