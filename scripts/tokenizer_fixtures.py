"""Writes tests/data/tokenizers/families: small tokenizers built like those of the families that penjing reads, and what the
tokenizers package for Python, whose regular expressions run on another engine, makes of difficult text.

Needs tokenizers 0.22 (it comes with transformers 4.57); run from the repository's root: python scripts/tokenizer_fixtures.py
"""

import json
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "tests/data/tokenizers"
TEXTS = (DATA / "ggml-vocab-gpt-2.gguf.inp").read_text().split("\n__ggml_vocab_test__\n")[:-1]
TEXTS += [
    "When Mary and John went to the store, John gave a drink to",
    "The war lasted from the year 1732 to the year 17",
    "def f(self, files, obj):\n    \"\"\"\n    :param files: the files\n    :param",
    "Isn't it? WE'LL see; they'd've said 'tis 12345678 o'clock…",
    "<s>special</s> and <|endoftext|> in the middle",
    "  two spaces, a tab\t, a line\r\n\r\nand an ideographic　space",
    "e\u0301 composed \u00e9, \u1e9b\u0323, ﬁ ligature, \u212b",
    "café naïve Ελληνικά 日本語 한국어 😀👩‍👩‍👧",
]

CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = CL100K.replace(r"\p{N}{1,3}", r"\p{N}")


def corpus() -> list[str]:
    return (ROOT / "LICENSE-APACHE").read_text().split("\n\n") + TEXTS


def byte_level(split: str | None, prefix: bool = False):
    if split is None:
        return pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(split), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def of_bytes(split=None, normalizer=None, bos=None, added=(), ignore_merges=False) -> Tokenizer:
    """Byte-level BPE: GPT-2's and all that followed it."""
    end = "<|endoftext|>"
    made = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    made.normalizer = normalizer
    made.pre_tokenizer = byte_level(split)
    made.decoder = decoders.ByteLevel()
    special = [end] + ([bos] if bos and bos != end else [])
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    made.train_from_iterator(corpus(), trainer)
    made.add_tokens(list(added))
    keep = processors.ByteLevel(trim_offsets=True)
    if bos:
        first = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, made.token_to_id(bos))])
        keep = processors.Sequence([keep, first])
    made.post_processor = keep
    return made


def of_pieces(normalizer, pre_tokenizer) -> Tokenizer:
    """BPE as SentencePiece makes it, unknown characters spelt out in bytes."""
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizer
    made.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, limit_alphabet=80, show_progress=False)
    made.train_from_iterator(corpus(), trainer)
    plain = json.loads(made.to_str())
    plain["added_tokens"] = [token for token in plain["added_tokens"] if not token["content"].startswith("<0x")]
    made = Tokenizer.from_str(json.dumps(plain))
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", made.token_to_id("<s>"))])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return made


CASES = {
    "gpt2": lambda: of_bytes(),
    "gpt_neox": lambda: of_bytes(
        normalizer=normalizers.NFC(), added=[AddedToken(" " * count, normalized=True) for count in range(24, 1, -1)]),
    "opt": lambda: of_bytes(bos="</s>"),
    "llama3": lambda: of_bytes(CL100K, bos="<|begin_of_text|>", ignore_merges=True),
    "qwen2": lambda: of_bytes(QWEN, normalizer=normalizers.NFC()),
    "olmo2": lambda: of_bytes(CL100K),
    # Llama 1 and 2, Phi-3.
    "llama": lambda: of_pieces(
        normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None),
    "mistral": lambda: of_pieces(
        None, pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)),
    "gemma": lambda: of_pieces(
        normalizers.Replace(" ", "▁"), pre_tokenizers.Split(" ", behavior="merged_with_previous")),
}


def encoded(tokenizer: Tokenizer, text: str) -> dict:
    found = tokenizer.encode(text)
    # Python counts characters, Rust bytes.
    byte = [len(text[:place].encode()) for place in range(len(text) + 1)]
    return dict(text=text, ids=found.ids, offsets=[[byte[start], byte[end]] for start, end in found.offsets])


def main() -> None:
    for name, make in CASES.items():
        folder = DATA / "families" / name
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = make()
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        again = Tokenizer.from_file(str(folder / "tokenizer.json"))
        lines = [json.dumps(encoded(again, text), ensure_ascii=False) for text in TEXTS]
        (folder / "encodings.jsonl").write_text("\n".join(lines) + "\n")
        tokens = sum(len(json.loads(line)["ids"]) for line in lines)
        print(f"{name}: {again.get_vocab_size()} tokens, {len(TEXTS)} texts in {tokens}; tokenizers {tokenizers.__version__}")


if __name__ == "__main__":
    main()
