//! A strict parser for the dictionary in an NPY header: `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
//!
//! numpy reads this text with Python's own parser. The parser here accepts only the forms that numpy has ever written.
//! This parser does not recurse and reads each character once, so hostile text costs no more time than valid text. It
//! refuses forms that numpy would accept but never writes: comments, repeated keys, escapes, hexadecimal or signed
//! lengths, and parentheses other than those of the shape.

use crate::error::{Error, ErrorKind, Result};
use std::borrow::Cow;

/// The name of the operation in the errors of this module. Callers replace it by the name of their own operation.
pub(super) const READ: &str = "read NPY header";

/// The maximum number of dimensions, which is numpy's own limit (`NPY_MAXDIMS`, since numpy 2.0). numpy cannot open a
/// file with more dimensions.
pub(super) const MAX_DIMENSIONS: usize = 64;

/// The maximum nesting depth of a structured dtype.
const MAX_DESCR_DEPTH: usize = 32;

/// The number of characters of the header that an error message quotes.
const SHOWN_CHARS: usize = 24;

const KEYS: &str = "each of the keys 'descr', 'fortran_order' and 'shape' once";

/// The three entries of the dictionary. Each length fits `usize`, and the product of the lengths that are not zero fits
/// `isize`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dict {
    /// The text between the quotes, or, for a structured dtype, the whole list or tuple.
    pub descr: String,
    pub fortran_order: bool,
    pub shape: Vec<usize>,
}

/// Whether an integer may end in `L`, as Python 2 writes long integers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LongSuffix {
    Allowed,
    Refused,
}

/// Parses the text of a header, which starts after the magic bytes, the version and the length.
pub(super) fn parse(text: &str, long_suffix: LongSuffix) -> Result<Dict> {
    let mut scanner = Scanner { text, position: 0, long_suffix };
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    scanner.expect('{')?;
    while !scanner.eat('}') {
        let key = scanner.string()?;
        scanner.expect(':')?;
        let first = match key {
            "descr" => descr.replace(scanner.descr()?).is_none(),
            "fortran_order" => fortran_order.replace(scanner.boolean()?).is_none(),
            "shape" => shape.replace(scanner.shape()?).is_none(),
            _ => return Err(invalid(KEYS, format!("the key '{}'", excerpt(key)))),
        };
        if !first {
            return Err(invalid(KEYS, format!("'{key}' twice")));
        }
        if !scanner.eat(',') {
            scanner.expect('}')?;
            break;
        }
    }
    scanner.end()?;
    match (descr, fortran_order, shape) {
        (Some(descr), Some(fortran_order), Some(shape)) => Ok(Dict { descr, fortran_order, shape }),
        (None, ..) => Err(invalid(KEYS, "no 'descr'")),
        (_, None, _) => Err(invalid(KEYS, "no 'fortran_order'")),
        (.., None) => Err(invalid(KEYS, "no 'shape'")),
    }
}

pub(super) fn invalid(expected: impl Into<Cow<'static, str>>, found: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidHeader, READ, expected, found.into())
        .with_remedy("write the file again with `numpy.save`, or open its bytes with `Format::Raw`")
}

/// The text, and the parser's position in the text. `position` is always on a character boundary.
struct Scanner<'a> {
    text: &'a str,
    position: usize,
    long_suffix: LongSuffix,
}

