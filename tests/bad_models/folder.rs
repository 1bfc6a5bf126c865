//! Copies of a small model that tests may damage.

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

pub const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/reference/llama");

/// Name, bytes, type and shape of a tensor.
type Stored = (String, Vec<u8>, Dtype, Vec<usize>);

/// A copy of a small Llama that a test may damage, with a task of its pairs.
pub struct Folder(pub TempDir);

impl Folder {
    pub fn new() -> Folder {
        let folder = tempdir().unwrap();
        for name in ["config.json", "model.safetensors", "tokenizer.json", "pairs.jsonl"] {
            // Written and not copied: the copy of a file that may not be written may not be either.
            std::fs::write(folder.path().join(name), std::fs::read(Path::new(REFERENCE).join(name)).unwrap()).unwrap();
        }
        let task = "schema = 1\nname = \"pairs\"\ntitle = \"Pairs\"\n[metric]\nkind = \"logit-difference\"\n\
                    [data]\nfile = \"pairs.jsonl\"\n";
        std::fs::write(folder.path().join("task.toml"), task).unwrap();
        Folder(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> &Folder {
        std::fs::write(self.path(name), bytes).unwrap();
        self
    }

    /// The config with one key changed, or without it.
    pub fn config(&self, key: &str, value: Option<serde_json::Value>) -> &Folder {
        let mut config: serde_json::Value = serde_json::from_str(&self.text("config.json")).unwrap();
        let table = config.as_object_mut().unwrap();
        match value {
            Some(value) => table.insert(key.into(), value),
            None => table.remove(key),
        };
        self.write("config.json", config.to_string())
    }

    /// Its tensors, rewritten by `change`, in as many files as `change` gives them numbers.
    pub fn tensors(&self, change: impl Fn(usize, &str, &mut Vec<u8>, &mut Dtype, &mut Vec<usize>) -> usize) -> &Folder {
        let bytes = std::fs::read(self.path("model.safetensors")).unwrap();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        let mut files: BTreeMap<usize, Vec<Stored>> = BTreeMap::new();
        for (index, (name, view)) in read.tensors().into_iter().enumerate() {
            let (mut data, mut dtype, mut shape) = (view.data().to_vec(), view.dtype(), view.shape().to_vec());
            let file = change(index, &name, &mut data, &mut dtype, &mut shape);
            files.entry(file).or_default().push((name, data, dtype, shape));
        }
        let mut map = serde_json::Map::new();
        let sharded = files.len() > 1;
        for (file, tensors) in &files {
            let name = if sharded { format!("model-{file}.safetensors") } else { "model.safetensors".to_owned() };
            let views = tensors.iter().map(|(tensor, data, dtype, shape)| {
                map.insert(tensor.clone(), name.clone().into());
                (tensor.clone(), TensorView::new(*dtype, shape.clone(), data).unwrap())
            });
            let views: Vec<_> = views.collect();
            self.write(&name, safetensors::serialize(views, None).unwrap());
        }
        if sharded {
            std::fs::remove_file(self.path("model.safetensors")).unwrap();
            self.write("model.safetensors.index.json", serde_json::json!({ "weight_map": map }).to_string());
        }
        self
    }

    pub fn sharded() -> Folder {
        let folder = Folder::new();
        folder.tensors(|index, _, _, _, _| 1 + index % 3);
        folder
    }

    pub fn score(&self) -> assert_cmd::assert::Assert {
        assert_cmd::Command::cargo_bin("penjing")
            .unwrap()
            .current_dir(self.0.path())
            .args(["score", "task.toml", "--model", ".", "--pairs", "2", "--method", "eap", "--threads", "1"])
            .assert()
    }

    #[track_caller]
    pub fn refused(&self, says: &[&str]) {
        let output = self.score().code(2).get_output().clone();
        let talk = String::from_utf8(output.stderr).unwrap();
        for words in says.iter().chain(&["error: ", "\n\nhint: "]) {
            assert!(talk.contains(words), "it does not say `{words}`:\n{talk}");
        }
        for never in ["panicked", "internal error", "Exception raised", "c10::"] {
            assert!(!talk.contains(never), "{talk}");
        }
        assert!(output.stdout.is_empty());
        assert!(!self.path("runs").join("pairs").join("scores.json").exists());
    }
}
