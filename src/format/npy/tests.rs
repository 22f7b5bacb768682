//! Tests of round trips, of damaged headers, and of the time and memory that a hostile header can cost.

use std::io;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

/// The maximum time that decoding a hostile header may take.
const TIME_LIMIT: Duration = Duration::from_millis(100);

/// Returns the bytes of a file of this version. The header consists of `text` exactly: the function neither checks it
/// nor pads it.
fn file(major: u8, text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap().to_le_bytes();
    let field = if major == 1 { &length[..2] } else { &length[..] };
    [MAGIC, &[major, 0], field, text].concat()
}

fn decode_text(major: u8, text: &str) -> Result<Header> {
    decode(&mut file(major, text.as_bytes()).as_slice())
}

/// Decodes a header. Asserts that decoding stays within the time limit, and reads no more bytes than the longest valid
/// header has.
fn decode_bounded(bytes: &[u8]) -> Result<Header> {
    struct Counting<'a>(&'a [u8], usize);
    impl Read for Counting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read(buffer)?;
            self.1 += count;
            Ok(count)
        }
    }
    // The best of three attempts counts, because a busy machine can interrupt this thread for longer than the limit.
    let within_limit = || {
        let start = Instant::now();
        let mut reader = Counting(bytes, 0);
        let result = decode(&mut reader);
        assert!(reader.1 <= 12 + 4 * MAX_TEXT_CHARS, "read {} bytes", reader.1);
        (start.elapsed() < TIME_LIMIT).then_some(result)
    };
    (0..3).find_map(|_| within_limit()).expect("a result within 100 ms")
}

fn assert_invalid(bytes: &[u8], words: &str) {
    let error = decode_bounded(bytes).expect_err("a damaged header");
    assert_eq!(error.kind(), ErrorKind::InvalidHeader, "{error}");
    assert!(error.to_string().contains(words), "{words:?} is not in {error}");
}

#[test]
fn headers_equal_those_of_numpy_byte_for_byte() {
    let mut expected = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    expected.extend_from_slice(b"{'descr': '<f4', 'fortran_order': False, 'shape': (10, 20, 3), }");
    expected.resize(127, b' ');
    expected.push(b'\n');
    assert_eq!(encode("<f4", false, &[10, 20, 3]).unwrap(), expected);
}

#[test]
fn headers_of_no_and_one_dimension_are_spelt_as_python_tuples() {
    let text =
        |shape: &[usize]| String::from_utf8(encode("|u1", true, shape).unwrap()[10..].to_vec()).unwrap();
    assert!(text(&[]).starts_with("{'descr': '|u1', 'fortran_order': True, 'shape': (), } "));
    assert!(text(&[0]).starts_with("{'descr': '|u1', 'fortran_order': True, 'shape': (0,), } "));
    assert!(text(&[5, 0]).starts_with("{'descr': '|u1', 'fortran_order': True, 'shape': (5, 0), } "));
}

#[test]
fn a_growing_axis_does_not_move_the_data() {
    for (fortran_order, trailing) in [(false, &[7, 11][..]), (true, &[7, 11]), (false, &[]), (true, &[])] {
        let header_bytes = |length: usize| {
            let mut shape = trailing.to_vec();
            shape.insert(if fortran_order { trailing.len() } else { 0 }, length);
            encode("<f8", fortran_order, &shape).unwrap().len()
        };
        for length in [0, 9, 10, 99_999, usize::MAX / 2, usize::MAX] {
            assert_eq!(header_bytes(length), header_bytes(1), "{length} {trailing:?} {fortran_order}");
        }
    }
}

#[test]
fn long_headers_have_version_2() {
    let descr = format!("[{}]", "('a', '<f4'), ".repeat(5_000));
    let header = encode(&descr, false, &[3]).unwrap();
    assert_eq!(header[6..8], [2, 0]);
    assert_eq!(header.len() % ALIGNMENT_BYTES, 0);
    assert_eq!(u32::from_le_bytes(header[8..12].try_into().unwrap()) as usize, header.len() - 12);
    assert_invalid(&header, "at most 10000 characters");
}

