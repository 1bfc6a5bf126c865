//! From the largest optimum of at most n edges towards the next one, node by node.
//!
//! Between two optima whole groups of nodes come in at once, and n may lie far from either. From the smaller one on, the price of
//! an edge falls from one offer to the next. A node comes in when the offers between it and the circuit are worth what they and
//! the node cost, its best incoming and its best outgoing one among them, at the price of the offer of its that is reached.
//! It need not be the best of all then, only of those that the circuit has the other node of; so these circuits are connected, but
//! no closures. Nodes that would pay only together stay out. Cost: O(edges).

use super::Market;

/// No offer.
const NONE: usize = usize::MAX;

pub(super) struct Growth<'a> {
    market: &'a Market,
    pub inside: Vec<bool>,
    /// Places of the offers at each vertex.
    at: Vec<Vec<u32>>,
    /// Of each vertex the place of the best offer from and to the circuit.
    best_in: Vec<usize>,
    best_out: Vec<usize>,
    /// How many nodes of the circuit need an offer.
    needs: Vec<u8>,
    needed: usize,
    /// Offers before this place are reached.
    reached: usize,
    /// Offers between nodes of the circuit that are reached or needed.
    edges: usize,
    /// Of each vertex outside: its reached offers from and to the circuit, what they are worth and how many they are.
    worth: Vec<i64>,
    count: Vec<i64>,
}

impl<'a> Growth<'a> {
    /// A circuit of the nodes of `core`, when all offers worth more than `price` are reached.
    pub fn new(market: &'a Market, core: &[bool], price: i64) -> Growth<'a> {
        let vertices = core.len();
        let mut at = vec![Vec::new(); vertices];
        for (place, offer) in market.offers.iter().enumerate() {
            at[offer.from].push(place as u32);
            at[offer.to].push(place as u32);
        }
        let reached = market.offers.partition_point(|offer| offer.value > price);
        let mut growth = Growth {
            market,
            inside: vec![false; vertices],
            at,
            best_in: vec![NONE; vertices],
            best_out: vec![NONE; vertices],
            needs: vec![0; market.offers.len()],
            needed: 0,
            reached,
            edges: 0,
            worth: vec![0; vertices],
            count: vec![0; vertices],
        };
        for vertex in (0..vertices).filter(|&vertex| core[vertex]) {
            growth.enter(vertex);
        }
        growth
    }

    /// Grows until there are `n` edges or no offer is left. Never needs more than `n`.
    pub fn until(mut self, n: usize) -> Growth<'a> {
        while self.edges < n && self.reached < self.market.offers.len() {
            let place = self.reached;
            let offer = self.market.offers[place];
            self.reached += 1;
            let mut candidates = Vec::new();
            match (self.inside[offer.from], self.inside[offer.to]) {
                (true, true) => self.edges += usize::from(self.needs[place] == 0),
                (false, false) => {}
                (from_inside, _) => {
                    let outside = if from_inside { offer.to } else { offer.from };
                    self.worth[outside] += offer.value;
                    self.count[outside] += 1;
                    candidates.push(outside);
                }
            }
            while let Some(vertex) = candidates.pop().filter(|_| self.edges < n) {
                if !self.inside[vertex] && self.needed + 2 <= n && self.pays(vertex, offer.value) {
                    candidates.extend(self.enter(vertex));
                }
            }
        }
        self
    }

    /// Whether a node needs an offer.
    pub fn needs(&self, place: usize) -> bool {
        self.needs[place] > 0
    }

    fn pays(&self, vertex: usize, price: i64) -> bool {
        let mut net = self.worth[vertex] - self.count[vertex] * price - self.market.cost(price);
        for best in [self.best_in[vertex], self.best_out[vertex]] {
            match self.market.offers.get(best) {
                None => return false,
                Some(offer) if best >= self.reached => net += offer.value - price,
                Some(_) => {}
            }
        }
        net >= 0
    }

    fn is_end(&self, vertex: usize) -> bool {
        vertex == 0 || vertex + 1 == self.inside.len()
    }

    fn need(&mut self, place: usize) {
        if self.needs[place] == 0 {
            self.needed += 1;
            self.edges += usize::from(place >= self.reached);
        }
        self.needs[place] += 1;
    }

    fn need_no_more(&mut self, place: usize) {
        self.needs[place] -= 1;
        if self.needs[place] == 0 {
            self.needed -= 1;
            self.edges -= usize::from(place >= self.reached);
        }
    }

    /// Takes a vertex in, and says to which nodes outside it has reached offers.
    fn enter(&mut self, vertex: usize) -> Vec<usize> {
        self.inside[vertex] = true;
        let mut neighbours = Vec::new();
        let at = std::mem::take(&mut self.at[vertex]); // its offers are looked at this once
        for place in at.into_iter().map(|place| place as usize) {
            let offer = self.market.offers[place];
            let into = offer.from == vertex;
            let other = if into { offer.to } else { offer.from };
            let best = if into { self.best_in[other] } else { self.best_out[other] };
            if place < best {
                if self.inside[other] && !self.is_end(other) {
                    if best != NONE {
                        self.need_no_more(best);
                    }
                    self.need(place);
                }
                *(if into { &mut self.best_in[other] } else { &mut self.best_out[other] }) = place;
            }
            match (self.inside[other], place < self.reached) {
                (true, true) => self.edges += 1,
                (false, true) => {
                    self.worth[other] += offer.value;
                    self.count[other] += 1;
                    neighbours.push(other);
                }
                (_, false) => {}
            }
        }
        if !self.is_end(vertex) {
            for place in [self.best_in[vertex], self.best_out[vertex]] {
                if place != NONE {
                    self.need(place);
                }
            }
        }
        neighbours
    }
}
