"""Run a real Slurm on this machine, for tests and trials: munge, a controller, and nodes with GPUs that are not there.

    python -m tests.slurm_cluster snakemake --profile slurm ablations

runs a command with a cluster around it. Needs root and Debian's packages (.ci/install); no systemd and no accounts. Its
files are in a temporary folder, which two links in /etc/slurm lead to while it is up: steps of jobs find their cluster
there alone. The nodes say that they have more cores than the machine does.
"""

import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from flip.processes import end_with_parent
from tests.programs import SLURM, Unavailable, need

NODES = ("n1", "n2", "n3")
SETTINGS = Path("/etc/slurm")
# Timers are short, as a test cannot wait for what a cluster waits for; MaxBatchRequeue and MinJobAge are the defaults.
CONFIGURATION = """
ClusterName=flip
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=1,sched_interval=5
ReturnToService=2
SlurmdTimeout=8
KillWait=20
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports} CPUs=8 RealMemory=16000 Gres=gpu:4
PartitionName=normal Nodes=ALL Default=YES PriorityTier=1 MaxTime=08:00:00
PartitionName=gpu Nodes=ALL PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=10
"""


def check() -> None:
    """Check that there can be a cluster here.

    Raises:
        Unavailable: this is no root, or programs are missing.
    """
    need(*SLURM)
    if os.geteuid():
        raise Unavailable("a Slurm cluster needs root")


def free_ports(count: int) -> int:
    """The first of a row of ports that nobody listens on."""
    for first in range(17000, 30000, count):
        listeners = [socket.socket() for _ in range(count)]
        try:
            for offset, one in enumerate(listeners):
                one.bind(("127.0.0.1", first + offset))
            return first
        except OSError:
            continue
        finally:
            for one in listeners:
                one.close()
    raise Unavailable("no free ports")


def kill_where(belongs, number: int = signal.SIGKILL) -> None:
    """Sends a signal to each process whose folder in /proc is one that `belongs`."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if belongs(process):
                os.kill(int(process.name), number)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue


class Cluster:
    """Daemons that end with this process; their files are in one folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen] = {}
        self.configure()
        self.link()

    def configure(self) -> None:
        first, host = free_ports(len(NODES) + 1), socket.gethostname()
        ports = ",".join(str(first + 1 + number) for number in range(len(NODES)))
        text = CONFIGURATION.format(host=host, port=first, folder=self.folder, nodes=",".join(NODES), ports=ports)
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o400)
        (self.folder / "state").mkdir()
        for number in range(4):
            try:  # /dev/null by another name: Slurm only looks whether the device is there
                os.mknod(self.folder / f"gpu{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            except PermissionError:
                raise Unavailable("this root may make no device files, which stand for GPUs") from None
        (self.folder / "gres.conf").write_text(f"AutoDetect=off\nName=gpu File={self.folder}/gpu[0-3]\n")

    def link(self) -> None:
        SETTINGS.mkdir(exist_ok=True)
        self.lock = os.open(SETTINGS, os.O_RDONLY)
        fcntl.flock(self.lock, fcntl.LOCK_EX)  # clusters on one machine take turns
        for name in ("slurm.conf", "gres.conf"):
            path = SETTINGS / name
            if path.exists() and not path.is_symlink():
                raise Unavailable(f"{path} is there already: this machine belongs to a cluster")
            path.unlink(missing_ok=True)  # of one that was killed
            path.symlink_to(self.folder / name)

    def start(self, name: str, *words: str) -> None:
        """A daemon in a folder of its own, which its children stay in."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        with open(self.folder / f"{name}.log", "a") as log:
            self.daemons[name] = subprocess.Popen(
                words, cwd=folder, stdout=log, stderr=log, preexec_fn=end_with_parent, start_new_session=True
            )

    def start_node(self, name: str) -> None:
        self.start(name, "slurmd", "-D", "-N", name)

    def up(self) -> "Cluster":
        munge = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        munge |= {"log-file": "munge.log"}
        options = [f"--{option}={self.folder / file}" for option, file in munge.items()]
        self.start("munged", "munged", "--foreground", "--force", *options)
        until(lambda: (self.folder / "munge.socket").exists(), "munged's socket")
        self.start("slurmctld", "slurmctld", "-D", "-c")
        for name in NODES:
            self.start_node(name)
        until(lambda: slurm("sinfo", "--noheader", "--format=%D %t", check=False) == f"{len(NODES)} idle", "idle nodes")
        return self

    def said(self) -> str:
        """What the controller has logged."""
        return (self.folder / "slurmctld.log").read_text()

    def crash(self, node: str) -> None:
        """Ends everything of a node as a power cut does: its daemon and the steps' managers first, then the jobs."""
        folder, mark = str(self.folder / node), f"SLURMD_NODENAME={node}".encode()
        kill_where(lambda process: os.readlink(process / "cwd") == folder)
        kill_where(lambda process: mark in (process / "environ").read_bytes().split(b"\0"))
        self.daemons.pop(node).wait()

    def down(self) -> None:
        for node in NODES:
            if node in self.daemons:
                self.crash(node)
        for daemon in self.daemons.values():
            daemon.kill()
            daemon.wait()
        for name in ("slurm.conf", "gres.conf"):
            (SETTINGS / name).unlink()
        os.close(self.lock)


def slurm(*words: str, check: bool = True) -> str:
    """What a command of Slurm prints."""
    return subprocess.run(words, capture_output=True, text=True, check=check).stdout.strip()


def until(condition, what: str, seconds: float = 180):
    """Waits for something to be true; gives it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.2)
    return found


@contextmanager
def cluster():
    """A cluster for as long as it is in use.

    Raises:
        Unavailable: why there can be none.
    """
    check()
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    one = Cluster(folder)
    try:
        yield one.up()
    finally:
        one.down()
        shutil.rmtree(folder, ignore_errors=True)  # jobs may still be writing their last words


if __name__ == "__main__":
    with cluster():
        sys.exit(subprocess.call(sys.argv[1:]))
