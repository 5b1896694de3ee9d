"""Training: optimisers, schedules, sharding, the train step, the loop and its checkpoints."""
