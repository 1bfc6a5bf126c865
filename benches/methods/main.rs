//! Every method, running a circuit, and the floors: of `eap` a forward of the corrupt prompts and one of the clean prompts with
//! an activation-only backward, of `eap-ig` with as many of the latter as it has steps, in batches of all pairs and without
//! the shared prefix. Compare within one run. What takes minutes on the largest shape is left out there.

mod pairs;

use criterion::{Criterion, criterion_group, criterion_main};
use pairs::LENGTH;
use penjing::circuit::EdgeMask;
use penjing::dataset::TokenPair;
use penjing::eval::Bench;
use penjing::graph::{Dimensions, Graph, KvSlots, Level};
use penjing::measure::batch::Prefix;
use penjing::metric::MetricKind;
use penjing::model::site::Site;
use penjing::model::spec::Spec;
use penjing::model::tap::{NoTap, Tap};
use penjing::model::{Model, Pass, Start};
use penjing::score::{METHODS, Method, Problem, Settings, mask, score};
use std::hint::black_box;
use tch::{Kind, Tensor};

const PAIRS: usize = 32;
/// Its time is in proportion to them.
const MASK_STEPS: usize = 10;

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

/// A forward of the corrupt prompts, and so many forwards and backwards of the clean ones.
fn floor(model: &Model, pairs: &[TokenPair], steps: usize) {
    let rows = |pick: &dyn Fn(&TokenPair) -> &Vec<u32>| {
        let flat: Vec<i64> = pairs.iter().flat_map(|pair| pick(pair).iter().map(|&id| i64::from(id))).collect();
        Tensor::from_slice(&flat).view([pairs.len() as i64, -1]) // [batch, pos]
    };
    let _ = tch::no_grad(|| model.forward(Start::Tokens(&rows(&|pair| &pair.corrupt)), &Pass::LAST, &mut NoTap));
    for _ in 0..steps {
        let mut leaf = Leaf(Tensor::new());
        let logits = model.forward(Start::Tokens(&rows(&|pair| &pair.clean)), &Pass::LAST, &mut leaf); // [batch, 1, vocab]
        let sum = logits.narrow(2, 0, 2).sum(None::<Kind>); // []
        black_box(Tensor::run_backward(&[sum], &[&leaf.0], false, false));
    }
}

fn shape(criterion: &mut Criterion, name: &str, spec: Spec) {
    let (small, large) = (spec.d_model < 128, spec.d_model > 512);
    tch::set_num_threads(if large {
        std::thread::available_parallelism().map_or(1, |cores| cores.get() as i32)
    } else {
        1
    });
    let pairs = pairs::pairs(PAIRS, spec.vocab);
    let graph = Graph::new(Dimensions::of(&spec, KvSlots::default()));
    let model = Model::random(spec, 0);
    let metric = MetricKind::LogitDifference;
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10);
    for (case, steps) in [("floor", 1), ("floor of 5 steps", 5)] {
        group.bench_function(case, |bencher| bencher.iter(|| floor(&model, &pairs, steps)));
    }
    for listing in METHODS {
        let mask = mask::Options { steps: MASK_STEPS, ..mask::Options::default() };
        let Ok(method) = Method::parse(listing.name, &Settings { mask, ..Settings::default() }) else { continue };
        let steps = if listing.name == "mask" { format!(" of {MASK_STEPS} steps") } else { String::new() };
        for &level in method.levels() {
            // A run for every neuron takes a minute in the middle shape already.
            let every_neuron = listing.name == "activation-patching" && level == Level::Neuron;
            let slow = ["exact", "acdc", "mask", "eap-ig-activations", "activation-patching"].contains(&listing.name);
            if large && slow || every_neuron && !small {
                continue;
            }
            let of_level = if level == Level::Edge { String::new() } else { format!(" of {level}s") };
            for (prefix, ending) in [(Prefix::Shared, ""), (Prefix::Recomputed, " without shared prefix")] {
                if prefix == Prefix::Recomputed && listing.name != "eap" {
                    continue;
                }
                let problem = Problem { prefix, level, ..Problem::new(&model, &graph, &pairs, metric) };
                group.bench_function(format!("{}{steps}{of_level}{ending}", listing.name), |bencher| {
                    bencher.iter(|| black_box(score(&problem, &method, &mut |_| ())));
                });
            }
        }
    }
    let Ok(bench) = Bench::new(&Problem::new(&model, &graph, &pairs, metric)) else { return };
    let all = EdgeMask::full(&graph);
    let tokens = Tensor::zeros([PAIRS as i64, LENGTH as i64], (Kind::Int64, tch::Device::Cpu)); // [batch, pos]
    group.bench_function("forward", |bencher| {
        bencher.iter(|| tch::no_grad(|| black_box(model.forward(Start::Tokens(&tokens), &Pass::LAST, &mut NoTap))));
    });
    group.bench_function("circuit run", |bencher| bencher.iter(|| black_box(bench.circuit(&all))));
    group.finish();
}

fn methods(criterion: &mut Criterion) {
    shape(criterion, "2x4x64", Spec::gpt2(2, 4, 64, 512, 64));
    shape(criterion, "4x4x256", Spec::gpt2(4, 4, 256, 2048, 64));
    shape(criterion, "gpt2-small", Spec::gpt2(12, 12, 768, 50257, 64));
}

criterion_group!(benches, methods);
criterion_main!(benches);
