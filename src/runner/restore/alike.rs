//! What belongs to a database and is in no dump of it: its owner, who may connect, its settings, its limit.

use serde_json::Value;
use tokio_postgres::Client;

use crate::runner::shape::quote;

/// One row for a database, whatever database it is asked in. Lists of names in settings are kept as they are written.
const LOOK: &str = "\
    select pg_catalog.to_jsonb(x) from ( \
        select pg_catalog.pg_get_userbyid(d.datdba)::text as owner, d.datconnlimit as connections, \
               pg_catalog.shobj_description(d.oid, 'pg_database') as comment, \
               coalesce((select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array( \
                                    coalesce(r.rolname, ''), x.privilege_type, x.is_grantable) \
                                    order by r.rolname, x.privilege_type, x.is_grantable) \
                         from pg_catalog.aclexplode(coalesce(d.datacl, \
                                  pg_catalog.acldefault('d', d.datdba))) x \
                         left join pg_catalog.pg_roles r on r.oid = x.grantee), '[]') as acl, \
               coalesce((select pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array( \
                                    coalesce(r.rolname, ''), s.setconfig) order by r.rolname) \
                         from pg_catalog.pg_db_role_setting s \
                         left join pg_catalog.pg_roles r on r.oid = s.setrole \
                         where s.setdatabase = d.oid), '[]') as settings \
        from pg_catalog.pg_database d where d.datname = $1) x";

/// Settings whose value is a list of names, quoted where need be (`GUC_LIST_QUOTE`).
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// How a database is beside what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alike(Value);

impl Alike {
    /// Reads it. Nothing if there is no such database.
    pub(super) async fn of(
        client: &Client,
        database: &str,
    ) -> Result<Option<Self>, tokio_postgres::Error> {
        let row = client.query_opt(LOOK, &[&database]).await?;
        Ok(row.map(|row| Self(row.get(0))))
    }

    /// Statements that make another database like this one, whatever it was.
    pub(super) fn statements(&self, database: &str) -> Vec<String> {
        let name = quote(database);
        let text = |key: &str| self.0.get(key).and_then(Value::as_str);
        let owner = quote(text("owner").unwrap_or_default());
        let mut all = vec![
            format!("alter database {name} owner to {owner}"),
            format!("revoke all on database {name} from public, {owner} cascade"),
        ];
        let list = |key: &str| self.0.get(key).and_then(Value::as_array).cloned();
        for grant in list("acl").unwrap_or_default() {
            let (role, privilege) = (word(&grant, 0), word(&grant, 1));
            let to = if role.is_empty() {
                "public".to_owned()
            } else {
                quote(&role)
            };
            let option = match grant.get(2) {
                Some(Value::Bool(true)) if !role.is_empty() => " with grant option",
                Some(_) | None => "",
            };
            all.push(format!(
                "grant {privilege} on database {name} to {to}{option}"
            ));
        }
        for setting in list("settings").unwrap_or_default() {
            let role = word(&setting, 0);
            let of = match role.as_str() {
                "" => format!("alter database {name}"),
                role => format!("alter role {} in database {name}", quote(role)),
            };
            let values = setting.get(1).and_then(Value::as_array);
            for value in values.into_iter().flatten().filter_map(Value::as_str) {
                let Some((key, value)) = value.split_once('=') else {
                    continue;
                };
                let value = match LISTS.contains(&key) {
                    true => value.to_owned(),
                    false => literal(value),
                };
                all.push(format!("{of} set {} to {value}", quoted_setting(key)));
            }
        }
        if let Some(limit) = self.0.get("connections").and_then(Value::as_i64) {
            all.push(format!("alter database {name} connection limit {limit}"));
        }
        if let Some(comment) = text("comment") {
            all.push(format!(
                "comment on database {name} is {}",
                literal(comment)
            ));
        }
        all
    }
}

/// The name of a setting: those of extensions have a point in them.
fn quoted_setting(key: &str) -> String {
    let parts: Vec<_> = key.split('.').map(quote).collect();
    parts.join(".")
}

fn word(row: &Value, at: usize) -> String {
    let word = row.get(at).and_then(Value::as_str);
    word.unwrap_or_default().to_owned()
}

pub(super) fn literal(text: &str) -> String {
    // A backslash is one only where strings conform to the standard, which sessions of ours see to.
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statements_make_the_other_one_like_it() {
        let alike = Alike(json!({
            "owner": "Ann", "connections": 7, "comment": "it's",
            "acl": [["", "CONNECT", false], ["app", "TEMPORARY", true]],
            "settings": [["", ["search_path=\"$user\", public", "work_mem=8MB"]],
                         ["app", ["ext.x=a'b"]]],
        }));
        assert_eq!(
            alike.statements("new one"),
            [
                "alter database \"new one\" owner to \"Ann\"",
                "revoke all on database \"new one\" from public, \"Ann\" cascade",
                "grant CONNECT on database \"new one\" to public",
                "grant TEMPORARY on database \"new one\" to \"app\" with grant option",
                "alter database \"new one\" set \"search_path\" to \"$user\", public",
                "alter database \"new one\" set \"work_mem\" to '8MB'",
                "alter role \"app\" in database \"new one\" set \"ext\".\"x\" to 'a''b'",
                "alter database \"new one\" connection limit 7",
                "comment on database \"new one\" is 'it''s'",
            ]
        );
    }
}
