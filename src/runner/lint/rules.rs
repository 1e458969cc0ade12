//! The table of rules: what each looks for, how bad it is in which traffic, what to do instead.

use super::report::Severity;
use crate::runner::plan::Needs;

/// A rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, as `-- pgdrain:allow` names it.
    pub id: &'static str,
    /// What it needs to be run.
    pub asks: Asks,
    /// How bad it is in open, read-only and exclusive traffic; none is nothing at all.
    pub levels: [Option<Severity>; 3],
    /// What it looks for.
    pub about: &'static str,
    /// What to do instead.
    pub hint: &'static str,
}

/// What a rule needs to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// The files.
    Text,
    /// The catalog of the database too.
    Catalog,
    /// The rows too; each question has five seconds.
    Rows,
}

impl Rule {
    /// How bad it is, one step less where the tables are small.
    pub fn severity(&self, traffic: Needs, small: bool) -> Option<Severity> {
        let level = match traffic {
            Needs::Open => self.levels[0],
            Needs::ReadOnly => self.levels[1],
            Needs::Exclusive => self.levels[2],
        };
        match (level?, small) {
            (level, false) => Some(level),
            (Severity::Error, true) => Some(Severity::Warning),
            (Severity::Warning | Severity::Note, true) => Some(Severity::Note),
        }
    }
}

/// The rule of a name.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|it| it.id == id)
}

const E: Option<Severity> = Some(Severity::Error);
const W: Option<Severity> = Some(Severity::Warning);
const N: Option<Severity> = Some(Severity::Note);
const OFF: Option<Severity> = None;

const fn of(
    id: &'static str,
    asks: Asks,
    levels: [Option<Severity>; 3],
    about: &'static str,
    hint: &'static str,
) -> Rule {
    Rule {
        id,
        asks,
        levels,
        about,
        hint,
    }
}

