"""From what a user writes to a backbone: what is accepted, what is refused and how to mend it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from medvip.backbones import load_backbone
from medvip.backbones.huggingface import _FILES, download
from medvip.backbones.loading import resolve_device
from medvip.backbones.protocol import encode_texts
from medvip.errors import BackboneError, UsageError


@pytest.fixture
def folder(tiny_clip: Path, tmp_path: Path) -> Path:
    """A copy of the tiny CLIP that a test may spoil."""
    return shutil.copytree(tiny_clip, tmp_path / "clip")


def change_json(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


# Names


@pytest.mark.parametrize("name", ["embeded", "/no/such/folder", "a/b/c", "../clip"])
def test_unknown_name_is_refused_with_what_would_do(name):
    with pytest.raises(BackboneError, match=f"no backbone '{re.escape(name)}'") as caught:
        load_backbone(name)
    assert "'embedded'" in caught.value.fix
    assert "openai/clip-vit-base-patch16" in caught.value.fix


def test_folder_may_be_written_with_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_backbone("~/clip", device="cpu").name == "~/clip"


# Devices


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_on_a_machine_without_is_refused(tiny_clip):
    with pytest.raises(UsageError, match="no CUDA device") as caught:
        load_backbone(str(tiny_clip), device="cuda")
    assert "--device cpu" in caught.value.fix
    assert load_backbone(str(tiny_clip), device="auto").device == torch.device("cpu")


def test_unknown_device_is_refused():
    with pytest.raises(UsageError, match="no device 'tpu'") as caught:
        resolve_device("tpu")
    assert caught.value.fix == "use auto, cpu or cuda"


# Folders that are not whole


def test_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    with pytest.raises(BackboneError, match=re.escape(f"{folder} has no config.json")) as caught:
        load_backbone(str(folder))
    assert "CLIP or SigLIP" in caught.value.fix


@pytest.mark.parametrize("content", ['{"model_type": "cl', "[]", "{}", "", "\x00"])
def test_broken_config_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(BackboneError, match=r"has a config\.json that cannot be used"):
        load_backbone(str(folder))


def test_unknown_model_type_is_refused_with_the_known_ones(folder):
    change_json(folder / "config.json", model_type="bert")
    with pytest.raises(BackboneError, match="model of type 'bert'") as caught:
        load_backbone(str(folder))
    assert "clip, siglip" in caught.value.fix


def test_missing_weights_are_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        BackboneError, match=r"holds no weights as safetensors \(to mend it: .*model\.safetens"
    ):
        load_backbone(str(folder))


class _Bomb:
    """What an attacker would put into a pickle: opening it writes a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.proof,)


@pytest.mark.parametrize("other_weights", [False, True])
def test_a_pickle_is_never_opened(folder, other_weights):
    proof = folder / "opened"
    torch.save({"text_projection.weight": _Bomb(proof)}, folder / "pytorch_model.bin")
    if other_weights:
        load_backbone(str(folder), device="cpu")
    else:
        (folder / "model.safetensors").unlink()
        with pytest.raises(BackboneError, match=r"only as pytorch_model\.bin: a pickle"):
            load_backbone(str(folder))
    assert not proof.exists()


def test_the_mending_that_the_error_about_a_pickle_names_works(folder, tiny_clip):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(folder))
    exec(re.search(r'python -c "(.*)"', caught.value.fix)[1], {})  # type: ignore[index]
    mended = encode_texts(load_backbone(str(folder), device="cpu"), ["round"])
    torch.testing.assert_close(mended, encode_texts(load_backbone(str(tiny_clip), device="cpu"), ["round"]))


def test_truncated_weights_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BackboneError, match=re.escape(f"{folder} cannot be loaded")):
        load_backbone(str(folder))


def test_weights_that_lack_a_part_are_refused_and_not_filled_with_random_numbers(folder):
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("text_projection")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"weights lack 1 tensors?, text_projection\.weight"):
        load_backbone(str(folder))


@pytest.mark.parametrize("also_missing", [[], ["tokenizer_config.json"]])
def test_missing_tokeniser_is_refused_and_not_replaced_by_an_empty_one(folder, also_missing):
    for file in ["tokenizer.json", "vocab.json", "merges.txt", *also_missing]:
        (folder / file).unlink()
    with pytest.raises(BackboneError, match="holds no tokeniser") as caught:
        load_backbone(str(folder))
    assert "vocab.json" in caught.value.fix


@pytest.mark.parametrize("missing", [["tokenizer.json"], ["vocab.json", "merges.txt"]])
def test_either_form_of_the_tokeniser_is_enough(folder, tiny_clip, missing):
    for file in missing:
        (folder / file).unlink()
    found = load_backbone(str(folder), device="cpu").tokenize(["a round spot"]).ids
    assert (
        found.tolist() == load_backbone(str(tiny_clip), device="cpu").tokenize(["a round spot"]).ids.tolist()
    )


def test_missing_preprocessor_is_refused(folder):
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(BackboneError, match=r"cannot be loaded.*preprocessor"):
        load_backbone(str(folder))


