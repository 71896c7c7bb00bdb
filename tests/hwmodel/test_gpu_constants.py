"""Tables of fitted constants: four digits, whole, read back."""

from dataclasses import dataclass

from hwmodel.gpu_constants import read_constants, write_constants


@dataclass(frozen=True)
class Constants:
    start_s: float
    bytes_per_s: float


def test_a_table_has_four_digits_and_is_written_whole(tmp_path):
    path = tmp_path / "constants.csv"
    write_constants(Constants(1.23456e-6, 0.0), path, "a test")
    assert path.read_text() == "constant,value,source\nstart_s,1.235e-06,a test\nbytes_per_s,0.0,a test\n"
    assert [p.name for p in tmp_path.iterdir()] == ["constants.csv"]
    assert read_constants(path, Constants, ("start_s", "bytes_per_s"), "test") == Constants(1.235e-6, 0.0)
