//! The example server from outside: its answers, and what is left of them after it was killed.
//!
//! `cargo test` builds examples before it runs tests; `cargo test --test image_server` does not.
#![cfg(not(lean))]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use image::ImageFormat;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Photos that are small enough to be rendered quickly without optimisation.
const PHOTOS: [&str; 2] = ["china.jpg", "flower.jpg"];
/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server; killed when dropped.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
    greeting: String,
}

impl Server {
    /// Starts the example and waits until it listens.
    fn start(photos: &Path, data: &Path) -> Result<Self> {
        let mut child = Command::new(example()?)
            .args(["--port", "0", "--photos"])
            .arg(photos)
            .arg("--data")
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("no stdout")?;
        let (stdout, address, greeting) = (BufReader::new(stdout), String::new(), String::new());
        let mut server = Self { child, stdout, address, greeting };
        while server.address.is_empty() {
            let mut line = String::new();
            if server.stdout.read_line(&mut line)? == 0 {
                return Err("the server ended before it listened".into());
            }
            if let Some(rest) = line.strip_prefix("Listening on http://") {
                server.address = rest.split('/').next().unwrap_or_default().to_owned();
            }
            server.greeting += &line;
        }
        Ok(server)
    }

    fn get(&self, target: &str) -> Result<Answer> {
        self.ask("GET", target, "")
    }

    /// Sends a request as it is given and reads the answer to its end.
    fn ask(&self, method: &str, target: &str, headers: &str) -> Result<Answer> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let host = &self.address;
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: tester <b>\r\n{headers}\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Answer::parse(&bytes)
    }

    /// Ends the process without a word, as a crash does.
    fn kill(mut self) -> Result {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks the process to stop, and gives what it still said.
    fn stop(mut self) -> Result<String> {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status()?.success());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest)?;
        assert!(self.child.wait()?.success());
        Ok(rest)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails if it has ended already, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An answer, its header names in lower case.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no header")?;
        let head = std::str::from_utf8(&bytes[..end])?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or("no status")?;
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Ok(Self { status: status.parse()?, headers, body: bytes[end + 4..].to_vec() })
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Checks that this is an image that was answered in this way.
    #[track_caller]
    fn assert_image(&self, cache: &str) {
        assert_eq!((self.status, self.header("x-cache")), (200, cache), "{}", self.text());
    }
}

/// Where cargo puts the example that is built along with this test.
fn example() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let target = test.parent().and_then(Path::parent).ok_or("no target directory")?;
    let example = target.join("examples/image_server");
    let missing = "the example is not built; run `cargo build --example image_server` first";
    if example.is_file() { Ok(example) } else { Err(missing.into()) }
}

/// A directory with a folder of small photos in it, and something beside it that is not for serving.
fn workspace() -> Result<(tempfile::TempDir, PathBuf, PathBuf)> {
    let dir = tempfile::tempdir()?;
    let photos = dir.path().join("photos");
    let data = dir.path().join("made/on/demand");
    std::fs::create_dir(&photos)?;
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/photos");
    for name in PHOTOS {
        std::fs::copy(shipped.join(name), photos.join(name))?;
    }
    std::fs::copy(shipped.join(PHOTOS[0]), dir.path().join("outside.jpg"))?;
    // Named to break a page, and no image: it must not keep the server from anything.
    std::fs::write(photos.join("<i>&.png"), "no image")?;
    Ok((dir, photos, data))
}

#[test]
fn variants_are_cached_validated_and_refused_when_they_make_no_sense() -> Result {
    let (_dir, photos, data) = workspace()?;
    let server = Server::start(&photos, &data)?;
    assert!(server.greeting.contains("seeded"), "{}", server.greeting);
    let miss = server.get("/img/china.jpg?w=200&format=png")?;
    miss.assert_image("miss");
    let hit = server.get("/img/china.jpg?format=png&w=200")?;
    hit.assert_image("hit");
    assert!(!hit.header("etag").is_empty());
    assert_eq!(hit.header("etag"), miss.header("etag"));
    assert_eq!(hit.body, miss.body);
    assert_eq!(hit.header("content-type"), "image/png");
    let asked = format!("If-None-Match: \"other\", {}\r\n", hit.header("etag"));
    let known = server.ask("GET", "/img/china.jpg?w=200&format=png", &asked)?;
    assert_eq!((known.status, known.body.len()), (304, 0));
    assert_eq!(known.header("etag"), hit.header("etag"));

    let png = image::load_from_memory_with_format(&hit.body, ImageFormat::Png)?;
    assert_eq!((png.width(), png.height()), (200, 133));
    let jpeg = server.get("/img/china.jpg?w=100&h=100")?;
    jpeg.assert_image("miss");
    let jpeg = image::load_from_memory_with_format(&jpeg.body, ImageFormat::Jpeg)?;
    assert_eq!((jpeg.width(), jpeg.height()), (100, 67));
    let whole = server.get("/img/china.jpg?w=4096")?;
    let whole = image::load_from_memory_with_format(&whole.body, ImageFormat::Jpeg)?;
    assert_eq!((whole.width(), whole.height()), (640, 427), "never enlarged");
    let webp = server.get("/img/flower.jpg?w=150&format=webp")?;
    assert_eq!(webp.header("content-type"), "image/webp");
    let webp = webp::Decoder::new(&webp.body).decode().ok_or("no WebP")?;
    assert_eq!(webp.width(), 150);
    assert_refusals(&server)
}

