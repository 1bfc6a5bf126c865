//! Ten thousand texts that look like sites, some right and some nearly: each is refused with an error that helps, or does what
//! it says, seen by a second tap. Nothing in between, and no panic.

#![cfg(feature = "torch")]

use penjing::error::Hint;
use penjing::inside::row;
use penjing::intervene::address::{Part, Place};
use penjing::intervene::parse;
use penjing::intervene::position::{PositionSet, Prompt};
use penjing::intervene::record::{Keep, Record};
use penjing::intervene::run::{PlanTap, Supplies};
use penjing::model::{Dtype, LoadOptions, Model, Pass, Start, load_with};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use tch::Tensor;

const TEXTS: usize = 10_000;
/// No value of a random model is this.
const MARK: f64 = 7.25;

fn pick<'a>(random: &mut ChaCha8Rng, of: &[&'a str]) -> &'a str {
    of[(random.next_u64() % of.len() as u64) as usize]
}

/// A number, most often a small one.
fn number(random: &mut ChaCha8Rng) -> String {
    match random.next_u64() % 12 {
        0 => "*".into(),
        1 => format!("{{{},{}}}", random.next_u64() % 3, random.next_u64() % 5),
        2 => format!("{}..{}", random.next_u64() % 3, random.next_u64() % 4),
        3 => (random.next_u64() % 100_000).to_string(),
        _ => (random.next_u64() % 3).to_string(),
    }
}

fn text(random: &mut ChaCha8Rng) -> String {
    let layer = number(random);
    let unit = number(random);
    let place = match random.next_u64() % 8 {
        0 => pick(random, &["emb", "final", "embed", "logits", "L", ""]).to_owned(),
        1 | 2 => format!("L{layer}{}", pick(random, &["", ".in", ".mid", ".attn", ".mlp", ".out"])),
        3 | 4 => format!("L{layer}.H{unit}{}", pick(random, &["", ".q", ".k", ".v", ".z", ".pattern", ".o"])),
        5 | 6 => format!("L{layer}.N{unit}{}", pick(random, &["", ".pre", ".post"])),
        _ => format!("L{layer}{}.sae(g).F{unit}", pick(random, &["", ".mlp", ".H0"])),
    };
    let position =
        pick(random, &["", "", ":-1", ":0", ":1..2", ":{0,-1}", ":all", ":prompt", ":gen", ":2", ":9", ":\"x\"", ":"]);
    let mut text = format!("{place}{position}");
    // An eighth of them with a mistake.
    if random.next_u64().is_multiple_of(8) && !text.is_empty() {
        let at = (random.next_u64() % text.len() as u64) as usize;
        match random.next_u64() % 3 {
            0 => drop(text.remove(at)),
            1 => text.insert(at, char::from(b' ' + (random.next_u64() % 95) as u8)),
            _ => text.truncate(at),
        }
    }
    text
}

/// Whether the site of an address holds what was put there, and nothing else does: the values after the edit, as another tap
/// sees them, at the positions that the address names.
fn holds_the_mark(model: &Model, site: &str, tokens: &[u32], tap: &mut PlanTap) -> bool {
    let address = parse::address(site).unwrap();
    let slices = address.place.slices(&model.spec).unwrap();
    let mut record = Record::new(slices.iter().map(|slice| slice.site)).keeping(Keep::Values);
    let _ = tch::no_grad(|| model.forward(Start::Tokens(&row(model, tokens)), &Pass::ALL, &mut (tap, &mut record)));
    let recording = record.finish().unwrap();
    let prompt = Prompt::of_length(tokens.len());
    let position = address.position.clone().map_or(PositionSet::From(0), |position| prompt.resolve(&position).unwrap());
    let positions: Vec<i64> =
        position.within(&(0..tokens.len())).iter().map(|(_, position)| *position as i64).collect();
    slices.iter().all(|slice| {
        let pattern = matches!(&address.place, Place::Layers(_, Part::Head(_, part)) if part.to_string() == ".pattern");
        let value = &recording.values[&slice.site]; // [1, pos, ..], patterns [1, head, query, key]
        let value = if pattern { value.transpose(1, 2) } else { value.shallow_clone() };
        let at = value.index_select(1, &Tensor::from_slice(&positions));
        let at = match &slice.units {
            None => at,
            Some(units) => {
                let units: Vec<i64> = units.iter().map(|&unit| unit as i64).collect();
                at.index_select(2, &Tensor::from_slice(&units))
            }
        };
        let (low, high) = (at.min().double_value(&[]), at.max().double_value(&[]));
        let marked = value.eq(MARK).count_nonzero(None::<i64>).int64_value(&[]);
        low == MARK && high == MARK && marked as usize == at.numel()
    })
}

#[test]
fn ten_thousand_sites_do_what_they_say_or_say_why_not() {
    tch::set_num_threads(1);
    let tokens = [3u32, 8, 1, 5];
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let (mut done, mut refused, mut unread) = (0, 0, 0);
    for (count, name) in [(TEXTS / 2, "gpt2"), (TEXTS / 4, "gemma2"), (TEXTS / 4, "gpt_neox")] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/reference").join(name);
        let options = LoadOptions { dtype: Dtype::F32, ..LoadOptions::default() };
        let loaded = load_with(folder.to_str().unwrap(), &options).unwrap();
        let (model, prompts) = (&loaded.model, [Prompt::of_length(tokens.len())]);
        for _ in 0..count {
            let site = text(&mut random);
            let plan = match parse::plan(&format!("{site} = set {MARK}")) {
                Err(error) => {
                    assert!(!error.to_string().is_empty(), "{site}");
                    unread += 1;
                    continue;
                }
                Ok(plan) if plan.edits.len() == 1 => plan,
                // A mistake can make a comment or a second edit of it.
                Ok(_) => continue,
            };
            let mut tap = match PlanTap::new(&plan, &model.spec, &prompts, &Supplies::default(), None) {
                Ok(tap) => tap,
                Err(error) => {
                    let hint = error.hint().unwrap_or_default();
                    let named = plan.edits[0].to_string();
                    assert!(error.to_string().contains(&named), "{site}: {error}");
                    assert!(!hint.is_empty(), "{site}: {error}");
                    refused += 1;
                    continue;
                }
            };
            let written = plan.edits[0].target.to_string();
            assert!(holds_the_mark(model, &written, &tokens, &mut tap), "{name}: {site} is not what was set");
            let receipt = tap.finish().unwrap_or_else(|error| panic!("{site}: {error}"));
            assert!(!receipt.entries.is_empty(), "{site}");
            for entry in &receipt.entries {
                assert!(entry.values > 0 && entry.changed == entry.values, "{site}: {entry}");
            }
            done += 1;
        }
    }
    // Each of the three is common, or the texts are not what they are meant to be.
    assert!(done > TEXTS / 5 && refused > TEXTS / 5 && unread > TEXTS / 10, "{done}, {refused}, {unread}");
}
