//! `circuit.json`: a circuit with where it came from and what was measured, `schema = "penjing.circuit/1"`.
//!
//! The types here are the file's own: they change only with the schema's number, whatever happens to the internal ones. The
//! file holds no times or paths, so the same command with the same seed writes the same bytes.

use super::EdgeMask;
use super::report::Report;
use super::report_file::ReportV1;
use super::roles::Found;
use crate::error::{FileError, Hint};
use crate::graph::scores::Scores;
use crate::graph::{Dimensions, Graph, GraphError};
use crate::shard::{Shard, ShardError};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

pub const SCHEMA: &str = "penjing.circuit/1";

/// Graphs beyond this are refused when read from a file; the largest models in use have a few million edges.
pub(super) const MOST_EDGES: usize = 100_000_000;

/// A circuit with everything that its file says.
#[derive(Clone, Debug)]
pub struct Circuit {
    pub provenance: Provenance,
    pub graph: Graph,
    pub mask: EdgeMask,
    /// Scores of the circuit's edges; the file does not keep the others.
    pub scores: Scores,
    pub report: Option<Report>,
    /// What its nodes were found to do, the most telling role of a node first.
    pub roles: Vec<Found>,
}

/// Options of a method or a rule, in the order in which they are documented.
pub type Options = IndexMap<String, serde_json::Value>;

/// Everything that determines a result: the same values give the same bytes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Provenance {
    pub task: TaskRecord,
    pub model: ModelRecord,
    pub method: MethodRecord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<SelectionRecord>,
    pub ablation: String,
    pub seed: u64,
    /// Prompt pairs used for scoring.
    pub pairs: usize,
    pub threads: usize,
    /// The version of penjing.
    pub penjing: String,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TaskRecord {
    pub name: String,
    pub hash: String,
    pub corruption: String,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ModelRecord {
    pub id: String,
    pub config_hash: String,
    /// The width of the residual stream; absent in files of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d_model: Option<usize>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct MethodRecord {
    pub name: String,
    #[serde(default)]
    pub options: Options,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SelectionRecord {
    pub rule: String,
    #[serde(default)]
    pub options: Options,
}

/// The file as written.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct CircuitV1 {
    pub schema: String,
    pub provenance: Provenance,
    pub graph: GraphV1,
    pub nodes: Vec<String>,
    pub edges: Vec<EdgeV1>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportV1>,
    /// Absent in files of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<RoleV1>,
}

/// A role that a node was found to have: its number reached the threshold.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct RoleV1 {
    pub node: String,
    pub role: String,
    pub value: f64,
    pub threshold: f64,
    /// Other numbers by name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub evidence: IndexMap<String, f64>,
}

/// The model's graph. The counts follow from the sizes and are checked when read.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct GraphV1 {
    pub layers: usize,
    pub heads: usize,
    /// Slots for keys (and for values) of a layer, where query heads share them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_slots: Option<usize>,
    pub parallel: bool,
    /// Absent in models whose layers have no MLP.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub mlps: bool,
    pub sources: usize,
    pub destinations: usize,
    pub edges: usize,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_yes(flag: &bool) -> bool {
    *flag
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EdgeV1 {
    pub name: String,
    pub score: f32,
}

/// What can be wrong with a file about a graph: `circuit.json`, `scores.json` or an EAP-IG file.
#[derive(Debug, thiserror::Error)]
pub enum GraphFileError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: {source}", path.display())]
    Content { path: PathBuf, source: ContentError },
}

impl Hint for GraphFileError {
    fn hint(&self) -> Option<String> {
        match self {
            GraphFileError::File(error) => error.hint(),
            GraphFileError::Content { source, .. } => source.hint(),
        }
    }
}

