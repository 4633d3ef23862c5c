"""On a real Slurm: jobs go through sbatch and get what they ask for; a training job that is
stopped ahead of its time limit or ended by it, cancelled, preempted, or loses its node goes on from its
checkpoint, once each in a single run, and ends with the weights of one that nobody disturbed; several processes, on a
node and on several, train what one does."""

import re
import shutil
import signal
import subprocess
import sys

import pandas as pd
import pytest
from safetensors.torch import load_file

from flip.files import read_json
from tests.miniature import ROOT, call, copy_workflow, edit, environment, planned, shrink, snakemake
from tests.miniature import write_params as change_params
from tests.slurm_cluster import NODES, SOON, Unavailable, cluster, kill_where, slurm, until

pytestmark = [pytest.mark.slurm, pytest.mark.long(5)]
# As a site would; GPU jobs go elsewhere.
SITE = {"SBATCH_PARTITION": "normal", "SBATCH_GPU_PARTITION": "gpu"}
WORDS = ["snakemake", "--profile", "slurm", "--jobs", "4", *SOON]
RUN = "results/tiny/long/seed-0"
FAILURES = {"scancel": "CANCELLED", "timeout": "TIMEOUT"}  # what Snakemake has to submit anew, and as which it sees it
STRIDE = 500  # samples between accidents: more than a percent of the run
SLOWLY = "slowly"  # while a file of this name is there, steps take a tenth of a second each
TRAINED = ("clip", "long")


def slower(tree):
    """The miniature with few jobs, images that come at once, and a variant long enough to be disturbed."""
    tree = shrink(tree)
    tree["scales"]["tiny"].setdefault("download", {})["parts"] = 1
    tree["scales"]["tiny"].setdefault("shards", {})["buckets"] = 1
    tree["base"]["world"]["faults"] = dict.fromkeys(tree["base"]["world"]["faults"], 0.0) | {"not_found": 0.05}
    tree["scales"]["tiny"]["evaluate"] |= {"sets": {"fine": "world"}, "probe": ["fine"]}
    tree["base"]["resources"]["pretrain"] |= {"gpus": 1, "minutes": 20, "stop_seconds": 600}
    tree["scales"]["tiny"]["train"]["checkpoint_minutes"] = 0.02
    long = {"masking": {"image": 0.5}, "train": {"epochs_scale": 25.0}}
    tree["variants"] = {name: tree["variants"].get(name, long) for name in TRAINED}
    tree["tables"] = {"a": tree["tables"]["a"] | {"variants": list(TRAINED), "metrics": ["fine"]}}
    tree["tradeoff"]["curves"] = {"mask 50%": ["long"]}
    return tree


