"""What the first record of every task must become: the text that goes in, the text to come out.

Written by hand from the specification of the original and from T5's text format, not taken from
what the tasks make of `records.RECORDS`. The record is the first of the validation split; where
there is none, of the only split.
"""

RENDERED: dict[str, tuple[str, str]] = {
    "glue_cola_v200": ("cola sentence: The gardener watered the roses.", "1"),
    "glue_sst2_v200": ("sst2 sentence: a warm and funny portrait of a family ", "1"),
    "glue_mrpc_v200": (
        "mrpc sentence1: The river rose by two metres. sentence2: By two metres the river rose.",
        "1",
    ),
    "glue_stsb_v200": (
        "stsb sentence1: A man is playing a flute. sentence2: A man plays the flute.",
        "4.8",
    ),
    "glue_qqp_v200": (
        "qqp question1: How do I learn to swim? question2: How can I learn swimming?",
        "1",
    ),
    "glue_mnli_v200": (
        "mnli premise: He plays the violin in an orchestra. hypothesis: He is a musician.",
        "0",
    ),
    "glue_qnli_v200": (
        "qnli question: When was the bridge built? sentence: The bridge was built in 1890.",
        "0",
    ),
    "glue_rte_v200": (
        "rte sentence1: The ship sank off the coast of Norway. sentence2: A ship sank.",
        "0",
    ),
    "glue_wnli_v200": (
        "wnli sentence1: The cup fell on the plate and it broke. sentence2: The plate broke.",
        "1",
    ),
    "superglue_boolq_v102": (
        "superglue-boolq question: is a tomato a fruit "
        "passage: Tomato -- The tomato is, botanically, a fruit.",
        "1",
    ),
    "superglue_cb_v102": (
        "superglue-cb premise: A: I don't think that he is at home. hypothesis: he is at home",
        "1",
    ),
    "superglue_rte_v102": (
        "superglue-rte premise: The ship sank off the coast of Norway. hypothesis: A ship sank.",
        "0",
    ),
    "anli_v010": (
        "anli premise: The film was shot in Peru in 1970. hypothesis: The film was shot in Asia.",
        "2",
    ),
    "art": (
        "art observation 1: Ann left her bag on the bus. observation 2: She had her bag again. "
        "hypothesis 1: The driver kept it for her. hypothesis 2: She bought a new hat.",
        "1",
    ),
    "snli_v110": (
        "snli premise: A boy in a red shirt rides a horse. hypothesis: A boy is on an animal.",
        "0",
    ),
    "scitail_v100": (
        "scitail sentence1: Plants make sugar from light. sentence2: Plants make sugar.",
        "0",
    ),
    "sick": ("sick premise: A dog is running. hypothesis: An animal is running.", "0"),
    "imdb_v100": ("imdb Two hours that I will never get back.", "0"),
    "yelp_polarity_v020": (
        "yelp_polarity sentence: We waited an hour and the food was cold.",
        "0",
    ),
    "trec_v100": ("trec sentence: What animal sleeps standing up ?", "1"),
    "paws_v110": (
        "paws sentence1: He moved from Bonn to Köln . sentence2: He moved from Köln to Bonn .",
        "0",
    ),
    "social_i_qa": (
        "social_i_qa question: What will Ann do next? context: Ann found a purse in the street. "
        "answerA: sleep answerB: look for its owner answerC: eat it",
        "2",
    ),
    "cosmos_qa_v100": (
        "cosmos_qa question: Why did they run ? context: We ran to the bus in the rain. "
        "answer0: To keep dry . answer1: For sport . answer2: To win a race . "
        "answer3: None of the above choices .",
        "0",
    ),
    "winogrande_v120": (
        "winogrande sentence: The vase fell on the rug but the _ did not break. "
        "option1: vase option2: rug",
        "1",
    ),
    "hellaswag_v110": (
        "hellaswag ctx: A man kneels beside a bicycle. he ending0: eats the wheel. "
        "ending1: pumps up the tyre. ending2: swims away. ending3: paints the sky.",
        "1",
    ),
    "commonsense_qa": (
        "commonsense_qa question: Where do you keep milk? A: fridge B: garden C: roof D: sock "
        "E: street",
        "A",
    ),
    "xsum": (
        "summarize: The council of Graz will plant 500 trees by May. Work starts on Monday.",
        "Graz is to plant 500 trees.",
    ),
    "cnn_dailymail_v340": (
        "summarize: A ferry ran aground near Bergen on Tuesday. All 90 passengers are safe.",
        "Ferry runs aground near Bergen .\nNobody is hurt .",
    ),
    "wiki_lingua_english_en_v110": (
        "summarize: Rinse the rice until the water is clear. Let it drain before you cook it.",
        "Rinse the rice. Let it drain.",
    ),
    "wmt16_en_ro_v100": ("Translate English to Romanian The house is big.", "Casa este mare."),
    "wmt16_ro_en_v100": ("Translate Romanian to English Casa este mare.", "The house is big."),
    "wmt16_en_cs_v100": ("Translate English to Czech The house is big.", "Dům je velký."),
    "wmt16_en_fi_v100": ("Translate English to Finnish The house is big.", "Talo on suuri."),
    "wmt14_hi_en_v100": ("Translate English to Hindi The house is big.", "घर बड़ा है।"),
    "iwslt2017_ro_nl": ("Translate Romanian to Dutch Casa este mare.", "Het huis is groot."),
    "iwslt2017_en_nl": ("Translate English to Dutch The house is big.", "Het huis is groot."),
    "squad_v300": (
        "squad question: Who built the harbour? "
        "context: The harbour was built in 1890 by Dutch masons.",
        "Dutch masons",
    ),
    "mrqa_bio_asq_v100": (
        "question: What does insulin lower? context: Insulin lowers blood sugar.",
        "blood sugar",
    ),
    "mrqa_reg_bio_asq_v100": (
        "mrqa question: What does insulin lower? context: Insulin lowers blood sugar.",
        "blood sugar",
    ),
    "t5_glue_cola_v200": ("cola sentence: The gardener watered the roses.", "acceptable"),
    "t5_glue_sst2_v200": ("sst2 sentence: a warm and funny portrait of a family ", "positive"),
    "t5_glue_mrpc_v200": (
        "mrpc sentence1: The river rose by two metres. sentence2: By two metres the river rose.",
        "equivalent",
    ),
    "t5_glue_stsb_v200": (
        "stsb sentence1: A man is playing a flute. sentence2: A man plays the flute.",
        "4.8",
    ),
    "t5_glue_qqp_v200": (
        "qqp question1: How do I learn to swim? question2: How can I learn swimming?",
        "duplicate",
    ),
    "t5_glue_mnli_v200": (
        "mnli hypothesis: The shop was open all day. "
        "premise: The shop closed early because of the storm.",
        "contradiction",
    ),
    "t5_glue_qnli_v200": (
        "qnli question: When was the bridge built? sentence: The bridge was built in 1890.",
        "entailment",
    ),
    "t5_glue_rte_v200": (
        "rte sentence1: The ship sank off the coast of Norway. sentence2: A ship sank.",
        "entailment",
    ),
    "t5_super_glue_boolq_v102": (
        "boolq passage: Tomato -- The tomato is, botanically, a fruit. "
        "question: is a tomato a fruit",
        "True",
    ),
    "t5_super_glue_cb_v102": (
        "cb hypothesis: he is at home premise: A: I don't think that he is at home.",
        "contradiction",
    ),
    "t5_super_glue_copa_v102": (
        "copa choice1: It had rained. choice2: The sun was hot. premise: The ground was wet. "
        "question: cause",
        "choice1",
    ),
    "t5_super_glue_multirc_v102": (
        "multirc question: Who baked? answer: Ann "
        "paragraph: Sent 1: Ann baked a cake. Sent 2: Bob ate it. ",
        "True",
    ),
    "t5_super_glue_record_v102": (
        "record query: @placeholder was waiting for her in the harbour of Oslo. "
        "entities: Ada Lind, Oslo, Lind, Per Dahl "
        "passage: Ada Lind sailed to Oslo. Lind met Per Dahl there",
        "Per Dahl",
    ),
    "t5_super_glue_rte_v102": (
        "rte hypothesis: A ship sank. premise: The ship sank off the coast of Norway.",
        "entailment",
    ),
    "t5_super_glue_wic_v102": (
        "wic sentence1: We sat on the bank of the river. sentence2: The bank lends money. "
        "word: bank",
        "False",
    ),
    "t5_super_glue_wsc_v102": ("wsc: Mark told Pete many lies about *himself* .", "Mark"),
    "t5_dpr_v110": ("wsc: The bee landed on the flower because *it* had pollen.", "flower"),
}
