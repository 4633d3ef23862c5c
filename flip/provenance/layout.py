"""Define the paths of everything that belongs to a scale. No other module and no rules file spells such a path.

A path is a string. The rules ask with Snakemake's wildcards in place of names, as `Layout("{scale}").run("{variant}",
"{seed}")`, all other code with the names themselves.
"""

from dataclasses import dataclass

from flip.config.chosen import CHOSEN, SWEEPS, TIMES

RECEIPTS, SPECS = "receipts", "specs"
# What differs between the rows of `dvc exp show` (dvc.yaml names them): a run's parameters, its metrics, its loss.
RUN_PARAMS, RUN_METRICS, RUN_LOSS = "runs/params.yaml", "runs/metrics.json", "runs/loss.csv"


def seed_folder(seed: int | str) -> str:
    """Return the name of a seed's folder."""
    return f"seed-{seed}"


def _seeded(*parts: str, seed: int | str | None, stage: str) -> str:
    """Return the path of a stage's JSON file in a folder, or in that of a seed below it, if one is given."""
    return "/".join((*parts, *([] if seed is None else [seed_folder(seed)]), f"{stage}.json"))


@dataclass(frozen=True)
class Records:
    """Give the paths of the small files of jobs below a folder: receipts, one per job; or specs, one for all seeds."""

    root: str

    def data(self, name: str) -> str:
        """Return the path for a stage of the data, or for one part of it, as 'download/0001', 'tests/fine'."""
        return f"{self.root}/data/{name}.json"

    def test(self, name: str) -> str:
        return self.data(f"tests/{name}")

    @property
    def codebook(self) -> str:
        return f"{self.root}/codebook.json"

    def translations(self, languages: str) -> str:
        return f"{self.root}/languages/{languages}/translations.json"

    def test_set(self, name: str) -> str:
        """Return the path for writing, or checking, one test set."""
        return f"{self.root}/data/tests/{name}/test_sets.json"

    def translated_set(self, language: str) -> str:
        return f"{self.root}/languages/tests/{language}/translated_set.json"

    def translated_test(self, name: str) -> str:
        return f"{self.root}/languages/tests/{name}.json"

    def variant(self, variant: str, stage: str, seed: int | str | None = None) -> str:
        return _seeded(self.root, "variants", variant, seed=seed, stage=stage)

    def features(self, variant: str, seed: int | str | None = None) -> str:
        return _seeded(self.root, "features", variant, seed=seed, stage="embed")

    def embeddings(self, variant: str, seed: int | str | None = None) -> str:
        return _seeded(self.root, "teachers", variant, seed=seed, stage="embed_pairs")

    def curation(self, variant: str, stage: str, seed: int | str | None = None) -> str:
        """Return the path for a stage that chooses a variant's pairs, or for one part of it, as 'score_pairs/0001'."""
        return _seeded(self.root, "curation", variant, seed=seed, stage=stage)

    def candidate(self, variant: str, candidate: str) -> str:
        """Return the path for one candidate of a sweep; all of them have one spec, 'candidate'."""
        return f"{self.root}/sweeps/{variant}/{candidate}.json"

    def choice(self, variant: str) -> str:
        return f"{self.root}/choices/{variant}/choose.json"

    def step_time(self, variant: str) -> str:
        return f"{self.root}/times/{variant}/step_time.json"

    def tables(self, report: str, stage: str) -> str:
        return f"{self.root}/tables/{report}/{stage}.json"

    def transfer(self, report: str, variant: str, job: str, seed: int | str | None = None) -> str:
        return _seeded(self.root, "tables", report, variant, job, seed=seed, stage="transfer")

    @property
    def page(self) -> str:
        return f"{self.root}/page.json"


