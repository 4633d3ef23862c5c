# Set-up happens by itself, once, in .venv; `make help` lists the targets.
SCALE ?= tiny
GPU ?= h100
GPUS ?= 8
VARIANT ?= clip
FORMAT ?= timm
RUN = .venv/bin/python -m
# Few lines here, all of them in a log that is named.
WATCHED = $(RUN) flip watch --scale $(SCALE) -- $(RUN)
PATH := $(CURDIR)/.venv/bin:$(PATH)

# What `make show` looks for.
TEXT ?= a red star on grass

# What else `flip plan --help` lists: make plan PLAN='--gpus-per-job 8 --gigabits 10'.
PLAN ?=

.PHONY: help setup retry ablations systems sweep report reconcile tidy compare show curve plan export watch queue bench bench-losses bench-steps bench-loading bench-whole bench-remote bench-pixels bench-regime bench-duplicates bench-order bench-float8 bench-reductions bench-evaluation bench-pipeline bench-gpu storm rehearse test lint format results results-systems results-scaling results-performance docs lock

help: ## this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

setup: .venv/ready ## virtual environment with the pinned packages and this one

retry: .venv/ready ## ask again for images that failed for a reason that passes (time-outs, busy servers, ...), at SCALE
	$(RUN) snakemake retry --config scale=$(SCALE)
	$(RUN) snakemake data --config scale=$(SCALE)

ablations: .venv/ready ## the ablation tables at SCALE (default: tiny), from the download on
	$(WATCHED) snakemake ablations --config scale=$(SCALE)

systems: .venv/ready ## the tables that compare systems (CLIP, FLIP, SigLIP, MAE, SLIP, FLAVA, ...) at SCALE
	$(WATCHED) snakemake systems siglip hybrids --config scale=$(SCALE)

sweep: .venv/ready ## choose schedules of equal time and what is swept, such as learning rates, for REPORTS (default: all) at SCALE
	$(RUN) snakemake sweep --config scale=$(SCALE) $(if $(REPORTS),reports=$(REPORTS))
	$(RUN) snakemake sweep --config scale=$(SCALE) $(if $(REPORTS),reports=$(REPORTS)) # those that had to wait

report: .venv/ready ## one page with every report of params.yaml, or REPORTS=ablations,systems, at SCALE
	$(WATCHED) snakemake report --config scale=$(SCALE) $(if $(REPORTS),reports=$(REPORTS))

reconcile: .venv/ready ## after git clone and dvc pull: check what came, so that nothing runs again
	$(RUN) flip reconcile

tidy: .venv/ready ## delete what is left of variants and reports that params.yaml no longer has, at SCALE
	$(RUN) flip tidy --scale $(SCALE)

compare: .venv/ready ## all variants side by side: metrics, costs, data
	$(RUN) flip compare --scale $(SCALE)

show: .venv/ready ## what VARIANT makes of TEXT: a page with the best test images, scores, patches, where it looks
	$(RUN) flip show --scale $(SCALE) $(VARIANT) "$(TEXT)"

curve: .venv/ready ## accuracy against samples seen of VARIANT, while it trains
	$(RUN) flip curve --scale $(SCALE) $(VARIANT)

plan: .venv/ready ## what SCALE will cost on NODES x GPUS of GPU: FLOPs, GPU-hours, memory, storage, days
	$(RUN) flip plan --scale $(SCALE) --gpu $(GPU) $(if $(NODES),--nodes $(NODES)) --gpus $(GPUS) $(PLAN)

export: .venv/ready ## VARIANT at SCALE as a model of FORMAT (open_clip, transformers, timm), with a model card
	$(RUN) flip export --variant $(VARIANT) --scale $(SCALE) --format $(FORMAT) --out exported/$(SCALE)/$(VARIANT)/$(FORMAT)

watch: .venv/ready ## how far the run in this folder is: jobs, share of the work, time left, losses
	$(RUN) flip watch --scale $(SCALE)

queue: ## your jobs on the cluster: rule, variant, state, time, nodes
	@squeue --me --format="%.10i %.60k %.10T %.12M %.12l %.6D %R"

bench: .venv/ready ## what was measured against other programs (losses, steps, loading, whole trainings, evaluation, pipeline), again, on this machine: benchmarks/results.json
	$(RUN) benchmarks

bench-losses: .venv/ready ## of `make bench`, the contrastive losses: ten minutes on one core
	$(RUN) benchmarks losses

bench-steps: .venv/ready ## of `make bench`, whole training steps: about 20 minutes on one core
	$(RUN) benchmarks steps

bench-loading: .venv/ready ## of `make bench`, from shards to batches: about three minutes
	$(RUN) benchmarks loading

bench-whole: .venv/ready ## of `make bench`, from tars to updated weights against open_clip's own program, whose Python FLIP_OPEN_CLIP names: ten minutes
	$(RUN) benchmarks whole

