"""Captions in other languages say what the English ones say, in correct grammar, and those are what they were; each
image keeps one language, whatever the shards; their tokenizer knows their letters; a narrow token embedding is the
plain one that its two matrices come to; nothing of it touches variants that read English."""

import copy
import shutil
import unicodedata
from collections import Counter
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from flip.config.faults import ParameterError
from flip.config.frozen import dump
from flip.config.resolve import Project, read_project
from flip.config.sections.data import WORLD_LANGUAGES
from flip.data import translate
from flip.data.tokenizer import CaptionTokenizer, tokenizer_path, train_wordpiece
from flip.data.translations import Translations, translations_folder
from flip.export import exports
from flip.export.formats import choose
from flip.files import read_json, write_json
from flip.model.embedding import Bottleneck
from flip.model.text import PAD, TextEncoder
from flip.provenance.layout import Layout
from flip.provenance.specs import specs
from flip.report.cells import Builder
from flip.report.results import read_results
from flip.synthetic import world
from flip.synthetic.captions import describe, sentence
from flip.synthetic.languages.all import LANGUAGES
from flip.synthetic.languages.base import Named
from flip.synthetic.scenes import stream
from flip.synthetic.shifts import captions_of
from flip.synthetic.translate import from_world
from flip.testsets.reader import read_set
from flip.train.step import build_loader
from tests.conftest import SMALL
from tests.miniature import ROOT
from tests.results_world import write_world

SPOKEN = ["en", "de", "es", "ru"]


@pytest.fixture(scope="module")
def tiny(project):
    return project.baseline.world


@pytest.fixture(scope="module")
def scenes(tiny):
    return [world.scene(tiny, row) for row in range(400)]


def test_english_captions_are_what_they_were(tiny):
    rows = "\n".join(world.caption(tiny, row) for row in range(2000))
    tests = "\n".join("\n".join(captions_of(tiny, index)) for index in range(100))
    assert sha256(rows.encode()).hexdigest()[:16] == "dc3fb9e1585e1477"
    assert sha256(tests.encode()).hexdigest()[:16] == "dbe3b695f5e94ffc"


def test_each_language_has_a_word_for_each_of_englishs():
    assert tuple(LANGUAGES) == WORLD_LANGUAGES
    english = LANGUAGES["en"]
    for language in LANGUAGES.values():
        for table in ("shapes", "colours", "textures", "backgrounds", "relations"):
            own, theirs = getattr(language, table), getattr(english, table)
            assert {key: len(words) for key, words in own.items()} == {key: len(words) for key, words in theirs.items()}
        assert language.tags.keys() == english.tags.keys()
        for table in ("things", "loosely", "before", "after"):
            assert len(getattr(language, table)) == len(getattr(english, table))
        assert [len(words) for words in language.numbers] == [3, 3]
        nouns = [language.one(noun) for words in language.shapes.values() for noun in words]
        hues = [hue for words in language.colours.values() for hue in words]
        assert len(set(nouns)) == len(nouns)
        assert len(set(hues)) == len(hues)


@pytest.mark.parametrize("detail", [False, True])
def test_all_languages_tell_the_same(tiny, scenes, detail):
    """What is drawn for a caption, up to where its length counts, and so what it tells, is the same in each."""
    for row, scene in enumerate(scenes):
        states = set()
        for language in LANGUAGES.values():
            random = stream(tiny, "caption", row)
            sentence(scene, random, detail, language)
            states.add(random.getstate())
        assert len(states) == 1


def test_what_is_told_is_said(tiny, scenes):
    """A detailed caption names its main thing by a word of the language in one of its forms."""
    for row, scene in enumerate(scenes):
        for language in LANGUAGES.values():
            said = describe(scene, stream(tiny, "detail", row), True, language).lower()
            stems = {form[:3].lower() for noun in language.shapes[scene.main.shape] for form in language_forms(noun)}
            assert any(stem in said for stem in stems), said


def language_forms(noun):
    return [noun] if isinstance(noun, str) else [form for form in noun if form and len(form) > 2]


def named(code, shape, hue=None, kind=None, which=0, **more) -> Named:
    """By English keys, the word number `which` of each table."""
    language = LANGUAGES[code]
    noun = language.shapes[shape][which]
    return Named(noun, hue and language.colours[hue][0], kind and language.textures[kind][0], **more)


