//! The client of Reteno's API: which calls exist, what they carry, and what each answer means.
//!
//! It can express the calls of "update contacts and segments" and a few harmless reads about the account. It never
//! reads a contact from Reteno, never decides what to send and never repeats a call that writes.

pub mod body;
pub mod calls;
pub mod client;
pub mod error;
pub mod file;
pub mod lists;
pub mod reaction;
pub mod start;
pub mod text;
pub mod tokens;
pub mod wire;

#[cfg(test)]
mod tests;

pub use client::Client;
pub use error::RetenoError;
pub use tokens::{AccessTokens, NoToken};
