//! The operations of `reuse`: a result that is built once. Its record must be durable before its name appears. Building
//! needs locks of the kernel.

use super::model::Image;
use super::table::Outcome::{Absent, Anything, Holds};
use super::table::{Array, Expected, Outcome, PATH, Scenario, appears, at, new, write};
use crate::error::{Error, Result};
use crate::reuse::open_or_build;
use crate::stream::Stream;
use crate::sys::record::acknowledge;
use ndarray::{Ix2, s};
use std::path::Path;

/// The file that the function of the caller makes.
const BUILDING: &str = ".building-a.npy";

/// The result for other parameters. It has fewer rows.
fn older() -> Array {
    new().slice(s![..600, ..]).to_owned()
}

fn build(folder: &Path, array: &Array) -> Result<()> {
    open_or_build::<u32, Ix2, _, _, Error>(folder.join(PATH), &array.dim(), |out| {
        let built = Stream::from(array).threads(1).write_to(out)?;
        acknowledge(); // by `write_to`
        Ok(built)
    })?;
    acknowledge();
    Ok(())
}

fn result(acknowledged: usize, before: Outcome) -> Vec<Expected> {
    let mut all = at(PATH, appears(acknowledged.saturating_sub(1), before, new()));
    all.extend(at("a.npy.reuse", [Absent, Anything]));
    all.extend(at(BUILDING, [Absent, Holds(new())])); // `write_to` publishes a complete file
    all
}

/// Returns an error if a record is missing that describes the result, or if the file that `write_to` has published is
/// missing.
fn has_record(image: &Image, acknowledged: usize) -> std::result::Result<(), String> {
    let Some(content) = image.files.get(PATH) else {
        let is_there = acknowledged == 0 || image.files.contains_key(BUILDING);
        return is_there.then_some(()).ok_or_else(|| "the new file is missing".to_string());
    };
    let is_new = content.len == 128 + 4 * new().len() as u64;
    if acknowledged > 0 && !is_new && !image.files.contains_key(BUILDING) {
        return Err("the new file is missing".to_string());
    }
    let record = image.files.get("a.npy.reuse").map(Image::bytes).unwrap_or_default();
    let described = format!("\nbytes {}\n", content.len);
    let is_described = record.chunks(512).any(|slot| {
        let slot = String::from_utf8_lossy(slot);
        slot.starts_with("ndarray-mmap reuse 1\n") && slot.contains(&described) && slot.contains("\ncheck ")
    });
    is_described.then_some(()).ok_or_else(|| "no record describes the result".to_string())
}

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "open_or_build a new result",
            run: |folder| build(folder, &new()),
            legal: |acknowledged| result(acknowledged, Absent),
            also: has_record,
            ..Scenario::BASE
        },
        Scenario {
            name: "open_or_build over the result for other parameters",
            before: |folder| build(folder, &older()),
            run: |folder| build(folder, &new()),
            legal: |acknowledged| result(acknowledged, Holds(older())),
            also: has_record,
            ..Scenario::BASE
        },
        Scenario {
            name: "open_or_build a file that another program writes and does not sync",
            before: |folder| write(&folder.join("source.npy"), &new()),
            run: |folder| {
                open_or_build::<u32, Ix2, _, _, std::io::Error>(folder.join(PATH), "copy", |out| {
                    std::fs::copy(folder.join("source.npy"), out).map(drop)
                })?;
                acknowledge();
                Ok(())
            },
            legal: |acknowledged| {
                let mut all = at(PATH, appears(acknowledged, Absent, new()));
                all.extend(at("a.npy.reuse", [Absent, Anything]));
                all.extend(at(BUILDING, [Absent, Anything]));
                all.extend(at("source.npy", [Holds(new())]));
                all
            },
            also: |image, _| has_record(image, 0),
            ..Scenario::BASE
        },
    ]
}
