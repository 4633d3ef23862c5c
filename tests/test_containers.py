"""What containers and pods are made of names what is there: no image can be built here, where no daemon runs."""

import re

import yaml

from flip.config.resolve import read_project
from tests.miniature import ROOT


def test_containers_have_the_pinned_packages_and_the_python_they_are_pinned_for():
    texts = [(ROOT / "envs" / name).read_text() for name in ("Dockerfile", "apptainer.def")]
    base = {re.search(r"(?:FROM|From:) (\S+)", text)[1] for text in texts}
    assert base == {"python:3.11-slim-bookworm"}
    for text in texts:
        assert "pip install --no-cache-dir -r /tmp/requirements.txt" in text
        assert "PYTHONPATH=/work" in text


def test_the_pod_asks_for_what_a_job_of_its_scale_does():
    job = yaml.safe_load((ROOT / "kubernetes/job.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    mounted = {one["name"] for one in container["volumeMounts"]}
    assert mounted == {one["name"] for one in pod["volumes"]}
    asked = read_project("params.yaml", "cc12m").baseline.resources.pretrain
    assert int(container["resources"]["limits"]["nvidia.com/gpu"]) == asked.processes * asked.gpus
    assert int(container["resources"]["requests"]["cpu"]) == asked.cores
    assert f"{asked.cores}" in container["command"]
    assert "scale=cc12m" in container["command"]
