//! `penjing doctor`: what this build is, what it runs on, and what is missing.

use super::Ended;
use super::term::{print, print_json};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The libtorch that this version of tch is made for.
const LIBTORCH_WANTED: &str = "2.11";

/// Prints the report as a table, or as one JSON document.
///
/// # Errors
/// When stdout is closed.
pub fn run(as_json: bool) -> anyhow::Result<Ended> {
    let report = report();
    if as_json {
        print_json(&report)?
    } else {
        print(&table(&report))?
    }
    Ok(Ended::Done)
}

fn report() -> Value {
    let torch = torch();
    let models = hugging_face_cache();
    json!({
        "penjing": env!("CARGO_PKG_VERSION"),
        "features": if cfg!(feature = "torch") { json!(["torch"]) } else { json!([]) },
        "platform": format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        "libtorch": torch["libtorch"],
        "devices": torch["devices"],
        "threads": {
            "cores": std::thread::available_parallelism().map_or(1, usize::from),
            "libtorch": torch["threads"],
            "rayon": rayon::current_num_threads(),
        },
        "matrix_product": torch["matrix_product"],
        "models": {
            "embedded": embedded_models(),
            "hugging_face_cache": models,
            "hugging_face_models": models.as_ref().map_or(0, cached_models),
        },
        "missing": missing(&torch),
    })
}

#[cfg(feature = "torch")]
fn embedded_models() -> Vec<&'static str> {
    penjing::model::embedded::MODELS.iter().map(|model| model.name).collect()
}

#[cfg(not(feature = "torch"))]
fn embedded_models() -> Vec<&'static str> {
    Vec::new()
}

/// What libtorch says of itself; null without it.
#[cfg(feature = "torch")]
fn torch() -> Value {
    use tch::{Cuda, Kind, Tensor, no_grad_guard, utils};
    const SIZE: i64 = 1024;

    let cuda = if Cuda::is_available() { Cuda::device_count() } else { 0 };
    let mut devices = vec!["cpu".to_owned()];
    devices.extend((0..cuda).map(|index| format!("cuda:{index}")));
    if utils::has_mps() {
        devices.push("mps".to_owned());
    }

    let _guard = no_grad_guard();
    let left = Tensor::rand([SIZE, SIZE], (Kind::Float, tch::Device::Cpu)); // [row, inner]
    let right = Tensor::rand([SIZE, SIZE], (Kind::Float, tch::Device::Cpu)); // [inner, column]
    // The first product pays for starting threads and choosing a kernel; the best of the others is the machine's speed.
    let seconds = (0..4)
        .map(|_| {
            let start = std::time::Instant::now();
            let _product = left.matmul(&right); // [row, column]
            start.elapsed().as_secs_f64()
        })
        .fold(f64::INFINITY, f64::min);

    json!({
        "libtorch": {
            "wanted": LIBTORCH_WANTED,
            "found": option_env!("PENJING_LIBTORCH_VERSION"),
            "folder": option_env!("PENJING_LIBTORCH_LIB"),
            "loaded": loaded_library(),
            "cuda": utils::has_cuda(),
        },
        "devices": devices,
        "threads": tch::get_num_threads(),
        "matrix_product": {
            "size": SIZE,
            "seconds": seconds,
            "gflops": 2.0 * (SIZE as f64).powi(3) / seconds / 1e9,
        },
    })
}

#[cfg(not(feature = "torch"))]
fn torch() -> Value {
    json!({ "devices": [] })
}

/// The file that the dynamic linker took, which can differ from the one linked against. Linux only.
#[cfg(feature = "torch")]
fn loaded_library() -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.contains("/libtorch_cpu."))?;
    Some(line[line.find('/')?..].to_owned())
}

/// Where the Hugging Face libraries keep models, by their own rules.
fn hugging_face_cache() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("HF_HUB_CACHE")
        .or_else(|| Some(variable("HF_HOME")?.join("hub")))
        .or_else(|| Some(variable("XDG_CACHE_HOME")?.join("huggingface/hub")))
        .or_else(|| Some(std::env::home_dir()?.join(".cache/huggingface/hub")))
}

fn cached_models(cache: &PathBuf) -> usize {
    let entries = std::fs::read_dir(cache).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("models--")).count()
}

