# What happens before the first job and after the last: a look at the cluster, DVC's records, a word to whoever waits.
# Needs start.smk. On Slurm, sbatch and sacct are those of slurm/bin, which wait for what passes.

import shlex

from flip.plan import cluster
from flip.plan.slurm import Cluster, Request
from flip.provenance.receipt import read_by, refusal
from flip.report import watch


def listed(files) -> list[str]:
    """Return the files of a named input, of which Snakemake gives one by itself."""
    return [files] if isinstance(files, str) else files


def to_be_pulled(jobs) -> list[str]:
    """Return what is recorded with DVC and not here, of what jobs read that no other job makes again."""
    jobs = list(jobs)
    again = {path for job in jobs for path in job.output}
    reads = [
        (path, shlex.split(job.shellcmd))
        for job in jobs
        for path in listed(getattr(job.input, "upstream", []))
        if path not in again and path in RECEIPTS.known
    ]
    absent = {
        output
        for path, command in reads
        for output in [
            *read_by(command, RECEIPTS.known[path]),
            *RECEIPTS.known[path]["beside"],
        ]
        if not Path(output).exists()
    }
    return sorted({RECEIPTS.recorded(output) or output for output in absent})


def asked(job) -> Request:
    """What a job asks Slurm for."""
    said = job.resources
    return Request(
        name=job.rule.name,
        minutes=said.runtime,
        memory_mb=said.mem_mb,
        cores=job.threads,
        nodes=said.get("nodes", 1),
        gpus=int(said.get("gres", "gpu:0").split(":")[-1]),
        partition=said.get("slurm_partition"),
        account=said.get("slurm_account"),
        constraint=said.get("constraint"),
        qos=said.get("qos") or os.environ.get("SBATCH_QOS"),
    )


def give_up_on_refusals(tell_error):
    """Let Snakemake not try again what no retry mends: a job that sbatch refuses, which waits for what passes
    (slurm/bin), and one that its inputs or its code, changed since, do not let begin.
    """

    def reported(self, job_info, msg=None, **kwargs):
        job = job_info.job
        refused = any(refusal(path).exists() for path in job.output)
        if refused or (msg or "").startswith("SLURM sbatch failed"):
            job.attempt = job.restart_times + 1
        tell_error(self, job_info, msg, **kwargs)

    return reported


def look_at_cluster() -> None:
    """Refuse to begin what Slurm would refuse; and ask it about jobs in the way that it can answer."""
    from snakemake_executor_plugin_slurm import Executor

    jobs = {
        job.rule.name: job
        for job in workflow.dag.needrun_jobs()
        if not workflow.is_local(job.rule)
    }
    seconds = workflow.remote_execution_settings.seconds_between_status_checks
    one = Cluster(seconds)
    found = cluster.faults(one, [asked(job) for job in jobs.values()], workflow.nodes)
    if found := [*found, *doctor.space_faults(PROJECT)]:
        raise WorkflowError(cluster.message(found))
    workflow.executor_settings.status_command = one.status_command
    Executor.report_job_error = give_up_on_refusals(Executor.report_job_error)
    # The plugin would look more and more seldom while nothing ends, and miss what a cluster soon forgets.
    Executor.next_seconds_between_status_checks = property(
        lambda self: seconds, lambda self, value: None
    )
    os.environ["PATH"] = f"{workflow.basedir}/slurm/bin:{os.environ['PATH']}"


onstart:
    # Not of a dry run, nor where what these make is what is missing.
    if faults and not {"mirror", "specs"} & set(sys.argv):
        raise WorkflowError(doctor.message(SCALE, faults))
    if wanted := to_be_pulled(workflow.dag.needrun_jobs()):
        raise WorkflowError(
            f"Jobs need files that DVC has recorded, but that are missing: `dvc pull {' '.join(wanted)}` fetches them."
        )
    if workflow.executor_plugin.cli_prefix == "slurm":
        look_at_cluster()


def tell(succeeded: bool, log: str) -> None:
    """Whoever waits hears how it ended ($FLIP_WEBHOOK)."""
    watch.tell(f"flip, {SCALE}: {watch.ending(HERE, succeeded, log)}")


onsuccess:
    record()
    tell(True, log)


onerror:
    record()
    tell(False, log)
