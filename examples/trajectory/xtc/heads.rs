//! How many frames a trajectory has, found from what stands before the positions of each.

use molly::Magic;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// The number of frames, and the number of atoms that all of them have.
///
/// `molly` takes a frame's lengths as they come; what passes here can be decoded without surprises.
pub fn count_frames_and_atoms(file: &File) -> io::Result<(usize, usize)> {
    let file_bytes = file.metadata()?.len();
    let mut file = BufReader::new(file);
    let (mut frames, mut atoms, mut start) = (0, 0, 0);
    while start < file_bytes {
        let damaged = |what: &str| {
            let reason = format!("{what} (frame {frames} at byte {start} of {file_bytes})");
            io::Error::new(io::ErrorKind::InvalidData, reason)
        };
        let head = Head::read(&mut file).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged("it ends within a frame"),
            _ => error,
        })?;
        let head = head.ok_or_else(|| damaged("this is no frame of an XTC file"))?;
        if frames > 0 && head.atoms != atoms {
            return Err(damaged(&format!("{atoms} atoms become {}", head.atoms)));
        }
        // A frame's lengths are all multiples of four bytes.
        let end = (start + head.head_bytes)
            .checked_add(head.data_bytes)
            .and_then(|end| end.checked_next_multiple_of(4));
        let end = end.filter(|&end| end <= file_bytes).ok_or_else(|| damaged("it ends within a frame"))?;
        if head.atoms as u64 > 8 * head.data_bytes {
            return Err(damaged(&format!("{} atoms cannot be in {} bytes", head.atoms, head.data_bytes)));
        }
        (frames, atoms) = (frames + 1, head.atoms);
        start = file.seek(SeekFrom::Start(end))?;
    }
    Ok((frames, atoms))
}

/// What stands before the positions of a frame.
struct Head {
    atoms: usize,
    head_bytes: u64,
    data_bytes: u64,
}

impl Head {
    /// Up to nine atoms are stored as they are, more of them are compressed.
    const MOST_UNCOMPRESSED_ATOMS: usize = 9;

    /// Reads the head of the next frame; `None` if there is something else.
    fn read(file: &mut impl Read) -> io::Result<Option<Self>> {
        // Magic number, atoms, step, time, nine numbers of the box, atoms again; four bytes each, big-endian.
        let common: [u8; 56] = read_array(file)?;
        let word = |index: usize| {
            u32::from_be_bytes(common[4 * index..][..4].try_into().expect("a word has four bytes"))
        };
        let magic = Magic::try_from(word(0) as i32).ok();
        let atoms = word(1) as usize;
        let Some(magic) = magic.filter(|_| word(1) == word(13)) else { return Ok(None) };
        if atoms <= Self::MOST_UNCOMPRESSED_ATOMS {
            return Ok(Some(Self { atoms, head_bytes: 56, data_bytes: 12 * atoms as u64 }));
        }
        // Precision, three smallest and three largest coordinates, an index; then the length of the compressed data.
        let _: [u8; 32] = read_array(file)?;
        let (length_bytes, data_bytes) = match magic {
            Magic::Xtc1995 => (4, u32::from_be_bytes(read_array(file)?).into()),
            Magic::Xtc2023 => (8, u64::from_be_bytes(read_array(file)?)),
        };
        Ok(Some(Self { atoms, head_bytes: 56 + 32 + length_bytes, data_bytes }))
    }
}

fn read_array<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
