"""The shell of README.md and docs/: run with programs that only record how they were called."""

import ast
import importlib.util
import os
import pathlib
import re
import runpy
import subprocess
import xml.etree.ElementTree

import pytest

from hyperdecoders_jax import files
from hyperdecoders_jax.commands import configured, flags, main
from hyperdecoders_jax.config import gin_files
from hyperdecoders_jax.installed import t5x_install

ROOT = pathlib.Path(__file__).parents[2]
PODS = ROOT / "docs/pods.md"
# A call is recorded as words, each with an end of its own: words of shell hold line breaks. What
# workers of a slice run is run here, too, in HOME.
PROGRAM = """#!/bin/bash
printf '%s\\0' "${0##*/}" "$@" >> CALLS
printf '\\x1e' >> CALLS
for word in "$@"; do
  case "$word" in
    --command=*) cd HOME && bash -c "${word#--command=}; wait" ;;
  esac
done
"""
NAMES = (
    "gcloud",
    "git",
    "hf",
    "hyperdecoders",
    "make",
    "pip",
    "pkill",
    "python",
    "python3",
    "tail",
)
ENVIRONMENT = "hyperdecoders_env/bin"


def shell_of(page):
    """All of a page's shell, as one script."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.S | re.M)
    return "\n".join(blocks)


def calls_of(script, folder, options="-ec"):
    """Runs a script and returns the words of each call, in order."""
    home = folder / "home"
    programs = {
        folder / "bin": NAMES,
        home / ENVIRONMENT: ["hyperdecoders"],
        home / ".local/bin": ["uv"],
    }
    for bin_folder, names in programs.items():
        bin_folder.mkdir(parents=True)
        for name in names:
            program = PROGRAM.replace("CALLS", str(folder / "calls")).replace("HOME", str(home))
            bin_folder.joinpath(name).write_text(program)
            bin_folder.joinpath(name).chmod(0o755)
    (home / ENVIRONMENT / "activate").touch()
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", options, script], cwd=folder, timeout=300, check="e" in options,
        env={"PATH": path, "HOME": str(home)}, stdin=subprocess.DEVNULL, capture_output=True,
    )  # fmt: skip
    calls = (folder / "calls").read_text(encoding="utf-8").split("\x1e")[:-1]
    return [call.split("\0")[:-1] for call in calls]


def our_commands(calls):
    """(the parsed arguments, the gin flags) of each call of the command line, in order.

    `…` stands for further flags.
    """
    for program, *words in calls:
        if program == "python" and words[:1] == ["-m"]:
            assert words[1].startswith("t5x.") or importlib.util.find_spec(words[1]), words
        if program == "hyperdecoders" and not words[0].startswith("--"):  # --version and the like
            others, gin_flags = main.split_gin_flags([word for word in words if word != "…"])
            yield main.make_parser().parse_args(others), dict(gin_flags)


@pytest.fixture(scope="module")
def pod_calls(tmp_path_factory):
    return calls_of(shell_of(PODS), tmp_path_factory.mktemp("pods"))


def called(calls, command):
    return [(args, flags) for args, flags in our_commands(calls) if args.command == command]


PAGES = [ROOT / "README.md", ROOT / "tasks/README.md", *sorted(ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page != PODS and "```sh" in page.read_text(encoding="utf-8")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_command_of_a_page_parses(page, tmp_path):
    assert list(our_commands(calls_of(shell_of(page), tmp_path, "-c")))


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for link in re.findall(r"\]\((?!https?://)([^)\s]+)\)", text):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), (page, link)
            assert not anchor or anchor in anchors_of(target), (page, link)


def anchors_of(page):
    """Anchors of a page's headings, as GitHub and MyST make them."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.*)", text, flags=re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def test_every_page_is_in_the_sites_contents():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^(\w+)$", index, re.M)
    assert sorted([*listed, "index"]) == [page.stem for page in sorted(ROOT.glob("docs/*.md"))]


def test_the_page_on_configuration_is_generated_and_explains_every_macro():
    generator = runpy.run_path(str(ROOT / "docs/make_configuration.py"))
    page = generator["PAGE"].read_text(encoding="utf-8")
    assert page == generator["make"](), "run: python docs/make_configuration.py"
    assert all(macro.meaning and macro.readers for macro in generator["macros"]().values())


