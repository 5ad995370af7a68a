//! An nginx that runs as a daemon, and ends with its test all the same.

use super::process::kill;
use std::fs;
use std::path::Path;

/// Starts a daemon, whose pid file is `$0`, and ends when all of its processes have; when it is told to end,
/// so are they. They are a process group, that of the daemon that was started first.
pub const KEEPER: &str = r#"
trap 'told=1' TERM
"$@" || exit
runs() { kill -s 0 -- "-$group"; } 2> /dev/null
# Debian's nginx writes the file before it makes the group
turns=0
until [ $turns -eq 500 ] || { read -r group < "$0" && runs; }; do
    sleep 0.01
    turns=$((turns + 1))
done 2> /dev/null
while [ -z "$told" ] && runs; do sleep 0.05; done
kill -s TERM -- "-$group" 2> /dev/null
turns=0
while [ $turns -lt 60 ] && runs; do sleep 0.05; turns=$((turns + 1)); done
kill -s KILL -- "-$group" 2> /dev/null
exit 0
"#;

/// Sends a signal to a master that a pid file tells.
pub fn signal_master(pid: i32, signal: i32) {
    assert!(kill(pid, signal), "no process {pid}");
}

/// The process id in a pid file; none where there is no file.
pub fn pid_in(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.strip_suffix('\n')?.parse().ok()
}