/// What can be wrong inside such a file.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    #[error("not the expected JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the schema is `{found}`, not `{expected}`")]
    Schema { found: String, expected: &'static str },
    #[error("{what} is {found}, but {layers} layers with {heads} heads have {expected}")]
    Count { what: &'static str, found: usize, expected: usize, layers: usize, heads: usize },
    #[error("{heads} heads cannot share {kv_slots} heads of keys and values")]
    Shared { heads: usize, kv_slots: usize },
    #[error("a graph of {0} edges is too large")]
    TooLarge(usize),
    #[error("there is no role `{0}`")]
    Role(String),
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error("edge {0} is listed twice")]
    Repeated(String),
    #[error("{missing} of the graph's {count} {what} have no score, the first is {first}")]
    Missing { missing: usize, count: usize, what: &'static str, first: String },
    #[error("`{0}` is no level")]
    Level(String),
    #[error("{name} has not a score for each of the positions")]
    Positions { name: String },
    #[error(transparent)]
    Shard(#[from] ShardError),
    #[error("the pairs are not those of shard {shard} of {pairs} pairs")]
    Part { shard: Shard, pairs: usize },
    #[error("`nodes` does not list the nodes that the edges touch")]
    Nodes,
}

impl Hint for ContentError {
    fn hint(&self) -> Option<String> {
        match self {
            ContentError::Json(_) => Some("the file may be cut short or of another kind".into()),
            ContentError::Schema { expected, .. } => {
                Some(format!("this version of penjing reads `{expected}`; the file may come from another version"))
            }
            ContentError::Count { .. }
            | ContentError::Nodes
            | ContentError::Shared { .. }
            | ContentError::Shard(_)
            | ContentError::Positions { .. }
            | ContentError::Part { .. } => Some("the file was edited or damaged; write it again".into()),
            ContentError::TooLarge(_) => Some("check `layers` and `heads`".into()),
            ContentError::Graph(error) => error.hint(),
            ContentError::Repeated(_) => Some("list every edge once".into()),
            ContentError::Missing { what, .. } => Some(format!("a score file lists all {what} of the model")),
            ContentError::Role(_) => Some("the file is of a newer version, or was edited".into()),
            ContentError::Level(_) => Some("the levels are edge, node and neuron".into()),
        }
    }
}

impl GraphV1 {
    pub fn new(graph: &Graph) -> GraphV1 {
        let Dimensions { layers, heads, kv_slots, parallel, mlps } = graph.dimensions;
        let kv_slots = (kv_slots != heads).then_some(kv_slots);
        let (sources, destinations) = (graph.sources(), graph.destinations());
        GraphV1 { layers, heads, kv_slots, parallel, mlps, sources, destinations, edges: graph.edge_count() }
    }

    pub fn build(&self) -> Result<Graph, ContentError> {
        let &GraphV1 { layers, heads, kv_slots, parallel, mlps, .. } = self;
        let kv_slots = kv_slots.unwrap_or(heads);
        if kv_slots == 0 || !heads.is_multiple_of(kv_slots) {
            return Err(ContentError::Shared { heads, kv_slots });
        }
        let dimensions = Dimensions { layers, heads, kv_slots, parallel, mlps };
        for (what, found, expected) in [
            ("`graph.sources`", self.sources, dimensions.sources()),
            ("`graph.destinations`", self.destinations, dimensions.destinations()),
            ("`graph.edges`", self.edges, dimensions.edges()),
        ] {
            if found != expected {
                return Err(ContentError::Count { what, found, expected, layers, heads });
            }
        }
        build_graph(dimensions)
    }
}

/// The graph of sizes that come from a file.
pub(super) fn build_graph(dimensions: Dimensions) -> Result<Graph, ContentError> {
    match dimensions.edges() {
        edges if edges > MOST_EDGES => Err(ContentError::TooLarge(edges)),
        _ => Ok(Graph::new(dimensions)),
    }
}

impl RoleV1 {
    fn new(found: &Found) -> RoleV1 {
        RoleV1 {
            node: found.node.to_string(),
            role: found.role.to_string(),
            value: found.value,
            threshold: found.role.threshold(),
            evidence: found.evidence.iter().cloned().collect(),
        }
    }

    fn build(self) -> Result<Found, ContentError> {
        let role = self.role.parse().map_err(|()| ContentError::Role(self.role))?;
        Ok(Found { node: self.node.parse()?, role, value: self.value, evidence: self.evidence.into_iter().collect() })
    }
}

impl CircuitV1 {
    pub fn new(circuit: &Circuit) -> CircuitV1 {
        let Circuit { provenance, graph, mask, scores, report, roles } = circuit;
        let edge = |edge| EdgeV1 { name: graph.name(edge), score: scores.get(edge) };
        CircuitV1 {
            schema: SCHEMA.into(),
            provenance: provenance.clone(),
            graph: GraphV1::new(graph),
            nodes: mask.nodes(graph).iter().map(ToString::to_string).collect(),
            edges: mask.edges(graph).into_iter().map(edge).collect(),
            report: report.as_ref().map(|report| ReportV1::new(graph, report)),
            roles: roles.iter().map(RoleV1::new).collect(),
        }
    }

    pub fn build(self) -> Result<Circuit, ContentError> {
        check_schema(&self.schema, SCHEMA)?;
        let graph = self.graph.build()?;
        let (mut mask, mut scores) = (EdgeMask::empty(&graph), Scores::zeros(&graph));
        for EdgeV1 { name, score } in self.edges {
            let edge = graph.parse_edge(&name)?;
            if mask.contains(edge) {
                return Err(ContentError::Repeated(name));
            }
            mask.insert(edge);
            scores.set(edge, score);
        }
        if !mask.nodes(&graph).iter().map(ToString::to_string).eq(self.nodes) {
            return Err(ContentError::Nodes);
        }
        let report = self.report.map(|report| report.build(&graph)).transpose()?;
        let roles = self.roles.into_iter().map(RoleV1::build).collect::<Result<_, _>>()?;
        Ok(Circuit { provenance: self.provenance, graph, mask, scores, report, roles })
    }
}

pub fn to_json(circuit: &Circuit) -> Result<String, ContentError> {
    pretty(&CircuitV1::new(circuit))
}

pub fn parse(text: &str) -> Result<Circuit, ContentError> {
    parse_versioned::<CircuitV1>(text, SCHEMA)?.build()
}

pub fn read(path: &Path) -> Result<Circuit, GraphFileError> {
    read_with(path, parse)
}

pub fn write(path: &Path, circuit: &Circuit) -> Result<(), GraphFileError> {
    let json = to_json(circuit).map_err(|source| GraphFileError::Content { path: path.to_owned(), source })?;
    Ok(write_atomically(path, json.as_bytes())?)
}

pub(super) fn read_with<T>(
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, ContentError>,
) -> Result<T, GraphFileError> {
    let text = std::fs::read_to_string(path).map_err(FileError::reading(path))?;
    parse(&text).map_err(|source| GraphFileError::Content { path: path.to_owned(), source })
}

/// Reads the schema before anything else, so that a file of another version is called that and not malformed.
pub(super) fn parse_versioned<T: for<'de> Deserialize<'de>>(
    text: &str,
    schema: &'static str,
) -> Result<T, ContentError> {
    #[derive(Deserialize)]
    struct Versioned {
        schema: String,
    }
    check_schema(&serde_json::from_str::<Versioned>(text)?.schema, schema)?;
    Ok(serde_json::from_str(text)?)
}

fn check_schema(found: &str, expected: &'static str) -> Result<(), ContentError> {
    if found == expected { Ok(()) } else { Err(ContentError::Schema { found: found.into(), expected }) }
}

pub(super) fn pretty<T: Serialize>(value: &T) -> Result<String, ContentError> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Writes a file under a temporary name in the same folder and renames it, so that a reader finds the old file or the whole new
/// one and never a part.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".penjing-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // As `File::create` would: the process's umask applies. The default is for secrets.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(FileError::writing(path))?;
    file.write_all(bytes).map_err(FileError::writing(path))?;
    file.persist(path).map_err(|error| FileError::writing(path)(error.error))?;
    Ok(())
}
