//! The trajectory that every machine has that can build this example.

use crate::Result;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The trajectory in the package of `molly`, which cargo has on this machine because this example depends on it.
pub fn path() -> Result<PathBuf> {
    let metadata = metadata().map_err(|error| format!("{error}; name a trajectory of your own"))?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let molly = packages.into_iter().find(|package| package["name"] == "molly");
    let manifest = molly.and_then(|package| package["manifest_path"].as_str());
    let manifest = manifest.ok_or("cargo does not know `molly`; name a trajectory of your own")?;
    let xtc = Path::new(manifest).with_file_name("tests").join("adk_oplsaa.xtc");
    match xtc.is_file() {
        true => Ok(xtc),
        false => Err(format!("{xtc:?} is not there; name a trajectory of your own").into()),
    }
}

/// What cargo knows of the packages that this one is built from.
fn metadata() -> Result<Value> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let ask = ["metadata", "--format-version", "1", "--manifest-path", manifest];
    // Packages for other platforms are not on this machine; without the network cargo would miss them.
    let host = cargo(&["-vV"])?.lines().find_map(|line| line.strip_prefix("host: ").map(str::to_owned));
    let for_host = ["--offline", "--filter-platform", host.as_deref().unwrap_or_default()];
    let found = cargo(&[&ask[..], &for_host].concat()).or_else(|_| cargo(&ask))?;
    Ok(serde_json::from_str(&found)?)
}

/// Runs the cargo that runs this example, and returns what it prints.
fn cargo(args: &[&str]) -> Result<String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let failed = |reason: &str| format!("cannot ask {program:?} where `molly` is: {reason}");
    let output = Command::new(&program).args(args).output().map_err(|error| failed(&error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
