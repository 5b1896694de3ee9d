"""A few hand-written records of every data set that a task reads, and the splits that hold them.

Fields and labels are those of the data sets; the texts are ours. `RECORDS` has a key for each TFDS
data set (without its version) and for each folder of JSON lines. Every split gets a part of another
length, so that a task that reads the wrong one is found out.
"""

from collections.abc import Mapping, Sequence

Record = dict[str, object]


def _rows(fields: str, *rows: Sequence[object]) -> list[Record]:
    return [dict(zip(fields.split(), row, strict=True)) for row in rows]


def _span(text: str, part: str) -> Record:
    """Where `part` is in `text`, MRQA's way: both ends are inclusive."""
    start = text.index(part)
    return {"start": start, "end": start + len(part) - 1}


def _tokens(text: str) -> Record:
    words = text.split()
    return {"tokens": words, "offsets": [text.index(word) for word in words]}


def _mrqa(subset: str, *rows: tuple[str, str, list[str]]) -> list[Record]:
    """Rows of question, context and gold answers; each answer that the context holds is marked."""
    records = []
    for number, (question, context, answers) in enumerate(rows):
        detected = [answer for answer in answers if answer in context]
        records.append(
            {
                "subset": subset,
                "qid": f"{subset.lower()}-{number}",
                "question": question,
                "question_tokens": _tokens(question),
                "context": context,
                "context_tokens": _tokens(context),
                "answers": answers,
                "detected_answers": [
                    {
                        "text": answer,
                        "char_spans": [_span(context, answer)],
                        "token_spans": [{"start": 0, "end": 0}],
                    }
                    for answer in detected
                ],
            }
        )
    return records


def _aligned(rows: Sequence[tuple[str, str]]) -> list[Record]:
    """GEM's form of WikiLingua, in which the references of `train` are empty."""
    return [
        {
            "gem_id": f"gem-wiki_lingua-{number}",
            "gem_parent_id": f"gem-wiki_lingua-{number}",
            "source": source,
            "target": target,
            "source_aligned": {"en": source},
            "target_aligned": {"en": target},
            "references": [target],
        }
        for number, (source, target) in enumerate(rows)
    ]