/// Every rule. Squawk's have squawk's names.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    of("blocking-lock", Asks::Text, [E, E, OFF], "a lock keeps out traffic that goes on meanwhile",
        "run the file in an exclusive window, or use the form that locks less (NOT VALID, CONCURRENTLY)"),
    of("table-rewrite", Asks::Text, [E, E, W], "every row is written again behind the strongest lock",
        "add a new column, fill it in batches, and swap names; or give the window the time for it"),
    of("table-scan", Asks::Text, [E, W, N], "every row is read behind a lock that keeps others out",
        "add the constraint NOT VALID and VALIDATE it in a file of its own"),
    of("unknown-statement", Asks::Text, [W, W, N], "it cannot be told what a statement locks",
        "look at it yourself; it is planned for an exclusive window"),
    of("missing-relation", Asks::Catalog, [W, W, W], "a relation is named that is not there",
        "check the name, its schema, and the order of the files"),
    of("published-table", Asks::Catalog, [W, W, W], "the shape of a table changes that is replicated logically",
        "change the subscribers first (when something is added) or last (when something goes)"),
    of("not-owner", Asks::Catalog, [E, E, E], "DDL on a relation of another role (42501)",
        "run the files as the owner: migrate.owner"),

    of("set-not-null-with-nulls", Asks::Rows, [E, E, E], "SET NOT NULL on a column that holds nulls",
        "fill the nulls in an earlier file"),
    of("unique-over-duplicates", Asks::Rows, [E, E, E], "UNIQUE over rows that are equal",
        "find and merge the duplicates in an earlier file"),
    of("check-violated", Asks::Rows, [E, E, E], "a CHECK that rows violate",
        "mend the rows in an earlier file, or add it NOT VALID"),
    of("foreign-key-orphans", Asks::Rows, [E, E, E], "a foreign key over rows without their other row",
        "mend the rows in an earlier file, or add it NOT VALID"),
    of("foreign-key-without-index", Asks::Catalog, [W, W, W], "no index leads with the columns of a foreign key",
        "create one first: each DELETE on the other table reads this one whole"),
    of("validate-in-same-transaction", Asks::Text, [E, W, N], "NOT VALID and VALIDATE in one transaction",
        "VALIDATE in the next file: here the first lock is kept while every row is read"),
    of("required-column", Asks::Text, [W, W, W], "a new column is NOT NULL and has no default",
        "give it a default: with rows in the table it fails"),

    of("drop-in-use", Asks::Catalog, [E, E, E], "other objects depend on what is dropped",
        "drop or change them first, by name; CASCADE takes what nobody looked at"),
    of("drop-without-deprecation", Asks::Text, [E, E, E], "a column, constraint, table or view is dropped",
        "stop using it first, release, wait, and allow this with the reason that it is over"),
    of("drop-cascade", Asks::Text, [E, E, E], "CASCADE drops what is not named",
        "name everything that is to go"),
    of("truncate", Asks::Text, [E, E, E], "TRUNCATE takes every row at once, and no file brings them back",
        "DELETE in batches, or allow this with a reason"),
    of("dangerous-statement", Asks::Text, [E, E, E], "it reaches beyond tables: roles, schemas, extensions, server settings",
        "run it by hand, apart from migrations, or allow it with a reason"),

    of("update-without-where", Asks::Text, [E, E, W], "UPDATE of every row in one transaction",
        "backfill in batches: pgdrain:batch"),
    of("delete-without-where", Asks::Text, [E, E, E], "DELETE of every row",
        "add a WHERE, or allow it with a reason"),
    of("backfill-in-one-transaction", Asks::Catalog, [E, W, N], "many rows of a large table are changed in one transaction",
        "backfill in batches of some thousand rows, each in a transaction of its own: pgdrain:batch"),
    of("backfill-fires-triggers", Asks::Catalog, [W, W, W], "the rows that are changed fire triggers",
        "count what they cost and do, once for each row"),

    of("invalid-index", Asks::Catalog, [E, E, E], "an index of this name is there and invalid",
        "DROP INDEX CONCURRENTLY it first; IF NOT EXISTS would leave it invalid"),
    of("concurrently-if-not-exists", Asks::Text, [W, W, N], "IF NOT EXISTS takes an invalid index for the new one",
        "leave IF NOT EXISTS away"),
    of("concurrently-in-window", Asks::Text, [OFF, OFF, N], "CONCURRENTLY where nobody else is",
        "a plain CREATE INDEX reads the table once and rolls back with its file"),
    of("reindex", Asks::Text, [E, E, N], "REINDEX keeps out whoever plans a query on the table",
        "REINDEX CONCURRENTLY"),

    of("lock-table", Asks::Text, [E, W, N], "LOCK TABLE",
        "leave it to the window: nobody else is there"),
    of("table-maintenance", Asks::Text, [E, E, W], "CLUSTER or VACUUM FULL writes the table again, alone with it",
        "run it apart from migrations"),
    of("refresh-blocks", Asks::Text, [E, E, N], "REFRESH MATERIALIZED VIEW keeps readers out",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY (it needs a unique index)"),
    of("create-trigger", Asks::Text, [W, W, N], "from now on every write pays for the trigger",
        "measure what it costs for each row"),
    of("create-rule", Asks::Text, [W, W, W], "rules rewrite queries in ways that surprise",
        "use a trigger or a view that can be updated"),
    of("policy-change", Asks::Text, [W, W, W], "who sees which rows changes",
        "compare what each role sees before and after"),
    of("disable-trigger", Asks::Text, [E, W, W], "writes beside it go by without their triggers, foreign keys' too",
        "run it in an exclusive window, and enable them in the same file"),
    of("replication-role", Asks::Text, [E, E, E], "session_replication_role switches foreign keys and triggers off",
        "leave it alone"),
    of("set-tablespace", Asks::Text, [E, E, W], "every block is copied behind the strongest lock",
        "give the window the time for it"),
    of("attach-partition", Asks::Text, [W, W, N], "every row of the partition is read while nobody uses it",
        "add a CHECK like the bound, NOT VALID, and VALIDATE it before"),
    of("do-block", Asks::Text, [W, W, N], "a DO runs what is only known when it runs",
        "write the statements out"),
    of("timeout-off", Asks::Text, [E, W, W], "a timeout is switched off",
        "leave timeouts to the runner: --lock-timeout, --statement-timeout"),
    of("json-column", Asks::Text, [W, W, W], "json has no equality: SELECT DISTINCT and GROUP BY fail",
        "use jsonb"),
    of("enum-value-used", Asks::Text, [E, E, E], "a new enum value is used in the transaction that adds it (55P04)",
        "add the value in a file of its own"),

    of("file-name", Asks::Text, [W, W, W], "the file's name is not NUMBER_words_in_lower_case",
        "rename it before it is applied anywhere"),
    of("missing-down", Asks::Text, [W, W, W], "there is no down file",
        "write one, or say `-- pgdrain:irreversible REASON`: without it only a backup leads back"),
    of("object-name", Asks::Text, [N, N, N], "a name that has to be quoted wherever it is used",
        "use lower case letters, digits and underscores"),
    of("suppression", Asks::Text, [E, E, E], "a comment that allows a rule has no reason, or names no rule",
        "write `-- pgdrain:allow RULE reason`"),
    of("unused-suppression", Asks::Text, [W, W, W], "a comment allows what nothing does",
        "take it off"),

    of("require-concurrent-index-creation", Asks::Text, [E, W, OFF], "CREATE INDEX keeps writers out",
        "CREATE INDEX CONCURRENTLY in a file of its own"),
    of("require-concurrent-index-deletion", Asks::Text, [E, E, OFF], "DROP INDEX waits for everybody, and everybody for it",
        "DROP INDEX CONCURRENTLY in a file of its own"),
    of("require-concurrent-partition-detach", Asks::Text, [E, E, OFF], "DETACH PARTITION waits for everybody, and everybody for it",
        "DETACH PARTITION ... CONCURRENTLY in a file of its own"),
    of("constraint-missing-not-valid", Asks::Text, [E, W, N], "a constraint reads every row behind its lock",
        "add it NOT VALID and VALIDATE it in the next file"),
    of("disallowed-unique-constraint", Asks::Text, [E, W, N], "the index of a UNIQUE constraint is built behind its lock",
        "CREATE UNIQUE INDEX CONCURRENTLY first, then ADD CONSTRAINT ... USING INDEX"),
    of("adding-serial-primary-key-field", Asks::Text, [E, E, W], "a new serial column fills and indexes every row",
        "add a bigint column, fill it in batches, and make it the key"),
    of("renaming-column", Asks::Text, [E, E, W], "programs that know the old name fail from then on",
        "add the new column beside the old one, or a view with the old name"),
    of("renaming-table", Asks::Text, [E, E, W], "programs that know the old name fail from then on",
        "leave a view with the old name"),
    of("ban-set-schema", Asks::Text, [E, E, W], "programs that know the old schema fail from then on",
        "leave a view in the old schema"),
    of("ban-drop-database", Asks::Text, [E, E, E], "DROP DATABASE", "never in a migration"),
    of("ban-drop-function", Asks::Text, [W, W, W], "programs and defaults that call it fail from then on",
        "stop calling it first"),
    of("ban-drop-type", Asks::Text, [W, W, W], "programs that know the type fail from then on",
        "stop using it first"),
    of("ban-drop-sequence", Asks::Text, [W, W, W], "programs that draw numbers from it fail from then on",
        "stop using it first"),
    of("ban-drop-trigger", Asks::Text, [W, W, W], "what the trigger kept true is no longer kept",
        "say what keeps it true now"),
    of("ban-alter-domain-with-add-constraint", Asks::Text, [E, W, N], "every table with a column of the domain is read",
        "use a CHECK on the table, NOT VALID"),
    of("ban-replica-identity", Asks::Text, [W, W, W], "logical replication of the table changes",
        "check the subscribers"),
    of("ban-revoke", Asks::Text, [W, W, W], "programs of that role fail from then on",
        "check who uses the right"),
    of("ban-duplicate-column-assignments", Asks::Text, [E, E, E], "a column is set twice", "set it once"),
    of("identifier-too-long", Asks::Text, [E, E, E], "a name of more than 63 bytes is cut by the server",
        "shorten it"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_rule_has_its_own_name_and_says_what_to_do() {
        let ids: BTreeSet<_> = RULES.iter().map(|it| it.id).collect();
        assert_eq!(ids.len(), RULES.len());
        for rule in RULES {
            assert!(rule.levels.iter().any(Option::is_some), "{}", rule.id);
            assert!(
                !rule.about.is_empty() && !rule.hint.is_empty(),
                "{}",
                rule.id
            );
        }
    }

    #[test]
    fn what_is_dangerous_in_open_traffic_may_be_right_in_a_window() {
        let rule = rule("require-concurrent-index-creation").unwrap();
        assert_eq!(rule.severity(Needs::Open, false), Some(Severity::Error));
        assert_eq!(rule.severity(Needs::Open, true), Some(Severity::Warning));
        assert_eq!(rule.severity(Needs::Exclusive, false), None);
    }
}
