//! The integration tests: a file per promise, and what holds the architecture together.