fn assert_refusals(server: &Server) -> Result {
    for query in [
        "w=0",
        "w=4097",
        "w=-1",
        "w=ten",
        "w=",
        "h=99999999999999",
        "format=gif",
        "w=1&w=2",
        "q=3",
        "w=%ff",
    ] {
        let answer = server.get(&format!("/img/china.jpg?{query}"))?;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
        assert!(answer.body.len() > 10, "{query} is refused without a reason");
    }
    for target in [
        "/img/absent.jpg",
        "/img/..%2Foutside.jpg",
        "/img/..%2F..%2Fetc%2Fpasswd",
        "/img/%2e%2e%2foutside.jpg",
        "/img/../outside.jpg",
        "/img/.%2Fchina.jpg",
        "/img/china.jpg%2F",
        "/img/china.jpg%00",
        "/img/",
        "/elsewhere",
    ] {
        let answer = server.get(target)?;
        assert_eq!(answer.status, 404, "{target}: {}", answer.text());
    }
    assert_eq!(server.get("/img/%ff.jpg")?.status, 400);
    assert_eq!(server.ask("POST", "/img/china.jpg", "")?.status, 405);
    Ok(())
}

#[test]
fn a_purge_survives_a_kill_and_so_does_what_was_not_purged() -> Result {
    let (_dir, photos, data) = workspace()?;
    let server = Server::start(&photos, &data)?;
    let variants = ["w=200", "w=210&format=png", "w=64&format=webp", "h=50"];
    for photo in PHOTOS {
        for query in variants {
            server.get(&format!("/img/{photo}?{query}"))?;
            server.get(&format!("/img/{photo}?{query}"))?.assert_image("hit");
        }
    }
    let purged = server.ask("DELETE", "/img/china.jpg", "")?;
    assert_eq!(purged.status, 200, "{}", purged.text());
    let purged: serde_json::Value = serde_json::from_slice(&purged.body)?;
    let receipt = &purged["receipt"];
    assert!(receipt["sequence"].as_u64() > Some(0), "{purged}");
    assert_eq!(receipt["target"], "tag");
    assert!(receipt["at"].as_str() < receipt["persist_by"].as_str(), "{purged}");
    assert!(receipt["persist_by"].as_str() <= receipt["gone_by"].as_str(), "{purged}");
    server.get("/img/china.jpg?w=200")?.assert_image("miss");
    server.kill()?;

    let server = Server::start(&photos, &data)?;
    assert!(server.greeting.contains("nothing is seeded"), "{}", server.greeting);
    for query in variants {
        server.get(&format!("/img/flower.jpg?{query}"))?.assert_image("hit");
    }
    server.get("/img/china.jpg?w=200")?.assert_image("hit");
    for query in &variants[1..] {
        server.get(&format!("/img/china.jpg?{query}"))?.assert_image("miss");
    }
    assert!(server.stop()?.contains("Store closed."));
    Ok(())
}

#[test]
fn the_page_shows_what_there_is_and_no_address_is_kept() -> Result {
    let (_dir, photos, data) = workspace()?;
    let server = Server::start(&photos, &data)?;
    assert_eq!(server.get("/img/china.jpg?w=77&format=webp")?.status, 200);
    assert_eq!(server.get("/img/%3Ci%3E&.png?w=77")?.status, 500, "it is no image");
    let page = server.get("/")?;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    let page = page.text();
    for photo in PHOTOS {
        assert!(page.contains(&format!("/img/{photo}?w=240&amp;format=webp")), "{photo}");
        let thumbnail = server.get(&format!("/img/{photo}?w=240&format=webp"))?;
        thumbnail.assert_image("hit");
    }
    assert!(page.contains("/img/%3Ci%3E%26.png?") && page.contains("&lt;i&gt;&amp;.png"));
    assert!(!page.contains("<i>") && !page.contains("<b>&quot;") && !page.contains("tester <b>"));
    let row = "GET /img/china.jpg?w=77&amp;format=webp 200";
    assert!(page.contains(row), "{page}");
    assert!(page.contains("an access log of 2015-05"), "{page}");
    assert!(page.matches("<meter").count() > 30 + 14 + 4, "{page}");
    server.stop()?;

    let mut files = 0;
    for (path, bytes) in all_files(&data)? {
        files += 1;
        for address in ["127.0.0.1", "198.18.", "198.19."] {
            let found = bytes.windows(address.len()).any(|window| window == address.as_bytes());
            assert!(!found, "{address} is in {}", path.display());
        }
    }
    assert!(files > 50, "only {files} files");
    Ok(())
}

/// Every file under a directory with its content.
fn all_files(dir: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(all_files(&path)?);
        } else {
            files.push((path.clone(), std::fs::read(&path)?));
        }
    }
    Ok(files)
}
