//! Puts the parts together and keeps them going: cycles read, the sender sends, nothing decides here.

pub mod alarm;
pub mod answers;
pub mod pace;
pub mod sender;
