"""How often T5X evaluates. Of its two periods one must be a multiple of the other."""


def eval_period(
    eval_every_steps: int | None,
    checkpoint_every_steps: int,
    num_train_steps: int,
    split: str | None = "validation",
) -> int:
    """Returns `train_script.train.eval_period`; T5X evaluates after the last step in any case.

    None, for the period or the `split`, gives one that ends at the last step or later. Raises
    ValueError if neither period is a multiple of the other.
    >>> eval_period(500, 1000, 3000), eval_period(None, 1000, 2500)
    (500, 3000)
    """
    # A multiple of the other period, and not before the end.
    if eval_every_steps is None or split is None:
        return -(-num_train_steps // checkpoint_every_steps) * checkpoint_every_steps
    shorter, longer = sorted([eval_every_steps, checkpoint_every_steps])
    if longer % shorter:
        raise ValueError(
            "Under T5X one of EVAL_PERIOD and CHECKPOINT_PERIOD must be a multiple of the other; "
            f"got {eval_every_steps} and {checkpoint_every_steps}. Change one of them."
        )
    return eval_every_steps
