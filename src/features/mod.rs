//! Circuits of features: which of the features that dictionaries find in a model do a task.
//!
//! Nodes are the features of each dictionary and its error, which is what the dictionary does not see of the value. A circuit is
//! run on the clean prompt: at the site of each dictionary every feature outside of the circuit takes the value that it has on the
//! corrupt prompt, and so does the error if it is outside; what is inside has the value that this run gives it. With everything
//! inside it is the clean run, with nothing inside the site holds what the corrupt prompt puts there.
//!
//! Paper: Marks et al., arXiv:2403.19647. [`scores`] ranks the nodes, [`runs`] runs circuits, [`search`] finds the smallest one
//! that is faithful, [`edges`] says which features act through which, [`evidence`] measures it on other pairs. Where a
//! dictionary's error is inside, the circuit explains only what the dictionary sees.

pub mod edges;
pub mod evidence;
pub mod runs;
pub mod scores;
pub mod search;

use crate::dataset::TokenPair;
use crate::dictionary::Dictionary;
use crate::dictionary::scale::Scale;
use crate::metric::MetricKind;
use crate::model::Model;
use crate::model::site::Site;
use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
use tch::Tensor;

/// A dictionary at the site whose values it reads.
pub struct Placed {
    /// As edits write it, without a feature: `L1.sae(g)`.
    pub name: String,
    /// The dictionary's own: `g`.
    pub called: String,
    pub site: Site,
    pub dictionary: Rc<Dictionary>,
}

/// What circuits are sought of. The dictionaries are of different sites, in the order in which a forward pass comes to them.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    pub model: &'a Model,
    pub pairs: &'a [TokenPair],
    pub metric: MetricKind,
    pub placed: &'a [Placed],
    /// Pairs that run together, at most.
    pub at_once: usize,
}

/// A feature of one of the dictionaries, or its error.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Node {
    /// Which of the dictionaries.
    pub dictionary: usize,
    pub unit: Unit,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Unit {
    Feature(usize),
    Error,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unit::Feature(feature) => write!(f, "F{feature}"),
            Unit::Error => f.write_str("error"),
        }
    }
}

/// The nodes inside of a circuit.
pub type Kept = BTreeSet<Node>;

/// How much a gradient `[.., d_model]` at `x` says of each feature: its product with what one unit of it writes, `[.., feature]`.
fn along(dictionary: &Dictionary, x: &Tensor, gradient: &Tensor) -> Tensor {
    let scaled = Scale::of(dictionary.record.normalize, x).undo_change(gradient);
    scaled.matmul(&dictionary.w_dec.to_kind(x.kind()).to_device(x.device()).transpose(0, 1))
}

impl Setting<'_> {
    /// Every node.
    pub fn all(&self) -> Kept {
        let of = |(dictionary, placed): (usize, &Placed)| {
            let features = (0..placed.dictionary.features()).map(Unit::Feature);
            features.chain([Unit::Error]).map(move |unit| Node { dictionary, unit })
        };
        self.placed.iter().enumerate().flat_map(of).collect()
    }

    /// A node as edits write it.
    pub fn name(&self, node: Node) -> String {
        format!("{}.{}", self.placed[node.dictionary].name, node.unit)
    }
}
