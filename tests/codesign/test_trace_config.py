"""``codesign.trace_config``: what a config.json must say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from codesign.trace import trace, workload_from_config
from codesign.trace_config import config_from_dict

pytest.importorskip("transformers", reason="transformers is an optional dependency")


class TestConfigFile:
    def write(self, folder: Path, data: object) -> Path:
        file = folder / "config.json"
        file.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
        return file

    def test_folder_and_file_are_the_same(self, tmp_path, small_llama):
        folder = tmp_path / "small-llama"
        folder.mkdir()
        file = self.write(folder, small_llama)
        workload = workload_from_config(folder)
        assert workload.model == "small-llama"
        assert workload.layers == workload_from_config(file).layers

    def test_quantization_settings_are_dropped(self, tmp_path, small_llama):
        file = self.write(tmp_path, {**small_llama, "quantization_config": {"quant_method": "fp8"}})
        assert workload_from_config(file).weights == trace(config_from_dict(small_llama)).weights

    def test_missing_file(self, tmp_path):
        with pytest.raises(ValueError, match=r"config must be a readable file, not .*config\.json"):
            workload_from_config(tmp_path)

    def test_not_json(self, tmp_path):
        with pytest.raises(ValueError, match=r"config .*config\.json must be JSON, not"):
            workload_from_config(self.write(tmp_path, '{"model_type": '))

    def test_not_an_object(self, tmp_path):
        with pytest.raises(ValueError, match=r"config\.json must be a JSON object, not list"):
            workload_from_config(self.write(tmp_path, [1]))

    def test_no_model_type(self, tmp_path):
        with pytest.raises(ValueError, match=r"config\.json must have the key model_type, not only hidden_size"):
            workload_from_config(self.write(tmp_path, {"hidden_size": 4}))

    def test_unknown_model_type(self, tmp_path):
        with pytest.raises(ValueError, match=r"model_type in .*config\.json must be one .*, not 'llamma'"):
            workload_from_config(self.write(tmp_path, {"model_type": "llamma"}))

    @pytest.mark.parametrize("key", ["hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"])
    def test_missing_key(self, tmp_path, key, small_llama):
        data = {k: v for k, v in small_llama.items() if k != key}
        with pytest.raises(ValueError, match=rf"config\.json of a llama model must have the key {key}"):
            workload_from_config(self.write(tmp_path, data))

    def test_missing_key_under_its_own_name(self, tmp_path):
        data = {"model_type": "gpt2", "n_layer": 2, "n_head": 4, "vocab_size": 50}
        with pytest.raises(ValueError, match=r"of a gpt2 model must have the key n_embd"):
            workload_from_config(self.write(tmp_path, data))

    def test_value_that_does_not_fit(self, tmp_path, small_llama):
        data = {**small_llama, "num_attention_heads": 0}
        with pytest.raises(ValueError, match=r"llama"):
            workload_from_config(self.write(tmp_path, data))
