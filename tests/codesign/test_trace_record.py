"""``codesign.trace_record``: plain modules, product by product, against sums by hand and torch's counter."""

from __future__ import annotations

import networkx as nx
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from codesign.trace import trace
from hwmodel.workload import LayerKind


class TestPlainModules:
    def test_plain_conv_net_by_hand(self):
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=4),
            nn.Flatten(),
            nn.Linear(8 * 4 * 4, 10),
        )
        workload = trace(net, batch=2, example=torch.zeros(2, 3, 8, 8))
        shapes = [(s.name, s.kind, s.m, s.k, s.n, s.copies) for s in workload.layers]
        assert shapes == [
            ("0", LayerKind.CONV, 2 * 64, 27, 8, 1),
            ("1", LayerKind.NORM, 2 * 8 * 8 * 8 // 8, 1, 8, 1),
            ("2", LayerKind.ACTIVATION, 2 * 8 * 8 * 8 // 8, 1, 8, 1),
            ("3", LayerKind.CONV, 2 * 16, 2 * 9, 2, 4),
            ("5", LayerKind.LINEAR, 1, 128, 10, 2),
        ]
        assert workload.edges == (("0", "1"), ("1", "2"), ("2", "3"), ("3", "5"))
        # the module that was given keeps its weights
        assert not any(p.is_meta for p in net.parameters())

    def test_macs_of_a_conv_net_are_those_that_torch_counts(self):
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GELU(), nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Flatten(1))
        x = torch.zeros(1, 3, 9, 9)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(x)
        assert trace(net, example=x).macs == counter.get_total_flops() // 2

    def test_module_used_twice_is_one_layer(self):
        class Twice(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = nn.Linear(6, 6)

            def forward(self, x: Tensor) -> Tensor:
                return self.inner(torch.relu(self.inner(x)))

        workload = trace(Twice(), example=torch.zeros(3, 6))
        layer = workload["inner"]
        assert (layer.m, layer.copies, layer.shared_weight, layer.weights) == (3, 2, True, 36)
        assert layer.macs == 2 * 3 * 36
        assert nx.is_directed_acyclic_graph(workload.graph())

    def test_slices_of_a_fused_weight_are_one_layer(self):
        net = nn.MultiheadAttention(8, 2, batch_first=True)

        class Cross(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.attention = net

            def forward(self, x: Tensor, y: Tensor) -> Tensor:
                return self.attention(x, y, y, need_weights=False)[0]

        workload = trace(Cross(), example={"x": torch.zeros(1, 5, 8), "y": torch.zeros(1, 7, 8)})
        linears = workload.select([LayerKind.LINEAR]).layers
        assert sum(s.weights for s in linears) == 3 * 8 * 8 + 8 * 8
        assert sum(s.macs for s in linears) == 5 * 8 * 8 + 7 * 2 * 8 * 8 + 5 * 8 * 8
        assert workload.select([LayerKind.ATTENTION_QK]).layers[0].n == 7