A = {"article": True}
SAID = [
    ("en", ("star", "orange"), A, "an orange star"),
    ("en", ("fish", "red"), {"number": "two"}, "two red fish"),
    ("en", ("cross", "red", "striped"), {"number": "3", "hue_first": False}, "3 striped red crosses"),
    # German: masculine, feminine, neuter, with and without article; undeclined colours; plural.
    ("de", ("star", "red"), A, "ein roter Stern"),
    ("de", ("triangle", "red", None, 1), A, "eine rote Pyramide"),
    ("de", ("house", "white"), A, "ein weißes Haus"),
    ("de", ("house", "white"), {}, "weißes Haus"),
    ("de", ("star", "purple", "striped"), A, "ein lila gestreifter Stern"),
    ("de", ("house", "green", "checked"), {"number": "zwei"}, "zwei grüne karierte Häuser"),
    ("de", ("ball", "blue"), {"number": "einige"}, "einige blaue Bälle"),
    ("de", ("mug", "red", "dotted", 1), {"article": True, "in_colour": True}, "eine gepunktete Tasse in Rot"),
    # Spanish: gender and number, invariable colours, a consonant's plural.
    ("es", ("star", "red"), A, "una estrella roja"),
    ("es", ("heart", "red"), A, "un corazón rojo"),
    ("es", ("star", "blue"), {"number": "dos"}, "dos estrellas azules"),
    ("es", ("star", "pink", "dotted"), {"number": "varios"}, "varias estrellas rosa punteadas"),
    ("es", ("fish", "white"), {"number": "varios"}, "varios peces blancos"),
    ("es", ("house", "purple", "striped"), A | {"hue_first": False}, "una casa a rayas morada"),
    ("es", ("boat", "yellow"), A | {"in_colour": True}, "un barco en amarillo"),
    # Russian: three genders; two and three take the genitive singular, a pair and some the genitive plural.
    ("ru", ("ball", "red"), A, "красный мяч"),
    ("ru", ("star", "red"), A, "красная звезда"),
    ("ru", ("ring", "blue"), {}, "синее кольцо"),
    ("ru", ("star", "blue"), {"number": "два две"}, "две синие звезды"),
    ("ru", ("ball", "blue"), {"number": "два две"}, "два синих мяча"),
    ("ru", ("tree", "green"), {"number": "три"}, "три зелёных дерева"),
    ("ru", ("mug", "yellow"), {"number": "2"}, "2 жёлтые кружки"),
    ("ru", ("star", "red"), {"number": "несколько"}, "несколько красных звёзд"),
    ("ru", ("tree", "yellow", "dotted"), {"number": "пара"}, "пара жёлтых деревьев в горошек"),
    ("ru", ("heart", "orange", "striped"), {"in_colour": True}, "полосатое сердце оранжевого цвета"),
]


@pytest.mark.parametrize(("code", "words", "how", "expected"), SAID)
def test_genders_and_plurals(code, words, how, expected):
    assert LANGUAGES[code].say(named(code, *words, **how)) == expected


# The first thing has an article, where there is one, and so has the second unless a row says otherwise.
JOINED = [
    ("en", "left of", 0, "heart", A, "a red star left of a blue heart"),
    ("de", "left of", 0, "heart", A, "ein roter Stern links von einem blauen Herzen"),
    ("de", "left of", 0, "heart", {}, "ein roter Stern links von blauem Herzen"),
    ("de", "on", 0, "ball", A, "ein roter Stern auf einem blauen Ball"),
    ("de", "under", 1, "ball", {}, "ein roter Stern unterhalb von blauem Ball"),
    ("es", "left of", 0, "moon", A, "una estrella roja a la izquierda de una luna azul"),
    ("es", "above", 0, "tree", {}, "una estrella roja por encima de árbol azul"),
    ("ru", "left of", 0, "moon", A, "красная звезда слева от синей луны"),
    ("ru", "above", 0, "ring", A, "красная звезда над синим кольцом"),
    ("ru", "on", 0, "tree", A, "красная звезда на синем дереве"),
    ("ru", "below", 0, "mug", A, "красная звезда под синей кружкой"),
]


