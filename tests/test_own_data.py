"""Tars and image files of one's own become training data where they are: the same pairs in the same order as if they
had been downloaded, every loss counted, every fault named, no image written anew."""

import csv
import gzip
import io
import json
import os
import random
import re
import shlex
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from flip.config.faults import ParameterError
from flip.config.schema import Augmentation, Captions, Compact, Shards
from flip.data import fingerprints, manifest, shards
from flip.data.arrived import Arrived
from flip.data.loader import CaptionReader, ImageReader, ShardReader
from flip.data.sampler import build_order
from flip.data.shard import open_captions, open_shard
from flip.data.token_cache import Tokens
from flip.data.tokenizer import CaptionTokenizer, train_wordpiece
from flip.files import file_hash, place_hash, read_json, write_json
from flip.formats.foreign_tars import find_samples, mapped
from flip.formats.tar_members import split_name
from flip.report.tables import ledger_records
from flip.sources import list_tars, pack, sizes, take_in
from flip.sources.several import parts_of
from flip.sources.sizes import rows_of
from flip.sources.table import scramble
from flip.train.step import build_loader
from tests.conftest import SMALL
from tests.images import encoded, pattern, turned
from tests.layouts import photo
from tests.loaders import pairs_loader
from tests.miniature import copy_workflow, snakemake, write_params
from tests.own_data import arrive, finish
from tests.sites import site
from tests.test_tars import write_random

pytestmark = pytest.mark.long(2)

HOW = Shards(samples_per_shard=5, compact=None, buckets=1, only=None)
CROP = Augmentation(crop_area=(0.5, 1.0), crop_aspect=(0.75, 1.3333333), flip=True)


@pytest.fixture
def source(change):
    def make(parts=1, per_shard=5, **values):
        keys = {"table": None} if "shards" in values else {}
        return change("clip", {"source": keys | values, "download": {"parts": parts, "samples_per_shard": per_shard}})

    return make


