r"""`hyperdecoders compare`: methods × seeds, trained and tabulated with intervals.

    hyperdecoders compare --gin_file=COMMON.gin --method=hyperdecoder --method=single_adapter \
      --method=narrow=hyperdecoder,DECODER_BOTTLENECK_DIM=8 --seeds=1-5 --output=my_comparison

The same command continues a comparison that was interrupted, however it was. `compare` takes
`RunConfig`s, from gin or Python; see `study.comparison`.
"""

from __future__ import annotations

import argparse
import copy
import importlib.resources
import json
import multiprocessing
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hyperdecoders_jax import errors, files
from hyperdecoders_jax.commands import configured, flags, main

if TYPE_CHECKING:
    from hyperdecoders_jax.config.run_config import RunConfig
    from hyperdecoders_jax.study.comparison import Comparison
    from hyperdecoders_jax.study.results import Results

SUMMARY = "train methods with several seeds, and tabulate their differences with intervals"
EPILOG = flags.EPILOG
TAKES_GIN = True
NOTHING = "none"
# Macros that compare sets for each run, and the flag that says how.
_SET_BY = {
    "RANDOM_SEED": "--seeds",
    "EVAL_SPLIT": "--select_on and --split",
    "MODEL_DIR": "--output",
}
# Where `--method=NAME` is looked for.
_METHOD_FOLDERS = ("adapters", "experiments")
_PUBLISHED = "published.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's flags."""
    flags.add_run(parser)
    for action in parser._actions:  # The folders are METHOD/seed-N; one process, or --jobs.
        if action.dest == "model_dir" or action.dest in flags.PROCESS_FLAGS:
            action.help = argparse.SUPPRESS
    text = (
        "NAME is adapters/NAME.gin; or NAME=FILE.gin,MACRO=VALUE,…, bound after the common files; "
        "repeatable"
    )
    parser.add_argument("--method", action="append", metavar="METHOD", required=True, help=text)
    text = "as 1-5 or 3,7,8 (default: 1-3)"
    parser.add_argument("--seeds", default="1-3", metavar="SEEDS", help=text)
    text = "the method that others are compared with (default: the first)"
    parser.add_argument("--baseline", metavar="NAME", help=text)
    text = "choose widths for which all methods train as many parameters as the baseline, ± 1 %%"
    parser.add_argument("--match_parameters", action="store_true", help=text)
    text = "for each method the value that is best on --select_on with the first seed"
    flags.add_list(parser, "--grid", text, "[METHOD:]MACRO=A,B,C")
    text = "split that checkpoints and settings are chosen on, or none (default: validation)"
    parser.add_argument("--select_on", metavar="SPLIT", help=text)
    text = "split that is reported (default: test)"
    parser.add_argument("--split", metavar="SPLIT", help=text)
    text = "simultaneous intervals: corrected for the number of differences (Bonferroni)"
    parser.add_argument("--correct", action="store_true", help=text)
    text = "a paper's numbers to print beside, such as glue (default: none)"
    parser.add_argument("--published", metavar="NAME", help=text)
    text = "processes that share the runs (default: 1)"
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help=text)
    text = "where runs, tables, pictures and the page are written"
    parser.add_argument("--output", metavar="FOLDER", required=True, help=text)


def run(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]) -> int:
    """Runs the command; returns its exit code: 0, also after a signal, as `train`."""
    from hyperdecoders_jax.study import comparing

    published = read_published(args.published)
    flags.start_tensorflow()
    comparison = _Command(args, gin_flags).comparison()
    if comparison is None:
        comparing.tell(comparing.STOPPED)
        return 0
    helpers = [
        multiprocessing.get_context("spawn").Process(target=_help, args=(args, gin_flags, number))
        for number in range(1, args.jobs)
    ]
    comparing.finish(comparison, published, helpers)
    return 0


def compare(
    methods: Mapping[str, RunConfig],
    output: str,
    seeds: Sequence[int] = (1, 2, 3),
    **options: Any,
) -> Results | None:
    """Compares methods that Python made; None if a signal stopped it, and the same call continues.

    `options` are fields of `study.comparison.Comparison`: baseline, select_on, split, is_corrected.
    """
    from hyperdecoders_jax.study import comparing, comparison

    methods = comparison.on_same_data(methods)
    made = comparison.Comparison(methods, tuple(seeds), files.absolute(output), **options)
    return comparing.finish(made)


def _help(args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]], number: int) -> None:
    """A process of --jobs: makes runs that no other one makes."""
    from hyperdecoders_jax.study import comparing, jobs

    jobs.begin(files.absolute(files.at_home(args.output)), number)
    flags.start_tensorflow()
    comparing.help_with(_Command(args, gin_flags).comparison(), number, args.jobs)


