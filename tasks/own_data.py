"""Tasks from a user's own files, one a file, without any Python, and their mixture.

Flags (`hyperdecoders train --train_file=…`) or a gin file that includes
gin_configs/mixtures/own_data.gin name the files, columns and metrics; formats are in `row_files`.

A template makes the text of a row from its columns: "nli premise: {premise} hypothesis:
{hypothesis}"; see `templates`. Numbers, true and false appear as the file writes them. If the
template of the targets is one column alone, and that holds a list of texts, these are several right
answers: the first is trained on, and metrics that take several get all.

Every row of every file is checked before anything is compiled, loaded or written.
"""

import dataclasses
import functools
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import seqio
from absl import logging

from hyperdecoders_jax.data import row_files, text_files
from hyperdecoders_jax.tasks import metrics, mixing, postprocessors, sources, templates
from hyperdecoders_jax.tasks.preprocessors import TOKENIZE
from hyperdecoders_jax.tasks.registration import add_mixture, add_task

MIXTURE = "own_data"
SPLITS = ("train", "validation", "test")
_SPLIT_WORDS = (*SPLITS, "training", "valid", "val", "dev", "eval")
_BY_SIZE = mixing.Proportional()
# Predictions are files called NAME-SPLIT-STEP.jsonl, in which file systems allow 255 bytes.
_MAX_NAME_BYTES = 150


# ---------------------------------------------------------------- what metrics compare


@dataclasses.dataclass(frozen=True)
class Answer:
    """The kind of answer that a metric compares."""

    words: str  # Describes the texts that a target may be.
    fits: Callable[[str], bool]  # Whether a text is one of these.
    read: Callable[[str], object]  # Postprocessor of targets and predictions.


def _is_number(text: str) -> bool:
    # Python reads 1_000 and digits of other scripts, too, which a model's vocabulary may not have.
    try:
        return text.isascii() and "_" not in text and math.isfinite(float(text))
    except ValueError:
        return False


def _is_label(text: str) -> bool:
    return text.isascii() and text.isdecimal()


TEXT = Answer("a text", bool, postprocessors.to_text)
NUMBER = Answer("a number", _is_number, postprocessors.to_float)
LABEL = Answer("a whole number from 0", _is_label, postprocessors.to_int)
ZERO_OR_ONE = Answer("0 or 1", ("0", "1").__contains__, postprocessors.to_int)

# Functions of `metrics`, by name.
ANSWERS = {
    "accuracy": TEXT,
    "bleu": TEXT,
    "f1_score_with_invalid": ZERO_OR_ONE,
    "gen_len": TEXT,
    "matthews_corrcoef": LABEL,
    "pearson_corrcoef": NUMBER,
    "rouge": TEXT,
    "spearman_corrcoef": NUMBER,
    "squad": TEXT,
}
# Those that take several right answers; the others get the first.
TAKES_SEVERAL = ("bleu", "rouge", "squad")
# Both call their result "f1", so a task cannot have both.
_GIVE_F1 = {"f1_score_with_invalid", "squad"}


def metric_fn(name: str) -> Callable[..., dict[str, float]]:
    """The metric of that name, for targets that are sequences of right answers, all of them texts.

    >>> metric_fn("f1_score_with_invalid")([("1",), ("0",)], ["1", "zero"])
    {'f1': 66.66...}
    """
    metric, read = getattr(metrics, name), ANSWERS[name].read

    @functools.wraps(metric)  # SeqIO tells by its arguments' names what a metric takes.
    def compare(targets, predictions, **others):
        answers = [[read(text) for text in texts] for texts in targets]
        if name not in TAKES_SEVERAL:
            answers = [first for first, *_ in answers]
        return metric(answers, [read(text) for text in predictions], **others)

    return compare


def to_answers(text: str, *, is_target: bool = False, example=None, **unused) -> object:
    """A prediction's text as it is; of a target all right answers."""
    return tuple(json.loads(example["answers"])) if is_target else text


# ---------------------------------------------------------------- a row becomes an example


