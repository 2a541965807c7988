//! reteno
