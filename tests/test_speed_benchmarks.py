"""The long way round and medvip's way are the same mathematics, and the measurements count rightly."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from medvip import load_backbone
from medvip.features import FeatureTable
from medvip.methods.vip import PromptedClassifier
from medvip.training import get_recipe, train_model

SPEED = Path(__file__).parents[1] / "benchmarks" / "speed"
MODULES = ("machine", "made_up", "naive", "step", "paper_run", "growth")


@pytest.fixture(scope="module")
def speed() -> Iterator[SimpleNamespace]:
    """The measuring scripts as modules; they are run as scripts and belong to no package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SPEED))
        yield SimpleNamespace(**{name: __import__(name) for name in MODULES})
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture
def both(speed, tiny_clip: Path, tiny_symptoms):
    """medvip's model and the naive one on the same frozen CLIP, with the same values to learn from."""
    from transformers import CLIPModel, CLIPTokenizer

    backbone = load_backbone(str(tiny_clip), device="cpu")
    texts = tuple(tuple(of_class) for _, of_class in sorted(tiny_symptoms.items()))
    ours = PromptedClassifier(backbone, texts, context=4, seed=3)
    tokenizer = CLIPTokenizer.from_pretrained(tiny_clip)
    ids = [[tokenizer(text)["input_ids"] for text in of_class] for of_class in texts]
    naive = speed.naive.NaiveViP(CLIPModel.from_pretrained(tiny_clip), ids, context=4)
    with torch.no_grad():
        for theirs, mine in pairs(naive, ours):
            theirs.copy_(mine)
    return naive, ours, backbone


def pairs(naive, ours) -> list[tuple[torch.nn.Parameter, torch.nn.Parameter]]:
    """What is learned, on both sides."""
    merge = ours.merge_prompt
    mine = (ours.context_prompt, merge.query, merge.query_projection.weight, merge.key_projection.weight)
    return list(
        zip((naive.context, naive.class_vectors, naive.query.weight, naive.key.weight), mine, strict=True)
    )


def pixels_and_labels(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 30, 30, generator=random), torch.arange(count) % 3


def test_the_naive_step_has_the_loss_and_the_gradients_of_medvips(speed, both) -> None:
    naive, ours, backbone = both
    pixels, labels = pixels_and_labels(7)
    ours.train()
    loss = ours.backward(backbone.encode_images(pixels), labels)
    optimizer = speed.naive.optimizer_of(naive, learning_rate=0.0)
    naive_loss, _ = speed.naive.train_step(naive, optimizer, pixels, labels)
    assert naive_loss == pytest.approx(loss.item(), rel=1e-5)
    for theirs, mine in pairs(naive, ours):
        assert mine.grad is not None
        assert mine.grad.abs().max() > 1e-4
        torch.testing.assert_close(theirs.grad, mine.grad, rtol=1e-3, atol=1e-5)


def test_a_naive_epoch_ends_where_medvips_ends(speed, both) -> None:
    naive, ours, backbone = both
    pixels, labels = pixels_and_labels(12)
    train = table(backbone.encode_images(pixels), labels)
    recipe = get_recipe("paper", epochs=1, batch_size=4, warmup_epochs=0, select_by="last")
    order = torch.randperm(12, generator=torch.Generator().manual_seed(5))
    history: list[dict] = []
    train_model(
        ours, train, table(torch.empty(0, 24), labels[:0]), recipe, seed=5, history=history, quiet=True
    )
    optimizer = speed.naive.optimizer_of(naive)
    losses = [speed.naive.train_step(naive, optimizer, pixels[b], labels[b])[0] for b in order.split(4)]
    assert sum(losses) / 3 == pytest.approx(history[0]["loss"], rel=1e-4)
    for theirs, mine in pairs(naive, ours):
        torch.testing.assert_close(theirs, mine, rtol=1e-3, atol=1e-5)


def test_the_naive_pass_over_test_pictures_gives_medvips_logits(speed, both) -> None:
    naive, ours, backbone = both
    pixels, _ = pixels_and_labels(7)
    ours.eval()
    logits = speed.naive.evaluation_pass(naive, pixels.split(3))
    torch.testing.assert_close(logits, ours(backbone.encode_images(pixels)).detach(), rtol=1e-4, atol=1e-4)


def table(vectors: torch.Tensor, labels: torch.Tensor) -> FeatureTable:
    names = tuple(f"{index}.png" for index in range(len(labels)))
    return FeatureTable(vectors[:, None], labels, ("a", "b", "c"), names, names, names, "none")


def test_products_are_counted_forwards_and_backwards(speed) -> None:
    product = speed.machine.Product
    frozen = torch.nn.Linear(5, 7).requires_grad_(False)
    learned = torch.nn.Linear(7, 2)
    vectors = torch.randn(3, 5, requires_grad=True)
    seen = speed.machine.products(lambda: learned(frozen(vectors)).sum().backward())
    assert seen == Counter(
        {
            product(3, 5, 7): 1,  # forwards
            product(3, 7, 2): 1,
            product(3, 2, 7): 1,  # what goes back to the frozen layer,
            product(3, 7, 5): 1,  # and through it: nothing for its weights
            product(2, 3, 7): 1,  # the learned layer's weights
        }
    )
    convolution = torch.nn.Conv2d(3, 8, kernel_size=4, stride=4)
    with torch.no_grad():
        patches = speed.machine.products(lambda: convolution(torch.randn(2, 3, 8, 12)))
    assert patches == Counter({product(2 * 2 * 3, 3 * 4 * 4, 8): 1})


