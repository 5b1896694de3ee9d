"""The tables of tasks/README.md tell the truth about what is registered.

`python -m tests.contracts.test_task_table` prints them as they should be; the original's names are
taken over from the file.
"""

import pathlib
import textwrap

import pytest
import seqio

from hyperdecoders_jax.tasks import generation, sources, splits
from tests.contracts import registered, rendered

README = pathlib.Path(__file__).parents[2] / "tasks" / "README.md"
NONE = "–"
LONGEST_EXAMPLE = 70  # Characters.
SPLITS = ("train", "validation", "test")

# All that allenai/hyperdecoders registers.
ORIGINAL_NAMES = {
    "anli", "art", "cnn_dailymail", "cola", "commonsense_qa", "cosmos_qa", "hellaswag", "imdb",
    "iwslt2017-en-nl", "iwslt2017-ro-nl", "mnli", "mrpc", "mrqa", "mrqa_reg", "paws", "qnli", "qqp",
    "rte", "scitail", "sick", "snli", "social_i_qa", "squad", "sst2", "stsb", "superglue-boolq",
    "superglue-cb", "superglue-rte", "trec", "wiki_lingua_english_en", "winogrande", "wmt14-hi-en",
    "wmt16-en-cs", "wmt16-en-fi", "wmt16-en-ro", "wmt16-ro-en", "wnli", "xsum", "yelp_polarity",
}  # fmt: skip


def read_table(first_column):
    """The rows of the README's table whose first column is called so, as lists of cells."""
    text = README.read_text(encoding="utf-8").replace("\\|", "\0")
    lines = text.partition(f"| {first_column} |")[2].splitlines()[2:]
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("\0", "\\|") for cell in line.strip("|").split("|")])
    return rows


def code(*texts):
    return ", ".join(f"`{text}`" for text in texts) or NONE


def data_of(name):
    leaves = list(registered.leaf_sources(seqio.TaskRegistry.get(name).source))
    if isinstance(leaves[0], seqio.TfdsDataSource):
        return code(*(leaf.tfds_dataset.name for leaf in leaves))
    return "in the package" if name in registered.PACKAGED else code(f"{leaves[0]._task}/*.jsonl")


def splits_of(name):
    task = seqio.TaskRegistry.get(name)

    def stored(split):
        if name in registered.PACKAGED:
            return split
        return next(registered.stored_splits(task.source, split))[1]

    cells = [stored(split) if split in task.splits else NONE for split in SPLITS]
    others = [f", {split}" for split in task.splits if split not in SPLITS]
    return " / ".join(cells) + "".join(others)


def example_of(name):
    if name in registered.PACKAGED:
        inputs = registered.shown_example(name)[1].get("inputs", "")
    else:
        [same] = [
            read for read in registered.READ if registered.kind(read) == registered.kind(name)
        ]
        inputs, _ = rendered.RENDERED[same]
    shown = textwrap.shorten(inputs, LONGEST_EXAMPLE, placeholder=" …")
    return code(shown.replace("|", "\\|")) if shown else NONE


def generation_of(name):
    if name not in generation.GENERATION:
        return NONE
    max_len, num_beams = generation.GENERATION[name]
    return f"{max_len}" if num_beams == 1 else f"{max_len}, {num_beams} beams"


def division_of(name):
    return "halved" if name in splits.HALVED else "carved" if name in splits.CARVED else NONE


def row_of(name):
    """All cells of a task's row but the original's name."""
    metrics = [function.__name__ for function in seqio.TaskRegistry.get(name).metric_fns]
    return [
        code(name),
        data_of(name),
        splits_of(name),
        division_of(name),
        example_of(name),
        ", ".join(metrics) or NONE,
        generation_of(name),
        ", ".join(mixture for mixture in registered.mixtures_of(name) if mixture != name) or NONE,
    ]


def folder_rows():
    for name in registered.NAMES:
        for leaf in registered.leaf_sources(seqio.TaskRegistry.get(name).source):
            if isinstance(leaf, sources.JsonLinesFolder):
                files = dict.fromkeys(f"{stem}.jsonl" for stem in leaf._stems.values())
                yield [code(f"{leaf._task}/"), code(*files), code(*leaf._fields), code(leaf._hub)]


@pytest.mark.parametrize("name", registered.NAMES)
def test_the_table_tells_the_truth_about_a_task(name):
    [row] = [row for row in read_table("task") if row[0] == f"`{name}`"]
    assert [row[0], *row[2:]] == row_of(name)


def test_the_table_has_no_row_too_many_and_the_readme_counts_them():
    count = len(registered.NAMES)
    assert len(read_table("task")) == count
    root = README.parents[1]
    assert f"[all {count} tasks]" in (root / "README.md").read_text(encoding="utf-8")
    quickstart = (root / "docs/quickstart.md").read_text(encoding="utf-8")
    assert f"has a table of all {count}." in quickstart


def test_the_table_has_all_39_names_of_the_original():
    names = {row[1] for row in read_table("task")} - {NONE}
    assert names == {f"`{name}`" for name in ORIGINAL_NAMES}
    assert len(names) == 39


def test_the_folders_of_json_lines_have_the_fields_that_tasks_read():
    assert sorted(read_table("folder")) == sorted(folder_rows())


if __name__ == "__main__":
    originals = {row[0]: row[1] for row in read_table("task")}
    for task_name in registered.NAMES:
        first, *rest = row_of(task_name)
        print("|", " | ".join([first, originals.get(first, NONE), *rest]), "|")
    for folder_row in folder_rows():
        print("|", " | ".join(folder_row), "|")
