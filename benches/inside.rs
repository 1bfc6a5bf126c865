//! What setting every head of `toy-6l` to other values at the end of a ten-shot prompt costs: a run with an edit for each head,
//! a run for each layer with a batch of its heads, and columns that compute the last position alone. Compare within one run;
//! the ratios are printed at the end.

use criterion::{Criterion, criterion_group, criterion_main};
use penjing::inside::column::Column;
use penjing::inside::row;
use penjing::inside::vectors::in_context::Format;
use penjing::intervene::parse;
use penjing::intervene::plan::Plan;
use penjing::intervene::position::Prompt;
use penjing::intervene::run::{PlanTap, Supplies};
use penjing::model::site::Site;
use penjing::model::spec::Layer;
use penjing::model::tap::Tap;
use penjing::model::{Model, Pass, Start, load};
use std::hint::black_box;
use std::time::Instant;
use tch::{Device, Kind, Tensor};

const PAIRS: [(&str, &str); 10] = [
    ("hot", "cold"),
    ("big", "small"),
    ("up", "down"),
    ("old", "new"),
    ("long", "short"),
    ("good", "bad"),
    ("rich", "poor"),
    ("wet", "dry"),
    ("day", "night"),
    ("win", "lose"),
];
/// For the ratios.
const ROUNDS: usize = 15;

/// A run of the whole prompt for each head.
fn edits(model: &Model, tokens: &[u32], means: &[Tensor]) {
    let prompt = [Prompt::of_length(tokens.len())];
    for (layer, mean) in means.iter().enumerate() {
        for head in 0..model.spec.heads {
            let Ok(edit) = parse::edit(&format!("L{layer}.H{head}.z:-1 = set v")) else { continue };
            let mut supplies = Supplies::default();
            supplies.vectors.insert("v".into(), mean.get(head as i64));
            let Ok(mut tap) = PlanTap::new(&Plan { edits: vec![edit] }, &model.spec, &prompt, &supplies, None) else {
                continue;
            };
            let _ =
                black_box(tch::no_grad(|| model.forward(Start::Tokens(&row(model, tokens)), &Pass::LAST, &mut tap)));
        }
    }
}

/// A run of the whole prompt for each layer, one head of it in each row of the batch.
fn batches(model: &Model, tokens: &[u32], means: &[Tensor]) {
    struct OneEach<'a>(Layer, &'a Tensor);
    impl Tap for OneEach<'_> {
        fn wants(&self, site: Site) -> bool {
            site == Site::Z(self.0)
        }
        fn at(&mut self, _: Site, value: Tensor) -> Tensor {
            let value = value.copy(); // [head, pos, head, d_head]
            for head in 0..self.1.size()[0] {
                value.get(head).get(-1).get(head).copy_(&self.1.get(head));
            }
            value
        }
    }
    let rows = row(model, tokens).repeat([model.spec.heads as i64, 1]); // [head, pos]
    for (layer, mean) in means.iter().enumerate() {
        let mut tap = OneEach(Layer(layer), mean);
        let _ = black_box(tch::no_grad(|| model.forward(Start::Tokens(&rows), &Pass::LAST, &mut tap)));
    }
}

/// The prompt once, then its last position.
fn columns(model: &Model, tokens: &[u32], means: &[Tensor]) {
    let Ok(column) = Column::new(model, tokens) else { return };
    let _ = black_box(column.heads(means));
}

fn column(criterion: &mut Criterion) {
    tch::set_num_threads(1);
    let Ok(loaded) = load("toy-6l") else { return };
    let model = &loaded.model;
    let Ok(encoding) = loaded.tokenizer.encode(&Format::Arrow.text(&PAIRS, "open")) else { return };
    let tokens = encoding.ids;
    let shape = [model.spec.heads as i64, model.spec.d_head as i64];
    let mean = |layer: usize| (Tensor::ones(shape, (Kind::Float, Device::Cpu)) * (layer as f64)).sin();
    let means: Vec<Tensor> = (0..model.spec.layers).map(mean).collect();
    type Way = fn(&Model, &[u32], &[Tensor]);
    let ways: [(&str, Way); 3] =
        [("a run for each head", edits), ("a run for each layer, heads as a batch", batches), ("columns", columns)];
    let mut group = criterion.benchmark_group("column");
    group.sample_size(10);
    for (name, way) in ways {
        group.bench_function(name, |bencher| bencher.iter(|| way(model, &tokens, &means)));
    }
    group.finish();
    // Side by side, so that what else the machine does hits all alike.
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (times, (_, way)) in times.iter_mut().zip(ways) {
            let start = Instant::now();
            way(model, &tokens, &means);
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let [each, batch, columns] = times.map(|mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    });
    println!(
        "{} tokens, {} heads; medians of {ROUNDS}: a run for each head {:.1} ms, for each layer {:.1} ms, columns {:.2} ms: {:.1} and {:.1} times as fast",
        tokens.len(),
        model.spec.layers * model.spec.heads,
        1e3 * each,
        1e3 * batch,
        1e3 * columns,
        each / columns,
        batch / columns
    );
}

criterion_group!(benches, column);
criterion_main!(benches);
