//! packaging/rs-uwsgi-migrate: a site to this module and back, in the forms that people write, checked by
//! nginx.

use crate::support::process;
use crate::support::programs::{module_path, nginx_path};
use crate::support::root;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;
use tempfile::TempDir;

const SITE: &str = "# uwsgi_pass stays in a comment
uwsgi_cache_path @dir@/pages keys_zone=uwsgi_pages:1m;
upstream uwsgi_app { server unix:/run/uwsgi_app.sock; }
server {
    listen unix:@dir@/nginx.sock;
    location / { include uwsgi_params;uwsgi_pass  uwsgi_app; # uwsgi_pass
        uwsgi_cache uwsgi_pages; uwsgi_cache_key \"uwsgi_pass $uri; uwsgi_x\";}
    location /two {
\t\tinclude @dir@/uwsgi_params;
\t\tuwsgi_param A 'uwsgi_b; uwsgi_c'; include snippets/*.conf;
        uwsgi_pass unix:/run/uwsgi_app.sock;
        add_header X-Note ${uri}uwsgi_pass;
    }
}
";
const SNIPPET: &str = "uwsgi_param X_TENANT one;\nuwsgi_read_timeout 300s;\n";

/// A prefix of nginx's with a site in it.
struct Prefix {
    folder: TempDir,
}

impl Prefix {
    fn new(site: &str) -> Prefix {
        let prefix = Prefix { folder: tempfile::tempdir().unwrap() };
        let dir = prefix.folder.path().display();
        fs::create_dir(prefix.path("snippets")).unwrap();
        prefix.write("snippets/app.conf", SNIPPET);
        prefix.write("site", &site.replace("@dir@", &dir.to_string()));
        for name in ["uwsgi_params", "rs_uwsgi_params"] {
            let params = fs::read_to_string(root().join("nginx-conf/rs_uwsgi_params")).unwrap();
            let prefix_of_names = name.strip_suffix("uwsgi_params").unwrap();
            prefix.write(name, &params.replace("\nrs_", &format!("\n{prefix_of_names}")));
        }
        prefix.write(
            "nginx.conf",
            &format!(
                "load_module {}; pid {dir}/pid; error_log {dir}/error.log; events {{}}
                 http {{ access_log off; include site; }}",
                module_path().display()
            ),
        );
        let nginx = format!(
            "#!/bin/sh\nexec {} -p {dir} -c {dir}/nginx.conf \"$@\"\n",
            nginx_path().display()
        );
        prefix.write("nginx", &nginx);
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(prefix.path("nginx"), executable).unwrap();
        prefix
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn migrate(&self, options: &[&str]) -> Output {
        let mut command = process::command(root().join("packaging/rs-uwsgi-migrate"));
        command.args(options);
        for (option, name) in [("--prefix", ""), ("--backups", "copies"), ("--nginx", "nginx")] {
            command.arg(option).arg(self.path(name));
        }
        command.arg(self.path("site")).stdin(std::process::Stdio::null()).output().unwrap()
    }

    /// The same, which goes well; what was printed.
    fn migrated(&self, options: &[&str]) -> String {
        let output = self.migrate(options);
        let said = String::from_utf8_lossy(&output.stdout).to_string();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }
}

#[test]
fn there_and_back() {
    let prefix = Prefix::new(SITE);
    let before = [prefix.read("site"), prefix.read("snippets/app.conf")];
    let said = prefix.migrated(&["--yes"]);
    assert!(said.contains("+rs_uwsgi_read_timeout 300s;\n"), "{said}");
    let site = prefix.read("site");
    let expected = before[0]
        .replace("\nuwsgi_cache_path", "\nrs_uwsgi_cache_path")
        .replace("include uwsgi_params;uwsgi_pass ", "include rs_uwsgi_params;rs_uwsgi_pass ")
        .replace("/uwsgi_params;", "/rs_uwsgi_params;")
        .replace(" uwsgi_cache ", " rs_uwsgi_cache ")
        .replace("; uwsgi_cache_key", "; rs_uwsgi_cache_key")
        .replace("\tuwsgi_param ", "\trs_uwsgi_param ")
        .replace("        uwsgi_pass unix", "        rs_uwsgi_pass unix");
    assert_eq!(site, expected);
    assert_eq!(prefix.read("snippets/app.conf"), SNIPPET.replace("uwsgi_", "rs_uwsgi_"));

    // once more there is nothing to do
    assert!(prefix.migrated(&["--yes"]).starts_with("nothing to do"));
    prefix.migrated(&["--back", "--yes"]);
    assert_eq!([prefix.read("site"), prefix.read("snippets/app.conf")], before);
    // a copy of each file for each time
    let copies = fs::read_dir(prefix.path("copies")).unwrap();
    let files = copies.map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count());
    assert_eq!(files.sum::<usize>(), 4);
}

/// What nginx has no twin for becomes a comment, and what this module adds by itself is written down.
#[test]
fn back_from_what_only_this_module_has() {
    let prefix = Prefix::new(
        "server { listen unix:@dir@/nginx.sock;
            location / { rs_uwsgi_queue 5; rs_uwsgi_reuse on; rs_uwsgi_pass unix:/x; root /x; }
            location /two { rs_uwsgi_param UWSGI_FILE $uri unsafe; rs_uwsgi_pass unix:/x; } }",
    );
    let said = prefix.migrated(&["--back", "--yes"]);
    assert!(
        said.contains("\"rs_uwsgi_queue\" has no twin in nginx and is a comment now"),
        "{said}"
    );
    let site = prefix.read("site");
    for expected in [
        "{ # rs_uwsgi_queue 5;\n # rs_uwsgi_reuse on;\n include uwsgi_params; uwsgi_pass unix:/x; root",
        "{ uwsgi_param UWSGI_FILE $uri; uwsgi_pass unix:/x; }",
    ] {
        assert!(site.contains(expected), "{site}");
    }
}

#[test]
fn nothing_is_written_unasked() {
    let prefix = Prefix::new(SITE);
    let before = prefix.read("site");
    assert!(prefix.migrated(&["--dry-run"]).contains("+rs_uwsgi_cache_path"));
    let output = prefix.migrate(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("say --yes to write"));
    assert_eq!(prefix.read("site"), before);
}

/// Where nginx does not take what came out, everything is as it was.
#[test]
fn what_nginx_refuses_is_taken_back() {
    let prefix = Prefix::new(&SITE.replace("uwsgi_cache_key", "no_such_directive"));
    let before = [prefix.read("site"), prefix.read("snippets/app.conf")];
    let output = prefix.migrate(&["--yes"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("unknown directive \"no_such_directive\""), "{said}");
    assert_eq!([prefix.read("site"), prefix.read("snippets/app.conf")], before);
}

/// A zone that another file declares stays with stock.
#[test]
fn a_cache_zone_of_another_file_is_named() {
    let prefix = Prefix::new(&SITE.replace("uwsgi_cache_path", "# uwsgi_cache_path"));
    fs::create_dir(prefix.path("conf.d")).unwrap();
    prefix.write("conf.d/zones.conf", "uwsgi_cache_path /x keys_zone=uwsgi_pages:1m;\n");
    let said = prefix.migrated(&["--dry-run"]);
    let file = prefix.path("conf.d/zones.conf");
    let note = format!("is declared in \"{}\": name that file as well", file.display());
    assert!(said.contains(&note), "{said}");
}
