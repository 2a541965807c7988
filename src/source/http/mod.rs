//! A CRM that is asked over HTTP.

pub mod auth;