class _Command:
    """A command line, on its way to a comparison."""

    def __init__(self, args: argparse.Namespace, gin_flags: Sequence[tuple[str, str]]):
        if args.model_dir is not None or args.coordinator_address or args.multiprocess:
            raise errors.UsageError(
                "compare names the folders of its runs, in one process or --jobs=N; got "
                "--model_dir or a flag of several processes. Give --output=FOLDER alone."
            )
        _check_macros(gin_flags)
        self._args, self._gin_flags = args, list(gin_flags)
        self._output = files.absolute(files.at_home(args.output))
        self._seeds = parse_seeds(args.seeds)
        select_on, split = "validation", "test"
        if args.train_file and not args.test_file:  # Own data have the splits that were given.
            select_on, split = NOTHING, "validation"
        elif args.train_file and not args.validation_file:
            select_on = NOTHING
        select_on = args.select_on or select_on
        self._select_on = None if select_on == NOTHING else select_on
        self._split = args.split or split
        self._macros = {}
        self._choices = []
        self._files = {}
        for text in args.method:
            name, file, macros = parse_method(text)
            if name in self._macros:
                raise errors.UsageError(
                    f"Methods must have different names; got {name!r} twice. Write "
                    f"--method=OTHER={file},MACRO=VALUE."
                )
            _check_macros(macros)
            self._macros[name], self._files[name] = macros, self._find(file)

    def _find(self, file: str) -> str:
        from hyperdecoders_jax.config import gin_files

        if file.endswith(".gin"):
            return files.at_home(file)
        names = [f"{folder}/{file}.gin" for folder in _METHOD_FOLDERS]
        paths = flags.search_paths(self._args)
        for name in names:
            try:
                gin_files.find_file(name, paths)
            except errors.ConfigurationError:
                continue
            return name
        known = gin_files.files_under(gin_files.package_config_folder(), _METHOD_FOLDERS[0])
        stems = [os.path.splitext(os.path.basename(path))[0] for path in known]
        raise errors.UsageError(
            f"--method must name a file of {' or '.join(_METHOD_FOLDERS)}, or a FILE.gin; got "
            f"{file!r}.{errors.suggestion(file, stems)} Write --method=NAME=FILE.gin."
        )

    def read(self, name: str, macros: Sequence[tuple[str, str]] = ()) -> tuple[RunConfig, str]:
        """The run of a method, and its gin text."""
        args = copy.copy(self._args)
        args.command, args.init, args.model_dir = "train", None, f"{self._output}/{name}"
        args.gin_file = [*args.gin_file, self._files[name]]
        try:
            return configured.run_config(args, [*self._gin_flags, *self._macros[name], *macros])
        except errors.ConfigurationError as error:
            is_of_all = any(f"--gin.{macro}=" in str(error) for macro, _ in self._gin_flags)
            advice = "; what one method alone reads is set by --method=NAME=FILE,MACRO=VALUE"
            raise errors.ConfigurationError(
                f"{error} (Of the method {name}{advice * is_of_all}.)"
            ) from error

    def comparison(self) -> Comparison | None:
        """The comparison, after widths were matched and settings chosen; None after a signal."""
        if self._args.match_parameters:
            self._match()
        if self._args.grid:
            self._made()  # What is in error is told before the grid is trained.
            if not self._choose():
                return None
        return self._made()

    def _made(self) -> Comparison:
        from hyperdecoders_jax.study import comparison

        made = {name: self.read(name) for name in self._macros}
        return comparison.Comparison(
            comparison.on_same_data({name: run for name, (run, _) in made.items()}),
            self._seeds,
            self._output,
            self._args.baseline,
            self._select_on,
            self._split,
            {name: text for name, (_, text) in made.items()},
            self._args.correct,
            self._choices,
        )

    def _tell(self, choice: str) -> None:
        self._choices.append(choice)
        print(choice, file=sys.stderr, flush=True)

    def _match(self) -> None:
        from hyperdecoders_jax.study import matching

        baseline = self._args.baseline or next(iter(self._macros))
        if baseline not in self._macros:
            raise errors.UsageError(
                f"--baseline must be one of the methods {list(self._macros)}; got {baseline!r}. "
                "Correct it."
            )
        wanted = matching.num_parameters(self.read(baseline)[0])
        for name in self._macros:
            run, _ = self.read(name)
            before = matching.widths(run.model.config)
            matched = matching.match(name, run, wanted)
            setters = matching.setters(run.model.config, matched, configured.macro_of)
            # One macro may set the widths of both stacks.
            changed = {setters[key]: key for key, width in matched.items() if width != before[key]}
            for setter, key in changed.items():
                told = f"{setter} = {matched[key]}, not {before[key]}"
                self._tell(f"{name}: {told}, to match parameters.")
            chosen = [(setter, str(matched[key])) for setter, key in changed.items()]
            self._macros[name] += chosen
            if chosen:
                self._check_bound(name, chosen, wanted)

    def _check_bound(self, name: str, chosen: Sequence[tuple[str, str]], wanted: int) -> None:
        """Raises UsageError if a file of the method overrides the widths that were chosen."""
        from hyperdecoders_jax.study import matching

        bound = ", ".join(f"{parameter}={width}" for parameter, width in chosen)
        advice = (
            "Bind it without a scope such as encoder/ there, set the widths by hand, or leave out "
            "--match_parameters."
        )
        try:
            got = matching.num_parameters(self.read(name)[0])
        except errors.ConfigurationError as error:
            raise errors.UsageError(
                f"--match_parameters must be able to set the widths of a method; a file of {name} "
                f"sets them otherwise than {bound}: {error} {advice}"
            ) from error
        if abs(got - wanted) > matching.TOLERANCE * wanted:
            raise errors.UsageError(
                f"--match_parameters must be able to set the widths of a method; with {bound} "
                f"{name} trains {got:,} parameters, not {wanted:,}, as a file of it sets another "
                f"width. {advice}"
            )

    def _check_matched(self, made: Mapping[str, Mapping[Any, tuple[RunConfig, str]]]) -> None:
        """Raises UsageError if a point of a method's grid trains more or fewer parameters."""
        from hyperdecoders_jax.study import grids, matching

        for name, of_method in made.items():
            wanted = matching.num_parameters(self.read(name)[0])
            for point, (run, _) in of_method.items():
                if (got := matching.num_parameters(run)) != wanted:
                    raise errors.UsageError(
                        f"With --match_parameters a grid must leave a method's {wanted:,} trained "
                        f"parameters as they are; got {got:,} with {name}:{grids.label(point)}. "
                        "Leave widths out of --grid, or --match_parameters."
                    )

    def _choose(self) -> bool:
        """Adds to each method's macros the best point of its grid; False if a signal came."""
        from hyperdecoders_jax.study import comparing, grids

        if self._select_on is None:
            raise errors.UsageError(
                "--grid needs a split to choose on; got none. Give --select_on=SPLIT, or "
                "--validation_file and --test_file."
            )
        # All of them before the first is trained, since the last one may be in error, too.
        points = grids.of_methods(self._args.grid, list(self._macros))
        _check_macros([macro for of_method in points.values() for x in of_method for macro in x])
        made = {
            name: {point: self.read(name, point) for point in of_method}
            for name, of_method in points.items()
        }
        if self._args.match_parameters:
            self._check_matched(made)
        chosen = comparing.choose(made, self._seeds[0], self._output, self._select_on)
        for name, (best, line) in (chosen or {}).items():
            self._macros[name] += best
            self._choices.append(line)
        return chosen is not None


