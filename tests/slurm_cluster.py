"""Run a real Slurm on this machine, for tests and trials: munge, a controller, and nodes with GPUs that are not there;
and, for a cluster that keeps accounts and enforces limits, slurmdbd with its database.

    python -m tests.slurm_cluster snakemake --profile slurm ablations
    python -m tests.slurm_cluster --strict sacctmgr show associations

runs a command with a cluster around it. Needs root and Debian's packages (.ci/install); no systemd. Its files are in a
temporary folder, which this process and its children alone see at /etc/slurm (steps of jobs find their cluster there):
so several can run at once. The nodes say that they have more cores than the machine does.
"""

import ctypes
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
from dataclasses import dataclass
from pathlib import Path

from flip.processes import end_with_parent
from tests.programs import DATABASE, SLURM, Unavailable, need

SETTINGS = Path("/etc/slurm")
SYSTEM_TABLES = Path("/usr/share/mysql/mysql_system_tables.sql")  # of Debian's package
# Timers are short, as a test cannot wait for what a cluster waits for; MaxBatchRequeue is the default.
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
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1
ReturnToService=2
SlurmdTimeout=8
KillWait=6
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports} CPUs=8 RealMemory=16000 Gres={gres}
"""


@dataclass(frozen=True)
class Shape:
    """A cluster of one site: its nodes, their GPUs, partitions and other settings."""

    nodes: tuple[str, ...]
    gres: str
    partitions: str
    accounts: bool = False


# No accounts, the default MinJobAge of 300 s.
PLAIN = Shape(
    ("n1", "n2", "n3"),
    "gpu:4",
    """
PartitionName=normal Nodes=ALL Default=YES PriorityTier=1 MaxTime=08:00:00
PartitionName=gpu Nodes=ALL PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=10
""",
)
# Accounts and limits are enforced, no partition is the default, and a job is forgotten half a minute after its end.
STRICT = Shape(
    ("c1", "c2"),
    "gpu:h100:4",
    """
