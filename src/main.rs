//! Parses the command line, runs, and maps the result to an exit code.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
