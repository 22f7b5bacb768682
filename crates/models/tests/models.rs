//! Runs every model through every interleaving. Also checks that the models fail on the broken variants of the tested
//! code.
//!
//! With arguments, runs only the models and broken variants whose names contain all arguments. Each broken variant runs
//! in a separate process, because a process ends when loom finds a deadlock in it.

#[cfg(not(loom))]
fn main() {
    println!("SKIPPED: the models are built with RUSTFLAGS=\"--cfg loom\"");
}

#[cfg(loom)]
#[path = "../mutants.rs"]
mod mutants;

#[cfg(loom)]
fn main() -> std::process::ExitCode {
    run::main()
}

#[cfg(loom)]
mod run {
    use super::mutants::{MUTANTS, Mutant};
    use ndarray_mmap_models::{BROKEN, MODELS, Model};
    use std::process::{Command, ExitCode};
    use std::sync::Mutex;
    use std::time::Instant;
    use std::{env, thread};

    /// The argument that asks for one broken variant. The number of the variant follows.
    const BROKEN_ARGUMENT: &str = "--broken";

    type Job<'a> = Box<dyn FnOnce() -> Result<String, String> + Send + 'a>;

    pub fn main() -> ExitCode {
        let arguments: Vec<String> = env::args().skip(1).collect();
        if let [first, number] = &arguments[..] {
            if first == BROKEN_ARGUMENT {
                let number: usize = number.parse().expect("the number of a variant");
                println!("no failure in {} interleavings", find(BROKEN[number], MUTANTS[number].model)());
                return ExitCode::SUCCESS;
            }
        }
        let is_asked = |name: &str| {
            arguments.iter().filter(|word| !word.starts_with("--")).all(|word| name.contains(word))
        };
        let models = MODELS
            .iter()
            .copied()
            .flatten()
            .filter(|(name, _)| is_asked(name))
            .map(|&model| model_job(model));
        let mutants =
            MUTANTS.iter().enumerate().filter(|(_, mutant)| is_asked(mutant.name) || is_asked(mutant.model));
        let jobs: Vec<Job> =
            models.chain(mutants.map(|(number, mutant)| mutant_job(number, mutant))).collect();
        let count = jobs.len();
        let failures = run_all(jobs);
        println!("{count} models and broken variants, {failures} failures");
        if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn find(models: &[&[Model]], name: &str) -> fn() -> usize {
        let found = models.iter().copied().flatten().find(|(model, _)| *model == name);
        found.unwrap_or_else(|| panic!("no model {name}")).1
    }

    /// Returns a job that runs a model in this process.
    fn model_job<'a>((name, model): Model) -> Job<'a> {
        Box::new(move || match thread::spawn(model).join() {
            Ok(interleavings) => Ok(format!("{name}: {interleavings} interleavings")),
            Err(_) => Err(format!("{name}: failed")),
        })
    }

    /// Returns a job that runs the model of a broken variant in a new process. The model must fail with the message
    /// that the variant names.
    fn mutant_job<'a>(number: usize, mutant: &'a Mutant) -> Job<'a> {
        let title = format!("broken: {}: {}", mutant.model, mutant.name);
        Box::new(move || {
            let program = env::current_exe().map_err(|error| error.to_string())?;
            let output = Command::new(program).args([BROKEN_ARGUMENT, &number.to_string()]).output();
            let output = output.map_err(|error| error.to_string())?;
            let said = String::from_utf8_lossy(&output.stderr);
            match (output.status.success(), said.contains(mutant.message)) {
                (false, true) => Ok(format!("{title}: found")),
                (false, false) => Err(format!("{title}: failed without {:?}: {said}", mutant.message)),
                (true, _) => Err(format!("{title}: {}", String::from_utf8_lossy(&output.stdout))),
            }
        })
    }

    /// Runs the jobs on all cores, and prints the result of each. Returns how many jobs have failed.
    fn run_all(jobs: Vec<Job>) -> usize {
        let jobs = Mutex::new(jobs.into_iter());
        let failures = Mutex::new(0);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let next = || jobs.lock().expect("no job panics").next();
        thread::scope(|scope| {
            for _ in 0..cores {
                scope.spawn(|| {
                    while let Some(job) = next() {
                        let started = Instant::now();
                        let result = job();
                        let seconds = started.elapsed().as_secs_f32();
                        match result {
                            Ok(text) => println!("{text} ({seconds:.1} s)"),
                            Err(text) => {
                                println!("FAILED: {text} ({seconds:.1} s)");
                                *failures.lock().expect("no job panics") += 1;
                            }
                        }
                    }
                });
            }
        });
        failures.into_inner().expect("no job panics")
    }
}
