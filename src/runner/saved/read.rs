//! Reads what can be saved, as it is now.

use tokio_postgres::Client;

use super::{SavedKind, SavedObject, acl};
use crate::runner::shape::Name;

/// Which objects are looked at.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// Relations; `None` is all of the database.
    pub(super) relations: Option<Vec<u32>>,
    /// Functions by their names, in whatever schema.
    pub(super) functions: Vec<String>,
}

impl Scope {
    /// These relations, and what is built on them.
    pub(super) async fn around(
        client: &Client,
        relations: &[u32],
        functions: Vec<String>,
    ) -> Result<Self, tokio_postgres::Error> {
        let rows = client
            .query(include_str!("scope.sql"), &[&relations])
            .await?;
        let reached = rows.iter().map(|row| row.get(0)).collect();
        Ok(Self {
            relations: Some(reached),
            functions,
        })
    }

    /// What saved objects are about, as far as it is there.
    pub(super) async fn of(
        client: &Client,
        saved: &[SavedObject],
    ) -> Result<Self, tokio_postgres::Error> {
        let names: Vec<_> = saved.iter().filter_map(|it| it.relation.clone()).collect();
        // Grants of schemas come with any of their relations; nothing else may be read of those.
        let schemas: Vec<_> = saved
            .iter()
            .filter_map(|it| it.name.strip_prefix("schema "))
            .collect();
        let sql = "select distinct oid from ( \
                       select to_regclass(name)::oid as oid from unnest($1::text[]) name \
                       union all \
                       select (select min(c.oid) from pg_catalog.pg_class c \
                               where c.relnamespace = to_regnamespace(name) \
                                 and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')) \
                       from unnest($2::text[]) name) found \
                   where oid is not null";
        let rows = client.query(sql, &[&names, &schemas]).await?;
        let functions = saved
            .iter()
            .filter_map(|it| it.name.strip_prefix("function "))
            .filter_map(|it| Name::parse(it.split('(').next().unwrap_or_default()))
            .map(|it| it.name)
            .collect();
        Ok(Self {
            relations: Some(rows.iter().map(|row| row.get(0)).collect()),
            functions,
        })
    }
}

/// Everything in a scope, in the order in which it can be made. In a transaction with an empty
/// search path.
pub(super) async fn read(
    client: &Client,
    scope: &Scope,
) -> Result<Vec<SavedObject>, tokio_postgres::Error> {
    let mut objects = Vec::new();
    let rows = client
        .query(include_str!("objects.sql"), &[&scope.relations])
        .await?;
    for row in rows {
        // The query has the words of this very version.
        let Some(kind) = SavedKind::parse(row.get(0)) else {
            continue;
        };
        objects.push(SavedObject {
            kind,
            name: row.get(1),
            relation: row.get(2),
            statements: row.get(3),
        });
    }
    let grants = acl::grants(client, scope.relations.as_deref(), &scope.functions).await?;
    objects.extend(grants.iter().map(acl::Grants::saved));
    Ok(objects)
}
