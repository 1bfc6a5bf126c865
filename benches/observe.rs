//! Observing all neurons over a text, beside plain forwards of the same windows: what the watching costs. Compare within one run.

use criterion::{Criterion, criterion_group, criterion_main};
use penjing::inside::corpus::Corpus;
use penjing::inside::observe::{Watched, observe};
use penjing::model::spec::Spec;
use penjing::model::tap::NoTap;
use penjing::model::{Model, Pass, Start};
use std::hint::black_box;
use tch::{Device, Kind, Tensor};

const WINDOWS: usize = 16;
const LENGTH: usize = 64;

fn shape(criterion: &mut Criterion, name: &str, spec: Spec) {
    tch::set_num_threads(1);
    let tokens: Vec<u32> = (0..WINDOWS * LENGTH).map(|place| (place * 7919 % spec.vocab) as u32).collect();
    let windows = (0..WINDOWS).map(|row| row * LENGTH..(row + 1) * LENGTH).collect();
    let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
    let ids = Tensor::from_slice(&ids).view([WINDOWS as i64, LENGTH as i64]).to_kind(Kind::Int64); // [batch, pos]
    let corpus = Corpus { tokens, windows, ..Corpus::default() };
    let model = Model::random(spec, 0);
    assert_eq!(model.device, Device::Cpu);
    let mut group = criterion.benchmark_group(format!("observe {name}"));
    group.sample_size(10);
    group.bench_function("forward", |bencher| {
        bencher.iter(|| tch::no_grad(|| black_box(model.blocks(Start::Tokens(&ids), &Pass::ALL, &mut NoTap))));
    });
    for top in [1, 20] {
        group.bench_function(format!("observe, {top} examples"), |bencher| {
            bencher.iter(|| black_box(observe(&model, Watched::Neurons, &corpus, (top, 512, 0), &mut |_| ())));
        });
    }
    group.finish();
}

fn neurons(criterion: &mut Criterion) {
    shape(criterion, "4x4x256", Spec::gpt2(4, 4, 256, 2048, LENGTH));
    shape(criterion, "gpt2-small without its vocabulary", Spec::gpt2(12, 12, 768, 2048, LENGTH));
}

criterion_group!(benches, neurons);
criterion_main!(benches);
