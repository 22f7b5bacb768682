//! The command line.

use crate::{Result, shipped};
use lexopt::prelude::*;
use std::io::Write;
use std::path::PathBuf;

const HELP: &str = "\
Streams a molecular-dynamics trajectory through file-backed arrays: fill, copy, verify.

Usage: trajectory [OPTIONS] [FILE.xtc]

Arguments:
  [FILE.xtc]   the trajectory [default: the one that ships with the crate `molly`]

Options:
      --gib N    repeat the trajectory until the array is at least N GiB large, fractions allowed [default: 1]
      --dir DIR  an existing folder for the two arrays, which are removed at the end [default: one on a disk]
      --json     print one JSON object: bytes, seconds, peak_rss_bytes, peak_cache_bytes, verified
  -h, --help     print this

Exit codes: 0 if both arrays are what was decoded, 1 if not or on an error, 2 for a wrong command line.
";

/// What was asked for.
#[derive(Debug, PartialEq)]
pub struct Args {
    pub xtc: Option<PathBuf>,
    pub at_least_bytes: u64,
    pub dir: Option<PathBuf>,
    pub json: bool,
}

impl Args {
    /// The command line of this process; `None` if all it wanted was help, which is printed.
    pub fn parse() -> Result<Option<Self>> {
        let args = Self::from_parser(lexopt::Parser::from_env())?;
        if args.is_none() {
            std::io::stdout().write_all(HELP.as_bytes())?;
        }
        Ok(args)
    }

    fn from_parser(mut parser: lexopt::Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut args = Self { xtc: None, at_least_bytes: 1 << 30, dir: None, json: false };
        while let Some(arg) = parser.next()? {
            match arg {
                Long("gib") => args.at_least_bytes = parser.value()?.parse_with(gib_to_bytes)?,
                Long("dir") => args.dir = Some(parser.value()?.into()),
                Long("json") => args.json = true,
                Short('h') | Long("help") => return Ok(None),
                Value(path) if args.xtc.is_none() => args.xtc = Some(path.into()),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Some(args))
    }

    /// The trajectory to read.
    pub fn xtc_path(&self) -> Result<PathBuf> {
        match &self.xtc {
            Some(path) => Ok(path.clone()),
            None => shipped::path(),
        }
    }
}

fn gib_to_bytes(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(gib) if gib.is_finite() && gib >= 0.0 => Ok((gib * f64::from(1 << 30)).ceil() as u64), // saturates
        _ => Err("expected a number of GiB, such as 0.5 or 4".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Option<Args>, lexopt::Error> {
        Args::from_parser(lexopt::Parser::from_args(args))
    }

    #[test]
    fn options_and_the_file_come_in_any_order() {
        let expected =
            Args { xtc: Some("a.xtc".into()), at_least_bytes: 3 << 29, dir: Some("/mnt".into()), json: true };
        assert_eq!(parsed(&["--gib=1.5", "a.xtc", "--json", "--dir", "/mnt"]).unwrap(), Some(expected));
        assert_eq!(parsed(&[]).unwrap().unwrap().at_least_bytes, 1 << 30);
        assert_eq!(parsed(&["--json", "-h"]).unwrap(), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for args in
            [&["--gib", "-1"][..], &["--gib", "NaN"], &["--gib", "1G"], &["--gib"], &["a", "b"], &["--x"]]
        {
            assert!(parsed(args).is_err(), "{args:?}");
        }
    }
}
