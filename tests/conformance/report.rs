//! The printed report: one line for each case, and a table of all runs at the end.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;

/// The result of a case.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The case has passed within this time.
    Passed(String),
    Failed(String),
    /// The case has failed, as `known.rs` expects.
    Known(String),
    Skipped(String),
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    passed: usize,
    failed: usize,
    known: usize,
    skipped: usize,
}

/// The number of cases with each result, by the name of the run.
#[derive(Default)]
pub struct Report {
    runs: Mutex<BTreeMap<String, Counts>>,
    missing: Mutex<Vec<String>>,
}

impl Report {
    pub fn skip_filesystem(&self, name: &str, reason: &str) {
        println!("SKIPPED: {name}: {}", reason.replace('\n', " "));
        self.missing.lock().unwrap().push(name.to_owned());
    }

    pub fn add(&self, run: &str, case: &str, verdict: &Verdict) {
        match verdict {
            Verdict::Passed(time) => println!("{run}: {case}: ok, {time}"),
            Verdict::Failed(message) => println!("{run}: {case}: FAILED: {message}"),
            Verdict::Known(reason) => println!("{run}: {case}: known to fail: {reason}"),
            Verdict::Skipped(reason) => println!("{run}: {case}: SKIPPED: {reason}"),
        }
        let mut runs = self.runs.lock().unwrap();
        let counts = runs.entry(run.to_owned()).or_default();
        *match verdict {
            Verdict::Passed(_) => &mut counts.passed,
            Verdict::Failed(_) => &mut counts.failed,
            Verdict::Known(_) => &mut counts.known,
            Verdict::Skipped(_) => &mut counts.skipped,
        } += 1;
    }

    /// Prints the table of all runs. Returns success if no case has failed and at least one has passed.
    pub fn print_table(self) -> ExitCode {
        let mut all = Counts::default();
        println!("\n{:44} {:>6} {:>6} {:>6} {:>7}", "where", "passed", "failed", "known", "skipped");
        let line = |name: &str, Counts { passed, failed, known, skipped }: Counts| {
            println!("{name:44} {passed:>6} {failed:>6} {known:>6} {skipped:>7}");
        };
        for (name, counts) in self.runs.into_inner().unwrap() {
            line(&name, counts);
            all.passed += counts.passed;
            all.failed += counts.failed;
            all.known += counts.known;
            all.skipped += counts.skipped;
        }
        for name in self.missing.into_inner().unwrap() {
            println!("{name:44} {:>6} {:>6} {:>6} {:>7}", "-", "-", "-", "all");
        }
        line("all", all);
        println!(
            "\nconformance: {} passed, {} failed, {} skipped",
            all.passed,
            all.failed,
            all.known + all.skipped
        );
        if all.failed == 0 && all.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
