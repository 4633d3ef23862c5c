"""Proves, with the real img2dataset over HTTP, that training sees images as browsers display them and trains on
captions that have words, each of them one in all stages; and that plain images are what img2dataset makes of them."""

import functools
import io
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
from PIL import Image

from flip.config.schema import Shards
from flip.data import dropped, fingerprints, shards
from flip.data.fingerprints import read
from flip.data.shard import Shard
from flip.data.token_cache import Tokens, words
from flip.data.tokenizer import CaptionTokenizer, build
from flip.data.translate import translated
from flip.download import part as download
from flip.files import read_json, write_json
from flip.formats.tar_members import members
from flip.sources import table
from tests.images import UNTURNED, encoded, pattern, png, png16, turned

GREY = pattern(1)[:, :, 0]
CLEAR = np.dstack([pattern(3), np.tile(np.linspace(0, 255, 96).astype(np.uint8), (64, 1))])
WHITENED = Image.composite(*(Image.fromarray(x) for x in (pattern(3), 255 + 0 * pattern(3), CLEAR[:, :, 3])))
SIDE = 80  # pixels of the shorter side that larger images are scaled to
LARGE = pattern(4, 160, 240)

# file -> (bytes, what is displayed)
ODD = {
    **{f"rotated-{one}.jpg": (turned(pattern(2), one), pattern(2)) for one in UNTURNED},
    "rotated-6.png": (turned(pattern(2), 6, "PNG"), pattern(2)),
    "rotated-large.jpg": (turned(LARGE, 8), np.asarray(Image.fromarray(LARGE).resize((120, 80), Image.Resampling.BOX))),
    "grey-16.png": (png16(GREY), GREY[:, :, None].repeat(3, 2)),
    "colour-16.png": (png16(pattern(1)), pattern(1)),
    "grey-16.tif": (encoded(GREY.astype(np.uint16) * 257, "TIFF"), GREY[:, :, None].repeat(3, 2)),
    "clear.png": (encoded(CLEAR, "PNG"), np.asarray(WHITENED)),
    "clear-16.png": (png16(CLEAR), np.asarray(WHITENED)),
    "print.jpg": (encoded(Image.fromarray(pattern(5)).convert("CMYK")), pattern(5)),
}
PLAIN = {
    "colour.jpg": encoded(pattern(6)),
    "large.jpg": encoded(LARGE),
    "grey.jpg": encoded(GREY),
    "colour.png": encoded(pattern(6), "PNG"),
    "grey.png": encoded(GREY, "PNG"),
    "colour.webp": encoded(pattern(6), "WEBP"),
    "clear-8.png": encoded(CLEAR, "PNG"),
}
REFUSED = {
    "floats.tif": encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"),
    "bomb.png": png(b"\0" * 32000, 8, 6, 8000, 8000),
    "cut.png": encoded(pattern(7), "PNG")[:900],
}
CAPTIONS = {  # file -> caption, and whether it counts
    "c0.jpg": ("a boat", True),
    "c1.jpg": ("   ", False),
    "c2.jpg": ("\u00a0", False),
    "c3.jpg": ("\u200b", False),
    "c4.jpg": ("\ufffd", False),
    "c5.jpg": ("", False),
    "c6.jpg": ("a\tkey\nat night", True),
    "c7.jpg": ("\u2028star\u2028", True),
    "c8.jpg": (None, False),
    "c9.jpg": ("nan", True),
}
FILES = {name: body for name, (body, _) in ODD.items()} | PLAIN | REFUSED
FILES |= {name: encoded(pattern(20 + number)) for number, name in enumerate(CAPTIONS)}


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def params(change, tmp_path_factory):
    source = {"table": str(tmp_path_factory.mktemp("source") / "table.parquet")}
    sizes = {
        "image_size": SIDE,
        "min_image_size": 0,
        "timeout": 20,
        "retries": 0,
        "threads": 4,
        "processes": 1,
        "private_addresses": True,
    }
    return change(delta={"source": source, "download": sizes | {"parts": 1, "samples_per_shard": 100}})


