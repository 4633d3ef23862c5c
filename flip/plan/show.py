"""Show an estimate as text, and as rows for pandas."""

import csv
import io
from dataclasses import asdict

from flip.plan.budget import BudgetChoice
from flip.plan.estimate import ScalePlan, VariantPlan
from flip.plan.facts import facts

COLUMNS = (
    "variant",
    "samples",
    "GFLOPs per sample",
    "FLOPs",
    "GPU-hours",
    "hours",
    "GB per GPU",
    "weights",
    "checkpoints",
)


def size(count: float) -> str:
    """Write bytes with the unit that leaves one to four digits."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:,.{0 if count >= 100 else 1}f} {unit}"
        count /= 1000
    raise AssertionError


def number(value: float) -> str:
    """Return three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(hours: float) -> str:
    return f"{number(hours / 24)} days" if hours >= 48 else f"{number(hours)} hours"


def cells(row: VariantPlan) -> list[str]:
    return [
        row.variant,
        f"{row.samples:,}",
        f"{number(row.flops_per_sample / 1e9)} ({row.relative_flops:.2f}x)",
        f"{row.flops:.2e}",
        number(row.gpu_hours),
        number(row.hours) + (f" ({row.restarts} restarts)" if row.restarts else ""),
        number(row.memory_bytes / 1e9) + ("" if row.fits else " !"),
        size(row.weights_bytes),
        size(row.checkpoint_bytes),
    ]


def aligned(lines: list[list[str]]) -> str:
    """Put columns side by side; the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = [
        "  ".join([line[0].ljust(widths[0]), *(x.rjust(w) for x, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    ]
    return "\n".join(line.rstrip() for line in shown)


def total_lines(estimate: ScalePlan) -> list[tuple[str, str]]:
    """Say what the whole of it costs."""
    total, given = estimate.totals, estimate.given
    downloaded, shards, kept = (size(total[f"{what}_bytes"]) for what in ("scratch", "shard", "checkpoint"))
    buckets = estimate.base.shards.buckets
    search = size(estimate.data.used * facts().images.compared_bytes / buckets)
    ready, done = duration(total["data_hours"]), duration(total["hours"])
    precisions = [
        f"{number(hours)} GPU-hours ({duration(hours / given.gpus)}) in {name}"
        for name, hours in estimate.hours_by_precision.items()
    ]
    found = [
        (
            "training",
            f"{total['samples']:.3g} samples, {total['flops']:.3g} FLOPs, {number(total['gpu_hours'])} GPU-hours",
        ),
        ("network", f"{size(total['download_bytes'])}; the data is ready after {ready} at {given.gigabits:g} Gbit/s"),
        ("storage", f"{downloaded} of images as downloaded, {shards} as shards"),
        ("", f"{size(total['weights_bytes'])} of weights, {kept} of checkpoints of what runs at once"),
        ("duplicates", f"searched in {buckets} job{'s' * (buckets > 1)} of {search} of memory each"),
        ("", f"and {size(total['search_bytes'])} of storage in all, which may be deleted before shards are written"),
        ("wall-clock", f"{done} on {given.gpus} x {given.gpu}"),
        ("", f"{estimate.per_job} per training job, at most {given.jobs} jobs at a time"),
    ]
    if total["prepared_bytes"] or total["prepared_gpu_hours"]:
        what = f"{size(total['prepared_bytes'])} of embeddings and scores of pairs"
        found.insert(4, ("", f"{what}, made before trainings in {number(total['prepared_gpu_hours'])} GPU-hours"))
    by_precision = [("precision", "; ".join(precisions))] if precisions else []
    return [found[0], *by_precision, found[1], *host_lines(estimate), *found[2:]]


def host_lines(estimate: ScalePlan) -> list[tuple[str, str]]:
    """Say how often a host is asked at most."""
    polite = estimate.base.download
    if not estimate.base.source.downloads:
        return []
    rate = f", {polite.per_host_second:g} requests a second" if polite.per_host_second else ""
    return [("", f"{polite.per_host:,} connections to one host at most{rate}, by {polite.sharing} parts at once")]


def basis(estimate: ScalePlan) -> list[tuple[str, str]]:
    """Say what the numbers rest on: measured, or stated and by whom."""
    data, given, base = estimate.data, estimate.given, estimate.base
    caption = (
        "every slot full (an upper bound)" if given.caption_tokens is None else f"{given.caption_tokens:g}, stated"
    )
    original = f"{(given.original_bytes or facts().images.original_bytes) / 1000:g} kB as they come"
    stored = ", ".join(f"{kept / 1000:.1f} kB {where}" for where, kept in estimate.stored.items())
    room = f"{facts().usable_memory:.0%} of {estimate.gpu.memory_gb:g} GB count as room"
    overhead = f"{given.overhead_minutes:g} min each for queue and start, stated"
    return [
        ("pairs", f"{data.used:,} of {data.wanted:,} ({data.source})"),
        ("throughput", estimate.throughput),
        ("FLOPs", "counted by torch on tensors without values, attention in its plain form"),
        ("memory", f"counted likewise in {base.train.autocast}; tests compare it with what torch allocates; {room}"),
        ("tokens", f"per caption: {caption}"),
        ("images", f"{original}, {stored}; stated, flip/plan/facts.yaml or options"),
        ("jobs", f"{overhead}; waiting for other users is not in it"),
    ]


def named(lines: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {words}" for name, words in lines)


def text(estimate: ScalePlan) -> str:
    table = aligned([list(COLUMNS), *(cells(row) for row in estimate.rows)])
    parts = [f"{estimate.project.scale} on {estimate.given.gpu}", table, named(total_lines(estimate))]
    if misfits := [(row.variant, row.remedy) for row in estimate.advised if not row.fits]:
        title = (
            f"! does not fit into {estimate.room / 1e9:.0f} GB as params.yaml says; what would, at the fewest FLOPs:"
        )
        parts.append(f"{title}\n{named(misfits)}")
    parts.append(f"What this rests on\n{named(basis(estimate))}")
    return "\n\n".join(parts)


def choices_text(choices: list[BudgetChoice], metric: str, more: int = 5) -> str:
    """Return the best choices for a budget as a table, and whether the first differs significantly from the others."""
    best, *others = choices
    shown = [
        [
            f"{one.like} x {one.schedule:.3g}" + (f" ({one.label})" if one.label else ""),
            f"{one.accuracy:.1f} [{one.low:.1f}, {one.high:.1f}]",
            number(one.hours),
            f"{one.way}: {', '.join(f'{name} ({seeds})' for name, seeds in one.runs.items())}",
        ]
        for one in (best, *others[:more])
    ]
    alike = [one.like for one in others if one.high >= best.low]
    rank = (
        f"no significant difference from the first: {', '.join(alike)}"
        if alike
        else "the first differs significantly from all others"
    )
    left = f"{len(others) - more} more curves; --json has them" if len(others) > more else ""
    table = aligned([["run x schedule", f"{metric}, %", "GPU-hours", "rests on (seeds)"], *shown])
    return "\n".join(filter(None, [table, rank, left]))


def as_csv(estimate: ScalePlan) -> str:
    rows, stream = [asdict(row) for row in estimate.advised], io.StringIO()
    writer = csv.DictWriter(stream, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
