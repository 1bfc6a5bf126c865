"""Writes a folder of random Llama-shaped bfloat16 weights, one tensor at a time: for measuring loading, memory and time.

Needs numpy; run: python scripts/large_llama.py FOLDER [--billion 1.0]
"""

import argparse
import json
from pathlib import Path

import numpy

VOCAB, WORDS, SHARDS = 32000, 2000, 3


def config(billion: float) -> dict:
    layers = max(1, round(16 * billion))
    return dict(
        architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=2048, intermediate_size=8192,
        num_hidden_layers=layers, num_attention_heads=32, num_key_value_heads=8, head_dim=64, vocab_size=VOCAB,
        max_position_embeddings=4096, rms_norm_eps=1e-5, rope_theta=500000.0, hidden_act="silu",
        tie_word_embeddings=True, torch_dtype="bfloat16",
    )


def shapes(c: dict) -> dict[str, tuple]:
    d, mlp, kv = c["hidden_size"], c["intermediate_size"], c["num_key_value_heads"] * c["head_dim"]
    found = {"model.embed_tokens.weight": (VOCAB, d)}
    for layer in range(c["num_hidden_layers"]):
        start = f"model.layers.{layer}."
        for part, shape in {
            "input_layernorm": (d,), "self_attn.q_proj": (d, d), "self_attn.k_proj": (kv, d),
            "self_attn.v_proj": (kv, d), "self_attn.o_proj": (d, d), "post_attention_layernorm": (d,),
            "mlp.gate_proj": (mlp, d), "mlp.up_proj": (mlp, d), "mlp.down_proj": (d, mlp),
        }.items():
            found[f"{start}{part}.weight"] = shape
    return found | {"model.norm.weight": (d,)}


def bfloat16(numbers: numpy.ndarray) -> bytes:
    """The upper halves of float32, cut and not rounded: the weights are random anyway."""
    return (numbers.astype(numpy.float32).view(numpy.uint32) >> 16).astype(numpy.uint16).tobytes()


def write_shard(path: Path, tensors: dict[str, tuple], random: numpy.random.Generator) -> None:
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors.items():
        start, end = end, end + 2 * int(numpy.prod(shape))
        header[name] = dict(dtype="BF16", shape=shape, data_offsets=[start, end])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors.items():
            gain = len(shape) == 1
            numbers = random.standard_normal(shape, dtype=numpy.float32) * (0.1 if gain else shape[-1] ** -0.5)
            file.write(bfloat16(numbers + 1 if gain else numbers))


def tokenizer() -> dict:
    vocabulary = {f"t{number}": number for number in range(WORDS)}
    return dict(
        version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=None,
        pre_tokenizer=dict(type="WhitespaceSplit"), post_processor=None, decoder=None,
        model=dict(type="WordLevel", vocab=vocabulary, unk_token="t0"),
    )


def pairs(random: numpy.random.Generator) -> list[dict]:
    made = []
    for _ in range(24):  # of which about half are held out
        clean = random.integers(1, WORDS, 20)
        corrupt = clean.copy()
        corrupt[0] = clean[0] % (WORDS - 1) + 1  # nothing is shared: all 20 positions are computed
        right, wrong = random.choice(range(1, WORDS), 2, replace=False)
        text = lambda ids: " ".join(f"t{number}" for number in ids)
        made.append(dict(clean=text(clean), corrupt=text(corrupt), answer=f"t{right}", wrong=f"t{wrong}"))
    return made


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--billion", type=float, default=1.0)
    given = arguments.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    c, random = config(given.billion), numpy.random.default_rng(0)
    tensors = list(shapes(c).items())
    names, index = numpy.array_split(range(len(tensors)), SHARDS), {}
    for shard, part in enumerate(names):
        file = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        write_shard(given.folder / file, dict(tensors[i] for i in part), random)
        index |= {tensors[i][0]: file for i in part}
    total = 2 * sum(int(numpy.prod(shape)) for _, shape in tensors)
    write = lambda name, value: (given.folder / name).write_text(value)
    write("model.safetensors.index.json", json.dumps(dict(metadata=dict(total_size=total), weight_map=index)))
    write("config.json", json.dumps(c, indent=1) + "\n")
    write("tokenizer.json", json.dumps(tokenizer()))
    write("pairs.jsonl", "".join(json.dumps(pair) + "\n" for pair in pairs(random)))
    task = ['schema = 1', 'name = "random"', 'title = "Random tokens"', '[metric]', 'kind = "logit-difference"',
            '[data]', 'file = "pairs.jsonl"']
    write("task.toml", "\n".join(task) + "\n")
    print(f"{given.folder}: {total / 2e9:.2f} billion parameters, {total / 1e9:.1f} GB")


if __name__ == "__main__":
    main()
