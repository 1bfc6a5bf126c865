//! The program as a user calls it.

#![allow(dead_code, reason = "each file of tests uses a part")]

use assert_cmd::Command;
use serde_json::Value;
use std::path::Path;

/// The program in a folder. Tests run side by side: libtorch's operations must not each open a pool of threads as well.
pub fn penjing(folder: impl AsRef<Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penjing"));
    command.current_dir(folder).env("OMP_NUM_THREADS", "1");
    command
}

/// What a command prints with --json, and its stderr.
#[track_caller]
pub fn answers(folder: impl AsRef<Path>, arguments: &[&str]) -> (Value, String) {
    let output = penjing(folder).args(arguments).arg("--json").output().unwrap();
    let talk = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {talk}");
    (serde_json::from_slice(&output.stdout).unwrap(), talk)
}

#[track_caller]
pub fn json(folder: impl AsRef<Path>, arguments: &[&str]) -> Value {
    answers(folder, arguments).0
}

/// Exit code 2, what went wrong and advice on stderr, nothing on stdout, no backtrace.
#[track_caller]
pub fn refuses(folder: impl AsRef<Path>, arguments: &[&str], parts: &[&str]) {
    let output = penjing(folder).args(arguments).output().unwrap();
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {talk}");
    assert!(output.stdout.is_empty(), "{arguments:?} wrote data");
    for internal in ["Exception raised", "panicked", "internal error"] {
        assert!(!talk.contains(internal), "{talk}");
    }
    for part in parts {
        assert!(talk.contains(part), "{arguments:?} does not say `{part}`:\n{talk}");
    }
    assert!(talk.contains("hint: ") || talk.contains("--help"), "{arguments:?} gives no advice:\n{talk}");
}