# The hub


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of downloaded models, and no network."""
    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    return cache


def put_in_cache(cache: Path, model: Path, hub_id: str) -> Path:
    """As a download leaves it: refs/main names a revision, snapshots/<revision> holds the files."""
    place = cache / f"models--{hub_id.replace('/', '--')}"
    revision = "0123456789abcdef0123456789abcdef01234567"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(revision)
    return shutil.copytree(model, place / "snapshots" / revision)


def test_hub_model_that_was_downloaded_before_loads_offline(hub_cache, tiny_clip):
    put_in_cache(hub_cache, tiny_clip, "someone/tiny-clip")
    found = load_backbone("someone/tiny-clip", device="cpu")
    local = load_backbone(str(tiny_clip), device="cpu")
    assert found.name == "someone/tiny-clip"
    assert found.fingerprint == local.fingerprint
    torch.testing.assert_close(encode_texts(found, ["round"]), encode_texts(local, ["round"]))


def test_hub_model_offline_says_how_to_get_it(hub_cache):
    with pytest.raises(BackboneError, match="someone/tiny-clip is not on this machine") as caught:
        load_backbone("someone/tiny-clip")
    assert "hf download someone/tiny-clip --local-dir FOLDER" in caught.value.fix
    assert "--backbone FOLDER" in caught.value.fix
    assert "--backbone embedded" in caught.value.fix


def test_half_downloaded_hub_model_is_refused_offline(hub_cache, tiny_clip):
    snapshot = put_in_cache(hub_cache, tiny_clip, "someone/tiny-clip")
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(BackboneError, match="holds no weights as safetensors"):
        load_backbone("someone/tiny-clip")


def test_half_downloaded_hub_model_is_fetched_when_there_is_a_network(hub_cache, tiny_clip, monkeypatch):
    import huggingface_hub

    snapshot = put_in_cache(hub_cache, tiny_clip, "someone/tiny-clip")
    (snapshot / "model.safetensors").unlink()
    offline = huggingface_hub.snapshot_download

    def snapshot_download(*arguments: object, local_files_only: bool = False, **others: object) -> str:
        if not local_files_only:
            shutil.copy(tiny_clip / "model.safetensors", snapshot)
        return offline(*arguments, local_files_only=True, **others)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert load_backbone("someone/tiny-clip", device="cpu").fingerprint == fingerprint(tiny_clip)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("RepositoryNotFoundError", r"the hub has no model someone/typo \(to mend it: check its spelling"),
        ("GatedRepoError", r"accept the terms of someone/typo.*hf auth login"),
        (
            "HfHubHTTPError",
            r"someone/typo is not on this machine and cannot be downloaded \(HfHubHTTPError\)",
        ),
    ],
)
def test_what_the_hub_answers_is_passed_on(hub_cache, monkeypatch, error, text):
    import huggingface_hub.errors

    def snapshot_download(*_: object, local_files_only: bool = False, **__: object) -> str:
        if local_files_only:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not here")
        raise getattr(huggingface_hub.errors, error)("no", response=SimpleNamespace(headers={}, request=None))

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(BackboneError, match=text):
        download("someone/typo")


def test_no_pickle_is_fetched_from_the_hub():
    from huggingface_hub.utils import filter_repo_objects

    there = [
        "config.json", "merges.txt", "model-00001-of-00002.safetensors", "model.safetensors.index.json",
        "preprocessor_config.json", "spiece.model", "tokenizer.json", "vocab.json",
        "pytorch_model.bin", "flax_model.msgpack", "tf_model.h5", "model.pt", "weights.pkl", "modeling.py",
    ]  # fmt: skip
    assert list(filter_repo_objects(there, allow_patterns=list(_FILES))) == there[:8]


# Fingerprints


def fingerprint(folder: Path) -> str:
    return load_backbone(str(folder), device="cpu").fingerprint


def test_fingerprint_is_the_same_wherever_the_folder_lies(folder, tiny_clip):
    (folder / "README.md").write_text("a note that changes no vector")
    assert fingerprint(folder) == fingerprint(tiny_clip)


def test_one_changed_weight_changes_the_fingerprint(folder, tiny_clip):
    weights = load_file(folder / "model.safetensors")
    weights["text_projection.weight"][0, 0] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert fingerprint(folder) != fingerprint(tiny_clip)


def test_changed_preprocessing_changes_the_fingerprint(folder, tiny_clip):
    change_json(folder / "preprocessor_config.json", image_mean=[0.5, 0.5, 0.5])
    assert fingerprint(folder) != fingerprint(tiny_clip)


def test_changed_tokeniser_changes_the_fingerprint(folder, tiny_clip):
    (folder / "merges.txt").write_text("#version: 0.2\na b\n")
    assert fingerprint(folder) != fingerprint(tiny_clip)


def test_families_have_different_fingerprints(tiny_clip, tiny_siglip):
    assert fingerprint(tiny_clip) != fingerprint(tiny_siglip)
