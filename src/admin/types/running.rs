//! What sessions run.

use serde::{Deserialize, Serialize};

use crate::session::class::normal;

/// The most process ids of one question.
pub const PIDS_MAX: usize = 200;

/// Answer of `GET /v1/databases/{db}/running?pids=1,2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningStatements {
    /// Those that the server knows of; by process id.
    pub statements: Vec<RunningStatement>,
}

/// What one session runs, or ran last. The text is the client's own: it may hold what its application put into
/// it, and is to be shown as text and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningStatement {
    /// The server's process id.
    pub pid: i32,
    /// Its first thousand characters, or what it reads like without constants; absent where the control role may not see it.
    pub text: Option<String>,
    /// Whether there is more of it.
    pub cut: bool,
    /// Whether its constants are left out, since whoever asks may only look (`admin.show_constants`).
    #[serde(default)]
    pub hidden: bool,
    /// Whether it runs now.
    pub running: bool,
    /// What it waits for, in the server's words, such as `Lock: relation`.
    pub waits_for: Option<String>,
    /// Who holds, or waits before it for, the lock that it waits for; 0 is a prepared transaction.
    pub blocked_by: Vec<i32>,
}

impl RunningStatements {
    /// The same without a constant of any client.
    #[must_use]
    pub fn without_constants(mut self) -> RunningStatements {
        for it in &mut self.statements {
            if let Some(text) = &mut it.text {
                *text = normal(text.as_bytes()).text.to_string();
                it.hidden = true;
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_constant_is_left_of_a_text_wherever_it_was_cut() {
        let read = |text: &str| {
            let one = RunningStatement {
                pid: 7,
                text: Some(text.to_owned()),
                cut: false,
                hidden: false,
                running: true,
                waits_for: None,
                blocked_by: vec![],
            };
            let statements = vec![one];
            let hidden = RunningStatements { statements }.without_constants();
            assert!(hidden.statements[0].hidden);
            hidden.statements[0].text.clone().expect("a text")
        };
        let whole =
            "SELECT * FROM people WHERE mail = 'ann@secret.example' AND pin = 4711 -- 4711 secret";
        let shown = read(whole);
        assert_eq!(shown, "select * from people where mail = ? and pin = ?");
        for end in 0..whole.len() {
            let shown = read(&whole[..end]);
            assert!(
                !shown.contains("secret") && !shown.contains("47"),
                "{shown}"
            );
        }
        for text in [
            "select $q$secret",
            "select E'a\\'secret",
            "/* secret",
            "select U&'secret",
            "insert into t values (0x4711, 1e4711)",
        ] {
            let shown = read(text);
            assert!(
                !shown.contains("secret") && !shown.contains("47"),
                "{shown}"
            );
        }
    }
}
