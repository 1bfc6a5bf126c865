//! What exact patching costs an edge on GPT-2 small's shape, from a part of it: of every layer the edges into four queries and
//! those into the MLP, which stand for the layer's 36 and 1 slots. Prints a line of JSON for each, then the sum; a few minutes.
//!
//!     cargo run --release --example exact_cost

#[path = "../benches/methods/pairs.rs"]
mod pairs;

use penjing::graph::{Destination, Dimensions, Graph, KvSlots};
use penjing::metric::MetricKind;
use penjing::model::Model;
use penjing::model::spec::Spec;
use penjing::score::{Begun, Method, Problem, ScoreError, State, Watch, advance};
use serde_json::json;
use std::ops::ControlFlow;
use std::time::Instant;

/// Ends a run after so many slots.
struct After(usize);

impl Watch for After {
    fn safe_point(&mut self, _: &State) -> ControlFlow<()> {
        self.0 -= 1;
        if self.0 == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn smaller_batch(&mut self, _: usize) {}
}

/// Seconds for some slots, with what a run takes to begin.
fn seconds(problem: &Problem, first: usize, slots: usize) -> Result<f64, ScoreError> {
    let mut state = State::start(problem, &Method::Exact)?;
    let steps = problem.graph.destinations();
    state.begun = Some(Begun { done: first, steps, sums: state.sums.clone() });
    let start = Instant::now();
    match advance(problem, &Method::Exact, &mut state, &mut After(slots)) {
        Ok(()) | Err(ScoreError::Stopped(_)) => Ok(start.elapsed().as_secs_f64()),
        Err(error) => Err(error),
    }
}

fn main() -> Result<(), ScoreError> {
    let spec = Spec::gpt2(12, 12, 768, 50257, 64);
    let (heads, layers) = (spec.heads, spec.layers);
    tch::set_num_threads(std::thread::available_parallelism().map_or(1, |cores| cores.get() as i32));
    let pairs = pairs::pairs(8, spec.vocab);
    let model = Model::random(spec, 0);
    let graph = Graph::new(Dimensions::of(&model.spec, KvSlots::default()));
    let problem = Problem::new(&model, &graph, &pairs, MetricKind::LogitDifference);
    let (mut measured, mut spent, mut all) = (0, 0.0, 0.0);
    for layer in 0..layers {
        for (offset, slots, stand_for) in [(0, 4, 3 * heads), (3 * heads, 1, 1)] {
            let first = layer * (3 * heads + 1) + offset;
            let begin = seconds(&problem, graph.destinations(), 1)?;
            let time = seconds(&problem, first, slots)?;
            let edges: usize = (first..first + slots).map(|slot| graph.sources_before(Destination(slot))).sum();
            let of_edge = (time - begin) / edges as f64;
            println!(
                "{}",
                json!({ "layer": layer, "into": if offset == 0 { "queries" } else { "MLP" }, "edges": edges, "seconds": time, "to_begin": begin, "seconds_an_edge": of_edge })
            );
            measured += edges;
            spent += time;
            all += (time - begin) / slots as f64 * stand_for as f64;
        }
    }
    let edges = graph.edge_count();
    println!(
        "{}",
        json!({ "edges": measured, "seconds": spent, "edges_of_model": edges, "seconds_of_model": all, "seconds_an_edge": all / edges as f64 })
    );
    Ok(())
}