@pytest.mark.parametrize(("code", "relation", "which", "other", "how", "expected"), JOINED)
def test_relations_govern_their_case(code, relation, which, other, how, expected):
    language = LANGUAGES[code]
    first, second = named(code, "star", "red", article=True), named(code, other, "blue", **how)
    assert language.join(first, language.relations[relation][which], second) == expected


def test_loose_company_governs_its_case_too():
    german, russian = LANGUAGES["de"], LANGUAGES["ru"]
    joined = [
        german.join(named("de", "ball"), one, named("de", "mug", "red", which=1, **A)) for one in german.loosely[:2]
    ]
    assert joined == ["Ball und eine rote Tasse", "Ball mit einer roten Tasse"]
    assert russian.join(named("ru", "ball"), russian.loosely[1], named("ru", "star")) == "мяч со звездой"
    assert russian.join(named("ru", "ball"), russian.loosely[2], named("ru", "heart")) == "мяч рядом с сердцем"
    assert (
        russian.join(named("ru", "ball"), russian.loosely[4], named("ru", "boat", "red")) == "мяч около красной лодки"
    )


def test_a_wrong_caption_is_wrong_in_every_language(tiny):
    wrong = next(row for row in range(1000) if world.described(tiny, row) != row)
    other = world.scene(tiny, world.described(tiny, wrong))
    for language in LANGUAGES.values():
        assert world.caption(tiny, wrong, language) == describe(
            other, stream(tiny, "caption", wrong), language=language
        )


def test_languages_are_balanced_and_follow_from_the_url_alone():
    urls = [world.url(row) for row in range(4000)]
    found = [translate.language_of(url, SPOKEN) for url in urls]
    assert found[::-1] == [translate.language_of(url, SPOKEN) for url in urls[::-1]]
    assert all(abs(count - 1000) < 4 * (4000 * 0.25 * 0.75) ** 0.5 for count in Counter(found).values())
    repeats = sum(a == b for a, b in pairwise(found)) / 4000
    assert repeats == pytest.approx(0.25, abs=0.03)


@pytest.fixture
def listed(tmp_path, tiny):
    """Two parts of rows of the world as the shards' stage lists them, and their manifest."""
    lists, shards = [], []
    for part, (first, counts) in enumerate(((0, (30, 20)), (50, (25,)))):
        rows = range(first, first + sum(counts))
        table = {"key": [f"{row:09d}" for row in rows], "url": [world.url(row) for row in rows]}
        table |= {"caption": [world.caption(tiny, row) for row in rows], "sha256": [""] * len(rows)}
        (tmp_path / f"shards/{part:04d}").mkdir(parents=True)
        pq.write_table(pa.table(table), tmp_path / f"shards/{part:04d}/samples.parquet")
        lists.append({"name": f"{part:04d}/samples.parquet", "samples": len(rows)})
        shards += [{"name": f"{part:04d}/{number:05d}.tar", "samples": count} for number, count in enumerate(counts)]
    return {"id": "f" * 64, "lists": lists, "shards": shards}


def test_each_shard_gets_its_captions_in_order(change, listed, tmp_path, tiny):
    params = change("msiglip", {"tokenizer": {"multilingual": 400}})
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        translate.write_captions(params, SPOKEN, listed, tmp_path / "shards", folder, from_world)
    read, row = Translations(folders[0], listed), 0
    for number, shard in enumerate(listed["shards"]):
        for item in range(shard["samples"]):
            language = LANGUAGES[translate.language_of(world.url(row), SPOKEN)]
            assert read(number)[item] == world.caption(tiny, row, language)
            row += 1
    facts = [read_json(folder / "translations.json") for folder in folders]
    assert facts[0] == facts[1]
    assert sum(facts[0]["captions"].values()) == 75
    assert (folders[0] / "tokenizer.json").read_bytes() == (folders[1] / "tokenizer.json").read_bytes()
    with pytest.raises(ValueError, match=r"manifest f+, expected e+; run the pipeline again"):
        Translations(folders[0], listed | {"id": "e" * 64})
    with pytest.raises(ValueError, match=r"translations.json: missing; `snakemake variant"):
        Translations(tmp_path / "three", listed)


def test_several_captions_of_an_image_cannot_be_translated_one_by_one(change, listed, tmp_path):
    listed["lists"][1]["samples"] -= 1
    with pytest.raises(ValueError, match=r"0001/samples.parquet: 25 captions of 24 images.*set captions.languages to"):
        translate.write_captions(change("msiglip"), SPOKEN, listed, tmp_path / "shards", tmp_path / "a", from_world)


