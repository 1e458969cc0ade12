//! From words to commands.

use super::complaint::Complaint;
use super::options::{self, Known};
use super::orders::{self, Order};
use super::show::What;
use super::text::{Word, statements};
use crate::admin::api::{Answer, Databases};
use crate::admin::types::{
    CapRequest, DrainRequest, HoldRequest, ModeRequest, OpenRequest, ReadOnlyRequest,
};
use crate::config::{HumanDuration, Permission, Preset};
use crate::runner::directives::nearest;

/// What a client may ask for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    /// `SHOW` of something that pgdrain knows, about one thing or all.
    Show {
        what: What,
        argument: Option<String>,
    },
    /// `SHOW` of a setting of this connection, as drivers ask for.
    Parameter(&'static str),
    /// Hold, read-only, or open; `word` is how it was asked for.
    Mode {
        word: &'static str,
        databases: Databases,
        request: Box<ModeRequest>,
        answer: Answer,
    },
    /// Another ladder for drains under way.
    Drain {
        databases: Databases,
        request: DrainRequest,
    },
    /// A cap, or none.
    Cap {
        database: String,
        request: CapRequest,
    },
    /// What is done to one session, window or migration, or to pgdrain itself.
    Order(Order),
    /// A setting of this connection.
    Set {
        name: String,
        value: String,
    },
    /// What has no meaning here and does no harm, by its tag.
    Nothing(&'static str),
    Begin,
    Commit,
    Rollback,
    /// `SELECT 1`, by which pools look whether a connection lives.
    Number(i64),
}

/// What begins a command, in lower case.
const VERBS: [&str; 37] = [
    "show",
    "help",
    "pause",
    "resume",
    "hold",
    "open",
    "read only",
    "read_only",
    "drain",
    "cap",
    "kill",
    "disable",
    "enable",
    "suspend",
    "reconnect",
    "wait_close",
    "reload",
    "shutdown",
    "cancel",
    "abort",
    "terminate",
    "kill_client",
    "renew",
    "finish",
    "acknowledge",
    "approve",
    "revoke",
    "measure",
    "set",
    "reset",
    "begin",
    "commit",
    "rollback",
    "end",
    "discard",
    "deallocate",
    "select",
];

/// The commands of a text.
///
/// # Errors
/// When one of them is none; then none of them is carried out.
pub(super) fn read(text: &str) -> Result<Vec<Command>, Complaint> {
    let statements = statements(text)?;
    statements.iter().map(|words| command(words)).collect()
}

fn command(words: &[Word]) -> Result<Command, Complaint> {
    let (verb, rest) = words
        .split_first()
        .ok_or_else(|| Complaint::syntax("no command"))?;
    let Word::Bare(verb) = verb else {
        return Err(unknown(&verb.shown()));
    };
    if let Some(order) = orders::read(verb, rest) {
        return order.map(Command::Order);
    }
    match verb.to_ascii_uppercase().as_str() {
        "SHOW" => show(rest),
        "HELP" => show_what(What::Help, rest),
        "PAUSE" => hold("PAUSE", true, rest),
        "HOLD" => hold("HOLD", false, rest),
        "RESUME" => open("RESUME", true, rest),
        "OPEN" => open("OPEN", false, rest),
        "READ" if rest.first().is_some_and(|word| word.is("ONLY")) => read_only(&rest[1..]),
        "READ_ONLY" => read_only(rest),
        "DRAIN" => drain(rest),
        "CAP" => cap(rest),
        "KILL" => kill(rest),
        "SET" => set(rest),
        "RESET" => Ok(Command::Nothing("RESET")),
        "DISCARD" => Ok(Command::Nothing("DISCARD ALL")),
        "DEALLOCATE" => Ok(Command::Nothing("DEALLOCATE ALL")),
        "BEGIN" | "START" => Ok(Command::Begin),
        "COMMIT" | "END" => Ok(Command::Commit),
        "ROLLBACK" => Ok(Command::Rollback),
        "ABORT" if rest.iter().all(ends_a_block) => Ok(Command::Rollback),
        "ABORT" => Err(orders::what_is_aborted()),
        "SELECT" => select(rest),
        other => Err(not_here(other).unwrap_or_else(|| unknown(verb))),
    }
}

/// Commands of PgBouncer that pgdrain has no meaning for: what does what they are used for.
fn not_here(verb: &str) -> Option<Complaint> {
    let (message, hint) = match verb {
        "DISABLE" => (
            "DISABLE is not supported: no database is closed to new clients while old ones work on",
            "HOLD db BLOCKED reject refuses whatever begins; HOLD db FENCE lets no new session into \
             the server.",
        ),
        "ENABLE" => (
            "ENABLE is not supported, as DISABLE is not",
            "OPEN db ends whatever holds traffic.",
        ),
        "SUSPEND" => (
            "SUSPEND is not supported",
            "PAUSE waits until nothing runs. A newer pgdrain takes over by \"pgdrain serve --take-over\", \
             without a pause.",
        ),
        "RECONNECT" => (
            "RECONNECT is not supported: a connection to the server belongs to one client and ends \
             with it",
            "SHOW SESSIONS lists them. HOLD db LADDER force terminates those that are in a \
             transaction.",
        ),
        "WAIT_CLOSE" => (
            "WAIT_CLOSE is not supported, as RECONNECT is not",
            "PAUSE db waits until nothing runs there.",
        ),
        _ => return None,
    };
    Some(Complaint::unsupported(message).hint(hint))
}

fn unknown(word: &str) -> Complaint {
    let complaint = Complaint::syntax(format!("\"{word}\" is no command of the console"));
    complaint.hint(match nearest(word, &VERBS) {
        Some(near) => format!(
            "Did you mean {}? SHOW HELP lists the commands.",
            near.to_ascii_uppercase()
        ),
        None => "SHOW HELP lists the commands.".to_owned(),
    })
}

fn show(words: &[Word]) -> Result<Command, Complaint> {
    let Some((first, rest)) = words.split_first() else {
        return Err(Complaint::syntax("SHOW needs a word").hint("SHOW HELP lists them."));
    };
    let word = first.shown();
    // `SHOW TRANSACTION ISOLATION LEVEL`, `SHOW TIME ZONE`
    let (word, rest) = match (first.is("TRANSACTION"), first.is("TIME")) {
        (true, _) => ("transaction_isolation".to_owned(), &[][..]),
        (_, true) => ("timezone".to_owned(), &[][..]),
        _ => (word, rest),
    };
    if let Some(what) = What::named(&word) {
        return show_what(what, rest);
    }
    if let Some(name) = super::parameters::known(&word) {
        end(rest)?;
        return Ok(Command::Parameter(name));
    }
    let complaint = Complaint::syntax(format!("\"{word}\" is nothing that can be shown"));
    let near = nearest(&word, &What::WORDS);
    Err(complaint.hint(match near {
        Some(near) => format!(
            "Did you mean SHOW {}? SHOW HELP lists what there is.",
            near.to_ascii_uppercase()
        ),
        None => "SHOW HELP lists what there is.".to_owned(),
    }))
}

/// A word that SQL's `ABORT` may have behind it.
fn ends_a_block(word: &Word) -> bool {
    ["WORK", "TRANSACTION", "AND", "NO", "CHAIN"]
        .iter()
        .any(|known| word.is(known))
}

fn show_what(what: What, words: &[Word]) -> Result<Command, Complaint> {
    let argument = match words {
        [] if what.needs_argument() => {
            let (word, argument) = (what.word().to_ascii_uppercase(), what.argument());
            let complaint = Complaint::syntax(format!("SHOW {word} needs a word more"));
            return Err(complaint.hint(format!("SHOW {word} {argument}: {}", what.about())));
        }
        [] => None,
        [word] if what.takes_argument() && word.value().is_some() => Some(word.shown()),
        [word, ..] => return Err(unexpected(word)),
    };
    Ok(Command::Show { what, argument })
}

fn hold(word: &'static str, all: bool, words: &[Word]) -> Result<Command, Complaint> {
    let (databases, words) = databases(word, all, &options::HOLD, words)?;
    let mut given = options::read(word, &options::HOLD, words)?;
    let answer = answer(&mut given);
    let request: HoldRequest = given.build()?;
    Ok(Command::Mode {
        word,
        databases,
        request: Box::new(ModeRequest::Hold(request)),
        answer,
    })
}

fn read_only(words: &[Word]) -> Result<Command, Complaint> {
    let word = "READ ONLY";
    let (databases, words) = databases(word, false, &options::READ_ONLY, words)?;
    let mut given = options::read(word, &options::READ_ONLY, words)?;
    let answer = answer(&mut given);
    let request: ReadOnlyRequest = given.build()?;
    Ok(Command::Mode {
        word,
        databases,
        request: Box::new(ModeRequest::ReadOnly(request)),
        answer,
    })
}

fn open(word: &'static str, all: bool, words: &[Word]) -> Result<Command, Complaint> {
    let (databases, words) = databases(word, all, &options::OPEN, words)?;
    let request: OpenRequest = options::read(word, &options::OPEN, words)?.build()?;
    Ok(Command::Mode {
        word,
        databases,
        request: Box::new(ModeRequest::Open(request)),
        answer: Answer::AtOnce,
    })
}

fn kill(words: &[Word]) -> Result<Command, Complaint> {
    let (databases, words) = databases("KILL", false, &[], words)?;
    end(words)?;
    let at_once = Some(HumanDuration(std::time::Duration::ZERO));
    let request = HoldRequest {
        ladder: Some(Preset::Force),
        autocommit: at_once,
        wait: at_once,
        cancel: at_once,
        stuck: at_once,
        abort: at_once,
        reason: Some("KILL in the console".to_owned()),
        ..HoldRequest::default()
    };
    Ok(Command::Mode {
        word: "KILL",
        databases,
        request: Box::new(ModeRequest::Hold(request)),
        answer: Answer::WhenDrained,
    })
}

fn drain(words: &[Word]) -> Result<Command, Complaint> {
    let (databases, words) = databases("DRAIN", false, &options::DRAIN, words)?;
    let given = options::read("DRAIN", &options::DRAIN, words)?;
    if given.is_empty() {
        let complaint = Complaint::syntax("DRAIN needs to be told what to change");
        return Err(complaint.hint("For example: DRAIN db LADDER firm"));
    }
    let request = given.build()?;
    Ok(Command::Drain { databases, request })
}

fn cap(words: &[Word]) -> Result<Command, Complaint> {
    let usage = || {
        let complaint = Complaint::syntax("CAP needs a database and a number, a percentage or OFF");
        complaint.hint("For example: CAP shop 50% FOR 5m")
    };
    let [database, at, rest @ ..] = words else {
        return Err(usage());
    };
    let (Some(database), Some(at)) = (database.value(), at.value()) else {
        return Err(usage());
    };
    let mut given = options::read("CAP", &options::CAP, rest)?;
    given.require("transactions", at.to_ascii_lowercase());
    Ok(Command::Cap {
        database: database.to_owned(),
        request: given.build()?,
    })
}

/// `SET [SESSION|LOCAL] name TO|= value`, and what SQL has besides.
fn set(words: &[Word]) -> Result<Command, Complaint> {
    let words = match words {
        [first, rest @ ..] if first.is("SESSION") || first.is("LOCAL") => rest,
        all => all,
    };
    let value = |words: &[Word]| {
        let words = words.iter().filter(|word| word.value().is_some());
        words.map(Word::shown).collect::<Vec<_>>().join(" ")
    };
    let set = |name: &str, words: &[Word]| Command::Set {
        name: name.to_ascii_lowercase(),
        value: value(words),
    };
    match words {
        [first, rest @ ..] if first.is("CHARACTERISTICS") || first.is("TRANSACTION") => {
            Ok(set("transaction", rest))
        }
        [first, second, rest @ ..] if first.is("TIME") && second.is("ZONE") => {
            Ok(set("timezone", rest))
        }
        [first, rest @ ..] if first.is("NAMES") => Ok(set("client_encoding", rest)),
        [Word::Bare(name) | Word::Name(name), is, rest @ ..]
            if !rest.is_empty() && (is.is("TO") || *is == Word::Equals) =>
        {
            Ok(set(name, rest))
        }
        _ => Err(Complaint::syntax("SET needs a name and a value")),
    }
}

fn select(words: &[Word]) -> Result<Command, Complaint> {
    if let [Word::Bare(number)] = words
        && let Ok(number) = number.parse::<i32>()
    {
        return Ok(Command::Number(number.into()));
    }
    let complaint = Complaint::unsupported("the console has no tables and no functions");
    Err(complaint.hint("SHOW HELP lists what there is."))
}

/// Which databases a command is for. Every one of them has to be asked for, but where PgBouncer's
/// command means that by no name.
pub(super) fn databases<'a>(
    word: &str,
    all: bool,
    options: &[Known],
    words: &'a [Word],
) -> Result<(Databases, &'a [Word]), Complaint> {
    let is_option = |word: &Word| options.iter().any(|option| word.is(option.word));
    match words {
        [first, rest @ ..] if !is_option(first) && first.value().is_some() => {
            let database = match *first == Word::Bare("*".to_owned()) {
                true => Databases::All,
                false => Databases::One(first.shown()),
            };
            Ok((database, rest))
        }
        _ if all => Ok((Databases::All, words)),
        _ => {
            let complaint = Complaint::syntax(format!("{word} needs a database, or * for all"));
            Err(complaint.hint("SHOW DATABASES lists them."))
        }
    }
}

