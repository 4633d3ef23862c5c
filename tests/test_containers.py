"""What containers and pods are made of names what is there; Kubernetes's own client reads the pod, and the command of
that plans a workflow. No image can be built here and no pod can run, as no daemon does."""

import json
import os
import re
import subprocess

import pytest
import yaml

from flip.config.resolve import read_project
from tests.miniature import ROOT, copy_workflow, environment, planned
from tests.programs import Unavailable, need

POD = ROOT / "kubernetes/job.yaml"


@pytest.fixture
def container():
    [found] = yaml.safe_load(POD.read_text())["spec"]["template"]["spec"]["containers"]
    return found


def test_containers_have_the_pinned_packages_and_the_python_they_are_pinned_for():
    texts = [(ROOT / "envs" / name).read_text() for name in ("Dockerfile", "apptainer.def")]
    base = {re.search(r"(?:FROM|From:) (\S+)", text)[1] for text in texts}
    assert base == {"python:3.11-slim-bookworm"}
    for text in texts:
        assert "pip install --no-cache-dir -r /tmp/requirements.txt" in text
        assert "PYTHONPATH=/work" in text


def test_the_pod_asks_for_what_a_job_of_its_scale_does(container):
    pod = yaml.safe_load(POD.read_text())["spec"]["template"]["spec"]
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["volumes"]}
    asked = read_project("params.yaml", "cc12m").baseline.resources.pretrain
    assert int(container["resources"]["limits"]["nvidia.com/gpu"]) == asked.processes * asked.gpus
    assert int(container["resources"]["requests"]["cpu"]) == asked.cores
    assert f"{asked.cores}" in container["command"]
    assert "scale=cc12m" in container["command"]


def within(part, whole) -> bool:
    """Whether all that a tree says is in another, which may say more."""
    if isinstance(part, dict):
        return all(key in whole and within(value, whole[key]) for key, value in part.items())
    if isinstance(part, list):
        return len(part) == len(whole) and all(map(within, part, whole))
    return part == whole


def test_kubernetes_reads_all_of_the_pod():
    """Its client, without a cluster, drops fields that Kubernetes does not know, and refuses values that are none."""
    try:
        need("kubectl")
    except Unavailable as why:
        pytest.skip(str(why))
    words = ["kubectl", "annotate", "--local", "--filename", POD, "read=yes"]
    read = json.loads(subprocess.run([*words, "--output=json"], capture_output=True, text=True, check=True).stdout)
    assert within(yaml.safe_load(POD.read_text()), read)


def test_what_the_pod_runs_plans_a_workflow(container, tmp_path):
    folder = copy_workflow(tmp_path)
    variables = {one["name"]: one["value"].replace("/work/flip", str(folder)) for one in container["env"]}
    env = environment(folder) | variables | {"PYTHONPATH": f"{variables['PYTHONPATH']}{os.pathsep}{ROOT}/slurm/startup"}
    done = subprocess.run(
        [*container["command"], "--dry-run"], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert planned(done.stdout + done.stderr)["pretrain"] > 1
