//! Whatever stands in a `config.json` or a `model.safetensors.index.json`, reading it ends in a spec or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use penjing::error::Hint;
use penjing::graph::{Dimensions, KvSlots};
use penjing::model::{family, safetensors::shard_names};
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("config.json");
    match family::spec(bytes, path) {
        Ok(spec) => {
            assert_eq!(spec.attention.layers.len(), spec.layers);
            assert_eq!(spec.group() * spec.kv_heads, spec.heads);
            assert!(spec.attention.layers.iter().flat_map(|layer| layer.rotary).all(|r| r < spec.attention.rotaries.len()));
            assert!(spec.attention.rotaries.iter().all(|rotary| 2 * rotary.frequencies.len() <= spec.d_head));
            assert!(Dimensions::of(&spec, KvSlots::PerQueryHead).edges() > 0);
        }
        Err(error) => assert!(error.hint().is_some() && !error.to_string().is_empty()),
    }
    if let Ok(names) = shard_names(bytes, path) {
        assert!(!names.is_empty() && names.iter().all(|name| !name.contains('/')));
    }
});
