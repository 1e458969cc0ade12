//! Tells others where the proxy listens: `endpoints.json` in the state directory.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

/// The file in the state directory. It stands once everything listens, and names this process.
pub(super) const FILE: &str = "endpoints.json";

/// Replaces the file as a whole, so that nobody reads half of it.
pub(super) fn write(directory: &Path, listen: &[String], admin: SocketAddr) -> io::Result<()> {
    let document = json!({
        "pid": std::process::id(),
        "listen": listen,
        "admin": admin.to_string(),
    });
    let beside = directory.join("endpoints.json.new");
    std::fs::write(&beside, format!("{document:#}\n"))?;
    std::fs::rename(beside, directory.join(FILE))
}
