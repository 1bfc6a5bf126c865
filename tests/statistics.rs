//! What is said about chance: scores of every pair, intervals that hold what they say, tests that reject as often as they may.

mod fixtures;

use fixtures::with_each_in;
use penjing::graph::{Dimensions, Graph, KvSlots, Level};
use penjing::metric::MetricKind;
use penjing::model::Dtype;
use penjing::score::{self, Method, Problem, Settings, State};

#[test]
fn pairs_of_a_batch_have_the_scores_that_they_have_alone() {
    with_each_in(Dtype::F64, |case| {
        let graph = Graph::new(Dimensions::of(&case.loaded.model.spec, KvSlots::Native));
        let settings = Settings { steps: 2, ..Settings::default() };
        for (name, level) in [
            ("eap-ig", Level::Edge),
            ("relp", Level::Edge),
            ("ifr", Level::Edge),
            ("attribution-patching", Level::Node),
            ("clean-corrupted", Level::Neuron),
        ] {
            let method = Method::parse(name, &settings).unwrap();
            let problem = Problem {
                level,
                per_pair: true,
                ..Problem::new(&case.loaded.model, &graph, &case.pairs, MetricKind::LogitDifference)
            };
            let mut state = State::start(&problem, &method).unwrap();
            assert!(state.left.iter().any(|rows| rows.indices.len() > 1), "{}: the pairs run one by one", case.name);
            score::advance(&problem, &method, &mut state, &mut (&mut |_: score::Progress| ())).unwrap();
            let per_pair = state.per_pair.unwrap(); // [pair, unit]
            for (index, pair) in case.pairs.iter().enumerate().take(3) {
                let alone = Problem { per_pair: false, pairs: std::slice::from_ref(pair), ..problem };
                let alone = score::score(&alone, &method, &mut |_| ()).unwrap();
                let largest = alone.values.iter().fold(0f32, |largest, score| largest.max(score.abs()));
                for (cell, &found) in problem.table().cells().into_iter().zip(per_pair.row(index)) {
                    let error = (found - alone.values[cell]).abs();
                    // Scores are kept as f32.
                    assert!(error <= 1e-6 * largest, "{}, {name}, pair {index}: {error} of {largest}", case.name);
                }
            }
        }
    });
}
