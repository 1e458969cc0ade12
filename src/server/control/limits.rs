//! `CONNECTION LIMIT` of a database, read and set.

use super::{Control, ControlError};

impl Control {
    /// The connection limit of a database, -1 for none; `None` when there is no such database.
    pub async fn connection_limit(&self, database: &str) -> Result<Option<i32>, ControlError> {
        let sql = "select datconnlimit from pg_catalog.pg_database where datname = $1";
        let rows = self.ask(sql, &[&database]).await?;
        let limit = rows.first().map(|row| row.try_get(0)).transpose()?;
        Ok(limit)
    }

    /// Sets it. Who is connected stays, and superusers get in all the same.
    pub async fn set_connection_limit(
        &self,
        database: &str,
        limit: i32,
    ) -> Result<(), ControlError> {
        let name = database.replace('"', "\"\"");
        let sql = format!("alter database \"{name}\" connection limit {limit}");
        self.ask(&sql, &[]).await?;
        Ok(())
    }

    /// Whether this role is superuser, and so gets past a limit.
    pub async fn is_superuser(&self, role: &str) -> Result<bool, ControlError> {
        let sql = "select rolsuper from pg_catalog.pg_roles where rolname = $1";
        let rows = self.ask(sql, &[&role]).await?;
        Ok(matches!(
            rows.first().map(|row| row.try_get(0)).transpose()?,
            Some(true)
        ))
    }

    /// The database that the control connection is in.
    pub fn home(&self) -> Option<&str> {
        self.target
            .control
            .as_ref()
            .map(|role| role.database.as_str())
    }
}
