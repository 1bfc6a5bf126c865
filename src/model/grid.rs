//! What depends on positions alone, computed once a pass and shared by its layers: rotations and masks.

use super::spec::{Pairing, Rotary, Spec};
use tch::{Device, Kind, Tensor};

/// The positions of one pass: `past` before it, `pos` in it.
pub(super) struct Grid {
    past: i64,
    pos: i64,
    /// Whether those in it are variants of one position.
    variants: bool,
    device: Device,
    /// Cosine and sine for every rotary of the model, each `[past + pos, 1, dims / 2]`.
    rotations: Vec<(Tensor, Tensor)>,
    /// For every window in use (none: no window) what a query must not see, `[pos, past + pos]`; nothing if it sees all.
    masks: Vec<(Option<usize>, Option<Tensor>)>,
}

impl Grid {
    pub fn new(spec: &Spec, past: usize, pos: i64, variants: bool, device: Device) -> Grid {
        let past = past as i64;
        let mut grid = Grid { past, pos, variants, device, rotations: Vec::new(), masks: Vec::new() };
        for rotary in &spec.attention.rotaries {
            let mut positions = Tensor::arange(past + pos, (Kind::Float, device)); // [past + pos]
            if variants {
                positions = positions.clamp_max(past as f64);
            }
            let frequencies = Tensor::from_slice(&rotary.frequencies).to_device(device); // [dims / 2]
            let angles = positions.outer(&frequencies).unsqueeze(1); // [past + pos, 1, dims / 2]
            grid.rotations.push((angles.cos() * rotary.magnitude, angles.sin() * rotary.magnitude));
        }
        for layer in &spec.attention.layers {
            if grid.masks.iter().all(|(window, _)| *window != layer.window) {
                let mask = grid.hidden(spec.attention.causal, layer.window);
                grid.masks.push((layer.window, mask));
            }
        }
        grid
    }

    /// Which keys a query must not see: `[pos, past + pos]`.
    fn hidden(&self, causal: bool, window: Option<usize>) -> Option<Tensor> {
        if self.variants {
            return Some(self.hidden_of_variants(window));
        }
        let shape = [self.pos, self.past + self.pos];
        let ones = || Tensor::ones(shape, (Kind::Bool, self.device)); // [query, key]
        let later = causal.then(|| ones().triu(self.past + 1));
        let too_early = window.map(|window| ones().tril(self.past - window as i64));
        match (later, too_early) {
            (Some(later), Some(early)) => Some(later.logical_or(&early)),
            (later, early) => later.or(early),
        }
    }

    /// Every variant sees the past, as far as its window goes, and itself: `[pos, past + pos]`.
    fn hidden_of_variants(&self, window: Option<usize>) -> Tensor {
        let kind = (Kind::Bool, self.device);
        let too_early = window.map_or(0, |window| (self.past + 1 - window as i64).max(0));
        let [early, seen] = [(too_early, true), (self.past - too_early, false)].map(|(columns, hidden)| {
            let shape = [self.pos, columns];
            if hidden { Tensor::ones(shape, kind) } else { Tensor::zeros(shape, kind) }
        });
        let others = Tensor::eye(self.pos, kind).logical_not();
        Tensor::cat(&[early, seen, others], 1)
    }

    pub fn mask(&self, window: Option<usize>) -> Option<&Tensor> {
        self.masks.iter().find(|(of, _)| *of == window).and_then(|(_, mask)| mask.as_ref())
    }

    /// Rotates the last positions of the grid: `[batch, any number of them, head, d_head]`.
    pub fn rotate(&self, x: &Tensor, index: usize, rotary: &Rotary) -> Tensor {
        let (all, pos, d_head) = (self.past + self.pos, x.size()[1], x.size()[3]);
        let (cosine, sine) = &self.rotations[index];
        let [cosine, sine] = [cosine, sine].map(|table| table.narrow(0, all - pos, pos)); // [pos, 1, dims / 2]
        let half = rotary.frequencies.len() as i64;
        let turning = x.narrow(3, 0, 2 * half);
        let [first, second] = match rotary.pairing {
            Pairing::Halves => [turning.narrow(3, 0, half), turning.narrow(3, half, half)],
            Pairing::Neighbours => [0, 1].map(|offset| turning.slice(3, offset, None, 2)),
        }; // [batch, pos, head, dims / 2]
        let turned = [&first * &cosine - &second * &sine, &second * &cosine + &first * &sine];
        let turned = match rotary.pairing {
            Pairing::Halves => Tensor::cat(&turned, 3),
            Pairing::Neighbours => Tensor::stack(&turned, 4).flatten(3, 4),
        }; // [batch, pos, head, dims]
        match d_head - 2 * half {
            0 => turned,
            rest => Tensor::cat(&[turned, x.narrow(3, 2 * half, rest)], 3),
        }
    }
}
