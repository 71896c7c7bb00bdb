"""``codesign.trace_gaps``: models that transformers refuses to build, for reasons that a trace does not share."""

from __future__ import annotations

import pytest

from codesign.trace import trace
from codesign.trace_config import build_on_meta, config_from_dict
from codesign.trace_gaps import AbsentTower, buildable
from codesign.trace_inputs import model_inputs
from hwmodel.workload import LayerKind, Phase

transformers = pytest.importorskip("transformers", reason="transformers is an optional dependency")

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 2, "head_dim": 16, "vocab_size": 64}
GEMMA_3N = {
    "model_type": "gemma3n",
    "architectures": ["Gemma3nForConditionalGeneration"],
    "text_config": {
        **{"model_type": "gemma3n_text", **SIZES, "vocab_size_per_layer_input": 64, "hidden_size_per_layer_input": 8},
        **{"num_kv_shared_layers": 1, "laurel_rank": 8, "sliding_window": 64, "activation_sparsity_pattern": [0.0] * 4},
        **{"layer_types": ["sliding_attention", "full_attention"] * 2},
    },
    "audio_config": {"model_type": "gemma3n_audio", "hidden_size": 32, "conf_num_hidden_layers": 1}
    | {"conf_num_attention_heads": 4, "vocab_size": 8},
}


def assistant(kind: str, **more: object) -> dict[str, object]:
    """An assistant that drafts tokens for a Gemma 4 of width 48: layers 0 to 2 have windows, layer 3 has none."""
    text = {"model_type": f"{kind}_text", **SIZES, "global_head_dim": 32}
    text |= {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
    sizes = {"backbone_hidden_size": 48, "num_centroids": 8, "centroid_intermediate_top_k": 2}
    return {"model_type": f"{kind}_assistant", "text_config": text, **sizes, **more}


class TestAbsentTower:
    @pytest.fixture(autouse=True)
    def without_timm(self, monkeypatch):
        """Machines with timm build the tower; here it is as if there were none."""
        from transformers.utils import import_utils

        if not import_utils.is_timm_available():
            return
        monkeypatch.setitem(import_utils.BACKENDS_MAPPING, "timm", (lambda: False, "timm must be installed"))

    def test_language_model_is_traced_without_its_vision_tower(self, real_model, counted_macs):
        config = config_from_dict(GEMMA_3N)
        workload = trace(config, batch=2, context=12)
        inputs = model_inputs(build_on_meta(config), 2, 12)
        assert workload.macs == counted_macs(real_model(config), inputs)
        language = {
            name: p.numel()
            for name, p in build_on_meta(config).named_parameters()
            if p.dim() >= 2 and "language_model" in name
        }
        assert sum(s.weights for s in workload.layers if "language_model" in s.name) == sum(language.values())

    def test_both_phases_have_the_same_layers(self):
        config = config_from_dict(GEMMA_3N)
        names = [[s.name for s in trace(config, phase=phase, context=12).layers] for phase in Phase]
        assert names[0] == names[1]

    def test_a_tower_that_is_used_says_what_is_missing(self):
        tower = AbsentTower(None, "the package colours must be installed")
        with pytest.raises(ImportError, match="the package colours must be installed"):
            tower(None)

    def test_automatic_classes_are_as_they_were(self):
        before = transformers.AutoModel.from_config
        build_on_meta(config_from_dict(GEMMA_3N))
        assert transformers.AutoModel.from_config == before
        assert "from_config" not in vars(transformers.AutoModel)


class TestAssistants:
    @pytest.mark.parametrize("kind", ["gemma4", "gemma4_unified"])
    @pytest.mark.parametrize("ordered", [False, True], ids=["whole head", "head of chosen clusters"])
    def test_macs_are_those_that_torch_counts(self, kind, ordered, real_model, counted_macs):
        config = config_from_dict(assistant(kind, use_ordered_embeddings=ordered))
        inputs = model_inputs(build_on_meta(config), 2, 12)
        for phase in Phase:
            workload = trace(config, phase=phase, batch=2, context=12)
            assert workload.macs == counted_macs(real_model(config), inputs)
            assert sum(s.head for s in workload.layers) == 1

    @pytest.mark.parametrize("phase", list(Phase))
    def test_one_token_sees_the_keys_of_the_other_model(self, phase):
        workload = trace(config_from_dict(assistant("gemma4")), phase=phase, batch=2, context=12)
        scores = [(s.m, s.k, s.n, s.copies, s.causal) for s in workload.select([LayerKind.ATTENTION_QK]).layers]
        # four heads share two keys; the last layer's heads are twice as wide
        assert scores == [*[(2, 16, 12, 4, False)] * 3, (2, 32, 12, 4, False)]

    def test_chosen_clusters_are_read_and_all_are_stored(self):
        config = config_from_dict(assistant("gemma4", use_ordered_embeddings=True))
        (head,) = (s for s in trace(config, phase=Phase.DECODE, context=12).layers if s.head)
        # two of eight clusters, of 64 / 8 words each
        assert (head.m, head.k, head.n, head.copies) == (1, 64, 2 * 8, 1)
        assert head.weights == 64 * 64

    def test_the_rule_of_reuse_is_as_it_was(self):
        kind = transformers.Gemma4TextConfig
        before = vars(kind)["kv_sharing_modes"]
        with buildable(config_from_dict(assistant("gemma4"))):
            assert vars(kind)["kv_sharing_modes"] is not before
        assert vars(kind)["kv_sharing_modes"] is before
