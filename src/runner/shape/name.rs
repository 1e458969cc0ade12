//! Names as the server reads them: folded to lower case unless quoted.

use std::fmt;

use squawk_lexer::{TokenKind, tokenize};

/// The name of a relation, a type or a function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Its schema; without one the search path decides.
    pub schema: Option<String>,
    /// The name itself.
    pub name: String,
}

impl Name {
    /// A name without a schema.
    pub fn bare(name: impl Into<String>) -> Self {
        Self {
            schema: None,
            name: name.into(),
        }
    }

    /// Reads `a`, `a.b` or `a.b.c` (a database in front is dropped) from SQL.
    pub fn parse(sql: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut offset = 0;
        for token in tokenize(sql) {
            let text = &sql[offset..offset + token.len as usize];
            offset += token.len as usize;
            if token.kind == TokenKind::Ident {
                parts.push(text.to_lowercase());
            } else if matches!(token.kind, TokenKind::QuotedIdent { .. }) {
                parts.push(unquote(text)?);
            }
        }
        let name = parts.pop()?;
        Some(Self {
            schema: parts.pop(),
            name,
        })
    }

    /// The name in the same schema as another, if it names none itself.
    #[must_use]
    pub fn beside(mut self, other: &Self) -> Self {
        if self.schema.is_none() {
            self.schema.clone_from(&other.schema);
        }
        self
    }

    /// The name as SQL that means exactly this, whatever its letters are.
    pub fn quoted(&self) -> String {
        match &self.schema {
            Some(schema) => format!("{}.{}", quote(schema), quote(&self.name)),
            None => quote(&self.name),
        }
    }
}

/// A single identifier as SQL.
pub(in crate::runner) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `None` for `U&"..."`, whose escapes are not read here.
fn unquote(text: &str) -> Option<String> {
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    Some(inner.replace("\"\"", "\""))
}

impl fmt::Display for Name {
    /// For people: quoted only where it has to be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", plain(schema))?;
        }
        f.write_str(&plain(&self.name))
    }
}

fn plain(name: &str) -> String {
    let usual = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    match !name.is_empty()
        && name.chars().all(usual)
        && !name.starts_with(|c: char| c.is_ascii_digit())
    {
        true => name.to_owned(),
        false => quote(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_unless_quoted() {
        let name = |sql| Name::parse(sql).unwrap();
        assert_eq!(name("Orders"), Name::bare("orders"));
        assert_eq!(name("\"Orders\"").to_string(), "\"Orders\"");
        assert_eq!(name("Shop . \"a\"\"b\"").quoted(), "\"shop\".\"a\"\"b\"");
        assert_eq!(name("db.public.t").to_string(), "public.t");
        assert_eq!(Name::parse("U&\"d\\0061\""), None);
        assert_eq!(Name::parse("'x'"), None);
    }
}
