//! Turns what `nginx-sys` found out about the nginx built against into cfgs, and generates bindings
//! for the few macros that `nginx-sys` leaves out (src/nginx/macros.h).
//!
//! Without the feature `module` there is no nginx in sight and nothing to do.

#[cfg(feature = "module")]
#[path = "build/layout.rs"]
mod layout;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    nginx::check_cfgs();
    #[cfg(feature = "module")]
    nginx::configure();
}

mod nginx {
    /// The versions in which something that the module touches changed, and the cfg that says so.
    const VERSIONS: &[(u64, &str)] = &[
        // ngx_table_elt_t.next: repeated headers are linked, not collected in arrays
        (1_023_000, "nginx1_23_0"),
        // a "Status" header without a reason phrase no longer becomes the status line
        (1_025_003, "nginx1_25_3"),
        // upstream.limit_rate is a complex value
        (1_027_000, "nginx1_27_0"),
        // ssl_certificate_cache
        (1_027_004, "nginx1_27_4"),
        // ngx_http_upstream_merge_ssl_passwords
        (1_027_005, "nginx1_27_5"),
        // early_hints: 103 is passed on (src/nginx/version.rs)
        (1_029_000, "nginx1_29_0"),
        // upstream.socket_rcvbuf and socket_sndbuf
        (1_031_003, "nginx1_31_3"),
    ];

    /// The versions that the module's tests have run against, without the last number.
    #[cfg(feature = "module")]
    const TESTED: &[u64] = &[1_022, 1_024, 1_026, 1_028, 1_030, 1_031];

    /// The oldest version that is supported.
    #[cfg(feature = "module")]
    const OLDEST: u64 = 1_022_000;

    pub fn check_cfgs() {
        for (_, cfg) in VERSIONS {
            println!("cargo::rustc-check-cfg=cfg({cfg})");
        }
        // what a balancer calls its server in sessions: 1.29.6 (build/layout.rs)
        println!("cargo::rustc-check-cfg=cfg(peer_sid)");
        // names of servers are looked up again and again: 1.27.3, and in Angie's way (build/layout.rs)
        println!("cargo::rustc-check-cfg=cfg(peers_config)");
        println!("cargo::rustc-check-cfg=cfg(peers_generation)");
        println!("cargo::rustc-check-cfg=cfg(ngx_feature, values(any()))");
    }

    #[cfg(feature = "module")]
    pub fn configure() {
        for var in [
            "DEP_NGINX_VERSION_NUMBER",
            "DEP_NGINX_FEATURES",
            "DEP_NGINX_INCLUDE",
            "DEP_NGINX_CFLAGS",
            "DEP_NGINX_METADATA",
        ] {
            println!("cargo::rerun-if-env-changed={var}");
        }

        let version: u64 = variable("DEP_NGINX_VERSION_NUMBER")
            .parse()
            .unwrap_or_else(|e| panic!("DEP_NGINX_VERSION_NUMBER: {e}"));
        if !TESTED.contains(&(version / 1000)) {
            println!("cargo::warning={}", untested(version));
        }
        for (since, cfg) in VERSIONS {
            if version >= *since {
                println!("cargo::rustc-cfg={cfg}");
            }
        }
        for feature in variable("DEP_NGINX_FEATURES").split(',') {
            println!("cargo::rustc-cfg=ngx_feature=\"{feature}\"");
        }

        println!("cargo::rustc-env=RS_UWSGI_NGINX_VERSION={}", shown(version));
        println!("cargo::rustc-env=RS_UWSGI_COMMIT={}", commit());

        let out = std::path::PathBuf::from(variable("OUT_DIR"));
        let (include, cflags) = (variable("DEP_NGINX_INCLUDE"), cflags());
        generate_macros(&include, &cflags, &out);
        crate::layout::generate(&include, &cflags, &out);
    }

    /// 1028003 is 1.28.3.
    #[cfg(feature = "module")]
    fn shown(version: u64) -> String {
        let (major, minor, patch) = (version / 1_000_000, version / 1000 % 1000, version % 1000);
        format!("{major}.{minor}.{patch}")
    }

    /// What to say of a version that is not among the tested. Where its structures are is not known yet:
    /// build/layout.rs has the compiler check it.
    #[cfg(feature = "module")]
    fn untested(version: u64) -> String {
        let nginx = shown(version);
        let goes_on = "the build goes on only if its structures are as the module expects them";
        if version < OLDEST {
            return format!(
                "nginx {nginx} is not supported, {} is the oldest; {goes_on}",
                shown(OLDEST)
            );
        }
        format!("nobody has tested nginx {nginx}; {goes_on}")
    }

    /// The commit built from: the variable RS_UWSGI_COMMIT; what `git archive` wrote into `.commit`;
    /// that of the git repository, with a mark where files of the module differ from it.
    #[cfg(feature = "module")]
    fn commit() -> String {
        const SOURCES: [&str; 5] = ["src", "build", "build.rs", "Cargo.toml", "Cargo.lock"];
        const ARCHIVED: &str = ".commit";
        const LENGTH: usize = 12;

        println!("cargo::rerun-if-env-changed=RS_UWSGI_COMMIT");
        println!("cargo::rerun-if-changed={ARCHIVED}");
        if let Ok(commit) = std::env::var("RS_UWSGI_COMMIT") {
            return commit;
        }
        let archived = std::fs::read_to_string(ARCHIVED).unwrap_or_default();
        if !archived.is_empty() && !archived.starts_with('$') {
            return archived.trim().chars().take(LENGTH).collect();
        }
        // The repository of the folder around this one would be another project's.
        if git(&["rev-parse", "--show-prefix"]).as_deref() != Some("") {
            return "unknown".to_string();
        }
        // Moves with every commit.
        if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
            println!("cargo::rerun-if-changed={log}");
        }
        for source in SOURCES {
            println!("cargo::rerun-if-changed={source}");
        }
        let Some(mut commit) = git(&["rev-parse", "HEAD"]) else { return "unknown".to_string() };
        commit.truncate(LENGTH);
        if git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat()).as_deref() != Some("") {
            commit.push_str("-changed");
        }
        commit
    }

    /// What a git command prints; none where there is no git, or it fails.
    #[cfg(feature = "module")]
    fn git(arguments: &[&str]) -> Option<String> {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_string())
    }

    #[cfg(feature = "module")]
    fn generate_macros(include: &str, cflags: &str, out: &std::path::Path) {
        const HEADER: &str = "src/nginx/macros.h";
        println!("cargo::rerun-if-changed={HEADER}");

        let out = out.join("macros.rs");
        crate::layout::bindings(HEADER, include, cflags)
            .allowlist_type("rs_macros")
            .prepend_enum_name(false)
            .use_core()
            .generate()
            .unwrap_or_else(|e| panic!("{HEADER}: {e}"))
            .write_to_file(&out)
            .unwrap_or_else(|e| panic!("{}: {e}", out.display()));
    }

    /// The definitions among nginx's CFLAGS. nginx-sys 0.5.0 names the variable "metadata" by mistake.
    #[cfg(feature = "module")]
    fn cflags() -> String {
        let metadata = || std::env::var("DEP_NGINX_METADATA").ok();
        std::env::var("DEP_NGINX_CFLAGS")
            .ok()
            .or_else(|| metadata()?.strip_prefix("cflags=").map(str::to_string))
            .unwrap_or_default()
    }

    #[cfg(feature = "module")]
    pub fn variable(name: &str) -> String {
        std::env::var(name)
            .unwrap_or_else(|_| panic!("{name} is not set: is nginx-sys a dependency?"))
    }
}
