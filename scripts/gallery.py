"""Finds the circuits of all built-in tasks in the three embedded models, and writes circuits/*.json, circuits/*.svg and
docs/gallery.md. `make gallery` builds and runs it; it takes some minutes. What the page says of a circuit comes from its file
and from the `--json` of the run that found it, and from nowhere else.

    python3 scripts/gallery.py [--binary FILE] [--models toy-2l,toy-4l] [--out FOLDER] [TASK ...]

Fewer tasks or models need an `--out` of their own: the page holds what was asked for and nothing more.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODELS = ["toy-2l", "toy-4l", "toy-6l"]
WIDTH = 150  # millimetres
# What `penjing` calls a standing, in a cell.
CELLS = {"supported": "yes", "not refuted": "unrefuted", "undecided": "open", "not supported": "no", "not tested": "–"}
# Columns of the summary and the claims that they hold.
CLAIMS = [("equivalent", "is as good as the model"), ("complete", "is complete"), ("minimal", "is minimal"),
          ("better than chance", "is better than chance"), ("needed", "is needed")]
GENERAL = "holds for other templates"


def run(*command, allowed=(0,)) -> str:
    done = subprocess.run([str(part) for part in command], cwd=ROOT, capture_output=True, text=True)
    if done.returncode not in allowed:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stderr[-1500:]}")
    return done.stdout


def find(binary: Path, task: str, model: str, circuits: Path) -> dict:
    """Writes the circuit and its figure; gives what the run printed."""
    with tempfile.TemporaryDirectory() as name:
        # 1: the target is missed on fresh pairs, which the page says.
        said = run(binary, "--json", "discover", task, "--model", model, "--out", name, allowed=(0, 1))
        file = circuits / f"{task}-{model}.json"
        file.write_text((Path(name) / "circuit.json").read_text())
        run(binary, "render", file, "--width", WIDTH, "--out", circuits)
    return json.loads(said)


def cell(text: str) -> str:
    """Text that stays in its cell, and is not taken for markup."""
    for character in "\\`*_<|":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def verdict(found: dict) -> list[str]:
    """Warnings, and every claim with how it stands."""
    warned = [f"**Warning:** {cell(warning)}." for warning in found["warnings"]]
    rows = [[cell(of["claim"]), f"**{of['standing']}**" if of["standing"] == "not supported" else of["standing"], cell(of["because"])]
            for of in found["verdict"]]
    return [line for warning in warned for line in (warning, "")] + table(["the circuit", "verdict", "because"], rows)


def summary(task: str, found: dict) -> list[str]:
    """The row of a task."""
    standing = {of["claim"]: CELLS[of["standing"]] for of in found["verdict"]}
    stable = "–" if found["jaccard"] is None else f"{found['jaccard']:.2f}"
    return [task, str(found["edges"]), f"{found['faithfulness']:.3f}", *(standing[claim] for _, claim in CLAIMS), stable,
            standing[GENERAL]]


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
    if stability := report.get("stability"):
        low, high = stability["jaccard_range"]
        said.append(f"Selections from {stability['resamples']} resamples of its pairs share {stability['jaccard']:.2f} "
                    f"[{low:.2f}, {high:.2f}] of their edges (Jaccard).")
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
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="all built-in ones by default")
    parser.add_argument("--binary", type=lambda name: Path(name).resolve(), default=ROOT / "target/release/penjing")
    parser.add_argument("--models", type=lambda names: names.split(","), default=MODELS)
    parser.add_argument("--out", type=lambda name: Path(name).resolve(), default=ROOT, help="gets circuits/ and docs/gallery.md")
    arguments = parser.parse_args()
    binary, models, out = arguments.binary, arguments.models, arguments.out
    if (arguments.tasks or models != MODELS) and out == ROOT:
        parser.error("fewer tasks or models would leave a page without the others: give an --out")
    tasks = arguments.tasks or [task["name"] for task in json.loads(run(binary, "--json", "task", "list"))["tasks"]]
    circuits = out / "circuits"
    circuits.mkdir(parents=True, exist_ok=True)
    (out / "docs").mkdir(exist_ok=True)
    sections: list[str] = []
    rows: dict[str, list[list[str]]] = {model: [] for model in models}
    for task in tasks:
        shown = json.loads(run(binary, "--json", "task", "show", task))
        sections += [f"## {shown['title']}", "", shown["description"], ""]
        for model in models:
            found = find(binary, task, model, circuits)
            circuit = json.loads((circuits / f"{task}-{model}.json").read_text())
            rows[model].append(summary(f"[{task}](#{task}-in-{model})", found))
            sections += [f"### {task} in {model}", "", paragraph(circuit), "", *verdict(found),
                         f"![The circuit of {task} in {model}](../circuits/{task}-{model}.svg)", ""]
            print(f"{task} {model}: {len(circuit['edges'])} edges, {circuit['report']['faithfulness']:.3f}", flush=True)
    lines = ["# Gallery", "",
             "The circuits of all built-in tasks in the embedded models, found by `penjing discover TASK --model MODEL` with "
             "everything as it is by default (`eap-ig`, faithfulness 0.9 under counterfactual ablation), and what was measured of "
             "them on held-out pairs. `make gallery` makes this page, its figures and the files in `circuits/`. "
             "[figures.md](figures.md) says what the figures and the roles mean. A role is what a node was measured to do on these "
             "prompts; it is no proof that the circuit works by it.", "",
             "## Summary", "",
             "- **yes**: the opposite was rejected, or the numbers reach what was asked.",
             "- **unrefuted**: a test that could have rejected the claim did not.",
             "- **open**: the numbers leave it undecided.",
             "- **no**: it was rejected, its opposite was not, or the numbers do not reach what was asked.",
             "- **–**: not tested.", "",
             "Stable is the mean Jaccard index of the selections from two resamples of the pairs; from 0.8 on it is called stable. The "
             "tests are those of Shi et al., arXiv:2410.13032, and their reasons stand in the table of each circuit.", ""]
    header = ["task", "edges", "faithfulness", *(name for name, _ in CLAIMS), "stable", "other templates"]
    for model in models:
        lines += [f"### {model}", "", *table(header, rows[model])]
    (out / "docs/gallery.md").write_text("\n".join(lines + sections))


if __name__ == "__main__":
    main()
