//! The command line.

use std::path::PathBuf;

pub const USAGE: &str = "\
usage: cargo bench --bench streaming [--features rayon] -- [OPTIONS]
  --quick        use small files, and end in under two minutes
  --rounds N     run every contender N times (default 5; with --quick at most 5, as time allows)
  --gib N        set the size of the large file in GiB (default 4)
  --work NAME    run only works whose name starts with NAME (may be repeated)
  --dir DIR      put the files in DIR, on a disk (default: a temporary folder)
  --json FILE    write the medians as JSON
  --svg FILE     draw throughput and memory over time
  --goals        compare the medians with the goals of this project
  --loops        run loops over chunks instead; `--loops --help` lists their options
The numpy contenders run in the interpreter that NDARRAY_MMAP_PYTHON names, or else in python3.";

/// The options that the user gave.
#[derive(Debug, Default)]
pub struct Options {
    pub quick: bool,
    pub rounds: Option<usize>,
    pub large_gib: Option<u64>,
    pub works: Vec<String>,
    pub dir: Option<PathBuf>,
    pub json: Option<PathBuf>,
    pub svg: Option<PathBuf>,
    pub goals: bool,
    /// Whether the arguments contain `--bench`, which `cargo bench` passes. `cargo test` does not pass it, and the
    /// benchmark must not run for many minutes under `cargo test`.
    pub started_by_cargo_bench: bool,
}

impl Options {
    /// Reads the arguments after the program name.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--bench" => options.started_by_cargo_bench = true,
                "--quick" => options.quick = true,
                "--goals" => options.goals = true,
                "--rounds" => options.rounds = Some(positive(&value()?)? as usize),
                "--gib" => options.large_gib = Some(positive(&value()?)?),
                "--work" => options.works.push(value()?),
                "--dir" => options.dir = Some(value()?.into()),
                "--json" => options.json = Some(value()?.into()),
                "--svg" => options.svg = Some(value()?.into()),
                "--help" | "-h" => return Err(String::new()),
                other => return Err(format!("unknown argument {other:?}")),
            }
        }
        Ok(options)
    }

    /// Returns whether the user asked for the work `name`.
    pub fn wants(&self, name: &str) -> bool {
        self.works.is_empty() || self.works.iter().any(|wanted| name.starts_with(wanted))
    }

    /// Returns how often every contender runs.
    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(5)
    }
}

/// Reads a number above zero.
pub fn positive(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("expected a positive number, found {text:?}")),
    }
}
