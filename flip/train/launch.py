"""Start a trainer in as many processes as its job has, and let it resume beyond the time limit of the job.

    python -m flip.train.launch --nodes 1 --processes 8 --threads 12 --gpus 1 -- -m flip.train --params ...

A single process is the trainer itself; several on a node are started by torchrun, several on several nodes by srun
inside a job of Slurm. Each finds its rank by RANK, WORLD_SIZE and LOCAL_RANK, or SLURM_PROCID, SLURM_NTASKS and
SLURM_LOCALID, and the others by MASTER_ADDR and MASTER_PORT.

In a job of Slurm, some time before its time limit, a file appears that FLIP_STOP_FILE names. The trainer then writes a
checkpoint and ends; the job is requeued and resumes from there. To whoever waits for it, it has never ended.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from flip.processes import end_with_parent, exit_code, foreground

STOPS = Path(".flip/stop")  # below the project's folder, which all nodes see
LOOK = 20  # seconds between looks at the limit, which an administrator may move
PORTS = range(20000, 30000)  # below those that a system hands out
SINGLE_PROCESS = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}  # whatever tasks the job may have besides


def build_command(options: argparse.Namespace) -> list[str]:
    """Return the command that starts all processes.

    Raises:
        ValueError: several nodes outside a job of Slurm.
    """
    nodes, processes = options.nodes, options.processes
    if nodes == processes == 1:
        return [sys.executable, *options.trainer]
    if nodes == 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        return [sys.executable, *torchrun, "-m", "flip.train.launch", "--child", "--", *options.trainer]
    if "SLURM_JOB_ID" not in os.environ:
        raise ValueError(
            f"--nodes {nodes}: several nodes are to be had in a job of Slurm alone; use `snakemake --profile slurm`, "
            "or set resources.pretrain.nodes of the scale to 1 in params.yaml"
        )
    step = [f"--nodes={nodes}", f"--ntasks={nodes * processes}", f"--ntasks-per-node={processes}"]
    step += [f"--cpus-per-task={options.threads}", "--kill-on-bad-exit=1"]
    if options.gpus:  # every process sees those of its node, as under torchrun
        step += [f"--gres=gpu:{processes * options.gpus}", "--gpu-bind=none"]
    return ["srun", *step, sys.executable, *options.trainer]


def scontrol(*command: str) -> dict[str, str]:
    """Return what scontrol prints, as a mapping; empty where Slurm does not answer."""
    done = subprocess.run(["scontrol", "--oneliner", *command], capture_output=True, text=True, check=False)
    return dict(re.findall(r"(\w+)=(\S*)", done.stdout))


def meeting_point(job: str) -> dict[str, str]:
    """Return the address where the processes of several nodes meet: the job's first node, and a port derived from its
    id."""
    node = scontrol("show", "job", job)["BatchHost"]
    address = scontrol("show", "node", node)["NodeAddr"]
    return {"MASTER_ADDR": address, "MASTER_PORT": str(PORTS[int(job) % len(PORTS)])}


def seconds_left(job: str) -> float:
    """Return the seconds until the time limit; infinity where there is none, or while Slurm does not answer."""
    try:
        return datetime.fromisoformat(scontrol("show", "job", job)["EndTime"]).timestamp() - time.time()
    except (KeyError, ValueError):
        return float("inf")


def wait(process: subprocess.Popen, job: str, stop: Path, lead: float) -> None:
    """Wait for the trainer, and ask it to stop `lead` seconds before the job's time limit."""
    while process.poll() is None:
        left = seconds_left(job) - lead
        if left <= 0:
            stop.touch()
            process.wait()
        try:
            process.wait(min(left, LOOK))
        except subprocess.TimeoutExpired:
            continue


def requeue(job: str) -> None:
    """Requeue this job, unless it has been cancelled meanwhile, and wait for Slurm to end it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if scontrol("show", "job", job).get("JobState") == "RUNNING":
        subprocess.run(["scontrol", "requeue", job], check=False)
        signal.sigtimedwait({signal.SIGTERM}, LOOK)


def run_in_job(command: list[str], job: str, options: argparse.Namespace) -> int:
    """Run the trainer in a job of Slurm, which is requeued if it was stopped for the time limit; return its exit
    code."""
    stop = (STOPS / job).absolute()
    stop.parent.mkdir(parents=True, exist_ok=True)
    stop.unlink(missing_ok=True)
    environment = os.environ | {"FLIP_STOP_FILE": str(stop)}
    if options.nodes > 1:
        environment |= meeting_point(job)
    with foreground(command, environment) as process:
        wait(process, job, stop, options.stop_seconds)
    code, stopped = exit_code(process), stop.exists()
    stop.unlink(missing_ok=True)
    if code and stopped:
        requeue(job)
    return code


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.train.launch", description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="per node (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="processor cores per process (default: 1)")
    parser.add_argument("--gpus", type=int, default=0, help="per process (default: 0)")
    parser.add_argument("--stop-seconds", type=float, default=300, help="ahead of the time limit (default: 300)")
    parser.add_argument("--child", action="store_true", help="one of several processes, which ends with its parent")
    parser.add_argument("trainer", nargs="+", help="after --: arguments of Python, such as -m flip.train ...")
    options = parser.parse_args(argv)
    if options.child:
        end_with_parent()
        os.execv(sys.executable, [sys.executable, *options.trainer])
    try:
        command = build_command(options)
    except ValueError as error:
        parser.exit(1, f"{error}\n")
    if options.nodes == options.processes == 1:
        os.environ.update(SINGLE_PROCESS)
    job = os.environ.get("SLURM_JOB_ID")
    if not job:
        os.execv(command[0], command)
    sys.exit(run_in_job(command, job, options))


if __name__ == "__main__":
    main()
