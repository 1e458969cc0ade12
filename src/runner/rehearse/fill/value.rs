//! Which value a column gets in the row `i`: pure, an expression of SQL for each type.

/// A column that takes a value.
#[derive(Clone, Debug, Default)]
pub(super) struct Column {
    pub(super) number: i16,
    pub(super) name: String,
    /// The type behind all domains, as `pg_type.typname`.
    pub(super) base: String,
    /// Its modifier: lengths are 4 more than they say; -1 is none.
    pub(super) typmod: i32,
    pub(super) kind: Kind,
    /// The type as the column has it.
    pub(super) written: String,
    pub(super) not_null: bool,
    /// The default as SQL.
    pub(super) default: Option<String>,
    /// The type behind all domains, as it is written.
    pub(super) plain: String,
    /// The type of the elements of an array.
    pub(super) element: Option<String>,
}

/// Kinds of types that differ in how a value is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    Enum,
    #[default]
    Other,
}

/// The bytes that `varchar(n)` and such keep in front of their modifier.
const HEADER: i32 = 4;

/// The value in row `i`, from 1; `None` for types that nothing is known of.
pub(super) fn value(column: &Column) -> Option<String> {
    if column.kind == Kind::Enum {
        let all = format!("enum_range(null::{})", column.plain);
        return Some(format!("({all})[1 + i % cardinality({all})]"));
    }
    let made = match &column.element {
        Some(element) => format!("array[{}]", plain(element, -1)?),
        None => plain(&column.base, column.typmod)?,
    };
    Some(format!("({made})::{}", column.written))
}

fn plain(base: &str, typmod: i32) -> Option<String> {
    let text = |sql: &str| Some(sql.to_owned());
    match base {
        "int2" => text("(i - 1) % 32767 + 1"),
        "int4" | "int8" | "oid" | "float4" | "float8" => text("i"),
        "numeric" => Some(numeric(typmod)),
        "money" => text("i::numeric"),
        "text" | "varchar" | "bpchar" | "citext" | "name" => Some(characters(typmod)),
        "bool" => text("i % 2 = 0"),
        "date" => text("date '2020-01-01' + i % 3000"),
        "timestamp" => text("timestamp '2020-01-01' + i * interval '1 minute'"),
        "timestamptz" => text("timestamptz '2020-01-01 00:00+00' + i * interval '1 minute'"),
        "time" | "timetz" => text("time '00:00' + i % 86400 * interval '1 second'"),
        "interval" => text("i * interval '1 second'"),
        "uuid" => text("md5(i::text)"),
        "json" | "jsonb" => text("jsonb_build_object('n', i)"),
        "bytea" => text("decode(md5(i::text), 'hex')"),
        "inet" | "cidr" => {
            text("'10.' || i / 65536 % 256 || '.' || i / 256 % 256 || '.' || i % 256")
        }
        "tsvector" => text("to_tsvector('simple', 'row ' || i)"),
        "point" => text("point(i, i)"),
        "int4range" => text("int4range(i, i + 1)"),
        "int8range" => text("int8range(i, i + 1)"),
        _ => None,
    }
}

/// Digits in front of the point are what the precision leaves. (`numeric_typmod_precision` and
/// `numeric_typmod_scale` in the server's numeric.c.)
fn numeric(typmod: i32) -> String {
    if typmod < HEADER {
        return "i".to_owned();
    }
    let (precision, scale) = ((typmod - HEADER) >> 16 & 0xffff, (typmod - HEADER) & 0x7ff);
    match u32::try_from(precision - scale) {
        Ok(digits @ 1..=9) => format!("(i - 1) % {} + 1", 10_i64.pow(digits) - 1),
        Ok(10..) => "i".to_owned(),
        // Less than one.
        Ok(0) | Err(_) => "0".to_owned(),
    }
}

fn characters(typmod: i32) -> String {
    match typmod {
        // Long enough for every number of an int4.
        typmod if typmod < HEADER || typmod - HEADER >= 14 => "'row ' || i".to_owned(),
        typmod => format!("right(i::text, {})", typmod - HEADER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(base: &str, typmod: i32) -> String {
        let column = Column {
            base: base.to_owned(),
            written: base.to_owned(),
            typmod,
            ..Column::default()
        };
        value(&column).expect(base)
    }

    #[test]
    fn values_fit_their_columns() {
        assert_eq!(made("varchar", -1), "('row ' || i)::varchar");
        assert_eq!(made("varchar", 4 + 3), "(right(i::text, 3))::varchar");
        // numeric(5,2) and numeric(2,2)
        assert_eq!(
            made("numeric", (5 << 16 | 2) + 4),
            "((i - 1) % 999 + 1)::numeric"
        );
        assert_eq!(made("numeric", (2 << 16 | 2) + 4), "(0)::numeric");
        assert!(plain("hstore", -1).is_none());
    }
}
