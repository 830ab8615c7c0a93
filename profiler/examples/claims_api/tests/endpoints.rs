//! Every endpoint answers, and the service ends with its standard input.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

struct Service {
    child: Child,
    addr: String,
}

impl Service {
    fn start() -> Result<Service> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_claims_api"))
            .args([
                "--workers",
                "2",
                "--directory-host",
                "localhost",
                "--exit-with-stdin",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
        let pid = format!("pid={}", child.id());
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["listening", "on", addr, told] if *told == pid => Ok(Service {
                child,
                addr: (*addr).to_owned(),
            }),
            _ => Err(format!("unexpected first line: {line:?}").into()),
        }
    }

    fn ask(&self, method: &str, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or("no end of the headers")?;
        if head.starts_with("HTTP/1.1 200 ") {
            Ok(body.to_owned())
        } else {
            Err(format!("{method} {path}: {answer}").into())
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn both_versions_of_every_endpoint_answer_alike() -> Result {
    let service = Service::start()?;
    assert_eq!(service.ask("GET", "/health")?, "ok");
    for version in ["/v1", "/v2"] {
        let ask = |method, path| service.ask(method, &format!("{version}{path}"));
        assert_eq!(
            ask("GET", "/claims/7/eligibility")?,
            r#"{"claim":7,"covered":true}"#
        );
        assert!(ask("POST", "/claims/7/letter")?.starts_with(r#"{"claim":7,"bytes":"#));
        assert_eq!(
            ask("POST", "/claims/7/price")?,
            r#"{"claim":7,"member_pays_cents":12950}"#
        );
        assert_eq!(
            ask("POST", "/claims/7/submission")?,
            r#"{"claim":7,"attempts":3}"#
        );
        assert_eq!(
            ask("GET", "/claims/7/fraud-score")?,
            r#"{"claim":7,"score":27}"#
        );
        assert!(ask("POST", "/members/3/claims")?.starts_with(r#"{"claim":"#));
        assert!(ask("GET", "/members/3/charges")?.starts_with(r#"{"member":3,"claims":"#));
        assert!(ask("GET", "/directory")?.contains(":5432\""));
    }
    let both = service.ask("GET", "/v1/members/3/charges")?;
    assert_eq!(both, r#"{"member":3,"claims":2,"cents":25900}"#);
    Ok(())
}

#[test]
fn the_service_ends_when_its_standard_input_closes() -> Result {
    let mut service = Service::start()?;
    drop(service.child.stdin.take());
    let deadline = Instant::now() + Duration::from_secs(15);
    while Instant::now() < deadline {
        if let Some(status) = service.child.try_wait()? {
            assert!(status.success(), "{status}");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err("still running after 15 s".into())
}
