//! Child processes that cannot outlive the tests: stopped on drop, also on panic, and told to stop
//! by the kernel (`setpriv --pdeathsig`) when the test process itself is killed.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// A running child, the leader of its own process group.
pub struct Process {
    child: Child,
    status: Option<ExitStatus>,
}

/// Begins the command that runs `program`, for [`Process::spawn`]. `setpriv` asks the kernel for the
/// signal and becomes the program. A closure between fork and exec would do without it, but then the
/// standard library forks, and copies the page tables of a test process of 800 MB each time: more than
/// half of what the process computed.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("/usr/bin/setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

impl Process {
    /// Starts a [`command`] in a process group of its own.
    pub fn spawn(command: Command) -> io::Result<Process> {
        let (reply, answer) = channel();
        spawner().lock().unwrap().send((command, reply)).unwrap();
        let child = answer.recv().unwrap()?;
        Ok(Process { child, status: None })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` (a `libc::SIG…`) to the process, not to its children.
    pub fn signal(&self, signal: i32) {
        kill(self.child.id() as i32, signal);
    }

    /// Stops the whole group where it stands (SIGSTOP); returns when none of its threads runs.
    pub fn pause(&self) {
        let group = self.child.id();
        kill(-(group as i32), libc::SIGSTOP);
        super::wait_for("the processes to stand still", || {
            threads_of_group(group).iter().all(|state| *state == 'T').then_some(())
        });
    }

    /// Lets the group go on after `pause`.
    pub fn resume(&self) {
        kill(-(self.child.id() as i32), libc::SIGCONT);
    }

    /// The exit status when the process has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
        }
        self.status
    }

    /// Waits at most `limit` for the process to end.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + limit;
        while self.ended().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.status
    }

    /// SIGTERM, and SIGKILL for the whole group when that does not help within five seconds.
    pub fn stop(&mut self) {
        if self.ended().is_none() {
            self.signal(libc::SIGTERM);
            // One that stands still would not see it.
            self.resume();
            if self.wait(Duration::from_secs(5)).is_none() {
                kill(-(self.child.id() as i32), libc::SIGKILL);
                self.wait(Duration::from_secs(5));
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Sends `signal` to a process or, where `pid` is negative, to a group: a child that has not been waited
/// for, or a worker of an nginx that runs. True when it was there.
pub fn kill(pid: i32, signal: i32) -> bool {
    // SAFETY: kill takes no pointers.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// The state of each thread of a process group, as a letter (proc(5), stat).
fn threads_of_group(group: u32) -> Vec<char> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let threads = processes.filter_map(|process| {
        let (_, process_group) = state_and_group(&process.path().join("stat"))?;
        (process_group == group).then(|| fs::read_dir(process.path().join("task")).ok())?
    });
    // What has ended meanwhile does not run.
    let states = threads.flatten().flatten();
    states.filter_map(|thread| Some(state_and_group(&thread.path().join("stat"))?.0)).collect()
}

fn state_and_group(stat: &Path) -> Option<(char, u32)> {
    let stat = fs::read_to_string(stat).ok()?;
    // The second field, the name, may contain spaces.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.nth(1)?.parse().ok()?))
}

type Order = (Command, Sender<io::Result<Child>>);

/// The signal comes when the *thread* that forked ends, and a test's thread ends long before
/// a value shared between tests. So one thread that lives as long as the process forks for all.
fn spawner() -> &'static Mutex<Sender<Order>> {
    static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                command.process_group(0);
                // A test that gave up no longer listens; the child is then killed by its drop.
                if let Err(unclaimed) = reply.send(command.spawn()) {
                    if let Ok(mut child) = unclaimed.0 {
                        let _ = child.kill();
                        let _ = child.wait();
                    }
                }
            }
        });
        Mutex::new(orders)
    })
}
