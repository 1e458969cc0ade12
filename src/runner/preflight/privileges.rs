//! May our role keep the history, see everybody's transactions, and become the owner?

use tokio_postgres::types::ToSql;

use super::{Check, Session};

const NAME: &str = "privileges";

pub(super) async fn check(session: &Session, owner: Option<&str>) -> Check {
    match find(session, owner).await {
        Ok((wrong, notes)) => {
            let check = Check::of(NAME, wrong, "the role may do what a run needs");
            check.hint("grant what is missing").with_notes(notes)
        }
        Err(error) => Check::unknown(NAME, &error),
    }
}

/// What is missing, and what is worth knowing.
async fn find(
    session: &Session,
    owner: Option<&str>,
) -> Result<(Vec<String>, Vec<String>), tokio_postgres::Error> {
    let sql = "select session_user::text, \
                      to_regnamespace('pgdrain') is not null, \
                      has_database_privilege(current_database(), 'CREATE'), \
                      coalesce(has_schema_privilege(to_regnamespace('pgdrain'), 'USAGE'), false), \
                      coalesce(has_schema_privilege(to_regnamespace('pgdrain'), 'CREATE'), false), \
                      to_regclass('pgdrain.migration') is not null, \
                      coalesce(has_table_privilege(to_regclass('pgdrain.migration'), 'INSERT') \
                           and has_table_privilege(to_regclass('pgdrain.migration'), 'UPDATE') \
                           and has_table_privilege(to_regclass('pgdrain.migration'), 'SELECT') \
                           and has_table_privilege(to_regclass('pgdrain.run'), 'INSERT') \
                           and has_table_privilege(to_regclass('pgdrain.run'), 'UPDATE') \
                           and has_table_privilege(to_regclass('pgdrain.event'), 'INSERT'), false), \
                      pg_has_role('pg_read_all_stats', 'USAGE')";
    let row = session.client.query_one(sql, &[]).await?;
    let user: &str = row.get(0);
    let [
        schema,
        may_make_schema,
        may_use,
        may_create,
        tables,
        may_write,
        may_see,
    ] = std::array::from_fn(|at| row.get::<_, bool>(at + 1));

    let mut wrong = Vec::new();
    match (schema, tables) {
        (false, _) if !may_make_schema => wrong.push(format!(
            "role {user} may not create schema pgdrain: grant it CREATE on the database, or create \
             the schema with it as owner"
        )),
        (true, false) if !(may_use && may_create) => {
            wrong.push(format!(
                "role {user} may not create tables in schema pgdrain"
            ));
        }
        (true, true) if !(may_use && may_write) => {
            wrong.push(format!(
                "role {user} may not write the history in schema pgdrain"
            ));
        }
        (true | false, _) => {}
    }
    if !may_see {
        wrong.push(format!(
            "role {user} cannot see the transactions of others: grant it pg_read_all_stats"
        ));
    }
    let mut notes = Vec::new();
    match owner {
        Some(owner) => match membership(session, owner).await? {
            None => wrong.push(format!(
                "role {owner}, which files should run as, does not exist"
            )),
            Some(false) => wrong.push(format!("role {user} is not a member of {owner}")),
            Some(true) => notes.extend(default_schema(session, owner).await?),
        },
        None => notes.extend(default_schema(session, user).await?),
    }
    Ok((wrong, notes))
}

/// Whether we may `SET ROLE`; `None` if there is no such role. PostgreSQL 16 told SET apart from
/// membership.
pub(super) async fn membership(
    session: &Session,
    owner: &str,
) -> Result<Option<bool>, tokio_postgres::Error> {
    let sql = "select current_setting('server_version_num')::int >= 160000, \
                      exists (select from pg_roles where rolname = $1)";
    let row = session.client.query_one(sql, &[&owner]).await?;
    let (tells_apart, exists): (bool, bool) = (row.get(0), row.get(1));
    if !exists {
        return Ok(None);
    }
    let kind = if tells_apart { "SET" } else { "MEMBER" };
    let parameters: [&(dyn ToSql + Sync); 2] = [&owner, &kind];
    let sql = "select pg_has_role($1::text::name, $2::text)";
    Ok(Some(
        session.client.query_one(sql, &parameters).await?.get(0),
    ))
}

/// A note if files could not create anything in the usual schema. No failure: they may name
/// another one.
async fn default_schema(
    session: &Session,
    role: &str,
) -> Result<Option<String>, tokio_postgres::Error> {
    let sql = "select has_schema_privilege($1::text::name, oid, 'CREATE') \
               from pg_namespace where nspname = 'public'";
    let row = session.client.query_opt(sql, &[&role]).await?;
    let may = row.is_none_or(|row| row.get(0));
    Ok((!may).then(|| format!("role {role} may not create anything in schema public")))
}
