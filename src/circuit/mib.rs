//! Submission files of the MIB benchmark's circuit track: the scores of all edges as one importance file.
//!
//! MIB takes a folder for each task and model, named `task_model`, that holds either one file of importances, from which it
//! makes the circuits of all sizes itself, or nine files, a circuit for each size. This is the first form,
//! `METHOD_ABLATION_edge/TASK_MODEL/importances.json`, in EAP-IG's graph JSON ([`super::eap_json`]) with no edge marked
//! `in_graph`. A larger number helps more, as MIB's attribution has it, which differentiates the loss.

use super::EdgeMask;
use super::eap_json::EapJson;
use crate::ablation::Ablation;
use crate::graph::Graph;
use crate::graph::scores::Scores;
use std::path::PathBuf;

/// The file's name in the folder of a task and a model.
pub const IMPORTANCES: &str = "importances.json";

/// MIB's names of methods, where they differ from ours.
const METHODS: [(&str, &str); 4] = [
    ("eap", "EAP"),
    ("eap-ig", "EAP-IG-inputs"),
    ("eap-ig-activations", "EAP-IG-activations"),
    ("ifr", "information-flow-routes"),
];

/// MIB's names of its models, by the last part of their names on the hub.
const MODELS: [(&str, &str); 4] =
    [("gpt2", "gpt2"), ("Qwen2.5-0.5B", "qwen2.5"), ("gemma-2-2b", "gemma2"), ("Llama-3.1-8B", "llama3")];

/// The folder of a method's importances for a task in a model, below the folder of the submission. An underscore stands between
/// task and model, so that within them it becomes a hyphen.
pub fn folder(method: &str, ablation: Ablation, task: &str, model: &str) -> PathBuf {
    let named = |table: &[(&str, &str)], name: &str| {
        table.iter().find(|(ours, _)| *ours == name).map_or_else(|| name.to_owned(), |(_, theirs)| (*theirs).to_owned())
    };
    let last = model.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or(model);
    let [task, model] = [task.to_owned(), named(&MODELS, last)].map(|part| part.replace('_', "-"));
    let ablation = if ablation == Ablation::Counterfactual { "patching" } else { ablation.name() };
    PathBuf::from(format!("{}_{ablation}_edge", named(&METHODS, method))).join(format!("{task}_{model}"))
}

/// The importances of all edges.
pub fn importances(graph: &Graph, scores: &Scores, d_model: usize) -> EapJson {
    EapJson::new(graph, &EdgeMask::empty(graph), scores, d_model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::circuit::eap_json;
    use crate::graph::Dimensions;

    #[test]
    fn folders_are_named_as_mib_does() {
        let check = |method, task, model, expected: &str| {
            assert_eq!(folder(method, Ablation::Counterfactual, task, model), PathBuf::from(expected));
        };
        check("eap-ig", "ioi", "gpt2", "EAP-IG-inputs_patching_edge/ioi_gpt2");
        check("ifr", "arc_easy", "models/Llama-3.1-8B/", "information-flow-routes_patching_edge/arc-easy_llama3");
        check("relp", "ioi", "Qwen/Qwen2.5-0.5B", "relp_patching_edge/ioi_qwen2.5");
        let of_means = folder("eap", Ablation::MeanPositional, "ioi", "toy_4l");
        assert_eq!(of_means, PathBuf::from("EAP_mean-positional_edge/ioi_toy-4l"));
    }

    #[test]
    fn importances_are_read_back_without_loss() {
        let graph = Graph::new(Dimensions::new(2, 3));
        let mut scores = Scores::zeros(&graph);
        for (index, &edge) in graph.edges().iter().enumerate() {
            scores.set(edge, (index as f32 * 0.7).sin() / 3.0);
        }
        let file = importances(&graph, &scores, 12);
        let text = file.to_json().unwrap();
        let read = eap_json::parse(&text).unwrap();
        assert_eq!(read, file);
        assert_eq!(read.to_json().unwrap(), text);
        let built = read.build().unwrap();
        assert_eq!((built.scores, built.graph.dimensions), (scores, graph.dimensions));
        assert_eq!(built.mask.count(), 0);
    }
}
