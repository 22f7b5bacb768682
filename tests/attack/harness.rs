//! Functions that all attacks use: they start processes, make random numbers, log steps, and detect steps that hang.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The watchdog ends the process if a step takes longer than this time. On an idle machine, a step takes less than a
/// second.
const PATIENCE: Duration = Duration::from_secs(10);

/// The process of a test is killed if it runs longer than this time.
const PROCESS_PATIENCE: Duration = Duration::from_secs(60);

/// A test starts a child process that runs the same test again. This environment variable is set in the child process.
const ALONE: &str = "NDARRAY_MMAP_ATTACK_ALONE";

/// A generator of pseudorandom numbers.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }

    /// Returns true in one of `calls` calls, on average.
    pub fn once_in(&mut self, calls: usize) -> bool {
        self.below(calls) == 0
    }
}

/// Creates a temporary directory, either on a disk or in memory. Dropping the returned value removes the directory.
pub fn folder(in_memory: bool) -> tempfile::TempDir {
    let parent = if in_memory { "/dev/shm" } else { "/var/tmp" };
    tempfile::Builder::new().prefix("ndarray-mmap-attack-").tempdir_in(parent).unwrap()
}

/// Runs the test of this name in a new process, and fails if that process fails. Returns true in the new process, and
/// false in the process that has started it.
pub fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let (status, output) = run_test(test, &[(ALONE, "1")], PROCESS_PATIENCE);
    assert!(status.success(), "{test}: {status}\n{output}");
    assert!(output.contains("1 passed"), "{test} has not run\n{output}");
    false
}

/// Runs one test of this program in a new process. Returns the exit status and the output of the process.
pub fn run_test(test: &str, variables: &[(&str, &str)], patience: Duration) -> (ExitStatus, String) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let readers = [
        read_in_background(process.stdout.take().unwrap()),
        read_in_background(process.stderr.take().unwrap()),
    ];
    let started = Instant::now();
    let status = loop {
        match process.try_wait().unwrap() {
            Some(status) => break status,
            None if started.elapsed() < patience => std::thread::sleep(Duration::from_millis(5)),
            None => {
                process.kill().unwrap();
                break process.wait().unwrap();
            }
        }
    };
    let [out, err] = readers.map(|reader| reader.join().unwrap());
    (status, out + &err)
}

fn read_in_background(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        pipe.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// The maximum number of threads that take steps in one process.
const MAX_PLAYERS: usize = 4;

/// How many levels deep steps can run inside other steps.
pub const MAX_NESTING: usize = 3;

/// How many lines the log keeps.
const LOG_LEN: usize = 120;

static LOG: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
static STARTED: Mutex<Option<Instant>> = Mutex::new(None);
static COMMAND: Mutex<String> = Mutex::new(String::new());

/// For each thread, the time of its last log line, in milliseconds since the first log line. Zero for a thread that
/// takes no steps.
static BEATS: [AtomicU64; MAX_PLAYERS] = [const { AtomicU64::new(0) }; MAX_PLAYERS];

pub static STEPS_TAKEN: AtomicUsize = AtomicUsize::new(0);

fn now() -> u64 {
    let mut started = STARTED.lock().unwrap();
    started.get_or_insert_with(Instant::now).elapsed().as_millis() as u64 + 1
}

/// Counts a step, and logs that a thread begins the step.
pub fn begin(player: usize, step: &str) {
    STEPS_TAKEN.fetch_add(1, Ordering::Relaxed);
    note(player, step);
}

/// Logs what a thread does within a step.
pub fn note(player: usize, text: &str) {
    let at = now();
    BEATS[player].store(at, Ordering::Relaxed);
    let mut log = LOG.lock().unwrap();
    if log.len() == LOG_LEN {
        log.pop_front();
    }
    log.push_back(format!("{at:7} ms  thread {player}: {text}"));
}

/// Tells the watchdog that a thread takes no more steps.
pub fn rest(player: usize) {
    BEATS[player].store(0, Ordering::Relaxed);
}

/// Starts the watchdog. Failure reports print `command`, which repeats this run.
pub fn watch(command: &str) {
    command.clone_into(&mut COMMAND.lock().unwrap());
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = now();
            for (player, beat) in BEATS.iter().enumerate() {
                let beat = beat.load(Ordering::Relaxed);
                if beat != 0 && now.saturating_sub(beat) > PATIENCE.as_millis() as u64 {
                    report(&format!("thread {player} hangs in its last step\n{}", threads()));
                    std::process::abort();
                }
            }
        }
    });
}

/// Describes each thread of this process: its state, its processor time, the kernel function in which the thread waits,
/// and its system call.
fn threads() -> String {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let describe = |task: std::fs::DirEntry| {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        format!(
            "{}waits in {:?}, system call {}{}",
            read("stat"),
            read("wchan"),
            read("syscall"),
            read("stack")
        )
    };
    tasks.map(describe).collect()
}

fn report(message: &str) {
    let mut text = String::from("the last steps:\n");
    // `try_lock` does not wait: another thread can have failed while it had the log locked.
    if let Ok(log) = LOG.try_lock() {
        log.iter().for_each(|line| text += &format!("{line}\n"));
    }
    let command = COMMAND.lock().map(|command| command.clone()).unwrap_or_default();
    let _ = write!(std::io::stderr(), "{text}FAILED: {message}\nrepeat with: {command}\n");
}

/// Reports a failure and exits. A panic would not end the process: streams catch the panics of the functions that they
/// call.
pub fn fail(message: &str) -> ! {
    report(message);
    std::process::exit(101);
}

/// Reports a failure and exits, unless `holds` is true.
#[track_caller]
pub fn judge(holds: bool, message: impl FnOnce() -> String) {
    if !holds {
        fail(&format!("{} (at {})", message(), std::panic::Location::caller()));
    }
}

/// Silences the panics that the attacks cause on purpose.
pub fn silence_expected_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.to_string();
        if !text.contains("closed by its path") && !text.contains(MISCHIEF) {
            before(info);
        }
    }));
}

/// The panic message of attack functions that panic on purpose.
pub const MISCHIEF: &str = "a function of the attack panics";

/// Returns the inode of the file that is mapped at an address.
pub fn inode_at(address: usize) -> Option<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
        range.contains(&address).then(|| fields.nth(3).unwrap().parse().unwrap())
    })
}

/// Returns what this process still uses in a directory: lines of `/proc/self/maps`, and open files.
pub fn traces_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut traces: Vec<_> = maps.lines().filter(|line| line.contains(folder)).map(str::to_owned).collect();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap().flatten() {
        if let Ok(target) = std::fs::read_link(entry.path()) {
            if target.to_string_lossy().contains(folder) {
                traces.push(format!("open file {}", target.display()));
            }
        }
    }
    traces
}
