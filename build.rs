//! Makes binaries, tests and doc tests find libtorch at run time with no LD_LIBRARY_PATH, and refuses a wrong libtorch.
//!
//! torch-sys tells where it linked libtorch through DEP_TCH_LIBTORCH_LIB, which cargo shows only to direct dependents.
//! It compiles its C++ before this runs; the header in .cargo/include reports a wrong libtorch at that point.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const WANTED: &str = "2.11";

fn main() -> ExitCode {
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_TORCH").is_none() {
        return ExitCode::SUCCESS;
    }
    let Some(lib) = env::var_os("DEP_TCH_LIBTORCH_LIB").map(PathBuf::from) else {
        return ExitCode::SUCCESS; // Windows: torch-sys does not say where it is
    };
    // Following vendor/libtorch keeps an installed binary working when the checkout is moved or deleted.
    let real = lib.canonicalize().unwrap_or_else(|_| lib.clone());

    let found = version_beside(&lib);
    println!("cargo:rustc-env=PENJING_LIBTORCH_VERSION={}", found.as_deref().unwrap_or("unknown"));
    println!("cargo:rustc-env=PENJING_LIBTORCH_LIB={}", real.display());
    if let Some(version) = found.filter(|version| !is_wanted(version)) {
        eprintln!(
            "error: found libtorch {version} in {}, and tch 0.24 needs {WANTED}\n\n\
             hint: correct or unset LIBTORCH and run `make setup`, or see docs/install.md",
            real.display()
        );
        return ExitCode::FAILURE;
    }

    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", real.display());
    if real != lib {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    }
    // Nothing in our code names a CUDA symbol, so the linker drops the library unless told not to.
    if lib.join("libtorch_cuda.so").exists() {
        for argument in ["-Wl,--no-as-needed", "-ltorch_cuda", "-Wl,--as-needed"] {
            println!("cargo:rustc-link-arg={argument}");
        }
    }
    ExitCode::SUCCESS
}

fn is_wanted(version: &str) -> bool {
    version.strip_prefix(WANTED).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The version of the libtorch whose `lib` folder this is: from `build-version` (libtorch archives), else `version.py`
/// (Python packages), else its headers.
fn version_beside(lib: &Path) -> Option<String> {
    let root = lib.parent()?;
    let sources = [
        ("build-version", ""),
        ("version.py", "__version__ = "),
        ("include/torch/headeronly/version.h", "  \""),
        ("include/torch/csrc/api/include/torch/version.h", "  \""),
    ];
    let mut version = None;
    for (name, before) in sources {
        let path = root.join(name);
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        println!("cargo:rerun-if-changed={}", path.display());
        let line = text.lines().find_map(|line| line.strip_prefix(before));
        version = version.or_else(|| Some(line?.trim().trim_matches(['"', '\'']).to_owned()));
    }
    version
}