def test_other_sources_bring_their_translations(change, tmp_path):
    urls = [f"http://a.test/{number}" for number in range(60)]
    rows = {"URL": urls[:50], "de": [f"Bild {url}" for url in urls[:50]], "fr": [f"image {url}" for url in urls[:50]]}
    pq.write_table(pa.table(rows | {"fr": [None, *rows["fr"][1:]]}), tmp_path / "translations.parquet")
    source = {"table": "list.tsv", "url_column": "URL", "translations": f"{tmp_path}/*.parquet"}
    params = change("clip", {"source": source})
    samples = pa.table({"url": urls, "caption": [f"image {url}" for url in urls]})
    found = translate.translated(params, ["en", "de", "fr"], samples).to_pylist()
    words = {"en": "image", "de": "Bild", "fr": "image"}
    for number, (url, row) in enumerate(zip(urls, found, strict=True)):
        wanted = translate.language_of(url, ["en", "de", "fr"])
        assert row["language"] == (wanted if number < 50 and (number, wanted) != (0, "fr") else "en")
        assert row["caption"] == f"{words[row['language']]} {url}"
    with pytest.raises(ValueError, match=r"source.translations: .*has no column 'it' of text.*columns URL, it"):
        translate.translated(params, ["en", "it"], samples)


def test_the_tokenizer_keeps_accents_and_knows_every_letter(tiny, scenes, tmp_path, change):
    texts = [
        describe(scene, stream(tiny, "caption", row), True, language)
        for row, scene in enumerate(scenes)
        for language in LANGUAGES.values()
    ]
    definition = train_wordpiece(iter(texts), 800, accents=True)
    stored = {"kind": "wordpiece", "vocabulary": len(definition["model"]["vocab"]), "definition": definition}
    write_json(tmp_path / "tokenizer.json", stored)
    tokenizer = CaptionTokenizer(tmp_path / "tokenizer.json", 48, change("clip").captions)
    unknown, words = definition["model"]["vocab"]["[UNK]"], {i: w for w, i in definition["model"]["vocab"].items()}
    ids = tokenizer(texts)
    assert not (ids == unknown).any()
    for text, row in zip(texts, ids, strict=True):
        back = "".join(words[i].removeprefix("##") for i in row if i != PAD)
        assert back == "".join(text.lower().split())
    for one, other in (("grün", "grun"), ("ёлка", "елка"), ("синий", "синии"), ("pez", "péz")):
        assert not np.array_equal(tokenizer([one]), tokenizer([other]))
    decomposed = [unicodedata.normalize("NFD", text) for text in texts]
    assert np.array_equal(tokenizer(decomposed), ids)


