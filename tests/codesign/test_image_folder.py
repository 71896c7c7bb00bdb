"""Both layouts of labelled images, and what is refused."""

import numpy as np
import pytest
import torch

from codesign.image_folder import labelled_images

pillow = pytest.importorskip("PIL.Image")


def _write(path, colour=(10, 20, 30), size=(300, 280)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pillow.new("RGB", size, colour).save(path)


def test_files_named_by_class_number(tmp_path):
    _write(tmp_path / "007_n01514668.jpg")
    _write(tmp_path / "003_n01491361.jpg")
    (tmp_path / "README.txt").write_text("no image")
    found = labelled_images(tmp_path)
    assert found.labels == (3, 7) and [path.name for path in found.paths] == ["003_n01491361.jpg", "007_n01514668.jpg"]


def test_a_folder_for_each_class(tmp_path):
    for number in range(1000):
        (tmp_path / f"n{number:08d}").mkdir()
    _write(tmp_path / "n00000041" / "any name.JPEG")
    assert labelled_images(tmp_path).labels == (41,)


def test_values_are_those_of_the_network_s_code(tmp_path):
    _write(tmp_path / "000_n01440764.png".replace(".png", ".jpg"), colour=(127, 127, 127))
    image = labelled_images(tmp_path).load()
    assert image.shape == (1, 3, 224, 224)
    torch.testing.assert_close(image, torch.zeros_like(image), rtol=0, atol=1 / 128)  # grey 127 is 0; JPEG may round


def test_the_centre_is_cut_out(tmp_path):
    """Of 256 x 512 pixels the middle 224 x 224: columns 144 to 368, so a white half starts in the middle."""
    pixels = np.zeros((256, 512, 3), np.uint8)
    pixels[:, 256:] = 255
    pillow.fromarray(pixels).save(tmp_path / "000_n01440764.jpg", quality=95)
    row = labelled_images(tmp_path).load()[0, 0, 112]
    assert row[:108].max() < -0.9 and row[116:].min() > 0.9


def test_splits_are_disjoint_and_spread(tmp_path):
    for number in range(10):
        _write(tmp_path / f"{number:03d}_n01440764.jpg", size=(8, 8))
    some, rest = labelled_images(tmp_path).split(2)
    assert some.labels == (0, 5) and set(some.labels) | set(rest.labels) == set(range(10)) and len(rest) == 8
    with pytest.raises(ValueError, match="calibration images must be 1 to 9, not 10"):
        labelled_images(tmp_path).split(10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "missing", "images must be in a folder"),
        (lambda folder: folder, "and holds none"),
        (lambda folder: (folder / "n01440764").mkdir() or folder, "a folder for each of 1000 classes"),
    ],
    ids=["no folder", "empty", "too few classes"],
)
def test_other_folders_are_refused(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        labelled_images(make(tmp_path))


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "000_n01440764.jpg").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"000_n01440764.jpg must be an image"):
        labelled_images(tmp_path).load()