def _check_macros(macros: Sequence[tuple[str, str]]) -> None:
    """Raises UsageError if one of them is what compare sets for each run."""
    for name, value in macros:
        if name in _SET_BY:
            raise errors.UsageError(
                f"compare sets {name} of its runs by {_SET_BY[name]}; got {name}={value}. Give "
                "that flag instead."
            )


def parse_method(text: str) -> tuple[str, str, list[tuple[str, str]]]:
    """Name, file and macros of a --method.

    >>> parse_method("hyperdecoder")
    ('hyperdecoder', 'hyperdecoder', [])
    >>> parse_method("wide=hyperdecoder.gin,A=3,B=(1, 2)")
    ('wide', 'hyperdecoder.gin', [('A', '3'), ('B', '(1, 2)')])
    """
    name, _, rest = text.partition("=")
    if "," in name:
        raise errors.UsageError(
            f"A --method with macros must have a name of its own; got {text!r}. Write "
            f"--method=NAME={text}."
        )
    # At commas before the next file or MACRO=, so that values may have some.
    parts = re.split(r",(?=\s*[A-Za-z_][\w./]*\s*=)", rest) if rest else []
    file = parts.pop(0) if parts and "=" not in parts[0] else name
    macros = [(x.partition("=")[0].strip(), x.partition("=")[2].strip()) for x in parts]
    if not name or any(not value for _, value in macros):
        raise errors.UsageError(
            f"--method must be NAME or NAME=FILE.gin,MACRO=VALUE; got {text!r}. Correct it."
        )
    return name.strip(), file.strip(), macros


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds of a --seeds.

    >>> parse_seeds("1-3,7")
    (1, 2, 3, 7)
    """
    seeds = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if found is None:
            raise errors.UsageError(
                f"--seeds must be numbers or ranges such as 1-5 or 3,7; got {text!r}. Correct it."
            )
        first, last = (int(x) for x in (found[1], found[2] or found[1]))
        if last < first:
            raise errors.UsageError(
                f"A range of --seeds must rise; got {part.strip()!r}. Write {last}-{first}."
            )
        seeds += range(first, last + 1)
    return tuple(seeds)


def read_published(name: str | None) -> dict[str, Any] | None:
    """A paper's numbers: its source, and {method: {"TASK/METRIC": value}}; None for None."""
    if name is None:
        return None
    file = importlib.resources.files("hyperdecoders_jax.study") / _PUBLISHED
    known = json.loads(file.read_text("utf-8"))
    if name not in known:
        raise errors.UsageError(
            f"--published must be one of {sorted(known)}; got {name!r}."
            f"{errors.suggestion(name, known)} Correct it, or leave it out."
        )
    return known[name]


if __name__ == "__main__":
    main.leave(main.main(["compare", *sys.argv[1:]]))
