use super::*;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

#[derive(Serialize)]
struct Pair {
    first: u8,
    second: f32,
}

#[derive(Serialize)]
struct Swapped {
    second: f64,
    first: i64,
}

#[derive(Serialize)]
struct Wrapped(f64);

#[derive(Serialize)]
enum Choice {
    None,
    One(u8),
    Two(u8, u8),
    Named { first: u8 },
}

fn bytes(value: impl Serialize) -> Vec<u8> {
    canonical(&value).unwrap()
}

#[test]
fn equal_values_have_equal_bytes() {
    assert_eq!(bytes(5_u8), bytes(5_i128));
    assert_eq!(bytes(5_u128), bytes(5_i64));
    assert_eq!(bytes(0.5_f32), bytes(0.5_f64));
    assert_eq!(bytes(f64::NAN), bytes(-f64::NAN));
    assert_eq!(bytes(f32::from_bits(0x7f80_0001)), bytes(f64::NAN), "a signalling NaN");
    assert_eq!(bytes([1, 2]), bytes(vec![1, 2]));
    assert_eq!(bytes((1, 2)), bytes([1_u64, 2]));
    assert_eq!(bytes(Wrapped(0.5)), bytes(0.5));
    assert_eq!(bytes('x'), bytes("x"));
    assert_eq!(bytes(Pair { first: 1, second: 0.5 }), bytes(Swapped { second: 0.5, first: 1 }));
    let hashed: HashMap<_, _> = (0..100).map(|key| (key, key)).collect();
    let ordered: BTreeMap<_, _> = (0..100).map(|key| (key, key)).collect();
    assert_eq!(bytes(hashed), bytes(ordered));
}

#[test]
fn different_values_have_different_bytes() {
    let all = [
        bytes(0),
        bytes(0.0),
        bytes(-0.0),
        bytes(f64::NAN),
        bytes(f64::INFINITY),
        bytes(0.1_f32),
        bytes(0.1_f64),
        bytes(-1),
        bytes(u64::MAX),
        bytes(u128::MAX),
        bytes(false),
        bytes(""),
        bytes("0"),
        bytes(()),
        bytes(None::<u8>),
        bytes(Some(None::<u8>)),
        bytes(Some(0)),
        bytes([0; 0]),
        bytes([0]),
        bytes([[0], [0]]),
        bytes([[0, 0]]),
        bytes(("a", "b")),
        bytes(("ab", "")),
        bytes(Choice::None),
        bytes("None"),
        bytes(Choice::One(0)),
        bytes(Choice::Two(0, 0)),
        bytes(Choice::Named { first: 0 }),
        bytes(Pair { first: 0, second: 0.0 }),
        bytes(BTreeMap::from([("a", 1)])),
        bytes(BTreeMap::<u8, u8>::new()),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "value {index} has the bytes of another value");
    }
}

#[test]
fn an_error_of_serialize_is_returned() {
    struct Refuses;
    impl Serialize for Refuses {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(ser::Error::custom("no"))
        }
    }
    assert_eq!(canonical(&[Refuses]), Err("no".to_owned()));
}