#[test]
fn invalid_arguments_are_refused() {
    for descr in ["", "<f4'", "a\\", "<f4\n", "[('é', '<f4')]"] {
        assert_eq!(encode(descr, false, &[1]).unwrap_err().kind(), ErrorKind::InvalidInput, "{descr:?}");
    }
    let error = encode("<f4", false, &[1; 65]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("expected at most 64 dimensions"), "{error}");
    assert!(encode("<f4", false, &[1; 64]).is_ok());
}

#[test]
fn the_reader_is_left_at_the_data() {
    let mut bytes = encode("<f4", false, &[2]).unwrap();
    bytes.extend_from_slice(b"12345678");
    let mut reader = bytes.as_slice();
    assert_eq!(decode(&mut reader).unwrap().data_offset, 128);
    assert_eq!(reader, b"12345678");
}

#[test]
fn every_truncation_is_reported_as_such() {
    for shape in [&[][..], &[3], &[10, 20, 3]] {
        let bytes = encode("<f4", false, shape).unwrap();
        for length in 0..bytes.len() {
            assert_invalid(&bytes[..length], "the end of the file after");
        }
    }
}

#[test]
fn magic_and_version_are_checked() {
    let error = decode_bounded(b"PK\x03\x04\x14\x00\x00\x00").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidHeader);
    assert_eq!(
        error.to_string(),
        "read NPY header: expected the magic bytes \\x93NUMPY at the start, found `PK\\x03\\x04\\x14\\x00`; \
         a file without a header is opened with Format::Raw"
    );
    for version in [[0, 0], [1, 1], [2, 1], [3, 1], [4, 0], [255, 255]] {
        let words = format!("expected version 1.0, 2.0 or 3.0, found version {}.{}", version[0], version[1]);
        assert_invalid(&[MAGIC, &version, &[118, 0, 0, 0]].concat(), &words);
    }
}

#[test]
fn a_length_of_four_gigabytes_is_refused_before_reading() {
    for version in [2, 3] {
        assert_invalid(&[MAGIC, &[version, 0], &[0xff; 4]].concat(), "found one of 4294967295 bytes");
    }
    assert_invalid(&[MAGIC, &[1, 0], &[0xff; 2]].concat(), "found one of 65535 bytes");
}

#[test]
fn the_longest_text_is_the_one_of_numpy() {
    let dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
    let padded = |length: usize| format!("{dict:length$}");
    for version in 1..=3 {
        assert_eq!(decode_text(version, &padded(10_000)).unwrap().shape, [3]);
        assert_invalid(&file(version, padded(10_001).as_bytes()), "at most 10000 characters");
    }
    let field = format!("[('{}', '<f4')]", "é".repeat(9_900));
    let text = dict.replace("'<f4'", &field);
    assert_eq!(decode_text(3, &text).unwrap().descr, field);
}

#[test]
fn versions_differ_in_their_encoding() {
    let text = "{'descr': [('é', '<f4')], 'fortran_order': False, 'shape': (3,), }\n";
    let latin1: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
    assert_eq!(decode(&mut file(1, &latin1).as_slice()).unwrap().descr, "[('é', '<f4')]");
    assert_eq!(decode(&mut file(2, &latin1).as_slice()).unwrap().descr, "[('é', '<f4')]");
    assert_eq!(decode_text(3, text).unwrap().descr, "[('é', '<f4')]");
    assert_invalid(&file(3, &latin1), "text in UTF-8");
}

#[test]
fn python_2_integers_are_read_in_versions_1_and_2() {
    let text = "{'descr': '<f4', 'fortran_order': True, 'shape': (3L, 40L), }\n";
    assert_eq!(decode_text(1, text).unwrap().shape, [3, 40]);
    assert_eq!(decode_text(2, text).unwrap().shape, [3, 40]);
    assert_invalid(&file(3, text.as_bytes()), "found `3L, 40L");
}

