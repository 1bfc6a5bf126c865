//! Makes a circuit locally minimal: removes edges (or nodes) until no single one can go.
//!
//! They are tried in order of |score|, weakest first, in groups that halve when a group cannot go; a removal takes with it
//! the dead ends it leaves. The search ends with a whole round of single ones of which none could go.
//!
//! Cost: at least one run of the circuit for each that stays, usually two or three.

use super::Judge;
use super::parts::Parts;
use crate::circuit::EdgeMask;
use crate::circuit::nodes::size;
use crate::circuit::prune::prune;

/// The part of `circuit` that is left when nothing more can go.
pub fn minimise(parts: &Parts, circuit: &EdgeMask, judge: &Judge, progress: &mut dyn FnMut(&str)) -> EdgeMask {
    let mut circuit = circuit.clone();
    let mut group = (size(parts.level, &circuit) / 4).max(1);
    loop {
        let removed = sweep(parts, &mut circuit, judge, group, progress);
        match (removed, group) {
            (false, 1) => return circuit,
            (_, 1) => {}
            _ => group = (group / 2).max(1),
        }
    }
}

/// Tries each once, `group` at a time. Whether any could go.
fn sweep(parts: &Parts, circuit: &mut EdgeMask, judge: &Judge, group: usize, progress: &mut dyn FnMut(&str)) -> bool {
    let all = parts.weakest_first(circuit);
    let mut removed = false;
    for candidates in all.chunks(group) {
        let mut smaller = circuit.clone();
        for &edge in candidates.iter().flatten() {
            smaller.remove(edge);
        }
        // An earlier removal may have taken these edges along as dead ends.
        if smaller == *circuit {
            continue;
        }
        progress(&format!("removing {}, {} left", parts.level.plural(), size(parts.level, circuit)));
        let smaller = prune(parts.graph, &smaller);
        if smaller.count() > 0 && judge.accepts(&smaller) {
            *circuit = smaller;
            removed = true;
        }
    }
    removed
}
