//! What is to be done, as pure functions of what is known. Knows no clock, no network, no database.

pub mod answer;
