//! The names that other tools give sites, and ours: `blocks.5.hook_resid_post` (SAELens), `layers.5.mlp` (sparsify), `L5`.
//!
//! sparsify names modules of a model of Hugging Face, whose output is the same as ours except where a norm follows the module
//! (Gemma 2 and 3, OLMo 2).

use std::path::Path;

/// Parts of a layer: TransformerLens' name, ours, and the names of Hugging Face's modules.
const PARTS: [(&str, &str, &[&str]); 6] = [
    ("hook_resid_post", "", &[""]),
    ("hook_resid_pre", ".in", &[]),
    ("hook_resid_mid", ".mid", &[]),
    ("hook_attn_out", ".attn", &[".attn", ".self_attn", ".attention"]),
    ("hook_mlp_out", ".mlp", &[".mlp"]),
    ("mlp.hook_post", ".N*", &[]),
];

/// A site by the name of SAELens, that is of TransformerLens.
pub fn from_transformer_lens(hook: &str) -> Option<String> {
    if hook == "hook_embed" {
        return Some("emb".into());
    }
    let (layer, part) = hook.strip_prefix("blocks.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    PARTS.iter().find(|(name, ..)| *name == part).map(|(_, ours, _)| format!("L{layer}{ours}"))
}

/// SAELens' name of a site, if it has one.
pub fn to_transformer_lens(site: &str) -> Option<String> {
    if site == "emb" {
        return Some("hook_embed".into());
    }
    let rest = site.strip_prefix('L')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let layer: usize = rest[..digits].parse().ok()?;
    PARTS.iter().find(|(_, ours, _)| *ours == &rest[digits..]).map(|(name, ..)| format!("blocks.{layer}.{name}"))
}

/// A site by the name of a module: what comes before the list of layers does not matter.
pub fn from_module(name: &str) -> Option<String> {
    let mut parts = name.split('.').peekable();
    while !matches!(parts.next()?, "layers" | "h" | "blocks") {}
    let layer: usize = parts.next()?.parse().ok()?;
    let rest: String = parts.map(|part| format!(".{part}")).collect();
    PARTS.iter().find(|(_, _, modules)| modules.contains(&rest.as_str())).map(|(_, ours, _)| format!("L{layer}{ours}"))
}

/// The site of a file of Gemma Scope, by the folders that it lies in: `gemma-scope-2b-pt-res/layer_20/...`.
pub fn from_gemma_scope(path: &Path) -> Option<String> {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let layer: usize = parts.iter().rev().find_map(|part| part.strip_prefix("layer_")?.parse().ok())?;
    let suite = parts.iter().rev().find(|part| part.starts_with("gemma-scope"))?;
    if suite.ends_with("-res") {
        Some(format!("L{layer}"))
    } else if suite.ends_with("-mlp") {
        Some(format!("L{layer}.mlp"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_tools_are_ours() {
        for (hook, site) in [
            ("blocks.5.hook_resid_post", Some("L5")),
            ("blocks.0.hook_resid_pre", Some("L0.in")),
            ("blocks.11.hook_resid_mid", Some("L11.mid")),
            ("blocks.5.hook_attn_out", Some("L5.attn")),
            ("blocks.5.hook_mlp_out", Some("L5.mlp")),
            ("blocks.5.mlp.hook_post", Some("L5.N*")),
            ("blocks.5.attn.hook_z", None),
            ("blocks.x.hook_resid_post", None),
            ("hook_embed", Some("emb")),
        ] {
            assert_eq!(from_transformer_lens(hook).as_deref(), site, "{hook}");
            if let Some(site) = site {
                assert_eq!(to_transformer_lens(site).as_deref(), Some(hook));
            }
        }
        for (module, site) in [
            ("layers.5", Some("L5")),
            ("h.5", Some("L5")),
            ("gpt_neox.layers.3.mlp", Some("L3.mlp")),
            ("model.layers.2.self_attn", Some("L2.attn")),
            ("layers.2.mlp.act", None),
            ("embed_tokens", None),
        ] {
            assert_eq!(from_module(module).as_deref(), site, "{module}");
        }
        let scope = |path: &str| from_gemma_scope(Path::new(path));
        assert_eq!(scope("gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz").as_deref(), Some("L20"));
        assert_eq!(scope("gemma-scope-2b-pt-att/layer_20/width_16k/params.npz"), None);
        assert_eq!(scope("params.npz"), None);
    }
}
