//! Reads what a client asks by the extended protocol, for whoever answers it without a server.
//!
//! Bodies are those of Postgres documentation section 55.7; `None` stands for one that is none.

/// A `Parse`.
#[derive(Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The name of the statement; empty for the unnamed one.
    pub statement: &'a [u8],
    /// Its text.
    pub sql: &'a [u8],
}

/// A `Bind`; the values of its parameters are not kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The name of the portal; empty for the unnamed one.
    pub portal: &'a [u8],
    /// The statement.
    pub statement: &'a [u8],
    /// How many parameters it gives.
    pub parameters: usize,
    /// The formats of the results: none for text, one for all columns, or one for each.
    pub formats: Vec<i16>,
}

/// A `Describe` or a `Close`.
#[derive(Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// Whether it names a portal, and not a statement.
    pub portal: bool,
    /// The name.
    pub name: &'a [u8],
}

/// An `Execute`.
#[derive(Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The portal.
    pub portal: &'a [u8],
    /// The most rows to send now; `None` for all.
    pub rows: Option<usize>,
}

/// The text of a `Query`, which ends with the body.
#[must_use]
pub fn query(body: &[u8]) -> Option<&[u8]> {
    let (text, rest) = text(body)?;
    rest.is_empty().then_some(text)
}

/// Reads a `Parse`.
#[must_use]
pub fn parse(body: &[u8]) -> Option<Parse<'_>> {
    let (statement, rest) = text(body)?;
    let (sql, rest) = text(rest)?;
    let (types, rest) = count(rest)?;
    (rest.len() == types.checked_mul(4)?).then_some(Parse { statement, sql })
}

/// Reads a `Bind`.
#[must_use]
pub fn bind(body: &[u8]) -> Option<Bind<'_>> {
    let (portal, rest) = text(body)?;
    let (statement, rest) = text(rest)?;
    let (_, rest) = formats(rest)?;
    let (parameters, mut rest) = count(rest)?;
    for _ in 0..parameters {
        let (length, value) = rest.split_first_chunk::<4>()?;
        rest = match i32::from_be_bytes(*length) {
            -1 => value,
            length => value.get(usize::try_from(length).ok()?..)?,
        };
    }
    let (formats, rest) = formats(rest)?;
    rest.is_empty().then_some(Bind {
        portal,
        statement,
        parameters,
        formats,
    })
}

/// Reads a `Describe` or a `Close`.
#[must_use]
pub fn named(body: &[u8]) -> Option<Named<'_>> {
    let (kind, rest) = body.split_first()?;
    let portal = match kind {
        b'S' => false,
        b'P' => true,
        _ => return None,
    };
    let (name, rest) = text(rest)?;
    rest.is_empty().then_some(Named { portal, name })
}

/// Reads an `Execute`.
#[must_use]
pub fn execute(body: &[u8]) -> Option<Execute<'_>> {
    let (portal, rest) = text(body)?;
    let rows = i32::from_be_bytes(rest.try_into().ok()?);
    Some(Execute {
        portal,
        // As in the server, nothing and less than nothing stand for all.
        rows: usize::try_from(rows).ok().filter(|rows| *rows > 0),
    })
}

fn text(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = body.iter().position(|byte| *byte == 0)?;
    Some((&body[..end], &body[end + 1..]))
}

fn count(body: &[u8]) -> Option<(usize, &[u8])> {
    let (count, rest) = body.split_first_chunk::<2>()?;
    Some((usize::from(u16::from_be_bytes(*count)), rest))
}

fn formats(body: &[u8]) -> Option<(Vec<i16>, &[u8])> {
    let (count, rest) = count(body)?;
    let (codes, rest) = rest.split_at_checked(count.checked_mul(2)?)?;
    let codes = codes
        .chunks_exact(2)
        .map(|code| i16::from_be_bytes([code[0], code[1]]));
    Some((codes.collect(), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::frame::HEADER_LEN;
    use crate::wire::frontend;

    #[test]
    fn what_a_client_of_ours_writes_is_read() {
        let body = |message: &[u8]| message[HEADER_LEN..].to_vec();
        assert_eq!(
            query(&body(&frontend::query("SHOW x"))),
            Some(&b"SHOW x"[..])
        );
        assert_eq!(
            parse(&body(&frontend::parse_typed(b"s", b"SHOW x", &[23, 25]))),
            Some(Parse {
                statement: b"s",
                sql: b"SHOW x"
            })
        );
        let read = bind(&body(&frontend::bind_text("p", "s", b"v"))).map(|it| it.parameters);
        assert_eq!(read, Some(1));
        let formats = [b"p\0s\0".as_slice(), &[0, 0, 0, 0, 0, 2, 0, 1, 0, 0]].concat();
        assert_eq!(bind(&formats).map(|it| it.formats), Some(vec![1, 0]));
        let message = body(&frontend::execute("p"));
        let read = execute(&message).expect("well formed");
        assert_eq!((read.portal, read.rows), (&b"p"[..], None));
        let close = body(&frontend::close(frontend::Named::Portal, "p"));
        let read = named(&close).expect("well formed");
        assert_eq!((read.portal, read.name), (true, &b"p"[..]));
    }

    #[test]
    fn what_is_cut_or_too_long_is_none() {
        assert_eq!(query(b"SHOW x"), None);
        assert_eq!(query(b"SHOW x\0y"), None);
        assert_eq!(parse(b"s\0SHOW\0\0\x01"), None);
        assert_eq!(bind(b"p\0s\0\0\0\0\x01\x7f\xff\xff\xff\0\0"), None);
        assert_eq!(bind(b"p\0s\0\0\0\0\x01\xff\xff\xff\xfe\0\0"), None);
        assert_eq!(named(b"Xs\0"), None);
        assert_eq!(execute(b"p\0\0\0\0"), None);
    }

    proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = (query(&body), parse(&body), bind(&body), named(&body), execute(&body));
        }
    }
}
