//! Grants: read from the catalogs as they are, and written as statements that make exactly them.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::{SavedKind, SavedObject};
use crate::runner::shape::quote;

/// A privilege of somebody.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::runner) struct Privilege {
    /// Of which column; `None` is the whole object.
    pub(in crate::runner) column: Option<String>,
    /// Whose; `None` is everybody's.
    pub(in crate::runner) grantee: Option<String>,
    /// To do what, as GRANT has it.
    pub(in crate::runner) privilege: String,
    /// WITH GRANT OPTION.
    pub(in crate::runner) grantable: bool,
    /// Who granted it.
    pub(in crate::runner) grantor: String,
}

/// Who may do what with one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::runner) struct Grants {
    /// `TABLE` (also a view), `SEQUENCE`, `SCHEMA` or `ROUTINE`.
    pub(in crate::runner) class: String,
    pub(in crate::runner) oid: u32,
    /// Its name as SQL has it.
    pub(in crate::runner) name: String,
    /// Its schema, and its name in it, without quotes.
    pub(in crate::runner) schema: String,
    pub(in crate::runner) bare: String,
    pub(in crate::runner) owner: String,
    /// How many privileges an owner has who took none from himself.
    owner_whole: usize,
    pub(in crate::runner) all: BTreeSet<Privilege>,
}

/// Reads the grants of relations with their columns and schemas, and of functions by name; of
/// everything if there are no relations given.
pub(in crate::runner) async fn grants(
    client: &Client,
    relations: Option<&[u32]>,
    functions: &[String],
) -> Result<Vec<Grants>, tokio_postgres::Error> {
    let mut found: BTreeMap<(String, u32), Grants> = BTreeMap::new();
    let rows = client
        .query(include_str!("acl.sql"), &[&relations, &functions])
        .await?;
    for row in rows {
        let (class, oid): (String, u32) = (row.get(0), row.get(1));
        let column: Option<String> = row.get(5);
        let of = found.entry((class.clone(), oid)).or_insert_with(|| Grants {
            class,
            oid,
            name: row.get(2),
            schema: row.get(3),
            bare: row.get(4),
            owner: row.get(6),
            ..Grants::default()
        });
        if column.is_none() {
            of.owner_whole = usize::try_from(row.get::<_, i32>(11)).unwrap_or(0);
        }
        if let Some(privilege) = row.get::<_, Option<String>>(8) {
            of.all.insert(Privilege {
                column,
                grantee: row.get(7),
                privilege,
                grantable: row.get(9),
                grantor: row.get(10),
            });
        }
    }
    Ok(found.into_values().collect())
}

impl Grants {
    /// The same as something that can be put back.
    pub(super) fn saved(&self) -> SavedObject {
        let (prefix, relation) = match self.class.as_str() {
            "SCHEMA" => ("schema ", None),
            "ROUTINE" => ("function ", None),
            _ => ("", Some(self.name.clone())),
        };
        SavedObject {
            kind: SavedKind::Grants,
            name: format!("{prefix}{}", self.name),
            relation,
            statements: self.statements(),
        }
    }

    /// Takes everything from everybody but the owner, then grants exactly this, whoever granted it
    /// first: who passes a privilege on has to have it before.
    fn statements(&self) -> Vec<String> {
        let mut statements = vec![self.revoke_all()];
        let (own, others): (BTreeSet<_>, BTreeSet<_>) = self
            .all
            .iter()
            .partition(|it| it.grantee.as_deref() == Some(self.owner.as_str()));
        statements.extend(self.to_owner(&own));
        let mut waiting = others;
        let mut able: BTreeSet<(&str, &str, Option<&str>)> = BTreeSet::new();
        while !waiting.is_empty() {
            let may = |it: &&Privilege| {
                let column = it.column.as_deref();
                it.grantor == self.owner
                    || [None, column]
                        .iter()
                        .any(|of| able.contains(&(&it.grantor, &it.privilege, *of)))
            };
            let (mut ready, rest): (BTreeSet<_>, BTreeSet<_>) = waiting.into_iter().partition(may);
            waiting = rest;
            if ready.is_empty() {
                // The server would not have let it come to this; it will say what is wrong.
                ready = std::mem::take(&mut waiting);
            }
            for it in ready.iter().filter(|it| it.grantable) {
                let role = it.grantee.as_deref().unwrap_or_default();
                able.insert((role, &it.privilege, it.column.as_deref()));
            }
            statements.extend(self.grant(&ready));
        }
        statements
    }

    /// An owner can take privileges from himself.
    fn to_owner(&self, own: &BTreeSet<&Privilege>) -> Vec<String> {
        let (object, owner) = (self.object(), quote(&self.owner));
        let whole: Vec<_> = own.iter().filter(|it| it.column.is_none()).collect();
        let mut statements = Vec::new();
        if whole.len() >= self.owner_whole {
            statements.push(format!("GRANT ALL ON {object} TO {owner}"));
        } else {
            statements.push(format!("REVOKE ALL ON {object} FROM {owner}"));
            if !whole.is_empty() {
                let list: Vec<_> = whole.iter().map(|it| it.privilege.as_str()).collect();
                statements.push(format!("GRANT {} ON {object} TO {owner}", list.join(", ")));
            }
        }
        for it in own.iter().filter(|it| it.column.is_some()) {
            statements.push(format!("GRANT {} ON {object} TO {owner}", words(it)));
        }
        statements
    }

