"""YAML is read as all programs read it, or refused in one line with its place."""

import random

import pytest
import yaml
from ruamel.yaml import YAML

from flip.config.faults import ParameterError
from flip.config.frozen import load, to_yaml
from flip.config.resolve import read_project
from flip.config.strict_yaml import read_mapping

BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcde", "bcdef", strict=True)
)
CHAIN = "a: &a0 [1]\n" + "".join(f"b{n}: &a{n} [[[[[*a{n - 1}]]]]]\n" for n in range(1, 400))


@pytest.fixture
def read(tmp_path):
    def reading(text):
        path = tmp_path / "params.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_mapping(path)

    return reading


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r":3:1: key 'a' is also in line 1; leave one of them$"),
        ("x:\n  a: 1\n  a: 1\n", r":3:3: key 'a' is also in line 2"),
        ("x: {a: 1, b: 2,\n  a: 3}\n", r":2:3: key 'a' is also in line 1"),
        ("x: [{y: {a: 1, 'a': 2}}]\n", r":1:16: key 'a' is also in line 1"),
        ("x: &x {a: 1}\ny:\n  b: 1\n  <<: *x\n", r":4:3: << is no key here; write `like: NAME`"),
        ("a: [1, 2\nb: 1\n", r":\d:\d: no YAML: while parsing a flow sequence, .*"),
        ("a: 'x\n", r":2:1: no YAML: .*unexpected end"),
        ("a: b: c\n", r":1:5: no YAML: mapping values are not allowed"),
        ("\ta: 1\n", r":1:1: character '\\t' has no place"),
        ("a:\t1\n", r":1:3: character '\\t' has no place"),
        (b"a: 1\nb: \xff\n", r":2: not UTF-8 \(byte 0xff\); save it as UTF-8$"),
        ("a: 1\nb: x\0\n", r":2:5: character '\\x00' has no place here"),
        ("a: 1 # x\u2028b: 2\n", r":1:9: character '\\u2028' has no place here"),
        ("a: 1\rb: 2\n", r":1:5: character '\\r' has no place here"),
        ("a: 2020-01-01\n", r":1:4: '2020-01-01' is a date"),
        ("a: !!binary aGk=\n", r":1:4: 'aGk=' has the tag 'binary'"),
        ("a: !!set {b}\n", r":1:4: tag '.*set'; only plain"),
        ("a: !!python/object/apply:os.system [ls]\n", r":1:4: tag '.*os.system'; only plain"),
        ("a: !mine 1\n", r":1:4: '1' has the tag '!mine'"),
        ("1: a\n", r":1:1: key '1': keys are names"),
        ("a: {true: 1}\n", r":1:5: key 'true': keys are names"),
        ("no: 1\n", r":1:1: key 'no': keys are names"),
        ("2020-01-01: 1\n", r":1:1: key '2020-01-01': keys are names"),
        ("[a]: 1\n", r":1:1: key 'a list or a mapping': keys are names"),
        ("'<<': {a: 1}\n", r":1:1: key '<<': keys are names"),
        ("a: &a [*a]\n", r":1:4: this anchor holds an alias of itself"),
        ("a: &a {b: {c: *a}}\n", r":1:4: this anchor holds an alias of itself"),
        ("a: *b\n", r":1:4: no YAML: found undefined alias"),
        ("<<: 1\n", r":1:1: << is no key here"),
        (BOMB, r":\d+:4: more than 100,000 values"),
        (CHAIN, r":\d+:\d+: more than 40 lists and mappings in each other"),
        ("a: " + "[" * 500 + "]" * 500, r":1:\d+: more than 40 lists"),
        ("a: " + "[" * 100_000, r":1:\d+: more than 40 lists"),
        ("a: 1\n---\nb: 2\n", r":2:1: no YAML: .*single document"),
        ("", r": empty; it needs a mapping"),
        ("# nothing\n", r": empty; it needs a mapping"),
        ("- a\n", r":1: not a mapping"),
        ("word\n", r":1: not a mapping"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_in_one_line(read, text, message):
    with pytest.raises(ParameterError, match=message) as refused:
        read(text)
    assert "\n" not in str(refused.value)
    assert "params.yaml:" in str(refused.value)


@pytest.mark.parametrize(
    "word",
    [
        *(
            "1e-3",
            "1e3",
            "1.0e3",
            "1e",
            "010",
            "00",
            "0o17",
            "0x1F",
            "0b1",
            "1_000",
            "1_0.5",
            "1:30",
            "1:30.5",
            "1.2.3",
        ),
        *("yes", "no", "on", "off", "Yes", "NO", "On", "OFF", ".inf", "-.inf", ".nan", ".5", "-.5", "+.5", "="),
    ],
)
def test_words_that_versions_of_yaml_read_differently_are_refused_but_in_quotes(read, word):
    with pytest.raises(ParameterError, match=r":2:5: '.*' is not read alike by all YAML programs; write .*quotes"):
        read(f"a: 1\nb: [{word}, 2]\n")
    assert read(f"a: '{word}'\n") == {"a": word}


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\nb: -2\nc: +3\nd: 0\ne: 0.5\nf: 1.\ng: 1.0e-3\nh: -1.5E+10\n",
        "a: null\nb: ~\nc:\nd: true\ne: False\n",
        "a: clip-16x-batch\nb: y\nc: '1e-3'\nd: \"2020-01-01\"\ne: ../x\nf: h14\ng: 50%\nh: e5\n",
        "a: &a {b: 1, c: {d: 2}}\ne: [*a, 3]\ng: *a\n",
        "a: >-\n  some\n  words\n\nb: |\n  lines\n  more\n",
        "\ufeffa: 1\r\nb: [2,\r\n  3]\r\n",
        "%YAML 1.2\n---\na: 1\n",
    ],
)
def test_the_rest_is_what_both_versions_say(read, text):
    """With the same types, and the keys in the same order."""
    found = read(text)
    assert repr(found) == repr(yaml.safe_load(text))
    assert found == YAML(typ="safe", pure=True).load(text.removeprefix("\ufeff"))


