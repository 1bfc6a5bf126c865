//! The one seam of the forward pass.

use super::site::Site;
use tch::Tensor;

/// Reads and writes sites during a forward pass.
pub trait Tap {
    /// Whether the forward should announce this site. Asked before the value is computed, so that patterns and per-head
    /// outputs cost nothing unless somebody looks.
    fn wants(&self, site: Site) -> bool;

    /// Sees the value of a site and returns the value that the pass goes on with: the same tensor to read, another of the
    /// same shape to write.
    fn at(&mut self, site: Site, value: Tensor) -> Tensor;
}

/// Looks at nothing.
pub struct NoTap;

impl Tap for NoTap {
    fn wants(&self, _: Site) -> bool {
        false
    }

    fn at(&mut self, _: Site, value: Tensor) -> Tensor {
        value
    }
}

/// Two taps in order: the second sees what the first returned.
impl<A: Tap, B: Tap> Tap for (A, B) {
    fn wants(&self, site: Site) -> bool {
        self.0.wants(site) || self.1.wants(site)
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        let value = if self.0.wants(site) { self.0.at(site, value) } else { value };
        if self.1.wants(site) { self.1.at(site, value) } else { value }
    }
}

impl<T: Tap + ?Sized> Tap for &mut T {
    fn wants(&self, site: Site) -> bool {
        (**self).wants(site)
    }

    fn at(&mut self, site: Site, value: Tensor) -> Tensor {
        (**self).at(site, value)
    }
}
