//! Names of the Hugging Face hub: what the local cache has, what it lacks and what to do then; with the feature `hub`,
//! downloads from a server of our own.

use penjing::error::Hint;
use penjing::model::hub::{HubError, RepoId, find, list};
use std::path::Path;

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A cache with one whole model of two revisions, one sharded model that lacks a shard, and one dangling reference.
fn cache() -> tempfile::TempDir {
    let cache = tempfile::tempdir().unwrap();
    let good = cache.path().join("models--acme--good");
    for (reference, hash) in [("main", "aaa"), ("pr/7", "bbb")] {
        write(&good.join("refs").join(reference), &format!("{hash}\n"));
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            write(&good.join("snapshots").join(hash).join(file), r#"{"model_type": "llama"}"#);
        }
    }
    let cut = cache.path().join("models--acme--cut");
    write(&cut.join("refs/main"), "ccc");
    for file in ["config.json", "tokenizer.json", "model-1.safetensors"] {
        write(&cut.join("snapshots/ccc").join(file), "{}");
    }
    let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    write(&cut.join("snapshots/ccc/model.safetensors.index.json"), index);
    write(&cache.path().join("models--acme--gone/refs/main"), "ddd");
    write(&cache.path().join("datasets--acme--data/refs/main"), "eee");
    let old = cache.path().join("models--gpt2");
    write(&old.join("refs/main"), "fff");
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        write(&old.join("snapshots/fff").join(file), r#"{"model_type": "gpt2"}"#);
    }
    cache
}

#[test]
fn names_lead_to_snapshots() {
    let cache = cache();
    let check = |name: &str, snapshot: &str| {
        let folder = find(cache.path(), &RepoId::parse(name).unwrap()).unwrap();
        assert_eq!(folder, cache.path().join("models--acme--good/snapshots").join(snapshot), "{name}");
    };
    check("acme/good", "aaa");
    check("acme/good@main", "aaa");
    check("acme/good@pr/7", "bbb");
    check("acme/good@bbb", "bbb");
    let old = find(cache.path(), &RepoId::parse("gpt2").unwrap()).unwrap();
    assert_eq!(old, cache.path().join("models--gpt2/snapshots/fff"));
}

