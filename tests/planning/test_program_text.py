import pytest

from hyperdecoders_jax.planning import program_text
from hyperdecoders_jax.planning.program_text import Collective

PROGRAM = """\
HloModule jit_step

%body (x: f32[]) -> f32[] {
  %dot = f32[] fusion(%x), metadata={op_name="_read/bhqk"}, backend_config={"estimated_cycles":"5"}
  %sum = bf16[3,5]{1,0} all-reduce(%dot), channel_id=1, replica_groups=[2,4]<=[8], to_apply=%add
}

%condition (x: f32[]) -> pred[] {
  %limit = s32[]{:T(128)} constant(3)
  ROOT %lt = pred[] compare(%i, %limit), direction=LT
}

%started (x: f32[2]) -> f32[4] {
  ROOT %all = f32[4]{0:T(8,128)S(1)} all-gather(%x), channel_id=2, replica_groups={{0,1},{2,3}}
}

%waited (x: f32[2]) -> f32[4] {
  ROOT %all.1 = f32[4]{0} all-gather(%x), channel_id=2, replica_groups={{0,1},{2,3}}
}

ENTRY %main (x: f32[]) -> f32[] {
  %wi = f32[] fusion(%x), metadata={op_name="a/mlp/wi_0"}, backend_config={"estimated_cycles":"7"}
  %start = (f32[2], f32[4], u32[]) fusion(%wi), kind=kCustom, calls=%started
  %done = f32[4] fusion(%start), kind=kCustom, calls=%waited
  %while = (f32[]) while(%wi), condition=%condition, body=%body
  %sent = (f32[6]{0}, f32[6]{0}, u32[]) collective-permute-start(%x), channel_id=4, pairs={{0,1}}
  %sent.1 = f32[6]{0} collective-permute-done(%sent)
  %turned = f32[8]{0} all-to-all(%x), channel_id=5, replica_groups=mesh['a'=2,'b'=4] {'b'}
  %copy = f32[] copy(%x), backend_config={"estimated_cycles":"2"}
}
"""


def test_cycles_of_a_loop_count_as_often_as_it_runs():
    found = {part: x for part, x in program_text.count_cycles(PROGRAM).items() if x}
    assert found == {"attention core": 15, "feed-forward": 7, "other": 2}


def test_a_loop_whose_count_is_written_beside_it():
    known = PROGRAM.replace("body=%body", 'body=%body, b={"known_trip_count":{"n":"4"}}')
    assert program_text.count_cycles(known)["attention core"] == 20


FUSED = """\
%fused (y: s32[]) -> pred[] {
  %limit = s32[]{:T(128)} constant(6)
  %scale = f32[]{:T(128)} constant(2)
  ROOT %lt = pred[] compare(%y, %limit), direction=LT
}

%condition (x: f32[]) -> pred[] {
  %true = pred[]{:T(512)} constant(true)
  ROOT %less = pred[]{:T(512)} fusion(%i), kind=kLoop, calls=%fused
}
"""


def with_condition(text):
    start, end = PROGRAM.index("%condition"), PROGRAM.index("%started")
    return f"{PROGRAM[:start]}{text}\n{PROGRAM[end:]}"


def test_a_loop_whose_condition_is_fused():
    assert program_text.count_cycles(with_condition(FUSED))["attention core"] == 30


@pytest.mark.parametrize(
    ("condition", "count"),
    [
        (FUSED.replace("constant(6)", "parameter(1)"), 0),
        (FUSED.replace("constant(true)", "and()\n  %other = s32[] constant(8)"), 2),
    ],
)
def test_a_loop_whose_count_is_unknown_is_told(condition, count):
    message = rf"must say how often it runs; got %while, .* condition compares with {count} whole"
    with pytest.raises(ValueError, match=message):
        program_text.count_cycles(with_condition(condition))


CHOICE = """\
%cheap (x: f32[4]) -> f32[4] {
  %sin = f32[4] fusion(%x), backend_config={"estimated_cycles":"3"}
}

%dear (x: f32[4]) -> f32[4] {
  %dot = f32[4] fusion(%x), metadata={op_name="logits"}, backend_config={"estimated_cycles":"8"}
  %all = f32[4]{0} all-reduce(%dot), channel_id=1, replica_groups=[1,2]<=[2], to_apply=%add
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %if = (f32[4]{0}) conditional(%i, %x, %x), branch_computations={%cheap, %dear}
}
"""
TWO = "true_computation=%dear, false_computation=%cheap"


@pytest.mark.parametrize("branches", ["branch_computations={%cheap, %dear}", TWO])
def test_of_branches_the_costliest_counts(branches):
    text = CHOICE.replace("branch_computations={%cheap, %dear}", branches)
    assert {x for x in program_text.count_cycles(text).items() if x[1]} == {("logits", 8)}
    assert program_text.count_collectives(text) == {"all-reduce": Collective(1, 16)}


def test_branches_whose_cycles_are_written_beside_the_choice_count_once():
    text = CHOICE.replace("%dear}", '%dear}, backend_config={"estimated_cycles":"9"}')
    assert sum(program_text.count_cycles(text).values()) == 9
    assert program_text.count_collectives(text) == {"all-reduce": Collective(1, 16)}


def test_loops_repeat_what_is_written():
    assert program_text.repetition(PROGRAM) == 24 / 14
    assert program_text.repetition("") == 1.0


def test_collectives_by_kind():
    assert program_text.count_collectives(PROGRAM) == {
        # Of what started and is waited for, each fusion of the same channel is the same one.
        "all-gather": Collective(1, 16 / 2),
        # In a loop of 3, among 4 chips: each sends its 30 bytes but a quarter, twice.
        "all-reduce": Collective(3, 3 * 2 * 30 * 3 / 4),
        "all-to-all": Collective(1, 32 * 3 / 4),
        "collective-permute": Collective(1, 24),
    }


def one_collective(line):
    text = f"HloModule step, num_partitions=4\nENTRY %main (x: f32[]) -> f32[] {{\n  {line}\n}}"
    [collective] = program_text.count_collectives(text).values()
    return collective.num_bytes


@pytest.mark.parametrize(
    ("result", "num_bytes"), [("(f32[6], bf16[5])", 17), ("pred[8]", 4), ("f32[]", 2)]
)
def test_bytes_of_several_results_and_types(result, num_bytes):
    line = f"%x = {result} all-gather(%a, %b), channel_id=1, replica_groups=[1,2]<=[2]"
    assert one_collective(line) == num_bytes


@pytest.mark.parametrize(
    ("result", "operation", "num_bytes"),
    [
        ("(f32[6], bf16[4])", "all-reduce-start", 2 * 32 / 2),
        ("((f32[3], bf16[2]), (f32[6], bf16[4]))", "all-gather-start", 32 / 2),
        ("((f32[6]), f32[3], u32[])", "reduce-scatter-start", 12),
        ("(f32[6], f32[6], u32[], u32[])", "all-to-all-start", 24 / 2),
    ],
)
def test_what_starts_and_is_waited_for_counts_its_results(result, operation, num_bytes):
    assert one_collective(f"%x = {result} {operation}(%a), replica_groups=[2,2]<=[4]") == num_bytes


def test_no_groups_are_all_chips():
    assert one_collective("%x = f32[8] all-reduce(%a), replica_groups={}, to_apply=%add") == 48
