//! Roles on a model whose heads do what they do by construction: a previous-token head with an induction head, a
//! duplicate-token head, and heads with random weights, of which nothing is said.

#![cfg(feature = "torch")]

use penjing::circuit::EdgeMask;
use penjing::circuit::roles::{Found, Role};
use penjing::dataset::TokenPair;
use penjing::graph::scores::Scores;
use penjing::graph::{Dimensions, Graph, KvSlots};
use penjing::model::{Loaded, load};
use penjing::render::picture::Content;
use penjing::roles::{Prompts, cards, roles};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;
use std::collections::BTreeMap;

/// Tokens, positions, and the width: tokens, positions, the token before, and a constant.
const WORDS: usize = 60;
const PLACES: usize = 64;
const WIDTH: usize = 2 * WORDS + PLACES + 1;
const BEFORE: usize = WORDS + PLACES;
const D_HEAD: usize = 64;
const HEADS: usize = 3;

/// A matrix of zeros with some entries.
fn matrix(rows: usize, columns: usize, entries: impl Iterator<Item = (usize, usize, f32)>) -> Vec<f32> {
    let mut values = vec![0.0; rows * columns];
    for (row, column, value) in entries {
        values[row * columns + column] = value;
    }
    values
}

/// Attention-only, without norms, in TransformerLens's layout. `copies`: the sign with which the induction head writes.
fn compiled(copies: f32) -> Loaded {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut noise = |size: usize| -> Vec<f32> {
        (0..size).map(|_| 0.02 * ((random.next_u32() as f32 / u32::MAX as f32) - 0.5)).collect()
    };
    // Scores of 30 or so where a key fits.
    let sharp = 16.0;
    let words = |from: usize, to: usize, value: f32| (0..WORDS).map(move |word| (from + word, to + word, value));
    let into_head = |entries: Vec<(usize, usize, f32)>| matrix(WIDTH, D_HEAD, entries.into_iter());
    let out_of_head = |entries: Vec<(usize, usize, f32)>| matrix(D_HEAD, WIDTH, entries.into_iter());
    let previous = [
        into_head((0..PLACES).map(|place| (WORDS + place, place, sharp)).collect()),
        into_head((0..PLACES - 1).map(|place| (WORDS + place, place + 1, sharp)).collect()),
        into_head(words(0, 0, 1.0).collect()),
        out_of_head(words(0, BEFORE, 1.0).collect()),
    ];
    let duplicate = [
        into_head(words(0, 0, sharp).chain([(WIDTH - 1, WORDS, sharp)]).collect()),
        // Of equal tokens the earlier.
        into_head(
            words(0, 0, sharp).chain((0..PLACES).map(|place| (WORDS + place, WORDS, -0.1 * place as f32))).collect(),
        ),
        into_head(Vec::new()),
        out_of_head(Vec::new()),
    ];
    let induction = [
        into_head(words(0, 0, sharp).collect()),
        into_head(words(BEFORE, 0, sharp).collect()),
        into_head(words(0, 0, 1.0).collect()),
        out_of_head(words(0, 0, copies).collect()),
    ];
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
    // The last dimension is a constant.
    let embed = words(0, 0, 1.0).chain((0..WORDS).map(|word| (word, WIDTH - 1, 1.0)));
    tensors.insert("embed.W_E".into(), (vec![WORDS, WIDTH], matrix(WORDS, WIDTH, embed)));
    let places = (0..PLACES).map(|place| (place, WORDS + place, 1.0));
    tensors.insert("pos_embed.W_pos".into(), (vec![PLACES, WIDTH], matrix(PLACES, WIDTH, places)));
    tensors.insert("unembed.W_U".into(), (vec![WIDTH, WORDS], matrix(WIDTH, WORDS, words(0, 0, 1.0))));
    tensors.insert("unembed.b_U".into(), (vec![WORDS], vec![0.0; WORDS]));
    for layer in 0..2 {
        let known: Vec<&[Vec<f32>; 4]> = if layer == 0 { vec![&previous, &duplicate] } else { vec![&induction] };
        for (index, name) in ["W_Q", "W_K", "W_V", "W_O"].into_iter().enumerate() {
            let mut all: Vec<f32> = known.iter().flat_map(|head| head[index].clone()).collect();
            all.extend(noise(HEADS * WIDTH * D_HEAD - all.len()));
            let shape = if name == "W_O" { vec![HEADS, D_HEAD, WIDTH] } else { vec![HEADS, WIDTH, D_HEAD] };
            tensors.insert(format!("blocks.{layer}.attn.{name}"), (shape, all));
        }
        for name in ["b_Q", "b_K", "b_V"] {
            tensors.insert(format!("blocks.{layer}.attn.{name}"), (vec![HEADS, D_HEAD], vec![0.0; HEADS * D_HEAD]));
        }
        tensors.insert(format!("blocks.{layer}.attn.b_O"), (vec![WIDTH], vec![0.0; WIDTH]));
    }
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| (name, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect()))
        .collect();
    let views =
        bytes.iter().map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F32, (*shape).clone(), bytes).unwrap()));
    std::fs::write(folder.path().join("model.safetensors"), safetensors::serialize(views, None).unwrap()).unwrap();
    let config = json!({
        "n_layers": 2, "n_heads": HEADS, "d_model": WIDTH, "d_head": D_HEAD, "d_vocab": WORDS, "n_ctx": PLACES,
        "attn_only": true, "normalization_type": null,
    });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let vocabulary: serde_json::Map<String, serde_json::Value> =
        (0..WORDS).map(|word| (format!("t{word}"), json!(word))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": { "type": "WhitespaceSplit" }, "post_processor": null, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocabulary, "unk_token": "t0" },
    });
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let loaded = load(folder.path().to_str().unwrap()).unwrap();
    // Weights are mapped from the file: it stays until the test ends.
    std::mem::forget(folder);
    loaded
}

