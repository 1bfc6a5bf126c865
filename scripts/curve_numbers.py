"""Circuits of MIB's ten sizes in numpy, written out plainly in float64: makes tests/data/curves.json.

    python scripts/curve_numbers.py

Needs numpy and safetensors. The model, the pairs and the scores are those of tests/data/reference/gpt2; the scores and the
circuits in its expected.json were computed by the EAP-IG package, and this program stops if a circuit of theirs comes out
differently here. A circuit run follows the definition edge by edge: every slot reads the residual stream of its own run
plus, for each source whose edge is left out, what that source writes in the corrupt run less what it writes in this one.
"""

import heapq
import json
import math
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests/data/reference/gpt2"
CONFIG = json.loads((FOLDER / "config.json").read_text())
VOCABULARY = json.loads((FOLDER / "tokenizer.json").read_text())["model"]["vocab"]
PAIRS = [json.loads(line) for line in (FOLDER / "pairs.jsonl").read_text().splitlines() if line.strip()]
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
WEIGHTS = {
    name.removeprefix("transformer."): value.astype(np.float64)
    for name, value in load_file(FOLDER / "model.safetensors").items()
}
LAYERS, HEADS, WIDTH = CONFIG["n_layer"], CONFIG["n_head"], CONFIG["n_embd"]
EACH = WIDTH // HEADS
SHARES = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]
METHODS = ["EAP", "EAP-IG-inputs", "EAP-IG-activations", "clean-corrupted", "information-flow-routes", "exact"]
EDGES = list(EXPECTED["scores"]["EAP"])  # "a0.h1->a1.h0<q>", in the package's order


def ends(edge):
    return edge.split("->")


def node_of(slot):
    return slot.split("<")[0]


def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + CONFIG["layer_norm_epsilon"])
    return x * WEIGHTS[f"{name}.weight"] + WEIGHTS[f"{name}.bias"]


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def run(tokens, kept=None, ablated=None):
    """Last-position logits and what each source writes; `kept` is a set of edges, `ablated` what the others carry."""
    wrote = {"input": WEIGHTS["wte.weight"][tokens]}
    residual = wrote["input"] + WEIGHTS["wpe.weight"][: len(tokens)]

    def read(slot):
        x = residual.copy()
        if kept is not None:
            for source in wrote:
                if source in before and f"{source}->{slot}" not in kept:
                    x += ablated[source] - wrote[source]
        return x

    for layer in range(LAYERS):
        h = f"h.{layer}"
        matrix, bias = WEIGHTS[f"{h}.attn.c_attn.weight"], WEIGHTS[f"{h}.attn.c_attn.bias"]
        before = set(wrote)
        for head in range(HEADS):
            name = f"a{layer}.h{head}"
            parts = []
            for index, branch in enumerate("qkv"):
                columns = slice(index * WIDTH + head * EACH, index * WIDTH + (head + 1) * EACH)
                parts.append(norm(read(f"{name}<{branch}>"), f"{h}.ln_1") @ matrix[:, columns] + bias[columns])
            q, k, v = parts
            scores = q @ k.T / math.sqrt(EACH)
            scores[np.triu_indices(len(tokens), 1)] = -np.inf
            wrote[name] = softmax(scores) @ v @ WEIGHTS[f"{h}.attn.c_proj.weight"][head * EACH : (head + 1) * EACH]
        residual = residual + sum(wrote[f"a{layer}.h{head}"] for head in range(HEADS))
        residual = residual + WEIGHTS[f"{h}.attn.c_proj.bias"]
        before = set(wrote)
        x = norm(read(f"m{layer}"), f"{h}.ln_2") @ WEIGHTS[f"{h}.mlp.c_fc.weight"] + WEIGHTS[f"{h}.mlp.c_fc.bias"]
        x = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        wrote[f"m{layer}"] = x @ WEIGHTS[f"{h}.mlp.c_proj.weight"] + WEIGHTS[f"{h}.mlp.c_proj.bias"]
        residual = residual + wrote[f"m{layer}"]
    before = set(wrote)
    return norm(read("logits")[-1], "ln_f") @ WEIGHTS["wte.weight"].T, wrote


def prune(circuit):
    """Without nodes that have no edge in or none out, until nothing changes."""
    while True:
        entered = {node_of(ends(edge)[1]) for edge in circuit} | {"input"}
        left = {ends(edge)[0] for edge in circuit} | {"logits"}
        fewer = {edge for edge in circuit if ends(edge)[0] in entered and node_of(ends(edge)[1]) in left}
        if fewer == circuit:
            return circuit
        circuit = fewer


def top_n(key, count):
    return set(sorted(EDGES, key=lambda edge: -key[edge])[:count])


