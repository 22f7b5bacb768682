//! Describes the machine, so that readers of the figures know where they were measured.

use std::fs;
use std::io;
use std::path::Path;
use std::thread;

/// Prints the processor, the memory, the kernel, and the filesystem of the folder.
pub fn print(folder: &Path) -> io::Result<()> {
    let cores = thread::available_parallelism()?;
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_default();
    let memory_kib: u64 =
        field("/proc/meminfo", "MemTotal").and_then(|text| first_number(&text)).unwrap_or(0);
    println!("{cores} cores ({processor}), {} GiB of memory", memory_kib >> 20);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    println!("Linux {}, {}", kernel.trim(), filesystem(folder));
    println!("files in {}", folder.display());
    Ok(())
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines()
        .find_map(|line| Some(line.strip_prefix(name)?.trim_start_matches([' ', '\t', ':']).to_owned()))
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Returns the type and the device of the mount that holds the folder. This is the mount whose path is the longest
/// prefix of the path of the folder.
fn filesystem(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let holding = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (device, mount, kind) = (words.next()?, words.next()?, words.next()?);
        folder.starts_with(mount).then(|| (mount.len(), format!("{kind} on {device}")))
    });
    holding
        .max_by_key(|(length, _)| *length)
        .map_or_else(|| "unknown filesystem".to_owned(), |(_, text)| text)
}