@dataclasses.dataclass(frozen=True)
class Rendering:
    """Conversion of a task's rows to examples.

    Attributes:
        inputs: template of the inputs.
        targets: template of the targets.
        metric_names: names of `ANSWERS`.
        are_targets_required: False accepts rows without the columns of the targets.

    Raises:
        ValueError: a template names no column, or metrics are unknown, missing, or of one name.
    """

    inputs: str
    targets: str
    metric_names: tuple[str, ...]
    are_targets_required: bool

    def __post_init__(self):
        templates.parts(self.inputs), templates.parts(self.targets)
        for name in self.metric_names:
            if name not in ANSWERS:
                raise ValueError(
                    f"A metric must be one of {', '.join(ANSWERS)}; got {name!r}."
                    f"{templates.hint(name, ANSWERS)} Choose one with --metric=…, or several with "
                    "commas between them."
                )
        names = set(self.metric_names)
        if len(names) < max(1, len(self.metric_names)) or names >= _GIVE_F1:
            raise ValueError(
                "A task must have a metric, and no two whose results have one name (squad and "
                "f1_score_with_invalid both give f1); got "
                f"{', '.join(self.metric_names) or 'none'}. Leave one out of --metric=…, or name "
                "one."
            )

    def render(self, row: row_files.Row, where: str) -> sources.Record:
        """The example of a row; `answers` is a JSON list, so that examples have one shape.

        >>> rendering = Rendering("{word}, {count}", "{right}", ("squad",), True)
        >>> row = {"word": "eggs", "count": "3", "right": ["three", "3"]}
        >>> rendering.render(row, "line 1 of shop.jsonl")
        {'inputs': 'eggs, 3', 'targets': 'three', 'answers': '["three", "3"]'}

        Raises:
            ValueError: a column is missing or not a text, a text is empty, or not one for a metric.
        """
        inputs = templates.fill(self.inputs, row, where)
        answers = self._answers(row, where)
        if not inputs.strip():
            raise _empty("inputs", where)
        return {"inputs": inputs, "targets": answers[0], "answers": json.dumps(answers)}

    def _answers(self, row: row_files.Row, where: str) -> list[str]:
        columns = [column for _, column in templates.parts(self.targets) if column is not None]
        if not self.are_targets_required and any(_is_blank(row.get(x)) for x in columns):
            return [""]
        value = row.get(columns[0])
        if self.targets == f"{{{columns[0]}}}" and isinstance(value, list):
            answers = [templates.fill(self.targets, {columns[0]: item}, where) for item in value]
        else:
            answers = [templates.fill(self.targets, row, where)]
        if not answers or not all(map(str.strip, answers)):
            raise _empty("targets", where)
        for name in self.metric_names if self.are_targets_required else ():
            for answer in answers:
                if not ANSWERS[name].fits(answer.strip()):
                    raise ValueError(
                        f"The metric {name} needs targets that are {ANSWERS[name].words}; the "
                        f"target in {where} is {answer[:80]!r}. Correct it, or choose another "
                        "metric with --metric=…."
                    )
        return answers


def _is_blank(value: object) -> bool:
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def _empty(feature: str, where: str) -> ValueError:
    return ValueError(
        f"An example's inputs and targets must hold text; the {feature} of {where} are empty. "
        "Leave the row out, or write what the model shall read and answer there."
    )


class OwnFiles(sources.JsonLinesDataSource):
    """The examples of one task, from a file a split: `inputs`, `targets` and `answers`.

    Args:
        files: from a split's name to its file, with `?quoting=…` after it where that is given.
        rendering: makes examples of rows.
    """

    def __init__(self, files: Mapping[str, str], rendering: Rendering):
        split_files = {split: row_files.split_quoting(file) for split, file in files.items()}
        super().__init__({split: path for split, (path, _) in split_files.items()})
        self._quotings = dict(split_files.values())
        self._rendering = rendering

    def describe(self) -> dict[str, Any]:
        """Files, templates and metrics as plain values, for a run's `config.json`."""
        paths = {split: self.list_shards(split)[0] for split in self.splits}
        return {
            "kind": "own_data",
            "files": {
                split: row_files.with_quoting(path, self._quotings[path])
                for split, path in paths.items()
            },
            "inputs": self._rendering.inputs,
            "targets": self._rendering.targets,
            "metrics": list(self._rendering.metric_names),
        }

    def missing(self, split: str) -> None:
        """Reads the rows of a split (for train, of all), so that errors show at a run's start.

        Raises:
            ValueError: a file is not there, or one of its rows is wrong.
        """
        for name in self.splits:
            if split in ("train", name):
                self.records(name)
        if split == "train":
            self._warn_of_equal_splits()

    def _warn_of_equal_splits(self) -> None:
        for first, second in itertools.combinations(self.splits, 2):
            if self.fingerprint(first) == self.fingerprint(second):
                logging.warning(
                    "The examples of %s and %s are the same (%s and %s): metrics on the second "
                    "do not tell how new examples are answered. Name other examples with "
                    "--%s_file.",
                    first, second, *self.list_shards(first), *self.list_shards(second), second,
                )  # fmt: skip

    def rows(self, split: str) -> Iterator[row_files.NumberedRow]:
        """The rows of a split as its file has them, in the order of its examples."""
        (path,) = self.list_shards(split)
        return row_files.read(path, self._quotings[path])

    def _iterate(self, paths: Sequence[str]) -> Iterator[sources.Record]:
        (path,) = paths
        for number, row in row_files.read(path, self._quotings[path]):
            yield self._rendering.render(row, f"line {number} of {path}")


