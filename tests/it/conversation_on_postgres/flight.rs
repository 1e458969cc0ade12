//! What a client sends in one go, at random: the same for a real server and for the model.

use rand::RngExt;
use rand::rngs::StdRng;

use crate::model::server::{DOES_AT, Does};
use crate::model::tagged;
use crate::support::message;

/// The function `length(text)`, by its number in `pg_proc.dat`.
const LENGTH: u32 = 1317;

/// Messages, as a person reads them, for the model, and for a real server.
#[derive(Debug, Default)]
pub(super) struct Flight {
    pub(super) script: String,
    pub(super) model: Vec<u8>,
    pub(super) real: Vec<u8>,
}

impl Flight {
    fn push(&mut self, tag: u8, does: &[Does], real: &[u8]) {
        let mut body = vec![0; DOES_AT];
        body.extend(does.iter().map(|does| *does as u8));
        self.model.extend(tagged(tag, &body));
        self.real.extend(real);
        self.script.push(char::from(tag));
        self.script.extend(does.iter().map(|does| does.letter()));
    }

    /// Asks for what the server keeps back.
    pub(super) fn flush(&mut self) {
        self.push(b'H', &[], &message::flush());
    }

    pub(super) fn sync(&mut self) {
        self.push(b'S', &[], &message::sync());
    }

    /// Data, and mostly its end, with a Sync behind it. There is none in the data: if the server finds
    /// an error, nobody can tell which were answered, and the proxy counts too much.
    pub(super) fn data(&mut self, random: &mut StdRng) {
        for _ in 0..random.random_range(0..3) {
            if random.random_bool(0.2) {
                self.push(b'd', &[Does::Fail], &message::copy_data(b"x\n"));
            } else {
                self.push(b'd', &[], &message::copy_data(b"1\n"));
            }
        }
        match random.random_range(0..8) {
            0..6 => self.push(b'c', &[], &message::copy_done()),
            6 => self.push(b'f', &[], &message::copy_fail("enough")),
            _ => return,
        }
        self.sync();
    }

    /// Anything that a client may begin with.
    pub(super) fn begin(&mut self, random: &mut StdRng) {
        match random.random_range(0..10) {
            0..3 => self.query(random),
            3..7 => self.batch(random),
            7 => self.copy(random),
            8 => self.function_call(random),
            _ => self.sync(),
        }
    }

    fn query(&mut self, random: &mut StdRng) {
        let count = [1, 1, 1, 2, 3][random.random_range(0..5)];
        let does: Vec<Does> = (0..count).map(|_| statement(random)).collect();
        let texts: Vec<&str> = does.iter().map(|does| sql(*does, b'Q', random)).collect();
        self.push(b'Q', &does, &message::query(&texts.join("; ")));
    }

    fn function_call(&mut self, random: &mut StdRng) {
        if random.random_bool(0.3) {
            self.push(b'F', &[Does::Fail], &message::function_call(LENGTH, &[]));
        } else {
            let call = message::function_call(LENGTH, &[Some(b"text")]);
            self.push(b'F', &[], &call);
        }
    }

    /// Statements by the extended protocol, mostly with a Sync behind them.
    fn batch(&mut self, random: &mut StdRng) {
        for _ in 0..random.random_range(1..4) {
            let does = statement(random);
            self.extended(does, random);
        }
        if random.random_bool(0.15) {
            self.query(random);
        }
        if random.random_bool(0.8) {
            self.sync();
        }
    }

    /// COPY by Query or Execute, with Syncs and data behind it or not.
    fn copy(&mut self, random: &mut StdRng) {
        if random.random_bool(0.5) {
            let copy = sql(Does::CopyIn, b'Q', random);
            self.push(b'Q', &[Does::CopyIn], &message::query(copy));
        } else {
            self.extended(Does::CopyIn, random);
        }
        for _ in 0..random.random_range(0..2) {
            self.sync();
        }
        if random.random_bool(0.5) {
            self.data(random);
        }
    }

    /// Parse, Bind, perhaps Describe, Execute; one of the first two may fail, or be the last.
    fn extended(&mut self, does: Does, random: &mut StdRng) {
        let text = sql(does, b'E', random);
        match random.random_range(0..12) {
            0 => return self.push(b'P', &[Does::Fail], &message::parse("", "SELEC 1")),
            1 => return self.push(b'P', &[of_parse(does)], &message::parse("", text)),
            _ => self.push(b'P', &[of_parse(does)], &message::parse("", text)),
        }
        if random.random_bool(0.1) {
            return self.push(b'B', &[Does::Fail], &message::bind("", "nobody", &[]));
        }
        self.push(b'B', &[of_parse(does)], &message::bind("", "", &[]));
        if random.random_bool(0.5) {
            let answers_rows = matches!(does, Does::Succeed | Does::Suspend);
            let columns = if answers_rows {
                Does::Succeed
            } else {
                Does::Nothing
            };
            self.push(b'D', &[columns], &message::describe(b'P', ""));
        }
        let rows = u32::from(does == Does::Suspend);
        self.push(b'E', &[does], &message::execute("", rows));
        if random.random_bool(0.1) {
            self.push(b'C', &[], &message::close(b'P', ""));
        }
    }
}

/// A statement that fails does so when it is executed.
fn of_parse(does: Does) -> Does {
    if does == Does::Fail {
        Does::Succeed
    } else {
        does
    }
}

fn statement(random: &mut StdRng) -> Does {
    match random.random_range(0..16) {
        0..5 => Does::Succeed,
        5..7 => Does::Fail,
        7..10 => Does::Begin,
        10..12 => Does::Commit,
        12 => Does::CopyIn,
        13 => Does::CopyOut,
        14 => Does::Suspend,
        _ => Does::Nothing,
    }
}

/// A statement that makes the server send what the model sends, by Query or by Execute.
fn sql(does: Does, by: u8, random: &mut StdRng) -> &'static str {
    match does {
        Does::Succeed if by == b'E' => "SELECT 1",
        Does::Succeed | Does::Suspend => "VALUES (1), (2)",
        Does::Fail => "DO $$ BEGIN RAISE 'as asked for'; END $$",
        Does::Begin => "BEGIN",
        Does::Commit if random.random_bool(0.5) => "COMMIT",
        Does::Commit => "ROLLBACK",
        Does::CopyIn => "COPY t FROM STDIN",
        Does::CopyOut => "COPY (VALUES (1), (2)) TO STDOUT",
        Does::Nothing => "",
    }
}
