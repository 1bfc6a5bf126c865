"""Writes tests/data/families: a tiny random model of every family that penjing reads, and what transformers computes with it.

Sizes are odd on purpose: heads that do not fill the width, query heads that share keys and values in threes, windows shorter
than the prompts, tied and untied unembeddings. Needs torch, transformers 4.57 and safetensors; run from the repository's
root: python scripts/family_fixtures.py [case ...]

transformers 5 writes rotary parameters in another way. With it: python scripts/family_fixtures.py --suffix=-v5
gpt_neox_sequential llama3 gemma3_text phi3_longrope
"""

import json
import math
import random
import shutil
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/data/families"
TOKENIZER = ROOT / "tests/data/reference/llama/tokenizer.json"
WORDS = range(1, 64)  # of that tokenizer: t1 .. t63, in order; t0 stands for unknown words

# Sizes by the names that most families use.
COMMON = dict(
    hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, head_dim=8,
    vocab_size=70, max_position_embeddings=48, rms_norm_eps=1e-5, tie_word_embeddings=False,
)
GPT = dict(n_embd=32, n_head=4, n_layer=2, n_positions=48, vocab_size=70)

CASES = {
    "gpt2": ("gpt2", GPT | dict(n_inner=56)),
    "gpt_neo": ("gpt_neo", dict(
        hidden_size=32, num_heads=4, num_layers=3, attention_types=[[["global", "local"], 1], [["global"], 1]],
        window_size=4, intermediate_size=56, vocab_size=70, max_position_embeddings=48)),
    "gpt_neox": ("gpt_neox", dict(
        hidden_size=48, num_attention_heads=3, num_hidden_layers=2, intermediate_size=56, vocab_size=70,
        max_position_embeddings=48, rotary_pct=0.25)),
    "gpt_neox_sequential": ("gpt_neox", dict(
        hidden_size=48, num_attention_heads=3, num_hidden_layers=2, intermediate_size=56, vocab_size=70,
        max_position_embeddings=48, rotary_pct=0.5, use_parallel_residual=False, attention_bias=False,
        tie_word_embeddings=True)),
    "gptj": ("gptj", GPT | dict(rotary_dim=4)),
    "opt": ("opt", dict(
        hidden_size=32, num_attention_heads=4, num_hidden_layers=2, ffn_dim=56, vocab_size=70,
        max_position_embeddings=48, word_embed_proj_dim=32)),
    "llama": ("llama", COMMON | dict(attention_bias=True, mlp_bias=True)),
    "llama3": ("llama", COMMON | dict(
        hidden_size=36, head_dim=16, max_position_embeddings=96, rope_theta=500.0, tie_word_embeddings=True, rope_scaling=dict(
            rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=64))),
    "llama_linear": ("llama", COMMON | dict(rope_scaling=dict(rope_type="linear", factor=4.0))),
    "mistral": ("mistral", COMMON | dict(sliding_window=4, num_attention_heads=9, num_key_value_heads=3)),
    "qwen2": ("qwen2", {k: v for k, v in COMMON.items() if k != "head_dim"} | dict(
        num_attention_heads=4, num_key_value_heads=1, use_sliding_window=True, sliding_window=4, max_window_layers=1,
        tie_word_embeddings=True)),
    "qwen3": ("qwen3", COMMON | dict(head_dim=12)),
    "gemma": ("gemma", COMMON | dict(tie_word_embeddings=True, num_attention_heads=3, num_key_value_heads=1, head_dim=12)),
    "gemma2": ("gemma2", COMMON | dict(
        tie_word_embeddings=True, num_hidden_layers=3, sliding_window=4, query_pre_attn_scalar=11, attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0)),
    "gemma3_text": ("gemma3_text", COMMON | dict(
        hidden_size=36, tie_word_embeddings=True, num_hidden_layers=3, sliding_window=4, query_pre_attn_scalar=11, rope_theta=100000.0,
        rope_local_base_freq=1000.0, rope_scaling=dict(rope_type="linear", factor=8.0),
        layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
    "phi3": ("phi3", {k: v for k, v in COMMON.items() if k != "head_dim"} | dict(
        hidden_size=48, num_attention_heads=6, num_key_value_heads=2, sliding_window=4, pad_token_id=0,
        partial_rotary_factor=0.5, original_max_position_embeddings=48)),
    "phi3_longrope": ("phi3", {k: v for k, v in COMMON.items() if k != "head_dim"} | dict(
        hidden_size=48, num_attention_heads=6, num_key_value_heads=2, pad_token_id=0,
        max_position_embeddings=96, original_max_position_embeddings=24, rope_scaling=dict(
            type="longrope", short_factor=[1.0, 1.5, 2.0, 4.0], long_factor=[2.0, 4.0, 8.0, 16.0]))),
    "olmo2": ("olmo2", {k: v for k, v in COMMON.items() if k != "head_dim"} | dict(
        num_attention_heads=4, num_key_value_heads=2)),
}


def randomise(model, seed: int) -> None:
    """Every parameter away from its neutral value, at a scale that makes logits differ by about one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            neutral = 1.0 if "bias" not in name and not model.config.model_type.startswith("gemma") else 0.0
            parameter.data = neutral + 0.15 * noise
        elif "embed" in name or "wte" in name or "wpe" in name or "lm_head" in name:
            parameter.data = 0.15 * noise
        else:
            parameter.data = noise / math.sqrt(min(parameter.shape))


def pairs(seed: int) -> list[dict]:
    """Prompt pairs of mixed lengths that differ in one or two tokens, once in the first."""
    chosen = random.Random(seed)
    made = []
    for length, place in [(9, 3), (13, 12), (5, 0), (9, 5), (7, 2), (13, 4)]:
        clean = [chosen.choice(WORDS) for _ in range(length)]
        corrupt = list(clean)
        for changed in {place, min(place + 2, length - 1)}:
            corrupt[changed] = chosen.choice([word for word in WORDS if word != clean[changed]])
        answer, wrong = chosen.sample(WORDS, 2)
        made.append(dict(clean=text(clean), corrupt=text(corrupt), answer=f"t{answer}", wrong=f"t{wrong}"))
    return made


def text(ids: list[int]) -> str:
    return " ".join(f"t{number}" for number in ids)


def ids(prompt: str) -> torch.Tensor:
    return torch.tensor([[int(word[1:]) for word in prompt.split()]])


def rounded(tensor: torch.Tensor) -> list:
    if tensor.dim() > 1:
        return [rounded(row) for row in tensor]
    return [float(f"{number:.9g}") for number in tensor.tolist()]


def expected(model, made: list[dict]) -> dict:
    with torch.no_grad():
        last = lambda key: [rounded(model(ids(pair[key])).logits[0, -1]) for pair in made]
        whole = model(ids(made[0]["clean"]), output_hidden_states=True)
        sites = {f"L{layer}.in": rounded(hidden[0]) for layer, hidden in enumerate(whole.hidden_states[:-1])}
        return dict(
            made_with=f"transformers {transformers.__version__}, torch {torch.__version__}",
            logits=last("clean"), corrupt_logits=last("corrupt"),
            sites=sites | {"logits": rounded(whole.logits[0])},
        )


def write(case: str, seed: int, suffix: str) -> None:
    family, options = CASES[case]
    folder = OUT / (case + suffix)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = AutoConfig.for_model(family, **options)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    randomise(model, seed)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    shutil.copy(TOKENIZER, folder / "tokenizer.json")
    made = pairs(seed)
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in made))
    numbers = expected(model, made)
    again = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    assert expected(again, made) == numbers, case
    spread = torch.tensor(numbers["logits"]).std()
    (folder / "expected.json").write_text(json.dumps(numbers) + "\n")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{case}: {size // 1024} KiB, logits spread by {spread:.2f}")


if __name__ == "__main__":
    suffixes = [argument.removeprefix("--suffix=") for argument in sys.argv[1:] if argument.startswith("--suffix=")]
    chosen = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    for index, case in enumerate(CASES):
        if not chosen or case in chosen:
            write(case, index, "".join(suffixes))