impl<'a> Scanner<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.position..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Returns the next `length_bytes` bytes of the text, and moves the position to their end.
    fn take(&mut self, length_bytes: usize) -> &'a str {
        let taken = &self.rest()[..length_bytes];
        self.position += length_bytes;
        taken
    }

    /// Skips the characters that Python treats as white space inside brackets.
    fn skip_space(&mut self) {
        let rest = self.rest();
        let next = rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c']);
        self.position += rest.len() - next.len();
    }

    /// Skips white space, and then skips `wanted` if it is the next character. Returns whether `wanted` was skipped.
    fn eat(&mut self, wanted: char) -> bool {
        self.skip_space();
        let comes = self.rest().starts_with(wanted);
        if comes {
            self.position += wanted.len_utf8();
        }
        comes
    }

    fn expect(&mut self, wanted: char) -> Result<()> {
        if self.eat(wanted) {
            return Ok(());
        }
        Err(invalid(format!("`{wanted}`"), self.found()))
    }

    fn end(&mut self) -> Result<()> {
        self.skip_space();
        if self.rest().is_empty() {
            Ok(())
        } else {
            Err(invalid("nothing after the dictionary", self.found()))
        }
    }

    /// Describes the text at the current position, for messages.
    fn found(&self) -> String {
        match self.rest() {
            "" => "the end of the header".to_owned(),
            rest => format!("`{}` at byte {} of its text", excerpt(rest), self.position),
        }
    }

    /// Reads a quoted string of printable ASCII characters without escapes.
    fn string(&mut self) -> Result<&'a str> {
        const EXPECTED: &str = "a quoted string of printable ASCII characters";
        self.skip_space();
        let Some(quote @ ('\'' | '"')) = self.peek() else {
            return Err(invalid(EXPECTED, self.found()));
        };
        let body = &self.rest()[1..];
        match body.find(|c: char| c == quote || c == '\\' || !matches!(c, ' '..='~')) {
            Some(length_bytes) if body[length_bytes..].starts_with(quote) => {
                Ok(&self.take(length_bytes + 2)[1..=length_bytes])
            }
            _ => Err(invalid(EXPECTED, self.found())),
        }
    }

    fn descr(&mut self) -> Result<String> {
        self.skip_space();
        match self.peek() {
            Some('[' | '(') => self.structured_descr().map(str::to_owned),
            _ => self.string().map(str::to_owned),
        }
    }

    /// Reads a list or tuple up to the bracket that closes it, and returns its text without interpreting it.
    fn structured_descr(&mut self) -> Result<&'a str> {
        let mut open_brackets = Vec::new();
        let mut open_quote = None;
        let mut escaped = false;
        for (offset, c) in self.rest().char_indices() {
            match (c, open_quote) {
                _ if escaped => escaped = false,
                ('\\', Some(_)) => escaped = true,
                (_, Some(quote)) if c == quote => open_quote = None,
                (_, Some(_)) => {}
                ('\'' | '"', None) => open_quote = Some(c),
                ('[', None) => open_brackets.push(']'),
                ('(', None) => open_brackets.push(')'),
                (']' | ')', None) if open_brackets.pop() != Some(c) => break,
                _ => {}
            }
            if open_brackets.is_empty() {
                return Ok(self.take(offset + c.len_utf8()));
            }
            if open_brackets.len() > MAX_DESCR_DEPTH {
                return Err(invalid("a dtype nested at most 32 levels deep", self.found()));
            }
        }
        Err(invalid("a dtype whose brackets and quotes close", self.found()))
    }

    fn boolean(&mut self) -> Result<bool> {
        self.skip_space();
        let word = self.word();
        match word {
            "True" | "False" => Ok(self.take(word.len()) == "True"),
            _ => Err(invalid("`True` or `False` for 'fortran_order'", self.found())),
        }
    }

    /// Returns the letters and digits at the current position.
    fn word(&self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        end.map_or(rest, |end| &rest[..end])
    }

    /// Reads a tuple of lengths. A tuple of one length needs a comma, as in Python.
    fn shape(&mut self) -> Result<Vec<usize>> {
        let mut shape = Vec::new();
        self.expect('(')?;
        while !self.eat(')') {
            if shape.len() == MAX_DIMENSIONS {
                return Err(invalid("a shape of at most 64 dimensions", "more"));
            }
            shape.push(self.length()?);
            if !self.eat(',') {
                self.expect(if shape.len() == 1 { ',' } else { ')' })?;
                break;
            }
        }
        check_product(&shape)?;
        Ok(shape)
    }

    /// Reads one length: decimal digits, and an `L` after the digits if `long_suffix` allows it.
    fn length(&mut self) -> Result<usize> {
        self.skip_space();
        let word = self.word();
        let digits = match self.long_suffix {
            LongSuffix::Allowed => word.strip_suffix('L').unwrap_or(word),
            LongSuffix::Refused => word,
        };
        let leading_zero = digits.len() > 1 && digits.starts_with('0');
        if digits.is_empty() || leading_zero || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(invalid("a length of zero or more in decimal digits", self.found()));
        }
        let length = digits.parse().map_err(|_| too_large(excerpt(digits)))?;
        self.take(word.len());
        Ok(length)
    }
}

/// Returns an error unless the product of the lengths fits `isize`. As in ndarray, lengths of zero are left out of the
/// product.
fn check_product(shape: &[usize]) -> Result<()> {
    let nonzero = shape.iter().filter(|&&length| length != 0);
    let count = nonzero.clone().try_fold(1_usize, |count, &length| count.checked_mul(length));
    match count {
        Some(count) if isize::try_from(count).is_ok() => Ok(()),
        _ => Err(too_large(format!("the shape {shape:?}"))),
    }
}

fn too_large(found: String) -> Error {
    Error::new(ErrorKind::SizeOverflow, READ, "a number of elements that fits the address space", found)
        .with_remedy("write the file again with `numpy.save`")
}

