//! What `SHOW HELP` says about the commands; docs/console.md has the same table in full.

/// One line of the help.
pub(super) struct Help {
    pub(super) command: &'static str,
    pub(super) about: &'static str,
}

const fn line(command: &'static str, about: &'static str) -> Help {
    Help { command, about }
}

/// What each command is for; the list of what can be shown comes behind it.
pub(super) const HELP: [Help; 26] = [
    line(
        "PAUSE [db] [option ...]",
        "As HOLD; without a name every database. Ctrl-C opens again.",
    ),
    line("RESUME [db]", "As OPEN; without a name every database."),
    line(
        "HOLD db|* [option ...]",
        "Hold traffic and wait until nothing runs. Ctrl-C ends the waiting, not the hold.",
    ),
    line(
        "READ ONLY db|* [option ...]",
        "Let only reads in and wait until nobody can write.",
    ),
    line(
        "option",
        "FOR 5m, REASON 'text', LADDER gentle|firm|force, BLOCKED queue|reject, THEN open|stay, NOWAIT ...",
    ),
    line(
        "OPEN db|* [FORCE]",
        "Let traffic flow again; FORCE also against a window.",
    ),
    line(
        "DRAIN db|* LADDER firm",
        "Change how far a drain under way goes.",
    ),
    line(
        "CAP db 50%|number|OFF [FOR 5m]",
        "Limit how many transactions run at once.",
    ),
    line(
        "KILL db|*",
        "HOLD without patience: whatever runs is terminated. OPEN ends it.",
    ),
    line(
        "CANCEL SESSION id [REASON 'text']",
        "Cancel what a session runs or waits with (57014); ids are those of SHOW SESSIONS and SHOW CLIENTS.",
    ),
    line(
        "ABORT SESSION id [REASON 'text']",
        "Abort the transaction that a session sits idle in (40001); its connection stays.",
    ),
    line(
        "TERMINATE SESSION id [REASON 'text']",
        "End a session (57P01).",
    ),
    line("KILL_CLIENT id", "The same, as in PgBouncer."),
    line(
        "RENEW WINDOW id",
        "Let the lease of a window go on; ids are those of SHOW WINDOWS.",
    ),
    line("FINISH WINDOW id", "The work in a window is done."),
    line(
        "ABORT WINDOW id [THEN reopen|stay]",
        "End a window whose work is given up: what runs in it is cancelled.",
    ),
    line(
        "CANCEL MIGRATION id",
        "Stop a migration and roll back what can be; ids are those of SHOW MIGRATIONS.",
    ),
    line(
        "ACKNOWLEDGE MIGRATION id",
        "Tell others that you look after a migration that failed.",
    ),
    line(
        "APPROVE db PLAN hash AS role [FOR 1h]",
        "Approve a plan, in one of the roles that have to.",
    ),
    line("REVOKE db PLAN hash AS role", "Take an approval back."),
    line(
        "MEASURE db FOR 10m | MEASURE db OFF",
        "Measure statements, for SHOW STATEMENTS.",
    ),
    line(
        "RELOAD",
        "Read the configuration again and say what applies now and what needs a restart.",
    ),
    line(
        "SHUTDOWN",
        "Stop at once: clients are ended where they are.",
    ),
    line(
        "SHUTDOWN WAIT_FOR_SERVERS",
        "Let nobody new in, let transactions end (30s), stop; as SIGTERM.",
    ),
    line(
        "SHUTDOWN WAIT_FOR_CLIENTS",
        "Let nobody new in and stop when the last client has left.",
    ),
    line(
        "BEGIN | COMMIT | ROLLBACK | SET",
        "Are taken, because drivers send them.",
    ),
];
