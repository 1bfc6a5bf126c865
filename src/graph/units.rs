//! The parts of a model that are scored by themselves, instead of the edges between them.

use super::name::{parse_index, parse_node, parse_slot};
use super::{Destination, Dimensions, Edge, Graph, GraphError, Node, Slot, Source};
use crate::model::spec::{Branch, Head, Layer};
use std::fmt;
use std::ops::Range;

/// What gets a score.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Level {
    #[default]
    Edge,
    /// What the input, every head and every MLP write, and every head's queries, keys and values.
    Node,
    /// What the input and every head write, and every neuron of the MLPs.
    Neuron,
}

impl Level {
    pub const ALL: [Level; 3] = [Level::Edge, Level::Node, Level::Neuron];

    pub fn name(self) -> &'static str {
        match self {
            Level::Edge => "edge",
            Level::Node => "node",
            Level::Neuron => "neuron",
        }
    }

    pub fn parse(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }

    /// What a table of it has many of.
    pub fn plural(self) -> &'static str {
        if self == Level::Edge { "edges" } else { "units" }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A part of a model. Prints as `input`, `a3.h1`, `m3`, `a3.h1<q>`, `a3.kv0<k>`, `m3.n17`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unit {
    /// What a node writes into the residual stream.
    Node(Node),
    /// The queries, keys or values of a head, or those that several heads share.
    Projection(Slot),
    /// A neuron after its non-linearity and gate.
    Neuron(Layer, usize),
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Node(node) => node.fmt(f),
            Unit::Projection(slot) => slot.fmt(f),
            Unit::Neuron(layer, neuron) => write!(f, "m{}.n{neuron}", layer.0),
        }
    }
}

/// The units of a level in order: the rows of their scores.
///
/// - node: all sources in the order of the graph; then for each layer the queries, keys and values of its heads;
/// - neuron: the input; then for each layer its heads and its neurons.
///
/// There are none at [`Level::Edge`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Units {
    pub level: Level,
    pub dimensions: Dimensions,
    /// Neurons of a layer.
    pub neurons: usize,
}

impl Units {
    /// Of a model with so many neurons a layer.
    pub fn new(level: Level, dimensions: Dimensions, neurons: usize) -> Units {
        Units { level, dimensions, neurons: if dimensions.mlps { neurons } else { 0 } }
    }

    /// Queries, keys and values of a layer.
    fn projections(&self) -> usize {
        self.dimensions.heads + 2 * self.dimensions.kv_slots
    }

