"""Writes docs/benchmarks.md: criterion's figures of `cargo bench` as ratios to the floors, and how time and memory grow.

Run from the repository's root after `cargo bench` and `cargo build --release` (`make bench` does both). Needs numpy. Where
the Python that runs it can import the auto-circuit package, that is timed too, for up to half an hour
(scripts/auto_circuit.py).
"""

import json
import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy

from auto_circuit import PACKAGES  # the script beside this one

ROOT = Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/penjing"
CRITERION = ROOT / "target/criterion"
OUT = ROOT / "docs/benchmarks.md"
SHAPES = {"2x4x64": "2 layers, 4 heads, width 64", "4x4x256": "4 layers, 4 heads, width 256",
          "gpt2-small": "12 layers, 12 heads, width 768, 50,257 tokens"}
FLOORS = dict.fromkeys(["eap-ig", "eap-ig of nodes", "eap-ig of neurons"], "floor of 5 steps")
WORDS = 500  # of prompts; models may know more

# What grows, from a model of 6 layers, 8 heads and width 256 on 32 pairs of 20 tokens.
USUAL = dict(pairs=32, tokens=20, layers=6, heads=8)
GROWTH = {"pairs": [8, 32, 128, 512], "tokens": [10, 20, 40, 80], "layers": [3, 6, 12, 24], "heads": [4, 8, 16, 32]}

# What is timed against auto-circuit: shape, method, and the size of the model. The random models keep some edges at TAU.
TAU = 0.0001
MIDDLE = dict(layers=4, heads=4, width=256, words=2048)
COMPARED = [("4x4x256", "eap", MIDDLE), ("4x4x256", "acdc", MIDDLE),
            ("gpt2-small", "eap", dict(layers=12, heads=12, width=768, words=50257))]
PEER = ROOT / "scripts/auto_circuit.py"
LIMIT = 900  # seconds that one run may take
LONG = 60  # a run that takes longer is not repeated


def machine() -> str:
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {platform.system()}"


def seconds(shape: str, case: str) -> float | None:
    path = CRITERION / shape / case / "new/estimates.json"
    return json.loads(path.read_text())["median"]["point_estimate"] / 1e9 if path.exists() else None


def in_words(time: float) -> str:
    return f"{time * 1000:.1f} ms" if time < 1 else f"{time:.2f} s"


def ratios() -> list[str]:
    lines = []
    for shape, words in SHAPES.items():
        cases = sorted(path.name for path in (CRITERION / shape).iterdir() if (path / "new").exists())
        lines += [f"### {shape}", "", f"{words[0].upper()}{words[1:]}.", "", "| | time | to its floor |", "|---|---|---|"]
        for case in sorted(cases, key=lambda case: seconds(shape, case)):
            floor = seconds(shape, FLOORS.get(case, "floor"))
            ratio = "" if case.startswith("floor") else f"{seconds(shape, case) / floor:.2f}"
            lines.append(f"| {case} | {in_words(seconds(shape, case))} | {ratio} |")
        lines.append("")
    return lines


def in_a_process(work, *arguments, **options) -> None:
    """Does the work elsewhere: a child's peak memory starts at that of the process which starts it, so this one stays small."""
    process = multiprocessing.Process(target=work, args=arguments, kwargs=options)
    process.start()
    process.join()
    assert process.exitcode == 0, work


