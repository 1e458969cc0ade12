//! Reading one key from a bare text, as the environment and flags give it.

use serde::Deserialize;
use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{IntoDeserializer, Visitor};

use super::raw::Raw;

/// Reads one key from a text; the items of a list are parted by commas.
///
/// # Errors
/// In the words of the key's own type.
pub(super) fn read(key: &str, text: &str) -> Result<Raw, Error> {
    let text = Text(text);
    let path: Vec<_> = key.splitn(3, '.').collect();
    match path.as_slice() {
        [outer, section, key] => Raw::deserialize(one(outer, one(section, one(key, text)))),
        [section, key] => Raw::deserialize(one(section, one(key, text))),
        _ => Raw::deserialize(one(key, text)),
    }
}

/// A section with one key.
fn one<'de, T: IntoDeserializer<'de>>(
    key: &'de str,
    value: T,
) -> MapDeserializer<'de, std::iter::Once<(&'de str, T)>, Error> {
    MapDeserializer::new(std::iter::once((key, value)))
}

/// A value without a type of its own: it becomes what the key asks for.
#[derive(Clone, Copy)]
struct Text<'a>(&'a str);

impl<'de> IntoDeserializer<'de> for Text<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> serde::Deserializer<'de> for Text<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.0)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.parse() {
            Ok(number) => visitor.visit_u64(number),
            // The visitor says what it expected instead.
            Err(_not_a_number) => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let items = self.0.split(',').map(|item| Text(item.trim()));
        visitor.visit_seq(SeqDeserializer::new(items))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct newtype_struct tuple tuple_struct map struct identifier ignored_any
    }
}