fn missing(torch: &Value) -> Vec<Value> {
    let mut missing = Vec::new();
    let mut note = |what: &str, hint: &str| missing.push(json!({ "what": what, "hint": hint }));
    let libtorch = &torch["libtorch"];
    if libtorch.is_null() {
        note(
            "libtorch: this build can read, draw and check, but not run a model",
            "build with the default feature `torch`, after `make setup`",
        );
    } else if !libtorch["found"].as_str().is_some_and(|found| found.starts_with(LIBTORCH_WANTED)) {
        note(
            "the version of libtorch could not be read",
            "tch 0.24 is made for libtorch 2.11; `make setup` provides it (docs/install.md)",
        );
    }
    let has_gpu = PathBuf::from("/proc/driver/nvidia/version").exists();
    if !libtorch.is_null() && has_gpu && libtorch["cuda"] != json!(true) {
        note(
            "CUDA: an NVIDIA driver is here, but this libtorch runs on the CPU only",
            "point LIBTORCH at a CUDA build of libtorch 2.11 and build again (docs/install.md)",
        );
    }
    if find_on_path("dot").is_none() {
        note(
            "graphviz (optional): `dot` is not on PATH; penjing draws its own SVG without it",
            "install graphviz to lay out circuit.dot yourself",
        );
    }
    missing
}

fn find_on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn table(report: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Null => "unknown".to_owned(),
        other => other.to_string(),
    };
    let list = |value: &Value| {
        let items: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
        if items.is_empty() { "none".to_owned() } else { items.join(", ") }
    };
    let mut lines = Vec::new();
    let mut row = |name: &str, value: String| lines.push(format!("{name:<16}{value}"));

    row("penjing", format!("{} on {}", text(&report["penjing"]), text(&report["platform"])));
    row("features", list(&report["features"]));
    let libtorch = &report["libtorch"];
    if libtorch.is_null() {
        row("libtorch", "not in this build".to_owned());
    } else {
        row("libtorch", format!("{} (wanted: {})", text(&libtorch["found"]), text(&libtorch["wanted"])));
        let place = if libtorch["loaded"].is_null() { &libtorch["folder"] } else { &libtorch["loaded"] };
        row("", text(place));
        row("devices", list(&report["devices"]));
    }
    let threads = &report["threads"];
    let of_libtorch = threads["libtorch"].as_i64().map(|n| format!(", libtorch {n}")).unwrap_or_default();
    row("threads", format!("{} cores{of_libtorch}, rayon {}", threads["cores"], threads["rayon"]));
    let product = &report["matrix_product"];
    if let (Some(size), Some(seconds), Some(gflops)) =
        (product["size"].as_i64(), product["seconds"].as_f64(), product["gflops"].as_f64())
    {
        row("matrix product", format!("{size}x{size} f32 in {:.1} ms, {gflops:.0} GFLOP/s", seconds * 1e3));
    }
    let models = &report["models"];
    row("models", format!("embedded: {}", list(&models["embedded"])));
    row(
        "",
        format!(
            "Hugging Face cache: {} ({} models)",
            text(&models["hugging_face_cache"]),
            models["hugging_face_models"]
        ),
    );

    let missing = report["missing"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines.push(if missing.is_empty() { "\nnothing is missing".to_owned() } else { "\nmissing:".to_owned() });
    for item in missing {
        lines.push(format!("  {}\n    hint: {}", text(&item["what"]), text(&item["hint"])));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_fits_the_build() {
        let report = report();
        assert_eq!(report["penjing"], env!("CARGO_PKG_VERSION"));
        assert!(report["threads"]["cores"].as_u64() >= Some(1));
        let hints = report["missing"].to_string();
        if cfg!(feature = "torch") {
            assert_eq!(report["devices"][0], "cpu");
            assert!(report["matrix_product"]["gflops"].as_f64() > Some(0.0));
            assert!(!hints.contains("`torch`"), "{hints}");
        } else {
            assert!(report["libtorch"].is_null() && report["matrix_product"].is_null());
            assert!(hints.contains("`torch`"), "{hints}");
        }
    }

    #[test]
    fn the_table_says_what_the_report_says() {
        let mut report = report();
        report["libtorch"] = json!({ "wanted": "2.11", "found": "2.11.0", "loaded": "/opt/lib/libtorch_cpu.so" });
        report["devices"] = json!(["cpu", "cuda:0"]);
        report["missing"] = json!([{ "what": "a thing", "hint": "get it" }]);
        let table = table(&report);
        for part in ["2.11.0 (wanted: 2.11)", "/opt/lib/libtorch_cpu.so", "cpu, cuda:0", "  a thing\n    hint: get it"]
        {
            assert!(table.contains(part), "{part} not in\n{table}");
        }
    }
}
