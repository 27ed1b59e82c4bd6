"""A run over pictures of which some cannot be read."""

import json

import numpy
from PIL import Image
from run_cli import TINY
from test_resume import play


def test_a_run_goes_on_without_bad_pictures_up_to_its_limit(tmp_path):
    for label in ("a", "b"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(20):
            noise = numpy.random.default_rng([i, ord(label)]).integers(0, 256, (8, 8, 3)).astype(numpy.uint8)
            Image.fromarray(noise).save(tmp_path / "pictures" / label / f"{i}.png")
    for i in (4, 9, 13):
        (tmp_path / "pictures" / "a" / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    words = [
        "train",
        "data=image_folder",
        f"data.path={tmp_path / 'pictures'}",
        "data.size=8",
        "modality=[image]",
        *TINY,
    ]
    words += ["modality.image.patch_size=4", "trainer.max_epochs=2", "loader.batch_size=8", "loader.num_workers=1"]
    words += ["callbacks=[]", "logger=[]", "loader.on_bad_sample=skip"]
    more, none = ["run_dir=run", "loader.max_bad_share=0.3"], ["run_dir=stopped", "loader.max_bad_share=0"]
    done, stopped = play([{"cwd": str(tmp_path), "words": [*words, *limit]} for limit in (more, none)])
    assert done["code"] == 0 and "a/4.png" in done["output"] and "it is skipped" in done["output"], done["output"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    stages = {key.partition("/")[0]: line[key] for line in lines for key in line if key.endswith("/skipped_samples")}
    held = stages.get("val", 0) + stages.get("test", 0)
    assert stages["train"] == 2 * (3 - held)
    assert stopped["code"] == 2 and "more than loader.max_bad_share=0" in stopped["output"], stopped["output"]
