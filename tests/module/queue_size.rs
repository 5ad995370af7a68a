//! A queue for which nginx has not connections enough is told of when the configuration is read.

use crate::prelude::*;

fn warnings(workers: usize, connections: usize, http: &str) -> Vec<String> {
    let whole = format!(
        "load_module {};\nworker_processes {workers};\npid @dir@/nginx.pid;\nerror_log @dir@/error.log;\n\
         events {{ worker_connections {connections}; }}\nhttp {{\naccess_log off;\n{http}\n}}\n",
        module_path().display()
    );
    let check = Nginx::builder().whole(&whole).check();
    assert!(check.status.success(), "{}", check.stderr);
    let said = check.stderr.lines().filter(|line| line.contains("[warn]"));
    said.map(str::to_string).collect()
}

#[test]
fn larger_than_the_connections_of_all_workers() {
    let server = "server { listen unix:@dir@/s;
        location /a { rs_uwsgi_pass unix:/a; } location /b { rs_uwsgi_pass unix:/b; } }";
    // one directive, two upstreams
    let http = format!("rs_uwsgi_queue 5000 timeout=10s;\n{server}");
    let said = warnings(2, 4999, &http);
    assert_eq!(said.len(), 1, "{said:?}");
    let text = "\"rs_uwsgi_queue 5000 timeout=10s\" in @dir@/nginx.conf:";
    let why = " allows more requests to wait than there are connections for: each needs two, and \
               \"worker_connections\" of all workers are 9998";
    assert!(said[0].contains(text) && said[0].ends_with(why), "{said:?}");
    assert!(warnings(2, 5000, &http).is_empty());
    assert!(warnings(4, 2500, &http).is_empty());
    // what is not said
    assert!(warnings(1, 512, server).is_empty());
    // that of a block
    let block = "upstream u { server unix:/u; rs_uwsgi_queue 300; }
        server { listen unix:@dir@/s; location / { rs_uwsgi_pass u; } }";
    assert_eq!(warnings(1, 512, block).len(), 1);
}
