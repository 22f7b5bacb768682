//! [`Place`]: the environment of a case. This module also has the function that runs the cases of one process in turn.

use crate::cases::{self, Outcome};
use crate::judge::Judge;
use crate::refuse::Refusal;
use crate::supervise::MARK;
use std::any::Any;
use std::cell::RefCell;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The environment of a case: its folder, its filesystem, and the system calls that the kernel refuses.
pub struct Place {
    /// A folder that only this case uses. The folder is empty when the case starts.
    pub folder: PathBuf,
    pub filesystem: String,
    /// Whether the filesystem is small and used by this test only, so that a case may fill it.
    pub is_private: bool,
    pub refusal: Option<Refusal>,
    judge: RefCell<Judge>,
}

impl Place {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns whether the files exist only in the page cache, so that no page can be dropped.
    pub fn is_in_memory(&self) -> bool {
        self.filesystem == "tmpfs"
    }

    /// Returns whether the kernel refuses the system call of this name.
    pub fn refuses(&self, name: &str) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.is_about(name))
    }

    /// Returns for each page of a file whether the page is in the page cache. The judge process looks, not this one.
    pub fn cached_pages(&self, path: &Path) -> Vec<bool> {
        self.judge.borrow_mut().cached_pages(path)
    }

    /// Returns the file names in the folder of the case, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Runs the named cases, and prints the result of each. Arguments: folder, filesystem, `private` or `shared`, refusal,
/// names.
pub fn run_cases(arguments: &[&str]) {
    let [folder, filesystem, privacy, refusal, names @ ..] = arguments else { panic!("{arguments:?}") };
    let refusal = Refusal::parse(refusal);
    // The judge starts first. A process that starts later would inherit the refusal.
    let judge = RefCell::new(Judge::start());
    let word =
        refusal.as_ref().map_or("plain".to_owned(), |refusal| refusal.to_string().replace([' ', '/'], "-"));
    let mut place = Place {
        folder: PathBuf::new(),
        filesystem: (*filesystem).to_owned(),
        is_private: *privacy == "private",
        refusal,
        judge,
    };
    let unavailable = place.refusal.as_ref().and_then(|refusal| refusal.install().err());
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        LAST_PANIC.with(|last| last.replace(place.unwrap_or_default()));
    }));
    for name in names {
        let case = cases::ALL.iter().find(|case| case.name == *name).unwrap();
        place.folder = Path::new(folder).join(format!("{word}-{name}"));
        let line = match &unavailable {
            Some(reason) => format!("SKIPPED {reason}"),
            None => run_case(case.run, &place),
        };
        println!("\n{MARK}{name} {}", line.replace('\n', " "));
        std::io::stdout().flush().unwrap();
    }
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn run_case(case: fn(&Place) -> Outcome, place: &Place) -> String {
    std::fs::create_dir_all(&place.folder).unwrap();
    let start = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| case(place)));
    let millis = start.elapsed().as_millis();
    let _ = std::fs::remove_dir_all(&place.folder);
    match outcome {
        Ok(Outcome::Done) => format!("ok {millis} ms"),
        Ok(Outcome::Skipped(reason)) => format!("SKIPPED {reason}"),
        Err(payload) => format!("FAILED {} at {}", message_of(&*payload), LAST_PANIC.take()),
    }
}

fn message_of(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}
