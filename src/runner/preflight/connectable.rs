//! Is the server one that can run migrations: supported, a primary, and answering us itself?

use super::{Check, Session, ask};

const NAME: &str = "connectable";

/// The oldest supported server, as `server_version_num` counts.
const OLDEST: i32 = 140_000;

pub(super) async fn check(session: &Session) -> Check {
    let sql = "select current_setting('server_version'), \
                      current_setting('server_version_num')::int, pg_is_in_recovery(), \
                      pg_backend_pid()";
    let row = match ask(session, sql).await {
        Ok(row) => row,
        Err(error) => return Check::unknown(NAME, &error),
    };
    let (version, number): (&str, i32) = (row.get(0), row.get(1));
    let (standby, pid): (bool, i32) = (row.get(2), row.get(3));
    let mut wrong = Vec::new();
    if number < OLDEST {
        wrong.push(format!(
            "PostgreSQL {version} is too old: 14 or newer is needed"
        ));
    }
    if standby {
        wrong.push("the server is a standby: migrations run on the primary".to_owned());
    }
    if pid != session.pid {
        wrong.push("a pooler stands between pgdrain and the server".to_owned());
    }
    Check::of(NAME, wrong, format!("PostgreSQL {version}, a primary"))
        .hint("name a primary of a supported version itself in upstream.url")
}
