//! Distractors: heads and MLPs with random weights in every place that a program leaves empty. They read the task's variables
//! and each other, and write one variable of their own that nothing of the task reads, so that no part of the model is dead.

use super::program::{HeadProgram, MlpProgram, Program, Read, Reads, Variable};
use ndarray::Array2;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Dimensions of what distractors write.
const WIDTH: usize = 8;

/// Queries, keys and values of a distracting head, and units of a distracting MLP.
const HEAD: usize = 4;
const UNITS: usize = 12;

/// The size of weights: queries and keys, values, and what is written.
const SHARP: f32 = 1.0;
const VALUE: f32 = 0.5;
const OUT: f32 = 0.5;

/// Fills the empty places of a program; the variable that distractors write.
pub fn distract(program: &mut Program, random: &mut ChaCha8Rng) -> Variable {
    let known = program.variables.clone();
    let junk = program.variable(WIDTH);
    let all: Vec<Variable> = known.iter().copied().chain([junk]).collect();
    for layer in &mut program.layers {
        for head in layer.heads.iter_mut().filter(|head| head.is_empty()) {
            *head = HeadProgram {
                query: reads(&all, HEAD, SHARP, random),
                key: reads(&all, HEAD, SHARP, random),
                value: reads(&all, HEAD, VALUE, random),
                writes: vec![junk.write(uniform(HEAD, WIDTH, OUT, random))],
            };
        }
        if layer.mlp.is_empty() {
            layer.mlp = MlpProgram {
                input: reads(&all, UNITS, VALUE, random),
                writes: vec![junk.write(uniform(UNITS, WIDTH, OUT, random))],
            };
        }
    }
    junk
}

/// What the logits see of the distractors: weights of mean 0 over the answers, `size` the standard deviation of what a vector
/// of distractors with entries of size 1 makes of a logit.
pub fn noise(junk: Variable, answers: usize, size: f64, random: &mut ChaCha8Rng) -> Read {
    // Uniform numbers from −√3 to √3 have variance 1.
    let bound = size * (3.0 / WIDTH as f64).sqrt();
    let drawn = uniform(WIDTH, answers, bound as f32, random);
    let means = drawn.sum_axis(ndarray::Axis(1)) / answers as f32;
    junk.read(drawn - means.insert_axis(ndarray::Axis(1)))
}

fn reads(variables: &[Variable], outputs: usize, size: f32, random: &mut ChaCha8Rng) -> Reads {
    Reads::of(
        variables
            .iter()
            .map(|variable| variable.read(uniform(variable.width, outputs, size, random)))
            .collect::<Vec<_>>(),
    )
}

/// Numbers from −`size` to `size`.
fn uniform(rows: usize, columns: usize, size: f32, random: &mut ChaCha8Rng) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |_| (2.0 * random.random::<f32>() - 1.0) * size)
}
