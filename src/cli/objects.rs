//! `pgdrain migrate objects`: what was saved before a run, and putting it back.

use clap::Args;
use hyper::Method;

use super::arguments::{Asking, operator};
use super::client::{ClientError, Patience, path};
use super::exit::Exit;
use super::output::{line, note, plain};
use crate::runner::saved::{ReplayRequest, Replayed, SavedObject, SavedObjects};

/// Show or put back the views, rules, triggers, policies and grants that were saved before a run
#[derive(Args, Debug)]
pub(super) struct Objects {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    /// The run before which they were saved.
    #[arg(value_name = "RUN")]
    run: String,
    /// Print the statements that make them, as a script.
    #[arg(long, conflicts_with_all = ["json", "replay"])]
    sql: bool,
    /// Put them back as they were, all of them or those that are named (KIND/NAME), in one
    /// transaction.
    #[arg(long, value_name = "KIND/NAME", num_args = 0..)]
    replay: Option<Vec<String>>,
    /// Only say what would be put back.
    #[arg(long, requires = "replay")]
    dry_run: bool,
    #[command(flatten)]
    asking: Asking,
}

impl Objects {
    pub(super) async fn show(self) -> anyhow::Result<Exit> {
        if let Some(objects) = &self.replay {
            return self.put_back(objects).await;
        }
        let path = path(&["v1", "databases", &self.database, "migrations", "objects"]);
        let path = format!("{path}?run={}", query(&self.run));
        let saved: SavedObjects = self.asking.client()?.get(&path).await?;
        match self.sql {
            true => line(&script(&saved))?,
            false => self.asking.format().print(&saved, list)?,
        }
        Ok(Exit::SUCCESS)
    }

    async fn put_back(&self, objects: &[String]) -> anyhow::Result<Exit> {
        let path = path(&[
            "v1",
            "databases",
            &self.database,
            "migrations",
            "objects",
            "replay",
        ]);
        let request = ReplayRequest {
            run: self.run.clone(),
            objects: objects.to_vec(),
            dry_run: self.dry_run,
            by: Some(operator()),
        };
        let client = self.asking.client()?;
        let answer: Result<Replayed, ClientError> = client
            .send(Method::POST, &path, &request, Patience::Endless)
            .await;
        match answer {
            Ok(replayed) => {
                self.asking.format().print(&replayed, told)?;
                match replayed.done {
                    true => Ok(Exit::SUCCESS),
                    false => Ok(Exit::ROLLBACK),
                }
            }
            Err(error) if error.has_code("not_replayed") => {
                note(&format!("error: {error}"));
                Ok(Exit::ROLLBACK)
            }
            Err(error) if error.has_code("busy") => {
                note(&format!("error: {error}"));
                Ok(Exit::NOT_GRANTED)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn query(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn list(saved: &SavedObjects) -> String {
    saved.objects.iter().map(|it| name(it) + "\n").collect()
}

fn name(object: &SavedObject) -> String {
    plain(&object.to_string())
}

/// What makes all of them, in an order in which that is possible.
fn script(saved: &SavedObjects) -> String {
    let mut text = "begin;\nset local search_path = '';\n".to_owned();
    for object in &saved.objects {
        // A name with a line break in it would end the comment.
        text += &format!("\n-- {}\n", name(object).replace(['\n', '\r'], " "));
        for statement in &object.statements {
            text += &format!("{statement};\n");
        }
    }
    text + "\ncommit;\n"
}

fn told(replayed: &Replayed) -> String {
    let did = match replayed.dry_run {
        true => "would put back",
        false => "put back",
    };
    let mut text = String::new();
    for object in &replayed.replayed {
        text += &format!("{did} {}\n", name(object));
        if replayed.dry_run {
            for statement in &object.statements {
                text += &format!("    {};\n", plain(&one_line(statement)));
            }
        }
    }
    for why in &replayed.refused {
        text += &format!("in the way: {}\n", plain(why));
    }
    text + &match replayed.done {
        true => format!("{} are as they were\n", replayed.unchanged),
        false => "nothing was put back\n".to_owned(),
    }
}

fn one_line(statement: &str) -> String {
    statement.split_whitespace().collect::<Vec<_>>().join(" ")
}
