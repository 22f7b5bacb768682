//! What all attacks use: processes of their own, random numbers, the log of steps, the watchdog.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A step that takes longer hangs. A step takes less than a second on an idle machine; the rest is for a loaded one.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the process of one test may run.
const PROCESS_PATIENCE: Duration = Duration::from_secs(60);

/// Set in the process that a test has started for itself.
const ALONE: &str = "NDARRAY_MMAP_ATTACK_ALONE";

/// Numbers that look random.
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

    /// Returns true once in `of` calls on average.
    pub fn once_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

/// A directory on a disk, or in memory, that is removed at the end.
pub fn folder(in_memory: bool) -> tempfile::TempDir {
    let parent = if in_memory { "/dev/shm" } else { "/var/tmp" };
    tempfile::Builder::new().prefix("ndarray-mmap-attack-").tempdir_in(parent).unwrap()
}

/// Runs the test of this name in a process of its own, and fails if the process does not succeed. Returns true in that process.
pub fn is_alone(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let (status, output) = run_test(test, &[(ALONE, "1")], PROCESS_PATIENCE);
    assert!(status.success(), "{test}: {status}\n{output}");
    assert!(output.contains("1 passed"), "{test} has not run\n{output}");
    false
}

/// Runs one test of this program in a new process. Returns how it ended, and what it printed.
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

/// How many threads of a process can take steps.
const MAX_PLAYERS: usize = 4;

/// How deep steps nest.
pub const MAX_NESTING: usize = 3;

/// How many steps the log remembers.
const LOG_LEN: usize = 120;

static LOG: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
static STARTED: Mutex<Option<Instant>> = Mutex::new(None);
static COMMAND: Mutex<String> = Mutex::new(String::new());

/// When each thread has begun its last step, in milliseconds since the start; zero for a thread that takes no steps.
static BEATS: [AtomicU64; MAX_PLAYERS] = [const { AtomicU64::new(0) }; MAX_PLAYERS];

pub static STEPS_TAKEN: AtomicUsize = AtomicUsize::new(0);

fn now() -> u64 {
    let mut started = STARTED.lock().unwrap();
    started.get_or_insert_with(Instant::now).elapsed().as_millis() as u64 + 1
}

/// Notes that a thread begins a step.
pub fn begin(player: usize, step: &str) {
    STEPS_TAKEN.fetch_add(1, Ordering::Relaxed);
    note(player, step);
}

/// Notes what a thread does within a step.
pub fn note(player: usize, text: &str) {
    let at = now();
    BEATS[player].store(at, Ordering::Relaxed);
    let mut log = LOG.lock().unwrap();
    if log.len() == LOG_LEN {
        log.pop_front();
    }
    log.push_back(format!("{at:7} ms  thread {player}: {text}"));
}

/// Notes that a thread takes no more steps.
pub fn rest(player: usize) {
    BEATS[player].store(0, Ordering::Relaxed);
}

/// Starts the watchdog. `command` repeats this run.
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

/// What each thread of this process does: its state and processor time, the kernel function it waits in, its system call.
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
    // A thread that has failed while it held the lock must not keep the others from reporting.
    if let Ok(log) = LOG.try_lock() {
        log.iter().for_each(|line| text += &format!("{line}\n"));
    }
    let command = COMMAND.lock().map(|command| command.clone()).unwrap_or_default();
    let _ = write!(std::io::stderr(), "{text}FAILED: {message}\nrepeat with: {command}\n");
}

/// Ends the process as failed. A panic would not do: streams catch the panics of the functions that they call.
pub fn fail(message: &str) -> ! {
    report(message);
    std::process::exit(101);
}

/// Ends the process as failed unless `holds`.
#[track_caller]
pub fn judge(holds: bool, message: impl FnOnce() -> String) {
    if !holds {
        fail(&format!("{} (at {})", message(), std::panic::Location::caller()));
    }
}

/// Silences the panics that belong to the attacks.
pub fn silence_expected_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.to_string();
        if !text.contains("closed by its path") && !text.contains(MISCHIEF) {
            before(info);
        }
    }));
}

/// The message of the panics that the attacks raise themselves.
pub const MISCHIEF: &str = "a function of the attack panics";

/// The inode of the file that is mapped at an address.
pub fn inode_at(address: usize) -> Option<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
        range.contains(&address).then(|| fields.nth(3).unwrap().parse().unwrap())
    })
}

/// The lines of `/proc/self/maps`, and the open files of this process, that belong to a directory.
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