def write_tar(path, members, **options):
    """A tar of (name, content) or of headers with their content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content) if info.isreg() else info.size
            tar.addfile(info, io.BytesIO(content))
    return path


def pair(number, key=None, kind="jpg"):
    key = f"{number:03d}" if key is None else key
    return [(f"{key}.{kind}", photo(number)), (f"{key}.txt", f"caption {number}".encode())]


def tokens_of(folder, data):
    """Tokens of a tokenizer that knows every word."""
    texts = [text for entry in data["shards"] for text in open_captions(folder / "shards", entry).captions()]
    definition = train_wordpiece(iter(texts), 100)
    stored = {"kind": "wordpiece", "vocabulary": len(definition["model"]["vocab"]), "definition": definition}
    write_json(folder / "tokenizer.json", stored)
    captions = Captions(tokenizer="scale", languages=["en"], start=False, end=False, fill=False)
    return Tokens(CaptionTokenizer(folder / "tokenizer.json", 8, captions), folder, data)


def batches(folder, data):
    """All pairs of two epochs, as a training reads them."""
    tokens = tokens_of(folder, data)
    return pairs_loader(data, folder / "shards", tokens, 32, CROP, 0, 2).batch(0, 2 * data["samples"])


def test_the_same_pairs_give_the_same_batches_whether_downloaded_or_taken_in(source, tmp_path):
    """Shards as the download makes them, then as a source; any number of parts."""
    samples = [{"__key__": f"0000-{n:07d}", "jpg": photo(n), "txt": f"caption {n} é".encode()} for n in range(23)]
    first = shards.write_shards(tmp_path / "first/shards/0000", iter(samples[:14]), 5)
    first += shards.write_shards(tmp_path / "first/shards/0001", iter(samples[14:]), 5)
    downloaded = {"shards": first, "samples": 23}
    expected = batches(tmp_path / "first", downloaded)
    for parts in (1, 2, 5):
        folder = tmp_path / f"{parts}"
        params = source(parts, shards=f"{tmp_path}/first/shards/{{0000,0001}}/*.tar")
        data, ledger = finish(arrive(params, folder), folder, HOW)
        assert [(one["samples"], one["sha256"], one["bytes"]) for one in data["shards"]] == [
            (one["samples"], one["sha256"], one["bytes"]) for one in first
        ]
        assert ledger == {"rows": 23, "wanted": 23, "arrived": 23, "decoded": 23, "used": 23, "lost": {}}
        found = batches(folder, data)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert not list((folder / "shards").rglob("*.tar"))


def test_what_is_stored_as_no_jpeg_or_lies_on_its_side_is_read_as_it_is_displayed(source, tmp_path):
    """PNG, WebP, grey, transparent, turned: as the upright opaque image, within what JPEG loses."""
    images = [pattern(number) for number in range(6)]
    clear = Image.fromarray(images[3]).convert("RGBA")
    clear.putalpha(Image.new("L", clear.size, 128))
    stored = [
        ("a.jpg", encoded(images[0])),
        ("b.png", encoded(images[1], "PNG")),
        ("c.WEBP", encoded(images[2], "WEBP", lossless=True)),
        ("d.png", encoded(clear, "PNG")),
        ("e.jpeg", turned(images[4], 6)),
        ("f.jpg", encoded(Image.fromarray(images[5]).convert("L"))),
    ]
    path = write_tar(tmp_path / "in/0.tar", [one for n in stored for one in (n, (f"{n[0][0]}.txt", b"words"))])
    wanted = [*images[:3], (images[3].astype(int) + 256) // 2, images[4]]
    wanted.append(np.asarray(Image.fromarray(images[5]).convert("L").convert("RGB")))
    data, ledger = finish(arrive(source(shards=str(path)), tmp_path), tmp_path, HOW)
    assert ledger["used"] == 6
    shard = open_shard(tmp_path / "shards", data["shards"][0])
    assert [bytes(shard.encoded(item)) for item in range(6)] == [content for _, content in stored]
    plain = Augmentation(crop_area=(1.0, 1.0), crop_aspect=(0.75, 1.3333333), flip=False)
    order = build_order(data, None, 1, 0, 1)
    read, places = ImageReader(ShardReader(data, tmp_path / "shards", 1), order, 32, plain, 0)(torch.arange(6))
    for image, (_, item) in zip(read["images"].numpy(), places, strict=True):
        small = Image.fromarray(np.asarray(wanted[item], np.uint8)).resize((32, 32), Image.Resampling.BICUBIC)
        assert np.abs(image.astype(int) - np.asarray(small)).mean() < 3, item


def info(name, kind=tarfile.REGTYPE, link="", **pax):
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.pax_headers = kind, link, pax
    return found


def sparse(path):
    """A tar with a sparse file of GNU's old form, of two pieces, between two samples."""
    write_tar(path, pair(0))
    whole = path.read_bytes()[: 4 * 512 + -(-len(photo(0)) // 512) * 512 - 512]
    header = bytearray(info("s.jpg").tobuf(tarfile.GNU_FORMAT))
    header[156:157], header[124:136] = b"S", b"%011o\0" % 1024
    for place, (offset, size) in enumerate([(0, 512), (4096, 512)]):
        header[386 + 24 * place : 410 + 24 * place] = b"%011o\0%011o\0" % (offset, size)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    rest = write_tar(path.with_name("rest"), [("s.txt", b"sparse"), *pair(1)]).read_bytes()
    path.with_name("rest").unlink()
    path.write_bytes(whole + bytes(header) + photo(2)[:1024] + rest)
    return path


A, B = pair(0, "a"), pair(1, "b")
LONG = "long/" * 30
# What a stranger's tar may be like: members, how they are written, keys that are used, what is lost.
FOREIGN = {
    "plain": ([*A, *B], {}, "a b", {}),
    "unsorted": ([*B, *A], {}, "a b", {}),
    "interleaved": ([A[0], B[0], A[1], B[1]], {}, "a b", {}),
    "captions first": ([A[1], A[0], B[1], B[0]], {}, "a b", {}),
    "all captions last": ([A[0], B[0], B[1], A[1]], {}, "a b", {}),
    "doubled key": ([*A, *B, *pair(2, "a")], {}, "a b", {"key twice": 1}),
    "doubled member": ([A[0], *A, *B], {}, "a b", {"key twice": 1}),
    "no caption": ([A[0], *B], {}, "b", {"no caption": 1}),
    "no image": ([A[1], *B], {}, "b", {"no image": 1}),
    "image of another name": ([("a.png.jpg", photo(0)), A[1], *B], {}, "b", {"no image": 1}),
    "two images": ([("a.png", photo(3)), *A, *B], {}, "a b", {}),
    "dot slash": ([(info("./", tarfile.DIRTYPE), b""), *pair(0, "./a"), *pair(1, "./b")], {}, "./a ./b", {}),
    "folders": ([(info("x.1/", tarfile.DIRTYPE), b""), *pair(0, "x.1/a"), *pair(1, "y/a")], {}, "x.1/a y/a", {}),
    "AppleDouble": ([("._a.jpg", b"\0\5\x16\7"), *A, ("x/._b.txt", b"Mac"), *B], {}, "a b", {}),
    "README": ([("README", b"hello"), ("LICENSE.md", b"free"), *A, *B], {}, "a b", {}),
    "upper case": ([("a.JPG", photo(0)), ("a.TXT", b"words"), ("b.Jpeg", photo(1)), B[1]], {}, "a b", {}),
    "GNU long names": ([*pair(0, LONG + "a"), *B], {"format": tarfile.GNU_FORMAT}, f"b {LONG}a", {}),
    "PAX long names": ([*pair(0, LONG + "\u00e9"), *B], {"format": tarfile.PAX_FORMAT}, f"b {LONG}\u00e9", {}),
    "ustar prefixes": ([*pair(0, "long/" * 25 + "a"), *B], {"format": tarfile.USTAR_FORMAT},
                       f"b {'long/' * 25}a", {}),
    "PAX records": ([(info("a.jpg", mtime="1.5", comment="x" * 700), photo(0)), A[1], *B],
                    {"format": tarfile.PAX_FORMAT}, "a b", {}),
    "PAX globally": ([*A, *B], {"format": tarfile.PAX_FORMAT, "pax_headers": {"comment": "all"}}, "a b", {}),
    "links": ([*A, (info("b.jpg", tarfile.SYMTYPE, "a.jpg"), b""), B[1], (info("c.jpg", tarfile.LNKTYPE, "a.jpg"), b""),
               ("c.txt", b"words")], {}, "a", {"no image": 2}),
    "caption in Latin-1": ([A[0], ("a.txt", b"caf\xe9"), *B], {}, "b", {"caption not UTF-8": 1}),
    "caption without a word": ([A[0], ("a.txt", b" ... "), *B], {}, "b", {"no caption": 1}),
    "broken image": ([("a.jpg", photo(0)[:300]), A[1], *B], {}, "b", {"broken": 1}),
    "empty image": ([("a.jpg", b""), A[1], *B], {}, "b", {"broken": 1}),
    "duplicate": ([*A, ("b.jpg", photo(0)), B[1]], {}, "a", {"exact duplicate": 1}),
    "more digits than Python reads": ([*A, (f"a.{'9' * 5000}.txt", b"words"), *B], {}, "a b", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_a_strangers_tar_is_read_in_place_and_every_loss_is_counted(name, source, tmp_path):
    members, how, used, lost = FOREIGN[name]
    path = write_tar(tmp_path / "in" / "0.tar", members, **how)
    data, ledger = finish(arrive(source(shards=str(path)), tmp_path), tmp_path, HOW)
    shard = open_shard(tmp_path / "shards", data["shards"][0])
    listed = pq.read_table(tmp_path / "shards/0000/samples.parquet").to_pylist()
    assert [row["url"] for row in listed] == [f"{path}#{key}" for key in used.split()]
    assert ledger["lost"] == lost
    assert ledger["used"] == len(shard) == len(used.split())
    images = {content for _, content in members}
    for item, row in enumerate(listed):
        assert bytes(shard.encoded(item)) in images
        assert shard.caption(item) == row["caption"]


def test_json_beside_images_may_be_anything(source, tmp_path):
    """Also numbers of more digits, and lists in more lists, than Python reads; statistics beside the tar, too."""
    odd = [
        b'{"caption": "x", "n": %s}' % (b"9" * 5000),
        b"[" * 100_000,
        b"[5]",
        b"\xef\xbb\xbf{}",
        b'{"caption": {"a": 1}}',
    ]
    members = [(f"{n}.{kind}", one) for n, text in enumerate([b'{"caption": "words"}', *odd])
               for kind, one in (("jpg", photo(n)), ("json", text))]  # fmt: skip
    whole = write_tar(tmp_path / "in/0.tar", members).read_bytes()
    (tmp_path / "in/0.tar").write_bytes(whole[:-10_240])
    for stated in ("1e999", "NaN", "-7", "true", "[1]", "9" * 5000):
        (tmp_path / "in/0_stats.json").write_text(f'{{"successes": {stated}}}')
        params = source(shards=f"{tmp_path}/in", caption_member="json")
        account = list_tars.deal(params.source, [tmp_path / "table/0000.parquet"])
        assert account == {"tars": 1}
        found = take_in.take_in(
            params.source, tmp_path / "table/0000.parquet", tmp_path / f"{len(stated)}{stated[:2]}.json"
        )
        assert (found["arrived"], found["wanted"]) == (1, 6)


def test_a_sparse_file_is_no_image_and_what_follows_is_read(source, tmp_path):
    path = sparse(tmp_path / "in" / "0.tar")
    _, ledger = finish(arrive(source(shards=str(path)), tmp_path), tmp_path, HOW)
    assert (ledger["used"], ledger["lost"]) == (2, {"no image": 1})


def whole(path, count=6):
    return write_tar(path, [member for number in range(count) for member in pair(number)]).read_bytes()


# What damage does to a tar of six samples: samples that are left, what is lost, words of the message.
DAMAGED = {
    "cut in an image": (lambda tar, at: tar[: at[4][0] + 100], 4, {"cut off": 1}, "cut short"),
    "cut in a caption": (lambda tar, at: tar[: at[4][1] + 3], 4, {"cut off": 1}, "cut short"),
    "cut in a header": (lambda tar, at: tar[: at[4][0] - 100], 4, {}, "without the mark at its end"),
    "cut between files": (lambda tar, at: tar[: at[4][1] - 512], 4, {"no caption": 1}, "without the mark at its end"),
    "zeros behind": (lambda tar, at: tar[: at[4][0] + 512] + bytes(10240), 4, {"no caption": 1}, ""),
    "many zeros behind": (lambda tar, at: tar[: at[4][0] - 512] + bytes(30720), 4, {}, "its end is zeros"),
    "a bit of a header": (lambda tar, at: flipped(tar, at[4][0] - 512), 4, {}, "damaged at byte"),
    "a bit of a size": (lambda tar, at: flipped(tar, at[4][0] - 512 + 128), 4, {}, "damaged at byte"),
    "noise behind": (lambda tar, at: tar[: at[4][0] - 512] + random.Random(0).randbytes(5120), 4, {}, "damaged"),
    "two in one file": (lambda tar, at: tar + tar, 6, {}, "what follows its end, .* bytes, is not read"),
}


def flipped(content, place):
    changed = bytearray(content)
    changed[place] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("name", DAMAGED)
def test_of_a_damaged_tar_what_can_be_read_is_taken_and_the_tar_is_named(name, source, tmp_path, capsys):
    damage, left, lost, words = DAMAGED[name]
    path = tmp_path / "in" / "0.tar"
    content = whole(path)
    with mapped(path) as opened:
        samples = find_samples(opened).samples.values()
        at = [(one["jpg"][0], one["txt"][0]) for one in samples]
    path.write_bytes(damage(content, at))
    data, ledger = finish(arrive(source(shards=str(path)), tmp_path), tmp_path, HOW)
    assert (ledger["used"], ledger["lost"]) == (left, lost)
    assert [one["samples"] for one in data["shards"]] == [left]
    said = capsys.readouterr().err
    if words:
        assert re.search(rf"^{re.escape(str(path))}: {words}", said, re.MULTILINE), said
    else:
        assert str(path) not in said


def test_what_is_behind_a_cut_is_counted_where_img2datasets_statistics_say_how_many_there_were(source, tmp_path):
    path = tmp_path / "in" / "00000.tar"
    content = whole(path)
    path.write_bytes(content[: len(content) // 2])
    (tmp_path / "in" / "00000_stats.json").write_text('{"count": 9, "successes": 6}')
    write_tar(tmp_path / "in" / "00001.tar", pair(7))
    _, ledger = finish(arrive(source(shards=f"{tmp_path}/in/*.tar"), tmp_path), tmp_path, HOW)
    assert ledger["wanted"] == 7
    assert ledger["used"] + ledger["lost"]["cut off"] == 7


@pytest.mark.parametrize("content", [b"", bytes(10240), bytes(512), b"no tar" * 100])
def test_a_tar_without_samples_is_named_and_the_others_are_read(content, source, tmp_path, capsys):
    path = tmp_path / "in" / "b.tar"
    for name in "ac":
        write_tar(path.with_stem(name), pair(ord(name)))
    path.write_bytes(content)
    data, ledger = finish(arrive(source(shards=f"{tmp_path}/in"), tmp_path), tmp_path, HOW)
    assert ledger["used"] == 2
    assert [Path(one["tar"]).name for one in data["shards"]] == ["a.tar", "c.tar"]
    assert re.search(r"b\.tar: .*, no sample$", capsys.readouterr().err, re.MULTILINE)


REFUSED = {
    "missing": ({"shards": "in/{0..2}.tar"}, r"no such file: in/1.tar, in/2.tar"),
    "compressed": ({"shards": "in/*.tar"}, r"in/z.tar: compressed \(gzip\).*unpack it"),
    "a pipe": ({"shards": "in/*.tar"}, r"in/1.tar: no file, but a folder or a device; mend or remove it"),
    "a pointer": ({"shards": "in/*.tar"}, r"in/1.tar: a pointer of Git LFS; `git lfs pull` brings the tar"),
    "fewer than parts": ({"shards": "in/0.tar", "parts": 2}, r"1 tars for download.parts = 2; lower download.parts"),
    "other extensions": (
        {"shards": "in/0.tar", "image_members": ["avif"], "caption_member": "cap"},
        r"in/0.tar: no sample has \.avif and \.cap; there are: 1 \.jpg, 1 \.txt; set source.image_members",
    ),
}


def test_links_lead_to_each_tar_once(tmp_path):
    """A folder that has a link to itself in it has each file at 41 paths."""
    write_tar(tmp_path / "in/0.tar", pair(0))
    (tmp_path / "in/self").symlink_to(".")
    (tmp_path / "in/other.tar").symlink_to("0.tar")
    assert list_tars.find_tars(f"{tmp_path}/in/**/*.tar") == [f"{tmp_path}/in/0.tar"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_source_that_cannot_be_read_is_refused_before_any_part(name, source, tmp_path, monkeypatch):
    values, words = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "in/0.tar", pair(0))
    if name == "a pipe":
        os.mkfifo("in/1.tar")
    if name == "a pointer":
        Path("in/1.tar").write_text("version https://git-lfs.github.com/spec/v1\n")
    if name == "compressed":
        write_tar(tmp_path / "in/1.tar", pair(1))
        with tarfile.open("in/z.tar", "w:gz") as tar:
            tar.add("in/0.tar")
    with pytest.raises(ValueError, match=words):
        arrive(source(**values), tmp_path)
    assert not (tmp_path / "table").exists()


def test_captions_are_read_from_json_by_their_key(source, tmp_path):
    """One that is no text, or no JSON, loses its sample; half of a character of UTF-16 becomes a mark."""
    texts = ['{"caption": "a boat \\ud83d"}', '{"caption": 3}', "[1]", "{", '{"other": "x"}', "[" * 100_000]
    members = [one for n, text in enumerate(texts) for one in (pair(n)[0], (f"{n:03d}.json", text.encode()))]
    path = write_tar(tmp_path / "in/0.tar", members)
    data, ledger = finish(arrive(source(shards=str(path), caption_member="json"), tmp_path), tmp_path, HOW)
    assert ledger["lost"] == {"no caption": 5}
    assert open_shard(tmp_path / "shards", data["shards"][0]).captions() == ["a boat \ufffd"]


def test_a_tar_that_changed_since_is_refused_by_name_before_training(source, tmp_path):
    path = tmp_path / "in" / "0.tar"
    content = whole(path)
    data, _ = finish(arrive(source(shards=str(path)), tmp_path), tmp_path, HOW)
    path.write_bytes(content[:-1024])
    with pytest.raises(
        ValueError, match=rf"0\.tar: {len(content) - 1024} bytes, {len(content)} bytes when it was index"
    ):
        ShardReader(data, tmp_path / "shards", 1)
    path.unlink()
    with pytest.raises(ValueError, match=r"0\.tar: missing, .* bytes when it was indexed; bring it back, or run"):
        ShardReader(data, tmp_path / "shards", 1)
    path.write_bytes(content)
    ShardReader(data, tmp_path / "shards", 1)


def test_a_tar_that_is_written_anew_changes_what_its_part_is_made_from(source, tmp_path):
    """By size and time, as tars may be terabytes; the part then hashes it, and equal content gives an equal account."""
    paths = [tmp_path / "in" / f"{number}.tar" for number in range(2)]
    for path in paths:
        whole(path, 2)
    pattern_ = f"{tmp_path}/in/{{0..1}}.tar"
    before, accounts = place_hash(pattern_), arrive(source(2, shards=pattern_), tmp_path)
    contents = [account.read_bytes() for account in accounts]
    tables = [file_hash(table) for table in sorted((tmp_path / "table").glob("*.parquet"))]
    os.utime(paths[1], ns=(1, 1))
    assert place_hash(pattern_) != before
    assert [account.read_bytes() for account in arrive(source(2, shards=pattern_), tmp_path)] == contents
    changed = [file_hash(table) for table in sorted((tmp_path / "table").glob("*.parquet"))]
    assert [old == new for old, new in zip(tables, changed, strict=True)] == [True, False]


def reference(path):
    """What tarfile finds in a tar: (name, offset, size) of its regular files; None where it finds fault."""
    try:
        with tarfile.open(path, "r:") as tar:
            return [(one.name, one.offset_data, one.size) for one in tar if one.isreg() and not one.sparse]
    except (tarfile.TarError, ValueError, OSError):
        return None


def test_random_tars_hold_what_tarfile_finds_in_them(tmp_path):
    rng, path = random.Random(0), tmp_path / "0.tar"
    for number in range(150):
        write_random(path, rng)
        expected = {}
        for name, *place in reference(path):
            if split := split_name(name):
                expected.setdefault(split[0], {}).setdefault(split[1], tuple(place))
        with mapped(path) as content:
            found = find_samples(content)
        assert (found.samples, found.fault) == (expected, None), number


def mutated(content, rng):
    """A tar with what disks, networks and people do to it."""
    content, place = bytearray(content), rng.randrange(max(len(content), 1))
    match rng.randrange(7):
        case 0:
            del content[place:]
        case 1:
            content[place : place + rng.choice([1, 512, 4096])] = b""
        case 2:
            content[place : place + 512] = rng.randbytes(rng.choice([1, 512, 700]))
        case 3:
            content[place // 512 * 512 :] = bytes(2048)
        case 4:
            header = place // 512 * 512
            content[header + 124 : header + 136] = rng.choice([b"-0000000001\0", b"\x80" + b"\xff" * 11, b" " * 12])
        case 5:
            content[place : place + 40] = rng.choice([b"path=", b"99 size=-5\n", b"\xff" * 40, b"\0" * 40])
        case _:
            content[place // 512 * 512 + 156 : place // 512 * 512 + 157] = rng.choice([b"x", b"L", b"S", b"g", b"5"])
    return bytes(content)


def test_300_mutated_tars_are_read_or_named_and_never_end_the_stage(source, tmp_path, capsys):
    """Whatever is found lies within the file, and the ledger adds up; two changes each."""
    rng, good = random.Random(0), []
    formats = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
    for number, form in enumerate(formats):
        members = [*pair(number), *pair(number + 9, LONG[:60] * 3 if number else "x"), *pair(number + 5, "z")]
        good.append(write_tar(tmp_path / "good" / f"{number}.tar", members, format=form).read_bytes())
    for number in range(300):
        content = mutated(mutated(rng.choice(good), rng), rng)
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{number:03d}.tar").write_bytes(content)
    write_tar(tmp_path / "in" / "last.tar", pair(99, "last"))
    table, out = tmp_path / "table", tmp_path / "0000.json"
    paths = sorted(map(str, (tmp_path / "in").glob("*.tar")))
    list_tars.write_list([table / "0000.parquet"], list_tars.look_at(paths)[0])
    account = take_in.take_in(source(shards=f"{tmp_path}/in").source, table / "0000.parquet", out)
    said = capsys.readouterr().err.splitlines()
    assert all(
        re.match(r".*/in/[\w]+\.tar: (damaged|cut|without|what follows|its end is|it is whole)", line) for line in said
    )
    assert account["wanted"] == account["arrived"] + sum(account["failed"].values())
    assert account["arrived"] > 300
    for number, tar in enumerate(account["tars"]):
        size = Path(tar["path"]).stat().st_size
        assert 0 <= tar["samples"] <= 3
        for row in pq.read_table(out.with_suffix("") / f"{number:05d}.parquet").to_pylist():
            assert 0 <= row["offset"] <= row["offset"] + row["size"] <= size


# Image files that a table names

ROWS = [(f"birds/{number}.jpg", f'a "bird", number {number}') for number in range(7)]


def write_table(path, names, rows, tabs=False):
    """A table by its extension, as pandas and `datasets` write it."""
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        lines = (json.dumps(dict(zip(names, row, strict=True)) | {"objects": {"bbox": [1, 2]}}) for row in rows)
        path.write_text("\n".join(lines) + "\n")
    else:
        with open(path, "w", newline="") as file:
            csv.writer(file, delimiter="\t" if tabs else ",").writerows([names, *rows])
    return path


@pytest.fixture
def birds(tmp_path):
    """A folder of seven images, one of them a PNG under a JPEG's name."""
    (tmp_path / "in" / "birds").mkdir(parents=True)
    for number in range(7):
        (tmp_path / "in" / "birds" / f"{number}.jpg").write_bytes(photo(number))
    (tmp_path / "in" / "birds" / "3.jpg").write_bytes(encoded(pattern(3), "PNG"))
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("name", "columns", "tabs"),
    [
        ("train.csv", ["filepath", "title"], True),  # open_clip's own
        ("train.csv", ["filepath", "title"], False),
        ("metadata.csv", ["file_name", "text"], False),  # `datasets`, imagefolder
        ("metadata.jsonl", ["file_name", "text"], False),
        ("metadata.parquet", ["file_name", "text"], False),
    ],
)
def test_image_files_become_shards_byte_for_byte(name, columns, tabs, birds, source, tmp_path):
    path = write_table(birds / name, columns, ROWS, tabs)
    keys = {"url_column": columns[0], "caption_column": columns[1]}
    params = source(1, 3, table=str(path), images=str(birds), **keys)
    data, ledger = finish(arrive(params, tmp_path), tmp_path, HOW)
    assert (ledger["wanted"], ledger["used"], ledger["lost"]) == (7, 7, {})
    found = []
    for entry in data["shards"]:
        shard = open_shard(tmp_path / "shards", entry)
        found += [(bytes(shard.encoded(item)), shard.caption(item)) for item in range(len(shard))]
    assert found == [((birds / name).read_bytes(), caption) for name, caption in ROWS]
    assert batches(tmp_path, data)["images"].shape[0] == 14


def test_no_name_leads_out_of_the_folder_and_each_that_does_is_counted(birds, source, tmp_path):
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(photo(50))
    (birds / "link.jpg").symlink_to(secret)
    (birds / "within.jpg").symlink_to(birds / "birds/1.jpg")
    (birds / "around").symlink_to("around")
    os.mkfifo(birds / "pipe.jpg")
    outside = ["../secret.jpg", str(secret), "link.jpg", "birds/../../secret.jpg"]
    missing = [None, "none.jpg", "birds", "a\0b.jpg", "around", "pipe.jpg", "x" * 5000]
    kept = ["birds/0.jpg", "within.jpg", str(birds / "birds/2.jpg"), "./birds/../birds/4.jpg"]
    rows = [(name, f"words of {number}") for number, name in enumerate([*outside, *missing, *kept])]
    path = write_table(tmp_path / "table.parquet", ["url", "caption"], rows)
    data, ledger = finish(arrive(source(table=str(path), images=str(birds)), tmp_path), tmp_path, HOW)
    assert ledger["lost"] == {"no URL": 1, "no such file": 6, "outside source.images": 4}
    (entry,) = data["shards"]
    shard = open_shard(tmp_path / "shards", entry)
    assert shard.captions() == [f"words of {number}" for number in range(11, 15)]
    assert photo(50) not in (tmp_path / "shards" / entry["name"]).read_bytes()


def test_files_come_in_the_order_of_their_first_rows(tmp_path):
    """Whatever their names hash to."""
    for number in range(40):
        names = [f"{number}/{one}.jpg" for one in range(15)]
        table = pa.table({"url": names * 2, "caption": names * 2, "row": range(30)})
        pq.write_table(table, tmp_path / "table.parquet")
        (rows,) = pack.rows_of(tmp_path / "table.parquet", 100)
        assert [(place, row["url"], row["caption"], row["rows"]) for place, row in rows] == [
            (place, name, name, 2) for place, name in enumerate(names)
        ]


def test_a_file_that_changed_is_packed_again_and_the_others_are_not(birds, source, tmp_path):
    path = write_table(tmp_path / "table.parquet", ["url", "caption"], ROWS)
    params = source(1, 3, table=str(path), images=str(birds))
    (account,) = arrive(params, tmp_path)
    tars = sorted((tmp_path / "download/0000").glob("*.tar"))
    before, times = read_json(account), [tar.stat().st_mtime_ns for tar in tars]
    (birds / "birds/4.jpg").write_bytes(photo(40))
    arrive(params, tmp_path)
    assert [tar.stat().st_mtime_ns == time for tar, time in zip(tars, times, strict=True)] == [True, False, True]
    assert read_json(account)["lists"] != before["lists"]


def test_a_folder_that_is_not_there_or_has_none_of_the_files_is_named(birds, source, tmp_path):
    path = write_table(tmp_path / "table.parquet", ["url", "caption"], ROWS)
    with pytest.raises(ValueError, match=r"source.images 'nowhere': no such folder"):
        arrive(source(table=str(path), images="nowhere"), tmp_path / "a")
    with pytest.raises(ValueError, match=r"no image file of 7 \(7 no such file\), as 'birds/\d.jpg'; paths begin in"):
        arrive(source(table=str(path), images=str(birds / "birds")), tmp_path / "b")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"shards": "a.tar"}, r"source: table = 'world' and shards = 'a.tar' are two sources; set one of them to null"),
        ({"table": None}, r"source: table and shards are null, and several is empty; name one"),
        ({"images": "folder"}, r"source: images is for the files that a table names; name that in table"),
        ({"table": None, "shards": "a.tar", "sample": 5}, r"source: sample: for the rows of a table"),
        (
            {"table": None, "shards": "a.tar", "filters": {"language": {"column": "L", "keep": ["en"]}}},
            r"source: filters.language: for the rows of a table, and shards has none; leave out",
        ),
    ],
)
def test_two_sources_at_once_and_none_at_all_are_refused(values, words, change):
    with pytest.raises(ParameterError, match=words):
        change("clip", {"source": values})


# Several sources


def test_each_source_has_its_own_parts_ledger_and_share_of_the_samples(source, change, tmp_path, monkeypatch):
    """Tars, files of a table and URLs of another together, columns of each by their names."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for number in range(5):
        write_tar(tmp_path / "many" / f"{number}.tar", [one for n in range(4) for one in pair(4 * number + n)])
    (tmp_path / "few").mkdir()
    for number in (40, 41):
        (tmp_path / "few" / f"{number}.jpg").write_bytes(photo(number))
    files = write_table(tmp_path / "few.csv", ["file", "text"], [(f"{n}.jpg", f"caption {n}") for n in (40, 41, 42)])
    with site({f"/{n}.jpg": (200, {}, photo(n)) for n in range(50, 56)}) as server:
        urls = {"url": [f"{server.url}/{n}.jpg" for n in range(50, 56)], "caption": [f"caption {n}" for n in range(6)]}
        pq.write_table(pa.table(urls), tmp_path / "web.parquet")
        several = {
            "many": {"shards": f"{tmp_path}/many"},
            "few": {"table": str(files), "images": f"{tmp_path}/few", "url_column": "file", "caption_column": "text"},
            "web": {"table": f"{tmp_path}/web.parquet"},
            "gone": None,
        }
        polite = {"private_addresses": True, "processes": 1, "threads": 4}
        weighted = {"train": SMALL["train"] | {"source_weights": {"few": 10.0, "web": 3.0}, "shuffle_shards": 1}}
        params = change(
            "clip",
            SMALL | {"source": {"table": None, "several": several}, "download": {"parts": 5} | polite} | weighted,
        )
        assert rows_of(params.source).number == 29
        data, total = finish(arrive(params, tmp_path), tmp_path, HOW)
    assert [entry["source"] for entry in data["shards"]] == ["many"] * 5 + ["few", "web", "web"]
    _, full = manifest.merge(sorted((tmp_path / "shards").glob("*.json")), tmp_path / "table/account.json")
    assert {name: one["parts"] for name, one in full["table"]["sources"].items()} == {
        "many": [0, 3], "few": [3, 4], "web": [4, 5]
    }  # fmt: skip
    assert full["sources"]["few"] == {
        "rows": 3, "wanted": 3, "arrived": 2, "decoded": 2, "used": 2, "lost": {"no such file": 1}
    }  # fmt: skip
    assert full["sources"]["web"]["used"] == 6
    assert total["rows"] == total["used"] + 1 == 29
    assert {"part": "few", "what": "lost: no such file", "images": 1} in ledger_records(full, {})
    tokens_of(tmp_path, data)
    order = build_loader(params, tmp_path, data, 0).order
    drawn = Counter(data["shards"][order.locate(position)[0]]["source"] for position in range(580))
    assert drawn == {"many": 200, "few": 200, "web": 180}  # 20 pairs, 2 of weight 10 and 6 of weight 3
    alone, other = (build_loader(params, tmp_path, data, 0) for _ in range(2))
    for start in (0, 96, 24):
        both = [other.batch(start + half, 4) for half in (0, 4)]  # as two processes read a batch of eight
        for name, value in alone.batch(start, 8).items():
            assert torch.equal(value, torch.cat([one[name] for one in both]))


@pytest.mark.parametrize(
    ("several", "words"),
    [
        ({"a": {"shards": "a.tar", "tabel": None}, "b": {"table": None}}, r"several.a.tabel: Extra inputs"),
        ({"a": {"table": "world"}}, r"several.a: the synthetic data set cannot be one of several"),
        ({"a": {"shards": "a.tar", "sample": 5}}, r"several.a: sample: for the rows of a table, and shards has none"),
        ({"a": {"shards": "a.tar", "cache": {}}}, r"several.a.cache: all sources have it alike; leave out here"),
        ({"a": {"shards": "gs://a"}}, r"several.a: shards: gs:// is not read"),
        ({"a": None}, r"several: no source is left; name one"),
    ],
)
def test_one_of_several_sources_that_is_none_is_named(several, words, change):
    with pytest.raises(ParameterError, match=words):
        change("clip", {"source": {"table": None, "several": several}})


def test_what_is_wrong_with_several_sources_is_told_at_once(source, change, tmp_path):
    write_tar(tmp_path / "0.tar", pair(0))
    several = {"here": {"shards": f"{tmp_path}/0.tar"}, "a": {"shards": "no.tar"}, "b": {"table": "no.csv"}}
    with pytest.raises(
        ValueError, match=r"several.a: .*'no.tar': no such file.*\n.*several.b: .*'no.csv': no such file"
    ):
        arrive(source(table=None, several=several), tmp_path)
    with pytest.raises(ValueError, match=r"download.parts = 3: source.several has 1 sources, with 1 tars"):
        arrive(source(3, table=None, several={"here": several["here"]}), tmp_path)
    weights = {"train": {"source_weights": {"her": 2.0}}, "source": {"table": None, "several": several}}
    with pytest.raises(ParameterError, match=r"source_weights: no source 'her'; source.several has here, a, b"):
        change("clip", weights)


@pytest.mark.parametrize("rows", [{"a": 5, "b": 1}, {"a": 1, "b": 1, "c": 98}, {"a": 7}])
def test_parts_are_shared_by_the_number_of_rows(rows):
    for parts in range(len(rows), sum(rows.values()) + 1):
        shared = parts_of(rows, rows, parts)
        assert [part for own in shared.values() for part in own] == list(range(parts))
        assert all(1 <= len(shared[name]) <= rows[name] for name in rows)


# Classes


def test_a_class_is_captions_by_its_name_in_each_template(source, tmp_path):
    """A number without a name, and what is no number, is no caption."""
    classes = ["0", "1\n", "2", "x", "-1", "\u00b2"]
    members = [(f"{n}.{kind}", content) for n, text in enumerate(classes) for kind, content in
               (("jpg", photo(n)), ("cls", text.encode()))]  # fmt: skip
    write_tar(tmp_path / "in/0.tar", members)
    values = {"shards": f"{tmp_path}/in", "caption_member": "cls", "classes": str(tmp_path / "in")}
    with pytest.raises(ValueError, match=r"source.classes '.*/in': no classnames.txt"):
        arrive(source(**values), tmp_path / "without")
    (tmp_path / "in/classnames.txt").write_text("boat\nkey\n")
    _, ledger = finish(arrive(source(**values), tmp_path / "plain"), tmp_path / "plain", HOW)
    assert (ledger["used"], ledger["lost"]) == (2, {"no caption": 4})
    (tmp_path / "set").mkdir()
    (tmp_path / "set/classnames.txt").write_text("boat\nkey\n")
    (tmp_path / "set/zeroshot_classification_templates.txt").write_text("a {c}.\nthe {c}\n")
    values |= {"classes": str(tmp_path / "set")}
    data, _ = finish(arrive(source(**values), tmp_path / "plain"), tmp_path / "plain", HOW)
    texts = open_captions(tmp_path / "plain/shards", data["shards"][0]).captions()
    assert list(texts) == ["a boat.", "the boat", "a key.", "the key"]


def test_classes_and_members_that_have_their_numbers_come_together(source):
    with pytest.raises(ParameterError, match=r"caption_member = 'cls' and classes = None"):
        source(shards="a.tar", caption_member="cls")


# Sizes


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.tsv.gz", "t.jsonl", "t.parquet"])
def test_rows_are_counted_before_anything_is_made_of_them(name, source, tmp_path, monkeypatch):
    """Whole where a file says it or is read to its end, and close to it by its first bytes."""
    rows = [(f"http://a/{n % 10}", f"{number:020d}") for n, number in enumerate(scramble(np.arange(20_000)))]
    plain = {".gz": gzip.open}.get(Path(name).suffix, open)
    if name == "t.parquet":
        pq.write_table(
            pa.table({"url": [url for url, _ in rows], "caption": [one for _, one in rows]}), tmp_path / name
        )
    elif name == "t.jsonl":
        (tmp_path / name).write_text("".join(f"{json.dumps({'url': url, 'caption': one})}\n" for url, one in rows))
    else:
        with plain(tmp_path / name, "wt") as file:
            between = "," if name == "t.csv" else "\t"
            file.writelines(f"{between.join(row)}\n" for row in [("url", "caption"), *rows])
    params = source(table=f"{tmp_path}/t.*")
    assert rows_of(params.source) == (20_000, f"counted, {tmp_path}/t.*")
    monkeypatch.setattr(sizes, "HEAD", 1 << 16)
    assert rows_of(params.source).number == pytest.approx(20_000, rel=0.2 if name.endswith("gz") else 1e-3)
    assert rows_of(source(table=f"{tmp_path}/t.*", sample=7).source).number == 7


def test_samples_of_tars_are_counted_by_statistics_or_by_the_first_tar(source, tmp_path):
    for number in range(4):
        write_tar(tmp_path / f"{number}.tar", [one for n in range(9) for one in pair(n)] + [("x.txt", b"no image")])
    params = source(shards=str(tmp_path))
    assert rows_of(params.source) == (36, f"estimated by {tmp_path}/0.tar")
    for number in range(4):
        write_json(tmp_path / f"{number}_stats.json", {"successes": number + 1})
    assert rows_of(params.source) == (10, "counted, *_stats.json beside the tars")


# Several captions of an image

SEVERAL = [[f"image {number} said {way}" for way in range(1 + number % 4)] for number in range(9)]


def in_json(folder, source):
    """Tars with lists in JSON, of which one entry is no text."""
    members = []
    for number, captions in enumerate(SEVERAL):
        text = json.dumps({"texts": [*captions, None]}).encode()
        members += [(f"{number:03d}.jpg", photo(number)), (f"{number:03d}.json", text)]
    path = write_tar(folder / "in/0.tar", members)
    return source(shards=str(path), caption_member="json", caption_column="texts")


def in_rows(folder, source):
    """A table with a row for each caption, in which rows of an image do not stand together."""
    (folder / "in").mkdir()
    for number in range(9):
        (folder / "in" / f"{number:03d}.jpg").write_bytes(photo(number))
    rows = [(f"{n:03d}.jpg", texts[way]) for way in range(4) for n, texts in enumerate(SEVERAL) if way < len(texts)]
    path = write_table(folder / "in/t.csv", ["url", "caption"], rows)
    return source(3, 9, table=str(path), images=str(folder / "in"))


def in_members(folder, source):
    """Tars in which each caption is a file, numbered from any number on."""
    members = []
    for number, captions in enumerate(SEVERAL):
        texts = [(f"{number:03d}.{way + number % 2}.txt", text.encode()) for way, text in enumerate(captions)]
        members += [(f"{number:03d}.jpg", photo(number)), *texts]
    return source(shards=str(write_tar(folder / "in/0.tar", members)))


def in_columns(folder, source):
    """A table with a list of captions in one column, and one more, or none, in another."""
    (folder / "in").mkdir()
    for number in range(9):
        (folder / "in" / f"{number:03d}.jpg").write_bytes(photo(number))
    columns = {"url": [f"{number:03d}.jpg" for number in range(9)]}
    columns |= {"texts": [texts[1:] or None for texts in SEVERAL], "first": [texts[0] for texts in SEVERAL]}
    pq.write_table(pa.table(columns), folder / "in/t.parquet")
    names = {"caption_column": "texts", "further_captions": ["first"]}
    return source(3, 9, table=str(folder / "in/t.parquet"), images=str(folder / "in"), **names)


@pytest.mark.parametrize("form", [in_json, in_rows, in_members, in_columns])
def test_all_captions_of_an_image_stay_and_each_epoch_draws_one_by_seed_and_position(form, source, tmp_path):
    data, ledger = finish(arrive(form(tmp_path, source), tmp_path), tmp_path, HOW)
    more = {"one more caption of an image": ledger["wanted"] - 9} if form is in_rows else {}
    assert (ledger["used"], ledger["lost"]) == (9, more)
    lists = [pq.read_table(tmp_path / "shards" / one["name"]) for one in data["lists"]]
    every = sorted(text for texts in SEVERAL for text in texts)
    assert sorted(text for one in lists for text in one["caption"].to_pylist()) == every
    shards_ = [open_shard(tmp_path / "shards", entry) for entry in data["shards"]]
    images = {photo(number): number for number in range(9)}
    tokens = tokens_of(tmp_path, data)
    names = {tuple(tokens.tokenizer([text])[0]): text for texts in SEVERAL for text in texts}
    assert len(names) == len(every)
    readers = [pairs_loader(data, tmp_path / "shards", tokens, 8, CROP, seed, 2) for seed in (0, 1)]
    epochs, seen = 40, {}
    batch = readers[0].batch(0, 9 * epochs)
    for position, ids in enumerate(batch["ids"].tolist()):
        shard, item = readers[0].order.locate(position)
        number = images[bytes(shards_[shard].encoded(item))]
        assert names[tuple(ids)] in SEVERAL[number]
        seen.setdefault(number, []).append(SEVERAL[number].index(names[tuple(ids)]))
    for number, drawn in seen.items():
        counts = np.bincount(drawn, minlength=len(SEVERAL[number]))
        assert len(drawn) == epochs
        assert counts.min() > 0.4 * epochs / len(counts), number
    for start in (0, 7, 100):  # wherever reading begins, and whichever process reads
        assert torch.equal(readers[0].batch(start, 5)["ids"], batch["ids"][start : start + 5])
        assert torch.equal(readers[0].captions.read_at(list(range(start, start + 5))), batch["ids"][start : start + 5])
    again = pairs_loader(data, tmp_path / "shards", tokens, 8, CROP, 0, 2)
    again.captions.seed = 1
    assert not torch.equal(again.batch(0, 90)["ids"], batch["ids"][:90])


def test_each_caption_is_a_member_of_its_own_in_shards_that_others_read(source, tmp_path):
    data, _ = finish(arrive(in_rows(tmp_path, source), tmp_path), tmp_path, HOW)
    found = {}
    for entry in data["shards"]:
        with tarfile.open(tmp_path / "shards" / entry["name"]) as tar:
            for one in tar:
                key, _, extension = one.name.partition(".")
                found.setdefault(key, {})[extension] = tar.extractfile(one).read()
    for sample in found.values():
        number = next(n for n in range(9) if photo(n) == sample["jpg"])
        texts = {f"{way}.txt" if way else "txt": text.encode() for way, text in enumerate(SEVERAL[number])}
        assert sample == {"jpg": photo(number)} | texts


def synthetic_in_json(folder, source):
    """Tars with a .txt, and synthetic captions in a .json, for every other image."""
    members = []
    for number in range(8):
        said = {"blip": [f"model {way} of {number}" for way in range(3)]} if number % 2 else {"blip": None}
        key, text = f"{number:03d}", f"human of {number}".encode()
        members += [(f"{key}.jpg", photo(number)), (f"{key}.txt", text), (f"{key}.json", json.dumps(said).encode())]
    return source(shards=str(write_tar(folder / "in/0.tar", members)), synthetic_captions=["blip"])


def synthetic_in_columns(folder, source):
    """A table with a column of synthetic captions, packed and written as shards."""
    (folder / "in").mkdir()
    for number in range(8):
        (folder / "in" / f"{number:03d}.jpg").write_bytes(photo(number))
    said = [[f"model {way} of {number}" for way in range(3)] if number % 2 else [] for number in range(8)]
    columns = {"url": [f"{number:03d}.jpg" for number in range(8)], "blip": said}
    columns |= {"caption": [f"human of {number}" for number in range(8)]}
    pq.write_table(pa.table(columns), folder / "in/t.parquet")
    return source(table=str(folder / "in/t.parquet"), images=str(folder / "in"), synthetic_captions=["blip"])


@pytest.mark.parametrize("form", [synthetic_in_json, synthetic_in_columns])
def test_synthetic_captions_are_drawn_with_the_probability_asked_for(form, source, tmp_path):
    """Each of an image's three as often; and an image without any keeps its own."""
    data, _ = finish(arrive(form(tmp_path, source), tmp_path), tmp_path, HOW)
    tokens = tokens_of(tmp_path, data)
    texts = [text for entry in data["shards"] for text in open_shard(tmp_path / "shards", entry).captions()]
    names = {tuple(tokens.tokenizer([text])[0]): text for text in texts}
    assert len(names) == 8 + 4 * 3
    order = build_order(data, None, 1, 0, 2)
    for share, epochs in ((0.0, 5), (0.25, 400), (1.0, 5)):
        reader = CaptionReader(tokens, order, 4, None, 0, share)
        drawn = [names[tuple(ids)] for ids in reader.read_at(list(range(8 * epochs))).tolist()]
        odd = [text for text in drawn if int(text[-1]) % 2]
        ways = Counter(text.split(" of")[0] for text in odd)
        assert {text.split(" of")[0] for text in drawn if text not in odd} == {"human"}
        assert len(odd) == 4 * epochs
        synthetic = len(odd) - ways["human"]
        assert abs(synthetic / len(odd) - share) <= 4 * np.sqrt(share * (1 - share) / len(odd))
        if 0 < share < 1:
            assert all(0.8 < 3 * ways[f"model {way}"] / synthetic < 1.2 for way in range(3))
    assert reader.read_at([5, 3]).tolist() == [reader.read_at([one])[0].tolist() for one in (5, 3)]


def test_a_share_of_synthetic_captions_needs_a_column_of_them(change):
    params = change("clip", {"captions": {"synthetic_share": 0.5}})
    said = params.captions.unwritten(params.source)
    assert said.startswith("captions.synthetic_share = 0.5: source.synthetic_captions names no column")
    named = change("clip", {"captions": {"synthetic_share": 0.5}, "source": {"synthetic_captions": ["blip"]}})
    assert named.captions.unwritten(named.source) is None
    with pytest.raises(ParameterError, match=r"'blip' is there twice"):
        change("clip", {"source": {"synthetic_captions": ["blip"], "further_captions": ["blip"]}})


def test_synthetic_captions_are_members_of_a_name_of_their_own(source, tmp_path):
    data, _ = finish(arrive(synthetic_in_columns(tmp_path, source), tmp_path), tmp_path, HOW)
    found = Counter()
    for entry in data["shards"]:
        with tarfile.open(tmp_path / "shards" / entry["name"]) as tar:
            found.update(one.name.partition(".")[2] for one in tar)
    assert found == {"jpg": 8, "txt": 8} | dict.fromkeys(("synthetic.txt", "1.synthetic.txt", "2.synthetic.txt"), 4)


@pytest.mark.parametrize(
    ("values", "modules", "places"),
    [
        (
            {"table": None, "several": {"a": {"shards": "in/{000..003}.tar"}, "b": {"table": "t.csv", "images": "b"}}},
            {"several"},
            ["in/{000..003}.tar", "t.csv", "b/**"],
        ),
        ({"table": None, "shards": "other/"}, {"list_tars", "take_in"}, ["other/**/*.tar"]),
        ({"table": "in/t.csv", "images": "in/{a}"}, {"table", "pack"}, ["in/t.csv", "in/{a}/**"]),
    ],
    ids=["several", "tars", "files"],
)
def test_the_workflow_runs_what_the_source_needs_and_its_jobs_are_told_of_its_files(values, modules, places, tmp_path):
    """Ranges in braces included, which Snakemake would take for wildcards."""

    def change(tree):
        tree["scales"]["tiny"]["source"] = values
        return tree

    folder = copy_workflow(tmp_path)
    write_params(folder, change)
    said = snakemake(folder, "-n", "-p", "data")
    steps = {"table", "download", "list_tars", "take_in", "pack", "several"}
    assert {name for name in re.findall(r"-m flip\.\w+\.(\w+)", said) if name in steps} == modules
    named = [words for line in said.splitlines() if "--sources" in line for words in [shlex.split(line)]]
    assert all(any(place in words for words in named) for place in places)


def test_images_are_looked_at_in_chunks_of_some_size(monkeypatch):
    """Photographs of several megabytes, 512 at a time, would not fit into a job's memory."""
    monkeypatch.setattr(fingerprints, "BYTES", 100)
    monkeypatch.setattr(fingerprints, "CHUNK", 3)
    stored = [10, 10, 10, 10, 95, 200, 1, 99, 1]
    samples = [Arrived(str(number), "", None, "jpg", (0, size), []) for number, size in enumerate(stored)]
    sizes = [[one.place[1] for one in some] for some in fingerprints.chunks_of(samples)]
    assert sizes == [[10, 10, 10], [10], [95], [200], [1, 99], [1]]


def test_captions_of_a_tar_elsewhere_are_refused_once_a_bit_has_changed(source, tmp_path):
    path = tmp_path / "in" / "0.tar"
    whole(path)
    data, _ = finish(arrive(source(shards=str(path)), tmp_path), tmp_path, HOW)
    captions = tmp_path / "shards/0000/00000.captions"
    captions.write_bytes(flipped(captions.read_bytes(), 3))
    with pytest.raises(ValueError, match=r"00000\.captions: its content is not what its SHA-256 says.*run the pi"):
        open_shard(tmp_path / "shards", data["shards"][0])


def test_resized_copies_of_images_in_tars_are_shards_of_the_projects_own(source, tmp_path):
    """Whatever strangers' names hold; what is small enough keeps its bytes and its extension."""
    small = encoded(pattern(3, 40, 40), "PNG")
    members = [*pair(0, "x.y/a\nb"), ("./é \\c.png", small), ("./é \\c.txt", b"small")]
    path = write_tar(tmp_path / "in/0.tar", members, format=tarfile.PAX_FORMAT)
    how = HOW.model_copy(update={"compact": Compact(image_size=48, quality=90)})
    data, ledger = finish(arrive(source(shards=str(path)), tmp_path), tmp_path, how)
    assert ledger["used"] == 2
    (entry,) = data["shards"]
    shard = open_shard(tmp_path / "shards", entry)
    assert sorted(shard.captions()) == ["caption 0", "small"]
    with tarfile.open(tmp_path / "shards" / entry["name"]) as tar:
        names = tar.getnames()
    assert sorted(name.partition(".")[2] for name in names) == ["jpg", "png", "txt", "txt"]
    images = {shard.caption(item): bytes(shard.encoded(item)) for item in range(2)}
    assert images["small"] == small
    assert Image.open(io.BytesIO(images["caption 0"])).size == (48, 48)