@pytest.fixture
def spoken_data(small_data, tmp_path, change):
    """The small data with captions of its own in two languages."""
    folder = shutil.copytree(small_data, tmp_path / "data")
    manifest = read_json(folder / "manifest.json")
    captions = change("msiglip", {"captions": {"languages": ["en", "de"]}}).captions
    place = translations_folder(folder, captions)
    for number, shard in enumerate(manifest["shards"]):
        path = (place / shard["name"]).with_suffix(".parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        texts = [f"bild {number} {item}" for item in range(shard["samples"])]
        pq.write_table(pa.table({"language": ["de"] * len(texts), "caption": texts}), path)
    write_json(place / "translations.json", {"manifest": manifest["id"]})
    definition = train_wordpiece(iter(["bild 0123456789"]), 60, accents=True)
    stored = {"kind": "wordpiece", "vocabulary": len(definition["model"]["vocab"]), "definition": definition}
    write_json(tokenizer_path(folder, captions), stored)
    return folder, manifest


def test_training_reads_the_captions_of_its_languages(spoken_data, change):
    folder, manifest = spoken_data
    english = build_loader(change("siglip", SMALL), folder, manifest, 0)
    german = build_loader(change("msiglip", SMALL | {"captions": {"languages": ["en", "de"]}}), folder, manifest, 0)
    one, other = english.batch(8, 16), german.batch(8, 16)
    assert torch.equal(one["images"], other["images"])
    places = [german.order.locate(position) for position in range(8, 24)]
    wanted = german.captions.tokens.tokenizer([f"bild {number} {item}" for number, item in places])
    assert np.array_equal(other["ids"].numpy(), wanted)
    theirs = english.captions.tokens.tokenizer(
        [english.images.shards.open(number).caption(item) for number, item in places]
    )
    assert np.array_equal(one["ids"].numpy(), theirs)


def test_a_bottleneck_is_the_plain_embedding_of_its_product(change):
    params = change("msiglip-bottleneck", SMALL)
    torch.manual_seed(0)
    narrow = TextEncoder(params.model, params.form.text, 50).double()
    plain = TextEncoder(params.model, params.form.text.model_copy(update={"bottleneck": None}), 50).double()
    shared = {name: value for name, value in narrow.state_dict().items() if not name.startswith("embed.")}
    plain.load_state_dict(shared | {"embed.weight": narrow.embed.weight.detach()})
    ids = torch.randint(0, 50, (6, 8))
    ids[2:, 5:] = PAD
    found, expected = narrow(ids), plain(ids)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    weights = torch.randn_like(found)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    table, own = plain.embed.weight.grad, narrow.embed
    torch.testing.assert_close(own.entries.weight.grad, table @ own.widen.weight, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(own.widen.weight.grad, table.T @ own.entries.weight, rtol=1e-9, atol=1e-12)
    assert own.entries.weight.shape == (50, 2)
    assert "embed.entries.weight" not in plain.state_dict()


def test_a_bottleneck_begins_with_the_deviation_of_a_plain_embedding():
    from flip.model.transformer import initialize

    torch.manual_seed(0)
    own = Bottleneck(2000, 96, 768)
    own.apply(initialize)
    assert own.weight.std().item() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("name", ["open_clip", "transformers"])
def test_a_bottleneck_is_exported_as_the_plain_embedding(name, trained, tmp_path):
    model, tokenizer = trained("siglip", {"form": {"text": {"bottleneck": 0.25}}})
    assert isinstance(model.text.embed, Bottleneck)
    found = exports.export(model, tokenizer, choose(name, model.params), tmp_path / "there")
    assert found.text < 1e-5


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::ResourceWarning",
    r"ignore:WebDataset\(shardshuffle:UserWarning",
)
def test_the_retrieval_set_has_the_same_images_in_each_language(change, tmp_path):
    from flip.synthetic import testsets

    params = change("clip", {"world": {"tests": {"retrieval": 6}}})
    (tmp_path / "params.yaml").write_text(dump(params))
    testsets.main(["--params", f"{tmp_path}/params.yaml", "--set", "retrieval", "--out", f"{tmp_path}/en"])
    testsets.main(["--params", f"{tmp_path}/params.yaml", "--set", "retrieval-ru", "--out", f"{tmp_path}/ru"])
    images, captions = {}, {}
    for name in ("en", "ru"):
        batches = list(read_set(tmp_path / name, 32, 4))
        images[name] = torch.cat([torch.as_tensor(np.stack(batch[0])) for batch in batches])
        captions[name] = [texts for batch in batches for texts in batch[1]]
    assert torch.equal(images["en"], images["ru"])
    assert captions["ru"] == [captions_of(params.world, index, LANGUAGES["ru"]) for index in range(6)]
    revision = read_json(tmp_path / "ru/revision.json")
    assert (revision["set"], revision["samples"], revision["source"]) == ("retrieval-ru", 6, "world")
    assert revision["sha256"] != read_json(tmp_path / "en/revision.json")["sha256"]


def altered(project, path, value):
    tree = copy.deepcopy(project.tree)
    place = tree
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value
    return Project(tree, project.scale)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["variants", "msiglip", "captions", "languages"], ["en", "fr"], "does not speak fr; known: en, de, es, ru"),
        (
            ["variants", "msiglip", "captions"],
            {"languages": ["de", "de"]},
            r"captions.languages: 'de' is there twice",
        ),
        (["variants", "msiglip", "captions", "languages"], [], "captions.languages: List should have at least 1"),
        (["variants", "msiglip", "captions", "languages"], ["German"], "captions.languages.0: String should match"),
        (
            ["base", "evaluate", "languages"],
            {"fr": "world"},
            "languages.fr = 'world', which does not have this language",
        ),
        (["variants", "clip", "form"], {"text": {"bottleneck": 0.0}}, "form.text.bottleneck: .*greater than 0"),
    ],
)
def test_mistakes_are_named(project, path, value, message):
    with pytest.raises(ParameterError, match=message):
        altered(project, path, value).check()


