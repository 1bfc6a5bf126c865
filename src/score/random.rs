//! Random scores: what any method has to beat.
//!
//! score(u→v) is drawn uniformly from −1 to 1, whatever the model and the pairs.
//!
//! Cost: nothing.
//! Not for: anything but comparison.

use super::Run;
use super::method::{Listing, Scorer, Work};
use super::state::{Ledger, Stopped};
use crate::graph::{Graph, Level};
use crate::measure::memory::Needs;
use ndarray::Array2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub const LISTING: Listing =
    Listing { name: "random", about: "numbers drawn from -1 to 1, to compare with", passes: "none", memory: "nothing" };

#[derive(Clone, PartialEq, Debug, Default)]
pub struct Options {
    pub seed: u64,
}

impl Scorer for Options {
    fn listing(&self) -> &'static Listing {
        &LISTING
    }

    fn levels(&self) -> &'static [Level] {
        &Level::ALL
    }

    fn needs(&self) -> Needs {
        Needs { passes: 0, differences_last: true }
    }

    fn work(&self, _: &Graph) -> Work {
        Work { recorded: 0, backward: 0, unrecorded: 0, patched: 0.0, patched_units: false, expansions: 0.0 }
    }

    fn uses_gradients(&self) -> bool {
        false
    }

    fn options(&self) -> Vec<(&'static str, String)> {
        vec![("seed", self.seed.to_string())]
    }

    fn score_batch(&self, run: &Run, _: &mut Ledger) -> Result<Array2<f64>, Stopped> {
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        // The same for every pair.
        let mut drawn = || f64::from(random.next_u32() >> 8) / f64::from(1 << 23) - 1.0;
        let pairs = if run.pairs_apart() { 1.0 } else { run.batch.len() as f64 };
        let table = run.problem.table();
        let (rows, columns) = table.shape();
        let mut sums = Array2::zeros((rows, columns * run.parts()));
        for [row, column] in table.cells() {
            let drawn = drawn() * pairs;
            (0..run.parts()).for_each(|part| sums[[row, part * columns + column]] = drawn);
        }
        Ok(sums)
    }
}