#[test]
fn deep_nesting_is_refused_cheaply() {
    for bracket in ["(", "[", "{", "[(", "{'descr':", "[[(", "'", "\\", "-", "\"\"\"", "0,", "(0,"] {
        let bomb = bracket.repeat(10_000 / bracket.len());
        let dict =
            |entry: &str| entry.replace('@', &bomb)[..10_000.min(entry.len() - 1 + bomb.len())].to_owned();
        for text in [
            bomb.clone(),
            dict("{'descr': @"),
            dict("{'descr': '<f4', 'fortran_order': @"),
            dict("{'descr': '<f4', 'fortran_order': False, 'shape': @"),
            dict("{'descr': '<f4', 'fortran_order': False, 'shape': (@"),
            dict("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), @"),
            dict("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }@"),
        ] {
            for version in 1..=3 {
                assert_invalid(&file(version, text.as_bytes()), "expected");
            }
        }
    }
}

#[test]
fn deep_nesting_with_closed_brackets_is_refused() {
    let nested = |depth: usize| {
        let descr = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (3,), }}")
    };
    assert_eq!(decode_text(1, &nested(32)).unwrap().descr.len(), 64);
    assert_invalid(&file(1, nested(33).as_bytes()), "at most 32 levels");
    assert_invalid(&file(1, nested(4_900).as_bytes()), "at most 32 levels");
}

#[test]
fn shapes_that_cannot_be_addressed_are_an_overflow() {
    let shapes = [
        "(18446744073709551616,)",
        "(18446744073709551615,)",
        "(9223372036854775808,)",
        "(4294967296, 4294967296)",
        "(4294967296, 2147483648)",
        "(0, 4294967296, 4294967296)",
        "(99999999999999999999999999999999999999,)",
        "(3037000500, 3037000500)",
    ];
    for shape in shapes {
        let text = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
        let error = decode_bounded(&file(1, text.as_bytes())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::SizeOverflow, "{error}");
        assert!(error.to_string().contains("expected a number of elements that fits"), "{error}");
    }
    let long = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}", "9".repeat(9_900));
    let error = decode_bounded(&file(1, long.as_bytes())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SizeOverflow);
    assert!(error.to_string().len() < 200, "{error}");
}

#[test]
#[cfg(target_pointer_width = "64")]
fn the_largest_shape_is_read() {
    let largest = isize::MAX as usize;
    let bytes = encode("|u1", false, &[largest, 1, 0]).unwrap();
    assert_eq!(decode_bounded(&bytes).unwrap().shape, [largest, 1, 0]);
}

#[test]
fn foreign_dtypes_are_returned_verbatim() {
    for descr in
        ["<M8[ns]", "<m8[25s]", "|O", "<U7", "|S4", "|V3", ">f4", "=f4", "f4", "<f4,<i4", "|b1", "<f2"]
    {
        assert_eq!(decode(&mut encode(descr, false, &[3]).unwrap().as_slice()).unwrap().descr, descr);
    }
    let structured = "[('x', '<f4', (2, 3)), (('titled, ]', 'y'), [('z', '|S1'), ('', '|V3')])]";
    assert_eq!(decode(&mut encode(structured, true, &[3]).unwrap().as_slice()).unwrap().descr, structured);
    assert_eq!(
        decode(&mut encode("('<f4', (2,))", true, &[]).unwrap().as_slice()).unwrap().descr,
        "('<f4', (2,))"
    );
}

#[test]
fn an_error_of_the_reader_is_returned() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from(io::ErrorKind::PermissionDenied))
        }
    }
    assert_eq!(decode(&mut Failing).unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[test]
fn readers_of_one_byte_at_a_time_work() {
    struct Dripping<'a>(&'a [u8]);
    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = buffer.len().min(1);
            self.0.read(&mut buffer[..count])
        }
    }
    let bytes = encode("<f4", false, &[10, 20, 3]).unwrap();
    assert_eq!(decode(&mut Dripping(&bytes)).unwrap().shape, [10, 20, 3]);
}

