//! The library's error: what went wrong, where, why, and what to do about it.
//!
//! Every module has a `thiserror` enum of its own; this one gathers them so that the command line can print any of them in
//! the same way. Messages are lower case without a full stop; the advice is kept apart, in `hint`.

use std::fmt;
use std::path::{Path, PathBuf};

/// An error with advice.
pub trait Hint: std::error::Error + Send + Sync + 'static {
    /// What the user can do, if there is something.
    fn hint(&self) -> Option<String>;
}

/// Any error of the library.
#[derive(Debug)]
pub struct Error(Box<dyn Hint>);

impl Error {
    pub fn hint(&self) -> Option<String> {
        self.0.hint()
    }
}

impl<E: Hint> From<E> for Error {
    fn from(error: E) -> Error {
        Error(Box::new(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: std::io::Error,
}

impl FileError {
    pub fn reading(path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
        let path = path.to_owned();
        move |source| FileError { action: "read", path, source }
    }

    pub fn writing(path: &Path) -> impl FnOnce(std::io::Error) -> FileError {
        let path = path.to_owned();
        move |source| FileError { action: "write", path, source }
    }
}

impl Hint for FileError {
    fn hint(&self) -> Option<String> {
        use std::io::ErrorKind::*;
        match self.source.kind() {
            NotFound => Some("check the path; it is taken relative to the current folder".into()),
            PermissionDenied | ReadOnlyFilesystem => Some("choose a folder that you may write, with --out".into()),
            _ => None,
        }
    }
}

/// The known name nearest to what was typed, if it is near enough to be a slip.
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (edit_distance(typed, name), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(3) / 3 + 1)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edit distance in characters; two neighbours swapped are one slip (optimal string alignment).
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            table[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut least = replaced.min(table[i - 1][j] + 1).min(table[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(table[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_offers_slips_and_nothing_else() {
        assert_eq!(nearest("toy-41", ["toy-2l", "toy-4l"]), Some("toy-4l"));
        assert_eq!(nearest("logit_dif", ["logit-difference", "kl"]), None);
        assert_eq!(nearest("logit-diference", ["logit-difference", "kl"]), Some("logit-difference"));
        assert_eq!(nearest("llama", ["toy-2l", "toy-4l"]), None);
    }
}
