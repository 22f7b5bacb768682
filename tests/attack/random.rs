//! Tests with random programs: two processes, with one to three threads each, take random steps on the same few files.

use crate::end::{check_folder, check_process};
use crate::harness::{self, Dice, STEPS_TAKEN, folder, run_test, silence_expected_panics};
use crate::player::Player;
use crate::world::World;
use ndarray::Array2;
use ndarray_mmap::{MmapArray, stream::Stream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How many steps all threads of a process take together. Steps inside other steps are not counted.
const STEPS_OF_A_PROCESS: usize = 60;

/// A process of a random program is killed if it runs longer than this time.
const PATIENCE: Duration = Duration::from_secs(120);

const FOLDER: &str = "NDARRAY_MMAP_ATTACK_FOLDER";
const SEED: &str = "NDARRAY_MMAP_ATTACK_SEED";
const NUMBER: &str = "NDARRAY_MMAP_ATTACK_PROCESS";
const STEPS: &str = "NDARRAY_MMAP_ATTACK_STEPS";

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

fn command(seed: u64) -> String {
    format!("{SEED}={seed} cargo test --all-features --test attack random::programs -- --exact --nocapture")
}

/// Runs random programs until they have taken `NDARRAY_MMAP_ATTACK_STEPS` steps. If `NDARRAY_MMAP_ATTACK_SEED` is set,
/// runs only the program of that seed.
#[test]
fn programs() {
    let started = Instant::now();
    let chosen = number_in(SEED);
    let wanted = number_in(STEPS).unwrap_or(3000) as usize;
    let first = chosen.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64);
    let (mut steps, mut programs, mut swept) = (0, 0, 0);
    for seed in first.. {
        let (taken, leftovers) = run_program(seed);
        (steps, programs, swept) = (steps + taken, programs + 1, swept + leftovers);
        if chosen.is_some() || steps >= wanted {
            break;
        }
    }
    println!(
        "{steps} steps in {programs} programs from seed {first}, {swept} staged files of killed processes swept, {:.0} s",
        started.elapsed().as_secs_f64()
    );
}

/// Runs one random program. Returns how many steps it has taken, and how many staged files were removed at its end.
fn run_program(seed: u64) -> (usize, usize) {
    let mut dice = Dice::new(seed ^ 0x5eed);
    let folder = folder(dice.once_in(2));
    std::fs::create_dir(folder.path().join("files")).unwrap();
    let path = folder.path().to_str().unwrap();
    let seed_text = seed.to_string();
    let kills = dice.once_in(3);
    let steps = std::thread::scope(|scope| {
        let processes = ["0", "1"].map(|number| {
            let variables = [(FOLDER, path), (SEED, &*seed_text), (NUMBER, number)];
            scope.spawn(move || run_test("random::plays", &variables, PATIENCE))
        });
        if kills {
            kill_a_writer(folder.path(), Duration::from_millis(dice.below(300) as u64));
        }
        processes.map(|process| {
            let (status, output) = process.join().unwrap();
            assert!(status.success(), "{status}\n{output}\nrepeat with: {}", command(seed));
            let steps = output.split("steps taken: ").nth(1).expect("the process says how many");
            steps.split_ascii_whitespace().next().unwrap().parse::<usize>().unwrap()
        })
    });
    let swept = check_folder(&World::new(folder.path(), seed), kills);
    (steps.iter().sum(), swept)
}

/// Starts a process that creates one file after another, and kills the process after a pause.
fn kill_a_writer(folder: &Path, after: Duration) {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "random::makes_files", "--ignored"])
        .env(FOLDER, folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(30) + after);
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
#[ignore = "runs in the processes that `programs` starts and kills"]
fn makes_files() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let path = Path::new(&folder).join("files/victim.npy");
    let rows = Array2::<u64>::ones((2000, 100));
    loop {
        Stream::from(&rows).write_to(&path).unwrap().close().unwrap();
        MmapArray::<u64, _>::create(&path, (2000, 100)).unwrap().fill(3);
    }
}

#[test]
#[ignore = "runs in the processes that `programs` starts"]
fn plays() {
    let (Some(folder), Some(seed)) = (std::env::var_os(FOLDER), number_in(SEED)) else { return };
    silence_expected_panics();
    harness::watch(&command(seed));
    let world = World::new(Path::new(&folder), seed);
    let own_seed = seed * 2 + number_in(NUMBER).unwrap();
    let threads = 1 + Dice::new(own_seed).below(3);
    if threads == 1 {
        play(&world, own_seed, 0, false, STEPS_OF_A_PROCESS);
    } else {
        std::thread::scope(|scope| {
            for number in 0..threads {
                let (world, seed) = (&world, own_seed * 8 + number as u64);
                scope.spawn(move || play(world, seed, number, true, STEPS_OF_A_PROCESS / threads));
            }
        });
    }
    check_process(&world);
    println!("steps taken: {} ", STEPS_TAKEN.load(Ordering::Relaxed));
}

fn play(world: &World, seed: u64, number: usize, accompanied: bool, steps: usize) {
    let played = std::panic::catch_unwind(|| {
        let mut player = Player::new(world, seed, number, accompanied);
        (0..steps).for_each(|_| player.step());
        player.finish();
    });
    harness::rest(number);
    if played.is_err() {
        harness::fail(&format!("thread {number} panicked"));
    }
}
