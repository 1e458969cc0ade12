//! Rules for what squawk does not look at: locks by hand, maintenance, triggers, policies, settings,
//! what stands in a `DO`, types.

use squawk_lexer::tokenize;

use super::{File, Hit, place};
use crate::runner::catalog::Found;
use crate::runner::script::TxMode;
use crate::runner::shape::{Act, Kind, NewColumn};

pub(super) fn check(file: &File<'_>, hits: &mut Vec<Hit>) {
    for (number, studied) in file.statements.iter().enumerate() {
        for act in &studied.acts {
            let new = act
                .on
                .as_ref()
                .is_some_and(|on| studied.world.look(on) == Found::New);
            let at = place(studied, act);
            if let Some((rule, message)) = of_act(act).filter(|_| !new) {
                hits.push(Hit::new(rule, at, message));
            }
            for column in columns(&act.kind) {
                if column.ty.eq_ignore_ascii_case("json") {
                    let message = format!("column {} is of type json", column.name);
                    hits.push(Hit::new("json-column", at, message));
                }
            }
            if let Kind::EnumValue { value } = &act.kind
                && file.step.script.mode() == TxMode::File
            {
                used(file, number, value, hits);
            }
        }
        inside_do(file, number, hits);
    }
}

/// The rule that an act breaks by being there.
fn of_act(act: &Act) -> Option<(&'static str, String)> {
    let on = act
        .on
        .as_ref()
        .map(|it| format!(" on {it}"))
        .unwrap_or_default();
    Some(match &act.kind {
        Kind::Lock(mode) => ("lock-table", format!("LOCK TABLE in mode {mode}{on}")),
        Kind::Cluster => ("table-maintenance", format!("CLUSTER{on}")),
        Kind::Vacuum { full: true } => ("table-maintenance", format!("VACUUM FULL{on}")),
        Kind::Refresh {
            concurrently: false,
        } => ("refresh-blocks", format!("REFRESH MATERIALIZED VIEW{on}")),
        Kind::CreateTrigger => ("create-trigger", format!("CREATE TRIGGER{on}")),
        Kind::TriggerOrRule("CREATE RULE") => ("create-rule", format!("CREATE RULE{on}")),
        Kind::Policy => ("policy-change", format!("a policy{on}")),
        Kind::RowSecurity => ("policy-change", format!("row level security{on}")),
        Kind::ToggleTrigger { enable: false } => {
            ("disable-trigger", format!("DISABLE TRIGGER{on}"))
        }
        Kind::Rewrite("SET TABLESPACE") => ("set-tablespace", format!("SET TABLESPACE{on}")),
        Kind::Attach { partition } => (
            "attach-partition",
            format!("ATTACH PARTITION {partition}{on}"),
        ),
        Kind::Setting { name, value } => return of_setting(name, value),
        _ => return None,
    })
}

fn of_setting(name: &str, value: &str) -> Option<(&'static str, String)> {
    let value = value.trim_matches('\'');
    match name {
        "session_replication_role" => Some((
            "replication-role",
            format!("session_replication_role = {value}"),
        )),
        "lock_timeout" | "statement_timeout" | "idle_in_transaction_session_timeout"
            if value.trim_end_matches(char::is_alphabetic).trim() == "0" =>
        {
            Some(("timeout-off", format!("{name} = {value}")))
        }
        _ => None,
    }
}

fn columns(kind: &Kind) -> &[NewColumn] {
    match kind {
        Kind::CreateTable { columns, .. } => columns,
        Kind::AddColumn(column, _) => std::slice::from_ref(column),
        _ => &[],
    }
}

/// A literal like the new value, in a later statement of the same transaction.
fn used(file: &File<'_>, number: usize, value: &str, hits: &mut Vec<Hit>) {
    let literal = format!("'{value}'");
    for studied in &file.statements[number + 1..] {
        let mut offset = 0;
        for token in tokenize(studied.sql) {
            let text = &studied.sql[offset..offset + token.len as usize];
            if text == literal {
                let at = studied.statement.range.start + offset;
                let message =
                    format!("{literal} is used before the transaction that adds it is over");
                hits.push(Hit::new("enum-value-used", at, message));
                break;
            }
            offset += token.len as usize;
        }
    }
}

/// A `DO`: what can be read in it was looked at like anything else, but may not be all.
fn inside_do(file: &File<'_>, number: usize, hits: &mut Vec<Hit>) {
    let studied = &file.statements[number];
    let is_do =
        matches!(studied.acts.first(), Some(Act { kind: Kind::Unknown(what), .. }) if what == "DO");
    if !is_do {
        return;
    }
    let inside = studied.acts.iter().filter(|it| it.inside).count();
    let dynamic = studied.acts.iter().any(|it| it.kind == Kind::Dynamic);
    let message = match (dynamic, inside) {
        (true, _) => "it runs texts that are made at run time".to_owned(),
        (false, 0) => "nothing in it could be read".to_owned(),
        (false, some) => format!("{some} things in it could be read, and may run or not"),
    };
    hits.push(Hit::new("do-block", studied.statement.range.start, message));
}
