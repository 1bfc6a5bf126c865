//! `penjing render`: draws circuit files, and writes them for other tools.

use super::Ended;
use super::term::{Usage, make_folder, print, print_json, write};
use clap::{Args, ValueEnum};
use penjing::circuit::import::{self, Imported};
use penjing::circuit::roles::Found;
use penjing::graph::scores::Scores;
use penjing::render::figure::Figure;
use penjing::render::picture::Content;
use penjing::render::scene::Scene;
use penjing::render::style::{Branches, Heads, Style, StyleError};
use penjing::render::theme::Theme;
use penjing::render::{self, Caption, dot, graphml, raster, svg, table, tikz, tracer_json};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Args)]
pub struct Render {
    /// A circuit.json, or several; also the graph JSON of EAP-IG and the MIB benchmark
    #[arg(required = true, value_name = "CIRCUIT")]
    circuits: Vec<PathBuf>,
    /// Formats, separated by commas
    #[arg(long, value_enum, default_value = "svg", value_delimiter = ',')]
    to: Vec<Format>,
    /// Colours: paper, dark, colour-blind-safe, greyscale
    #[arg(long, default_value = "paper", value_name = "NAME")]
    theme: String,
    /// The width of the figure in millimetres, 85 for a column; what does not fit is simplified, and the legend says how
    #[arg(long, value_name = "MM")]
    width: Option<f64>,
    /// The most that the figure should be high, in millimetres (default: 230, with --width)
    #[arg(long, value_name = "MM")]
    height: Option<f64>,
    /// The size of labels in points
    #[arg(long, default_value_t = 8.0, value_name = "PT")]
    font_size: f64,
    /// Draw the queries, keys and values of a head apart or as one (default: apart, if they fit)
    #[arg(long, value_enum, value_name = "HOW")]
    inputs: Option<InputsArgument>,
    /// Draw each head, or the heads of a layer, or those of a layer that have the same role, as one (default: each, if they fit)
    #[arg(long, value_enum, value_name = "HOW")]
    heads: Option<HeadsArgument>,
    /// Leave out edges with less than this share of the largest |score|, and count them
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    least_share: f64,
    /// Give several circuits of one graph the same places, so that their figures can be compared
    #[arg(long)]
    aligned: bool,
    /// Who places nodes and edges: penjing, or Graphviz if it is installed (svg, png and pdf)
    #[arg(long, value_enum, default_value = "own")]
    engine: Engine,
    /// Pixels per inch of a PNG
    #[arg(long, default_value_t = 300.0, value_name = "DPI")]
    dpi: f64,
    /// Draw no legend
    #[arg(long)]
    no_legend: bool,
    /// Write no roles under the names of nodes
    #[arg(long)]
    no_roles: bool,
    /// A title above the figure
    #[arg(long)]
    title: Option<String>,
    /// Folder for the figures (default: beside each circuit)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Format {
    Svg,
    Dot,
    Png,
    Pdf,
    Tikz,
    Graphml,
    Csv,
    EapJson,
    /// The graph JSON of circuit-tracer's viewer and Neuronpedia
    TracerJson,
}

impl Format {
    fn ending(self) -> &'static str {
        match self {
            Format::Svg => "svg",
            Format::Dot => "dot",
            Format::Png => "png",
            Format::Pdf => "pdf",
            Format::Tikz => "tikz.tex",
            Format::Graphml => "graphml",
            Format::Csv => "csv",
            Format::EapJson => "eap.json",
            Format::TracerJson => "tracer.json",
        }
    }
}

#[derive(ValueEnum, Clone, Copy)]
enum InputsArgument {
    Separate,
    Merged,
}

#[derive(ValueEnum, Clone, Copy)]
enum HeadsArgument {
    Each,
    ByLayer,
    ByRole,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Own,
    Dot,
}

impl Render {
    fn style(&self) -> Result<Style, penjing::Error> {
        let theme = Theme::named(&self.theme).ok_or_else(|| StyleError::Theme { name: self.theme.clone() })?;
        let style = Style {
            theme,
            width: self.width,
            height: self.height.or(self.width.map(|_| 230.0)),
            font_size: self.font_size,
            legend: !self.no_legend,
            branches: self.inputs.map(|inputs| match inputs {
                InputsArgument::Separate => Branches::Separate,
                InputsArgument::Merged => Branches::Merged,
            }),
            heads: self.heads.map(|heads| match heads {
                HeadsArgument::Each => Heads::Each,
                HeadsArgument::ByLayer => Heads::ByLayer,
                HeadsArgument::ByRole => Heads::ByRole,
            }),
            roles: !self.no_roles,
            least_share: self.least_share,
        };
        style.check()?;
        Ok(style)
    }

    /// One format of one circuit.
    fn draw(
        &self,
        format: Format,
        (circuit, stem): (&Imported, &str),
        figure: &Figure,
        style: &Style,
    ) -> anyhow::Result<Vec<u8>> {
        let caption = Caption { title: self.title.clone().unwrap_or_default(), subtitle: String::new() };
        if self.engine == Engine::Dot && matches!(format, Format::Svg | Format::Png | Format::Pdf) {
            return by_graphviz(&dot::draw(figure, style, &caption), format.ending(), self.dpi);
        }
        let scene = || Scene::new(figure, style, &caption);
        let svg = || svg::draw(&scene());
        let raster = |drawn: Result<Vec<u8>, raster::RasterError>| drawn.map_err(penjing::Error::from);
        Ok(match format {
            Format::Svg => svg().into_bytes(),
            Format::Dot => dot::draw(figure, style, &caption).into_bytes(),
            Format::Png => raster(raster::png(&svg(), self.dpi))?,
            Format::Pdf => raster(raster::pdf(&svg()))?,
            Format::Tikz => tikz::draw(&scene()).into_bytes(),
            Format::Graphml => graphml::draw(&content(circuit)).into_bytes(),
            Format::Csv => table::draw(&content(circuit))?.into_bytes(),
            Format::TracerJson => {
                let [slug, scan] = match circuit {
                    Imported::Own(own) => [own.provenance.task.name.clone(), own.provenance.model.id.clone()],
                    Imported::Eap(_) => [stem.to_owned(), "unknown".to_owned()],
                };
                serde_json::to_vec(&tracer_json::draw(&content(circuit), &slug, &scan))?
            }
            Format::EapJson => {
                let json = circuit.to_eap().ok_or_else(|| Usage {
                    message: "the circuit's file does not say how wide the model is, which EAP-IG's layout wants"
                        .into(),
                    hint: "the file is of an earlier version; discover the circuit again".into(),
                })?;
                json.to_json().map_err(penjing::Error::from)?.into_bytes()
            }
        })
    }
}

