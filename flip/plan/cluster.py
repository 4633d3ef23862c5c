"""Ask a Slurm cluster whether it would take and run the jobs of a workflow, before the first is submitted.

What is certain to fail, or to wait for ever, is one line each: the value, what the cluster allows, where to set it. At
last `sbatch --test-only` is asked for one job of each rule, as sites have rules of their own.
"""

import os
import re
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import yte

from flip.config.sections.resources import JobResources, Resources
from flip.plan.slurm import LOOKS, Cluster, NoAnswer, Request, ask, count_gpus, limit, minutes

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol")
# What sbatch says of a job that would wait: for nodes that are down or in use.
PASSES = "busy|DOWN|down, drained"
SITE = "set {} or write it into slurm/config.yaml"
ASKED = "`resources` of the scale in params.yaml says what jobs ask for"


def place(site: Mapping[str, Any], key: str, gpus: int) -> str | None:
    """Return where jobs go (`partition` or `constraint`): GPUs have a place of their own, if it is named."""
    own = os.environ.get(f"SBATCH_GPU_{key.upper()}") if gpus else None
    return own or site.get("slurm_partition" if key == "partition" else key)


def requests_of(resources: Resources, site: Mapping[str, Any]) -> list[Request]:
    """Return what jobs ask for by a scale's parameters; `site` is `default-resources` of slurm/config.yaml."""
    found = []
    for name in ("data", "pretrain", "evaluate"):
        job: JobResources = getattr(resources, name)
        processes = getattr(job, "processes", 1)
        one = Request(name, job.minutes, job.memory_mb, processes * job.threads, gpus=processes * job.gpus)
        where = [place(site, key, job.gpus) for key in ("partition", "constraint")]
        one = replace(one, nodes=getattr(job, "nodes", 1), partition=where[0], constraint=where[1])
        found.append(replace(one, account=site.get("slurm_account")))
    return found


def profile_faults(resources: Resources, profile: str = "slurm/config.yaml") -> list[str]:
    """Find for which jobs of a scale the cluster would refuse or never run, by the profile that Snakemake would use."""
    with open(profile) as file:
        read = yte.process_yaml(file)
    cluster = Cluster(read["seconds-between-status-checks"])
    return faults(cluster, requests_of(resources, read["default-resources"]), read["jobs"])


def command_faults() -> Iterator[str]:
    if missing := [name for name in COMMANDS if not shutil.which(name)]:
        yield f"{', '.join(missing)}: no such commands here; start this on a login node, or without --profile slurm"
    elif " " in sys.executable:
        yield f"{sys.executable}: Snakemake starts jobs with this path as it is; make .venv where no folder has a space"


def partition_faults(cluster: Cluster, request: Request) -> Iterator[str]:
    there, name = ", ".join(cluster.partitions), request.partition
    remedy = SITE.format("SBATCH_GPU_PARTITION" if request.gpus else "SBATCH_PARTITION")
    found = cluster.partition(request)
    if not found:
        said = f"partition '{name}': there is none of this name" if name else "no partition: the cluster has no default"
        yield f"{said}; there are: {there}; {remedy}"
    elif found["State"] in ("DRAIN", "INACTIVE"):
        yield f"partition '{found['PartitionName']}': takes no jobs ({found['State']}); name another: {remedy}"


def account_faults(cluster: Cluster, request: Request) -> Iterator[str]:
    if "associations" not in cluster.settings.get("AccountingStorageEnforce", ""):
        return
    there = sorted({one["Account"] for one in cluster.associations})
    if not there:
        yield f"user '{cluster.user}' has no account on this cluster; ask its administrator for one"
    elif request.account and request.account not in there:
        said = f"account '{request.account}': not one of {cluster.user}'s, which are: {', '.join(there)}"
        yield f"{said}; {SITE.format('SBATCH_ACCOUNT')}"


def time_faults(cluster: Cluster, request: Request, partition: dict[str, str]) -> Iterator[str]:
    """Find a limit below the minutes asked for, with which a job may wait for ever."""
    name = partition["PartitionName"]
    limits = {f"partition '{name}'": minutes(partition.get("MaxTime", ""))}
    limits |= {f"account '{one['Account']}'": minutes(one["MaxWall"]) for one in cluster.limits(request.account, name)}
    for who, most in limits.items():
        if request.minutes > most:
            yield f"minutes = {request.minutes}: {who} allows {most:g}; {ASKED} (training goes on in further jobs)"


