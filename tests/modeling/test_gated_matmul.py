import functools
import os
import re
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperdecoders_jax.modeling import gated_matmul
from tests import warm_python


@jax.custom_vjp
def at_once(x, kernel, gates):
    """What runs on TPUs."""
    return gated_matmul.rows_at_once(x, kernel, gates)


at_once.defvjp(
    lambda *args: (at_once(*args), args),
    lambda args, dy: gated_matmul.gradients_at_once(dy, *args),
)
# One program each, where op by op would be many.
FORMS = {
    "rows at once": jax.jit(gated_matmul.rows_at_once),
    "at once": jax.jit(at_once),
    "rows": jax.jit(lambda *args: gated_matmul.gated_matmul(*args, "rows")),
    "cols": jax.jit(lambda *args: gated_matmul.gated_matmul(*args, "cols")),
}


def reference(x, kernel, gates):
    """Slow and obvious: a kernel for each example."""
    gates = jnp.repeat(gates, kernel.shape[0] // gates.shape[1], axis=1)
    gates = jnp.repeat(gates, kernel.shape[1] // gates.shape[2], axis=2)
    return jnp.stack([x[b] @ (kernel * gates[b]) for b in range(len(x))])


def draw(batch, length, fans, grid, dtype=jnp.float32, seed=0):
    """Random states, kernel and gates."""
    rng = np.random.default_rng(seed)
    shapes = (batch, length, fans[0]), fans, (batch, *grid)
    return tuple(jnp.asarray(rng.normal(size=shape), dtype) for shape in shapes)


@functools.partial(jax.jit, static_argnums=(0, 2))
def step(product, args, argnums=(0, 1, 2)):
    """The product, and gradients of a sum that weighs each of its elements differently."""

    def loss(*args):
        y = product(*args).astype(jnp.float32)
        return jnp.sum(jnp.sin(jnp.arange(y.size)).reshape(y.shape) * y)

    return product(*args), *jax.grad(loss, argnums)(*args)


def assert_near(found, expected, relative):
    """Equal within a part of the largest element."""
    for a, b in zip(found, expected, strict=True):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        np.testing.assert_allclose(a, b, rtol=0, atol=relative * np.abs(b).max())


@settings(deadline=None, max_examples=6)
@given(
    form=st.sampled_from(sorted(FORMS)),
    batch=st.integers(1, 3),
    length=st.sampled_from([1, 4, 7]),
    grid=st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 3, 6])),
    block=st.tuples(st.integers(1, 3), st.integers(1, 2)),
    seed=st.integers(0, 99),
)
def test_every_form_is_a_product_with_a_kernel_for_each_example(
    form, batch, length, grid, block, seed
):
    fans = (grid[0] * block[0], grid[1] * block[1])
    args = draw(batch, length, fans, grid, seed=seed)
    found, expected = step(FORMS[form], args), step(reference, args)
    assert_near(found[:1], expected[:1], relative=1e-5)
    assert_near(found[1:], expected[1:], relative=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_works_in_bfloat16_as_well_as_a_plain_product(form):
    x, kernel, gates = draw(3, 5, (64, 48), (8, 6), jnp.bfloat16)
    exact = step(reference, [a.astype(jnp.float32) for a in (x, kernel, gates)])
    found = step(FORMS[form], (x, kernel, gates))
    assert [a.dtype for a in found] == [jnp.bfloat16] * 4
    # Four roundings of 2^-9 each: the cotangent, gates times states or products, a block, the sum.
    assert_near(found, exact, relative=4 * 2.0**-9)


@pytest.mark.parametrize("blocked_axis", ["rows", "cols"])
@pytest.mark.parametrize("grid", [(1, 1), (4, 1), (1, 3)])
def test_one_sided_gates_scale_states_or_products(grid, blocked_axis):
    args = draw(3, 5, (8, 12), grid)
    found = step(FORMS[blocked_axis], args)
    assert_near(found, step(reference, args), relative=1e-5)
    text = jax.jit(FORMS[blocked_axis]).lower(*args).as_text()
    assert text.count("dot_general") == 1


@pytest.mark.parametrize("blocked_axis", ["rows", "cols"])
def test_gates_of_all_examples_are_folded_into_the_kernel(blocked_axis):
    x, kernel, gates = draw(3, 5, (8, 12), (4, 3))
    y = gated_matmul.gated_matmul(x, kernel, gates[0], blocked_axis)
    np.testing.assert_array_equal(y, x @ gated_matmul.fold(kernel, gates[0]))
    expected = reference(x, kernel, jnp.broadcast_to(gates[0], gates.shape))
    np.testing.assert_allclose(y, expected, atol=1e-5)


@pytest.mark.parametrize("groups", [[2, 2, 2], [0, 2, 0]])
@pytest.mark.parametrize("blocked_axis", ["rows", "cols"])
def test_examples_may_share_the_gates_of_a_group(blocked_axis, groups):
    """As those of a task do: whatever the batch holds, the group's gates get the same gradient."""
    x, kernel, gates = draw(3, 5, (8, 12), (4, 3))
    groups = jnp.array(groups)

    def grouped(x, kernel, gates):
        return gated_matmul.gated_matmul(x, kernel, gates[groups], blocked_axis, groups)

    found = step(grouped, (x, kernel, gates))
    expected = step(
        lambda x, kernel, gates: reference(x, kernel, gates[groups]), (x, kernel, gates)
    )
    assert_near(found[:1], expected[:1], relative=1e-5)
    assert_near(found[1:], expected[1:], relative=1e-4)


def test_a_batch_of_one_group_is_a_plain_product():
    """Bit for bit, so that a group's gates of one are none."""
    x, kernel, _ = draw(3, 5, (8, 12), (4, 3))
    gates, group = jnp.ones((3, 4, 3)), jnp.full(3, 2)
    y = gated_matmul.gated_matmul(x, kernel, gates, "rows", group)
    np.testing.assert_array_equal(y, jnp.dot(x.reshape(15, 8), kernel).reshape(3, 5, 12))


def test_folding_one_examples_gates_gives_its_product():
    x, kernel, gates = draw(3, 5, (8, 12), (4, 3))
    y = gated_matmul.gated_matmul(x, kernel, gates, "rows")
    np.testing.assert_allclose(y[1], x[1] @ gated_matmul.fold(kernel, gates[1]), atol=1e-5)


def test_folding_keeps_the_kernels_type():
    kernel = jnp.ones((4, 6), jnp.bfloat16)
    assert gated_matmul.fold(kernel, jnp.ones((2, 3), jnp.float32)).dtype == jnp.bfloat16


@pytest.mark.parametrize("form", FORMS)
def test_gates_of_one_change_nothing(form):
    x, kernel, gates = draw(3, 5, (8, 12), (4, 3))
    y = FORMS[form](x, kernel, jnp.ones_like(gates))
    np.testing.assert_allclose(y, x @ kernel, atol=1e-5)


def test_forward_mode_is_refused():
    args = draw(3, 5, (8, 12), (4, 3))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(FORMS["rows"], args, args)


def lower_step(product, sizes, argnums=(0, 1, 2)):
    return jax.jit(lambda *args: step(product, args, argnums)).lower(*draw(*sizes))


@pytest.mark.parametrize("form", FORMS)
def test_a_frozen_kernel_has_no_product_in_the_gradient(form):
    num_products = [
        lower_step(FORMS[form], (3, 5, (8, 12), (4, 3)), argnums).compile().as_text().count(" dot(")
        for argnums in ((0, 1, 2), (0, 2))
    ]
    assert num_products[0] - num_products[1] == 1


@pytest.mark.parametrize("blocked_axis", ["rows", "cols"])
def test_no_kernel_is_made_for_each_example(blocked_axis):
    batch, length, fans = 24, 2, (256, 192)
    compiled = lower_step(FORMS[blocked_axis], (batch, length, fans, (16, 16))).compile()
    bytes_of_kernels = 4 * batch * fans[0] * fans[1]
    assert compiled.memory_analysis().temp_size_in_bytes < 0.4 * bytes_of_kernels


@pytest.mark.parametrize("blocked_axis", ["rows", "cols"])
def test_a_decoding_step_goes_over_all_blocks_at_once(blocked_axis):
    short = draw(3, 1, (64, 64), (4, 4))
    long = draw(3, 32, (64, 64), (4, 4))
    lower = jax.jit(FORMS[blocked_axis]).lower
    assert "while" not in lower(*short).as_text()
    assert "while" in lower(*long).as_text()


@pytest.mark.parametrize("blocked_axis", ["rows", "cols"])
def test_programs_for_tpus_go_over_all_blocks_at_once(blocked_axis):
    traced = jax.jit(lambda *args: step(FORMS[blocked_axis], args)).trace(
        *draw(3, 32, (64, 64), (4, 4))
    )
    assert "while" not in traced.lower(lowering_platforms=("tpu",)).as_text()


def test_a_grid_that_does_not_divide_the_kernel_is_refused():
    x, kernel, gates = draw(3, 5, (8, 12), (3, 6))
    message = "The rows of a grid .* divide the kernel's fan_in; got 3 rows and a kernel of 8 by 12"
    with pytest.raises(ValueError, match=message):
        gated_matmul.gated_matmul(x, kernel, gates, "rows")
    with pytest.raises(ValueError, match=message):
        gated_matmul.fold(kernel, gates[0])
    with pytest.raises(ValueError, match=re.escape("Use one of [1, 2, 3, 4, 6, 12].")):
        gated_matmul.gated_matmul(x, kernel, jnp.ones((3, 2, 5)), "cols")


SHARDED_STEP = r"""
import math, re, jax, jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from hyperdecoders_jax.modeling import gated_matmul

mesh = Mesh(jax.devices(), "model")

def shape(size, *axes):
    return jax.ShapeDtypeStruct(size, "float32", sharding=NamedSharding(mesh, P(*axes)))

def on_tpus(axis, dy, *args):
    return gated_matmul.rows_at_once(*args), *gated_matmul.gradients_at_once(dy, *args)

def here(axis, dy, *args):
    y, vjp = jax.vjp(lambda *args: gated_matmul.gated_matmul(*args, axis), *args)
    return y, *vjp(dy)

for blocked, fans, axes in (
    ("rows", (64, 24), ("model", None)), ("cols", (24, 64), (None, "model"))  # wo, wi
):
    states, dy = (shape((3, 5, n), None, None, axis) for n, axis in zip(fans, axes))
    args = (dy, states, shape(fans, *axes), shape((3, 8, 8)))
    for step in (on_tpus, here):
        where = tuple(a.sharding for a in args)
        step = jax.jit(step, static_argnums=0, out_shardings=where)
        compiled = step.lower(blocked, *args).compile()
        moved = re.findall(
            r"= f32\[([\d,]+)\]\S* (?:all-gather|all-to-all|collective-permute)", compiled.as_text()
        )
        print(max((math.prod(map(int, size.split(","))) for size in moved), default=0))
"""


def test_a_kernel_that_is_cut_over_devices_is_not_gathered():
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    environment = {**os.environ, "XLA_FLAGS": flags}
    command = [*warm_python.COMMAND, "-c", SHARDED_STEP]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    # Nothing but the gradient of the gates, [3, 8, 8].
    assert [int(moved) <= 3 * 8 * 8 for moved in done.stdout.split()] == [True] * 4, done.stdout
