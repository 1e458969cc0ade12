//! Are the extensions there that are needed, and can those be created that files create?

use std::collections::BTreeSet;

use squawk_lexer::{TokenKind, tokenize};
use tokio_postgres::types::ToSql;

use super::Check;
use super::ground::{Ground, Work};
use crate::runner::shape::Name;

const NAME: &str = "extensions";

pub(super) async fn check(
    ground: &Ground<'_>,
    work: &Work<'_>,
) -> Result<Check, tokio_postgres::Error> {
    let mut created = BTreeSet::new();
    let mut wrong = Vec::new();
    for step in work.studied {
        let owner = step.step.script.directives().owner.as_deref();
        for statement in &step.statements {
            let Some(name) = created_by(statement.sql) else {
                continue;
            };
            wrong.extend(can_be_created(ground, &name, owner.or(ground.owner)).await?);
            created.insert(name);
        }
    }
    let required = &ground.limits.extensions;
    for name in required.iter().filter(|it| !created.contains(*it)) {
        let sql = "select exists (select from pg_extension where extname = $1)";
        let row = ground.session.client.query_one(sql, &[name]).await?;
        if !row.get::<_, bool>(0) {
            wrong.push(format!("{name} is required and not installed"));
        }
    }
    if created.is_empty() && required.is_empty() {
        return Ok(Check::does_not_apply(
            NAME,
            "none is required, and no file creates one",
        ));
    }
    Ok(Check::of(
        NAME,
        wrong,
        "those that are needed are there, or can be created",
    )
    .hint("install the server's package of it, and CREATE EXTENSION as a superuser"))
}

/// Why a role cannot create an extension, if it cannot.
async fn can_be_created(
    ground: &Ground<'_>,
    name: &str,
    role: Option<&str>,
) -> Result<Option<String>, tokio_postgres::Error> {
    let sql = "select e.installed_version is not null, \
                      r.rolsuper or not v.superuser or (v.trusted \
                          and has_database_privilege(r.oid, current_database(), 'CREATE')), \
                      r.rolname::text \
               from pg_available_extensions e \
               join pg_available_extension_versions v \
                    on v.name = e.name and v.version = e.default_version \
               cross join pg_roles r \
               where e.name = $1 and r.rolname = coalesce($2::text::name, session_user)";
    let parameters: [&(dyn ToSql + Sync); 2] = [&name, &role];
    let row = ground.session.client.query_opt(sql, &parameters).await?;
    Ok(match row {
        None => Some(format!("{name} is not available on this server")),
        Some(row) if row.get(0) || row.get(1) => None,
        Some(row) => {
            let role: &str = row.get(2);
            Some(format!(
                "{role} may not create {name}: it takes a superuser"
            ))
        }
    })
}

/// The extension that a statement creates.
fn created_by(sql: &str) -> Option<String> {
    let mut words = Vec::new();
    let mut offset = 0;
    for token in tokenize(sql) {
        let text = sql.get(offset..offset + token.len as usize)?;
        offset += token.len as usize;
        let is_word =
            token.kind == TokenKind::Ident || matches!(token.kind, TokenKind::QuotedIdent { .. });
        if is_word {
            words.push(text);
        }
        // CREATE EXTENSION IF NOT EXISTS name
        if words.len() == 6 {
            break;
        }
    }
    let is = |at: usize, word: &str| {
        words
            .get(at)
            .is_some_and(|it: &&str| it.eq_ignore_ascii_case(word))
    };
    if !(is(0, "create") && is(1, "extension")) {
        return None;
    }
    let at = if is(2, "if") && is(3, "not") && is(4, "exists") {
        5
    } else {
        2
    };
    Name::parse(words.get(at)?).map(|it| it.name)
}

#[cfg(test)]
mod tests {
    use super::created_by;

    #[test]
    fn the_extension_is_read_as_the_server_reads_it() {
        let name = |sql| created_by(sql);
        assert_eq!(name("create extension Citext").as_deref(), Some("citext"));
        let quoted = "/* x */ CREATE EXTENSION IF NOT EXISTS \"uuid-ossp\" WITH SCHEMA ext";
        assert_eq!(name(quoted).as_deref(), Some("uuid-ossp"));
        assert_eq!(name("create table extension (a int)"), None);
        assert_eq!(name("drop extension citext"), None);
        assert_eq!(name("create extension"), None);
    }
}