#[test]
fn what_is_not_there_is_said_with_the_command_to_run() {
    let cache = cache();
    let check = |name: &str, says: &str, hint: &str| {
        let error = find(cache.path(), &RepoId::parse(name).unwrap()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
        let found = error.hint().unwrap();
        assert!(found.contains(hint), "{found}");
    };
    check("acme/none", "acme/none is not in the local cache", "hf download acme/none --include");
    check("acme/cut", "model-2.safetensors is missing", "hf download acme/cut");
    check("acme/good@v9", "no revision `v9`", "it has main, pr/7; or fetch it");
    check("acme/good@v9", "no revision `v9`", "--revision v9");
    check("acme/gone", "no revision `main`", "hf download acme/gone");
    for name in
        ["", "acme/", "/good", "acme/go od", "acme/good/more", "../x", "acme/..", "acme/good@", "acme/good@../x"]
    {
        assert!(matches!(RepoId::parse(name), Err(HubError::Name(_))), "{name}");
    }
}

#[test]
fn every_revision_of_every_model_is_listed() {
    let cache = cache();
    let found: Vec<_> = list(cache.path())
        .into_iter()
        .map(|model| (model.repo.to_string(), model.family, model.bytes, model.missing))
        .collect();
    let llama = Some("llama".to_owned());
    assert_eq!(
        found,
        [
            ("acme/cut".to_owned(), None, 78, Some("model-2.safetensors".to_owned())),
            ("acme/good".to_owned(), llama.clone(), 69, None),
            ("acme/good@pr/7".to_owned(), llama, 69, None),
            ("gpt2".to_owned(), Some("gpt2".to_owned()), 66, None),
        ]
    );
    assert_eq!(list(Path::new("/nowhere")), []);
}

#[cfg(feature = "hub")]
mod download {
    use super::*;
    use penjing::model::pull::{Hub, PullError, pull};
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const WEIGHTS: usize = 300_000;

    /// Answers as the hub does, for one repository; the first answer with the weights breaks off half way.
    fn serve(status: &'static str) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let ranges = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&ranges);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || answer(&stream, status, &seen));
            }
        });
        (address, ranges)
    }

    fn answer(mut stream: &TcpStream, status: &str, broken: &AtomicUsize) {
        let mut reader = BufReader::new(stream);
        loop {
            let (mut request, mut from) = (String::new(), None);
            if reader.read_line(&mut request).unwrap_or(0) == 0 {
                return;
            }
            loop {
                let mut header = String::new();
                reader.read_line(&mut header).unwrap();
                if header.trim().is_empty() {
                    break;
                }
                if let Some(range) = header.to_lowercase().strip_prefix("range: bytes=") {
                    let (start, end) = range.trim().split_once('-').unwrap();
                    from = Some((start.parse::<usize>().unwrap(), end.parse::<usize>().ok()));
                }
            }
            if !status.starts_with("200") {
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            let path = request.split_whitespace().nth(1).unwrap();
            if path.contains("/api/") {
                let files = ["config.json", "tokenizer.json", "model.safetensors", "pytorch_model.bin"];
                let siblings: Vec<_> = files.map(|name| serde_json::json!({"rfilename": name})).to_vec();
                let body = serde_json::json!({"sha": "abc", "siblings": siblings}).to_string();
                let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                continue;
            }
            let name = path.rsplit('/').next().unwrap();
            assert_ne!(name, "pytorch_model.bin", "not needed");
            let body = if name == "model.safetensors" { vec![7u8; WEIGHTS] } else { b"{}".to_vec() };
            let (start, end) = from.unwrap_or((0, None));
            let end = end.map_or(body.len(), |end| (end + 1).min(body.len()));
            let _ = write!(
                stream,
                "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{}\r\n\
                 ETag: \"{name}\"\r\nX-Repo-Commit: abc\r\n\r\n",
                end - start,
                end - 1,
                body.len()
            );
            if end - start > WEIGHTS / 2 && broken.fetch_add(1, Ordering::SeqCst) == 0 {
                let _ = stream.write_all(&body[start..start + WEIGHTS / 2]);
                let _ = stream.shutdown(std::net::Shutdown::Both);
                return;
            }
            let _ = stream.write_all(&body[start..end]);
        }
    }

    #[test]
    fn a_broken_download_goes_on_and_the_cache_has_the_model() {
        let (endpoint, broken) = serve("200 OK");
        let cache = tempfile::tempdir().unwrap();
        let hub = Hub { cache: cache.path().to_owned(), endpoint, token: None };
        let repo = RepoId::parse("acme/good").unwrap();
        let mut last = (String::new(), 0, 0);
        pull(&hub, &repo, &mut |file, gone, size| last = (file.to_owned(), gone, size)).unwrap();
        assert_eq!(broken.load(Ordering::SeqCst), 1, "the download did not break");
        assert_eq!(last, ("model.safetensors".to_owned(), WEIGHTS, WEIGHTS));
        let folder = find(cache.path(), &repo).unwrap();
        assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), vec![7u8; WEIGHTS]);
        // The second time nothing is fetched.
        pull(&hub, &repo, &mut |_, _, _| panic!("fetched again")).unwrap();
    }

    #[test]
    fn refusals_are_said() {
        let repo = RepoId::parse("acme/good").unwrap();
        for (status, not_found) in [("404 Not Found", true), ("401 Unauthorized", true), ("403 Forbidden", false)] {
            let (endpoint, _) = serve(status);
            let cache = tempfile::tempdir().unwrap();
            let hub = Hub { cache: cache.path().to_owned(), endpoint, token: Some("secret".into()) };
            let error = pull(&hub, &repo, &mut |_, _, _| ()).unwrap_err();
            let expected = if not_found {
                matches!(error, PullError::NotFound(_))
            } else {
                matches!(error, PullError::Refused(_))
            };
            assert!(expected && error.hint().unwrap().contains("HF_TOKEN"), "{status}: {error}");
        }
    }
}