    pub fn len(&self) -> usize {
        let Dimensions { layers, heads, .. } = self.dimensions;
        match self.level {
            Level::Edge => 0,
            Level::Node => self.dimensions.sources().saturating_add(layers.saturating_mul(self.projections())),
            // What a file says may be anything.
            Level::Neuron => layers.saturating_mul(heads.saturating_add(self.neurons)).saturating_add(1),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of what a layer's heads write.
    pub fn heads(&self, layer: Layer) -> Range<usize> {
        let first = match self.level {
            Level::Neuron => 1 + layer.0 * (self.dimensions.heads + self.neurons),
            Level::Edge | Level::Node => self.dimensions.before(layer),
        };
        first..first + self.dimensions.heads
    }

    /// The rows of what a layer's MLP writes or of its neurons; none in models without MLPs.
    pub fn mlp(&self, layer: Layer) -> Range<usize> {
        let first = self.heads(layer).end;
        let count = match self.level {
            Level::Neuron => self.neurons,
            Level::Edge | Level::Node => usize::from(self.dimensions.mlps),
        };
        first..first + count
    }

    /// The rows of a layer's queries, keys or values; none at the level of neurons.
    pub fn branch(&self, layer: Layer, branch: Branch) -> Range<usize> {
        if self.level != Level::Node {
            return 0..0;
        }
        let (first, count) = self.dimensions.slots(Layer(0), branch);
        let first = self.dimensions.sources() + layer.0 * self.projections() + first;
        first..first + count
    }

    pub fn get(&self, row: usize) -> Unit {
        let Dimensions { heads, kv_slots, .. } = self.dimensions;
        if row == 0 {
            return Unit::Node(Node::Input);
        }
        if self.level == Level::Neuron {
            let (layer, place) = (Layer((row - 1) / (heads + self.neurons)), (row - 1) % (heads + self.neurons));
            return match place.checked_sub(heads) {
                None => Unit::Node(Node::Head(layer, Head(place))),
                Some(neuron) => Unit::Neuron(layer, neuron),
            };
        }
        let Some(row) = row.checked_sub(self.dimensions.sources()) else {
            let (layer, place) = ((row - 1) / self.dimensions.writers(), (row - 1) % self.dimensions.writers());
            return Unit::Node(match place < heads {
                true => Node::Head(Layer(layer), Head(place)),
                false => Node::Mlp(Layer(layer)),
            });
        };
        let layer = Layer(row / self.projections());
        let shared = |head, branch| match kv_slots == heads {
            true => Slot::Head(layer, Head(head), branch),
            false => Slot::Shared(layer, Head(head), branch),
        };
        Unit::Projection(match row % self.projections() {
            head if head < heads => Slot::Head(layer, Head(head), Branch::Query),
            head if head < heads + kv_slots => shared(head - heads, Branch::Key),
            head => shared(head - heads - kv_slots, Branch::Value),
        })
    }

    /// The row of a unit, if the level has it.
    pub fn row(&self, unit: Unit) -> Option<usize> {
        let at = |rows: Range<usize>, place: usize| (place < rows.len()).then_some(rows.start + place);
        let layers = self.dimensions.layers;
        let row = match unit {
            Unit::Node(Node::Input) => Some(0),
            Unit::Node(Node::Head(layer, head)) if layer.0 < layers => at(self.heads(layer), head.0),
            Unit::Node(Node::Mlp(layer)) if layer.0 < layers => at(self.mlp(layer), 0),
            Unit::Projection(slot) => match slot {
                Slot::Head(layer, head, branch) | Slot::Shared(layer, head, branch) if layer.0 < layers => {
                    at(self.branch(layer, branch), head.0)
                }
                _ => None,
            },
            Unit::Neuron(layer, neuron) if layer.0 < layers => at(self.mlp(layer), neuron),
            Unit::Node(_) | Unit::Neuron(..) => None,
        };
        // A name says what it is: an MLP is no neuron, shared keys are no head's.
        row.filter(|&row| row < self.len() && self.get(row) == unit)
    }

    pub fn names(&self) -> Vec<String> {
        (0..self.len()).map(|row| self.get(row).to_string()).collect()
    }

    /// The row of the unit that a name of [`Units::names`] stands for.
    ///
    /// # Errors
    /// [`GraphError`] for what is no unit of the level.
    pub fn parse(&self, name: &str) -> Result<usize, GraphError> {
        let unit = parse_unit(name).ok_or_else(|| GraphError::BadNode(name.to_owned()))?;
        let Dimensions { layers, heads, .. } = self.dimensions;
        self.row(unit).ok_or_else(|| GraphError::NoSuchNode { node: name.to_owned(), layers, heads })
    }
}

fn parse_unit(text: &str) -> Option<Unit> {
    if let Some((layer, neuron)) = text.strip_prefix('m').and_then(|rest| rest.split_once(".n")) {
        return Some(Unit::Neuron(Layer(parse_index(layer)?), parse_index(neuron)?));
    }
    match parse_node(text) {
        Some(node) => Some(Unit::Node(node)),
        None => parse_slot(text).map(Unit::Projection),
    }
}

/// A table of numbers about edges, `[source, destination]`, or about units, `[unit, 1]`: where each stands, and its name.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    pub graph: &'a Graph,
    pub units: Units,
}

impl<'a> Table<'a> {
    /// Of a level of a model with so many neurons a layer.
    pub fn new(graph: &'a Graph, level: Level, neurons: usize) -> Table<'a> {
        Table { graph, units: Units::new(level, graph.dimensions, neurons) }
    }

    pub fn level(&self) -> Level {
        self.units.level
    }

    /// How many numbers it has.
    pub fn count(&self) -> usize {
        if self.level() == Level::Edge { self.graph.edge_count() } else { self.units.len() }
    }

    pub fn shape(&self) -> (usize, usize) {
        match self.level() {
            Level::Edge => (self.graph.sources(), self.graph.destinations()),
            Level::Node | Level::Neuron => (self.units.len(), 1),
        }
    }

    /// Where each number stands, `[row, column]`, in the order of files: that of the convention, or of the units.
    pub fn cells(&self) -> Vec<[usize; 2]> {
        match self.level() {
            Level::Edge => self.graph.edges().iter().map(|edge| [edge.source.0, edge.destination.0]).collect(),
            Level::Node | Level::Neuron => (0..self.units.len()).map(|row| [row, 0]).collect(),
        }
    }

    /// The name of what stands in one of [`Table::cells`].
    pub fn name(&self, [row, column]: [usize; 2]) -> String {
        match self.level() {
            Level::Edge => self.graph.name(Edge { source: Source(row), destination: Destination(column) }),
            Level::Node | Level::Neuron => self.units.get(row).to_string(),
        }
    }

    /// All names, in the order of files.
    pub fn names(self) -> impl Iterator<Item = String> + use<'a> {
        self.cells().into_iter().map(move |cell| self.name(cell))
    }

