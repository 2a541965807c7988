//! Puts the parts together and keeps them going: cycles read, the sender sends, nothing decides here.

pub mod alarm;
pub mod answers;
mod batches;
mod calls;
pub mod compose;
pub mod crms;
pub mod cycle;
mod deeds;
mod endings;
pub mod exports;
pub mod feeds;
mod foresight;
mod items;
pub mod lifecycle;
mod line;
pub mod links;
mod mapping;
pub mod pace;
pub mod proof;
pub mod run;
mod run_error;
pub mod sender;
mod sending;
pub mod standing;
mod started;
pub mod systemd;
mod uploads;
