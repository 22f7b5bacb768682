//! Readers of crash states that share no code with the crate: a strict parser of NPY files, and numpy.

use super::table::Array;
use ndarray::Array2;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// Reads a two-dimensional NPY file of `u32` elements, as numpy does. Ignores bytes after the elements, as numpy does.
pub(super) fn read_npy(bytes: &[u8]) -> Result<Array, String> {
    let rest = bytes.strip_prefix(b"\x93NUMPY\x01\x00").ok_or("no magic string")?;
    let (len, rest) = rest.split_at_checked(2).ok_or("no header length")?;
    let len = usize::from(u16::from_le_bytes([len[0], len[1]]));
    let (header, data) = rest.split_at_checked(len).ok_or("a short header")?;
    let header = std::str::from_utf8(header).map_err(|error| error.to_string())?;
    let dict = header.strip_suffix('\n').ok_or("no newline")?.trim_end_matches(' ');
    let shape =
        dict.strip_prefix("{'descr': '<u4', 'fortran_order': False, 'shape': (").ok_or("another dict")?;
    let shape = shape.strip_suffix("), }").ok_or("another end of the dict")?;
    let (rows, columns) = shape.split_once(", ").ok_or("another shape")?;
    let number = |text: &str| text.parse::<usize>().map_err(|error| error.to_string());
    let (rows, columns) = (number(rows)?, number(columns)?);
    let needed = rows.checked_mul(columns).and_then(|count| count.checked_mul(4)).ok_or("a huge shape")?;
    elements(data.get(..needed).ok_or("short data")?, (rows, columns))
}

/// Reads the elements of a file without header.
pub(super) fn elements(bytes: &[u8], shape: (usize, usize)) -> Result<Array, String> {
    let elements = bytemuck::pod_collect_to_vec(bytes);
    Array2::from_shape_vec(shape, elements).map_err(|error| error.to_string())
}

/// A process that loads NPY files with numpy.
pub(super) struct Numpy {
    process: Child,
    paths: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    pub(super) loaded: usize,
}

const PROGRAM: &str = "
import sys, numpy
print(numpy.__version__, flush=True)
for line in sys.stdin:
    try:
        array = numpy.load(line.rstrip('\\n'), mmap_mode='r')
        flat = array.ravel().astype(numpy.uint64)
        total = int((flat * numpy.arange(1, flat.size + 1, dtype=numpy.uint64)).sum(dtype=numpy.uint64))
        print(array.dtype.str, *array.shape, total, flush=True)
    except Exception as error:
        print('error', repr(error).replace('\\n', ' '), flush=True)
";

impl Numpy {
    /// Starts numpy. Returns `None` if this machine has no numpy.
    pub(super) fn start() -> Option<Self> {
        let python = std::env::var_os("NDARRAY_MMAP_PYTHON").unwrap_or("python3".into());
        let mut command = Command::new(python);
        command.args(["-c", PROGRAM]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().ok()?;
        let (paths, answers) = (process.stdin.take(), BufReader::new(process.stdout.take()?));
        let mut numpy = Self { process, paths, answers, loaded: 0 };
        let version = numpy.answer();
        (!version.is_empty()).then_some(numpy)
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_string()
    }

    /// Checks that numpy loads the file, and finds this array.
    pub(super) fn check(&mut self, path: &Path, expected: &Array) -> Result<(), String> {
        self.loaded += 1;
        let paths = self.paths.as_mut().expect("it is open until the process ends");
        writeln!(paths, "{}", path.display()).map_err(|error| error.to_string())?;
        let answer = self.answer();
        let terms = expected.iter().zip(1_u64..).map(|(&element, place)| u64::from(element) * place);
        let total = terms.fold(0, u64::wrapping_add);
        let wanted = format!("<u4 {} {} {total}", expected.nrows(), expected.ncols());
        if answer == wanted { Ok(()) } else { Err(format!("numpy: {answer}, expected {wanted}")) }
    }
}

impl Drop for Numpy {
    fn drop(&mut self) {
        self.paths = None; // numpy ends at the end of its input
        let _ = self.process.wait();
    }
}

#[test]
fn the_strict_reader_reads_what_this_crate_writes_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("array.npy");
    let mut array = crate::MmapArray::<u32, ndarray::Ix2>::create(&path, (5, 3)).unwrap();
    array.fill(7);
    array.close().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(read_npy(&bytes), Ok(Array2::from_elem((5, 3), 7)));
    for len in [0, 5, 9, 60, bytes.len() - 1] {
        read_npy(&bytes[..len]).unwrap_err();
    }
    for at in [0, 8, 12, 30, 127] {
        let mut changed = bytes.clone();
        changed[at] = 0;
        read_npy(&changed).unwrap_err();
    }
}
