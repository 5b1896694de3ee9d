"""The features of every task: `inputs` and `targets`, in the vocabulary of the run.

`registration.add_task` gives them to every task; `seqio.TaskRegistry.add` takes them too. They name
no vocabulary file, so one registered task serves every T5 (`data.vocabulary.RUN_VOCABULARY`).
"""

import seqio

from hyperdecoders_jax.data import vocabulary

OUTPUT_FEATURES = {
    "inputs": seqio.Feature(vocabulary.RUN_VOCABULARY, add_eos=True),
    "targets": seqio.Feature(vocabulary.RUN_VOCABULARY, add_eos=True),
}