def size_faults(cluster: Cluster, request: Request, partition: dict[str, str]) -> Iterator[str]:
    """Find that too few nodes have the cores, memory, GPUs and features that a job asks for."""
    name, words = partition["PartitionName"], set(re.findall(r"[A-Za-z_][\w.-]*", request.constraint or ""))
    nodes = cluster.in_partition(name)
    features = {one for node in nodes for one in node.get("AvailableFeatures", "").split(",")}
    if unknown := sorted(words - features):
        key = "SBATCH_GPU_CONSTRAINT" if request.gpus else "SBATCH_CONSTRAINT"
        yield f"constraint '{', '.join(unknown)}': a feature of no node of partition '{name}'; {SITE.format(key)}"
    memory = min(limit(partition, "MaxMemPerNode"), max((limit(node, "RealMemory") for node in nodes), default=0))
    wanted = {"cores": request.cores, "MB": request.memory_mb, "GPUs": request.gpus}
    sizes = [
        {"cores": limit(one, "CPUTot"), "MB": min(limit(one, "RealMemory"), memory), "GPUs": count_gpus(one["Gres"])}
        for one in nodes
    ]
    fit = sum(all(wanted[key] <= size[key] for key in wanted) for size in sizes)
    if fit < request.nodes:
        most = {key: max((size[key] for size in sizes), default=0) for key in wanted}
        asked = described(wanted)
        yield (
            f"{request.nodes} x ({asked}): {fit} of the {len(nodes)} nodes of partition '{name}' have that; "
            f"the most of each is {described(most)}; {ASKED}"
        )


def described(size: Mapping[str, float]) -> str:
    return ", ".join(f"{value:.0f} {unit}" for unit, value in size.items())


def site_faults(cluster: Cluster, jobs: int, accounts: set[str | None]) -> Iterator[str]:
    """Find what is wrong whatever jobs ask for."""
    if cluster.forgets and not cluster.keeps_accounts:
        yield (
            f"MinJobAge = {cluster.min_job_age} s, and there is no accounting: looks every {cluster.seconds} s might "
            f"miss the end of a job; say --seconds-between-status-checks {max(cluster.min_job_age // LOOKS, 1)}"
        )
    own = [limit(one, "MaxSubmitJobs") for account in accounts for one in cluster.limits(account)]
    if jobs > (most := min([limit(cluster.settings, "MaxJobCount"), *own])):
        yield f"jobs = {jobs}: {cluster.user} may have {most:g} at a time; say --jobs {most:g}, or less"


def refusals(request: Request) -> Iterator[str]:
    """Ask sbatch whether it would take such a job."""
    try:
        ask("sbatch", "--test-only", *request.options(), "--wrap=true")
    except NoAnswer as error:
        if not re.search(PASSES, str(error)):
            yield f"{error} (of a job with {' '.join(request.options())})"


def request_faults(cluster: Cluster, request: Request) -> Iterator[str]:
    found = [*partition_faults(cluster, request), *account_faults(cluster, request)]
    partition = cluster.partition(request)
    if partition:
        found += [*time_faults(cluster, request, partition), *size_faults(cluster, request, partition)]
    yield from found or refusals(request)


def told(found: list[str]) -> str:
    """Say all that was found."""
    return "\n  ".join(["The cluster would not run these jobs:", *found])


def faults(cluster: Cluster, requests: Sequence[Request], jobs: int) -> list[str]:
    """Find all for which the cluster would refuse jobs or never run them; `jobs` are submitted at a time at most."""
    if found := [*command_faults()]:
        return found
    rules: dict[str, list[str]] = defaultdict(list)
    try:
        found = [*site_faults(cluster, jobs, {one.account for one in requests})]
        for request in requests:
            for fault in request_faults(cluster, request):
                rules[fault].append(request.name)
    except NoAnswer as error:
        return [f"the cluster does not answer ({error}); try again when it does"]
    return [*found, *(f"{', '.join(names)}: {fault}" for fault, names in rules.items())]