class Disturbed:
    """The run of the variant `long`, as it goes through what happens to it."""

    def __init__(self, folder, one):
        self.folder, self.cluster = folder, one
        self.log = folder / "logs/pretrain/tiny/long/seed-0.log"
        self.seen: dict[str, dict] = {}

    def job(self) -> dict | None:
        """The running job: number, node and all that Slurm says of it."""
        words = ["--noheader", "--states=RUNNING", "--format=%i %N %k"]
        for line in slurm("squeue", *words).splitlines():
            number, node, comment = line.split()
            if comment == "rule_pretrain_wildcards_tiny_long_0":
                said = slurm("scontrol", "--oneliner", "show", "job", number)
                return {"number": number, "node": node, "said": dict(re.findall(r"(\S+?)=(\S*)", said))}
        return None

    def reached(self) -> int:
        """Samples behind the newest checkpoint."""
        found = (self.folder / "checkpoints/tiny/long/seed-0").glob("checkpoint-*.pt")
        return max((int(path.stem.split("-")[1]) for path in found), default=0)

    def began(self) -> int | None:
        """Percent of the run at which the job at work began, from the first word of its progress."""
        found = re.search(r"(\d+)%\|", self.log.read_text()) if self.log.exists() else None
        return int(found[1]) if found else None

    def meet(self, what: str, accident) -> None:
        """Waits for a checkpoint of the job at work, lets something happen to it, and notes how the next one began."""
        before = self.reached()
        job = until(self.job, f"a job before {what}")
        until(lambda: self.reached() > before + STRIDE, f"a checkpoint before {what}")
        accident(job)
        until(lambda: self.job() is None, f"the end of the job after {what}")
        self.log.unlink()
        before = self.reached()
        after = until(self.job, f"a job after {what}")
        until(lambda: self.began() is not None, f"progress after {what}")
        self.seen[what] = {"job": job, "after": after, "samples": before, "began": self.began()}

    def run_into_limit(self, job: dict) -> None:
        """The limit comes to where it is less than stop_seconds away, and goes again when that has been seen."""
        slurm("scontrol", "update", f"JobId={job['number']}", "TimeLimit=10")
        until(lambda: self.job() is None, "the end of the job ahead of its limit")
        slurm("scontrol", "update", f"JobId={job['number']}", "TimeLimit=20")

    def run_out_of_time(self, job: dict) -> None:
        """The launcher, which would have ended the job ahead of its limit, hangs, and Slurm ends it. Training hangs,
        too: it might come to its end by itself."""
        of_job, hanging = f"SLURM_JOB_ID={job['number']}".encode(), {b"flip.train.launch", b"flip.train"}

        def hangs(process) -> bool:
            words, variables = ((process / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
            return bool(hanging & set(words)) and b"flip.provenance.receipt" not in words and of_job in variables

        kill_where(hangs, signal.SIGSTOP)
        slurm("scontrol", "update", f"JobId={job['number']}", "EndTime=now+1")

    def preempt(self, job: dict) -> None:
        """Somebody more important wants the whole node for a moment."""
        words = ["--partition=urgent", "--exclusive", f"--nodelist={job['node']}", "--output=/dev/null", "--wrap=true"]
        slurm("sbatch", *words)

    def lose_node(self, job: dict) -> None:
        """Its power goes; the controller, which would notice that for itself after a while, is told."""
        self.cluster.crash(job["node"])
        slurm("scontrol", "update", f"NodeName={job['node']}", "State=DOWN", "Reason=power")

    def go(self) -> None:
        """Failures come first: Snakemake looks more seldom the longer nothing ends."""
        self.meet("scancel", lambda job: slurm("scancel", job["number"]))
        self.meet("timeout", self.run_out_of_time)
        self.meet("preemption", self.preempt)
        self.meet("node", self.lose_node)
        self.meet("limit", self.run_into_limit)
        # Not before: the order to end the job, which the node could not be given, reaches it when it is back, and would
        # end the same job's next run there.
        for node in NODES:
            if node not in self.cluster.daemons:
                self.cluster.start_node(node)


@pytest.fixture(scope="session")
def one_cluster():
    if " " in sys.executable:
        pytest.skip("Snakemake starts jobs with the interpreter's path as it is, and it has a space")
    try:
        with cluster() as one:
            yield one
    except Unavailable as why:
        pytest.skip(str(why))


@pytest.fixture(scope="session")
def run(one_cluster, tmp_path_factory):
    """The workflow's folder after `snakemake --profile slurm ablations`, and what was met on the way."""
    folder = copy_workflow(tmp_path_factory.mktemp("slurm"))
    change_params(folder, slower)
    edit(folder, "flip/train/launch.py", "LOOK = 20", "LOOK = 2")  # a test cannot wait as long as is polite
    step = "        while run.done < run.steps:\n"
    edit(folder, "flip/train/loop.py", step, f"{step}            time.sleep(0.1 * Path('{SLOWLY}').exists())\n")
    (folder / SLOWLY).touch()
    snakemake(folder, "data")  # on this machine, as each job of a cluster takes ten times as long to start
    disturbed = Disturbed(folder, one_cluster)
    disturbed.plan = planned(snakemake(folder, "-n", "ablations"))
    output = folder / "snakemake.log"
    with (
        open(output, "w") as log,
        subprocess.Popen(
            [*WORDS, "ablations"], cwd=folder, env=environment(folder) | SITE, stdout=log, stderr=log
        ) as process,
    ):
        try:
            until(lambda: disturbed.job() or process.poll() is not None, "the training", 900)
            disturbed.queue = call(ROOT, "make", "--no-print-directory", "queue")
            disturbed.go()
            (folder / SLOWLY).unlink()
            process.wait(timeout=600)
        except Exception as error:
            process.kill()
            raise AssertionError(f"{error}\n{output.read_text()}") from error
    disturbed.output = output.read_text()
    disturbed.losses = losses(folder / "results/tiny/clip/seed-0")
    assert process.returncode == 0, disturbed.output
    return disturbed


def test_jobs_went_through_sbatch(run):
    submitted = re.findall(r"has been submitted with SLURM jobid \d+ \(log: \S+/rule_(\w+)/", run.output)
    counts = {rule: submitted.count(rule) for rule in set(submitted)}
    local = ("ablations", "preflight")
    wanted = {rule: count for rule, count in run.plan.items() if rule not in local}
    assert counts == wanted | {"pretrain": wanted["pretrain"] + len(FAILURES)}
    for name in TRAINED:
        assert (run.folder / f"results/tiny/{name}/seed-0/metrics.json").exists()
    assert (run.folder / "tables/tiny/ablations/index.html").exists()
    assert "Nothing to be done" in snakemake(run.folder, "-n", "ablations")


def test_a_job_gets_what_its_stage_asks_for(run):
    said = run.seen["limit"]["job"]["said"]
    assert said["TresPerJob"] == "gres:gpu:1"
    assert said["TresPerNode"] == "gres:gpu:1"
    assert (said["NumNodes"], said["CPUs/Task"], said["MinMemoryNode"]) == ("1", "1", "3000M")
    assert (said["TimeLimit"], said["Partition"]) == ("00:20:00", SITE["SBATCH_GPU_PARTITION"])
    assert said["JobName"].startswith("flip_")
    assert "rule_pretrain_wildcards_tiny_long_0" in run.queue


@pytest.mark.parametrize("what", ["scancel", "timeout", "preemption", "node", "limit"])
def test_a_run_goes_on_from_its_checkpoint(run, what):
    met, total = run.seen[what], read_json(run.folder / RUN / "training.json")["samples"]
    assert met["began"] >= 100 * met["samples"] // total >= 1
    # Slurm runs the same job again, but for those that it calls failed.
    assert (met["job"]["number"] == met["after"]["number"]) == (what not in FAILURES)


def test_snakemake_sees_no_other_failures(run):
    failures = re.findall(r"^Error in rule pretrain:", run.output, re.MULTILINE)
    assert len(failures) == len(FAILURES), run.cluster.said()
    assert set(re.findall(r"SLURM status is: '(\w+)'", run.output)) == set(FAILURES.values())


def test_the_weights_are_those_of_an_undisturbed_run(run, tmp_path):
    spec = read_json(run.folder / "receipts/tiny/variants/long/seed-0/pretrain.json")
    command = spec["command"].split(" -- ")[1].split()
    for option in ("--out", "--checkpoints"):
        command[command.index(option) + 1] = str(tmp_path / option)
    call(run.folder, sys.executable, *command)
    disturbed, alone = (load_file(path / "weights.safetensors") for path in (run.folder / RUN, tmp_path / "--out"))
    assert disturbed.keys() == alone.keys()
    assert all(disturbed[name].equal(alone[name]) for name in alone)


def ask_for(folder, **resources) -> None:
    def more(tree):
        tree["base"]["resources"]["pretrain"] |= resources
        return tree

    change_params(folder, more)


def losses(folder) -> list[float]:
    """Of each step."""
    return pd.read_csv(folder / "log.csv").loss.tolist()


@pytest.mark.parametrize("what", ["nodes", "processes"])
def test_several_processes_train_what_one_does(run, what):
    """srun starts them on several nodes, torchrun on one. Up to rounding, which Adam magnifies in the course of the
    steps."""
    folder, name = run.folder, "clip"
    results = folder / f"results/tiny/{name}/seed-0"
    alone = run.losses
    ask_for(folder, **{what: 2})
    shutil.rmtree(folder / f"receipts/tiny/variants/{name}")
    shutil.rmtree(results)
    words = [*WORDS, f"receipts/tiny/variants/{name}/seed-0/pretrain.json"]
    done = subprocess.run(
        words, cwd=folder, env=environment(folder) | SITE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert read_json(results / "training.json")["processes"] == 2
    together = losses(results)
    assert together[0] == pytest.approx(alone[0], rel=1e-4)
    assert together == pytest.approx(alone, rel=0.02)
    ask_for(folder, **{what: 1})
