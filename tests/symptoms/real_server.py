"""A real inference server (`transformers serve`) over loopback, with a language model made on the spot.

The model is a few kilobytes of random weights, so its answers are gibberish, which is what a test of
robustness wants; with `answer` it always says that one text, and with `vision` it takes pictures.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

READY_WITHIN = 120.0  # seconds; about 5 on an idle machine
SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
CHAT_TEMPLATE = """\
{{ bos_token }}{% for message in messages %}{{ message['role'] }}: \
{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}\
{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}{% endif %}
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""


@contextmanager
def tiny_transformers_server(
    folder: Path, *, answer: str | None = None, vision: bool = False
) -> Iterator[tuple[str, str]]:
    """Make a model in `folder`, serve it, give (base URL, model name), and end the server.

    `folder` also gets `server.log`, and is the server's home for all it might keep. The model's name
    is the model's folder; the server refuses any other with 400.
    """
    model = folder / "model"
    build_language_model(model, answer=answer, vision=vision)
    port = _free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(model)]
    settings = {
        "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1", "HF_HOME": str(folder / "home"),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            env=os.environ | settings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a process group of its own, so that nothing of it is left behind
        )
    try:
        _wait_until_ready(server, port, folder / "server.log")
        yield f"http://127.0.0.1:{port}/v1", str(model)
    finally:
        # Until its end is noticed its id, and so its group's, cannot be another's. It has nothing to save.
        if server.returncode is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def build_language_model(folder: Path, *, answer: str | None = None, vision: bool = False) -> Path:
    """A folder of a Llama (with `vision` a LLaVA) of width 32 that reads and writes bytes."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = _byte_tokenizer(answer)
    start, end, image = tokenizer.convert_tokens_to_ids(["<s>", "</s>", "<image>"])
    special = {"bos_token_id": start, "eos_token_id": end, "pad_token_id": end}
    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, max_position_embeddings=8192, initializer_range=0.5,
        **special, **SHAPE,
    )  # fmt: skip
    model = _with_eyes(text, image) if vision else LlamaForCausalLM(text)
    (_picture_processor(tokenizer) if vision else tokenizer).save_pretrained(folder)
    if answer is not None:
        _say_only(model, tokenizer.convert_tokens_to_ids("<|assistant|>"), len(tokenizer) - 1, end)
    model.generation_config = GenerationConfig(do_sample=answer is None, **special)
    model.save_pretrained(folder)
    return folder


def _byte_tokenizer(answer: str | None):
    """One token a byte, a few special ones, and last, where one is given, the whole answer as a token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<image>", "<|assistant|>"]
    words = special + sorted(pre_tokenizers.ByteLevel.alphabet())
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if answer is not None:
        words.append(bytes_of.pre_tokenize_str(answer)[0][0])
    tokenizer = Tokenizer(models.BPE(vocab={word: index for index, word in enumerate(words)}, merges=[]))
    tokenizer.pre_tokenizer = bytes_of
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>",
        additional_special_tokens=special[2:], chat_template=CHAT_TEMPLATE,
    )  # fmt: skip


def _with_eyes(text, image_token: int):
    """The language model behind a vision tower that makes nine tokens of a picture."""
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration

    eyes = CLIPVisionConfig(hidden_size=40, image_size=30, patch_size=10, **SHAPE)
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=eyes, text_config=text, image_token_index=image_token, image_seq_length=9)
    )


def _picture_processor(tokenizer):
    from transformers import CLIPImageProcessorPil, LlavaProcessor

    size = {"size": {"shortest_edge": 30}, "crop_size": {"height": 30, "width": 30}}
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(**size),
        tokenizer=tokenizer,
        patch_size=10,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLIP's class token, which "default" leaves out
        chat_template=CHAT_TEMPLATE,
    )


@torch.no_grad()
def _say_only(model, assistant: int, answer: int, end: int) -> None:
    """Let the next token hang on the last one alone: after "assistant" the answer, after it the end."""
    for layer in model.get_decoder().layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    embedding = model.get_input_embeddings().weight
    model.lm_head.weight.zero_()
    model.lm_head.weight[answer] = embedding[assistant]
    model.lm_head.weight[end] = embedding[answer]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(server: subprocess.Popen, port: int, log: Path) -> None:
    """Wait for the health page; the model named on the command line is loaded before it appears."""
    give_up = time.monotonic() + READY_WITHIN
    while time.monotonic() < give_up:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}:\n{log.read_text()[-3000:]}")
        if _healthy(port):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the server is not ready after {READY_WITHIN:.0f} s:\n{log.read_text()[-3000:]}")


def _healthy(port: int) -> bool:
    # http.client knows no proxies, which an environment may set for loopback too.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
