//! Assembles the pages that two blocks share. The parts of such a page can arrive in any order.

use crate::sync::lock;
use crate::sys::page_bytes;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;

/// The pages that do not have all of their bytes yet.
#[derive(Debug, Default)]
pub(super) struct Seams {
    /// The incomplete pages, by their offset in the file.
    pages: Mutex<HashMap<u64, Seam>>,
}

#[derive(Debug)]
struct Seam {
    bytes: Box<[u8]>,
    filled: usize,
}

impl Seams {
    /// Adds bytes to the page that contains them. Returns the page if it is now complete.
    pub(super) fn add(&self, offset: u64, part: &[u8]) -> Option<Box<[u8]>> {
        let page = page_bytes();
        let start = offset - offset % page as u64;
        let at = (offset - start) as usize; // less than the page size
        let mut pages = lock(&self.pages);
        let seam = pages.entry(start).or_insert_with(|| Seam { bytes: vec![0; page].into(), filled: 0 });
        seam.bytes[at..at + part.len()].copy_from_slice(part);
        seam.filled += part.len();
        if seam.filled < page {
            return None;
        }
        pages.remove(&start).map(|seam| seam.bytes)
    }

    /// Returns whether there is no incomplete page.
    pub(super) fn is_empty(&self) -> bool {
        lock(&self.pages).is_empty()
    }
}

/// Splits a range of bytes into the part before its first whole page, its whole pages, and the part after them.
pub(crate) fn split_at_pages(bytes: &Range<u64>) -> (Range<u64>, Range<u64>, Range<u64>) {
    let page = page_bytes() as u64;
    let first = bytes.start.next_multiple_of(page).min(bytes.end);
    let last = (bytes.end - bytes.end % page).max(first);
    // A range within one page has only the part before its first whole page.
    (bytes.start..first, first..last, last..bytes.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_completes_the_page() {
        let (page, seams) = (page_bytes(), Seams::default());
        assert_eq!(seams.add(page as u64 + 10, &vec![2; page - 10]), None);
        assert_eq!(seams.add(0, &[9; 5]), None);
        let whole = seams.add(page as u64, &[1; 10]).unwrap();
        assert!(whole[..10].iter().all(|&byte| byte == 1) && whole[10..].iter().all(|&byte| byte == 2));
        assert!(!seams.is_empty());
        assert!(seams.add(5, &vec![8; page - 5]).is_some() && seams.is_empty());
    }

    #[test]
    fn ranges_are_split_at_pages() {
        let page = page_bytes() as u64;
        assert_eq!(split_at_pages(&(5..10)), (5..10, 10..10, 10..10));
        assert_eq!(split_at_pages(&(0..page)), (0..0, 0..page, page..page));
        assert_eq!(split_at_pages(&(1..page + 1)), (1..page, page..page, page..page + 1));
        assert_eq!(
            split_at_pages(&(page - 1..3 * page + 2)),
            (page - 1..page, page..3 * page, 3 * page..3 * page + 2)
        );
        assert_eq!(split_at_pages(&(0..5)), (0..0, 0..0, 0..5));
    }
}