/// Generates shapes, some of them with lengths of zero. The number of elements always fits the address space.
fn shapes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![4 => 0..200_usize, 1 => Just(1), 1 => 0..100_000_usize], 0..=3)
}

fn descrs() -> impl Strategy<Value = String> {
    prop_oneof![
        "[<>|=]?[a-zA-Z?][0-9]{0,3}",
        "<[mM]8\\[[1-9]?(ns|D)\\]",
        "\\[\\('[a-z]{1,9}', '<f[48]'\\)\\]"
    ]
}

/// Generates headers of every version, with and without padding.
fn headers() -> impl Strategy<Value = Vec<u8>> {
    (1..=3_u8, descrs(), any::<bool>(), shapes()).prop_map(|(major, descr, fortran_order, shape)| {
        file(major, &encode(&descr, fortran_order, &shape).unwrap()[10..])
    })
}

proptest! {
    #[test]
    fn encoded_headers_decode_to_the_same_values(descr in descrs(), fortran_order: bool, shape in shapes()) {
        let bytes = encode(&descr, fortran_order, &shape).unwrap();
        let data_offset = bytes.len() as u64;
        prop_assert_eq!(data_offset % 64, 0);
        prop_assert_eq!(bytes.last(), Some(&b'\n'));
        let header = Header { descr, fortran_order, shape, data_offset, version: (bytes[6], bytes[7]) };
        prop_assert_eq!(decode_bounded(&bytes).unwrap(), header);
    }

    #[test]
    fn npyz_decodes_encoded_headers(fortran_order: bool, shape in shapes()) {
        let bytes = encode("<f4", fortran_order, &shape).unwrap();
        let header = npyz::NpyHeader::from_reader(bytes.as_slice()).unwrap();
        let lengths: Vec<u64> = shape.iter().map(|&length| length as u64).collect();
        prop_assert_eq!(header.shape(), lengths);
        prop_assert_eq!(header.order() == npyz::Order::Fortran, fortran_order);
        prop_assert_eq!(header.dtype().descr(), "'<f4'");
    }

    #[test]
    fn damaged_headers_never_panic(
        mut bytes in headers(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0..5_u8, any::<u8>()), 1..8),
    ) {
        for (index, edit, byte) in edits {
            let at = index.index(bytes.len());
            match edit {
                0 => bytes[at] = byte,
                1 => bytes[at] ^= 1 << (byte % 8),
                2 => bytes.insert(at, b"{}[]()'\",:L0 9-\\\n"[usize::from(byte) % 17]),
                3 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes.extend_from_within(at..),
            }
        }
        if let Ok(header) = decode_bounded(&bytes) {
            let count = header.shape.iter().filter(|&&length| length > 0).try_fold(1_isize, |count, &length| {
                count.checked_mul(isize::try_from(length).ok()?)
            });
            prop_assert!(count.is_some(), "{:?}", header);
            prop_assert!(header.data_offset as usize <= bytes.len());
        }
    }

    #[test]
    fn arbitrary_bytes_after_the_prefix_never_panic(major in 1..=3_u8, text in prop::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(decode_bounded(&file(major, &text)).is_err());
    }

    #[test]
    fn texts_of_random_python_tokens_never_panic(
        major in 1..=3_u8,
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "(", ")", "[", "]", ",", ":", " ", "\n", "'descr'", "'fortran_order'", "'shape'", "'<f4'",
                "True", "False", "3", "3L", "-1", "99999999999", "'", "\\", "(3,)", "{'descr': ",
            ]),
            0..2_000,
        ),
    ) {
        let mut text = tokens.concat();
        text.truncate(10_000);
        let _: Result<Header> = decode_bounded(&file(major, text.as_bytes()));
    }
}
