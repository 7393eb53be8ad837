//! The machine of the one-node cluster, and the faults of its daemons and of Tokenry's processes.

use std::{env, path::PathBuf, process::Command, thread, time::Duration};

use crate::Told;

/// The scripts of the one-node cluster, which `.ci/cluster` names.
pub struct Machine {
    scripts: PathBuf,
}

/// A process of Tokenry on the node.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number within the node.
    pub pid: u32,
    /// Its resident memory, in KiB.
    pub resident: u64,
    /// The largest resident memory that it had so far, in KiB.
    pub peak: u64,
    /// The name of its Pod.
    pub pod: String,
    /// `operator` or `verifier`.
    pub component: String,
}

/// How a fault ends a process, and if it comes back.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    /// SIGKILL. The process is started again.
    Kill,
    /// SIGSTOP, and SIGCONT after this time.
    Freeze(Duration),
    /// SIGTERM, SIGKILL, and a new start after this time. Only daemons can be stopped.
    Stop(Duration),
}

/// Prints for each process of Tokenry: its number, resident memory and its peak in KiB, host name, and first argument.
const PROCESSES: &str = r#"for pid in $(ps -C tokenry -o pid=); do
    host=$(tr '\0' '\n' </proc/$pid/environ | sed -n 's/^HOSTNAME=//p')
    echo "$pid $(awk '/^VmHWM/ {peak = $2} /^VmRSS/ {print $2, peak}' /proc/$pid/status) $host $(tr '\0' '\n' </proc/$pid/cmdline | sed -n 2p)"
done"#;

impl Machine {
    /// The machine whose scripts are in `CLUSTER_SCRIPTS`.
    pub fn of_environment() -> Told<Self> {
        let unset = "CLUSTER_SCRIPTS is not set. Set it to the folder of the scripts: see CONTRIBUTING.md, Tests";
        Ok(Self { scripts: env::var_os("CLUSTER_SCRIPTS").map(PathBuf::from).ok_or(unset)? })
    }

    fn run(&self, script: &str, args: &[&str]) -> Told<String> {
        let told = format!("{script} {}", args.first().unwrap_or(&""));
        let done = Command::new(self.scripts.join(script)).args(args).output();
        let done = done.map_err(|error| format!("{told}: {error}"))?;
        if !done.status.success() {
            return Err(format!("{told}: {}: {}", done.status, String::from_utf8_lossy(&done.stderr)));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Runs a command inside the node, where the addresses of Pods answer.
    pub fn in_node(&self, command: &[&str]) -> Told<String> {
        self.run("in-node.sh", command)
    }

    /// The processes of Tokenry that run now.
    pub fn processes(&self) -> Told<Vec<Process>> {
        let printed = self.in_node(&["bash", "-c", PROCESSES])?;
        Ok(printed.lines().filter_map(Process::parse).collect())
    }

    /// Does this to a daemon of the cluster, and undoes it.
    pub fn daemon(&self, name: &str, deed: Deed) -> Told {
        let act = |verb| self.run("daemon.sh", &[verb, name]).map(drop);
        match deed {
            Deed::Kill => act("kill"),
            Deed::Freeze(time) => act("freeze").and_then(|()| after(time, || act("thaw"))),
            Deed::Stop(time) => self.stop(name).and_then(|()| after(time, || act("start"))),
        }
    }

    /// Stops a daemon. It is killed soon, because kube-apiserver waits for its watches for a minute.
    fn stop(&self, name: &str) -> Told {
        thread::scope(|scope| {
            let stopped = scope.spawn(|| self.run("daemon.sh", &["stop", name]).map(drop));
            thread::sleep(Duration::from_secs(1));
            let _ = self.run("daemon.sh", &["kill", name]);
            stopped.join().map_err(|_| format!("the stop of {name} panicked"))?
        })
    }

    /// Does this to a process of Tokenry, and undoes it. The kubelet may kill a frozen process meanwhile.
    pub fn process(&self, process: &Process, deed: Deed) -> Told {
        let pid = process.pid.to_string();
        let signal = |name: &str| self.in_node(&["kill", name, &pid]).map(drop);
        match deed {
            Deed::Kill => signal("-KILL"),
            Deed::Freeze(time) => signal("-STOP").and_then(|()| after(time, || signal("-CONT").or(Ok(())))),
            Deed::Stop(_) => Err("a process of Tokenry is replaced, not stopped".into()),
        }
    }
}

fn after(time: Duration, undo: impl FnOnce() -> Told) -> Told {
    thread::sleep(time);
    undo()
}

impl Process {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (pid, resident, peak) =
            (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some(Self { pid, resident, peak, pod: words.next()?.to_owned(), component: words.next()?.to_owned() })
    }
}

#[test]
fn a_process_is_read_from_its_line() {
    let process = Process::parse("4711 31744 40960 tokenry-operator-6d-x operator").unwrap();
    assert_eq!((process.pid, process.resident, process.peak), (4711, 31744, 40960));
    assert_eq!((&*process.pod, &*process.component), ("tokenry-operator-6d-x", "operator"));
    assert!(Process::parse("4711 31744").is_none(), "a process that ended meanwhile");
}
