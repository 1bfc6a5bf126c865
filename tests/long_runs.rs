//! Scoring runs as a user of a cluster meets them: killed, stopped, taken up again, cut into shards and put together.

#![cfg(all(feature = "torch", unix))]

use assert_cmd::cargo::CommandCargoExt;
use ndarray::{Array2, Axis};
use ndarray_npy::NpzReader;
use penjing::circuit::merge::Merged;
use penjing::circuit::scores_file;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use tempfile::{TempDir, tempdir};

fn penjing(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("penjing").unwrap();
    for launcher in ["RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "SLURM_ARRAY_TASK_ID"] {
        command.env_remove(launcher);
    }
    command.current_dir(folder).args(arguments);
    command
}

fn talk(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn done(folder: &TempDir, arguments: &[&str]) -> Output {
    let output = penjing(folder.path(), arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", talk(&output));
    output
}

/// Exit code 2, what went wrong and a hint on stderr, nothing on stdout.
#[track_caller]
fn refuses(folder: &TempDir, arguments: &[&str], parts: &[&str]) {
    let output = penjing(folder.path(), arguments).output().unwrap();
    let talk = talk(&output);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {talk}");
    assert!(output.stdout.is_empty() && !talk.contains("panicked"), "{arguments:?}: {talk}");
    for part in parts.iter().chain(&["hint: "]) {
        assert!(talk.contains(part), "{arguments:?} does not say `{part}`:\n{talk}");
    }
}

fn read(folder: &TempDir, file: &str) -> Vec<u8> {
    std::fs::read(folder.path().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Some seconds of work in hundreds of steps, each of which is written down.
const LONG: [&str; 10] =
    ["score", "ioi", "--model", "toy-4l", "--method", "exact", "--pairs", "48", "--checkpoint-seconds", "0"];

/// Starts a run and waits until it has written a checkpoint other than the one that is there.
fn start(folder: &TempDir, arguments: &[&str], checkpoint: &str) -> Child {
    let path = folder.path().join(checkpoint);
    let before = std::fs::read(&path).ok();
    let mut command = penjing(folder.path(), arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    loop {
        assert!(child.try_wait().unwrap().is_none(), "{arguments:?} ended before it could be stopped");
        match std::fs::read(&path) {
            Ok(now) if before.as_ref() != Some(&now) => return child,
            _ => std::thread::yield_now(),
        }
    }
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn a_run_killed_three_times_ends_in_the_same_bytes() {
    let folder = tempdir().unwrap();
    done(&folder, &[&LONG[..], &["--out", "whole"]].concat());
    let out = [&LONG[..], &["--out", "run"]].concat();
    let resumed = [&out[..], &["--resume"]].concat();
    for arguments in [&out, &resumed, &resumed] {
        let mut child = start(&folder, arguments, "run/checkpoint.bin");
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
        assert!(!folder.path().join("run/scores.json").exists());
    }
    for (options, says) in [
        (&["--seed", "1"][..], "seed is 0 there and 1 here"),
        (&["--batch", "3"], "batch is as many as fit there and 3 here"),
        (&["--dtype", "f64"], "dtype is Float there and Double here"),
        (&["--per-pair"], "per_pair is false there and true here"),
        (&["--bos", "always"], "run/checkpoint.bin is of another run"),
    ] {
        refuses(&folder, &[&resumed[..], options].concat(), &[says]);
    }
    done(&folder, &resumed);
    assert!(read(&folder, "run/scores.json") == read(&folder, "whole/scores.json"));
    assert!(!folder.path().join("run/checkpoint.bin").exists(), "the checkpoint is still there");
    refuses(&folder, &resumed, &["there is nothing to resume: run/checkpoint.bin does not exist"]);
}

#[test]
fn signals_stop_a_run_and_say_how_to_go_on() {
    let folder = tempdir().unwrap();
    done(&folder, &[&LONG[..], &["--out", "whole"]].concat());
    let arguments = [&LONG[..], &["--out", "a run"]].concat();
    let resumed = [&arguments[..], &["--resume"]].concat();
    for (signal, arguments, code, name) in
        [(Signal::INT, &arguments, 130, "Ctrl-C"), (Signal::TERM, &resumed, 143, "SIGTERM")]
    {
        let child = start(&folder, arguments, "a run/checkpoint.bin");
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        let talk = talk(&output);
        assert_eq!(output.status.code(), Some(code), "{talk}");
        assert!(talk.contains(&format!("error: stopped by {name} with ")), "{talk}");
        assert!(talk.contains("--checkpoint-seconds 0 --out 'a run' --resume\n"), "{talk}");
    }
    done(&folder, &resumed);
    assert!(read(&folder, "a run/scores.json") == read(&folder, "whole/scores.json"));
}

/// While a process is halted, two signals wait; when it goes on it gets both before anything else.
#[test]
fn a_second_signal_ends_a_run_at_once() {
    let folder = tempdir().unwrap();
    let child = start(&folder, &[&LONG[..], &["--out", "run"]].concat(), "run/checkpoint.bin");
    for signal in [Signal::STOP, Signal::INT, Signal::TERM, Signal::CONT] {
        send(&child, signal);
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.signal().is_some(), "{:?}: {}", output.status, talk(&output));
}

/// The second piece of work in one process that listens.
#[test]
fn scoring_is_stopped_as_well_after_fitting_constants() {
    let folder = tempdir().unwrap();
    let exact = ["score", "ioi", "--model", "toy-2l", "--method", "exact", "--ablation", "optimal", "--pairs", "16"];
    let exact = [&exact[..], &["--corruption", "third-name", "--checkpoint-seconds", "0", "--out", "run"]].concat();
    let child = start(&folder, &exact, "run/checkpoint.bin");
    send(&child, Signal::INT);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}: {}", output.status, talk(&output));
    assert!(folder.path().join("run/constants.safetensors").exists());
}

/// What goes on after the scoring cannot be taken up in the middle, but the scores are kept for it.
#[test]
fn discover_goes_on_from_its_scores() {
    let folder = tempdir().unwrap();
    let discover = ["discover", "ioi", "--model", "toy-4l", "--method", "exact", "--pairs", "16", "--edges", "40"];
    let arguments = [&discover[..], &["--no-refine", "--evidence-pairs", "8", "--random-circuits", "2"]].concat();
    done(&folder, &[&arguments[..], &["--out", "whole"]].concat());
    let arguments = [&arguments[..], &["--checkpoint-seconds", "0", "--out", "run"]].concat();
    let mut child = start(&folder, &arguments, "run/checkpoint.bin");
    child.kill().unwrap();
    child.wait().unwrap();
    done(&folder, &[&arguments[..], &["--resume"]].concat());
    for file in ["scores.json", "circuit.json"] {
        assert!(read(&folder, &format!("run/{file}")) == read(&folder, &format!("whole/{file}")), "{file}");
    }
    assert!(!folder.path().join("run/checkpoint.bin").exists());
}

/// Scores all four shards of a run into one folder.
fn score_shards(folder: &TempDir, arguments: &[&str]) -> Vec<PathBuf> {
    let score = |index: usize| {
        done(folder, &[arguments, &["--shard", &format!("{index}/4")]].concat());
        folder.path().join(format!("run/shard-{index}-of-4.json"))
    };
    (0..4).map(score).collect()
}

/// Exact scores are differences of metrics of the size of 10: where the metric does not change, its rounding is left.
const ROUNDING: f64 = 1e-13;

#[test]
fn four_shards_together_are_the_whole_run() {
    let folder = tempdir().unwrap();
    for method in ["eap", "eap-ig", "exact"] {
        // One pair at a time, or in f64: the same numbers whatever the batches are.
        for exactly in [["--batch", "1"], ["--dtype", "f64"]] {
            let score = ["score", "ioi", "--model", "toy-2l", "--method", method, "--pairs", "14"];
            let score = [&score[..], &exactly].concat();
            done(&folder, &[&score[..], &["--out", "whole"]].concat());
            let shards = score_shards(&folder, &[&score[..], &["--out", "run"]].concat());
            done(&folder, &["merge", "run", "--out", "merged"]);
            let whole = scores_file::read(&folder.path().join("whole/scores.json")).unwrap();
            let merged = scores_file::read(&folder.path().join("merged/scores.json")).unwrap();
            assert_eq!(whole.provenance, merged.provenance);
            for edge in whole.graph.edges() {
                let (a, b) = (whole.scores.get(*edge), merged.scores.get(*edge));
                let same = a.to_bits().abs_diff(b.to_bits()) <= 1 || f64::from(a - b).abs() <= ROUNDING;
                assert!(same, "{method}, {exactly:?}, {}: {a}, {b}", whole.graph.name(*edge));
            }
            // The same in f64: a single shard is the whole run.
            done(&folder, &[&score[..], &["--shard", "0/1", "--out", "whole"]].concat());
            let whole = Merged::read(&[folder.path().join("whole/shard-0-of-1.json")]).unwrap();
            let merged = Merged::read(&shards).unwrap();
            for (a, b) in whole.sums.iter().zip(&merged.sums) {
                assert!((a - b).abs() <= 1e-9 * a.abs() + ROUNDING, "{method}, {exactly:?}: {a}, {b}");
            }
            let mut order = shards;
            order.reverse();
            assert!(Merged::read(&order).unwrap().sums == merged.sums);
        }
    }
}

#[test]
fn a_shard_is_resumed_and_one_that_is_done_is_left_alone() {
    let folder = tempdir().unwrap();
    done(&folder, &[&LONG[..], &["--shard", "1/2", "--out", "whole"]].concat());
    let arguments = [&LONG[..], &["--shard", "1/2", "--out", "run"]].concat();
    let resumed = [&arguments[..], &["--resume"]].concat();
    // Nothing is there yet, as where a job was stopped before this shard came to its first checkpoint.
    let mut child = start(&folder, &resumed, "run/checkpoint-1-of-2.bin");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(talk(&done(&folder, &resumed)).contains("% is done; scoring the rest"));
    assert!(read(&folder, "run/shard-1-of-2.json") == read(&folder, "whole/shard-1-of-2.json"));
    assert!(talk(&done(&folder, &resumed)).contains("shard 1/2 is done already"));
    refuses(&folder, &["merge", "run"], &["1 of 2 shards are missing: 0/2"]);
}

fn per_pair(folder: &TempDir, file: &str) -> (Array2<f32>, Array2<u8>) {
    let mut file = NpzReader::new(std::fs::File::open(folder.path().join(file)).unwrap()).unwrap();
    (file.by_name("scores").unwrap(), file.by_name("edges").unwrap())
}

#[test]
fn the_mean_of_the_scores_of_every_pair_is_the_score() {
    let folder = tempdir().unwrap();
    let score = ["score", "ioi", "--model", "toy-2l", "--pairs", "10", "--per-pair", "--batch", "1"];
    done(&folder, &[&score[..], &["--out", "whole"]].concat());
    let (scores, names) = per_pair(&folder, "whole/per-pair.npz");
    let whole = scores_file::read(&folder.path().join("whole/scores.json")).unwrap();
    assert_eq!(scores.dim(), (10, whole.graph.edge_count()));
    for (column, &edge) in whole.graph.edges().iter().enumerate() {
        let name = String::from_utf8(names.row(column).to_vec()).unwrap();
        assert_eq!(name.trim_end_matches('\0'), whole.graph.name(edge));
        let of_edge = scores.column(column).mapv(f64::from);
        let error = (of_edge.mean().unwrap() - f64::from(whole.scores.get(edge))).abs();
        assert!(error <= f64::from(f32::EPSILON) * of_edge.mapv(f64::abs).mean().unwrap(), "{name}: {error}");
    }
    assert!(scores.var_axis(Axis(0), 0.0).sum() > 0.0, "all pairs have the same scores");

    score_shards(&folder, &[&score[..], &["--out", "run"]].concat());
    done(&folder, &["merge", "run"]);
    assert!(read(&folder, "run/per-pair.npz") == read(&folder, "whole/per-pair.npz"));
    std::fs::remove_file(folder.path().join("run/per-pair-2-of-4.npz")).unwrap();
    refuses(&folder, &["merge", "run"], &["per-pair-2-of-4.npz"]);
}

#[test]
fn the_launcher_s_number_is_taken_only_when_asked_for() {
    let folder = tempdir().unwrap();
    let score = ["score", "ioi", "--model", "toy-2l", "--method", "eap", "--pairs", "4", "--out", "run"];
    let under_mpi = |more: &[&str]| {
        let mut command = penjing(folder.path(), &[&score[..], more].concat());
        command.env("OMPI_COMM_WORLD_RANK", "1").env("OMPI_COMM_WORLD_SIZE", "2");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", talk(&output));
    };
    under_mpi(&[]);
    assert!(folder.path().join("run/scores.json").exists());
    under_mpi(&["--shard", "auto"]);
    assert!(folder.path().join("run/shard-1-of-2.json").exists());
    refuses(&folder, &[&score[..], &["--shard", "auto"]].concat(), &["--shard auto finds no number"]);
}

#[test]
fn shards_that_are_not_those_of_one_run_are_refused() {
    let folder = tempdir().unwrap();
    let score = ["score", "ioi", "--model", "toy-2l", "--method", "eap", "--pairs", "8", "--out", "run"];
    refuses(&folder, &[&score[..], &["--shard", "4/4"]].concat(), &["no shard 4 of 4", "0/4 to 3/4"]);
    refuses(&folder, &[&score[..], &["--shard", "x"]].concat(), &["`x` is no shard", "`0/4`"]);
    refuses(&folder, &[&score[..], &["--shard", "0/9"]].concat(), &["9 shards of 8 pairs"]);
    refuses(&folder, &["merge", "."], &["holds no shard"]);
    refuses(&folder, &["merge", "none.json"], &["none.json"]);
    score_shards(&folder, &score);
    let path = |index: usize| format!("run/shard-{index}-of-4.json");
    let [first, second, third, fourth] = [path(0), path(1), path(2), path(3)];
    refuses(&folder, &["merge", &third, &first], &["2 of 4 shards are missing: 1/4, 3/4", "--shard 1/4"]);
    refuses(&folder, &["merge", "run", &second], &["shard 1/4 is there twice", &second]);

    let mut text = String::from_utf8(read(&folder, &first)).unwrap();
    text = text.replace("\"seed\": 0", "\"seed\": 1");
    std::fs::write(folder.path().join("foreign.json"), &text).unwrap();
    refuses(
        &folder,
        &["merge", "foreign.json", &second, &third, &fourth],
        &["foreign.json", "are of different runs", "seed is 1 there and 0 here"],
    );
    let cut = text.replace("\"first_pair\": 0", "\"first_pair\": 1");
    std::fs::write(folder.path().join("cut.json"), cut).unwrap();
    refuses(&folder, &["merge", "cut.json"], &["the pairs are not those of shard 0/4 of 8 pairs"]);
    std::fs::write(folder.path().join("half.json"), &text[..text.len() / 2]).unwrap();
    refuses(&folder, &["merge", "half.json"], &["half.json", "not the expected JSON"]);
    refuses(&folder, &["merge", "/dev/null"], &["not the expected JSON"]);
    done(
        &folder,
        &["score", "ioi", "--model", "toy-2l", "--method", "eap", "--pairs", "8", "--out", "other", "--shard", "0/2"],
    );
    refuses(&folder, &["merge", "other/shard-0-of-2.json", &second], &["shards is 2 there and 4 here"]);
}

/// Constants that harm least are found by a long run of their own, before the scoring.
#[test]
fn fitting_constants_goes_on_where_it_was_killed() {
    let folder = tempdir().unwrap();
    let fit = ["discover", "ioi", "--model", "toy-2l", "--method", "eap", "--ablation", "optimal"];
    let fit = [&fit[..], &["--pairs", "32", "--edges", "12", "--corruption", "third-name"]].concat();
    let fit = [&fit[..], &["--evidence-pairs", "8", "--checkpoint-seconds", "0"]].concat();
    done(&folder, &[&fit[..], &["--out", "whole"]].concat());
    let out = [&fit[..], &["--out", "run"]].concat();
    let resumed = [&out[..], &["--resume"]].concat();
    refuses(&folder, &resumed, &["there is nothing to resume: run/checkpoint.bin does not exist"]);
    for arguments in [&out, &resumed, &resumed] {
        let mut child = start(&folder, arguments, "run/constants.safetensors");
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
        assert!(!folder.path().join("run/scores.json").exists());
    }
    done(&folder, &resumed);
    for file in ["constants.safetensors", "scores.json", "circuit.json"] {
        assert!(read(&folder, &format!("run/{file}")) == read(&folder, &format!("whole/{file}")), "{file} differs");
    }
    // What was found is not looked for again: by a second run, by its shards, and by evidence, which draws the same pairs.
    let kept = "constants are those in run/constants.safetensors";
    let again = done(&folder, &out);
    assert!(talk(&again).contains(kept), "{}", talk(&again));
    let shard = ["score", "ioi", "--model", "toy-2l", "--method", "eap", "--ablation", "optimal"];
    let shard =
        [&shard[..], &["--pairs", "32", "--corruption", "third-name", "--shard", "1/2", "--out", "run"]].concat();
    let shard = done(&folder, &shard);
    assert!(talk(&shard).contains(kept), "{}", talk(&shard));
    let evaluate = done(&folder, &["evaluate", "run/circuit.json", "--pairs", "8"]);
    assert!(!talk(&evaluate).contains("fitting constants"), "{}", talk(&evaluate));
    // Nor is it taken for another run, or where it is damaged.
    let other = done(&folder, &[&out[..], &["--seed", "5"]].concat());
    assert!(talk(&other).contains("run/constants.safetensors is of another run: tokens is"), "{}", talk(&other));
    done(&folder, &out);
    let mut bytes = read(&folder, "run/constants.safetensors");
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(folder.path().join("run/constants.safetensors"), bytes).unwrap();
    let damaged = done(&folder, &out);
    assert!(talk(&damaged).contains("run/constants.safetensors is damaged"), "{}", talk(&damaged));
    assert!(read(&folder, "run/constants.safetensors") == read(&folder, "whole/constants.safetensors"));
}
