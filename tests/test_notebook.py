"""The notebook of the documentation runs from top to bottom, and ends with a picture and a table."""

import os

import nbclient
import nbformat

from harness.compute.places import ROOT

NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"


def test_it_runs_and_ends_with_a_picture_and_a_table():
    notebook = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    inline = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}  # other tests draw to files
    nbclient.NotebookClient(notebook, timeout=None, kernel_name="python3").execute(env=inline)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    kinds = [set(output.data) for output in outputs if "data" in output]
    assert "image/png" in kinds[-2]
    assert "text/html" in kinds[-1]
    for name in ("BiHM", "independent Bernoullis", "linear VAE"):
        assert name in outputs[-1].data["text/html"]


def test_what_is_committed_has_its_outputs_and_no_noise():
    notebook = nbformat.read(NOTEBOOK, nbformat.NO_CONVERT)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", ()) for output in outputs)
    assert not [output for output in outputs if output.get("name") == "stderr"]
