"""EfficientNet-Lite0 for a CPU: the tower's folded convolutions as a graph that ONNX Runtime computes.

It takes rectifiers and skip connections along with the convolutions, and keeps pictures in blocks
of channels as wide as the processor's registers. It adds up the same numbers as torch in another
order, so vectors differ in the last bits only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from medvip.backbones.efficientnet import StagedTower, blocks_of
from medvip.backbones.image_space import DIM

OPERATORS = 17
"""Version of ONNX's operators that the graph is written in."""


def has_onnx_runtime() -> bool:
    """Whether the packages are there and can be loaded on this machine; imports them."""
    try:
        import onnx  # noqa: F401

        _silent_onnx_runtime()
    except (ImportError, OSError):  # not installed, or a library that it wants is missing
        return False
    return True


class OnnxFeatures:
    """A frozen tower whose normalisations are folded, with the vectors of `StagedTower`.

    Each picture is encoded by itself and by one thread, as many pictures side by side as there are
    threads: so its vector is the same to the last bit in any batch, and threads never wait for one
    another between layers, which they would for processors that decode pictures meanwhile.

    Parameters
    ----------
    tower
        As `medvip.backbones.efficientnet.load_image_tower` gives it.
    threads
        Pictures encoded side by side.
    """

    def __init__(self, tower: StagedTower, threads: int) -> None:
        onnxruntime = _silent_onnx_runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        self._session = onnxruntime.InferenceSession(
            model_of(tower), options, providers=["CPUExecutionProvider"]
        )
        self._pool = ThreadPoolExecutor(threads)

    def __call__(self, pixels: Float[Tensor, "batch 3 224 224"]) -> Float[Tensor, "batch dim"]:
        """As `StagedTower`, without gradients."""
        pictures = pixels.float().contiguous().numpy()
        vectors = list(self._pool.map(self._encoded, pictures))
        return torch.from_numpy(np.array(vectors, dtype=np.float32).reshape(len(pictures), DIM))

    def _encoded(self, picture: Float[np.ndarray, "3 224 224"]) -> Float[np.ndarray, "1 dim"]:
        return self._session.run(None, {"pixels": picture[None]})[0]


def _silent_onnx_runtime() -> Any:
    """The package, told to report nothing: from 1.29 on it sends events to its makers unless told not to.

    The variable works only before the first import. `disable_telemetry_events` is for Windows, where
    all versions hand events to the system's own tracing.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


def model_of(tower: StagedTower) -> bytes:
    """The tower as a serialised ONNX model: `pixels` [1, 3, 224, 224] to `vector` [1, dim]."""
    from onnx import TensorProto, helper, numpy_helper

    network: Any = tower.network  # the package has no type hints
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(value: Any) -> str:
        name = f"constant{len(constants)}"
        constants.append(numpy_helper.from_array(np.asarray(value, dtype=np.float32), name))
        return name

    def apply(operator: str, *inputs: str, result: str | None = None, **attributes: Any) -> str:
        result = result or f"states{len(nodes)}"
        nodes.append(helper.make_node(operator, list(inputs), [result], **attributes))
        return result

    def convolved(states: str, layer: Any) -> str:
        """Padded so that the size is divided by the stride; an odd pixel goes to the right and bottom."""
        weight, bias = constant(layer.weight.detach()), constant(layer.bias.detach())
        how = {"strides": list(layer.stride), "group": layer.groups, "auto_pad": "SAME_UPPER"}
        return apply("Conv", states, weight, bias, **how)

    lowest, highest = constant(0.0), constant(6.0)

    def rectified(states: str) -> str:
        return apply("Clip", states, lowest, highest)

    def mean_of(states: str, side: int) -> str:
        """Of 7 x 7 parts, then of all: rounding of 12,544 numbers that are added up one by one would show."""
        part = side // 7
        if part > 1:
            states = apply("AveragePool", states, kernel_shape=[part, part], strides=[part, part])
        return apply("GlobalAveragePool", states)

    def moments(states: str, side: int) -> list[str]:
        mean = mean_of(states, side)
        apart = apply("Sub", states, mean)
        deviation = apply("Sqrt", mean_of(apply("Mul", apart, apart), side))
        return [apply("Flatten", mean), apply("Flatten", deviation)]

    states, side, pooled = rectified(convolved("pixels", network._conv_stem)), 112, []
    block: Any
    for block, is_last in blocks_of(network):
        before = states
        for layer in _widening_and_depthwise(block):
            states, side = rectified(convolved(states, layer)), side // layer.stride[0]
        states = convolved(states, block._project_conv)
        if _has_skip(block):
            states = apply("Add", states, before)
        if is_last:
            pooled.append((states, side))
    stages = apply("Concat", *[part for stage in pooled[:-1] for part in moments(*stage)], axis=1)
    head = rectified(convolved(states, network._conv_head))
    head = apply("Sqrt", apply("Flatten", apply("GlobalAveragePool", head)))
    space = tower.space
    standardised = apply("Div", apply("Sub", stages, constant(space.centre)), constant(space.spread))
    turned = apply("MatMul", apply("Sub", head, constant(space.head_centre)), constant(space.head_directions))
    apply("Concat", standardised, turned, result="vector", axis=1)

    graph = helper.make_graph(
        nodes,
        "EfficientNet-Lite0",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, DIM])],
        constants,
    )
    # The oldest version of the file format that has these operators: any runtime reads it.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPERATORS)], ir_version=8)
    return model.SerializeToString()


def _widening_and_depthwise(block: Any) -> Iterator[nn.Conv2d]:
    """The convolutions with a rectifier behind them; the first block widens nothing."""
    for name in ("_expand_conv", "_depthwise_conv"):
        if hasattr(block, name):
            yield getattr(block, name)


def _has_skip(block: Any) -> bool:
    same_size = all(layer.stride == (1, 1) for layer in _widening_and_depthwise(block))
    same_width = block._block_args.input_filters == block._block_args.output_filters
    return bool(block.id_skip and same_size and same_width)
