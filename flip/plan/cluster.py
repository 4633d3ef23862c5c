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
from flip.plan import nodes
from flip.plan.slurm import LOOKS, Cluster, Limits, NoAnswer, Request, ask, count_gpus, limit, minutes

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
        found.append(replace(one, account=site.get("slurm_account"), qos=os.environ.get("SBATCH_QOS")))
    return found


def profile_faults(resources: Resources, profile: str = "slurm/config.yaml") -> tuple[list[str], list[str]]:
    """Find which jobs of a scale the cluster would refuse or never run, by the profile that Snakemake would use, and
    where nodes do not see this folder. Return the faults, and why nodes could not look at it.
    """
    with open(profile) as file:
        read = yte.process_yaml(file)
    cluster = Cluster(read["seconds-between-status-checks"])
    requests = requests_of(resources, read["default-resources"])
    found = faults(cluster, requests, read["jobs"])
    return (found, []) if found else nodes.look(requests, read["latency-wait"])


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
    if not cluster.enforces("associations"):
        return
    there = sorted({one["Account"] for one in cluster.associations})
    if not there:
        yield f"user '{cluster.user}' has no account on this cluster; ask its administrator for one"
    elif request.account and request.account not in there:
        said = f"account '{request.account}': not one of {cluster.user}'s, which are: {', '.join(there)}"
        yield f"{said}; {SITE.format('SBATCH_ACCOUNT')}"


def qos_faults(cluster: Cluster, request: Request) -> Iterator[str]:
    """Find a quality of service that is not this user's; its limits are `limit_faults`."""
    if not request.qos or not cluster.enforces("qos"):
        return
    there = sorted({name for one in cluster.accounts(request) for name in one["QOS"].split(",")})
    if there and request.qos not in there:
        said = f"QOS '{request.qos}': not one of {cluster.user}'s with this account, which are: {', '.join(there)}"
        yield f"{said}; {SITE.format('SBATCH_QOS')}"


def limit_faults(cluster: Cluster, request: Request, partition: dict[str, str]) -> Iterator[str]:
    """Find a limit below the minutes or the resources asked for, with which a job may wait for ever."""
    name, asked = partition["PartitionName"], request.resources()
    allowed = [Limits(f"partition '{name}'", minutes(partition.get("MaxTime", "")), {}, 0), *cluster.limits(request)]
    for one in allowed:
        if request.minutes > one.minutes:
            said = f"minutes = {request.minutes}: {one.who} allows {one.minutes:g}"
            yield f"{said}; {ASKED} (training goes on in further jobs)"
        for what, most in one.resources.items():
            if asked.get(what, 0) > most:
                yield f"{what} = {asked[what]}: {one.who} allows a job {most:g}; {ASKED}"


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


def site_faults(cluster: Cluster, jobs: int, requests: Sequence[Request]) -> Iterator[str]:
    """Find what is wrong whatever jobs ask for."""
    if cluster.forgets and not cluster.keeps_accounts:
        yield (
            f"MinJobAge = {cluster.min_job_age} s, and there is no accounting: looks every {cluster.seconds} s might "
            f"miss the end of a job; say --seconds-between-status-checks {max(cluster.min_job_age // LOOKS, 1)}"
        )
    own = {one.who: one.jobs for request in requests for one in cluster.limits(request)}
    own["MaxJobCount"] = limit(cluster.settings, "MaxJobCount")
    who = min(own, key=lambda name: own[name])
    if jobs > (most := own[who]):
        yield f"jobs = {jobs}: {cluster.user} may have {most:g} at a time ({who}); say --jobs {most:g}, or less"


def refusals(request: Request) -> Iterator[str]:
    """Ask sbatch whether it would take such a job."""
    try:
        ask("sbatch", "--test-only", *request.options(), "--wrap=true")
    except NoAnswer as error:
        if not re.search(PASSES, str(error)):
            yield f"{error} (of a job with {' '.join(request.options())})"


def request_faults(cluster: Cluster, request: Request) -> Iterator[str]:
    found = [*partition_faults(cluster, request), *account_faults(cluster, request), *qos_faults(cluster, request)]
    partition = cluster.partition(request)
    if partition:
        found += [*limit_faults(cluster, request, partition), *size_faults(cluster, request, partition)]
    yield from found or refusals(request)


def message(found: list[str]) -> str:
    """Say all that was found."""
    return "\n  ".join(["The cluster would not run these jobs:", *found])


def faults(cluster: Cluster, requests: Sequence[Request], jobs: int) -> list[str]:
    """Find all for which the cluster would refuse jobs or never run them; `jobs` are submitted at a time at most."""
    if found := [*command_faults()]:
        return found
    rules: dict[str, list[str]] = defaultdict(list)
    try:
        found = [*site_faults(cluster, jobs, requests)]
        for request in requests:
            for fault in request_faults(cluster, request):
                rules[fault].append(request.name)
    except NoAnswer as error:
        return [f"the cluster does not answer ({error}); try again when it does"]
    return [*found, *(f"{', '.join(names)}: {fault}" for fault, names in rules.items())]
