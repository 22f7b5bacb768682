//! Writes the broken variants that `mutants.rs` lists. A variant is a copy of this package's modules, and of the
//! library files that they include, with some lines replaced.

#[path = "mutants.rs"]
mod mutants;

use mutants::{MUTANTS, Mutant};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// The line of `lib.rs` that includes the broken variants. The copy of `lib.rs` in a variant does not contain this
/// line.
const INCLUDES_VARIANTS: &str = "include!(concat!(env!(\"OUT_DIR\"), \"/broken.rs\"));";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=mutants.rs");
    println!("cargo::rerun-if-changed=src");
    if env::var_os("CARGO_CFG_LOOM").is_none() {
        return;
    }
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    let mut sources = Vec::new();
    find_sources(&package.join("src"), &mut sources);
    let root = package.join("../..").canonicalize().expect("the workspace");

    let (mut modules, mut list) = (String::new(), String::new());
    for (number, mutant) in MUTANTS.iter().enumerate() {
        let name = format!("broken_{number}");
        let copy = out.join(&name);
        let mut edits = mutant.edits.len();
        for source in &sources {
            let relative = source.strip_prefix(&root).expect("a file of the workspace");
            let text = fs::read_to_string(source).expect("a source file");
            let text =
                broken(mutant, relative, text, &mut edits).replace("crate::", &format!("crate::{name}::"));
            let target = copy.join(relative);
            fs::create_dir_all(target.parent().expect("a file in a folder"))
                .expect("a folder for the variant");
            fs::write(target, text.replace(INCLUDES_VARIANTS, "")).expect("a file of the variant");
        }
        assert_eq!(edits, 0, "{}: a file of mutants.rs is none that the models include", mutant.name);
        let lib = copy.join("crates/models/src/lib.rs");
        writeln!(modules, "#[path = {lib:?}]\nmod {name};").expect("a string takes everything");
        writeln!(list, "    {name}::MODELS,").expect("a string takes everything");
    }
    let list = format!(
        "/// The models of each broken variant, in the order of `mutants.rs`.\npub const BROKEN: &[&[&[Model]]] = &[\n{list}];\n"
    );
    fs::write(out.join("broken.rs"), modules + &list).expect("the list of variants");
}

/// Adds to `sources` the Rust files of a folder, and the library files that these files include.
fn find_sources(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() {
            find_sources(&path, sources);
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source file");
        for line in text.lines() {
            let included =
                line.trim().strip_prefix("#[path = \"..").and_then(|rest| rest.strip_suffix("\"]"));
            if let Some(included) = included {
                let included = folder.join(format!("..{included}")).canonicalize();
                let included = included.unwrap_or_else(|error| panic!("{}: {line}: {error}", path.display()));
                println!("cargo::rerun-if-changed={}", included.display());
                sources.push(included);
            }
        }
        sources.push(path);
    }
}

/// Returns the text of a source file in a broken variant. Subtracts the number of replaced texts from `edits`.
fn broken(mutant: &Mutant, file: &Path, mut text: String, edits: &mut usize) -> String {
    for (_, from, to) in mutant.edits.iter().filter(|(edited, ..)| Path::new(edited) == file) {
        let count = text.matches(from).count();
        assert_eq!(
            count,
            1,
            "{}: {} must contain once what is replaced: {from}",
            mutant.name,
            file.display()
        );
        text = text.replace(from, to);
        *edits -= 1;
    }
    text
}