    /// The cell of a name that [`Table::name`] prints.
    ///
    /// # Errors
    /// [`GraphError`] of what is no such name, or the name of what the level does not have.
    pub fn parse(&self, name: &str) -> Result<[usize; 2], GraphError> {
        if self.level() == Level::Edge {
            let edge = self.graph.parse_edge(name)?;
            return Ok([edge.source.0, edge.destination.0]);
        }
        Ok([self.units.parse(name)?, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(units: Units, names: &[&str]) {
        assert_eq!(units.names(), names);
        for (row, name) in names.iter().enumerate() {
            assert_eq!(units.parse(name), Ok(row), "{name}");
        }
    }

    #[test]
    fn units_have_names_and_rows() {
        let dimensions = Dimensions { kv_slots: 1, ..Dimensions::new(1, 2) };
        let nodes = ["input", "a0.h0", "a0.h1", "m0", "a0.h0<q>", "a0.h1<q>", "a0.kv0<k>", "a0.kv0<v>"];
        check(Units::new(Level::Node, dimensions, 3), &nodes);
        let neurons = ["input", "a0.h0", "a0.h1", "m0.n0", "m0.n1", "m0.n2"];
        check(Units::new(Level::Neuron, dimensions, 3), &neurons);
        let two = Dimensions { mlps: false, ..Dimensions::new(2, 1) };
        let nodes = ["input", "a0.h0", "a1.h0", "a0.h0<q>", "a0.h0<k>", "a0.h0<v>", "a1.h0<q>", "a1.h0<k>", "a1.h0<v>"];
        check(Units::new(Level::Node, two, 9), &nodes);
        check(Units::new(Level::Neuron, two, 9), &["input", "a0.h0", "a1.h0"]);
    }

    #[test]
    fn what_a_level_has_not_is_refused() {
        let units = |level| Units::new(level, Dimensions::new(2, 2), 4);
        for (level, name) in [
            (Level::Node, "m0.n1"),
            (Level::Node, "m2"),
            (Level::Node, "a0.h2"),
            (Level::Node, "a0.kv0<k>"),
            (Level::Node, "logits"),
            (Level::Neuron, "m0"),
            (Level::Neuron, "m0.n4"),
            (Level::Neuron, "m2.n0"),
            (Level::Neuron, "a0.h0<q>"),
            (Level::Edge, "input"),
        ] {
            assert!(matches!(units(level).parse(name), Err(GraphError::NoSuchNode { .. })), "{level}, {name}");
        }
        for name in ["m0.n", "m0.n01", "n3", "m0->m1", ""] {
            assert!(matches!(units(Level::Neuron).parse(name), Err(GraphError::BadNode(_))), "{name}");
        }
    }
}
