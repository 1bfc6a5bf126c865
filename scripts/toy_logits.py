"""Writes tests/data/toy_logits.json: what transformers computes for a few prompts with each toy model.

Needs torch, transformers and safetensors; run from the repository's root: python scripts/toy_logits.py
"""

import json
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).resolve().parent.parent
PROMPTS = [
    "When Mary and John went to the store, John gave a drink to",
    "The war lasted from the year 1732 to the year 17",
    "So Kevin is really great, isn't",
    "Q: hot\nA: cold\n\nQ: up\nA: down\n\nQ: early\nA:",
]


def logits(folder: Path) -> list[dict]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt)["input_ids"]
        assert tokenizer.unk_token_id not in ids and tokenizer.decode(ids) == prompt, (prompt, ids)
        with torch.no_grad():
            last = model(torch.tensor([ids])).logits[0, -1]
        best = tokenizer.decode([int(last.argmax())])
        rows.append({"prompt": prompt, "ids": ids, "best": best, "logits": [round(x, 6) for x in last.tolist()]})
        print(folder.name, repr(prompt), "->", repr(best))
    return rows


def main() -> None:
    folders = sorted(path.parent for path in (ROOT / "models").glob("toy-*/config.json"))
    document = {
        "made_by": f"scripts/toy_logits.py, transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}",
        "note": "logits of the last position, float32 arithmetic, no special tokens added",
        "models": {folder.name: logits(folder) for folder in folders},
    }
    target = ROOT / "tests" / "data" / "toy_logits.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(document, separators=(",", ":")).replace('{"prompt"', '\n{"prompt"') + "\n")


if __name__ == "__main__":
    main()
