"""What a run says of itself: jobs, share of the work by time, time left, losses, from Snakemake's own log; few lines on
a terminal however many jobs there are; and a webhook that is told the end, and fails nothing."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from flip.files import write_json
from flip.provenance.layout import Layout
from flip.report import watch
from tests.miniature import environment

LAYOUT = Layout("tiny")
WORKFLOW = """
rule all:
    input: expand("out/{part}", part=range(120))
rule evaluate:
    output: "out/{part}"
    wildcard_constraints: part="(?!7$).*"
    shell: "touch {output}"
rule pretrain:
    output: "out/7"
    shell: "BROKEN touch {output}"
"""
LOG = """
Job stats:
job         count
--------  -------
evaluate        2
pretrain        2
total           4

[Mon Nov 30 20:56:25 2026]
rule pretrain:
    output: receipts/tiny/variants/clip/seed-0/pretrain.json (update)
    jobid: 3
    wildcards: scale=tiny, variant=clip, seed=0
[Mon Nov 30 20:56:25 2026]
rule pretrain:
    jobid: 4
    wildcards: scale=tiny, variant=long, seed=0
[Mon Nov 30 20:56:34 2026]
Finished jobid: 3 (Rule: pretrain)
1 of 4 steps (25%) done
Error in rule pretrain:
    jobid: 4
[Mon Nov 30 20:57:06 2026]
rule pretrain:
    jobid: 4
    wildcards: scale=tiny, variant=long, seed=0
"""
PROGRESS = (
    " 28%|##   | 3.76k/13.2k [00:05<02:00, ?sample/s]\r 50%|####  | 6k/13.2k [00:10<01:30, 869sample/s, loss=0.751]"
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def receipt(name: str, seconds: int) -> None:
    times = {"start": "2026-11-30T10:00:00+00:00", "end": f"2026-11-30T10:{seconds // 60:02}:{seconds % 60:02}+00:00"}
    write_json(Path(LAYOUT.receipts.root) / name, times)


def test_work_is_measured_in_time_and_losses_are_shown():
    """A training of 300 s is done and one is at its half, evaluations take 30 s: 450 of 660 s; 90 s by the progress."""
    receipt("variants/clip/seed-0/pretrain.json", 300)
    receipt("variants/old/seed-0/evaluate.json", 30)
    log = Path(LAYOUT.log("pretrain", "long", "seed-0"))
    log.parent.mkdir(parents=True)
    log.write_text(PROGRESS)
    run = watch.read_log(LOG)
    assert (run.jobs, run.finished, run.working["4"][0], run.failures) == (4, {"3": "pretrain"}, "pretrain", 1)
    found = watch.progress(run, LAYOUT)
    text, share = str(found), found.share
    assert share == pytest.approx(450 / 660)
    assert text.startswith("1 of 4 jobs; 68% of the work; about 0:03:30 left; long 50% loss 0.751; 1 failed")


def test_a_run_that_has_said_nothing_has_a_line_too():
    found = watch.progress(watch.read_log(""), LAYOUT)
    assert (str(found), found.share) == ("0 of 0 jobs; 0% of the work; about 0:00:00 left", 0.0)


def run(folder, workflow):
    (folder / "Snakefile").write_text(workflow)
    watched = [sys.executable, "-m", "flip", "watch", "--scale", "tiny", "--pause", "0.2"]
    words = [*watched, "--", "snakemake", "--cores", "4"]
    return subprocess.run(words, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)


def test_few_lines_however_many_jobs_and_the_page_at_the_end(folder):
    page = Path(LAYOUT.tables) / "ablations/index.html"
    page.parent.mkdir(parents=True)
    page.write_text('<section class="key"><ul>\n<li>flip-50: <b>+1</b> &lt; 2 points.</li></ul></section>')
    done = run(folder, WORKFLOW.replace("BROKEN", ""))
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "121 of 121 jobs; 100% of the work; about 0:00:00 left" in lines[-3]
    assert lines[-2:] == [f"Done: {page}", "flip-50: +1 < 2 points."]
    assert len(lines) <= 60
    assert Path(lines[0].split()[-1]).read_text().count("Finished jobid") == 121


def test_a_failure_says_what_and_where_in_few_lines(folder):
    done = run(folder, WORKFLOW.replace("range(120)", "range(6, 8)"))
    assert done.returncode == 1
    assert "Error in rule pretrain:" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("Failed: logs/run/tiny/")
    assert len(done.stdout.splitlines()) <= 60


def test_the_end_is_told_to_a_url(monkeypatch, capsys):
    told = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204 if len(told) == 1 else 500)
            self.end_headers()

        def log_message(self, *_):
            pass

    watch.tell("nobody asked")
    with HTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv(watch.WEBHOOK, f"http://127.0.0.1:{server.server_port}/")
        watch.tell("Done.")
        watch.tell("Done.")  # the server is broken
        server.shutdown()
    monkeypatch.setenv(watch.WEBHOOK, "no url")
    watch.tell("Done.")
    assert told == [{"text": "Done.", "content": "Done."}] * 2
    assert capsys.readouterr().err.count("$FLIP_WEBHOOK: not called (") == 2