/// The whole model, every edge of it with the same score.
fn whole(loaded: &Loaded) -> (Graph, EdgeMask, Scores) {
    let graph = Graph::new(Dimensions::of(&loaded.model.spec, KvSlots::PerQueryHead));
    let mut scores = Scores::zeros(&graph);
    for &edge in graph.edges() {
        scores.set(edge, 1.0);
    }
    (graph.clone(), EdgeMask::full(&graph), scores)
}

fn found(loaded: &Loaded, pairs: &[TokenPair]) -> Vec<Found> {
    let (graph, mask, scores) = whole(loaded);
    let content = Content { graph: &graph, mask: &mask, scores: &scores, roles: &[] };
    roles(&loaded.model, &content, &Prompts::run(&loaded.model, pairs, &mut |_| ()), 0)
}

fn names(found: &[Found]) -> Vec<String> {
    found.iter().map(|found| format!("{} {}", found.node, found.role)).collect()
}

/// Prompts in which a token comes again; the answer is what followed it.
fn prompts() -> Vec<TokenPair> {
    (0..6u32)
        .map(|shift| {
            let clean: Vec<u32> = [1, 2, 3, 4, 5, 6, 3].map(|word| word + 7 * shift).to_vec();
            let corrupt = [&clean[..6], &[5 + 7 * shift]].concat();
            TokenPair {
                right: vec![4 + 7 * shift],
                wrong: vec![6 + 7 * shift],
                first_difference: 6,
                positions: [("first".to_owned(), 2..3), ("end".to_owned(), 6..7)].into_iter().collect(),
                prompt: penjing::task::PromptPair {
                    clean: String::new(),
                    corrupt: String::new(),
                    ..Default::default()
                },
                clean,
                corrupt,
            }
        })
        .collect()
}

#[test]
fn heads_are_named_by_what_they_were_made_for() {
    let loaded = compiled(1.0);
    let found = found(&loaded, &[]);
    assert_eq!(names(&found), ["a0.h0 previous token", "a0.h1 duplicate token", "a1.h0 induction"]);
    for one in &found {
        assert!(one.value > 0.9 && one.value <= 1.0 + 1e-6, "{}: {}", one.node, one.value);
    }
}

#[test]
fn on_prompts_a_copying_head_is_a_mover_and_with_a_minus_a_negative_one() {
    for (sign, expected) in [(1.0, "a1.h0 mover"), (-1.0, "a1.h0 negative mover")] {
        let found = found(&compiled(sign), &prompts());
        let expected =
            ["a0.h0 previous token", "a0.h1 duplicate token", "a0.h1 attends to first", expected, "a1.h0 induction"];
        assert_eq!(names(&found), expected);
        assert_eq!(found[3].evidence[0].1, 1.0, "every answer is copied: {:?}", found[3]);
    }
}

/// Tokens that a head writes, and its attention, against what it was made for.
#[test]
fn cards_show_tokens_and_attention() {
    let loaded = compiled(1.0);
    let (graph, mask, scores) = whole(&loaded);
    let content = Content { graph: &graph, mask: &mask, scores: &scores, roles: &[] };
    let pairs = &prompts()[..1];
    let runs = Prompts::run(&loaded.model, pairs, &mut |_| ());
    let found = roles(&loaded.model, &content, &runs, 0);
    let cards = cards(&loaded.model, &loaded.tokenizer, &content, &runs, 1, &found);
    let card = cards.iter().find(|card| card.node.to_string() == "a1.h0").unwrap();
    assert_eq!(card.role.as_ref().unwrap()[0], "mover");
    let (token, value) = &card.writes[0];
    assert_eq!(token, "t4");
    assert!((value - 1.0).abs() < 1e-3, "{value}");
    let last = card.patterns[0].last().unwrap();
    assert_eq!(last.len(), 7);
    assert!(last[3] > 0.99, "{last:?}");
    let random = cards.iter().find(|card| card.node.to_string() == "a1.h2").unwrap();
    assert_eq!(random.role, None);
}

#[test]
fn roles_have_names_that_are_read_back() {
    let all = [
        Role::Mover,
        Role::NegativeMover,
        Role::Inhibition,
        Role::Induction,
        Role::DuplicateToken,
        Role::PreviousToken,
        Role::Attends("S2".into()),
        Role::Writes,
        Role::WritesAgainst,
    ];
    for role in all {
        assert_eq!(role.to_string().parse::<Role>(), Ok(role));
    }
    assert_eq!("something".parse::<Role>(), Err(()));
}
