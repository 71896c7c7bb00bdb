"""The network has the published size; its weights recognise images."""

import pytest
import torch

from codesign.efficientnet_lite import EfficientNetLite0, load_efficientnet_lite
from codesign.image_folder import labelled_images


def test_the_network_has_the_published_parameters():
    """4.7 million: table of the Lite README."""
    model = EfficientNetLite0().eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 1000)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 4.7


@pytest.mark.slow
def test_the_packaged_weights_recognise_images(shared_dir):
    folder = shared_dir / "data" / "imagenet-sample"
    if not folder.is_dir():
        pytest.skip("no sample images beside the checkout")
    images = labelled_images(folder).split(100)[0]
    with torch.no_grad():
        best = load_efficientnet_lite()(images.load()).argmax(1)
    # 89.2 % of 500 of these images were measured elsewhere; three standard errors of 100 images are 10 points
    assert (best == torch.tensor(images.labels)).double().mean() > 0.78
