//! What is tested: nginx and the module.

use super::root;
use std::path::PathBuf;
use std::process::Command;

/// The nginx to test with: RS_UWSGI_NGINX, or Debian's.
pub fn nginx_path() -> PathBuf {
    std::env::var_os("RS_UWSGI_NGINX").map_or_else(|| "/usr/sbin/nginx".into(), PathBuf::from)
}

/// Was it built with AddressSanitizer? What it has freed it keeps for a while then, and it ends at a fault of
/// nginx's own that does no harm otherwise.
pub fn is_sanitized() -> bool {
    let said = Command::new(nginx_path()).arg("-V").output().unwrap().stderr;
    String::from_utf8_lossy(&said).contains("-fsanitize=address")
}

/// Its version as a number, `nginx_version`: 1022001 for 1.22.1.
pub fn nginx_version() -> u32 {
    let said = Command::new(nginx_path()).arg("-v").output().unwrap().stderr;
    let said = String::from_utf8(said).unwrap();
    let version = said.trim().split('/').nth(1).unwrap().split(' ').next().unwrap();
    version.split('.').fold(0, |number, part| number * 1000 + part.parse::<u32>().unwrap())
}

/// The module under test: RS_UWSGI_MODULE, or what `make module` leaves.
pub fn module_path() -> PathBuf {
    let built = || root().join("target/module/ngx_http_rs_uwsgi_module.so");
    std::env::var_os("RS_UWSGI_MODULE").map_or_else(built, PathBuf::from)
}

/// The module with steps that fail: what `make faults` leaves.
pub fn faults_path() -> PathBuf {
    let path = module_path().with_file_name("ngx_http_rs_uwsgi_module_with_faults.so");
    assert!(path.exists(), "{} is missing: make faults", path.display());
    path
}
