//! The `reteno-sync` command: hands over to the library and ends with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    reteno_sync::cli::main()
}