bench-remote: .venv/ready ## loading from tars in a bucket, which this machine serves, against the same tars on a disk: two minutes
	$(RUN) benchmarks remote

bench-pixels: .venv/ready ## accuracy after training on the loader's pixels, on PIL's and on resized shards: half an hour on one core
	$(RUN) benchmarks pixels

bench-regime: .venv/ready ## whether `tiny` can show what masking does, by criteria on its baseline and data alone: half an hour on one core
	$(RUN) benchmarks regime

bench-order: .venv/ready ## whether the order of systems has settled: accuracy and rank at one, two and four times their samples; 45 minutes on one core
	$(RUN) snakemake data --config scale=tiny
	$(RUN) benchmarks.order

bench-duplicates: .venv/ready ## which changed copies of images are found, and which different images are dropped: two minutes on one core
	$(RUN) benchmarks duplicates

bench-float8: .venv/ready ## accuracy after training in float8 (emulated, if need be): 20 minutes on one core
	$(RUN) benchmarks float8

bench-reductions: .venv/ready ## what choosing patches and tokens adds to a step, policy by policy against random: about 20 minutes on one core
	$(RUN) benchmarks reductions

bench-evaluation: .venv/ready ## of `make bench`, retrieval, zero-shot heads and linear probes: about 20 minutes on one core
	$(RUN) benchmarks evaluation

bench-pipeline: .venv/ready ## of `make bench`, what dry runs, starts of jobs, intervals and tables take: about ten minutes on one core
	$(RUN) benchmarks pipeline

rehearse: .venv/ready ## table, search for duplicates, order and plan of SCALE with ROWS made-up rows (default: 4000000), one bucket in EVERY searched
	$(RUN) benchmarks.rehearse --scale $(SCALE) $(if $(ROWS),--rows $(ROWS)) $(if $(EVERY),--every $(EVERY))

storm: .venv/ready ## kill the workflow a hundred times at random: equal bits, nothing left behind; half an hour
	$(RUN) benchmarks.storm

bench-gpu: .venv/ready ## training steps on this machine's GPU, compiled, in bfloat16 against open_clip's, and in float8: about 9 minutes
	$(RUN) benchmarks gpu

test: .venv/ready lint ## formatting and types, then every test
	$(RUN) pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder

lint: .venv/ready ## formatting and lint of Python and Snakemake files, types of flip/
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	.venv/bin/snakefmt --check Snakefile rules
	$(RUN) mypy

format: .venv/ready ## put files into the project's format
	$(RUN) ruff check --fix .
	$(RUN) ruff format .
	.venv/bin/snakefmt Snakefile rules

results: .venv/ready ## put the tables and the figure of the last `make ablations` into docs/results.md
	$(RUN) flip.report.published --tables tables/$(SCALE)/ablations --page docs/results.md --figure docs/tradeoff.svg

results-systems: .venv/ready ## put the tables of the last `make systems` and `snakemake languages` into docs/systems.md
	$(RUN) flip.report.published --page docs/systems.md --tables $(addprefix tables/$(SCALE)/,systems siglip hybrids languages)

results-scaling: .venv/ready ## put tables, laws and figure of the last `snakemake scaling transfers` into docs/scaling.md
	$(RUN) flip.report.published --page docs/scaling.md --tables $(addprefix tables/$(SCALE)/,scaling transfers) --figure docs/scaling.svg

results-performance: .venv/ready ## put what the last `make bench` measured into docs/benchmarks.md
	$(RUN) benchmarks.table --results benchmarks/results.json --page docs/benchmarks.md

docs: .venv/ready ## the documentation as a site that needs no network: site/index.html
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --quiet --strict
	@echo site/index.html

lock: .venv/ready ## pin what envs/requirements.in resolves to today
	$(RUN) pip install --upgrade -r envs/requirements.in
	(sed -n '/^#/p' envs/requirements.txt; $(RUN) pip freeze --all --exclude-editable --exclude pip | sed 's/+cpu$$//') > envs/requirements.new
	mv envs/requirements.new envs/requirements.txt

# The newest Python that every pinned package runs on (img2dataset: below 3.13).
.venv/ready: envs/requirements.txt pyproject.toml
	@for python in python3.11 python3.12 python3; do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then break; fi; done; \
	  $$python -c 'import sys; sys.exit("flip needs Python 3.11 or 3.12; this is " + sys.version) if not (3, 11) <= sys.version_info < (3, 13) else None' \
	  && $$python -m venv .venv
	$(RUN) pip install --quiet --disable-pip-version-check -r envs/requirements.txt
	$(RUN) pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@! git rev-parse --git-dir > /dev/null 2>&1 || git config merge.ours.driver true # what .gitattributes names
	touch .venv/ready
