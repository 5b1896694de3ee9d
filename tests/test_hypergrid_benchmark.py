from benchmarks import hypergrid


def test_a_case_is_a_row_of_ratios_to_the_plain_product():
    case = hypergrid.Case("wo", 3, 8, (8, 12), (4, 3))
    [row] = hypergrid.timed_rows([case], ("forward",), num_rounds=1)
    name, gated, _, per_example, _ = row
    assert name == "wo [3, 8] x 8 x 12, grid (4, 3)"
    assert float(gated) > 0
    assert float(per_example) > 0
