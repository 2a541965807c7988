//! What reading phone numbers costs in memory, alone in its process, where nothing else allocates.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "tests")]

use reteno_sync::contact::{Region, canonical_phone};

/// Numbers of a dozen countries, and what people type.
const NUMBERS: [(&str, &str); 14] = [
    ("(067) 412-34-56", "UA"),
    ("+38 (050) 412 34 56", "UA"),
    ("not a number 1", "UA"),
    ("030/1234567", "DE"),
    ("0171 2345678", "DE"),
    ("1-202-555-0122", "US"),
    ("+1 416 555 0126", "CA"),
    ("8 (916) 123-45-67", "RU"),
    ("8 701 123 45 67", "KZ"),
    ("501 234 567", "PL"),
    ("07700 900123", "GB"),
    ("06 12 34 56 78", "FR"),
    ("02 3661 8300", "IT"),
    ("011 15-2345-6789", "AR"),
];

fn read_all() {
    for (text, region) in NUMBERS {
        for _ in 0..20 {
            let _ = canonical_phone(text, Region::parse(region));
        }
    }
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Mapping runs on whichever thread is free, so a daemon's phones are read by very many threads in a day.
#[test]
fn phones_take_no_memory_for_each_thread() {
    let spawn = || std::thread::spawn(read_all).join().unwrap();
    (0..2).for_each(|_| spawn());
    let before = resident_kib();
    (0..48).for_each(|_| spawn());
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 2_048, "{before} KiB, and {grown} KiB more after 48 threads");
}
