"""Times the `auto-circuit` package (Miller et al., arXiv:2407.08734) on a model and pairs, for scripts/benchmarks.py.

    python3 scripts/auto_circuit.py --versions
    python3 scripts/auto_circuit.py FOLDER eap --pairs 32
    python3 scripts/auto_circuit.py FOLDER acdc --pairs 32 --tau 0.01

FOLDER holds a GPT-2 of Hugging Face (config.json, model.safetensors, tokenizer.json) and pairs.jsonl, whose prompts are all
of one length. One line of JSON comes out; its seconds are those of scoring alone, without imports and loading. The
packages that this needs are in `PACKAGES`.
"""

import argparse
import contextlib
import importlib.metadata
import json
import sys
import time
from pathlib import Path

# Python puts the folder of a script first, where this file has the name of the package.
sys.path = [folder for folder in sys.path if Path(folder).resolve() != Path(__file__).resolve().parent]

# Those of auto-circuit 1.0.1, and the last versions of others that work with them.
PACKAGES = ["torch==2.11.0", "transformer-lens<3", "transformers<5", "datasets<4", "pyarrow<20", "numpy<2", "jax<0.5",
            "auto-circuit==1.0.1"]


def versions() -> dict:
    """Of what decides the numbers. Fails where something is not there or cannot be imported."""
    import auto_circuit.prune_algos.ACDC  # noqa: F401
    import auto_circuit.prune_algos.mask_gradient  # noqa: F401

    return {name: importlib.metadata.version(name) for name in ("auto-circuit", "torch", "transformer-lens")}


def load_model(folder: Path):
    """The model as `auto_circuit.experiment_utils.load_tl_model` sets it up, without changing its weights."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
    from transformers import GPT2LMHeadModel

    from auto_circuit.utils.graph_utils import patchable_model

    published = GPT2LMHeadModel.from_pretrained(folder)
    sizes = published.config
    config = HookedTransformerConfig(
        n_layers=sizes.n_layer, n_heads=sizes.n_head, d_model=sizes.n_embd, d_head=sizes.n_embd // sizes.n_head,
        d_mlp=4 * sizes.n_embd, d_vocab=sizes.vocab_size, n_ctx=sizes.n_positions, act_fn="gelu_new",
        normalization_type="LN", eps=sizes.layer_norm_epsilon, device="cpu")
    model = HookedTransformer(config)
    missing, _ = model.load_state_dict(convert_gpt2_weights(published, config), strict=False)
    # What the file does not have: buffers, and a bias that stays 0.
    assert all(name.endswith((".mask", ".IGNORE", "unembed.b_U")) for name in missing), missing
    model.cfg.use_attn_result = model.cfg.use_attn_in = True
    model.cfg.use_split_qkv_input = model.cfg.use_hook_mlp_in = True
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad = False
    return patchable_model(model, factorized=True, slice_output="last_seq", separate_qkv=True)


def load_pairs(folder: Path, count: int):
    """The first pairs of the file in one batch."""
    import torch
    from tokenizers import Tokenizer

    from auto_circuit.data import PromptDataLoader, PromptDataset

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    rows = [json.loads(line) for line in (folder / "pairs.jsonl").read_text().splitlines()[:count]]
    assert len(rows) == count, f"there are only {len(rows)} pairs"
    columns = [[torch.tensor(tokenizer.encode(row[name]).ids) for row in rows]
               for name in ("clean", "corrupt", "answer", "wrong")]  # a prompt: [pos], an answer: [1]
    return PromptDataLoader(PromptDataset(*columns), seq_len=None, diverge_idx=0, batch_size=count, shuffle=False)


def eap(model, pairs) -> dict:
    from auto_circuit.prune_algos.mask_gradient import mask_gradient_prune_scores

    mask_gradient_prune_scores(model, pairs, None, grad_function="logit", answer_function="avg_diff", mask_val=0.0)
    return {}


def acdc(model, pairs, tau: float) -> dict:
    """One search. The package wants powers of ten and factors of them; edges that it keeps have an infinite score."""
    from auto_circuit.prune_algos.ACDC import acdc_prune_scores

    scores = acdc_prune_scores(model, pairs, None, tao_exps=[0], tao_bases=[tau])
    kept = sum(int(edge.prune_score(scores).isinf()) for edge in model.edges)
    return {"kept": kept}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("method", choices=["eap", "acdc"], nargs="?")
    parser.add_argument("--pairs", type=int, default=32)
    parser.add_argument("--tau", type=float, default=0.0575)
    parser.add_argument("--versions", action="store_true", help="print those of the packages and do nothing else")
    arguments = parser.parse_args()
    if arguments.versions:
        with contextlib.redirect_stdout(sys.stderr):
            found = versions()
        print(json.dumps(found))
        return
    if arguments.folder is None or arguments.method is None:
        parser.error("name a folder and a method")
    with contextlib.redirect_stdout(sys.stderr):  # what the packages have to say
        model, pairs = load_model(arguments.folder), load_pairs(arguments.folder, arguments.pairs)
        start = time.perf_counter()
        found = eap(model, pairs) if arguments.method == "eap" else acdc(model, pairs, arguments.tau)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "edges": model.n_edges, **found}))


if __name__ == "__main__":
    main()
