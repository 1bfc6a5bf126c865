"""Writes tests/data/research: tiny random models in TransformerLens's layout, and what that package computes with them.

Needs torch, transformer_lens 2 and safetensors; run from the repository's root: python scripts/research_fixtures.py
"""

import json
import shutil

import torch
import transformer_lens
from safetensors.torch import save_file
from transformer_lens import HookedTransformer, HookedTransformerConfig

from family_fixtures import ROOT, TOKENIZER, ids, pairs, rounded

OUT = ROOT / "tests/data/research"
COMMON = dict(n_layers=2, d_model=32, n_ctx=24, d_head=8, n_heads=3, d_vocab=70, init_weights=False, device="cpu")

CASES = {
    "attn_only": dict(attn_only=True, normalization_type="LN"),
    "attn_only_shortformer": dict(attn_only=True, normalization_type="LN", positional_embedding_type="shortformer"),
    "no_norm_relu": dict(d_mlp=56, act_fn="relu", normalization_type=None),
    "ln_pre": dict(d_mlp=56, act_fn="gelu", normalization_type="LNPre"),
    "bidirectional": dict(d_mlp=56, act_fn="relu", normalization_type="LN", attention_dir="bidirectional"),
    "rotary_gqa": dict(
        d_mlp=56, act_fn="silu", gated_mlp=True, normalization_type="RMS", final_rms=True, n_heads=4,
        n_key_value_heads=2, positional_embedding_type="rotary", rotary_dim=4, parallel_attn_mlp=True),
    # Fewer logits than tokens, as compiled models have; its buffers are kept, as published checkpoints keep them.
    "small_output": dict(d_mlp=56, act_fn="relu", normalization_type=None, d_vocab_out=65, use_attn_scale=False),
}
BUFFERS = (".mask", ".IGNORE", ".rotary_sin", ".rotary_cos")


def model_of(case: str, seed: int) -> HookedTransformer:
    model = HookedTransformer(HookedTransformerConfig(seed=seed, **(COMMON | CASES[case]))).eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith(".w"):
            parameter.data = 1 + 0.2 * noise
        elif ".b" in name:
            parameter.data = 0.1 * noise
        else:
            parameter.data = 0.15 * noise if "mbed" in name else noise / parameter.shape[-2] ** 0.5
    return model


def plain(value):
    return value if isinstance(value, (int, float, str, bool, list, type(None))) else str(value)


def write(case: str, seed: int) -> None:
    folder = OUT / case
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = model_of(case, seed)
    keep = case == "small_output"
    tensors = {n: t.contiguous() for n, t in model.state_dict().items() if keep or not n.endswith(BUFFERS)}
    save_file(tensors, folder / "model.safetensors")
    config = {name: plain(value) for name, value in model.cfg.to_dict().items()}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    shutil.copy(TOKENIZER, folder / "tokenizer.json")
    made = pairs(seed)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in made))
    with torch.no_grad():
        last = lambda key: [rounded(model(ids(pair[key]))[0, -1]) for pair in made]
        logits, cache = model.run_with_cache(ids(made[0]["clean"]))
        sites = {f"L{layer}.in": rounded(cache[f"blocks.{layer}.hook_resid_pre"][0]) for layer in range(2)}
        numbers = dict(
            made_with=f"transformer_lens {transformer_lens.__version__ if hasattr(transformer_lens, '__version__') else ''}".strip(),
            logits=last("clean"), corrupt_logits=last("corrupt"), sites=sites | {"logits": rounded(logits[0])},
        )
    (folder / "expected.json").write_text(json.dumps(numbers) + "\n")
    print(case, sum(path.stat().st_size for path in folder.iterdir()) // 1024, "KiB")


if __name__ == "__main__":
    for index, case in enumerate(CASES):
        write(case, 100 + index)