def write_model(folder: Path, layers: int, heads: int, width: int = 256, words: int = WORDS) -> None:
    """A folder of GPT-2's architecture with random weights."""
    d, mlp = width, 4 * width
    shapes = {"wte.weight": (words, d), "wpe.weight": (128, d), "ln_f.weight": (d,), "ln_f.bias": (d,)}
    for layer in range(layers):
        for name, shape in {"ln_1.weight": (d,), "ln_1.bias": (d,), "attn.c_attn.weight": (d, 3 * d),
                            "attn.c_attn.bias": (3 * d,), "attn.c_proj.weight": (d, d), "attn.c_proj.bias": (d,),
                            "ln_2.weight": (d,), "ln_2.bias": (d,), "mlp.c_fc.weight": (d, mlp), "mlp.c_fc.bias": (mlp,),
                            "mlp.c_proj.weight": (mlp, d), "mlp.c_proj.bias": (d,)}.items():
            shapes[f"h.{layer}.{name}"] = shape
    random, header, blocks, end = numpy.random.default_rng(0), {}, [], 0
    for name, shape in shapes.items():
        numbers = random.standard_normal(shape, dtype=numpy.float32) * 0.05 + (1 if "ln_" in name and "weight" in name else 0)
        blocks.append(numbers.astype(numpy.float32).tobytes())
        header[name] = dict(dtype="F32", shape=shape, data_offsets=[end, end + len(blocks[-1])])
        end += len(blocks[-1])
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + b"".join(blocks))
    (folder / "config.json").write_text(json.dumps(dict(
        model_type="gpt2", n_layer=layers, n_head=heads, n_embd=d, vocab_size=words, n_positions=128)))
    (folder / "tokenizer.json").write_text(json.dumps(dict(
        version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=None, post_processor=None, decoder=None,
        pre_tokenizer=dict(type="WhitespaceSplit"),
        model=dict(type="WordLevel", vocab={f"t{number}": number for number in range(words)}, unk_token="t0"))))


def write_task(folder: Path, pairs: int, tokens: int) -> None:
    """Pairs that differ in the token at three fifths."""
    random = numpy.random.default_rng(1)
    text = lambda ids: " ".join(f"t{number}" for number in ids)
    with (folder / "pairs.jsonl").open("w") as file:
        for _ in range(2 * pairs + 40):  # a quarter or so is held out
            clean = random.integers(1, WORDS, tokens)
            corrupt = clean.copy()
            corrupt[3 * tokens // 5] = clean[3 * tokens // 5] % (WORDS - 1) + 1
            right, wrong = random.choice(range(1, WORDS), 2, replace=False)
            file.write(json.dumps(dict(clean=text(clean), corrupt=text(corrupt), answer=f"t{right}", wrong=f"t{wrong}")) + "\n")
    (folder / "task.toml").write_text('schema = 1\nname = "random"\n[metric]\nkind = "logit-difference"\n[data]\nfile = "pairs.jsonl"\n')


def run(command: list, folder: Path) -> dict:
    """The JSON that a process prints, with its peak memory in bytes; `failed` says why there is none."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as talk:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=talk)
        timer = threading.Timer(LIMIT, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        late = not timer.is_alive()
        timer.cancel()
        if status != 0:
            code = os.waitstatus_to_exitcode(status)
            talk.seek(0)
            print(talk.read().decode(errors="replace")[-2000:], file=sys.stderr)
            return dict(failed=f"more than {LIMIT // 60} min" if late else f"ended with {code}")
        out.seek(0)
        return dict(json.load(out), bytes=usage.ru_maxrss * 1024)


def best(command: list, folder: Path) -> dict:
    """The fastest of three runs, or the only one if that is long."""
    runs = [run(command, folder)]
    while "failed" not in runs[-1] and len(runs) < 3 and runs[0]["seconds"] < LONG:
        runs.append(run(command, folder))
    return runs[-1] if "failed" in runs[-1] else min(runs, key=lambda run: run["seconds"])


def score(method: str, pairs: int) -> list:
    return [BINARY, "--json", "score", "task.toml", "--model", ".", "--method", method, "--pairs", str(pairs)]


def measured(method: str, pairs: int, tokens: int, layers: int, heads: int) -> dict:
    """Seconds of scoring, peak memory of the process and number of edges: the best of three runs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        in_a_process(write_model, folder, layers, heads)
        write_task(folder, pairs, tokens)
        found = best(score(method, pairs), folder)
        assert "failed" not in found, (method, found)
        return dict(seconds=found["seconds"], edges=found["edges_total"], bytes=found["bytes"])


def comparison() -> list[str]:
    """penjing and auto-circuit on the same models."""
    versions = run([sys.executable, PEER, "--versions"], ROOT)
    if "failed" in versions:
        packages = " ".join(f"'{package}'" for package in PACKAGES)
        return ["Left out: the Python that made this page cannot import auto-circuit. To have it timed:", "",
                "    python3 -m venv target/peers", f"    target/peers/bin/pip install {packages}",
                "    target/peers/bin/python scripts/benchmarks.py"]
    names = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "bytes")
    lines = [f"The release binary of penjing and {names}, on {machine()}, one after the other: whole processes, each with the "
             "threads that it takes by itself. Both read the same model of random weights and 32 pairs of 20 tokens that "
             "differ at token 12. Seconds are those of scoring, without starting and loading; memory is the peak of the "
             f"process. The best of three runs, or the only one where it takes more than {LONG} s.", "",
             "| shape | method | penjing | memory | auto-circuit | memory | ratio |", "|---|---|---|---|---|---|---|"]
    notes = []
    for shape, method, sizes in COMPARED:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            in_a_process(write_model, folder, **sizes)
            write_task(folder, 32, 20)
            tau = ["--tau", str(TAU)] if method == "acdc" else []
            ours = best([*score(method, 32), *tau, "--out", "."], folder)
            theirs = best([sys.executable, PEER, folder, method, "--pairs", "32", *tau], folder)
            assert "failed" not in ours, ours
            cells = [shape, f"`{method}`", in_words(ours["seconds"]), f"{ours['bytes'] / 1e6:.0f} MB"]
            if "failed" in theirs:
                cells += [theirs["failed"], "", ""]
            else:
                assert ours["edges_total"] == theirs["edges"], (ours, theirs)
                cells += [in_words(theirs["seconds"]), f"{theirs['bytes'] / 1e6:.0f} MB",
                          f"{theirs['seconds'] / ours['seconds']:.0f}"]
            if method == "acdc" and "kept" in theirs:
                scores = json.loads((folder / "scores.json").read_text())["scores"].values()
                kept = sum(score >= TAU for score in scores)
                notes = ["", f"With τ = {TAU} `acdc` keeps {kept} of {len(scores)} edges, auto-circuit {theirs['kept']}: the "
                         "pairs are drawn from the same file but not the same, the order of edges is another, and penjing "
                         "does not test edges into nodes that nothing reads any more."]
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1])
    return lines + notes


