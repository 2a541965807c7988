//! The `reteno-sync` command.
fn main() {}