def greedy(key, count):
    heap, reached, chosen = [], set(), set()

    def reach(node):
        if node not in reached:
            reached.add(node)
            for index, edge in enumerate(EDGES):
                if node_of(ends(edge)[1]) == node:
                    heapq.heappush(heap, (-key[edge], index, edge))

    reach("logits")
    while len(chosen) < count:
        edge = heapq.heappop(heap)[2]
        chosen.add(edge)
        reach(ends(edge)[0])
    return chosen


def tokens(text):
    return [VOCABULARY[word] for word in text.split()]


PREPARED = []
for pair in PAIRS:
    _, ablated = run(tokens(pair["corrupt"]))
    clean, _ = run(tokens(pair["clean"]))
    PREPARED.append((tokens(pair["clean"]), ablated, VOCABULARY[pair["answer"]], VOCABULARY[pair["wrong"]], clean))


def log_softmax(x):
    return x - x.max() - np.log(np.exp(x - x.max()).sum())


DONE = {}


def measure(circuit):
    """Per pair the metric, and the means of accuracy and of KL from the clean model."""
    key = frozenset(circuit)
    if key not in DONE:
        metric, divergence = [], []
        for clean, ablated, right, wrong, reference in PREPARED:
            logits, _ = run(clean, circuit, ablated)
            metric.append(logits[right] - logits[wrong])
            reference = log_softmax(reference)
            divergence.append((np.exp(reference) * (reference - log_softmax(logits))).sum())
        DONE[key] = (metric, float(np.mean([value > 0 for value in metric])), float(np.mean(divergence)))
    return DONE[key]


for index, (_, _, right, wrong, clean) in enumerate(PREPARED):
    assert abs(clean[right] - clean[wrong] - EXPECTED["clean_logit_diff"][index]) < 1e-5
checked = 0
for method, circuits in EXPECTED["faithfulness"].items():
    scores = {edge: abs(score or 0.0) for edge, score in EXPECTED["scores"][method].items()}
    ordered = sorted(scores.values(), reverse=True)
    for count, (edges, value) in circuits.items():
        if ordered[int(count) - 1] - ordered[int(count)] <= 1e-5 * ordered[int(count) - 1]:
            continue  # Which of two equal edges is in is chance.
        circuit = prune(top_n(scores, int(count)))
        assert len(circuit) == edges, (method, count)
        assert abs(np.mean(measure(circuit)[0]) - value) < 1e-5, (method, count)
        checked += 1
print(f"{checked} circuits of the EAP-IG package agree")

MODEL, EMPTY = measure(set(EDGES))[0], measure(set())[0]


def area(values, place):
    points = list(zip(map(place, SHARES), values))
    return sum((right[0] - left[0]) * (left[1] + right[1]) / 2 for left, right in zip(points, points[1:]))


def areas(signed, absolute):
    """CPR and CMD of two curves; on a log axis divided by its length."""
    off = [abs(1 - value) for value in absolute]
    length = math.log(SHARES[-1]) - math.log(SHARES[0])
    return {
        "cpr": area(signed, lambda share: share),
        "cmd": area(off, lambda share: share),
        "cpr_log": area(signed, math.log) / length,
        "cmd_log": area(off, math.log) / length,
    }


def ratio_of_means(metric):
    return (np.mean(metric) - np.mean(EMPTY)) / (np.mean(MODEL) - np.mean(EMPTY))


def mean_of_ratios(metric):
    return np.mean([(c - e) / (m - e) for c, e, m in zip(metric, EMPTY, MODEL)])


numbers = {"shares": SHARES, "edges": len(EDGES), "model": MODEL, "empty": EMPTY, "methods": {}}
for method in METHODS:
    scores = {edge: score or 0.0 for edge, score in EXPECTED["scores"][method].items()}
    found = numbers["methods"][method] = {}
    for name, select in [("top-n", top_n), ("greedy", greedy)]:
        of = found[name] = {}
        for rank, key in [("signed", scores), ("absolute", {edge: abs(score) for edge, score in scores.items()})]:
            circuits = [prune(select(key, int(share * len(EDGES)))) for share in SHARES]
            runs = [measure(circuit) for circuit in circuits]
            of[rank] = {
                "edges": [len(circuit) for circuit in circuits],
                "metric": [one[0] for one in runs],
                "accuracy": [one[1] for one in runs],
                "kl": [one[2] for one in runs],
            }
        for how, rule in [("ratio_of_means", ratio_of_means), ("mean_of_ratios", mean_of_ratios)]:
            curves = [[rule(metric) for metric in of[rank]["metric"]] for rank in ["signed", "absolute"]]
            of[how] = areas(*curves)


def short(value):
    if isinstance(value, dict):
        return {key: short(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [short(inner) for inner in value]
    return round(float(value), 8) if isinstance(value, float) else value


(ROOT / "tests/data/curves.json").write_text(json.dumps(short(numbers)) + "\n")
