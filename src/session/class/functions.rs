//! Functions of the server and its extensions that are known to change something.
//!
//! A read-only transaction refuses some of them by itself, but not all, and not in every version.
//! Functions of users are not here: the server refuses their writes.

/// What calling a function does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that lasts, or nothing that is known.
    Reads,
    /// It changes rows, sequences, files, slots or the server's state.
    Writes,
    /// It sets a parameter, which its first argument names.
    Sets,
    /// It runs a statement that is a text, here or somewhere else.
    Unknown,
}

/// Behind `lo_`.
const LARGE_OBJECTS: [&str; 10] = [
    "creat",
    "create",
    "export",
    "from_bytea",
    "import",
    "manage",
    "put",
    "truncate",
    "truncate64",
    "unlink",
];

/// Behind `pg_`.
const OF_THE_SERVER: &[&str] = &[
    "backup_start",
    "backup_stop",
    "clear_attribute_stats",
    "clear_extended_stats",
    "clear_relation_stats",
    "copy_logical_replication_slot",
    "copy_physical_replication_slot",
    "create_logical_replication_slot",
    "create_physical_replication_slot",
    "create_restore_point",
    "drop_replication_slot",
    "extension_config_dump",
    "file_rename",
    "file_sync",
    "file_unlink",
    "file_write",
    "import_system_collations",
    "log_standby_snapshot",
    "logical_emit_message",
    "logical_slot_get_binary_changes",
    "logical_slot_get_changes",
    "nextoid",
    "promote",
    "reload_conf",
    "replication_origin_advance",
    "replication_origin_create",
    "replication_origin_drop",
    "replication_origin_session_reset",
    "replication_origin_session_setup",
    "replication_origin_xact_reset",
    "replication_origin_xact_setup",
    "replication_slot_advance",
    "restore_attribute_stats",
    "restore_extended_stats",
    "restore_relation_stats",
    "rotate_logfile",
    "rotate_logfile_old",
    "start_backup",
    "stat_statements_reset",
    "stop_backup",
    "stop_making_pinned_objects",
    "switch_wal",
    "sync_replication_slots",
    "terminate_backend",
    "truncate_visibility_map",
    "wal_replay_pause",
    "wal_replay_resume",
];

/// All others.
const OTHERS: [&str; 9] = [
    "brin_desummarize_range",
    "brin_summarize_new_values",
    "brin_summarize_range",
    "gin_clean_pending_list",
    "heap_force_freeze",
    "heap_force_kill",
    "lowrite",
    "nextval",
    "setval",
];

/// What begins like this runs a statement that is a text to it.
const RUN_TEXT: [&str; 6] = [
    "connectby",
    "crosstab",
    "query_to_xml",
    "ts_rewrite",
    "ts_stat",
    "xpath_table",
];

/// What calling the function of this name does, in whatever schema it is.
pub(super) fn effect(name: &[u8]) -> Effect {
    let Some(first) = name.first() else {
        return Effect::Reads;
    };
    match first.to_ascii_lowercase() {
        b'p' => match behind(name, "pg_") {
            Some(rest) if behind(rest, "stat_reset").is_some() => Effect::Writes,
            Some(rest) => writes(OF_THE_SERVER, rest),
            None => Effect::Reads,
        },
        b's' if name.eq_ignore_ascii_case(b"set_config") => Effect::Sets,
        b'd' if behind(name, "dblink").is_some() => Effect::Unknown,
        b'b' if behind(name, "binary_upgrade_").is_some() => Effect::Writes,
        b'l' => match behind(name, "lo_") {
            Some(rest) => writes(&LARGE_OBJECTS, rest),
            None => writes(&OTHERS, name),
        },
        b'b' | b'g' | b'h' | b'n' | b's' => writes(&OTHERS, name),
        b'c' | b'q' | b't' | b'x' if runs_text(name) => Effect::Unknown,
        _ => Effect::Reads,
    }
}

/// Whether what a function does or tells is about its session, or the server that it is on.
pub(super) fn is_personal(name: &[u8]) -> bool {
    let others = [
        "currval",
        "lastval",
        "set_config",
        "setseed",
        "inet_server_addr",
        "inet_server_port",
    ];
    behind(name, "pg_").is_some()
        || behind(name, "txid_").is_some()
        || others
            .iter()
            .any(|one| name.eq_ignore_ascii_case(one.as_bytes()))
}

/// Parameters that decide whether a transaction may write, or who the session is.
pub(super) fn is_guarded(parameter: &[u8]) -> bool {
    [
        "default_transaction_read_only",
        "transaction_read_only",
        "session_authorization",
    ]
    .iter()
    .any(|guarded| parameter.eq_ignore_ascii_case(guarded.as_bytes()))
}

fn runs_text(name: &[u8]) -> bool {
    RUN_TEXT.iter().any(|one| behind(name, one).is_some())
}

fn writes(names: &[&str], name: &[u8]) -> Effect {
    if names
        .iter()
        .any(|one| name.eq_ignore_ascii_case(one.as_bytes()))
    {
        Effect::Writes
    } else {
        Effect::Reads
    }
}

fn behind<'a>(name: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let (front, rest) = name.split_at_checked(prefix.len())?;
    front
        .eq_ignore_ascii_case(prefix.as_bytes())
        .then_some(rest)
}
