//! Tables as answers: columns with a type, and values in the format that the client asks for.

use bytes::BytesMut;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::wire::rows::{Field, RowWriter};

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `text`
    Text,
    /// `int4`, which PgBouncer gives most numbers
    Int,
    /// `int8`
    Long,
    /// `numeric`, which PgBouncer gives sums
    Numeric,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

pub(super) const fn text(name: &'static str) -> Column {
    let kind = Kind::Text;
    Column { name, kind }
}

pub(super) const fn int(name: &'static str) -> Column {
    let kind = Kind::Int;
    Column { name, kind }
}

pub(super) const fn long(name: &'static str) -> Column {
    let kind = Kind::Long;
    Column { name, kind }
}

pub(super) const fn numeric(name: &'static str) -> Column {
    let kind = Kind::Numeric;
    Column { name, kind }
}

/// One value. What is not known is null and never a zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Null,
    /// The same in a column that PgBouncer never leaves null, and that its exporters therefore make a
    /// number of: `NaN`, as far as the type has one.
    NotANumber,
    Text(String),
    Number(i64),
}

/// A row, with as many values as the table has columns.
pub(super) type Row = Vec<Value>;

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        Value::from(number as u64)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Number(number)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Value {
        Value::Number(number.into())
    }
}

impl From<Timestamp> for Value {
    /// As PgBouncer writes times.
    fn from(at: Timestamp) -> Value {
        let zoned = at.to_zoned(TimeZone::UTC);
        Value::Text(zoned.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

impl Column {
    /// As it is described to a client.
    pub(super) fn field(&self, binary: bool) -> Field<'static> {
        let (oid, size) = match self.kind {
            Kind::Text => (25, -1),
            Kind::Int => (23, 4),
            Kind::Long => (20, 8),
            Kind::Numeric => (1700, -1),
        };
        Field {
            name: self.name,
            oid,
            size,
            binary,
        }
    }

    fn write(&self, value: &Value, binary: bool, row: &mut RowWriter<'_>) {
        match (self.kind, value) {
            (Kind::Numeric, Value::NotANumber) if binary => row.value(Some(&BINARY_NAN)),
            (Kind::Numeric, Value::NotANumber) => row.value(Some(b"NaN")),
            (_, Value::Null | Value::NotANumber) => row.value(None),
            (Kind::Text, Value::Number(number)) => row.value(Some(number.to_string().as_bytes())),
            (_, Value::Text(text)) => row.value(Some(text.as_bytes())),
            // A number that the type has no room for would be another number.
            (Kind::Int, Value::Number(number)) => match i32::try_from(*number) {
                Ok(number) if binary => row.value(Some(&number.to_be_bytes())),
                Ok(number) => row.value(Some(number.to_string().as_bytes())),
                Err(_too_large) => row.value(None),
            },
            (Kind::Long, Value::Number(number)) if binary => {
                row.value(Some(&number.to_be_bytes()));
            }
            (Kind::Numeric, Value::Number(number)) if binary => {
                row.value(Some(&binary_numeric(*number)));
            }
            (Kind::Long | Kind::Numeric, Value::Number(number)) => {
                row.value(Some(number.to_string().as_bytes()));
            }
        }
    }
}

/// The formats of a result's columns, as `Bind` gives them.
#[derive(Debug, Clone, Default)]
pub(super) struct Formats(pub(super) Vec<i16>);

impl Formats {
    /// Whether a column is sent in the binary format.
    pub(super) fn binary(&self, column: usize) -> bool {
        match self.0.as_slice() {
            [] => false,
            [all] => *all == 1,
            each => each.get(column) == Some(&1),
        }
    }

    /// Whether they fit so many columns, and each is one that there is.
    pub(super) fn fit(&self, columns: usize) -> bool {
        let known = self.0.iter().all(|code| matches!(code, 0 | 1));
        known && (self.0.len() <= 1 || self.0.len() == columns)
    }
}

/// Writes a row.
pub(super) fn write_row(into: &mut BytesMut, columns: &[Column], row: &Row, formats: &Formats) {
    let mut writer = RowWriter::begin(into);
    for (at, (column, value)) in columns.iter().zip(row).enumerate() {
        column.write(value, formats.binary(at), &mut writer);
    }
    writer.end();
}

/// `NaN` as `numeric_send` has it: no digits, and a sign of its own.
const BINARY_NAN: [u8; 8] = [0, 0, 0, 0, 0xc0, 0, 0, 0];

/// A whole number as `numeric_send` has it: digits to the base of 10 000, the first one's weight, the
/// sign, and no digits behind the point.
fn binary_numeric(number: i64) -> Vec<u8> {
    let mut left = number.unsigned_abs();
    let mut digits = Vec::new();
    while left > 0 {
        digits.push(u16::try_from(left % 10_000).unwrap_or(0));
        left /= 10_000;
    }
    let count = u16::try_from(digits.len()).unwrap_or(0);
    let sign: u16 = if number < 0 { 0x4000 } else { 0 };
    let head = [count, count.saturating_sub(1), sign, 0];
    let all = head.into_iter().chain(digits.into_iter().rev());
    all.flat_map(u16::to_be_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(column: Column, value: impl Into<Value>, binary: i16) -> Vec<u8> {
        let mut into = BytesMut::new();
        let formats = Formats(vec![binary]);
        write_row(&mut into, &[column], &vec![value.into()], &formats);
        into[7..].to_vec()
    }

    #[test]
    fn values_are_written_in_the_format_that_is_asked_for() {
        assert_eq!(written(text("a"), "b", 1), b"\0\0\0\x01b");
        assert_eq!(written(int("a"), 7_u64, 0), b"\0\0\0\x017");
        assert_eq!(written(int("a"), 7_u64, 1), b"\0\0\0\x04\0\0\0\x07");
        assert_eq!(
            written(long("a"), 7_u64, 1),
            b"\0\0\0\x08\0\0\0\0\0\0\0\x07"
        );
        assert_eq!(written(numeric("a"), 12_345_u64, 0), b"\0\0\0\x0512345");
        assert_eq!(
            written(numeric("a"), 12_345_u64, 1),
            b"\0\0\0\x0c\0\x02\0\x01\0\0\0\0\0\x01\x09\x29"
        );
        assert_eq!(
            written(numeric("a"), 0_u64, 1),
            b"\0\0\0\x08\0\0\0\0\0\0\0\0"
        );
    }

    #[test]
    fn what_is_not_known_or_has_no_room_is_null() {
        let null = b"\xff\xff\xff\xff";
        assert_eq!(written(int("a"), None::<u64>, 0), null);
        assert_eq!(written(int("a"), 1_u64 << 31, 0), null);
        assert_eq!(written(int("a"), 1_u64 << 31, 1), null);
        assert_eq!(written(int("a"), Value::NotANumber, 0), null);
        let not_counted = |binary| written(numeric("a"), Value::NotANumber, binary);
        assert_eq!(not_counted(0), b"\0\0\0\x03NaN");
        assert_eq!(not_counted(1), b"\0\0\0\x08\0\0\0\0\xc0\0\0\0");
    }

    #[test]
    fn times_are_written_as_pgbouncer_does() {
        let at: Timestamp = "2026-11-22T05:06:50.9Z".parse().expect("a time");
        assert_eq!(Value::from(at), Value::from("2026-11-22 05:06:50 UTC"));
    }

    #[test]
    fn formats_fit_none_one_or_all_columns() {
        for (formats, columns, fit) in [
            (vec![], 3, true),
            (vec![1], 3, true),
            (vec![0, 1, 0], 3, true),
            (vec![0, 1], 3, false),
            (vec![2], 1, false),
        ] {
            assert_eq!(Formats(formats.clone()).fit(columns), fit, "{formats:?}");
        }
    }
}