fn content(circuit: &Imported) -> Content<'_> {
    Content { graph: circuit.graph(), mask: circuit.mask(), scores: circuit.scores(), roles: circuit.roles() }
}

pub fn run(command: &Render, as_json: bool) -> anyhow::Result<Ended> {
    let style = command.style()?;
    if !(10.0..=2400.0).contains(&command.dpi) {
        let message = format!("--dpi {} is not between 10 and 2400", command.dpi);
        return Err(Usage { message, hint: "journals ask for 300 to 600".into() }.into());
    }
    let circuits: Vec<Imported> = command
        .circuits
        .iter()
        .map(|path| import::read(path).map_err(penjing::Error::from))
        .collect::<Result<_, _>>()?;
    let files = files(command)?;
    let figures = if command.aligned {
        aligned(&circuits, &style)?
    } else {
        circuits.iter().map(|circuit| render::figure(&content(circuit), &style)).collect()
    };
    let mut drawings = Vec::new();
    for ((circuit, figure), (folder, stem)) in circuits.iter().zip(&figures).zip(&files) {
        for &format in &command.to {
            let bytes = command.draw(format, (circuit, stem), figure, &style)?;
            drawings.push((folder, format!("{stem}.{}", format.ending()), bytes));
        }
    }
    let mut written = Vec::new();
    for (folder, name, bytes) in drawings {
        make_folder(folder)?;
        write(folder, &name, &bytes)?;
        written.push(folder.join(name));
    }
    if as_json {
        print_json(&json!({ "written": written }))?;
    } else {
        for path in written {
            print(&path.display().to_string())?;
        }
    }
    Ok(Ended::Done)
}

/// The folder and the name, without an ending, of each circuit's figures.
fn files(command: &Render) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let file = |path: &PathBuf| {
        let beside = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let stem = path.file_stem().map_or_else(|| "circuit".into(), |stem| stem.to_string_lossy().into_owned());
        (command.out.clone().unwrap_or_else(|| beside.to_owned()), stem)
    };
    let files: Vec<(PathBuf, String)> = command.circuits.iter().map(file).collect();
    for (index, one) in files.iter().enumerate() {
        if files[..index].contains(one) {
            let message = format!("two circuits would be drawn as {}", one.0.join(&one.1).display());
            return Err(Usage { message, hint: "leave --out away, or draw them one by one".into() }.into());
        }
    }
    Ok(files)
}

/// Figures with the places of all circuits together.
fn aligned(circuits: &[Imported], style: &Style) -> anyhow::Result<Vec<Figure>> {
    let [first, others @ ..] = circuits else { return Ok(Vec::new()) };
    let graph = first.graph();
    if others.iter().any(|other| other.graph().dimensions != graph.dimensions) {
        let message = "the circuits are not of one graph, so their nodes do not correspond".to_owned();
        return Err(Usage {
            message,
            hint: "`penjing compare` draws circuits of different models side by side".into(),
        }
        .into());
    }
    let mask = others.iter().fold(first.mask().clone(), |all, other| all.union(other.mask()));
    // Of each edge the largest score among the circuits that have it.
    let mut scores = Scores::zeros(graph);
    for edge in mask.edges(graph) {
        let of_circuits = circuits.iter().filter(|circuit| circuit.mask().contains(edge));
        let largest = of_circuits.map(|circuit| circuit.scores().get(edge)).max_by(|a, b| a.abs().total_cmp(&b.abs()));
        scores.set(edge, largest.unwrap_or(0.0));
    }
    // A node has one role in the figure: the first circuit's that says one.
    let roles: Vec<Found> = circuits.iter().flat_map(|circuit| circuit.roles().to_vec()).collect();
    let together = render::figure(&Content { graph, mask: &mask, scores: &scores, roles: &roles }, style);
    Ok(circuits.iter().map(|circuit| together.with(&content(circuit))).collect())
}

/// Graphviz's drawing of a DOT document.
fn by_graphviz(document: &str, format: &str, dpi: f64) -> anyhow::Result<Vec<u8>> {
    let failed = |why: String| Usage {
        message: format!("Graphviz cannot draw the circuit: {why}"),
        hint: "install Graphviz so that `dot -V` works, or leave --engine out".into(),
    };
    let mut command = Command::new("dot");
    command.arg(format!("-T{format}"));
    if format == "png" {
        command.arg(format!("-Gdpi={dpi}"));
    }
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(|error| failed(format!("`dot` does not start: {error}")))?;
    let input = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // A child that stops reading tells why itself.
        scope.spawn(move || input.map(|mut input| input.write_all(document.as_bytes())));
        child.wait_with_output()
    })?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(failed(why.lines().next().unwrap_or("no reason given").to_owned()).into());
    }
    Ok(output.stdout)
}
