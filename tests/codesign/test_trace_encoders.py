"""Encoders, convolutional nets and encoder-decoders from a config.json: multiply-accumulates as torch counts them."""

from __future__ import annotations

import networkx as nx
import pytest

from codesign.trace import trace
from codesign.trace_config import build_on_meta, config_from_dict
from codesign.trace_inputs import model_inputs
from hwmodel.workload import LayerKind, Phase

pytest.importorskip("transformers", reason="transformers is an optional dependency")

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT, IMAGE = {**SIZES, "vocab_size": 50}, {**SIZES, "image_size": 32, "patch_size": 8}
AUDIO = {**SIZES, "vocab_size": 32, "conv_dim": [16, 16], "conv_kernel": [10, 3], "conv_stride": [5, 2]}
AUDIO |= {"num_feat_extract_layers": 2, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
STAGES = {"depths": [1, 1], "hidden_sizes": [16, 32]}
SPECIAL = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
WHISPER = {
    **{"d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 50, "encoder_attention_heads": 4},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "num_mel_bins": 8},
    **{"max_source_positions": 30, "num_hidden_layers": 1, **SPECIAL},
}
BART = {
    **{"d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "vocab_size": 50},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "num_hidden_layers": 2, **SPECIAL},
}
T5 = {"d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 4, "d_kv": 16, "vocab_size": 50}
# class: config.json without model_type and architectures
ENCODERS = {
    "BertForMaskedLM": ("bert", TEXT),
    "BertForSequenceClassification": ("bert", TEXT),
    "RobertaForMaskedLM": ("roberta", TEXT),
    "ModernBertForMaskedLM": ("modernbert", {**TEXT, **SPECIAL, "cls_token_id": 3, "sep_token_id": 4}),
    "DebertaV2Model": ("deberta-v2", TEXT),
    "AlbertModel": ("albert", {**TEXT, "embedding_size": 32}),
    "ViTForImageClassification": ("vit", IMAGE),
    "DeiTForImageClassification": ("deit", IMAGE),
    "SwinModel": (
        "swin",
        {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4], "image_size": 32, "patch_size": 2, "window_size": 4},
    ),
    "CLIPVisionModel": ("clip_vision_model", IMAGE),
    "CLIPModel": ("clip", {"text_config": TEXT, "vision_config": IMAGE, "projection_dim": 32}),
    "WhisperForAudioClassification": ("whisper", WHISPER),
    "Wav2Vec2ForCTC": ("wav2vec2", AUDIO),
    "HubertModel": ("hubert", AUDIO),
    "ASTModel": ("audio-spectrogram-transformer", {**SIZES, "max_length": 64, "num_mel_bins": 32}),
}
CONVOLUTIONS = {
    "ResNetForImageClassification": ("resnet", {**STAGES, "embedding_size": 8, "layer_type": "bottleneck"}),
    "ConvNextForImageClassification": ("convnext", {**STAGES, "num_stages": 2, "image_size": 32}),
    "EfficientNetForImageClassification": (
        "efficientnet",
        {"image_size": 64, "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320},
    ),
    "MobileNetV1ForImageClassification": ("mobilenet_v1", {"image_size": 64, "depth_multiplier": 0.25}),
    "MobileNetV2ForImageClassification": ("mobilenet_v2", {"image_size": 64, "depth_multiplier": 0.25}),
    "RegNetModel": ("regnet", {"depths": [1, 1], "hidden_sizes": [16, 32], "embedding_size": 8, "groups_width": 8}),
}
ENCODER_DECODERS = {
    "T5ForConditionalGeneration": ("t5", T5),
    "BartForConditionalGeneration": ("bart", BART),
    "WhisperForConditionalGeneration": ("whisper", WHISPER),
}
MODELS = ENCODERS | CONVOLUTIONS | ENCODER_DECODERS


def config_of(name: str):
    model_type, sizes = MODELS[name]
    return config_from_dict({"model_type": model_type, "architectures": [name], **sizes})


class TestMacs:
    @pytest.mark.parametrize("name", MODELS)
    def test_macs_are_those_that_torch_counts(self, name, real_model, counted_macs):
        config = config_of(name)
        inputs = model_inputs(build_on_meta(config), 2, 16)
        workload = trace(config, batch=2, context=16)
        assert workload.macs == counted_macs(real_model(config), inputs)
        assert nx.is_directed_acyclic_graph(workload.graph())

    @pytest.mark.parametrize("name", [*ENCODERS, *CONVOLUTIONS])
    def test_every_matrix_is_a_layer(self, name):
        config = config_of(name)
        # what a product never sees: positions, class tokens and relative biases are added, weight norms are scales,
        # mask embeddings are for training
        added = ("position_embeddings", "position_embedding", "relative_position", "cls_token", "distillation_token")
        added += ("parametrizations.weight.original0", "pos_conv_embed", "masked_spec_embed")
        matrices = {
            key: p.numel()
            for key, p in build_on_meta(config).named_parameters()
            if p.dim() >= 2 and not any(word in key for word in added)
        }
        traced = {layer.name: layer.weights for layer in trace(config, context=16).layers if layer.weights}
        assert sum(weights for key, weights in traced.items() if not any(word in key for word in added)) == sum(
            matrices.values()
        )

    @pytest.mark.parametrize("name", ENCODER_DECODERS)
    def test_decode_runs_the_decoder_alone(self, name):
        workload = trace(config_of(name), phase=Phase.DECODE, batch=2, context=8)
        assert not any(".encoder." in layer.name or layer.name.startswith("encoder.") for layer in workload.layers)
        assert any(layer.head for layer in workload.layers)


class TestShapes:
    def test_encoder_attends_both_ways(self):
        config = config_from_dict(
            {
                **{"model_type": "bert", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
                **{"num_attention_heads": 4, "vocab_size": 50, "architectures": ["BertModel"]},
            }
        )
        workload = trace(config, batch=2, context=12)
        scores = workload["encoder.layer.0.attention.self.qk"]
        assert (scores.copies, scores.m, scores.k, scores.n, scores.causal) == (8, 12, 16, 12, False)
        assert workload["encoder.layer.1.output.dense"].k == 128
        assert trace(config).graph().has_node("pooler.dense")

    def test_vision_transformer_sees_patches(self):
        config = config_from_dict(
            {
                **{"model_type": "vit", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2},
                **{"num_attention_heads": 4, "image_size": 32, "patch_size": 8, "num_channels": 3},
            }
        )
        workload = trace(config)
        patches = (32 // 8) ** 2
        conv = workload.select([LayerKind.CONV]).layers[0]
        assert (conv.m, conv.k, conv.n, conv.copies) == (patches, 3 * 8 * 8, 64, 1)
        assert workload.select([LayerKind.ATTENTION_QK]).layers[0].n == patches + 1  # the class token

    def test_residual_network(self):
        config = config_from_dict(
            {"model_type": "resnet", "depths": [1, 1], "hidden_sizes": [16, 32], "embedding_size": 8}
            | {"layer_type": "basic", "architectures": ["ResNetForImageClassification"]}
        )
        workload = trace(config, batch=2)
        convs = workload.select([LayerKind.CONV]).layers
        stem = convs[0]
        assert (stem.m, stem.k, stem.n) == (2 * 112 * 112, 3 * 7 * 7, 8)  # 224 px, stride 2
        parameters = [p for p in build_on_meta(config).parameters() if p.dim() >= 2]
        assert workload.weights == sum(p.numel() for p in parameters)
        assert nx.is_directed_acyclic_graph(workload.graph())

    def test_speech_encoder_and_decoder(self):
        config = config_from_dict(
            {
                **{"model_type": "whisper", "d_model": 64, "encoder_layers": 1, "decoder_layers": 1, "vocab_size": 50},
                **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 128},
                **{"decoder_ffn_dim": 128, "num_mel_bins": 8, "max_source_positions": 30, "num_hidden_layers": 1},
                **{"architectures": ["WhisperForConditionalGeneration"], "pad_token_id": 0},
                **{"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
            }
        )
        prefill = trace(config, context=5)
        convs = prefill.select([LayerKind.CONV]).layers
        assert [(c.m, c.k, c.n) for c in convs] == [(60, 8 * 3, 64), (30, 64 * 3, 64)]
        assert prefill["model.encoder.layers.0.self_attn.qk"].n == 30
        decode = trace(config, phase=Phase.DECODE, context=5)
        assert decode["model.decoder.layers.0.self_attn.qk"].n == 5
        assert decode["model.decoder.layers.0.encoder_attn.qk"].n == 30
        assert not any(layer.name.startswith("model.encoder") for layer in decode.layers)

    def test_audio_is_as_long_as_its_frames(self):
        # wav2vec 2.0 (Baevski et al., NeurIPS 2020), table of the encoder: kernels 10, 3, 3, 3, 3, 2, 2 and strides
        # 5, 2, 2, 2, 2, 2, 2 see 400 samples in the first frame and 320 more in each that follows
        full = {"conv_kernel": [10, 3, 3, 3, 3, 2, 2], "conv_stride": [5, 2, 2, 2, 2, 2, 2], "conv_dim": [16] * 7}
        model = build_on_meta(
            config_from_dict({"model_type": "wav2vec2", **AUDIO, **full, "num_feat_extract_layers": 7})
        )
        assert model_inputs(model, 1, 1)["input_values"].shape == (1, 400)
        assert model_inputs(model, 3, 5)["input_values"].shape == (3, 400 + 4 * 320)