def test_the_figures_are_those_that_their_script_draws():
    drawn = runpy.run_path(str(ROOT / "docs/figures/make.py"))
    for name, draw in drawn["FIGURES"].items():
        svg = drawn["FOLDER"].joinpath(f"{name}.svg").read_text(encoding="utf-8")
        assert svg == draw(), "run: python docs/figures/make.py"
        xml.etree.ElementTree.fromstring(svg)


def messages():
    """All texts of the package's source, with `…` for what is filled in."""
    for folder in ("hyperdecoders_jax", "tasks"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    parts = (getattr(part, "value", None) for part in node.values)
                    yield "".join(part if isinstance(part, str) else "…" for part in parts)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_the_errors_that_are_explained_are_those_of_the_source():
    page = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| `(.*?)` \|", page, re.M)
    assert len(explained) >= 25
    source = "\n".join(messages())
    assert [message for message in explained if message not in source] == []


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_the_page_on_pods_creates_installs_and_deletes(pod_calls):
    slices = [words[3:5] for words in pod_calls if words[:3] == ["gcloud", "compute", "tpus"]]
    verbs = [verb for kind, verb in slices if kind == "queued-resources"]
    assert verbs == ["create", "describe", "delete", "create", "delete"]
    installs = [words for words in pod_calls if words[:2] == ["pip", "install"]]
    from_git = t5x_install.commands()[1:]
    assert [" ".join(words) for words in installs[1:]] == from_git
    assert installs[0][2] == f"hyperdecoders_jax-{files.VERSION}-py3-none-any.whl[t5x,tpu]"


def test_all_workers_train_and_one_prepares(pod_calls):
    workers = {}
    for words in pod_calls:
        (command,) = [word for word in words if word.startswith("--command=")] or [""]
        if found := re.search(r"hyperdecoders (train|eval|infer|tasks) ", command):
            (worker,) = [word for word in words if word.startswith("--worker=")]
            workers[found[1]] = worker.removeprefix("--worker=")
    assert workers == {"train": "all", "eval": "all", "infer": "all", "tasks": "0"}


def test_a_launch_ends_what_is_left_of_the_last_one_first(pod_calls):
    programs = [words[0] for words in pod_calls]
    launches = [i for i, words in enumerate(pod_calls) if "--multiprocess" in words]
    assert len(launches) == 4
    assert all(programs[i - 1] == "pkill" for i in launches)


def test_the_commands_of_a_pod_agree_with_each_other(pod_calls):
    ((tasks, _),) = called(pod_calls, "tasks")
    (train, flags), again = called(pod_calls, "train")
    assert again == (train, flags)
    assert tasks.prepare == "glue"
    assert tasks.tfds_data_dir == train.tfds_data_dir == "gs://my-bucket/tfds"
    copies = [words[3:] for words in pod_calls if words[:3] == ["gcloud", "storage", "cp"]]
    weights, run = ([word for word in words if word != "--recursive"] for words in copies)
    (to_t5x, _), (to_adapters, _) = called(pod_calls, "convert")
    assert weights[0] == f"{to_t5x.target.removeprefix('t5x:')}/checkpoint_0"
    assert flags["INITIAL_CHECKPOINT_PATH"] == weights[1] + "checkpoint_0"
    assert (run[0], to_adapters.source) == (train.model_dir, "run:glue_hyperdecoder")
    ((export, _),) = called(pod_calls, "export")
    assert os.path.basename(train.model_dir) == export.checkpoint == "glue_hyperdecoder"
    assert len(called(pod_calls, "doctor")) == 1


@pytest.mark.parametrize("command", ["train", "eval", "infer"])
def test_what_is_launched_passes_the_checks_of_its_configuration(pod_calls, command):
    args, gin_flags = called(pod_calls, command)[0]
    assert (args.runner, args.multiprocess) == ("t5x", True)
    given = configured.sources(args, list(gin_flags.items()), init=args.init)
    text = given.first(f"runs/t5x/{command}.gin").read()
    gin_files.check_macros(text, flags.TRAIN_FILES)
    assert text.macro_values["MODEL_DIR"][0] == "gs://my-bucket/glue_hyperdecoder"
