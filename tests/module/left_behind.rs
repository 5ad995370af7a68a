//! Directives of stock's that are left behind beside `rs_uwsgi_pass`: valid for nginx, and without effect.
//! The log says so when the configuration is read.

use crate::support::client::get;
use crate::support::nginx::Nginx;
use crate::support::programs::module_path;
use crate::support::wait_for;
use std::fs;

/// The warnings of a configuration of one server, each with the line that it names in the site's file.
fn warnings(http: &str, location: &str, snippet: &str) -> Vec<String> {
    let nginx = Nginx::builder()
        .file("snippet.conf", snippet.as_bytes())
        .file("site.conf", format!("location / {{\n{location}\n}}").as_bytes());
    let said = nginx
        .http(&format!("{http} server {{ listen 127.0.0.1:@port@; include @dir@/site.conf; }}"))
        .check();
    assert!(said.status.success(), "{}", said.stderr);
    let lines = said.stderr.lines().filter_map(|line| line.split_once("[warn] "));
    lines.map(|(_, text)| text.replace("@dir@/", "")).collect()
}

const PASS: &str = "rs_uwsgi_pass unix:/none;";

#[test]
fn what_a_snippet_still_says() {
    let said = warnings(
        "",
        &format!("include @dir@/snippet.conf;\nuwsgi_buffering off;\n{PASS}"),
        "uwsgi_param X_TENANT one;\nuwsgi_param X_OTHER two;\nuwsgi_read_timeout 300s;\n",
    );
    assert_eq!(
        said,
        [
            "\"uwsgi_param X_TENANT\" in snippet.conf:1 has no effect on \"rs_uwsgi_pass\" in \
             site.conf:4, \"rs_uwsgi_param\" has",
            "\"uwsgi_read_timeout\" in snippet.conf:3 has no effect on \"rs_uwsgi_pass\" in \
             site.conf:4, \"rs_uwsgi_read_timeout\" has",
            "\"uwsgi_buffering\" in site.conf:3 has no effect on \"rs_uwsgi_pass\" in site.conf:4, \
             \"rs_uwsgi_buffering\" has",
        ]
    );
}

#[test]
fn what_the_blocks_around_say() {
    let said =
        warnings("uwsgi_read_timeout 300s; uwsgi_cache_path /none keys_zone=a:1m;", PASS, "");
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].starts_with("\"uwsgi_read_timeout\" in nginx.conf:"), "{said:#?}");
}

/// Nothing is said where both are there, as while sites are migrated one by one.
#[test]
fn twins() {
    for (http, location) in [
        ("uwsgi_read_timeout 300s; rs_uwsgi_read_timeout 300s;", PASS),
        ("uwsgi_read_timeout 300s;", "rs_uwsgi_read_timeout 9s; rs_uwsgi_pass unix:/none;"),
        ("uwsgi_param QUERY_STRING $query_string;", PASS),
        ("uwsgi_read_timeout 300s; uwsgi_param X y;", "uwsgi_pass unix:/none;"),
        ("uwsgi_read_timeout 300s;", "return 204;"),
    ] {
        let said = warnings(http, location, "");
        assert!(said.is_empty(), "{http} {location}: {said:#?}");
    }
}

#[test]
fn both_in_one_location() {
    let said = warnings("", &format!("{PASS}\nuwsgi_pass unix:/none;"), "");
    assert_eq!(
        said,
        ["\"uwsgi_pass\" in site.conf:3 and \"rs_uwsgi_pass\" in site.conf:2 are in one location, \
          the last one counts"]
    );
}

#[test]
fn parameters_without_a_method() {
    let said = warnings("", &format!("rs_uwsgi_param X_TENANT one;\n{PASS}"), "");
    assert_eq!(said.len(), 1, "{said:#?}");
    let begin = "no \"rs_uwsgi_param\" REQUEST_METHOD for \"rs_uwsgi_pass\" in site.conf:3: ";
    assert!(said[0].starts_with(begin), "{said:#?}");
    let whole = "rs_uwsgi_param X_TENANT one; rs_uwsgi_param REQUEST_METHOD $request_method;";
    assert!(warnings("", &format!("{whole} {PASS}"), "").is_empty());
}

/// The tables of directives are nginx's own again: after a configuration that is refused, and in one that
/// does not load the module, whose library is closed then.
#[test]
fn reloads_of_every_kind() {
    let nginx = Nginx::builder()
        .http(
            "server { listen 127.0.0.1:@port@;
                location / { uwsgi_read_timeout 9s; rs_uwsgi_pass unix:/none; } }",
        )
        .expects("rs_uwsgi_no_such_thing")
        .expects("No such file or directory")
        .start();
    let file = nginx.path("nginx.conf");
    let good = fs::read_to_string(&file).unwrap();
    let module = module_path().display().to_string();
    let ours = [module.as_str(), "rs_uwsgi_temp_path"];
    let without: Vec<_> =
        good.lines().filter(|line| !ours.iter().any(|ours| line.contains(ours))).collect();
    assert_eq!(without.len() + 2, good.lines().count());
    let without = without.join("\n").replace("rs_uwsgi_", "uwsgi_");
    let wrong = good.replace("rs_uwsgi_pass", "rs_uwsgi_no_such_thing on; uwsgi_pass");
    let write = |text: &str| {
        let new = nginx.path("nginx.conf.new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &file).unwrap();
    };
    for count in 1..=3 {
        write(&wrong);
        nginx.signal(libc::SIGHUP);
        wait_for("nginx to refuse it", || {
            (nginx.logged("rs_uwsgi_no_such_thing").len() == count).then_some(())
        });
        for text in [&without, &good] {
            write(text);
            nginx.reload();
            assert_eq!(get(nginx.address(), "/").status, 502);
        }
    }
}
