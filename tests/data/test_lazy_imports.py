"""Datasets are there without the libraries that read their files."""

import os
import subprocess
import sys

WITHOUT = """
import sys
from mmtx.data.image import cifar10, digits, fashion_mnist, image_folder, mnist
from mmtx.data.audio import audio_manifest, fsdd, librispeech, speech_commands

of_pictures, of_sounds = {"torchvision", "sklearn", "lightning", "hydra"}, {"torchaudio", "soundfile"}
assert not (of_pictures | of_sounds) & set(sys.modules), (of_pictures | of_sounds) & set(sys.modules)
"""


def test_importing_the_datasets_imports_no_library_of_theirs():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", WITHOUT], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
