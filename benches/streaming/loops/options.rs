//! The command line of the loops.

use std::path::PathBuf;
use std::time::Duration;

use super::super::options::positive;
use super::super::plan::{Cache, KIB, MIB};
use super::plan::CHUNKS;

pub const USAGE: &str = "\
usage: cargo bench --bench streaming --all-features -- --loops [OPTIONS]
  --quick           128 MiB, the most important contenders and chunks, under two minutes
  --mib N           set the size of the arrays in MiB (default 1024, at most 4096)
  --rounds N        run every contender N times (default 5; with --quick as time allows)
  --loop NAME       run only loops whose name starts with NAME (may be repeated)
  --contender NAME  run only this contender (may be repeated)
  --chunk KIB       run only chunks of KIB KiB (may be repeated; default 256, 1024, 8192, 65536)
  --cache STATE     run only cold or only warm
  --limit SECONDS   kill a contender that takes longer (default 60; with --quick 6)
  --dir DIR         put the files in DIR, on a disk (default: a temporary folder)
  --json FILE       write the medians as JSON
The loops: copy, down, third, random, fill, sum, threads, fortran, narrow, unaligned.";

/// The options that the user has passed on the command line.
#[derive(Debug)]
pub struct Options {
    pub quick: bool,
    pub mib: Option<u64>,
    pub rounds: Option<usize>,
    pub loops: Vec<String>,
    pub contenders: Vec<String>,
    pub chunks: Vec<u64>,
    pub chose_chunks: bool,
    pub cache: Option<Cache>,
    pub limit_seconds: Option<u64>,
    pub dir: Option<PathBuf>,
    pub json: Option<PathBuf>,
    pub started_by_cargo_bench: bool,
}

impl Options {
    /// Reads the arguments after the program name.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            quick: false,
            mib: None,
            rounds: None,
            loops: Vec::new(),
            contenders: Vec::new(),
            chunks: Vec::new(),
            chose_chunks: false,
            cache: None,
            limit_seconds: None,
            dir: None,
            json: None,
            started_by_cargo_bench: false,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--bench" => options.started_by_cargo_bench = true,
                super::OPTION => {}
                "--quick" => options.quick = true,
                "--mib" => options.mib = Some(size(&value()?)?),
                "--rounds" => options.rounds = Some(positive(&value()?)? as usize),
                "--loop" => options.loops.push(value()?),
                "--contender" => options.contenders.push(value()?),
                "--chunk" => options.chunks.push(positive(&value()?)? * KIB),
                "--cache" => options.cache = Some(cache(&value()?)?),
                "--limit" => options.limit_seconds = Some(positive(&value()?)?),
                "--dir" => options.dir = Some(value()?.into()),
                "--json" => options.json = Some(value()?.into()),
                "--help" | "-h" => return Err(String::new()),
                other => return Err(format!("unknown argument {other:?}")),
            }
        }
        options.chose_chunks = !options.chunks.is_empty();
        if !options.chose_chunks {
            options.chunks = CHUNKS.to_vec();
        }
        Ok(options)
    }

    pub fn size_bytes(&self) -> u64 {
        self.mib.unwrap_or(if self.quick { 128 } else { 1024 }) * MIB
    }

    pub fn rounds(&self) -> usize {
        self.rounds.unwrap_or(5)
    }

    pub fn time_limit(&self) -> Duration {
        Duration::from_secs(self.limit_seconds.unwrap_or(if self.quick { 6 } else { 60 }))
    }

    pub fn wants_loop(&self, name: &str) -> bool {
        self.loops.is_empty() || self.loops.iter().any(|wanted| name.starts_with(wanted.as_str()))
    }

    pub fn wants_contender(&self, name: &str) -> bool {
        self.contenders.is_empty() || self.contenders.iter().any(|wanted| name == wanted)
    }
}

/// Reads a number of MiB. The source and the output of the largest size take 8 GiB of disk space.
fn size(text: &str) -> Result<u64, String> {
    positive(text).and_then(|mib| if mib <= 4096 { Ok(mib) } else { Err("--mib is at most 4096".to_owned()) })
}

fn cache(text: &str) -> Result<Cache, String> {
    match text {
        "cold" => Ok(Cache::Cold),
        "warm" => Ok(Cache::Warm),
        _ => Err(format!("expected cold or warm, found {text:?}")),
    }
}
