import dataclasses
import json

import pytest

from hyperdecoders_jax.analysis import conditions
from hyperdecoders_jax.modeling import adapter_sources, config, source_registry
from hyperdecoders_jax.weights import original
from tests import tiny
from tests.modeling import own_source


@pytest.fixture
def register(monkeypatch):
    """`adapter_sources.register` for one test."""
    monkeypatch.setattr(adapter_sources, "SOURCES", dict(adapter_sources.SOURCES))
    monkeypatch.setattr(source_registry, "_TRAITS", dict(source_registry._TRAITS))
    return adapter_sources.register


def make_source(name="Own", base=adapter_sources.Manual, module=__name__, **declared):
    return type(name, (base,), {"__module__": module, **declared})


def test_what_the_package_declares_is_what_its_classes_do():
    assert tuple(adapter_sources.SOURCES)[: len(config.SOURCES)] == config.SOURCES
    for name in config.SOURCES[1:]:
        source = adapter_sources.SOURCES[name]
        assert source_registry.traits_of(name) == source_registry.Traits(source.reads_tasks)


def test_options_have_their_defaults_and_round_trip():
    mixed = config.AdapterConfig("mixed")
    assert mixed.options == own_source.MixedOptions(4)
    mixed = dataclasses.replace(mixed, options=own_source.MixedOptions(3))
    tiny_config = tiny.make_config("none", decoder_adapter=mixed)
    fields = json.loads(json.dumps(config.to_dict(tiny_config)))
    assert fields["decoder_adapter"]["options"] == {"num_sets": 3}
    assert "options" not in fields["encoder_adapter"]
    assert config.from_dict(fields) == tiny_config
    fields["decoder_adapter"]["options"]["sets"] = 3
    with pytest.raises(ValueError, match=r"fields of a MixedOptions .*unknown: \['sets'\]"):
        config.from_dict(fields)


def test_tuples_of_options_come_back_as_tuples(register):
    @dataclasses.dataclass(frozen=True)
    class Options:
        sizes: tuple = ((1, 2), (3,))

    register("own")(make_source(options_class=Options))
    own = tiny.make_config("none", decoder_adapter=config.AdapterConfig("own"))
    assert config.from_dict(json.loads(json.dumps(config.to_dict(own)))) == own
    for unplain in ([1], {1}):
        with pytest.raises(TypeError, match=r"must hold numbers, .*Convert lists to tuples"):
            config.AdapterConfig("own", options=Options(unplain))


def test_options_of_another_source_are_refused():
    with pytest.raises(TypeError, match=r"must be None for the source 'manual'; got MixedOptions"):
        config.AdapterConfig("manual", options=own_source.MixedOptions())
    with pytest.raises(TypeError, match=r"must be a MixedOptions for the source 'mixed'; got 3"):
        config.AdapterConfig("mixed", options=3)


def test_a_source_that_reads_tasks_says_so(register):
    own = make_source(base=adapter_sources.ManualSpecific)
    register("own")(own)
    assert tiny.make_config("own", "none").reads_tasks
    assert not tiny.make_config("mixed", "none").reads_tasks


def test_what_describes_a_model_of_no_registered_source_says_what_to_import():
    fields = config.to_dict(tiny.make_config("none", "manual"))
    fields["decoder_adapter"] |= {"source": "theirs", "options": {"gain": 2}}
    with pytest.raises(ValueError, match=r"got 'theirs'\. .*is imported: .*--module=NAME"):
        config.from_dict(fields)


def test_what_knows_the_packages_sources_alone_says_so():
    mixed = tiny.make_config("none", "mixed")
    with pytest.raises(ValueError, match=r"Analyses know .* got decoder_adapter\.source = 'mixed'"):
        conditions.readers(mixed)
    with pytest.raises(ValueError, match=r"The original has .* got decoder_adapter\.source = 'mix"):
        original.state_names(mixed)


@pytest.mark.torch
def test_the_pytorch_class_has_the_packages_sources_alone():
    pytest.importorskip("torch")
    from hyperdecoders_jax.hub import torch_adapters

    with pytest.raises(ValueError, match=r"source 'mixed', which is registered for JAX alone"):
        torch_adapters.make(tiny.make_config("none", "mixed"), "decoder")


def test_a_name_has_one_class(register):
    register("own")(make_source())
    register("own")(make_source())  # as after importlib.reload
    with pytest.raises(ValueError, match=r"must be free; 'own' is .*\.Own, and elsewhere\.Own"):
        register("own")(make_source(module="elsewhere"))
    with pytest.raises(ValueError, match=r"must be free; 'task' is .*adapter_sources\.Task"):
        register("task")(make_source())
    for name in ("none", "Own", "my-own", ""):
        with pytest.raises(ValueError, match=r"must be a lower-case identifier other than none"):
            register(name)(make_source())


def test_a_source_is_a_class_with_frozen_options(register):
    with pytest.raises(TypeError, match=r"a class derived from AdapterSource; got <class 'int'>"):
        register("own")(int)
    options = dataclasses.make_dataclass("Options", ["size"])
    with pytest.raises(TypeError, match=r"must be a frozen dataclass; 'own' has .*Options"):
        register("own")(make_source(options_class=options))