# ---------------------------------------------------------------- files become tasks


def mixture(
    train_files: Sequence[str] = (),
    validation_files: Sequence[str] = (),
    test_files: Sequence[str] = (),
    inputs_templates: Sequence[str] = ("{inputs}",),
    targets_templates: Sequence[str] = ("{targets}",),
    metric_names: Sequence[str] = ("accuracy",),
    rates: Callable[[seqio.Task], float] = _BY_SIZE,
    are_targets_required: bool = True,
) -> seqio.Mixture:
    """Registers a task for each training file, and their mixture, which it returns.

    Opens no file. Calling it again replaces what is registered under its names; a mixture that
    was returned before keeps its files.

    Args:
        train_files: paths, or NAME=PATH; without a name a task is called as its file. If there are
            none, the files of the next split make the tasks. "PATH?quoting=none" or "=csv" says how
            the quotes of a table are meant; see `row_files.quoting_of`.
        validation_files: one for each task in their order, or any with NAME=PATH, or none.
        test_files: likewise.
        inputs_templates: one for all tasks, or one for each.
        targets_templates: likewise.
        metric_names: likewise; several of one task are separated by commas.
        rates: how tasks are mixed; a class of `mixing`.
        are_targets_required: False accepts rows without the columns of the targets, to predict.

    Raises:
        ValueError: files, names, templates and metrics do not fit together.
    """
    files = dict(zip(SPLITS, (train_files, validation_files, test_files), strict=True))
    tasks = pair_files(files)
    count = len(tasks)
    renderings = zip(
        _one_for_each(inputs_templates, count, "inputs_template"),
        _one_for_each(targets_templates, count, "targets_template"),
        _one_for_each(metric_names, count, "metric"),
        strict=True,
    )
    for (name, paths), (inputs, targets, names) in zip(tasks.items(), renderings, strict=True):
        names = tuple(filter(None, map(str.strip, names.split(","))))
        _check_is_free(name)
        add_task(
            name,
            source=OwnFiles(paths, Rendering(inputs, targets, names, are_targets_required)),
            preprocessors=TOKENIZE,
            postprocess_fn=to_answers,
            metric_fns=[metric_fn(name) for name in names],
        )
    return add_mixture(MIXTURE, list(tasks), default_rate=rates)


def pair_files(files: Mapping[str, Sequence[str]]) -> dict[str, dict[str, str]]:
    """The files of each task, by split.

    >>> pair_files({"train": ["a.csv", "b=c.csv"], "validation": [], "test": ["b=d.csv"]})
    {'a': {'train': 'a.csv'}, 'b': {'train': 'c.csv', 'test': 'd.csv'}}

    Raises:
        ValueError: there is no file, a file has an unknown ending, two tasks have one name, or a
            file's task is unclear.
    """
    named = {split: _named_files(files[split], split) for split in SPLITS}
    first = next((split for split in SPLITS if named[split]), None)
    if first is None:
        raise ValueError(
            "Own data must be in a file; got none. Name it with --train_file=x.jsonl, or with "
            "--test_file=x.jsonl to predict for it."
        )
    tasks: dict[str, dict[str, str]] = {}
    for name, path in named[first]:
        name = name or _stem(path, first)
        if name in tasks:
            raise ValueError(
                f"Each --{first}_file must make a task of another name; {tasks[name][first]} and "
                f"{path} are both {name!r}. Write --{first}_file=NAME={path}."
            )
        tasks[name] = {first: path}
    for split in SPLITS[SPLITS.index(first) + 1 :]:
        for name, path in _name_by_order(named[split], list(tasks), split):
            if name not in tasks or split in tasks[name]:
                raise ValueError(
                    f"The name of each --{split}_file must be another one of the tasks "
                    f"{list(tasks)}; got {name}={path}.{templates.hint(name, tasks)} Correct the "
                    "name."
                )
            tasks[name][split] = path
    for paths in tasks.values():
        for path in paths.values():
            row_files.ending(row_files.split_quoting(path)[0])
    return tasks


