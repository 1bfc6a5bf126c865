//! The forward pass, EAP, running a circuit, and the floor under EAP: clean forward, corrupt forward and an activation-only
//! backward of the same shape. Compare within one run.

use criterion::{Criterion, criterion_group, criterion_main};
use penjing::circuit::EdgeMask;
use penjing::dataset::TokenPair;
use penjing::eval::Bench;
use penjing::graph::{Dimensions, Graph, KvSlots};
use penjing::measure::batch::Prefix;
use penjing::metric::MetricKind;
use penjing::model::site::Site;
use penjing::model::spec::Spec;
use penjing::model::tap::{NoTap, Tap};
use penjing::model::{Model, Pass, Start};
use penjing::score::{Method, Problem, score};
use penjing::task::PromptPair;
use std::hint::black_box;
use tch::{Kind, Tensor};

const PAIRS: usize = 32;
const LENGTH: usize = 20;
const DIFFER_AT: usize = 12;

/// Pairs that differ in one token, as indirect object identification's do.
fn pairs(vocab: usize) -> Vec<TokenPair> {
    let token = |row: usize, place: usize| ((row * 7919 + place * 104_729 + 17) % vocab) as u32;
    (0..PAIRS)
        .map(|row| {
            let clean: Vec<u32> = (0..LENGTH).map(|place| token(row, place)).collect();
            let mut corrupt = clean.clone();
            corrupt[DIFFER_AT] = (clean[DIFFER_AT] + 1) % vocab as u32;
            let prompt = PromptPair::default();
            let (right, wrong) = (vec![token(row, 30)], vec![token(row, 31)]);
            TokenPair {
                clean,
                corrupt,
                right,
                wrong,
                first_difference: DIFFER_AT,
                positions: Default::default(),
                prompt,
            }
        })
        .collect()
}

/// Makes the embeddings a leaf that requires gradients.
struct Leaf(Tensor);

impl Tap for Leaf {
    fn wants(&self, site: Site) -> bool {
        site == Site::TokenEmbedding
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        self.0 = value.detach().set_requires_grad(true);
        self.0.shallow_clone()
    }
}

fn floor(model: &Model, pairs: &[TokenPair]) -> Tensor {
    let rows = |pick: &dyn Fn(&TokenPair) -> &Vec<u32>| {
        let flat: Vec<i64> = pairs.iter().flat_map(|pair| pick(pair).iter().map(|&id| i64::from(id))).collect();
        Tensor::from_slice(&flat).view([pairs.len() as i64, -1]) // [batch, pos]
    };
    let _ = tch::no_grad(|| model.forward(Start::Tokens(&rows(&|pair| &pair.corrupt)), &Pass::LAST, &mut NoTap));
    let mut leaf = Leaf(Tensor::new());
    let logits = model.forward(Start::Tokens(&rows(&|pair| &pair.clean)), &Pass::LAST, &mut leaf); // [batch, 1, vocab]
    let sum = logits.narrow(2, 0, 2).sum(None::<Kind>); // []
    Tensor::run_backward(&[sum], &[&leaf.0], false, false).remove(0)
}

fn passes(criterion: &mut Criterion) {
    for (name, spec) in
        [("4x4x256", Spec::gpt2(4, 4, 256, 2048, 64)), ("gpt2-small", Spec::gpt2(12, 12, 768, 50257, 64))]
    {
        let pairs = pairs(spec.vocab);
        let graph = Graph::new(Dimensions::of(&spec, KvSlots::default()));
        let model = Model::random(spec, 0);
        let metric = MetricKind::LogitDifference;
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        group.bench_function("floor", |bencher| bencher.iter(|| black_box(floor(&model, &pairs))));
        for (case, prefix) in [("eap", Prefix::Shared), ("eap without shared prefix", Prefix::Recomputed)] {
            let problem = Problem { prefix, ..Problem::new(&model, &graph, &pairs, metric) };
            group
                .bench_function(case, |bencher| bencher.iter(|| black_box(score(&problem, &Method::Eap, &mut |_| ()))));
        }
        let bench =
            Bench::new(&model, &graph, metric, &pairs, Prefix::Shared, usize::MAX).expect("memory is not limited");
        let all = EdgeMask::full(&graph);
        let tokens = Tensor::zeros([PAIRS as i64, LENGTH as i64], (Kind::Int64, tch::Device::Cpu)); // [batch, pos]
        group.bench_function("forward", |bencher| {
            bencher.iter(|| tch::no_grad(|| black_box(model.forward(Start::Tokens(&tokens), &Pass::LAST, &mut NoTap))));
        });
        group.bench_function("circuit run", |bencher| bencher.iter(|| black_box(bench.circuit(&all))));
        group.finish();
    }
}

criterion_group!(benches, passes);
criterion_main!(benches);
