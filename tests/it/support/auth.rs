//! Logins that the proxy checks itself: its files, its rules, and what a client sees.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::cluster::Postgres;
use super::holds::DB;
use super::message::{self, Message};
use super::proxy::Proxy;
use super::wire::Wire;

/// The server trusts its superuser, and asks all others for a proof of the kind that their names
/// tell.
pub(crate) const HBA: [&str; 6] = [
    "local all all trust",
    "host all postgres 127.0.0.1/32 trust",
    "host all free 127.0.0.1/32 trust",
    "host all hashed 127.0.0.1/32 md5",
    "host all plain 127.0.0.1/32 password",
    "host all all 127.0.0.1/32 scram-sha-256",
];

/// Files of a proxy, gone with the test.
pub(crate) struct Files {
    dir: TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// Writes a private file and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// A proxy whose `[auth]` and what follows it are these lines.
    pub(crate) async fn proxy(&self, postgres: &Postgres, auth: &str) -> Proxy {
        let url = format!("postgres://postgres@{}", postgres.addr());
        self.proxy_before(&url, auth).await
    }

    /// The same in front of any server.
    pub(crate) async fn proxy_before(&self, url: &str, auth: &str) -> Proxy {
        let text = format!(
            "upstream = {{ url = '{url}', connect_retry = '200ms' }}\n\
             log.level = 'trace'\n[auth]\n{auth}"
        );
        let mut proxy = Proxy::not_started("");
        proxy.arg("--config");
        proxy.arg(&self.write("pgdrain.toml", &text));
        proxy.launch().await;
        proxy
    }
}

/// One rule for everybody.
pub(crate) fn rule(method: &str) -> String {
    format!("[[auth.rules]]\nmethod = '{method}'\n")
}

impl Postgres {
    /// What the server keeps of a role's password.
    pub(crate) async fn kept(&mut self, role: &str) -> String {
        let client = self.connect(DB).await;
        let sql = "select rolpassword from pg_authid where rolname = $1";
        client.query_one(sql, &[&role]).await.expect(role).get(0)
    }
}

impl Proxy {
    /// A session of this user; the error if it is refused.
    pub(crate) async fn log_in(&self, user: &str, password: &str) -> Result<Wire, Message> {
        let parameters = [("user", user), ("database", DB)];
        Wire::login_with(self.addr(), &parameters, Some(password)).await
    }

    /// The SQLSTATE and message that this user is refused with.
    pub(crate) async fn refused(&self, user: &str, password: &str) -> (String, String) {
        let refused = self.log_in(user, password).await;
        let refused = refused.err().unwrap_or_else(|| panic!("{user} got in"));
        (refused.sqlstate(), refused.field(b'M').unwrap_or_default())
    }

    /// All that a client of this user sees which sends a wrong password, as bytes, but for what
    /// differs by chance: nonces and salts are made the same, their lengths kept.
    pub(crate) async fn seen_by_a_stranger(&self, user: &str) -> Vec<String> {
        let mut wire = Wire::connect(self.addr()).await;
        let startup = message::startup(&[("user", user), ("database", DB)]);
        wire.send(&startup).await;
        let error = wire.authenticate(user, Some("not the password")).await;
        error.expect_err("a wrong password");
        let mut seen: Vec<String> = wire.greeting.iter().map(|m| scrubbed(m, user)).collect();
        seen.extend(wire.read_to_end().await.iter().map(|m| scrubbed(m, user)));
        seen
    }
}

fn scrubbed(message: &Message, user: &str) -> String {
    let length = message.body.len();
    let text = match message.body.split_first_chunk::<4>() {
        Some(([0, 0, 0, 5], _)) if message.tag == b'R' => "an MD5 salt".to_owned(),
        Some(([0, 0, 0, 11], data)) if message.tag == b'R' => {
            let text = String::from_utf8_lossy(data).into_owned();
            let scrub = |part: &str| match part.split_at(2) {
                ("i=", _) => part.to_owned(),
                (name, value) => format!("{name}{}", value.len()),
            };
            text.split(',').map(scrub).collect::<Vec<_>>().join(",")
        }
        _ => message.body.escape_ascii().to_string(),
    };
    format!("{:?} {length} {}", char::from(message.tag), text).replace(user, "USER")
}
