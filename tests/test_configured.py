"""A word of `snakemake --config` that nothing reads is refused before anything is planned."""

import pytest

from flip.config.faults import ParameterError
from flip.config.overrides import chosen_reports, chosen_variants, configured, given
from tests.miniature import ROOT, snakemake


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"scael": "tiny"}, r"--config: unknown key 'scael'; did you mean 'scale'\?"),
        ({"varaint": "flip-50"}, r"--config: unknown key 'varaint'; did you mean 'variant'\?"),
        ({"report": "systems"}, r"--config: unknown key 'report'; did you mean 'reports'\?"),
        ({"scale": "tinny"}, r"unknown scale 'tinny'; did you mean 'tiny'\?"),
        ({"scale": ["1"]}, r"--config scale=\['1'\]: no name"),
        ({"scale": None}, r"--config scale=: no name; write scale=NAME, or leave scale out"),
        ({"scale": ""}, r"--config scale=: no name"),
        ({"variant": 50}, r"--config variant=50: no name"),
        ({"variant": True}, r"--config variant=True: no name"),
        ({"variant": "flop-50"}, r"--config variant=flop-50: unknown variant 'flop-50'; did you mean 'flip-50'\?"),
        ({"variant": "../x"}, r"unknown variant '../x'"),
        ({"reports": {"a": 1}}, r"--config reports=.*: no name"),
        ({"reports": ","}, r"--config reports=,: names no report"),
        ({"reports": "systems,sigllip"}, r"unknown report 'sigllip'; did you mean 'siglip'\?"),
        ({"reports": "systems systems"}, r"or one twice"),
    ],
)
def test_what_names_nothing_is_refused(config, message):
    with pytest.raises(ParameterError, match=message):
        configured("params.yaml", config, [])


@pytest.mark.parametrize(
    ("words", "config", "message"),
    [
        ("--config scale=tiny scale=gpu", {"scale": "gpu"}, r"scale=... is there 2 times"),
        ("-C scale=gpu -n --config scale=tiny", {"scale": "tiny"}, r"scale=... is there 2 times"),
        ("--config scale=gpu -n --config variant=clip", {"variant": "clip"}, r"scale=... is lost, as another --config"),
    ],
)
def test_what_is_given_twice_is_refused(words, config, message):
    with pytest.raises(ParameterError, match=message):
        configured("params.yaml", config, ["snakemake", *words.split()])


def test_words_after_other_options_are_none_of_it():
    words = (
        "snakemake a --set-threads x=1 --config scale=tiny reports=a,b -n --set-resources y:mem=2 --config=variant=c"
    )
    assert given(words.split()) == ["scale=tiny", "reports=a,b", "variant=c"]


def test_what_is_asked_for_is_chosen():
    project = configured("params.yaml", {"scale": "gpu", "variant": "flip-50", "reports": "systems, siglip"}, [])
    assert project.scale == "gpu"
    assert chosen_variants({"variant": "flip-50"}, project) == ["flip-50"]
    assert chosen_variants({}, project) == list(project.variants)
    assert chosen_reports({"reports": "systems, siglip"}, project) == ["systems", "siglip"]
    assert chosen_reports({}, project) == list(project.reports)


def test_snakemake_plans_nothing_then():
    said = snakemake(ROOT, "-n", "variant", "--config", "varaint=flip-50", check=False)
    assert "--config: unknown key 'varaint'; did you mean 'variant'?" in said
    assert "Traceback" not in said
    assert "pretrain" not in said


@pytest.mark.parametrize(
    ("words", "config"),
    [
        (["snakemake", "--config", "variant=flip-50"], {"variant": "flip-50"}),
        (["snakemake", "ablations", "--config", "variant=flip-50"], {"variant": "flip-50"}),
        (["snakemake", "variant", "-Creports=systems"], {"reports": "systems"}),
    ],
)
def test_a_word_that_the_target_does_not_read_is_refused(words, config):
    """Or all variants would be trained where one was meant."""
    with pytest.raises(
        ParameterError, match=r"is read by `snakemake (variant|report)` and `snakemake sweep` alone; name one"
    ):
        configured(ROOT / "params.yaml", config, words)


def test_short_options_are_read_as_snakemake_reads_them():
    assert given(["snakemake", "-Cvariant=clip", "-Cscale=tiny", "-C", "a=b", "c=d"]) == [
        "variant=clip",
        "scale=tiny",
        "a=b",
        "c=d",
    ]


def test_the_page_of_other_reports_is_made_again(tmp_path):
    from flip.provenance.freshness import Receipts, has_other_upstream

    known = {"page.json": {"made_from": {"after": {"a.json": "1"}}}}
    for after, other in ((["a.json"], False), (["a.json", "b.json"], True), (["b.json"], True)):
        assert has_other_upstream(Receipts(known, ()), "page.json", after) == other
    assert not has_other_upstream(Receipts({}, ()), "page.json", ["a.json"])
