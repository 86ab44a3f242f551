"""Help, exit codes, and how commands speak."""

# ruff: noqa: F401, F811 (fixtures are imported by name)
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_answers import medvip

from medvip.cli.console import complain, printable, say_table
from medvip.cli.main import main

COMMANDS = [
    ("demo",),
    ("fit",),
    ("evaluate",),
    ("predict",),
    ("explain",),
    ("what-if",),
    ("report",),
    ("features",),
    ("benchmark",),
    ("doctor",),
    ("symptoms",),
    ("symptoms", "list"),
    ("symptoms", "show"),
    ("symptoms", "check"),
    ("symptoms", "import"),
    ("symptoms", "generate"),
    ("symptoms", "questions"),
    ("symptoms", "audit"),
    ("symptoms", "review"),
    ("symptoms", "variants"),
]
MEDVIP = Path(sys.executable).with_name("medvip")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_has_an_example_of_that_command(medvip, command):
    text = medvip(*command, "--help").done()
    example = " ".join(text.split("Example:", 1)[1].split())
    assert example.startswith("medvip " + " ".join(command))


@pytest.mark.parametrize("group", [(), ("symptoms",)], ids=" ".join)
def test_every_command_is_in_the_list_above(medvip, group):
    listed = medvip(*group, "--help").done().split("Commands:")[1].split("\n\n")[0]
    names = {line.split()[0] for line in listed.splitlines() if line.startswith("  ") and line[2] != " "}
    known = {command[: len(group) + 1] for command in COMMANDS if len(command) > len(group)}
    assert names == {command[-1] for command in known if command[:-1] == group}


def test_the_options_of_the_design_are_there(medvip):
    options = {
        "demo": "--data --out",
        "fit": "--symptoms --out --backbone --method --recipe --epochs --shots --seed --views --device",
        "evaluate": "--split --out",
        "predict": "--out",
        "explain": "--out --no-maps --no-images",
        "what-if": "--drop --reword --split --out --save",
        "report": "--out --split --failures --no-images --force",
        "features": "--backbone --views",
    }
    for command, names in options.items():
        text = medvip(command, "--help").done()
        assert [name for name in names.split() if name not in text] == []


@pytest.mark.parametrize("command", [(), ("symptoms",)])
def test_without_a_command_the_help_is_shown(medvip, command):
    answer = medvip(*command)
    assert answer.code == 2
    assert "Commands:" in answer.out
    assert answer.err == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "frobnicate"),
        (["fit"], "data"),
        (["fit", "data"], "--out"),
        (["fit", "data", "--out"], "--out"),
        (["fit", "data", "--out", "x", "--epochs", "many"], "--epochs"),
        (["fit", "data", "--out", "x", "--seed", "-1"], "--seed"),
        (["fit", "data", "--out", "x", "--context", "-1"], "--context"),
        (["fit", "data", "--out", "x", "--frobnicate"], "--frobnicate"),
        (["fit", "a", "b", "--out", "x"], "b"),
        (["predict", "run"], "pictures"),
        (["symptoms", "import", "x.json"], "--out"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_exit_code_2(medvip, arguments, message):
    text = medvip(*arguments).failed(2)
    assert message in text
    assert "--help" in text


def test_a_traceback_only_with_debug(medvip, tmp_path):
    medvip("predict", tmp_path, __file__).failed()
    with pytest.raises(Exception, match="is not a run"):
        main(["predict", str(tmp_path), __file__, "--debug"])


def test_the_installed_command(tmp_path):
    """The entry point itself: exit codes, streams, working directory."""
    done = subprocess.run([MEDVIP, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("medvip ")
    wrong = [MEDVIP, "fit", "x", "--out", tmp_path / "run", "--select-by", "luck"]
    done = subprocess.run(wrong, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: select_by is 'luck'")
    done = subprocess.run(
        [sys.executable, "-m", "medvip", "evaluate", "nowhere", "data"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: nowhere is not a run: it has no config.json",
        "to mend it: pass the folder that medvip fit wrote",
    ]


def test_a_terminal_that_knows_only_ascii(tmp_path):
    file = tmp_path / "symptoms.json"
    file.write_text('{"œdème": ["flüssig"], "normal": ["klar"]}', encoding="utf-8")
    done = subprocess.run(
        [MEDVIP, "symptoms", "show", file],
        capture_output=True,
        check=False,
        env={"PATH": "/usr/bin", "PYTHONIOENCODING": "ascii", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert b"fl\\xfcssig" in done.stdout


# ------------------------------------------------------------------ text from files is data


def test_control_characters_never_reach_the_terminal(capsys):
    hostile = "a\x1b[2J\x07\r\x9b31m\u202e\u2066\x00\x7f\u200b\ud800z"
    assert all(c.isprintable() for c in printable(hostile))
    say_table(hostile, [hostile], [[hostile]])
    complain(f"note: {hostile}\nto mend it: believe me")
    out, err = capsys.readouterr()
    assert all(c.isprintable() or c == "\n" for c in out + err)
    assert err.count("\n") == 1, "a line end in a file name cannot fake a line of ours"


def test_wrong_usage_does_not_print_names_raw(medvip):
    """A glob of the shell may put a hostile file name where no argument is expected."""
    answer = medvip("evaluate", "run", "data", "\x1b[31m\nevil.png")
    answer.failed(2)
    assert "\x1b" not in answer.err
