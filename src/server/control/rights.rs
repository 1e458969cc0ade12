//! What the control role may do, and which timeouts the server has for sessions.

use std::time::Duration;

use super::{Control, ControlError};

/// What the control role may do with one database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// Its name.
    pub role: String,
    /// Whether it is superuser.
    pub superuser: bool,
    /// Whether it sees what sessions of other roles do (`pg_read_all_stats`).
    pub sees: bool,
    /// Whether it may end sessions of other roles (`pg_signal_backend`).
    pub ends: bool,
    /// Whether it may alter the database.
    pub owns: bool,
}

/// A timeout that is set for sessions of a role in the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTimeout {
    /// Whose: a role, or `*` for all.
    pub role: String,
    /// The setting.
    pub name: String,
    /// Its value.
    pub time: Duration,
}

const RIGHTS: &str = "\
select me.rolname::text, me.rolsuper,
       me.rolsuper or pg_has_role(current_user, 'pg_read_all_stats', 'USAGE'),
       me.rolsuper or pg_has_role(current_user, 'pg_signal_backend', 'USAGE'),
       me.rolsuper or pg_has_role(current_user, of.datdba, 'USAGE')
  from pg_catalog.pg_roles me, pg_catalog.pg_database of
 where me.rolname = current_user and of.datname = $1";

/// What the control role's own session has from its database or its role is among those that follow, or is for
/// another database.
const TIMEOUTS: &str = "\
select '*', name || '=' || coalesce(reset_val, '0')
  from pg_catalog.pg_settings
 where name in ('idle_session_timeout', 'idle_in_transaction_session_timeout')
   and source not in ('global', 'database', 'user', 'database user')
union all
select coalesce(role.rolname::text, '*'), set
  from pg_catalog.pg_db_role_setting of cross join unnest(of.setconfig) set
  left join pg_catalog.pg_roles role on role.oid = of.setrole
 where (of.setdatabase = 0 or of.setdatabase = (select oid from pg_catalog.pg_database where datname = $1))
   and (set like 'idle_session_timeout=%' or set like 'idle_in_transaction_session_timeout=%')";

impl Control {
    /// What the control role may do with this database; `None` when there is no such database.
    pub async fn rights(&self, database: &str) -> Result<Option<Rights>, ControlError> {
        let rows = self.ask(RIGHTS, &[&database]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        Ok(Some(Rights {
            role: row.try_get(0)?,
            superuser: row.try_get(1)?,
            sees: row.try_get(2)?,
            ends: row.try_get(3)?,
            owns: row.try_get(4)?,
        }))
    }

    /// The timeouts that end idle sessions in this database. Those that sessions set for themselves
    /// nobody can see.
    pub async fn timeouts(&self, database: &str) -> Result<Vec<SessionTimeout>, ControlError> {
        let rows = self.ask(TIMEOUTS, &[&database]).await?;
        let mut found = Vec::new();
        for row in &rows {
            let (role, set): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let Some((name, value)) = set.split_once('=') else {
                continue;
            };
            if let Some(time) = time(value).filter(|time| !time.is_zero()) {
                let name = name.to_owned();
                found.push(SessionTimeout { role, name, time });
            }
        }
        Ok(found)
    }
}

/// A time as Postgres writes it; milliseconds if no unit is there.
fn time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let number: u64 = number.parse().ok()?;
    let unit = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.saturating_mul(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_postgres_writes_them() {
        for (text, ms) in [
            ("0", 0),
            ("250", 250),
            ("30s", 30_000),
            ("5 min", 300_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(time(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!((time("soon"), time("3 weeks")), (None, None));
    }
}
