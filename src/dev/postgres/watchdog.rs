//! A small shell process that outlives us for a moment: when we are gone, even by SIGKILL, it stops what we started
//! and removes what we left. It knows that we are gone when the pipe to it closes.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// `$1` the temporary folder, `$2` the data folder, `$3` `kept` or `temporary`.
///
/// While there is a `.partial` folder, initdb runs, and is killed: nobody will read that folder. Of servers, one
/// with temporary data need not write a checkpoint (QUIT); the others do (INT). A server that ends by itself takes its
/// `postmaster.pid` and its shared memory along; what a killed one leaves of that memory is named in the seventh line
/// of the file.
const SCRIPT: &str = r#"
trap '' HUP INT QUIT TERM
data=$2
pid=
while read -r line; do pid=$line; done
case $pid in
    starting) pid=$(sed -n 1p "$data/postmaster.pid") ;;
    none) pid= ;;
esac
case $3 in
    kept) signal=INT; most=2400 ;;
    *) signal=QUIT; most=400 ;;
esac
forget_memory() {
    memory=$(sed -n 7p "$1/postmaster.pid")
    memory=${memory##* }
    if [ -n "$memory" ]; then ipcrm -m "$memory"; fi
}
if [ -n "$pid" ]; then
    if [ ! -e "$data.partial" ]; then
        kill -s "$signal" -- "-$pid"
        tries=0
        while [ -e "$data/postmaster.pid" ] && kill -s 0 "$pid" && [ "$tries" -lt "$most" ]; do
            sleep 0.025
            tries=$((tries + 1))
        done
    fi
    kill -s KILL -- "-$pid"
fi
forget_memory "$data.partial"
rm -rf "$data.partial"
if [ "$3" = temporary ]; then forget_memory "$data"; fi
tries=0
until rm -rf "$1" || [ "$tries" -ge 200 ]; do
    sleep 0.025
    tries=$((tries + 1))
done
"#;

/// Our end of the pipe.
#[derive(Debug)]
pub(super) struct Watchdog {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    /// In its own process group, or a Ctrl-C at the terminal would end it along with us.
    pub fn start(folder: &Path, data: &Path, kept: bool) -> io::Result<Watchdog> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "runner-broker-watchdog"]).arg(folder).arg(data);
        command.arg(if kept { "kept" } else { "temporary" }).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = command.spawn()?;
        let pipe = shell.stdin.take();
        Ok(Watchdog { shell, pipe })
    }

    /// If we end between a start and `watch`, it looks for the server itself.
    pub fn about_to_start(&mut self) {
        self.tell("starting");
    }

    /// This process group is to end with us.
    pub fn watch(&mut self, pid: u32) {
        self.tell(&pid.to_string());
    }

    /// What was watched has ended.
    pub fn nothing_runs(&mut self) {
        self.tell("none");
    }

    /// Lets it remove the temporary folder, and returns when that is done.
    pub fn finish(&mut self) {
        drop(self.pipe.take());
        // If somebody ended it, there is nothing to wait for.
        let _ = self.shell.wait();
    }

    fn tell(&mut self, line: &str) {
        if let Some(pipe) = &mut self.pipe {
            // One write, so that it never reads half a line. It fails only if somebody ended the watchdog.
            let _ = pipe.write_all(format!("{line}\n").as_bytes());
        }
    }
}