@pytest.fixture(scope="module")
def data(params, tmp_path_factory):
    """A folder with part 0000 of the files above, downloaded, with fingerprints and shards."""
    folder, web = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("web")
    for name, body in FILES.items():
        (web / name).write_bytes(body)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=web)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_port}"
        captions = [CAPTIONS.get(name, (name, True))[0] for name in FILES]
        rows = {"url": [f"{host}/{name}" for name in FILES], "caption": pa.array(captions, pa.string())}
        pq.write_table(pa.table(rows), params.source.table)
        table.write_parts(params, folder / "table")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("no_proxy", "127.0.0.1")
            download.download(params, folder / "table/0000.parquet", folder / "download/0000.json")
        server.shutdown()
    account, known = folder / "download/0000.json", folder / "0000.parquet"
    fingerprints.main(["--download", str(account), "--out", str(known)])
    how = Shards(samples_per_shard=100, compact=None, buckets=1, only=None)
    fingerprints.write([], dropped.SCHEMA, folder / "dropped.parquet")
    shards.write_part(account, known, folder / "dropped.parquet", folder / "shards/0000.json", how)
    return folder


@pytest.fixture(scope="module")
def stored(data) -> dict[str, bytes]:
    """What the download has stored of each file."""
    tar = data / "download/0000/00000.tar"
    rows = pq.read_table(tar.with_suffix(".parquet"), columns=["key", "url"]).to_pylist()
    names = {row["key"]: row["url"].rpartition("/")[2] for row in rows}
    return {names[key]: read(tar, [files["jpg"]])[0] for key, files in members(tar).items()}


@pytest.mark.parametrize("name", ODD)
def test_training_sees_what_is_displayed(stored, name):
    found, shown = simplejpeg.decode_jpeg(stored[name]).astype(int), ODD[name][1]
    assert found.shape == shown.shape
    difference = np.abs(found - shown)
    assert difference.mean() < 6  # twice encoded, with halved colours
    if name.startswith("grey"):
        assert difference.max() <= 12
        assert difference.mean() < 1
    with Image.open(io.BytesIO(stored[name])) as image:
        assert 0x0112 not in image.getexif()


@pytest.mark.filterwarnings("ignore")
def test_plain_images_are_byte_for_byte_those_of_img2dataset(params, stored, monkeypatch):
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
    from img2dataset.resizer import Resizer

    resize = Resizer(SIDE, "keep_ratio", True, encode_quality=params.download.quality)
    for name, body in PLAIN.items():
        assert stored[name] == resize(io.BytesIO(body))[0], name


def test_what_cannot_be_decoded_is_counted(data, stored):
    assert read_json(data / "download/0000.json")["failed"] == {
        "no readable image": len(REFUSED) - 1,
        "too many pixels": 1,
    }
    assert not stored.keys() & REFUSED.keys()


def test_only_captions_with_words_are_trained_on(data):
    ledger = read_json(data / "shards/0000.json")["ledger"]
    assert ledger["lost"]["no caption"] == sum(not counts for _, counts in CAPTIONS.values())


def test_each_caption_stays_one_in_every_stage(params, data, tmp_path):
    wanted = [caption for caption, counts in CAPTIONS.values() if counts]
    shard, listed = data / "shards/0000/00000.tar", pq.read_table(data / "shards/0000/samples.parquet")
    assert Shard(shard).captions()[-len(wanted) :] == listed["caption"].to_pylist()[-len(wanted) :] == wanted
    texts = Shard(shard).captions()
    write_json(tmp_path / "tokenizer.json", build(params, iter(texts)))
    tokenizer = CaptionTokenizer(tmp_path / "tokenizer.json", 8, params.captions)
    entry = read_json(data / "shards/0000.json")["shards"][0]
    ids = Tokens(tokenizer, tmp_path, {"shards": [entry]})
    ids.source = data / "shards"
    assert [words(ids(0), item).tolist() for item in range(len(texts))] == tokenizer.encode(texts)
    assert all(tokenizer.encode(wanted))


def test_translations_count_and_stay_one_in_the_same_way(params, data, tmp_path):
    listed = pq.read_table(data / "shards/0000/samples.parquet").slice(0, 5)
    others = ["\u200b", "  ", None, "ein\nBoot", "\u2028Stern\u2028"]
    pq.write_table(pa.table({"url": listed["url"], "de": others}), tmp_path / "de.parquet")
    source = params.source.model_copy(update={"translations": str(tmp_path / "de.parquet")})
    found = translated(params.model_copy(update={"source": source}), ["de"], listed)
    assert found["caption"].to_pylist() == listed["caption"].to_pylist()[:3] + others[3:]
    assert found["language"].to_pylist() == ["en", "en", "en", "de", "de"]
