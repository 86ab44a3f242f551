"""Texts as token ids: start, end, padding, and lengths that are never cut."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medvip.backbones import load_backbone

CLIP_VOCABULARY = Path(__file__).parents[3] / "shared" / "clip_vocab" / "bpe_simple_vocab_16e6.txt.gz"


@pytest.fixture(scope="module")
def clip(tiny_clip):
    return load_backbone(str(tiny_clip), device="cpu")


@pytest.fixture(scope="module")
def siglip(tiny_siglip):
    return load_backbone(str(tiny_siglip), device="cpu")


@settings(max_examples=25, deadline=None)
@given(texts=st.lists(st.text("abcdeXYZ019 ,.'-éß影🙂", max_size=18), min_size=1, max_size=8))
def test_clip_ends_at_its_first_end_token(clip, tiny_clip, texts):
    config = json.loads((tiny_clip / "config.json").read_text())["text_config"]
    ids, end = clip.tokenize(texts)
    for row, position in zip(ids.tolist(), end.tolist(), strict=True):
        assert row[0] == config["bos_token_id"]
        assert row.index(config["eos_token_id"]) == position
    assert ids.shape[1] == int(end.max()) + 1


def test_siglip_ends_with_its_end_token_and_has_no_start_token(siglip):
    ids, end = siglip.tokenize(["round", "round spot"])
    assert siglip.start_tokens == 0
    assert [row[position] for row, position in zip(ids.tolist(), end.tolist(), strict=True)] == [1, 1]
    assert 1 not in ids[0, : int(end[0])]


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_long_text_is_never_truncated(request, family, caplog):
    backbone = request.getfixturevalue(family)
    ids, end = backbone.tokenize(["spot " * 100, "spot"])
    assert int(end[0]) + 1 == ids.shape[1] > backbone.context_length
    assert int(end[1]) < 10
    twice = int(backbone.tokenize(["spot " * 200]).end[0])
    assert twice - backbone.start_tokens == 2 * (int(end[0]) - backbone.start_tokens)
    assert "longer than the specified maximum" not in caplog.text


@pytest.mark.skipif(not CLIP_VOCABULARY.is_file(), reason=f"no CLIP vocabulary at {CLIP_VOCABULARY}")
@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a photo of a cat", [49406, 320, 1125, 539, 320, 2368, 49407]),
        ("A photo of a  dog.", [49406, 320, 1125, 539, 320, 1929, 269, 49407]),
    ],
)
def test_clips_real_vocabulary_gives_the_published_ids(tiny_clip, tmp_path, text, ids):
    from tiny_models import byte_letters

    folder = shutil.copytree(tiny_clip, tmp_path / "clip", ignore=shutil.ignore_patterns("tokenizer*"))
    merges = gzip.decompress(CLIP_VOCABULARY.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    letters = byte_letters()
    words = letters + [letter + "</w>" for letter in letters] + [merge.replace(" ", "") for merge in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    found, end = load_backbone(str(folder), device="cpu").tokenize([text])
    assert found.tolist() == [ids]
    assert end.tolist() == [len(ids) - 1]
