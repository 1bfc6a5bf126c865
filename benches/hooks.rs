//! What it costs that a forward pass can be looked into: nothing at all, a plan without edits, one edit, and every block's output
//! read. Compare within one run, on an idle machine. Criterion measures one after the other and machines drift, so the ratios
//! of rounds that alternate are printed too, by their medians.

use criterion::{Criterion, criterion_group, criterion_main};
use penjing::intervene::parse;
use penjing::intervene::plan::Plan;
use penjing::intervene::position::Prompt;
use penjing::intervene::record::{Keep, Record};
use penjing::intervene::run::{PlanTap, Supplies};
use penjing::model::site::Site;
use penjing::model::spec::{Layer, Spec};
use penjing::model::tap::{NoTap, Tap};
use penjing::model::{Model, Pass, Start};
use std::hint::black_box;
use std::time::Instant;
use tch::Tensor;

const TOKENS: usize = 20;
const ROUNDS: usize = 200;

fn pass(model: &Model, tokens: &Tensor, tap: &mut impl Tap) {
    let _ = black_box(tch::no_grad(|| model.forward(Start::Tokens(tokens), &Pass::LAST, tap)));
}

fn planned(model: &Model, tokens: &Tensor, plan: &Plan) {
    let prompts = [Prompt::of_length(TOKENS)];
    let tap = PlanTap::new(plan, &model.spec, &prompts, &Supplies::default(), None);
    if let Ok(mut tap) = tap {
        pass(model, tokens, &mut tap);
        let _ = black_box(tap.finish());
    }
}

fn read(model: &Model, tokens: &Tensor) {
    let sites = (0..model.spec.layers).map(|layer| Site::BlockOut(Layer(layer)));
    let mut record = Record::new(sites).keeping(Keep::Values);
    pass(model, tokens, &mut record);
    let _ = black_box(record.finish());
}

fn shape(criterion: &mut Criterion, name: &str, spec: Spec) {
    let threads = if spec.d_model > 512 { std::thread::available_parallelism().map_or(1, usize::from) } else { 1 };
    tch::set_num_threads(threads as i32);
    let model = Model::random(spec, 0);
    let ids: Vec<i64> = (0..TOKENS as i64).map(|id| id * 7 % 400).collect();
    let tokens = Tensor::from_slice(&ids).unsqueeze(0); // [1, pos]
    let one = parse::plan("L0:-1 = scale 1").unwrap_or_default();
    let kinds: [(&str, &dyn Fn()); 4] = [
        ("plain", &|| pass(&model, &tokens, &mut NoTap)),
        ("plan without edits", &|| planned(&model, &tokens, &Plan::default())),
        ("one edit", &|| planned(&model, &tokens, &one)),
        ("every block read", &|| read(&model, &tokens)),
    ];
    let mut group = criterion.benchmark_group(format!("hooks {name}"));
    for (kind, run) in &kinds {
        group.bench_function(*kind, |bencher| bencher.iter(run));
    }
    group.finish();
    let rounds = if model.spec.d_model > 512 { ROUNDS / 8 } else { ROUNDS };
    let mut seconds: Vec<Vec<f64>> = vec![Vec::new(); kinds.len()];
    for _ in 0..rounds {
        for ((_, run), seconds) in kinds.iter().zip(&mut seconds) {
            let start = Instant::now();
            run();
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    let medians = seconds.iter_mut().map(|seconds| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    });
    let medians: Vec<f64> = medians.collect();
    for ((kind, _), median) in kinds.iter().zip(&medians) {
        println!("{name}: {kind} {:.3} ms, {:.4} of plain", median * 1e3, median / medians[0]);
    }
}

fn hooks(criterion: &mut Criterion) {
    shape(criterion, "4x4x128", Spec::gpt2(4, 4, 128, 1024, 64));
    shape(criterion, "gpt2-small", Spec::gpt2(12, 12, 768, 50257, 64));
}

criterion_group!(benches, hooks);
criterion_main!(benches);
