//! What is said of a directive that is not understood.

/// A directive that is not understood, and its place in the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {text}")]
pub struct DirectiveError {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What is wrong, in a sentence.
    pub text: String,
}

/// A word that is none of those known, with the one that was probably meant.
pub(super) fn unknown(found: &str, known: &[&str]) -> String {
    let near = nearest(found, known)
        .map(|it| format!(", did you mean {it:?}?"))
        .unwrap_or_default();
    let known = known.join(", ");
    format!("{found:?} is not one of {known}{near}")
}

/// The known word that is the fewest changes away, if that is not more than a third of it.
pub(crate) fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let found = found.to_ascii_lowercase().replace('-', "_");
    known
        .iter()
        .map(|word| (distance(&found, &word.replace('-', "_")), *word))
        .filter(|(changes, word)| *changes <= 1.max(word.len() / 3))
        .min_by_key(|(changes, _)| *changes)
        .map(|(_, word)| word)
}

/// How many characters have to be added, removed or exchanged (Levenshtein), a row at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<_> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    // Nobody's directive is longer; the rest only costs time.
    for (at, left) in a.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, right) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(left != *right);
            diagonal = row[column + 1];
            row[column + 1] = exchanged.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_if_it_is_near() {
        let known = super::super::NAMES;
        assert_eq!(nearest("lock_timout", &known), Some("lock_timeout"));
        assert_eq!(nearest("lock-timeout", &known), Some("lock_timeout"));
        assert_eq!(nearest("disabled_until", &known), Some("disabled-until"));
        assert_eq!(nearest("Assert", &known), Some("assert"));
        assert_eq!(nearest("asert", &known), Some("assert"));
        assert_eq!(nearest("frobnicate", &known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
