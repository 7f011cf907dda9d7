"""JUnit files: what is wrong is a failure, what is missing a skip; any text survives; written whole or not at all."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from click.testing import CliRunner

from refmoe import golden
from refmoe.cli.check import command
from refmoe.errors import TraceError
from refmoe.verifier import junit


@pytest.fixture
def port(tmp_path):
    """Results for two of the cases of rms_norm, one of them wrong."""
    folder = tmp_path / "mine" / "rms_norm"
    folder.mkdir(parents=True)
    for name, factor in (("wide_row", 1.0), ("padding_lane", 2.0)):
        case = golden.load(golden.root() / "ops" / "rms_norm" / f"{name}.safetensors")
        np.save(folder / f"{name}.npy", case.expected["y"] * np.float32(factor))
    return tmp_path / "mine"


def test_check_writes_a_file(port, tmp_path):
    out = tmp_path / "junit.xml"
    result = CliRunner().invoke(command, ["golden", str(port), "--junit", str(out), "--json"])
    assert result.exit_code == 1
    root = ET.parse(out).getroot()
    (suite,) = [s for s in root if s.get("name") == "rms_norm"]
    assert suite.get("failures") == "1" and int(suite.get("skipped")) == int(suite.get("tests")) - 2
    (failure,) = suite.iter("failure")
    assert failure.get("message") == "WRONG rms_norm/padding_lane" and "worst at" in failure.text
    assert root.get("failures") == "1" and int(root.get("tests")) > 100


def test_odd_characters():
    words = "a\x00b\x1b[1m<&\">\ud800 \U0001f600"
    root = ET.fromstring(junit.build([junit.Entry("s", "n", failure=words)]))
    assert next(root.iter("failure")).text == "a?b?[1m<&\">? \U0001f600"


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(TraceError, match="cannot be written"):
        junit.write(tmp_path / "no" / "junit.xml", [])
    assert list(tmp_path.iterdir()) == []
