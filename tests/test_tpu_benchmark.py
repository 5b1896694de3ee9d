from benchmarks import cycles, tpu

PROGRAM = """\
HloModule jit_step

%body (x: f32[]) -> f32[] {
  %dot = f32[] fusion(%x), metadata={op_name="_read/bhqk"}, backend_config={"estimated_cycles":"5"}
}

%condition (x: f32[]) -> pred[] {
  %limit = s32[]{:T(128)} constant(3)
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

ENTRY %main (x: f32[]) -> f32[] {
  %wi = f32[] fusion(%x), metadata={op_name="a/mlp/wi_0"}, backend_config={"estimated_cycles":"7"}
  %while = (f32[]) while(%wi), condition=%condition, body=%body
  %copy = f32[] copy(%x), backend_config={"estimated_cycles":"2"}
}
"""


def test_cycles_of_a_loop_count_as_often_as_it_runs():
    found = {part: x for part, x in cycles.count(PROGRAM).items() if x}
    assert found == {"attention core": 15, "feed-forward": 7, "other": 2}


def test_a_loop_whose_count_is_written_beside_it():
    known = PROGRAM.replace("body=%body", 'body=%body, b={"known_trip_count":{"n":"4"}}')
    assert cycles.count(known)["attention core"] == 20


def test_choices_are_read_from_a_flag():
    assert tpu.read_choices("").dropout == "positions"
    found = tpu.read_choices("dropout=broadcast,attention_heads=4")
    assert (found.dropout, found.attention_heads) == ("broadcast", 4)