def test_captions_that_a_source_does_not_have_are_refused():
    public = read_project("params.yaml", "cc12m").check()
    captions, source = public.variants["msiglip"].captions, public.variants["msiglip"].source
    fault = captions.untranslated(source)
    assert "source.translations = null: captions.languages = ['en', 'de', 'es', 'ru']" in fault
    assert "a column 'url' and one per language, or set captions.languages to [en]" in fault
    assert captions.untranslated(source.model_copy(update={"translations": "t.parquet"})) is None
    assert public.variants["siglip"].captions.untranslated(source) is None
    assert public.tables["languages"].metrics == ["imagenet1k", "flickr30k-image-r1", "flickr30k-text-r1"]


def changed_specs(project, path, value) -> set[str]:
    before, after = (specs(one, ROOT / "rules") for one in (project, altered(project, path, value)))
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    names = {str(Path(name).relative_to(Layout(project.scale).specs.root)) for name in changed}
    return {name for name in names if name.endswith(".json") and not name.startswith("tables/")}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (["base", "source", "translations"], "more.parquet", {"languages/en-de-es-ru/translations.json"}),
        (["base", "tokenizer", "multilingual"], 300, set()),
        (["scales", "tiny", "tokenizer"], {"multilingual": 900}, {"languages/en-de-es-ru/translations.json"}),
        (
            ["base", "evaluate", "languages"],
            {"de": "world", "es": "world", "ru": None},
            {f"languages/tests/{language}/translated_set.json" for language in ("de", "es", "ru")}
            | {f"variants/{name}/evaluate.json" for name in ("msiglip", "msiglip-bottleneck")},
        ),
        (
            ["variants", "msiglip", "captions"],
            {"end": True, "fill": True, "languages": ["en", "de"]},
            {"languages/en-de/translations.json"}
            | {f"variants/msiglip/{stage}.json" for stage in ("pretrain", "evaluate")},
        ),
    ],
)
def test_a_change_runs_what_reads_it(project, path, value, expected):
    assert changed_specs(project, path, value) == expected


def test_rows_that_read_english_alone_say_so(project, tmp_path):
    """Cells of languages that a row does not read name those that it does; rows compare with the first that does."""
    part = project.of("languages")
    part = Project(part.tree | {"variants": {name: project.tree["variants"][name] for name in part.named}}, "tiny")
    data, results, receipts, cost = write_world(tmp_path, part)
    for variant in ("msiglip", "msiglip-bottleneck"):
        folder = results / variant / "seed-0"
        facts, found = read_json(folder / "metrics.json"), dict(np.load(folder / "outcomes.npz"))
        for language in ("de", "es", "ru"):
            facts["sets"][f"retrieval-{language}"] = facts["sets"]["retrieval"] | {"sha256": language * 32}
            for side in ("image", "text"):
                found[f"retrieval-{language}-{side}-r1"] = found[f"retrieval-{side}-r1"][::-1]
                facts["metrics"][f"retrieval-{language}-{side}-r1"] = facts["metrics"][f"retrieval-{side}-r1"]
        write_json(folder / "metrics.json", facts)
        np.savez(folder / "outcomes.npz", **found)
    (table,) = Builder(read_results(part, data, results, receipts, cost)).tables()
    cells = {row.variant: {str(cell.metric): cell for cell in row.metrics} for row in table.rows}
    german = {name: one["retrieval-de-image-r1"] for name, one in cells.items()}
    assert german["siglip-whole"].missing == "captions in en alone"
    assert german["siglip-whole"].value is None
    assert german["msiglip"].reference is None
    assert german["msiglip-bottleneck"].reference == "msiglip"
    assert cells["msiglip-bottleneck"]["retrieval-image-r1"].reference == "siglip-whole"
    assert "retrieval-ru" in table.sets
    labels = {row.variant: row.label for row in table.rows}
    assert "languages en de es ru" in labels["msiglip"]
    assert "token entries 16 wide" in labels["msiglip-bottleneck"]
