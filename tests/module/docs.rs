//! What README.md and docs/ show as configuration, nginx takes: examples of directives in every context
//! that they name, statements in the text, and blocks of code.

use crate::prelude::*;
use std::path::Path;

/// README.md and the pages in docs/, but for those that tests write.
fn pages() -> Vec<String> {
    let entries = fs::read_dir(root().join("docs")).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().to_string_lossy()))
        .collect();
    names.retain(|name| name.ends_with(".md") && name != "docs/parity.md");
    names.push("README.md".into());
    names.sort();
    names
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

/// Paths that are there on a server, and here below the prefix.
fn translated(text: &str) -> String {
    text.replace("/etc/nginx/tls/", "@dir@/tls/").replace("/var/cache/nginx/", "@dir@/")
}

/// A configuration of these parts, in which the files are there that examples name.
struct Examples {
    files: Builder,
}

impl Examples {
    fn new() -> Examples {
        let authority = Authority::root("Authority");
        let client = authority.issue("client");
        let files = Nginx::builder()
            .file("tls/ca.pem", authority.pem().as_bytes())
            .file("tls/revoked.pem", authority.revoke(&[]).as_bytes())
            .file("tls/client.pem", client.pem.as_bytes())
            .file("tls/client.key", client.key_pem().as_bytes())
            .file("tls/passwords", b"password\n");
        Examples { files }
    }

    /// The parts are what stands in `http`, `upstream`, `server` and `location`.
    fn check(&self, [http, upstream, server, location]: [&str; 4]) -> Check {
        // what an example may need beside it
        let needed = [
            ("rs_uwsgi_cache_path", "@dir@/pages keys_zone=pages:1m"),
            ("rs_uwsgi_ssl_certificate_key", "/etc/nginx/tls/client.key"),
            ("rs_uwsgi_ssl_trusted_certificate", "/etc/nginx/tls/ca.pem"),
        ];
        let needed: String = needed
            .iter()
            .filter(|(name, _)| !http.contains(name))
            .map(|(name, value)| format!("{name} {value};\n"))
            .collect();
        let is_whole = |text| location.contains(text);
        let pass = match is_whole("rs_uwsgi_pass ") || is_whole("rs_uwsgi_status;") {
            true => "",
            false => "rs_uwsgi_pass suwsgi://app;",
        };
        self.files
            .clone()
            .http(&translated(&format!(
                "{needed}{http}
                 upstream app {{ server unix:/none; {upstream} }}
                 server {{ listen 127.0.0.1:@port@; {server} location / {{ {location} {pass} }} }}"
            )))
            .check()
    }
}

#[test]
fn examples_of_directives() {
    let (examples, text) = (Examples::new(), read("docs/directives.md"));
    let mut count = 0;
    for section in text.split("\n### ").skip(1) {
        let (name, section) = section.split_once('\n').unwrap();
        if name.starts_with('$') {
            break;
        }
        let value = |key: &str| section.split_once(key).unwrap().1.split('\n').next().unwrap();
        let example = value("- Example: ").trim_matches('`');
        let is_its = [' ', ';'].iter().any(|end| example.starts_with(&format!("{name}{end}")));
        assert!(is_its, "{example}");
        let mut parts = [const { String::new() }; 4];
        for context in value("- Context: ").split(", ") {
            match context {
                // every configuration of the tests has one
                "http" if name == "rs_uwsgi_temp_path" => {}
                "http" => parts[0] = example.to_string(),
                "upstream" => parts[1] = example.to_string(),
                "server" => parts[2] = example.to_string(),
                "location" => parts[3].insert_str(0, example),
                "if in location" => parts[3].push_str(&format!("if ($arg_a) {{ {example} }}")),
                _ => panic!("{name}: {context}"),
            }
        }
        let said = examples.check(parts.each_ref().map(String::as_str));
        // "(from nginx 1.27.4)"
        let is_newer = value("- Syntax: ").contains("(from nginx")
            && said.stderr.contains(&format!("unknown directive \"{name}\""));
        assert!(said.status.success() || is_newer, "{example}\n{}", said.stderr);
        count += 1;
    }
    assert!(count > 60, "{count}");
}

/// GitHub's and mdbook's anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || "_- ".contains(*c));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

