//! A control command that runs while the test goes on, and what it left in the end.

use std::process::Stdio;

use pgdrain::cli::demo::cluster::process::{self, Signal};
use tokio::process::{Child, Command};

use super::poll::{PATIENCE, within};
use super::proxy::{Proxy, Ran};

/// A command that runs; killed when dropped.
pub(crate) struct Following {
    line: String,
    child: Child,
}

impl Following {
    /// Starts a control command.
    pub(crate) fn start(proxy: &Proxy, args: &[&str]) -> Self {
        let mut command = Command::from(proxy.command(args));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.kill_on_drop(true).spawn();
        Self {
            line: args.join(" "),
            child: child.expect("the binary starts"),
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = self.child.id().expect("it was not waited for");
        process::send(signal, &[pid]).expect("a shell");
    }

    /// Waits for its end.
    pub(crate) async fn ended(self) -> Ran {
        let output = within(&self.line, PATIENCE, self.child.wait_with_output()).await;
        let output = output.expect("a child of ours");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }
}

impl Ran {
    /// It ended with this code and said all of this; lines that were broken for a terminal count as one.
    #[track_caller]
    pub(crate) fn assert(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:#?}");
        let unbroken = self.stdout.replace("\n  ", " ");
        for part in said {
            let found = [&self.stdout, &unbroken, &self.stderr]
                .iter()
                .any(|text| text.contains(part));
            assert!(found, "no {part:?} in {self:#?}");
        }
    }
}
