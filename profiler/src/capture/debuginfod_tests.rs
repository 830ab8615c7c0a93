//! Servers of this machine that have a file, have none, or do worse.

use super::*;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const WANTED: &str = "00112233445566778899aabbccddeeff00112233";

/// The least of an ELF file that has a build ID.
fn elf_with(build_id: &str) -> Vec<u8> {
    let id: Vec<u8> = (0..build_id.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&build_id[at..at + 2], 16).expect("hexadecimal"))
        .collect();
    let mut note = Vec::new();
    for word in [4, id.len() as u32, 3] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"GNU\0");
    note.extend(&id);
    let names = b"\0.note.gnu.build-id\0.shstrtab\0";
    let sections = 64 + note.len() + names.len();
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    file.resize(40, 0);
    file.extend((sections as u64).to_le_bytes());
    file.resize(52, 0);
    for half in [64_u16, 0, 0, 64, 3, 2] {
        file.extend(half.to_le_bytes());
    }
    file.extend(&note);
    file.extend(names);
    file.resize(sections + 64, 0);
    for (name, kind, offset, size) in [
        (1_u32, 7_u32, 64, note.len()),
        (20, 3, 64 + note.len(), names.len()),
    ] {
        file.extend(name.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend([0; 16]);
        file.extend((offset as u64).to_le_bytes());
        file.extend((size as u64).to_le_bytes());
        file.extend([0; 8]);
        file.extend(4_u64.to_le_bytes());
        file.extend([0; 8]);
    }
    file
}

/// A server that does the same to everyone who comes.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    last: Arc<Mutex<String>>,
}

impl Server {
    fn start(answer: impl Fn(&mut TcpStream) -> io::Result<()> + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (asked, last) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(Mutex::new(String::new())),
        );
        let (count, words) = (Arc::clone(&asked), Arc::clone(&last));
        // It ends with the tests' process.
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap_or(0);
                count.fetch_add(1, Ordering::SeqCst);
                *words.lock().expect("no panic") =
                    String::from_utf8_lossy(&request[..length]).into_owned();
                // Whoever asked may have gone.
                let _ = answer(&mut stream);
            }
        });
        Server {
            address,
            asked,
            last,
        }
    }

    fn with(status: &'static str, body: Vec<u8>) -> Server {
        Server::start(move |stream| {
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            )?;
            stream.write_all(&body)
        })
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn servers(of: &[&Server], cache: &Path) -> Debuginfod {
    Debuginfod {
        servers: of.iter().map(|server| server.url()).collect(),
        cache: cache.to_owned(),
        timeout: Duration::from_secs(10),
        max_size: 1 << 20,
    }
}

/// What is found, and what was remarked.
fn find(servers: &Debuginfod) -> (Option<PathBuf>, Vec<String>) {
    let mut remarks = Vec::new();
    let found = Questions::new(servers).find(WANTED, &mut remarks);
    (found, remarks)
}

/// Files of the cache, whatever they are called.
fn kept(cache: &Path) -> usize {
    let folder = fs::read_dir(cache.join(WANTED));
    folder.map_or(0, Iterator::count)
}

#[test]
fn a_file_comes_once_and_is_kept() {
    let cache = tempfile::tempdir().expect("a folder");
    let without = Server::with("404 Not Found", b"no such file".to_vec());
    let with = Server::with("200 OK", elf_with(WANTED));
    let servers = servers(&[&without, &with], cache.path());
    for _ in 0..2 {
        let (found, remarks) = find(&servers);
        let found = found.expect("found");
        assert_eq!(found, cache.path().join(WANTED).join("debuginfo"));
        assert_eq!(fs::read(&found).expect("reads"), elf_with(WANTED));
        assert!(remarks.is_empty(), "{remarks:?}");
        assert_eq!((without.asked(), with.asked()), (1, 1));
    }
    let asked = with.last.lock().expect("no panic").clone();
    assert!(
        asked.starts_with(&format!("GET /buildid/{WANTED}/debuginfo HTTP/1.1\r\n")),
        "{asked}"
    );
    assert_eq!(kept(cache.path()), 1, "nothing else is left");
}

#[test]
fn what_nobody_has_is_no_failure() {
    let cache = tempfile::tempdir().expect("a folder");
    let without = Server::with("404 Not Found", Vec::new());
    assert_eq!(
        find(&servers(&[&without], cache.path())),
        (None, Vec::new())
    );
    assert_eq!(kept(cache.path()), 0);
}

#[test]
fn a_file_of_another_build_is_not_kept() {
    let cache = tempfile::tempdir().expect("a folder");
    for body in [
        elf_with(&WANTED.replace('0', "1")),
        b"<html>".to_vec(),
        Vec::new(),
    ] {
        let wrong = Server::with("200 OK", body);
        let (found, remarks) = find(&servers(&[&wrong], cache.path()));
        assert_eq!(found, None);
        assert!(
            remarks[0].ends_with("it sent a file of another build"),
            "{remarks:?}"
        );
        assert_eq!(kept(cache.path()), 0);
    }
}

#[test]
fn a_file_that_is_too_large_is_not_kept() {
    let cache = tempfile::tempdir().expect("a folder");
    let mut body = elf_with(WANTED);
    body.resize(5_000, 0);
    let large = Server::with("200 OK", body);
    let mut servers = servers(&[&large], cache.path());
    servers.max_size = 4_999;
    let (found, remarks) = find(&servers);
    assert_eq!(found, None);
    assert!(
        remarks[0].ends_with("the file has more than 4999 bytes"),
        "{remarks:?}"
    );
    assert_eq!(kept(cache.path()), 0);
    servers.max_size = 5_000;
    assert!(find(&servers).0.is_some());
}

#[test]
fn a_server_that_says_nothing_is_asked_once() {
    let cache = tempfile::tempdir().expect("a folder");
    let silent = Server::start(|stream| {
        // Until the other side gives up.
        stream.read(&mut [0]).map(drop)
    });
    let mut servers = servers(&[&silent], cache.path());
    servers.timeout = Duration::from_millis(300);
    let begun = std::time::Instant::now();
    let questions = Questions::new(&servers);
    let mut remarks = Vec::new();
    for wanted in [WANTED, &WANTED.replace('0', "1"), &WANTED.replace('0', "2")] {
        assert_eq!(questions.find(wanted, &mut remarks), None);
    }
    assert_eq!((remarks.len(), silent.asked()), (1, 1), "{remarks:?}");
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_body_that_is_cut_off_is_not_kept() {
    let cache = tempfile::tempdir().expect("a folder");
    let cut = Server::start(|stream| {
        let body = elf_with(WANTED);
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            body.len() + 1
        )?;
        stream.write_all(&body)
    });
    let (found, remarks) = find(&servers(&[&cut], cache.path()));
    assert_eq!((found, remarks.len()), (None, 1), "{remarks:?}");
    assert_eq!(kept(cache.path()), 0);
}

#[test]
fn a_build_id_leads_to_no_other_path() {
    let cache = tempfile::tempdir().expect("a folder");
    let server = Server::with("200 OK", elf_with(WANTED));
    let servers = servers(&[&server], cache.path());
    for hostile in ["", "a", "../../etc", "aa/../bb", "aa%2e", "ä1"] {
        assert_eq!(
            Questions::new(&servers).find(hostile, &mut Vec::new()),
            None
        );
    }
    assert_eq!(server.asked(), 0);
}
