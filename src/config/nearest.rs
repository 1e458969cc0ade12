//! What somebody may have meant who wrote a key that is not there.

/// The known word that is nearest to this one: the first of those that take the fewest changes of single
/// characters (two that changed places count as one change); none if that would be another word.
pub(super) fn nearest<'a>(
    found: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // A third of the characters may be wrong, and one always.
    let most = (found.chars().count() / 3).max(1);
    let with_distance = known.into_iter().map(|word| (distance(found, word), word));
    let near = with_distance.filter(|(distance, _)| *distance <= most);
    near.min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// The key that is called so in another section, by its dotted name.
pub(super) fn elsewhere<'a>(found: &str, keys: &'a [String]) -> Option<&'a str> {
    let called = |key: &&String| key.rsplit('.').next() == Some(found);
    keys.iter().find(called).map(String::as_str)
}

/// Optimal string alignment (Levenshtein with transpositions), by characters.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Rows of the table: the one before the last, the last, and the one that is made.
    let mut older = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(from != to);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == b[j - 1] && a[i - 1] == *to {
                let older: &Vec<usize> = &older;
                least = least.min(older[j - 1] + 1);
            }
            row.push(least);
        }
        older = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_understood_and_another_word_is_not() {
        let known = ["for", "then", "blocked", "client_deadline", "clients_max"];
        for (found, meant) in [
            ("fro", Some("for")),
            ("four", Some("for")),
            ("client_deadlien", Some("client_deadline")),
            ("client-deadline", Some("client_deadline")),
            ("clientsmax", Some("clients_max")),
            ("timeout", None),
            ("", None),
        ] {
            assert_eq!(nearest(found, known), meant, "{found}");
        }
    }

    #[test]
    fn distances_are_those_of_the_definition() {
        for (a, b, far) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("abc", "acb", 1),
            ("kitten", "sitting", 3),
            ("жаба", "жба", 1),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (far, far), "{a} {b}");
        }
    }
}