def exact() -> list[str]:
    """Exact patching of GPT-2 small's shape, from a part of its edges."""
    printed = subprocess.run(["cargo", "run", "--release", "--quiet", "--example", "exact_cost"], cwd=ROOT,
                             capture_output=True, check=True, text=True).stdout
    *parts, whole = [json.loads(line) for line in printed.splitlines()]
    lines = [f"8 pairs; of every layer the edges into four queries, which stand for its 36 slots of heads, and those into its MLP: "
             f"{whole['edges']:,} of {whole['edges_of_model']:,} edges in {whole['seconds']:.0f} s. Slot by slot, without what a "
             f"run takes to begin, that makes {whole['seconds_of_model']:.0f} s for all, {whole['seconds_an_edge']:.3f} s an edge. "
             "Late layers are cheap, since a run starts again where the edge ends, and have the most edges.", "",
             "| layer | into | edges | time | to begin | an edge |", "|---|---|---|---|---|---|"]
    for part in parts:
        lines.append(f"| {part['layer']} | {part['into']} | {part['edges']} | {in_words(part['seconds'])} | "
                     f"{in_words(part['to_begin'])} | {in_words(part['seconds_an_edge'])} |")
    return lines


def growth() -> list[str]:
    lines = ["| what | is | edges | `eap` | memory | `eap-ig` | memory |", "|---|---|---|---|---|---|---|"]
    grown = []
    for what, values in GROWTH.items():
        for value in values:
            rows = [measured(method, **(USUAL | {what: value})) for method in ("eap", "eap-ig")]
            grown.append((what, value, rows))
            cells = [cell for row in rows for cell in (in_words(row["seconds"]), f"{row['bytes'] / 1e6:.0f} MB")]
            lines.append(f"| {what} | {value} | {rows[0]['edges']:,} | {' | '.join(cells)} |")
            print(lines[-1])
    (ROOT / "docs/cost-growth.svg").write_text(picture(grown))
    return lines


