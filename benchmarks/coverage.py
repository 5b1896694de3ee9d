"""Coverage of the interval of `hyperdecoders compare`, simulated.

    python -m benchmarks.coverage

For 3 to 10 seeds, and for variances of seeds, of examples and of the rest: how often, in %, the
95 % interval of equal methods holds 0, and how often a known difference is shown. "alone" is the
usual t interval over seeds. Values are normal, or rounded to -1, 0 and 1, as those of answers.
"""

import argparse
import itertools

import numpy as np

from hyperdecoders_jax.data import text_table
from hyperdecoders_jax.study import intervals

SEEDS = (3, 4, 5, 7, 10)
# Standard deviations of seeds, examples and the rest.
SPREADS = ((0, 0, 1), (0, 1, 0.3), (0, 1, 1), (0.1, 0.5, 1), (0.15, 1, 0.5), (0.3, 1, 1), (1, 1, 1))


def simulate(num_seeds, spreads, num_examples, num_sets, is_rounded, effect=0.0):
    """Shares of sets whose interval holds the truth, and whose t interval over seeds does."""
    rng = np.random.default_rng((num_seeds, num_examples, is_rounded))
    of_seeds, of_examples, rest = spreads
    values = of_seeds * rng.normal(size=(num_sets, num_seeds, 1))
    values = values + of_examples * rng.normal(size=(num_sets, 1, num_examples))
    values = values + rest * rng.normal(size=(num_sets, num_seeds, num_examples))
    if is_rounded:
        values = np.clip(np.round(values), -1, 1)
    found = intervals.components(values + effect)
    alone = found._replace(of_examples=np.zeros_like(found.mean))
    return [100 * np.mean(np.abs(found.mean) <= intervals.half_width(x)) for x in (found, alone)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num_sets", type=int, default=10_000)
    parser.add_argument("--num_examples", type=int, default=100)
    args = parser.parse_args()
    sizes = (args.num_examples, args.num_sets)
    head = ["seeds", "sd of seeds", "examples", "rest", "values", "coverage", "alone", "shown"]
    rows, covered = [head], []
    for num_seeds, spreads, is_rounded in itertools.product(SEEDS, SPREADS, (False, True)):
        coverage, alone = simulate(num_seeds, spreads, *sizes, is_rounded)
        # A difference of three standard errors, if all was known.
        parts = np.square(spreads) / (num_seeds, args.num_examples, num_seeds * args.num_examples)
        missed, _ = simulate(num_seeds, spreads, *sizes, False, effect=3 * np.sqrt(parts.sum()))
        covered.append(coverage)
        numbers = (f"{x:.1f}" for x in (coverage, alone, 100 - missed))
        kind = "rounded" if is_rounded else "normal"
        rows.append([str(num_seeds), *map(str, spreads), kind, *numbers])
    print(text_table.align(rows))
    print(f"Least {min(covered):.1f}, most {max(covered):.1f}, mean {np.mean(covered):.1f}.")


if __name__ == "__main__":
    main()
