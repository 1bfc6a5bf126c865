//! Control vectors in GGUF, as repeng writes and llama.cpp reads them (`--control-vector`): architecture `controlvector`, the
//! kind of model, and a tensor `direction.l` of f32 for each layer l.
//!
//! `direction.l` is added to the output of block l; layers begin at 1 there, so that the output of block 0 has no place in such
//! a file. Version 3, little endian, data at multiples of 32 bytes; versions 2 and 3 are read. Written by hand: it is a header
//! of names and numbers, and the crates for GGUF read models, or bring a framework along.

use crate::error::Hint;
use std::collections::BTreeMap;

const MAGIC: &[u8] = b"GGUF";
const VERSION: u32 = 3;
const ALIGNMENT: usize = 32;
const F32: u32 = 0;
const ARCHITECTURE: &str = "controlvector";
/// Of values in the header.
const U32: u32 = 4;
const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// What a file holds.
#[derive(Clone, PartialEq, Debug)]
pub struct ControlVector {
    /// `model_hint`: Hugging Face's `model_type`, as repeng has it.
    pub hint: String,
    /// By layer, from 1.
    pub directions: BTreeMap<usize, Vec<f32>>,
}

/// Bytes that are no control vector.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    #[error("the file is no GGUF file of version 2 or 3")]
    NotGguf,
    #[error("the GGUF file ends in the middle, or counts more than it holds")]
    Cut,
    #[error("the GGUF file holds `{architecture}`, not a control vector")]
    NotAVector { architecture: String },
    #[error("the tensor `{name}` is no direction of numbers in f32")]
    Tensor { name: String },
    #[error("a control vector begins at layer 1: the output of block 0 has no place in it")]
    LayerZero,
}

impl Hint for GgufError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            GgufError::LayerZero => "take a vector of the output of a later block, such as L1".into(),
            _ => "a control vector is a GGUF file that repeng or `penjing vector convert` wrote".into(),
        })
    }
}

impl ControlVector {
    /// The file.
    ///
    /// # Errors
    /// A direction for layer 0.
    pub fn to_bytes(&self) -> Result<Vec<u8>, GgufError> {
        if self.directions.contains_key(&0) {
            return Err(GgufError::LayerZero);
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((self.directions.len() as u64).to_le_bytes());
        bytes.extend(3u64.to_le_bytes());
        for (key, value) in [("general.architecture", ARCHITECTURE), ("controlvector.model_hint", &self.hint)] {
            put_text(&mut bytes, key);
            bytes.extend(STRING.to_le_bytes());
            put_text(&mut bytes, value);
        }
        put_text(&mut bytes, "controlvector.layer_count");
        bytes.extend(U32.to_le_bytes());
        bytes.extend((self.directions.len() as u32).to_le_bytes());
        let mut offset = 0;
        for (layer, direction) in &self.directions {
            put_text(&mut bytes, &format!("direction.{layer}"));
            bytes.extend(1u32.to_le_bytes());
            bytes.extend((direction.len() as u64).to_le_bytes());
            bytes.extend(F32.to_le_bytes());
            bytes.extend((offset as u64).to_le_bytes());
            offset = (offset + 4 * direction.len()).next_multiple_of(ALIGNMENT);
        }
        for direction in self.directions.values() {
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
            bytes.extend(direction.iter().flat_map(|number| number.to_le_bytes()));
        }
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        Ok(bytes)
    }

    /// # Errors
    /// [`GgufError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<ControlVector, GgufError> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.take(4).map_err(|_| GgufError::NotGguf)? != MAGIC || !(2..=VERSION).contains(&reader.u32()?) {
            return Err(GgufError::NotGguf);
        }
        let (tensors, entries) = (reader.u64()?, reader.u64()?);
        let (mut architecture, mut hint, mut alignment) = (String::new(), String::new(), ALIGNMENT);
        for _ in 0..entries {
            let key = reader.text()?;
            let kind = reader.u32()?;
            match (key.as_str(), kind) {
                ("general.architecture", STRING) => architecture = reader.text()?,
                ("controlvector.model_hint", STRING) => hint = reader.text()?,
                ("general.alignment", U32) => alignment = reader.u32()? as usize,
                _ => reader.skip(kind, 0)?,
            }
        }
        if architecture != ARCHITECTURE {
            return Err(GgufError::NotAVector { architecture });
        }
        let mut found = Vec::new();
        for _ in 0..tensors {
            let name = reader.text()?;
            let axes = reader.u32()?;
            let sizes = (0..axes.min(4)).map(|_| reader.u64()).collect::<Result<Vec<_>, _>>()?;
            let (kind, offset) = (reader.u32()?, reader.u64()?);
            let layer = name.strip_prefix("direction.").and_then(|layer| layer.parse::<usize>().ok());
            match (layer, &sizes[..], kind) {
                (Some(0), ..) => return Err(GgufError::LayerZero),
                (Some(layer), &[width], F32) => found.push((layer, offset, width)),
                _ => return Err(GgufError::Tensor { name }),
            }
        }
        let data = reader.at.checked_next_multiple_of(alignment).ok_or(GgufError::Cut)?;
        let direction = |(layer, offset, width): (usize, usize, usize)| {
            let start = data.checked_add(offset).ok_or(GgufError::Cut)?;
            let mut numbers = Reader { bytes, at: start };
            let numbers = numbers.take(width.checked_mul(4).ok_or(GgufError::Cut)?)?.chunks_exact(4);
            Ok((layer, numbers.map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect()))
        };
        Ok(ControlVector { hint, directions: found.into_iter().map(direction).collect::<Result<_, GgufError>>()? })
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as u64).to_le_bytes());
    bytes.extend(text.as_bytes());
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], GgufError> {
        let end = self.at.checked_add(count).ok_or(GgufError::Cut)?;
        let taken = self.bytes.get(self.at..end).ok_or(GgufError::Cut)?;
        self.at = end;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, GgufError> {
        Ok(self.take(4)?.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }

    fn u64(&mut self) -> Result<usize, GgufError> {
        let number = self.take(8)?.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        usize::try_from(number).map_err(|_| GgufError::Cut)
    }

    fn text(&mut self) -> Result<String, GgufError> {
        let length = self.u64()?;
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    /// Passes over a value; lists of lists are as deep as the header says, up to a limit.
    fn skip(&mut self, kind: u32, depth: usize) -> Result<(), GgufError> {
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            STRING => self.u64()?,
            ARRAY if depth < 4 => {
                let (kind, count) = (self.u32()?, self.u64()?);
                for _ in 0..count {
                    self.skip(kind, depth + 1)?;
                }
                0
            }
            _ => return Err(GgufError::Cut),
        };
        self.take(size).map(|_| ())
    }
}
