//! The toy models in `models/`: the same logits as transformers', and what the README says they can do.

#![cfg(feature = "torch")]

use penjing::dataset;
use penjing::model::tap::NoTap;
use penjing::model::{Loaded, Pass, Start, load};
use penjing::task::{self, Capacity, Expansion, PromptPair, Split};
use serde_json::Value;
use tch::Tensor;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const TOYS: [&str; 3] = ["toy-2l", "toy-4l", "toy-6l"];
/// The tasks that `toy-4l` and `toy-6l` must have learned.
const FIRST_SEVEN: [&str; 7] =
    ["ioi", "greater-than", "gendered-pronoun", "subject-verb-agreement", "induction", "docstring", "country-capital"];

fn toy(name: &str) -> Loaded {
    load(&format!("{ROOT}/models/{name}")).unwrap()
}

fn last_logits(toy: &Loaded, ids: &[u32]) -> Vec<f32> {
    let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
    let tokens = Tensor::from_slice(&ids).unsqueeze(0); // [1, pos]
    let logits = toy.model.forward(Start::Tokens(&tokens), &Pass::LAST, &mut NoTap); // [1, 1, vocab]
    Vec::<f32>::try_from(logits.view(-1)).unwrap()
}

fn pairs(task: &str, split: Split, most: usize, corruption: Option<&str>) -> Vec<PromptPair> {
    let task = task::built_in(task).unwrap();
    let pairs = match task::capacity(&task, split, corruption).unwrap() {
        Capacity::Exactly(possible) => possible.min(most),
        Capacity::AtMost(_) => most,
    };
    let corruption = corruption.map(str::to_owned);
    task::expand(&task, &Expansion { split, pairs, seed: 7, corruption }).unwrap()
}

#[test]
fn logits_are_those_of_transformers() {
    let text = std::fs::read_to_string(format!("{ROOT}/tests/data/toy_logits.json")).unwrap();
    let fixture: Value = serde_json::from_str(&text).unwrap();
    for name in TOYS {
        let toy = toy(name);
        let rows = fixture["models"][name].as_array().unwrap();
        assert!(rows.len() >= 3, "{name} has {} prompts", rows.len());
        for row in rows {
            let prompt = row["prompt"].as_str().unwrap();
            let ids: Vec<u32> = row["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            assert_eq!(toy.tokenizer.encode(prompt).unwrap().ids, ids, "{name}: {prompt}");
            let ours = last_logits(&toy, &ids);
            let theirs: Vec<f32> =
                row["logits"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect();
            assert_eq!(ours.len(), theirs.len());
            let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{name}: {prompt}: logits differ by {worst}");
        }
    }
}

#[test]
fn held_out_combinations_are_answered() {
    for name in ["toy-4l", "toy-6l"] {
        let toy = toy(name);
        for task in FIRST_SEVEN {
            let dataset = dataset::tokenize(&pairs(task, Split::Test, 100, None), &toy.tokenizer, None).unwrap();
            let right = dataset.pairs.iter().filter(|pair| {
                let logits = last_logits(&toy, &pair.clean);
                let best = |ids: &[u32]| ids.iter().map(|id| logits[*id as usize]).fold(f32::NEG_INFINITY, f32::max);
                best(&pair.right) > best(&pair.wrong)
            });
            let right = right.count();
            assert!(
                right * 100 >= dataset.pairs.len() * 98,
                "{name} answers {right} of {} of {task}",
                dataset.pairs.len()
            );
        }
    }
}

#[test]
fn one_tokenizer_knows_every_word_of_every_task() {
    let [two, four, six] = TOYS.map(|name| std::fs::read(format!("{ROOT}/models/{name}/tokenizer.json")).unwrap());
    assert!(two == four && four == six);
    let tokenizer = toy("toy-2l").tokenizer;
    for name in task::built_in_names() {
        let task::Content::Templates(templates) = task::built_in(name).unwrap().content else { panic!("{name}") };
        for corruption in &templates.corruptions {
            let pairs = pairs(name, Split::All, 1000, Some(corruption));
            let dataset = dataset::tokenize(&pairs, &tokenizer, None).unwrap();
            assert!(dataset.pairs.iter().all(|pair| pair.clean.len() < 64));
        }
    }
}

#[test]
fn the_folders_stay_small() {
    let sizes = TOYS.map(|name| std::fs::metadata(format!("{ROOT}/models/{name}/model.safetensors")).unwrap().len());
    assert!(sizes.iter().all(|size| *size < 8_000_000) && sizes.iter().sum::<u64>() < 16_000_000, "{sizes:?}");
}
