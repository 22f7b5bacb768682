//! The canonical bytes of parameters: equal values have equal bytes, and different values have different bytes.
//!
//! None of the usual formats has both properties. Their bytes depend on the iteration order of hash maps, on the width of
//! integers or on the order of fields, and JSON has no NaN. So this file contains a serialiser of its own.
//!
//! | value | bytes |
//! | --- | --- |
//! | `bool` | `T` or `F` |
//! | integers of all widths | `i`, and 16 bytes; `u`, and 16 bytes, above `i128::MAX` |
//! | `f32`, `f64` | `d`, and the 8 bytes of the `f64`. All NaN are equal. `-0.0` differs from `0.0`. |
//! | `char`, strings | `s`, the length, UTF-8 |
//! | bytes | `b`, the length, the bytes |
//! | `None`, `Some(x)`, `()` and unit structs | `n`; `o`, and the value; `0` |
//! | newtype structs | the value inside |
//! | sequences, tuples, tuple structs | `[`, each value after a `,`, then `]` |
//! | maps, structs | `{`, the number of entries, each key and value, sorted by the bytes of the keys |
//! | variants of enums | `v`, the name of the variant; `V`, the name and the content, if it has content |
//!
//! All numbers are little-endian. Names of types, and numbers of variants, are not part of the bytes.

use serde::ser::{self, Serialize, Serializer};
use std::fmt::Display;

/// Returns the canonical bytes of a value. The error is the text of the error of the value's `Serialize`.
pub(super) fn canonical<P: Serialize + ?Sized>(value: &P) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    value.serialize(Encoder(&mut bytes)).map_err(|failed| failed.0)?;
    Ok(bytes)
}

/// The error of a `Serialize` implementation.
#[derive(Debug)]
struct Failed(String);

impl Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

impl ser::Error for Failed {
    fn custom<M: Display>(message: M) -> Self {
        Self(message.to_string())
    }
}

type Encoded = Result<(), Failed>;

struct Encoder<'b>(&'b mut Vec<u8>);

impl<'b> Encoder<'b> {
    fn tagged(self, tag: u8, bytes: &[u8]) -> Encoded {
        self.0.push(tag);
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn sized(self, tag: u8, bytes: &[u8]) -> Encoded {
        self.0.push(tag);
        self.0.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes the name of a variant that has content. The caller writes the content.
    fn variant(self, name: &str) -> Self {
        self.0.push(b'V');
        self.0.extend_from_slice(&(name.len() as u64).to_le_bytes());
        self.0.extend_from_slice(name.as_bytes());
        self
    }

    fn items(self) -> Items<'b> {
        self.0.push(b'[');
        Items(self.0)
    }

    fn entries(self) -> Entries<'b> {
        Entries { out: self.0, entries: Vec::new() }
    }
}

macro_rules! integers {
    ($($method:ident $type:ty),*) => {$(
        fn $method(self, value: $type) -> Encoded {
            self.serialize_i128(value.into())
        }
    )*};
}

impl<'b> Serializer for Encoder<'b> {
    type Ok = ();
    type Error = Failed;
    type SerializeSeq = Items<'b>;
    type SerializeTuple = Items<'b>;
    type SerializeTupleStruct = Items<'b>;
    type SerializeTupleVariant = Items<'b>;
    type SerializeMap = Entries<'b>;
    type SerializeStruct = Entries<'b>;
    type SerializeStructVariant = Entries<'b>;

    integers!(serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64);
    integers!(serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64);

    fn serialize_bool(self, value: bool) -> Encoded {
        self.tagged(if value { b'T' } else { b'F' }, &[])
    }

    fn serialize_i128(self, value: i128) -> Encoded {
        self.tagged(b'i', &value.to_le_bytes())
    }

    fn serialize_u128(self, value: u128) -> Encoded {
        match i128::try_from(value) {
            Ok(value) => self.serialize_i128(value),
            Err(_) => self.tagged(b'u', &value.to_le_bytes()),
        }
    }