def test_products_by_onednn_are_counted_too(speed) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch comes without oneDNN")
    packed = torch.ops.mkldnn._reorder_linear_weight(torch.randn(7, 5), None)
    linear = torch.ops.mkldnn._linear_pointwise
    rows, added = torch.randn(2, 3, 5), torch.randn(2, 3, 7)

    def both() -> None:
        linear(rows, packed, None, "none", [], "")
        linear.binary(rows, added, packed, None, "add")

    assert speed.machine.products(both) == Counter({speed.machine.Product(6, 5, 7): 2})


def test_a_step_on_cached_vectors_has_the_text_towers_products_and_no_others(speed, tiny_clip: Path) -> None:
    """From the sizes alone: 2 layers of width 32, forwards and backwards, and no weight's gradient."""
    backbone = load_backbone(str(tiny_clip), device="cpu")
    seen = speed.step.work_of_a_step(backbone, speed.made_up.symptoms(2, 4))
    positions = sum(
        size.rows * count for size, count in seen.items() if (size.inner, size.columns) == (48, 32)
    )
    # 4 context vectors, at most 12 tokens, 8 symptoms, 2 layers: fc2 forwards and fc1 backwards.
    assert 0 < positions <= 8 * 16 * 2 * 2
    assert not any(40 in (size.inner, size.columns) for size in seen)  # the image tower's width
    assert all(size.inner * size.columns <= 8 * 16 * 48 for size in seen)


def test_made_up_symptoms_have_the_tokens_they_are_said_to_have(speed, tiny_clip: Path) -> None:
    backbone = load_backbone(str(tiny_clip), device="cpu")
    for texts in speed.made_up.symptoms(3, 5).for_classes(speed.made_up.class_names(3)):
        assert len(set(texts)) == 5
        assert (backbone.tokenize(texts).end + 1).tolist() == [8, 9, 11, 12, 8]


def test_peak_is_about_what_a_plain_loop_over_products_reaches(speed) -> None:
    """Not a timing that can fail by chance: only that seconds, calls and operations are counted rightly."""
    size = speed.machine.Product(64, 128, 256)
    assert size.flops == 2 * 64 * 128 * 256
    left, right = torch.randn(64, 128), torch.randn(128, 256)
    seconds = min(speed.machine.seconds_of(lambda: torch.mm(left, right), repeats=200))
    assert 0.02 < speed.machine.peak(size) * seconds / size.flops < 50


def test_the_share_of_the_peak_is_the_time_at_the_peaks_over_the_time_taken(speed, monkeypatch) -> None:
    fast, slow = speed.machine.Product(10, 10, 10), speed.machine.Product(1, 10, 100)
    monkeypatch.setattr(speed.machine, "peak", {fast: 4e6, slow: 1e6}.__getitem__)
    found = speed.machine.against_peak(Counter({fast: 2, slow: 1}), seconds=0.02)
    assert found["gflop"] == pytest.approx(6e-6)  # 2 x 2,000 and 1 x 2,000 operations
    assert found["gflop_per_second"] == pytest.approx(6e3 / 0.02 / 1e9)
    assert found["share_of_peak"] == pytest.approx((4e3 / 4e6 + 2e3 / 1e6) / 0.02)
    assert found["peak_gflop_per_second"] == pytest.approx(6e3 / 3e-3 / 1e9)


def test_the_whole_run_is_put_together_from_what_was_measured(speed) -> None:
    found = speed.paper_run.totals(
        naive={"step": [7.0, 6.0, 9.0], "test_batch": [20.0]},
        features={"seconds_a_picture": 0.1},
        training={"seconds": 60.0, "epochs": 2},
    )
    # 147 whole batches of 32 in 4,710 images; 0.2 s for each image of a test pass
    the_long_way = 3 * (50 * (147 * 7.0 + 522 * 0.2) + 624 * 0.2)
    assert found["naive_hours"] == pytest.approx(the_long_way / 3600)
    assert found["medvip_encoding_minutes"] == pytest.approx((4710 + 522 + 624) * 0.1 / 60)
    assert found["medvip_training_minutes"] == pytest.approx(25.0)
    assert found["ratio"] == pytest.approx(the_long_way / (585.6 + 1500))


def test_each_point_of_growth_is_measured(speed, tiny_clip: Path, monkeypatch) -> None:
    monkeypatch.setattr(speed.machine, "peak", lambda size: 1e9)
    for name, size in {"classes": 3, "symptoms": 2, "images": 70, "seeds": 2}.items():
        point = speed.growth.AXES[name].point(tiny_clip, size)
        assert all(seconds > 0 for seconds in point["all_seconds"])
        assert point["peak_memory_mb"] > 50


def test_growth_says_what_a_unit_costs_against_the_cheapest(speed, tmp_path: Path) -> None:
    points = [
        {"size": size, "seconds": seconds, "peak_memory_mb": 1234.5}
        for size, seconds in ((2, 0.4), (20, 2.0), (200, 30.0))
    ]
    assert [point["against_best"] for point in speed.growth.grown(points)] == pytest.approx([2.0, 1.0, 1.5])
    assert "| 200 | 30 | 150 | 1.50 | 1,234 |" in speed.growth.markdown("classes", points)
    speed.growth.draw("classes", points, tmp_path / "plot.svg")
    first = (tmp_path / "plot.svg").read_bytes()
    speed.growth.draw("classes", points, tmp_path / "plot.svg")
    assert b"seconds a step" in first
    assert (tmp_path / "plot.svg").read_bytes() == first
