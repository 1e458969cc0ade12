//! A rehearsal for people: as text, and as Markdown for a pull request.

use std::fmt::{self, Write as _};

use super::types::{Course, Data, Leg, Place, Rehearsal, StatementTrace};
use crate::runner::report::{FileOutcome, Report};

impl fmt::Display for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.findings.len() {
            0 => "nothing is wrong".to_owned(),
            1 => "one thing is wrong".to_owned(),
            many => format!("{many} things are wrong"),
        };
        write!(f, "rehearsed {}: {verdict}", self.wherever())?;
        for course in &self.courses {
            write_course(f, course)?;
        }
        for file in &self.irreversible {
            write!(f, "\nno way back: {file}")?;
        }
        for finding in &self.findings {
            write!(f, "\nWRONG: {finding}")?;
        }
        for note in &self.notes {
            write!(f, "\nnote: {note}")?;
        }
        Ok(())
    }
}

impl Rehearsal {
    fn wherever(&self) -> &'static str {
        match (self.place, self.data) {
            (Place::Scratch, Data::None) => "in a copy of the schema",
            (Place::Scratch, Data::Full) => "in a copy of the database",
            (Place::Staging, _) => "in the database that was named",
            (Place::Here, _) => "in the database itself",
        }
    }
}

fn write_course(f: &mut fmt::Formatter<'_>, course: &Course) -> fmt::Result {
    if let Some(rows) = course.scale {
        write!(f, "\nwith {rows} made-up rows in each table:")?;
    }
    for it in &course.filled {
        if let Some(why) = &it.not_filled {
            write!(f, "\n  {} stayed empty: {why}", it.table)?;
        }
    }
    write_leg(f, "up", &course.up)?;
    for (way, leg) in [("down", &course.down), ("up again", &course.again)] {
        if let Some(leg) = leg {
            write_leg(f, way, leg)?;
        }
    }
    for it in &course.rls {
        write!(
            f,
            "\n  row-level security of {}: {:.3} ms as the role, {:.3} ms past it",
            it.table, it.as_role_ms, it.bypassing_ms
        )?;
    }
    Ok(())
}

fn write_leg(f: &mut fmt::Formatter<'_>, way: &str, leg: &Leg) -> fmt::Result {
    let files = match leg.files.len() {
        1 => "one file".to_owned(),
        many => format!("{many} files"),
    };
    write!(f, "\n{way}: {files} in {} ms", leg.elapsed_ms)?;
    // The second time they do the same.
    if way == "up again" {
        return Ok(());
    }
    for it in &leg.files {
        write!(f, "\n  {}: {} ms", it.file.file, it.file.elapsed_ms)?;
        if !ended_well(it.file.outcome) {
            write!(f, ", FAILED")?;
        }
        for trace in &it.trace {
            let (line, ms, text) = (trace.line, trace.elapsed_ms, &trace.text);
            write!(f, "\n    line {line}, {ms} ms, {text}{}", did(trace))?;
        }
    }
    Ok(())
}

fn ended_well(outcome: FileOutcome) -> bool {
    match outcome {
        FileOutcome::Applied | FileOutcome::Reverted => true,
        FileOutcome::RolledBack
        | FileOutcome::Begun
        | FileOutcome::Dirty
        | FileOutcome::Unknown => false,
    }
}

/// What a statement locked and wrote anew.
fn did(trace: &StatementTrace) -> String {
    let mut text = String::new();
    for lock in trace.locks.iter().filter(|it| !it.new) {
        text += &format!("; {} {}", lock.relation, lock.mode);
    }
    for relation in &trace.rewritten {
        text += &format!("; rewrote {relation}");
    }
    text
}

/// The report of a rehearsal in Markdown: a head, a table of files, what is wrong.
pub fn page(report: &Report) -> String {
    let mut page = format!(
        "## Migrations of `{}`: {}\n",
        cell(&report.database),
        report.state.as_str()
    );
    let Some(found) = &report.rehearsal else {
        return page;
    };
    for course in &found.courses {
        if let Some(rows) = course.scale {
            page += &format!("\nWith {rows} made-up rows in each table:\n");
        }
        page += "\n| file | up | down | up again | strongest lock | written anew |\n\
                 | --- | --- | --- | --- | --- | --- |\n";
        for it in &course.up.files {
            let version = &it.file.version;
            let time = |leg: Option<&Leg>| {
                let files = leg.map(|it| it.files.as_slice()).unwrap_or_default();
                let file = files.iter().find(|it| it.file.version == *version);
                file.map_or("–".to_owned(), |it| match ended_well(it.file.outcome) {
                    true => format!("{} ms", it.file.elapsed_ms),
                    false => "failed".to_owned(),
                })
            };
            let locks = it.trace.iter().flat_map(|it| &it.locks);
            let strongest = locks.filter(|it| !it.new).max_by_key(|it| it.mode);
            let strongest = strongest.map_or("none".to_owned(), |it| {
                format!("{} on {}", it.mode, it.relation)
            });
            let rewritten = it.trace.iter().flat_map(|it| it.rewritten.clone());
            // Writing to a string cannot fail.
            let _ = writeln!(
                page,
                "| {} | {} | {} | {} | {} | {} |",
                cell(&it.file.file),
                time(Some(&course.up)),
                time(course.down.as_ref()),
                time(course.again.as_ref()),
                cell(&strongest),
                cell(&rewritten.collect::<Vec<_>>().join(", ")),
            );
        }
    }
    let mut list = |head: &str, all: &[String]| {
        if !all.is_empty() {
            page += &format!("\n**{head}**\n\n");
            page.extend(all.iter().map(|it| format!("- {}\n", cell(it))));
        }
    };
    let failure = report
        .failure
        .as_ref()
        .filter(|_| found.findings.is_empty());
    let failure: Vec<_> = failure.map(ToString::to_string).into_iter().collect();
    list("Failed", &failure);
    list("Wrong", &found.findings);
    list("Without a way back", &found.irreversible);
    list("Notes", &found.notes);
    page
}

/// A text that stays in its cell of a table in Markdown, and starts nothing.
pub fn cell(text: &str) -> String {
    let escape = |c: char| match c {
        '|' | '<' | '*' | '_' | '`' | '[' | '\\' => format!("\\{c}"),
        c if c.is_control() => " ".to_owned(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays_in_its_cell() {
        assert_eq!(cell("a|b\n<c> x_y"), "a\\|b \\<c> x\\_y");
    }
}
