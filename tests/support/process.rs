//! Child processes that cannot outlive the tests: stopped on drop, also on panic, and told to stop
//! by the kernel (PR_SET_PDEATHSIG) when the test process itself is killed.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// A running child, the leader of its own process group.
pub struct Process {
    child: Child,
    status: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` in a process group of its own.
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

fn kill(pid: i32, signal: i32) {
    // SAFETY: kill takes no pointers; the pid is a child that has not been waited for, or its group.
    unsafe { libc::kill(pid, signal) };
}

type Order = (Command, Sender<io::Result<Child>>);

/// PR_SET_PDEATHSIG fires when the *thread* that forked ends, and a test's thread ends long before
/// a value shared between tests. So one thread that lives as long as the process forks for all.
fn spawner() -> &'static Mutex<Sender<Order>> {
    static SPAWNER: OnceLock<Mutex<Sender<Order>>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let (orders, inbox) = channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                command.process_group(0);
                // SAFETY: the closure runs between fork and exec and makes one system call.
                unsafe {
                    command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
                        0 => Ok(()),
                        _ => Err(io::Error::last_os_error()),
                    })
                };
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
