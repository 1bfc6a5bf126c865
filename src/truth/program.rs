//! A program: variables in the residual stream, and components that read some of them and write others.
//!
//! The true edges follow from it alone: u → v if u writes a variable that v reads, u comes before v, and the edge lies on a
//! path from the token embedding to the logits. Positions and biases belong to no node, so what comes from them makes no edge.
//!
//! In the style of Lindner et al., "Tracr", arXiv:2301.05062.

use crate::circuit::prune::prune;
use crate::graph::mask::EdgeMask;
use crate::graph::{Graph, Node, Slot};
use crate::model::spec::{Branch, Head, Layer};
use ndarray::Array2;

/// Some neighbouring dimensions of the residual stream; those of two variables never overlap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Variable {
    pub first: usize,
    pub width: usize,
}

/// What a slot takes from a variable: `matrix` is `[variable width, outputs]`.
#[derive(Clone, Debug)]
pub struct Read {
    pub variable: Variable,
    pub matrix: Array2<f32>,
}

/// What a component puts into a variable: `matrix` is `[inputs, variable width]`.
#[derive(Clone, Debug)]
pub struct Write {
    pub variable: Variable,
    pub matrix: Array2<f32>,
}

/// All that a slot reads, and a constant: `outputs` numbers.
#[derive(Clone, Default, Debug)]
pub struct Reads {
    pub parts: Vec<Read>,
    pub bias: Vec<f32>,
}

#[derive(Clone, Default, Debug)]
pub struct HeadProgram {
    pub query: Reads,
    pub key: Reads,
    pub value: Reads,
    pub writes: Vec<Write>,
}

/// Hidden units are ReLUs.
#[derive(Clone, Default, Debug)]
pub struct MlpProgram {
    pub input: Reads,
    pub writes: Vec<Write>,
}

#[derive(Clone, Debug)]
pub struct LayerProgram {
    pub heads: Vec<HeadProgram>,
    pub mlp: MlpProgram,
}

/// A transformer by its variables. Where a head or an MLP is left empty, a distractor is put.
#[derive(Clone, Debug)]
pub struct Program {
    pub vocab: usize,
    pub context: usize,
    /// Dimensions of all variables together.
    pub width: usize,
    pub variables: Vec<Variable>,
    /// What tokens write, `[vocab, width]` each.
    pub tokens: Vec<Write>,
    /// What positions write, `[context, width]` each.
    pub positions: Vec<Write>,
    pub layers: Vec<LayerProgram>,
    /// Logits: one output for each answer.
    pub logits: Reads,
}

impl Program {
    /// Empty layers of so many heads.
    pub fn new(vocab: usize, context: usize, layers: usize, heads: usize) -> Program {
        let layer = LayerProgram { heads: vec![HeadProgram::default(); heads], mlp: MlpProgram::default() };
        Program {
            vocab,
            context,
            width: 0,
            variables: Vec::new(),
            tokens: Vec::new(),
            positions: Vec::new(),
            layers: vec![layer; layers],
            logits: Reads::default(),
        }
    }

    /// A new variable.
    pub fn variable(&mut self, width: usize) -> Variable {
        let variable = Variable { first: self.width, width };
        self.width += width;
        self.variables.push(variable);
        variable
    }

    /// The edges that carry what the logits depend on.
    pub fn edges(&self, graph: &Graph) -> EdgeMask {
        let mut mask = EdgeMask::empty(graph);
        for &edge in graph.edges() {
            let written = self.written(graph.node(edge.source));
            let read = self.read(graph.slot(edge.destination));
            if written.iter().any(|write| read.parts.iter().any(|read| read.variable == write.variable)) {
                mask.insert(edge);
            }
        }
        prune(graph, &mask)
    }

    fn written(&self, node: Node) -> &[Write] {
        match node {
            Node::Input => &self.tokens,
            Node::Head(Layer(layer), Head(head)) => &self.layers[layer].heads[head].writes,
            Node::Mlp(Layer(layer)) => &self.layers[layer].mlp.writes,
            Node::Logits => &[],
        }
    }

    fn read(&self, slot: Slot) -> &Reads {
        match slot {
            Slot::Head(Layer(layer), Head(head), branch) | Slot::Shared(Layer(layer), Head(head), branch) => {
                let head = &self.layers[layer].heads[head];
                match branch {
                    Branch::Query => &head.query,
                    Branch::Key => &head.key,
                    Branch::Value => &head.value,
                }
            }
            Slot::Mlp(Layer(layer)) => &self.layers[layer].mlp.input,
            Slot::Logits => &self.logits,
        }
    }
}

impl Variable {
    /// Reads it as `matrix` `[width, outputs]` says.
    pub fn read(self, matrix: Array2<f32>) -> Read {
        Read { variable: self, matrix }
    }

    /// Is written as `matrix` `[inputs, width]` says.
    pub fn write(self, matrix: Array2<f32>) -> Write {
        Write { variable: self, matrix }
    }
}

impl Reads {
    pub fn of(parts: impl Into<Vec<Read>>) -> Reads {
        Reads { parts: parts.into(), bias: Vec::new() }
    }

    /// With a constant for each output.
    pub fn plus(mut self, bias: impl Into<Vec<f32>>) -> Reads {
        self.bias = bias.into();
        self
    }

    /// How many numbers it gives.
    pub fn outputs(&self) -> usize {
        self.parts.iter().map(|part| part.matrix.ncols()).chain([self.bias.len()]).max().unwrap_or(0)
    }
}

impl HeadProgram {
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

impl MlpProgram {
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// `[rows, columns]` with `size` where `row(i) == column`.
pub fn mapping(rows: usize, columns: usize, size: f32, to: impl Fn(usize) -> Option<usize>) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |(row, column)| if to(row) == Some(column) { size } else { 0.0 })
}

/// `size` times the first rows and columns of the identity.
pub fn identity(rows: usize, columns: usize, size: f32) -> Array2<f32> {
    mapping(rows, columns, size, Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Dimensions;

    #[test]
    fn edges_follow_variables_that_reach_the_logits() {
        let mut program = Program::new(2, 2, 2, 1);
        let [token, found, unused] = [2, 1, 1].map(|width| program.variable(width));
        program.tokens = vec![token.write(identity(2, 2, 1.0))];
        program.layers[0].heads[0] = HeadProgram {
            value: Reads::of([token.read(identity(2, 1, 1.0))]),
            writes: vec![found.write(identity(1, 1, 1.0))],
            ..HeadProgram::default()
        };
        program.layers[1].mlp = MlpProgram {
            input: Reads::of([found.read(identity(1, 1, 1.0))]),
            writes: vec![unused.write(identity(1, 1, 1.0))],
        };
        program.logits = Reads::of([found.read(identity(1, 2, 1.0))]);
        let graph = Graph::new(Dimensions::new(2, 1));
        let names: Vec<_> = program.edges(&graph).edges(&graph).into_iter().map(|edge| graph.name(edge)).collect();
        assert_eq!(names, ["input->a0.h0<v>", "a0.h0->logits"]);
    }
}