def test_frozen_parameters_are_read_as_strictly(tmp_path):
    path = tmp_path / "clip.yaml"
    path.write_text("scale: tiny\nscale: gpu\n")
    for reading in (load, read_project):
        with pytest.raises(ParameterError, match=r"clip.yaml:2:1: key 'scale' is also in line 1"):
            reading(path)


def test_every_text_that_is_written_is_read_again(read):
    """A hash may look like a number to some program: 0b and hexadecimal digits, digits around an e, digits alone."""
    rng = random.Random(0)
    texts = ["0bbb016f2e618e5c", "0x12", "0o7", "123e45", "1e5", "1_000", "12:30:45", "0017", "1.5", ".5", ".inf", "-3"]
    texts += ["null", "~", "yes", "No", "true", "2026-12-01", "<<", "=", "", "a: b", "# a", "ü", "two\nlines", "x'y\"z"]
    texts += ["".join(rng.choices("0123456789abcdefx_.:+-", k=rng.randint(1, 12))) for _ in range(3000)]
    texts += [f"{number:064x}" for number in (rng.getrandbits(256) for _ in range(1000))]
    written = to_yaml({"texts": texts, "keys": {"0bb": "0bb"}})
    assert read(written) == {"texts": texts, "keys": {"0bb": "0bb"}}
    assert YAML(typ="safe", pure=True).load(written)["texts"] == texts


def test_jobs_can_read_the_repositorys_parameters_with_all_that_was_chosen(tmp_path):
    """Copies of the workflow in other tests leave out what sweeps have chosen; a real run does not."""
    project = read_project("params.yaml", "tiny")
    assert project.choices
    path = tmp_path / "params.yaml"
    path.write_text(to_yaml(project.tree | {"scale": "tiny"}))
    assert read_project(path).tree == project.tree | {"scale": "tiny"}
