"""The original's decoding of each task: most tokens of a text, and beams.

`GENERATION = @generation.original()` in a gin file decodes every task as its authors did; tasks
that are not listed are decoded as the run's `decoding/` file says, up to their targets' length.
Hugging Face's `max_length` counts the decoder's start token, ours does not: 60 there is 59 here.

Labels get the tokens of the longest one, in T5's vocabulary, without EOS: no text gets longer than
a label, and decoding is short. Exceptions are `winogrande_v120` and `commonsense_qa`, which the
original cuts after one token: here a text that may not be empty has room for its EOS.

Source: allenai/hyperdecoders, `tasks.py` (`generation_config`, `get_max_target_length`).
"""

from typing import NamedTuple


class Generation(NamedTuple):
    """Decoding of a task's texts."""

    max_len: int  # Most tokens of a text, EOS included where it is reached.
    num_beams: int  # 1 is greedy.


# Names are written out, so that a search for a task finds its decoding.
_TASKS = {
    Generation(2, 1): (
        "glue_cola_v200", "glue_sst2_v200", "glue_mrpc_v200", "glue_stsb_v200", "glue_qqp_v200",
        "glue_mnli_v200", "glue_qnli_v200", "glue_rte_v200", "glue_wnli_v200",
        "superglue_boolq_v102", "superglue_cb_v102", "superglue_rte_v102", "anli_v010", "art",
        "snli_v110", "scitail_v100", "sick", "imdb_v100", "yelp_polarity_v020", "trec_v100",
        "paws_v110", "social_i_qa", "cosmos_qa_v100", "winogrande_v120", "hellaswag_v110",
        "commonsense_qa",
    ),
    Generation(59, 6): (
        "xsum",
    ),
    Generation(59, 4): (
        "cnn_dailymail_v340", "wiki_lingua_english_en_v110",
    ),
    Generation(15, 1): (
        "squad_v300",
    ),
    Generation(63, 1): (
        "mrqa_squad_v100", "mrqa_news_qa_v100", "mrqa_trivia_qa_v100", "mrqa_search_qa_v100",
        "mrqa_hotpot_qa_v100", "mrqa_natural_questions_v100", "mrqa_bio_asq_v100", "mrqa_drop_v100",
        "mrqa_duo_rc_v100", "mrqa_race_v100", "mrqa_relation_extraction_v100",
        "mrqa_textbook_qa_v100", "mrqa_reg_squad_v100", "mrqa_reg_news_qa_v100",
        "mrqa_reg_trivia_qa_v100", "mrqa_reg_search_qa_v100", "mrqa_reg_hotpot_qa_v100",
        "mrqa_reg_natural_questions_v100", "mrqa_reg_bio_asq_v100", "mrqa_reg_drop_v100",
        "mrqa_reg_duo_rc_v100", "mrqa_reg_race_v100", "mrqa_reg_relation_extraction_v100",
        "mrqa_reg_textbook_qa_v100",
    ),
    Generation(299, 4): (
        "wmt16_en_ro_v100", "wmt16_ro_en_v100", "wmt16_en_cs_v100", "wmt16_en_fi_v100",
        "wmt14_hi_en_v100", "iwslt2017_ro_nl", "iwslt2017_en_nl",
    ),
}  # fmt: skip
GENERATION = {name: generation for generation, names in _TASKS.items() for name in names}


def original() -> dict[str, Generation]:
    """The original's decoding of each of its tasks; for gin.

    >>> original()["xsum"]
    Generation(max_len=59, num_beams=6)
    """
    return dict(GENERATION)
