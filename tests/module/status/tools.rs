//! What other programs make of it: promtool, a Prometheus that scrapes, a validator of JSON's schemas.

use super::{Metrics, STATUS};
use crate::prelude::*;
use crate::support::process::{command, Process};
use std::io::Write;
use std::process::Stdio;

/// A site with requests behind it, and with names that must not be taken for anything else.
fn site() -> Site {
    let site = Site::answering(&format!(
        "upstream \"a<script>alert(1)<script>'&\" {{ server @pass@; server 127.0.0.1:1 down backup weight=3; }}
         server {{
            listen 127.0.0.1:@port@;
            location / {{
                rs_uwsgi_status_zone \"</script>$arg_name\";
                rs_uwsgi_pass \"a<script>alert(1)<script>'&\";
            }}
            location /gone {{ rs_uwsgi_max_connections 7; rs_uwsgi_pass 127.0.0.1:1; }}
            {STATUS}
         }}"
    ));
    for _ in 0..5 {
        assert_eq!(get(site.nginx.address(), "/?name=%22x").status, 200);
    }
    assert_eq!(get(site.nginx.address(), "/gone").status, 502);
    site
}

/// Runs a program with this input; what it says where it fails.
fn run(program: &str, arguments: &[&str], input: &[u8]) -> Result<String, String> {
    let mut command = command(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("{program}: {e}"))?;
    child.stdin.take().unwrap().write_all(input).map_err(|e| e.to_string())?;
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(said)
    }
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let site = site();
    let metrics = get(site.nginx.address(), "/status/metrics");
    assert!(metrics.text().contains("upstream=\"a<script>alert(1)<script>'&\""));
    let said = run("promtool", &["check", "metrics"], &metrics.body);
    assert_eq!(said, Ok(String::new()));
}

/// A real Prometheus scrapes, asks for OpenMetrics, and answers a query.
#[test]
fn prometheus_scrapes() {
    let site = site();
    let dir = nginx::prefix();
    let port = nginx::free_port();
    let conf = format!(
        "global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: nginx
    metrics_path: /status/metrics
    static_configs: [{{targets: ['{}']}}]
",
        site.nginx.address()
    );
    fs::write(dir.path().join("prometheus.yml"), conf).unwrap();
    let mut command = command("prometheus");
    command.arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()));
    command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let _prometheus = Process::spawn(command).unwrap();
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    let query = |query: &str| {
        std::net::TcpStream::connect(to).ok()?;
        let response = get(to, &format!("/api/v1/query?query={query}"));
        Some(response.text()).filter(|text| text.contains("\"value\""))
    };
    let text = wait_for("Prometheus to answer", || query("sum(rs_uwsgi_upstream_requests_total)"));
    assert!(text.contains("\"5\"]"), "{text}");
    let text = query("histogram_quantile(0.5,rs_uwsgi_upstream_vars_bytes_bucket)").unwrap();
    assert!(text.contains("upstream"), "{text}");
    let info = query("rs_uwsgi_build_info").unwrap();
    assert!(info.contains(&format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"))), "{info}");
    // it has asked for OpenMetrics, as it does
    let open = get_with(
        site.nginx.address(),
        "/status/metrics",
        "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n",
    );
    assert!(open.text().ends_with("\n# EOF\n"));
}

#[test]
fn json_is_what_its_schema_says() {
    let site = site();
    let schema = root().join("docs/status.schema.json");
    let check = "import json, jsonschema, sys
schema = json.load(open(sys.argv[1]))
jsonschema.Draft202012Validator.check_schema(schema)
jsonschema.validate(json.load(sys.stdin), schema)";
    let arguments = ["-c", check, schema.to_str().unwrap()];
    for path in ["/status/json", "/status/json?history=0", "/status/json?history=3&x=<script>"] {
        let json = get(site.nginx.address(), path);
        assert!(!json.text().contains("<script>"), "{path}");
        assert_eq!(run("/usr/bin/python3", &arguments, &json.body), Ok(String::new()), "{path}");
    }
    let example = fs::read(root().join("docs/status.example.json")).unwrap();
    assert_eq!(run("/usr/bin/python3", &arguments, &example), Ok(String::new()));
}

/// So many servers that it takes many parts: all of them are there, whoever reads slowly.
#[test]
fn a_thousand_servers() {
    let servers: String =
        (0..1000).map(|n| format!("server 127.0.{}.{}:1 down;", n / 250, n % 250 + 1)).collect();
    let site = Site::answering(&format!(
        "upstream many {{ server @pass@; {servers} }}
         server {{
            listen 127.0.0.1:@port@;
            location / {{ rs_uwsgi_pass many; }}
            {STATUS}
         }}"
    ));
    assert_eq!(get(site.nginx.address(), "/").status, 200);
    let metrics = Metrics::of(&site.nginx);
    assert_eq!(metrics.sum("upstream_server_state", &[]), 1.0 + 1000.0 * 3.0);
    let json = get(site.nginx.address(), "/status/json").text();
    assert_eq!(json.matches("\"state\":\"down\"").count(), 1000);
    // one that reads nothing for a while stops nobody
    let mut slow = Client::connect(site.nginx.address());
    slow.send(b"GET /status/metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    for _ in 0..20 {
        assert_eq!(get(site.nginx.address(), "/").status, 200);
    }
    assert_eq!(slow.response(false).unwrap().status, 200);
    // one that leaves
    let mut gone = Client::connect(site.nginx.address());
    gone.send(b"GET /status/metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    gone.read_head().unwrap();
    drop(gone);
    assert_eq!(get(site.nginx.address(), "/").status, 200);
    site.nginx.assert_clean();
}
