"""Ask Slurm what its cluster is like: settings, partitions, nodes, and what its user may do."""

import getpass
import re
import subprocess
from dataclasses import dataclass, field
from functools import cached_property

SECONDS = 30  # for which an answer is waited for
RESOURCES = ["MaxTRES", "GrpTRES", "GrpSubmit"]  # limits that accounts and qualities of service share
UNITS = {"": 1, "K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}  # of memory, in MB
LOOKS = 3  # of Snakemake that may fail, while a job that has ended is remembered


class NoAnswer(ValueError):
    """Say which command of Slurm failed, and what it printed."""


@dataclass(frozen=True)
class Request:
    """Hold what the jobs of a rule ask for: minutes, nodes, and, of each node, cores, MB and GPUs."""

    name: str
    minutes: int
    memory_mb: int
    cores: int
    nodes: int = 1
    gpus: int = 0
    partition: str | None = None
    account: str | None = None
    constraint: str | None = None
    qos: str | None = None

    def options(self) -> list[str]:
        """Return the request as options of sbatch."""
        named = {key: getattr(self, key) for key in ("partition", "account", "constraint", "qos")}
        words = [f"--{key}={value}" for key, value in named.items() if value]
        words += [f"--time={self.minutes}", f"--mem={self.memory_mb}", f"--nodes={self.nodes}"]
        return [*words, f"--cpus-per-task={self.cores}", *([f"--gres=gpu:{self.gpus}"] if self.gpus else [])]

    def resources(self) -> dict[str, int]:
        """Return what a job has in all, by Slurm's names (memory in MB)."""
        one = {"cpu": self.cores, "mem": self.memory_mb, "node": 1, "gres/gpu": self.gpus}
        return {name: self.nodes * count for name, count in one.items()}


@dataclass(frozen=True)
class Limits:
    """Hold what an account or a QOS (`who`) allows at most: minutes and resources of a job, jobs that are submitted."""

    who: str
    minutes: float
    resources: dict[str, float]
    jobs: float


def ask(*words: str) -> str:
    """Return what a command of Slurm prints.

    Raises:
        NoAnswer: it failed, or took too long.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswer(f"{words[0]}: {error}") from None
    if done.returncode:
        raise NoAnswer(f"{words[0]}: {' '.join((done.stderr or done.stdout).split()) or 'failed without a message'}")
    return done.stdout


def accounting(names: list[str], *what: str) -> list[dict[str, str]]:
    """Return these fields of what `sacctmgr show` knows."""
    lines = ask("sacctmgr", "--noheader", "--parsable2", "show", *what, f"format={','.join(names)}").splitlines()
    return [dict(zip(names, line.split("|"), strict=True)) for line in lines if line]


def records(text: str) -> list[dict[str, str]]:
    """Read what `scontrol --oneliner show` prints: a record per line, Key=Value each."""
    return [dict(re.findall(r"(?:^| )([\w/:]+)=(\S*)", line)) for line in text.splitlines()]


def minutes(text: str) -> float:
    """Return the minutes of a time as Slurm writes it ([days-]hours:minutes:seconds); infinity where it has none."""
    if not text[:1].isdigit():
        return float("inf")
    days, _, clock = text.rpartition("-")
    parts = reversed([int(part) for part in clock.split(":")])
    seconds = sum(part * unit for part, unit in zip(parts, (1, 60, 3600), strict=False))
    return 1440 * int(days or 0) + seconds / 60


def count_gpus(gres: str) -> int:
    """Count the GPUs of a node by its Gres: gpu:4, gpu:h100:8(S:0-1), several kinds after commas."""
    return sum(int(number) for number in re.findall(r"\bgpu:(?:[^:,()]+:)?(\d+)", gres))


def limit(record: dict[str, str], key: str) -> float:
    """Return a number that a record limits something to; infinity where it has no such limit."""
    return int(record[key]) if record.get(key, "").isdigit() else float("inf")


def resources(text: str) -> dict[str, float]:
    """Read numbers of resources as sacctmgr prints them: cpu=6,mem=64G,gres/gpu=2; memory becomes MB."""
    found = re.findall(r"([a-z/]+)=(\d+)([KMGT]?)", text)
    return {name: int(number) * UNITS[unit] for name, number, unit in found}


def limits(who: str, record: dict[str, str]) -> Limits:
    """Read what sacctmgr says of an account or a QOS; a job alone cannot have what all together may not."""
    most: dict[str, float] = {}
    for key in ("MaxTRES", "MaxTRESPU", "GrpTRES"):
        for name, number in resources(record.get(key, "")).items():
            most[name] = min(number, most.get(name, number))
    jobs = min(limit(record, key) for key in ("MaxSubmitJobs", "MaxSubmitPU", "GrpSubmit"))
    return Limits(who, minutes(record["MaxWall"]), most, jobs)


@dataclass
class Cluster:
    """Ask a cluster about itself, each asked once; `seconds` pass between Snakemake's looks at its jobs."""

    seconds: int = 20
    user: str = field(default_factory=getpass.getuser)

    @cached_property
    def settings(self) -> dict[str, str]:
        return dict(re.findall(r"^(\w+) +=[ \t]*(.*?) *$", ask("scontrol", "show", "config"), re.MULTILINE))

    @cached_property
    def partitions(self) -> dict[str, dict[str, str]]:
        found = records(ask("scontrol", "--oneliner", "show", "partition"))
        return {one["PartitionName"]: one for one in found if "PartitionName" in one}

    @cached_property
    def nodes(self) -> list[dict[str, str]]:
        return [one for one in records(ask("scontrol", "--oneliner", "show", "node")) if "NodeName" in one]

    @cached_property
    def associations(self) -> list[dict[str, str]]:
        """Return this user's accounts with their limits, which include those of the accounts above."""
        names = ["Account", "Partition", "MaxWall", "MaxSubmitJobs", "DefaultAccount", "QOS", "DefaultQOS"]
        return accounting(
            [*names, *RESOURCES], "user", self.user, "withassoc", f"cluster={self.settings['ClusterName']}"
        )

    @cached_property
    def qualities(self) -> dict[str, dict[str, str]]:
        """Return qualities of service with their limits, by name."""
        found = accounting(["Name", "MaxWall", "MaxSubmitPU", "MaxTRESPU", *RESOURCES], "qos")
        return {one["Name"]: one for one in found}

    def accounts(self, request: Request) -> list[dict[str, str]]:
        """Return the associations that a request (without an account: by the default one) falls under."""
        partition = self.partition(request)
        name = partition["PartitionName"] if partition else ""
        own = [one for one in self.associations if one["Account"] == (request.account or one["DefaultAccount"])]
        return [one for one in own if one["Partition"] in ("", name)]

    def limits(self, request: Request) -> list[Limits]:
        """Return the limits that a request falls under: of its account, its QOS, and that of its partition."""
        if not self.enforces("limits"):
            return []
        accounts = self.accounts(request)
        names = {request.qos} if request.qos else {one["DefaultQOS"] for one in accounts}
        names.add((self.partition(request) or {}).get("QoS", ""))
        found = [limits(f"account '{one['Account']}'", one) for one in accounts]
        return found + [limits(f"QOS '{name}'", one) for name, one in self.qualities.items() if name in names]

    def enforces(self, what: str) -> bool:
        """Return whether the cluster enforces `associations`, `limits` or `qos`."""
        return what in self.settings.get("AccountingStorageEnforce", "").split(",")

    @property
    def keeps_accounts(self) -> bool:
        return self.settings.get("AccountingStorageType", "").endswith("slurmdbd")

    @property
    def min_job_age(self) -> int:
        """Return the seconds for which the controller remembers a job after its end."""
        return int(self.settings.get("MinJobAge", "300").split()[0])

    @property
    def forgets(self) -> bool:
        """Return whether the controller forgets a job before its end has been seen for certain."""
        return self.min_job_age < LOOKS * self.seconds

    @property
    def status_command(self) -> str:
        """Return the command that says what became of jobs: squeue, which needs no database, where it knows for long
        enough; otherwise sacct."""
        return "sacct" if self.forgets and self.keeps_accounts else "squeue"

    def partition(self, request: Request) -> dict[str, str] | None:
        """Return the partition that a request goes to: the one it names, or the default."""
        if request.partition:
            return self.partitions.get(request.partition)
        return next((one for one in self.partitions.values() if one.get("Default") == "YES"), None)

    def in_partition(self, name: str) -> list[dict[str, str]]:
        return [node for node in self.nodes if name in node.get("Partitions", "").split(",")]
