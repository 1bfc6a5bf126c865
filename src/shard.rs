//! A part of a run's pairs, so that several processes or machines can share the work.

use crate::error::Hint;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Part `index` of `count`, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Shard {
    pub index: usize,
    pub count: usize,
}

/// Why there is no such part.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ShardError {
    #[error("`{0}` is no shard")]
    Malformed(String),
    #[error("there is no shard {index} of {count}")]
    Outside { index: usize, count: usize },
    #[error("{count} shards of {pairs} pairs leave some with nothing to do")]
    Empty { count: usize, pairs: usize },
}

impl Hint for ShardError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            ShardError::Malformed(_) => "write `0/4` for the first of four".into(),
            ShardError::Outside { count: 0, .. } => "leave --shard out to work on all pairs".into(),
            ShardError::Outside { count, .. } => format!("they are counted from 0/{count} to {}/{count}", count - 1),
            ShardError::Empty { pairs, .. } => format!("take more --pairs, or at most {pairs} shards"),
        })
    }
}

impl Shard {
    /// # Errors
    /// [`ShardError::Outside`].
    pub fn new(index: usize, count: usize) -> Result<Shard, ShardError> {
        if index < count { Ok(Shard { index, count }) } else { Err(ShardError::Outside { index, count }) }
    }

    /// Its pairs: consecutive ones in the order of the data set, since neighbours are often alike in length and share
    /// more of their start; the parts differ by one pair at most.
    ///
    /// # Errors
    /// [`ShardError::Empty`] when there are fewer pairs than shards.
    pub fn range(self, pairs: usize) -> Result<Range<usize>, ShardError> {
        let Shard { index, count } = self;
        if count > pairs {
            return Err(ShardError::Empty { count, pairs });
        }
        let (each, more) = (pairs / count, pairs % count);
        let start = |index: usize| index * each + index.min(more);
        Ok(start(index)..start(index + 1))
    }

    /// As in the names of its files: `0-of-4`.
    pub fn in_names(self) -> String {
        format!("{}-of-{}", self.index, self.count)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = ShardError;

    fn from_str(text: &str) -> Result<Shard, ShardError> {
        let numbers = text.split_once('/').map(|(index, count)| (index.parse(), count.parse()));
        match numbers {
            Some((Ok(index), Ok(count))) => Shard::new(index, count),
            _ => Err(ShardError::Malformed(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_consecutive_even_and_whole() {
        for pairs in 1..40 {
            for count in 1..=pairs {
                let parts: Vec<_> = (0..count).map(|index| Shard { index, count }.range(pairs).unwrap()).collect();
                assert_eq!((parts[0].start, parts[count - 1].end), (0, pairs));
                assert!(parts.windows(2).all(|two| two[0].end == two[1].start));
                let sizes = || parts.iter().map(ExactSizeIterator::len);
                assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1, "{parts:?}");
            }
        }
        assert_eq!(Shard { index: 3, count: 4 }.range(3), Err(ShardError::Empty { count: 4, pairs: 3 }));
    }

    #[test]
    fn shards_are_read_as_they_are_written() {
        assert_eq!("3/4".parse(), Ok(Shard { index: 3, count: 4 }));
        assert_eq!("4/4".parse::<Shard>(), Err(ShardError::Outside { index: 4, count: 4 }));
        for malformed in ["", "x", "1", "1/", "/4", "-1/4", "1/4/4", "1 of 4", "99999999999999999999/4"] {
            assert_eq!(malformed.parse::<Shard>(), Err(ShardError::Malformed(malformed.to_owned())));
        }
    }
}