MinJobAge=30
JobRequeue=0
EnforcePartLimits=ALL
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounts}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
PartitionName=cpu-long Nodes=ALL MaxTime=02:00:00
PartitionName=accelerated Nodes=c2 MaxTime=01:00:00 DenyAccounts=teaching
PartitionName=closed Nodes=ALL State=DRAIN
""",
    accounts=True,
)
DATABASE_SETTINGS = """
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={accounts}
SlurmUser=root
AuthInfo=socket={folder}/munge.socket
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=root
CommitDelay=1
"""
NODES = PLAIN.nodes
# Options of Snakemake with which a test soon learns that a job has ended.
SOON = ["--slurm-init-seconds-before-status-checks=1", "--seconds-between-status-checks=1"]
SOON += ["--max-status-checks-per-second=2"]


def check(shape: Shape) -> None:
    """Check that there can be a cluster here.

    Raises:
        Unavailable: this is no root, or programs are missing.
    """
    need(*SLURM, *(DATABASE if shape.accounts else ()))
    if os.geteuid():
        raise Unavailable("a Slurm cluster needs root")


def free_ports(count: int) -> int:
    """The first of a row of ports that nobody listens on; processes that ask at once begin at different ones."""
    for first in range(17000 + os.getpid() % 500 * 20, 30000, count):
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


def see_settings(folder: Path) -> None:
    """Puts a folder in the place of /etc/slurm, for this process and its children alone.

    Raises:
        Unavailable: this root may not do so.
    """
    libc, new_namespace, bind, private = ctypes.CDLL(None, use_errno=True), 0x20000, 4096, (1 << 18) | 16384
    SETTINGS.mkdir(exist_ok=True)
    for failed in (
        libc.unshare(new_namespace),
        libc.mount(b"none", b"/", None, private, None),
        libc.mount(bytes(folder), bytes(SETTINGS), None, bind, None),
    ):
        if failed:
            raise Unavailable(f"this root may mount nothing ({os.strerror(ctypes.get_errno())})")


class Cluster:
    """Daemons that end with this process; their files are in one folder."""

    def __init__(self, folder: Path, shape: Shape = PLAIN):
        self.folder, self.shape = folder, shape
        self.daemons: dict[str, subprocess.Popen] = {}
        self.configure()
        see_settings(folder)

    def configure(self) -> None:
        nodes = self.shape.nodes
        first = free_ports(len(nodes) + 3)
        names = {"folder": self.folder, "host": socket.gethostname(), "nodes": ",".join(nodes)}
        names |= {"port": first, "accounts": first + 1, "database": first + 2, "gres": self.shape.gres}
        names |= {"ports": ",".join(str(first + 3 + number) for number in range(len(nodes)))}
        self.database = first + 2
        (self.folder / "slurm.conf").write_text((CONFIGURATION + self.shape.partitions).format(**names))
        if self.shape.accounts:
            (self.folder / "slurmdbd.conf").write_text(DATABASE_SETTINGS.format(**names))
            (self.folder / "slurmdbd.conf").chmod(0o600)
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o400)
        (self.folder / "state").mkdir()
        self.make_gpus()

    def make_gpus(self) -> None:
        for number in range(4):
            try:  # /dev/null by another name: Slurm only looks whether the device is there
                os.mknod(self.folder / f"gpu{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            except PermissionError:
                raise Unavailable("this root may make no device files, which stand for GPUs") from None
        kind = self.shape.gres.split(":")[1:-1]
        typed = f" Type={kind[0]}" if kind else ""
        (self.folder / "gres.conf").write_text(f"AutoDetect=off\nName=gpu{typed} File={self.folder}/gpu[0-3]\n")

    def start(self, name: str, *words: str) -> None:
        """A daemon in a folder of its own, which its children stay in."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        with open(self.folder / f"{name}.log", "a") as log:
            self.daemons[name] = subprocess.Popen(
                words, cwd=folder, stdout=log, stderr=log, preexec_fn=end_with_parent, start_new_session=True
            )

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """Ends a daemon: as its administrator does, who has it write down what it knows, or as a crash."""
        daemon = self.daemons.pop(name)
        daemon.send_signal(number)
        daemon.wait()

    def start_node(self, name: str, *within: str) -> None:
        """A node; its daemon is what the command `within` runs, if there is one."""
        self.start(name, *within, "slurmd", "-D", "-N", name)

    def start_controller(self, *words: str) -> None:
        self.start("slurmctld", "slurmctld", "-D", *words)

    def start_accounts(self) -> None:
        self.start("slurmdbd", "slurmdbd", "-D")

    def start_database(self) -> None:
        """One that asks for no password, on a port of this machine, for as long as the test runs."""
        words = ["mariadbd", "--no-defaults", f"--datadir={self.folder}/data", "--user=root"]
        words += ["--innodb-flush-log-at-trx-commit=0", "--innodb-log-file-size=16M"]
        tables = f"create database mysql;\nuse mysql;\n{SYSTEM_TABLES.read_text()}"
        (self.folder / "data").mkdir()
        subprocess.run([*words, "--bootstrap"], input=tables, text=True, check=True, capture_output=True)
        listen = ["--skip-grant-tables", "--skip-networking=0", "--bind-address=127.0.0.1"]
        self.start("mariadbd", *words, *listen, f"--port={self.database}", f"--socket={self.folder}/sql.socket")
        until(lambda: (self.folder / "sql.socket").exists(), "the database")

    def up(self) -> "Cluster":
        munge = {"socket": "munge.socket", "key-file": "munge.key", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        munge |= {"log-file": "munge.log"}
        options = [f"--{option}={self.folder / file}" for option, file in munge.items()]
        self.start("munged", "munged", "--foreground", "--force", *options)
        until(lambda: (self.folder / "munge.socket").exists(), "munged's socket")
        if self.shape.accounts:
            self.start_database()
            self.start_accounts()
            until(lambda: succeeds("sacctmgr", "--immediate", "add", "cluster", "flip"), "slurmdbd")
        self.start_controller("-c")
        for name in self.shape.nodes:
            self.start_node(name)
        self.wait_for_nodes()
        return self

    def wait_for_nodes(self) -> None:
        idle = f"{len(self.shape.nodes)} idle"
        until(lambda: slurm("sinfo", "-h", "-o", "%D %t", *self.first_partition, check=False) == idle, "idle nodes")

    @property
    def first_partition(self) -> tuple[str, str]:
        """Options that name the partition that all nodes are in."""
        return "-p", self.shape.partitions.partition("PartitionName=")[2].split()[0]

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
        for node in self.shape.nodes:
            if node in self.daemons:
                self.crash(node)
        for name in list(self.daemons):
            self.stop(name, signal.SIGKILL)
        subprocess.run(["umount", SETTINGS], check=True)


def succeeds(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


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
def cluster(shape: Shape = PLAIN):
    """A cluster for as long as it is in use.

    Raises:
        Unavailable: why there can be none.
    """
    check(shape)
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    one = Cluster(folder, shape)
    try:
        yield one.up()
    finally:
        one.down()
        shutil.rmtree(folder, ignore_errors=True)  # jobs may still be writing their last words


if __name__ == "__main__":
    strict = sys.argv[1] == "--strict"
    with cluster(STRICT if strict else PLAIN):
        sys.exit(subprocess.call(sys.argv[1 + strict :]))
