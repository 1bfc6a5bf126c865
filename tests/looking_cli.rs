//! The commands that look inside, through the binary: what they write, that they repeat to the byte, and what they refuse.

#![cfg(feature = "torch")]

mod command;

use command::{json, penjing};
use serde_json::Value;
use std::path::Path;
use tempfile::tempdir;

const PROMPT: &str = "When Mary and John went to the store, John gave a drink to";

#[track_caller]
fn text(folder: &Path, arguments: &[&str]) -> String {
    let output = penjing(folder).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn refuses(folder: &Path, arguments: &[&str], says: &str) {
    command::refuses(folder, arguments, &[says]);
}

/// A text of two tasks' sentences, for lenses and maps.
fn write_text(folder: &Path) {
    let sentences = ["store", "bank", "park", "school", "garden", "office"].map(|place| {
        format!("When Mary and John went to the {place}, John gave a drink to Mary\n\nThe key near the cabinets is\n\n")
    });
    std::fs::write(folder.join("text.txt"), sentences.concat()).unwrap();
    std::fs::write(folder.join("prompts.txt"), format!("{}\n", PROMPT.replace("store", "bank"))).unwrap();
}

#[test]
fn repair_sums_and_repeats() {
    let folder = tempdir().unwrap();
    let arguments = ["repair", "subject-verb-agreement", "--pairs", "6", "--site", "L1.mlp", "--out", "out"];
    let found = json(folder.path(), &arguments);
    let mean = |of: &Value| of["mean"].as_f64().unwrap();
    assert_eq!(found["schema"], "penjing.repair/1");
    assert_eq!((&found["edit"], &found["prompts"]), (&"L1.mlp:-1 = zero".into(), &6.into()));
    let compensators = found["compensators"].as_array().unwrap();
    assert_eq!(compensators.len(), 10, "four heads and an MLP in each of two layers");
    let parts = compensators.iter().map(mean).sum::<f64>() + mean(&found["rescaled"]) + mean(&found["norm"]);
    let repaired = mean(&found["self_repair"]);
    assert!((repaired - mean(&found["direct_effect"]) - mean(&found["total_effect"])).abs() < 1e-9);
    assert!((repaired - parts).abs() < 1e-4, "{parts}, {repaired}");
    assert!((mean(&found["share_repaired"]) * mean(&found["direct_effect"]) - repaired).abs() < 1e-9);
    assert!(found["residue"].as_f64().unwrap() < 1e-4);
    for file in ["repair.json", "repair.svg"] {
        assert!(folder.path().join("out").join(file).exists(), "{file}");
    }
    let first = text(folder.path(), &arguments);
    assert_eq!(first, text(folder.path(), &arguments));
    // One prompt says nothing of others.
    let one = json(folder.path(), &["repair", PROMPT, "--answer", " Mary", "--wrong", " John", "--site", "L3.H1"]);
    assert!(one["direct_effect"]["interval"].is_null() && one["prompts"] == 1);
    // Without a site the direct effects are listed, the largest first.
    let listed = json(folder.path(), &["repair", "ioi", "--pairs", "3", "--top", "4"]);
    let sizes: Vec<f64> = listed["components"].as_array().unwrap().iter().map(|one| mean(one).abs()).collect();
    assert!(sizes.len() == 4 && sizes.windows(2).all(|two| two[0] >= two[1]), "{sizes:?}");
    let name = listed["components"][0]["name"].as_str().unwrap();
    let ablated = json(folder.path(), &["repair", "ioi", "--pairs", "3", "--site", name]);
    assert!((mean(&ablated["direct_effect"]) - mean(&listed["components"][0])).abs() < 1e-4);
}

#[test]
fn repair_refuses_what_it_cannot_ablate() {
    let folder = tempdir().unwrap();
    let of = |rest: &[&'static str]| [&["repair", "ioi", "--pairs", "2"][..], rest].concat();
    for (arguments, says) in [
        (of(&["--site", "L9.H1"]), "the nearest site is `L3.H1`"),
        (of(&["--site", "L1"]), "adds nothing to the residual stream by itself"),
        (of(&["--site", "L1.H0.q"]), "components are heads"),
        (of(&["--site", "L*.mlp"]), "name one layer"),
        (of(&["--site", "L1.mlp:99"]), "outside the prompt"),
        (of(&["--site", "L1.mlp", "--ablation", "half"]), "zero"),
        (of(&["--wrong", " John"]), "--answer"),
        (of(&["--top", "0"]), "leave --pairs and --top out"),
        (vec!["repair", "iio"], "did you mean"),
        (vec!["repair", PROMPT, "--answer", " Mary John", "--site", "L1.mlp"], "hint: "),
        (vec!["repair", PROMPT, "--answer", " Mary", "--site", "L1.mlp", "--ablation", "mean"], "--means FILE"),
        (vec!["repair", PROMPT, "--answer", " Mary", "--site", "L1.mlp", "--theme", "pink"], "hint: "),
    ] {
        refuses(folder.path(), &arguments, says);
    }
}

#[test]
fn a_lens_is_tuned_used_and_refused() {
    let folder = tempdir().unwrap();
    write_text(folder.path());
    let tune = ["tune-lens", "text.txt", "--steps", "12", "--tokens", "64", "--out", "l.st", "--report", "report"];
    let found = json(folder.path(), &tune);
    assert_eq!(found["schema"], "penjing.tune-lens/1");
    let places = found["places"].as_array().unwrap();
    assert_eq!(places.len(), 5, "the embedding, three blocks and the output");
    assert!(places[0]["tuned"]["kl"].as_f64().unwrap() < places[0]["logit"]["kl"].as_f64().unwrap());
    let first = std::fs::read(folder.path().join("l.st")).unwrap();
    let _ = text(folder.path(), &tune);
    assert_eq!(first, std::fs::read(folder.path().join("l.st")).unwrap(), "the same seed, the same bytes");
    assert!(
        folder.path().join("report/tune-lens.svg").exists() && folder.path().join("report/tune-lens.json").exists()
    );
    let (plain, tuned) =
        (json(folder.path(), &["lens", PROMPT]), json(folder.path(), &["lens", PROMPT, "--lens", "l.st"]));
    assert_eq!((&plain["lens"], &tuned["lens"]), (&"logit".into(), &"tuned".into()));
    assert_eq!(plain["places"][4], tuned["places"][4], "the last layer is the model");
    assert_ne!(plain["places"][2], tuned["places"][2]);
    std::fs::write(folder.path().join("short.txt"), "The key\n").unwrap();
    std::fs::write(folder.path().join("bytes.txt"), [0xff, 0xfe]).unwrap();
    for (arguments, says) in [
        (&["lens", PROMPT, "--model", "toy-2l", "--lens", "l.st"][..], "not from this model"),
        (&["lens", PROMPT, "--lens", "text.txt"], "holds no tuned lens"),
        (&["lens", PROMPT, "--lens", "missing.st"], "missing.st"),
        (&["lens", PROMPT, "--lens", "l.st", "--sublayers"], "--sublayers"),
        (&["tune-lens"], "<TEXT>"),
        (&["tune-lens", "short.txt"], "too few to train on some"),
        (&["tune-lens", "bytes.txt"], "no text in UTF-8"),
        (&["tune-lens", "text.txt", "--steps", "0"], "train nothing"),
        (&["tune-lens", "text.txt", "--rate", "nan"], "train nothing"),
        (&["tune-lens", "text.txt", "--weight-decay=-1"], "0 or more"),
        (&["tune-lens", "text.txt", "--window", "1"], "leave --window out"),
        (&["tune-lens", "text.txt", "--optimiser", "lion"], "sgd"),
    ] {
        refuses(folder.path(), arguments, says);
    }
}

#[test]
fn a_sweep_marks_natural_values_and_prices_text() {
    let folder = tempdir().unwrap();
    write_text(folder.path());
    let sweep = |rest: &[&'static str]| [&["sweep", PROMPT, "--watch", " Mary"][..], rest].concat();
    let dosed = sweep(&["--dose", "L1.N7:-1 = set a", "--doses=-50,0.1,50", "--text", "text.txt", "--out", "out"]);
    let found = json(folder.path(), &dosed);
    let off: Vec<&Value> = found["doses"].as_array().unwrap().iter().map(|dose| &dose["off_distribution"]).collect();
    assert_eq!((off[0], off[2]), (&true.into(), &true.into()));
    let natural = &found["natural"];
    assert_eq!(natural["quantiles"].as_array().unwrap().len(), 6);
    assert_eq!(natural["quantiles"][5]["value"], natural["range"][1]);
    assert_eq!(natural["quantiles"][2]["value"], natural["quantiles"][2]["dose"], "a dose that is set is a value");
    let price = |of: &Value| of["mean"].as_f64().unwrap();
    let plain = price(&found["unedited_cross_entropy"]);
    assert!((price(&found["doses"][0]["cross_entropy"]) - plain).abs() > 1e-3, "{found}");
    assert!(std::fs::read_to_string(folder.path().join("out/sweep.svg")).unwrap().contains("cross-entropy"));
    assert!(text(folder.path(), &dosed).contains("off-distribution"));
    // Over another text the same doses are something else; several numbers have no one axis.
    let other = json(folder.path(), &[&dosed[..], &["--natural", "text.txt"]].concat());
    assert!(other["natural"]["tokens"].as_u64() > natural["tokens"].as_u64());
    assert!(json(folder.path(), &sweep(&["--dose", "L1 = scale a"]))["natural"].is_null());
    for (arguments, says) in [
        (sweep(&["--dose", "L1 = scale a", "--natural", "text.txt"]), "does not dose one number"),
        (sweep(&["--dose", "L1.N7 = set a", "--natural", "missing.txt"]), "missing.txt"),
        (sweep(&["--dose", "L1.N7 = set a", "--text", "missing.txt"]), "missing.txt"),
        (sweep(&["--dose", "L1.N7 = set a", "--task", "ioi"]), "no edit puts a mean in"),
    ] {
        refuses(folder.path(), &arguments, says);
    }
}

#[test]
fn means_are_given_where_edits_need_them() {
    let folder = tempdir().unwrap();
    write_text(folder.path());
    let of = |rest: &[&'static str]| [&["run", PROMPT, "--edit", "L3.H1 = mean"][..], rest].concat();
    let kl = |arguments: &[&str]| json(folder.path(), arguments)["kl"].as_f64().unwrap();
    let (file, task) = (kl(&of(&["--means", "prompts.txt"])), kl(&of(&["--task", "ioi"])));
    assert!(file > 0.0 && task > 0.0 && file != task, "{file}, {task}");
    std::fs::write(folder.path().join("empty.txt"), "\n").unwrap();
    for (arguments, says) in [
        (of(&[]), "give --means FILE or --task TASK"),
        (of(&["--means", "empty.txt"]), "holds no prompts"),
        (of(&["--means", "missing.txt"]), "missing.txt"),
        (of(&["--means", "prompts.txt", "--task", "ioi"]), "cannot be used with"),
        (of(&["--task", "iio"]), "did you mean"),
        (vec!["run", PROMPT, "--task", "ioi"], "no edit puts a mean in"),
    ] {
        refuses(folder.path(), &arguments, says);
    }
}

#[test]
fn a_patchscope_maps_and_reads_many_sources() {
    let folder = tempdir().unwrap();
    write_text(folder.path());
    let of = |rest: &[&'static str]| [&["patchscope", PROMPT, "--target", "The key near the"][..], rest].concat();
    let fitted = of(&["--mapping", "affine", "--fit", "text.txt", "--grid", "--keep-maps", "m.st"]);
    let kept = of(&["--mapping", "affine", "--maps", "m.st", "--grid", "--prompts", "prompts.txt", "--out", "out"]);
    let (fitted, kept) = (json(folder.path(), &fitted), json(folder.path(), &kept));
    assert_eq!(fitted["mapping"], "affine");
    assert!(fitted["over_prompts"].is_null());
    for (one, other) in fitted["cells"].as_array().unwrap().iter().zip(kept["cells"].as_array().unwrap()) {
        let share = |cell: &Value| cell["likeliest"][0][1].as_f64().unwrap();
        assert_eq!(one["likeliest"][0][0], other["likeliest"][0][0]);
        assert!((share(one) - share(other)).abs() < 1e-3, "{one}, {other}");
    }
    let over = &kept["over_prompts"];
    assert_eq!((&over["sources"], over["pairs"].as_array().unwrap().len()), (&2.into(), 16));
    assert!(folder.path().join("out/patchscope-prompts.svg").exists());
    // Put into itself at the last layer the target says what the source says.
    let plain = json(folder.path(), &of(&["--task", "ioi", "--pairs", "5"]));
    let last = plain["over_prompts"]["pairs"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["precision"]["mean"], &last["source_layer"]), (&1.0.into(), &3.into()));
    // A target of a single token is patched as well.
    let single = json(folder.path(), &["patchscope", PROMPT, "--target", "The", "--generate", "2"]);
    assert_eq!(single["cells"][3]["likeliest"][0][0], " Mary");
    for (arguments, says) in [
        (of(&["--mapping", "affine"]), "give --fit FILE"),
        (of(&["--fit", "text.txt"]), "say --mapping affine"),
        (of(&["--mapping", "affine", "--maps", "text.txt"]), "holds no set of affine maps"),
        (of(&["--mapping", "affine", "--maps", "m.st", "--model", "toy-2l"]), "not from this model"),
        (of(&["--mapping", "affine", "--maps", "m.st", "--fit", "text.txt"]), "cannot be used with"),
        (of(&["--keep-maps", "m.st"]), "--fit"),
        (of(&["--prompts", "missing.txt"]), "missing.txt"),
        (of(&["--task", "iio"]), "did you mean"),
        (of(&["--prompts", "prompts.txt", "--at", "40"]), "outside the prompt"),
    ] {
        refuses(folder.path(), &arguments, says);
    }
}

#[test]
fn back_patching_by_text_and_with_a_pair_named_before() {
    let folder = tempdir().unwrap();
    let fixed = ["backpatch", "two-hop", "--model", "toy-6l", "--pairs", "12", "--at", "end"];
    let of = |rest: &[&'static str]| [&fixed[..], rest].concat();
    let found = json(folder.path(), &of(&["--generate", "2", "--pair", "2,1", "--known-hops"]));
    let wrong = found["wrong"].as_u64().unwrap();
    assert!(wrong > 0 && found["prompts"].as_u64() <= found["asked"].as_u64(), "{found}");
    let place = &found["places"][0];
    let of_pair = place["pairs"].as_array().unwrap().iter().find(|pair| pair[0] == 2 && pair[1] == 1).unwrap();
    let named = &place["named_before"];
    assert_eq!((&named["mended"]["count"], &named["mended"]["of"]), (&of_pair[2], &wrong.into()));
    assert!(found["by_text"]["wrong"].as_u64().unwrap() <= wrong, "what is said at once is in the text");
    // Nothing wrong, no table.
    let right = text(folder.path(), &["backpatch", "country-capital", "--model", "toy-6l", "--pairs", "8"]);
    assert_eq!(right, "toy-6l gets all 8 prompts right: there is nothing to mend\n");
    for (arguments, says) in [
        (of(&["--pair", "1,2"]), "write --pair 1,0"),
        (of(&["--pair", "6,0"]), "the layers are 0 to 5"),
        (of(&["--pair", "3"]), "write --pair 1,0"),
        (of(&["--pair", "a,b"]), "--pair"),
        (of(&["--generate", "600"]), "generate less"),
        (vec!["backpatch", "ioi", "--pairs", "8", "--known-hops"], "teaches no single hops"),
    ] {
        refuses(folder.path(), &arguments, says);
    }
}

#[test]
fn prompts_that_no_command_can_take() {
    let folder = tempdir().unwrap();
    let long = format!("When{}", " the store".repeat(60));
    for command in [&["lens"][..], &["run"], &["sweep", "--dose", "L0 = scale a", "--watch", " Mary"]] {
        let with = |prompt: &str, rest: &[&str]| {
            let words = [command, rest, &["--", prompt]].concat();
            words.into_iter().map(str::to_owned).collect::<Vec<String>>()
        };
        let refused = |words: Vec<String>, says: &str| {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            refuses(folder.path(), &words, says);
        };
        refused(with(&long, &[]), "tokens, and the model sees at most 64");
        refused(with("", &[]), "the prompt has no tokens");
        refused(with("When Zyzzyva went", &[]), "the tokenizer does not know");
    }
    let run = ["run", PROMPT, "--edit"];
    let edits = [
        ("L1:\"Rome\" = zero", "the text \"Rome\" does not occur in"),
        ("L1:\"to\" = zero", "occurs 3 times in the prompt"),
        ("L1:99 = zero", "position 99 is outside the prompt"),
        ("L1:S2 = zero", "there is no position named `S2`"),
        ("L9.mlp = zero", "the nearest site is `L3.mlp`"),
        ("L1.mpl = zero", "did you mean `mlp`?"),
    ];
    for (edit, says) in edits {
        refuses(folder.path(), &[&run[..], &[edit]].concat(), says);
    }
}