RECORDS: Mapping[str, Sequence[Record]] = {
    "glue/cola": _rows(
        "sentence label idx",
        ("The gardener watered the roses.", 1, 0),
        ("The gardener watered the.", 0, 1),
        ("Who did you say that left?", 0, 2),
        ("It is easy to please Ann.", 1, 3),
        ("They wondered what to read.", 1, 4),
    ),
    "glue/sst2": _rows(
        "sentence label idx",
        ("a warm and funny portrait of a family ", 1, 0),
        ("so slow that the clock is more exciting ", 0, 1),
        ("wins you over by the end ", 1, 2),
        ("neither clever nor kind ", 0, 3),
        ("the best thing on screen this year ", 1, 4),
    ),
    "glue/mrpc": _rows(
        "sentence1 sentence2 label idx",
        ("The river rose by two metres.", "By two metres the river rose.", 1, 0),
        ("Shares fell 3 percent.", "Shares rose 3 percent.", 0, 1),
        ("The mayor resigned on Monday.", "On Monday the mayor stepped down.", 1, 2),
        ("She won the first race.", "She came second in the race.", 0, 3),
        ("The museum opens at nine.", "At nine the museum opens its doors.", 1, 4),
    ),
    "glue/stsb": _rows(
        "sentence1 sentence2 label idx",
        ("A man is playing a flute.", "A man plays the flute.", 4.75, 0),
        ("A dog runs in the snow.", "A cat sleeps on a sofa.", 0.5, 1),
        ("Two children are swimming.", "Children swim in a lake.", 3.2, 2),
        ("A woman slices a lemon.", "A woman cuts some fruit.", 2.857, 3),
        ("The plane is landing.", "The plane is landing.", 5.0, 4),
    ),
    "glue/qqp": _rows(
        "question1 question2 label idx",
        ("How do I learn to swim?", "How can I learn swimming?", 1, 0),
        ("Why is the sky blue?", "Why is the sea green?", 0, 1),
        ("What is the tallest tree?", "Which tree is the tallest?", 1, 2),
        ("Where can I buy a boat?", "Where can I sell a boat?", 0, 3),
        ("How old is the moon?", "What is the age of the moon?", 1, 4),
    ),
    "glue/mnli": _rows(
        "premise hypothesis label idx",
        ("The shop closed early because of the storm.", "The shop was open all day.", 2, 0),
        ("He plays the violin in an orchestra.", "He is a musician.", 0, 1),
        ("She took the train to Rome.", "She was on holiday.", 1, 2),
        ("The bridge was rebuilt in 1902.", "The bridge had been built before.", 0, 3),
        ("Nobody answered the phone.", "Someone picked up the phone.", 2, 4),
    ),
    "glue/qnli": _rows(
        "question sentence label idx",
        ("When was the bridge built?", "The bridge was built in 1890.", 0, 0),
        ("Who painted the ceiling?", "The chapel stands on a hill.", 1, 1),
        ("How long is the river?", "The river is 300 km long.", 0, 2),
        ("What do koalas eat?", "Koalas sleep for most of the day.", 1, 3),
        ("Where is the harbour?", "The harbour lies south of the town.", 0, 4),
    ),
    "glue/rte": _rows(
        "sentence1 sentence2 label idx",
        ("The ship sank off the coast of Norway.", "A ship sank.", 0, 0),
        ("The singer was born in Lisbon.", "The singer lives in Lisbon.", 1, 1),
        ("Three of the miners were rescued.", "Some miners were rescued.", 0, 2),
        ("The company may open a shop.", "The company opened a shop.", 1, 3),
        ("Ann sold her car to Bob.", "Bob bought a car.", 0, 4),
    ),
    "glue/wnli": _rows(
        "sentence1 sentence2 label idx",
        ("The cup fell on the plate and it broke.", "The plate broke.", 1, 0),
        ("Ann thanked Mary for the help she gave.", "Ann gave help.", 0, 1),
        ("The ball is too big for the box, so it stays out.", "The ball stays out.", 1, 2),
        ("Tom called Ben because he had the key.", "Tom had the key.", 0, 3),
        ("The tree shades the house since it is tall.", "The tree is tall.", 1, 4),
    ),
    "super_glue/boolq": _rows(
        "question passage idx label",
        ("is a tomato a fruit", "Tomato -- The tomato is, botanically, a fruit.", 0, 1),
        ("can penguins fly", "Penguin -- Penguins are birds that cannot fly.", 1, 0),
        ("is ice lighter than water", "Ice -- Ice floats on water.", 2, 1),
        ("is the sun a planet", "Sun -- The Sun is a star.", 3, 0),
        ("do bees make honey", "Honey -- Honey is made by bees.", 4, 1),
    ),
    "super_glue/cb": _rows(
        "premise hypothesis idx label",
        ("A: I don't think that he is at home.", "he is at home", 0, 1),
        ("She knew that the door was open.", "the door was open", 1, 0),
        ("If they come, we will have dinner.", "they come", 2, 2),
        ("Ann forgot that it was Sunday.", "it was Sunday", 3, 0),
        ("B: Do you believe it will rain?", "it will rain", 4, 2),
    ),
    "super_glue/copa": _rows(
        "premise choice1 choice2 question idx label",
        ("The ground was wet.", "It had rained.", "The sun was hot.", "cause", 0, 0),
        ("I dropped the glass.", "It floated.", "It broke.", "effect", 1, 1),
        ("The baby cried.", "It was hungry.", "It was asleep.", "cause", 2, 0),
        ("He forgot his key.", "He opened the door.", "He waited outside.", "effect", 3, 1),
        ("The lamp went out.", "The bulb burnt out.", "The room was cold.", "cause", 4, 0),
    ),
    "super_glue/multirc": _rows(
        "paragraph question answer idx label",
        (
            "<b>Sent 1: </b>Ann baked a cake.<br><b>Sent 2: </b>Bob ate it.<br>",
            "Who baked?",
            "Ann",
            {"paragraph": 0, "question": 0, "answer": 0},
            1,
        ),
        (
            "<b>Sent 1: </b>Ann baked a cake.<br><b>Sent 2: </b>Bob ate it.<br>",
            "Who baked?",
            "Bob",
            {"paragraph": 0, "question": 0, "answer": 1},
            0,
        ),
        (
            "<b>Sent 1: </b>Ann baked a cake.<br><b>Sent 2: </b>Bob ate it.<br>",
            "What was eaten?",
            "The cake",
            {"paragraph": 0, "question": 1, "answer": 0},
            1,
        ),
        (
            "<b>Sent 1: </b>The bus was late.<br>",
            "What was late?",
            "The bus",
            {"paragraph": 1, "question": 2, "answer": 0},
            1,
        ),
        (
            "<b>Sent 1: </b>The bus was late.<br>",
            "What was late?",
            "The train",
            {"paragraph": 1, "question": 2, "answer": 1},
            0,
        ),
    ),
    "super_glue/record": _rows(
        "passage query entities answers idx",
        (
            "Ada Lind sailed to Oslo.\n@highlight\nLind met Per Dahl there",
            "@placeholder was waiting for her in the harbour of Oslo.",
            ["Ada Lind", "Oslo", "Lind", "Per Dahl"],
            ["Per Dahl"],
            {"passage": 0, "query": 0},
        ),
        (
            "Ada Lind sailed to Oslo.\n@highlight\nLind met Per Dahl there",
            "The journey of @placeholder took nine days.",
            ["Ada Lind", "Oslo", "Lind", "Per Dahl"],
            ["Ada Lind", "Lind"],
            {"passage": 0, "query": 1},
        ),
        (
            "Lima won the cup against Quito.\n@highlight\nThe final was played in Bogota",
            "Fans of @placeholder danced all night.",
            ["Lima", "Quito", "Bogota"],
            ["Lima"],
            {"passage": 1, "query": 2},
        ),
        (
            "The mayor of Ghent opened a bridge.\n@highlight\nIt joins Ghent and its port",
            "Cyclists in @placeholder had asked for it.",
            ["Ghent"],
            ["Ghent"],
            {"passage": 2, "query": 3},
        ),
    ),
    "super_glue/rte": _rows(
        "premise hypothesis idx label",
        ("The ship sank off the coast of Norway.", "A ship sank.", 0, 0),
        ("The singer was born in Lisbon.", "The singer lives in Lisbon.", 1, 1),
        ("Three of the miners were rescued.", "Some miners were rescued.", 2, 0),
        ("The company may open a shop.", "The company opened a shop.", 3, 1),
        ("Ann sold her car to Bob.", "Bob bought a car.", 4, 0),
    ),
    "super_glue/wic": _rows(
        "word sentence1 sentence2 start1 end1 start2 end2 idx label",
        ("bank", "We sat on the bank of the river.", "The bank lends money.", 14, 18, 4, 8, 0, 0),
        ("cold", "A cold wind blew.", "The soup was cold.", 2, 6, 13, 17, 1, 1),
        ("play", "Children play outside.", "They play in the park.", 9, 13, 5, 9, 2, 1),
        ("light", "A light bag.", "Turn on the light.", 2, 7, 12, 17, 3, 0),
        ("run", "I run every day.", "She runs a shop.", 2, 5, 4, 8, 4, 0),
    ),
    "super_glue/wsc.fixed": _rows(
        "text span1_index span2_index span1_text span2_text idx label",
        ("Mark told Pete many lies about himself .", 0, 6, "Mark", "himself", 0, 1),
        ("Ann thanked Mary because she had helped .", 0, 4, "Ann", "she", 1, 0),
        ("The cup fell on the plate and it broke .", 4, 7, "the plate", "it", 2, 1),
        ("Tom called Ben because he had the key .", 0, 4, "Tom", "he", 3, 0),
        ("The tree shades the house since it is tall .", 0, 6, "The tree", "it", 4, 1),
    ),
    "definite_pronoun_resolution": _rows(
        "sentence pronoun candidates label",
        ("The bee landed on the flower because it had pollen.", "it", ["The bee", "flower"], 1),
        ("The dog chased the cat, which ran because it was afraid.", "it", ["dog", "the cat"], 1),
        ("Ann fed the horse since she was kind.", "she", ["Ann", "horse"], 0),
        ("The lions ate the zebras because they are predators.", "they", ["lions", "zebras"], 0),
        ("Men hunt boars because they like meat.", "they", ["Men", "boars"], 0),
    ),
    "anli/r1": _rows(
        "uid context hypothesis label",
        ("a0", "The film was shot in Peru in 1970.", "The film was shot in Asia.", 2),
        ("a1", "Ida Berg wrote nine novels.", "Ida Berg was a writer.", 0),
        ("a2", "The club plays in the second league.", "The club was founded in 1901.", 1),
        ("a3", "The lake covers ten square miles.", "The lake is a body of water.", 0),
        ("a4", "The song reached number two.", "The song reached number one.", 2),
    ),
    "anli/r2": _rows(
        "uid context hypothesis label",
        ("b0", "The tower has 200 steps.", "The tower has more than 100 steps.", 0),
        ("b1", "The painter died in Vienna.", "The painter was born in Vienna.", 1),
        ("b2", "The road was closed in May.", "The road was open in May.", 2),
        ("b3", "The opera has three acts.", "The opera has an act.", 0),
        ("b4", "The island has no airport.", "One can fly to the island.", 2),
    ),
    "anli/r3": _rows(
        "uid context hypothesis label",
        ("c0", "Stir the flour into the milk.", "The milk is in the flour.", 1),
        ("c1", "A fire broke out on Friday.", "There was a fire.", 0),
        ("c2", "The vote was postponed.", "The vote took place as planned.", 2),
        ("c3", "I have lived here for ten years.", "I moved here last week.", 2),
        ("c4", "The hotel welcomes dogs.", "Guests may bring a dog.", 0),
    ),
    "snli": _rows(
        "premise hypothesis label",
        ("A boy in a red shirt rides a horse.", "A boy is on an animal.", 0),
        ("Two women talk on a bench.", "The women are sisters.", 1),
        ("A man sleeps on a train.", "A man is driving.", 2),
        ("A crowd watches a parade.", "People are watching.", -1),  # No label: annotators differ.
        ("A girl paints a wall.", "A girl is painting.", 0),
    ),
    "sci_tail": _rows(
        "premise hypothesis label",
        ("Plants make sugar from light.", "Plants make sugar.", 0),
        ("The heart has four chambers.", "The heart pumps blood.", 1),
        ("Ice is water in its solid state.", "Ice is solid water.", 0),
        ("Iron rusts in moist air.", "Copper conducts heat.", 1),
        ("Bats are mammals that fly.", "Some mammals fly.", 0),
    ),
    "imdb_reviews/plain_text": _rows(
        "text label",
        ("I laughed from the first minute to the last.<br /><br />See it!", 1),
        ("Two hours that I will never get back.", 0),
        ("The actors do what they can with a dull script.", 0),
        ("A quiet film that stays with you.", 1),
        ("Great music, great cast, great fun.", 1),
    ),
    "yelp_polarity_reviews": _rows(
        "text label",
        ("Friendly staff and the best soup in town.", 1),
        ("We waited an hour and the food was cold.", 0),
        ("Clean rooms, fair prices.", 1),
        ("They lost my order twice.", 0),
        ("I come here every week.", 1),
    ),
    "trec": _rows(
        "text label-coarse label-fine",
        ("How did trains get their names ?", 0, 0),
        ("What animal sleeps standing up ?", 1, 2),
        ("Who built the first lighthouse ?", 3, 4),
        ("When was the telephone invented ?", 4, 8),
        ("What city lies on two continents ?", 5, 21),
    ),
    "paws_wiki/labeled_final_tokenized": _rows(
        "sentence1 sentence2 label",
        ("He moved from Bonn to Köln .", "He moved from Köln to Bonn .", 0),
        ("The river joins the lake from the west .", "From the west the river joins it .", 1),
        ("Ann beat Eva in the final .", "Eva beat Ann in the final .", 0),
        ("The town was founded by monks .", "Monks founded the town .", 1),
        ("It was sold , then rebuilt .", "It was rebuilt , then sold .", 0),
    ),
    "cosmos_qa": _rows(
        "context question answer0 answer1 answer2 answer3 label id",
        (
            "We ran to the bus in the rain.",
            "Why did they run ?",
            "To keep dry .",
            "For sport .",
            "To win a race .",
            "None of the above choices .",
            0,
            "0",
        ),
        (
            "The oven smoked and dinner was toast.",
            "What happened to the dinner ?",
            "It was late .",
            "It was burnt .",
            "It was cold .",
            "None of the above choices .",
            1,
            "1",
        ),
        (
            "I gave her my seat on the train.",
            "Who was she ?",
            "The driver .",
            "A thief .",
            "My boss .",
            "None of the above choices .",
            3,
            "2",
        ),
        (
            "He smiled at the exam's result.",
            "How did the exam go ?",
            "Badly .",
            "It was not held .",
            "Well .",
            "None of the above choices .",
            2,
            "3",
        ),
        (
            "The dog barked at the door.",
            "What may come next ?",
            "A guest enters .",
            "It snows .",
            "The sea rises .",
            "None of the above choices .",
            0,
            "4",
        ),
    ),
    "winogrande": _rows(
        "sentence option1 option2 label",
        ("The vase fell on the rug but the _ did not break.", "vase", "rug", 0),
        ("Ann taught Eva to swim because _ could not.", "Ann", "Eva", 1),
        ("The key did not fit the lock as the _ was too big.", "key", "lock", 0),
        ("Tom lent Ben money since _ was poor.", "Tom", "Ben", 1),
        ("The tea was hotter than the soup, so we ate the _ first.", "tea", "soup", 1),
    ),
    "hellaswag": _rows(
        "context endings activity_label label split_type source_id",
        (
            "A man kneels beside a bicycle. he",
            ["eats the wheel.", "pumps up the tyre.", "swims away.", "paints the sky."],
            "Fixing a bicycle",
            1,
            "indomain",
            "activitynet~0",
        ),
        (
            "How to boil an egg. Fill a pot with water. Then",
            ["put the egg in.", "break the pot.", "read the water.", "sell the stove."],
            "Food",
            0,
            "indomain",
            "wikihow~1",
        ),
        (
            "A girl stands on a diving board. she",
            ["drives home.", "opens a door.", "plants it.", "jumps into the pool."],
            "Diving",
            3,
            "zeroshot",
            "activitynet~2",
        ),
        (
            "Two men sit at a chess board. one of them",
            ["moves a pawn.", "eats the queen.", "dives in.", "paints a fence."],
            "Chess",
            0,
            "indomain",
            "activitynet~3",
        ),
        (
            "How to plant a tree. Dig a hole. Next,",
            ["close your eyes.", "sing loudly.", "set the tree in it.", "fill it with paint."],
            "Garden",
            2,
            "zeroshot",
            "wikihow~4",
        ),
    ),
    "cnn_dailymail": _rows(
        "article highlights publisher id",
        (
            "A ferry ran aground near Bergen on Tuesday. All 90 passengers are safe.",
            "Ferry runs aground near Bergen .\nNobody is hurt .",
            "cnn",
            "0",
        ),
        (
            "The library of Graz will open at night from May. Students had asked for it.",
            "Graz opens its library at night .",
            "dailymail",
            "1",
        ),
        (
            "A keeper found the lost tortoise under a shed. It had walked two miles.",
            "Lost tortoise found under a shed .\nIt walked two miles .",
            "cnn",
            "2",
        ),
        (
            "Heavy snow closed the pass. Drivers spent the night in a school.",
            "Snow closes pass .\nDrivers sleep in a school .",
            "cnn",
            "3",
        ),
        (
            "The orchestra hired its first woman as conductor after 120 years.",
            "Orchestra hires first woman as conductor .",
            "dailymail",
            "4",
        ),
    ),
    "gem/wiki_lingua_english_en": _aligned(
        [
            (
                "Rinse the rice until the water is clear. Let it drain before you cook it.",
                "Rinse the rice. Let it drain.",
            ),
            (
                "Turn the screw to the left to loosen it. Keep the screw in a safe place.",
                "Loosen the screw. Keep it safe.",
            ),
            (
                "Ask your neighbours what they grow. They know what the soil is good for.",
                "Ask your neighbours.",
            ),
            (
                "Read the letter aloud. You will hear where it is too long.",
                "Read it aloud.",
            ),
            (
                "Stretch after you run. Hold each stretch for half a minute.",
                "Stretch after running.",
            ),
        ]
    ),
    "wmt16_translate/ro-en": _rows(
        "ro en",
        ("Casa este mare.", "The house is big."),
        ("Îmi place să citesc.", "I like to read."),
        ("Trenul pleacă la ora nouă.", "The train leaves at nine."),
        ("Unde este gara?", "Where is the station?"),
        ("Vă mulțumesc foarte mult.", "Thank you very much."),
    ),
    "wmt16_translate/cs-en": _rows(
        "cs en",
        ("Dům je velký.", "The house is big."),
        ("Rád čtu knihy.", "I like to read books."),
        ("Vlak odjíždí v devět.", "The train leaves at nine."),
        ("Kde je nádraží?", "Where is the station?"),
        ("Mockrát děkuji.", "Thank you very much."),
    ),
    "wmt16_translate/fi-en": _rows(
        "fi en",
        ("Talo on suuri.", "The house is big."),
        ("Pidän lukemisesta.", "I like reading."),
        ("Juna lähtee yhdeksältä.", "The train leaves at nine."),
        ("Missä on asema?", "Where is the station?"),
        ("Kiitos paljon.", "Thank you very much."),
    ),
    "wmt14_translate/hi-en": _rows(
        "hi en",
        ("घर बड़ा है।", "The house is big."),
        ("मुझे पढ़ना पसंद है।", "I like to read."),
        ("ट्रेन नौ बजे जाती है।", "The train leaves at nine."),
        ("स्टेशन कहाँ है?", "Where is the station?"),
        ("बहुत धन्यवाद।", "Thank you very much."),
    ),
    "squad/v1.1": _rows(
        "id title context question answers",
        (
            "s0",
            "Harbour",
            "The harbour was built in 1890 by Dutch masons.",
            "Who built the harbour?",
            {"text": ["Dutch masons", "masons"], "answer_start": [33, 39]},
        ),
        (
            "s1",
            "Harbour",
            "The harbour was built in 1890 by Dutch masons.",
            "When was it built?",
            {"text": ["1890"], "answer_start": [25]},
        ),
        (
            "s2",
            "Otter",
            "Otters eat fish, crabs and frogs.",
            "What do otters eat?",
            {"text": ["fish, crabs and frogs", "fish"], "answer_start": [11, 11]},
        ),
        (
            "s3",
            "Comet",
            "The comet returns every 76 years.",
            "How often does the comet return?",
            {"text": ["every 76 years"], "answer_start": [18]},
        ),
        (
            "s4",
            "Tea",
            "Tea was brought to the island by Portuguese traders.",
            "What did the traders bring?",
            {"text": ["Tea"], "answer_start": [0]},
        ),
    ),
    "mrqa/squad": _mrqa(
        "SQuAD",
        ("Who built the harbour?", "Dutch masons built the harbour.", ["Dutch masons", "masons"]),
        ("When was it built?", "The harbour was built in 1890.", ["1890"]),
        ("What do otters eat?", "Otters eat fish, crabs and frogs.", ["fish, crabs and frogs"]),
    ),
    "mrqa/news_qa": _mrqa(
        "NewsQA",
        ("Where did the ferry run aground?", "A ferry ran aground near Bergen.", ["near Bergen"]),
        ("How many were safe?", "All 90 passengers are safe, police said.", ["90"]),
        ("What closed the pass?", "Heavy snow closed the pass.", ["Heavy snow", "snow"]),
    ),
    "mrqa/trivia_qa": _mrqa(
        "TriviaQA-web",
        ("Which metal is liquid?", "[DOC] [TLE] Mercury [PAR] Mercury is liquid.", ["Mercury"]),
        ("What is the capital of Peru?", "[DOC] [PAR] Lima is Peru's capital.", ["Lima"]),
        ("Who wrote Emma?", "[DOC] [PAR] Emma is by Jane Austen.", ["Jane Austen", "Austen"]),
    ),
    "mrqa/search_qa": _mrqa(
        "SearchQA",
        ("This bird cannot fly", "[DOC] The penguin cannot fly, but swims.", ["penguin"]),
        ("It is the longest river", "[DOC] The Nile is the longest river.", ["Nile", "the Nile"]),
        ("He painted sunflowers", "[DOC] Vincent van Gogh painted them.", ["van Gogh"]),
    ),
    "mrqa/hotpot_qa": _mrqa(
        "HotpotQA",
        ("Are both rivers in Spain?", "yes no [DOC] The Ebro and the Tagus.", ["yes"]),
        ("Where was its maker born?", "yes no [DOC] Ida was born in Graz.", ["Graz"]),
        ("Which club is older?", "yes no [DOC] Ajax: 1900. [DOC] Feyenoord: 1908.", ["Ajax"]),
    ),
    "mrqa/natural_questions": _mrqa(
        "NaturalQuestionsShort",
        ("when did tea reach the island", "<P> Tea reached the island in 1750 . </P>", ["1750"]),
        ("who sang the anthem", "<P> It was sung by a choir . </P>", ["a choir"]),
        ("how tall is the tower", "<P> The tower is 90 m tall . </P>", ["90 m", "90"]),
    ),
    "mrqa/bio_asq": _mrqa(
        "BioASQ",
        ("Which gene is mutated?", "Mutations of CFTR cause the disease.", ["CFTR"]),
        ("What does insulin lower?", "Insulin lowers blood sugar.", ["blood sugar", "sugar"]),
        ("Which organ is affected?", "It affects the liver.", ["liver", "the liver"]),
        ("Which ion enters?", "Calcium enters the cell.", ["Calcium"]),
    ),
    "mrqa/drop": _mrqa(
        "DROP",
        ("Who scored first?", "Reed scored, then Cole scored.", ["Reed"]),
        ("How many yards was the kick?", "He kicked a 40-yard goal.", ["40"]),
        ("Which team won?", "The Bears won by three points.", ["Bears", "The Bears"]),
        ("In which quarter?", "It came in the third quarter.", ["third"]),
    ),
    "mrqa/duo_rc": _mrqa(
        "DuoRC.ParaphraseRC",
        ("Who hides the map?", "The captain hides the map in a drum.", ["The captain", "captain"]),
        ("Where is the map?", "The captain hides the map in a drum.", ["in a drum"]),
        ("Who finds it?", "In the end a boy finds it.", ["a boy"]),
        ("What sinks?", "The boat sinks in a storm.", ["The boat"]),
    ),
    "mrqa/race": _mrqa(
        "RACE",
        ("The writer went home because  _  .", "I was tired, so I went home.", ["I was tired"]),
        ("What did Li buy?", "Li bought a kite for his sister.", ["a kite"]),
        ("When did school end?", "School ended at four.", ["at four", "four"]),
        ("Who was late?", "Only the teacher was late.", ["the teacher"]),
    ),
    "mrqa/relation_extraction": _mrqa(
        "RelationExtraction",
        ("Where was Ida Berg born?", "Ida Berg was born in Graz.", ["Graz"]),
        ("Who directed the film?", "The film was directed by Per Dahl.", ["Per Dahl"]),
        ("What is Ann's job?", "Ann is a surgeon.", ["surgeon"]),
        ("What is it made of?", "The statue is made of bronze.", ["bronze"]),
    ),
    "mrqa/textbook_qa": _mrqa(
        "TextbookQA",
        ("What makes rust?", "Iron and oxygen make rust.", ["Iron and oxygen"]),
        ("What do plants give off?", "Plants give off oxygen.", ["oxygen"]),
        ("Which rock floats?", "Pumice is a rock that floats.", ["Pumice"]),
        ("What bends light?", "A lens bends light.", ["A lens", "lens"]),
    ),
    # Folders of JSON lines.
    "art": _rows(
        "observation_1 observation_2 hypothesis_1 hypothesis_2 label",
        (
            "Ann left her bag on the bus.",
            "She had her bag again.",
            "The driver kept it for her.",
            "She bought a new hat.",
            1,
        ),
        ("Tom planted a seed.", "A flower grew.", "He ate the seed.", "He watered it.", 2),
        ("The cat was hungry.", "The cat slept.", "It caught a mouse.", "It saw a dog.", 1),
        ("Eva studied hard.", "She smiled.", "She failed the test.", "She passed it.", 2),
        ("The car stopped.", "They walked home.", "It had no fuel.", "It was new.", 1),
    ),
    "sick": _rows(
        "premise hypothesis label",
        ("A dog is running.", "An animal is running.", 0),
        ("A man is cooking.", "A man is not cooking.", 2),
        ("Two girls play chess.", "Two girls are friends.", 1),
        ("A boy kicks a ball.", "A ball is kicked by a boy.", 0),
        ("A bird sings.", "A bird is old.", 1),
    ),
    "social_i_qa": _rows(
        "context question answerA answerB answerC label",
        (
            "Ann found a purse in the street.",
            "What will Ann do next?",
            "sleep",
            "look for its owner",
            "eat it",
            "2\n",
        ),
        ("Tom fed the cat.", "How does the cat feel?", "full", "hungry", "angry", "1\n"),
        ("Eva lost the race.", "How does Eva feel?", "proud", "glad", "sad", "3\n"),
        ("Ben lent Kim a pen.", "Why did Ben do this?", "to help", "to run", "to eat", "1\n"),
        ("Kim was late.", "What does Kim need to do?", "sing", "hurry", "swim", "2\n"),
    ),
    "commonsense_qa": _rows(
        "question A B C D E answerKey",
        ("Where do you keep milk?", "fridge", "garden", "roof", "sock", "street", "A"),
        ("What do you read?", "soup", "book", "chair", "rain", "shoe", "B"),
        ("Who treats the sick?", "baker", "pilot", "doctor", "judge", "tailor", "C"),
        ("What falls in winter?", "fire", "sand", "bread", "snow", "iron", "D"),
        ("What can fly?", "stone", "table", "whale", "brick", "owl", "E"),
    ),
    "xsum": _rows(
        "document summary",
        (
            "The council of Graz will plant 500 trees by May. Work starts on Monday.",
            "Graz is to plant 500 trees.",
        ),
        ("A fire damaged the old mill. No one was hurt.", "Fire has damaged an old mill."),
        ("The team from Oslo won 3-1. It is their fifth win.", "Oslo have won again."),
        ("The bank will close nine branches. Unions protest.", "A bank is to close branches."),
        ("A seal swam up the river. Crowds came to see it.", "A seal has visited a river."),
    ),
    "iwslt2017_ro_nl": _rows(
        "ro nl",
        ("Casa este mare.", "Het huis is groot."),
        ("Îmi place să citesc.", "Ik lees graag."),
        ("Trenul pleacă la ora nouă.", "De trein vertrekt om negen uur."),
        ("Unde este gara?", "Waar is het station?"),
        ("Vă mulțumesc foarte mult.", "Hartelijk bedankt."),
    ),
    "iwslt2017_en_nl": _rows(
        "en nl",
        ("The house is big.", "Het huis is groot."),
        ("I like to read.", "Ik lees graag."),
        ("The train leaves at nine.", "De trein vertrekt om negen uur."),
        ("Where is the station?", "Waar is het station?"),
        ("Thank you very much.", "Hartelijk bedankt."),
    ),
}