def _name_by_order(
    pairs: Sequence[tuple[str | None, str]], tasks: Sequence[str], split: str
) -> Iterable[tuple[str, str]]:
    num_named = sum(name is not None for name, _ in pairs)
    if num_named == len(pairs):
        return pairs
    if num_named or len(pairs) != len(tasks):
        raise ValueError(
            f"There must be one --{split}_file for each of the {len(tasks)} tasks {list(tasks)}, "
            f"in their order, or none; got {[path for _, path in pairs]}. Or write "
            f"--{split}_file=NAME=PATH for each, which leaves out the tasks that have none."
        )
    plain = [_without_split(_stem(path, split)) for _, path in pairs]
    of_tasks = list(map(_without_split, tasks))
    for task, own, name, (_, path) in zip(tasks, of_tasks, plain, pairs, strict=True):
        if name != own and name in of_tasks:
            raise ValueError(
                f"The --{split}_file of each task must stand where its task does; {path} stands "
                f"where {task!r} does, and is called as {tasks[of_tasks.index(name)]!r}. Put it "
                f"there, or write --{split}_file=NAME=PATH for each."
            )
    return zip(tasks, (path for _, path in pairs), strict=True)


def _without_split(name: str) -> str:
    """What of a file's or task's name does not name a split.

    >>> _without_split("mail_train"), _without_split("dev.mail"), _without_split("test")
    ('mail', 'mail', '')
    """
    words = re.split(r"[\W_]+", name.lower())
    return "_".join(word for word in words if word not in _SPLIT_WORDS)


def _named_files(files: Sequence[str], split: str) -> list[tuple[str | None, str]]:
    named = []
    for name, path in map(row_files.split_name, files):
        text_files.check_is_named(row_files.split_quoting(path)[0])
        if name is not None:
            name = _task_name(name, f"--{split}_file={name}={path}")
        named.append((name, path))
    return named


def _stem(path: str, split: str) -> str:
    """The default name of a file's task.

    >>> _stem("data/my-mail.v2.jsonl.gz", "train")
    'my_mail.v2'
    """
    name = os.path.basename(row_files.split_quoting(path)[0])
    name = name[: len(name) - len(".gz") * name.lower().endswith(".gz")]
    return _task_name(os.path.splitext(name)[0], f"--{split}_file={path}")


def _task_name(text: str, file: str) -> str:
    """A name that SeqIO takes, and that can be a folder's; other signs become "_"."""
    name = re.sub(r"[^\w.]", "_", text)
    if not re.search(r"[^\W_]", name) or len(name.encode()) > _MAX_NAME_BYTES:
        raise ValueError(
            f"A task's name must hold a letter or digit, and at most {_MAX_NAME_BYTES} bytes, for "
            f"folders are called so; got {text[:40]!r} from {file[:200]}. Write NAME=FILE with "
            "another name."
        )
    return name


def _one_for_each(values: Sequence[str], count: int, flag: str) -> Sequence[str]:
    if len(values) not in (1, count):
        raise ValueError(
            f"There must be one --{flag} for all tasks, or one for each; got {len(values)} "
            f"({', '.join(map(repr, values))}) and {count} {'task' if count == 1 else 'tasks'}. "
            "Give one, or as many as there are tasks; metrics of one task are separated by commas."
        )
    return values if len(values) == count else list(values) * count


def _check_is_free(name: str) -> None:
    registered = name in seqio.TaskRegistry.names() and not isinstance(
        seqio.TaskRegistry.get(name).source, OwnFiles
    )
    if registered or name in seqio.MixtureRegistry.names() or name == MIXTURE:
        raise ValueError(
            f"A task of own data must not replace a registered one; {name!r} is one. Name it by "
            "--train_file=NAME=PATH."
        )
