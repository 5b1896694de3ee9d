"""How the original generates each task's texts: at most so many tokens, with so many beams.

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
    """What a task's texts are decoded with.

    Attributes:
        max_len: most tokens of a text, EOS included where it is reached.
        num_beams: of the search; 1 is greedy.
    """

    max_len: int
    num_beams: int


_LABEL = Generation(2, 1)
_SUMMARY = Generation(59, 4)
_TRANSLATION = Generation(299, 4)
_ANSWER = Generation(63, 1)

GENERATION = {
    "glue_cola_v200": _LABEL,
    "glue_sst2_v200": _LABEL,
    "glue_mrpc_v200": _LABEL,
    "glue_stsb_v200": _LABEL,
    "glue_qqp_v200": _LABEL,
    "glue_mnli_v200": _LABEL,
    "glue_qnli_v200": _LABEL,
    "glue_rte_v200": _LABEL,
    "glue_wnli_v200": _LABEL,
    "superglue_boolq_v102": _LABEL,
    "superglue_cb_v102": _LABEL,
    "superglue_rte_v102": _LABEL,
    "anli_v010": _LABEL,
    "art": _LABEL,
    "snli_v110": _LABEL,
    "scitail_v100": _LABEL,
    "sick": _LABEL,
    "imdb_v100": _LABEL,
    "yelp_polarity_v020": _LABEL,
    "trec_v100": _LABEL,
    "paws_v110": _LABEL,
    "social_i_qa": _LABEL,
    "cosmos_qa_v100": _LABEL,
    "winogrande_v120": _LABEL,
    "hellaswag_v110": _LABEL,
    "commonsense_qa": _LABEL,
    "xsum": Generation(59, 6),
    "cnn_dailymail_v340": _SUMMARY,
    "wiki_lingua_english_en_v110": _SUMMARY,
    "squad_v300": Generation(15, 1),
    "mrqa_squad_v100": _ANSWER,
    "mrqa_news_qa_v100": _ANSWER,
    "mrqa_trivia_qa_v100": _ANSWER,
    "mrqa_search_qa_v100": _ANSWER,
    "mrqa_hotpot_qa_v100": _ANSWER,
    "mrqa_natural_questions_v100": _ANSWER,
    "mrqa_bio_asq_v100": _ANSWER,
    "mrqa_drop_v100": _ANSWER,
    "mrqa_duo_rc_v100": _ANSWER,
    "mrqa_race_v100": _ANSWER,
    "mrqa_relation_extraction_v100": _ANSWER,
    "mrqa_textbook_qa_v100": _ANSWER,
    "mrqa_reg_squad_v100": _ANSWER,
    "mrqa_reg_news_qa_v100": _ANSWER,
    "mrqa_reg_trivia_qa_v100": _ANSWER,
    "mrqa_reg_search_qa_v100": _ANSWER,
    "mrqa_reg_hotpot_qa_v100": _ANSWER,
    "mrqa_reg_natural_questions_v100": _ANSWER,
    "mrqa_reg_bio_asq_v100": _ANSWER,
    "mrqa_reg_drop_v100": _ANSWER,
    "mrqa_reg_duo_rc_v100": _ANSWER,
    "mrqa_reg_race_v100": _ANSWER,
    "mrqa_reg_relation_extraction_v100": _ANSWER,
    "mrqa_reg_textbook_qa_v100": _ANSWER,
    "wmt16_en_ro_v100": _TRANSLATION,
    "wmt16_ro_en_v100": _TRANSLATION,
    "wmt16_en_cs_v100": _TRANSLATION,
    "wmt16_en_fi_v100": _TRANSLATION,
    "wmt14_hi_en_v100": _TRANSLATION,
    "iwslt2017_ro_nl": _TRANSLATION,
    "iwslt2017_en_nl": _TRANSLATION,
}


def original() -> dict[str, Generation]:
    """What the original generates each of its tasks with, by task; for gin.

    >>> original()["xsum"]
    Generation(max_len=59, num_beams=6)
    """
    return dict(GENERATION)