@dataclass(frozen=True)
class Layout:
    """Give the paths of everything that belongs to one scale."""

    scale: str

    @property
    def receipts(self) -> Records:
        return Records(f"{RECEIPTS}/{self.scale}")

    @property
    def specs(self) -> Records:
        return Records(f"{SPECS}/{self.scale}")

    def log(self, rule: str, *parts: str) -> str:
        return "/".join(("logs", rule, self.scale, *parts)) + ".log"

    # Parameters.

    @property
    def project(self) -> str:
        """Return the path of all parameters, unresolved."""
        return f"{self.specs.root}/params.yaml"

    def params(self, variant: str) -> str:
        """Return the path of a variant's frozen parameters."""
        return f"{self.specs.root}/params/{variant}.yaml"

    # Data.

    @property
    def data(self) -> str:
        return f"data/{self.scale}"

    @property
    def table_folder(self) -> str:
        return f"{self.data}/table"

    def table(self, part: str) -> str:
        return f"{self.table_folder}/{part}.parquet"

    @property
    def table_account(self) -> str:
        return f"{self.table_folder}/account.json"

    def download(self, part: str) -> str:
        return f"{self.data}/download/{part}.json"

    def fingerprints(self, part: str) -> str:
        """Return the path of the fingerprints of a part, or of all test images ('tests')."""
        return f"{self.data}/fingerprints/{part}.parquet"

    def buckets(self, group: str) -> str:
        """Return the path of the fingerprints of a group of parts, by bucket."""
        return f"{self.data}/buckets/{group}.arrow"

    def colours(self, group: str) -> str:
        """Return the path of the colours of the images of a group of parts."""
        return f"{self.data}/buckets/{group}.npy"

    def duplicates(self, bucket: str) -> str:
        return f"{self.data}/duplicates/{bucket}.arrow"

    def dropped(self, group: str) -> str:
        return f"{self.data}/dropped/{group}.parquet"

    def collected(self, stage: str) -> str:
        """Return the path of the hashes of a stage's results."""
        return f"{self.data}/{stage}/all.json"

    @property
    def shards(self) -> str:
        return f"{self.data}/shards"

    def shards_of(self, part: str) -> str:
        """Return the path of the account of a part's shards."""
        return f"{self.shards}/{part}.json"

    def samples_of(self, part: str) -> str:
        """Return the path of the list of a part's samples."""
        return f"{self.shards}/{part}/samples.parquet"

    @property
    def manifest(self) -> str:
        return f"{self.data}/manifest.json"

    @property
    def ledger(self) -> str:
        return f"{self.data}/ledger.json"

    @property
    def tokenizer(self) -> str:
        return f"{self.data}/tokenizer.json"

    def words_of(self, part: str) -> str:
        """Return the path of the counts of a part's words."""
        return f"{self.data}/words/{part}.parquet"

    @property
    def words(self) -> str:
        return f"{self.data}/words.parquet"

    def test(self, name: str) -> str:
        return f"{self.data}/tests/{name}"

    def codebook(self, name: str = "") -> str:
        """Return the path of the image tokenizer's folder, or of a file in it."""
        return f"{self.data}/codebook" + (f"/{name}" if name else "")

    def languages(self, languages: str) -> str:
        return f"{self.data}/languages/{languages}"

    def translated_test(self, name: str) -> str:
        return self.languages(f"tests/{name}")

    # Variants.

    @property
    def results(self) -> str:
        return f"results/{self.scale}"

    def variant(self, variant: str) -> str:
        return f"{self.results}/{variant}"

    def run(self, variant: str, seed: int | str) -> str:
        return f"{self.variant(variant)}/{seed_folder(seed)}"

    def weights(self, variant: str, seed: int | str) -> str:
        return f"{self.run(variant, seed)}/weights.safetensors"

    def checkpoints(self, variant: str, seed: int | str) -> str:
        """Return the folder of a training run in progress; it is deleted when the run ends."""
        return f"checkpoints/{self.scale}/{variant}/{seed_folder(seed)}"

    def candidate(self, variant: str, candidate: str) -> str:
        """Return the folder of one candidate of a sweep."""
        return f"sweeps/{self.scale}/{variant}/{candidate}"

    def candidate_checkpoints(self, variant: str, candidate: str) -> str:
        return f"checkpoints/{self.scale}/{variant}/sweep/{candidate}"

    def choice(self, variant: str) -> str:
        """Return the path of what a sweep has chosen."""
        return f"{CHOSEN}/{self.scale}/{SWEEPS}/{variant}.json"

    def step_time(self, variant: str) -> str:
        """Return the path of how long a variant's step takes."""
        return f"{CHOSEN}/{self.scale}/{TIMES}/{variant}.json"

    def features(self, variant: str, seed: int | str) -> str:
        return f"features/{self.scale}/{variant}/{seed_folder(seed)}"

    def embeddings(self, variant: str, seed: int | str) -> str:
        """Return the folder of a teacher's embeddings of all pairs."""
        return f"{self.data}/teachers/{variant}/{seed_folder(seed)}"

    def curated(self, variant: str, seed: int | str) -> str:
        """Return the folder of what a variant's pairs are chosen by."""
        return f"curated/{self.scale}/{variant}/{seed_folder(seed)}"

    def selection(self, variant: str, seed: int | str) -> str:
        return f"{self.curated(variant, seed)}/selection.json"

    def mentions(self, variant: str, seed: int | str, part: str = "all") -> str:
        """Return the path of how many captions of a part, or of all parts, mention each entry."""
        return f"{self.curated(variant, seed)}/mentions/{part}.parquet"

    def scores(self, variant: str, seed: int | str, part: str) -> str:
        return f"{self.curated(variant, seed)}/scores/{part}.npy"

    def curve(self, variant: str, seed: int | str) -> str:
        return f"curves/{self.scale}/{variant}/{seed_folder(seed)}"

    def shown(self, variant: str) -> str:
        return f"shown/{self.scale}/{variant}.html"

    @property
    def preflight(self) -> str:
        return f".flip/preflight/{self.scale}.json"

    @property
    def rows(self) -> str:
        """Return the path of the file that names the commit which the rows of `dvc exp show` lie below."""
        return f".flip/rows/{self.scale}"

    # Reports.

    @property
    def tables(self) -> str:
        return f"tables/{self.scale}"

    def report(self, report: str) -> str:
        return f"{self.tables}/{report}"

    def reported(self, report: str) -> str:
        """Return the folder of what `snakemake --report` shows of a report: copies, which can be deleted."""
        return f"reported/{self.scale}/{report}"

    def cost(self, report: str) -> str:
        return f"{self.report(report)}/cost.json"

    def transfer(self, report: str, variant: str, job: str, seed: int | str) -> str:
        return f"{self.report(report)}/{variant}/{job}/{seed_folder(seed)}"

    @property
    def page(self) -> str:
        return f"{self.tables}/index.html"