fn answer(given: &mut options::Given) -> Answer {
    match given.take_flag("nowait") {
        true => Answer::AtOnce,
        false => Answer::WhenDrained,
    }
}

pub(super) fn end(words: &[Word]) -> Result<(), Complaint> {
    words.first().map_or(Ok(()), |word| Err(unexpected(word)))
}

fn unexpected(word: &Word) -> Complaint {
    Complaint::syntax(format!("\"{}\" was not expected there", word.shown()))
}

impl Command {
    /// Who may do it.
    pub(super) fn needs(&self) -> &'static [Permission] {
        match self {
            Command::Show { .. } => &[Permission::Look],
            Command::Mode { request, .. } => match **request {
                ModeRequest::Hold(_) | ModeRequest::ReadOnly(_) => &[Permission::Hold],
                ModeRequest::Open(_) => &[Permission::Open],
            },
            Command::Drain { .. } | Command::Cap { .. } => &[Permission::Hold],
            Command::Order(order) => order.needs(),
            Command::Parameter(_)
            | Command::Set { .. }
            | Command::Nothing(_)
            | Command::Begin
            | Command::Commit
            | Command::Rollback
            | Command::Number(_) => &[],
        }
    }

    /// Whether it changes something that no rollback takes back.
    pub(super) fn acts(&self) -> bool {
        match self {
            Command::Mode { .. }
            | Command::Drain { .. }
            | Command::Cap { .. }
            | Command::Order(_) => true,
            Command::Show { .. }
            | Command::Parameter(_)
            | Command::Set { .. }
            | Command::Nothing(_)
            | Command::Begin
            | Command::Commit
            | Command::Rollback
            | Command::Number(_) => false,
        }
    }

    /// The database that it is about, if it is about one.
    pub(super) fn database(&self) -> Option<&str> {
        match self {
            Command::Mode { databases, .. } | Command::Drain { databases, .. } => match databases {
                Databases::One(name) => Some(name),
                Databases::All => None,
            },
            Command::Cap { database, .. } => Some(database),
            Command::Order(order) => order.database(),
            Command::Show { .. }
            | Command::Parameter(_)
            | Command::Set { .. }
            | Command::Nothing(_)
            | Command::Begin
            | Command::Commit
            | Command::Rollback
            | Command::Number(_) => None,
        }
    }

    /// Its command tag.
    pub(super) fn tag(&self) -> &'static str {
        match self {
            Command::Show { .. } | Command::Parameter(_) => "SHOW",
            Command::Mode { word, .. } => word,
            Command::Drain { .. } => "DRAIN",
            Command::Cap { .. } => "CAP",
            Command::Order(order) => order.tag(),
            Command::Set { .. } => "SET",
            Command::Nothing(tag) => tag,
            Command::Begin => "BEGIN",
            Command::Commit => "COMMIT",
            Command::Rollback => "ROLLBACK",
            Command::Number(_) => "SELECT 1",
        }
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