/// Returns the first characters of `text`, with control characters replaced.
fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push_str("..");
    }
    shown.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Dict> {
        parse(text, LongSuffix::Allowed)
    }

    fn shape_of(shape: &str) -> Result<Vec<usize>> {
        read(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"))
            .map(|dict| dict.shape)
    }

    fn assert_refused(text: &str, words: &str) {
        let error = read(text).expect_err(text);
        assert_eq!(error.kind(), ErrorKind::InvalidHeader, "{text:?}: {error}");
        assert!(error.to_string().contains(words), "{text:?}: {words:?} is not in {error}");
    }

    #[test]
    fn any_order_of_keys_and_any_white_space_is_accepted() {
        let expected = Dict { descr: "<f4".to_owned(), fortran_order: true, shape: vec![3, 4] };
        for text in [
            "{'descr': '<f4', 'fortran_order': True, 'shape': (3, 4), }   \n",
            "{'shape':(3,4),'fortran_order':True,'descr':'<f4'}",
            " \n{ \"shape\" : ( 3 ,\r\n 4 , ) ,\t'fortran_order' : True , 'descr' : \"<f4\" }\n\n",
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn shapes_are_python_tuples() {
        assert_eq!(shape_of("()").unwrap(), []);
        assert_eq!(shape_of("( )").unwrap(), []);
        assert_eq!(shape_of("(0,)").unwrap(), [0]);
        assert_eq!(shape_of("(3L, 4L)").unwrap(), [3, 4]);
        for shape in [
            "(3)", "3", "[3]", "(,)", "(3,,)", "(3 4)", "(-3,)", "(+3,)", "(0x3,)", "(1_0,)", "(03,)",
            "(3.0,)", "(3e0,)", "(True,)", "(3 L,)", "(3l,)", "(3LL,)", "(L,)", "((3),)", "((3,),)", "(3,",
            "'(3,)'", "(٣,)",
        ] {
            assert_eq!(shape_of(shape).expect_err(shape).kind(), ErrorKind::InvalidHeader, "{shape}");
        }
    }

    #[test]
    fn at_most_64_dimensions_are_read() {
        assert_eq!(shape_of(&format!("({})", "1, ".repeat(64))).unwrap(), [1; 64]);
        let error = shape_of(&format!("({})", "1, ".repeat(65))).unwrap_err();
        assert!(error.to_string().contains("expected a shape of at most 64 dimensions"), "{error}");
    }

    #[test]
    fn each_key_must_come_exactly_once() {
        assert_refused("{}", "found no 'descr'");
        assert_refused("{'descr': '<f4', 'shape': (3,)}", "found no 'fortran_order'");
        assert_refused("{'descr': '<f4', 'fortran_order': False}", "found no 'shape'");
        assert_refused(
            "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}",
            "found 'descr' twice",
        );
        assert_refused("{'shape': (2,), 'shape': (3,), ", "found 'shape' twice");
        assert_refused("{'fortran_order': True, 'fortran_order': True", "found 'fortran_order' twice");
        assert_refused("{'descr': '<f4', 'x': 1, 'fortran_order': False, 'shape': ()}", "found the key 'x'");
    }

    #[test]
    fn nothing_but_white_space_surrounds_the_dictionary() {
        let dict = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
        for (before, after) in
            [("", "x"), ("", " # c"), ("", "\0"), ("", dict), ("", "}"), ("(", ")"), ("\u{b}", "")]
        {
            let text = format!("{before}{dict}{after}");
            assert_eq!(read(&text).expect_err(&text).kind(), ErrorKind::InvalidHeader);
        }
        assert_refused("", "expected `{`, found the end of the header");
    }

    #[test]
    fn errors_name_the_position_of_the_refused_text() {
        assert_refused(
            "{'descr': 4}",
            "a quoted string of printable ASCII characters, found `4}` at byte 10",
        );
        assert_refused("{'descr': '<f4', 'fortran_order': 0, ", "expected `True` or `False`");
        assert_refused("{'descr': '<f4', 'fortran_order': Falsehood, ", "found `Falsehood,");
        assert_refused("{'descr': '<f4' 'shape': ()}", "expected `}`, found `'shape': ()}` at byte 16");
        assert_refused("{'descr' '<f4'}", "expected `:`");
        assert_refused("{'descr': '<f4',, }", "found `,");
        assert_refused("{descr: '<f4'}", "found `descr: '<f4'}`");
    }

    #[test]
    fn only_plain_strings_are_accepted() {
        for value in
            ["'<f4", "'<f4\"", "'\\x3cf4'", "'<f\n4'", "'<fé'", "u'<f4'", "b'<f4'", "'''<f4'''", "'<' 'f4'"]
        {
            assert_refused(&format!("{{'descr': {value}, "), "expected ");
        }
    }

    #[test]
    fn structured_dtypes_are_returned_verbatim() {
        for descr in [
            "[('a', '<f4')]",
            "[('a]', '<f4'), (\"b'\", [('c', '|u1', (2,))])]",
            "[('it\\'s ]', '<f4')]",
            "('<f4', (2,))",
            "[]",
        ] {
            let text = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (), }}");
            assert_eq!(read(&text).unwrap().descr, descr);
        }
        for descr in ["[(]", "[)", "[('a]", "[('a\\']", "(('<f4', (2,))"] {
            assert_refused(&format!("{{'descr': {descr}"), "whose brackets and quotes close");
        }
    }
}
