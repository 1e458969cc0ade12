//! Results that we make ourselves: descriptions of columns, rows, and what belongs to them.

use bytes::{BufMut, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::data::{FieldDescription, ParameterDescription, RowDescription};
use pgwire::messages::startup::ParameterStatus;

use super::backend::tag;

/// A column of a result: its name, the type by its number in `pg_type`, and the format it is sent in.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// The name.
    pub name: &'a str,
    /// The number of its type.
    pub oid: u32,
    /// How many bytes a value has; -1 for a type of any length.
    pub size: i16,
    /// Whether values are sent in the binary format.
    pub binary: bool,
}

/// `EmptyQueryResponse`.
pub const EMPTY_QUERY: [u8; 5] = [tag::EMPTY_QUERY, 0, 0, 0, 4];

/// `ParseComplete`.
pub const PARSE_COMPLETE: [u8; 5] = [tag::PARSE_COMPLETE, 0, 0, 0, 4];

/// `BindComplete`.
pub const BIND_COMPLETE: [u8; 5] = [tag::BIND_COMPLETE, 0, 0, 0, 4];

/// `CloseComplete`.
pub const CLOSE_COMPLETE: [u8; 5] = [tag::CLOSE_COMPLETE, 0, 0, 0, 4];

/// `NoData`.
pub const NO_DATA: [u8; 5] = [tag::NO_DATA, 0, 0, 0, 4];

/// `PortalSuspended`.
pub const PORTAL_SUSPENDED: [u8; 5] = [tag::PORTAL_SUSPENDED, 0, 0, 0, 4];

/// A whole `RowDescription`; the names hold no zero.
pub fn row_description<'a>(into: &mut BytesMut, fields: impl Iterator<Item = Field<'a>>) {
    let fields = fields.map(|field| {
        let format = i16::from(field.binary);
        FieldDescription::new(
            field.name.to_owned(),
            0,
            0,
            field.oid,
            field.size,
            -1,
            format,
        )
    });
    let message = RowDescription::new(fields.collect());
    message.encode(into).expect("a few columns of ours");
}

/// A whole `ParameterDescription` of a statement that has none.
pub fn no_parameters(into: &mut BytesMut) {
    let message = ParameterDescription::new(Vec::new());
    message.encode(into).expect("it is short");
}

/// A whole `ParameterStatus`; neither text holds a zero.
pub fn parameter_status(into: &mut BytesMut, name: &str, value: &str) {
    let message = ParameterStatus::new(name.to_owned(), value.to_owned());
    message.encode(into).expect("texts of ours are short");
}

/// Writes a `DataRow` value by value. What was begun has to be ended.
#[derive(Debug)]
pub struct RowWriter<'a> {
    into: &'a mut BytesMut,
    begin: usize,
    values: u16,
}

impl<'a> RowWriter<'a> {
    /// Begins one behind what is there.
    pub fn begin(into: &'a mut BytesMut) -> RowWriter<'a> {
        let begin = into.len();
        into.put_slice(&[tag::DATA_ROW, 0, 0, 0, 0, 0, 0]);
        RowWriter {
            into,
            begin,
            values: 0,
        }
    }

    /// Adds a value; `None` is null.
    pub fn value(&mut self, value: Option<&[u8]>) {
        self.values += 1;
        match value {
            None => self.into.put_i32(-1),
            Some(bytes) => {
                let length = i32::try_from(bytes.len()).expect("values of ours are short");
                self.into.put_i32(length);
                self.into.put_slice(bytes);
            }
        }
    }

    /// Ends it: writes its length and the number of its values.
    pub fn end(self) {
        let length = u32::try_from(self.into.len() - self.begin - 1).expect("rows are short");
        self.into[self.begin + 1..][..4].copy_from_slice(&length.to_be_bytes());
        self.into[self.begin + 5..][..2].copy_from_slice(&self.values.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_length_and_the_number_of_its_values() {
        let mut into = BytesMut::from(&b"before"[..]);
        let mut row = RowWriter::begin(&mut into);
        row.value(Some(b"ab"));
        row.value(None);
        row.end();
        assert_eq!(&into[6..], b"D\0\0\0\x10\0\x02\0\0\0\x02ab\xff\xff\xff\xff");
    }

    #[test]
    fn columns_are_described_with_type_and_format() {
        let mut into = BytesMut::new();
        let field = Field {
            name: "n",
            oid: 23,
            size: 4,
            binary: true,
        };
        row_description(&mut into, [field].into_iter());
        assert_eq!(
            &into[..],
            b"T\0\0\0\x1a\0\x01n\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x01"
        );
    }
}
