//! Parses the command line, runs, and maps the result to an exit code.

fn main() -> std::process::ExitCode {
    pgdrain::cli::run(std::env::args_os()).into()
}
