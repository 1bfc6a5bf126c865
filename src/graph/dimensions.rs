//! The sizes that determine a graph, and where in its matrices a layer's nodes and slots stand.

use crate::model::spec::{Branch, Layer, Spec};

/// The sizes that determine a graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Dimensions {
    pub layers: usize,
    pub heads: usize,
    /// Slots for keys, and as many for values, of a layer: `heads`, or fewer if query heads share them.
    pub kv_slots: usize,
    /// Attention and MLP of a layer read the same residual stream (GPT-J, Pythia), so no head feeds its own layer's MLP.
    pub parallel: bool,
    /// Whether layers have MLPs.
    pub mlps: bool,
}

/// How the keys and values of grouped-query attention become slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KvSlots {
    /// Every query head has slots for keys and values of its own, as in the field's tools.
    #[default]
    PerQueryHead,
    /// One slot for each head of keys or values that the model has.
    Native,
}

impl Dimensions {
    /// MLPs after the attention, and keys and values for every head.
    pub fn new(layers: usize, heads: usize) -> Dimensions {
        Dimensions { layers, heads, kv_slots: heads, parallel: false, mlps: true }
    }

    /// Those of a model.
    pub fn of(spec: &Spec, kv: KvSlots) -> Dimensions {
        let kv_slots = match kv {
            KvSlots::PerQueryHead => spec.heads,
            KvSlots::Native => spec.kv_heads,
        };
        Dimensions {
            kv_slots,
            parallel: spec.parallel,
            mlps: spec.mlp.is_some(),
            ..Dimensions::new(spec.layers, spec.heads)
        }
    }

    /// The nodes of a layer that write.
    pub fn writers(self) -> usize {
        self.heads.saturating_add(usize::from(self.mlps))
    }

    /// The slots of a layer that read.
    pub fn readers(self) -> usize {
        self.heads.saturating_add(self.kv_slots.saturating_mul(2)).saturating_add(usize::from(self.mlps))
    }

    /// The number of nodes that write before a layer: the row of its first head.
    pub fn before(self, layer: Layer) -> usize {
        1 + layer.0 * self.writers()
    }

    /// The column of a layer's first slot.
    pub fn first_slot(self, layer: Layer) -> usize {
        layer.0 * self.readers()
    }

    /// The column of a layer's first slot of one branch, and how many there are.
    pub fn slots(self, layer: Layer, branch: Branch) -> (usize, usize) {
        let first = self.first_slot(layer);
        match branch {
            Branch::Query => (first, self.heads),
            Branch::Key => (first + self.heads, self.kv_slots),
            Branch::Value => (first + self.heads + self.kv_slots, self.kv_slots),
        }
    }

    /// The number of nodes that write.
    pub fn sources(self) -> usize {
        self.layers.saturating_mul(self.writers()).saturating_add(1)
    }

    /// The number of slots that read.
    pub fn destinations(self) -> usize {
        self.layers.saturating_mul(self.readers()).saturating_add(1)
    }

    /// The number of edges, by the closed form. Saturates, so sizes read from a file can be judged before a graph is built.
    pub fn edges(self) -> usize {
        let Dimensions { layers, heads, parallel, mlps, .. } = self;
        // Σ over layers of the sources before the layer, 1 + l · writers.
        let pairs_of_layers = layers.saturating_mul(layers.saturating_sub(1)) / 2;
        let before = layers.saturating_add(self.writers().saturating_mul(pairs_of_layers));
        let own_heads = if parallel || !mlps { 0 } else { layers.saturating_mul(heads) };
        self.readers().saturating_mul(before).saturating_add(own_heads).saturating_add(self.sources())
    }

    /// How many query heads share a slot of keys or values.
    pub fn group(self) -> usize {
        self.heads / self.kv_slots.max(1)
    }
}
