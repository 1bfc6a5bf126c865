//! The toy models, carried inside the binary as ordinary Hugging Face folders.

/// The files of one embedded model.
pub struct Embedded {
    pub name: &'static str,
    pub config: &'static [u8],
    pub weights: &'static [u8],
    pub tokenizer: &'static [u8],
}

macro_rules! embed {
    ($name:literal) => {
        Embedded {
            name: $name,
            config: include_bytes!(concat!("../../models/", $name, "/config.json")),
            weights: include_bytes!(concat!("../../models/", $name, "/model.safetensors")),
            tokenizer: include_bytes!(concat!("../../models/", $name, "/tokenizer.json")),
        }
    };
}

/// All embedded models, smallest first.
pub const MODELS: &[Embedded] = &[embed!("toy-2l"), embed!("toy-4l"), embed!("toy-6l")];

/// The embedded model of that name.
pub fn find(name: &str) -> Option<&'static Embedded> {
    MODELS.iter().find(|model| model.name == name)
}

/// The model that commands take when none is named.
pub const DEFAULT: &str = "toy-4l";