    /// A statement for each who grants something to somebody.
    fn grant(&self, ready: &BTreeSet<&Privilege>) -> Vec<String> {
        let mut together: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for it in ready {
            let key = (&it.grantor, &it.grantee, it.grantable);
            together.entry(key).or_default().push(words(it));
        }
        let mut statements = Vec::new();
        for ((grantor, grantee, grantable), list) in together {
            let grantee = grantee.as_deref().map_or("PUBLIC".to_owned(), quote);
            let option = match grantable {
                true => " WITH GRANT OPTION",
                false => "",
            };
            let object = self.object();
            let grant = format!("GRANT {} ON {object} TO {grantee}{option}", list.join(", "));
            if *grantor == self.owner {
                statements.push(grant);
            } else {
                // A superuser's GRANT counts as the owner's.
                statements.push(format!("SET LOCAL ROLE {}", quote(grantor)));
                statements.push(grant);
                statements.push("RESET ROLE".to_owned());
            }
        }
        statements
    }

    fn object(&self) -> String {
        format!("{} {}", self.class, self.name)
    }

    /// Whoever has something then loses it; only the server can tell who that will be.
    fn revoke_all(&self) -> String {
        let object = self.object().replace('\'', "''");
        let name = self.name.replace('\'', "''");
        let holders = match self.class.as_str() {
            "SCHEMA" => format!(
                "SELECT nspowner AS owner, a.grantee FROM pg_catalog.pg_namespace, \
                 pg_catalog.aclexplode(coalesce(nspacl, pg_catalog.acldefault('n', nspowner))) a \
                 WHERE oid = '{name}'::regnamespace"
            ),
            "ROUTINE" => format!(
                "SELECT proowner AS owner, a.grantee FROM pg_catalog.pg_proc, \
                 pg_catalog.aclexplode(coalesce(proacl, pg_catalog.acldefault('f', proowner))) a \
                 WHERE oid = '{name}'::regprocedure"
            ),
            _ => format!(
                "SELECT c.relowner AS owner, a.grantee FROM pg_catalog.pg_class c CROSS JOIN LATERAL \
                 (SELECT grantee FROM pg_catalog.aclexplode(c.relacl) UNION SELECT x.grantee \
                 FROM pg_catalog.pg_attribute t, pg_catalog.aclexplode(t.attacl) x \
                 WHERE t.attrelid = c.oid) a WHERE c.oid = '{name}'::regclass"
            ),
        };
        format!(
            "DO $pgdrain$ DECLARE holder record; BEGIN \
             FOR holder IN SELECT DISTINCT h.owner, h.grantee FROM ({holders}) h \
             WHERE h.grantee <> h.owner LOOP \
             EXECUTE 'REVOKE ALL ON {object} FROM ' || CASE holder.grantee WHEN 0 THEN 'PUBLIC' \
             ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(holder.grantee)) END \
             || ' CASCADE'; END LOOP; END $pgdrain$"
        )
    }
}

/// A privilege as GRANT has it.
fn words(it: &Privilege) -> String {
    match &it.column {
        Some(column) => format!("{} ({})", it.privilege, quote(column)),
        None => it.privilege.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn privilege(grantee: &str, privilege: &str, grantable: bool, grantor: &str) -> Privilege {
        Privilege {
            column: None,
            grantee: (grantee != "PUBLIC").then(|| grantee.to_owned()),
            privilege: privilege.to_owned(),
            grantable,
            grantor: grantor.to_owned(),
        }
    }

    fn of(all: Vec<Privilege>) -> Grants {
        Grants {
            class: "TABLE".to_owned(),
            name: "public.t".to_owned(),
            owner: "o".to_owned(),
            owner_whole: 2,
            all: all.into_iter().collect(),
            ..Grants::default()
        }
    }

    #[test]
    fn who_passes_on_has_it_before() {
        let grants = of(vec![
            privilege("o", "SELECT", false, "o"),
            privilege("o", "UPDATE", false, "o"),
            privilege("a", "SELECT", false, "z"),
            privilege("z", "SELECT", true, "y"),
            privilege("y", "SELECT", true, "o"),
        ]);
        let statements = grants.statements();
        assert_eq!(
            statements[1..],
            [
                "GRANT ALL ON TABLE public.t TO \"o\"",
                "GRANT SELECT ON TABLE public.t TO \"y\" WITH GRANT OPTION",
                "SET LOCAL ROLE \"y\"",
                "GRANT SELECT ON TABLE public.t TO \"z\" WITH GRANT OPTION",
                "RESET ROLE",
                "SET LOCAL ROLE \"z\"",
                "GRANT SELECT ON TABLE public.t TO \"a\"",
                "RESET ROLE",
            ]
        );
    }

    #[test]
    fn an_owner_keeps_what_he_left_himself() {
        let mut column = privilege("PUBLIC", "SELECT", false, "o");
        column.column = Some("a b".to_owned());
        let grants = of(vec![privilege("o", "SELECT", false, "o"), column]);
        assert_eq!(
            grants.statements()[1..],
            [
                "REVOKE ALL ON TABLE public.t FROM \"o\"",
                "GRANT SELECT ON TABLE public.t TO \"o\"",
                "GRANT SELECT (\"a b\") ON TABLE public.t TO PUBLIC",
            ]
        );
    }
}
