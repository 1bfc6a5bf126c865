"""Opens every format that `penjing render` writes with tools that are not penjing's, and looks whether they see the same circuit.

Needs dot, rsvg-convert, pdftoppm, pdflatex with tikz (Debian: graphviz librsvg2-bin poppler-utils texlive-latex-base
texlive-pictures texlive-latex-recommended), and a Python with networkx and pillow. Run it from the repository's root after
`cargo build --release`.
"""

import csv
import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

import networkx
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/penjing"
TITLE = 'odd "title" \\ with <tags> & 100 % {braces} $x_1^2$ #~ | and Zürich'


def run(*command, cwd=None) -> bytes:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout.decode(errors='replace')[-1500:]}"
                 f"{done.stderr.decode(errors='replace')[-1500:]}")
    return done.stdout


def check(circuit: Path, width: int, folder: Path) -> None:
    stem = folder / circuit.stem
    formats = "svg,dot,png,pdf,tikz,graphml,csv" 
    run(BINARY, "render", circuit, "--to", formats, "--width", width, "--title", TITLE, "--out", folder)
    edges = {edge["name"]: edge["score"] for edge in json.loads(circuit.read_text())["edges"]}

    text = "".join(xml.parse(f"{stem}.svg").getroot().itertext())
    assert 'odd "title"' in text and "<tags>" in text, text[:200]
    run("rsvg-convert", "-d", 150, "-p", 150, f"{stem}.svg", "-o", f"{stem}.rsvg.png")
    pixels = width / 25.4
    for name, dpi in [(f"{stem}.rsvg.png", 150), (f"{stem}.png", 300)]:
        found = Image.open(name).width
        assert abs(found - pixels * dpi) <= 2, (name, found, pixels * dpi)
    run("pdftoppm", "-r", 150, "-png", f"{stem}.pdf", f"{stem}.pdf")
    page = Image.open(next(folder.glob(f"{circuit.stem}.pdf-*.png")))
    assert abs(page.width - pixels * 150) <= 2, page.size
    words = run("pdftotext", f"{stem}.pdf", "-").decode()
    assert "logits" in words and "input" in words, words

    drawn = run("dot", "-Tplain", f"{stem}.dot").decode()
    assert sum(line.startswith("edge ") for line in drawn.splitlines()) > 0
    run(BINARY, "render", circuit, "--engine", "dot", "--to", "svg,pdf", "--out", folder / "dot")

    graph = networkx.read_graphml(f"{stem}.graphml", force_multigraph=True)
    found = {data["name"]: data["score"] for *_, data in graph.edges(data=True)}
    assert found.keys() == edges.keys() and all(abs(found[name] - edges[name]) < 1e-6 for name in edges), "graphml"
    assert networkx.is_directed_acyclic_graph(graph)
    with open(f"{stem}.csv", newline="") as file:
        rows = {row["edge"]: float(row["score"]) for row in csv.DictReader(file)}
    assert rows.keys() == edges.keys() and all(abs(rows[name] - edges[name]) < 1e-6 for name in edges), "csv"

    paper = folder / "paper.tex"
    paper.write_text("\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{tikz}\\pagestyle{empty}\\begin{document}"
                     f"\\noindent\\input{{{stem}.tikz.tex}}\\end{{document}}")
    run("pdflatex", "-interaction=nonstopmode", "-halt-on-error", paper, cwd=folder)
    words = run("pdftotext", folder / "paper.pdf", "-").decode()
    assert "logits" in words and "100 %" in words, words
    print(f"{circuit.name} at {width} mm: {len(edges)} edges, every format opens")


def main() -> None:
    circuits = [Path(name).resolve() for name in sys.argv[1:]] or [ROOT / "circuits/ioi-toy-4l.json"]
    for circuit in circuits:
        for width in (85, 180):
            with tempfile.TemporaryDirectory() as name:
                check(circuit, width, Path(name))


if __name__ == "__main__":
    main()