    fn serialize_f32(self, value: f32) -> Encoded {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Encoded {
        let value = if value.is_nan() { f64::NAN.copysign(1.0) } else { value };
        self.tagged(b'd', &value.to_bits().to_le_bytes())
    }

    fn serialize_char(self, value: char) -> Encoded {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Encoded {
        self.sized(b's', value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Encoded {
        self.sized(b'b', value)
    }

    fn serialize_none(self) -> Encoded {
        self.tagged(b'n', &[])
    }

    fn serialize_some<V: Serialize + ?Sized>(self, value: &V) -> Encoded {
        self.0.push(b'o');
        value.serialize(self)
    }

    fn serialize_unit(self) -> Encoded {
        self.tagged(b'0', &[])
    }

    fn serialize_unit_struct(self, _type: &'static str) -> Encoded {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _type: &'static str, _index: u32, name: &'static str) -> Encoded {
        self.sized(b'v', name.as_bytes())
    }

    fn serialize_newtype_struct<V: Serialize + ?Sized>(self, _type: &'static str, value: &V) -> Encoded {
        value.serialize(self)
    }

    fn serialize_newtype_variant<V: Serialize + ?Sized>(
        self,
        _type: &'static str,
        _index: u32,
        name: &'static str,
        value: &V,
    ) -> Encoded {
        value.serialize(self.variant(name))
    }

    fn serialize_seq(self, _len: Option<usize>) -> Result<Items<'b>, Failed> {
        Ok(self.items())
    }

    fn serialize_tuple(self, _len: usize) -> Result<Items<'b>, Failed> {
        Ok(self.items())
    }

    fn serialize_tuple_struct(self, _type: &'static str, _len: usize) -> Result<Items<'b>, Failed> {
        Ok(self.items())
    }

    fn serialize_tuple_variant(
        self,
        _type: &'static str,
        _index: u32,
        name: &'static str,
        _len: usize,
    ) -> Result<Items<'b>, Failed> {
        Ok(self.variant(name).items())
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Entries<'b>, Failed> {
        Ok(self.entries())
    }

    fn serialize_struct(self, _type: &'static str, _len: usize) -> Result<Entries<'b>, Failed> {
        Ok(self.entries())
    }

    fn serialize_struct_variant(
        self,
        _type: &'static str,
        _index: u32,
        name: &'static str,
        _len: usize,
    ) -> Result<Entries<'b>, Failed> {
        Ok(self.variant(name).entries())
    }
}

/// A sequence of which the first items have been written.
struct Items<'b>(&'b mut Vec<u8>);

/// The entries of a map or a struct, which are sorted at the end.
struct Entries<'b> {
    out: &'b mut Vec<u8>,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entries<'_> {
    fn key<K: Serialize + ?Sized>(&mut self, key: &K) -> Encoded {
        let mut bytes = Vec::new();
        key.serialize(Encoder(&mut bytes))?;
        self.entries.push((bytes, Vec::new()));
        Ok(())
    }

    fn value<V: Serialize + ?Sized>(&mut self, value: &V) -> Encoded {
        let (_, bytes) = self.entries.last_mut().expect("serde passes the key before its value");
        value.serialize(Encoder(bytes))
    }

    fn finish(mut self) -> Encoded {
        self.entries.sort();
        self.out.push(b'{');
        self.out.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        self.entries.iter().for_each(|(key, value)| self.out.extend(key.iter().chain(value)));
        Ok(())
    }
}

macro_rules! sequences {
    ($($trait:ident $method:ident),*) => {$(
        impl ser::$trait for Items<'_> {
            type Ok = ();
            type Error = Failed;

            fn $method<V: Serialize + ?Sized>(&mut self, value: &V) -> Encoded {
                self.0.push(b',');
                value.serialize(Encoder(self.0))
            }

            fn end(self) -> Encoded {
                self.0.push(b']');
                Ok(())
            }
        }
    )*};
}

sequences!(SerializeSeq serialize_element, SerializeTuple serialize_element);
sequences!(SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);

macro_rules! structs {
    ($($trait:ident),*) => {$(
        impl ser::$trait for Entries<'_> {
            type Ok = ();
            type Error = Failed;

            fn serialize_field<V: Serialize + ?Sized>(&mut self, name: &'static str, value: &V) -> Encoded {
                self.key(name)?;
                self.value(value)
            }

            fn end(self) -> Encoded {
                self.finish()
            }
        }
    )*};
}

structs!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Entries<'_> {
    type Ok = ();
    type Error = Failed;

    fn serialize_key<K: Serialize + ?Sized>(&mut self, key: &K) -> Encoded {
        self.key(key)
    }

    fn serialize_value<V: Serialize + ?Sized>(&mut self, value: &V) -> Encoded {
        self.value(value)
    }

    fn end(self) -> Encoded {
        self.finish()
    }
}

#[cfg(test)]
mod tests;