/// Each link to a file of this project leads to one, and one with an anchor to a heading of it.
#[test]
fn links_lead_somewhere() {
    let mut names = pages();
    names.extend(
        ["ARCHITECTURE.md", "CONTRIBUTING.md", "RELEASING.md", "SECURITY.md", "docs/parity.md"]
            .map(String::from),
    );
    let mut count = 0;
    for name in names {
        let folder = Path::new(&name).parent().unwrap();
        for link in read(&name).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, to) = link.split_once('#').unwrap_or((link, ""));
            let file = match file.is_empty() {
                true => name.clone(),
                false => folder.join(file).display().to_string(),
            };
            assert!(root().join(&file).exists(), "{name}: {link}");
            let is_there =
                |line: &str| line.starts_with('#') && anchor(line.trim_start_matches('#')) == to;
            assert!(to.is_empty() || read(&file).lines().any(is_there), "{name}: {link}");
            count += 1;
        }
    }
    assert!(count > 80, "{count}");
}

#[test]
fn the_readme_is_a_page() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 150, "{lines} lines");
}

/// Statements in the text: all between two backquotes that ends as one, or is a directive with its arguments.
#[test]
fn statements() {
    let examples = Examples::new();
    let mut count = 0;
    for name in pages() {
        // what stands between two lines of backquotes has a test of its own
        let text: String = read(&name).split("```").step_by(2).collect();
        let is_metric = |span: &str| span.starts_with("rs_uwsgi_upstream_");
        let is_directive = |span: &str| {
            span.starts_with("rs_uwsgi_") && span.contains([' ', '\n']) && !is_metric(span)
        };
        for span in text.split('`').skip(1).step_by(2) {
            let statement = &match span {
                _ if span.ends_with(';') => span.to_string(),
                _ if is_directive(span) => format!("{span};"),
                _ => continue,
            };
            // defined in a block beside it
            let map = match statement.contains("$has_no_length") {
                true => "map $upstream_http_content_length $has_no_length { default 0; }",
                false => "",
            };
            let parts = match statement.split(' ').next().unwrap() {
                "log_format" => [statement, "", "", ""],
                // in the test above
                _ if name == "docs/directives.md" && span.ends_with(';') => continue,
                "include" => continue,
                "rs_uwsgi_zone" => [statement, "", "", ""],
                _ => [map, "", "", statement],
            };
            let said = examples.check(parts);
            assert!(said.status.success(), "{name}: {statement}\n{}", said.stderr);
            count += 1;
        }
    }
    assert!(count > 25, "{count}");
}

/// What the tests here would not look at.
#[test]
fn no_configuration_is_out_of_sight() {
    for name in pages() {
        let page = read(&name);
        for (index, part) in page.split("```").enumerate() {
            let is_block = index % 2 == 1;
            if is_block && !part.starts_with('\n') {
                continue;
            }
            let is_code = |line: &&str| {
                (is_block || line.starts_with("    "))
                    && [';', '{', '}'].iter().any(|end| line.ends_with(*end))
            };
            let line = part.lines().find(is_code);
            assert_eq!(
                line, None,
                "{name}: a configuration of nginx stands between ```nginx and ```"
            );
        }
    }
}

#[test]
fn blocks() {
    const LOAD: &str = "load_module modules/ngx_http_rs_uwsgi_module.so;";
    let load = format!("load_module {};", module_path().display());
    for name in pages() {
        for block in read(&name).split("```nginx\n").skip(1) {
            let block = block.split("```").next().unwrap();
            let said = match block.strip_prefix(LOAD) {
                // the line alone: it is in all configurations
                Some("\n") => continue,
                Some(rest) => {
                    let rest = rest
                        .replace("listen 80;", "listen 127.0.0.1:@port@;")
                        .replace("http {", "http {\naccess_log off;");
                    let own = "pid @dir@/nginx.pid; error_log @dir@/error.log;";
                    Nginx::builder().whole(&format!("{load}\n{own}\n{rest}")).check()
                }
                None if block.starts_with("location ") => {
                    let server = format!("server {{ listen 127.0.0.1:@port@; {block} }}");
                    Nginx::builder().http(&server).check()
                }
                None => Nginx::builder().http(block).check(),
            };
            assert!(said.status.success(), "{name}:\n{block}\n{}", said.stderr);
        }
    }
}