def picture(grown: list) -> str:
    """Seconds and memory against each thing that grows, and against the edges where layers or heads do; logarithmic axes;
    dashed: in proportion to it."""
    width, height, left, top, bottom = 172, 132, 40, 20, 30
    series = {what: [(value, rows) for name, value, rows in grown if name == what] for what in GROWTH}
    series["edges"] = sorted(((rows[0]["edges"], rows) for name, _, rows in grown if name in ("layers", "heads")),
                             key=lambda point: point[0])
    log, parts = numpy.log2, []
    for line, (key, unit, scale) in enumerate([("seconds", "s", 1), ("bytes", "MB", 1e6)]):
        values = [row[key] / scale for points in series.values() for _, rows in points for row in rows]
        low, high = log(min(values)) - 0.2, log(max(values)) + 0.2
        for column, (what, points) in enumerate(series.items()):
            x0, y0 = column * width + left, line * height + top
            inner, deep = width - left - 14, height - top - bottom
            first, last = log(points[0][0]), log(points[-1][0])
            x = lambda value: x0 + inner * (log(value) - first) / (last - first)
            y = lambda value: y0 + deep * (high - log(value)) / (high - low)
            for power in range(int(numpy.ceil(low)), int(high) + 1, 2 if key == "seconds" else 1):
                parts.append(f'<path d="M{x0} {y(2.0 ** power):.1f}h{inner}" stroke="#e3e6eb"/>')
                parts.append(f'<text x="{x0 - 4}" y="{y(2.0 ** power) + 3:.1f}" text-anchor="end">{2.0 ** power:.3g} {unit}</text>')
            base = points[0][1][0][key] / scale
            end = min(points[-1][0], points[0][0] * 2.0 ** high / base)
            parts.append(f'<path d="M{x(points[0][0]):.1f} {y(base):.1f}L{x(end):.1f} {y(base * end / points[0][0]):.1f}" '
                         'stroke="#999" stroke-dasharray="3 3"/>')
            for method, colour in enumerate(("#0072b2", "#d55e00")):
                places = [(x(value), y(rows[method][key] / scale)) for value, rows in points]
                path = "L".join(f"{px:.1f} {py:.1f}" for px, py in places)
                parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
                parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2" fill="{colour}"/>' for px, py in places]
            right = -100.0
            for value, _ in points:
                if x(value) - right > 26:
                    right = x(value)
                    parts.append(f'<text x="{right:.1f}" y="{y0 + deep + 12}" text-anchor="middle">{value:,}</text>')
            parts.append(f'<text x="{x0 + inner / 2:.1f}" y="{y0 + deep + 24}" text-anchor="middle">{what}</text>')
    parts.append('<text x="40" y="12" fill="#0072b2">eap</text><text x="70" y="12" fill="#d55e00">eap-ig</text>'
                 '<text x="115" y="12" fill="#777">dashed: in proportion</text>')
    whole, high = width * len(series) + 10, 2 * height
    size = f'width="{whole}" height="{high}" viewBox="-10 0 {whole} {high}"'
    style = 'font-family="sans-serif" font-size="9"'
    return (f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}><rect x="-10" width="100%" height="100%" fill="white"/>'
            + "".join(parts) + "</svg>\n")


def main() -> None:
    usual = "6 layers, 8 heads, width 256, 32 pairs of 20 tokens that differ at token 12"
    lines = [
        "# Benchmarks", "",
        f"Made by `make bench` on: {machine()}. Absolute times belong to that machine; compare ratios.", "",
        "## Against the floor", "",
        "32 pairs of 20 tokens that differ at token 12, random weights, f32. The floor is what the arithmetic of a plain "
        "implementation needs: a forward of the corrupt prompts and a forward with a backward (no gradients of weights) of the "
        "clean ones, five of the latter for `eap-ig`, without sharing the common start. Scores below 1 come from that sharing. "
        "`circuit run` is one circuit on all pairs. `acdc` runs at its default τ, at which these random models keep nothing. "
        "`eap` and `relp` do the same work: what lies between them is noise.", "",
        *ratios(),
        "## Against auto-circuit", "",
        *comparison(), "",
        "## Exact patching", "",
        *exact(), "",
        "## How cost grows", "",
        f"`penjing score` as a whole process, the best of three; usually {usual}. Memory is the peak of the process, of which "
        "libtorch takes about 160 MB.", "",
        "![Seconds and memory against pairs, tokens, layers, heads and edges](cost-growth.svg)", "",
        *growth(), "",
    ]
    OUT.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
