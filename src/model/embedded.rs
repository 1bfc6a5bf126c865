//! The toy models, carried inside the binary as ordinary Hugging Face folders.

/// The files of one embedded model.
pub struct Embedded {
    pub name: &'static str,
    pub config: &'static [u8],
    pub weights: &'static [u8],
    pub tokenizer: &'static [u8],
}

/// All embedded models, smallest first.
pub const MODELS: &[Embedded] = &[];

/// The embedded model of that name.
pub fn find(name: &str) -> Option<&'static Embedded> {
    MODELS.iter().find(|model| model.name == name)
}

/// The model that commands take when none is named.
pub const DEFAULT: &str = "toy-4l";
