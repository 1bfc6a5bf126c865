"""How much of the largest total |score| of a connected circuit each ranking keeps, at the same number of edges.

    cargo run --release --example selection -- --write FOLDER toy-4l
    python scripts/connected_optimum.py FOLDER/*-toy-4l.json

The optimum is that of an integer program: at most n edges, an edge needs both its nodes, a node needs an incoming and an
outgoing edge (Nikankin et al., arXiv:2510.25786). It is solved to proven optimality by HiGHS, through scipy.
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_matrix


def optimum(scores: dict[str, float], n: int) -> float:
    edges = [(*name.split("<")[0].split("->"), abs(score)) for name, score in scores.items()]
    nodes = sorted({end for edge in edges for end in edge[:2]} - {"input", "logits"})
    place = {node: len(edges) + index for index, node in enumerate(nodes)}
    # Rows: for each edge and node of it y - x >= 0; for each node its edges - y >= 0, in and out; at last the size.
    rows = [(edge, place[end]) for edge, ends in enumerate(edges) for end in ends[:2] if end in place]
    needs = lil_matrix((len(rows) + 2 * len(nodes) + 1, len(edges) + len(nodes)))
    for row, (edge, node) in enumerate(rows):
        needs[row, edge], needs[row, node] = -1, 1
    for index, node in enumerate(nodes):
        for side in range(2):
            row = len(rows) + 2 * index + side
            needs[row, place[node]] = -1
            for edge, ends in enumerate(edges):
                if ends[1 - side] == node:
                    needs[row, edge] = 1
    needs[needs.shape[0] - 1, : len(edges)] = -1
    least = np.zeros(needs.shape[0])
    least[-1] = -n
    worth = np.array([-edge[2] for edge in edges] + [0.0] * len(nodes))
    found = milp(worth, constraints=LinearConstraint(needs.tocsr(), least, np.inf), integrality=np.ones(len(worth)),
                 bounds=Bounds(0, 1), options={"mip_rel_gap": 1e-9, "time_limit": 600})
    if found.status != 0:
        sys.exit(f"no proven optimum: {found.message}")
    return -found.fun


def main() -> None:
    sums: dict[str, list[float]] = {}
    for path in map(Path, sys.argv[1:]):
        case = json.loads(path.read_text())
        for n in map(int, next(iter(case["circuits"].values()))):
            best = optimum(case["scores"], n)
            for rank, circuits in case["circuits"].items():
                kept = sum(abs(case["scores"][edge]) for edge in circuits[str(n)]) / best
                sums.setdefault(rank, []).append(kept)
            print(path.stem, n, *(f"{rank}: {kept[-1]:.4f};" for rank, kept in sums.items()))
    for rank, kept in sums.items():
        print(f"{rank}: {np.mean(kept):.4f} in the mean, {min(kept):.4f} at least, {len(kept)} circuits")


main()
