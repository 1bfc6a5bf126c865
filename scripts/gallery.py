"""Finds the circuits of all built-in tasks in the three embedded models, and writes circuits/*.json, circuits/*.svg and
docs/gallery.md. `make gallery` builds and runs it; it takes some minutes. What the page says of a circuit comes from its file
and from nowhere else.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/penjing"
MODELS = ["toy-2l", "toy-4l", "toy-6l"]
WIDTH = 150  # millimetres


def run(*command, allowed=(0,)) -> str:
    done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in allowed:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-1500:]}")
    return done.stdout


def find(task: str, model: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        # 1: the target is missed on fresh pairs, which the page says.
        run(BINARY, "discover", task, "--model", model, "--out", name, allowed=(0, 1))
        file = ROOT / f"circuits/{task}-{model}.json"
        file.write_text((Path(name) / "circuit.json").read_text())
        run(BINARY, "render", file, "--width", WIDTH, "--out", ROOT / "circuits")


def number(value: float) -> str:
    return f"{value:.3f}".replace("-0.000", "0.000")


def listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def strongest_path(edges: dict[str, float]) -> list[str]:
    """From the logits down along the strongest edges to the input."""
    into: dict[str, list[tuple[float, str]]] = {}
    for name, score in edges.items():
        source, destination = name.split("->")
        into.setdefault(destination.split("<")[0], []).append((abs(score), source))
    path = ["logits"]
    while path[-1] in into and path[-1] != "input":
        path.append(max(into[path[-1]])[1])
    return path[::-1]


def paragraph(circuit: dict) -> str:
    report, model = circuit["report"], circuit["provenance"]["model"]["id"]
    edges = {edge["name"]: edge["score"] for edge in circuit["edges"]}
    low, high = report["faithfulness_interval"]
    accuracy = report["accuracy_model"]
    said = [f"`{model}` gets {100 * accuracy:.0f} % of {report['pairs']} held-out pairs right, the circuit "
            f"{100 * report['accuracy_circuit']:.0f} %."]
    if accuracy < 0.6:
        said.append("**The model hardly does the task, so this circuit explains little.**")
    said.append(f"{len(edges)} of {circuit['graph']['edges']} edges ({100 * len(edges) / circuit['graph']['edges']:.1f} %) keep "
                f"faithfulness {report['faithfulness']:.3f} [{low:.3f}, {high:.3f}]; random circuits of that size "
                f"{number(report['random']['mean'])} on average, {number(report['random']['max'])} at most.")
    path = strongest_path(edges)
    said.append(f"Its strongest way is {' → '.join(path)}.")
    roles: dict[str, list[str]] = {}
    seen = set()
    for role in circuit.get("roles", []):
        if role["node"] not in seen:
            seen.add(role["node"])
            roles.setdefault(role["role"], []).append(role["node"])
    if roles:
        said.append("Measured roles: " + "; ".join(f"{role}: {listed(nodes)}" for role, nodes in roles.items()) + ".")
    inner = [node for node in circuit["nodes"] if node not in ("input", "logits")]
    unnamed = [node for node in inner if node not in seen]
    left = 1 - report["faithfulness"]
    unexplained = [f"{left:.3f} of the faithfulness" if left > 0 else f"a circuit better than the model by {-left:.3f}"]
    if unnamed:
        few = listed(unnamed) if len(unnamed) <= 6 else f"{len(unnamed)} of {len(inner)} heads and MLPs"
        unexplained.append(f"what {few} {'do' if len(unnamed) > 1 else 'does'}, for which no role reaches its threshold")
    if abs(report["completeness"]) > 0.05:
        unexplained.append(f"the {report['completeness']:+.3f} of faithfulness that all other edges have without the circuit")
    weak = sum(cost["cost"] < 0.005 for cost in report["minimality"])
    if weak:
        unexplained.append(f"whether {weak} edge{'s' if weak > 1 else ''} whose removal costs less than 0.005 on these pairs "
                           f"{'are' if weak > 1 else 'is'} needed")
    said.append(f"Unexplained: {listed(unexplained)}.")
    return " ".join(said)


def main() -> None:
    tasks = [task["name"] for task in json.loads(run(BINARY, "--json", "task", "list"))["tasks"]]
    lines = ["# Gallery", "",
             "The circuits of all built-in tasks in the embedded models, found by `penjing discover TASK --model MODEL` with "
             "everything as it is by default (`eap-ig`, faithfulness 0.9 under counterfactual ablation), and what was measured of "
             "them on held-out pairs. `make gallery` makes this page, its figures and the files in `circuits/`. "
             "[figures.md](figures.md) says what the figures and the roles mean. A role is what a node was measured to do on these "
             "prompts; it is no proof that the circuit works by it.", ""]
    for task in tasks:
        shown = json.loads(run(BINARY, "--json", "task", "show", task))
        lines += [f"## {shown['title']}", "", shown["description"], ""]
        for model in MODELS:
            find(task, model)
            circuit = json.loads((ROOT / f"circuits/{task}-{model}.json").read_text())
            lines += [f"### {task} in {model}", "", paragraph(circuit), "",
                      f"![The circuit of {task} in {model}](../circuits/{task}-{model}.svg)", ""]
            print(f"{task} {model}: {len(circuit['edges'])} edges, {circuit['report']['faithfulness']:.3f}", flush=True)
    (ROOT / "docs/gallery.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
