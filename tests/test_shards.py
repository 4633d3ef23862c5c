"""Proves that duplicates and test images are found wherever their buckets and parts are, that nothing vanishes from
the ledger, that shards are reproducible to the byte and refused once they are cut, and that the list beside them says
which pairs they hold, however they are dealt, ordered and encoded."""

import gc
import json
import shutil
from hashlib import sha256
from operator import eq
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from flip.config.schema import Compact, Shards
from flip.data import buckets, duplicates, fingerprints, manifest, shards
from flip.data.contact_sheet import GAP, SIDE
from flip.data.dropped import name_of
from flip.data.shard import Shard, read_index
from flip.data.shard_index import index_path, write_index
from flip.files import file_hash, write_json
from flip.formats.tar_members import members
from flip.report.dropped import copies, look
from flip.testsets import fingerprints as of_sets
from tests.dropping import drop
from tests.images import encoded, pattern, png16, turned

HOW = Shards(samples_per_shard=3, compact=None, buckets=1, only=None)


def drawn(number: int, height: int = 90, width: int = 120) -> np.ndarray:
    """A smooth coloured pattern of its own."""
    coarse = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


@pytest.fixture
def download(tmp_path):
    """download(part, [(jpeg, caption), ...], failed): the files that img2dataset and the download stage leave.

    `originals` are the images' bytes as their URLs gave them, by default those that are stored.
    """

    def make(part, samples, failed=None, originals=None):
        folder = tmp_path / "download" / part
        folder.mkdir(parents=True)
        keys = [f"{number:07d}" for number in range(len(samples))]
        rows = [
            {"key": key, "row": 10 * number, "url": f"http://world.test/{key}.jpg", "sha256": sha256(body).hexdigest()}
            for number, (key, body) in enumerate(zip(keys, originals or [body for body, _ in samples], strict=True))
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")
        with webdataset.TarWriter(str(folder / "00000.tar")) as tar:
            for key, (body, caption) in reversed(list(zip(keys, samples, strict=True))):  # img2dataset keeps no order
                tar.write({"__key__": key, "jpg": body, "txt": caption, "json": {}})
        failed = failed or {}
        account = {"wanted": len(samples) + sum(failed.values()), "arrived": len(samples), "failed": failed}
        write_json(folder.with_suffix(".json"), account)
        return folder.with_suffix(".json")

    return make


@pytest.fixture
def tests_of(tmp_path):
    """tests_of([image, ...]): fingerprints of a test set of PNGs, or of what is encoded already."""

    def make(images):
        (tmp_path / "fine" / "test").mkdir(parents=True)
        with webdataset.TarWriter(str(tmp_path / "fine" / "test" / "0.tar"), encoder=False) as tar:
            for number, image in enumerate(images):
                stored = image if isinstance(image, bytes) else cv2.imencode(".png", image)[1].tobytes()
                tar.write({"__key__": f"s{number:07d}", "png": stored, "cls": b"0"})
        (tmp_path / "fine" / "test" / "nshards.txt").write_text("1")
        write_json(tmp_path / "fine" / "revision.json", {"set": "fine", "samples": len(images)})
        out = tmp_path / "tests.parquet"
        of_sets.main(["--tests", str(tmp_path / "fine" / "revision.json"), "--out", str(out)])
        return out

    return make


@pytest.fixture
def stages(tmp_path, tests_of):
    """stages([account, ...], test images, buckets, groups): reasons by key, and the accounts of the shards stage."""

    def run(accounts, test_images=(), count=1, groups=1, **changed):
        how = HOW.model_copy(update=changed)
        tests = tests_of(list(test_images))
        hashes = [tmp_path / f"{account.stem}.parquet" for account in accounts]
        for account, out in zip(accounts, hashes, strict=True):
            fingerprints.main(["--download", str(account), "--out", str(out)])
        dropped = drop(tmp_path, tests, hashes, count, groups)
        group = {account.stem: dropped[number * groups // len(accounts)] for number, account in enumerate(accounts)}
        reasons = {}
        for account in accounts:
            reasons |= shards.dropped_of(account.stem, group[account.stem])
        written = [tmp_path / "shards" / account.name for account in accounts]
        for account, out, known in zip(accounts, written, hashes, strict=True):
            shards.write_part(account, known, group[account.stem], out, how)
        return reasons, written

    return run


@pytest.mark.parametrize(("count", "groups"), [(1, 1), (5, 1), (1, 2), (100, 2)])
def test_copies_meet_across_parts_groups_and_buckets(download, stages, count, groups, tmp_path):
    images = [drawn(number) for number in range(12)]
    smaller = cv2.resize(images[1], None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    first = download("0000", [(jpeg(image), "x") for image in images[:8]])
    second = download(
        "0001",
        [
            (jpeg(images[0]), "same bytes"),
            (jpeg(smaller, 70), "looks alike"),
            (jpeg(images[8]), "new"),
            (jpeg(images[9], 60), "in a test set"),
        ],
    )
    reasons, _ = stages([first, second], [images[9], images[11]], count, groups)
    dropped = [row for path in tmp_path.glob("dropped-*") for row in pq.read_table(path).to_pylist()]
    assert {row["key"]: name_of(tmp_path, row["of"]) for row in dropped} == {
        "0001-0000000": "0000-0000000",
        "0001-0000001": "0000-0000001",
        "0001-0000003": "fine/test/0.tar: s0000000",
    }
    assert reasons == {
        "0001-0000000": "exact duplicate",
        "0001-0000001": "near duplicate",
        "0001-0000003": "in a test set",
    }


def test_test_images_are_found_by_what_they_display(download, stages):
    images = [pattern(number) for number in range(4)]
    account = download("0000", [(encoded(image), "x") for image in images])
    reasons, _ = stages([account], [turned(images[0], 6), turned(images[1], 3, "PNG"), png16(images[2])])
    assert reasons == dict.fromkeys((f"0000-000000{number}" for number in range(3)), "in a test set")


def test_the_page_shows_what_was_dropped_above_what_it_is_a_copy_of(download, stages, tmp_path):
    assert copies(tmp_path)[0] is None
    images = [drawn(number) for number in range(3)]
    first = download("0000", [(jpeg(image), "x") for image in images[:2]])
    second = download("0001", [(jpeg(images[0], 60), "near"), (jpeg(images[1]), "exact"), (jpeg(images[2]), "leaked")])
    stages([first, second], test_images=[images[2]])
    for name in ("fingerprints", "dropped"):
        (tmp_path / name).mkdir()
    for name in ("0000", "0001", "tests"):
        shutil.copy(tmp_path / f"{name}.parquet", tmp_path / "fingerprints")
    (tmp_path / "dropped-0.parquet").rename(tmp_path / "dropped/0.parquet")
    assert "fine" in copies(tmp_path)[1]
    (tmp_path / "tests").mkdir()
    (tmp_path / "fine").rename(tmp_path / "tests/fine")
    found, _ = copies(tmp_path)
    assert found.caption == "0001-0000002 of fine/test/0.tar: s0000000; 0001-0000000 of 0000-0000000"
    assert found.size[0] == 2 * SIDE + GAP
    for name, image in {"fine/test/0.tar: s0000000": images[2], "0000-0000000": images[0]}.items():
        wanted = cv2.resize(image[..., ::-1], (96, 72), interpolation=cv2.INTER_AREA)
        assert np.abs(look(tmp_path, name)[12:84].astype(int) - wanted).mean() < 8


def cropped(image: np.ndarray, share: float) -> np.ndarray:
    """Without a share of each side."""
    height, width = image.shape[:2]
    y, x = round(height * share), round(width * share)
    return np.ascontiguousarray(image[y : height - y, x : width - x])


def bordered(image: np.ndarray, share: float) -> np.ndarray:
    y, x = (round(edge * share / (1 - 2 * share)) for edge in image.shape[:2])
    return cv2.copyMakeBorder(image, y, y, x, x, cv2.BORDER_CONSTANT, value=(255, 255, 255))


CHANGED = {
    **{
        f"a crop of {share:.1%}": lambda image, share=share: cropped(image, share) for share in (0.01, 0.03, 0.05, 0.07)
    },
    "a border": lambda image: bordered(image, 0.04),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "grey": lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR),
    "less saturated": lambda image: cv2.addWeighted(image, 0.5, CHANGED["grey"](image), 0.5, 0),
    "paler": lambda image: cv2.convertScaleAbs(image, alpha=0.8, beta=40),
}


@pytest.mark.parametrize("name", CHANGED)
def test_changed_copies_are_dropped(download, stages, name):
    images = [drawn(number, 320, 240) for number in range(10)]
    copies = [(jpeg(CHANGED[name](image), 80), "x") for image in images]
    reasons, _ = stages([download("0000", [(jpeg(image), "x") for image in images]), download("0001", copies)])
    assert reasons == dict.fromkeys((f"0001-{number:07d}" for number in range(10)), "near duplicate")


def test_the_same_in_another_colour_is_another_image(download, stages):
    """As the shirts of a catalogue: a form on white, in two colours, beside a copy in a paler one."""
    random = np.random.default_rng(0)
    form = cv2.resize(random.random((9, 12)), (320, 240), interpolation=cv2.INTER_CUBIC)[..., None] > 0.5

    def shirt(*colour):
        return np.where(form, np.array(colour), 255).astype(np.uint8)

    # The same brightness in all three.
    looks = [shirt(40, 90, 220), shirt(60, 150, 52), shirt(90, 110, 180)]
    reasons, _ = stages([download("0000", [(jpeg(one), "x") for one in looks])])
    assert reasons == {"0000-0000002": "near duplicate"}


def test_an_image_that_is_its_own_mirror_image_is_no_copy_of_itself(download, stages):
    half = drawn(0, 160, 240)
    whole = np.concatenate([half, half[:, ::-1]], axis=1)
    reasons, _ = stages([download("0000", [(jpeg(whole), "x"), (jpeg(drawn(1)), "y")])])
    assert not reasons


def test_centres_by_sums_are_those_of_opencv():
    """But for how a half is rounded, of images of any size and contrast."""
    random = np.random.default_rng(0)
    for number in range(40):
        height, width = random.integers(16, 500, 2)
        levels = 2 if number % 2 else 256
        grey = (random.integers(0, levels, (height, width)) * (255 // (levels - 1))).astype(np.uint8)
        found = fingerprints.thumbnails(grey)[2:]
        for share, one in zip(fingerprints.CENTRES, found, strict=True):
            y, x = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
            other = fingerprints.resized(grey[y : height - y, x : width - x])
            assert np.abs(one.astype(int) - other).max() <= 1
            assert (one != other).mean() < 0.05


def test_cells_of_a_centre_are_means_over_it():
    """As finer cells, of which 100 are in each, tell."""
    cells = np.random.default_rng(0).random(8)
    for share in (1, *fingerprints.CENTRES):
        margin = round(400 * (1 - share))
        fine = np.repeat(cells, 100)[margin : 800 - margin]
        wanted = [part.mean() for part in np.array_split(fine, 8)]
        assert np.allclose(duplicates.centre(share) @ cells, wanted, atol=0.03)


def test_first_copy_that_can_be_used_stays(download, stages):
    body = jpeg(drawn(0))
    reasons, _ = stages([download("0000", [(body, ""), (body, "kept"), (body, "copy"), (body, "copy")])])
    assert reasons == {"0000-0000002": "exact duplicate", "0000-0000003": "exact duplicate"}


def test_pairs_equal_those_of_a_double_loop():
    random = np.random.default_rng(0)
    hashes = random.integers(0, 2**32, (200, 8), dtype=np.uint32)
    hashes[100:] = hashes[:100]
    for row in hashes[100:]:
        for bit in random.choice(256, random.integers(0, 40), replace=False):
            row[bit // 32] ^= np.uint32(1) << np.uint32(bit % 32)
    ordinals = random.permutation(1000)[:200]
    found = {
        tuple(pair)
        for number in range(duplicates.WORDS)
        for pair in duplicates.pairs(ordinals, hashes, duplicates.word(hashes, number), 20).tolist()
    }
    expected = set()
    for a in range(200):
        for b in range(a):
            bits = sum(int(x ^ y).bit_count() for x, y in zip(hashes[a], hashes[b], strict=True))
            words = ([row.tobytes()[start : start + 3] for start in range(0, 30, 3)] for row in (hashes[a], hashes[b]))
            if bits <= 20 and any(map(eq, *words)):
                expected.add(tuple(sorted((int(ordinals[a]), int(ordinals[b])))))
    assert len(expected) > 10
    assert found == expected


def test_every_entry_is_in_the_bucket_of_its_value_and_in_no_other(tmp_path):
    rng = np.random.default_rng(0)
    columns = {
        name: pa.array([rng.bytes(kind.byte_width) for _ in range(300)], kind) for name, kind in fingerprints.HASHES
    }
    columns["looks"] = pa.array([None, *columns["looks"].to_pylist()[1:]], pa.binary(32))
    columns["captioned"] = pa.array([True, False, *[True] * 298])
    paths = [tmp_path / "0000.parquet", tmp_path / "0007.parquet"]
    for path, half in zip(paths, (slice(0, 150), slice(150, 300)), strict=True):
        pq.write_table(pa.table({name: column[half] for name, column in columns.items()}), path)
    wanted = set()
    for row in range(2, 300):
        image = ((1 if row < 150 else 8) << 40) + row % 150
        wanted.add((0, image, columns["sha256"][row].as_py()))
        views = columns["looks"][row].as_py() + columns["views"][row].as_py()
        for view in range(fingerprints.VIEWS):
            one = views[32 * view : 32 * (view + 1)]
            wanted |= {(kind, image * 8 + view, one) for kind in range(1, buckets.WORDS + 1)}
    rows = [
        (bucket, *row.values()) for bucket, table in enumerate(buckets.by_bucket(paths, 7)) for row in table.to_pylist()
    ]
    assert len(rows) == len(wanted) == 298 * 51
    assert {row[1:] for row in rows} == wanted
    for bucket, kind, _, hashed in rows:
        hashes = np.frombuffer(hashed, np.uint64)
        value = buckets.word(hashes[None], kind - 1) if kind else hashes[:1]
        assert buckets.bucket_of(value, 7) == bucket
    buckets.write_group(paths, 7, tmp_path / "0.arrow")
    images = np.array([(1 << 40) + 3, (8 << 40) + 5])
    colours = np.zeros((2, 128), np.uint8)
    buckets.look_up(tmp_path / "0.arrow", images, colours)
    assert [one.tobytes() for one in colours] == [columns["colours"][row].as_py() for row in (3, 155)]


def test_a_file_for_another_number_of_buckets_is_refused(tmp_path, download, stages):
    stages([download("0000", [(jpeg(drawn(0)), "a")])], count=3)
    with pytest.raises(ValueError, match=r"buckets-0.arrow: 3 buckets, and shards.buckets = 4; make it again"):
        duplicates.write_bucket(tmp_path / "tests.parquet", [tmp_path / "buckets-0.arrow"], 0, 4, tmp_path / "out")


def test_looks_survive_scaling_and_recompression_but_tell_images_apart():
    images = [drawn(number) for number in range(40)]
    copies = [jpeg(cv2.resize(image, (100, 75), interpolation=cv2.INTER_AREA), 70) for image in images]
    bits = [
        np.unpackbits(np.array([list(one["looks"]) for one in fingerprints.look_at(some)], np.uint8), axis=1)
        for some in ([jpeg(image) for image in images], copies)
    ]
    distance = (bits[0][:, None] != bits[1][None]).sum(axis=-1)
    assert np.diag(distance).max() <= duplicates.DISTANCE
    assert (distance + 256 * np.eye(40)).min() > 2 * duplicates.DISTANCE


def merged(written, table=None):
    """Manifest and ledger of the shards stage's accounts; by default, of a table without filters."""
    wanted = sum(json.loads(path.read_text())["ledger"]["wanted"] for path in written)
    account = written[0].parent / "account.json"
    write_json(account, table or {"rows": wanted, "wanted": wanted, "lost": {}})
    return manifest.merge(written, account)


def test_ledger_accounts_for_every_image(download, stages):
    whole = [jpeg(drawn(number)) for number in range(6)]
    broken = whole[5][: len(whole[5]) // 2]
    samples = [(whole[0], "a"), (whole[1], ""), (broken, "b"), (whole[0], "c"), (whole[2], "d"), (b"", "e")]
    reasons, written = stages([download("0000", samples, {"not found": 3}), download("0001", [(whole[3], "f")])])
    assert reasons == {"0000-0000003": "exact duplicate"}
    data, ledger = merged(written)
    assert ledger["parts"]["0000"] == {
        "wanted": 9,
        "arrived": 6,
        "decoded": 4,
        "used": 2,
        "lost": {"broken": 2, "exact duplicate": 1, "no caption": 1, "not found": 3},
    }
    assert ledger["total"]["used"] == data["samples"] == 3
    assert "10 100.00%  wanted" in manifest.as_text(ledger)
    lost = {"filter: size": 6, "not sampled": 4, "not found": 5}
    data, ledger = merged(written, {"rows": 25, "wanted": 10, "lost": lost})
    assert ledger["total"]["rows"] == 25 == data["samples"] + sum(ledger["total"]["lost"].values())
    assert ledger["total"]["lost"]["not found"] == 8
    assert "6  24.00%  lost: filter: size" in manifest.as_text(ledger)
    with pytest.raises(ValueError, match="10 rows wanted by the parts, but 9 dealt to them"):
        merged(written, {"rows": 9, "wanted": 9, "lost": {}})
    with pytest.raises(ValueError, match="the URL table: 26 rows, but 25 used or lost"):
        merged(written, {"rows": 26, "wanted": 10, "lost": lost})


def test_vanished_images_are_an_error(download, stages):
    _, (written,) = stages([download("0000", [(jpeg(drawn(0)), "a")])])
    account = json.loads(written.read_text())
    write_json(written, account | {"ledger": account["ledger"] | {"wanted": 2}})
    with pytest.raises(ValueError, match="part 0000: 2 wanted, but 1 used or lost"):
        merged([written])


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves closing its files to the collector
def test_shards_hold_the_pairs_in_key_order_and_webdataset_reads_them(download, stages, tmp_path):
    samples = [(jpeg(drawn(number)), f"caption {number} é") for number in range(7)]
    _, (written,) = stages([download("0000", samples)], samples_per_shard=3)
    data, _ = merged([written])
    assert [(shard["name"], shard["samples"]) for shard in data["shards"]] == [
        ("0000/00000.tar", 3),
        ("0000/00001.tar", 3),
        ("0000/00002.tar", 1),
    ]
    paths = [str(tmp_path / "shards" / shard["name"]) for shard in data["shards"]]
    read = list(webdataset.WebDataset(paths, shardshuffle=False))
    gc.collect()
    assert [sample["__key__"] for sample in read] == [f"0000-{number:07d}" for number in range(7)]
    assert [(sample["jpg"], sample["txt"].decode()) for sample in read] == samples
    for path in paths:
        content = Path(path).read_bytes()
        for jpg, jpg_size, txt, txt_size in read_index(path):
            assert (content[jpg : jpg + jpg_size], content[txt : txt + txt_size].decode()) in samples


def test_a_shard_has_the_bytes_that_webdatasets_writer_gives_it(tmp_path):
    samples = [{"__key__": f"0000-{n}", "jpg": jpeg(drawn(n)), "txt": f"caption {n} é".encode()} for n in range(3)]
    shards.write_shard(tmp_path / "ours.tar", samples)
    with webdataset.TarWriter(str(tmp_path / "theirs.tar"), encoder=False, mtime=0) as theirs:
        for sample in samples:
            theirs.write(sample)
    assert (tmp_path / "ours.tar").read_bytes() == (tmp_path / "theirs.tar").read_bytes()


def test_equal_inputs_give_equal_shards_whatever_an_earlier_attempt_left(download, stages, tmp_path):
    samples = [(jpeg(drawn(number)), f"caption {number}") for number in range(5)]
    account = download("0000", samples)
    _, (written,) = stages([account])
    before = merged([written])[0]["id"]
    (written.with_suffix("") / "00007.tar").write_bytes(b"left by a killed job")
    (written.with_suffix("") / "00001.tar").write_bytes(b"cut")
    shards.write_part(account, tmp_path / "0000.parquet", tmp_path / "dropped-0.parquet", written, HOW)
    assert merged([written])[0]["id"] == before
    assert not (written.with_suffix("") / "00007.tar").exists()


def test_fingerprints_of_another_download_are_refused(download, stages, tmp_path):
    account = download("0000", [(jpeg(drawn(0)), "a"), (jpeg(drawn(1)), "b")])
    stages([account])
    known = pq.read_table(tmp_path / "0000.parquet")
    pq.write_table(known.slice(1), tmp_path / "0000.parquet")
    with pytest.raises(ValueError, match="0000-0000000 has no fingerprint"):
        shards.write_part(
            account, tmp_path / "0000.parquet", tmp_path / "dropped-0.parquet", tmp_path / "again.json", HOW
        )


@pytest.fixture
def shard(tmp_path):
    """A whole shard of three pairs, with its index."""
    path = tmp_path / "0000" / "00000.tar"
    shards.write_shard(path, ({"__key__": str(n), "jpg": jpeg(drawn(n)), "txt": b"caption"} for n in range(3)))
    return path


@pytest.mark.parametrize("lost", [1, 10_240, 20_000])
def test_cut_shard_is_refused(shard, lost):
    whole = shard.read_bytes()
    assert len(read_index(shard)) == 3
    shard.write_bytes(whole[:-lost])
    with pytest.raises(ValueError, match=rf"00000.tar: {len(whole)} bytes expected, {len(whole) - lost} found.*run"):
        read_index(shard)


@pytest.mark.parametrize("place", ["header", "jpg", "end"])
def test_tar_cut_anywhere_is_no_tar(shard, place):
    jpg, _, txt, txt_size = read_index(shard)[2].tolist()
    shard.write_bytes(shard.read_bytes()[: {"header": txt - 300, "jpg": jpg + 10, "end": txt + txt_size}[place]])
    with pytest.raises(ValueError, match=r"00000.tar: not a whole tar"):
        members(shard)
    with pytest.raises(ValueError, match=r"00000.tar: not a whole tar"):
        write_index(shard)


def test_missing_index_is_named(shard):
    index_path(shard).unlink()
    with pytest.raises(ValueError, match=r"00000.index.npy: missing; `dvc checkout .*otherwise delete"):
        read_index(shard)


def test_no_flipped_bit_of_an_index_gives_other_pairs(shard):
    path = index_path(shard)
    whole = path.read_bytes()
    for place in range(0, len(whole), max(len(whole) // 200, 1)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"00000\.index\.npy: (its content is not|no SHA-256)"):
            read_index(shard)


# Lists of samples


def test_the_list_beside_the_shards_has_their_pairs_in_order(download, stages, tmp_path):
    samples = [(jpeg(drawn(number)), f"caption {number} é") for number in range(5)]
    samples[2] = (samples[2][0], "")
    originals = [f"original {number}".encode() for number in range(5)]
    _, (written,) = stages([download("0000", samples, originals=originals)], samples_per_shard=2)
    data, _ = merged([written])
    (entry,) = data["lists"]
    path = tmp_path / "shards" / entry["name"]
    assert (entry["samples"], entry["sha256"]) == (4, file_hash(path))
    assert pq.read_table(path).to_pylist() == [
        {
            "key": f"0000-{number:07d}",
            "url": f"http://world.test/{number:07d}.jpg",
            "caption": f"caption {number} é",
            "sha256": sha256(originals[number]).hexdigest(),
        }
        for number in (0, 1, 3, 4)
    ]


def test_compact_shards_hold_the_same_pairs_smaller(download, stages, tmp_path):
    """The list says of them what it says of shards that are not; an image that is small enough keeps its bytes."""
    small, wide, high = jpeg(drawn(0, 40, 70)), jpeg(drawn(1, 90, 120)), jpeg(drawn(2, 120, 90))
    account = download("0000", [(one, f"caption {number}") for number, one in enumerate((small, wide, high))])
    _, (written,) = stages([account])
    before, _ = merged([written])
    how = HOW.model_copy(update={"compact": Compact(image_size=48, quality=90)})
    shards.write_part(account, tmp_path / "0000.parquet", tmp_path / "dropped-0.parquet", written, how)
    after, _ = merged([written])
    assert (after["pairs"], after["lists"]) == (before["pairs"], before["lists"])
    assert after["id"] != before["id"]
    shard = Shard(written.with_suffix("") / "00000.tar")
    assert shard.encoded(0) == small
    for item, (original, size) in enumerate([(wide, (48, 64)), (high, (64, 48))], 1):
        found = cv2.imdecode(np.frombuffer(shard.encoded(item), np.uint8), cv2.IMREAD_COLOR)
        wanted = cv2.imdecode(np.frombuffer(original, np.uint8), cv2.IMREAD_COLOR)
        wanted = cv2.resize(wanted, size[::-1], interpolation=cv2.INTER_AREA)
        assert found.shape[:2] == size
        assert np.abs(found.astype(int) - wanted).mean() < 6


def in_parts(download, stages, parts, quality=90):
    """The manifest of parts of (number, caption); images are encoded with a quality, their originals are not."""
    accounts = [
        download(
            f"{part:04d}",
            [(jpeg(drawn(number), quality), caption) for number, caption in pairs],
            originals=[str(number).encode() for number, _ in pairs],
        )
        for part, pairs in enumerate(parts)
    ]
    return merged(stages(accounts)[1])[0]


PAIRS = [(number, f"caption {number}") for number in range(6)]


@pytest.fixture
def reference():
    """The digest of PAIRS, as anyone can compute it from their list."""
    marks = [sha256(f"{sha256(str(n).encode()).hexdigest()}{text}".encode()).digest() for n, text in PAIRS]
    return f"{sum(map(int.from_bytes, marks)) % 2**256:064x}"


@pytest.mark.parametrize(
    ("parts", "quality"),
    [([PAIRS], 90), ([PAIRS[::-1]], 90), ([PAIRS[3:], PAIRS[:1], PAIRS[1:3]], 90), ([PAIRS], 60)],
    ids=["one part", "another order", "three parts", "another encoder"],
)
def test_equal_pairs_have_equal_digests(download, stages, reference, parts, quality):
    assert in_parts(download, stages, parts, quality)["pairs"] == reference


@pytest.mark.parametrize(
    "parts", [[PAIRS[:-1]], [[*PAIRS[:-1], (5, "another")]], [[*PAIRS[:-1], (6, "caption 5")]]], ids=str
)
def test_other_pairs_have_another_digest(download, stages, reference, parts):
    assert in_parts(download, stages, parts)["pairs"] != reference


def test_images_that_are_not_in_the_list_are_dropped_and_counted(download, stages, tmp_path):
    whole = [jpeg(drawn(number)) for number in range(5)]
    samples = [(whole[0], "a"), (whole[1], "b"), (whole[1], "copy"), (whole[2], ""), (whole[3], "d")]
    hashes = [sha256(whole[number]).hexdigest().upper() for number in (1, 2, 4)]
    for half in range(2):
        pq.write_table(pa.table({"sha256": hashes[half::2]}), tmp_path / f"only-{half}.parquet")
    accounts = [download("0000", samples, {"not found": 1}), download("0001", [(whole[4], "e")])]
    _, written = stages(accounts, only=str(tmp_path / "only-*.parquet"))
    data, ledger = merged(written)
    assert ledger["total"] == {
        "rows": 7,
        "wanted": 7,
        "arrived": 6,
        "decoded": 6,
        "used": 2,
        "lost": {"exact duplicate": 1, "no caption": 1, "not found": 1, "not in shards.only": 2},
    }
    keys = [
        row["key"] for entry in data["lists"] for row in pq.read_table(tmp_path / "shards" / entry["name"]).to_pylist()
    ]
    assert keys == ["0000-0000001", "0001-0000000"]


def test_a_list_that_cannot_be_used_is_named_before_anything_is_written(download, stages, tmp_path):
    account = download("0000", [(jpeg(drawn(0)), "a")])
    _, (written,) = stages([account])
    before = {path: path.stat().st_mtime_ns for path in written.parent.rglob("*")}
    pq.write_table(pa.table({"sha256": [b"binary"], "hash": ["a"]}), tmp_path / "wrong.parquet")
    for name, message in {
        "none.parquet": r"shards.only '.*none.parquet': no such file; name lists such as",
        "wrong.parquet": r"wrong.parquet has no column 'sha256' of text; there are: sha256 \(binary\), hash \(string\)",
    }.items():
        with pytest.raises(ValueError, match=message):
            shards.write_part(
                account,
                tmp_path / "0000.parquet",
                tmp_path / "dropped-0.parquet",
                written,
                HOW.model_copy(update={"only": str(tmp_path / name)}),
            )
    assert {path: path.stat().st_mtime_ns for path in written.parent.rglob("*")} == before
